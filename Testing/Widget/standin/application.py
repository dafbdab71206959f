"""``slicer.app`` and its layout manager, played over a real scene."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .declare import invokable, plays, slot
from .modal import Message, desk
from .moduleparts import qSlicerMainWindow, qSlicerModuleManager
from .problems import refuse


@plays
class qMRMLSliceWidget(QtWidgets.QWidget):
    """One slice view: its logic and nodes are real, nothing is drawn."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic = logic

    @invokable("sliceLogic()")
    def sliceLogic(self) -> Any:
        return self._logic

    @invokable("mrmlSliceNode()")
    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    @invokable("mrmlSliceCompositeNode()")
    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    @slot("fitSliceToBackground()")
    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToAll()


@plays
class qSlicerLayoutManager(QtCore.QObject):
    """Layouts by a real ``vtkMRMLLayoutLogic``; slice views by the application logic's slice logics."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self, scene: Any, application_logic: Any) -> None:
        super().__init__()
        self._application_logic = application_logic
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        node = self._logic.GetLayoutNode()
        node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self._widgets: dict[str, qMRMLSliceWidget] = {}

    def let_go(self) -> None:
        """Before the scene loses its singletons: the logic would bring its node back again and again."""
        self._logic.SetMRMLScene(None)

    def _node(self) -> Any:
        return self._logic.GetLayoutNode()

    @slot("setLayout(int)")
    def setLayout(self, layout: int) -> None:
        node = self._node()
        if not node.IsLayoutDescription(layout):
            refuse(f"There is no layout {layout}: Slicer would show an empty window")
        if node.GetViewArrangement() != layout:
            node.SetViewArrangement(layout)
            self._make_slice_views()
            self.layoutChanged.emit(layout)

    def _make_slice_views(self) -> None:
        """A logic for each slice node of the layout that has none; the layout logic has made the nodes."""
        nodes, known = self._logic.GetViewNodes(), self._slice_logics()
        for node in [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]:
            if node.IsA("vtkMRMLSliceNode") and node.GetLayoutName() not in known:
                logic = slicer.vtkMRMLSliceLogic()
                logic.SetMRMLApplicationLogic(self._application_logic)
                logic.SetMRMLScene(self._logic.GetMRMLScene())
                logic.SetSliceNode(node)
                self._application_logic.GetSliceLogics().AddItem(logic)

    layout = QtCore.Property(int, lambda self: self._node().GetViewArrangement(), setLayout, notify=layoutChanged)
    threeDViewCount = QtCore.Property(int, lambda self: 1)
    plotViewCount = QtCore.Property(int, lambda self: 0)
    tableViewCount = QtCore.Property(int, lambda self: 0)

    @invokable("layoutLogic()")
    def layoutLogic(self) -> Any:
        return self._logic

    @invokable("mrmlScene()")
    def mrmlScene(self) -> Any:
        return self._logic.GetMRMLScene()

    @invokable("mrmlSliceLogics()")
    def mrmlSliceLogics(self) -> Any:
        return self._application_logic.GetSliceLogics()

    def _slice_logics(self) -> dict[str, Any]:
        logics = self._application_logic.GetSliceLogics()
        found = [logics.GetItemAsObject(index) for index in range(logics.GetNumberOfItems())]
        return {logic.GetSliceNode().GetLayoutName(): logic for logic in found if logic.GetSliceNode() is not None}

    @invokable("sliceViewNames()")
    def sliceViewNames(self) -> list[str]:
        return list(self._slice_logics())

    @invokable("sliceWidget(QString)")
    def sliceWidget(self, name: str) -> Any:
        logic = self._slice_logics().get(name)
        if logic is None:
            return None
        if name not in self._widgets:
            self._widgets[name] = qMRMLSliceWidget(logic)
        return self._widgets[name]

    @slot("resetSliceViews()")
    def resetSliceViews(self) -> None:
        for logic in self._slice_logics().values():
            logic.FitSliceToAll()

    @slot("resetThreeDViews()", "pauseRender()", "resumeRender()", "setRenderPaused(bool)")
    def resetThreeDViews(self, *_: Any) -> None:
        """Nothing is drawn in three dimensions."""

    pauseRender = resumeRender = setRenderPaused = resetThreeDViews


@plays
class qSlicerExtensionsManagerModel(QtCore.QObject):
    """The Extension Manager: what it is asked to install is recorded as a message, and counts as installed."""

    def __init__(self) -> None:
        super().__init__()
        self.installed: set[str] = set()
        self._interactive = True

    def _set_interactive(self, interactive: bool) -> None:
        self._interactive = interactive

    interactive = QtCore.Property(bool, lambda self: self._interactive, _set_interactive)

    @invokable("isExtensionInstalled(QString)")
    def isExtensionInstalled(self, name: str) -> bool:
        return name in self.installed

    @slot("installExtensionFromServer(QString)", "installExtensionFromServer(QString,bool)")
    def installExtensionFromServer(self, name: str, restart: bool = True) -> bool:
        desk.show(Message("extension", name))
        self.installed.add(name)
        return True


@plays
class qSlicerApplication(QtCore.QObject):
    """The application object. It never turns the event loop for the module."""

    CPP_SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "sceneChanged"}  # noqa: RUF012
    sceneChanged = QtCore.Signal(object)
    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    lastWindowClosed = QtCore.Signal()
    renderPaused = QtCore.Signal(bool)

    def __init__(self, scene: Any, application_logic: Any, folder: Path) -> None:
        super().__init__()
        self.testing = False
        self.modules = qSlicerModuleManager(self)
        self.main_window: qSlicerMainWindow | None = qSlicerMainWindow(self.modules)
        self.layouts: qSlicerLayoutManager | None = qSlicerLayoutManager(scene, application_logic)
        self._scene, self._logic, self._folder = scene, application_logic, folder
        self._settings = QtCore.QSettings(str(folder / "Slicer.ini"), QtCore.QSettings.Format.IniFormat)
        self.extensions = qSlicerExtensionsManagerModel()
        self.cursors = 0

    applicationName = QtCore.Property(str, lambda self: "Slicer")
    applicationVersion = QtCore.Property(str, lambda self: "5.12.0")
    majorVersion = QtCore.Property(int, lambda self: 5)
    minorVersion = QtCore.Property(int, lambda self: 12)
    revision = QtCore.Property(str, lambda self: "34045")
    os = QtCore.Property(str, lambda self: {"win32": "win", "darwin": "macosx"}.get(sys.platform, "linux"))
    temporaryPath = QtCore.Property(str, lambda self: str(self._folder))
    cachePath = QtCore.Property(str, lambda self: str(self._folder / "cache"))
    slicerHome = QtCore.Property(str, lambda self: os.path.dirname(sys.executable))
    extensionsInstallPath = QtCore.Property(str, lambda self: str(self._folder / "extensions"))
    documentationBaseUrl = QtCore.Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")

    @invokable("mrmlScene()")
    def mrmlScene(self) -> Any:
        return self._scene

    @invokable("applicationLogic()")
    def applicationLogic(self) -> Any:
        return self._logic

    @invokable("moduleLogic(QString)")
    def moduleLogic(self, name: str) -> Any:
        return self._logic.GetModuleLogic(name)

    @invokable("moduleManager()")
    def moduleManager(self) -> Any:
        return self.modules

    @invokable("layoutManager()")
    def layoutManager(self) -> Any:
        return self.layouts

    @invokable("testingEnabled()")
    def testingEnabled(self) -> bool:
        return self.testing

    @invokable("settings()")
    def settings(self) -> Any:
        return self._settings

    userSettings = invokable("userSettings()")(lambda self: self._settings)
    revisionUserSettings = invokable("revisionUserSettings()")(lambda self: self._settings)

    @invokable("translate(QString,QString)")
    def translate(self, context: str, text: str) -> str:
        return text

    @invokable("setOverrideCursor(QVariant)")
    def setOverrideCursor(self, cursor: Any) -> None:
        self.cursors += 1

    @invokable("restoreOverrideCursor()")
    def restoreOverrideCursor(self) -> None:
        self.cursors -= 1

    @invokable("processEvents()")
    def processEvents(self) -> None:
        refuse("slicer.app.processEvents: this project never turns the event loop by hand; use a QTimer.")

    @invokable("topLevelWidgets()")
    def topLevelWidgets(self) -> list[QtWidgets.QWidget]:
        return [] if self.main_window is None else [self.main_window]

    @invokable("activeWindow()")
    def activeWindow(self) -> Any:
        return self.main_window

    @invokable("clipboard()")
    def clipboard(self) -> Any:
        return QtGui.QGuiApplication.clipboard()

    @invokable("palette()")
    def palette(self) -> Any:
        return QtWidgets.QApplication.palette()

    @invokable("style()")
    def style(self) -> Any:
        return QtWidgets.QApplication.style()

    @invokable("pythonConsole()")
    def pythonConsole(self) -> None:
        return None

    @invokable("extensionsManagerModel()")
    def extensionsManagerModel(self) -> Any:
        return self.extensions

    @slot("restart()")
    def restart(self) -> None:
        desk.show(Message("restart", "Slicer restarts"))

    @slot("exit(int)")
    def exit(self, code: int) -> None:
        desk.show(Message("exit", str(code)))

    @slot("pauseRender()", "resumeRender()", "setRenderPaused(bool)")
    def pauseRender(self, *_: Any) -> None:
        """Nothing is drawn."""

    resumeRender = setRenderPaused = pauseRender

    def quit_for_test(self) -> None:
        """Do what Slicer does when a person closes it: modules are unloaded first."""
        self.modules.unload_all()
        self.aboutToQuit.emit()
