"""Translation of one contrast into another, learned from pairs.

Source: pix2pix, Isola et al. 2017 (arXiv 1611.07004): absolute error, and a critic of patches that sees the source
together with the target; with feature matching (Wang et al. 2018, 1711.11585).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.models import ModelCard
from medgan.settings import TrainSettings
from medgan.training.kinds.base import Batch, Exported, Facts, Kind, middle_slice, plain_state, uniform
from medgan.training.kinds.common import Built, Means, check_channels, critic_of_patches, opinion, psnr, ssim, started
from medgan.training.losses import Adversarial

ERROR_WEIGHT = 10.0
ADVERSARIAL_WEIGHT = 0.1
FEATURE_WEIGHT = 10.0
"""Of the matching of features, as a multiple of the adversarial weight."""


class Translate(Kind):
    """Batches: "source" and "target" on one grid."""

    def __init__(self, built: Built, critic: nn.Module | None, settings: TrainSettings, facts: Facts) -> None:
        super().__init__()
        self.built, self.facts = (built.name, built.arguments), facts
        self.weight = settings.adversarial_weight * ADVERSARIAL_WEIGHT
        self.generator, self.critic = built.network, critic
        self.adversarial = Adversarial(settings)

    @classmethod
    def make(cls, settings: TrainSettings, facts: Facts, start: ModelCard | None) -> Translate:
        built = translator(settings, facts, start)
        both = facts.channels + facts.target_channels
        critic = critic_of_patches(both, settings)
        return cls(built, critic, settings, facts)

    def draw(self, sample: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        return {"source": sample["source"], "target": sample["target"], "mix": uniform(rng)}

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        assert self.critic is not None
        with torch.no_grad():
            fake = self.generator(batch["source"]).float()
        real, shown = (torch.cat([batch["source"], each], dim=1) for each in (batch["target"], fake))
        return dict(self.adversarial.critic(self.critic, real, shown, batch["mix"]))

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        fake = self.generator(batch["source"]).float()
        terms = {"error": F.l1_loss(fake, batch["target"])}
        loss = ERROR_WEIGHT * terms["error"]
        if adversarial and self.critic is not None:
            real, shown = (torch.cat([batch["source"], each], dim=1) for each in (batch["target"], fake))
            terms["adversarial"], terms["features"] = opinion(self.critic, self.adversarial, real, shown)
            loss = loss + adversarial * self.weight * (terms["adversarial"] + FEATURE_WEIGHT * terms["features"])
        return {"loss": loss, **terms}

    @torch.no_grad()
    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        means = Means()
        for batch in batches:
            fake = generator(batch["source"]).float()
            means.add("psnr", psnr(fake, batch["target"]))
            means.add("ssim", ssim(fake, batch["target"]))
            if batch["source"].shape == batch["target"].shape:
                means.add("psnr_before", psnr(batch["source"], batch["target"]))
        found = means.result()
        return {**found, "score": found["psnr"]}

    @torch.no_grad()
    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        fake = generator(batch["source"][:1])[0]
        shown = {"source": batch["source"][0], "result": fake, "target": batch["target"][0]}
        return {name: middle_slice(volume) for name, volume in shown.items()}

    def export(self, average: nn.Module) -> Exported:
        return Exported("translate", *self.built, {"faithful": plain_state(average)}, self.facts.about())


def translator(settings: TrainSettings, facts: Facts, start: ModelCard | None) -> Built:
    """The generator from source to target, untrained or of the model to start from."""
    arguments = {"in_channels": facts.channels, "out_channels": facts.target_channels}
    built = started(start, settings, arguments)
    check_channels(built, facts.channels, start)
    return built
