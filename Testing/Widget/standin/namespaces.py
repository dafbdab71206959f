"""The flat modules ``qt`` and ``ctk``: what they contain, and what they lack."""

from __future__ import annotations

import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .declare import PLAYED
from .proxies import proxy_class
from .uiloader import UiLoader

_NATIVE_TYPE = type(QtCore.QObject)

REFUSED = {
    "QThread": "Python threads starve in Slicer while Qt's loop is idle: work belongs in a child process",
    "QThreadPool": "Python threads starve in Slicer while Qt's loop is idle: work belongs in a child process",
    "QRunnable": "Python threads starve in Slicer while Qt's loop is idle: work belongs in a child process",
    "Signal": "signals of Python classes crash in Slicer: use a list of callbacks",
    "QRegExp": "missing in Qt 6",
    "QTextCodec": "missing in Qt 6",
    "QDesktopWidget": "missing in Qt 6",
    "QAbstractNativeEventFilter": "not wrapped",
}


class Namespace(types.ModuleType):
    """A module whose names are found on first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self._find(name)
        setattr(self, name, value)
        return value

    def _find(self, name: str) -> Any:
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")


class QtNamespace(Namespace):
    def _find(self, name: str) -> Any:
        if name in REFUSED:
            raise AttributeError(f"module 'qt' has no attribute '{name}' here: {REFUSED[name]}")
        if name == "QUiLoader":
            return UiLoader
        for module in (QtCore, QtGui, QtWidgets):
            found = getattr(module, name, None)
            if isinstance(found, _NATIVE_TYPE):
                return proxy_class(found)
        return super()._find(name)


class CtkNamespace(Namespace):
    def _find(self, name: str) -> Any:
        if name.startswith("ctk") and name in PLAYED:
            return proxy_class(PLAYED[name])
        return super()._find(name)


def qt_module() -> types.ModuleType:
    return QtNamespace("qt", "Qt as PythonQt shows it.")


def ctk_module() -> types.ModuleType:
    return CtkNamespace("ctk", "The part of CTK that is played here.")
