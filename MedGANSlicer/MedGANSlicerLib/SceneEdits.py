"""Edits of a MRML scene that are done whole or leave nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import vtk


@contextlib.contextmanager
def removeOnFailure(scene, *reusedNodes) -> Iterator[None]:
    """While the block runs, nodes may be added; if it raises, all of them are taken out again.

    Display, storage and colour nodes go with them, and so do new folders of the subject hierarchy. ``reusedNodes``
    (None is allowed) are existing nodes that the block fills anew: after a failure they and their display nodes hold
    what they held before. Their voxels must be replaced by a new image, never written in place.
    """
    present = {node.GetID() for node in scene.GetNodes()}
    folders = set(_folders(scene))
    kept = [_Kept(node) for reused in reusedNodes if reused is not None for node in _withDisplays(reused)]
    try:
        yield
    except BaseException:
        added = [node for node in scene.GetNodes() if node.GetID() not in present]
        for node in reversed(added):
            removeNode(scene, node)
        for item in [each for each in reversed(_folders(scene)) if each not in folders]:
            subjectHierarchy(scene).RemoveItem(item, False, False)
        for content in kept:
            content.restore()
        raise


def removeNode(scene, node) -> None:
    """Take a node out of the scene together with its display and storage nodes and its hierarchy item."""
    hierarchy = subjectHierarchy(scene)
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    if item:
        hierarchy.RemoveItem(item, False, False)  # without the application nobody else removes it
    parts = [
        node.GetNthNodeReference(role, number)
        for role in ("display", "storage")
        for number in range(node.GetNumberOfNodeReferences(role))
    ]
    for each in (node, *parts):  # a volume in the views that loses its display node first is given another
        if each is not None and scene.IsNodePresent(each):
            scene.RemoveNode(each)


def uniqueName(scene, name: str) -> str:
    """``name`` if no node has it, else ``name 1``, ``name 2`` and so on."""
    candidate, number = name, 0
    while scene.GetFirstNodeByName(candidate) is not None:
        number += 1
        candidate = f"{name} {number}"
    return candidate


def placeBeside(scene, node, neighbour) -> None:
    """Show ``node`` in the same study or folder of the subject hierarchy as ``neighbour``, if that is in one."""
    hierarchy = subjectHierarchy(scene)
    item = hierarchy.GetItemByDataNode(neighbour) if hierarchy is not None else 0
    if not item:
        return
    parent = hierarchy.GetItemParent(item)
    own = hierarchy.GetItemByDataNode(node)  # the application has made one by now, a scene without it has not
    if own:
        hierarchy.SetItemParent(own, parent)
    else:
        hierarchy.CreateItem(parent, node)


def subjectHierarchy(scene):
    """The subject hierarchy of the scene, or None. Never makes one: that is for the scene's owner to do."""
    return scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")


@contextlib.contextmanager
def oneModification(node) -> Iterator[None]:
    """Observers of the node hear of all changes in the block at once, at its end."""
    was = node.StartModify()
    try:
        yield
    finally:
        node.EndModify(was)


def _folders(scene) -> list[int]:
    """Every item of the subject hierarchy that is no node, parents before their children."""
    hierarchy, found = subjectHierarchy(scene), vtk.vtkIdList()
    if hierarchy is not None:
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), found, True)
    items = [found.GetId(number) for number in range(found.GetNumberOfIds())]
    return [item for item in items if hierarchy.GetItemDataNode(item) is None]


class _Kept:
    """What a node held: content, attributes and references. Bulk data is shared, not copied."""

    def __init__(self, node) -> None:
        self.node = node
        self.name = node.GetName()
        self.copy = node.NewInstance()
        self.copy.CopyContent(node, False)
        self.copy.CopyReferences(node)

    def restore(self) -> None:
        with oneModification(self.node):
            self.node.CopyContent(self.copy, False)
            self.node.CopyReferences(self.copy)
            self.node.SetName(self.name)


def _withDisplays(node) -> list:
    displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    return [node, *(display for display in displays if display is not None)]
