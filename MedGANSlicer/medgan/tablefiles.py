"""Label tables as files: CSV, JSON, ITK-SNAP label descriptions, and the colour tables of 3D Slicer and FreeSurfer.

A table without colours gets the colours of :func:`medgan.labeltable.default_color`, one without names "label 7".
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medgan.labeltable import LARGEST_IN_SLICER, LabelTable, TableError, checked_value, default_color, unnamed
from medgan.staging import put_text
from medgan.terminology import Code, Terminology, parsed
from medgan.volume import Label

ENDINGS = (".csv", ".tsv", ".json", ".label", ".ctbl", ".txt")
"""Endings of the files that are read and written; .txt is read as what it holds and written as 3D Slicer's."""

_PARTS = ("Category", "Type", "TypeModifier", "Region", "RegionModifier")
_FIELDS = ("CodingScheme", "CodeValue", "CodeMeaning")
TERMINOLOGY_COLUMNS = tuple(f"{part}_{field}" for part in _PARTS for field in _FIELDS)
"""The columns in which 3D Slicer (5.8 and newer) keeps the terminology of a label."""

_NAMES = {
    "value": ("labelvalue", "value", "label", "id", "index", "number", "no", "labelid", "integerlabel"),
    "name": ("name", "labelname", "structure", "structurename", "segment", "description", "text"),
    "red": ("colorr", "r", "red"),
    "green": ("colorg", "g", "green"),
    "blue": ("colorb", "b", "blue"),
    "color": ("color", "colour", "hex", "rgb"),
    "terminology": ("terminology",),
}
_KNOWN = {"colora", *(re.sub(r"[^a-z]", "", title.lower()) for title in TERMINOLOGY_COLUMNS)}
_SNAP = re.compile(r'^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.eE+-]+)\s+(\d)\s+(\d)\s+"(.*)"\s*$')
_SNAP_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


def read(path: Path) -> LabelTable:
    """The table in a file. Raises :class:`TableError` with one sentence on what is wrong with it."""
    if not path.is_file():
        raise TableError(f"There is no file '{path}'; give a table of labels, or 'freesurfer' for the built-in one.")
    if path.suffix.lower() not in ENDINGS:
        raise TableError(f"'{path.name}' is not a label table by its ending; readable are {', '.join(ENDINGS)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise TableError(f"'{path}' can not be read: {error.strerror or error}.") from error
    if "\0" in text:
        raise TableError(f"'{path.name}' is no plain text; save it as text in UTF-8.")
    if not text.strip():
        raise TableError(f"'{path.name}' is empty; a label table has at least one value.")
    labels = _parsed(text, path)
    if not labels:
        raise TableError(f"'{path.name}' names no label value; a label table has at least one.")
    return LabelTable(labels, path.name)


def _parsed(text: str, path: Path) -> dict[int, Label]:
    kind = path.suffix.lower()
    if kind == ".json":
        return _from_json(text, path.name)
    return _from_columns(text, path.name) if kind in (".csv", ".tsv") else _from_lines(text, path.name)


def write(table: LabelTable, path: Path) -> list[str]:
    """Write the table; returns sentences on what the format could not hold. Raises :class:`TableError`."""
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise TableError(f"'{path.name}' does not say its format; end the name with one of {', '.join(ENDINGS)}.")
    if not path.parent.is_dir():
        raise TableError(f"There is no folder '{path.parent}' to write '{path.name}' into; make it first.")
    labels = dict(sorted(table.labels.items()))
    if kind == ".json":
        text = _to_json(labels)
    elif kind in (".csv", ".tsv"):
        text = _to_columns(labels, "," if kind == ".csv" else "\t")
    elif kind == ".label":
        text = _to_snap(labels)
    else:
        text = _to_color_table(labels)
    try:
        put_text(text, path)
    except OSError as error:
        raise TableError(f"'{path}' can not be written: {error.strerror or error}.") from error
    return _lost(labels, _parsed(text, path), path)


def _lost(labels: dict[int, Label], back: dict[int, Label], path: Path) -> list[str]:
    """What of the labels is not as it will be read back."""
    kind, said = path.suffix.lower(), []
    if kind in (".label", ".ctbl", ".txt") and any(label.terminology for label in labels.values()):
        said.append(f"'{path.name}' holds no terminology; write .csv or .json to keep it.")
    changed = [label.name for value, label in labels.items() if label.name and back[value].name != label.name]
    if kind in (".csv", ".tsv"):
        said += _lost_in_slicer(labels, path.name)
    if changed:
        said.append(f"'{path.name}' can not hold the name '{changed[0]}' letter by letter; write .json to keep it.")
    return said


def _lost_in_slicer(labels: dict[int, Label], name: str) -> list[str]:
    """What keeps 3D Slicer from reading columns that are right by RFC 4180."""
    if any(label.name.startswith("#") for label in labels.values()):
        return [f"3D Slicer does not read '{name}', because a name begins with '#'."]
    if max(labels, default=0) > LARGEST_IN_SLICER:
        return [f"3D Slicer does not read '{name}', because its label values end at {LARGEST_IN_SLICER}."]
    for label in labels.values():
        if '"' in label.name:
            return [f"3D Slicer does not read the name '{label.name}' of '{name}', because it has quotation marks."]
    return []


def _from_json(text: str, name: str) -> dict[int, Label]:
    try:
        held = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TableError(f"'{name}' is not valid JSON ({error}); correct it.") from error
    if isinstance(held, dict) and isinstance(held.get("medgan"), dict):
        held = held["medgan"]  # the metadata of a model bundle
    if isinstance(held, dict):
        held = held.get("labels", held)
    if isinstance(held, list):
        return _from_rows([row if isinstance(row, dict) else {} for row in held], name)
    if not isinstance(held, dict):
        raise TableError(f"'{name}' holds no labels; it should hold a list 'labels' with 'value' and 'name' of each.")
    rows = []
    for key, entry in held.items():  # {"7": "name"}, {"7": {...}} or, as nnU-Net has it, {"name": 7}
        if isinstance(entry, dict):
            rows.append({"value": key, **entry})
        elif str(key).strip().isdigit():
            rows.append({"value": key, "name": entry})
        else:
            rows.append({"value": entry, "name": key})
    return _from_rows(rows, name)


def _from_rows(rows: list[dict[str, Any]], source: str) -> dict[int, Label]:
    read = [_known({key.lower(): entry for key, entry in row.items()}, source) for row in rows]
    colors = [color for known in read if isinstance(color := known["color"], list)]
    in_255 = any(isinstance(part, (int, float)) and part > 1 for color in colors for part in color[:3])
    labels: dict[int, Label] = {}
    for known in read:
        value = checked_value(known["value"], f"'{source}'")
        if value in labels:
            raise TableError(f"'{source}' has label {value} twice; name each value once.")
        color = _json_color(known["color"], in_255, value, source)
        text_of = str(known["name"] or unnamed(value).name)
        labels[value] = Label(text_of, color, str(known["terminology"] or ""))
    return labels


def _known(row: dict[str, Any], source: str) -> dict[str, Any]:
    """What a row says of each field; its colour is one text or list."""
    fields = _fields({key: [entry] for key, entry in row.items()}, source)
    known = {field: row[key] if key is not None else None for field, key in fields.items()}
    if known["value"] is None:
        raise TableError(f"A label in '{source}' has no 'value'; give each a whole number.")
    if known["color"] is None:
        known["color"] = [known["red"], known["green"], known["blue"]]
    return known


def _json_color(color: Any, in_255: bool, value: int, source: str) -> tuple[float, float, float]:
    if color == [None] * 3:
        return default_color(value)
    if isinstance(color, str):
        return _hex(color, source)
    if not isinstance(color, list) or len(color) < 3 or not all(isinstance(part, (int, float)) for part in color):
        raise TableError(f"The colour of label {value} in '{source}' is not red, green, blue.")
    return _unit(color[:3], in_255, source)


def _from_columns(text: str, name: str) -> dict[int, Label]:
    start = text.lstrip()[:4096].splitlines()[0]
    between = max(",;\t", key=start.count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=between) if any(row)]
    except csv.Error as error:
        raise TableError(f"'{name}' is no table with columns ({error}); correct it.") from error
    rows = [row for row in rows if row and not row[0].startswith("#")]
    if not rows:
        return {}
    if re.fullmatch(r"[+-]?\d+(\.0*)?", rows[0][0]):  # no header: value, name, and maybe red, green, blue
        header = ["labelvalue", "name", "colorr", "colorg", "colorb"]
    else:
        header = [re.sub(r"[^a-z]", "", cell.lower()) for cell in rows.pop(0)]
    cells = {title: [row[at] for row in rows if at < len(row)] for at, title in reversed(list(enumerate(header)))}
    column = {field: header.index(key) if key is not None else None for field, key in _fields(cells, name).items()}
    if column["value"] is None:
        raise TableError(f"'{name}' has no column for the label value; call it 'LabelValue', and the next one 'Name'.")
    coded = [_first(header, [re.sub(r"[^a-z]", "", title.lower())]) for title in TERMINOLOGY_COLUMNS]

    def cell(row: list[str], index: int | None) -> str:
        said = row[index] if index is not None and index < len(row) else ""
        return "" if said.lower() == "n/a" else said  # as BIDS says that something is not known

    rows = [row for row in rows if cell(row, column["value"])]
    shares = [[cell(row, column[part]) for part in ("red", "green", "blue")] for row in rows]
    alpha = _first(header, ("colora", "alpha", "a"))
    alphas = [[cell(row, alpha)] for row in rows]
    in_255 = not (_all_small(shares) and (_any_fraction(shares) or _all_small(alphas)))
    labels: dict[int, Label] = {}
    for row, parts in zip(rows, shares, strict=True):
        value = checked_value(cell(row, column["value"]), f"'{name}'")
        if value in labels:
            raise TableError(f"'{name}' has label {value} twice; each value has one row.")
        if cell(row, column["color"]):
            color = _hex(cell(row, column["color"]), name)
        else:
            color = _unit(parts, in_255, name) if all(parts) else default_color(value)
        codes = [cell(row, index) for index in coded]
        entry = str(Terminology(*(Code(*codes[at : at + 3]) for at in range(0, 15, 3))))
        text_of = cell(row, column["name"]) or unnamed(value).name
        labels[value] = Label(text_of, color, entry or cell(row, column["terminology"]))
    return labels


def _from_lines(text: str, name: str) -> dict[int, Label]:
    """ITK-SNAP (index, colour, visibility, "name") or Slicer and FreeSurfer (index, name, colour)."""
    labels: dict[int, Label] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        snap = _SNAP.match(line)
        if snap:
            value, color, said = (
                checked_value(snap[1], f"'{name}'"),
                _unit([snap[2], snap[3], snap[4]], True, name),
                snap[8],
            )
        else:
            parts = line.split()
            if len(parts) < 5 or not parts[0].isdecimal():
                raise TableError(
                    f"Line {number} of '{name}' is not one of a colour table; it should be: value name red green blue."
                )
            value, color = checked_value(parts[0], f"'{name}'"), _unit(parts[2:5], True, name)
            said = "" if parts[1] == "_" else parts[1].replace("_", " ").strip("'")
        if value in labels:
            raise TableError(f"'{name}' has label {value} twice; each value has one line.")
        labels[value] = Label(said or unnamed(value).name, color)
    return labels


def _to_json(labels: dict[int, Label]) -> str:
    rows = [
        {"value": value, "name": label.name, "color": list(label.color), "terminology": label.terminology}
        for value, label in labels.items()
    ]
    return json.dumps({"labels": rows}, indent=1, ensure_ascii=False) + "\n"


def _to_columns(labels: dict[int, Label], between: str) -> str:
    held = io.StringIO()
    writer = csv.writer(held, delimiter=between, lineterminator="\n")
    writer.writerow(["LabelValue", "Name", "Color_R", "Color_G", "Color_B", "Color_A", *TERMINOLOGY_COLUMNS])
    for value, label in labels.items():
        said = parsed(label.terminology)
        codes = (said.category, said.type, said.modifier, said.region, said.region_modifier)
        cells = [cell for code in codes for cell in (code.scheme, code.value, code.meaning)]
        writer.writerow([value, _one_line(label.name), *_bytes(label), 255, *cells])
    return held.getvalue()


def _to_snap(labels: dict[int, Label]) -> str:
    lines = ['    0     0    0    0        0  0  0    "Clear Label"']
    for value, label in labels.items():
        red, green, blue = _bytes(label)
        said = _one_line(label.name).replace('"', "'")
        lines.append(f'{value:5d}   {red:3d}  {green:3d}  {blue:3d}        1  1  1    "{said}"')
    return _SNAP_HEAD + "\n".join(lines) + "\n"


def _to_color_table(labels: dict[int, Label]) -> str:
    lines = [f"# Color table file\n# {len(labels) + 1} values", "0 Background 0 0 0 0"]
    for value, label in labels.items():
        said = re.sub(r"\s", "_", label.name) or "_"
        lines.append(f"{value} {said} {' '.join(map(str, _bytes(label)))} 255")
    return "\n".join(lines) + "\n"


def _bytes(label: Label) -> list[int]:
    return [min(255, max(0, round(part * 255))) for part in label.color]


def _one_line(name: str) -> str:
    return " ".join(name.splitlines())


def _fields(held: Mapping[str, Sequence[Any]], source: str) -> dict[str, str | None]:
    """The column of each field. "label" is that of the names where no other is, and another one has the values.

    Raises :class:`TableError` where there are names, as it seems, in a column that is none of ours.
    """
    found = {field: next((key for key in keys if key in held), None) for field, keys in _NAMES.items()}
    texts = [key for key, entries in held.items() if any(_is_text(entry) for entry in entries)]
    other = next((key for key in _NAMES["value"] if key in held and key != "label"), None)
    if found["name"] is None and other is not None and "label" in texts:
        found.update(value=other, name="label")
    unread = [key for key in texts if key not in found.values() and key not in _KNOWN]
    if found["name"] is None and found["value"] is not None and unread:
        raise TableError(f"'{source}' has no column 'Name' but one '{unread[0]}'; call the one with the names 'Name'.")
    return found


def _is_text(entry: Any) -> bool:
    return isinstance(entry, str) and re.fullmatch(r"\s*[\d.,+-]*\s*|[nN]/[aA]", entry) is None


def _first(header: list[str], names: Iterable[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _all_small(shares: list[list[str]]) -> bool:
    try:
        return all(float(part) <= 1 for each in shares for part in each if part)
    except ValueError:
        return False


def _any_fraction(shares: list[list[str]]) -> bool:
    """Whether a number lies between 0 and 1, as that of a colour of 255 parts hardly does."""
    return any(0 < float(part) < 1 for each in shares for part in each if part)


def _unit(parts: Iterable[Any], in_255: bool, source: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) / (255 if in_255 else 1) for part in parts)
    except ValueError as error:
        raise TableError(f"A colour in '{source}' is not three numbers from 0 to 255.") from error
    if not all(0 <= part <= 1 for part in (red, green, blue)):
        raise TableError(f"A colour in '{source}' is not three numbers from 0 to 255.")
    return red, green, blue


def _hex(text: str, source: str) -> tuple[float, float, float]:
    match = re.fullmatch(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text.strip())
    if not match:
        raise TableError(f"'{text}' in '{source}' is not a colour; write it as #ff8000.")
    return int(match[1], 16) / 255, int(match[2], 16) / 255, int(match[3], 16) / 255
