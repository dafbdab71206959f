"""``parameterNodeWrapper``: typed attributes over a ``vtkMRMLScriptedModuleNode``, and their binding to widgets."""

from __future__ import annotations

import typing
import weakref
from collections.abc import Callable
from typing import Any

import slicer.util
import vtk

from ..problems import refuse
from .connectors import Connector, connector
from .packs import check_member
from .storage import storage_of
from .validators import Default, unannotatedType

SlicerParameterNamePropertyName = "SlicerParameterName"


class Parameter(typing.NamedTuple):
    name: str
    storage: Any
    default: Default
    annotated: Any


class _Cached:
    """The value of one parameter; read anew whenever the node says that it changed."""

    def __init__(self, parameter: Parameter, node: Any, prefix: str) -> None:
        self.parameter, self.node, self.stored = parameter, node, prefix + parameter.name
        self._tag: int | None = None
        self.value = self._from_node()
        self._writing = False
        this = weakref.ref(self)  # an observer that held this object would keep it for ever

        def changed(caller: Any, event: str) -> None:
            cached = this()
            if cached is not None and not cached._writing:
                cached.value = cached._from_node()

        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, changed)

    def __del__(self) -> None:
        if self._tag is not None:
            self.node.RemoveObserver(self._tag)

    def _from_node(self) -> Any:
        if not self.parameter.storage.isIn(self.node, self.stored):
            self.parameter.storage.write(self.node, self.stored, self.parameter.default.value)
        return self.parameter.storage.read(self.node, self.stored)

    def write(self, value: Any) -> None:
        self._writing = True
        try:
            with slicer.util.NodeModify(self.node):
                self.parameter.storage.write(self.node, self.stored, value)
                self.value = self._from_node()
        finally:
            self._writing = False


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Class decorator, with or without parentheses."""
    return _make_wrapper if classtype is None else _make_wrapper(classtype)


def isParameterNodeWrapper(thing: Any) -> bool:
    return bool(getattr(thing, "_is_parameter_node_wrapper", False))


def _make_wrapper(cls: Any) -> Any:
    parameters: dict[str, Parameter] = {}
    for name, annotated in typing.get_type_hints(cls, include_extras=True).items():
        storage, annotation = storage_of(annotated)
        if hasattr(cls, name):
            default = Default(getattr(cls, name))
        else:
            default = annotation if annotation is not None else Default(generator=storage.default)
        parameters[name] = Parameter(name, storage, default, annotated)
    for name in parameters:
        setattr(cls, name, _property(name))
    additions = {name: member for name, member in vars(_Wrapper).items() if not name.startswith("__")}
    additions.update(allParameters=parameters, _is_parameter_node_wrapper=True)
    for name, member in additions.items():
        if hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, member)
    cls.dataType = staticmethod(lambda name: _data_type(cls, name))
    cls.__init__ = _Wrapper.__init__
    return cls


def _property(name: str) -> property:
    return property(lambda self: self._cached[name].value, lambda self, value: self._cached[name].write(value))


def _data_type(cls: Any, dotted: str) -> Any:
    _check_name(cls, dotted)
    name, _, rest = dotted.partition(".")
    annotated = cls.allParameters[name].annotated
    return unannotatedType(annotated).dataType(rest) if rest else annotated


def _check_name(cls: Any, dotted: str) -> None:
    name, _, rest = dotted.partition(".")
    if name not in cls.allParameters:
        raise ValueError(f"Cannot find a parameter '{name}'; there are: {', '.join(cls.allParameters)}")
    if rest:
        check_member(unannotatedType(cls.allParameters[name].annotated), rest)


class _Wrapper:
    """What the decorator adds to a class."""

    allParameters: dict[str, Parameter]

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, dict[str, Connector]] = {}
        self._updating = False
        self._next_tag = 0
        self._cached = {
            name: _Cached(parameter, parameterNode, prefix or "") for name, parameter in self.allParameters.items()
        }

    def default(self, name: str) -> Default:
        _check_name(type(self), name)
        return self.allParameters[name].default

    def isCached(self, name: str) -> bool:
        _check_name(type(self), name)
        return True

    def dataType(self, name: str) -> Any:
        raise NotImplementedError

    def getValue(self, dotted: str) -> Any:
        _check_name(type(self), dotted)
        name, _, rest = dotted.partition(".")
        value = getattr(self, name)
        return value.getValue(rest) if rest else value

    def setValue(self, dotted: str, value: Any) -> None:
        _check_name(type(self), dotted)
        name, _, rest = dotted.partition(".")
        if rest:
            getattr(self, name).setValue(rest, value)
        else:
            setattr(self, name, value)

    def connectGui(self, gui: Any) -> int:
        """Bind every widget with the dynamic property ``SlicerParameterName``. The tag is for ``disconnectGui``."""
        import qt

        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else vars(gui).values()
        mapping: dict[str, Any] = {}
        for widget in widgets:
            name = widget.property(SlicerParameterNamePropertyName)
            if name and name in mapping:
                refuse(f"Two widgets are bound to the parameter '{name}'; Slicer would bind only the last")
            if name:
                mapping[name] = widget
        return self.connectParametersToGui(mapping)

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        for name in mapping:
            _check_name(type(self), name)
        connectors = {name: connector(widget, self.dataType(name)) for name, widget in mapping.items()}
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        self._guis[tag] = connectors
        for name, each in connectors.items():
            each.write(self.getValue(name))
            each.listen(self._from_gui(name, each))
        self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update_gui())
        return tag

    def disconnectGui(self, guiTag: int) -> None:
        """Leaves its observer behind, and with it this object, as up to Slicer 5.10."""
        for each in self._guis.pop(guiTag, {}).values():
            each.forget()

    def _from_gui(self, name: str, each: Connector) -> Callable[[], None]:
        def changed() -> None:
            if not self._updating:
                with slicer.util.NodeModify(self):
                    self.setValue(name, each.read())

        return changed

    def _update_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors in self._guis.values():
                    for name, each in connectors.items():
                        each.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self) -> int:
        return int(self.parameterNode.StartModify())

    def EndModify(self, wasModified: int) -> Any:
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()
