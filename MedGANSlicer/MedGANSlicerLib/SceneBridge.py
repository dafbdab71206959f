"""Volumes and label maps out of MRML nodes and into them: the only geometry code on the Slicer side.

Arrays are [k, j, i]; a matrix maps the centre of voxel (i, j, k, 1) to RAS millimetres of the node itself,
before its parent transform. A result gets the matrix of its grid and the parent transform of its source, so it
lies on the anatomy under any transform, also a non-linear one, and moves with the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from medgan.labeltable import unnamed, whole_numbers
from medgan.volume import Label, LabelMap, Volume, VolumeError, checked_matrix
from MedGANSlicerLib.ColorTables import labelOf
from MedGANSlicerLib.ResultDisplay import MapDisplay, showAs
from MedGANSlicerLib.SceneEdits import oneModification, placeBeside, removeOnFailure
from MedGANSlicerLib.SegmentGrids import toArray, toMatrix
from MedGANSlicerLib.VoxelTypes import storedLike

SOURCE_ROLE = "MedGAN.Source"
"""Node reference of a result to the node it was made from."""

Held = TypeVar("Held", Volume, LabelMap)

Region = tuple[slice, slice, slice]
"""A box of voxels: slices along k, j and i with explicit starts."""


def volumeFromNode(node, region: Region | None = None) -> Volume:
    """A float32 copy of the voxels of a scalar volume node on the node's own grid, without the parent transform.

    With a ``region`` only these voxels are copied; the matrix then places the first of them.

    ``voxel_type`` tells the type in the node. Raises ``VolumeError`` with one sentence for a node that holds no
    voxels, colours or vectors instead of one number a voxel, or an impossible grid.
    """
    voxels, matrix = _voxelsAndMatrix(node)
    if region is not None:
        voxels = voxels[region]
        matrix = matrix.copy()
        matrix[:, 3] = matrix @ [region[2].start, region[1].start, region[0].start, 1.0]
    return Volume(voxels.astype(np.float32), matrix, {"source": node.GetName()}, voxels.dtype.name)


def labelMapFromNode(node) -> LabelMap:
    """A copy of the label values of a label map node, with name and colour of each value that occurs.

    Raises ``VolumeError`` as :func:`volumeFromNode`, and for voxels that are not whole numbers.
    """
    voxels, matrix = _voxelsAndMatrix(node)
    voxels = whole_numbers(voxels, f"'{node.GetName()}'")
    display = node.GetDisplayNode()
    colors = display.GetColorNode() if display is not None else None
    labels = {int(value): _label(colors, int(value)) for value in np.unique(voxels) if value != 0}
    return LabelMap(voxels.copy(), matrix, labels)


def inFrameOf(held: Held, node, otherNode) -> Held:
    """What was read from a volume node, placed in the frame of another node: that of its parent transform.

    Raises ``VolumeError`` where a transform between the two is not linear.
    """
    ends = node.GetParentTransformNode(), otherNode.GetParentTransformNode()
    if ends[0] is ends[1]:
        return held
    for each, end in zip((node, otherNode), ends, strict=True):
        if end is not None and not end.IsTransformToWorldLinear():
            raise VolumeError(
                f"'{each.GetName()}' lies under a transform that bends it; harden the transform or resample it."
            )
    moved = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(*ends, moved)
    return replace(held, ijk_to_ras=toArray(moved) @ held.ijk_to_ras)


def publishVolume(scene, volume: Volume, sourceNode, name: str, attributes: Mapping[str, str], outputNode=None):
    """A scalar volume node with the voxels of ``volume``, shown as its source is shown. Returns the node.

    The node is new and called ``name``, or it is ``outputNode``, which keeps its name and loses its content.
    It gets the voxel type of the source where that fits (see ``storedLike``), and colours, thresholds, window
    and level of the source, these as fixed values: two automatic windows would make before and after look
    different where nothing was changed. DICOM identifiers are not copied. Raises ``ValueError``; after any
    failure the scene is as it was.
    """
    array = storedLike(volume.array, arrayOf(sourceNode))
    node = _nodeToFill(name, sourceNode, outputNode)
    with removeOnFailure(scene, outputNode):
        display = _fill(scene, node, array, volume.ijk_to_ras, sourceNode, attributes)
        showAs(display, sourceNode.GetDisplayNode())
        return _finish(scene, node, sourceNode)


def publishMap(
    scene, volume: Volume, sourceNode, name: str, attributes: Mapping[str, str], show: MapDisplay, outputNode=None
):
    """A float32 volume node that says something of a result: what was changed, or how sure it is.

    ``show`` gives it colours and window: ``showAsDifference`` or ``showAsUncertainty`` of ResultDisplay. Otherwise as
    :func:`publishVolume`.
    """
    node = _nodeToFill(name, sourceNode, outputNode)
    with removeOnFailure(scene, outputNode):
        display = _fill(scene, node, volume.array, volume.ijk_to_ras, sourceNode, attributes)
        show(scene, display, [volume.array])
        return _finish(scene, node, sourceNode)


def publishMade(scene, volume: Volume, sourceNode, name: str, attributes: Mapping[str, str]):
    """A new float32 volume node with voxels that nobody measured, grey, in a window that Slicer finds itself.

    It lies in the frame of ``sourceNode``, any node that may stand under a transform; None: in the world. Returns the
    node; after any failure the scene is as it was.
    """
    node = _newNode(name)
    with removeOnFailure(scene):
        _fill(scene, node, volume.array, volume.ijk_to_ras, None, attributes)
        if sourceNode is not None:
            node.SetAndObserveTransformNodeID(sourceNode.GetTransformNodeID())
            node.SetNodeReferenceID(SOURCE_ROLE, sourceNode.GetID())
        return _finish(scene, node, sourceNode)


def matrixOf(node) -> np.ndarray:
    """IJKToRAS of a volume node, 4 x 4, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return toArray(matrix)


def movementOf(node, ijkToRas: np.ndarray) -> np.ndarray:
    """What was done to the matrix of a volume since it was ``ijkToRas``, as hardening a transform does, 4 x 4."""
    return matrixOf(node) @ np.linalg.inv(ijkToRas)


def fillVoxels(node, array: np.ndarray, ijkToRas: np.ndarray, sourceNode, attributes: Mapping[str, str]) -> None:
    """Give a volume node a copy of ``array``, its place, the unit of its source if it has one, and attributes.

    DICOM identifiers and provenance that it had are removed.
    """
    image = _imageOf(array)
    with oneModification(node):
        node.SetAndObserveImageData(image)
        node.SetIJKToRASMatrix(toMatrix(ijkToRas))
        if sourceNode is not None:
            _copyUnits(node, sourceNode)
        setOrigin(node, attributes)


def setOrigin(node, attributes: Mapping[str, str]) -> None:
    """Give a node these attributes, in the place of DICOM identifiers and provenance that it had."""
    for key in list(node.GetAttributeNames()):
        if key.startswith(("DICOM.", "MedGAN.")):
            node.RemoveAttribute(key)
    for key, value in attributes.items():
        node.SetAttribute(key, value)


def arrayOf(node) -> np.ndarray | None:
    """View of a node's voxels [k, j, i]; None if there are none or several numbers a voxel."""
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or scalars.GetNumberOfComponents() != 1:
        return None
    return vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])


def voxelCount(node) -> int:
    """Voxels of a node; 0 for None, and if there are none or several numbers a voxel."""
    array = arrayOf(node) if node is not None else None
    return 0 if array is None else array.size


def _voxelsAndMatrix(node) -> tuple[np.ndarray, np.ndarray]:
    """The node's own voxels, not copied, and its matrix. Raises ``VolumeError``."""
    if node is None or not node.IsA("vtkMRMLVolumeNode"):
        kind = "Nothing" if node is None else f"'{node.GetName()}' ({node.GetNodeTagName()})"
        raise VolumeError(f"{kind} was chosen; choose a volume.")
    name, image = node.GetName(), node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise VolumeError(f"'{name}' is empty; choose a volume that holds voxels.")
    components = image.GetNumberOfScalarComponents()
    if components != 1 or node.IsA("vtkMRMLTensorVolumeNode"):
        raise VolumeError(
            f"'{name}' has {components} numbers a voxel (colours, vectors or tensors); choose a volume with one."
        )
    spacing = node.GetSpacing()
    if not np.isfinite(spacing).all() or min(spacing) <= 0:
        shown = " x ".join(f"{step:g}" for step in spacing)
        raise VolumeError(f"'{name}' has a voxel spacing of {shown} mm; correct it in the Volumes module.")
    if image.GetExtent()[::2] != (0, 0, 0) or image.GetSpacing() != (1, 1, 1) or image.GetOrigin() != (0, 0, 0):
        raise VolumeError(f"The voxels of '{name}' have a grid of their own beside that of the node; crop it again.")
    try:
        matrix = checked_matrix(matrixOf(node))
    except VolumeError as error:
        raise VolumeError(f"'{name}' can not be used. {error}") from None
    return arrayOf(node), matrix


def _newNode(name: str):
    """A volume node that is not yet in the scene."""
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(name)
    return node


def _nodeToFill(name: str, sourceNode, outputNode):
    """``outputNode`` if it can take the result, else a new node."""
    if outputNode is None:
        return _newNode(name)
    if outputNode.GetID() == sourceNode.GetID():
        raise ValueError(f"The result would replace its input '{sourceNode.GetName()}'; choose another output.")
    if outputNode.GetClassName() != "vtkMRMLScalarVolumeNode":
        raise ValueError(
            f"'{outputNode.GetName()}' can not hold the result; choose an output of type vtkMRMLScalarVolumeNode."
        )
    return outputNode


def _fill(scene, node, array: np.ndarray, ijkToRas: np.ndarray, sourceNode, attributes: Mapping[str, str]):
    """Give a node voxels, place, units, provenance and a display node, which is returned.

    Observers hear of it once. The node need not be in the scene yet.
    """
    with oneModification(node):
        display = node.GetDisplayNode()
        if display is None:
            display = scene.AddNode(slicer.vtkMRMLScalarVolumeDisplayNode())
            display.SetDefaultColorMap()
            node.SetAndObserveDisplayNodeID(display.GetID())
        fillVoxels(node, array, ijkToRas, sourceNode, attributes)
        if sourceNode is not None:
            node.SetAndObserveTransformNodeID(sourceNode.GetTransformNodeID())
            node.SetNodeReferenceID(SOURCE_ROLE, sourceNode.GetID())
    return display


def _finish(scene, node, sourceNode):
    """Show a new node, complete by now, to the scene and its observers. Returns the node."""
    if node.GetScene() is None:
        scene.AddNode(node)
        if sourceNode is not None:
            placeBeside(scene, node, sourceNode)
    return node


def _imageOf(array: np.ndarray) -> vtk.vtkImageData:
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    image.AllocateScalars(get_vtk_array_type(array.dtype), 1)
    vtk_to_numpy(image.GetPointData().GetScalars()).reshape(array.shape)[...] = array
    return image


def _copyUnits(node, sourceNode) -> None:
    """Quantity and unit of the voxel values (Hounsfield, SUV), which are not changed by a cleaner picture."""
    for name in ("VoxelValueQuantity", "VoxelValueUnits"):
        entry = getattr(sourceNode, f"Get{name}")()
        own = None
        if entry is not None:
            own = slicer.vtkCodedEntry()
            own.Copy(entry)
        getattr(node, f"Set{name}")(own)


def _label(colors, value: int) -> Label:
    """What a colour table (or None) says about a label value."""
    return labelOf(colors, value) or unnamed(value)
