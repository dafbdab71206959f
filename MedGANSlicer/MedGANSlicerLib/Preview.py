"""Which part of a volume a preview is made of: around the slice that is looked at, or a region of interest."""

from __future__ import annotations

import itertools

import numpy as np
import slicer
import vtk

from MedGANSlicerLib.SceneBridge import Region, arrayOf, matrixOf
from MedGANSlicerLib.SceneEdits import removeNode
from MedGANSlicerLib.TaskLogic import PREVIEW

THICKNESS = 24
"""Slices of the slab around the current one: the network sees what it needs on both sides."""

MOST_VOXELS = 1_200_000
"""Size of a preview's result: seconds on a processor."""


def regionAroundSlice(node, sliceToRas: np.ndarray, most: int = MOST_VOXELS) -> Region:
    """The slab of a volume around a slice view's plane, cut in the plane to at most ``most`` voxels.

    ``sliceToRas``: 4 x 4, the view's centre in the last column and its normal in the third. The slab lies across
    the axis of the volume that is nearest to the normal, so that an oblique view has a straight slab as well.
    """
    toVoxels = _rasToVoxels(node, sliceToRas[:3, 3])
    normal = np.abs(toVoxels[:3, :3] @ sliceToRas[:3, 2])
    # Steps in voxels favour axes with thin slices: compare directions in mm.
    across = int(np.argmax(normal * np.linalg.norm(np.linalg.inv(toVoxels[:3, :3]), axis=0)))
    sides = np.array(_sides(node))
    wanted = sides.copy()
    wanted[across] = min(sides[across], THICKNESS)
    inPlane = [axis for axis in range(3) if axis != across]
    while np.prod(wanted) > most:
        longest = max(inPlane, key=lambda axis: wanted[axis])
        wanted[longest] = max(1, wanted[longest] - max(1, wanted[longest] // 16))
    centre = np.rint((toVoxels @ [*sliceToRas[:3, 3], 1.0])[:3]).astype(int)
    starts = np.clip(centre - wanted // 2, 0, sides - wanted)
    return _region(starts, starts + wanted)


def middleOf(node) -> np.ndarray:
    """4 x 4 of an imagined slice view through the middle of a volume, across its k axis; for want of a real one."""
    i, j, k = _sides(node)
    toVoxels = _rasToVoxels(node, np.zeros(3))
    matrix = np.eye(4)
    matrix[:, 3] = np.linalg.inv(toVoxels) @ [i / 2, j / 2, k / 2, 1.0]
    matrix[:3, 2] = toVoxels[2, :3] / np.linalg.norm(toVoxels[2, :3])
    return matrix


def regionOfRoi(node, roiNode) -> Region:
    """The voxels of a volume that a region of interest touches. Raises ``ValueError`` if there are none."""
    bounds = [0.0] * 6
    roiNode.GetRASBounds(bounds)
    centre = np.array([(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)])
    toVoxels = _rasToVoxels(node, centre)
    corners = np.array([toVoxels @ [x, y, z, 1] for x, y, z in itertools.product(bounds[:2], bounds[2:4], bounds[4:])])
    sides = np.array(_sides(node))
    starts = np.clip(np.floor(corners[:, :3].min(axis=0) + 0.5).astype(int), 0, sides)
    stops = np.clip(np.ceil(corners[:, :3].max(axis=0) + 0.5).astype(int), 0, sides)
    if (stops <= starts).any():
        raise ValueError(
            f"The region '{roiNode.GetName()}' lies outside '{node.GetName()}'; move it or choose no region."
        )
    return _region(starts, stops)


def removePreviews(scene) -> None:
    """Take all previews out of the scene."""
    for node in [each for each in scene.GetNodes() if each.GetAttribute(PREVIEW)]:
        removeNode(scene, node)


def keepPreviewsOfFiles(scene, own) -> None:
    """Make previews that are not in ``own``, as those of a scene that was saved beside them, volumes like any other."""
    for node in [each for each in scene.GetNodes() if each.GetAttribute(PREVIEW) and each not in own]:
        keepPreview(node)


def keepPreview(node) -> None:
    """Make a preview a volume like any other."""
    node.RemoveAttribute(PREVIEW)


def _rasToVoxels(node, place: np.ndarray) -> np.ndarray:
    """4 x 4 from RAS in mm to voxels (i, j, k), through the parent transform; a warp is taken linear at ``place``."""
    toNode = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, node.GetParentTransformNode(), toNode)
    origin = np.array(toNode.TransformPoint(place))
    linear = np.eye(4)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1.0
        linear[:3, axis] = np.array(toNode.TransformPoint(place + step)) - origin
    linear[:3, 3] = origin - linear[:3, :3] @ place
    return np.linalg.inv(matrixOf(node)) @ linear


def _sides(node) -> tuple[int, int, int]:
    """Voxels along i, j and k."""
    array = arrayOf(node)
    if array is None:
        raise ValueError(f"'{node.GetName()}' holds no voxels with one number each; choose another volume.")
    k, j, i = array.shape
    return i, j, k


def _region(starts, stops) -> Region:
    i, j, k = (slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))
    return k, j, i
