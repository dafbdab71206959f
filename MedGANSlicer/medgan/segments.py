"""Segments that may overlap, and the label maps they become and come from: label values stay exact.

A segmentation keeps its voxels as layers: within one layer the segments do not overlap, so it is one array of label
values. That is how 3D Slicer and its ``.seg.nrrd`` files hold it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from medgan.memory import free_memory_bytes
from medgan.steps import Steps, finished
from medgan.volume import Label, VolumeError, checked_matrix

_SLAB_VOXELS = 1 << 20  # what is done in one go: a few milliseconds
_ALWAYS_THERE = 100_000_000  # bytes; asking what is free takes longer than to get so few
_TABLE_VALUES = 1 << 24  # label values up to here are mapped by a table, larger ones by a search


@dataclass
class Segment:
    """One segment: its name, colour and terminology, and where its voxels are.

    The voxels are those of ``layers[layer]`` that hold ``value``. ``own_value`` is the label value it is known by,
    if that is another one; editing a segment can change ``value``, but not what it is known by. ``algorithm`` names
    the program or model that drew it, '' where that is not known; ``edited``: its voxels were changed afterwards.
    """

    label: Label
    layer: int
    value: int
    own_value: int = 0
    id: str = ""
    algorithm: str = ""
    edited: bool = False

    @property
    def known_value(self) -> int:
        return self.own_value or self.value


@dataclass(eq=False)
class Layer:
    """Label values ``array[k, j, i]`` whose first voxel lies at ``start`` (k, j, i) of the segmentation's grid."""

    array: np.ndarray
    start: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype.kind not in "iu":
            raise VolumeError(f"A layer holds integers along three axes, this one holds {self.array.dtype}.")

    def within(self, shape: tuple[int, int, int]) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
        """The part of the array that lies on a grid of this shape, and the place of that part on the grid."""
        low = [max(0, -at) for at in self.start]
        high = [min(n, whole - at) for n, whole, at in zip(self.array.shape, shape, self.start, strict=True)]
        inside = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
        k, j, i = (slice(part.start + at, part.stop + at) for part, at in zip(inside, self.start, strict=True))
        return self.array[inside], (k, j, i)


@dataclass(eq=False)
class Segmentation:
    """Segments in the order of their list, on one grid of ``shape`` (k, j, i) placed by ``ijk_to_ras``.

    Raises :class:`VolumeError` for two segments that share the voxels of one value.
    """

    shape: tuple[int, int, int]
    ijk_to_ras: np.ndarray
    layers: list[Layer] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ijk_to_ras = checked_matrix(self.ijk_to_ras)
        places = [(segment.layer, segment.value) for segment in self.segments]
        if len(set(places)) < len(places):
            twice = next(place for place in places if places.count(place) > 1)
            names = [s.label.name for s in self.segments if (s.layer, s.value) == twice]
            raise VolumeError(f"The segments '{names[0]}' and '{names[1]}' have the same voxels in one layer.")

    def of_layer(self, layer: int) -> list[int]:
        """The places in ``segments`` of those in a layer."""
        return [number for number, segment in enumerate(self.segments) if segment.layer == layer]

    def mask(self, number: int) -> np.ndarray:
        """Where one segment is: booleans on the whole grid. A layer at a time is quicker than a segment at a time."""
        segment = self.segments[number]
        array, place = self.layers[segment.layer].within(self.shape)
        whole = np.zeros(self.shape, bool)
        whole[place] = array == segment.value
        return whole

    def voxels(self) -> list[int]:
        """How many voxels each segment has."""
        return finished(self.voxels_in_steps())

    def voxels_in_steps(self) -> Steps[list[int]]:
        counts = [0] * len(self.segments)
        for number, layer in enumerate(self.layers):
            there = yield from counted_in_steps(layer.within(self.shape)[0])
            for place in self.of_layer(number):
                counts[place] = there.get(self.segments[place].value, 0)
        return counts


class Mapping:
    """Label values to other ones, all that are not named to 0; quick for arrays of many voxels."""

    def __init__(self, pairs: Iterable[tuple[int, int]], dtype: np.dtype | type) -> None:
        self.pairs = sorted((source, target) for source, target in pairs if source != 0)
        self.dtype = np.dtype(dtype)
        self._table: np.ndarray | None = None
        if not self.pairs or self.pairs[-1][0] < _TABLE_VALUES:
            self._table = np.zeros((self.pairs[-1][0] if self.pairs else 0) + 2, self.dtype)  # the last one stays 0
            for source, target in self.pairs:
                self._table[source] = target

    def __call__(self, array: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        if self._table is not None:
            if array.dtype.kind == "i":  # as unsigned, negative values lie beyond the table, where the 0 is
                array = array.view(array.dtype.str.replace("i", "u"))
            last = len(self._table) - 1
            if array.dtype.itemsize <= 2:
                whole = 1 << 8 * array.dtype.itemsize
                if last < whole - 1:
                    self._table = np.pad(self._table, (0, whole - 1 - last))
            else:
                array = np.minimum(array, array.dtype.type(last))
            return np.take(self._table, array, out=out, mode="clip")
        sources = np.array([source for source, _ in self.pairs], np.int64)
        targets = np.array([target for _, target in self.pairs], self.dtype)
        places = np.minimum(np.searchsorted(sources, array), len(sources) - 1)
        mapped = np.where(sources[places] == array, targets[places], self.dtype.type(0))
        if out is None:
            return mapped
        out[...] = mapped
        return out


def counted_in_steps(array: np.ndarray) -> Steps[dict[int, int]]:
    """The values that occur in an integer array and how often; 0 is left out."""
    if array.size == 0:
        return {}
    top, bottom = int(array.max()), int(array.min())
    yield array.size
    if bottom < 0 or top >= _TABLE_VALUES:
        values, counts = np.unique(array, return_counts=True)
    else:
        total = np.zeros(top + 1, np.int64)
        for slab in slabs(array.shape):
            part = np.bincount(array[slab].ravel(), minlength=1)
            total[: len(part)] += part
            yield array[slab].size
        values = np.flatnonzero(total)
        counts = total[values]
    return {int(value): int(count) for value, count in zip(values, counts, strict=True) if value != 0}


def slabs(shape: Sequence[int]) -> Iterator[slice]:
    """Slices along the first axis that together cover it, of about a million voxels each."""
    step = max(1, _SLAB_VOXELS // max(1, int(np.prod(shape[1:]))))
    for first in range(0, shape[0], step):
        yield slice(first, min(first + step, shape[0]))


def check_room(shape: Sequence[int], bytes_a_voxel: int, remedy: str = "take a coarser grid") -> None:
    """Raise :class:`VolumeError` for label values (k, j, i) that do not fit into the memory that is free.

    VTK ends the whole program when it gets no memory, and Linux does when it has promised too much of it.
    """
    needed = math.prod(shape) * bytes_a_voxel
    if needed > _ALWAYS_THERE and needed > (free := free_memory_bytes()):
        raise VolumeError(
            f"A label map of {' x '.join(map(str, reversed(shape)))} voxels does not fit into memory: it needs "
            f"{needed / 1e9:.3g} GB and {free / 1e9:.3g} GB are free; {remedy}."
        )


def fitting(top: int) -> np.dtype:
    """The integer type for label values up to ``top``: those that 3D Slicer shows as label maps."""
    return np.dtype(np.uint8 if top <= 255 else np.int16 if top <= 32767 else np.int32)
