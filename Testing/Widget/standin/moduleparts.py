"""The C++ side of a scripted module, played: the module, its widget, the module manager and the main window."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .ctkwidgets import plain
from .declare import invokable, plays, slot
from .mrmlwidgets import qMRMLWidget
from .problems import problems, refuse
from .proxies import keep, wrap


def source_module(path: Path) -> Any:
    """The Python module of a scripted module's file, registered in ``sys.modules`` as Slicer does."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", "") or "") == path:
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@plays
class qSlicerScriptedLoadableModule(QtCore.QObject):
    """What the ``parent`` of a ``ScriptedLoadableModule`` is."""

    def update(self) -> None:
        """``plain`` asks widgets to repaint."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None
        self.python: Any = None

    title = plain(str, "title", "")
    categories = plain("QStringList", "categories", [])
    contributors = plain("QStringList", "contributors", [])
    associatedNodeTypes = plain("QStringList", "associatedNodeTypes", [])
    dependencies = plain("QStringList", "dependencies", [])
    helpText = plain(str, "helpText", "")
    acknowledgementText = plain(str, "acknowledgementText", "")
    icon = plain(QtGui.QIcon, "icon", QtGui.QIcon())
    hidden = plain(bool, "hidden", False)
    index = plain(int, "index", -1)
    widgetRepresentationCreationEnabled = plain(bool, "widgetRepresentationCreationEnabled", True)
    path = QtCore.Property(str, lambda self: str(self._file))
    name = QtCore.Property(str, lambda self: self._file.stem)
    isInstalled = QtCore.Property(bool, lambda self: False)

    @invokable("widgetRepresentation()")
    def widgetRepresentation(self) -> Any:
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    @invokable("createNewWidgetRepresentation()")
    def createNewWidgetRepresentation(self) -> Any:
        widget = qSlicerScriptedLoadableModuleWidget()
        keep(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        widget.create_python(self._file)
        widget.call("setup")
        return widget


@plays
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What the ``parent`` of a ``ScriptedLoadableModuleWidget`` is. Exceptions of its hooks are kept, not raised."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        QtWidgets.QVBoxLayout(self)
        self._entered = False
        self._path: Path | None = None
        self.python: Any = None

    isEntered = QtCore.Property(bool, lambda self: self._entered)

    def create_python(self, path: Path) -> None:
        self._path = path
        module = source_module(path)
        name = f"{path.stem}Widget"
        self.python = getattr(module, name)(wrap(self))
        setattr(slicer.modules, name, self.python)

    def call(self, hook: str) -> None:
        try:
            getattr(self.python, hook, lambda: None)()
        except Exception as error:
            problems.add(f"{type(self.python).__name__}.{hook}", error)

    @invokable("self()")
    def self(self) -> Any:
        return self.python

    @invokable("enter()")
    def enter(self) -> None:
        if self._entered:
            return
        self._entered = True
        self.call("enter")

    @invokable("exit()")
    def exit(self) -> None:
        if not self._entered:
            return
        self._entered = False
        self.call("exit")

    @slot("reload()")
    def reload(self) -> None:
        assert self._path is not None
        self.create_python(self._path)
        self.call("setup")


@plays
class qSlicerModuleFactoryManager(QtCore.QObject):
    @invokable("loadedModuleNames()")
    def loadedModuleNames(self) -> list[str]:
        return self.parent().modulesNames()


@plays
class qSlicerModuleManager(QtCore.QObject):
    moduleLoaded = QtCore.Signal(str)
    moduleAboutToBeUnloaded = QtCore.Signal(str)

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self.loaded: dict[str, qSlicerScriptedLoadableModule] = {}
        self._factory = qSlicerModuleFactoryManager(self)

    @invokable("factoryManager()")
    def factoryManager(self) -> Any:
        return self._factory

    @invokable("modulesNames()")
    def modulesNames(self) -> list[str]:
        return list(self.loaded)

    @invokable("module(QString)")
    def module(self, name: str) -> Any:
        return self.loaded.get(name)

    def unload_all(self) -> None:
        for name in list(self.loaded):
            self.moduleAboutToBeUnloaded.emit(name)
            del self.loaded[name]


@plays
class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Where a person changes from one module to another."""

    def __init__(self, manager: qSlicerModuleManager) -> None:
        super().__init__()
        self._manager, self._selected = manager, ""

    selectedModule = QtCore.Property(str, lambda self: self._selected)

    @slot("selectModule(QString)")
    def selectModule(self, name: str) -> None:
        if name and name not in self._manager.loaded and name not in ("Data", "Welcome", "SegmentEditor"):
            refuse(f"There is no module '{name}' to select")
        if self._selected in self._manager.loaded:
            self._manager.loaded[self._selected].widgetRepresentation().exit()
        self._selected = name
        if name in self._manager.loaded:
            self._manager.loaded[name].widgetRepresentation().enter()


@plays
class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The frame around everything. Its status bar shows ``slicer.util.showStatusMessage``."""

    def __init__(self, manager: qSlicerModuleManager) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(manager)
        self.addToolBar(self._selector)

    @invokable("moduleSelector()")
    def moduleSelector(self) -> Any:
        return self._selector


def load_module(manager: qSlicerModuleManager, path: Path) -> qSlicerScriptedLoadableModule:
    """Have the manager load a scripted module's file, as Slicer does at start-up. Import errors are raised."""
    native = qSlicerScriptedLoadableModule(path)
    keep(native)
    cls = getattr(source_module(path), path.stem)
    native.python = cls(wrap(native))
    manager.loaded[path.stem] = native
    setattr(slicer.modules, path.stem.lower(), wrap(native))
    setattr(slicer.modules, f"{path.stem}Instance", native.python)
    manager.moduleLoaded.emit(path.stem)
    return native
