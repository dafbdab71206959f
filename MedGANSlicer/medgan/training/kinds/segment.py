"""Segmentation by overlap and cross-entropy, and by a critic that sees the image under each label.

Source: SegAN, Xue et al. 2018 (arXiv 1706.01805): the critic finds features in which the image under the true labels
differs most from the image under the predicted ones; the generator makes that difference small. Its features are
bounded by spectral normalisation instead of clipped weights. So there is no other adversarial loss to choose.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn

from medgan.models import ModelCard, ModelError
from medgan.networks.critics import FeatureCritic
from medgan.settings import TrainSettings
from medgan.training.kinds.base import Batch, Exported, Facts, Kind, middle_slice, plain_state
from medgan.training.kinds.common import Built, check_channels, frozen, started
from medgan.training.losses import spectrally_normalised

ADVERSARIAL_WEIGHT = 0.1
"""At most; the gain is small and a larger one harms."""

SHAPE = {"spatial_dims": 3, "channels": [16, 32, 64, 128], "strides": [2, 2, 2], "num_res_units": 2}


class Segment(Kind):
    """Batches: "image" (B, C, D, H, W) and "labels" (B, D, H, W), indices with 0 as background."""

    faithful_share = 0.5
    stops_early = True
    score_name = "dice"

    def __init__(self, built: Built, critic: nn.Module | None, settings: TrainSettings, facts: Facts) -> None:
        super().__init__()
        self.built, self.facts = (built.name, built.arguments), facts
        self.weight = min(1.0, settings.adversarial_weight) * ADVERSARIAL_WEIGHT
        self.generator, self.critic = built.network, critic
        self.overlap = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=False)

    @classmethod
    def make(cls, settings: TrainSettings, facts: Facts, start: ModelCard | None) -> Segment:
        """Raises ``ValueError`` without labels, and for a model to start from that has other ones."""
        if not facts.labels:
            raise ValueError("Segmentation is trained on label maps with at least one label besides the background.")
        classes = len(facts.labels) + 1
        built = started(start, settings, {**SHAPE, "in_channels": facts.channels, "out_channels": classes})
        check_channels(built, facts.channels, start)
        if start is not None:
            _check_classes(built, facts.channels, classes, start)
        critic = (
            spectrally_normalised(FeatureCritic(facts.channels * (classes - 1)))
            if settings.adversarial_weight
            else None
        )
        return cls(built, critic, settings, facts)

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            logits = self.generator(batch["image"]).float()
        return {"loss": -self._difference(batch, logits)}

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        logits = self.generator(batch["image"]).float()
        terms = {"overlap": self.overlap(logits, batch["labels"][:, None])}
        loss = terms["overlap"]
        if adversarial and self.critic is not None:
            with frozen(self.critic):
                terms["adversarial"] = self._difference(batch, logits)
            loss = loss + adversarial * self.weight * terms["adversarial"]
        return {"loss": loss, **terms}

    def _difference(self, batch: Batch, logits: Tensor) -> Tensor:
        """Mean absolute difference of the critic's features of the image under true and under predicted labels."""
        assert self.critic is not None
        true = F.one_hot(batch["labels"], logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits)
        told = [_under(batch["image"], mask) for mask in (true, logits.softmax(dim=1)[:, 1:])]
        pairs = zip(self.critic(told[0]), self.critic(told[1]), strict=True)
        return torch.stack([F.l1_loss(a.float(), b.float()) for a, b in pairs]).mean()

    @torch.no_grad()
    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """ "dice": the mean of the labels that occur, each over all validation patches together."""
        count = len(self.facts.labels) + 1
        both, sizes = torch.zeros(count), torch.zeros(count)
        for batch in batches:
            found = generator(batch["image"]).argmax(dim=1)
            agreed = found[found == batch["labels"]]
            both += torch.bincount(agreed, minlength=count).cpu()
            sizes += torch.bincount(found.flatten(), minlength=count).cpu()
            sizes += torch.bincount(batch["labels"].flatten(), minlength=count).cpu()
        dice = [2.0 * float(n) / float(size) if size else None for n, size in zip(both, sizes, strict=True)]
        each = {
            f"dice_{label['value']}": value
            for label, value in zip(self.facts.labels, dice[1:], strict=True)
            if value is not None
        }
        mean = sum(each.values()) / max(1, len(each))
        return {"dice": mean, **each, "score": mean}

    @torch.no_grad()
    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        highest = max(1, len(self.facts.labels))
        found = generator(batch["image"][:1]).argmax(dim=1)[0] / highest
        shown = {"image": batch["image"][0], "result": found, "labels": batch["labels"][0] / highest}
        return {name: middle_slice(volume) for name, volume in shown.items()}

    def export(self, average: nn.Module) -> Exported:
        about = {**self.facts.about(), "labels": [dict(label) for label in self.facts.labels]}
        return Exported("segment", *self.built, {"faithful": plain_state(average)}, about)


def _under(image: Tensor, masks: Tensor) -> Tensor:
    """(B, C * labels, D, H, W): the image where each label is."""
    return (image[:, :, None] * masks[:, None]).flatten(1, 2)


@torch.no_grad()
def _check_classes(built: Built, channels: int, classes: int, start: ModelCard) -> None:
    """Asks the network itself: networks name the number of their answers in many ways."""
    known = built.network(torch.zeros(1, channels, 32, 32, 32)).shape[1]
    if known != classes:
        raise ModelError(
            f"Model '{start.name}' knows {known - 1} labels, the data has {classes - 1}; train without a model to "
            "start from, or bring label maps with the labels it knows."
        )
