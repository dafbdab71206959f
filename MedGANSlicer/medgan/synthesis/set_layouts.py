"""Where made volumes lie: one file and its label map, a BIDS-like folder, or one as nnU-Net reads it."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import medgan
from medgan.batch import FileFailed
from medgan.labeltable import LabelTable, alike, read_table, unnamed, write_table
from medgan.staging import write_text
from medgan.volume import Label, LabelMap, file_format

MANIFEST = "manifest.csv"
LABELS = "labels.csv"
COLUMNS = ("image", "labels", "patient", "seed", "model", "contrast", "made_from")
NAMED = "DatasetNNN_Name"


class OneFile:
    """``OUT.nii.gz`` and ``OUT_labels.nii.gz``, in a folder that is there."""

    sidecars = ""

    def __init__(self, out: Path) -> None:
        self.out = out

    def image(self, name: str) -> Path:
        return self.out

    def labels(self, name: str) -> Path:
        return labels_beside(self.out)

    def guard(self, what: str) -> Path:
        """``OUT_difference.nii.gz`` and the like."""
        ending = file_format(self.out)
        return self.out.with_name(f"{self.out.name[: len(self.out.name) - len(ending)]}_{what}{ending}")

    def stored(self, labels: LabelMap) -> tuple[LabelMap, dict[str, Any]]:
        """The label map as it is written, and what its sidecar says of the values."""
        return labels, {}

    def save(self, count: int) -> None:
        """There is nothing to say of a folder."""


class Bids:
    """``sub-0007/anat/sub-0007_T1w.nii.gz`` and ``sub-0007_dseg.nii.gz``; ``labels.csv`` says what the labels are.

    Safe to use from several threads.
    """

    sidecars = "sub-*/anat/*.json"

    def __init__(self, out: Path, suffix: str) -> None:
        self.out, self.suffix = out, suffix
        self._lock = threading.Lock()
        self._labels: dict[int, Label] = {}
        if (out / LABELS).is_file():  # of samples that were made before
            self._labels = read_table(out / LABELS).labels

    def image(self, name: str) -> Path:
        return self.out / f"sub-{name}" / "anat" / f"sub-{name}_{self.suffix}.nii.gz"

    def labels(self, name: str) -> Path:
        return self.out / f"sub-{name}" / "anat" / f"sub-{name}_dseg.nii.gz"

    def stored(self, labels: LabelMap) -> tuple[LabelMap, dict[str, Any]]:
        """The label map as it is written, and what its sidecar says of the values. Raises :class:`FileFailed`."""
        with self._lock:
            for value in labels.labels.keys() & self._labels.keys():
                _check_name(value, labels.labels[value].name, self._labels[value].name)
            self._labels |= labels.labels
        return labels, {}

    def save(self, count: int) -> None:
        """Write what the folder says of itself. Raises ``VolumeError``."""
        about = {
            "Name": "Synthetic volumes",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "MedGANSlicer", "Version": medgan.__version__}],
            "Synthetic": True,
        }
        write_text(json.dumps(about, indent=2) + "\n", self.out / "dataset_description.json")
        with self._lock:
            named = dict(sorted(self._labels.items()))
        if named:
            write_table(LabelTable(named), self.out / LABELS)


class NnUnet:
    """``imagesTr/0007_0000.nii.gz``, ``labelsTr/0007.nii.gz``, ``dataset.json``, and label values without gaps.

    New values are added at the end, so what was written before stays right. Safe to use from several threads.
    """

    sidecars = "imagesTr/*.json"

    def __init__(self, out: Path, suffix: str) -> None:
        self.out, self.suffix = out, suffix
        self._lock = threading.Lock()
        self._numbers: dict[int, int] = {0: 0}
        self._names: dict[str, int] = {"background": 0}
        self._count = 0
        if (out / "dataset.json").is_file():
            self._read(out / "dataset.json")

    def image(self, name: str) -> Path:
        return self.out / "imagesTr" / f"{name}_0000.nii.gz"

    def labels(self, name: str) -> Path:
        return self.out / "labelsTr" / f"{name}.nii.gz"

    def know(self, labels: Iterable[LabelMap]) -> None:
        """Number the values of these maps in their order, before those that come later."""
        names: dict[int, Label] = {}
        for one in labels:
            names |= {int(value): unnamed(int(value)) for value in np.unique(one.array)} | one.labels
        with self._lock:
            for value in sorted(names):
                self._number(value, names[value])

    def stored(self, labels: LabelMap) -> tuple[LabelMap, dict[str, Any]]:
        """The label map with nnU-Net's values, and which of them stands for which of before. Raises ``VolumeError`` or
        :class:`FileFailed`."""
        values, index = np.unique(labels.array, return_inverse=True)
        with self._lock:
            known = len(self._numbers)
            for value in sorted({*values.tolist(), *labels.labels}):
                self._number(value, labels.labels.get(value) or unnamed(value))
            if len(self._numbers) > known or not (self.out / "dataset.json").is_file():
                self._write()  # before the map: the numbers of a map that exists are never lost
        numbers = np.array([self._numbers[int(value)] for value in values])
        stored = numbers.astype(np.uint8 if len(self._numbers) <= 256 else np.uint16)[index].reshape(labels.shape)
        said = {str(number): int(value) for value, number in zip(values, numbers.tolist(), strict=True)}
        return LabelMap(stored, labels.ijk_to_ras), {"label_values": said}

    def save(self, count: int) -> None:
        """Write what the folder says of itself. Raises ``VolumeError``."""
        with self._lock:
            self._count = count
            self._write()

    def _number(self, value: int, label: Label) -> None:
        name = re.sub(r"\s+", " ", label.name).strip() or unnamed(value).name
        if value in self._numbers:
            known = next((held for held, number in self._names.items() if number == self._numbers[value]), name)
            if value:
                _check_name(value, name, known.removesuffix(f" ({value})"))
            return
        self._numbers[value] = len(self._numbers)
        self._names[name if name not in self._names else f"{name} ({value})"] = self._numbers[value]

    def _write(self) -> None:
        about = {
            "channel_names": {"0": {"T1w": "T1", "T2w": "T2"}.get(self.suffix, self.suffix)},
            "labels": self._names,
            "numTraining": self._count,
            "file_ending": ".nii.gz",
            "description": f"Synthetic volumes, made by MedGANSlicer {medgan.__version__}",
            "label_values": {str(number): value for value, number in self._numbers.items()},
        }
        write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", self.out / "dataset.json")

    def _read(self, path: Path) -> None:
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            self._numbers = {int(value): int(number) for number, value in held["label_values"].items()}
            self._names = {str(name): int(number) for name, number in held["labels"].items()}
            channel = held["channel_names"]["0"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFailed(f"'{path}' was not written by this command; choose another folder.") from error
        if {"T1": "T1w", "T2": "T2w"}.get(channel, channel) != self.suffix:
            raise FileFailed(f"The set in '{self.out}' has volumes of the kind {channel}; choose another folder.")


Layout = OneFile | Bids | NnUnet


def labels_beside(target: Path) -> Path:
    """Where the label map goes that belongs to a volume file."""
    ending = file_format(target)
    return target.with_name(f"{target.name[: len(target.name) - len(ending)]}_labels{ending}")


def _check_name(value: int, name: str, known: str) -> None:
    """Raise :class:`FileFailed` for a label whose value has another name in the set."""
    if alike(name) != alike(known) and unnamed(value).name not in (name, known):
        raise FileFailed(
            f"Label {value} is '{known}' in this set, and '{name}' in another label map; give maps whose labels are "
            "numbered alike ('medgan labelmap --values' numbers them by a table)."
        )


def manifest(out: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write the list of a set: one row a volume, as ``medgan train`` reads it. Raises ``VolumeError``."""
    held = io.StringIO()
    writer = csv.DictWriter(held, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in sorted(entries, key=lambda entry: str(entry["image"])):
        writer.writerow({name: entry.get(name, "") for name in COLUMNS})
    write_text(held.getvalue(), out / MANIFEST)
