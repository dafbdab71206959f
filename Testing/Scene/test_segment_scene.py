"""Segments of a network in a real scene: exact voxels, names, colours, places, and nothing left after a failure."""

from __future__ import annotations

import numpy as np
import pytest
import quick_segment
import vtk
from scene_tools import add_volume, matrix_of, node_ids, noisy_box, oblique_matrix, under_a_transform

from medgan.settings import SegmentSettings
from medgan.volume import VolumeError
from MedGANSlicerLib import SegmentNodes
from MedGANSlicerLib.SegmentationBridge import readSegmentation
from MedGANSlicerLib.SegmentGrids import volumeGrid
from MedGANSlicerLib.SegmentNodes import publishSegments, segmentInputs
from scene_reading import rows_of


def segmented(node, **changes):
    settings = SegmentSettings(model="quick", **changes)
    return quick_segment.run(segmentInputs([node]), settings, lambda fraction, message="": None)


def labels_in(segmentation_node, volume_node) -> np.ndarray:
    """The label values of the segments on the grid of a volume, through both parent transforms."""
    held, grid = readSegmentation(segmentation_node, volumeGrid(volume_node))
    result = np.zeros(grid.shape, int)
    for number, segment in enumerate(held.segments):
        result[held.mask(number)] = segment.known_value
    return result


def test_segments_lie_on_their_volume_with_names_colours_and_values(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    outputs = segmented(node, uncertainty=True)
    result = publishSegments(outputs, node, matrix_of(node))
    held = result.segmentation.GetSegmentation()
    found = {held.GetSegment(each).GetName(): held.GetSegment(each) for each in held.GetSegmentIDs()}
    assert set(found) == {"dim", "bright"}
    assert found["bright"].GetColor() == pytest.approx((0.9, 0.1, 0.2))
    assert result.segmentation.GetParentTransformNode() is node.GetParentTransformNode()
    assert np.array_equal(labels_in(result.segmentation, node), outputs.volumes["labels"].array)
    assert result.segmentation.GetAttribute("MedGAN.Model") == "quick"
    assert result.segmentation.GetAttribute("MedGAN.Synthetic") is None
    assert result.segmentation.GetNodeReference("MedGAN.Source") is node
    assert result.uncertainty.GetParentTransformNode() is node.GetParentTransformNode()
    assert matrix_of(result.uncertainty) == pytest.approx(matrix_of(node))


def test_table_holds_volumes_and_intensities(a_volume_node):
    outputs = segmented(a_volume_node)
    table = publishSegments(outputs, a_volume_node, matrix_of(a_volume_node)).table
    rows = {row["name"]: row for row in rows_of(table)}
    voxels = noisy_box()
    mask = outputs.volumes["labels"].array == 41
    assert rows["bright"]["voxels"] == mask.sum()
    assert rows["bright"]["volume_ml"] == pytest.approx(mask.sum() / 1000)
    assert rows["bright"]["mean"] == pytest.approx(voxels[mask].mean(), rel=1e-5)
    assert rows["bright"]["sd"] == pytest.approx(voxels[mask].std(), rel=1e-5)
    assert rows["absent"]["voxels"] == 0
    assert np.isnan(rows["absent"]["mean"])
    assert table.GetColumnUnitLabel("volume_ml") == "ml"


def test_failure_leaves_the_scene_as_it_was(a_scene, a_volume_node, monkeypatch):
    outputs = segmented(a_volume_node, uncertainty=True)
    given = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    given.CreateDefaultDisplayNodes()
    given.GetSegmentation().AddEmptySegment("kept", "Kept")
    a_scene.AddNewNodeByClass("vtkMRMLColorTableNode")
    monkeypatch.setattr(SegmentNodes, "_tell", broken)
    publishSegments_fails(outputs, a_volume_node, given)  # makes the colour table of uncertainty maps, which stays
    before = node_ids(a_scene)
    publishSegments_fails(outputs, a_volume_node, given)
    assert node_ids(a_scene) == before
    assert list(given.GetSegmentation().GetSegmentIDs()) == ["kept"]
    publishSegments_fails(outputs, a_volume_node, None)
    assert node_ids(a_scene) == before


def broken(*_arguments) -> None:
    raise RuntimeError("no")


def publishSegments_fails(outputs, node, given) -> None:
    with pytest.raises(RuntimeError, match="no"):
        publishSegments(outputs, node, matrix_of(node), given)


def test_given_segmentation_is_filled_anew(a_scene, a_volume_node):
    given = a_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    given.GetSegmentation().AddEmptySegment("old", "Old")
    result = publishSegments(segmented(a_volume_node), a_volume_node, matrix_of(a_volume_node), given)
    assert result.segmentation is given
    names = {given.GetSegmentation().GetSegment(each).GetName() for each in given.GetSegmentation().GetSegmentIDs()}
    assert names == {"dim", "bright"}
    assert result.table.GetName() == "Mine volumes"


def test_result_follows_a_volume_whose_transform_was_hardened(a_scene, an_oblique_volume_node):
    node = under_a_transform(a_scene, an_oblique_volume_node)
    outputs, matrix = segmented(node), matrix_of(node)
    node.HardenTransform()
    result = publishSegments(outputs, node, matrix)
    assert np.array_equal(labels_in(result.segmentation, node), outputs.volumes["labels"].array)


def test_channels_come_into_the_frame_of_the_first(a_scene):
    first = under_a_transform(a_scene, add_volume(a_scene, noisy_box(), oblique_matrix(), "T1"))
    second = add_volume(a_scene, noisy_box((5, 6, 7)), np.diag([2.0, 2.0, 3.0, 1.0]), "FLAIR")
    inputs = segmentInputs([first, second])
    world_to_first = np.linalg.inv(oblique_matrix((1.2, 0.9, 1.1)))
    assert inputs["volume 2"].ijk_to_ras == pytest.approx(world_to_first @ np.diag([2.0, 2.0, 3.0, 1.0]))
    assert inputs["volume"].ijk_to_ras == pytest.approx(oblique_matrix())


def test_channel_under_a_bending_transform_is_refused(a_scene, a_volume_node):
    bent = add_volume(a_scene, noisy_box(), np.eye(4), "Bent")
    transform = a_scene.AddNewNodeByClass("vtkMRMLTransformNode", "Spline")
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    places = ((0, 0, 0), (30, 0, 0), (0, 30, 0), (0, 0, 30), (9, 9, 9))
    for points, shift in (("Source", 0), ("Target", 4)):
        held = vtk.vtkPoints()
        for number, place in enumerate(places):
            held.InsertNextPoint([each + shift * (number == 4) for each in place])
        getattr(spline, f"Set{points}Landmarks")(held)
    transform.SetAndObserveTransformToParent(spline)
    bent.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(ValueError, match="'Bent' lies under a transform that bends it"):
        segmentInputs([a_volume_node, bent])
    with pytest.raises(ValueError, match="'Bent' lies under a transform that bends it"):
        segmentInputs([bent, a_volume_node])


def test_nothing_chosen_is_said(a_scene):
    with pytest.raises(VolumeError, match="choose a volume"):
        segmentInputs([None])
