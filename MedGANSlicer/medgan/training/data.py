"""The data step of a training: what is read, what is rejected and why, who is for validation, and the samples.

Keys of a sample by kind: enhance {"target"} with its own noise {"sigma", "spread"}, or {"input", "target"}; translate
{"source", "target"} (of the same place when there are pairs); label-to-volume and segment {"image", "labels"};
from-noise and autoencoder {"image"}; classify {"image", "class"}. Images are (C, D, H, W) float32, 0 the darkest and 1
the brightest; labels (D, H, W) int64 indices, 0 the background.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medgan import exchange
from medgan.bundle import ModelCard
from medgan.labelfiles import table_beside
from medgan.progress import Progress, silent
from medgan.settings import TrainKind, TrainSettings
from medgan.training import data_cache, data_labels
from medgan.training.data_cache import Entry
from medgan.training.data_cases import CALLED, ROLES, WHOLE, Case, Cases
from medgan.training.data_checks import Loaded, load
from medgan.training.data_classes import split_classes
from medgan.training.data_files import DataError, Found, search
from medgan.training.data_numbers import named, renumber
from medgan.training.data_pairs import find_cases
from medgan.training.data_report import (
    earlier,
    fingerprint,
    left_out,
    nothing_left,
    read_rows,
    split,
    text_hash,
    uses_before,
    with_these,
    write_report,
)
from medgan.training.data_samples import Manner, Patches
from medgan.training.data_units import in_one_unit
from medgan.training.kinds.base import Facts
from medgan.training.parallel import is_main
from medgan.volume import Label, LabelMap, Volume, spacing_of

OTHER_SPACING = 1.05
"""Volumes whose spacings differ by more than this factor are brought to one grid, where a kind needs that."""

WAIT_S = 0.2
"""How often the other processes of torchrun look whether the first has read the data."""

INHERITED = ("activation", "multiple", "smallest_piece_ml", "coarse", "view_mm")
"""How a segmentation is made of the network's answer (medgan.segmentation.description)."""

SETTINGS_OF_CACHE = ("kind", "data", "pairing", "source", "target", "spacing_mm", "patch", "validation_share", "seed")
"""Settings on which the cache depends."""


@dataclass
class TrainingData:
    """What a training is fed with. ``report`` is what ``data.json`` will hold when the training has had this data;
    ``fingerprint`` goes on the card."""

    samples: Patches
    facts: Facts
    report: dict[str, Any]
    fingerprint: dict[str, Any]
    messages: list[str] = field(default_factory=list)
    inherited: dict[str, Any] = field(default_factory=dict)
    """What the card takes over from the model that the training goes on from."""


def prepare(
    inputs: Mapping[str, Volume | LabelMap],
    settings: TrainSettings,
    folder: Path,
    progress: Progress = silent,
    start: ModelCard | None = None,
) -> TrainingData:
    """Read, check, split and cache the data of a training in the run's ``folder``, or find it cached there.

    Raises ``ValueError`` (:class:`DataError`) with one sentence when the data can not be trained on.
    """
    cases = find_cases(search(settings.data, inputs), settings)
    cache = folder / "cache"
    key = _key(cases, settings, inputs, start)
    held = data_cache.read_index(cache, key)
    while held is None and not is_main():  # the first process of torchrun reads for all
        progress(0.0, "Waiting for the data")
        time.sleep(WAIT_S)
        held = data_cache.read_index(cache, key)
    if held is None:
        held = _made(cases, settings, folder, key, progress, start)
    return _assembled(held, settings, cache, start)


def _made(
    cases: Cases,
    settings: TrainSettings,
    folder: Path,
    key: str,
    progress: Progress,
    start: ModelCard | None,
) -> dict[str, Any]:
    """What :func:`medgan.training.data_cache.read_index` would find; writes it, and ``data.json``."""
    cache = folder / "cache"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "index.json").unlink(missing_ok=True)
    except OSError as error:
        raise data_cache.no_room(folder, error) from error
    entries: list[Entry] = []
    used: list[tuple[int, Case]] = []
    labels: dict[int, Label] = {}
    rejected, messages = list(cases.rejected), list(cases.messages)
    known: dict[str, str] = {}

    def read(case: Case) -> Loaded:
        loaded = load(case, cases.paired)
        renumber(loaded, labels, {value for entry in entries for value in entry.labels})
        return loaded

    for number, case in enumerate(cases.cases):
        progress(number / len(cases.cases), f"Reading volume {number + 1} of {len(cases.cases)}")
        try:
            loaded = read(case)
        except ValueError as error:
            rejected.append((case.name, str(error)))
            continue
        if loaded.digest in known:
            rejected.append((case.name, f"It has the same voxels as '{known[loaded.digest]}'."))
            continue
        known[loaded.digest] = case.name
        labels = {**labels, **loaded.labels, **named(labels)}
        messages += loaded.messages
        entries.append(data_cache.store(loaded, number, cache, settings.kind))
        used.append((number, case))
    messages += in_one_unit(entries, used, cache, settings.kind, read)
    before = earlier(folder)
    report = {
        **before,
        "rejected": [{"name": name, "why": why} for name, why in rejected],
        "messages": messages,
        "paired": cases.paired,
    }
    write_report(folder, entries, report)
    if not entries:
        raise DataError(nothing_left(rejected, settings.kind))
    for role in ROLES[TrainKind.TRANSLATE] if settings.kind is TrainKind.TRANSLATE else ():
        if not any(role in entry.files for entry in entries):
            raise DataError(f"No {CALLED[role]} can be used.{left_out(rejected)}")
    try:
        uses = uses_before(entries, before)
        (split_classes if settings.kind is TrainKind.CLASSIFY else split)(entries, settings, messages, uses)
    except DataError as error:
        raise DataError(f"{error}{left_out(rejected)}") from error
    working = _to_one_grid(entries, settings, cache, start, progress)
    seen = [entry for entry in entries if not entry.validation]
    held = data_cache.index(
        key,
        entries,
        intensities=data_cache.label_intensities(seen, cache) if settings.kind is TrainKind.LABEL_TO_VOLUME else [],
        working_spacing_mm=working,
        labels={str(value): [label.name, list(label.color), label.terminology] for value, label in labels.items()},
        report=report,
    )
    try:
        exchange.write_json(held, cache / "index.json")
    except OSError as error:
        raise data_cache.no_room(folder, error) from error
    write_report(folder, entries, report)
    progress(1.0)
    return {**held, "entries": entries}


def _assembled(held: Mapping[str, Any], settings: TrainSettings, cache: Path, start: ModelCard | None) -> TrainingData:
    entries: list[Entry] = held["entries"]
    report = held["report"]
    known = {int(value): Label(name, (r, g, b), code) for value, (name, (r, g, b), code) in held["labels"].items()}
    values = sorted({value for entry in entries for value in entry.labels})
    labels = data_labels.described(values, known, settings.data) if values else ()
    inherited: dict[str, Any] = {}
    if values and start is not None and (of_model := data_labels.labels_of_model(start, values)):
        labels = of_model
        inherited = {name: start.details[name] for name in INHERITED if name in start.details}
    sides = data_labels.sides_of(labels)
    messages = list(report["messages"])
    if labels and not sides.may_mirror and settings.flips:
        messages.append(data_labels.why_not_mirrored(labels))
    made = settings.kind is TrainKind.SEGMENT and not any("image" in entry.files for entry in entries)
    side = _side(entries, settings)
    index_of = {0: 0} | {int(row["value"]): int(row["index"]) for row in labels}
    ordered = np.array(sorted(index_of), dtype=np.int64)
    indices = np.array([index_of[value] for value in ordered.tolist()], dtype=np.int64)
    manner = Manner(side, ordered, indices, sides, bool(report["paired"]), made)
    samples = Patches(cache, entries, settings, manner)
    facts = _facts(entries, settings, labels, side, held, made)
    train, check = ([e for e in entries if e.validation is flag] for flag in (False, True))
    had = with_these(entries, report)
    if had["changed"]:
        messages.append(
            "The data changed after this training began; figures from before and after can not be compared."
        )
    report = {
        **report,
        **had,
        "read": read_rows(entries),
        "patients": {"train": len({e.patient for e in train}), "validation": len({e.patient for e in check})},
        "messages": messages,
    }
    _check_channels(entries)
    return TrainingData(samples, facts, report, fingerprint(entries, report["changed"]), messages, inherited)


def _facts(
    entries: list[Entry],
    settings: TrainSettings,
    labels: tuple[dict[str, Any], ...],
    side: int,
    held: Mapping[str, Any],
    made: bool,
) -> Facts:
    first, last = ROLES[settings.kind][0], ROLES[settings.kind][-1]
    image = "image" if settings.kind in (TrainKind.SEGMENT, TrainKind.LABEL_TO_VOLUME) else first
    ranges = {
        role: (
            float(np.median([entry.ranges[role][0] for entry in entries if role in entry.ranges])),
            float(np.median([entry.ranges[role][1] for entry in entries if role in entry.ranges])),
        )
        for role in {role for entry in entries for role in entry.ranges}
    }
    fed = image if any(image in entry.modality for entry in entries) else last
    kinds = {entry.modality[fed] for entry in entries if fed in entry.modality}
    i, j, k = np.median([spacing_of(np.array(entry.matrix)) for entry in entries], axis=0)
    working = held["working_spacing_mm"]
    return Facts(
        channels=1 if made else _channels(entries, image),
        target_channels=_channels(entries, last) if last != "labels" else 1,
        labels=labels,
        intensities={value: (mean, sd) for value, mean, sd in held["intensities"]},
        spacing_mm=(float(i), float(j), float(k)),
        working_spacing_mm=None if working is None else (working[0], working[1], working[2]),
        orientation="" if settings.kind is TrainKind.ENHANCE else "RAS",
        ranges=ranges,
        classes=tuple(sorted({entry.group for entry in entries if entry.group})),
        whole=settings.kind in WHOLE,
        patch=side,
        paired=bool(held["report"]["paired"]) or settings.kind is not TrainKind.TRANSLATE,
        modality="CT" if kinds == {"CT"} else "",
    )


def _check_channels(entries: list[Entry]) -> None:
    counts = {tuple(sorted(entry.channels.items())): entry.name for entry in entries if len(entry.channels) > 1}
    if len(counts) > 1:
        one, other = list(counts.values())[:2]
        raise DataError(f"'{one}' and '{other}' have different numbers of channels; all cases must have the same.")


def _channels(entries: list[Entry], role: str) -> int:
    counts = {entry.channels.get(role, 0) for entry in entries} - {0}
    return counts.pop() if counts else 1


def _to_one_grid(
    entries: list[Entry], settings: TrainSettings, cache: Path, start: ModelCard | None, progress: Progress
) -> list[float] | None:
    """Resample what a kind needs on one grid; the spacing along i, j, k that all have then, None for their own."""
    whole = 0
    spacings = np.array([spacing_of(np.array(entry.matrix)) for entry in entries])
    fixed = _spacing_of_model(start) if start is not None and settings.kind is TrainKind.SEGMENT else None
    if settings.kind in WHOLE:
        whole = settings.patch_size()
        extents = (spacings * np.array([entry.shape[::-1] for entry in entries])).max(axis=1)
        # One volume that is far larger than the others must not make them all coarse.
        largest = np.quantile(extents, 0.9) if settings.kind is TrainKind.CLASSIFY else extents.max()
        wanted = [float(f"{settings.spacing_mm or largest / whole:.4g}")] * 3
    elif settings.spacing_mm:
        wanted = [settings.spacing_mm] * 3
    elif fixed is not None:
        wanted = fixed
    elif settings.kind is TrainKind.ENHANCE or (spacings.max(axis=0) <= OTHER_SPACING * spacings.min(axis=0)).all():
        return None
    else:
        wanted = [float(f"{step:.4g}") for step in np.median(spacings, axis=0)]
    for number, entry in enumerate(entries):
        progress(number / len(entries), f"Bringing volume {number + 1} of {len(entries)} to one grid")
        data_cache.regrid(entry, int(next(iter(entry.files.values()))[:5]), cache, wanted, whole)
    return wanted


def _spacing_of_model(card: ModelCard) -> list[float] | None:
    """The grid that a segmentation model works on, if it has one."""
    try:
        i, j, k = card.details["spacing_mm"]
        return [float(i), float(j), float(k)]
    except (ValueError, KeyError, TypeError):
        return None


def _side(entries: list[Entry], settings: TrainSettings) -> int:
    """The side of the patches; without a wish no longer than the volumes are."""
    if settings.patch or settings.kind in WHOLE:
        return settings.patch_size()
    longest = max(sorted(entry.shape)[1] for entry in entries)
    return min(settings.patch_size(), max(16, 8 * -(-longest // 8)))


def _key(
    cases: Cases, settings: TrainSettings, inputs: Mapping[str, Volume | LabelMap], start: ModelCard | None
) -> str:
    """By what a cache is known: the cases, their files' sizes and dates (or voxels), and the settings it depends on."""
    plain = settings.to_dict()
    held: list[Any] = [{name: plain[name] for name in SETTINGS_OF_CACHE}, str(start.folder) if start else ""]
    for case in cases.cases:
        held.append(
            [
                case.name,
                case.patient,
                case.group,
                {role: [_stamp(one) for one in v] for role, v in case.volumes.items()},
            ]
        )
    return text_hash(json.dumps(held, sort_keys=True))


def _stamp(one: Found) -> list[Any]:
    if one.volume is not None:
        digest = hashlib.sha256(np.ascontiguousarray(one.volume.array).data)
        return [one.name, digest.hexdigest(), one.volume.ijk_to_ras.tolist()]
    assert one.path is not None
    try:
        beside = table_beside(one.path)
        files = [one.path, *([beside] if beside.is_file() else [])]
        files = sorted(one.path.iterdir()) if one.path.is_dir() else files
        stamps = [file.stat() for file in files]
    except OSError:
        return [one.name]
    return [one.name, len(files), sum(s.st_size for s in stamps), max((s.st_mtime_ns for s in stamps), default=0)]
