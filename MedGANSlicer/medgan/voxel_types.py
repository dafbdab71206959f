"""In which type the voxels of a result are stored: the same in files and in the scene of 3D Slicer."""

from __future__ import annotations

import numpy as np

FEWEST_STEPS = 32
"""An integer type with fewer steps over the range of a result would add visible noise by rounding."""

LARGEST_CLIP = 0.05
"""Share of its range by which a result may lie beyond an integer type: an overshoot at the border of the type."""

LAST_WHOLE = 2**24
"""Float32 holds every whole number up to this one."""


def stored_as(array: np.ndarray, voxel_type: str, source: np.ndarray | None = None) -> np.ndarray:
    """A result ``array`` (float32 [k, j, i]) in the type of that numpy name, integers rounded and clipped.

    Stays float32 where that type does not fit: NaN or infinity in integers, a range of fewer than 32 whole steps
    (unless all voxels are whole), values far beyond the type's limits, or a type that is no plain number.
    ``source``: the voxels of the input; those that the result equals in float32 get its very values, so that what was
    not changed is bit-identical also in types wider than float32.
    """
    kind = _kind(voxel_type)
    if kind is None or (kind.kind in "iu" and not _fits(array, kind)):
        return array
    exact = source is not None and source.shape == array.shape and is_wide(kind.name)
    stored = np.empty(array.shape, kind)
    for k, plane in enumerate(array):  # a slice at a time stays in the processor's cache, several times faster
        stored[k] = _converted(plane, kind)
        if exact and source is not None:
            unchanged = source[k].astype(np.float32) == plane
            stored[k][unchanged] = source[k][unchanged]
    return stored


def is_wide(voxel_type: str) -> bool:
    """Whether the type holds numbers that float32 does not."""
    kind = _kind(voxel_type)
    return kind is not None and kind.itemsize >= 4 and kind != np.float32


def _kind(voxel_type: str) -> np.dtype | None:
    """The type that voxels of this one are stored in; None for what is no plain number."""
    try:
        kind = np.dtype({"float16": "float32", "bool": "uint8"}.get(voxel_type, voxel_type))
    except TypeError:
        return None
    return kind if kind.kind in "iu" or (kind.kind == "f" and kind.itemsize in (4, 8)) else None


def _fits(array: np.ndarray, kind: np.dtype) -> bool:
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        return False
    limits = np.iinfo(kind)
    if max(limits.min - low, high - limits.max) > LARGEST_CLIP * (high - low):
        return False
    return high - low >= FEWEST_STEPS or np.array_equal(array, np.rint(array))


def _converted(array: np.ndarray, kind: np.dtype) -> np.ndarray:
    if kind.kind == "f":
        return array.astype(kind)
    limits = np.iinfo(kind)
    # Float32 has no 2147483647 and float64 no 2**63 - 1: both would round up, out of the integer's range.
    wide = np.rint(array, dtype=np.float64) if kind.itemsize >= 4 else np.rint(array)
    top = np.nextafter(float(limits.max), 0) if kind.itemsize == 8 else limits.max
    return np.clip(wide, float(limits.min), float(top)).astype(kind)
