"""A denoising autoencoder: what it can not say again is unlike what it was trained on.

Sources: denoising autoencoders, Vincent et al. 2008; as a detector of anomalies, with coarse noise: Kascenas et al.
2022 (MIDL); compared with others by Baur et al. 2021 (Med Image Anal 69:101952).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.anomaly import BRIGHT, smoothed_error, usual_error
from medgan.models import ModelCard
from medgan.settings import TrainSettings
from medgan.training.kinds.base import Batch, Exported, Facts, Kind, middle_slice, plain_state, uniform
from medgan.training.kinds.common import Built, Means, check_channels, critic_of_patches, opinion, psnr, ssim, started
from medgan.training.losses import Adversarial

NOISES = (0.0, 0.2)
"""Standard deviation of what is added to the input, between these."""

COARSEST = 8
"""Voxels of the coarsest noise."""

ADVERSARIAL_WEIGHT = 0.02
ERROR_WEIGHT = 30.0
"""Of the squared error: what is small and rare is not lost in the mean, as it is with the absolute one."""


class Autoencoder(Kind):
    """Batches: "image" (B, C, D, H, W)."""

    faithful_share = 0.5
    stops_early = False

    def __init__(self, built: Built, critic: nn.Module | None, settings: TrainSettings, facts: Facts) -> None:
        super().__init__()
        self.built, self.facts = (built.name, built.arguments), facts
        self.weight = settings.adversarial_weight * ADVERSARIAL_WEIGHT
        self.generator, self.critic = built.network, critic
        self.adversarial = Adversarial(settings)
        self.usual_error: Tensor
        self.register_buffer("usual_error", torch.tensor(torch.nan))

    @classmethod
    def make(cls, settings: TrainSettings, facts: Facts, start: ModelCard | None) -> Autoencoder:
        built = started(start, settings, {"channels": facts.channels})
        check_channels(built, facts.channels, start, "channels")
        critic = critic_of_patches(facts.channels, settings)
        return cls(built, critic, settings, facts)

    def draw(self, sample: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        image = sample["image"]
        level = NOISES[0] + (NOISES[1] - NOISES[0]) * uniform(rng)
        grain = int(torch.randint(1, COARSEST + 1, (), generator=rng))
        sides = [max(1, side // grain) for side in image.shape[1:]]
        noise = torch.randn(1, image.shape[0], *sides, generator=rng)
        noise = F.interpolate(noise, size=image.shape[1:], mode="trilinear", align_corners=False)[0]
        return {"image": image, "input": image + level * noise, "mix": uniform(rng)}

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        assert self.critic is not None
        with torch.no_grad():
            fake = self.generator(batch["input"]).float()
        return dict(self.adversarial.critic(self.critic, batch["image"], fake, batch["mix"]))

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        fake = self.generator(batch["input"]).float()
        terms = {"error": F.mse_loss(fake, batch["image"])}
        loss = ERROR_WEIGHT * terms["error"]
        if adversarial and self.critic is not None:
            terms["adversarial"], terms["features"] = opinion(self.critic, self.adversarial, batch["image"], fake)
            loss = loss + adversarial * self.weight * (terms["adversarial"] + terms["features"])
        return {"loss": loss, **terms}

    @torch.no_grad()
    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """Of clean volumes. "error": the smoothed absolute error that the foreground usually has, the unit of the
        anomaly map."""
        means = Means()
        for batch in batches:
            image, fake = batch["image"], generator(batch["image"]).float()
            means.add("psnr", psnr(fake, image))
            means.add("ssim", ssim(fake, image))
            error = smoothed_error(image, fake)
            inside = image.mean(dim=1, keepdim=True) > BRIGHT
            means.add("error", torch.tensor(usual_error(error, inside)))
        found = means.result()
        self.usual_error.fill_(found["error"])
        return {**found, "score": found["psnr"]}

    @torch.no_grad()
    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        image = batch["image"][:1]
        fake = generator(image).float()
        shown = {"image": image, "reconstruction": fake, "error (x 5)": 5.0 * smoothed_error(image, fake)}
        return {name: middle_slice(volume[0]) for name, volume in shown.items()}

    def export(self, average: nn.Module) -> Exported:
        error = float(self.usual_error)
        about = {**self.facts.about(), "usual_error": None if error != error else round(error, 6)}
        return Exported("autoencoder", *self.built, {"faithful": plain_state(average)}, about)
