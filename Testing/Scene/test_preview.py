"""Previews: which voxels they are made of, and where their result lies, on oblique volumes under a transform."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import slicer
from scene_tools import add_volume, array_of, matrix_of, node_ids, oblique_matrix, to_vtk_matrix

from medgan.job import Job, JobStatus
from medgan.settings import Device, EnhanceSettings
from MedGANSlicerLib import Preview, TaskLogic
from MedGANSlicerLib.SceneBridge import volumeFromNode

SHAPE = (60, 21, 33)


@pytest.fixture
def a_long_node(a_scene):
    """int16, 33 x 21 x 60 voxels, each with its own value; oblique, left-handed, under a parent transform."""
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    node = add_volume(a_scene, array, oblique_matrix(left_handed=True), "Long")
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    transform.SetMatrixTransformToParent(to_vtk_matrix(oblique_matrix((1, 1, 1))))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def to_world(node) -> np.ndarray:
    """IJK to RAS of the world, through the parent transform."""
    parent = np.eye(4)
    if node.GetParentTransformNode() is not None:
        import vtk

        matrix = vtk.vtkMatrix4x4()
        slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(node.GetParentTransformNode(), None, matrix)
        parent = np.array(matrix.GetData()).reshape(4, 4)
    return parent @ matrix_of(node)


def slice_through(node, ijk, axis) -> np.ndarray:
    """A slice view centred on a voxel, across one axis of the volume."""
    world = to_world(node)
    view = np.eye(4)
    view[:, 3] = world @ [*ijk, 1.0]
    normal = np.cross(world[:3, (axis + 1) % 3], world[:3, (axis + 2) % 3])
    view[:3, 2] = normal / np.linalg.norm(normal)
    return view


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slab_lies_around_the_slice_across_its_axis(a_long_node, axis, monkeypatch):
    monkeypatch.setattr(Preview, "THICKNESS", 8)
    centre = [16, 10, 40]
    region = Preview.regionAroundSlice(a_long_node, slice_through(a_long_node, centre, axis))
    expected = [(0, 33), (0, 21), (0, 60)]
    expected[axis] = (centre[axis] - 4, centre[axis] + 4)
    assert [(part.start, part.stop) for part in reversed(region)] == expected


def test_slab_stays_inside_and_within_its_size(a_long_node):
    view = slice_through(a_long_node, [16, 10, 59], 2)
    assert Preview.regionAroundSlice(a_long_node, view)[0] == slice(36, 60)
    region = Preview.regionAroundSlice(a_long_node, view, most=4000)
    sizes = [part.stop - part.start for part in region]
    assert sizes[0] == 24
    assert np.prod(sizes) <= 4000
    assert all(part.start >= 0 for part in region)


def test_imagined_view_is_in_the_middle(a_long_node):
    region = Preview.regionAroundSlice(a_long_node, Preview.middleOf(a_long_node))
    assert region == (slice(18, 42), slice(0, 21), slice(0, 33))


def test_cropped_voxels_stay_at_their_place(a_long_node):
    region = (slice(7, 20), slice(3, 9), slice(11, 30))
    part = volumeFromNode(a_long_node, region)
    assert np.array_equal(part.array, array_of(a_long_node)[region])
    assert np.allclose(part.ijk_to_ras @ [2, 1, 3, 1], matrix_of(a_long_node) @ [13, 4, 10, 1])


def a_roi(scene, centre, size):
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    roi.SetCenter(*centre)
    roi.SetSize(*size)
    return roi


def test_region_of_interest_is_covered(a_scene, a_long_node):
    world = to_world(a_long_node)
    centre = (world @ [16, 10, 30, 1])[:3]
    region = Preview.regionOfRoi(a_long_node, a_roi(a_scene, centre, (6.0, 6.0, 6.0)))
    inside = np.linalg.inv(world) @ [*(centre + 2.9), 1]
    for part, side, place in zip(reversed(region), (33, 21, 60), inside[:3], strict=True):
        assert 0 <= part.start <= np.clip(place, 0, side - 1) < part.stop <= side
    assert region[0].stop - region[0].start < 60


def test_region_outside_is_refused(a_scene, a_long_node):
    with pytest.raises(ValueError, match="'Box' lies outside 'Long'"):
        Preview.regionOfRoi(a_long_node, a_roi(a_scene, (9999.0, 0.0, 0.0), (6.0, 6.0, 6.0)))


def test_result_of_a_preview_lies_on_its_part_and_goes_on_request(a_scene, a_long_node, monkeypatch, tmp_path):
    monkeypatch.setattr(Job, "child_script", Path(__file__).with_name("quick_child.py"))
    before = node_ids(a_scene)
    region = (slice(7, 20), slice(3, 9), slice(11, 30))
    run = TaskLogic.Run(
        a_long_node, EnhanceSettings(model="quick", device=Device.CPU), region=region, parent_folder=tmp_path
    )
    end = time.monotonic() + 30
    while run.poll().status is JobStatus.RUNNING and time.monotonic() < end:
        time.sleep(0.02)
    result, difference = run.publish().present()
    run.close()
    assert result.GetName() == "Long denoised preview"
    assert np.array_equal(array_of(result), array_of(a_long_node)[region] + 5)
    assert np.allclose(to_world(result) @ [0, 0, 0, 1], to_world(a_long_node) @ [11, 3, 7, 1])
    assert result.GetTransformNodeID() == a_long_node.GetTransformNodeID()
    Preview.keepPreview(result)
    Preview.removePreviews(a_scene)
    assert a_scene.IsNodePresent(result)
    assert not a_scene.IsNodePresent(difference)
    result.SetAttribute(TaskLogic.PREVIEW, "yes")
    Preview.removePreviews(a_scene)
    assert {identifier for identifier in node_ids(a_scene) - before if "ColorTable" not in identifier} == set()
