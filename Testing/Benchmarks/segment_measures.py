"""Overlap and distance of two masks, written apart from the engine's own metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|); NaN when both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else float("nan")


def hd95(one: np.ndarray, other: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """95th percentile of the distances of the surfaces, the larger of both directions, in mm; NaN if one is empty.

    ``spacing_mm`` along the axes of the arrays.
    """
    if not one.any() or not other.any():
        return float("nan")
    both = one | other
    box = tuple(
        slice(max(0, int(lines[0]) - 2), int(lines[-1]) + 3)
        for lines in (np.flatnonzero(both.any(axis=tuple(n for n in range(3) if n != axis))) for axis in range(3))
    )
    one, other = one[box], other[box]
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    far = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    return float(max(np.percentile(far[1][edges[0]], 95), np.percentile(far[0][edges[1]], 95)))
