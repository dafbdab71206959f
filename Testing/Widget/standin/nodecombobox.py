"""Slicer's node selector, played by PySide over a real scene."""

from __future__ import annotations

from typing import Any, ClassVar

import vtk
from PySide6 import QtCore, QtWidgets

from .ctkwidgets import plain
from .declare import invokable, plays, slot
from .modal import Message, desk
from .problems import refuse

_NODE_ROLE = QtCore.Qt.ItemDataRole.UserRole
_ACTION_ROLE = QtCore.Qt.ItemDataRole.UserRole + 1


def _setting(kind: Any, name: str, default: Any) -> Any:
    """A property that decides what is listed."""

    def read(self: qMRMLNodeComboBox) -> Any:
        return self._settings.get(name, default)

    def write(self: qMRMLNodeComboBox, value: Any) -> None:
        self._settings[name] = [each for each in value if each] if kind == "QStringList" else value
        self._fill()

    return QtCore.Property(kind, read, write)


def _forgetter(observed: list[tuple[Any, int]]) -> Any:
    """Removes the observers when C++ destroys the widget; must not hold the widget."""

    def forget(*_: Any) -> None:
        for each, tag in observed:
            each.RemoveObserver(tag)
        observed.clear()

    return forget


@plays
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Shows the nodes of the scene that pass its filters, then the actions it allows. Disabled without a scene."""

    CPP_SIGNALS: ClassVar[dict[str, str]] = {
        "currentNodeChanged(vtkMRMLNode*)": "changedNode",
        "currentNodeChanged(bool)": "changedValidity",
        "nodeActivated(vtkMRMLNode*)": "activatedNode",
        "nodeAdded(vtkMRMLNode*)": "addedNode",
        "nodeAddedByUser(vtkMRMLNode*)": "addedByUser",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "removingNode",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "editingNode",
    }
    changedNode = QtCore.Signal(object)
    changedValidity = QtCore.Signal(bool)
    activatedNode = QtCore.Signal(object)
    addedNode = QtCore.Signal(object)
    addedByUser = QtCore.Signal(object)
    removingNode = QtCore.Signal(object)
    editingNode = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    currentNodeRenamed = QtCore.Signal(str)
    selectNodeUponCreation = plain(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = plain(str, "interactionNodeSingletonTag", "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox()
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._combo.setMinimumContentsLength(4)  # long names are elided
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Expanding)
        layout.addWidget(self._combo)
        self._scene: Any = None
        self._observed: list[tuple[Any, int]] = []
        self._settings: dict[str, Any] = {}
        self._attributes: dict[str, tuple[str, Any]] = {}
        self._base_names: dict[str, str] = {}
        self._requested = ""
        self._last = ""
        self._filling = False
        self._combo.currentIndexChanged.connect(lambda _: self._announce())
        self._combo.activated.connect(self._activated)
        self.destroyed.connect(_forgetter(self._observed))
        self.setEnabled(False)

    nodeTypes = _setting("QStringList", "nodeTypes", [])
    hideChildNodeTypes = _setting("QStringList", "hideChildNodeTypes", [])
    showHidden = _setting(bool, "showHidden", False)
    showChildNodeTypes = _setting(bool, "showChildNodeTypes", True)
    noneEnabled = _setting(bool, "noneEnabled", False)
    addEnabled = _setting(bool, "addEnabled", True)
    removeEnabled = _setting(bool, "removeEnabled", True)
    editEnabled = _setting(bool, "editEnabled", False)
    renameEnabled = _setting(bool, "renameEnabled", False)
    noneDisplay = _setting(str, "noneDisplay", "None")

    def _get_base_name(self) -> str:
        types = self.nodeTypes
        return self._base_names.get(types[0], "") if types else ""

    def _set_base_name(self, name: str) -> None:
        if not self.nodeTypes:
            refuse("qMRMLNodeComboBox: baseName is ignored as long as nodeTypes is empty; set nodeTypes first")
        self._base_names.update(dict.fromkeys(self.nodeTypes, name))

    baseName = QtCore.Property(str, _get_base_name, _set_base_name)

    @invokable("mrmlScene()")
    def mrmlScene(self) -> Any:
        return self._scene

    @slot("setMRMLScene(vtkMRMLScene*)")
    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        _forgetter(self._observed)()
        wanted = self._requested or self._last
        self._scene = scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.EndBatchProcessEvent, scene.EndImportEvent, scene.EndCloseEvent):
                self._observed.append((scene, scene.AddObserver(event, lambda *_: self._scene_changed())))
            self._observed.append((scene, scene.AddObserver(scene.NodeAboutToBeRemovedEvent, self._removing())))
        self._requested = ""
        self._fill(wanted)
        self.setEnabled(scene is not None)

    @invokable("currentNode()")
    def currentNode(self) -> Any:
        return self._node(self._combo.currentData(_NODE_ROLE))

    @slot("setCurrentNode(vtkMRMLNode*)")
    def setCurrentNode(self, node: Any) -> None:
        self._select((node.GetID() or "") if node is not None else "")

    @slot("setCurrentNodeID(QString)")
    def setCurrentNodeID(self, identifier: str) -> None:
        self._select(identifier)

    @slot("setCurrentNodeIndex(int)")
    def setCurrentNodeIndex(self, index: int) -> None:
        self._combo.setCurrentIndex(index + self.noneEnabled if index < self.nodeCount() else -1 + self.noneEnabled)

    currentNodeID = QtCore.Property(
        str, lambda self: self._combo.currentData(_NODE_ROLE) or "", setCurrentNodeID, notify=currentNodeIDChanged
    )

    @invokable("nodeCount()")
    def nodeCount(self) -> int:
        return sum(bool(self._combo.itemData(index, _NODE_ROLE)) for index in range(self._combo.count()))

    @invokable("nodeFromIndex(int)")
    def nodeFromIndex(self, index: int) -> Any:
        return self._node(self._combo.itemData(index + self.noneEnabled, _NODE_ROLE))

    @invokable("addAttribute(QString,QString)", "addAttribute(QString,QString,QVariant)")
    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._attributes[node_type] = (name, value)
        self._fill()

    @invokable("removeAttribute(QString,QString)")
    def removeAttribute(self, node_type: str, name: str) -> None:
        self._attributes.pop(node_type, None)
        self._fill()

    @slot("addNode()", "addNode(QString)")
    def addNode(self, node_type: str = "") -> Any:
        types = self.nodeTypes
        node_type = node_type or (types[0] if types else "")
        if node_type not in types or self._scene is None:
            return None
        name = self._base_names.get(node_type) or self._label(node_type)
        node = self._scene.CreateNodeByClass(node_type)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(name))
        if node_type in self._attributes:
            attribute, value = self._attributes[node_type]
            node.SetAttribute(attribute, "" if value is None else str(value))
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.addedByUser.emit(node)
        return node

    @slot("removeCurrentNode()")
    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    @slot("editCurrentNode()")
    def editCurrentNode(self) -> None:
        self.editingNode.emit(self.currentNode())

    @slot("renameCurrentNode()")
    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        name = desk.ask(Message("modal", "qMRMLNodeComboBox.renameCurrentNode")) if node is not None else ""
        if name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def _node(self, identifier: Any) -> Any:
        return self._scene.GetNodeByID(identifier) if self._scene is not None and identifier else None

    def _accepts(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        for node_type in self.nodeTypes:
            if not node.IsA(node_type) or (not self.showChildNodeTypes and node.GetClassName() != node_type):
                continue
            if self.showChildNodeTypes and any(node.IsA(hidden) for hidden in self.hideChildNodeTypes):
                return False
            name, value = self._attributes.get(node_type, ("", None))
            has = node.GetAttribute(name) if name else ""
            return has is not None and (value is None or not name or has == str(value))
        return not self.nodeTypes

    def _label(self, node_type: str) -> str:
        return str(self._scene.GetTypeDisplayNameByClassName(node_type) or "node")

    def _actions(self) -> list[tuple[str, str]]:
        offered = [
            ("Rename current node", "rename", self.renameEnabled),
            ("Edit current node", "edit", self.editEnabled),
        ]
        offered += [(f"Create new {self._label(kind)}", f"create {kind}", self.addEnabled) for kind in self.nodeTypes]
        offered += [("Delete current node", "delete", self.removeEnabled)]
        return [(text, action) for text, action, enabled in offered if enabled]

    def _candidates(self) -> list[Any]:
        scene = self._scene
        if scene is None:
            return []
        if len(self.nodeTypes) != 1:
            return [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
        (kind,) = self.nodeTypes
        return [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]

    def _fill(self, wanted: str | None = None, without: Any = None) -> None:
        """List the nodes anew, keeping the selection, or selecting the one with the wanted ID."""
        row, previous = self._combo.currentIndex(), self._combo.currentData(_NODE_ROLE) or ""
        was_empty = self._combo.count() == 0
        shown = [node for node in self._candidates() if node is not without and self._accepts(node)]
        self._observe(shown)
        self._filling = True
        self._combo.clear()
        if self._scene is not None and self.noneEnabled:
            self._combo.addItem(self.noneDisplay, "")
        for node in shown:
            self._combo.addItem(node.GetName() or "", node.GetID())
        for text, action in self._actions() if self._scene is not None else []:
            self._combo.addItem(text)
            self._combo.setItemData(self._combo.count() - 1, action, _ACTION_ROLE)
        self._combo.setCurrentIndex(self._row_after_change(wanted or previous, row, bool(previous), was_empty))
        self._filling = False
        self._announce()

    def _row_after_change(self, identifier: str, row: int, had_node: bool, was_empty: bool) -> int:
        """Where the selection goes: it stays, or moves to the row before when its node went, as QComboBox does."""
        found = self._combo.findData(identifier, _NODE_ROLE) if identifier else -1
        if found >= 0:
            return found
        if had_node and self.nodeCount() > 0:
            before = max(row - 1, 0)
            is_action = self._combo.itemData(before, _ACTION_ROLE) is not None
            return self.nodeCount() - 1 if is_action else before
        if self.noneEnabled and self._combo.count():
            return 0
        return 0 if was_empty and self.nodeCount() == self._combo.count() > 0 else -1

    def _observe(self, nodes: list[Any]) -> None:
        kept = [(each, tag) for each, tag in self._observed if each is self._scene]
        for each, tag in self._observed:
            if each is not self._scene:
                each.RemoveObserver(tag)
        self._observed[:] = kept
        for node in nodes:
            self._observed.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._renamed())))

    def _renamed(self) -> None:
        for index in range(self._combo.count()):
            node = self._node(self._combo.itemData(index, _NODE_ROLE))
            if node is not None and node.GetName() != self._combo.itemText(index):
                self._combo.setItemText(index, node.GetName() or "")

    def _removing(self) -> Any:
        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removing(caller: Any, event: str, node: Any) -> None:
            if node is not None and not self._scene.IsBatchProcessing() and self._accepts(node):
                self.removingNode.emit(node)
                self._fill(without=node)

        return removing

    def _scene_changed(self) -> None:
        if self._scene is not None and not self._scene.IsBatchProcessing():
            before = {self._combo.itemData(index, _NODE_ROLE) for index in range(self._combo.count())}
            self._fill()
            for index in range(self._combo.count()):
                identifier = self._combo.itemData(index, _NODE_ROLE)
                if identifier and identifier not in before:
                    self.addedNode.emit(self._node(identifier))

    def _select(self, identifier: str) -> None:
        if self._scene is None:
            self._requested = identifier
            return
        index = self._combo.findData(identifier, _NODE_ROLE) if identifier else -1
        self._combo.setCurrentIndex(index if index >= 0 else (0 if self.noneEnabled else -1))

    def _announce(self) -> None:
        current = self._combo.currentData(_NODE_ROLE) or ""
        if self._filling or current == self._last:
            return
        self._last = current
        node = self._node(current)
        self.changedNode.emit(node)
        self.changedValidity.emit(node is not None)
        self.currentNodeIDChanged.emit(current)

    def _activated(self, index: int) -> None:
        action = self._combo.itemData(index, _ACTION_ROLE)
        if action is None:
            self.activatedNode.emit(self._node(self._combo.itemData(index, _NODE_ROLE)))
            return
        self._select(self._last)
        if action.startswith("create "):
            self.addNode(action.partition(" ")[2])
        else:
            {"rename": self.renameCurrentNode, "edit": self.editCurrentNode, "delete": self.removeCurrentNode}[action]()
