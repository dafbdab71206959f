"""Training cases of a classification: which class each volume is an example of, and who is kept for validation.

A folder for each class, or a list (.csv) with a column of files and one of classes. The same patient in two classes is
one patient, who is either trained on or kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from medgan.settings import TrainSettings
from medgan.training import data_names as names
from medgan.training.data_cache import Entry
from medgan.training.data_cases import Case, Cases
from medgan.training.data_files import DataError, Found, Search
from medgan.training.data_report import check_both_sides, left_out, text_hash
from medgan.volume import LabelMap

COLUMNS = ("class", "label", "group", "category", "diagnosis", "target")
"""What the column of classes may be called."""

HOW = "put the volumes of each class into a folder of its own, or give a list (.csv) with a column 'class'"


def classes_of_folders(volumes: Iterable[Found]) -> Cases:
    """One case a volume; its class is the folder that it lies in, right below the one that was named."""
    result = Cases(paired=False)
    for one in volumes:
        group, _, rest = one.name.partition("/")
        if not rest:
            result.rejected.append((one.shown, "It lies in no folder of a class."))
        elif isinstance(one.volume, LabelMap) or _named_labels(rest):
            result.rejected.append((one.shown, "A label map by its name; classes are learned from images."))
        else:
            result.cases.append(Case(one.shown, names.patient(rest, channels=False), {"image": [one]}, group))
    _check(result)
    return result


def classes_of_rows(found: Search, settings: TrainSettings) -> Cases:
    """One case a row of a list. ``settings.target`` may name the column of classes, ``settings.source`` that of files.

    Raises :class:`DataError` for a list without them.
    """
    cells = found.rows[0].cells if found.rows else {}
    wanted = [settings.target] if settings.target else [name for name in cells if name.lower() in COLUMNS]
    column = next((name for name in wanted if name in cells and name not in found.columns), "")
    if not column:
        raise DataError(
            f"The list has no column of classes; name it 'class', or choose it as target: {_listed(cells)}."
        )
    files = settings.source or found.columns[0]
    if files not in found.columns:
        raise DataError(f"The list has no column '{files}' with volumes; it has {', '.join(found.columns)}.")
    result = Cases(paired=False)
    for row in found.rows:
        if files not in row.volumes:
            result.rejected.append((f"line {row.line}", "It names no image."))
        elif not row.cells.get(column):
            result.rejected.append((f"line {row.line}", "It names no class."))
        else:
            one = row.volumes[files]
            patient = row.patient or names.patient(one.name, channels=False)
            result.cases.append(Case(one.shown, patient, {"image": [one]}, row.cells[column]))
    _check(result)
    return result


def _named_labels(name: str) -> bool:
    """Whether the file's own name says label map; a class may be called "mask"."""
    return names.without(name.split("/")[-1], names.LABELS) is not None


def _listed(cells: Iterable[str]) -> str:
    return f"it has {', '.join(cells)}" if cells else "it has none"


def _check(found: Cases) -> None:
    groups = sorted({case.group for case in found.cases})
    if len(groups) < 2:
        there = f"the only class is '{groups[0]}'" if groups else "no volume has a class"
        raise DataError(f"A classification needs two classes or more, and {there}; {HOW}.{left_out(found.rejected)}")


def one_sided(groups: Iterable[str]) -> bool:
    """Whether a class is named after a side of the body, so that a mirrored volume belongs to another one."""
    return any({"left", "right"} & set(names.tokens(group)) for group in groups)


def split_classes(entries: list[Entry], settings: TrainSettings, messages: list[str], uses: Mapping[str, str]) -> None:
    """Mark the entries of some patients for validation, of every class about the same share and at least one.

    The same seed gives the same; for ``uses`` see :func:`medgan.training.data_report.split`. Raises
    :class:`DataError` for a class with fewer than two patients.
    """
    patients: dict[str, set[str]] = {}
    for entry in entries:
        patients.setdefault(entry.group, set()).add(entry.patient)
    counts = Counter(entry.group for entry in entries)
    said = ", ".join(f"'{group}' {counts[group]}" for group in sorted(counts))
    messages.append(f"Volumes of each class: {said}; every class is drawn equally often.")
    if settings.flips and one_sided(counts):
        messages.append("Classes are named left or right, so the volumes are not mirrored.")
    if len(patients) < 2:
        raise DataError(f"Only volumes of the class '{next(iter(patients))}' can be used; two classes are needed.")
    if settings.validation_share == 0.0:
        messages.append("No patients are kept for validation: its figures are of volumes the model was trained on.")
        return
    for group, held in sorted(patients.items()):
        if len(held) < 2:
            raise DataError(
                f"The class '{group}' has only one patient ('{next(iter(held))}'); give two or more, one of them is "
                "for validation, or set Validation (--validation-share) to 0."
            )
    chosen = {entry.patient for entry in entries if uses.get(entry.patient) == "validation"}
    for _, held in sorted(patients.items(), key=lambda item: (len(item[1]), item[0])):
        count = min(len(held) - 1, max(1, round(settings.validation_share * len(held))))
        order = sorted(held, key=lambda patient: text_hash(f"{settings.seed} {patient}"))
        free = [patient for patient in order if patient not in chosen and patient not in uses]
        for patient in free[: max(0, count - sum(patient in chosen for patient in held))]:
            # Every class has to keep somebody to train on.
            if all(len(other - chosen - {patient}) >= 1 for other in patients.values()):
                chosen.add(patient)
    for group, held in sorted(patients.items()):
        if held <= uses.keys():
            check_both_sides(held, held & chosen, f" of the class '{group}'")
    without = [group for group, held in patients.items() if not held & chosen]
    if without:
        raise DataError(
            f"No patient of the class '{without[0]}' can be kept for validation, because the classes share their "
            "patients; give more patients, or set Validation (--validation-share) to 0."
        )
    for entry in entries:
        entry.validation = entry.patient in chosen
