"""Which labels of a result and its reference belong together, and what they are called."""

from __future__ import annotations

import numpy as np

from medgan.evaluation.table import Evaluation
from medgan.volume import LabelMap, VolumeError


def label_names(result: LabelMap, reference: LabelMap) -> dict[int, str]:
    """A name of its own for every value that occurs in either, those of the reference first; else the value itself."""
    values = np.union1d(np.unique(reference.array), np.unique(result.array))
    named = result.labels | reference.labels
    names = {int(value): named[int(value)].name if int(value) in named else "" for value in values if value > 0}
    every = [name for name in names.values() if name]
    return {
        value: str(value) if not name else f"{name} ({value})" if every.count(name) > 1 else name
        for value, name in names.items()
    }


def renamed(result: LabelMap, reference: LabelMap) -> LabelMap:
    """The result with the values that its labels' names have in the reference; other names get values of their own.

    Raises :class:`VolumeError` for values without a name, or names that stand for two values.
    """
    values = {label.name.strip().lower(): value for value, label in reference.labels.items()}
    if len(values) < len(reference.labels):
        raise VolumeError("Two labels of the reference have one name, so labels can not be matched by name.")
    array = np.zeros(result.shape, dtype=np.int64)
    labels = {}
    free = 1 + max([0, *values.values(), int(reference.array.max())])
    for value in (int(value) for value in np.unique(result.array) if value > 0):
        if value not in result.labels:
            raise VolumeError(f"Label {value} of the result has no name, so it can not be matched by name.")
        name = result.labels[value].name.strip().lower()
        if name not in values:
            values[name], free = free, free + 1
        array[result.array == value] = values[name]
        labels[values[name]] = result.labels[value]
    return LabelMap(array, result.ijk_to_ras, labels)


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
