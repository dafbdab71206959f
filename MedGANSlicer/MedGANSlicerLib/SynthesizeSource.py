"""What synthetic volumes are made from, and which models can."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _

from medgan.bundle import ModelCard
from medgan.synthesis.cards import VARIATIONS


class SynthesizeSource(Enum):
    LABELS = "labels"
    NOISE = "noise"
    VOLUME = "volume"

    def label(self) -> str:
        return {
            "labels": _("Segmentation or label map"),
            "noise": _("Noise"),
            "volume": _("One volume"),
        }[self.value]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the models that start from it."""
        return {"labels": ("label-to-volume",), "noise": ("from-noise",), "volume": ("translate",)}[self.value]

    def more(self) -> list[ModelCard]:
        """What stands in the menu besides the models."""
        return [VARIATIONS] if self is SynthesizeSource.VOLUME else []
