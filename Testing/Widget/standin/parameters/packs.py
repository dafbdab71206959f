"""``parameterPack``: a class whose members are checked on writing and stored one by one in a parameter node."""

from __future__ import annotations

import typing
from typing import Any

import slicer.util

from .storage import Storage, storage_of
from .validators import unannotatedType


class PackMember(typing.NamedTuple):
    name: str
    storage: Storage
    default: Any
    annotated: Any


def parameterPack(classtype: Any = None) -> Any:
    """Class decorator, with or without parentheses."""
    return _make_pack if classtype is None else _make_pack(classtype)


def isParameterPack(thing: Any) -> bool:
    return bool(getattr(thing, "_is_parameterPack", False))


def nestedParameterNames(pack: Any) -> list[str]:
    """Dotted names of all members, the inner ones of nested packs included."""
    names: list[str] = []
    for name, member in unannotatedType(pack).allParameters.items():
        inner = unannotatedType(member.annotated)
        names += [f"{name}.{each}" for each in nestedParameterNames(inner)] if isParameterPack(inner) else [name]
    return names


def check_member(pack: Any, dotted: str) -> None:
    """Raise ``ValueError`` if the pack class has no member of that name."""
    name, _, rest = dotted.partition(".")
    if not isParameterPack(pack):
        raise ValueError(f"{pack} is no parameter pack, so it has no '{dotted}'")
    if name not in pack.allParameters:
        raise ValueError(f"{pack.__name__} has no member '{name}'; it has: {', '.join(pack.allParameters)}")
    if rest:
        check_member(unannotatedType(pack.allParameters[name].annotated), rest)


def _make_pack(cls: type) -> type:
    members: dict[str, PackMember] = {}
    for name, annotated in typing.get_type_hints(cls, include_extras=True).items():
        storage, annotation = storage_of(annotated)
        if hasattr(cls, name):
            default = getattr(cls, name)
        else:
            default = annotation.value if annotation is not None else storage.default()
        try:
            storage.check(default)
        except (TypeError, ValueError) as error:
            raise ValueError(f"The default {default!r} of '{name}' fails its checks: {error}") from error
        members[name] = PackMember(name, storage, default, annotated)
    if not members:
        raise ValueError("Unable to find any members in parameterPack")
    for name in members:
        setattr(cls, name, _checked_property(name, members[name].storage))
    _give_constructor(cls, members)
    for name, function in {"__eq__": _equal, "__repr__": _text, "__str__": _text}.items():
        if name not in vars(cls):
            setattr(cls, name, function)
    additions: dict[str, Any] = {
        "allParameters": members,
        "_is_parameterPack": True,
        "getValue": _get_value,
        "setValue": _set_value,
        "dataType": staticmethod(lambda name: _data_type(cls, name)),
    }
    for name, value in additions.items():
        if hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterPack")
        setattr(cls, name, value)
    return cls


def _slot(name: str) -> str:
    return f"_parameterPack_{name}_impl"


def _checked_property(name: str, storage: Storage) -> property:
    def write(self: Any, value: Any) -> None:
        storage.check(value)
        object.__setattr__(self, _slot(name), value)

    return property(lambda self: getattr(self, _slot(name)), write)


def _give_constructor(cls: Any, members: dict[str, PackMember]) -> None:
    """The class's own constructor runs over the defaults; without one, members are its arguments."""
    own = vars(cls).get("__init__")

    def construct(self: Any, *arguments: Any, **keywords: Any) -> None:
        for member in members.values():
            setattr(self, member.name, member.default)
        if own is not None:
            own(self, *arguments, **keywords)
            return
        positional = dict(zip(members, arguments, strict=False))
        unknown = [name for name in keywords if name not in members or name in positional]
        if unknown or len(arguments) > len(members):
            raise TypeError(f"__init__() got unexpected arguments: {unknown or arguments}")
        for name, value in {**positional, **keywords}.items():
            setattr(self, name, value)

    cls.__init__ = construct


def _equal(self: Any, other: object) -> bool:
    same = type(self) is type(other)
    return same and all(getattr(self, name) == getattr(other, name) for name in self.allParameters)


def _text(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.allParameters)})"


def _get_value(self: Any, dotted: str) -> Any:
    check_member(type(self), dotted)
    name, _, rest = dotted.partition(".")
    value = getattr(self, name)
    return value.getValue(rest) if rest else value


def _set_value(self: Any, dotted: str, value: Any) -> None:
    check_member(type(self), dotted)
    name, _, rest = dotted.partition(".")
    if rest:
        getattr(self, name).setValue(rest, value)
    else:
        setattr(self, name, value)


def _data_type(cls: Any, dotted: str) -> Any:
    check_member(cls, dotted)
    name, _, rest = dotted.partition(".")
    annotated = cls.allParameters[name].annotated
    return unannotatedType(annotated).dataType(rest) if rest else annotated


class PackStorage(Storage):
    """A pack: ``name.member``. What is read is an instance of the pack's class that writes itself back."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self._observed = _observed_class(cls)

    def default(self) -> Any:
        return self.cls()

    def check(self, value: Any) -> None:
        super().check(value)
        if not isinstance(value, self.cls):
            raise ValueError(f"{value!r} is no {self.cls.__name__}")

    def isIn(self, node: Any, name: str) -> bool:
        first = next(iter(self.cls.allParameters.values()))
        return first.storage.isIn(node, f"{name}.{first.name}")

    def put(self, node: Any, name: str, value: Any) -> None:
        for member in self.cls.allParameters.values():
            member.storage.write(node, f"{name}.{member.name}", getattr(value, _slot(member.name)))

    def read(self, node: Any, name: str) -> Any:
        pack = self._observed.__new__(self._observed)
        object.__setattr__(pack, "_write_back", None)
        for member in self.cls.allParameters.values():
            value = member.storage.read(node, f"{name}.{member.name}")  # also where the node has none
            member.storage.check(value)
            object.__setattr__(pack, _slot(member.name), value)
        object.__setattr__(pack, "_write_back", lambda: self._write_all(node, name, pack))
        return pack

    def _write_all(self, node: Any, name: str, pack: Any) -> None:
        """All members, as Slicer does: a pack that was kept aside overwrites what others changed meanwhile."""
        with slicer.util.NodeModify(node):
            self.put(node, name, pack)

    def remove(self, node: Any, name: str) -> None:
        for member in self.cls.allParameters.values():
            member.storage.remove(node, f"{name}.{member.name}")


def _observed_class(cls: Any) -> Any:
    def set_attribute(self: Any, name: str, value: Any) -> None:
        if not hasattr(self, name):
            raise AttributeError(f"{cls.__name__} has no attribute '{name}', and gets no new ones")
        object.__setattr__(self, name, value)
        if name in cls.allParameters and self._write_back is not None:
            self._write_back()

    def set_value(self: Any, dotted: str, value: Any) -> None:
        _set_value(self, dotted, value)
        self._write_back()

    def equal(self: Any, other: object) -> bool:
        comparable = isinstance(other, cls)
        return comparable and all(getattr(self, name) == getattr(other, name) for name in cls.allParameters)

    body = {"__setattr__": set_attribute, "setValue": set_value, "__eq__": equal, "__hash__": None}
    return type(f"Observed{cls.__name__}", (cls,), body)


@parameterPack
class FloatRange:
    """A range with ``minimum <= maximum``."""

    minimum: float
    maximum: float

    def __init__(self, minimum: float = 0, maximum: float = 0) -> None:
        if not minimum <= maximum:
            raise ValueError(f"FloatRange must have minimum <= maximum: {minimum} <= {maximum}")
        self.minimum, self.maximum = minimum, maximum
