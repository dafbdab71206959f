"""A conversion that is driven a little at a time: it can be cancelled, and is dropped when its source goes away."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scene_tools import add_volume, array_of, node_ids, oblique_matrix

from medgan.job import JobStatus
from medgan.labels import segmentation_of
from medgan.settings.convert import ConvertSettings, Direction, GridChoice
from medgan.volume import LabelMap
from MedGANSlicerLib import ConvertRun
from MedGANSlicerLib.ConvertRun import conversion
from MedGANSlicerLib.SegmentationBridge import publishSegmentation

MATRIX = oblique_matrix()


@pytest.fixture
def a_segmentation(a_scene):
    array = np.random.default_rng(0).choice([0, 3, 900], (40, 30, 20)).astype(np.int16)
    return publishSegmentation(a_scene, segmentation_of([LabelMap(array, MATRIX)])[0], "Parts")


@pytest.fixture
def in_small_steps(monkeypatch):
    """Every call does one step only, of few voxels: the clock goes on by one with every look at it."""
    ticks = itertools.count()
    monkeypatch.setattr(ConvertRun, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    monkeypatch.setattr(ConvertRun, "BUDGET_S", 1.5)
    monkeypatch.setattr("medgan.segments._SLAB_VOXELS", 600)


def test_run_makes_the_label_map_in_the_end(a_scene, a_segmentation, in_small_steps):
    run = conversion(ConvertSettings(), a_segmentation)
    before = node_ids(a_scene)
    fractions = []
    while (state := run.poll()).status is JobStatus.RUNNING:
        fractions.append(state.fraction)
        assert node_ids(a_scene) == before
    assert state.status is JobStatus.DONE
    assert len(fractions) > 50
    assert fractions == sorted(fractions)
    assert array_of(run.publish().nodes[0]).max() == 900
    run.close()


def test_cancelled_run_makes_nothing(a_scene, a_segmentation, in_small_steps):
    before = node_ids(a_scene)
    run = conversion(ConvertSettings(), a_segmentation)
    assert run.poll().status is JobStatus.RUNNING
    run.cancel()
    assert run.poll().status is JobStatus.CANCELLED
    assert run.publish() is None
    assert node_ids(a_scene) == before


def test_run_is_dropped_when_its_source_leaves_or_changes(a_scene, a_segmentation, in_small_steps):
    run = conversion(ConvertSettings(), a_segmentation)
    run.poll()
    a_segmentation.GetSegmentation().GetSegment("Segment_3").GetRepresentation("Binary labelmap").Modified()
    state = run.poll()
    assert state.status is JobStatus.CANCELLED
    assert run.dropped == "'Parts' was changed meanwhile, so nothing was converted; start again."
    node = add_volume(a_scene, np.ones((20, 30, 40), np.int16), MATRIX, "Map", "vtkMRMLLabelMapVolumeNode")
    run = conversion(ConvertSettings(direction=Direction.TO_SEGMENTATION), volumeNodes=[node, None])
    run.poll()
    a_scene.RemoveNode(node)
    run.poll()
    assert run.dropped == "'Map' has left the scene, so nothing was converted."
    assert run.publish() is None


def test_run_is_dropped_when_its_source_is_moved(a_scene, a_segmentation, in_small_steps):
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    a_segmentation.SetAndObserveTransformNodeID(transform.GetID())
    run = conversion(ConvertSettings(), a_segmentation)
    assert run.poll().status is JobStatus.RUNNING
    before = node_ids(a_scene)
    a_scene.RemoveNode(transform)
    assert run.poll().status is JobStatus.CANCELLED
    assert run.dropped == "'Parts' was changed meanwhile, so nothing was converted; start again."
    assert node_ids(a_scene) < before


def test_probability_maps_are_converted_a_little_at_a_time(a_scene, in_small_steps):
    shares = np.random.default_rng(0).dirichlet((1, 1, 1), (20, 30, 40)).astype(np.float32)
    nodes = [add_volume(a_scene, shares[..., n], MATRIX, name) for n, name in enumerate(("liver", "spleen"))]
    run = conversion(ConvertSettings(direction=Direction.TO_SEGMENTATION, probabilities=True), volumeNodes=nodes)
    polls = 0
    while run.poll().status is JobStatus.RUNNING:
        polls += 1
    assert polls > 50
    assert len(run.publish().values) == 2


def test_settings_choose_grid_and_kind(a_scene, a_segmentation):
    coarse = ConvertSettings(grid=GridChoice.SPACING, spacing_mm=5.0)
    run = conversion(coarse, a_segmentation)
    while run.poll().status is JobStatus.RUNNING:
        pass
    np.testing.assert_allclose(run.publish().nodes[0].GetSpacing(), (5, 5, 5))
    share = add_volume(a_scene, np.full((3, 4, 5), 0.8, np.float32), MATRIX, "liver")
    run = conversion(ConvertSettings(direction=Direction.TO_SEGMENTATION, probabilities=True), volumeNodes=[share])
    while run.poll().status is JobStatus.RUNNING:
        pass
    assert run.publish().nodes[0].GetSegmentation().GetNthSegment(0).GetName() == "liver"
    with pytest.raises(ValueError, match="No volume was chosen for the grid"):
        conversion(ConvertSettings(grid=GridChoice.VOLUME), a_segmentation)


def test_run_without_a_segmentation_is_refused():
    with pytest.raises(ValueError, match="choose a segmentation"):
        conversion(ConvertSettings(), None)
