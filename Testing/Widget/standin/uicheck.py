"""What is wrong with a ``.ui`` file: everything that Designer's loader passes over in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from PySide6 import QtCore, QtWidgets

from .declare import PLAYED
from .members import QT6_ONLY

PARAMETER_NAMES = ("SlicerParameterName", "SlicerPackParameterName")
_LAYOUT_MARGINS = {"leftMargin", "topMargin", "rightMargin", "bottomMargin", "horizontalSpacing", "verticalSpacing"}
_TYPES = {
    "string": {"QString", "QByteArray", "QKeySequence", "QUrl", "QVariant"},
    "number": {"int", "uint", "double", "float", "qlonglong"},
    "double": {"double", "float"},
    "bool": {"bool"},
    "stringlist": {"QStringList"},
}
_BEFORE = {"baseName": {"nodeTypes"}, "value": {"minimum", "maximum", "decimals"}}
"""Properties that have no effect, or a clipped one, when they stand before those."""


def faults(path: Path) -> list[str]:
    """One sentence for each fault of the file; empty for a good one."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        return [f"{path.name} is no XML: {error}"]
    return [f"{path.name}: {fault}" for fault in _faults(root)]


def _faults(root: Element) -> Iterator[str]:
    custom = {each.findtext("class", ""): each for each in root.iter("customwidget")}
    widgets = list(root.iter("widget"))
    names = [each.get("name", "") for each in [*widgets, *root.iter("layout"), *root.iter("action")]]
    for name, count in Counter(names).items():
        if count > 1 and name:
            yield f"{count} objects are named '{name}'"
        if name and not name.isidentifier():
            yield f"the name '{name}' can not be an attribute of ui"
    for widget in widgets:
        yield from _widget_faults(widget, custom, names)
    for layout in root.iter("layout"):
        yield from _layout_faults(layout)
    for name, count in Counter(_parameters(root)).items():
        if count > 1:
            yield f"{count} widgets are bound to the parameter '{name}'; only the last would be"
    if root.find("resources/include") is not None:
        yield "resource files are not loaded by Slicer"
    for value in [*root.iter("enum"), *root.iter("set")]:
        if re.search(r"\w+::\w+::\w+", value.text or ""):
            yield f"the scoped enumerator {value.text} is not understood by Qt 5.15"


def _parameters(root: Element) -> list[str]:
    properties = [each for each in root.iter("property") if each.get("name") == "SlicerParameterName"]
    return [each.findtext("string", "") for each in properties]


def native_class(name: str) -> type | None:
    """The class that plays a widget class of a ``.ui`` file, or None if there is no such class."""
    found = PLAYED.get(name) or getattr(QtWidgets, "QFrame" if name == "Line" else name, None)
    return found if isinstance(found, type) and issubclass(found, QtWidgets.QWidget) else None


def _widget_faults(widget: Element, custom: dict[str, Element], names: list[str]) -> Iterator[str]:
    class_name, name = widget.get("class", ""), widget.get("name", "")
    found = native_class(class_name)
    if found is None:
        yield f"'{name}' is of the unknown class {class_name}"
        return
    if class_name in PLAYED:
        yield from _custom_faults(widget, custom.get(class_name), found)
    prototype = found()  # PySide's static meta objects die with any object of their class
    listed: list[str] = []
    for prop in widget.findall("property"):
        key = prop.get("name", "")
        early = _BEFORE.get(key, set()) & {each.get("name") for each in widget.findall("property")} - set(listed)
        if early:
            yield f"'{name}': {key} must stand after {', '.join(sorted(early))}"
        listed.append(key)
        if key == "buddy":
            if prop.findtext("cstring") not in names:
                yield f"'{name}' is the label of '{prop.findtext('cstring')}', which does not exist"
        elif prop.get("stdset") == "0":
            yield from _dynamic_faults(name, key, prop)
        else:
            yield from _property_faults(f"'{name}' ({class_name})", prototype, prop)


def _custom_faults(widget: Element, entry: Element | None, found: type) -> Iterator[str]:
    class_name = widget.get("class", "")
    if entry is None:
        yield f"there is no <customwidget> entry for {class_name}"
        return
    bases = {"QWidget"} | {base.__name__ for base in found.__mro__[1:] if issubclass(base, QtWidgets.QWidget)}
    if entry.findtext("extends") not in bases:
        yield f"the <customwidget> entry of {class_name} extends {entry.findtext('extends')}"
    if entry.findtext("header") != f"{class_name}.h":
        yield f"the <customwidget> entry of {class_name} needs the header {class_name}.h"
    has_children = widget.find("layout") is not None or widget.find("widget") is not None
    if has_children and entry.findtext("container") != "1":
        yield f"{class_name} has children, so its <customwidget> entry needs <container>1</container>"


def _dynamic_faults(name: str, key: str, prop: Element) -> Iterator[str]:
    if key.lower().startswith("slicer") and key not in PARAMETER_NAMES:
        yield f"'{name}' has the dynamic property {key}; Slicer reads {' and '.join(PARAMETER_NAMES)}"
    if key in PARAMETER_NAMES and not (prop.findtext("string") or "").strip():
        yield f"'{name}' has an empty {key}"


def _property_faults(owner: str, prototype: QtCore.QObject, prop: Element) -> Iterator[str]:
    key, meta = prop.get("name", ""), prototype.metaObject()
    index = meta.indexOfProperty(key)
    if index < 0 or key in QT6_ONLY:
        hint = ' (a dynamic property needs stdset="0")' if key in PARAMETER_NAMES else ""
        yield f"{owner} has no property '{key}'{hint}"
        return
    described = meta.property(index)
    if not described.isWritable():
        yield f"{owner}: the property '{key}' is read-only"
    for value in prop:
        is_enum = described.isEnumType() or described.isFlagType()
        wrong_type = value.tag in _TYPES and described.typeName() not in _TYPES[value.tag]
        if wrong_type or (value.tag in ("enum", "set")) != is_enum:
            yield f"{owner}: the property '{key}' is a {described.typeName()}, not a <{value.tag}>"


def _layout_faults(layout: Element) -> Iterator[str]:
    class_name = layout.get("class", "")
    found = getattr(QtWidgets, class_name, None)
    if not (isinstance(found, type) and issubclass(found, QtWidgets.QLayout)):
        yield f"'{layout.get('name')}' is of the unknown layout class {class_name}"
        return
    prototype = found()
    for prop in layout.findall("property"):
        if prop.get("name") not in _LAYOUT_MARGINS and prop.get("stdset") != "0":
            yield from _property_faults(f"'{layout.get('name')}' ({class_name})", prototype, prop)
