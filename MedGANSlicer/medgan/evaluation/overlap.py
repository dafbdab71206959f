"""How well one segment agrees with its reference: counts of voxels, volumes, and distances of surfaces in mm.

The surface of a segment is those of its voxels that touch, by a face, a voxel outside or the border of the grid;
distances go from surface voxel to nearest surface voxel, as in MONAI. All figures share one distance map a side.

Empty segments: where neither side has a voxel, Dice and NSD are 1 and distances 0. Where one side has, Dice and NSD are
0 and distances are the diagonal of the grid, the largest there can be: a segment that was missed weighs in the mean
instead of vanishing from it. Ratios of nothing to nothing are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

PERCENTILE = 95.0
"""Of the surface distances, for HD95."""

ROUNDING = 1e-5
"""Share by which the spacing of a file may lie off: headers hold it in float32 or in few decimals."""


class MaskPair:
    """A segment and its reference: boolean arrays of one shape, spacing in the order of their axes.

    ``axes_mm`` is needed where the axes are sheared: a row with the step in mm for each of them.
    """

    def __init__(
        self,
        result: np.ndarray,
        reference: np.ndarray,
        spacing_mm: Sequence[float],
        tolerance_mm: float = 1.0,
        axes_mm: np.ndarray | None = None,
    ) -> None:
        self.total = result.size
        self.voxel_ml = float(np.prod(spacing_mm) if axes_mm is None else abs(np.linalg.det(axes_mm))) / 1000.0
        self.diagonal_mm = float(np.linalg.norm(np.multiply(result.shape, spacing_mm)))
        self.tolerance_mm = tolerance_mm
        # A single slice has no surface above and below: it is measured as the plane it is.
        flat = tuple(axis for axis, side in enumerate(result.shape) if side == 1)
        self._spacing = tuple(step for axis, step in enumerate(spacing_mm) if axis not in flat) or (1.0,)
        self._axes = None if axes_mm is None else np.delete(axes_mm, flat, axis=0)
        result, reference = np.atleast_1d(result.squeeze(flat)), np.atleast_1d(reference.squeeze(flat))
        box = (ndimage.find_objects((result | reference).astype(np.uint8)) or [None])[0]
        self._result: np.ndarray = result[box] if box is not None else result
        self._reference: np.ndarray = reference[box] if box is not None else reference
        self.found = int(np.count_nonzero(self._result))
        self.true = int(np.count_nonzero(self._reference))
        self.both = int(np.count_nonzero(self._result & self._reference))

    @property
    def empty_distance_mm(self) -> float | None:
        """The distance that is said when a side has no surface; None when both have one."""
        if self.found and self.true:
            return None
        return self.diagonal_mm if self.found or self.true else 0.0

    @cached_property
    def distances_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """From the surface of the result to that of the reference, and back. Both sides must have voxels."""
        ours, theirs = _surface(self._result), _surface(self._reference)
        if self._axes is not None:
            places = np.argwhere(ours) @ self._axes, np.argwhere(theirs) @ self._axes
            return cKDTree(places[1]).query(places[0])[0], cKDTree(places[0]).query(places[1])[0]
        to_theirs = ndimage.distance_transform_edt(~theirs, sampling=self._spacing)
        to_ours = ndimage.distance_transform_edt(~ours, sampling=self._spacing)
        return to_theirs[ours], to_ours[theirs]


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def dice(pair: MaskPair) -> float:
    """2 |A and B| / (|A| + |B|); 1 when neither side has a voxel, 0 when one side has none."""
    either = pair.found + pair.true
    return 2.0 * pair.both / either if either else 1.0


def hausdorff(pair: MaskPair, percentile: float = PERCENTILE) -> float:
    """The 95th percentile of the distances of surface voxels to the other surface, the larger of both directions.

    In mm with the spacing of each axis; 0 when neither side has a voxel, the diagonal of the grid when one has none.
    """
    if pair.empty_distance_mm is not None:
        return pair.empty_distance_mm
    return float(max(np.percentile(distances, percentile) for distances in pair.distances_mm))


def assd(pair: MaskPair) -> float:
    """Average symmetric surface distance: mean distance of the surface voxels of both sides to the other surface.

    In mm with the spacing of each axis; 0 when neither side has a voxel, the diagonal of the grid when one has none.
    """
    if pair.empty_distance_mm is not None:
        return pair.empty_distance_mm
    return float(np.concatenate(pair.distances_mm).mean())


def nsd(pair: MaskPair) -> float:
    """Normalised surface Dice: share of the surface voxels of both sides within a tolerance of the other surface.

    After Nikolov et al. 2018, counted in surface voxels as in MONAI; the tolerance is the setting tolerance_mm. 1 when
    neither side has a voxel, 0 when one side has none.
    """
    if pair.empty_distance_mm is not None:
        return 0.0 if pair.empty_distance_mm else 1.0
    return float((np.concatenate(pair.distances_mm) <= pair.tolerance_mm * (1 + ROUNDING)).mean())


def sensitivity(pair: MaskPair) -> float | None:
    """Share of the reference that was found; not defined for an empty reference."""
    return pair.both / pair.true if pair.true else None


def precision(pair: MaskPair) -> float | None:
    """Share of what was found that is right; 0 where nothing was found of what is there, not defined where none is."""
    return pair.both / pair.found if pair.found else 0.0 if pair.true else None


def specificity(pair: MaskPair) -> float | None:
    """Share of the voxels outside the reference that were left out, in the whole grid: the field of view matters."""
    outside = pair.total - pair.true
    return (outside - (pair.found - pair.both)) / outside if outside else None


def volume_difference_ml(pair: MaskPair) -> float:
    """Volume of the result minus that of the reference."""
    return (pair.found - pair.true) * pair.voxel_ml


def volume_difference_percent(pair: MaskPair) -> float | None:
    """Volume of the result minus that of the reference, over the latter; not defined for an empty reference."""
    return 100.0 * (pair.found - pair.true) / pair.true if pair.true else None


def volume_error_percent(pair: MaskPair) -> float | None:
    """Volume difference in percent without its sign, so that too much here and too little there do not cancel."""
    return 100.0 * abs(pair.found - pair.true) / pair.true if pair.true else None
