"""Puts the stand-in in place, and is what tests hold: the person at the desk, the scene, the modules."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets

from . import application, i18n, modal, moduleparts, packagingdouble, parameters, sampledata, utilities
from .declare import PLAYED
from .namespaces import ctk_module, qt_module
from .nodecombobox import qMRMLNodeComboBox
from .problems import Problems, problems
from .proxies import Proxy, destroy_kept, keep, proxy_class, wrap
from .scene import new_scene
from .segmenteditor import SegmentEditorModule


class Standin:
    """One test's Slicer. ``messages`` is what the person saw, ``problems`` what went wrong unseen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # For each test anew: what ran before in this process (typer, for one) leaves a hook of its own behind.
        self._listening = contextlib.ExitStack()
        self._listening.enter_context(problems.listening())
        self._search_path = list(sys.path)
        self._module_names: list[str] = []
        self.scene_holder, self.scene, application_logic = new_scene()
        self.native_app = application.qSlicerApplication(self.scene, application_logic, folder)
        keep(self.native_app)
        self._layouts = self.native_app.layouts
        slicer.app, slicer.mrmlScene = wrap(self.native_app), self.scene
        slicer.modules = types.SimpleNamespace()
        for name in ("Volumes", "Segmentations", "Sequences", "SubjectHierarchy", "Units", "Colors"):
            logic = application_logic.GetModuleLogic(name)
            if logic is not None:
                setattr(slicer.modules, name.lower(), types.SimpleNamespace(name=name, logic=lambda each=logic: each))
        slicer.modules.segmenteditor = SegmentEditorModule()
        self.use_packaging(True)
        self.use_pytorch(None)

    # What the person sees and says

    @property
    def problems(self) -> Problems:
        return problems

    @property
    def messages(self) -> list[modal.Message]:
        return modal.desk.messages

    def answer(self, *answers: Any) -> None:
        """What the person will answer to the next boxes: True, False, a path, or a function of the message."""
        modal.desk.answers.extend(answers)

    @property
    def installer(self) -> utilities.Installer:
        return utilities.installer

    def language(self, translate: Callable[[str, str], str] | None) -> None:
        """Have all translatable text go through this function of context and text; None is English."""
        i18n.language[:] = [translate] if translate is not None else []

    # What Slicer is like

    def use_testing_mode(self, on: bool = True) -> None:
        """``slicer.app.testingEnabled()``: boxes answer themselves, pip_ensure installs nothing."""
        self.native_app.testing = on

    def use_main_window(self, present: bool) -> None:
        """Without it (``--no-main-window``) there is no layout manager either."""
        if not present:
            self.native_app.main_window = self.native_app.layouts = None

    def use_packaging(self, present: bool, missing: tuple[str, ...] = ()) -> None:
        """``slicer.packaging`` is there since 5.12. ``missing``: packages that count as not installed."""
        packagingdouble.missing.clear()
        packagingdouble.missing.update(missing)
        sys.modules["slicer.packaging"] = packagingdouble.packaging_module() if present else None  # type: ignore[assignment]
        if present:
            slicer.packaging = sys.modules["slicer.packaging"]
        elif hasattr(slicer, "packaging"):
            del slicer.packaging

    def use_pytorch(self, module: types.ModuleType | None) -> None:
        """The PyTorch extension's ``PyTorchUtils``, from ``pytorch_module``; None: it is not installed."""
        sys.modules["PyTorchUtils"] = module  # type: ignore[assignment]

    # Modules

    def load_module(self, path: Path) -> Any:
        """Load a scripted module's file as at start-up; its Python object."""
        self._module_names.append(path.stem)
        return moduleparts.load_module(self.native_app.modules, path).python

    def start_up(self) -> None:
        """Tell the modules that Slicer has started."""
        self.native_app.startupCompleted.emit()

    def open_module(self, name: str) -> Any:
        """Select the module as a person does; its Python widget."""
        slicer.util.selectModule(name)
        return slicer.util.getModuleWidget(name)

    def leave_module(self) -> None:
        slicer.util.selectModule("Data")

    def panel(self, name: str) -> Proxy:
        """The C++ widget that holds the module's panel."""
        return slicer.util.getModule(name).widgetRepresentation()

    def quit(self) -> None:
        """Close Slicer: modules are unloaded, ``aboutToQuit`` follows."""
        self.native_app.quit_for_test()

    def close(self) -> None:
        """End of the test: quit, delete the widgets, empty the scene. Raises what the test left undone."""
        try:
            self.quit()
            if self.native_app.cursors or QtWidgets.QApplication.overrideCursor() is not None:
                raise AssertionError("the wait cursor was left on")
            if modal.desk.answers:
                raise AssertionError(f"nobody asked for these answers: {list(modal.desk.answers)}")
        finally:
            modal.desk.messages.clear()
            modal.desk.answers.clear()
            utilities.installer.reset()
            self.language(None)
            for name in self._module_names:
                sys.modules.pop(name, None)
            sys.path[:] = self._search_path
            destroy_kept()
            QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
            self._layouts.let_go()
            self.scene.Clear(True)
            self._listening.close()


_PLAYED_IN_SLICER = (
    "qMRMLWidget",
    qMRMLNodeComboBox.__name__,
    "qSlicerWidget",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
)


def _hold_singletons() -> None:
    """PySide loses a reference to None, True or False in some calls; before Python 3.12 that ends in an abort."""
    if sys.version_info < (3, 12):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object([None, True, False] * 1_000_000))  # never freed


@contextlib.contextmanager
def install() -> Iterator[Callable[[Path], Standin] | None]:
    """Inside, Slicer's modules can be imported. Gives the maker of :class:`Standin`; None inside Slicer itself."""
    if hasattr(slicer, "app"):
        yield None
        return
    _hold_singletons()
    QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer", "-style", "Fusion"])
    QtCore.QLocale.setDefault(QtCore.QLocale.c())
    attributes = set(vars(slicer))
    known = dict(sys.modules)
    sys.modules.update(qt=qt_module(), ctk=ctk_module())
    from . import scripted

    played = {"i18n": i18n, "ScriptedLoadableModule": scripted, "parameterNodeWrapper": parameters}
    for name, module in played.items():
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
    sys.modules["SampleData"] = sampledata
    for name in _PLAYED_IN_SLICER:
        setattr(slicer, name, proxy_class(PLAYED[name]))
    with utilities.replaced():
        try:
            yield Standin
        finally:
            for name in set(vars(slicer)) - attributes:
                delattr(slicer, name)
            for name in (
                "qt",
                "ctk",
                "SampleData",
                "PyTorchUtils",
                "slicer.packaging",
                *(f"slicer.{n}" for n in played),
            ):
                sys.modules.pop(name, None)
                if name in known:
                    sys.modules[name] = known[name]
