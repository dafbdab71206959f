"""A real MRML scene for every test, and every VTK error a failure."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import vtk
from scene_tools import add_volume, noisy_box, oblique_matrix

from MedGANSlicerLib.HeadlessScene import HeadlessScene


@pytest.fixture(autouse=True)
def vtk_messages():
    """An error that VTK or MRML tells of fails the test, unless the test sets ``vtk_messages.expected``."""
    before = vtk.vtkOutputWindow.GetInstance()
    window = vtk.vtkStringOutputWindow()
    vtk.vtkOutputWindow.SetInstance(window)
    messages = SimpleNamespace(expected=False)
    yield messages
    vtk.vtkOutputWindow.SetInstance(before)
    said = window.GetOutput()
    assert ("ERROR" in said) == messages.expected, said


@pytest.fixture
def a_headless_scene():
    with HeadlessScene() as headless:
        yield headless


@pytest.fixture
def a_scene(a_headless_scene):
    return a_headless_scene.scene


@pytest.fixture
def a_volume_node(a_scene):
    """int16, 9 x 12 x 7 voxels of 1 x 1 x 1 mm."""
    return add_volume(a_scene, noisy_box(), np.eye(4))


@pytest.fixture
def an_oblique_volume_node(a_scene):
    """int16, turned about all axes, anisotropic, left-handed."""
    return add_volume(a_scene, noisy_box(), oblique_matrix(left_handed=True), "Oblique")
