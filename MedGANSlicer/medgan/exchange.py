"""Volumes and label maps as raw arrays in a folder, for two processes that trust each other: quick, not portable."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medgan.volume import Label, LabelMap, Volume


def save(volumes: Mapping[str, Volume | LabelMap], folder: Path) -> dict[str, Any]:
    """Write every array into ``folder`` and return the JSON description that :func:`load` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    described: dict[str, Any] = {}
    for number, (name, volume) in enumerate(volumes.items()):
        file = f"{number}.npy"  # the names come from tasks and may hold anything
        np.save(folder / file, volume.array, allow_pickle=False)
        described[name] = {"file": file, "ijk_to_ras": volume.ijk_to_ras.tolist()}
        if isinstance(volume, LabelMap):
            labels = {
                str(value): [label.name, list(label.color), label.terminology] for value, label in volume.labels.items()
            }
            described[name]["labels"] = labels
        else:
            described[name].update(voxel_type=volume.voxel_type, meta=volume.meta)
    return described


def load(described: Mapping[str, Any], folder: Path) -> dict[str, Volume | LabelMap]:
    """What :func:`save` wrote, by name."""
    return dict(load_each(described, folder))


def load_each(described: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Volume | LabelMap]]:
    """What :func:`save` wrote, one after the other: name and volume."""
    for name, entry in described.items():
        array = np.load(folder / entry["file"], allow_pickle=False)
        if "labels" in entry:
            labels = {
                int(value): Label(text, (r, g, b), term) for value, (text, (r, g, b), term) in entry["labels"].items()
            }
            yield name, LabelMap(array, entry["ijk_to_ras"], labels)
        else:
            yield name, Volume(array, entry["ijk_to_ras"], entry["meta"], entry["voxel_type"])


def write_json(held: Any, path: Path) -> None:
    """Write JSON that appears complete or not at all. Numpy numbers become plain ones."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(held, default=_plain), encoding="utf-8")
    os.replace(part, path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
