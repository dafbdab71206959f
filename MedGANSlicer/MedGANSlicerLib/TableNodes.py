"""Table nodes: rows of text and numbers in the scene, with units and descriptions, shown and saved by Slicer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from MedGANSlicerLib.SceneEdits import oneModification, placeBeside, subjectHierarchy, uniqueName

DIGITS = 6
"""Significant digits of the numbers in a table: its view shows all that there are."""


@dataclass(frozen=True)
class Column:
    """What a table says about a column besides its values. ``title`` stands above it, if it differs from its name."""

    title: str = ""
    unit: str = ""
    description: str = ""


def addTable(
    scene,
    name: str,
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, Column] | Sequence[str] = (),
    attributes: Mapping[str, str] | None = None,
    beside=None,
    tableNode=None,
):
    """A table node with one line for each row. Returns the node.

    ``columns`` names the columns and their order; without them there is one for every key of the rows, in the order
    in which they occur. A column of numbers is one of numbers, with "nan" where a row has none (or None); any other
    is one of text. Numbers are rounded to six digits. The node is new, with a unique name, in the folder of the node
    ``beside``; or it is ``tableNode``, which is filled anew. Observers hear of it once.
    """
    rows = [dict(row) for row in rows]
    named = dict.fromkeys(columns) if columns else dict.fromkeys(key for row in rows for key in row)
    told = dict(columns) if isinstance(columns, Mapping) else {}
    node = tableNode
    if node is None:
        node = slicer.vtkMRMLTableNode()
        node.SetName(uniqueName(scene, name))
    table = vtk.vtkTable()
    for key in named:
        table.AddColumn(_column(key, [row.get(key) for row in rows]))
    with oneModification(node):
        node.RemoveAllColumns()
        node.SetAndObserveTable(table)
        for key, column in told.items():
            _describe(node, key, column)
        node.SetUseColumnTitleAsColumnHeader(True)
        for key, value in (attributes or {}).items():
            node.SetAttribute(key, value)
    if node.GetScene() is None:
        scene.AddNode(node)
        if beside is not None:
            placeBeside(scene, node, beside)
    return node


def addNumbers(tableNode, columns: Mapping[str, Sequence[float]]) -> None:
    """Replace all columns of a table node by columns of float64, which plots read. Observers hear of it once."""
    table = vtk.vtkTable()
    for name, values in columns.items():
        table.AddColumn(_numbers(name, np.asarray(values, dtype=float)))
    tableNode.SetAndObserveTable(table)


def folderItem(scene, name: str, beside=None) -> int:
    """A new folder of the subject hierarchy, in the one that holds ``beside``; 0 in a scene without hierarchy."""
    hierarchy = subjectHierarchy(scene)
    if hierarchy is None:
        return 0
    item = hierarchy.GetItemByDataNode(beside) if beside is not None else 0
    parent = hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID()
    return hierarchy.CreateFolderItem(parent, hierarchy.GenerateUniqueItemName(name))


def putInFolder(scene, folder: int, *nodes) -> None:
    """Show the nodes in a folder that :func:`folderItem` made; nothing happens for 0, and to hidden nodes."""
    hierarchy = subjectHierarchy(scene)
    if hierarchy is None or not folder:
        return
    for node in nodes:
        if node.GetHideFromEditors():
            continue
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.SetItemParent(item, folder)
        else:
            hierarchy.CreateItem(folder, node)


def folderOf(node) -> int:
    """The folder of the subject hierarchy that a node lies in, or 0."""
    hierarchy = subjectHierarchy(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    parent = hierarchy.GetItemParent(item) if item else 0
    return parent if parent and hierarchy.GetItemLevel(parent) == "Folder" else 0


def removeEmptyFolder(scene, folder: int) -> None:
    """Take a folder out of the subject hierarchy if nothing lies in it any more; nothing happens for 0."""
    hierarchy = subjectHierarchy(scene)
    if folder and hierarchy is not None and not hierarchy.GetNumberOfItemChildren(folder):
        hierarchy.RemoveItem(folder, False, False)


def _column(name: str, values: list):
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in present):
        if len(present) == len(values) and all(isinstance(value, int | np.integer) for value in present):
            return _numbers(name, np.asarray(values, dtype=np.int64).astype(float), whole=True)
        return _numbers(name, np.array([np.nan if value is None else _rounded(float(value)) for value in values]))
    column = vtk.vtkStringArray()
    column.SetName(name)
    for value in values:
        column.InsertNextValue("" if value is None else str(value))
    return column


def _numbers(name: str, values: np.ndarray, whole: bool = False):
    kind = np.int32 if whole and np.abs(values).max(initial=0) < 2**31 else np.float64
    column = numpy_to_vtk(np.ascontiguousarray(values, dtype=kind), deep=True)
    column.SetName(name)
    return column


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _describe(node, key: str, column: Column) -> None:
    if column.title:
        node.SetColumnTitle(key, column.title)
    if column.unit:
        node.SetColumnUnitLabel(key, column.unit)
    if column.description:
        node.SetColumnDescription(key, column.description)
