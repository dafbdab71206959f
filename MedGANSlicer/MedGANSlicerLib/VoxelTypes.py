"""In which type the voxels of a result are stored."""

from __future__ import annotations

import numpy as np

from medgan.volume import as_voxel_type

FEWEST_STEPS = 32
"""An integer type with fewer steps over the range of a result would add visible noise by rounding."""

LARGEST_CLIP = 0.05
"""Share of its range by which a result may lie beyond an integer type: an overshoot at the border of the type."""


def storedLike(array: np.ndarray, source: np.ndarray | None) -> np.ndarray:
    """A result ``array`` (float32 [k, j, i]) in the voxel type of ``source``, integers rounded and clipped.

    Becomes float32 where that type does not fit: NaN, a range of fewer than 32 whole steps, or values far
    beyond the type's limits. Voxels that equal the source in float32 get its very value, so that what was
    not changed is bit-identical also for types wider than float32. ``source`` None keeps float32.
    """
    if source is None:
        return array
    kind = source.dtype
    if kind.kind in "iu" and kind.itemsize == 8:
        kind = np.dtype("float64")  # Slicer shows 64-bit integers but can not write them to any file
    if kind.kind in "iu" and not _fits(array, kind):
        return array
    exact = kind.itemsize >= 4 and kind != np.float32 and source.shape == array.shape
    stored = np.empty(array.shape, kind)
    for k, plane in enumerate(array):  # a slice at a time stays in the processor's cache, several times faster
        stored[k] = as_voxel_type(plane, kind.name)
        if exact:
            unchanged = source[k].astype(np.float32) == plane
            stored[k][unchanged] = source[k][unchanged]
    return stored


def _fits(array: np.ndarray, kind: np.dtype) -> bool:
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        return False
    limits = np.iinfo(kind)
    if max(limits.min - low, high - limits.max) > LARGEST_CLIP * (high - low):
        return False
    return high - low >= FEWEST_STEPS or np.array_equal(array, np.rint(array))
