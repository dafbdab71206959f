"""Plays ``slicer.parameterNodeWrapper``, with its storage format, which saved scenes depend on."""

from typing import Any

from .connectors import node_types
from .packs import FloatRange, isParameterPack, nestedParameterNames, parameterPack
from .validators import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Label,
    Maximum,
    Minimum,
    NotNone,
    RangeBounds,
    SingleStep,
    Validator,
    WithinRange,
    findFirstAnnotation,
    splitAnnotations,
    unannotatedType,
)
from .wrapper import SlicerParameterNamePropertyName, isParameterNodeWrapper, parameterNodeWrapper

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "FloatRange",
    "IsInstance",
    "Label",
    "Maximum",
    "Minimum",
    "NotNone",
    "RangeBounds",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "findFirstAnnotation",
    "getNodeTypes",
    "isNodeOrUnionOfNodes",
    "isParameterNodeWrapper",
    "isParameterPack",
    "nestedParameterNames",
    "parameterNodeWrapper",
    "parameterPack",
    "splitAnnotations",
    "unannotatedType",
]


def isNodeOrUnionOfNodes(datatype: Any) -> bool:
    return bool(node_types(datatype))


def getNodeTypes(datatype: Any) -> tuple[str, ...]:
    if not node_types(datatype):
        raise TypeError(f"Cannot handle type {datatype}")
    return tuple(kind().GetClassName() for kind in node_types(datatype))
