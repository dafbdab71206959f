"""The coarse variant of a segmentation: few tissues instead of many structures. Imports without torch."""

from __future__ import annotations

from collections.abc import Sequence

from medgan.bundle import ModelError
from medgan.segmentation.description import Description, Group, Part
from medgan.volume import Label

_BRAIN: tuple[tuple[str, tuple[float, float, float], tuple[int, ...]], ...] = (
    ("CSF", (0.30, 0.55, 0.90), (4, 5, 14, 15, 24, 31, 43, 44, 63, 72, 213, 221, 136, 137, 163, 164)),
    (
        "grey matter",
        (0.80, 0.42, 0.35),
        (3, 8, 10, 11, 12, 13, 17, 18, 26, 28, 42, 47, 49, 50, 51, 52, 53, 54, 58, 60, 80, 81, 82),
    ),
    (
        "white matter",
        (0.93, 0.91, 0.80),
        (2, 7, 16, 25, 30, 41, 46, 57, 62, 77, 78, 79, 85, 251, 252, 253, 254, 255),
    ),
    ("skull", (0.95, 0.84, 0.57), (165, 515, 516)),
    ("other tissue of the head", (0.60, 0.55, 0.50), (258, 259, 502, 506, 507, 508, 509, 511, 512, 514, 530)),
)
"""Name, colour and FreeSurfer codes of each tissue."""


def groups_of(description: Description, model: str) -> tuple[Group, ...]:
    """The tissues of the coarse variant: the bundle's own, or those of the FreeSurfer codes that its labels have.

    Raises :class:`ModelError` when the labels are neither.
    """
    if description.coarse:
        return description.coarse
    values = [part.value for part in description.parts]
    known = {code for *_rest, codes in _BRAIN for code in codes}
    strange = [part.label.name for part in description.parts if part.value not in known]
    if strange or len(values) < 5:
        raise ModelError(f"Model '{model}' has no coarse variant; switch it off.")
    found = []
    for number, (name, color, codes) in enumerate(_BRAIN, 1):
        members = tuple(value for value in values if value in codes)
        if members:
            found.append(Group(Part(number, Label(name, color)), members))
    return tuple(found)


def channels_of(groups: Sequence[Group], description: Description) -> list[list[int]]:
    """For each group the places of its members in ``description.parts``."""
    place = {part.value: n for n, part in enumerate(description.parts)}
    return [[place[value] for value in group.members if value in place] for group in groups]
