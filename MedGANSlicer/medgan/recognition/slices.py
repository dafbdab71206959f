"""From a volume to the stacks of small slices that the network looks at, and the numbers it is told besides.

A stack holds slices along one axis of the body, cut to what is not air, brought to 0..1 and fitted into squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.networks.recognise import CUES, SIDE
from medgan.segmentation.grid import Grid, reordered
from medgan.segmentation.intensities import body_box
from medgan.segmentation.orientation import axes_of
from medgan.volume import Volume

PLANES = ("axial", "coronal", "sagittal")
"""Plane of slices along the axes k, j, i of a volume in RAS order."""

THICK = 1.3
"""Voxels so many times longer along one axis than along the others say how a volume was sliced."""

OBLIQUE = 0.8
"""Cosine to the nearest axis of the body below which no plane is named by the geometry."""


LARGE = 4_000_000
"""Voxels from which the body is looked for in every second one."""


@dataclass(frozen=True)
class Straight:
    """A volume in RAS order: a view ``array`` [k, j, i], its spacing along k, j, i in mm, the part with a body.

    ``order``, ``flips``: how the source's axes were exchanged and which of the result run backwards. ``axis``: along
    which axis of ``array`` the source is sliced; ``plane``: what its geometry calls such slices, '' when too oblique.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float]
    box: tuple[slice, slice, slice]
    order: tuple[int, int, int]
    flips: tuple[int, ...]
    axis: int
    plane: str

    def back(self, array: np.ndarray) -> np.ndarray:
        """An array of this grid in the order of the source."""
        return np.ascontiguousarray(np.flip(array, self.flips).transpose(np.argsort(self.order)))

    def number(self, place: int) -> int:
        """The source's number of the slice at a place along ``axis``."""
        return self.array.shape[self.axis] - 1 - place if self.axis in self.flips else place


def straightened(volume: Volume, array: np.ndarray) -> Straight:
    """The finite voxels ``array`` of a volume in the order that comes closest to RAS; nothing is interpolated."""
    source = Grid(volume.shape, volume.ijk_to_ras)
    target = reordered(source, axes_of("RAS"))
    change = np.rint(np.linalg.inv(source.ijk_to_ras) @ target.ijk_to_ras)[:3, :3]
    owns = [int(np.abs(change[:, 2 - axis]).argmax()) for axis in range(3)]  # i, j, k of the source, by target axis
    order = (2 - owns[0], 2 - owns[1], 2 - owns[2])
    flips = tuple(axis for axis in range(3) if change[owns[axis], 2 - axis] < 0)
    view = np.flip(array.transpose(order), flips)
    i, j, k = (float(step) for step in np.linalg.norm(target.ijk_to_ras[:3, :3], axis=0))
    spacing = (k, j, i)
    coarsest = int(np.argmax(spacing))
    others = max(step for axis, step in enumerate(spacing) if axis != coarsest)
    axis = coarsest if spacing[coarsest] > THICK * others else order.index(0)
    normal = target.ijk_to_ras[:3, 2 - axis] / spacing[axis]
    plane = PLANES[axis] if abs(normal[2 - axis]) > OBLIQUE else ""
    return Straight(view, spacing, _body(view, target), order, flips, axis, plane)


def _body(array: np.ndarray, grid: Grid) -> tuple[slice, slice, slice]:
    """The box of the body; in a large volume found on every second voxel."""
    if array.size <= LARGE:
        return body_box(array, grid)
    few = array[::2, ::2, ::2]
    found = body_box(few, Grid(few.shape, grid.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0])))
    k, j, i = (slice(2 * part.start, min(2 * part.stop, n)) for part, n in zip(found, array.shape, strict=True))
    return k, j, i


def places(first: int, last: int, count: int) -> list[int]:
    """``count`` numbers at most, evenly spread from ``first`` to before ``last``, their ends left out."""
    count = min(count, last - first)
    return [first + int((n + 0.5) * (last - first) / count) for n in range(count)]


def frame(straight: Straight, axis: int) -> tuple[slice, slice]:
    """The part of the slices along an axis that is looked at, in rows and columns."""
    rows, columns = (part for n, part in enumerate(straight.box) if n != axis)
    return rows, columns


def stack(straight: Straight, axis: int, chosen: Sequence[int]) -> Tensor:
    """(S, SIDE, SIDE) slices of 0 to 1 at the places ``chosen`` along an axis."""
    rows, columns = frame(straight, axis)
    cut = np.moveaxis(straight.array, axis, 0)[:, rows, columns]
    slices = torch.from_numpy(np.ascontiguousarray(cut[list(chosen)], dtype=np.float32))
    steps = [step for n, step in enumerate(straight.spacing_mm) if n != axis]
    return fitted(brightness(slices), steps)


def brightness(slices: Tensor) -> Tensor:
    """Slices (S, H, W) of any unit brought to 0..1 by their darkest and brightest 0.5 %; constant ones are 0."""
    flat = slices.flatten()
    flat = flat[:: max(1, flat.numel() // 40_000)]
    low, high = torch.quantile(flat, torch.tensor([0.005, 0.995])).tolist()
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        low, high = float(flat.min()), float(flat.max())  # little in much background
        if not high > low:
            return torch.zeros_like(slices)
    return ((slices - low) / (high - low)).clamp(0.0, 1.0)


def fitted_size(height: int, width: int, steps_mm: Sequence[float], side: int = SIDE) -> tuple[int, int]:
    """Rows and columns that slices of this size and these steps have when their longer side is ``side`` pixels."""
    lengths = height * steps_mm[0], width * steps_mm[1]
    rows, columns = (max(1, round(side * length / max(lengths))) for length in lengths)
    return rows, columns


def fitted(slices: Tensor, steps_mm: Sequence[float], side: int = SIDE) -> Tensor:
    """(S, H, W) in true proportions in the middle of squares, 0 around them."""
    size = fitted_size(slices.shape[1], slices.shape[2], steps_mm, side)
    shown = slices[:, None]
    for axis in (0, 1):  # means where a slice has too many pixels, interpolation where it has too few
        now = [shown.shape[2], shown.shape[3]]
        if size[axis] != now[axis]:
            mode = "area" if size[axis] < now[axis] else "bilinear"
            now[axis] = size[axis]
            shown = F.interpolate(shown, size=now, mode=mode, **({} if mode == "area" else {"align_corners": False}))
    up, left = ((side - length) // 2 for length in size)
    return F.pad(shown[:, 0], (left, side - size[1] - left, up, side - size[0] - up))


def cues(slices: np.ndarray, flat: float) -> list[float]:
    """What the intensities say that a picture of 0..1 does not: the shares of voxels that are air and fat in Hounsfield
    units, and of neighbours with the same value. The first number says that the others are told."""
    air = float(((slices >= -3100.0) & (slices < -500.0)).mean())
    fat = float(((slices >= -200.0) & (slices < -20.0)).mean())
    return [1.0, air, fat, flat][:CUES]


def same_neighbours(array: np.ndarray) -> float:
    """The share of neighbouring voxels [k, j, i] with exactly the same value, where at least one is not background.

    Near 1 in label maps and drawings, near 0 in scans. Background is the commonest value.
    """
    step = max(1, array.shape[0] // 24)
    chosen = array[step // 2 :: step]
    values, counts = np.unique(chosen.ravel()[:: max(1, chosen.size // 200_000)], return_counts=True)
    background = values[counts.argmax()]
    same = foreground = 0
    for axis in (1, 2):
        one, other = (np.take(chosen, range(n, chosen.shape[axis] - 1 + n), axis=axis) for n in (0, 1))
        inside = (one != background) | (other != background)
        foreground += int(inside.sum())
        same += int((inside & (one == other)).sum())
    return same / foreground if foreground else 0.0
