"""Qt's enumerators as PythonQt gives them: integers without scopes."""

from __future__ import annotations

import enum
from typing import Any


class EnumValue(int):
    """An enumerator: an ``int`` that remembers which enumerator it was, for the calls it is passed to."""

    native: Any

    def __new__(cls, native: enum.Enum) -> EnumValue:
        value = super().__new__(cls, native.value)
        value.native = native
        return value

    def __repr__(self) -> str:
        return f"{self.native.name} ({int(self)})"

    __str__ = int.__repr__

    def __or__(self, other: int) -> int:
        return _combined(self, other, int.__or__)

    def __and__(self, other: int) -> int:
        return _combined(self, other, int.__and__)

    __ror__ = __or__
    __rand__ = __and__


def _combined(left: EnumValue, right: int, operation: Any) -> int:
    number = operation(int(left), int(right))
    if isinstance(left.native, enum.Flag):
        return EnumValue(type(left.native)(number))
    return number


class EnumType:
    """An enumeration type. Enumerators are not reached through it: PythonQt has no scopes."""

    def __init__(self, native: type[enum.Enum], owner: str) -> None:
        self._native = native
        self._owner = owner

    def __call__(self, number: int) -> EnumValue:
        return EnumValue(self._native(int(number)))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"PythonQt knows no scoped enumerators: write qt.{self._owner}.{name}, "
            f"not qt.{self._owner}.{self._native.__name__}.{name}"
        )
