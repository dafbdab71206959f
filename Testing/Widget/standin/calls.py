"""Calling a PySide function with PythonQt's rules for arguments. Works on PySide's own objects only."""

from __future__ import annotations

import enum
import math
import typing
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PySide6 import QtCore  # noqa: F401  (makes shibokensupport importable)
from shibokensupport.signature import get_signature

_known: dict[str, list[list[Any]]] = {}
"""By name of the function, with its class."""


def call(name: str, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """What the function returns. Raises ``ValueError`` for arguments that PythonQt does not take."""
    for argument in arguments:
        if isinstance(argument, np.generic | np.ndarray):
            raise ValueError(
                f"Called {name} with a numpy {type(argument).__name__}, which PythonQt may reject; use int() or float()"
            )
    try:
        return function(*arguments)
    except (TypeError, ValueError, NotImplementedError) as error:
        for candidate in _converted(name, function, arguments):
            try:
                return function(*candidate)
            except (TypeError, ValueError, NotImplementedError):
                continue
        raise ValueError(f"Called {name} with wrong arguments: {tuple(arguments)!r} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _overloads(name: str, function: Callable[..., Any]) -> list[list[Any]]:
    """Types of the parameters of each overload of the function of that name (of its class)."""
    if name not in _known:
        signatures = get_signature(function) or []
        _known[name] = [
            [
                parameter.annotation
                for parameter in signature.parameters.values()
                if parameter.name != "self" and parameter.kind != parameter.KEYWORD_ONLY
            ]
            for signature in (signatures if isinstance(signatures, list) else [signatures])
        ]
    return _known[name]


def _converted(name: str, function: Callable[..., Any], arguments: Sequence[Any]) -> list[list[Any]]:
    """The arguments as each overload of the function would take them, where PythonQt converts and PySide does not."""
    candidates = []
    for kinds in _overloads(name, function):
        if len(kinds) < len(arguments):
            continue
        candidate = [_as_parameter(kind, argument) for kind, argument in zip(kinds, arguments, strict=False)]
        if any(new is not old for new, old in zip(candidate, arguments, strict=True)):
            candidates.append(candidate)
    return candidates


def _as_parameter(kind: Any, argument: Any) -> Any:
    kinds = typing.get_args(kind) or (kind,)
    number = isinstance(argument, int | float) and not isinstance(argument, enum.Enum)
    for each in kinds:
        if isinstance(each, enum.EnumMeta) and isinstance(argument, int) and not isinstance(argument, enum.Enum):
            try:
                return each(int(argument))
            except ValueError:
                continue
        if each is int and isinstance(argument, float) and math.isfinite(argument):
            return math.floor(argument)
        if each is str and number:
            return str(argument)
    if isinstance(argument, tuple):
        return list(argument)
    return argument
