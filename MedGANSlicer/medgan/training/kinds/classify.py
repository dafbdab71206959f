"""Classification of whole volumes: cross-entropy on volumes that are turned, moved and changed in contrast at random.

There is no critic. The last weights are the ones exported: the validation patients choose nothing, so that figures of
them are those of patients that the training has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.models import ModelCard, ModelError
from medgan.settings import TrainSettings
from medgan.training.kinds.base import Batch, Exported, Facts, Kind, middle_slice, plain_state
from medgan.training.kinds.common import Built, check_channels, started

TURN_DEGREES, SCALE, MOVE = 12.0, 0.12, 0.06
"""Random turns about each axis, scaling, and shifts (share of the side), at most."""

SMOOTHING = 0.05
"""Of the labels: nobody learns to be certain of few volumes (Szegedy et al. 2016, arXiv 1512.00567)."""


class Classify(Kind):
    """Batches: "image" (B, C, D, H, W) and "class" (B,), places in the facts' classes."""

    stops_early = True
    keeps_best = False
    score_name = "certainty"
    critic = None

    def __init__(self, built: Built, settings: TrainSettings, facts: Facts) -> None:
        super().__init__()
        self.built, self.facts = (built.name, built.arguments), facts
        self.generator = built.network

    @classmethod
    def make(cls, settings: TrainSettings, facts: Facts, start: ModelCard | None) -> Classify:
        """Raises ``ValueError`` for fewer than two classes, and for a model to start from that has other ones."""
        if len(facts.classes) < 2:
            raise ValueError("A classification needs two classes or more.")
        arguments = {"classes": len(facts.classes), "channels": facts.channels}
        built = started(start, settings, arguments)
        check_channels(built, facts.channels, start, "channels")
        known = tuple(start.details.get("classes", ())) if start is not None else facts.classes
        if known != facts.classes:
            assert start is not None
            raise ModelError(
                f"Model '{start.name}' knows the classes {', '.join(map(str, known))}, the data has "
                f"{', '.join(facts.classes)}; train without a model to start from."
            )
        return cls(built, settings, facts)

    def draw(self, sample: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        return {**sample, "image": varied(sample["image"], rng)}

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        logits = self.generator(batch["image"]).float()
        loss = F.cross_entropy(logits, batch["class"], label_smoothing=SMOOTHING)
        return {"loss": loss, "wrong": (logits.argmax(dim=1) != batch["class"]).float().mean()}

    @torch.no_grad()
    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """ "certainty": mean probability of the true class; "accuracy", and the mean recall of the classes."""
        found = answers(generator, batches)
        truth = torch.cat([batch["class"].cpu() for batch in batches])
        right = (found.argmax(dim=1) == truth).float()
        recalls = [float(right[truth == place].mean()) for place in truth.unique()]
        certainty = float(found[torch.arange(len(truth)), truth].mean())
        return {
            "certainty": certainty,
            "accuracy": float(right.mean()),
            "mean_recall": sum(recalls) / len(recalls),
            "score": certainty,
        }

    @torch.no_grad()
    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        sure = generator(batch["image"][:3]).float().softmax(dim=1)
        named = zip(batch["image"], batch["class"].tolist(), sure.tolist(), strict=False)
        return {
            f"{number} {self.facts.classes[place]} {100 * row[place]:.0f} %": middle_slice(image)
            for number, (image, place, row) in enumerate(named, 1)
        }

    def export(self, average: nn.Module) -> Exported:
        about: dict[str, Any] = {**self.facts.about(), "classes": list(self.facts.classes)}
        about["spacing_mm"] = list(self.facts.working_spacing_mm or self.facts.spacing_mm)
        return Exported("classify", *self.built, {"faithful": plain_state(average)}, about)


@torch.no_grad()
def answers(network: nn.Module, batches: Sequence[Batch]) -> Tensor:
    """(n, classes) probabilities of the samples of batches, on the CPU."""
    network.eval()
    return torch.cat([network(batch["image"]).float().softmax(dim=1).cpu() for batch in batches])


def varied(image: Tensor, rng: torch.Generator) -> Tensor:
    """(C, D, H, W) in 0..1, as another scan might be: turned, scaled, moved, of other contrast and noise."""

    def between(most: float, count: int = 1) -> Tensor:
        return most * (2.0 * torch.rand(count, generator=rng) - 1.0)

    turns = between(math.radians(TURN_DEGREES), 3).tolist()
    matrix = torch.eye(3)
    for axis, angle in enumerate(turns):
        one, other = [each for each in range(3) if each != axis]
        turn = torch.eye(3)
        turn[one, one] = turn[other, other] = math.cos(angle)
        turn[one, other], turn[other, one] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    matrix = matrix * (1.0 + between(SCALE))
    places = F.affine_grid(torch.cat([matrix, between(2 * MOVE, 3)[:, None]], dim=1)[None], [1, *image.shape], False)
    moved = F.grid_sample(image[None], places, padding_mode="zeros", align_corners=False)[0]
    gamma, gain, noise = between(0.3).exp(), 1.0 + between(0.1), 0.04 * torch.rand(1, generator=rng)
    moved = gain * moved.clamp_min(0.0) ** gamma + noise * torch.randn(image.shape, generator=rng)
    return moved.clamp(0.0, 1.0)
