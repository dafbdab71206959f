"""Equal names get equal label values: programs that number segments in their order give one organ many values."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from medgan.labeltable import LabelTable, alike, unnamed
from medgan.segments import Mapping as Values
from medgan.training.data_checks import Loaded
from medgan.training.data_files import DataError
from medgan.volume import Label


def renumber(loaded: Loaded, known: Mapping[int, Label], taken: Collection[int]) -> None:
    """Give the labels of a case the values that their names have in the cases before it, and say so.

    ``known`` are the labels of those cases, ``taken`` all their values. Raises :class:`DataError`, see
    :func:`by_names`.
    """
    if not loaded.labels:
        return
    voxels = loaded.roles["labels"]
    array = voxels.arrays[0]
    given = by_names(loaded.labels, [int(value) for value in np.unique(array) if value], named(known), taken)
    changed = {value: target for value, target in given.items() if value != target}
    if not changed:
        return
    kind = np.int16 if max(given.values()) <= np.iinfo(np.int16).max else np.int32
    voxels.arrays = [Values(given.items(), kind)(array)]
    shown = ", ".join(f"'{loaded.labels[value].name}' {value} as {target}" for value, target in changed.items())
    loaded.messages.append(f"{voxels.source}: labels are numbered by their names as in the volumes before it: {shown}.")
    loaded.labels = {given.get(value, value): label for value, label in loaded.labels.items()}


def named(labels: Mapping[int, Label]) -> dict[int, Label]:
    """Those labels but the background whose names say more than their values."""
    return {
        value: label for value, label in labels.items() if value and alike(label.name) not in ("", unnamed(value).name)
    }


def by_names(
    found: Mapping[int, Label], values: Collection[int], known: Mapping[int, Label], taken: Collection[int]
) -> dict[int, int]:
    """The value that each of a case's ``values`` gets, so that equal names have equal values.

    A name that is ``known`` nowhere keeps its value, or gets a free one where another label has that. Raises
    :class:`DataError` where a value has two names and nothing says that the case is numbered otherwise.
    """
    names = {value: alike(label.name) for value, label in named(found).items()}
    different = [value for value in names if value in known and alike(known[value].name) != names[value]]
    if not different:
        return {value: value for value in values}
    table = LabelTable(dict(known))
    given = {value: target for value in names if (target := table.value_of_name(found[value].name)) is not None}
    moved = any(value != target for value, target in given.items())
    if not moved or len(set(names.values())) < len(values):
        value = different[0]
        raise DataError(
            f"It calls the label {value} '{found[value].name}', the volumes before it '{known[value].name}'; give "
            "equal labels equal names."
        )
    used = {*taken, *known, *given.values()}
    for value in sorted(set(values) - set(given), key=lambda value: (value in used, value)):
        given[value] = value if value not in used else max(used) + 1
        used.add(given[value])
    return given
