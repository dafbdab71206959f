"""Segments out of segmentation nodes and into them, with exact label values, names, colours and terminology.

Nothing is added to the scene on reading, and the node stays as it is: a segmentation without a binary label map is
converted in a copy.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from medgan.labelvalues import Values, assigned
from medgan.resampling import beyond_in_steps, nearest_in_steps, of_segments, said_of_beyond, whole_shift
from medgan.segments import Layer, Segment, Segmentation, check_room
from medgan.steps import Steps, finished
from medgan.volume import Label, VolumeError
from MedGANSlicerLib.SceneEdits import placeBeside, removeOnFailure
from MedGANSlicerLib.SegmentGrids import (
    BINARY,
    CONTOURS,
    REFERENCE,
    SURFACE,
    Grid,
    arrayOfImage,
    between,
    geometryText,
    gridOfSurfaces,
    imageMatrix,
    imageStart,
    ownGrid,
    toMatrix,
)

VALUE_TAG = "MedGAN.LabelValue"
"""Tag with the label value a segment is known by: Slicer gives a segment that is painted over others the value 1."""


def readSegmentation(node, grid: Grid | None = None) -> tuple[Segmentation, Grid]:
    """The segments of a node on ``grid`` (the node's own if None), nearest neighbour through all transforms.

    Voxels that lie on those of the grid are not copied: they are views of the node's. Raises ``VolumeError`` with
    one sentence.
    """
    return finished(readInSteps(node, grid))


def readInSteps(node, grid: Grid | None = None, messages: list[str] | None = None) -> Steps[tuple[Segmentation, Grid]]:
    """:func:`readSegmentation`, a slice of a layer at a time; ``messages`` gets a sentence about what ``grid`` cuts."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        raise VolumeError("Nothing was chosen to convert; choose a segmentation.")
    segmentation = node.GetSegmentation()
    ids = segmentation.GetSegmentIDs()
    if not ids:
        raise VolumeError(f"'{node.GetName()}' has no segments; there is nothing to convert.")
    segmentation = _withLabelMaps(segmentation, node, grid)
    images: list = []
    segments = []
    for each in ids:
        segment = segmentation.GetSegment(each)
        image = segment.GetRepresentation(BINARY)
        if image is None:
            raise VolumeError(f"Segment '{segment.GetName()}' can not be turned into voxels; remove it first.")
        if image not in images:
            images.append(image)
        label = Label(segment.GetName(), tuple(segment.GetColor()), _terminology(segment))
        segments.append(Segment(label, images.index(image), segment.GetLabelValue(), _ownValue(segment), each))
    chosen, grid = grid, grid or ownGrid(node, segmentation)
    layers, cut = [], []
    for image in images:
        layer = yield from _layer(image, grid, node)
        layers.append(layer)
        if chosen is not None and messages is not None:
            whole = Layer(arrayOfImage(image), imageStart(image))
            own = Grid(whole.array.shape, imageMatrix(image), node.GetParentTransformNode())
            matrix, points = between(own, grid.transformNode)
            placed = own.ijkToRas if matrix is None else matrix @ own.ijkToRas
            cut.append((yield from beyond_in_steps(whole, placed, grid.shape, grid.ijkToRas, points)))
    read = Segmentation(grid.shape, grid.ijkToRas, layers, _apart(segments))
    if cut and messages is not None:
        messages += said_of_beyond(of_segments(read, cut))
    return read, grid


def ownGridOf(node) -> Grid:
    """The grid of a segmentation node: its reference geometry and all its segments. Raises ``VolumeError``."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        raise VolumeError("Nothing was chosen to convert; choose a segmentation.")
    return ownGrid(node, _withLabelMaps(node.GetSegmentation(), node, None))


def labelsOfSegments(node) -> dict[int, Label]:
    """The labels of a segmentation node by the value that each segment has in a label map of them all."""
    held = node.GetSegmentation()
    segments = []
    for each in held.GetSegmentIDs():
        segment = held.GetSegment(each)
        label = Label(segment.GetName(), tuple(segment.GetColor()), _terminology(segment))
        segments.append(Segment(label, 0, segment.GetLabelValue(), _ownValue(segment)))
    values, _ = assigned(segments, Values.OWN)
    return {value: segment.label for value, segment in zip(values, segments, strict=True)}


def publishSegmentation(scene, segmentation: Segmentation, name: str, transformNode=None, sourceNode=None, node=None):
    """A segmentation node with these segments; ``node`` is filled anew if it is given. Returns the node.

    It lies in the frame of ``transformNode`` and beside ``sourceNode`` in the hierarchy. After any failure the scene
    is as it was; only a given node has then lost its segments.
    """
    with removeOnFailure(scene):
        if node is None:
            node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
            if sourceNode is not None:
                placeBeside(scene, node, sourceNode)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
        held = node.GetSegmentation()
        was = node.StartModify()
        try:
            held.RemoveAllSegments()
            held.SetSourceRepresentationName(BINARY)
            held.SetConversionParameter(REFERENCE, geometryText(segmentation.shape, segmentation.ijk_to_ras))
            images = [_image(layer, segmentation.ijk_to_ras) for layer in segmentation.layers]
            for segment in segmentation.segments:
                _add(held, segment, images[segment.layer])
            node.SetAndObserveTransformNodeID(transformNode.GetID() if transformNode is not None else None)
        finally:
            node.EndModify(was)
    return node


def _withLabelMaps(segmentation, node, grid: Grid | None):
    """The segmentation itself, or a copy of it in which surfaces have become voxels of one grid."""
    if segmentation.ContainsRepresentation(BINARY):
        return segmentation
    copy = slicer.vtkSegmentation()
    source = segmentation.GetSourceRepresentationName()
    copy.SetSourceRepresentationName(source)
    copy.DeepCopy(segmentation)
    wanted = grid if grid is not None and grid.transformNode is node.GetParentTransformNode() else None
    if source == SURFACE:
        wanted = gridOfSurfaces(copy, wanted) or wanted
    if wanted is not None:
        copy.SetConversionParameter(REFERENCE, geometryText(wanted.shape, wanted.ijkToRas))
    if not copy.CreateRepresentation(BINARY):
        why = "Slicer does that only with the extension SlicerRT" if source == CONTOURS else "Slicer can not do that"
        raise VolumeError(f"The segments of '{node.GetName()}' ({source}) have to become voxels; {why}.")
    return copy


def _layer(image, grid: Grid, node) -> Steps[Layer]:
    array, start = arrayOfImage(image), imageStart(image)
    if array.size == 0:
        return Layer(array)
    matrix, points = between(grid, node.GetParentTransformNode())
    own = imageMatrix(image)
    if matrix is not None:
        inGrid = np.linalg.inv(matrix) @ own
        reach = tuple(n + abs(at) for n, at in zip(array.shape, start, strict=True))
        shift = whole_shift(inGrid, grid.ijkToRas, reach)
        if shift is not None:
            return Layer(array, tuple(at + by for at, by in zip(start, shift, strict=True)))
        own = inGrid
    moved = yield from nearest_in_steps(Layer(array, start), own, grid.shape, grid.ijkToRas, points)
    return Layer(moved)


def _apart(segments: list[Segment]) -> list[Segment]:
    """The same, but of segments that share voxels in one layer only the first keeps them; scripts can make such."""
    seen: set[tuple[int, int]] = set()
    for segment in segments:
        while (segment.layer, segment.value) in seen:
            segment.own_value, segment.value = segment.known_value, segment.value + (1 << 40)
        seen.add((segment.layer, segment.value))
    return segments


def _ownValue(segment) -> int:
    if not segment.HasTag(VALUE_TAG):
        return 0
    text = _tag(segment, VALUE_TAG)
    return int(text) if text.isdecimal() and len(text) <= 10 else 0


def _terminology(segment) -> str:
    return _tag(segment, segment.GetTerminologyEntryTagName())


def _tag(segment, name: str) -> str:
    held = vtk.reference("")
    return str(held) if segment.GetTag(name, held) else ""


def _image(layer: Layer, ijkToRas: np.ndarray):
    """A layer as an oriented image of Slicer with an extent that starts where the layer does."""
    array = layer.array
    if array.dtype.itemsize > 4 or array.dtype == np.uint32:
        array = array.astype(np.int32)
    image = slicer.vtkOrientedImageData()
    if array.size:
        check_room(array.shape, array.dtype.itemsize)
        k, j, i = layer.start
        image.SetExtent(i, i + array.shape[2] - 1, j, j + array.shape[1] - 1, k, k + array.shape[0] - 1)
        image.AllocateScalars(get_vtk_array_type(array.dtype), 1)
        vtk_to_numpy(image.GetPointData().GetScalars()).reshape(array.shape)[...] = array
    image.SetImageToWorldMatrix(toMatrix(ijkToRas))
    return image


def _add(held, segment: Segment, image) -> None:
    part = slicer.vtkSegment()
    part.SetName(segment.label.name)
    part.SetColor(*segment.label.color)
    part.NameAutoGeneratedOff()
    part.ColorAutoGeneratedOff()
    part.SetLabelValue(segment.value)
    part.SetTag(VALUE_TAG, str(segment.known_value))
    part.RemoveTag(part.GetTerminologyEntryTagName())  # a new segment says it is "Tissue"
    if segment.label.terminology:
        part.SetTag(part.GetTerminologyEntryTagName(), segment.label.terminology)
    part.AddRepresentation(BINARY, image)
    wanted = segment.id or f"Segment_{segment.known_value}"
    taken = held.GetSegment(wanted) is not None
    if not held.AddSegment(part, held.GenerateUniqueSegmentID(wanted) if taken else wanted):
        raise VolumeError(f"Slicer does not take the segment '{segment.label.name}'.")
    part.SetColor(*segment.label.color)  # it takes plain grey for "no colour" and chooses one
