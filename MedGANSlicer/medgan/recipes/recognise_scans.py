"""The scans that recognition is trained on, and what is known of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.degradation import kind_of
from medgan.recipes.data import read_manifest
from medgan.recognition.slices import Straight, same_neighbours, straightened
from medgan.volume import read_volume

HEADS: dict[str, tuple[str, ...]] = {
    "kind": ("CT", "PET", "MR T1", "MR T2", "MR FLAIR", "label map"),
    "region": ("head", "chest", "abdomen", "limb"),
    "plane": ("axial", "coronal", "sagittal"),
}
"""The answers of each question; "none of these" comes after them."""

LARGEST = 144
"""Scans are kept with this many voxels along each axis at most: a slice is seen with 64 pixels."""

LUNGS = {"totalseg_aorta_ct_1p5mm": (22, 44)}
"""Volumes of chest and abdomen: the slices (from below) between which the one goes over into the other."""


@dataclass
class Example:
    """A scan [k, j, i] in RAS order and what is known of it.

    kind: the probability of each answer and of none; region (D, 5): the same for each slice along k. ``flat``: share of
    neighbours with the same value. ``plane``: whether the directions mean anything.
    """

    array: Tensor
    spacing_mm: tuple[float, float, float]
    box: tuple[slice, slice, slice]
    name: str
    kind: Tensor
    region: Tensor
    hounsfield: bool = False
    labels: bool = False
    plane: bool = True
    flat: float = 0.0
    made: bool = False


def answer(head: str, name: str) -> Tensor:
    """The probabilities that say "it is this"; '' is none of them, "MR" each of the MR contrasts alike."""
    names = HEADS[head]
    held = torch.zeros(len(names) + 1)
    if head == "kind" and name == "MR":
        held[[n for n, other in enumerate(names) if other.startswith("MR")]] = 1 / 3
    else:
        held[names.index(name) if name else len(names)] = 1.0
    return held


def kind_in(modality: str) -> str:
    """The answer to "kind" in the modality column of a manifest."""
    if any(word in modality.lower() for word in ("label map", "mask")):
        return "label map"
    kind = kind_of(modality)
    contrast = next((name for name in ("FLAIR", "T2", "T1") if name in modality.upper()), "")
    return f"MR {contrast}".strip() if kind == "MR" else kind


def region_in(modality: str) -> str:
    """The answer to "region", '' when it is not told, as by the mask of a tumour."""
    text = modality.lower()
    if "lesion" in text or "mask" in text:
        return ""
    if "freesurfer" in text or (kind_in(modality).startswith("MR") and "extremity" not in text):
        return "head"
    names = {"extremity": "limb", "chest": "chest", "torso": "abdomen", "abdomen": "abdomen", "117": "abdomen"}
    return next((name for word, name in names.items() if word in text), "")


def load(manifest: Path, stems: set[str] | None = None, left_out: set[str] = frozenset()) -> list[Example]:  # type: ignore[assignment]
    """The volumes of a data folder: those of ``stems`` alone, or all that are not left out."""
    examples = []
    for row in read_manifest(manifest):
        stem = Path(row["file"]).name.removesuffix(".nii.gz")
        if stem in left_out or (stems is not None and stem not in stems):
            continue
        volume = read_volume(manifest.parent / row["file"])
        straight = straightened(volume, volume.array)
        kind, region = kind_in(row["modality"]), region_in(row["modality"])
        examples.append(example_of(straight, stem, kind, region))
    return examples


def example_of(straight: Straight, name: str, kind: str, region: str) -> Example:
    """A scan as it is kept for training: every second or third voxel's mean where it is finely sampled."""
    array = torch.from_numpy(np.ascontiguousarray(straight.array))
    steps = [max(1, math.ceil(side / LARGEST)) for side in array.shape]
    if kind == "label map":
        array = array[tuple(slice(None, None, step) for step in steps)]
    elif max(steps) > 1:
        array = F.avg_pool3d(array[None, None], steps, steps)[0, 0]
    box = tuple(slice(part.start // step, max(part.start // step + 1, min(part.stop // step, side)))
                for part, step, side in zip(straight.box, steps, array.shape, strict=True))  # fmt: skip
    k, j, i = (length * step for length, step in zip(straight.spacing_mm, steps, strict=True))
    regions = answer("region", region).expand(array.shape[0], -1).clone()
    if name in LUNGS:
        first, last = (place / steps[0] for place in LUNGS[name])
        chest = ((torch.arange(array.shape[0]) - first) / (last - first)).clamp(0, 1)
        regions = torch.stack([(1 - c) * answer("region", "abdomen") + c * answer("region", "chest") for c in chest])
    example = Example(array, (k, j, i), box, name, answer("kind", kind), regions)  # type: ignore[arg-type]
    example.hounsfield, example.labels, example.plane = kind == "CT", kind == "label map", bool(region)
    example.flat = same_neighbours(straight.array)
    return example


def label_heads(examples: Sequence[Example]) -> list[Tensor]:
    """The head label maps among the examples at 2 mm and cut to what is not background, for making heads."""
    maps = []
    for example in examples:
        if example.name.startswith("synthseg"):
            step = [max(1, round(2.0 / length)) for length in example.spacing_mm]
            array = example.array[tuple(slice(None, None, n) for n in step)]
            box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in array.nonzero().T)
            maps.append(array[box].short())
    return maps
