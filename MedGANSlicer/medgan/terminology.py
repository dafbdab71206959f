"""What a segment is, in the codes of a terminology (SNOMED CT), as 3D Slicer writes it into one line of text.

The line has seven parts joined by ``~``: name of the list, category, type, modifier of the type, name of the list of
regions, region, modifier of the region. A part that is a code is ``scheme^value^meaning``.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPES = "Segmentation category and type - DICOM master list"
"""Slicer's list in which the categories and types of :mod:`medgan.freesurfer` are found."""

REGIONS = "Anatomic codes - DICOM master list"


_ANY_TISSUE = ("85756007", "85756007", "", "", "")


@dataclass(frozen=True)
class Code:
    """One entry of a terminology: coding scheme ("SCT"), code value and what it means."""

    scheme: str = ""
    value: str = ""
    meaning: str = ""

    def __bool__(self) -> bool:
        return bool(self.value)

    def __str__(self) -> str:
        return "^".join(_plain(part) for part in (self.scheme, self.value, self.meaning))


@dataclass(frozen=True)
class Terminology:
    """Category and type of a segment, with what narrows them down: "Anatomical Structure", "Hippocampus", "Left"."""

    category: Code = Code()
    type: Code = Code()
    modifier: Code = Code()
    region: Code = Code()
    region_modifier: Code = Code()

    def __bool__(self) -> bool:
        return any((self.category, self.type, self.modifier, self.region, self.region_modifier))

    def __str__(self) -> str:
        """The line that a segment of 3D Slicer holds; '' when nothing is said."""
        if not self:
            return ""
        codes = (self.category, self.type, self.modifier, REGIONS, self.region, self.region_modifier)
        return "~".join([TYPES, *map(str, codes)])

    @property
    def codes(self) -> tuple[str, ...]:
        """The code values alone: two segments with the same ones are the same structure, whatever they are called."""
        parts = (self.category, self.type, self.modifier, self.region, self.region_modifier)
        return tuple(part.value for part in parts)


def parsed(text: str) -> Terminology:
    """The terminology in a line as segments hold it; an empty one where the line says nothing readable."""
    parts = [*text.split("~"), *[""] * 7][:7]
    return Terminology(_code(parts[1]), _code(parts[2]), _code(parts[3]), _code(parts[5]), _code(parts[6]))


def same(one: str, other: str) -> bool:
    """Whether two lines name one structure: the names of lists and the wording of meanings do not count.

    Plain "Tissue" names none: 3D Slicer says it of every new segment.
    """
    codes = parsed(one).codes
    return any(codes) and codes != _ANY_TISSUE and codes == parsed(other).codes


def _code(text: str) -> Code:
    scheme, value, meaning = [*text.split("^"), "", "", ""][:3]
    return Code(scheme, value, meaning)


def _plain(text: str) -> str:
    """Without the characters that separate the parts."""
    return text.replace("^", " ").replace("~", " ")
