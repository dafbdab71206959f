"""Settings of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from medgan.settings.base import Bounds, Settings


class Figures(Enum):
    """What an evaluation measures. AUTO tells by what it is given."""

    AUTO = "auto"
    IMAGES = "images"
    SETS = "sets"
    SEGMENTATIONS = "segmentations"
    VOLUMES = "volumes"

    def label(self) -> str:
        names = {"auto": "Automatic", "images": "Pairs of images", "sets": "Sets of images"}
        return names.get(self.value, "Segmentations" if self.value == "segmentations" else "Without a reference")


class PairedTest(Enum):
    """How two methods are compared on the same cases."""

    WILCOXON = "wilcoxon"
    PERMUTATION = "permutation"

    def label(self) -> str:
        return {"wilcoxon": "Wilcoxon signed rank", "permutation": "Permutation of signs"}[self.value]


@dataclass
class EvaluateSettings(Settings):
    """What a person chooses for an evaluation. The defaults need no options."""

    figures: Figures = Figures.AUTO
    """What is measured: pairs of images, sets, segmentations, or volumes without a reference."""

    data_range: Annotated[float, Bounds(0.0, 1e9)] = 0.0
    """Images: intensity range for PSNR, SSIM and NRMSE; 0 takes the robust range of each reference."""

    resample: bool = False
    """Bring results onto the grid of their reference when it is another one (linear; label maps: nearest neighbour)."""

    tolerance_mm: Annotated[float, Bounds(0.0, 100.0)] = 1.0
    """Segmentations: distance at which surfaces still agree, for the normalised surface Dice."""

    by_name: bool = False
    """Segmentations: match labels by their names instead of their values."""

    contrast_to: str = ""
    """Without a reference: name or value of the segment that the contrast of the others is taken to; '' the first."""

    neighbours: Annotated[int, Bounds(1, 100)] = 5
    """Sets: nearest neighbours that bound the support for precision, recall, density and coverage."""

    positive: str = ""
    """Classifications: the positive one of two classes; '' takes the last in sorted order."""

    bootstrap: Annotated[int, Bounds(100, 100_000)] = 2000
    """Resamples for the confidence intervals."""

    test: PairedTest = PairedTest.WILCOXON
    """How two methods are compared on the same cases."""

    pictures: Annotated[int, Bounds(0, 1000)] = 8
    """Cases that the report shows pictures of."""

    seed: Annotated[int, Bounds(0, 2**31 - 1)] = 0
    """Seed of everything random; the same seed gives the same figures."""
