"""Segmentations and label maps of the scene as label maps for the engine."""

from __future__ import annotations

from medgan.labels import label_maps
from medgan.volume import LabelMap
from MedGANSlicerLib.SceneBridge import labelMapFromNode
from MedGANSlicerLib.SegmentationBridge import readSegmentation
from MedGANSlicerLib.SegmentGrids import volumeGrid


def labelMapOf(node, volumeNode=None) -> LabelMap:
    """A copy of the labels of a segmentation or label map node. Raises ``ValueError``.

    A segmentation is read on the grid of ``volumeNode`` through all transforms, or on its own without one. Where
    segments overlap, the last in the list has the voxel.
    """
    if not node.IsA("vtkMRMLSegmentationNode"):
        return labelMapFromNode(node)
    segmentation, _grid = readSegmentation(node, volumeGrid(volumeNode) if volumeNode is not None else None)
    return label_maps(segmentation).label_maps[0]
