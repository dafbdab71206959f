"""What a volume looks like to MedGAN, and which task and model fit it. No qt; quick enough for the main thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgan.noise import intensity_range, noise_profile, sampled_blocks
from MedGANSlicerLib.SceneBridge import arrayOf
from MedGANSlicerLib.SceneEdits import subjectHierarchy

LITTLE_NOISE, MUCH_NOISE = 0.007, 0.12
"""Noise as a share of the intensity range: the shipped model was trained between these."""

NO_NOISE = 1e-6
"""A share that only rounding makes."""

_FEWEST_TO_MEASURE = 4


@dataclass(frozen=True)
class Seen:
    """``kind``: "CT", "PET", "MR" or "" (unknown). ``sigma``: noise in the volume's unit, None if not measured.

    ``share``: noise as a share of the intensity range. ``spacing_mm`` along i, j, k. ``thickness``: largest spacing
    over the smallest.
    """

    kind: str
    sigma: float | None
    share: float
    spacing_mm: tuple[float, float, float]
    thickness: float


@dataclass(frozen=True)
class Advice:
    """``task`` is "" when none helps; ``model`` then too."""

    task: str
    model: str
    reason: str


def look(array: np.ndarray, spacing_mm: Iterable[float], modality: str = "", unit: str = "") -> Seen:
    """Measure a [k, j, i] volume on a sample of its blocks. ``modality`` and ``unit`` are what the scene knows."""
    spacing = tuple(float(step) for step in spacing_mm)
    thickness = max(spacing) / min(spacing)
    sample = sampled_blocks(array)
    finite = np.isfinite(sample)
    if min(array.shape) < _FEWEST_TO_MEASURE or not finite.any():
        return Seen(_kind(sample[finite], modality, unit), None, 0.0, spacing, thickness)
    if not finite.all():
        sample = np.where(finite, sample, np.float32(np.median(sample[finite])))
    low, high = intensity_range(sample)
    sigma = noise_profile(sample).sigma
    share = sigma / (high - low) if high > low else 0.0
    return Seen(_kind(sample, modality, unit), sigma, share, spacing, thickness)


def lookAt(volumeNode) -> Seen | None:
    """:func:`look` at a volume node; None if it holds no voxels with one number each."""
    array = arrayOf(volumeNode)
    if array is None or array.size == 0 or min(volumeNode.GetSpacing()) <= 0:
        return None
    units = volumeNode.GetVoxelValueUnits()
    unit = (units.GetCodeMeaning() or "") if units is not None else ""
    return look(array, volumeNode.GetSpacing(), modalityOf(volumeNode), unit)


def modalityOf(node) -> str:
    """The DICOM modality that the subject hierarchy knows of a node ("MR", "CT", "PT"), or ""."""
    hierarchy = subjectHierarchy(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    while item and item != hierarchy.GetSceneItemID():
        modality = hierarchy.GetItemAttribute(item, "DICOM.Modality")
        if modality:
            return modality
        item = hierarchy.GetItemParent(item)
    return ""


def advise(seen: Seen, models: Iterable[Any]) -> Advice:
    """Which of the models (cards with ``name``, ``task``, ``modality``) fits, and why in a few words."""
    fitting = [card for card in models if card.task == "enhance"]
    known = [card for card in fitting if not seen.kind or not card.modality or seen.kind in card.modality]
    if seen.sigma is None:
        return Advice("", "", "it is too thin for a model that works in 3D")
    if not known:
        return Advice("", "", f"no model here was trained on {seen.kind} volumes")
    if seen.share < NO_NOISE:
        return Advice("", "", "it holds no noise")
    if seen.share < LITTLE_NOISE:
        return Advice("enhance", known[0].name, "there is little noise, so little will change")
    if seen.share > MUCH_NOISE:
        return Advice("enhance", known[0].name, "there is more noise than the model was trained for: check the result")
    return Advice("enhance", known[0].name, "")


def _kind(sample: np.ndarray, modality: str, unit: str) -> str:
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
    # Air in CT is -1000 HU (-1024 where the scanner saw nothing), a value that no other modality has so much of.
    low, high = float(sample.min()), float(sample.max())
    if -3100 <= low <= -800 and high > 0 and (sample < -500).mean() > 0.02:
        return "CT"
    return "MR" if low >= 0 and high > 20 else ""
