"""The plain methods that super-resolution is measured against. They know the ratio, the axis and the slice profile.

- ``nearest``: each thick slice repeated.
- ``linear``, ``bspline``: interpolation (scipy, first order and cubic with prefilter) between the centres of the thick
  slices; beyond the outermost centres the volume goes on as its edge does.
- ``back_projected``: ``bspline``, then 10 times: the result made thick again, its difference to the input interpolated
  by the same cubic B-spline and added in full (step 1).

All take the coarse array [k, j, i], the array axes to refine and the whole ratio; they give float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy.ndimage import affine_transform

from degrading import thicken

BACK_PROJECTIONS = 10


def nearest(coarse: np.ndarray, axes: Sequence[int], ratio: int) -> np.ndarray:
    for axis in axes:
        coarse = np.repeat(coarse, ratio, axis=axis)
    return coarse


def linear(coarse: np.ndarray, axes: Sequence[int], ratio: int) -> np.ndarray:
    return _interpolated(coarse, axes, ratio, 1)


def bspline(coarse: np.ndarray, axes: Sequence[int], ratio: int) -> np.ndarray:
    return _interpolated(coarse, axes, ratio, 3)


def back_projected(coarse: np.ndarray, axes: Sequence[int], ratio: int) -> np.ndarray:
    fine = bspline(coarse, axes, ratio)
    for _ in range(BACK_PROJECTIONS):
        fine = fine + bspline(coarse - thicken(fine, axes, ratio), axes, ratio)
    return fine


METHODS: dict[str, tuple[str, Callable[[np.ndarray, Sequence[int], int], np.ndarray]]] = {
    "nearest": ("nearest", nearest),
    "linear": ("linear", linear),
    "bspline": ("cubic B-spline", bspline),
    "back_projected": (f"B-spline + {BACK_PROJECTIONS} back-projections", back_projected),
}
"""Title and function of each, the strongest last."""


def _interpolated(coarse: np.ndarray, axes: Sequence[int], ratio: int, order: int) -> np.ndarray:
    for axis in axes:
        matrix = _matrix(coarse.shape[axis], ratio, order)
        coarse = np.moveaxis(np.tensordot(matrix, coarse, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(coarse, dtype=np.float32)


@lru_cache(maxsize=32)
def _matrix(count: int, ratio: int, order: int) -> np.ndarray:
    """(ratio * count, count) weights that interpolate along one axis: what scipy makes of each unit vector."""
    shift = [-(ratio - 1) / 2 / ratio, 0.0]
    shape = (ratio * count, count)
    return affine_transform(np.eye(count), [1.0 / ratio, 1.0], shift, shape, order=order, mode="nearest")
