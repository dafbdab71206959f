"""What several scene tests need: nodes with known voxels and places, and ways to measure them."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from scene_report import a_report
from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk, vtk_to_numpy

from medgan.slices import finer_grid
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


def to_world(node):
    """A function from RAS mm of a node to RAS mm of the world, through all parent transforms, as Slicer maps them."""
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, transform)
    return transform.TransformPoint


def under_a_transform(scene, node):
    """The node itself, now under a linear transform that turns, stretches and moves it."""
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    transform.SetMatrixTransformToParent(to_vtk_matrix(oblique_matrix((1.2, 0.9, 1.1))))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def world_corners(node) -> np.ndarray:
    """RAS world coordinates in mm of the eight corner voxels, through all parent transforms, as Slicer maps them."""
    i, j, k = (n - 1 for n in node.GetImageData().GetDimensions())
    corners = [(x, y, z, 1) for x in (0, i) for y in (0, j) for z in (0, k)]
    return np.array([to_world(node)((matrix_of(node) @ corner)[:3]) for corner in corners])


def node_ids(scene) -> set[str]:
    return {node.GetID() for node in scene.GetNodes()}


def outputs_like(volume: Volume, change: float = 5.0) -> Outputs:
    """Outputs of a task that added ``change`` to every voxel of ``volume``."""
    difference = volume.like(np.full(volume.shape, change), "float32")
    return Outputs({"volume": volume.like(volume.array + change), "difference": difference}, a_report())


def finer_outputs(volume: Volume, ratio: int = 3, steps=("noise", "resolution")) -> Outputs:
    """Outputs of a super-resolution by nearest neighbours along k, with every map and two places to check."""
    fine = np.repeat(volume.array, ratio, axis=0)
    grid = finer_grid(volume.ijk_to_ras, 0, len(volume.array), len(fine))
    noise = np.random.default_rng(2).normal(0, 20, volume.shape)
    suspicions = [
        {"ras_mm": (volume.ijk_to_ras @ [*ijk, 1])[:3].tolist(), "kind": kind, "sentence": f"Look at {ijk}: {kind}."}
        for ijk, kind in (((0, 0, 0), "unsure"), ((5, 3, 2), "contradicts"))
    ]
    report = a_report(
        model="denoise+superres",
        model_version="1.2.3+0.1.0",
        model_sha256={"denoise/faithful": "ab" * 32, "superres/faithful": "cd" * 32},
        steps=[{"model": "m", "restores": each, "seconds": 1.0} for each in steps],
        consistency={"residual_rms": 3.5, "residual_sigmas": 0.2},
        suspicions=suspicions,
    )
    volumes = {
        "volume": Volume(fine, grid, {}, volume.voxel_type),
        "difference": Volume(np.full_like(fine, 5.0), grid),
        "residual": volume.like(noise, "float32"),
        "uncertainty": Volume(np.linspace(0, 200, fine.size).reshape(fine.shape), grid),
    }
    return Outputs(volumes, report)
