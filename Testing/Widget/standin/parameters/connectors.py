"""Which widget shows which type of parameter, and how. Widget classes must match exactly, as in Slicer."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

import slicer

from .storage import PATHS
from .validators import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    findFirstAnnotation,
    splitAnnotations,
)

SPIN_LIMITS = (-(2**31), 2**31 - 1)


class Connector:
    """Reads and writes one widget. ``attribute`` is the property that holds the value, ``signal`` its change."""

    def __init__(self, widget: Any, attribute: str, signal: str) -> None:
        self.widget = widget
        self._attribute, self._signal = attribute, signal
        self._changed: Callable[[], None] | None = None

    def read(self) -> Any:
        return getattr(self.widget, self._attribute)

    def write(self, value: Any) -> None:
        if self.read() != value:  # rewriting would move the cursor of a line edit
            setattr(self.widget, self._attribute, value)

    def listen(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        if self._signal:
            self.widget.connect(self._signal, self._emit)

    def forget(self) -> None:
        self._changed = None
        if self._signal:
            self.widget.disconnect(self._signal, self._emit)

    def _emit(self) -> None:
        if self._changed is not None:
            self._changed()


class NumberConnector(Connector):
    """Spin boxes and sliders. Sets their limits, without which all but ``QSpinBox`` refuse."""

    def __init__(self, widget: Any, kind: type, annotations: Sequence[Any], needs_limits: bool, whole: bool) -> None:
        super().__init__(widget, "value", "valueChanged(int)" if whole else "valueChanged(double)")
        self._kind = kind
        within = findFirstAnnotation(annotations, WithinRange)
        low = within or findFirstAnnotation(annotations, Minimum)
        high = within or findFirstAnnotation(annotations, Maximum)
        if needs_limits and not (low and high):
            raise RuntimeError(f"Cannot connect a {widget.className()} to an unbounded number")
        if not whole and kind is int:
            widget.decimals = 0
        decimals, step = findFirstAnnotation(annotations, Decimals), findFirstAnnotation(annotations, SingleStep)
        if decimals is not None and not whole and kind is float:
            widget.decimals = decimals.value
        if step is not None:
            widget.singleStep = step.value
        widget.minimum = low.minimum if low else SPIN_LIMITS[0]
        widget.maximum = high.maximum if high else SPIN_LIMITS[1]

    def read(self) -> Any:
        return self._kind(self.widget.value)

    def write(self, value: Any) -> None:
        self.widget.value = self._kind(value)


class ChoiceConnector(Connector):
    """A combo box over the choices of the annotation, or the members of the enumeration."""

    def __init__(self, widget: Any, choices: Sequence[Any], labels: Sequence[str]) -> None:
        super().__init__(widget, "currentIndex", "currentIndexChanged(int)")
        self._choices = list(choices)
        widget.clear()
        for label in labels:
            widget.addItem(label)

    def read(self) -> Any:
        return self._choices[self.widget.currentIndex]

    def write(self, value: Any) -> None:
        if value not in self._choices:
            raise ValueError(f"Unable to find value {value} in choices {self._choices}")
        self.widget.currentIndex = self._choices.index(value)


class TextConnector(Connector):
    def read(self) -> str:
        return str(self.widget.toPlainText())

    def write(self, value: str) -> None:
        self.widget.setPlainText(value)


class PathConnector(Connector):
    def __init__(self, widget: Any, attribute: str, signal: str, kind: type) -> None:
        super().__init__(widget, attribute, signal)
        self._kind = kind

    def read(self) -> Any:
        return self._kind(super().read())

    def write(self, value: Any) -> None:
        setattr(self.widget, self._attribute, str(value))


class NodeConnector(Connector):
    """A node selector. Slicer sets its ``nodeTypes`` from the parameter's type."""

    def __init__(self, widget: Any, kinds: Sequence[type]) -> None:
        super().__init__(widget, "", "currentNodeChanged(vtkMRMLNode*)")
        widget.nodeTypes = [kind().GetClassName() for kind in kinds]

    def read(self) -> Any:
        return self.widget.currentNode()

    def write(self, value: Any) -> None:
        self.widget.setCurrentNode(value)


def node_types(annotated: Any) -> tuple[type, ...]:
    """Node classes of a node type or of a union of them (None aside); empty for any other type."""
    kind, _ = splitAnnotations(annotated)
    parts = [each for each in (getattr(kind, "__args__", None) or (kind,)) if each is not type(None)]
    nodes = tuple(each for each in parts if isinstance(each, type) and issubclass(each, slicer.vtkMRMLNode))
    return nodes if len(nodes) == len(parts) else ()


def connector(widget: Any, annotated: Any) -> Connector:
    """The connector of the widget for that type. Raises ``RuntimeError`` if there is none."""
    import ctk
    import qt

    if isinstance(widget, Connector):
        return widget
    shown, (kind, annotations) = type(widget), splitAnnotations(annotated)
    if kind is bool and shown in (qt.QCheckBox, ctk.ctkCheckBox):
        return Connector(widget, "checked", "stateChanged(int)")
    if kind is bool and shown is qt.QPushButton:
        widget.checkable = True
        return Connector(widget, "checked", "toggled(bool)")
    if kind is int and shown in (qt.QSlider, qt.QSpinBox):
        return NumberConnector(widget, int, annotations, shown is qt.QSlider, whole=True)
    if kind in (int, float) and shown in (qt.QDoubleSpinBox, ctk.ctkSliderWidget):
        return NumberConnector(widget, kind, annotations, needs_limits=True, whole=False)
    if shown in (qt.QComboBox, ctk.ctkComboBox):
        found = _combo_connector(widget, kind, annotations)
        if found is not None:
            return found
    if kind is str and shown in (qt.QLineEdit, qt.QLabel):
        return Connector(widget, "text", "textChanged(QString)" if shown is qt.QLineEdit else "")
    if kind is str and shown is qt.QTextEdit:
        return TextConnector(widget, "", "textChanged()")
    if kind in PATHS and shown is ctk.ctkPathLineEdit:
        return PathConnector(widget, "currentPath", "currentPathChanged(QString)", kind)
    if kind in PATHS and shown is ctk.ctkDirectoryButton:
        return PathConnector(widget, "directory", "directoryChanged(QString)", kind)
    if node_types(annotated) and shown is slicer.qMRMLNodeComboBox:
        return NodeConnector(widget, node_types(annotated))
    raise RuntimeError(f"Unable to create GUI connector from datatype '{annotated}' to widget type '{shown.__name__}'")


def _combo_connector(widget: Any, kind: Any, annotations: Sequence[Any]) -> Connector | None:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda member: member.name)
        return ChoiceConnector(widget, list(kind), [label(member) for member in kind])
    if kind in (int, float, str, bool):
        choice = findFirstAnnotation(annotations, Choice)
        if choice is None:
            raise RuntimeError("A combo box needs the Choice annotation")
        return ChoiceConnector(widget, list(choice.choices), [str(each) for each in choice.choices])
    return None
