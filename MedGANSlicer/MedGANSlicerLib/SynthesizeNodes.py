"""The nodes of synthetic volumes: what they are made from out of the scene; volumes, labels and pictures into it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgan.labels import segmentation_of
from medgan.tasks import Outputs
from medgan.volume import Label, LabelMap, Volume
from MedGANSlicerLib import Places
from MedGANSlicerLib.LabelInputs import labelMapOf
from MedGANSlicerLib.ResultNodes import MAPS, RESULT_ROLE, SYNTHETIC, TRANSLATED_BACK, ResultNodes, provenance
from MedGANSlicerLib.SceneBridge import (
    SOURCE_ROLE,
    labelMapFromNode,
    movementOf,
    publishMade,
    publishMap,
    volumeFromNode,
)
from MedGANSlicerLib.SceneEdits import removeOnFailure, uniqueName
from MedGANSlicerLib.SegmentationBridge import labelsOfSegments, publishSegmentation
from MedGANSlicerLib.TableNodes import folderItem, putInFolder
from MedGANSlicerLib.Thumbnails import thumbnail

BACKGROUND = "Background"

SAMPLE = "MedGAN.Sample"
"""Attribute of a synthetic volume: what the report says of it, as JSON."""


@dataclass(frozen=True)
class Sample:
    """One synthetic volume. ``segmentation`` holds its labels, None if it has none; ``picture`` is a PNG.

    ``maps``: the volume with what guards it, for one that was translated from another; else None.
    """

    volume: Any
    segmentation: Any
    picture: bytes
    seed: int
    maps: ResultNodes | None = None

    def present(self) -> list:
        """The nodes that there are, the volume first."""
        guards = self.maps.present()[1:] if self.maps is not None else []
        return [node for node in (self.volume, self.segmentation, *guards) if node is not None]


@dataclass(frozen=True)
class Intensity:
    """What a person typed for the voxels of a label; empty text where they typed nothing."""

    value: int
    name: str
    mean: str = ""
    sd: str = ""


def labelInputs(labelsNode, referenceNode=None, messages: list[str] | None = None) -> dict[str, Volume | LabelMap]:
    """What a model from labels reads. Segments are read on the grid of the reference if there is one.

    A sentence about segments that overlap is added to ``messages``. Raises ``ValueError`` with one sentence.
    """
    labels = labelMapOf(labelsNode, referenceNode, messages)
    return (
        {"labels": labels} if referenceNode is None else {"labels": labels, "reference": volumeFromNode(referenceNode)}
    )


def volumeInputs(volumeNode, labelsNode=None, messages: list[str] | None = None) -> dict[str, Volume | LabelMap]:
    """What variations and translations of a volume read, with its labels on its grid if there are any.

    A sentence about segments that overlap is added to ``messages``.
    """
    inputs: dict[str, Volume | LabelMap] = {"volume": volumeFromNode(volumeNode)}
    if labelsNode is not None:
        inputs["labels"] = labelMapOf(labelsNode, volumeNode, messages)
    return inputs


def labelsIn(labelsNode) -> dict[int, str]:
    """Names of the labels of a segmentation or label map node by their value, with the background."""
    if labelsNode.IsA("vtkMRMLSegmentationNode"):
        held: Mapping[int, Label] = labelsOfSegments(labelsNode)
    else:
        held = labelMapFromNode(labelsNode).labels
    return {0: BACKGROUND, **{value: label.name for value, label in sorted(held.items())}}


def intensitiesOf(text: str, names: Mapping[int, str]) -> list[Intensity]:
    """The setting "2=0.7/0.03 3=0.5" as one line for each label; what it says of other labels is left out."""
    held = {}
    for part in text.split():
        value, _, numbers = part.partition("=")
        mean, _, sd = numbers.partition("/")
        held[value] = (mean, sd)
    return [Intensity(value, name, *held.get(str(value), ("", ""))) for value, name in names.items()]


def intensityText(rows: Sequence[Intensity]) -> str:
    """The setting that these lines make. Raises ``ValueError`` for what is no number."""
    parts = []
    for row in rows:
        if row.mean or row.sd:
            mean = _number(row.mean, row.name)
            parts.append(f"{row.value}={mean}/{_number(row.sd, row.name)}" if row.sd else f"{row.value}={mean}")
    return " ".join(parts)


def publishSamples(scene, outputs: Outputs, sourceNode, name: str, ijkToRas: np.ndarray | None = None) -> list[Sample]:
    """The volumes and their labels as nodes in a folder of their own. After a failure the scene is as it was.

    They lie in the frame of ``sourceNode``, which is None for volumes from noise; ``ijkToRas`` is the matrix that it
    had when it was read, if it is a volume. ``name`` begins the names of all nodes.
    """
    report = outputs.report
    moved = movementOf(sourceNode, ijkToRas) if ijkToRas is not None else np.eye(4)
    samples = []
    with removeOnFailure(scene):
        folder = folderItem(scene, f"{name} synthetic", sourceNode)
        for told in report["samples"]:
            told = dict(told)
            made, seed = outputs.volumes[told["volume"]], int(told["seed"])
            labels = outputs.volumes[told["labels"]] if told.get("labels") else None
            attributes = {**provenance({**report, "seed": seed}, sourceNode), SAMPLE: _compact(told)}
            title = uniqueName(scene, f"{name} synthetic, seed {seed}")
            volume = Volume(made.array, moved @ made.ijk_to_ras)
            node = publishMade(scene, volume, sourceNode, title, attributes)
            segments = None
            if labels is not None:
                held = LabelMap(labels.array, moved @ labels.ijk_to_ras, labels.labels)
                segments = _segments(scene, held, node, sourceNode, f"{title} labels", attributes)
            maps = _guards(scene, outputs, told, node, sourceNode, moved, attributes) if "difference" in told else None
            samples.append(Sample(node, segments, thumbnail(volume), seed, maps))
            putInFolder(scene, folder, *samples[-1].present())
    return samples


def showLabels(sample: Sample, shown: bool) -> None:
    """Show the labels of a sample in the views, or hide them."""
    if sample.segmentation is not None:
        display = sample.segmentation.GetDisplayNode()
        if display is not None:
            display.SetVisibility(shown)


def _segments(scene, labels: LabelMap, volumeNode, sourceNode, name: str, attributes: Mapping[str, str]):
    segments = segmentation_of([labels])[0]
    frame = sourceNode.GetParentTransformNode() if sourceNode is not None else None
    node = publishSegmentation(scene, segments, name, frame, volumeNode)
    for key, value in {**attributes, "MedGAN.Synthetic": SYNTHETIC}.items():
        node.SetAttribute(key, value)
    node.SetNodeReferenceID(SOURCE_ROLE, volumeNode.GetID())
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), volumeNode.GetID())
    node.GetDisplayNode().SetVisibility(False)
    return node


def _guards(scene, outputs: Outputs, told, node, sourceNode, moved: np.ndarray, attributes) -> ResultNodes:
    """The maps that say how far a translated volume may be trusted, and the places to check."""
    parts = {}
    for key, field, content in (
        ("difference", "residual", TRANSLATED_BACK),
        ("uncertainty", "uncertainty", MAPS["uncertainty"].content),
    ):
        if told.get(key):
            held = outputs.volumes[told[key]]
            name = uniqueName(scene, f"{node.GetName()} {field}")
            volume, said = Volume(held.array, moved @ held.ijk_to_ras), {**attributes, "MedGAN.Content": content}
            parts[field] = publishMap(scene, volume, sourceNode, name, said, MAPS[field].show)
    places = Places.moved(told.get("suspicions") or (), moved)
    parts["places"] = Places.publishPlaces(
        scene, places, sourceNode, uniqueName(scene, f"{node.GetName()} to check"), attributes
    )
    for part in filter(None, parts.values()):
        part.SetNodeReferenceID(RESULT_ROLE, node.GetID())
    return ResultNodes(node, **parts)


def _number(text: str, name: str) -> str:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"'{text}' is no intensity for {name}; type a number.") from None
    if not np.isfinite(value):
        raise ValueError(f"'{text}' is no intensity for {name}; type a finite number.")
    return f"{value:.6g}"


def _compact(told: Mapping[str, Any]) -> str:
    return json.dumps(told, separators=(",", ":"), sort_keys=True)
