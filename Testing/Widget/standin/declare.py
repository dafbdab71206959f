"""How a Python class plays a C++ class of CTK or Slicer: which members C++ would show, under which signatures.

A played class derives from a PySide class and carries the C++ name. Properties are ``QtCore.Property``. Functions
count only when marked with :func:`slot` or :func:`invokable`, and signals with MRML types stand in ``CPP_SIGNALS``,
because PythonQt shows nothing else of such classes: setters that are neither are missing there, and so here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from PySide6 import QtCore

Function = TypeVar("Function", bound=Callable[..., Any])

PLAYED: dict[str, type] = {}
"""Every played class, by its C++ name."""


@dataclass(frozen=True)
class Signature:
    """``name(type,type)``; whether Designer may connect to it."""

    name: str
    types: tuple[str, ...]
    is_slot: bool

    def __str__(self) -> str:
        return f"{self.name}({','.join(self.types)})"


def plays(cls: type) -> type:
    """Class decorator: register the class under its name."""
    PLAYED[cls.__name__] = cls
    return cls


def slot(*signatures: str) -> Callable[[Function], Function]:
    """The function is a public slot with these C++ signatures."""
    return _marked(signatures, is_slot=True)


def invokable(*signatures: str) -> Callable[[Function], Function]:
    """The function is ``Q_INVOKABLE`` with these C++ signatures."""
    return _marked(signatures, is_slot=False)


def _marked(signatures: tuple[str, ...], is_slot: bool) -> Callable[[Function], Function]:
    def mark(function: Function) -> Function:
        function.cpp_signatures = tuple(parse(text, is_slot) for text in signatures)  # type: ignore[attr-defined]
        return function

    return mark


def parse(text: str, is_slot: bool = False) -> Signature:
    """The signature that the normalised C++ text describes."""
    name, _, rest = normalized(text).partition("(")
    types = rest.rstrip(")")
    return Signature(name, tuple(types.split(",")) if types else (), is_slot)


def normalized(signature: str) -> str:
    """The C++ signature in Qt's normal form (``const QString&`` becomes ``QString``)."""
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


def played_class(native: Any) -> type | None:
    """The played class of a PySide object or class, or None for Qt's own."""
    cls = native if isinstance(native, type) else type(native)
    return next((each for each in cls.__mro__ if PLAYED.get(each.__name__) is each), None)


def declared(native: Any, name: str) -> tuple[Signature, ...]:
    """The marked signatures of a member function, empty if it has none."""
    cls = native if isinstance(native, type) else type(native)
    for each in cls.__mro__:
        if name in vars(each):
            marked = getattr(vars(each)[name], "cpp_signatures", ())
            return tuple(signature for signature in marked if signature.name == name)
    return ()


def declared_slots(native: Any) -> list[str]:
    """C++ signatures of all marked slots of a played class."""
    cls = native if isinstance(native, type) else type(native)
    members = [member for each in cls.__mro__ for member in vars(each).values()]
    marked = [signature for member in members for signature in getattr(member, "cpp_signatures", ())]
    return [str(signature) for signature in marked if signature.is_slot]


def declared_signals(native: Any) -> dict[str, str]:
    """Name of the PySide signal behind each C++ signal signature with types that Qt does not know."""
    cls = native if isinstance(native, type) else type(native)
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        found.update(vars(each).get("CPP_SIGNALS", {}))
    return found


def fits(kind: str, value: Any) -> bool:
    """Whether PythonQt converts the value to the C++ type of a marked function's parameter."""
    if kind.startswith("vtk"):
        return value is None or (hasattr(value, "IsA") and bool(value.IsA(kind.rstrip("*"))))
    if kind.endswith("*"):
        return value is None or (isinstance(value, QtCore.QObject) and value.inherits(kind.rstrip("*")))
    if kind == "QVariant":
        return True
    if kind == "QStringList":
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    accepted = {"QString": str, "int": int, "double": (int, float), "bool": (bool, int)}
    return isinstance(value, accepted[kind])
