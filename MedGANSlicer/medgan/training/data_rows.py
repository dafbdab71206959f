"""Training cases from a list (.csv): one a row, with a column for each role and one for the patient."""

from __future__ import annotations

from medgan.settings import Pairing, TrainKind, TrainSettings
from medgan.training import data_names as names
from medgan.training.data_cases import CALLED, ROLES, Case, Cases
from medgan.training.data_files import DataError, Search


def cases_of_rows(found: Search, settings: TrainSettings) -> Cases:
    """One case a row of a list. Columns are found by the names given, by role words, or in the order they stand."""
    roles = ROLES[settings.kind]
    columns = _columns(found.columns, settings)
    result = Cases()
    for row in found.rows:
        volumes = {role: [row.volumes[columns[role]]] for role in roles if columns.get(role) in row.volumes}
        shown = f"line {row.line}"
        missing = [role for role in roles if role in columns and role not in volumes]
        if not volumes:
            continue
        first = next(iter(volumes.values()))[0]
        case = Case(first.shown, row.patient or names.patient(first.name), volumes)
        if not missing:
            result.cases.append(case)
        elif settings.kind is TrainKind.TRANSLATE and settings.pairing is not Pairing.PAIRED:
            result.cases.append(case)
            result.paired = False
        else:
            result.rejected.append((shown, f"It names no {CALLED[missing[0]]}."))
    if not result.paired:  # a row of two in a list without pairs is two volumes
        result.cases = [
            Case(one.shown, case.patient, {role: [one]})
            for case in result.cases
            for role, (one, *_) in case.volumes.items()
        ]
    if len(columns) == 1 and settings.kind is not TrainKind.TRANSLATE:
        result.paired = False
    return result


def _columns(columns: list[str], settings: TrainSettings) -> dict[str, str]:
    """The column of each role. Raises :class:`DataError`."""
    roles, kind = ROLES[settings.kind], settings.kind
    words = {
        "input": names.DEGRADED, "target": names.CLEAN | names.TARGETS, "source": names.SOURCES,
        "labels": names.LABELS, "image": names.IMAGES | {"file", "path", "filename"},
    }  # fmt: skip
    chosen: dict[str, str] = {}
    given = (settings.source, settings.target)
    if kind is TrainKind.LABEL_TO_VOLUME:
        given = (settings.target, settings.source)  # the source is the image for everything with labels
    for role, name in zip(roles, given, strict=False):
        if name:
            if name not in columns:
                raise DataError(f"The list has no column '{name}' with volumes; it has {', '.join(columns)}.")
            chosen[role] = name
    for role in roles:
        free = [name for name in columns if name not in chosen.values()]
        match = next((name for name in free if set(names.tokens(name)) & words[role]), None)
        if role not in chosen and match:
            chosen[role] = match
    free = [name for name in columns if name not in chosen.values()]
    open_roles = [role for role in roles if role not in chosen]
    if kind is TrainKind.ENHANCE and "target" not in chosen and "input" not in chosen and free:
        return {"target": free[0]}  # one column of clean volumes
    if kind is TrainKind.SEGMENT and "labels" in chosen and not free:
        return chosen  # images are made on the fly
    if kind is TrainKind.ENHANCE and "target" in chosen and not free:
        return chosen
    chosen |= dict(zip(open_roles, free, strict=False))
    missing = [role for role in roles if role not in chosen]
    if missing:
        raise DataError(
            f"The list has no column for the {CALLED[missing[0]]}; name the columns {' and '.join(roles)}, or choose "
            "them as source and target."
        )
    return chosen
