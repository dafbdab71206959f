"""A label map out of probability maps, one for each structure: at each voxel the likeliest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgan.grids import same_grid
from medgan.labeltable import LabelTable, unnamed
from medgan.labelvalues import Values, assigned
from medgan.segments import Segment, fitting, slabs
from medgan.steps import Steps, finished
from medgan.volume import Label, LabelMap, Volume, VolumeError


def most_probable(
    maps: Sequence[Volume], names: Sequence[str], table: LabelTable | None = None
) -> tuple[LabelMap, list[str]]:
    """At each voxel the number (1, 2, ...) of the map with the highest probability, 0 where background is likelier.

    The background has what the others leave: one minus their sum. Probabilities may also be given in percent. With a
    table, a map gets the value whose name it has. Returns also sentences about names that the table does not have.
    Raises :class:`VolumeError`.
    """
    return finished(most_probable_in_steps(maps, names, table))


def most_probable_in_steps(
    maps: Sequence[Volume], names: Sequence[str], table: LabelTable | None = None
) -> Steps[tuple[LabelMap, list[str]]]:
    """:func:`most_probable`, a little at a time."""
    first, top, lowest = maps[0], -np.inf, np.inf
    for each in maps:
        for slab in slabs(each.shape):
            held = each.array[slab]
            top, lowest = np.maximum(top, held.max()), np.minimum(lowest, held.min())  # NaN stays NaN
            yield 0
    if not (np.isfinite(top) and lowest >= 0):
        raise VolumeError("A probability map has values below zero or not finite; probabilities lie between 0 and 1.")
    if top > 100.0:
        raise VolumeError(f"A probability map has the value {top:g}; probabilities lie between 0 and 1 (or 100 %).")
    whole = 1.0 if top <= 1.001 else 100.0
    for each, name in zip(maps, names, strict=True):
        if not same_grid(each.shape, each.ijk_to_ras, first.shape, first.ijk_to_ras):
            raise VolumeError(f"'{name}' lies on another grid than '{names[0]}'; resample it first.")
    segments = [Segment(Label(name), 0, number + 1) for number, name in enumerate(names)]
    values, said = assigned(segments, Values.OWN if table is None else Values.TABLE, table)
    array = np.zeros(first.shape, fitting(max(values)))
    numbers = np.array([0, *values], array.dtype)
    for slab in slabs(first.shape):
        shares = np.stack([each.array[slab] for each in maps])
        rest = whole - shares.sum(axis=0)
        array[slab] = numbers[np.where(shares.max(axis=0) > rest, shares.argmax(axis=0) + 1, 0)]
        yield shares.size
    labels = {}
    for value, name in zip(values, names, strict=True):
        labels[value] = (
            table.labels[value] if table is not None and value in table else Label(name, unnamed(value).color)
        )
    return LabelMap(array, first.ijk_to_ras, labels), said
