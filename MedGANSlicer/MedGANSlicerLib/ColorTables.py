"""Colour table nodes: diverging for signed changes, sequential for uncertainty, and the labels of a label map."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import slicer

Color = tuple[float, float, float]
"""Red, green, blue, each 0..1."""

OWNER = "MedGAN.ColorTable"
"""Attribute that tells our tables from all others."""

LARGEST_LABEL = 65535
"""A table has one row for every value up to the largest label."""

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


def labelColors(scene, labels: Mapping[int, tuple[str, Color]], name: str):
    """A new colour table with a name and a colour (red, green, blue, 0..1) for each label value.

    Value 0 is transparent background. Raises ``ValueError`` for values outside 0..65535.
    """
    wrong = [value for value in labels if not 0 <= value <= LARGEST_LABEL]
    if wrong:
        raise ValueError(f"Label {wrong[0]} can not have a colour; labels must lie between 0 and {LARGEST_LABEL}.")
    node = _newTable(name, "labels", max([0, *labels]) + 1)
    for value, (text, color) in labels.items():
        node.SetColor(value, text, *color, 1.0)
    node.SetColor(0, labels[0][0] if 0 in labels else "background", 0.0, 0.0, 0.0, 0.0)
    return scene.AddNode(node)


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
