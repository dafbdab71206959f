"""Colour table nodes: diverging for signed changes, sequential for uncertainty, and the labels of a label map."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import slicer

from medgan.labeltable import LARGEST_IN_SLICER
from medgan.steps import Steps, finished
from medgan.terminology import parsed
from medgan.volume import Label

Color = tuple[float, float, float]
"""Red, green, blue, each 0..1."""

OWNER = "MedGAN.ColorTable"
"""Attribute that tells our tables from all others."""

_ROWS_A_STEP = 20_000

_TERMINOLOGY = "MedGAN.Terminology."
"""Start of the attributes that hold a terminology entry to the letter; the label value follows."""

# Dark blue below zero, white at zero, dark red above: lightness alone already shows the size of the change.
_DIVERGING = ((0.0, (0.05, 0.19, 0.58)), (0.25, (0.38, 0.62, 0.90)), (0.5, (1.0, 1.0, 1.0)))
_DIVERGING += ((0.75, (0.94, 0.54, 0.42)), (1.0, (0.60, 0.03, 0.09)))
# Lightness rises from nothing to much, so that the map can be read in grey as well.
_SEQUENTIAL = ((0.0, (0.0, 0.0, 0.02)), (0.3, (0.35, 0.08, 0.43)), (0.6, (0.80, 0.25, 0.30)))
_SEQUENTIAL += ((0.85, (0.98, 0.62, 0.10)), (1.0, (0.99, 0.98, 0.65)))
_ROWS = 256  # what the display maps its window to; zero falls between the rows 127 and 128, so both are white


def differenceColors(scene):
    """The blue-white-red colour table of the scene; made on the first call, found again later."""
    shares = [(row if row < 128 else row - 1) / 254 for row in range(_ROWS)]
    return _ramp(scene, "difference", [divergingColor(share) for share in shares])


def uncertaintyColors(scene):
    """The colour table of the scene that goes from black over red to yellow; made once, found again later."""
    return _ramp(scene, "uncertainty", [sequentialColor(row / (_ROWS - 1)) for row in range(_ROWS)])


def labelColors(scene, labels: Mapping[int, Label], name: str):
    """A new colour table with the name, colour and terminology of each label value.

    Value 0 is transparent background. Raises ``ValueError`` for values outside 0..1000000.
    """
    wrong = [value for value in labels if not 0 <= value <= LARGEST_IN_SLICER]
    if wrong:
        raise ValueError(f"Label {wrong[0]} can not have a colour; labels must lie between 0 and {LARGEST_IN_SLICER}.")
    node = _newTable(name, "labels", max([0, *labels]) + 1)
    for value, label in labels.items():
        node.SetColor(value, label.name, *label.color, 1.0)
        if label.terminology and hasattr(node, "SetTerminologyFromString"):  # since 5.8
            node.SetTerminologyFromString(value, label.terminology)
            if str(parsed(label.terminology)) != label.terminology:  # the table keeps the codes, not the names of lists
                node.SetAttribute(f"{_TERMINOLOGY}{value}", label.terminology)
    node.SetColor(0, labels[0].name if 0 in labels else "background", 0.0, 0.0, 0.0, 0.0)
    return scene.AddNode(node)


def labelsOf(colors) -> dict[int, Label]:
    """Name, colour and terminology of every named row of a colour table node (or None), without row 0."""
    return finished(labelsOfInSteps(colors))


def labelsOfInSteps(colors) -> Steps[dict[int, Label]]:
    """:func:`labelsOf`, some thousand rows at a time."""
    labels: dict[int, Label] = {}
    if colors is None or not colors.IsA("vtkMRMLColorTableNode"):
        return labels
    for row in range(1, colors.GetNumberOfColors()):
        if row % _ROWS_A_STEP == 0:
            yield 0
        label = labelOf(colors, row)
        if label is not None:
            labels[row] = label
    return labels


def labelOf(colors, value: int) -> Label | None:
    """What a colour table node says about a label value; None where it says nothing."""
    rgba = [0.0] * 4
    if colors is None or not 0 <= value < colors.GetNumberOfColors():
        return None
    if hasattr(colors, "GetColorDefined") and not colors.GetColorDefined(value):
        return None
    if not colors.GetColor(value, rgba) or colors.GetColorName(value) in (None, "", "(none)"):
        return None
    held = colors.GetTerminologyAsString(value) if hasattr(colors, "GetTerminologyAsString") else ""
    entry = parsed(held or "")
    exact = colors.GetAttribute(f"{_TERMINOLOGY}{value}") or ""
    terminology = exact if parsed(exact) == entry else str(entry)
    return Label(colors.GetColorName(value), (rgba[0], rgba[1], rgba[2]), terminology)


def madeByUs(colors) -> bool:
    """Whether a colour table was made for one label map, so that all its rows belong to it."""
    return colors is not None and colors.GetAttribute(OWNER) == "labels"


def divergingColor(share: float) -> Color:
    """Red, green, blue at 0 (most negative), 0.5 (no change) to 1 (most positive)."""
    return _between(_DIVERGING, share)


def sequentialColor(share: float) -> Color:
    """Red, green, blue at 0 (nothing) to 1 (most)."""
    return _between(_SEQUENTIAL, share)


def _between(stops: Sequence[tuple[float, Color]], share: float) -> Color:
    for (start, low), (stop, high) in itertools.pairwise(stops):
        if share <= stop:
            part = (share - start) / (stop - start)
            red, green, blue = (a + part * (b - a) for a, b in zip(low, high, strict=True))
            return red, green, blue
    return stops[-1][1]


def _ramp(scene, owner: str, colors: Sequence[Color]):
    for node in scene.GetNodes():
        if node.IsA("vtkMRMLColorTableNode") and node.GetAttribute(OWNER) == owner:
            return node
    node = _newTable(f"MedGAN {owner}", owner, len(colors))
    for row, color in enumerate(colors):
        node.SetColor(row, *color, 1.0)
    node.SetNamesFromColors()
    return scene.AddNode(node)


def _newTable(name: str, owner: str, rows: int):
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(name)
    node.SetAttribute(OWNER, owner)
    node.SetAttribute("Category", "MedGAN")
    node.SetHideFromEditors(False)
    node.SetNumberOfColors(rows)
    node.GetLookupTable().SetTableRange(0, rows - 1)
    return node
