"""Which attributes a proxy has, what reading gives and what writing does: PythonQt's order and errors."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import shiboken6
from PySide6 import QtCore

from . import modal, signals
from .calls import call
from .declare import declared, fits, played_class
from .enums import EnumType, EnumValue
from .proxies import Proxy, ProxyType, native_of, no_keywords, to_native, to_python, wrap

HIDDEN = {"staticMetaObject", "emit", "sender", "senderSignalIndex", "isSignalConnected", "receivers", "moveToThread"}
"""Members of PySide that PythonQt does not show."""

QT6_ONLY = {"labelDrawingMode", "setLabelDrawingMode", "colorScheme", "checkStateChanged", "enterEvent"}
"""Members that Qt 5.15 lacks or has with another signature."""


_properties: dict[tuple[type, str, str], QtCore.QMetaProperty | None] = {}
"""By Python class, C++ class and name. A class keeps its properties."""

_functions: dict[tuple[type, str], Callable[[Any, str, tuple[Any, ...]], Any] | None] = {}
"""By Python class and name."""


class Method:
    """A C++ member function bound to its object."""

    def __init__(self, owner: Proxy, name: str, function: Callable[..., Any]) -> None:
        self.__self__ = owner
        self.__name__ = name
        self._function = function

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        where = f"{type(self.__self__).__name__}.{self.__name__}"
        no_keywords(where, keywords)
        return self._function(native_of(self.__self__, f"call '{self.__name__}' on"), where, arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and (other.__self__, other.__name__) == (self.__self__, self.__name__)

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__name__))


class SignalFunction:
    """A signal bound to its object: ``button.clicked.connect(f)``; calling it emits."""

    def __init__(self, owner: Proxy, name: str) -> None:
        self._owner = owner
        self._name = name

    def _signature(self) -> str:
        return signals.signatures_named(native_of(self._owner), self._name)[0]

    def connect(self, slot: Callable[..., Any]) -> bool:
        return signals.connect(native_of(self._owner), self._signature(), slot, to_python)

    def disconnect(self, slot: Callable[..., Any] | None = None) -> bool:
        return signals.disconnect(native_of(self._owner), self._signature(), slot)

    def emit(self, *values: Any) -> None:
        native = native_of(self._owner)
        for text in signals.signatures_named(native, self._name):
            count = 0 if text.endswith("()") else text.count(",") + 1
            if count == len(values):
                backing = signals.declared_signals(native).get(text, self._name)
                getattr(native, backing).emit(*[to_native(value) for value in values])
                return
        raise ValueError(f"The signal {self._name} does not carry {len(values)} values")

    __call__ = emit


def member(proxy: Proxy, name: str) -> Any:
    """The value of an attribute that the Python side does not have. Raises ``AttributeError``."""
    native = proxy._native
    if isinstance(native, QtCore.QObject):
        native = native_of(proxy, f"read '{name}' of")
        found = _property(native, name)
        if found is not None:
            return to_python(read(native, found))
        if name in SPECIAL:
            return Method(proxy, name, SPECIAL[name])
        if name not in QT6_ONLY and signals.signatures_named(native, name):
            return SignalFunction(proxy, name)
    function = _function(native, name)
    if function is not None:
        return Method(proxy, name, function)
    value = _enumerator(type(native), name)
    if value is not None:
        return value
    if isinstance(native, QtCore.QObject):
        if name.encode() in [bytes(each.data()) for each in native.dynamicPropertyNames()]:
            return to_python(native.property(name))
        for child in native.children():
            if child.objectName() == name:
                return wrap(child)
    raise AttributeError(f"{type(proxy).__name__} has no attribute named '{name}'")


def set_member(proxy: Proxy, name: str, value: Any) -> None:
    """Write an attribute. Raises ``AttributeError`` for unknown ones, for functions and for values of a wrong type."""
    native = proxy.__dict__.get("_native")
    if isinstance(native, QtCore.QObject):
        native = native_of(proxy, f"set '{name}' of")
        found = _property(native, name)
        if found is not None:
            write(native, found, value)
            return
        if name.encode() in [bytes(each.data()) for each in native.dynamicPropertyNames()]:
            native.setProperty(name, to_native(value))
            return
        if name in SPECIAL or signals.signatures_named(native, name):
            raise AttributeError(f"'{name}' can not be overwritten on {type(proxy).__name__} object")
    if native is not None and _function(native, name) is not None:
        raise AttributeError(f"Slot '{name}' can not be overwritten on {type(proxy).__name__} object")
    if "_native_class" in vars(type(proxy)):
        raise AttributeError(
            f"'{name}' does not exist on {type(proxy).__name__}, and C++ objects get no new attributes"
        )
    object.__setattr__(proxy, name, value)


def class_member(cls: ProxyType, name: str) -> Any:
    """An enumerator, a static function, or a function that takes the object first."""
    native_class = cls._native_class
    value = _enumerator(native_class, name)
    if value is not None:
        return value
    function = None if name in HIDDEN | QT6_ONLY else getattr(native_class, name, None)
    if function is None or not callable(function):
        raise AttributeError(f"{cls.__name__} has no attribute named '{name}'")
    where = f"{cls.__name__}.{name}"

    def static(*arguments: Any, **keywords: Any) -> Any:
        no_keywords(where, keywords)
        replaced = modal.static_function(native_class, name)
        if replaced is not None:
            return replaced(*arguments)
        if where == "QTimer.singleShot":
            interval, slot = arguments
            return QtCore.QTimer.singleShot(interval, signals.relayed(slot, to_python, "single-shot timer"))
        return to_python(call(where, function, [to_native(each) for each in arguments]))

    return static


def _property(native: QtCore.QObject, name: str) -> QtCore.QMetaProperty | None:
    if name == "singleShot" and isinstance(native, QtCore.QTimer):
        return None  # PythonQt leaves it out in favour of the static function
    if name in QT6_ONLY:
        return None
    meta = native.metaObject()
    key = (type(native), meta.className(), name)
    if key not in _properties:
        index = meta.indexOfProperty("objectName" if name == "name" and meta.indexOfProperty("name") < 0 else name)
        _properties[key] = meta.property(index) if index >= 0 else None
    return _properties[key]


def read(native: QtCore.QObject, found: QtCore.QMetaProperty) -> Any:
    name = found.name()
    try:
        return QtCore.QObject.property(native, name)
    except RuntimeError:  # PySide has no converter for most enumerations
        for getter in (name, f"is{name[0].upper()}{name[1:]}", f"has{name[0].upper()}{name[1:]}"):
            if hasattr(native, getter):
                return getattr(native, getter)()
        raise


def write(native: QtCore.QObject, found: QtCore.QMetaProperty, value: Any) -> None:
    name, kind = found.name(), found.typeName()
    if not found.isWritable():
        raise AttributeError(f"Property '{name}' of {native.metaObject().className()} object is not writable")
    try:
        converted = as_property(kind, value, found.isEnumType() or found.isFlagType())
        if not QtCore.QObject.setProperty(native, name, converted):
            call(name, getattr(native, f"set{name[0].upper()}{name[1:]}"), [converted])
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise AttributeError(
            f"Property '{name}' of type '{kind}' does not accept an object of type {type(value).__name__} ({value!r})"
        ) from error


def as_property(kind: str, value: Any, is_enum: bool = False) -> Any:
    """The value as a property of that C++ type takes it. Raises ``TypeError``."""
    if value is None or isinstance(value, np.generic | np.ndarray):
        raise TypeError(f"PythonQt may not take {value!r}; cast it")
    if is_enum:
        return to_native(value)
    if kind in ("int", "uint", "qlonglong"):
        if isinstance(value, int | float):
            return math.floor(value)
        raise TypeError(kind)
    if kind in ("double", "float"):
        if isinstance(value, int | float):
            return float(value)
        raise TypeError(kind)
    if kind == "bool":
        return bool(value)
    if kind == "QString":
        if isinstance(value, str | int | float):
            return str(value)
        raise TypeError(kind)
    if kind == "QStringList":
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return list(value)
        raise TypeError(kind)
    return to_native(value)


def _function(native: Any, name: str) -> Callable[[Any, str, tuple[Any, ...]], Any] | None:
    """The member function, as ``function(native, where, arguments)``, or None."""
    key = (type(native), name)
    if key not in _functions:
        _functions[key] = _found_function(native, name)
    return _functions[key]


def _found_function(native: Any, name: str) -> Callable[[Any, str, tuple[Any, ...]], Any] | None:
    if name in HIDDEN or name in QT6_ONLY:
        return None
    signatures = declared(native, name)
    if signatures:

        def declared_function(native: Any, where: str, arguments: tuple[Any, ...]) -> Any:
            values = [to_native(each) if isinstance(each, Proxy | EnumValue) else each for each in arguments]
            for signature in signatures:
                if len(signature.types) == len(values) and all(map(fits, signature.types, values)):
                    return to_python(getattr(native, name)(*values))
            offers = ", ".join(map(str, signatures))
            raise ValueError(f"Called {where} with wrong arguments: {arguments!r}; there is {offers}")

        return declared_function
    qt_class = next(cls for cls in type(native).__mro__ if cls.__module__.startswith("PySide6."))
    function = getattr(qt_class, name, None)
    if function is None or isinstance(function, type | enum.Enum) or not callable(function):
        return None

    def qt_function(native: Any, where: str, arguments: tuple[Any, ...]) -> Any:
        replaced = modal.member_function(native, name)
        if replaced is not None:
            return replaced(*arguments)
        return to_python(call(where, getattr(native, name), [to_native(each) for each in arguments]))

    return qt_function


def _enumerator(native_class: type, name: str) -> EnumValue | EnumType | None:
    try:
        found = getattr(native_class, name, None)
    except Exception:
        return None
    if isinstance(found, enum.Enum):
        return EnumValue(found)
    if isinstance(found, enum.EnumMeta):
        owner = played_class(native_class) or native_class
        return EnumType(found, owner.__name__)
    return None


def _connect(native: QtCore.QObject, where: str, arguments: tuple[Any, ...]) -> bool:
    if len(arguments) == 3 and isinstance(arguments[1], Proxy):
        signals.connect_objects(native, arguments[0], native_of(arguments[1]), arguments[2])
        return True
    if len(arguments) != 2:
        raise ValueError(f"Called {where} with wrong arguments: {arguments!r}")
    return signals.connect(native, arguments[0], arguments[1], to_python)


def _disconnect(native: QtCore.QObject, where: str, arguments: tuple[Any, ...]) -> bool:
    if len(arguments) not in (1, 2):
        raise ValueError(f"Called {where} with wrong arguments: {arguments!r}")
    return signals.disconnect(native, *arguments)


def _find_children(native: QtCore.QObject, where: str, arguments: tuple[Any, ...]) -> tuple[Proxy, ...]:
    if not 1 <= len(arguments) <= 2:
        raise ValueError(f"Called {where} with wrong arguments: {arguments!r}; PythonQt wants a class or its name")
    kind, name = arguments[0], arguments[1] if len(arguments) == 2 else ""
    found = [child for child in native.findChildren(QtCore.QObject) if not name or child.objectName() == name]
    if isinstance(kind, ProxyType):
        return tuple(wrap(child) for child in found if isinstance(child, kind._native_class))
    return tuple(wrap(child) for child in found if child.inherits(kind))


def _find_child(native: QtCore.QObject, where: str, arguments: tuple[Any, ...]) -> Proxy | None:
    return next(iter(_find_children(native, where, arguments)), None)


def _read_property(native: QtCore.QObject, where: str, arguments: tuple[Any, ...]) -> Any:
    (name,) = arguments
    found = _property(native, name)
    return to_python(read(native, found) if found is not None else native.property(name))


def _set_property(native: QtCore.QObject, where: str, arguments: tuple[Any, ...]) -> bool:
    name, value = arguments
    found = _property(native, name)
    if found is None:
        native.setProperty(name, to_native(value))
        return False  # Qt's answer for a dynamic property
    write(native, found, value)
    return True


def _delete(native: QtCore.QObject, where: str, arguments: tuple[Any, ...]) -> None:
    shiboken6.delete(native)


SPECIAL: dict[str, Callable[[Any, str, tuple[Any, ...]], Any]] = {
    "connect": _connect,
    "disconnect": _disconnect,
    "findChild": _find_child,
    "findChildren": _find_children,
    "property": _read_property,
    "setProperty": _set_property,
    "className": lambda native, where, arguments: native.metaObject().className(),
    "inherits": lambda native, where, arguments: native.inherits(*arguments),
    "children": lambda native, where, arguments: tuple(wrap(child) for child in native.children()),
    "delete": _delete,
}
"""Functions that PythonQt adds to every QObject."""
