"""Colour table nodes: the diverging one of difference maps, and the one that names the labels of a label map."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import slicer

OWNER = "MedGAN.ColorTable"
"""Attribute that tells our tables from all others."""

LARGEST_LABEL = 65535
"""A table has one row for every value up to the largest label."""

# Dark blue below zero, white at zero, dark red above: lightness alone already shows the size of the change.
_DIVERGING = ((0.0, (0.05, 0.19, 0.58)), (0.25, (0.38, 0.62, 0.90)), (0.5, (1.0, 1.0, 1.0)))
_DIVERGING += ((0.75, (0.94, 0.54, 0.42)), (1.0, (0.60, 0.03, 0.09)))
_ROWS = 256  # what the display maps its window to; zero falls between the rows 127 and 128, so both are white


def differenceColors(scene):
    """The blue-white-red colour table of the scene; made on the first call, found again later."""
    for node in scene.GetNodes():
        if node.IsA("vtkMRMLColorTableNode") and node.GetAttribute(OWNER) == "difference":
            return node
    node = _newTable("MedGAN difference", "difference", _ROWS)
    for row in range(_ROWS):
        node.SetColor(row, *divergingColor((row if row < 128 else row - 1) / 254), 1.0)
    node.SetNamesFromColors()
    return scene.AddNode(node)


def labelColors(scene, labels: Mapping[int, tuple[str, tuple[float, float, float]]], name: str):
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


def divergingColor(share: float) -> tuple[float, float, float]:
    """Red, green, blue at 0 (most negative), 0.5 (no change) to 1 (most positive)."""
    for (start, low), (stop, high) in itertools.pairwise(_DIVERGING):
        if share <= stop:
            part = (share - start) / (stop - start)
            red, green, blue = (a + part * (b - a) for a, b in zip(low, high, strict=True))
            return red, green, blue
    return _DIVERGING[-1][1]


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
