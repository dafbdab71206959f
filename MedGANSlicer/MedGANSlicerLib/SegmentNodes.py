"""The nodes of a segmentation by a network: inputs out of the scene, segments, measures and uncertainty into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from medgan.labels import segmentation_of
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume
from MedGANSlicerLib.ResultDisplay import showAsUncertainty
from MedGANSlicerLib.ResultNodes import ofMeasured
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, inFrameOf, movementOf, publishMap, volumeFromNode
from MedGANSlicerLib.SceneEdits import removeOnFailure, uniqueName
from MedGANSlicerLib.SegmentationBridge import publishSegmentation
from MedGANSlicerLib.TableNodes import Column, addTable

COLUMNS = {
    "value": Column("Value", "", "Label value."),
    "name": Column("Segment", "", "Name of the segment."),
    "voxels": Column("Voxels", "", "Voxels of the source volume."),
    "volume_ml": Column("Volume", "ml", "Number of voxels times the volume of one."),
    "mean": Column("Mean", "", "Mean intensity of the source volume in the segment."),
    "sd": Column("SD", "", "Standard deviation of the intensity in the segment."),
}
"""What the table says of every segment; those that were not found have 0 voxels."""

UNCERTAINTY = Column("Uncertainty", "", "Mean uncertainty in the segment: 0 is sure, 1 is a guess.")


@dataclass(frozen=True)
class SegmentResult:
    """``volume`` is what was segmented; ``uncertainty`` is None when nobody asked for it."""

    volume: Any
    segmentation: Any
    table: Any
    uncertainty: Any = None

    def present(self) -> list:
        """The nodes that there are, the segmentation first."""
        return [node for node in (self.segmentation, self.table, self.uncertainty) if node is not None]


def segmentInputs(nodes: Sequence) -> dict[str, Volume | LabelMap]:
    """What the task reads: the volumes of the channels in the frame of the first one. Raises ``ValueError``.

    Channels under other parent transforms than the first are brought into its frame; that needs linear ones.
    """
    first = nodes[0]
    inputs: dict[str, Volume | LabelMap] = {"volume": volumeFromNode(first)}
    for number, node in enumerate(nodes[1:], 2):
        inputs[f"volume {number}"] = inFrameOf(volumeFromNode(node), node, first)
    return inputs


def publishSegments(outputs: Outputs, volumeNode, ijkToRas: np.ndarray, segmentationNode=None) -> SegmentResult:
    """The nodes that show the outputs beside their volume. After a failure the scene is as it was.

    ``ijkToRas``: the matrix that the volume had when it was read; the result follows if it was changed meanwhile,
    as hardening a transform does. ``segmentationNode`` is filled anew when it is given and still in the scene.
    """
    scene = volumeNode.GetScene()
    if segmentationNode is not None and not scene.IsNodePresent(segmentationNode):
        segmentationNode = None
    moved = movementOf(volumeNode, ijkToRas)
    held: LabelMap = outputs.volumes["labels"]
    labels = LabelMap(held.array, moved @ held.ijk_to_ras, held.labels)
    report = outputs.report
    attributes = ofMeasured(report, volumeNode)
    columns = {**COLUMNS, "uncertainty": UNCERTAINTY} if "uncertainty" in outputs.volumes else COLUMNS
    uncertainty = None
    with removeOnFailure(scene):
        name = uniqueName(scene, f"{volumeNode.GetName()} segmented")
        called = segmentationNode.GetName() if segmentationNode is not None else name
        table = addTable(scene, f"{called} volumes", report["segments"], columns, attributes, beside=volumeNode)
        if "uncertainty" in outputs.volumes:
            unsure = outputs.volumes["uncertainty"]
            told = {**attributes, "MedGAN.Content": "normalised entropy of the model's answers"}
            map_ = Volume(unsure.array, moved @ unsure.ijk_to_ras)
            title = uniqueName(scene, f"{called} uncertainty")
            uncertainty = publishMap(scene, map_, volumeNode, title, told, showAsUncertainty)
        segments = segmentation_of([labels])[0]
        before = _copyOf(segmentationNode)
        try:
            node = publishSegmentation(
                scene, segments, name, volumeNode.GetParentTransformNode(), volumeNode, segmentationNode
            )
            _tell(node, volumeNode, attributes)
        except BaseException:
            if before is not None:
                segmentationNode.GetSegmentation().DeepCopy(before)
            raise
    return SegmentResult(volumeNode, node, table, uncertainty)


def _tell(node, volumeNode, attributes: dict[str, str]) -> None:
    for key in [key for key in node.GetAttributeNames() or () if key.startswith("MedGAN.")]:
        node.RemoveAttribute(key)
    for key, value in attributes.items():
        node.SetAttribute(key, value)
    node.SetNodeReferenceID(SOURCE_ROLE, volumeNode.GetID())
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), volumeNode.GetID())


def _copyOf(node):
    if node is None:
        return None
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(node.GetSegmentation())
    return copy
