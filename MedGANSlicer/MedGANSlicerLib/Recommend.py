"""What a volume looks like to MedGAN, and which task and model fit it. No qt; quick enough for the main thread."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgan.bundle import RESTORES
from medgan.maps import is_map
from medgan.noise import in_hounsfield_units, intensity_range, noise_profile, padding_as_air, sampled_blocks
from MedGANSlicerLib.Chains import JOINT
from MedGANSlicerLib.SceneBridge import arrayOf
from MedGANSlicerLib.SceneEdits import subjectHierarchy

KIND = "MedGAN.Kind"
"""Attribute of a volume: the kind of scan that it was recognised as, such as "MR FLAIR"."""

MAP = "map"

THICK = 1.5
"""Largest over smallest spacing from which super-resolution is worth its while."""

BLURRED = 0.95
"""Standard deviation of the blur in voxels from which deblurring is worth its while: of 37 scans a resampled one had
0.94 and the others at most 0.65; blurred by 1.2 voxels all but a PET 41 voxels wide had at least 0.97."""

LITTLE_NOISE, MUCH_NOISE = 0.007, 0.12
"""Noise as a share of the intensity range: the shipped model was trained between these. The first is asked of that at
the highest frequencies, as fine anatomy of MR looks like correlated noise."""

NOISY_HU = 20.0
"""Noise of a CT in Hounsfield units, correlated as it is, from which denoising is worth its while."""

BLOCKS = 8_000
"""In which noise is measured: with fewer, those that are flat would be too few."""

NO_NOISE = 1e-6
"""A share that only rounding makes."""

_FEWEST_TO_MEASURE = 4
_SIDE_FOR_BLUR = 64


@dataclass(frozen=True)
class Seen:
    """``kind``: "CT", "PET", "MR", ``MAP`` (no scan) or "" (unknown). ``sigma``: noise in the volume's unit, None if
    not measured.

    ``share``: noise as a share of the intensity range; ``finest``: that at the highest frequencies. ``spacing_mm``
    along i, j, k. ``thickness``: largest spacing over the smallest. ``blur`` beyond that of a sharp scan: standard
    deviation in voxels, None if not measured.
    """

    kind: str
    sigma: float | None
    share: float
    spacing_mm: tuple[float, float, float]
    thickness: float
    blur: float | None = None
    finest: float = 0.0

    @property
    def coarsest(self) -> str:
        """The axis with the largest spacing."""
        return "ijk"[max(range(3), key=lambda axis: self.spacing_mm[axis])]


@dataclass(frozen=True)
class Advice:
    """``task`` is "" when none helps; ``model`` then too. ``model`` may be a chain.

    ``needs``: what the model is for, of "noise", "blur" and "resolution". ``reason``: why none helps, or a word of
    caution.
    """

    task: str
    model: str
    reason: str = ""
    needs: tuple[str, ...] = ()


def look(array: np.ndarray, spacing_mm: Iterable[float], modality: str = "", unit: str = "") -> Seen:
    """Measure a [k, j, i] volume on a sample of its blocks. ``modality`` and ``unit`` are what the scene knows."""
    spacing = tuple(float(step) for step in spacing_mm)
    thickness = max(spacing) / min(spacing)
    sample = sampled_blocks(array, BLOCKS)
    finite = np.isfinite(sample)
    if min(array.shape) < _FEWEST_TO_MEASURE or not finite.any():
        return Seen(_kind(sample[finite], modality, unit), None, 0.0, spacing, thickness)
    if not finite.all():
        sample = np.where(finite, sample, np.float32(np.median(sample[finite])))
    sample = padding_as_air(sample)
    low, high = intensity_range(sample)
    acquired = _acquired(array)
    sides = spacing[::-1]
    if acquired is None:
        noise, blur = noise_profile(sample), _blurOf(array, sides)
        level = noise.level
    else:
        coarse, times, matrix = acquired
        noise, level = matrix.noise(coarse), matrix.level(coarse)
        blur = _blurOf(coarse, tuple(side * longer for side, longer in zip(sides, times, strict=True)))
    share, finest = (sigma / (high - low) if high > low else 0.0 for sigma in (level, noise.sigma))
    return Seen(_kind(sample, modality, unit), level, share, spacing, thickness, blur, finest)


def lookAt(volumeNode) -> Seen | None:
    """:func:`look` at a volume node; None if it holds no voxels with one number each."""
    array = arrayOf(volumeNode)
    if array is None or array.size == 0 or min(volumeNode.GetSpacing()) <= 0:
        return None
    units = volumeNode.GetVoxelValueUnits()
    unit = (units.GetCodeMeaning() or "") if units is not None else ""
    return look(array, volumeNode.GetSpacing(), modalityOf(volumeNode), unit)


def modalityOf(node) -> str:
    """The DICOM modality that the subject hierarchy knows of a node ("MR", "CT", "PT"), else what was recognised."""
    hierarchy = subjectHierarchy(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    while item and item != hierarchy.GetSceneItemID():
        modality = hierarchy.GetItemAttribute(item, "DICOM.Modality")
        if modality:
            return modality
        item = hierarchy.GetItemParent(item)
    return (node.GetAttribute(KIND) or "").partition(" ")[0]


def advise(seen: Seen, cards: Iterable[Any]) -> Advice:
    """Which model or chain fits, and what for. Cards have ``name``, ``task``, ``modality`` and ``restores``."""
    if seen.sigma is None:
        return Advice("", "", "it is too thin for a model that works in 3D")
    if seen.kind == MAP:
        return Advice("", "", "it looks like a mask or a probability map, not like a scan")
    fitting = [card for card in cards if card.task == "enhance"]
    known = [card for card in fitting if not seen.kind or not card.modality or seen.kind in card.modality]
    if not known:
        return Advice("", "", f"no model here was trained on {seen.kind} volumes" if fitting else "there is no model")
    best = {card.restores: card for card in reversed(known)}  # the first of each kind: shipped ones lead
    helps = {
        "noise": seen.finest >= LITTLE_NOISE or (seen.kind == "CT" and seen.sigma >= NOISY_HU),
        "blur": seen.blur is not None and seen.blur > BLURRED,
        "resolution": seen.thickness >= THICK,
    }
    needs = tuple(need for need in RESTORES if helps[need] and need in best)
    if not needs and seen.share >= NO_NOISE and "noise" in best:
        return Advice("enhance", best["noise"].name, "there is little noise, so little will change", ("noise",))
    if not needs:
        return Advice("", "", "it is neither noisy nor coarse" if seen.share >= NO_NOISE else "it holds no noise")
    much = "noise" in needs and seen.share > MUCH_NOISE
    caution = "there is more noise than the model was trained for: check the result" if much else ""
    return Advice("enhance", JOINT.join(best[need].name for need in needs), caution, needs)


def _acquired(array: np.ndarray) -> tuple[np.ndarray, tuple[float, ...], Any] | None:
    """The middle on the matrix that was acquired, where the scanner delivered another one; see medgan.acquired."""
    try:
        from medgan.acquired import acquired_middle
    except ImportError:  # without SciPy, which the first run installs
        return None
    return acquired_middle(array)


def _blurOf(array: np.ndarray, sides: tuple[float, ...]) -> float | None:
    """Standard deviation of the blur in voxels, measured in the middle of the volume as deblurring does; None if it can
    not be. ``sides`` of a voxel along k, j and i."""
    try:
        from medgan.blur import measure_blur
    except ImportError:  # without SciPy, which the first run installs
        return None
    middle = tuple(slice(max(0, (n - _SIDE_FOR_BLUR) // 2), (n + _SIDE_FOR_BLUR) // 2) for n in array.shape)
    blur = measure_blur(array[middle].astype(np.float32), sides).width
    return None if math.isnan(blur) else blur


def _kind(sample: np.ndarray, modality: str, unit: str) -> str:
    if sample.size and is_map(sample):
        return MAP
    if modality in ("MR", "CT"):
        return modality
    if modality in ("PT", "PET"):
        return "PET"
    text = unit.lower()
    if "hounsfield" in text:
        return "CT"
    if "uptake" in text or "suv" in text or "becquerel" in text:
        return "PET"
    if sample.size == 0:
        return ""
    if in_hounsfield_units(sample):
        return "CT"
    return "MR" if float(sample.min()) >= 0 and float(sample.max()) > 20 else ""
