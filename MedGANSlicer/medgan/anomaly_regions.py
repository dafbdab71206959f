"""The connected regions of a map of anomalies above a threshold: how high, how large, and where. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from medgan.segmentation.grid import box_of
from medgan.volume import Volume

NEIGHBOURS = np.ones((3, 3, 3), bool)
"""Voxels that touch with a face, an edge or a corner are connected."""

RESEARCH = "For research only; a region is a place to look at, not a diagnosis."


def regions(anomaly: Volume, threshold: float, smallest_ml: float = 0.0) -> list[dict[str, Any]]:
    """The regions where the map reaches the threshold, those with the largest sum of values first.

    Each as plain JSON values: "number" from 1; "score", the mean of the map over the region, and "largest";
    "volume_ml"; "centre_ras" in mm, the voxels weighted by the map; "box_ras": "centre" and "size" in mm of the box
    along the axes of the voxels, which "axes" has as columns (directions of length 1); "sentence".
    Raises ``ValueError`` for a threshold that is not above 0 or a smallest region below 0.
    """
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"The threshold of a region must be above 0, not {threshold:g}.")
    if not (math.isfinite(smallest_ml) and smallest_ml >= 0):
        raise ValueError(f"The smallest region must be 0 ml or more, not {smallest_ml:g}.")
    high = (anomaly.array >= threshold) & (anomaly.array < np.inf)
    around = box_of(high, 0)
    if around is None:
        return []
    parts, count = ndimage.label(high[around], NEIGHBOURS)
    voxel_ml = abs(float(np.linalg.det(anomaly.ijk_to_ras[:3, :3]))) / 1000.0
    volumes_ml = np.bincount(parts.ravel(), minlength=count + 1) * voxel_ml
    found = []
    for number, near in enumerate(ndimage.find_objects(parts), 1):
        if volumes_ml[number] >= smallest_ml:  # a slider is dragged: no work for the many that are too small
            box = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(around, near, strict=True))
            found.append(_region(anomaly.array[box], parts[near] == number, box, float(volumes_ml[number]), anomaly))
    found.sort(key=lambda region: -region["score"] * region["volume_ml"])
    numbered = [{"number": number, **region} for number, region in enumerate(found, 1)]
    return [{**region, "sentence": sentence(region, region["centre_ras"])} for region in numbered]


def sentence(region: Mapping[str, Any], place_ras: Sequence[float]) -> str:
    """What a region is and where: ``place_ras`` is its centre in mm, in the frame that the person sees."""
    words = zip(place_ras, ("right", "anterior", "superior"), ("left", "posterior", "inferior"), strict=True)
    place = ", ".join(f"{abs(mm):.0f} mm {one if mm >= 0 else other}" for mm, one, other in words)
    return f"Region {region['number']}: {region['volume_ml']:.3g} ml at {place}, score {region['score']:.2f}."


def _region(
    values: np.ndarray, inside: np.ndarray, box: tuple[slice, ...], volume_ml: float, anomaly: Volume
) -> dict[str, Any]:
    weights = np.where(inside, values, np.float32(0.0))
    plane = weights.sum(axis=0, dtype=np.float64)
    # A region may be a whole head: sums along the axes, not a list of all its voxels.
    sums = plane.sum(axis=0), plane.sum(axis=1), weights.sum(axis=(1, 2), dtype=np.float64)
    starts = [part.start for part in box[::-1]]
    centre = starts + np.array([np.arange(each.size) @ each / each.sum() for each in sums])
    low, high = (np.array([getattr(part, end) for part in box[::-1]], float) for end in ("start", "stop"))
    spacing = np.array(anomaly.spacing_mm)
    matrix = anomaly.ijk_to_ras
    return {
        "score": round(float(plane.sum() / np.count_nonzero(inside)), 4),
        "largest": round(float(weights.max()), 4),
        "volume_ml": round(volume_ml, 4),
        "centre_ras": _rounded(matrix[:3, :3] @ centre + matrix[:3, 3]),
        "box_ras": {
            "centre": _rounded(matrix[:3, :3] @ ((low + high - 1.0) / 2) + matrix[:3, 3]),
            "size": _rounded((high - low) * spacing),
            "axes": [[round(float(number), 6) for number in row] for row in matrix[:3, :3] / spacing],
        },
    }


def _rounded(numbers: np.ndarray) -> list[float]:
    return [round(float(number), 3) for number in numbers]
