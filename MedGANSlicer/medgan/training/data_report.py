"""What is said of training data: who is for validation, the report for the person, the fingerprint for the card."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan import exchange
from medgan.settings import TrainKind, TrainSettings
from medgan.training.checkpoint_files import has_checkpoint
from medgan.training.data_cache import Entry, no_room
from medgan.training.data_cases import CALLED
from medgan.training.data_files import DataError

SHOWN = 3
"""Volumes left out that a refusal names."""


def split(entries: list[Entry], settings: TrainSettings, messages: list[str], uses: Mapping[str, str]) -> None:
    """Mark the entries of some patients for validation, each role on both sides. The same seed gives the same.

    ``uses``: "train" or "validation" of patients that the training has had already, who stay what they were.
    """
    if settings.validation_share == 0.0:
        messages.append("No patients are kept for validation: its figures are of volumes the model was trained on.")
        return
    role_sets: dict[str, frozenset[str]] = {}
    for entry in entries:
        role_sets[entry.patient] = role_sets.get(entry.patient, frozenset()) | frozenset(entry.sources)
    groups: dict[frozenset[str], list[str]] = {}
    for patient in sorted(role_sets, key=lambda patient: text_hash(f"{settings.seed} {patient}")):
        groups.setdefault(role_sets[patient], []).append(patient)
    having = {
        f" with a {CALLED[role]}" if len(groups) > 1 else "": [
            name for name, roles in role_sets.items() if role in roles
        ]
        for role in sorted(frozenset().union(*groups))
    }
    for of, patients in having.items():
        if len(patients) < 2:
            raise DataError(
                f"There is only one patient{of} to train on ('{patients[0]}'); give two or more, one of them is for "
                "validation, or set Validation (--validation-share) to 0."
            )
    chosen: set[str] = set()
    for patients in (patients for patients in groups.values() if len(patients) > 1):
        count = min(len(patients) - 1, max(1, round(settings.validation_share * len(patients))))
        kept = [patient for patient in patients if uses.get(patient) == "validation"]
        new = [patient for patient in patients if patient not in uses]
        chosen.update(kept + new[: max(0, count - len(kept))])
    alone = [patients[0] for patients in groups.values() if len(patients) == 1]
    for patient in sorted(alone, key=lambda patient: (patient not in uses, -len(role_sets[patient]))):
        kept_roles = {role for other in chosen for role in role_sets[other]}
        left = {role for other in role_sets.keys() - chosen - {patient} for role in role_sets[other]}
        wanted = not role_sets[patient] <= kept_roles and role_sets[patient] <= left
        if uses.get(patient, "validation" if wanted else "train") == "validation":
            chosen.add(patient)
    for of, patients in having.items():
        check_both_sides(patients, chosen.intersection(patients), of)
    for entry in entries:
        entry.validation = entry.patient in chosen


def check_both_sides(patients: Collection[str], kept: Collection[str], of: str) -> None:
    """Raise :class:`DataError` when patients whose use is known from before leave none to train on or to keep."""
    if 0 < len(kept) < len(patients):
        return
    was, need = ("kept for validation", "to train on") if kept else ("trained on", "for validation")
    raise DataError(
        f"All patients{of} that are left were {was} when this training began, and none is left {need}; give those back "
        "that were there, or new ones, or begin a new training in another folder."
    )


def fingerprint(entries: Sequence[Entry], changed: bool) -> dict[str, Any]:
    """What the card says of the data: no names of patients or files, but enough to know the same data again.

    ``changed``: whether the training has had other data too.
    """
    ranges = [limits for entry in entries for limits in entry.ranges.values()]
    spacing = np.array([entry.spacing_mm for entry in entries])
    return {
        "sha256": _digest(entries),
        "changed": changed,
        "volumes": sum(len(entry.sources) for entry in entries),
        "cases": {"train": sum(not e.validation for e in entries), "validation": sum(e.validation for e in entries)},
        "patients": len({entry.patient for entry in entries}),
        "spacing_mm": {"smallest": spacing.min(axis=0).tolist(), "largest": spacing.max(axis=0).tolist()},
        "intensity": {"lowest": min(r[0] for r in ranges), "highest": max(r[1] for r in ranges)} if ranges else None,
    }


def nothing_left(rejected: Sequence[tuple[str, str]], kind: TrainKind) -> str:
    if not rejected:
        return f"There is nothing to train '{kind.value}' on."
    name, why = rejected[-1]
    if len(rejected) == 1:
        return f"The only volume can not be used: {why}"
    return f"None of the {len(rejected)} volumes can be used (data.json names them all); the last one, '{name}': {why}"


def left_out(rejected: Sequence[tuple[str, str]]) -> str:
    """What a refusal says besides: the first volumes that took no part, which may be why; '' without any."""
    told = [f"'{name}': {why}" for name, why in rejected[:SHOWN]]
    more = f" And {len(rejected) - SHOWN} more." if len(rejected) > SHOWN else ""
    return f" Left out: {' '.join(told)}{more}" if told else ""


def write_report(folder: Path, entries: Sequence[Entry], report: Mapping[str, Any]) -> None:
    """``data.json``: for a person, what took part, what did not and why."""
    try:
        exchange.write_json({**report, "read": read_rows(entries)}, folder / "data.json")
    except OSError as error:
        raise no_room(folder, error) from error


def read_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "patient": entry.patient,
            "use": _use(entry),
            "files": entry.sources,
            "size_voxels": entry.size_voxels,
            "spacing_mm": entry.spacing_mm,
            "intensity": entry.ranges,
            **({"labels": entry.labels} if entry.labels else {}),
        }
        for entry in entries
    ]


def _use(entry: Entry) -> str:
    return "validation" if entry.validation else "train"


def earlier(folder: Path) -> dict[str, Any]:
    """What ``data.json`` says of the data that the training in the folder has had: "sha256" of the last ("" before the
    first step), whether they "changed", and the use of all patients ("uses") and cases ("names")."""
    nothing = {"sha256": "", "changed": False, "uses": {}, "names": {}}
    if not has_checkpoint(folder):
        return nothing
    try:
        held = exchange.read_json(folder / "data.json")
        read = held.get("read", [])  # which alone says it in older folders
        return {
            "sha256": str(held.get("sha256", "")),
            "changed": bool(held.get("changed")),
            "uses": dict(held["uses"] if "uses" in held else {row["patient"]: row["use"] for row in read}),
            "names": dict(held["names"] if "names" in held else {row["name"]: row["use"] for row in read}),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return nothing


def uses_before(entries: Sequence[Entry], before: Mapping[str, Any]) -> dict[str, str]:
    """The uses of patients that a training has had (see :func:`earlier`), also of those that had other names. One of
    whom anything was trained on is for training."""
    uses = dict(before["uses"])
    for entry in entries:
        if entry.name in before["names"] and uses.get(entry.patient) != "train":
            uses[entry.patient] = before["names"][entry.name]
    return uses


def with_these(entries: Sequence[Entry], before: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`earlier` will say when the training has had these entries too."""
    digest, names = _digest(entries), {entry.name: _use(entry) for entry in entries}
    known = before.get("names", {})  # an older cache has none
    other = before.get("sha256", "") not in ("", digest) or any(known.get(n, use) != use for n, use in names.items())
    return {
        "sha256": digest,
        "changed": other or bool(before.get("changed")),
        "uses": {**before.get("uses", {}), **{entry.patient: _use(entry) for entry in entries}},
        "names": {**known, **names},
    }


def _digest(entries: Sequence[Entry]) -> str:
    return text_hash("\n".join(sorted(entry.digest for entry in entries)))


def text_hash(text: str) -> str:
    """SHA-256 of a text, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
