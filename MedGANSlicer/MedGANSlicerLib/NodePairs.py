"""Chosen nodes and what goes with each of them, kept by the parameter node and so saved with the scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from MedGANSlicerLib.SceneEdits import oneModification

PREVIEW = "MedGAN.Preview"
"""Attribute of the nodes that show the result of a part of their source, until the next run."""

VOLUMES = ("vtkMRMLScalarVolumeNode",)

LABELS = ("vtkMRMLSegmentationNode", "vtkMRMLLabelMapVolumeNode")


@dataclass(frozen=True)
class Pair:
    """A node, and what goes with it or None."""

    node: Any
    partner: Any = None


class NodePairs:
    """What was chosen under a name of its own, such as "Train".

    Each pair has roles of its own: of several references of one role those behind a removed node move up.
    """

    def __init__(self, name: str) -> None:
        self._node, self._partner = f"MedGAN.{name}Node", f"MedGAN.{name}Partner"

    def read(self, parameterNode) -> list[Pair]:
        """What was chosen and is still in the scene, in the order of the choice."""
        found = []
        for number in sorted(int(role[len(self._node) :]) for role in self._roles(parameterNode, self._node)):
            node = parameterNode.GetNodeReference(f"{self._node}{number}")
            if node is not None:
                found.append(Pair(node, parameterNode.GetNodeReference(f"{self._partner}{number}")))
        return found

    def write(self, parameterNode, pairs: Sequence[Pair]) -> None:
        """Keep this choice. Observers of the parameter node hear of it once."""
        with oneModification(parameterNode):
            for role in (*self._roles(parameterNode, self._node), *self._roles(parameterNode, self._partner)):
                parameterNode.RemoveNodeReferenceIDs(role)
            for number, pair in enumerate(pairs):
                parameterNode.SetNodeReferenceID(f"{self._node}{number}", pair.node.GetID())
                if pair.partner is not None:
                    parameterNode.SetNodeReferenceID(f"{self._partner}{number}", pair.partner.GetID())

    def _roles(self, parameterNode, start: str) -> list[str]:
        count = parameterNode.GetNumberOfNodeReferenceRoles()
        roles = [parameterNode.GetNthNodeReferenceRole(number) for number in range(count)]
        return [role for role in roles if role.startswith(start)]


def beyond(name: str, start: str) -> str | None:
    """What a name says beyond another that it begins with, as " labels" of "P1 labels" beyond "P1"; None where it is
    not made from that one: "P10 labels" is not."""
    rest = name.removeprefix(start)
    return rest if name.startswith(start) and not rest[:1].isalnum() else None


def toldApart(nodes: Sequence) -> dict[str, str]:
    """The names of nodes by their IDs, with a number behind where others of their class among them are called the
    same."""
    alike: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        alike.setdefault((node.GetClassName(), node.GetName()), []).append(node.GetID())
    return {
        each: f"{name} ({number})" if len(ids) > 1 else name
        for (_, name), ids in alike.items()
        for number, each in enumerate(ids, 1)
    }


def nodesOf(scene, classes: Sequence[str]) -> list:
    """Nodes of exactly these classes that a person sees, in the order of the scene; no previews and no maps."""
    nodes = [node for node in scene.GetNodes() if node.GetClassName() in classes and not node.GetHideFromEditors()]
    return [node for node in nodes if not node.GetAttribute(PREVIEW) and not node.GetAttribute("MedGAN.Content")]
