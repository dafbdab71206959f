"""A list of files to enhance: a CSV with one row for each, and settings of its own where it has them."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from medgan.batch import Item
from medgan.cells import separator_of
from medgan.models import find_chain
from medgan.plan import EXTRAS, Places, UsageError, checked_frames, named, resolved_model, volume_files
from medgan.settings import EnhanceSettings
from medgan.volume import FORMATS, file_format

OPTIONS = {
    "noise_sigma": "noise",
    "memory_limit_gb": "memory",
    "slice_gap_mm": "slice-gap",
    "blur_sigma": "blur",
    "fit_from_scratch": "from-scratch",
}
"""Options of the command line that are called otherwise than their settings."""

FIT_MINUTES = 2.0
"""How long ``--fit`` takes unless told."""

_BEYOND = "\0"
"""Takes the place of the name of a column in a row that has more cells than there are columns."""

YES, NO = ("yes", "true", "1"), ("no", "false", "0", "")


def read(path: Path, places: Places) -> list[Item]:
    """One item for each row; one that can not be used has its problem. Raises :class:`UsageError` for the list.

    Columns are ``input``, and if you like ``output``, ``difference``, ``residual``, ``uncertainty`` (paths
    relative to the list), ``frames`` and any setting, by its own name or that of its option. Empty cells say nothing.
    """
    rows = _rows(path)[0]
    items = []
    for line, row in rows:
        try:
            items.append(_item(row, path.parent, places))
        except ValueError as error:
            source = path.parent / row["input"] if row.get("input") else path
            sentence = str(error)
            for column in row:
                sentence = sentence.replace(f"Setting '{_meaning(column)}'", f"Column '{column}'")
            problem = f"Line {line} of '{path.name}': {sentence}"
            items.append(Item(source, source, problem=problem))
    return _without_twins(items, [line for line, _ in rows], path.name)


def unknown_columns(path: Path) -> list[str]:
    """The columns of the list that mean nothing here. Raises :class:`UsageError`."""
    return [name for name in _rows(path)[1] if name and _meaning(name) is None]


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Line number and cells of every row that is not empty, and the names of the columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UsageError(f"List '{path}' can not be read: {reason}.") from error
    reader = csv.reader(io.StringIO(text), delimiter=separator_of(text))
    try:
        columns = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, _row(columns, [cell.strip() for cell in cells])) for cells in reader]
    except csv.Error as error:
        raise UsageError(f"List '{path}' can not be read: {error}.") from error
    if "input" not in [name.lower() for name in columns]:
        raise UsageError(f"List '{path}' has no column 'input'; its first line names the columns, one of them 'input'.")
    meanings = [meaning for name in columns if (meaning := _meaning(name))]
    for meaning in meanings:
        if meanings.count(meaning) > 1:
            raise UsageError(f"List '{path}' has two columns that mean '{meaning}'; leave one of them out.")
    used = [(line, _lowered(row)) for line, row in rows if any(row.values())]
    if not used:
        raise UsageError(f"List '{path}' has no rows below the names of its columns.")
    return used, columns


def _row(columns: list[str], cells: list[str]) -> dict[str, str]:
    beyond = {_BEYOND: "yes"} if any(cells[len(columns) :]) else {}
    return dict(zip(columns, cells, strict=False)) | beyond


def _lowered(row: Mapping[str, str]) -> dict[str, str]:
    return {name.lower() if _meaning(name) else name: cell for name, cell in row.items()}


def _meaning(column: str) -> str | None:
    """The setting or path that a column stands for, or None."""
    name = column.lower()
    if name in ("input", "output", "frames", "fit", *EXTRAS):
        return name
    settings = {option.replace("-", "_"): setting for setting, option in OPTIONS.items()}
    underlined = name.replace("-", "_")
    setting = settings.get(underlined, underlined)
    return setting if setting in EnhanceSettings.__dataclass_fields__ else None


def _item(row: Mapping[str, str], base: Path, places: Places) -> Item:
    """Raises ``ValueError`` with the rest of a sentence that begins with the line's number."""
    if _BEYOND in row:
        raise ValueError(
            "it has more cells than there are columns; write numbers with a point and put cells with a separator into "
            "quotation marks."
        )
    if not row.get("input"):
        raise ValueError("it names no input.")
    files = volume_files(base / row["input"])
    if len(files) > 1:
        raise ValueError(f"'{row['input']}' holds several volumes; give them a row each.")
    if places.out is not None:
        item = named(files[0], places)
    elif row.get("output"):
        item = Item(files[0], files[0])
    else:
        raise ValueError("it names no output; add a column 'output', or --out FOLDER.")
    if row.get("output"):
        if not file_format(row["output"]):
            raise ValueError(f"'{row['output']}' is not the name of a volume file; end it with {', '.join(FORMATS)}.")
        item = dataclasses.replace(item, target=base / row["output"])
        if places.out is None:
            by_folder = named(item.target, dataclasses.replace(places, out=item.target.parent))
            item = dataclasses.replace(item, **{name: getattr(by_folder, name) for name in EXTRAS})
    own: dict[str, Any] = {name: base / row[name] for name in EXTRAS if row.get(name)}
    for name, place in own.items():
        if not file_format(place):
            raise ValueError(f"'{row[name]}' is not the name of a volume file; end it with {', '.join(FORMATS)}.")
    item = dataclasses.replace(
        item,
        **own,
        make_folders=True,
        changes=tuple(_changes(row, base).items()),
        frames=checked_frames(row.get("frames", "")),
    )
    settings = item.settings(EnhanceSettings())  # raises for values out of their range
    if row.get("model"):
        find_chain(settings.model)
    return item


def _changes(row: Mapping[str, str], base: Path) -> dict[str, Any]:
    hints = typing.get_type_hints(EnhanceSettings)
    changes: dict[str, Any] = {}
    for column, cell in row.items():
        setting = _meaning(column)
        if not cell or setting in (None, "input", "output", "frames", *EXTRAS):
            continue
        if setting in ("fit", "fit_from_scratch") and _yes(column, cell):
            changes.setdefault("fit_minutes", FIT_MINUTES)
        if setting == "fit":
            if not _yes(column, cell):
                changes |= {"fit_minutes": 0.0, "fit_from_scratch": False}
            continue
        changes[setting] = resolved_model(cell, base) if setting == "model" else _value(column, cell, hints[setting])
    return changes


def _value(column: str, cell: str, kind: type) -> Any:
    if kind is bool:
        return _yes(column, cell)
    try:
        return kind(cell.lower() if issubclass(kind, Enum) else cell)
    except ValueError:
        if issubclass(kind, Enum):
            choices = ", ".join(str(choice.value) for choice in kind)
            raise ValueError(f"'{column}' is '{cell}'; it must be one of {choices}.") from None
        raise ValueError(f"'{column}' is '{cell}'; it must be a {'whole ' if kind is int else ''}number.") from None


def _yes(column: str, cell: str) -> bool:
    if cell.lower() not in (*YES, *NO):
        raise ValueError(f"'{column}' is '{cell}'; it must be yes or no.")
    return cell.lower() in YES


def _without_twins(items: list[Item], lines: list[int], name: str) -> list[Item]:
    """The items, with the problem of those that would write what an earlier one writes."""
    owners: dict[Path, int] = {}
    checked = []
    for item, line in zip(items, lines, strict=True):
        for target in item.targets.values() if not item.problem else ():
            first = owners.setdefault(Path(os.path.abspath(target)), line)
            if first != line and not item.problem:
                item = dataclasses.replace(
                    item, problem=f"Line {line} of '{name}': it would write '{target}', as line {first} does."
                )
        checked.append(item)
    return checked
