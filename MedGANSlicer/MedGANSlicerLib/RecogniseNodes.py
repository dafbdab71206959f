"""The nodes of recognition and of a map of anomalies: reasons, heat map, regions as a table and as boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
import vtk

from medgan.tasks import Outputs
from medgan.volume import Volume
from MedGANSlicerLib.Recommend import KIND
from MedGANSlicerLib.ResultDisplay import showAsShare, showAsUncertainty, showFrom
from MedGANSlicerLib.ResultNodes import ofMeasured, provenance
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, matrixOf, movementOf, publishMap, publishVolume, volumeFromNode
from MedGANSlicerLib.SceneEdits import oneModification, removeNode, removeOnFailure, uniqueName
from MedGANSlicerLib.TableNodes import Column, addTable, folderItem, putInFolder

ROI_CLASS = "vtkMRMLMarkupsROINode"

MOST_BOXES = 40
"""Regions that get a box in the scene, the most unusual first; more would hide the anatomy."""

REGIONS = {
    "number": Column("Region", "", "Number of the region, the most unusual first."),
    "score": Column("Score", "", "How unlike the healthy anatomy that the model knows."),
    "volume_ml": Column("Volume", "ml", "Size of the region."),
    "right_mm": Column("R", "mm", "Centre, towards the right of the patient, through the transform of the map."),
    "anterior_mm": Column("A", "mm", "Centre, towards the front."),
    "superior_mm": Column("S", "mm", "Centre, towards the head."),
    "sentence": Column("What", "", "For research only; not a diagnosis."),
}
"""What the table says of every region."""

ANSWERS = {
    "question": Column("What", "", "What was asked."),
    "answer": Column("Answer", "", "A possible answer."),
    "share": Column("Confidence", "%", "How sure the model is of it."),
    "chosen": Column("Said", "", "Whether this is what the model says."),
}

QUALITY = {
    "title": Column("What", "", "What was measured."),
    "value": Column("Value", "", "In the unit beside it."),
    "unit": Column("Unit", "", ""),
    "sentence": Column("Finding", "", "For research only; not a diagnosis."),
}


@dataclass(frozen=True)
class Recognised:
    """``why`` is the volume that shows what an answer rests on, or None."""

    volume: Any
    report: Mapping[str, Any]
    why: Any = None


@dataclass
class Anomaly:
    """``volume`` is what was looked at. ``boxes`` are those of the first of ``regions``, by the region's number.
    ``caution`` is the first sentence of the run about its result, or empty.

    Places in ``regions`` are RAS mm of the map before its transform, as ``ijkToRas`` of the map had them.
    """

    volume: Any
    map: Any
    reconstruction: Any
    table: Any
    folder: int
    smallest_ml: float
    caution: str = ""
    threshold: float = 0.0
    regions: list[dict[str, Any]] = field(default_factory=list)
    ijkToRas: Any = None
    boxes: dict[int, Any] = field(default_factory=dict)

    def present(self) -> list:
        """The nodes that were made."""
        return [node for node in (self.map, self.reconstruction, self.table, *self.boxes.values()) if node is not None]


def publishRecognised(outputs: Outputs, volumeNode, ijkToRas: np.ndarray) -> Recognised:
    """What was recognised, with the map of its reasons in the scene if there is one.

    The volume keeps the kind of scan, which the recommendation of other tasks reads.
    """
    kind = outputs.report.get("what", {}).get("kind")  # a classifier of one's own may be asked something else
    if kind and kind["unknown"]:
        volumeNode.RemoveAttribute(KIND)
    elif kind:
        volumeNode.SetAttribute(KIND, kind["label"])
    why = None
    if "why" in outputs.volumes:
        scene = volumeNode.GetScene()
        told = {**ofMeasured(outputs.report, volumeNode), "MedGAN.Content": "what the answer rests on, from 0 to 1"}
        name = uniqueName(scene, f"{volumeNode.GetName()} why")
        why = publishMap(scene, _following(outputs.volumes["why"], volumeNode, ijkToRas), volumeNode, name, told,
                         showAsShare)  # fmt: skip
    return Recognised(volumeNode, outputs.report, why)


def answersOf(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line for every answer to every question, the likeliest first."""
    rows = []
    for question, found in report.get("what", {}).items():
        title = found.get("title") or question
        for answer, share in sorted(found.get("scores", {}).items(), key=lambda pair: -pair[1]):
            chosen = "yes" if answer == found.get("label") and not found.get("unknown") else ""
            rows.append({"question": title, "answer": answer, "share": 100 * share, "chosen": chosen})
    return rows


def keepTables(result: Recognised) -> list:
    """The answers and the quality of a volume as tables of the scene, in a folder beside it. Returns the nodes."""
    scene, name = result.volume.GetScene(), result.volume.GetName()
    told = ofMeasured(result.report, result.volume)
    with removeOnFailure(scene):
        nodes = []
        for title, rows, columns in (
            ("recognised", answersOf(result.report), ANSWERS),
            ("quality", result.report.get("quality") or (), QUALITY),
        ):
            if rows:
                nodes.append(addTable(scene, f"{name} {title}", rows, columns, told))
        putInFolder(scene, folderItem(scene, f"{name} recognised", result.volume), *nodes)
    return nodes


def publishAnomaly(outputs: Outputs, volumeNode, ijkToRas: np.ndarray, smallest_ml: float) -> Anomaly:
    """Heat map, reconstruction, table and boxes of the regions, in a folder. After a failure the scene is as it was."""
    scene, report = volumeNode.GetScene(), outputs.report
    told = ofMeasured(outputs.report, volumeNode)
    unit = str(report.get("unit", ""))
    with removeOnFailure(scene):
        name = f"{volumeNode.GetName()} anomaly"
        map_ = publishMap(
            scene,
            _following(outputs.volumes["anomaly"], volumeNode, ijkToRas),
            volumeNode,
            uniqueName(scene, f"{name} map"),
            {**told, "MedGAN.Content": f"how unlike healthy anatomy{f', in {unit}' if unit else ''}"},
            showAsUncertainty,
        )
        highest = max(float(report.get("largest") or 0.0), float(report["threshold"]))
        map_.GetDisplayNode().SetWindowLevelMinMax(0.0, highest)
        reconstruction = None
        if "reconstruction" in outputs.volumes:
            title = uniqueName(scene, f"{volumeNode.GetName()} reconstruction")
            synthetic = provenance(report, volumeNode)
            again = _following(outputs.volumes["reconstruction"], volumeNode, ijkToRas)
            reconstruction = publishVolume(scene, again, volumeNode, title, synthetic)
        table = addTable(scene, f"{name} regions", [], REGIONS, told)
        folder = folderItem(scene, name, volumeNode)
        caution = next(iter(report.get("messages") or ()), "")
        result = Anomaly(volumeNode, map_, reconstruction, table, folder, smallest_ml, caution)
        showRegions(result, _moved(report.get("regions") or (), movementOf(volumeNode, ijkToRas)), report["threshold"])
        putInFolder(scene, folder, *(node for node in (map_, reconstruction, table) if node is not None))
    return result


def regionsAt(result: Anomaly, threshold: float) -> list[dict[str, Any]]:
    """The regions of the map at another threshold."""
    from medgan.anomaly_regions import regions  # needs SciPy, which Slicer may not have when it starts

    return regions(volumeFromNode(result.map), threshold, result.smallest_ml)


def showRegions(result: Anomaly, found: Sequence[Mapping[str, Any]], threshold: float) -> None:
    """Make table, boxes and the visible part of the heat map show these regions, measured in the map as it lies now.

    The table and the sentences say where they are in the world.
    """
    from medgan.anomaly_regions import sentence  # needs SciPy, which Slicer may not have when it starts

    result.threshold, result.regions = float(threshold), [dict(region) for region in found]
    result.ijkToRas = matrixOf(result.map)
    places = [placeOf(result, number) for number in range(len(result.regions))]
    for region, place in zip(result.regions, places, strict=True):
        region["sentence"] = sentence(region, place)
    scene = result.volume.GetScene()
    if result.table is not None:
        rows = [_row(region, place) for region, place in zip(result.regions, places, strict=True)]
        addTable(scene, "", rows, REGIONS, tableNode=result.table)
    showFrom(result.map.GetDisplayNode(), result.threshold)
    wanted = {region["number"]: region for region in result.regions[:MOST_BOXES]}
    for number in result.boxes.keys() - wanted.keys():
        removeNode(scene, result.boxes.pop(number))
    for number, region in wanted.items():
        if number not in result.boxes:
            box = _newBox(result, number)
            if box is None:  # a scene without markups
                return
            result.boxes[number] = box
        _place(result.boxes[number], region, result)


def showBoxes(result: Anomaly, shown: bool) -> None:
    """Show the boxes in the views, or hide them."""
    for box in result.boxes.values():
        if box.GetDisplayNode() is not None:  # it goes first where a scene is closed
            box.GetDisplayNode().SetVisibility(shown)


def placeOf(result: Anomaly, number: int) -> tuple[float, float, float]:
    """Where the centre of a region lies in RAS mm of the world, through the transforms of its map."""
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(result.map.GetParentTransformNode(), None, toWorld)
    place = _at(movementOf(result.map, result.ijkToRas), result.regions[number]["centre_ras"])
    return tuple(toWorld.TransformPoint(place))


def _row(region: Mapping[str, Any], place: Sequence[float]) -> dict[str, Any]:
    right, anterior, superior = place
    return {**region, "right_mm": right, "anterior_mm": anterior, "superior_mm": superior}


def _newBox(result: Anomaly, number: int):
    scene = result.volume.GetScene()
    name = uniqueName(scene, f"{result.volume.GetName()} region {number}")
    box = scene.AddNewNodeByClass(ROI_CLASS, name)
    if box is None:
        return None
    box.CreateDefaultDisplayNodes()
    display = box.GetDisplayNode()
    with oneModification(display):
        display.SetHandlesInteractive(False)
        display.SetFillVisibility(False)
        display.SetPropertiesLabelVisibility(False)
    putInFolder(scene, result.folder, box)
    return box


def _place(box, region: Mapping[str, Any], result: Anomaly) -> None:
    held = region["box_ras"]
    axes = np.array(held["axes"], dtype=float)  # one direction a column
    if np.linalg.det(axes) < 0:  # the same box, with axes as a region of interest has them
        axes[:, 2] = -axes[:, 2]
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        for column, value in enumerate((*axes[row], held["centre"][row])):
            matrix.SetElement(row, column, float(value))
    with oneModification(box):
        box.SetAndObserveObjectToNodeMatrix(matrix)
        box.SetSize(*(float(side) for side in held["size"]))
        box.SetLocked(True)
        box.SetAndObserveTransformNodeID(result.map.GetTransformNodeID())
        box.SetNodeReferenceID(SOURCE_ROLE, result.volume.GetID())
    box.SetDescription(region["sentence"])  # a change of the box writes its measurements over it


def _following(volume: Volume, volumeNode, ijkToRas: np.ndarray) -> Volume:
    return Volume(volume.array, movementOf(volumeNode, ijkToRas) @ volume.ijk_to_ras, {}, volume.voxel_type)


def _moved(found: Sequence[Mapping[str, Any]], matrix: np.ndarray) -> list[dict[str, Any]]:
    """The regions of a volume after it was moved."""
    if np.allclose(matrix, np.eye(4), atol=1e-9):
        return [dict(region) for region in found]
    result = []
    for region in found:
        box = region["box_ras"]
        sides = matrix[:3, :3] @ (np.array(box["axes"]) * box["size"])  # one side a column
        lengths = np.linalg.norm(sides, axis=0)
        moved = {"centre": _at(matrix, box["centre"]), "size": lengths.tolist(), "axes": (sides / lengths).tolist()}
        result.append({**region, "centre_ras": _at(matrix, region["centre_ras"]), "box_ras": moved})
    return result


def _at(matrix: np.ndarray, place: Sequence[float]) -> list[float]:
    return (matrix @ [*place, 1.0])[:3].tolist()
