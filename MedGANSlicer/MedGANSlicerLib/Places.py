"""The places of a result that a person should check, as one list of points in the scene."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import slicer
import vtk

from medgan.places import place_text
from MedGANSlicerLib.ResultNodes import PLACES_CONTENT
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, setOrigin
from MedGANSlicerLib.SceneEdits import oneModification, placeBeside, removeOnFailure

CLASS = "vtkMRMLMarkupsFiducialNode"

HERE = "Here "
"""How the "finding" of a suspicion begins, and the description of its point: the sentence of a place that may move."""


def publishPlaces(
    scene,
    suspicions: Sequence[MutableMapping[str, Any]],
    sourceNode,
    name: str,
    attributes: Mapping[str, str],
    outputNode=None,
):
    """A point list node with one point for each suspicion, locked, under the parent transform of its source.

    The node is new and called ``name``, or it is ``outputNode``, which keeps its name and loses its points.
    The places of the report are RAS mm before that transform; its sentences, which a person reads, are changed to
    those of the world. None if there is nothing to check, or if the scene knows no markups; the report still has the
    sentences.
    """
    for suspicion, sentence in zip(suspicions, worldSentences(suspicions, sourceNode), strict=True):
        suspicion["sentence"] = sentence
    if not suspicions or not knowsPlaces(scene):
        return None
    with removeOnFailure(scene, outputNode):
        node = scene.AddNewNodeByClass(CLASS, name) if outputNode is None else outputNode
        node.CreateDefaultDisplayNodes()
        fillPlaces(node, suspicions, attributes)
        node.SetAndObserveTransformNodeID(sourceNode.GetTransformNodeID())
        node.SetNodeReferenceID(SOURCE_ROLE, sourceNode.GetID())
        if outputNode is None:
            placeBeside(scene, node, sourceNode)
    return node


def knowsPlaces(scene) -> bool:
    """Whether the scene can hold point lists: they come with Slicer's Markups module."""
    node = scene.CreateNodeByClass(CLASS)
    if node is None:
        return False
    node.UnRegister(None)
    return True


def fillPlaces(node, suspicions: Sequence[Mapping[str, Any]], attributes: Mapping[str, str]) -> None:
    """Only points with a short label and what was found there as their description, at the places of the report."""
    with oneModification(node):
        node.RemoveAllControlPoints()
        for number, suspicion in enumerate(suspicions, 1):
            place = vtk.vtkVector3d(*(float(value) for value in suspicion["ras_mm"]))
            index = node.AddControlPoint(place, f"{number} {suspicion['kind']}")
            node.SetNthControlPointDescription(index, suspicion.get("finding") or suspicion["sentence"])
        node.SetLocked(True)  # a place that was dragged away by accident would say something wrong
        setOrigin(node, {**attributes, "MedGAN.Content": PLACES_CONTENT})


def sentencesOf(node) -> list[str]:
    """What is to be checked at each point of the list, with its place in the world as it is now."""
    return [
        sentenceAt(node.GetNthControlPointDescription(index), worldPlace(node, index))
        for index in range(node.GetNumberOfControlPoints())
    ]


def worldSentences(suspicions: Sequence[Mapping[str, Any]], sourceNode) -> list[str]:
    """What is to be checked at each place of a report, with its place in the world, where the source lies now."""
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(sourceNode.GetParentTransformNode(), None, toWorld)
    return [
        sentenceAt(each["finding"], toWorld.TransformPoint(each["ras_mm"])) if "finding" in each else each["sentence"]
        for each in suspicions
    ]


def sentenceAt(finding: str, place: Sequence[float]) -> str:
    """A finding with its place in RAS mm; a sentence that names its place already stays as it is."""
    if not finding.startswith(HERE):
        return finding
    return f"At {place_text(place)} {finding.removeprefix(HERE)}"


def worldPlace(node, index: int) -> tuple[float, float, float]:
    """Where a point lies in RAS mm of the world, through its parent transform."""
    return tuple(node.GetNthControlPointPositionWorld(index))


def moved(suspicions: Sequence[Mapping[str, Any]], matrix: np.ndarray) -> list[dict[str, Any]]:
    """The suspicions after their volume was moved by a 4 x 4 ``matrix``."""
    found = []
    for each in suspicions:
        place = (matrix @ [*each["ras_mm"], 1.0])[:3].tolist()
        found.append({**each, "ras_mm": place, "sentence": sentenceAt(each.get("finding") or each["sentence"], place)})
    return found
