"""Python classes derived from Qt's: their event handlers are called by Qt, with proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .problems import problems


def shell_class(cls: type, native_class: type, proxy: Any) -> type:
    """The class to create: the native one, or one whose virtual functions call the proxy's overrides."""
    overrides = {}
    for each in cls.__mro__:
        if "_native_class" in vars(each):
            break
        for name, function in vars(each).items():
            if callable(function) and not name.startswith("_") and callable(getattr(native_class, name, None)):
                overrides.setdefault(name, _forward(proxy, native_class, name))
    return type(native_class.__name__, (native_class,), overrides) if overrides else native_class


def _forward(proxy: Any, native_class: type, name: str) -> Callable[..., Any]:
    def forward(native: Any, *values: Any) -> Any:
        from .proxies import to_native, to_python

        if getattr(proxy, "_native", None) is None:  # called while the C++ constructor runs
            return getattr(native_class, name)(native, *values)
        try:
            return to_native(getattr(proxy, name)(*[to_python(value) for value in values]))
        except Exception as error:
            problems.add(f"override {native_class.__name__}.{name}", error)
            return getattr(native_class, name)(native, *values)

    return forward
