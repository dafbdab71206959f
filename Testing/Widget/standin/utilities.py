"""The functions of ``slicer.util`` that need the desktop. The real file runs for everything else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer
import slicer.util

from .modal import Message, desk
from .problems import refuse

_KINDS = {0: "plain", 1: "information", 2: "warning", 3: "critical", 4: "question"}
_YES, _NO = ("Ok", "Yes", "Retry"), ("Cancel", "No", "Close")
_BOX_PROPERTIES = {
    "icon",
    "standardButtons",
    "detailedText",
    "informativeText",
    "windowTitle",
    "textFormat",
    "minimumWidth",
    "dontShowAgainSettingsKey",
}


def messageBox(text: str, parent: Any = None, **kwargs: Any) -> Any:
    """Recorded, not shown. A question is answered by the test: True or False, or a button."""
    import qt

    unknown = sorted(set(kwargs) - _BOX_PROPERTIES)
    if unknown:
        refuse(f"A message box has no property {', '.join(unknown)}; Slicer would ignore it")
    kind = _KINDS[int(kwargs.get("icon", 0))]
    message = Message(kind, str(text), str(kwargs.get("windowTitle", "")), str(kwargs.get("detailedText", "")))
    buttons = int(kwargs.get("standardButtons", qt.QMessageBox.Ok))
    if buttons == qt.QMessageBox.Ok:
        desk.show(message)
        return qt.QMessageBox.Ok
    answer = desk.ask(message)
    if not isinstance(answer, bool):
        return answer
    offered = [getattr(qt.QMessageBox, name) for name in (_YES if answer else _NO)]
    return next(button for button in offered if buttons & int(button))


def delayDisplay(message: str, autoCloseMsec: int = 1000, parent: Any = None, **kwargs: Any) -> None:
    """Recorded; Slicer would turn the event loop, which only its own tests may do."""
    logging.info(message)
    desk.show(Message("delay", str(message)))


def showStatusMessage(message: str, duration: int = 0) -> bool:
    desk.show(Message("status", str(message)))
    return slicer.util.mainWindow() is not None


def loadVolume(filename: str, properties: Any = None, returnNode: bool = False) -> Any:
    """The volume node of a file. Raises ``RuntimeError``, as Slicer does."""
    properties = properties or {}
    unknown = set(properties) - {"name", "labelmap", "show", "singleFile", "center", "autoWindowLevel"}
    if unknown:
        refuse(f"loadVolume does not know {', '.join(sorted(unknown))}")
    path = Path(filename)
    name = properties.get("name") or path.name.partition(".")[0]
    volumes = slicer.app.applicationLogic().GetModuleLogic("Volumes")
    node = (
        volumes.AddArchetypeVolume(str(path), name, int(bool(properties.get("labelmap")))) if path.is_file() else None
    )
    if node is None:
        raise RuntimeError(f"Failed to load node from file: {filename}")
    return node


def pip_install(requirements: Any, **kwargs: Any) -> None:
    """Recorded; the test decides what happens by the function it sets."""
    installer.calls.append(requirements)
    installer.outcome(requirements)


class Installer:
    """What pip was asked for, and what it does: nothing, unless a test says otherwise."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.calls: list[Any] = []
        self.outcome: Any = lambda requirements: None


installer = Installer()


class NoRendering:
    """Plays ``slicer.util.RenderBlocker``: nothing is rendered anyway."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        return None


REPLACED: dict[str, Any] = {
    "messageBox": messageBox,
    "delayDisplay": delayDisplay,
    "showStatusMessage": showStatusMessage,
    "loadVolume": loadVolume,
    "pip_install": pip_install,
    "RenderBlocker": NoRendering,
}


@contextlib.contextmanager
def replaced() -> Iterator[None]:
    """Inside, ``slicer.util`` has the functions of this file."""
    before = {name: getattr(slicer.util, name) for name in REPLACED}
    for name, function in REPLACED.items():
        setattr(slicer.util, name, function)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(slicer.util, name, function)
