"""Segmentations and label maps of the scene as label maps for the engine."""

from __future__ import annotations

from medgan.labels import Converted, Overlap, label_maps, said_of_overlap
from medgan.volume import LabelMap
from MedGANSlicerLib.SceneBridge import inFrameOf, labelMapFromNode
from MedGANSlicerLib.SegmentationBridge import readSegmentation
from MedGANSlicerLib.SegmentGrids import volumeGrid


def labelMapOf(node, volumeNode=None, messages: list[str] | None = None) -> LabelMap:
    """A copy of the labels of a segmentation or label map node. Raises ``ValueError``.

    A segmentation is read on the grid of ``volumeNode`` through all transforms, a label map on its own grid in the
    frame of ``volumeNode``; without one, both as they are. Where segments overlap, the last in the list has the voxel;
    a sentence that says so is added to ``messages``.
    """
    converted = _converted(node, volumeNode, Overlap.LAST)
    if converted.lost and messages is not None:
        messages.append(f"'{node.GetName()}': {said_of_overlap(converted.lost, Overlap.LAST)}")
    return converted.label_maps[0]


def labelMapsOf(node, volumeNode=None) -> list[LabelMap]:
    """The same with every segment whole: as many label maps as it takes where segments overlap."""
    return _converted(node, volumeNode, Overlap.LAYERS).label_maps


def _converted(node, volumeNode, overlap: Overlap) -> Converted:
    if not node.IsA("vtkMRMLSegmentationNode"):
        held = inFrameOf(labelMapFromNode(node), node, volumeNode if volumeNode is not None else node)
        return Converted([held], [], [])
    segmentation, _grid = readSegmentation(node, volumeGrid(volumeNode) if volumeNode is not None else None)
    return label_maps(segmentation, overlap=overlap)
