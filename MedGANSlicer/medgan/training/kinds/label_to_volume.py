"""Volumes from label maps of any vocabulary: what each label's intensities are is told, edges and texture are learned.

Sources: SPADE, Park et al. 2019 (arXiv 1903.07291); a critic of patches that sees the condition (1611.07004); feature
matching (1711.11585).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.models import ModelCard
from medgan.networks.label_to_volume import LEAST_SPREAD, LabelNet, label_statistics
from medgan.settings import TrainSettings
from medgan.training.kinds.base import Batch, Exported, Facts, Kind, drawn, middle_slice, plain_state, uniform
from medgan.training.kinds.common import Built, Means, critic_of_patches, opinion, psnr, started, texture
from medgan.training.losses import Adversarial

ERROR_WEIGHT = 2.0
"""Of the error after averaging: the position of a grain of texture, which no label map tells, is left to the critic."""

FEATURE_WEIGHT = 1.0
AVERAGED = 4
"""Voxels along each axis that are averaged for the error."""


class LabelToVolume(Kind):
    """Batches: "labels" (B, D, H, W) and "image" (B, 1, D, H, W)."""

    score_name = "texture"

    def __init__(self, built: Built, critic: nn.Module | None, settings: TrainSettings, facts: Facts) -> None:
        super().__init__()
        assert isinstance(built.network, LabelNet)
        self.built, self.facts, self.style = (built.name, built.arguments), facts, built.network.style_length
        self.weight = settings.adversarial_weight
        self.generator, self.critic = built.network, critic
        self.adversarial = Adversarial(settings)

    @classmethod
    def make(cls, settings: TrainSettings, facts: Facts, start: ModelCard | None) -> LabelToVolume:
        """Raises ``ValueError`` for data that can not teach such a model."""
        if facts.channels != 1:
            raise ValueError(f"Volumes of one channel are made from label maps; these have {facts.channels}.")
        built = started(start, settings, {})
        critic = critic_of_patches(3, settings)
        return cls(built, critic, settings, facts)

    def draw(self, sample: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        image, labels = sample["image"], sample["labels"]
        return {
            "image": image,
            "labels": labels,
            "condition": label_statistics(image[0], labels),
            "noise": torch.randn(image.shape, generator=rng),
            "style": torch.randn(self.style, generator=rng),
            "mix": uniform(rng),
        }

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        assert self.critic is not None
        with torch.no_grad():
            fake = _made(self.generator, batch)
        real, shown = _beyond(batch["image"], batch), _beyond(fake, batch)
        return dict(self.adversarial.critic(self.critic, real, shown, batch["mix"]))

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        fake = _made(self.generator, batch)
        real, shown = _beyond(batch["image"], batch), _beyond(fake, batch)
        terms = {"error": F.l1_loss(F.avg_pool3d(shown[:, :1], AVERAGED), F.avg_pool3d(real[:, :1], AVERAGED))}
        loss = ERROR_WEIGHT * terms["error"]
        if adversarial and self.critic is not None:
            terms["adversarial"], terms["features"] = opinion(self.critic, self.adversarial, real, shown)
            loss = loss + adversarial * self.weight * (terms["adversarial"] + FEATURE_WEIGHT * terms["features"])
        return {"loss": loss, **terms}

    @torch.no_grad()
    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """ "texture": mean distance between what results and real volumes look like (0 is best); "texture_mixture": of
        volumes that have each label's mean and independent noise of its spread."""
        means = Means()
        for number, batch in enumerate(batches):
            batch = drawn(self, [batch], number)[0]
            fake, real = _made(generator, batch), texture(batch["image"])
            mixture = batch["condition"][:, :1] + batch["condition"][:, 1:] * batch["noise"]
            means.add("texture", (texture(fake) - real).abs())
            means.add("texture_mixture", (texture(mixture.clamp_min(0.0)) - real).abs())
            means.add("psnr", psnr(fake, batch["image"]))
        found = means.result()
        return {**found, "score": -found["texture"]}

    @torch.no_grad()
    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        batch = drawn(self, [batch])[0]
        shown = {"labels": batch["condition"][0], "result": _made(generator, batch)[0], "real": batch["image"][0]}
        return {name: middle_slice(volume) for name, volume in shown.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Also from older checkpoints, which hold the usual intensities of each label."""
        held = {name: tensor for name, tensor in state_dict.items() if name != "usual"}
        return super().load_state_dict(held, strict, assign)

    def export(self, average: nn.Module) -> Exported:
        about, usual = self.facts.about(), self.facts.intensities
        about["intensities"] = [
            {"value": value, "name": name, "mean": round(usual[value][0], 5), "sd": round(usual[value][1], 5)}
            for value, name in [(0, "Background"), *((row["value"], row["name"]) for row in self.facts.labels)]
            if value in usual  # a label of validation patients alone was not learned
        ]
        return Exported("label-to-volume", *self.built, {"faithful": plain_state(average)}, about)


def _beyond(image: Tensor, batch: Batch) -> Tensor:
    """(B, 3, D, H, W) what the critic sees: how an image differs from the mean of each label, in units of its spread,
    and the condition. So it looks at edges and texture, in every contrast."""
    mean, spread = batch["condition"].split(1, dim=1)
    return torch.cat([(image - mean) / (spread + LEAST_SPREAD), mean, spread], dim=1)


def _made(generator: nn.Module, batch: Batch) -> Tensor:
    made: Tensor = generator(batch["condition"], batch["noise"], batch["style"]).float()
    return made
