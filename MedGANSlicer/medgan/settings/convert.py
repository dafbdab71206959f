"""What a person chooses for a conversion between segmentations and label maps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from medgan.labels import Overlap
from medgan.labelvalues import Values
from medgan.settings import Bounds, Settings


class Direction(Enum):
    """What becomes what."""

    TO_LABEL_MAP = "to label map"
    TO_SEGMENTATION = "to segmentation"

    def label(self) -> str:
        names = {"to label map": "Segmentation to label map", "to segmentation": "Label maps to segmentation"}
        return names[self.value]


class GridChoice(Enum):
    """The voxels of a label map."""

    OWN = "own"
    VOLUME = "volume"
    SPACING = "spacing"

    def label(self) -> str:
        return {"own": "Of the segmentation", "volume": "Of a volume", "spacing": "Of a chosen size"}[self.value]


@dataclass
class ConvertSettings(Settings):
    """``table`` is the path of a label table, 'freesurfer', or '' for none."""

    direction: Direction = Direction.TO_LABEL_MAP
    grid: GridChoice = GridChoice.OWN
    spacing_mm: Annotated[float, Bounds(0.05, 20)] = 1.0
    values: Values = Values.OWN
    overlap: Overlap = Overlap.LAST
    table: str = ""
    probabilities: bool = False
    keep_empty: bool = False
    surfaces: bool = False
