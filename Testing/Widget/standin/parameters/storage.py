"""How each type of parameter is written to a ``vtkMRMLScriptedModuleNode``, in Slicer's format."""

from __future__ import annotations

import enum
import logging
import pathlib
import types
import typing
from collections.abc import Iterable
from typing import Any

import slicer
import slicer.util

from .containers import ObservedDict, ObservedList
from .validators import Decimals, Default, IsInstance, Label, NotNone, SingleStep, Validator, splitAnnotations

PATHS = (
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)


class Storage:
    """Reads and writes one parameter; ``checks`` run before every write."""

    checks: tuple[Validator, ...] = ()

    def default(self) -> Any:
        raise NotImplementedError

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        self.check(value)
        with slicer.util.NodeModify(node):
            self.put(node, name, value)

    def check(self, value: Any) -> None:
        for each in self.checks:
            each.validate(value)

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, self.text(value))

    def text(self, value: Any) -> str:
        return str(value)

    def read(self, node: Any, name: str) -> Any:
        return self.value(node.GetParameter(name))

    def value(self, text: str) -> Any:
        raise NotImplementedError

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class Plain(Storage):
    """int, float, str and paths: what ``str`` makes of them."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.checks = (NotNone(), IsInstance((int, float) if kind is float else kind))

    def default(self) -> Any:
        return 0 if self.kind in (int, float) else self.kind()

    def value(self, text: str) -> Any:
        return self.kind(text)


class Bool(Storage):
    checks = (NotNone(), IsInstance(bool))

    def default(self) -> bool:
        return False

    def text(self, value: bool) -> str:
        return "True" if value else "False"

    def value(self, text: str) -> bool:
        return text == "True"


class EnumName(Storage):
    """The name of the enumeration's member."""

    def __init__(self, kind: type[enum.Enum]) -> None:
        self.kind = kind
        self.checks = (NotNone(), IsInstance(kind))

    def default(self) -> enum.Enum:
        return next(iter(self.kind))

    def text(self, value: enum.Enum) -> str:
        return value.name

    def value(self, text: str) -> enum.Enum:
        if text not in self.kind.__members__:
            raise ValueError(f"The parameter node holds {text!r}, which is no member of {self.kind.__name__}")
        return self.kind[text]


class NodeReference(Storage):
    """A reference whose role is the name; the empty parameter of that name says that it was written."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.checks = (IsInstance(kind),)

    def default(self) -> None:
        return None

    def put(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class Nothing(Storage):
    """None, as a member of an Optional."""

    def default(self) -> None:
        return None

    def check(self, value: Any) -> None:
        if value is not None:
            raise ValueError("Value must be None")

    def text(self, value: None) -> str:
        return "True"

    def value(self, text: str) -> None:
        return None


class Either(Storage):
    """A union: ``name.<index of the type>``."""

    def __init__(self, storages: list[Storage]) -> None:
        self.storages = storages

    def default(self) -> Any:
        optional = len(self.storages) == 2 and isinstance(self.storages[1], Nothing)
        return None if optional else self.storages[0].default()

    def _fitting(self, value: Any) -> int:
        error: Exception = TypeError(f"{value!r} is of no type of the union")
        for index, storage in enumerate(self.storages):
            try:
                storage.check(value)
            except (TypeError, ValueError) as raised:
                error = raised
            else:
                if value is not None or isinstance(storage, Nothing):  # a node class does not stand for None here
                    return index
        raise error

    def check(self, value: Any) -> None:
        super().check(value)
        self._fitting(value)

    def isIn(self, node: Any, name: str) -> bool:
        return any(each.isIn(node, f"{name}.{index}") for index, each in enumerate(self.storages))

    def put(self, node: Any, name: str, value: Any) -> None:
        index = self._fitting(value)
        self.remove(node, name)
        self.storages[index].put(node, f"{name}.{index}", value)

    def read(self, node: Any, name: str) -> Any:
        for index, storage in enumerate(self.storages):
            if storage.isIn(node, f"{name}.{index}"):
                return storage.read(node, f"{name}.{index}")
        raise KeyError(name)

    def remove(self, node: Any, name: str) -> None:
        for index, storage in enumerate(self.storages):
            storage.remove(node, f"{name}.{index}")


class Sequence(Storage):
    """A list: ``name.len`` and ``name.<index>``."""

    def __init__(self, element: Storage) -> None:
        self.element = element

    def default(self) -> list[Any]:
        return []

    def isIn(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def check(self, value: Any) -> None:
        super().check(value)
        for each in value:
            self.element.check(each)

    def put(self, node: Any, name: str, value: Iterable[Any]) -> None:
        items = list(value)
        self.remove(node, name)
        node.SetParameter(f"{name}.len", str(len(items)))
        for index, each in enumerate(items):
            self.element.put(node, f"{name}.{index}", each)

    def _items(self, node: Any, name: str) -> list[Any]:
        length = int(node.GetParameter(f"{name}.len") or 0)
        return [self.element.read(node, f"{name}.{index}") for index in range(length)]

    def read(self, node: Any, name: str) -> Any:
        return ObservedList(self._items(node, name), lambda items: self.write(node, name, items))

    def remove(self, node: Any, name: str) -> None:
        for index in range(int(node.GetParameter(f"{name}.len") or 0)):
            self.element.remove(node, f"{name}.{index}")
        node.UnsetParameter(f"{name}.len")


class Fixed(Storage):
    """A tuple: ``name.<index>``."""

    def __init__(self, elements: list[Storage]) -> None:
        self.elements = elements

    def default(self) -> tuple[Any, ...]:
        return tuple(each.default() for each in self.elements)

    def isIn(self, node: Any, name: str) -> bool:
        return self.elements[0].isIn(node, f"{name}.0")

    def check(self, value: Any) -> None:
        super().check(value)
        if len(tuple(value)) != len(self.elements):
            raise ValueError(f"{value!r} has not {len(self.elements)} values")
        for storage, each in zip(self.elements, value, strict=True):
            storage.check(each)

    def put(self, node: Any, name: str, value: Any) -> None:
        for index, (storage, each) in enumerate(zip(self.elements, value, strict=True)):
            storage.put(node, f"{name}.{index}", each)

    def read(self, node: Any, name: str) -> tuple[Any, ...]:
        return tuple(each.read(node, f"{name}.{index}") for index, each in enumerate(self.elements))

    def remove(self, node: Any, name: str) -> None:
        for index, each in enumerate(self.elements):
            each.remove(node, f"{name}.{index}")


class Mapping(Sequence):
    """A dict: a list of pairs."""

    def default(self) -> Any:
        return {}

    def check(self, value: Any) -> None:
        super().check(list(value.items()))

    def put(self, node: Any, name: str, value: Any) -> None:
        super().put(node, name, value.items())

    def read(self, node: Any, name: str) -> Any:
        return ObservedDict(dict(self._items(node, name)), lambda items: self.write(node, name, items))


def storage_of(annotated: Any) -> tuple[Storage, Default | None]:
    """How the (annotated) type is stored, and its ``Default`` annotation. Raises ``TypeError`` for unknown types."""
    kind, annotations = splitAnnotations(annotated)
    storage = _storage(kind)
    storage.checks = (*storage.checks, *(each for each in annotations if isinstance(each, Validator)))
    defaults = [each for each in annotations if isinstance(each, Default)]
    known = (Validator, Default, Decimals, SingleStep, Label)
    for each in annotations:
        if not isinstance(each, known):
            logging.warning("Unused annotations: %r", each)
    return storage, defaults[0] if defaults else None


def _storage(kind: Any) -> Storage:
    from .packs import PackStorage, isParameterPack

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union or isinstance(kind, types.UnionType):
        return Either([storage_of(each)[0] for each in arguments])
    if origin is list:
        return Sequence(storage_of(arguments[0])[0])
    if origin is tuple:
        return Fixed([storage_of(each)[0] for each in arguments])
    if origin is dict:
        return Mapping(Fixed([storage_of(each)[0] for each in arguments]))
    if kind in (int, float, str, *PATHS):
        return Plain(kind)
    if kind is bool:
        return Bool()
    if kind is type(None):
        return Nothing()
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeReference(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum) and len(kind):
        return EnumName(kind)
    if isParameterPack(kind):
        return PackStorage(kind)
    raise TypeError(f"Unable to create a serializer for type {kind} (Any and QColor are not played here)")
