"""Pictures of a panel, for a person to look at, and what of its text does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets

from .proxies import Proxy, native_of

PANEL_WIDTH = 350
"""Width of Slicer's module panel in pixels, at which everything must fit."""

_Role = QtGui.QPalette.ColorRole


def palettes() -> dict[str, QtGui.QPalette]:
    """Slicer's light and dark looks."""
    return {
        "light": _palette("#efefef", "#ffffff", "#202020", "#f4f4f4", "#3874d6"),
        "dark": _palette("#353535", "#232323", "#f0f0f0", "#404040", "#5290e0"),
    }


def _palette(window: str, base: str, text: str, button: str, highlight: str) -> QtGui.QPalette:
    palette = QtGui.QPalette()
    for role in (_Role.WindowText, _Role.Text, _Role.ButtonText, _Role.ToolTipText):
        palette.setColor(role, QtGui.QColor(text))
    for role, colour in ((_Role.Window, window), (_Role.Base, base), (_Role.Button, button), (_Role.ToolTipBase, base)):
        palette.setColor(role, QtGui.QColor(colour))
    palette.setColor(_Role.AlternateBase, QtGui.QColor(window))
    palette.setColor(_Role.Highlight, QtGui.QColor(highlight))
    palette.setColor(_Role.HighlightedText, QtGui.QColor("#ffffff"))
    palette.setColor(_Role.PlaceholderText, QtGui.QColor("#808080"))
    faded = QtGui.QColor("#888888")
    for role in (_Role.WindowText, _Role.Text, _Role.ButtonText):
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, role, faded)
    return palette


def take(widget: Proxy, name: str, folder: Path, width: int = PANEL_WIDTH) -> list[Path]:
    """Write ``<name>-light.png`` and ``<name>-dark.png`` of the widget at that width; as high as it wants to be."""
    native = native_of(widget)
    folder.mkdir(parents=True, exist_ok=True)
    before = QtWidgets.QApplication.palette()
    taken = []
    try:
        for look, palette in palettes().items():
            QtWidgets.QApplication.setPalette(palette)
            fit(native, width)
            path = folder / f"{name}-{look}.png"
            if not native.grab().save(str(path)):
                raise OSError(f"The picture could not be written to {path}")
            taken.append(path)
    finally:
        QtWidgets.QApplication.setPalette(before)
    return taken


def fit(native: QtWidgets.QWidget, width: int) -> None:
    """Show the widget at that width, as high as its content wants, with its layout done."""
    native.show()
    for widget in reversed([native, *native.findChildren(QtWidgets.QWidget)]):  # the inner ones first
        layout = widget.layout()
        if layout is not None:
            layout.invalidate()
            layout.activate()
    height = native.sizeHint().height()
    if native.layout() is not None and native.layout().hasHeightForWidth():
        height = native.layout().totalHeightForWidth(width)
    native.resize(width, max(height, native.minimumSizeHint().height()))
    QtCore.QCoreApplication.processEvents(QtCore.QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)


def misfits(widget: Proxy, width: int = PANEL_WIDTH) -> list[str]:
    """What a person could not read at that width: a panel that is too wide, and texts that are cut off."""
    native = native_of(widget)
    fit(native, width)
    return list(_misfits(native, width))


def _misfits(native: QtWidgets.QWidget, width: int) -> Iterator[str]:
    needed = native.minimumSizeHint().width()
    if needed > width:
        yield f"the panel needs {needed} pixels"
    for label in native.findChildren(QtWidgets.QLabel):
        if label.isVisible() and label.text() and not label.wordWrap() and label.sizeHint().width() > label.width():
            yield f"label '{label.objectName()}' is cut off: {label.text()!r}"
        elif label.isVisible() and label.wordWrap() and label.heightForWidth(label.width()) > label.height():
            yield f"label '{label.objectName()}' is too low: {label.text()!r}"
    for button in native.findChildren(QtWidgets.QAbstractButton):
        text = button.text().replace("&", "")
        if button.isVisible() and button.fontMetrics().horizontalAdvance(text) > button.width():
            yield f"button '{button.objectName()}' is cut off: {button.text()!r}"
