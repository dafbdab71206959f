"""The engine's settings dataclasses as parameter packs: one definition for panel, job and provenance."""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated

from slicer.parameterNodeWrapper import WithinRange, parameterPack

from medgan.settings import Bounds


def packOf(settingsClass: type) -> type:
    """A parameter pack with the fields, defaults and bounds of a settings class, and derived from it."""
    hints = typing.get_type_hints(settingsClass, include_extras=True)
    members: dict = {"__annotations__": {}}
    for field in dataclasses.fields(settingsClass):
        members["__annotations__"][field.name] = _withRange(hints[field.name])
        members[field.name] = field.default
    members["__module__"] = settingsClass.__module__
    return parameterPack(type(f"{settingsClass.__name__}Pack", (settingsClass,), members))


def snapshot(pack, settingsClass: type):
    """The settings as they are now, checked and detached from the parameter node."""
    return settingsClass(**{field.name: getattr(pack, field.name) for field in dataclasses.fields(settingsClass)})


def _withRange(hint):
    if typing.get_origin(hint) is not Annotated:
        return hint
    kind, *metadata = typing.get_args(hint)
    ranges = [WithinRange(kind(m.minimum), kind(m.maximum)) for m in metadata if isinstance(m, Bounds)]
    return Annotated[(kind, *ranges)] if ranges else kind
