"""The engine's settings dataclasses as parameter packs: one definition for panel, job and provenance."""

from __future__ import annotations

import dataclasses
import typing
from typing import Annotated

import slicer
import slicer.util
from slicer.parameterNodeWrapper import WithinRange, isParameterPack, nestedParameterNames, parameterPack

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


def wrapped(wrapperClass: type, node):
    """The wrapper of a parameter node, which may be of a scene that another version has saved.

    A setting that the node lacks, or whose value this version does not know, gets its default. Slicer's own wrapper
    raises for both: it looks only for the first member of a pack.
    """
    defaults = slicer.vtkMRMLScriptedModuleNode()
    wrapperClass(defaults)
    with slicer.util.NodeModify(node):
        for name in _membersOfPacks(wrapperClass):
            if not node.HasParameter(name):
                node.SetParameter(name, defaults.GetParameter(name))
    try:
        return wrapperClass(node)
    except ValueError:
        with slicer.util.NodeModify(node):
            for name in defaults.GetParameterNames():
                if not _isReadable(wrapperClass, defaults, name, node.GetParameter(name)):
                    node.SetParameter(name, defaults.GetParameter(name))
        return wrapperClass(node)


def _membersOfPacks(wrapperClass: type) -> list[str]:
    packs = {name: kind for name, kind in typing.get_type_hints(wrapperClass).items() if isParameterPack(kind)}
    return [f"{name}.{member}" for name, pack in packs.items() for member in nestedParameterNames(pack)]


def _isReadable(wrapperClass: type, defaults, name: str, value: str) -> bool:
    """Whether a wrapper can be made of a node of ``defaults`` with this value, in which it is tried."""
    default = defaults.GetParameter(name)
    if value == default:
        return True
    defaults.SetParameter(name, value)
    try:
        wrapperClass(defaults)
    except ValueError:
        return False
    finally:
        defaults.SetParameter(name, default)
    return True


def _withRange(hint):
    if typing.get_origin(hint) is not Annotated:
        return hint
    kind, *metadata = typing.get_args(hint)
    ranges = [WithinRange(kind(m.minimum), kind(m.maximum)) for m in metadata if isinstance(m, Bounds)]
    return Annotated[(kind, *ranges)] if ranges else kind
