"""The free-response curve: how many lesions the regions of a map find, and how many regions are false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

FACES_EDGES_CORNERS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Operating:
    """What one threshold gives: the share of lesions found, and false regions a volume."""

    threshold: float
    sensitivity: float
    false_regions: float


def free_response(
    maps: Sequence[np.ndarray], truths: Sequence[np.ndarray], thresholds: Sequence[float], smallest_voxels: int = 1
) -> list[Operating]:
    """The free-response curve (FROC) over volumes.

    ``truths``: whole numbers, 0 and one for each lesion. A lesion is found when a region of the map (connected over
    faces, edges and corners, at least ``smallest_voxels`` large) touches it; a region that touches none is false.
    """
    found = []
    lesions = sum(len(np.unique(truth[truth > 0])) for truth in truths)
    for threshold in thresholds:
        hit, false = 0, 0
        for values, truth in zip(maps, truths, strict=True):
            parts, count = ndimage.label(values >= threshold, FACES_EDGES_CORNERS)
            sizes = np.bincount(parts.ravel(), minlength=count + 1)
            large = sizes >= smallest_voxels
            large[0] = False
            overlaps = np.unique(np.stack([parts.ravel(), truth.ravel()])[:, (truth > 0).ravel()], axis=1)
            overlaps = overlaps[:, large[overlaps[0]]]
            hit += len(np.unique(overlaps[1]))
            false += int(large.sum()) - len(np.unique(overlaps[0]))
        found.append(Operating(float(threshold), hit / max(lesions, 1), false / max(len(maps), 1)))
    return found


def sensitivity_at(curve: Sequence[Operating], false_regions: float) -> float:
    """The largest sensitivity with at most so many false regions a volume; 0 when there is none."""
    return max((point.sensitivity for point in curve if point.false_regions <= false_regions), default=0.0)
