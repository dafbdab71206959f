"""CTK's widgets, played by PySide: the members that PythonQt shows, and their behaviour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .declare import plays, slot
from .modal import Message, desk


def plain(kind: Any, name: str, default: Any) -> Any:
    """A property that is only stored."""
    attribute = f"_{name}"

    def read(self: Any) -> Any:
        return getattr(self, attribute, default)

    def write(self: Any, value: Any) -> None:
        setattr(self, attribute, value)
        self.update()

    return QtCore.Property(kind, read, write)


@plays
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A titled section; its layout is hidden while ``collapsed``. The caption must be set as ``text``."""

    contentsCollapsed = QtCore.Signal(bool)
    flat = plain(bool, "flat", False)
    collapsedHeight = plain(int, "collapsedHeight", 14)
    contentsLineWidth = plain(int, "contentsLineWidth", 1)
    contentsMidLineWidth = plain(int, "contentsMidLineWidth", 0)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._maximum_height = self.maximumHeight()
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._caption().height(), 0, 0)
        self.toggled.connect(self._collapse)

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, _get_collapsed, _set_collapsed, notify=contentsCollapsed)

    def _collapse(self, opened: bool) -> None:
        self._collapsed = not opened
        self.setMaximumHeight(self.sizeHint().height() if self._collapsed else self._maximum_height)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                self._follow(child)
        self.updateGeometry()
        self.contentsCollapsed.emit(self._collapsed)

    def _follow(self, child: QtWidgets.QWidget) -> None:
        """Hide or show a child with the section, unless somebody hid it on purpose."""
        if self._collapsed:
            child.setProperty("hiddenBefore", child.isHidden())
            child.hide()
        elif not child.property("hiddenBefore"):
            child.show()

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        super().showEvent(event)
        if self._collapsed:
            for child in self.findChildren(QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly):
                child.hide()

    def _caption(self) -> QtCore.QSize:
        metrics = self.fontMetrics()
        return QtCore.QSize(metrics.horizontalAdvance(self.text() or "XXXX") + 30, metrics.height() + 10)

    def sizeHint(self) -> QtCore.QSize:
        if self._collapsed or self.layout() is None:
            return self._caption() + QtCore.QSize(0, 14 if self._collapsed else 0)
        return super().sizeHint().expandedTo(self._caption())

    def minimumSizeHint(self) -> QtCore.QSize:
        return self.sizeHint() if self._collapsed else super().minimumSizeHint().expandedTo(self._caption())

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() <= self._caption().height()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.state |= QtWidgets.QStyle.StateFlag.State_Raised
        option.rect.setHeight(self._caption().height())
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyle.PrimitiveElement
        option.rect = QtCore.QRect(8, (self._caption().height() - 12) // 2, 12, 12)
        painter.drawPrimitive(arrow.PE_IndicatorArrowRight if self._collapsed else arrow.PE_IndicatorArrowDown, option)
        place = QtCore.QRect(26, 0, self.width() - 30, self._caption().height())
        painter.drawItemText(
            place, int(QtCore.Qt.AlignmentFlag.AlignVCenter.value), self.palette(), self.isEnabled(), self.text(),
            QtGui.QPalette.ColorRole.ButtonText,
        )  # fmt: skip


@plays
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box. ``setMinimum`` and the like are no slots: write the properties."""

    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    decimalsChanged = QtCore.Signal(int)
    pageStep = plain(float, "pageStep", 10.0)
    tracking = plain(bool, "tracking", True)
    tickInterval = plain(float, "tickInterval", 0.0)
    popupSlider = plain(bool, "popupSlider", False)
    invertedAppearance = plain(bool, "invertedAppearance", False)
    invertedControls = plain(bool, "invertedControls", False)
    _POSITIONS = 1_000_000

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, self._POSITIONS)
        self._spin_box = QtWidgets.QDoubleSpinBox()
        layout.addWidget(self._slider)
        layout.addWidget(self._spin_box)
        self._spin_box.valueChanged.connect(self._spun)
        self._slider.sliderMoved.connect(self._slid)

    def _spun(self, value: float) -> None:
        self._place()
        self.valueChanged.emit(value)

    def _place(self) -> None:
        low, span = self._spin_box.minimum(), self._spin_box.maximum() - self._spin_box.minimum()
        self._slider.setValue(round((self._spin_box.value() - low) / span * self._POSITIONS) if span else 0)

    def _limit(self, **limits: float) -> None:
        for name, value in limits.items():
            getattr(self._spin_box, f"set{name.capitalize()}")(value)
        self._place()

    def _slid(self, position: int) -> None:
        low, span = self._spin_box.minimum(), self._spin_box.maximum() - self._spin_box.minimum()
        self._spin_box.setValue(low + span * position / self._POSITIONS)

    @slot("setValue(double)")
    def setValue(self, value: float) -> None:
        self._spin_box.setValue(value)

    @slot("setDecimals(int)")
    def setDecimals(self, decimals: int) -> None:
        self._spin_box.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    @slot("setSpinBoxVisible(bool)")
    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin_box.setVisible(visible)

    @slot("reset()")
    def reset(self) -> None:
        self._spin_box.setValue(0.0)

    value = QtCore.Property(float, lambda self: self._spin_box.value(), setValue)
    decimals = QtCore.Property(int, lambda self: self._spin_box.decimals(), setDecimals)
    minimum = QtCore.Property(
        float, lambda self: self._spin_box.minimum(), lambda self, value: self._limit(minimum=value)
    )
    maximum = QtCore.Property(
        float, lambda self: self._spin_box.maximum(), lambda self, value: self._limit(maximum=value)
    )
    singleStep = QtCore.Property(
        float, lambda self: self._spin_box.singleStep(), lambda self, value: self._spin_box.setSingleStep(value)
    )
    prefix = QtCore.Property(
        str, lambda self: self._spin_box.prefix(), lambda self, text: self._spin_box.setPrefix(text)
    )
    suffix = QtCore.Property(
        str, lambda self: self._spin_box.suffix(), lambda self, text: self._spin_box.setSuffix(text)
    )
    spinBoxVisible = QtCore.Property(bool, lambda self: not self._spin_box.isHidden(), setSpinBoxVisible)


@plays
class ctkDirectoryButton(QtWidgets.QWidget):
    """A button that shows a folder and asks for another one. ``directory`` is absolute."""

    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)
    caption = plain(str, "caption", "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._button = QtWidgets.QPushButton()
        self._button.setMinimumWidth(40)
        layout.addWidget(self._button)
        self._directory, self._shown = QtCore.QDir().path(), ""
        self._button.clicked.connect(lambda: self.browse())
        self._label()

    def _label(self) -> None:
        self._button.setText(self._shown or QtCore.QDir(self._directory).absolutePath())

    def _set_directory(self, path: str) -> None:
        chosen = QtCore.QDir(path)
        changed = chosen != QtCore.QDir(self._directory)
        if changed:
            self._directory = chosen.absolutePath()
            self._label()
        self.directorySelected.emit(chosen.absolutePath())
        if changed:
            self.directoryChanged.emit(self._directory)

    def _set_text(self, text: str) -> None:
        self._shown = text
        self._label()

    directory = QtCore.Property(str, lambda self: self._directory, _set_directory, notify=directoryChanged, user=True)
    text = QtCore.Property(str, lambda self: self._shown, _set_text)

    @slot("browse()")
    def browse(self) -> str:
        chosen = desk.ask(
            Message("modal", "ctkDirectoryButton.browse", self._caption if hasattr(self, "_caption") else "")
        )
        if chosen:
            self._set_directory(str(chosen))
        return str(chosen or "")


@plays
class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for a path. ``currentPathChanged`` comes only for acceptable text."""

    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    label = plain(str, "label", "")
    settingKey = plain(str, "settingKey", "")
    nameFilters = plain("QStringList", "nameFilters", [])
    showBrowseButton = plain(bool, "showBrowseButton", True)
    showHistoryButton = plain(bool, "showHistoryButton", True)
    minimumContentsLength = plain(int, "minimumContentsLength", 0)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._line = QtWidgets.QLineEdit()
        button = QtWidgets.QToolButton()
        button.setText("…")
        layout.addWidget(self._line)
        layout.addWidget(button)
        self._line.textChanged.connect(lambda text: self.currentPathChanged.emit(text))
        button.clicked.connect(lambda: self.browse())

    @slot("setCurrentPath(QString)")
    def setCurrentPath(self, path: str) -> None:
        self._line.setText(path)

    currentPath = QtCore.Property(str, lambda self: self._line.text(), setCurrentPath, user=True)

    @slot("browse()")
    def browse(self) -> None:
        chosen = desk.ask(Message("modal", "ctkPathLineEdit.browse"))
        if chosen:
            self._line.setText(str(Path(chosen)))

    @slot("addCurrentPathToHistory()", "retrieveHistory()")
    def addCurrentPathToHistory(self) -> None:
        """Nothing is remembered."""


@plays
class ctkComboBox(QtWidgets.QComboBox):
    defaultText = plain(str, "defaultText", "")
    forceDefault = plain(bool, "forceDefault", False)


@plays
class ctkSearchBox(QtWidgets.QLineEdit):
    showSearchIcon = plain(bool, "showSearchIcon", False)


@plays
class ctkCheckBox(QtWidgets.QCheckBox):
    pass


@plays
class ctkMessageBox(QtWidgets.QMessageBox):
    """Never a ``qt.QMessageBox`` for ``isinstance``."""

    dontShowAgainVisible = plain(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = plain(str, "dontShowAgainSettingsKey", "")
