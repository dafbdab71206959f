"""Segmentation nodes become label map nodes and come back in a real scene: nothing lost, nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from scene_tools import add_volume, array_of, matrix_of, node_ids, oblique_matrix, to_vtk_matrix, to_world
from vtk.util.numpy_support import vtk_to_numpy

from medgan import freesurfer, labelfiles, terminology
from medgan.labels import Overlap, merged, segmentation_of
from medgan.labeltable import LabelTable, read_table, write_table
from medgan.labelvalues import Values
from medgan.segments import Layer, Segment, Segmentation
from medgan.volume import Label, LabelMap, VolumeError
from MedGANSlicerLib import SegmentGrids
from MedGANSlicerLib.Conversion import labelsOfNode, mostProbable, toLabelMaps, toSegmentation, toSegmentationInSteps
from MedGANSlicerLib.SegmentationBridge import ownGridOf, publishSegmentation, readSegmentation
from MedGANSlicerLib.SegmentGrids import Grid, volumeGrid
from MedGANSlicerLib.Surfaces import showSurfaces, writeSurfaces

MATRIX = oblique_matrix(left_handed=True)
HIPPOCAMPUS = freesurfer.table().labels[17].terminology
OF_SLICERS_LIST = HIPPOCAMPUS.replace("DICOM master list", "3D Slicer General Anatomy list", 1)


def many_segments(count=200, shape=(13, 20, 23)) -> Segmentation:
    """Arbitrary values up to 90000 in two layers that overlap; every tenth segment has no voxel."""
    draw = np.random.default_rng(0)
    values = sorted(int(value) for value in draw.choice(90000, count, replace=False) + 1)
    half = count // 2
    maps = []
    for part in (values[:half], values[half:]):
        array = np.zeros(shape, np.int32)
        places = draw.permutation(array.size)[: array.size // 2]
        array.flat[places] = draw.choice([value for n, value in enumerate(part) if n % 10], len(places))
        entries = ("", HIPPOCAMPUS, OF_SLICERS_LIST)
        labels = {v: Label(f"part {v}", tuple(draw.integers(0, 256, 3) / 255), entries[v % 3]) for v in part}
        maps.append(LabelMap(array, MATRIX, labels))
    return segmentation_of(maps, keep_empty=True)[0]


def a_turned_node(scene):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(to_vtk_matrix(oblique_matrix((1.0, 1.0, 1.0))))
    return node


def a_bent_node(scene):
    """A transform node that is not linear."""
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        place = np.array([112.0, -87.0, 40.0]) + np.array(corner) * 12 - 6
        source.InsertNextPoint(*place)
        target.InsertNextPoint(*(place + 2.5 * np.sin(place)))
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


def a_small_segmentation(scene, transform=None, shape=(7, 9, 11)):
    array = np.random.default_rng(3).choice([0, 3, 300, 40000], shape).astype(np.int32)
    labels = {value: Label(f"part {value}", (0.2, 0.4, 0.6)) for value in (3, 300, 40000)}
    made = segmentation_of([LabelMap(array, MATRIX, labels)])[0]
    return publishSegmentation(scene, made, "Parts", transform), array


def expected_on(node, array, grid_node) -> np.ndarray:
    """What the voxels of a volume node show of a segmentation node: each centre followed through all transforms."""
    forward = to_world(grid_node)
    back = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, node.GetParentTransformNode(), back)
    to_ijk = np.linalg.inv(MATRIX)
    shape = array_of(grid_node).shape
    expected = np.zeros(shape, array.dtype)
    for k, j, i in np.ndindex(shape):
        world = forward((matrix_of(grid_node) @ (i, j, k, 1.0))[:3])
        place = to_ijk @ (*back.TransformPoint(*world), 1.0)
        i0, j0, k0 = np.rint(place[:3]).astype(int)
        if 0 <= k0 < array.shape[0] and 0 <= j0 < array.shape[1] and 0 <= i0 < array.shape[2]:
            expected[k, j, i] = array[k0, j0, i0]
    return expected


def test_two_hundred_segments_go_there_and_back_without_a_loss(a_scene):
    original = many_segments()
    turned = a_turned_node(a_scene)
    node = publishSegmentation(a_scene, original, "Parts", turned)
    maps = toLabelMaps(node, overlap=Overlap.LAYERS).nodes
    assert len(maps) == 2
    again = toSegmentation(maps).nodes[0]
    assert again.GetParentTransformNode() is turned
    read, grid = readSegmentation(again)
    np.testing.assert_allclose(grid.ijkToRas, MATRIX, atol=1e-12)
    assert read.shape == original.shape
    for number, (one, other) in enumerate(zip(read.segments, original.segments, strict=True)):
        assert one.known_value == other.known_value
        assert (one.label.name, one.label.terminology) == (other.label.name, other.label.terminology)
        np.testing.assert_allclose(one.label.color, other.label.color, atol=1e-9)
        np.testing.assert_array_equal(read.mask(number), original.mask(number))


def test_label_map_has_exact_values_a_table_its_place_and_leaves_nothing_else(a_scene):
    turned = a_turned_node(a_scene)
    node, array = a_small_segmentation(a_scene, turned)
    before = node_ids(a_scene)
    result = toLabelMaps(node)
    (made,) = result.nodes
    np.testing.assert_array_equal(array_of(made), array)
    np.testing.assert_allclose(matrix_of(made), MATRIX, atol=1e-12)
    assert made.GetParentTransformNode() is turned
    added = [a_scene.GetNodeByID(each).GetClassName() for each in node_ids(a_scene) - before]
    names = ["vtkMRMLColorTableNode", "vtkMRMLLabelMapVolumeDisplayNode", "vtkMRMLLabelMapVolumeNode"]
    assert sorted(added) == names
    assert sorted(result.values.values()) == [3, 300, 40000]
    assert labelsOfNode(made)[300].color == pytest.approx((0.2, 0.4, 0.6), abs=0.5 / 255)
    table = made.GetDisplayNode().GetColorNode()
    assert table.GetColorName(40000) == "part 40000"
    assert table.GetLookupTable().GetTableValue(0)[3] == 0.0, "background must be transparent"
    toLabelMaps(node, outputNode=made)  # filled anew, its table replaced
    assert len(node_ids(a_scene) - before) == 3


def test_nothing_is_cropped_and_voxels_beyond_the_reference_are_kept(a_scene):
    array = np.zeros((4, 4, 4), np.uint8)
    array[1:3, 1:3, 1:3] = 1
    held = Segmentation((10, 11, 12), MATRIX, [Layer(array, (8, -2, 3))], [Segment(Label("edge"), 0, 1)])
    node = publishSegmentation(a_scene, held, "Parts")
    (made,) = toLabelMaps(node).nodes
    assert array_of(made).shape == (12, 13, 12)
    assert array_of(made).sum() == 8
    np.testing.assert_allclose(matrix_of(made) @ (4, 1, 9, 1), MATRIX @ (4, -1, 9, 1), atol=1e-9)


def test_segments_come_onto_the_voxels_of_a_volume_under_other_transforms(a_scene):
    for bend in (a_turned_node, a_bent_node):
        node, array = a_small_segmentation(a_scene, bend(a_scene))
        matrix = oblique_matrix((1.3, 0.9, 1.7))
        matrix[:3, 3] = (MATRIX @ (2.2, 1.1, 0.4, 1))[:3]
        volume = add_volume(a_scene, np.zeros((6, 7, 8), np.int16), matrix, "Grid")
        volume.SetAndObserveTransformNodeID(a_turned_node(a_scene).GetID())
        if bend is a_turned_node:  # the same place in the world, so that something of it is seen
            volume.SetAndObserveTransformNodeID(node.GetTransformNodeID())
            lifted = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
            lifted.SetMatrixTransformToParent(to_vtk_matrix(np.diag([1.0, 1.0, 1.0, 1.0]) + np.eye(4, k=3) * 1.5))
            node.SetAndObserveTransformNodeID(lifted.GetID())
            lifted.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        else:
            volume.SetAndObserveTransformNodeID(None)
        (made,) = toLabelMaps(node, volumeGrid(volume)).nodes
        expected = expected_on(node, array, volume)
        assert (expected > 0).sum() > 30
        assert np.mean(array_of(made) != expected) < 0.005  # half-way points may go either way
        np.testing.assert_allclose(matrix_of(made), matrix, atol=1e-12)
        assert made.GetTransformNodeID() == volume.GetTransformNodeID()


def test_grid_of_another_spacing_is_that_of_the_segmentation_in_finer_steps(a_scene):
    node, array = a_small_segmentation(a_scene)
    spacing = np.linalg.norm(MATRIX[:3, :3], axis=0) / 2
    (made,) = toLabelMaps(node, ownGridOf(node).withSpacing(tuple(spacing))).nodes
    np.testing.assert_array_equal(array_of(made), array.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_value_of_a_segment_survives_painting_over_others(a_scene):
    node, array = a_small_segmentation(a_scene)
    first = node.GetSegmentation().GetSegment("Segment_3").GetRepresentation("Binary labelmap")
    painted = slicer.vtkOrientedImageData()
    painted.DeepCopy(first)
    voxels = vtk_to_numpy(painted.GetPointData().GetScalars()).reshape(array.shape)
    voxels[...] = 0
    voxels[2:5, 2:5, 2:5] = 1
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(painted, node, "Segment_3", 0)
    assert node.GetSegmentation().GetSegment("Segment_3").GetLabelValue() == 1  # what Slicer makes of it
    (made,) = toLabelMaps(node, overlap=Overlap.FIRST).nodes
    expected = np.where(array == 3, 0, array)
    expected[2:5, 2:5, 2:5] = 3
    np.testing.assert_array_equal(array_of(made), expected)


def test_values_of_segments_that_slicer_made_are_told_apart(a_scene):
    node = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    volume = add_volume(a_scene, np.zeros((5, 6, 7), np.int16), MATRIX, "Scan")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for number, name in enumerate(("a", "b")):
        node.GetSegmentation().AddEmptySegment(name, name)
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(7, 6, 5)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        vtk_to_numpy(image.GetPointData().GetScalars()).reshape(5, 6, 7)[...] = 0
        vtk_to_numpy(image.GetPointData().GetScalars()).reshape(5, 6, 7)[1 + number : 4, 2:5] = 1
        image.SetImageToWorldMatrix(to_vtk_matrix(MATRIX))
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, node, name, 0)
    node.GetSegmentation().AddEmptySegment("none", "none")
    result = toLabelMaps(node, values=Values.CONSECUTIVE)
    array = array_of(result.nodes[0])
    assert array.shape == (5, 6, 7)
    np.testing.assert_array_equal(array[:, 3, 3], [0, 1, 2, 2, 0])
    assert result.voxels == {"a": 21, "b": 42, "none": 0}
    assert set(labelsOfNode(result.nodes[0])) == {1, 2, 3}
    assert any("'a' 42" in sentence for sentence in result.messages)


def test_surface_becomes_voxels_and_the_node_stays_as_it_is(a_scene):
    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(10)
    sphere.SetPhiResolution(40)
    sphere.SetThetaResolution(40)
    sphere.Update()
    node = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "Ball", [1, 0, 0], "ball")
    volume = add_volume(a_scene, np.zeros((30, 30, 30), np.int16), np.array(vtk_identity_shifted(-14.5)), "Grid")
    (made,) = toLabelMaps(node, volumeGrid(volume)).nodes
    assert array_of(made).sum() == pytest.approx(4 / 3 * np.pi * 1000, rel=0.05)
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def surfaces(scene, **spheres: tuple[tuple[float, float, float], float]):
    """A segmentation node that holds only surfaces: spheres, each given by its centre and radius in mm."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Balls")
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    for name, (center, radius) in spheres.items():
        sphere = vtk.vtkSphereSource()
        sphere.SetCenter(*center)
        sphere.SetRadius(radius)
        sphere.SetPhiResolution(40)
        sphere.SetThetaResolution(40)
        sphere.Update()
        node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), name, [1, 0, 0], name)
    return node


def test_surfaces_of_different_size_become_voxels_of_one_grid(a_scene, monkeypatch):
    monkeypatch.setattr(SegmentGrids, "_OF_ONE", 20**3)
    monkeypatch.setattr(SegmentGrids, "_OF_ALL", 60**3)
    node = surfaces(a_scene, small=((0, 0, 0), 4), large=((40, 10, 0), 20))
    result = toLabelMaps(node)
    voxel_mm3 = np.prod(result.nodes[0].GetSpacing())
    for name, radius in (("small", 4), ("large", 20)):
        assert result.voxels[name] * voxel_mm3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.1)
    assert array_of(result.nodes[0]).size <= 70**3
    middle = np.mean(np.nonzero(array_of(result.nodes[0]) == result.values["large"]), axis=1)
    np.testing.assert_allclose((matrix_of(result.nodes[0]) @ [*middle[::-1], 1])[:3], (40, 10, 0), atol=0.5)
    volume = add_volume(a_scene, np.zeros((20, 20, 20), np.int16), np.array(vtk_identity_shifted(-9.5)), "Grid")
    result = toLabelMaps(node, volumeGrid(volume))
    assert result.voxels["small"] == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.1)
    assert result.messages[0].startswith("Beyond the grid: 'large' ")
    fine = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    with pytest.raises(VolumeError, match="does not fit into memory"):
        toLabelMaps(node, Grid((10, 10, 10), fine))


def test_flat_surface_does_not_tell_how_fine_the_grid_is(a_scene, monkeypatch):
    monkeypatch.setattr(SegmentGrids, "_OF_ONE", 20**3)
    monkeypatch.setattr(SegmentGrids, "_OF_ALL", 60**3)
    node = surfaces(a_scene, ball=((0, 0, 0), 4))
    spacing_mm = toLabelMaps(node).nodes[0].GetSpacing()
    plane = vtk.vtkPlaneSource()
    plane.Update()
    node.AddSegmentFromClosedSurfaceRepresentation(plane.GetOutput(), "flat", [1, 0, 0], "flat")
    assert toLabelMaps(node).nodes[0].GetSpacing() == pytest.approx(spacing_mm)


def test_segment_of_another_segmentation_lies_on_a_grid_with_the_others(a_scene):
    node, _ = a_small_segmentation(a_scene)
    fine = np.zeros((6, 6, 6), np.uint8)
    fine[1:5, 1:5, 1:5] = 1
    matrix = MATRIX @ np.diag([0.7, 0.7, 0.7, 1.0])
    other = publishSegmentation(a_scene, segmentation_of([LabelMap(fine, matrix, {1: Label("fine")})])[0], "Fine")
    node.GetSegmentation().CopySegmentFromSegmentation(other.GetSegmentation(), "Segment_1")
    result = toLabelMaps(node)
    mm3 = np.prod(result.nodes[0].GetSpacing()) / abs(np.linalg.det(matrix[:3, :3]))
    assert result.voxels["Segment_1"] * mm3 == pytest.approx(64, rel=0.5)


def test_contours_say_which_extension_turns_them_into_voxels(a_scene):
    node = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Plan")
    node.GetSegmentation().SetSourceRepresentationName("Planar contour")
    segment = slicer.vtkSegment()
    segment.SetName("target")
    segment.AddRepresentation("Planar contour", vtk.vtkPolyData())
    node.GetSegmentation().AddSegment(segment)
    for grid in (None, Grid((3, 4, 5), MATRIX)):
        with pytest.raises(VolumeError, match="only with the extension SlicerRT"):
            toLabelMaps(node, grid)


@pytest.mark.parametrize("frame", [lambda scene: None, a_turned_node, a_bent_node])
def test_voxels_beyond_a_chosen_volume_are_told(a_scene, frame):
    """Counted by their centres, through all transforms."""
    node, array = a_small_segmentation(a_scene)
    node.SetAndObserveTransformNodeID(place.GetID() if (place := frame(a_scene)) is not None else None)
    volume = add_volume(a_scene, np.zeros((5, 12, 13), np.int16), MATRIX, "Volume")
    forward, expected = to_world(node), {3: 0, 300: 0, 40000: 0}
    for k, j, i in np.argwhere(array):
        ijk = np.linalg.inv(MATRIX) @ (*forward((MATRIX @ (i, j, k, 1.0))[:3]), 1.0)
        if not all(-0.5 <= at + 1e-6 < n - 0.5 for at, n in zip(ijk, (13, 12, 5), strict=False)):
            expected[int(array[k, j, i])] += 1
    said = ", ".join(f"'part {value}' {n} of {(array == value).sum()} voxels" for value, n in expected.items())
    assert min(expected.values()) > 0
    assert toLabelMaps(node, volumeGrid(volume)).messages[0] == f"Beyond the grid: {said}."


@pytest.mark.parametrize("rule", [Values.OWN, Values.CONSECUTIVE])
def test_table_names_the_segments_of_a_label_map(a_scene, rule):
    node, _ = a_small_segmentation(a_scene)
    result = toLabelMaps(node, values=rule, table=LabelTable({300: Label("liver"), 5: Label("none")}, "t.csv"))
    labels = labelsOfNode(result.nodes[0])
    assert labels[result.values["Segment_300"]].name == "liver"
    assert labels[result.values["Segment_3"]].name == "part 3"
    assert result.messages[0] == "Not in 't.csv', so not named by it: 3, 40000."


def vtk_identity_shifted(by: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return matrix


def test_values_come_from_a_table_by_terminology(a_scene):
    array = np.random.default_rng(0).choice([0, 1, 2], (5, 6, 7)).astype(np.uint8)
    labels = {1: Label("anything", terminology=OF_SLICERS_LIST), 2: Label("odd")}
    made = segmentation_of([LabelMap(array, MATRIX, labels)])[0]
    node = publishSegmentation(a_scene, made, "Parts")
    result = toLabelMaps(node, values=Values.TERMINOLOGY, table=freesurfer.table())
    np.testing.assert_array_equal(array_of(result.nodes[0]) == 17, array == 1)
    assert "'odd'" in result.messages[0]
    assert labelsOfNode(result.nodes[0])[17].terminology == OF_SLICERS_LIST
    assert labelsOfNode(result.nodes[0])[17].color == pytest.approx((0.5, 0.5, 0.5), abs=1 / 255)


def test_label_map_of_another_program_gets_its_names_from_a_table(a_scene):
    array = np.random.default_rng(0).choice([0, 2, 17, 60000], (5, 6, 7)).astype(np.int32)
    node = add_volume(a_scene, array, MATRIX, "aseg", "vtkMRMLLabelMapVolumeNode")
    node.SetAndObserveTransformNodeID(a_turned_node(a_scene).GetID())
    before = node_ids(a_scene)
    table = LabelTable({2: Label("White"), 17: freesurfer.label(17), 18: Label("Amygdala")}, "own.csv")
    result = toSegmentation([node], table)
    assert (result.unknown, result.holes) == ([60000], [18])
    assert [labelsOfNode(result.nodes[0])[value].name for value in (2, 17, 60000)] == [
        "White",
        "Left-Hippocampus",
        "label 60000",
    ]
    held = result.nodes[0].GetSegmentation()
    entry = held.GetSegment("Segment_17").GetTerminology()
    assert terminology.same(entry, HIPPOCAMPUS)
    assert result.nodes[0].GetTransformNodeID() == node.GetTransformNodeID()
    added = sorted(a_scene.GetNodeByID(each).GetClassName() for each in node_ids(a_scene) - before)
    assert added == ["vtkMRMLSegmentationDisplayNode", "vtkMRMLSegmentationNode"]
    assert len(toSegmentation([node], table, keepEmpty=True).values) == 4


def test_label_maps_on_different_grids_join_on_that_of_the_first(a_scene):
    first = add_volume(a_scene, np.full((4, 5, 6), 7, np.int16), MATRIX, "one", "vtkMRMLLabelMapVolumeNode")
    coarse = MATRIX @ np.diag([2.0, 2.0, 2.0, 1.0])
    other = add_volume(a_scene, np.full((2, 2, 2), 9, np.int16), coarse, "two", "vtkMRMLLabelMapVolumeNode")
    result = toSegmentation([first, other])
    read, _ = readSegmentation(result.nodes[0])
    assert read.shape == (4, 5, 6)
    assert [segment.known_value for segment in read.segments] == [7, 9]
    assert read.mask(1)[:, 0, 0].tolist() == [True, True, True, False]  # half-way goes up
    assert result.messages == ["'two' was brought onto the grid of the first label map, nearest neighbour."]


@pytest.mark.parametrize("frame", [None, a_turned_node, a_bent_node])
def test_no_label_of_a_further_map_is_cut_off(a_scene, frame):
    first = add_volume(a_scene, np.full((4, 5, 6), 7, np.int16), MATRIX, "one", "vtkMRMLLabelMapVolumeNode")
    array = np.zeros((9, 8, 7), np.int16)
    array[5:8, 1:7, 2:6] = 9
    moved = MATRIX.copy()
    moved[:3, 3] = (MATRIX @ [-5, 4, 1, 1])[:3]
    other = add_volume(a_scene, array, moved, "two", "vtkMRMLLabelMapVolumeNode")
    if frame is not None:
        other.SetAndObserveTransformNodeID(frame(a_scene).GetID())
    result = toSegmentation([first, other])
    read, grid = readSegmentation(result.nodes[0])
    assert read.voxels()[0] == 120
    assert read.voxels()[1] == (72 if frame is None else pytest.approx(72, rel=0.4))
    assert result.messages[0].startswith("The grid of 'one' was extended to ")
    assert result.messages[1:] == ["'two' was brought onto the grid of the first label map, nearest neighbour."]
    shift = (np.linalg.inv(grid.ijkToRas) @ MATRIX)[:3, 3]
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-6)


def test_label_maps_too_far_apart_for_one_grid_tell_how_far(a_scene):
    array = np.full((4, 5, 6), 7, np.int16)
    first = add_volume(a_scene, array, np.eye(4), "one", "vtkMRMLLabelMapVolumeNode")
    away = np.eye(4)
    away[:3, 3] = 1e5, 2e5, 3e5
    other = add_volume(a_scene, array, away, "two", "vtkMRMLLabelMapVolumeNode")
    with pytest.raises(VolumeError, match="the label maps reach over 300004 mm, so convert them one by one"):
        toSegmentation([first, other])


def test_labels_of_segments_with_one_value_are_those_of_their_label_map(a_scene):
    made = segmentation_of([LabelMap(np.full((3, 3, 3), 7, np.int16), MATRIX, {7: Label("a")})])[0]
    other = segmentation_of([LabelMap(np.full((3, 3, 3), 7, np.int16), MATRIX, {7: Label("b")})])[0]
    node = publishSegmentation(a_scene, merged([made, other]), "Both")
    labels = {value: label.name for value, label in labelsOfNode(node).items()}
    assert labels == {7: "a", 8: "b"}
    made_of = labelsOfNode(toLabelMaps(node).nodes[0])
    assert {value: label.name for value, label in made_of.items()} == labels


def test_large_colour_table_is_read_a_little_at_a_time(a_scene):
    array = np.full((3, 3, 3), 200_000, np.int32)
    node = publishSegmentation(a_scene, segmentation_of([LabelMap(array, MATRIX, {200_000: Label("far")})])[0], "Far")
    made = toLabelMaps(node).nodes[0]
    steps = list(toSegmentationInSteps([made]))
    assert steps[:9] == [0] * 9


def test_probability_maps_become_segments(a_scene):
    shares = np.random.default_rng(0).dirichlet((1, 1, 1), (5, 6, 7)).astype(np.float32)
    nodes = [add_volume(a_scene, shares[..., n], MATRIX, name) for n, name in enumerate(("liver", "spleen"))]
    result = mostProbable(nodes)
    read, _ = readSegmentation(result.nodes[0])
    assert [segment.label.name for segment in read.segments] == ["liver", "spleen"]
    for number in range(2):
        np.testing.assert_array_equal(read.mask(number), shares.argmax(axis=-1) == number)
    assert list(result.values.values()) == [1, 2]


def test_tag_that_is_no_value_leaves_the_value_of_the_segment(a_scene):
    node, _ = a_small_segmentation(a_scene)
    segment = node.GetSegmentation().GetNthSegment(0)
    expected = segment.GetLabelValue()
    for text in ("\u00b2", "-5", "9" * 30, "many"):
        segment.SetTag("MedGAN.LabelValue", text)
        assert readSegmentation(node)[0].segments[0].known_value == expected


def test_bad_input_is_one_sentence_and_leaves_the_scene_alone(a_scene):
    empty = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Empty")
    half = add_volume(a_scene, np.full((3, 3, 3), 0.5, np.float32), MATRIX, "Half")
    far = add_volume(a_scene, np.full((3, 3, 3), 3e9), MATRIX, "Far")
    moved = MATRIX.copy()
    moved[:, 3] = MATRIX @ [3.0, 0.0, 0.0, 1.0]
    away = add_volume(a_scene, np.full((3, 3, 3), 0.5, np.float32), moved, "Away")
    longer = add_volume(a_scene, np.full((4, 3, 3), 0.5, np.float32), MATRIX, "Longer")
    negative = add_volume(a_scene, np.full((3, 3, 3), -1, np.int16), MATRIX, "Negative", "vtkMRMLLabelMapVolumeNode")
    node, _ = a_small_segmentation(a_scene)
    huge = publishSegmentation(
        a_scene, segmentation_of([LabelMap(np.full((2, 2, 2), 2_000_000, np.int32), MATRIX)])[0], "Huge"
    )
    before = node_ids(a_scene)
    own = ownGridOf(node)
    for call, said in (
        (lambda: toLabelMaps(node, Grid((1000, 100_000, 100_000), own.ijkToRas)), "does not fit into memory: it needs"),
        (lambda: toLabelMaps(node, own.withSpacing((0.0002,) * 3)), "GB are free; take a coarser grid"),
        (lambda: toLabelMaps(empty), "'Empty' has no segments"),
        (lambda: toLabelMaps(node, values=Values.TABLE), "come from a table"),
        (lambda: toLabelMaps(huge), "between 0 and 1000000"),
        (lambda: toSegmentation([half]), "not whole numbers"),
        (lambda: toSegmentation([negative]), "holds the value -1"),
        (lambda: toSegmentation([far]), r"'Far' has voxels up to 3e\+09"),
        (lambda: toSegmentation([node]), "choose a volume or label map"),
        (lambda: toSegmentation([]), "choose a label map"),
        (lambda: mostProbable([negative]), "below zero"),
        (lambda: mostProbable([half, away]), "'Away' lies on another grid than 'Half'"),
        (lambda: mostProbable([half, longer]), "'Longer' lies on another grid than 'Half'"),
        (lambda: readSegmentation(half), "choose a segmentation"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            call()
        assert "\n" not in str(error.value)
        assert node_ids(a_scene) == before
    assert issubclass(VolumeError, ValueError)


def test_file_of_the_command_opens_with_names_colours_values_and_terminology(a_scene, tmp_path):
    original = many_segments(20, (5, 6, 7))
    labelfiles.write(original, tmp_path / "parts.seg.nrrd")
    node = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = a_scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "parts.seg.nrrd"))
    assert storage.ReadData(node)
    read, grid = readSegmentation(node)
    np.testing.assert_allclose(grid.ijkToRas, MATRIX, atol=1e-9)
    for number, (one, other) in enumerate(zip(read.segments, original.segments, strict=True)):
        assert (one.label.name, one.known_value) == (other.label.name, other.known_value)
        assert one.label.color == pytest.approx(other.label.color, abs=1e-6)
        assert not other.label.terminology or one.label.terminology == other.label.terminology
        np.testing.assert_array_equal(read.mask(number), original.mask(number))
    storage.SetFileName(str(tmp_path / "again.seg.nrrd"))
    assert storage.WriteData(node)
    again = labelfiles.read(tmp_path / "again.seg.nrrd")[0]
    for number, segment in enumerate(original.segments):
        assert again.segments[number].known_value == segment.known_value
        np.testing.assert_array_equal(again.mask(number), original.mask(number))


def test_slicer_reads_our_table_and_we_read_slicers(a_scene, tmp_path):
    labels = {7: Label("Hippocampus, left", (0.2, 0.4, 0.6), HIPPOCAMPUS), 900: Label("x's", (1.0, 0.0, 0.0))}
    write_table(labels, tmp_path / "ours.csv")
    node = a_scene.AddNewNodeByClass("vtkMRMLColorTableNode")
    node.SetTypeToUser()
    storage = a_scene.AddNewNodeByClass("vtkMRMLColorTableStorageNode")
    storage.SetFileName(str(tmp_path / "ours.csv"))
    assert storage.ReadData(node)
    assert node.GetColorName(7) == "Hippocampus, left"
    assert node.GetColorName(900) == "x's"
    assert terminology.same(node.GetTerminologyAsString(7), HIPPOCAMPUS)
    storage.SetFileName(str(tmp_path / "theirs.csv"))
    assert storage.WriteData(node)
    assert read_table(tmp_path / "theirs.csv").labels == labels


def test_surfaces_lie_where_the_segments_do(tmp_path):
    array = np.zeros((12, 14, 16), np.uint8)
    array[3:9, 4:10, 5:11] = 1
    held, _, _ = segmentation_of([LabelMap(array, MATRIX, {1: Label("a/b"), 2: Label("none")})], keep_empty=True)
    (file,) = writeSurfaces(held, tmp_path / "new")
    assert file.name == "a_b.stl"
    held.segments[0].label = Label("肝" * 300)
    assert [each.name for each in writeSurfaces(held, tmp_path / "long")] == ["肝" * 60 + ".stl"]
    reader = vtk.vtkSTLReader()
    reader.SetFileName(str(file))
    reader.Update()
    surface = reader.GetOutput()
    middle = np.array(surface.GetCenter()) * (-1, -1, 1)  # files hold LPS
    np.testing.assert_allclose(middle, (MATRIX @ (7.5, 6.5, 5.5, 1))[:3], atol=0.3)
    held.segments[0].label, held.segments[1].label = Label("Liver"), Label("liver")
    array[3:6][array[3:6] == 1] = 2
    names = [each.name for each in writeSurfaces(held, tmp_path / "alike")]
    assert names == ["Liver.stl", "liver Segment_2.stl"]
    mass = vtk.vtkMassProperties()
    mass.SetInputData(surface)
    assert mass.GetVolume() == pytest.approx(216 * abs(np.linalg.det(MATRIX[:3, :3])), rel=0.35)


@pytest.mark.parametrize("left_handed", [True, False])
def test_surfaces_have_their_outside_outside(a_scene, left_handed):
    array = np.zeros((12, 14, 16), np.uint8)
    array[3:9, 4:10, 5:11] = 1
    matrix = oblique_matrix(left_handed=left_handed)
    node = publishSegmentation(a_scene, segmentation_of([LabelMap(array, matrix)])[0], "Parts")
    showSurfaces(node)
    surface = node.GetSegmentation().GetSegment("Segment_1").GetRepresentation("Closed surface")
    triangles = vtk.vtkTriangleFilter()
    triangles.SetInputData(surface)
    triangles.Update()
    held = triangles.GetOutput()
    places = vtk_to_numpy(held.GetPoints().GetData()).astype(float)
    places -= places.mean(axis=0)
    a, b, c = places[vtk_to_numpy(held.GetPolys().GetConnectivityArray()).reshape(-1, 3)].transpose(1, 0, 2)
    volume_mm3 = np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6
    assert volume_mm3 == pytest.approx(216 * abs(np.linalg.det(matrix[:3, :3])), rel=0.35)
    normals = vtk_to_numpy(surface.GetPointData().GetNormals())
    outwards = vtk_to_numpy(surface.GetPoints().GetData()) - surface.GetCenter()
    assert np.einsum("ni,ni->n", normals, outwards).mean() > 0
