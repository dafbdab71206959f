"""A result lies where its source lies, whatever the grid and the transforms above it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from scene_tools import add_volume, array_of, matrix_of, noisy_box, oblique_matrix, to_vtk_matrix, world_corners
from vtk.util.numpy_support import vtk_to_numpy

from MedGANSlicerLib.SceneBridge import labelMapFromNode, publishVolume, volumeFromNode

NEAR_MM = 1e-4


def a_linear_transform(scene, matrix, parent=None):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Linear")
    node.SetMatrixTransformToParent(to_vtk_matrix(matrix))
    node.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
    return node


def a_grid_transform(scene):
    """Displacements of several mm, different at each grid point."""
    grid = vtk.vtkImageData()
    grid.SetDimensions(6, 6, 6)
    grid.SetSpacing(60, 60, 60)
    grid.SetOrigin(-150, -150, -150)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    vectors = vtk_to_numpy(grid.GetPointData().GetScalars())
    vectors[:] = np.random.default_rng(1).normal(0, 6, vectors.shape)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetDisplacementGridData(grid)
    transform.SetInterpolationModeToCubic()  # the only one that a scene file remembers
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "Grid")
    node.SetAndObserveTransformToParent(transform)
    return node


def a_bspline_transform(scene):
    coefficients = vtk.vtkImageData()
    coefficients.SetDimensions(7, 7, 7)
    coefficients.SetSpacing(60, 60, 60)
    coefficients.SetOrigin(-180, -180, -180)
    coefficients.AllocateScalars(vtk.VTK_DOUBLE, 3)
    vectors = vtk_to_numpy(coefficients.GetPointData().GetScalars())
    vectors[:] = np.random.default_rng(2).normal(0, 6, vectors.shape)
    transform = slicer.vtkOrientedBSplineTransform()
    transform.SetCoefficientData(coefficients)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "BSpline")
    node.SetAndObserveTransformToParent(transform)
    return node


def published(node):
    """The node made from what was read from ``node``; its values are 3 higher."""
    volume = volumeFromNode(node)
    return publishVolume(node.GetScene(), volume.like(volume.array + 3), node, "result", {})


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("spacing_mm", [(0.7, 1.1, 2.3), (0.33, 0.33, 5.0)])
def test_volume_from_an_oblique_node_has_its_matrix_and_voxels(a_scene, left_handed, spacing_mm):
    matrix = oblique_matrix(spacing_mm, left_handed=left_handed)
    assert (np.linalg.det(matrix[:3, :3]) < 0) == left_handed
    node = add_volume(a_scene, noisy_box(), matrix)

    volume = volumeFromNode(node)

    assert np.abs(volume.ijk_to_ras - matrix).max() < 1e-10
    assert volume.spacing_mm == pytest.approx(spacing_mm)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, noisy_box().astype(np.float32))
    # The array's last axis is i: the node itself says which value lies at (i, j, k) = (8, 1, 5).
    assert volume.array[5, 1, 8] == node.GetImageData().GetScalarComponentAsDouble(8, 1, 5, 0)


def test_volume_is_a_copy(a_volume_node):
    volumeFromNode(a_volume_node).array[:] = -1
    assert np.array_equal(array_of(a_volume_node), noisy_box())
    floats = add_volume(a_volume_node.GetScene(), noisy_box(voxel_type="float32"), np.eye(4))
    volumeFromNode(floats).array[:] = -1
    assert np.array_equal(array_of(floats), noisy_box(voxel_type="float32"))


def test_parent_transform_is_not_in_the_volume(a_scene, an_oblique_volume_node):
    before = volumeFromNode(an_oblique_volume_node).ijk_to_ras
    turned = a_linear_transform(a_scene, oblique_matrix((1, 1, 1)))
    an_oblique_volume_node.SetAndObserveTransformNodeID(turned.GetID())
    assert np.array_equal(volumeFromNode(an_oblique_volume_node).ijk_to_ras, before)


def test_result_of_an_oblique_left_handed_volume_lies_on_its_source(an_oblique_volume_node):
    result = published(an_oblique_volume_node)
    assert np.abs(matrix_of(result) - oblique_matrix(left_handed=True)).max() < 1e-10
    assert np.abs(world_corners(result) - world_corners(an_oblique_volume_node)).max() < NEAR_MM
    assert slicer.vtkSlicerVolumesLogic().CompareVolumeGeometry(an_oblique_volume_node, result) == ""
    assert np.array_equal(array_of(result), noisy_box() + 3)


def test_result_lies_on_its_source_under_nested_linear_transforms(a_scene, an_oblique_volume_node):
    outer, inner = oblique_matrix((1, 1, 1)), np.diag([1.5, 0.8, -1.0, 1.0])
    inner[:3, 3] = [3, -20, 11]
    parent = a_linear_transform(a_scene, inner, a_linear_transform(a_scene, outer))
    an_oblique_volume_node.SetAndObserveTransformNodeID(parent.GetID())

    result = published(an_oblique_volume_node)

    assert result.GetParentTransformNode() is parent
    k, j, i = (n - 1 for n in noisy_box().shape)
    last = outer @ inner @ oblique_matrix(left_handed=True) @ [i, j, k, 1]
    assert np.abs(world_corners(result)[-1] - last[:3]).max() < NEAR_MM
    assert np.abs(world_corners(result) - world_corners(an_oblique_volume_node)).max() < NEAR_MM


@pytest.mark.parametrize("kind", [a_grid_transform, a_bspline_transform])
def test_result_lies_on_its_source_under_a_non_linear_transform(a_scene, an_oblique_volume_node, kind):
    straight = world_corners(an_oblique_volume_node)
    warp = kind(a_scene)
    an_oblique_volume_node.SetAndObserveTransformNodeID(a_linear_transform(a_scene, np.eye(4), warp).GetID())
    bent = world_corners(an_oblique_volume_node)
    moves = bent - straight
    assert np.linalg.norm(moves, axis=1).max() > 1, "the transform must move the volume, or this proves nothing"
    assert np.abs(moves - moves.mean(axis=0)).max() > 0.1, "and bend it"

    result = published(an_oblique_volume_node)

    assert np.abs(world_corners(result) - bent).max() < NEAR_MM
    assert np.array_equal(array_of(result), noisy_box() + 3), "voxels must not be resampled"


def test_result_follows_when_the_transform_is_changed_later(a_scene, an_oblique_volume_node):
    transform = a_linear_transform(a_scene, np.eye(4))
    an_oblique_volume_node.SetAndObserveTransformNodeID(transform.GetID())
    result = published(an_oblique_volume_node)
    transform.SetMatrixTransformToParent(to_vtk_matrix(oblique_matrix()))
    assert np.abs(world_corners(result) - world_corners(an_oblique_volume_node)).max() < NEAR_MM


def test_result_on_another_grid_keeps_that_grid(a_scene, an_oblique_volume_node):
    volume = volumeFromNode(an_oblique_volume_node)
    half = np.diag([0.5, 0.5, 0.5, 1.0])
    half[:3, 3] = -0.25
    fine = type(volume)(np.repeat(np.repeat(np.repeat(volume.array, 2, 0), 2, 1), 2, 2), volume.ijk_to_ras @ half)
    result = publishVolume(a_scene, fine, an_oblique_volume_node, "fine", {})
    bounds, fine_bounds = [0.0] * 6, [0.0] * 6
    an_oblique_volume_node.GetRASBounds(bounds)
    result.GetRASBounds(fine_bounds)
    assert fine_bounds == pytest.approx(bounds, abs=NEAR_MM)
    assert result.GetSpacing() == pytest.approx((0.35, 0.55, 1.15))


def test_single_slice_keeps_its_place(a_scene):
    node = add_volume(a_scene, noisy_box((1, 12, 9)), oblique_matrix())
    result = published(node)
    assert result.GetImageData().GetDimensions() == (9, 12, 1)
    assert np.abs(world_corners(result) - world_corners(node)).max() < NEAR_MM


def test_label_map_is_read_with_values_names_colours_and_place(a_scene):
    labels = np.zeros(noisy_box().shape, np.int16)
    labels[2:4], labels[5, 3:6], labels[6, 1, 1] = 3, 41, 300
    colors = slicer.vtkMRMLColorTableNode()
    colors.SetTypeToUser()
    colors.SetNumberOfColors(302)
    colors.SetColor(3, "liver", 0.8, 0.2, 0.4, 1.0)
    colors.SetColor(41, "left kidney", 0.0, 0.6, 1.0, 1.0)
    colors.SetColor(300, "spleen", 1.0, 1.0, 0.0, 1.0)
    a_scene.AddNode(colors)
    source = add_volume(a_scene, labels, oblique_matrix(), "Organs", "vtkMRMLLabelMapVolumeNode")
    source.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    transform = a_linear_transform(a_scene, oblique_matrix((1, 1, 1)))
    source.SetAndObserveTransformNodeID(transform.GetID())

    label_map = labelMapFromNode(source)
    assert {value: label.name for value, label in label_map.labels.items()} == {
        3: "liver",
        41: "left kidney",
        300: "spleen",
    }
    assert label_map.labels[41].color == pytest.approx((0.0, 0.6, 1.0), abs=1 / 255)
    assert np.array_equal(label_map.array, labels)
    assert np.abs(label_map.ijk_to_ras - oblique_matrix()).max() < 1e-9
