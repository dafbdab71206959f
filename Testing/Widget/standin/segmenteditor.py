"""The Segment Editor module as another module meets it: a segmentation and its source volume are handed to it."""

from __future__ import annotations

from typing import Any

from .declare import invokable, plays, slot
from .mrmlwidgets import qMRMLWidget
from .problems import refuse


@plays
class qMRMLSegmentEditorWidget(qMRMLWidget):
    """``slicer.modules.segmenteditor.widgetRepresentation().self().editor``; it edits nothing here."""

    def __init__(self) -> None:
        super().__init__()
        self._segmentation: Any = None
        self._volume: Any = None

    @slot("setSegmentationNode(vtkMRMLNode*)")
    def setSegmentationNode(self, node: Any) -> None:
        if node is not None and not node.IsA("vtkMRMLSegmentationNode"):
            refuse(f"The Segment Editor edits segmentations, not {node.GetClassName()}")
        self._segmentation, self._volume = node, None

    @slot("setSourceVolumeNode(vtkMRMLNode*)")
    def setSourceVolumeNode(self, node: Any) -> None:
        if self._segmentation is None:
            refuse("The Segment Editor takes a source volume only once it has a segmentation")
        self._volume = node

    @invokable("segmentationNode()")
    def segmentationNode(self) -> Any:
        return self._segmentation

    @invokable("sourceVolumeNode()")
    def sourceVolumeNode(self) -> Any:
        return self._volume


class _Representation:
    """The module's widget: made on first use, as Slicer does."""

    def __init__(self) -> None:
        self._python: Any = None

    def self(self) -> Any:
        if self._python is None:
            from types import SimpleNamespace

            from .proxies import keep, wrap

            editor = qMRMLSegmentEditorWidget()
            keep(editor)
            self._python = SimpleNamespace(editor=wrap(editor))
        return self._python


class SegmentEditorModule:
    """``slicer.modules.segmenteditor``."""

    name = "SegmentEditor"

    def __init__(self) -> None:
        self._representation = _Representation()

    def widgetRepresentation(self) -> Any:
        return self._representation
