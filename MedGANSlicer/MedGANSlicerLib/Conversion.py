"""Segmentation nodes to label map nodes and back, and the report of what could not be kept as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from medgan.labels import Overlap, label_maps_in_steps, renamed, said_of_values, segmentation_in_steps
from medgan.labeltable import LabelTable, whole_numbers
from medgan.labelvalues import BY_TABLE, Values
from medgan.probabilities import most_probable_in_steps
from medgan.resampling import extended, nearest_in_steps, reach_in_steps, said_of_extension, whole_shift
from medgan.segments import Layer, Segmentation, check_room
from medgan.steps import Steps, finished
from medgan.volume import Label, LabelMap, Volume, VolumeError, spacing_of
from MedGANSlicerLib.ColorTables import labelColors, labelOf, labelsOf, labelsOfInSteps, madeByUs
from MedGANSlicerLib.SceneBridge import SOURCE_ROLE, arrayOf
from MedGANSlicerLib.SceneEdits import oneModification, placeBeside, removeOnFailure, uniqueName
from MedGANSlicerLib.SegmentationBridge import labelsOfSegments, publishSegmentation, readInSteps
from MedGANSlicerLib.SegmentGrids import Grid, between, toMatrix, volumeGrid


@dataclass
class ConversionResult:
    """The nodes that were made, the label value of each segment by its ID, and what there is to say.

    ``unknown`` are values that the table does not have, ``holes`` values of the table that no voxel has.
    """

    nodes: list
    values: dict[str, int] = field(default_factory=dict)
    voxels: dict[str, int] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def toLabelMaps(
    segmentationNode,
    grid: Grid | None = None,
    values: Values = Values.OWN,
    table: LabelTable | None = None,
    overlap: Overlap = Overlap.LAST,
    name: str = "",
    outputNode=None,
) -> ConversionResult:
    """Label map nodes of a segmentation: one, or one a layer with ``Overlap.LAYERS``.

    Each has a colour table with names, colours and terminology of all segments, the matrix of its grid, and the
    parent transform of the grid. A ``table`` names the segments by their own values, unless they are looked up in it.
    ``outputNode`` (a label map) takes the first. Raises ``ValueError``; the scene is then as it was.
    """
    return finished(toLabelMapsInSteps(segmentationNode, grid, values, table, overlap, name, outputNode))


def toLabelMapsInSteps(
    segmentationNode,
    grid: Grid | None = None,
    values: Values = Values.OWN,
    table: LabelTable | None = None,
    overlap: Overlap = Overlap.LAST,
    name: str = "",
    outputNode=None,
) -> Steps[ConversionResult]:
    """:func:`toLabelMaps`, a little at a time; the scene is written in the last step."""
    scene = segmentationNode.GetScene() if segmentationNode is not None else None
    said: list[str] = []
    segmentation, grid = yield from readInSteps(segmentationNode, grid, said)
    if table is not None and values not in BY_TABLE:
        said += said_of_values(renamed(segmentation, table), table)
    images = []

    def allocate(shape: tuple[int, int, int], kind: np.dtype) -> np.ndarray:
        images.append(vtk.vtkImageData())
        images[-1].SetDimensions(*shape[::-1])
        images[-1].AllocateScalars(get_vtk_array_type(kind), 1)
        array = vtk_to_numpy(images[-1].GetPointData().GetScalars()).reshape(shape)
        array.fill(0)
        return array

    converted = yield from label_maps_in_steps(segmentation, values, table, overlap, allocate)
    result = ConversionResult([], messages=[*said, *converted.messages])
    result.values = {s.id: value for s, value in zip(segmentation.segments, converted.values, strict=True)}
    result.voxels = {s.id: count for s, count in zip(segmentation.segments, converted.voxels, strict=True)}
    with removeOnFailure(scene, outputNode):
        for number, labelMap in enumerate(converted.label_maps):
            called = name or f"{segmentationNode.GetName()} label map"
            called = f"{called} {number + 1}" if len(converted.label_maps) > 1 else called
            node = outputNode if number == 0 else None
            result.nodes.append(_labelMapNode(scene, labelMap, images[number], grid, segmentationNode, called, node))
    return result


def toSegmentation(
    labelMapNodes: Sequence,
    table: LabelTable | None = None,
    keepEmpty: bool | None = None,
    name: str = "",
    outputNode=None,
) -> ConversionResult:
    """A segmentation node in which every value of every label map is a segment of its own.

    Maps on other grids are brought onto that of the first, nearest neighbour through all transforms; it grows by whole
    voxels until it covers the labels of all. ``keepEmpty`` makes a segment of every label that has no voxel, too; by
    default for the labels of a table that was made by a conversion for this map. Raises ``ValueError``; the scene is
    then as it was.
    """
    return finished(toSegmentationInSteps(labelMapNodes, table, keepEmpty, name, outputNode))


def toSegmentationInSteps(
    labelMapNodes: Sequence,
    table: LabelTable | None = None,
    keepEmpty: bool | None = None,
    name: str = "",
    outputNode=None,
) -> Steps[ConversionResult]:
    """:func:`toSegmentation`, a little at a time; the scene is written in the last step."""
    first, grid = _first(labelMapNodes, "label map")
    tables = [_colorsOf(node) for node in labelMapNodes]
    keep = keepEmpty if keepEmpty is not None else table is None and all(madeByUs(colors) for colors in tables)
    messages: list[str] = []
    own = grid
    for node in labelMapNodes[1:]:
        grid = yield from _covering(grid, node)
    if grid.shape != own.shape:
        messages.append(said_of_extension(f"'{first.GetName()}'", grid.shape))
    maps = []
    for node, colors in zip(labelMapNodes, tables, strict=True):
        array = yield from _onGrid(node, grid, messages if node is not first else [])
        labels = (yield from labelsOfInSteps(colors)) if madeByUs(colors) else _Named(colors)
        maps.append(LabelMap(array, grid.ijkToRas, labels))
    segmentation, report, said = yield from segmentation_in_steps(maps, table, keep)
    called = name or uniqueName(first.GetScene(), f"{first.GetName()} segmentation")
    node = publishSegmentation(first.GetScene(), segmentation, called, grid.transformNode, first, outputNode)
    node.SetNodeReferenceID(SOURCE_ROLE, first.GetID())
    return _converted(node, segmentation, report, messages + said)


def mostProbable(volumeNodes: Sequence, table: LabelTable | None = None, name: str = "") -> ConversionResult:
    """A segmentation node of probability maps, one volume a structure; each voxel goes to the likeliest.

    The names of the segments are those of the volumes. Raises ``ValueError``; the scene is then as it was.
    """
    return finished(mostProbableInSteps(volumeNodes, table, name))


def mostProbableInSteps(
    volumeNodes: Sequence, table: LabelTable | None = None, name: str = ""
) -> Steps[ConversionResult]:
    """:func:`mostProbable`, a little at a time; the scene is written in the last step."""
    first, grid = _first(volumeNodes, "probability map")
    volumes = []
    for node in volumeNodes:
        other = volumeGrid(node)
        if arrayOf(node) is None:
            raise VolumeError(f"'{node.GetName()}' has several numbers a voxel; choose a probability map.")
        matrix, _ = between(grid, other.transformNode)
        moved = None if matrix is None else np.linalg.inv(matrix) @ other.ijkToRas
        if other.shape != grid.shape or moved is None or whole_shift(moved, grid.ijkToRas, grid.shape) != (0, 0, 0):
            raise VolumeError(f"'{node.GetName()}' lies on another grid than '{first.GetName()}'; resample it first.")
        volumes.append(Volume(arrayOf(node), grid.ijkToRas))
    labelMap, messages = yield from most_probable_in_steps(volumes, [node.GetName() for node in volumeNodes], table)
    segmentation, report, said = yield from segmentation_in_steps([labelMap], keep_empty=True)
    called = name or uniqueName(first.GetScene(), f"{first.GetName()} segmentation")
    node = publishSegmentation(first.GetScene(), segmentation, called, grid.transformNode, first)
    node.SetNodeReferenceID(SOURCE_ROLE, first.GetID())
    return _converted(node, segmentation, report, messages + said)


def _converted(node, segmentation: Segmentation, report: Mapping[str, Any], said: list[str]) -> ConversionResult:
    """The result that a segmentation node and the segments in it are."""
    ids = node.GetSegmentation().GetSegmentIDs()
    values = {each: s.known_value for each, s in zip(ids, segmentation.segments, strict=True)}
    return ConversionResult([node], values, {}, report["unknown"], report["holes"], said)


class _Named(dict):
    """The labels of a colour table that somebody else made: each is looked up when its value occurs."""

    def __init__(self, colors) -> None:
        super().__init__()
        self._colors = colors

    def get(self, value, default=None):
        return labelOf(self._colors, value) or default


def _first(nodes: Sequence, kind: str):
    chosen = [node for node in nodes if node is not None]
    if not chosen or len(chosen) < len(nodes):
        raise VolumeError(f"Nothing was chosen to convert; choose a {kind}.")
    return chosen[0], volumeGrid(chosen[0])


def _colorsOf(node):
    display = node.GetDisplayNode()
    return display.GetColorNode() if display is not None else None


def _labels(node) -> np.ndarray:
    """The label values of a node."""
    array = arrayOf(node)
    if array is None:
        raise VolumeError(f"'{node.GetName()}' has several numbers a voxel; choose a label map.")
    return whole_numbers(array, f"'{node.GetName()}'")


def _covering(grid: Grid, node) -> Steps[Grid]:
    """A grid with as many more voxels as the labels of a node need."""
    own = volumeGrid(node)
    matrix, points = between(own, grid.transformNode)
    placed = own.ijkToRas if matrix is None else matrix @ own.ijkToRas
    reach_mm = yield from reach_in_steps(Layer(_labels(node)), placed, points)
    shape, matrix = extended(grid.shape, grid.ijkToRas, reach_mm)
    across_mm = max(np.multiply(spacing_of(matrix), shape[::-1]))
    check_room(shape, 1, f"the label maps reach over {across_mm:.0f} mm, so convert them one by one")
    return Grid(shape, matrix, grid.transformNode)


def _onGrid(node, grid: Grid, messages: list[str]) -> Steps[np.ndarray]:
    """The label values of a node on a grid: a view of its voxels if they lie there already."""
    array = _labels(node)
    own = volumeGrid(node)
    matrix, points = between(grid, own.transformNode)
    if matrix is not None:
        placed = np.linalg.inv(matrix) @ own.ijkToRas
        if own.shape == grid.shape and whole_shift(placed, grid.ijkToRas, grid.shape) == (0, 0, 0):
            return array
    else:
        placed = own.ijkToRas
    messages.append(f"'{node.GetName()}' was brought onto the grid of the first label map, nearest neighbour.")
    return (yield from nearest_in_steps(Layer(array), placed, grid.shape, grid.ijkToRas, points))


def _labelMapNode(scene, labelMap: LabelMap, image, grid: Grid, sourceNode, name: str, outputNode):
    """A label map node with these voxels, complete before the scene hears of it."""
    node = outputNode
    if node is None:
        node = slicer.vtkMRMLLabelMapVolumeNode()
        node.SetName(uniqueName(scene, name))
    with oneModification(node):
        display = node.GetDisplayNode()
        if display is None:
            display = scene.AddNode(slicer.vtkMRMLLabelMapVolumeDisplayNode())
            node.SetAndObserveDisplayNodeID(display.GetID())
        old = display.GetColorNode()
        colors = labelColors(scene, labelMap.labels, f"{node.GetName()} labels")
        display.SetAndObserveColorNodeID(colors.GetID())
        if madeByUs(old) and not _used(scene, old):
            scene.RemoveNode(old)
        node.SetAndObserveImageData(image)
        node.SetIJKToRASMatrix(toMatrix(labelMap.ijk_to_ras))
        node.SetAndObserveTransformNodeID(grid.transformNode.GetID() if grid.transformNode is not None else None)
        node.SetNodeReferenceID(SOURCE_ROLE, sourceNode.GetID())
    if node.GetScene() is None:
        scene.AddNode(node)
        placeBeside(scene, node, sourceNode)
    return node


def _used(scene, colors) -> bool:
    """Whether a display node still shows a colour table."""
    return any(node.IsA("vtkMRMLDisplayNode") and node.GetColorNodeID() == colors.GetID() for node in scene.GetNodes())


def labelsOfNode(node) -> Mapping[int, Label]:
    """What is known of the labels of a label map or segmentation node, by value."""
    return labelsOfSegments(node) if node.IsA("vtkMRMLSegmentationNode") else labelsOf(_colorsOf(node))
