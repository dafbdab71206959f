"""Which labels of a result and its reference belong together, and what they are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from medgan import segments
from medgan.evaluation.table import Evaluation
from medgan.volume import Label, LabelMap, VolumeError

Key = TypeVar("Key", bound=Hashable)
"""What tells a label from the others of its file or evaluation: its value, or its name in small letters."""


@dataclass(eq=False)
class Layers(LabelMap):
    """Labels that overlap: ``array`` has one of them in each voxel, ``layers`` hold them whole.

    The layers lie on the grid of the array, and no value stands in two of them.
    """

    layers: tuple[LabelMap, ...] = ()


def layered(maps: Sequence[LabelMap]) -> LabelMap:
    """Label maps on one grid as one: the first itself if there are no others, else :class:`Layers`."""
    if len(maps) == 1:
        return maps[0]
    array = maps[0].array
    for each in maps[1:]:
        array = np.where(each.array != 0, each.array, array)
    labels = {value: label for each in maps for value, label in each.labels.items()}
    return Layers(array, maps[0].ijk_to_ras, labels, tuple(maps))


def layers_of(labels: LabelMap) -> tuple[LabelMap, ...]:
    """The layers in which no labels overlap: the map itself, unless it is :class:`Layers`."""
    return labels.layers if isinstance(labels, Layers) else (labels,)


def mask_of(labels: LabelMap, value: int) -> np.ndarray:
    """Where a label is: booleans, also in the voxels that it shares with others."""
    mask, *others = (layer.array == value for layer in layers_of(labels))
    for other in others:
        mask |= other
    return mask


def values_of(labels: LabelMap) -> list[int]:
    """The label values that have a voxel, in their order."""
    return sorted({int(value) for layer in layers_of(labels) for value in np.unique(layer.array) if value > 0})


def label_names(result: LabelMap, reference: LabelMap) -> dict[int, str]:
    """A name of its own for every value that occurs in either, those of the reference first; else the value itself.

    Where neither has a voxel, for every value that the reference names, or else the result.
    """
    values = sorted({*values_of(reference), *values_of(result)})
    values = values or sorted(value for value in reference.labels or result.labels if value > 0)
    return names_of(values, result.labels | reference.labels)


def names_of(values: Iterable[Key], labels: Mapping[Key, Label]) -> dict[Key, str]:
    """A name of its own for every value: that of its label, with the value where two have one; else the value."""
    names = {value: labels[value].name if value in labels and labels[value].name else str(value) for value in values}
    while len(set(names.values())) < len(names):  # also where a name is the number or the longer name of another
        every = Counter(names.values())
        names = {value: f"{name} ({value})" if every[name] > 1 else name for value, name in names.items()}
    return names


def renamed(result: LabelMap, reference: LabelMap) -> LabelMap:
    """The result with the values that its labels' names have in the reference; other names get values of their own.

    Raises :class:`VolumeError` for values without a name, or names that stand for two values.
    """
    values = {label.name.strip().lower(): value for value, label in reference.labels.items()}
    if len(values) < len(reference.labels):
        raise VolumeError("Two labels of the reference have one name, so labels can not be matched by name.")
    targets: dict[int, int] = {}
    free = 1 + max([0, *values.values(), *values_of(reference)])
    for value in values_of(result):
        if value not in result.labels:
            raise VolumeError(f"Label {value} of the result has no name, so it can not be matched by name.")
        name = result.labels[value].name.strip().lower()
        if name not in values:
            values[name], free = free, free + 1
        if values[name] in targets.values():
            raise VolumeError("Two labels of the result have one name, so labels can not be matched by name.")
        targets[value] = values[name]
    labels = {target: result.labels[value] for value, target in targets.items()}
    moved = segments.Mapping(targets.items(), np.int64)
    return layered([LabelMap(moved(layer.array), result.ijk_to_ras, labels) for layer in layers_of(result)])


def tell_names(evaluation: Evaluation, result: LabelMap, reference: LabelMap) -> None:
    """Say it where one value has two names."""
    for value, label in reference.labels.items():
        other = result.labels.get(value)
        if other and other.name.strip().lower() != label.name.strip().lower():
            evaluation.tell(
                f"Label {value} is '{other.name}' in a result and '{label.name}' in its reference; labels are matched "
                "by value, unless they are to be matched by name (by_name)."
            )
            return


def one_name_each(evaluation: Evaluation, called: Iterable[tuple[Key, str]]) -> dict[Key, str]:
    """A name of its own for every label of an evaluation, from what each case calls it ("" for no name).

    That is the first name that it is given. Says it where another case gives it another.
    """
    called = list(called)
    first: dict[Key, Label] = {}
    for key, name in called:
        if name:
            first.setdefault(key, Label(name))
    for key, name in called:
        if name and name.strip().lower() != first[key].name.strip().lower():
            evaluation.tell(
                f"Label {key} is '{first[key].name}' in one case and '{name}' in another; labels are matched by value, "
                "unless they are to be matched by name (by_name)."
            )
            break
    return names_of(dict.fromkeys(key for key, _ in called), first)
