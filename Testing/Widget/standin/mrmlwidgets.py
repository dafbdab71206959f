"""The widget that hands the scene on, played by PySide."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtWidgets

from .declare import invokable, plays, slot


@plays
class qMRMLWidget(QtWidgets.QWidget):
    """Hands the scene to the widgets that Designer connected to it."""

    CPP_SIGNALS: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "sceneChanged"}
    sceneChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    @invokable("mrmlScene()")
    def mrmlScene(self) -> Any:
        return self._scene

    @slot("setMRMLScene(vtkMRMLScene*)")
    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.sceneChanged.emit(scene)


@plays
class qSlicerWidget(qMRMLWidget):
    pass
