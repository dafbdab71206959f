"""What the label values of training data mean: names and colours, and which labels are each other's other side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan import freesurfer
from medgan.bundle import ModelCard
from medgan.labeltable import TableError, default_color, read_table, unnamed
from medgan.training.data_files import DataError
from medgan.volume import Label

_SIDE = re.compile(r"(?<![a-z])(left|right|lh|rh|l|r)(?![a-z])")
_OTHER = {"left": "right", "right": "left", "lh": "rh", "rh": "lh", "l": "r", "r": "l"}


@dataclass(frozen=True)
class Sides:
    """Whether volumes may be mirrored left to right, and the index that each label index then becomes."""

    may_mirror: bool
    swap: np.ndarray


def described(values: Iterable[int], known: Mapping[int, Label], data: str) -> tuple[dict[str, Any], ...]:
    """{"index", "value", "name", "color"} of every value in order, from what the volumes said, the ``labels.csv`` of a
    made set or the ``dataset.json`` of nnU-Net beside them, or FreeSurfer's table when the codes are its."""
    ordered = sorted(values)
    named: dict[int, Label] = {}
    if freesurfer.numbered(ordered):
        named = {value: label for value in ordered if (label := freesurfer.label(value)) is not None}
    for value, name in _dataset_names(data).items():
        named[value] = Label(name, default_color(value))
    named.update(_table_of_set(data))
    named.update(known)
    rows = []
    for index, value in enumerate(ordered, 1):
        label = named.get(value, unnamed(value))
        row = {"index": index, "value": value, "name": label.name or unnamed(value).name, "color": list(label.color)}
        if label.terminology:
            row["terminology"] = label.terminology
        rows.append(row)
    return tuple(rows)


def labels_of_model(card: ModelCard, values: Iterable[int]) -> tuple[dict[str, Any], ...] | None:
    """The labels of a model to go on from, in the order of its channels; None if it has none.

    Raises :class:`DataError` for labels of the data that the model does not know.
    """
    held = card.details.get("labels")
    if not isinstance(held, list) or not held:
        return None
    try:
        rows = tuple({"color": [0.5, 0.5, 0.5], "name": unnamed(int(row["value"])).name, **row} for row in held)
        known = [int(row["value"]) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"Model '{card.name}' does not say its labels, so it can not be trained further.") from error
    if card.details.get("axes", "kji") != "kji":
        raise DataError(f"Model '{card.name}' wants its axes in another order; it can not be trained further here.")
    unknown = sorted(set(values) - set(known))
    if unknown:
        shown = ", ".join(str(value) for value in unknown[:5])
        raise DataError(
            f"Model '{card.name}' does not know {len(unknown)} labels of the data ({shown}); train without a model to "
            "start from, or bring the data to its labels."
        )
    return tuple({**row, "index": index} for index, row in enumerate(rows, 1))


def sides_of(labels: Iterable[Mapping[str, Any]]) -> Sides:
    """Which labels are exchanged in a mirrored volume. Labels without names may have sides that nobody told."""
    rows = list(labels)
    swap = np.arange(len(rows) + 1)
    index_of = {_plain(row["name"]): int(row["index"]) for row in rows}
    may = True
    for row in rows:
        name = _plain(row["name"])
        other = _SIDE.sub(lambda found: _OTHER[found[1]], name)
        if name == unnamed(int(row["value"])).name or (other != name and other not in index_of):
            may = False
        elif other != name:
            swap[int(row["index"])] = index_of[other]
    return Sides(may, swap)


def why_not_mirrored(labels: Iterable[Mapping[str, Any]]) -> str:
    """What to tell the person whose labels :func:`sides_of` does not let be mirrored."""
    if any(_plain(row["name"]) == unnamed(int(row["value"])).name for row in labels):
        return (
            "Volumes are not mirrored: it is not known which labels are left and right. Name the labels (in a "
            "segmentation, a .labels.csv beside each label map, or labels.csv or dataset.json in the folder) to have "
            "that."
        )
    return "Volumes are not mirrored: some labels are of one side, and the data has none of the other side for them."


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", name.lower().strip()))


def _dataset_names(data: str) -> dict[int, str]:
    """Names by value from the ``dataset.json`` of nnU-Net, {"background": 0, "liver": 1} or {"0": "background"}."""
    if not data:
        return {}
    for folder in (Path(data), Path(data).parent):
        try:
            held = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["labels"]
            pairs = held.items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        names: dict[int, str] = {}
        for one, other in pairs:
            if isinstance(other, int) and not isinstance(other, bool):
                names[other] = str(one)
            elif str(one).isdigit() and isinstance(other, str):
                names[int(one)] = other
        return {value: name for value, name in names.items() if value}
    return {}


def _table_of_set(data: str) -> dict[int, Label]:
    """The labels in the ``labels.csv`` of a folder, or beside a list; none where there is no such table."""
    place = Path(data)
    try:
        return read_table((place if place.is_dir() else place.parent) / "labels.csv").labels if data else {}
    except TableError:
        return {}
