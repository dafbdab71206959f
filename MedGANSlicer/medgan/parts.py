"""The structures that the brain network names, by their FreeSurfer codes. Imports without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Structure:
    """One structure: its code on the left (or in the middle) and on the right, and what else counts as it."""

    name: str
    left: int
    right: int
    also_left: tuple[int, ...] = ()
    also_right: tuple[int, ...] = ()
    coarse: str = "rest"

    @property
    def lateral(self) -> bool:
        return self.left != self.right


SKULL = 515
"""Code that stands for cortical and cancellous bone together."""

SOFT_TISSUE = 507
"""Code that stands for everything else of the head: muscle, fat, skin, eyes, vessels."""

STRUCTURES = (
    Structure("background", 0, 0),
    Structure("cerebral white matter", 2, 41, (25, 30), (57, 62), "white matter"),
    Structure("cerebral cortex", 3, 42, coarse="grey matter"),
    Structure("lateral ventricle", 4, 43, (136,), (163,), "CSF"),
    Structure("inferior lateral ventricle", 5, 44, (137,), (164,), "CSF"),
    Structure("cerebellar white matter", 7, 46, coarse="white matter"),
    Structure("cerebellar cortex", 8, 47, coarse="grey matter"),
    Structure("thalamus", 10, 49, coarse="grey matter"),
    Structure("caudate", 11, 50, coarse="grey matter"),
    Structure("putamen", 12, 51, coarse="grey matter"),
    Structure("pallidum", 13, 52, coarse="grey matter"),
    Structure("hippocampus", 17, 53, coarse="grey matter"),
    Structure("amygdala", 18, 54, coarse="grey matter"),
    Structure("accumbens", 26, 58, coarse="grey matter"),
    Structure("ventral diencephalon", 28, 60, coarse="grey matter"),
    Structure("third ventricle", 14, 14, (72,), (), "CSF"),
    Structure("fourth ventricle", 15, 15, coarse="CSF"),
    Structure("brain stem", 16, 16, coarse="white matter"),
    Structure("CSF", 24, 24, coarse="CSF"),
    Structure("skull", SKULL, SKULL, (516,), (), "skull"),
    Structure("other tissue of the head", SOFT_TISSUE, SOFT_TISSUE, (85, 502, 506, 508, 509, 511, 512, 514, 530), ()),
)
"""What the network tells apart, background first. The order is that of its channels."""

OUTSIDE_BRAIN = (SKULL, SOFT_TISSUE)
"""Structures that a skull-stripped scan does not show."""


def values() -> list[int]:
    """Label value of every channel of the network's answer: background, then each structure, left before right."""
    held = []
    for structure in STRUCTURES:
        held += [structure.left, structure.right] if structure.lateral else [structure.left]
    return held


def classes_of_codes() -> dict[int, tuple[int, int]]:
    """Code -> (index in STRUCTURES, side: 0 left, 1 right, -1 neither)."""
    found = {}
    for index, structure in enumerate(STRUCTURES):
        for code in (structure.left, *structure.also_left):
            found[code] = (index, 0 if structure.lateral else -1)
        for code in (structure.right, *structure.also_right):
            found[code] = (index, 1 if structure.lateral else -1)
    return found
