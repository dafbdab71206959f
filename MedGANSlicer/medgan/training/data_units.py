"""One unit for all volumes of a role: Hounsfield units, or each by its own range, as the finished model will do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from medgan.settings import TrainKind
from medgan.training.data_cache import Entry, store
from medgan.training.data_cases import CALLED, Case
from medgan.training.data_checks import Loaded

CT = "CT"


def in_one_unit(
    entries: list[Entry],
    cases: Sequence[tuple[int, Case]],
    cache: Path,
    kind: TrainKind,
    read: Callable[[Case], Loaded],
) -> list[str]:
    """Store those entries again that were scaled otherwise than the rest of their role; sentences about them.

    ``cases``: number and case of each entry; ``read`` reads one again. A role is in Hounsfield units if most of its
    volumes look like CT and the others have values far below 0, too; else every volume is scaled by its own range.
    """
    if kind in (TrainKind.ENHANCE, TrainKind.CLASSIFY):  # the model itself looks at each volume
        return []
    units: dict[str, str] = {}
    told = []
    for role in sorted({role for entry in entries for role in entry.ranges}):
        those = [entry for entry in entries if role in entry.ranges]
        others = [entry for entry in those if entry.modality[role] != CT]
        if not others or len(others) == len(those):
            continue
        hounsfield = 2 * len(others) < len(those) and all(entry.ranges[role][0] < 0 for entry in others)
        units[role] = CT if hounsfield else ""
        first = f"'{others[0].sources[role]}'" + (f" and {len(others) - 1} more" if len(others) > 1 else "")
        told.append(
            f"{len(those) - len(others)} of {len(those)} {CALLED[role]}s look like CT, {first} "
            f"{'does' if len(others) == 1 else 'do'} not; "
            + ("all are taken for CT in Hounsfield units." if hounsfield else "each is scaled by its own range.")
        )
    for place, (number, case) in enumerate(cases):
        odd = [role for role, unit in units.items() if entries[place].modality.get(role, unit) != unit]
        if odd:
            loaded = read(case)
            for role in odd:
                loaded.roles[role].modality = units[role]
            entries[place] = store(loaded, number, cache, kind)
    return told
