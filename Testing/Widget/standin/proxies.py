"""Qt objects as PythonQt shows them.

Code under test never holds a PySide object: it holds a proxy, with PythonQt's rules for attributes. Classes are flat
(``isinstance(button, qt.QWidget)`` is False, as in Slicer), one proxy stands for one C++ object.
"""

from __future__ import annotations

import enum
import operator
import threading
import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

from .calls import call
from .declare import PLAYED
from .enums import EnumType, EnumValue
from .problems import refuse

_ShibokenObject = shiboken6.Shiboken.Object if hasattr(shiboken6, "Shiboken") else shiboken6.Object
_proxies: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()
_kept: dict[int, Any] = {}
_classes: dict[type, ProxyType] = {}


class ProxyType(type):
    """Class of the proxies' classes: reaches enumerators, static functions and unbound methods."""

    _native_class: type

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return members.class_member(cls, name)


class Proxy(metaclass=ProxyType):
    """One C++ object, seen through PythonQt. Derive from a class of ``qt`` to override events."""

    _native: Any

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        from .shells import shell_class

        cls = type(self)._native_class
        no_keywords(cls.__name__, keywords)
        creator = shell_class(type(self), cls, self)
        adopt(self, call(cls.__name__, creator, [to_native(each) for each in arguments]))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return members.member(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        members.set_member(self, name, value)

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._native)

    def __eq__(self, other: object) -> bool:
        if other is None:
            return not self
        if not isinstance(other, Proxy):
            return NotImplemented
        if isinstance(self._native, QtCore.QObject):
            return self._native is other._native
        return bool(self._native == other._native)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        state = "" if self else ", destroyed"
        return f"{type(self).__name__} (at {id(self._native):#x}{state})"


def _operator(function: Callable[[Any, Any], Any]) -> Callable[[Proxy, Any], Any]:
    def apply(self: Proxy, other: Any) -> Any:
        return to_python(function(self._native, to_native(other)))

    return apply


for _name in ("lt", "le", "gt", "ge", "add", "sub", "mul", "truediv"):
    setattr(Proxy, f"__{_name}__", _operator(getattr(operator, _name)))


def no_keywords(name: str, keywords: dict[str, Any]) -> None:
    if keywords:
        raise ValueError(
            f"Called {name} with keyword arguments ({', '.join(keywords)}), which PythonQt does not support"
        )


def proxy_class(native_class: type) -> ProxyType:
    """The class that ``qt``, ``ctk`` or ``slicer`` shows for a PySide or played class."""
    if native_class not in _classes:
        _classes[native_class] = ProxyType(native_class.__name__, (Proxy,), {"_native_class": native_class})
    return _classes[native_class]


def adopt(proxy: Proxy, native: Any) -> Proxy:
    """Have the proxy stand for the native object from now on."""
    object.__setattr__(proxy, "_native", native)
    if isinstance(native, QtCore.QObject):
        _proxies[address(native)] = proxy
        if shown_class(native) is not type(native) or type(native) in PLAYED.values():
            keep(native, proxy)
    return proxy


def keep(native: QtCore.QObject, companion: Any = None) -> None:
    """Hold the Python side of an object that is partly Python for as long as its C++ side lives."""
    where = address(native)
    if where not in _kept or _kept[where][0] is not native:
        native.destroyed.connect(lambda *_: _kept.pop(where, None))
    _kept[where] = (native, companion)


def destroy_kept() -> None:
    """End of a test: delete what is held, the outermost first."""
    for native, _ in list(_kept.values()):
        if shiboken6.isValid(native) and native.parent() is None:
            shiboken6.delete(native)
    _kept.clear()


def address(native: QtCore.QObject) -> int:
    return int(shiboken6.getCppPointer(native)[0])


def shown_class(native: Any) -> type:
    """The PySide or played class that C++ would call this object's class."""
    for cls in type(native).__mro__:
        if PLAYED.get(cls.__name__) is cls or cls.__module__.startswith("PySide6."):
            return cls
    raise TypeError(f"{type(native)} is not a class of Qt")


def wrap(native: Any) -> Proxy:
    """The proxy of a native object, the same one for as long as somebody holds it."""
    if isinstance(native, QtCore.QObject):
        known = _proxies.get(address(native))
        if known is not None and shiboken6.isValid(known._native):
            return known
    cls = proxy_class(shown_class(native))
    return adopt(cls.__new__(cls), native)


def native_of(proxy: Proxy, purpose: str = "use") -> Any:
    """The native object. Raises ``ValueError`` once Qt has destroyed it; refuses threads other than the main one."""
    if threading.current_thread() is not threading.main_thread():
        refuse(f"A thread tries to {purpose} a {type(proxy).__name__} object; only the main thread may touch Qt")
    if not shiboken6.isValid(proxy._native):
        raise ValueError(f"Trying to {purpose} a destroyed {type(proxy).__name__} object")
    return proxy._native


def to_native(value: Any) -> Any:
    """What PySide gets for a value of the code under test."""
    if isinstance(value, Proxy):
        return native_of(value, "pass")
    if isinstance(value, EnumValue):
        return value.native
    if isinstance(value, list | tuple):
        return [to_native(each) for each in value]
    if isinstance(value, dict):
        return {key: to_native(each) for key, each in value.items()}
    return value


def to_python(value: Any) -> Any:
    """What the code under test gets for a value of PySide: tuples for lists, integers for enumerators."""
    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, list | tuple | set):
        return tuple(to_python(each) for each in value)
    if isinstance(value, dict):
        return {key: to_python(each) for key, each in value.items()}
    if isinstance(value, _ShibokenObject):
        return wrap(value)
    if isinstance(value, enum.EnumMeta):
        return EnumType(value, value.__qualname__.rpartition(".")[0])
    return value


from . import members  # noqa: E402  (needs what stands above; an import within __getattr__ would take most of its time)
