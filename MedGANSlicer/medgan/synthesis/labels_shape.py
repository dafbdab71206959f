"""A label map moved by a random smooth map that can be undone: no structure is torn or folded.

A random smooth velocity field is followed for a unit of time by scaling and squaring (Arsigny et al. 2006): what comes
out is a diffeomorphism, but for the sampling. So its Jacobian is checked on the grid that it is sampled on, and where
it is not positive the field is made smoother.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from medgan.volume import LabelMap

STEP_MM = 4.0
"""Distance of the places where the field is kept."""

MOST_NODES = 64
"""Of them along an axis."""

SMOOTH_MM = 16.0
"""Standard deviation of the Gaussian that smooths the random velocities."""

SQUARINGS = 6
SLAB = 16


@dataclass(frozen=True)
class Deformation:
    """Displacements (3, d, h, w) in mm along k, j, i at nodes that reach from the first to the last voxel."""

    field_mm: np.ndarray
    smallest_jacobian: float
    rms_mm: float

    def report(self) -> dict[str, float]:
        return {"smallest_jacobian": round(self.smallest_jacobian, 4), "rms_mm": round(self.rms_mm, 3)}


def random_deformation(
    shape: Sequence[int], spacing_mm: Sequence[float], rms_mm: float, rng: np.random.Generator
) -> Deformation:
    """A random map for a grid of this shape and spacing (both k, j, i) that moves its voxels by ``rms_mm`` in the root
    mean square. Its Jacobian is positive everywhere."""
    length = [(side - 1) * step for side, step in zip(shape, spacing_mm, strict=True)]
    nodes = [min(MOST_NODES, 1 + int(np.ceil(size / STEP_MM))) if size > 0 else 1 for size in length]
    apart = [size / max(count - 1, 1) or 1.0 for size, count in zip(length, nodes, strict=True)]
    white = rng.standard_normal((3, *nodes), dtype=np.float32)
    flat = [count == 1 for count in nodes]
    smooth = max(SMOOTH_MM, 3.0 * rms_mm)
    while True:
        field = np.stack([ndimage.gaussian_filter(part, [smooth / step for step in apart]) for part in white])
        field[flat] = 0.0
        size = _rms(field)
        if not size > 0:
            return Deformation(np.zeros_like(field), 1.0, 0.0)
        velocity, found = field * (rms_mm / size), field
        for _ in range(3):  # following a velocity goes about, but not exactly, as far as it points
            found = followed(velocity, apart)
            velocity *= rms_mm / max(_rms(found), 1e-6)
        jacobian = smallest_jacobian(found, apart)
        if jacobian > 0:
            return Deformation(found, jacobian, _rms(found))
        smooth *= 1.4


def followed(velocity: np.ndarray, apart: Sequence[float]) -> np.ndarray:
    """Where a unit of time along a velocity field (3, d, h, w) leads: displacements in its unit (mm)."""
    places = np.indices(velocity.shape[1:], dtype=np.float32)
    steps = np.array(apart, np.float32).reshape(3, 1, 1, 1)
    field = velocity / 2.0**SQUARINGS
    for _ in range(SQUARINGS):
        there = places + field / steps
        field = field + np.stack([ndimage.map_coordinates(part, there, order=1, mode="nearest") for part in field])
    return field


def smallest_jacobian(field: np.ndarray, apart: Sequence[float]) -> float:
    """Smallest determinant of the map's derivative at the corners of all cells between nodes, 1 for no change. Between
    nodes the map is linear along each axis, so no cell is folded whose corners are not."""
    slopes = []
    for axis in range(3):
        if field.shape[1 + axis] == 1:
            slopes.append((np.zeros_like(field),) * 2)
            continue
        step = np.diff(field, axis=1 + axis) / np.float32(apart[axis])
        first, last = np.take(step, [0], axis=1 + axis), np.take(step, [-1], axis=1 + axis)
        slopes.append((np.concatenate([step, last], axis=1 + axis), np.concatenate([first, step], axis=1 + axis)))
    least = np.inf
    for corner in np.ndindex(2, 2, 2):
        columns = [slopes[axis][side] for axis, side in enumerate(corner)]
        matrix = np.stack(columns, axis=-1).transpose(1, 2, 3, 0, 4) + np.eye(3, dtype=np.float32)
        least = min(least, float(np.linalg.det(matrix).min()))
    return least


def moved(labels: LabelMap, deformation: Deformation) -> LabelMap:
    """The labels where the map takes them from, on their own grid; beyond its edge the outermost labels go on."""
    shape, steps = labels.shape, labels.spacing_mm[::-1]
    field = torch.from_numpy(deformation.field_mm)
    result = np.empty_like(labels.array)
    for first in range(0, shape[0], SLAB):
        here = range(first, min(shape[0], first + SLAB))
        at = [number * (field.shape[1] - 1) / max(shape[0] - 1, 1) for number in here]
        low = torch.tensor([min(int(place), max(field.shape[1] - 2, 0)) for place in at])
        high = (low + 1).clamp_max(field.shape[1] - 1)
        share = torch.tensor([place - float(start) for place, start in zip(at, low, strict=True)]).view(1, -1, 1, 1)
        slab = torch.lerp(field[:, low], field[:, high], share.float())
        wide = F.interpolate(slab, size=shape[1:], mode="bilinear", align_corners=True).numpy()
        places = [
            np.clip(np.rint(wide[axis] / np.float32(steps[axis]) + start), 0, shape[axis] - 1).astype(np.int32)
            for axis, start in enumerate((np.array(here, np.float32)[:, None, None], *np.ogrid[: shape[1], : shape[2]]))
        ]
        result[first : first + len(here)] = labels.array[tuple(places)]
    return LabelMap(result, labels.ijk_to_ras.copy(), dict(labels.labels))


def _rms(field: np.ndarray) -> float:
    return float(np.sqrt(np.square(field, dtype=np.float64).sum(axis=0).mean()))
