"""A table of label values: the name, colour and terminology of each, apart from any image.

Reads and writes the tables of other programs (:mod:`medgan.tablefiles`). Imports without torch and SimpleITK.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medgan import terminology
from medgan.volume import Label, VolumeError

LARGEST_VALUE = 2**31 - 1

LARGEST_IN_SLICER = 1_000_000
"""A colour table has one row for every value up to the largest label; 3D Slicer reads no more rows from a file."""


class TableError(ValueError):
    """A table that can not be used; the text is one sentence for a person."""


@dataclass
class LabelTable:
    """What label values mean: ``labels[value]`` is a :class:`Label`; 0 is background and not in it.

    ``name`` says where the table is from. Raises :class:`TableError` for values that no label map can hold.
    """

    labels: dict[int, Label] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        for value in self.labels:
            checked_value(value, self.name or "the table")
        self.labels.pop(0, None)

    def __contains__(self, value: object) -> bool:
        return value in self.labels

    def value_of_name(self, name: str) -> int | None:
        """The value that is called so; None when there is none or several."""
        return _only(self.values_of_name(name))

    def values_of_name(self, name: str) -> list[int]:
        """All values that are called so. Case, '-', '_' and ' ' do not count."""
        return [value for value, label in self.labels.items() if alike(label.name) == alike(name)]

    def value_of_terminology(self, entry: str) -> int | None:
        """The value whose terminology has the same codes; None when there is none or several."""
        return _only(self.values_of_terminology(entry))

    def values_of_terminology(self, entry: str) -> list[int]:
        """All values whose terminology has the same codes."""
        return [value for value, label in self.labels.items() if terminology.same(label.terminology, entry)]

    def unused(self, values: Iterable[int]) -> list[int]:
        """Those of the table that are not among the values, in order: the holes of a label map."""
        return sorted(set(self.labels) - set(values))


def whole_numbers(array: np.ndarray, called: str) -> np.ndarray:
    """Voxels as label values: those with fractions as int32, others as they are.

    Raises :class:`VolumeError`, in which ``called`` names them, for what is no whole number or too large.
    """
    if array.dtype.kind != "f":
        return array
    if not np.isfinite(array).all() or not np.array_equal(array, np.rint(array)):
        raise VolumeError(f"{called} has voxels that are not whole numbers; a label map has only these.")
    largest = float(np.abs(array).max())  # as float32 would round the bound
    if largest > LARGEST_VALUE:
        raise VolumeError(
            f"{called} has voxels up to {largest:.4g}; label values are whole numbers up to {LARGEST_VALUE}."
        )
    return array.astype(np.int32)


def unnamed(value: int) -> Label:
    """The label of a value nobody named: "label 7", in a colour that differs from that of its neighbours."""
    return Label(f"label {value}", default_color(value))


def default_color(value: int) -> tuple[float, float, float]:
    """A colour for a value, always the same: hues a golden angle apart, so that neighbours are easy to tell apart."""
    hue = value * 0.618033988749895 % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.55, 0.75, 0.95)[value % 3], (0.95, 0.8)[value // 3 % 2])
    return tuple(round(part * 255) / 255 for part in (red, green, blue))  # type: ignore[return-value]


def read_table(path: str | Path) -> LabelTable:
    """The table in a file, or a built-in one: 'freesurfer'. Raises :class:`TableError` with one sentence."""
    from medgan import freesurfer, tablefiles

    if str(path).lower() == "freesurfer" and not Path(path).exists():
        return freesurfer.table()
    return tablefiles.read(Path(path))


def write_table(table: LabelTable | Mapping[int, Label], path: str | Path) -> list[str]:
    """Write the table in the format that the ending names. Returns what that format could not hold, in sentences.

    The file appears complete or not at all. Raises :class:`TableError`.
    """
    from medgan import tablefiles

    return tablefiles.write(table if isinstance(table, LabelTable) else LabelTable(dict(table)), Path(path))


def checked_value(value: object, source: str) -> int:
    """The value as an int. Raises :class:`TableError` unless it is a whole number that a label map can hold."""
    try:
        number = int(float(value))  # type: ignore[arg-type]  # pandas writes 1.0
        whole = number == float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number, whole = 0, False
    if isinstance(value, bool) or not whole or not 0 <= number <= LARGEST_VALUE:
        raise TableError(
            f"'{value}' in {source} is not a label value; these are whole numbers from 0 to {LARGEST_VALUE}."
        )
    return number


def alike(name: str) -> str:
    """A name as it is compared: without case and without the difference of '-', '_' and ' '."""
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def _only(values: list[int]) -> int | None:
    return values[0] if len(values) == 1 else None
