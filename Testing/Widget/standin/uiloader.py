"""``qt.QUiLoader``: builds what a ``.ui`` file describes, out of Qt's and the played classes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import signals
from .declare import PLAYED
from .problems import refuse
from .proxies import Proxy, keep, native_of, wrap
from .uicheck import faults


class UiLoader:
    """Loads strictly: a fault that Designer's loader would pass over is refused."""

    def load(self, device: Proxy) -> Proxy:
        """The root widget. ``device`` is an open ``qt.QFile``."""
        file = native_of(device)
        if not isinstance(file, QtCore.QFile) or not file.isOpen():
            refuse("QUiLoader.load wants an open qt.QFile")
        path = Path(file.fileName())
        described = _described(path, path.stat().st_mtime_ns)
        if described.faults:
            refuse("; ".join(described.faults))
        return wrap(_load(path, described))


class _Builder(QtUiTools.QUiLoader):
    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        if class_name not in PLAYED:
            return super().createWidget(class_name, parent, name)
        widget = PLAYED[class_name](parent)
        widget.setObjectName(name)
        keep(widget)
        return widget


class _Described(NamedTuple):
    """What a file says: its faults, or the widgets as XML for Qt and the connections that Qt can not read."""

    faults: tuple[str, ...]
    widgets: bytes
    connections: tuple[dict[str, str], ...]


@lru_cache
def _described(path: Path, changed_ns: int) -> _Described:
    found = faults(path)
    if found:
        return _Described(tuple(found), b"", ())
    root = ElementTree.parse(path).getroot()
    connections = [{part.tag: (part.text or "").strip() for part in each} for each in root.iter("connection")]
    for each in root.findall("connections"):  # Qt can not read signatures with MRML types
        root.remove(each)
    return _Described((), ElementTree.tostring(root), tuple(connections))


def _load(path: Path, described: _Described) -> QtWidgets.QWidget:
    buffer = QtCore.QBuffer()
    buffer.setData(described.widgets)
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    said: list[str] = []
    previous = QtCore.qInstallMessageHandler(lambda kind, context, text: said.append(text))
    try:
        builder = _Builder()
        builder.setWorkingDirectory(QtCore.QDir(str(path.parent)))
        root = builder.load(buffer)
    finally:
        QtCore.qInstallMessageHandler(previous)
    if said or root is None:
        refuse(f"{path.name}: {'; '.join(said) or builder.errorString()}")
    for connection in described.connections:
        _connect(path, root, connection)
    return root


def _connect(path: Path, root: QtWidgets.QWidget, described: dict[str, str]) -> None:
    ends = []
    for name in (described["sender"], described["receiver"]):
        end = root if root.objectName() == name else root.findChild(QtCore.QObject, name)
        if end is None:
            refuse(f"{path.name}: a connection names '{name}', which does not exist")
        ends.append(end)
    signals.connect_objects(ends[0], described["signal"], ends[1], described["slot"])
