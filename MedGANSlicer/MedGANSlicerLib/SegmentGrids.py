"""The voxel grid that segments are converted on: their own, that of a volume, or one of a chosen spacing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from medgan.resampling import extended, grid_of_spacing, whole_shift
from medgan.segments import check_room
from medgan.volume import VolumeError, checked_matrix

REFERENCE = "Reference image geometry"
"""Name of the conversion parameter in which a segmentation keeps its grid."""

BINARY, SURFACE, CONTOURS = "Binary labelmap", "Closed surface", "Planar contour"

_OF_ONE, _OF_ALL = 250**3, 512**3
"""Voxels of a surface without a grid, as Slicer makes them, and at most those of all surfaces together."""


@dataclass(frozen=True, eq=False)
class Grid:
    """``shape`` (k, j, i), placed by ``ijkToRas`` in the frame of ``transformNode`` (None is the world)."""

    shape: tuple[int, int, int]
    ijkToRas: np.ndarray
    transformNode: object = None

    def withSpacing(self, spacing_mm: tuple[float, float, float]) -> Grid:
        """The same axes and extent with voxels of another size (i, j, k). Raises ``VolumeError``."""
        shape, matrix = grid_of_spacing(self.shape, self.ijkToRas, spacing_mm)
        return Grid(shape, matrix, self.transformNode)


def layersOf(held) -> list:
    """The images that hold the voxels of all segments of a ``vtkSegmentation``, each once; those without have none."""
    images = [held.GetSegment(each).GetRepresentation(BINARY) for each in held.GetSegmentIDs()]
    return [image for image in dict.fromkeys(images) if image is not None]


def volumeGrid(node) -> Grid:
    """The grid of a volume node. Raises ``VolumeError`` when it has no voxels."""
    if not node.IsA("vtkMRMLVolumeNode"):
        raise VolumeError(f"'{node.GetName()}' ({node.GetNodeTagName()}) was chosen; choose a volume or label map.")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise VolumeError(f"'{node.GetName()}' is empty; choose a volume that holds voxels.")
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return Grid(image.GetDimensions()[::-1], checked_matrix(toArray(matrix)), node.GetParentTransformNode())


def ownGrid(node, held) -> Grid:
    """The grid of a segmentation node: its reference geometry and all that its segments have beyond it.

    ``held`` is its ``vtkSegmentation``, or a copy of that with voxels. Raises ``VolumeError`` for a segmentation
    without a segment and without a geometry.
    """
    reference = _reference(held)
    filled = [image for image in layersOf(held) if arrayOfImage(image).size]
    if not filled and reference is None:
        raise VolumeError(f"'{node.GetName()}' has no voxels and no geometry; choose a volume for the grid.")
    matrix = imageMatrix(filled[0]) if filled else imageMatrix(reference)
    if any(_extentOn(matrix, image) is None for image in filled):
        matrix = _commonMatrix(node, held)
    boxes = [_extentOn(matrix, image) for image in [*filled, *([reference] if reference is not None else [])]]
    boxes = [box for box in boxes if box is not None]
    low = np.min([box[0] for box in boxes], axis=0)
    high = np.max([box[1] for box in boxes], axis=0)
    shifted = matrix.copy()
    shifted[:3, 3] = (matrix @ [*low[::-1], 1.0])[:3]
    k, j, i = (int(n) for n in high - low + 1)
    return Grid((k, j, i), shifted, node.GetParentTransformNode())


def gridOfSurfaces(held, grid: Grid | None = None) -> Grid | None:
    """One grid for the closed surfaces of a ``vtkSegmentation``: the voxels are those of ``grid``, of its reference
    geometry, or as fine as Slicer makes them for the smallest surface, while all have no more than ``_OF_ALL``.

    Slicer alone gives every surface a grid of its own. None for surfaces without points. Raises ``VolumeError`` when
    the voxels do not fit into memory.
    """
    surfaces = [held.GetSegment(each).GetRepresentation(SURFACE) for each in held.GetSegmentIDs()]
    boxes = [np.array(each.GetBounds()).reshape(3, 2) for each in surfaces if each and each.GetNumberOfPoints()]
    if not boxes:
        return None
    reference = _reference(held)
    if grid is None and reference is not None:
        k, j, i = imageStart(reference)
        matrix = imageMatrix(reference)
        matrix[:3, 3] = (matrix @ [i, j, k, 1.0])[:3]
        grid = Grid(reference.GetDimensions()[::-1], matrix)
    elif grid is None:
        low, high = np.min(boxes, axis=0)[:, 0], np.max(boxes, axis=0)[:, 1]
        sizes_mm3 = [np.prod(box[:, 1] - box[:, 0]) for box in boxes]
        smallest_mm3 = min((size for size in sizes_mm3 if size > 0), default=0.0)  # flat ones hold nothing
        spacing_mm = max(np.cbrt(smallest_mm3 / _OF_ONE), np.cbrt(np.prod(high - low) / _OF_ALL), 1e-3)
        matrix = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
        matrix[:3, 3] = low + spacing_mm / 2
        grid = Grid((1, 1, 1), matrix)
    places = np.array([place for box in boxes for place in itertools.product(*box)])
    covering = Grid(*extended(grid.shape, grid.ijkToRas, places))
    check_room(covering.shape, 1)
    return covering


def between(grid: Grid, transformNode) -> tuple[np.ndarray | None, Callable[[np.ndarray], np.ndarray] | None]:
    """How points of a grid's frame lie in that of a transform node: as a matrix, or as a function if it is not linear.

    The function takes and returns points in RAS mm, shape (n, 3).
    """
    general = vtk.vtkGeneralTransform()
    matrix = vtk.vtkMatrix4x4()
    nodes = slicer.vtkMRMLTransformNode
    if _linear(grid.transformNode, transformNode):
        nodes.GetMatrixTransformBetweenNodes(grid.transformNode, transformNode, matrix)
        return toArray(matrix), None
    nodes.GetTransformBetweenNodes(grid.transformNode, transformNode, general)

    def moved(points: np.ndarray) -> np.ndarray:
        source, target = vtk.vtkPoints(), vtk.vtkPoints()
        source.SetDataTypeToDouble()
        target.SetDataTypeToDouble()
        source.SetNumberOfPoints(len(points))
        vtk_to_numpy(source.GetData())[...] = points
        general.TransformPoints(source, target)
        return vtk_to_numpy(target.GetData())

    return None, moved


def imageMatrix(image) -> np.ndarray:
    """Where index (0, 0, 0) and its neighbours of an oriented image lie, 4 x 4; its extent may start elsewhere."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return toArray(matrix)


def imageStart(image) -> tuple[int, int, int]:
    """Index (k, j, i) of the first voxel."""
    extent = image.GetExtent()
    return extent[4], extent[2], extent[0]


def arrayOfImage(image) -> np.ndarray:
    """View of the voxels [k, j, i] of an oriented image; of size 0 when it has none."""
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or image.GetNumberOfPoints() == 0 or scalars.GetNumberOfTuples() == 0:
        return np.zeros((0, 0, 0), np.uint8)
    array = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    return array if array.dtype.kind in "iu" else np.rint(array).astype(np.int32)


def geometryText(shape: tuple[int, int, int], ijkToRas: np.ndarray) -> str:
    """A grid as a segmentation keeps it among its conversion parameters."""
    k, j, i = (n - 1 for n in shape)
    return "".join(f"{part:.17g};" for part in np.asarray(ijkToRas).ravel()) + f"0;{i};0;{j};0;{k};"


def toArray(matrix) -> np.ndarray:
    """4 x 4, of a matrix of VTK."""
    return np.array(matrix.GetData(), float).reshape(4, 4)


def toMatrix(array: np.ndarray):
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=float).ravel().tolist())
    return matrix


def _linear(first, second) -> bool:
    """Whether a matrix takes the frame of one transform node (None is the world) to that of another."""
    if first is second:
        return True
    one, other = (first, second) if first is not None else (second, None)
    return bool(one.IsTransformToNodeLinear(other))


def _reference(held):
    """The grid among the conversion parameters as an image without voxels, or None."""
    text = held.GetConversionParameter(REFERENCE)
    return _imageFromText(text) if text else None


def _imageFromText(text: str):
    image = slicer.vtkOrientedImageData()
    if not slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image, False):
        return None
    extent = image.GetExtent()
    return image if extent[0] <= extent[1] and extent[2] <= extent[3] and extent[4] <= extent[5] else None


def _commonMatrix(node, held) -> np.ndarray:
    """The lattice that Slicer itself chooses when segments lie on several."""
    mode = slicer.vtkSegmentation.EXTENT_UNION_OF_EFFECTIVE_SEGMENTS
    image = _imageFromText(held.DetermineCommonLabelmapGeometry(mode, None))
    if image is None:
        raise VolumeError(f"The segments of '{node.GetName()}' have no common grid; choose a volume for the grid.")
    return imageMatrix(image)


def _extentOn(matrix: np.ndarray, image) -> tuple[np.ndarray, np.ndarray] | None:
    """First and last index (k, j, i) of an image on a lattice, or None when its voxels do not lie on it."""
    extent = image.GetExtent()
    last = np.array([extent[5], extent[3], extent[1]])
    own = imageMatrix(image)
    shift = whole_shift(own, matrix, (int(last[0]) + 1, int(last[1]) + 1, int(last[2]) + 1))
    if shift is None:
        return None
    return np.array([extent[4], extent[2], extent[0]]) + shift, last + shift
