"""The label value of each segment: its own, that of a table, or a number in a row; never one value for two."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from enum import Enum

from medgan.labeltable import LARGEST_VALUE, LabelTable
from medgan.segments import Segment
from medgan.volume import VolumeError

_NAMED = 5  # so many names are told in a sentence, then "and 7 more"


class Values(Enum):
    """Where the label value of a segment comes from."""

    OWN = "own"
    TABLE = "table"
    TERMINOLOGY = "terminology"
    CONSECUTIVE = "consecutive"

    def label(self) -> str:
        return {
            Values.OWN: "the segment's own",
            Values.TABLE: "by name from the table",
            Values.TERMINOLOGY: "by terminology code from the table",
            Values.CONSECUTIVE: "1, 2, 3 in the order of the list",
        }[self]


BY_TABLE = (Values.TABLE, Values.TERMINOLOGY)
"""The rules by which a segment gets its value from a table, because of what it is called already."""


def assigned(segments: Sequence[Segment], rule: Values, table: LabelTable | None = None) -> tuple[list[int], list[str]]:
    """A label value of its own for each segment, by the rule, and sentences about those that it does not fit.

    A segment that the rule has no value for, or one that another segment has already, gets the next free value above
    all others. Raises :class:`VolumeError` when the rule needs a table and there is none.
    """
    if rule is Values.CONSECUTIVE:
        return list(range(1, len(segments) + 1)), []
    if rule is not Values.OWN and table is None:
        raise VolumeError("These label values come from a table; choose one, or take the segments' own values.")
    wanted = [_wanted(segment, rule, table) for segment in segments]
    taken = {0}
    chosen: list[int] = []
    for values in wanted:
        value = values[0] if len(values) == 1 else 0
        keep = value if 0 < value <= LARGEST_VALUE and value not in taken else 0
        taken.add(keep)
        chosen.append(keep)
    taken |= set(table.labels if table is not None else ())
    above, below = range(max(taken) + 1, LARGEST_VALUE + 1), range(1, max(taken))
    free = (value for value in itertools.chain(above, below) if value not in taken)
    given: tuple[list[str], list[str], list[str]] = ([], [], [])
    for number, value in enumerate(chosen):
        if not value:
            chosen[number] = next(free)
            given[min(len(wanted[number]), 2)].append(f"'{segments[number].label.name}' ({chosen[number]})")
    unknown, doubled, several = given
    said = []
    if doubled:
        said.append(f"Another segment had the label value before; a new one was given to {listed(doubled)}.")
    if unknown:
        said.append(f"Not in the table; a free label value was given to {listed(unknown)}.")
    if several:
        said.append(f"Several times in the table; a free label value was given to {listed(several)}.")
    return chosen, said


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    shown = list(names)
    more = len(shown) - _NAMED
    return ", ".join(shown[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _wanted(segment: Segment, rule: Values, table: LabelTable | None) -> list[int]:
    """The label value by the rule; none where the table has none, several where it can not tell which."""
    if rule is Values.OWN or table is None:
        return [segment.known_value]
    by_name = table.values_of_name(segment.label.name)
    by_code = table.values_of_terminology(segment.label.terminology)
    first, second = (by_name, by_code) if rule is Values.TABLE else (by_code, by_name)
    for values in (first, second):
        if len(values) == 1:
            return values
        if segment.known_value in values:
            return [segment.known_value]
    return first or second
