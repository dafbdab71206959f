"""Which volumes of the scene a training learns from, and what goes with each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medgan.settings import TrainKind
from medgan.volume import LabelMap, Volume
from MedGANSlicerLib.LabelInputs import labelMapOf
from MedGANSlicerLib.NodePairs import LABELS, VOLUMES, NodePairs, Pair, beyond, nodesOf
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, inFrameOf, volumeFromNode
from MedGANSlicerLib.SceneEdits import subjectHierarchy

CHOSEN = NodePairs("Train")

REFERENCE_ROLE = "referenceImageGeometryRef"
"""Node reference of a segmentation to the volume that it was drawn on."""

_NARROW = str.maketrans(dict.fromkeys(" _-./\\", "\u00a0"))
"""In the names that the engine gets: no word of a name may read as the role of its volume."""


@dataclass(frozen=True)
class Partners:
    """What a kind of training needs beside its volumes. ``roles``: what volume and partner are to the engine.

    ``ofLabels``: the partner is a segmentation or label map, not a volume.
    """

    roles: tuple[str, str]
    ofLabels: bool = False
    required: bool = True


PARTNERS = {
    TrainKind.ENHANCE: Partners(("target", "input"), required=False),
    TrainKind.TRANSLATE: Partners(("source", "target")),
    TrainKind.LABEL_TO_VOLUME: Partners(("images", "labels"), ofLabels=True),
    TrainKind.SEGMENT: Partners(("images", "labels"), ofLabels=True),
}
"""The kinds of training whose volumes have partners."""


def partnersOf(volume, kind: TrainKind, nodes: Iterable) -> list:
    """Those of the nodes that could go with a volume for that kind."""
    if kind not in PARTNERS:
        return []
    classes = LABELS if PARTNERS[kind].ofLabels else VOLUMES
    return [node for node in nodes if node.GetClassName() in classes and node is not volume]


def guessPartner(volume, kind: TrainKind, taken: Iterable = ()):
    """The labels that go with a volume by all appearances: drawn on it, made from it, or named after it; or None."""
    if kind not in PARTNERS or not PARTNERS[kind].ofLabels:
        return None
    nodes, taken = nodesOf(volume.GetScene(), (*VOLUMES, *LABELS)), set(taken)
    others = [node for node in partnersOf(volume, kind, nodes) if node not in taken]
    linked = [n for n in others if any(n.GetNodeReference(role) is volume for role in (REFERENCE_ROLE, SOURCE_ROLE))]
    names = [node.GetName() for node in nodes if node.GetClassName() in VOLUMES]
    found = linked or [node for node in others if _namedAfter(node, names) == volume.GetName()]
    return found[0] if len(found) == 1 else None


def _namedAfter(node, names: Sequence[str]) -> str:
    """The longest of the names that the name of a node is made from, or ""."""
    return max((name for name in names if beyond(node.GetName(), name) is not None), key=len, default="")


def classOf(volume) -> str:
    """What a volume is an example of: the name of the subject hierarchy folder that it lies in; "" in none."""
    hierarchy = subjectHierarchy(volume.GetScene())
    item = hierarchy.GetItemByDataNode(volume) if hierarchy is not None else 0
    while item:
        item = hierarchy.GetItemParent(item)
        if item and hierarchy.GetItemLevel(item) == "Folder":
            return hierarchy.GetItemName(item)
        if item == hierarchy.GetSceneItemID():
            return ""
    return ""


def _obstacleOfClasses(pairs: Sequence[Pair]) -> str:
    how = "in the Data module, put the volumes of each class into a folder with its name."
    without = [pair.node.GetName() for pair in pairs if not classOf(pair.node)]
    if without:
        return f"'{without[0]}' lies in no folder; {how}"
    classes = {classOf(pair.node) for pair in pairs}
    return "" if len(classes) > 1 else f"All volumes are of the class '{classes.pop()}'; {how}"


def obstacle(pairs: Sequence[Pair], kind: TrainKind, validationShare: float = 0.0) -> str:
    """One sentence on what is missing, or ""."""
    if not pairs:
        return "Choose the volumes to learn from."
    if validationShare > 0 and len(pairs) < 2:
        return "Choose two volumes or more, or set Validation to 0."
    if validationShare > 0 and len({_patientOf(pair.node) or pair.node.GetID() for pair in pairs}) < 2:
        return "All volumes are of one patient; choose one of another, or set Validation to 0."
    if kind is TrainKind.CLASSIFY:
        return _obstacleOfClasses(pairs)
    partners = PARTNERS.get(kind)
    if partners is None:
        return ""
    without = [pair.node.GetName() for pair in pairs if pair.partner is None]
    if partners.required and without:
        what = "segmentation or label map" if partners.ofLabels else "target"
        return f"Choose the {what} that goes with '{without[0]}'."
    if without and len(without) < len(pairs):
        return f"'{without[0]}' has no degraded version, others have; give one to all volumes or to none."
    return ""


def engineInputs(
    pairs: Sequence[Pair], kind: TrainKind, messages: list[str] | None = None
) -> dict[str, Volume | LabelMap]:
    """Copies of the voxels under the names by which the engine tells their roles. Raises ``ValueError``.

    Sentences about segments that overlap are added to ``messages``.
    """
    problem = obstacle(pairs, kind)
    if problem:
        raise ValueError(problem)
    inputs: dict[str, Volume | LabelMap] = {}
    partners = PARTNERS.get(kind)
    for number, pair in enumerate(pairs, 1):
        name, volume = _nameOf(pair.node, number), volumeFromNode(pair.node)
        if kind is TrainKind.CLASSIFY:
            inputs[f"{classOf(pair.node).replace('/', ' ')}/{name}"] = volume
            continue
        if pair.partner is None or partners is None:
            inputs[f"images/{name}"] = volume
            continue
        inputs[f"{partners.roles[0]}/{name}"] = volume
        inputs[f"{partners.roles[1]}/{name}"] = (
            labelMapOf(pair.partner, pair.node, messages)
            if partners.ofLabels
            else inFrameOf(volumeFromNode(pair.partner), pair.partner, pair.node)
        )
    return inputs


def _nameOf(volume, number: int) -> str:
    """A unique name; volumes of one patient of the subject hierarchy begin alike, so that they stay together."""
    patient = _patientOf(volume)
    return (f"sub-{patient}_" if patient else "") + f"{number:02d}\u00a0{volume.GetName().translate(_NARROW)}"


def _patientOf(volume) -> int:
    """The item of the patient that the volume belongs to, 0 if there is none."""
    hierarchy = subjectHierarchy(volume.GetScene())
    item = hierarchy.GetItemByDataNode(volume) if hierarchy is not None else 0
    return hierarchy.GetItemAncestorAtLevel(item, "Patient") if item else 0
