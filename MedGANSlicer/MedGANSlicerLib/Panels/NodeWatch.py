"""What is shown of a node follows the node: it may be renamed, and its voxels may be edited or replaced."""

from __future__ import annotations

from collections.abc import Callable

import slicer
import vtk

_EVENTS = (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent)


class NodeWatch:
    """Calls ``onChange()`` when one of the volumes of :meth:`watch` changes."""

    def __init__(self, onChange: Callable[[], None]) -> None:
        self._onChange = onChange
        self._tags: list = []

    def watch(self, *nodes) -> None:
        """From now on these, and no others."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = [(node, node.AddObserver(event, self._changed)) for node in nodes for event in _EVENTS]

    def _changed(self, caller, event) -> None:
        self._onChange()
