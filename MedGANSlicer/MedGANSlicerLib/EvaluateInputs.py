"""Which results of the scene are evaluated, against what, and what the engine is given of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import slicer
import vtk

from medgan.volume import LabelMap, Volume
from MedGANSlicerLib.LabelInputs import labelMapsOf
from MedGANSlicerLib.NodePairs import LABELS, VOLUMES, NodePairs, Pair, beyond, nodesOf
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, volumeFromNode
from MedGANSlicerLib.SegmentGrids import toArray

CHOSEN = NodePairs("Evaluate")


def results(scene) -> list:
    """The volumes, segmentations and label maps of a scene."""
    return nodesOf(scene, (*VOLUMES, *LABELS))


def referencesFor(node, nodes: Iterable) -> list:
    """Those of the nodes that a result could be compared with: volumes with volumes, labels with labels."""
    classes = VOLUMES if node.GetClassName() in VOLUMES else LABELS
    return [other for other in nodes if other.GetClassName() in classes and other is not node]


def guessReference(node, taken: Iterable):
    """The reference that other results of its kind have already, if they all have the same one."""
    others = {each.GetID(): each for each in referencesFor(node, taken)}
    return next(iter(others.values())) if len(others) == 1 else None


def obstacle(pairs: Sequence[Pair]) -> str:
    """One sentence on what is missing, or ""."""
    if not pairs:
        return "Choose at least one result."
    without = [pair for pair in pairs if pair.partner is None]
    if 0 < len(without) < len(pairs):
        return f"'{without[0].node.GetName()}' has no reference, others have; give one to all results or to none."
    kinds = {pair.node.GetClassName() in VOLUMES for pair in pairs}
    if len(kinds) > 1:
        return "Volumes and segmentations are measured apart; choose results of one kind."
    if without and not kinds.pop():
        return f"'{without[0].node.GetName()}' needs a reference; only volumes can be measured without one."
    return ""


def engineInputs(pairs: Sequence[Pair], regionNode=None, withSources: bool = True) -> dict[str, Volume | LabelMap]:
    """Copies of the voxels of :func:`nodesToRead` under the same names. Raises ``ValueError``.

    Segments that overlap are whole, in several label maps. Grids are those of the world where the nodes have
    different parent transforms.
    """
    problem = obstacle(pairs)
    if problem:
        raise ValueError(problem)
    nodes = nodesToRead(pairs, regionNode, withSources)
    frames = {node.GetTransformNodeID() or "" for node in nodes.values()}
    inputs: dict[str, Volume | LabelMap] = {}
    for name, node in nodes.items():
        for number, copied in enumerate(_copied(node, world=len(frames) > 1, on=pairs[0]), 1):
            inputs[f"{name}//{number}" if number > 1 else name] = copied
    return inputs


def nodesToRead(pairs: Sequence[Pair], regionNode=None, withSources: bool = True) -> dict[str, Any]:
    """All nodes that are measured, under the names by which the engine tells their roles.

    Results of one reference are methods of one case; without references those of one source are. ``regionNode``
    (segmentation or label map) is what images are measured in, or the segments that signal and contrast are measured
    in. With ``withSources`` what a result was made from is measured too, as "before".
    """
    names = _named(pairs)
    nodes: dict[str, Any] = {}
    for (case, method), pair in names.items():
        suffix = f"/{case}" if case else ""
        nodes[f"result {method}{suffix}"] = pair.node
        if pair.partner is not None:
            nodes[f"reference{suffix}"] = pair.partner
        source = pair.node.GetNodeReference(SOURCE_ROLE)
        if withSources and _isBefore(source, pair, pairs):
            nodes[f"before{suffix}"] = source
    if regionNode is not None:
        nodes["mask" if pairs[0].partner is not None else "segments"] = regionNode
    return nodes


def _named(pairs: Sequence[Pair]) -> dict[tuple[str, str], Pair]:
    """Case and method of each pair: what a result is called beyond the name of its reference or source."""
    owners = [pair.partner or pair.node.GetNodeReference(SOURCE_ROLE) for pair in pairs]
    leaders = [pair.node if owner is None else owner for pair, owner in zip(pairs, owners, strict=True)]
    alone = not any(owners) or len({leader.GetID() for leader in leaders}) == 1
    cases: dict[str, str] = {}  # names of nodes need not differ, those of cases must
    for leader in [] if alone else leaders:
        if leader.GetID() not in cases:
            cases[leader.GetID()] = _free(_plain(leader.GetName()), set(cases.values()))
    of = [cases.get(leader.GetID(), "") for leader in leaders]
    whole = [_methodOf(pair.node.GetName(), pair, owner) for pair, owner in zip(pairs, owners, strict=True)]
    bare = [_methodOf(_unnumbered(pair.node), pair, owner) for pair, owner in zip(pairs, owners, strict=True)]
    named: dict[tuple[str, str], Pair] = {}
    for place, (pair, case) in enumerate(zip(pairs, of, strict=True)):
        others = [other for other, held in enumerate(of) if held == case and other != place]
        alone = all(bare[place] not in (whole[other], bare[other]) for other in others)
        method = _plain(bare[place] if alone else whole[place])
        named[(case, _free(method, {method for held, method in named if held == case}))] = pair
    return named


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number behind it if it is taken."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name} {number}"
    return candidate


def _methodOf(name: str, pair: Pair, owner) -> str:
    """ "denoised" for a result called "Head denoised" of "Head"."""
    for known in (owner, pair.node.GetNodeReference(SOURCE_ROLE)):
        rest = beyond(name, known.GetName()) if known is not None else None
        if rest:
            return rest.strip(" _-") or name
    return name


def _unnumbered(node) -> str:
    """The name of a result without the number that it got because one of another source is called the same."""
    name = node.GetName()
    bare = re.sub(r" \d+$", "", name)
    first = node.GetScene().GetFirstNodeByName(bare) if bare != name else None
    source = node.GetNodeReference(SOURCE_ROLE)
    of = first.GetNodeReference(SOURCE_ROLE) if first is not None else None
    return bare if source is not None and of is not None and of is not source else name


def _plain(name: str) -> str:
    """A name without what tells roles, methods and cases apart for the engine."""
    return " ".join(name.replace("/", " ").split())


def _isBefore(source, pair: Pair, pairs: Sequence[Pair]) -> bool:
    """Whether a source of a result is to be measured too: a volume that takes no other part."""
    if source is None or not _isVolume(source) or not _isVolume(pair.node):
        return False
    return source is not pair.partner and source not in [other.node for other in pairs]


def _isVolume(node) -> bool:
    return node.GetClassName() in VOLUMES


def _copied(node, world: bool, on: Pair) -> Sequence[Volume | LabelMap]:
    """A volume, or the label maps of a segmentation or label map: several where segments overlap."""
    if _isVolume(node):
        volumes: Sequence[Volume | LabelMap] = [volumeFromNode(node)]
        frame = node.GetParentTransformNode()
    else:
        base = on.partner or on.node
        grid = base if node.IsA("vtkMRMLSegmentationNode") and _isVolume(base) else None
        volumes = labelMapsOf(node, grid)
        frame = (grid or node).GetParentTransformNode()
    if not world or frame is None:
        return volumes
    if not frame.IsTransformToWorldLinear():
        raise ValueError(
            f"'{node.GetName()}' lies under a transform that is not linear; harden it before it is compared."
        )
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(frame, None, matrix)
    toWorld = np.asarray(toArray(matrix))
    return [dataclasses.replace(volume, ijk_to_ras=toWorld @ volume.ijk_to_ras) for volume in volumes]
