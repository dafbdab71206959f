"""Volumes from noise: a generator of latent vectors and a critic of whole volumes.

Sources: DCGAN, Radford et al. 2016 (arXiv 1511.06434); Wasserstein loss with gradient penalty, Gulrajani et al. 2017
(1704.00028), unless another loss is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.models import ModelCard, ModelError
from medgan.networks.critics import VolumeCritic
from medgan.networks.from_noise import NoiseNet, widths_for
from medgan.settings import TrainSettings
from medgan.training.kinds.base import Batch, Exported, Facts, Kind, middle_slice, plain_state, uniform
from medgan.training.kinds.common import Built, diversity, frozen, mmd, rows, started, tamed
from medgan.training.losses import Adversarial

LATENT = 128

COMPARED = 32
"""Most volumes of each sort that are compared in validation."""


class FromNoise(Kind):
    """Batches: "image" (B, C, S, S, S), S a power of two."""

    score_name = "mmd"

    def __init__(self, built: Built, critic: nn.Module, settings: TrainSettings, facts: Facts) -> None:
        super().__init__()
        assert isinstance(built.network, NoiseNet)
        self.built, self.facts, self.latent = (built.name, built.arguments), facts, built.network.latent
        self.generator, self.critic = built.network, critic
        self.adversarial = Adversarial(settings)

    @classmethod
    def make(cls, settings: TrainSettings, facts: Facts, start: ModelCard | None) -> FromNoise:
        """Raises ``ValueError`` for a size that can not be made, and for a training without a critic."""
        if not settings.adversarial_weight:
            raise ValueError("Volumes from noise are taught by the critic alone; set 'adversarial_weight' above 0.")
        widths = widths_for(facts.patch)
        arguments = {"latent": LATENT, "widths": widths, "channels": facts.channels}
        built = started(start, settings, arguments)
        network = built.network
        if start is not None and isinstance(network, NoiseNet) and network.side != facts.patch:
            raise ModelError(
                f"Model '{start.name}' makes volumes of {network.side} voxels along each side; set 'patch' to that."
            )
        return cls(built, tamed(VolumeCritic(facts.channels, widths[::-1]), settings), settings, facts)

    def draw(self, sample: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        latent = {name: torch.randn(self.latent, generator=rng) for name in ("latent", "latent_critic")}
        return {"image": sample["image"], "mix": uniform(rng), **latent}

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self.generator(batch["latent_critic"]).float()
        assert self.critic is not None
        return dict(self.adversarial.critic(self.critic, batch["image"], fake, batch["mix"]))

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        """``adversarial`` is not looked at: there is nothing else to learn from."""
        assert self.critic is not None
        fake = self.generator(batch["latent"]).float()
        with frozen(self.critic):
            loss = self.adversarial.generator(self.critic(fake))
        return {"loss": loss, "adversarial": loss}

    @torch.no_grad()
    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """ "mmd": of coarse copies of made and real volumes (0 is best); "diversity": one minus the mean structural
        similarity of made ones, beside "diversity_real"."""
        real = rows(batches, "image", COMPARED).float()
        made = self._samples(generator, max(8, len(real)), real)
        if len(real) < 2:
            found = {"distance": float((_coarse(made).mean(dim=0) - _coarse(real).mean(dim=0)).square().mean())}
            return {**found, "diversity": diversity(made[:12]), "score": -found["distance"]}
        found = {"mmd": mmd(_coarse(made), _coarse(real))}
        found |= {"diversity": diversity(made[:12]), "diversity_real": diversity(real[:12])}
        return {**found, "score": -found["mmd"]}

    def _samples(self, generator: nn.Module, count: int, like: Tensor) -> Tensor:
        """(count, C, S, S, S) from the same latent vectors every time, a few at once."""
        latents = torch.randn(count, self.latent, generator=torch.Generator().manual_seed(0)).to(like)
        return torch.cat([generator(part).float().clamp(0.0, 1.0) for part in latents.split(4)])

    @torch.no_grad()
    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        made = self._samples(generator, 3, batch["image"])
        shown = {f"sample {number + 1}": volume for number, volume in enumerate(made)}
        return {name: middle_slice(volume) for name, volume in {**shown, "real": batch["image"][0]}.items()}

    def export(self, average: nn.Module) -> Exported:
        about = {**self.facts.about(), "spacing_mm": list(self.facts.working_spacing_mm or self.facts.spacing_mm)}
        return Exported("from-noise", *self.built, {"faithful": plain_state(average)}, about)


def _coarse(volume: Tensor) -> Tensor:
    """(B, n) copies of at most 8 voxels along each side."""
    return F.adaptive_avg_pool3d(volume, min(8, volume.shape[-1])).flatten(1)
