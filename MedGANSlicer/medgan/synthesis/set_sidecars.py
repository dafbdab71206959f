"""What stands beside each sample of a set: all that it takes to make it again, and to know that it is whole."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medgan.staging import complete, text_writer
from medgan.synthesis.files import description, json_text, sidecar_of
from medgan.synthesis.set_layouts import Layout, manifest
from medgan.synthesis.set_samples import Sample, key_of, weights_of
from medgan.volume import LabelMap, Volume, VolumeError
from medgan.writing import marked, write

SAVE_EVERY_S = 5.0


def sidecar(
    sample: Sample, report: Mapping[str, Any], about: Mapping[str, Any], image: Path, labels: Path | None
) -> dict[str, Any]:
    """What stands beside a sample: all that it takes to make it again, and that no scanner made it."""
    folder = image.parent
    of_task = [about["volume"], *(f"{about['volume']} {name}" for name in about)]  # names of its outputs
    rest = {name: value for name, value in about.items() if value not in of_task and name != "labels"}
    said = description(report, sample.settings.to_dict(), [], **rest)
    said["inputs"] = [source.said(folder) for source in sample.sources]
    said["patient"] = sample.patient
    said["image"] = image.name
    said["labels"] = Path(os.path.relpath(labels, folder)).as_posix() if labels is not None else None
    said["again"] = f"medgan synthesize --again {shlex.quote(sidecar_of(image).name)} OUT.nii.gz"
    return said


def write_sample(
    sample: Sample,
    report: Mapping[str, Any],
    about: Mapping[str, Any],
    image: tuple[Path, Volume | LabelMap],
    labels: tuple[Path, LabelMap] | None,
    more: Mapping[str, Any],
    guards: Mapping[Path, Volume | LabelMap],
) -> dict[str, Any]:
    """Write a sample, all or none, its sidecar last, so that what has one is whole; what stands in the sidecar.

    Raises ``VolumeError``.
    """
    path, volume = image
    if isinstance(volume, Volume):
        volume = marked(volume, str(report.get("model", "")), sample.settings.seed)
    held = {**guards, **dict([labels] if labels else []), path: volume}
    said = sidecar(sample, report, about, path, labels[0] if labels else None)
    said |= {**more, "voxels_sha256": voxels_sha256(volume)}
    said |= {"label_voxels_sha256": voxels_sha256(labels[1])} if labels else {}
    beside = sidecar_of(path)
    writers: dict[Path, Callable[[Path], object]] = {
        file: functools.partial(write, each) for file, each in held.items()
    }
    complete({**writers, beside: text_writer(json_text(said))}, before_moving=lambda: beside.unlink(missing_ok=True))
    return said


def entry_of(said: Mapping[str, Any], image: Path, status: str) -> dict[str, Any]:
    return {"output": str(image), "description": str(sidecar_of(image)), "status": status, **said}


def voxels_sha256(volume: Volume | LabelMap) -> str:
    """Stands for shape and values, whatever the type of the voxels in the file."""
    kind = "<i8" if isinstance(volume, LabelMap) else "<f4"
    array = np.ascontiguousarray(volume.array, dtype=kind)
    return hashlib.sha256(f"{array.shape}".encode() + array.tobytes()).hexdigest()


def read_sidecar(path: Path) -> dict[str, Any]:
    """What stands beside a sample. Raises ``VolumeError`` for a file that is none of ours."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(held, dict) and held["synthetic"] is True and isinstance(held["settings"], dict)):
            raise ValueError
        words = [entry[name] for entry in held["inputs"] for name in ("role", "path", "sha256", "name")]
        words += [held["image"], held.get("labels") or ""]
        if not all(isinstance(word, str) and "\0" not in word for word in words):
            raise ValueError
        for value, number in (held.get("label_values") or {}).items():
            _ = int(value), int(number)
        weights_of(held)
    except OSError as error:
        raise VolumeError(f"'{path}' can not be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VolumeError(
            f"'{path}' does not describe a sample of a set; give the .json that lies beside its volume."
        ) from error
    return held


def has_key(held: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Whether a sample was made with this key."""
    sources = [(entry["role"], entry["sha256"]) for entry in held["inputs"]]
    return key_of(held["settings"], weights_of(held), sources) == key


def is_made(sidecar: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What stands beside a sample that is whole and was made with this key; else None."""
    try:
        held = read_sidecar(sidecar)
    except VolumeError:
        return None
    files = [sidecar.parent / held["image"]]
    if held.get("labels"):
        files.append(sidecar.parent / held["labels"])
    return held if has_key(held, key) and all(file.is_file() for file in files) else None


class Listing:
    """The list of all samples in the folder of a set, from this run and earlier ones."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rows: dict[str, dict[str, Any]] = {}
        self._saved_at = time.monotonic()
        for path in layout.out.glob(layout.sidecars) if layout.sidecars else ():
            with contextlib.suppress(VolumeError):
                self.add(read_sidecar(path), path.parent)

    def add(self, held: Mapping[str, Any], folder: Path) -> None:
        """What stands beside a sample whose image lies in ``folder``."""
        if not self._layout.sidecars:
            return
        place = folder.relative_to(self._layout.out)
        row = {
            "image": (place / held["image"]).as_posix(),
            "labels": _plain(place / held["labels"]) if held.get("labels") else "",
            "patient": held.get("patient", ""),
            "seed": held["settings"].get("seed", ""),
            "model": held.get("model", ""),
            "contrast": held.get("to") or held["settings"].get("contrast", ""),
            "made_from": " ".join(entry["name"].split(".")[0] for entry in held["inputs"]),
        }
        self._rows[row["image"]] = row

    def save(self, now: bool = False) -> None:
        """Write it, and what the folder says of itself; now and then, or ``now``. Raises ``VolumeError``."""
        if self._layout.sidecars and (now or time.monotonic() - self._saved_at > SAVE_EVERY_S):
            manifest(self._layout.out, list(self._rows.values()))
            self._layout.save(len(self._rows))
            self._saved_at = time.monotonic()


def _plain(path: Path) -> str:
    """The path without "..", with "/"."""
    return Path(os.path.normpath(path)).as_posix()
