"""Checked volumes as arrays on disk, ready to cut patches from: one scale, one orientation, cut to the body.

Images are int16 of (channels, D, H, W) whose 0 is the darkest and ``ONE`` the brightest intensity of their volume;
label maps are int16 or int32 with the values they had. They are memory-mapped, so a large set needs no memory.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medgan.noise import intensity_range, noise_profile
from medgan.segmentation.description import HOUNSFIELD
from medgan.settings import TrainKind
from medgan.training.data_checks import Loaded
from medgan.training.data_files import DataError
from medgan.training.data_grid import body_box, joined, moved_origin, resampled, to_ras
from medgan.volume import spacing_of

ONE = 8192
"""What intensity 1 is stored as: steps of 0.00012, and room up to four times the brightest."""

PLACES = 64
"""Voxels remembered for each label of a volume, at which patches may be centred."""

VERSION = 4


@dataclass
class Entry:
    """One cached case. ``spacing_mm``, ``size_voxels`` (i, j, k) and ``ranges`` are those of the source; ``matrix`` and
    ``shape`` (D, H, W) those of the arrays."""

    name: str
    patient: str
    files: dict[str, str]
    """Array file by role, and "places" (see :func:`label_places`)."""
    shape: list[int]
    sources: dict[str, str]
    size_voxels: list[int]
    spacing_mm: list[float]
    ranges: dict[str, list[float]]
    modality: dict[str, str]
    digest: str
    """SHA-256 of the voxels and grids as they were read."""
    matrix: list[list[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=dict)
    validation: bool = False
    group: str = ""
    """Classification: the class."""
    noise: list[float] = field(default_factory=list)
    """Of clean volumes for enhancement: sigma and the 64 numbers of its spread (see medgan.noise)."""


def range_of(array: np.ndarray, modality: str, kind: TrainKind) -> tuple[float, float]:
    """The intensities of a channel that become 0 and 1."""
    if modality == "CT":
        if kind is not TrainKind.ENHANCE:
            return HOUNSFIELD
        array = np.clip(array, -1024, 3071)
    low, high = intensity_range(array)
    return (low, high) if high > low else (low, low + 1.0)


def store(loaded: Loaded, number: int, folder: Path, kind: TrainKind) -> Entry:
    """Write a case into the cache folder, at its own spacing. Raises :class:`DataError` when there is no room."""
    first = next(iter(loaded.roles.values()))
    entry = Entry(
        loaded.case.name,
        loaded.case.patient,
        {},
        [],
        {role: voxels.source for role, voxels in loaded.roles.items()},
        [int(side) for side in reversed(first.arrays[0].shape)],
        [float(f"{step:.6g}") for step in spacing_of(first.matrix)],
        {},
        {role: voxels.modality for role, voxels in loaded.roles.items()},
        loaded.digest,
        group=loaded.case.group,
    )
    arrays: dict[str, list[np.ndarray]] = {}
    matrix = first.matrix
    for role, voxels in loaded.roles.items():
        held = voxels.arrays
        if role == "labels":
            entry.labels = [int(value) for value in np.unique(held[0]) if value]
        else:
            ranges = [range_of(array, voxels.modality, kind) for array in held]
            entry.ranges[role] = list(ranges[0])
            held = [scaled(array, *limits, kind) for array, limits in zip(held, ranges, strict=True)]
        if kind is not TrainKind.ENHANCE:
            turned = [to_ras(array, voxels.matrix) for array in held]
            held, matrix = [array for array, _ in turned], turned[0][1]
        arrays[role] = held
    if kind is TrainKind.ENHANCE and "input" not in arrays:
        entry.noise = _noise_of(arrays["target"][0])
    image = arrays.get("image", [])
    box = body_box(image or [array for held in arrays.values() for array in held])
    if image and "labels" in arrays:  # labels may reach into what is dark
        box = joined(box, body_box(arrays["labels"]))
    entry.matrix = moved_origin(matrix, box).tolist()
    _write(entry, {role: [array[box] for array in held] for role, held in arrays.items()}, number, folder)
    return entry


def regrid(entry: Entry, number: int, folder: Path, spacing_mm: Sequence[float], whole: int) -> None:
    """Bring a stored case to a spacing along i, j, k, and if ``whole`` into the middle of a cube of that side."""
    matrix = np.array(entry.matrix)
    arrays: dict[str, list[np.ndarray]] = {}
    moved = matrix
    for role, file in entry.files.items():
        if role == "places":
            continue
        held = np.load(folder / file, allow_pickle=False)
        channels = [held] if role == "labels" else list(held.astype(np.float32) / ONE)
        results = [resampled(channel, matrix, spacing_mm, role == "labels") for channel in channels]
        arrays[role], moved = [array for array, _ in results], results[0][1]
        if whole:
            arrays[role] = [cube(array, whole) for array in arrays[role]]
    if entry.noise:  # interpolation takes some away
        entry.noise = _noise_of(arrays["target"][0])
    entry.matrix = moved.tolist()
    _write(entry, arrays, number, folder)


def _noise_of(array: np.ndarray) -> list[float]:
    """Level and spread of the noise, as the entry of a case holds them."""
    profile = noise_profile(array)
    return [float(profile.sigma), *profile.spread.tolist()]


def _write(entry: Entry, arrays: dict[str, list[np.ndarray]], number: int, folder: Path) -> None:
    entry.shape = [int(side) for side in next(iter(arrays.values()))[0].shape]
    check_room(folder, sum(array.size for held in arrays.values() for array in held))
    try:
        for role, held in arrays.items():
            entry.files[role], entry.channels[role] = f"{number:05d}_{role}.npy", len(held)
            stacked = np.ascontiguousarray(held[0]) if role == "labels" else _stored(np.stack(held))
            np.save(folder / entry.files[role], stacked, allow_pickle=False)
        if "labels" in arrays:
            entry.files["places"] = f"{number:05d}_places.npy"
            np.save(folder / entry.files["places"], label_places(arrays["labels"][0]), allow_pickle=False)
    except OSError as error:
        raise no_room(folder, error) from error


def label_places(labels: np.ndarray) -> np.ndarray:
    """(n, 4) value, k, j, i of at most ``PLACES`` voxels of each label, evenly chosen."""
    flat = labels.ravel()
    where = np.flatnonzero(flat)
    order = np.argsort(flat[where], kind="stable")
    where, values = where[order], flat[where][order]
    rows = []
    for value, first, count in zip(*np.unique(values, return_index=True, return_counts=True), strict=True):
        chosen = where[first + np.linspace(0, count - 1, min(PLACES, count)).astype(int)]
        rows.append(np.stack([np.full(len(chosen), value), *np.unravel_index(chosen, labels.shape)], axis=1))
    return np.concatenate(rows).astype(np.int32) if rows else np.empty((0, 4), np.int32)


def label_intensities(entries: Iterable[Entry], folder: Path) -> list[tuple[int, float, float]]:
    """Value, mean and standard deviation of each label and of the background (0), 1 the brightest: of whole volumes,
    each as much as any other that has the label."""
    found: dict[int, list[np.ndarray]] = {}
    for entry in entries:
        image, labels = (
            np.load(folder / entry.files[role], mmap_mode="r", allow_pickle=False) for role in ("image", "labels")
        )
        values = np.array(sorted({0, *entry.labels}))
        sums = np.zeros((3, len(values)))  # of the powers 0, 1 and 2
        for intensities, here in zip(image[0], labels, strict=True):
            places, scaled = np.searchsorted(values, here.ravel()), intensities.ravel() / ONE
            sums += [np.bincount(places, scaled**power, len(values)) for power in range(3)]
        there = sums[0] > 0
        mean, square = sums[1:, there] / sums[0, there]
        pairs = np.stack([mean, np.sqrt(np.maximum(square - mean**2, 0.0))], axis=1)
        for value, pair in zip(values[there].tolist(), pairs, strict=True):
            found.setdefault(value, []).append(pair)
    return [(value, *np.mean(pairs, axis=0).tolist()) for value, pairs in sorted(found.items())]


def check_room(folder: Path, voxels: int) -> None:
    """Raise :class:`DataError` when the disk has no room for that many cached voxels and a checkpoint."""
    needed = voxels * 2 + 200_000_000
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"The folder of the run '{folder}' needs about {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB "
            "free; make room or choose another folder."
        )


def no_room(folder: Path, error: OSError) -> DataError:
    """The sentence for a cache that could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or error.errno is None  # numpy gives no number
    reason = "the disk is full" if full else (error.strerror or str(error))
    return DataError(f"The run folder '{folder}' can not be written: {reason}; make room or choose another folder.")


def read_index(folder: Path, key: str) -> dict[str, Any] | None:
    """What was written about a cache that was made of the same data in the same way; None if there is none."""
    try:
        held = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if held.get("version") != VERSION or held.get("key") != key:
            return None
        entries = [Entry(**entry) for entry in held["entries"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if not all((folder / file).is_file() for entry in entries for file in entry.files.values()):
        return None
    return {**held, "entries": entries}


def index(key: str, entries: Sequence[Entry], **more: Any) -> dict[str, Any]:
    """What :func:`read_index` reads again, as plain JSON values."""
    return {"version": VERSION, "key": key, "entries": [asdict(entry) for entry in entries], **more}


def scaled(array: np.ndarray, low: float, high: float, kind: TrainKind) -> np.ndarray:
    """A channel with ``low`` at 0 and ``high`` at 1; what lies beyond is cut off but for enhancement."""
    result = (array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return result if kind is TrainKind.ENHANCE else np.clip(result, 0.0, 1.0)


def _stored(array: np.ndarray) -> np.ndarray:
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(array * ONE), limits.min, limits.max).astype(np.int16)


def cube(array: np.ndarray, side: int) -> np.ndarray:
    """An array in the middle of a cube; what does not fit is cut off."""
    start = [max(0, (length - side) // 2) for length in array.shape]
    array = array[tuple(slice(first, first + side) for first in start)]
    whole = np.zeros((side,) * 3, array.dtype)
    place = [(side - length) // 2 for length in array.shape]
    whole[tuple(slice(first, first + length) for first, length in zip(place, array.shape, strict=True))] = array
    return whole
