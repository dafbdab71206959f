"""Segmentations and label maps of the scene as label maps for the engine."""

from __future__ import annotations

from medgan.labels import label_maps
from medgan.volume import LabelMap
from MedGANSlicerLib.SceneBridge import inFrameOf, labelMapFromNode
from MedGANSlicerLib.SegmentationBridge import readSegmentation
from MedGANSlicerLib.SegmentGrids import volumeGrid


def labelMapOf(node, volumeNode=None) -> LabelMap:
    """A copy of the labels of a segmentation or label map node. Raises ``ValueError``.

    A segmentation is read on the grid of ``volumeNode`` through all transforms, a label map on its own grid in the
    frame of ``volumeNode``; without one, both as they are. Where segments overlap, the last in the list has the voxel.
    """
    if not node.IsA("vtkMRMLSegmentationNode"):
        return inFrameOf(labelMapFromNode(node), node, volumeNode if volumeNode is not None else node)
    segmentation, _grid = readSegmentation(node, volumeGrid(volumeNode) if volumeNode is not None else None)
    return label_maps(segmentation).label_maps[0]
