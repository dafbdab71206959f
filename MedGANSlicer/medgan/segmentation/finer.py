"""Thick slices are divided anew before a network looks at them: between them a straight line is a poor guess."""

from __future__ import annotations

import numpy as np

from medgan.gridplan import LARGEST_RATIO
from medgan.inference import ChosenDevice, MemoryRefused
from medgan.models import ModelCard, find
from medgan.progress import Progress, silent
from medgan.restoration.step import Work, measured, network_of
from medgan.restoration.superres import prepare
from medgan.segmentation.grid import SAME_SPACING, Grid, resampled, working_grid
from medgan.segmentation.intensities import background_of, body_box
from medgan.settings import Axis, EnhanceSettings
from medgan.volume import spacing_of

THICK = 1.5
"""Slices are thick from this multiple of the spacing that the network wants, and of the voxels' other sides."""

FEWEST_SLICES = 6
"""With fewer there is nothing to learn from their neighbours."""


def thick_axis(grid: Grid, wanted_mm: float) -> int | None:
    """The axis (0: i) along which the voxels are thick slices for a network that wants that spacing; None for none."""
    spacing = spacing_of(grid.ijk_to_ras)
    axis = max(range(3), key=lambda n: spacing[n])
    others = max(step for n, step in enumerate(spacing) if n != axis)
    thick = spacing[axis] > THICK * max(wanted_mm, others)
    return axis if thick and grid.shape[2 - axis] >= FEWEST_SLICES else None


def with_finer_slices(
    array: np.ndarray, grid: Grid, wanted_mm: float, model: str, chosen: ChosenDevice, memory_limit_gb: float,
    told: list[str], progress: Progress = silent,
) -> tuple[np.ndarray, Grid, ModelCard | None]:  # fmt: skip
    """A volume [k, j, i] with its thick slices divided to about the spacing wanted, cut to the body, its grid, and the
    model that did it.

    What has no thick slices comes back as it is, and so does what there is no memory for, with a sentence in ``told``.
    Raises ``ModelError`` when the super-resolution model can not be used.
    """
    axis = thick_axis(grid, wanted_mm)
    if axis is None:
        return array, grid, None
    own = spacing_of(grid.ijk_to_ras)
    plane = [step if n == axis or step > (1 - SAME_SPACING) * wanted_mm else wanted_mm for n, step in enumerate(own)]
    coarse = working_grid(grid, plane, None)
    slices = resampled(array, grid, coarse, background_of(array))
    box = body_box(slices, coarse)
    if box[2 - axis].stop - box[2 - axis].start < FEWEST_SLICES:
        return array, grid, None
    slices, coarse = np.ascontiguousarray(slices[box]), coarse.box(box)
    settings = EnhanceSettings(
        model, axis=Axis("ijk"[axis]), ratio=min(LARGEST_RATIO, own[axis] / wanted_mm), memory_limit_gb=memory_limit_gb
    )
    card = find(model)
    work = Work(settings, chosen, progress=progress)
    try:
        state = measured(slices, coarse.ijk_to_ras, settings)
        step = prepare(state, card, work)
        fine = step.apply(state, network_of(card, 0.0, work))
    except MemoryRefused:
        told.append(f"The slices of {own[axis]:.3g} mm were interpolated: there is too little memory for '{model}'.")
        return array, grid, None
    told += [sentence for sentence in work.messages if sentence not in told]
    there = Grid(fine.shape, step.ijk_to_ras)
    told.append(
        f"The slices of {own[axis]:.3g} mm were divided by '{model}' to {spacing_of(there.ijk_to_ras)[axis]:.3g} mm "
        "before the network looked at them."
    )
    return fine, there, card
