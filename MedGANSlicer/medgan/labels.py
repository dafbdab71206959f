"""Label maps out of segments and segments out of label maps: which value, who wins, and what is said about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from medgan.grids import same_grid
from medgan.labeltable import LARGEST_VALUE, LabelTable, unnamed
from medgan.labelvalues import Values, assigned, listed
from medgan.segments import Layer, Mapping, Segment, Segmentation, check_room, counted_in_steps, fitting, slabs
from medgan.steps import Steps, finished
from medgan.volume import Label, LabelMap, VolumeError

_MANY_VALUES = 100  # more than people draw, fewer than a scan has


class Overlap(Enum):
    """Which segment keeps a voxel that belongs to several."""

    LAST = "last"
    FIRST = "first"
    SMALLEST = "smallest"
    LARGEST = "largest"
    LAYERS = "layers"

    def label(self) -> str:
        return {
            Overlap.LAST: "the last in the list wins",
            Overlap.FIRST: "the first in the list wins",
            Overlap.SMALLEST: "the smallest wins",
            Overlap.LARGEST: "the largest wins",
            Overlap.LAYERS: "one label map a layer",
        }[self]


Allocate = Callable[[tuple[int, int, int], np.dtype], np.ndarray]
"""Makes the array of a result, filled with zeros, so that it can lie where the result is needed."""


@dataclass
class Converted:
    """Label maps made of segments: one, or one a layer.

    ``values`` has the label value of each segment in order, ``voxels`` how many voxels it has in the result, ``lost``
    how many the segments of a name lost to others. ``messages`` are sentences for the person.
    """

    label_maps: list[LabelMap]
    values: list[int]
    voxels: list[int]
    lost: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


def label_maps(
    segmentation: Segmentation,
    values: Values = Values.OWN,
    table: LabelTable | None = None,
    overlap: Overlap = Overlap.LAST,
    allocate: Allocate = np.zeros,
) -> Converted:
    """The label map of all segments; with ``Overlap.LAYERS`` as many as it takes to lose no voxel.

    The labels of a map name all its segments, also those without a voxel. Raises :class:`VolumeError`.
    """
    return finished(label_maps_in_steps(segmentation, values, table, overlap, allocate))


def label_maps_in_steps(
    segmentation: Segmentation,
    values: Values = Values.OWN,
    table: LabelTable | None = None,
    overlap: Overlap = Overlap.LAST,
    allocate: Allocate = np.zeros,
) -> Steps[Converted]:
    """:func:`label_maps`, a little at a time."""
    if not segmentation.segments:
        raise VolumeError("The segmentation has no segments; there is nothing to convert.")
    chosen, messages = assigned(segmentation.segments, values, table)
    labels = {value: segment.label for value, segment in zip(chosen, segmentation.segments, strict=True)}
    together = [list(range(len(segmentation.layers)))]
    groups = _disjoint_layers(segmentation) if overlap is Overlap.LAYERS else together
    kind = fitting(max(chosen))
    before: list[int] = []
    if len(segmentation.layers) > 1:
        before = yield from segmentation.voxels_in_steps()
    ranks = _ranks(segmentation, overlap, before)
    maps, after = [], [0] * len(chosen)
    for group in groups:
        check_room(segmentation.shape, kind.itemsize if len(group) == 1 else kind.itemsize + 4)
        array = allocate(segmentation.shape, kind)
        yield from _paint(segmentation, group, chosen, ranks, array)
        there = [number for number, segment in enumerate(segmentation.segments) if segment.layer in group]
        held = labels if len(groups) == 1 else {chosen[number]: labels[chosen[number]] for number in there}
        maps.append(LabelMap(array, segmentation.ijk_to_ras, held))
        counts = yield from counted_in_steps(array)
        for number in there:
            after[number] = counts.get(chosen[number], 0)
    lost: dict[str, int] = {}
    for segment, had, has in zip(segmentation.segments, before, after, strict=False):
        if had > has:
            lost[segment.label.name] = lost.get(segment.label.name, 0) + had - has
    if len(maps) > 1:
        messages.append(f"Segments overlap, so there are {len(maps)} label maps.")
    elif lost:
        messages.append(said_of_overlap(lost, overlap))
    empty = [segment.label.name for segment, count in zip(segmentation.segments, after, strict=True) if count == 0]
    if empty:
        messages.append(f"Without a voxel here, but in the table: {listed(empty)}.")
    return Converted(maps, chosen, after, lost, messages)


def segmentation_of(
    maps: Sequence[LabelMap], table: LabelTable | None = None, keep_empty: bool = False, about_values: bool = True
) -> tuple[Segmentation, dict[str, list[int]], list[str]]:
    """Every value of every label map its own segment; each map is one layer, on the grid of the first.

    Names, colours and terminology are those of ``table``, where it has none those of the map, else plain ones. With
    ``keep_empty`` the labels that a map or the table names but no voxel has become empty segments. Returns also
    ``{"unknown": values not in the table, "holes": values of the table without a voxel}``, and sentences: those of
    :func:`said_of_values`, unless ``about_values`` is False, and those about maps that look like scans.
    Raises :class:`VolumeError` for negative values, and for maps on other grids than the first.
    """
    return finished(segmentation_in_steps(maps, table, keep_empty, about_values))


def segmentation_in_steps(
    maps: Sequence[LabelMap], table: LabelTable | None = None, keep_empty: bool = False, about_values: bool = True
) -> Steps[tuple[Segmentation, dict[str, list[int]], list[str]]]:
    """:func:`segmentation_of`, a little at a time."""
    if not maps:
        raise VolumeError("There is no label map to convert.")
    first = maps[0]
    segments: list[Segment] = []
    occurring: set[int] = set()
    scans: list[str] = []
    for number, each in enumerate(maps):
        if not same_grid(each.shape, each.ijk_to_ras, first.shape, first.ijk_to_ras):
            raise VolumeError("The label maps lie on different grids; resample them onto one first.")
        values = yield from counted_in_steps(each.array)
        wrong = [value for value in values if not 0 < value <= LARGEST_VALUE]
        if wrong:
            raise VolumeError(
                f"The label map holds the value {min(wrong)}; label values are whole numbers from 1 to {LARGEST_VALUE}."
            )
        occurring |= set(values)
        nameless = sum(1 for value in values if _named(each.labels.get(value), table, value) is None)
        if nameless >= _MANY_VALUES and _changes_everywhere(each.array):
            this = f"Label map {number + 1}" if len(maps) > 1 else "This"
            scans.append(
                f"{this} looks like a scan and no label map: {nameless} values without a name change from voxel to "
                "voxel."
            )
        named = set(each.labels) | (set(table.labels) if table is not None and number == 0 else set())
        for value in sorted(set(values) | ((named - {0}) if keep_empty else set())):
            label = _named(each.labels.get(value), table, value) or unnamed(value)
            segments.append(Segment(label, number, value, value))
    known = set(table.labels) if table is not None else {value for each in maps for value in each.labels if value}
    report = {
        "unknown": sorted(occurring - known) if known else [],
        "holes": sorted(known - occurring) if table is not None or keep_empty else [],
    }
    layers = [Layer(each.array) for each in maps]
    said = said_of_values(report, table) if about_values else []
    return Segmentation(first.shape, first.ijk_to_ras, layers, segments), report, said + scans


def _changes_everywhere(array: np.ndarray) -> bool:
    """Whether most voxels of the middle slice differ from the one before them, as those of structures do not."""
    middle = array[array.shape[0] // 2]
    same = (middle[:, 1:] == middle[:, :-1])[middle[:, 1:] != 0]
    return bool(same.size) and float(same.mean()) < 0.5


def said_of_values(report: dict[str, list[int]], table: LabelTable | None) -> list[str]:
    """Sentences about values that are not in the table, and about its values that no voxel has."""
    source = f"'{table.name}'" if table is not None and table.name else "the table"
    said = []
    if report["unknown"]:
        said.append(f"Not in {source}, so not named by it: {listed(map(str, report['unknown']))}.")
    if report["holes"]:
        said.append(f"In {source} but without a voxel: {listed(map(str, report['holes']))}.")
    return said


def merged(parts: Sequence[Segmentation]) -> Segmentation:
    """The segments of several segmentations on one grid, one after the other. Raises :class:`VolumeError`."""
    layers: list[Layer] = []
    segments: list[Segment] = []
    for part in parts:
        if not same_grid(part.shape, part.ijk_to_ras, parts[0].shape, parts[0].ijk_to_ras):
            raise VolumeError("The segmentations lie on different grids; resample them onto one first.")
        for each in part.segments:
            segments.append(dataclasses.replace(each, layer=each.layer + len(layers)))
        layers += part.layers
    return Segmentation(parts[0].shape, parts[0].ijk_to_ras, layers, segments)


def renamed(segmentation: Segmentation, table: LabelTable) -> dict[str, list[int]]:
    """Give segments the names, colours and terminology that a table has for their values; reports as above."""
    known = {segment.known_value for segment in segmentation.segments}
    for segment in segmentation.segments:
        segment.label = _named(segment.label, table, segment.known_value) or segment.label
    return {"unknown": sorted(known - set(table.labels)), "holes": table.unused(known)}


def _named(own: Label | None, table: LabelTable | None, value: int) -> Label | None:
    """What the table says of a value, else what is known of it; a table without codes does not take codes away."""
    said = table.labels.get(value) if table is not None else None
    if said is not None and own is not None and not said.terminology:
        return replace(said, terminology=own.terminology)
    return said or own


def _ranks(segmentation: Segmentation, overlap: Overlap, voxels: Sequence[int]) -> list[int]:
    """1 for the segment that loses against all others, up to the number of segments."""
    numbers = list(range(len(segmentation.segments)))
    if overlap is Overlap.FIRST:
        numbers.reverse()
    elif overlap in (Overlap.SMALLEST, Overlap.LARGEST) and voxels:
        numbers.sort(key=lambda number: voxels[number], reverse=overlap is Overlap.SMALLEST)
    ranks = [0] * len(numbers)
    for rank, number in enumerate(numbers, start=1):
        ranks[number] = rank
    return ranks


def _paint(
    segmentation: Segmentation, layers: Sequence[int], values: Sequence[int], ranks: Sequence[int], array: np.ndarray
) -> Steps[None]:
    """Fill ``array`` with the values of the segments of highest rank."""
    if len(layers) == 1:
        pairs = [(segmentation.segments[n].value, values[n]) for n in segmentation.of_layer(layers[0])]
        mapping = Mapping(pairs, array.dtype)
        source, place = segmentation.layers[layers[0]].within(array.shape)
        target = array[place]
        for slab in slabs(source.shape) if source.size else ():
            mapping(source[slab], target[slab])
            yield source[slab].size
        return
    kind = np.dtype(np.uint16 if len(ranks) < 1 << 16 else np.uint32)
    highest = np.zeros(array.shape, kind)
    for layer in layers:
        mapping = Mapping([(segmentation.segments[n].value, ranks[n]) for n in segmentation.of_layer(layer)], kind)
        source, place = segmentation.layers[layer].within(array.shape)
        target = highest[place]
        for slab in slabs(source.shape) if source.size else ():
            np.maximum(target[slab], mapping(source[slab]), out=target[slab])
            yield source[slab].size
    value_of_rank = np.zeros(len(ranks) + 1, array.dtype)
    value_of_rank[list(ranks)] = values
    for slab in slabs(array.shape):
        np.take(value_of_rank, highest[slab], out=array[slab], mode="clip")
        yield array[slab].size


def _disjoint_layers(segmentation: Segmentation) -> list[list[int]]:
    """The layers in as few groups as a simple search finds, no two of a group overlapping."""
    groups: list[list[int]] = []
    taken: list[np.ndarray] = []
    for number, layer in enumerate(segmentation.layers):
        mapping = Mapping([(segmentation.segments[n].value, 1) for n in segmentation.of_layer(number)], bool)
        source, place = layer.within(segmentation.shape)
        mask = mapping(source)
        for group, there in zip(groups, taken, strict=True):
            if not (there[place] & mask).any():
                group.append(number)
                there[place] |= mask
                break
        else:
            groups.append([number])
            taken.append(np.zeros(segmentation.shape, bool))
            taken[-1][place] = mask
    return groups


def said_of_overlap(lost: dict[str, int], overlap: Overlap) -> str:
    """The sentence about segments that lost voxels to others."""
    shown = listed(f"'{name}' {count}" for name, count in lost.items())
    return f"Where segments overlap, {overlap.label()}; voxels lost: {shown}."
