"""Which grid super-resolution makes of a volume. Standard library only: a panel says it before PyTorch is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medgan.settings import Axis

SMALLEST_RATIO, LARGEST_RATIO = 1.2, 8.0

FEWEST_SLICES = 4

LARGEST_GAP = 0.98
"""Of the distance of the slices."""

AXES = "ijk"


@dataclass(frozen=True)
class GridPlan:
    """``axes``: "k", or "ijk" for all three. ``size`` in voxels and ``spacing_mm`` are those of the result, i, j, k."""

    axes: str
    ratio: float
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


def planned(
    size: Sequence[int], spacing_mm: Sequence[float], axis: Axis = Axis.AUTO, ratio: float = 0.0, gap_mm: float = 0.0
) -> GridPlan:
    """The grid of the result for a volume of that size and spacing along i, j, k.

    ``ratio`` 0 makes the voxels isotropic. Raises ``ValueError`` with one sentence for what is impossible.
    """
    if 0 < ratio < SMALLEST_RATIO:
        raise ValueError(f"The ratio must be {SMALLEST_RATIO:g} to {LARGEST_RATIO:g}, or 0 for isotropic voxels.")
    coarsest = max(range(3), key=lambda n: spacing_mm[n])
    if axis is Axis.AUTO and spacing_mm[coarsest] < SMALLEST_RATIO * min(spacing_mm):
        axis = Axis.ALL
    if axis is Axis.ALL:
        chosen, ratio = [0, 1, 2], ratio or 2.0
    else:
        chosen = [coarsest if axis is Axis.AUTO else AXES.index(axis.value)]
        ratio = ratio or min(LARGEST_RATIO, spacing_mm[chosen[0]] / min(spacing_mm))
        if ratio < SMALLEST_RATIO:
            raise ValueError(
                f"The voxels are not coarser along {AXES[chosen[0]]} than along the other axes: they are "
                "the finest of the volume; choose another axis or a ratio."
            )
    for n in chosen:
        if size[n] < FEWEST_SLICES:
            raise ValueError(f"Super-resolution along {AXES[n]} needs {FEWEST_SLICES} voxels; there are {size[n]}.")
        if gap_mm > LARGEST_GAP * spacing_mm[n]:
            raise ValueError(
                f"A gap of {gap_mm:g} mm leaves nothing of slices that are {spacing_mm[n]:.3g} mm apart; "
                "the gap must be smaller than their distance."
            )
    fine = [round(count * ratio) if n in chosen else count for n, count in enumerate(size)]
    steps = [step * count / new for step, count, new in zip(spacing_mm, size, fine, strict=True)]
    return GridPlan("".join(AXES[n] for n in chosen), ratio, _three(fine), _three(steps))


def _three(values: Sequence) -> tuple:
    i, j, k = values
    return i, j, k
