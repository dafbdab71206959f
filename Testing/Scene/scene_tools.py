"""What several scene tests need: nodes with known voxels and places, and ways to measure them."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from scene_report import a_report
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

from medgan.tasks import Outputs
from medgan.volume import Volume


def oblique_matrix(spacing_mm=(0.7, 1.1, 2.3), *, left_handed=False) -> np.ndarray:
    """IJK to RAS of a grid turned about all three axes, far from the origin."""
    a, b, c = np.deg2rad([20.0, -35.0, 50.0])
    about_r = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_a = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_s = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix = np.eye(4)
    steps_mm = np.array(spacing_mm) * [1, 1, -1 if left_handed else 1]
    matrix[:3, :3] = about_r @ about_a @ about_s @ np.diag(steps_mm)
    matrix[:3, 3] = [112.25, -87.5, 40.125]
    return matrix


def noisy_box(shape=(7, 12, 9), voxel_type="int16") -> np.ndarray:
    """A bright box in a dark field with noise, odd-sized, the same at every call; 100 to 1000 (8 bit: 10 to 100)."""
    array = np.full(shape, 100.0)
    array[tuple(slice(n // 4, n - n // 4) for n in shape)] = 900.0
    array += np.random.default_rng(5).normal(0, 20, shape)
    return (array / 10 if np.dtype(voxel_type).itemsize == 1 else array).astype(voxel_type)


def to_vtk_matrix(matrix: np.ndarray) -> vtk.vtkMatrix4x4:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=float).ravel().tolist())
    return result


def image_of(array: np.ndarray) -> vtk.vtkImageData:
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True, array_type=get_vtk_array_type(array.dtype))
    image.GetPointData().SetScalars(scalars)
    return image


def add_volume(scene, array, ijk_to_ras, name="MRHead", class_name="vtkMRMLScalarVolumeNode"):
    node = scene.AddNewNodeByClass(class_name, name)
    node.SetAndObserveImageData(image_of(array))
    node.SetIJKToRASMatrix(to_vtk_matrix(ijk_to_ras))
    node.CreateDefaultDisplayNodes()
    return node


def array_of(node) -> np.ndarray:
    image = node.GetImageData()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def matrix_of(node) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array(matrix.GetData()).reshape(4, 4)


def world_corners(node) -> np.ndarray:
    """RAS world coordinates in mm of the eight corner voxels, through all parent transforms, as Slicer maps them."""
    to_world = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, to_world)
    i, j, k = (n - 1 for n in node.GetImageData().GetDimensions())
    corners = [(x, y, z, 1) for x in (0, i) for y in (0, j) for z in (0, k)]
    return np.array([to_world.TransformPoint((matrix_of(node) @ corner)[:3]) for corner in corners])


def node_ids(scene) -> set[str]:
    return {node.GetID() for node in scene.GetNodes()}


def outputs_like(volume: Volume, change: float = 5.0) -> Outputs:
    """Outputs of a task that added ``change`` to every voxel of ``volume``."""
    difference = volume.like(np.full(volume.shape, change), "float32")
    return Outputs({"volume": volume.like(volume.array + change), "difference": difference}, a_report())
