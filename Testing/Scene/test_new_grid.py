"""Results on another grid than their input, the maps beside them, and the places to check."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import slicer
from scene_tools import (
    add_volume,
    array_of,
    finer_outputs,
    matrix_of,
    node_ids,
    noisy_box,
    oblique_matrix,
    outputs_like,
    to_vtk_matrix,
    to_world,
    under_a_transform,
    world_corners,
)

from medgan.gridplan import planned
from medgan.guards import named_places
from medgan.job import Job, JobStatus
from medgan.settings import Axis, Device, EnhanceSettings
from medgan.volume import Volume
from MedGANSlicerLib import Places, Preview, TaskLogic
from MedGANSlicerLib.SceneBridge import volumeFromNode


def world_grid(node) -> np.ndarray:
    """World RAS mm of every voxel centre, [k, j, i, 3]."""
    k, j, i = np.indices(array_of(node).shape)
    own = np.stack([i, j, k, np.ones_like(i)], -1) @ matrix_of(node).T
    place = to_world(node)
    return np.array([place(each[:3]) for each in own.reshape(-1, 4)]).reshape(*i.shape, 3)


@pytest.fixture
def a_moved_node(a_scene, an_oblique_volume_node):
    """Oblique, left-handed, 0.7 x 1.1 x 2.3 mm, under a transform that stretches."""
    return under_a_transform(a_scene, an_oblique_volume_node)


@pytest.fixture
def published(a_moved_node):
    return TaskLogic.publish(finer_outputs(volumeFromNode(a_moved_node)), a_moved_node)


def test_ramp_keeps_its_world_position_on_a_finer_grid(a_scene):
    """The value of every voxel is its R coordinate in the world; so it must be after the slices were divided anew."""
    node = under_a_transform(a_scene, add_volume(a_scene, noisy_box(), oblique_matrix(left_handed=True), "Ramp"))
    node.SetAndObserveImageData(add_volume(a_scene, world_grid(node)[..., 0], np.eye(4)).GetImageData())
    outputs = finer_outputs(volumeFromNode(node))
    coarse = volumeFromNode(node).array
    # A ramp is linear along k: new slices lie a third of a slice from the old ones.
    step = (coarse[-1] - coarse[0]) / (len(coarse) - 1)
    places = (np.arange(3 * len(coarse)) + 0.5) / 3 - 0.5
    fine = coarse[0] + places[:, None, None] * step
    outputs.volumes["volume"] = Volume(fine, outputs.volumes["volume"].ijk_to_ras)

    result = TaskLogic.publish(outputs, node).volume

    assert array_of(result).shape == (21, 12, 9)
    assert np.abs(world_grid(result)[..., 0] - array_of(result)).max() < 1e-3


def test_maps_lie_on_the_grid_that_they_were_made_on(a_moved_node, published):
    centre = world_corners(a_moved_node).mean(axis=0)
    for node in (published.volume, published.difference, published.uncertainty):
        assert array_of(node).shape == (21, 12, 9)
        assert node.GetSpacing() == pytest.approx((0.7, 1.1, 2.3 / 3))
        assert np.abs(world_corners(node).mean(axis=0) - centre).max() < 1e-4, "the centre of the field of view is kept"
        assert node.GetTransformNodeID() == a_moved_node.GetTransformNodeID()
    assert array_of(published.residual).shape == (7, 12, 9)
    assert np.abs(world_corners(published.residual) - world_corners(a_moved_node)).max() < 1e-4


def test_result_on_a_new_grid_looks_like_its_input(a_scene, a_moved_node):
    display = a_moved_node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(640, 512)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    result = TaskLogic.publish(finer_outputs(volumeFromNode(a_moved_node)), a_moved_node).volume
    assert array_of(result).dtype == np.int16
    assert np.array_equal(array_of(result), np.repeat(noisy_box(), 3, axis=0))
    shown = result.GetDisplayNode()
    assert (shown.GetWindow(), shown.GetLevel()) == (640, 512)
    assert shown.GetColorNodeID() == "vtkMRMLColorTableNodeIron"


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        (["noise"], "Oblique denoised"),
        (["blur"], "Oblique deblurred"),
        (["resolution"], "Oblique super-resolved"),
        (["noise", "resolution"], "Oblique enhanced"),
        (["noise", "blur", "resolution"], "Oblique enhanced"),
    ],
)
def test_nodes_are_named_by_what_was_done(a_moved_node, steps, name):
    nodes = TaskLogic.publish(finer_outputs(volumeFromNode(a_moved_node), steps=steps), a_moved_node)
    assert [node.GetName() for node in nodes.present()] == [
        name,
        f"{name} difference",
        f"{name} residual",
        f"{name} uncertainty",
        f"{name} to check",
    ]


def test_residual_and_uncertainty_have_windows_that_fit_them(published):
    noise = np.random.default_rng(2).normal(0, 20, (7, 12, 9)).astype(np.float32)
    assert np.array_equal(array_of(published.residual), noise)
    reach = np.percentile(np.abs(noise), 99.5)
    residual, uncertainty = published.residual.GetDisplayNode(), published.uncertainty.GetDisplayNode()
    assert residual.GetWindowLevelMin() == pytest.approx(-reach, rel=1e-5)
    assert residual.GetWindowLevelMax() == pytest.approx(reach, rel=1e-5)
    assert residual.GetColorNode().GetName() == "MedGAN difference"
    assert uncertainty.GetWindowLevelMin() == 0.0
    assert uncertainty.GetWindowLevelMax() == pytest.approx(199.0, rel=1e-3)
    table = uncertainty.GetColorNode().GetLookupTable()
    lightness = np.array([np.dot(table.GetTableValue(row)[:3], (0.21, 0.72, 0.07)) for row in range(256)])
    assert (np.diff(lightness) > -1e-6).all(), "the map must be readable in grey"
    assert (lightness[0], lightness[-1]) == pytest.approx((0.0, 0.96), abs=0.03)
    assert not residual.GetAutoWindowLevel()
    assert not uncertainty.GetAutoWindowLevel()


def test_nodes_say_how_they_were_made(published):
    contents = ["result minus input", "result measured again minus input", "standard deviation of the model's answers"]
    assert published.volume.GetAttribute("MedGAN.Content") is None
    assert [node.GetAttribute("MedGAN.Content") for node in published.present()[1:]] == [*contents, "places to check"]
    for node in published.present():
        assert node.GetAttribute("MedGAN.Model") == "denoise+superres"
        assert [step["restores"] for step in json.loads(node.GetAttribute("MedGAN.Steps"))] == ["noise", "resolution"]
        assert json.loads(node.GetAttribute("MedGAN.Consistency"))["residual_rms"] == 3.5
        found = json.loads(node.GetAttribute("MedGAN.Suspicions"))
        assert [each["sentence"] for each in found] == ["Look at (0, 0, 0): unsure.", "Look at (5, 3, 2): contradicts."]
        assert node.GetNodeReference("MedGAN.Source").GetName() == "Oblique"


def test_places_are_points_where_the_anatomy_lies(a_moved_node, published):
    points = published.places
    assert points.GetClassName() == "vtkMRMLMarkupsFiducialNode"
    world = world_grid(a_moved_node)
    for index, (i, j, k) in enumerate([(0, 0, 0), (5, 3, 2)]):
        assert np.abs(np.array(Places.worldPlace(points, index)) - world[k, j, i]).max() < 1e-4
    assert [points.GetNthControlPointLabel(n) for n in range(2)] == ["1 unsure", "2 contradicts"]
    assert Places.sentencesOf(points) == ["Look at (0, 0, 0): unsure.", "Look at (5, 3, 2): contradicts."]
    assert points.GetNumberOfControlPoints() == 2
    assert points.GetLocked()
    transform = a_moved_node.GetParentTransformNode()
    transform.SetMatrixTransformToParent(to_vtk_matrix(np.diag([1.0, 1.0, 1.0, 1.0])))
    assert np.allclose(Places.worldPlace(points, 0), matrix_of(a_moved_node)[:3, 3]), "they move with the anatomy"


def with_findings(outputs):
    """The outputs with places as the engine names them: the sentence, and the finding without the place."""
    values = np.zeros((7, 12, 9))
    values[1:3, 2:5, 3:6], values[4:6, 7:10, 4:7] = 40.0, -20.0
    outputs.report["suspicions"] = named_places("contradicts", values, 10.0, outputs.volumes["residual"].ijk_to_ras)
    return outputs


def place_in(sentence: str) -> list[float]:
    """The whole RAS mm that a sentence begins with: "At R 10, P 3, S 5 mm (...) the result ..."."""
    found = re.match(r"At ([RL]) (\d+), ([AP]) (\d+), ([SI]) (\d+) mm \(", sentence)
    assert found, sentence
    return [float(found[n + 1]) * (1 if found[n] in "RAS" else -1) for n in (1, 3, 5)]


def test_sentences_name_places_in_the_world_wherever_the_points_go(a_moved_node):
    outputs = with_findings(finer_outputs(volumeFromNode(a_moved_node)))
    points = TaskLogic.publish(outputs, a_moved_node).places
    assert [points.GetNthControlPointDescription(n).split()[0] for n in range(2)] == ["Here", "Here"]
    said = [each["sentence"] for each in outputs.report["suspicions"]]
    assert Places.sentencesOf(points) == said, "the log says what the list says"
    assert Places.worldSentences(outputs.report["suspicions"], a_moved_node) == said
    further = np.eye(4)
    further[:3, 3] = (100, -200, 300)

    def check():
        for number, sentence in enumerate(Places.sentencesOf(points)):
            assert np.abs(np.subtract(place_in(sentence), Places.worldPlace(points, number))).max() <= 0.51
            assert sentence.endswith("off there.")

    check()
    a_moved_node.GetParentTransformNode().SetMatrixTransformToParent(to_vtk_matrix(further))
    assert Places.sentencesOf(points) != said
    check()
    points.HardenTransform()
    check()


def test_sentence_of_a_place_without_a_transform_is_that_of_the_engine(an_oblique_volume_node):
    outputs = with_findings(finer_outputs(volumeFromNode(an_oblique_volume_node)))
    said = [each["sentence"] for each in outputs.report["suspicions"]]
    points = TaskLogic.publish(outputs, an_oblique_volume_node).places
    assert Places.sentencesOf(points) == said
    assert [each["sentence"] for each in outputs.report["suspicions"]] == said


def test_sentences_follow_a_volume_that_was_moved_meanwhile(an_oblique_volume_node):
    outputs = with_findings(finer_outputs(volumeFromNode(an_oblique_volume_node)))
    further = np.eye(4)
    further[:3, 3] = (100, -200, 300)
    for each in Places.moved(outputs.report["suspicions"], further):
        assert np.abs(np.subtract(place_in(each["sentence"]), each["ras_mm"])).max() <= 0.51


def test_nothing_to_check_makes_no_points(a_moved_node):
    outputs = finer_outputs(volumeFromNode(a_moved_node))
    outputs.report["suspicions"] = []
    assert TaskLogic.publish(outputs, a_moved_node).places is None
    assert TaskLogic.publish(outputs_like(volumeFromNode(a_moved_node)), a_moved_node).places is None


def test_scene_without_markups_gets_the_rest(a_scene, a_moved_node, monkeypatch):
    monkeypatch.setattr(Places, "CLASS", "vtkMRMLNoSuchNode")
    nodes = TaskLogic.publish(finer_outputs(volumeFromNode(a_moved_node)), a_moved_node)
    assert nodes.places is None
    assert nodes.uncertainty is not None


@pytest.mark.parametrize("spoil", ["residual", "uncertainty", "places"])
def test_failure_in_any_part_leaves_nothing(a_scene, a_moved_node, spoil):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), a_moved_node)
    nodes, items = node_ids(a_scene), hierarchy.GetNumberOfItems()
    outputs = finer_outputs(volumeFromNode(a_moved_node))
    if spoil == "places":
        outputs.report["suspicions"][1]["ras_mm"] = ["no number", 0, 0]
    else:
        outputs.volumes[spoil].array = outputs.volumes[spoil].array[0]
    with pytest.raises((TypeError, ValueError)):
        TaskLogic.publish(outputs, a_moved_node)
    assert node_ids(a_scene) == nodes
    assert hierarchy.GetNumberOfItems() == items


def test_parts_of_a_result_stand_together_beside_the_input(a_scene, a_moved_node):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, a_moved_node)
    nodes = TaskLogic.publish(finer_outputs(volumeFromNode(a_moved_node)), a_moved_node).present()
    items = [hierarchy.GetItemByDataNode(node) for node in nodes]
    assert {hierarchy.GetItemParent(item) for item in items} == {study}
    places = [hierarchy.GetItemPositionUnderParent(item) for item in items]
    assert places == list(range(places[0], places[0] + 5))


def test_result_that_is_given_keeps_its_folder_and_gathers_its_parts(a_scene, a_moved_node):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Mine")
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), a_moved_node)
    output = add_volume(a_scene, noisy_box((3, 3, 3)), np.eye(4), "Given")
    hierarchy.CreateItem(folder, output)
    nodes = TaskLogic.publish(finer_outputs(volumeFromNode(a_moved_node)), a_moved_node, output)
    assert nodes.volume is output
    assert array_of(output).shape == (21, 12, 9)
    assert nodes.residual.GetName() == "Given residual"
    assert {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes.present()} == {folder}


@pytest.fixture
def finished_run(monkeypatch, tmp_path):
    """``finished_run(node, region=None)``: a run of the quick super-resolution in a child process, at its end."""
    monkeypatch.setattr(Job, "child_script", Path(__file__).with_name("quick_child.py"))

    def start(node, region=None):
        settings = EnhanceSettings(model="superres", device=Device.CPU, uncertainty=True)
        run = TaskLogic.Run(node, settings, region=region, parent_folder=tmp_path)
        end = time.monotonic() + 30
        while (state := run.poll()).status is JobStatus.RUNNING:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert state.status is JobStatus.DONE, state.details
        return run

    return start


def test_every_part_follows_a_transform_that_is_hardened_meanwhile(a_moved_node, finished_run):
    corners = world_corners(a_moved_node)
    place = world_grid(a_moved_node)[1, 1, 1]
    run = finished_run(a_moved_node)
    a_moved_node.HardenTransform()
    nodes = run.publish()
    run.close()
    assert nodes.volume.GetName() == "Oblique super-resolved"
    assert np.abs(world_corners(nodes.residual) - corners).max() < 1e-4
    centres = [world_corners(node).mean(axis=0) for node in (nodes.volume, nodes.difference, nodes.uncertainty)]
    assert np.abs(np.array(centres) - corners.mean(axis=0)).max() < 1e-4
    assert np.abs(np.array(Places.worldPlace(nodes.places, 0)) - place).max() < 1e-4


def test_preview_of_a_super_resolution_lies_on_its_part(a_scene, a_moved_node, finished_run):
    region = (slice(1, 6), slice(2, 9), slice(3, 9))
    corner = world_grid(a_moved_node)[1:6, 2:9, 3:9]
    before = node_ids(a_scene)
    run = finished_run(a_moved_node, region)
    nodes = run.publish()
    run.close()
    shape = array_of(nodes.volume).shape
    assert shape[1:] == (7, 6)
    assert shape[0] == round(5 * 2.3 / 0.7)
    assert np.abs(world_corners(nodes.volume).mean(axis=0) - corner.reshape(-1, 3).mean(axis=0)).max() < 1e-4
    assert np.abs(world_grid(nodes.residual) - corner).max() < 1e-4
    assert [node.GetName().split(" preview")[1] for node in nodes.present()] == [
        "", " difference", " residual", " uncertainty", " to check"
    ]  # fmt: skip
    Preview.removePreviews(a_scene)
    left = [a_scene.GetNodeByID(each) for each in node_ids(a_scene) - before]
    assert {node.GetClassName() for node in left} == {"vtkMRMLColorTableNode"}


def test_voxels_of_a_new_grid_are_counted_to_the_nearest():
    """3.3 / 1.1 is a little less than 3 to a computer."""
    grid = planned((40, 40, 40), (1.1, 1.1, 3.3))
    assert grid.size == (40, 40, 120)
    assert grid.spacing_mm == pytest.approx((1.1, 1.1, 1.1))


GRIDS = [
    ((256, 256, 40), (1.0, 1.0, 4.0)),
    ((31, 40, 27), (0.8, 2.9, 0.7)),
    ((40, 31, 27), (1.0, 1.0, 1.15)),
    ((12, 50, 50), (9.7, 1.0, 1.0)),
    ((64, 64, 3), (1.0, 1.0, 5.0)),
]


@pytest.mark.parametrize(("size", "spacing"), GRIDS)
@pytest.mark.parametrize("axis", list(Axis))
@pytest.mark.parametrize("ratio", [0.0, 1.1, 1.2, 2.5, 8.0])
@pytest.mark.parametrize("gap", [0.0, 0.9])
def test_panel_and_engine_plan_the_same_grid(size, spacing, axis, ratio, gap):
    """What the panel says before PyTorch is there, and what the engine then does."""
    from medgan.restoration.superres import plan
    from medgan.slices import finer_grid

    grid = oblique_matrix(spacing, left_handed=True)
    settings = EnhanceSettings(axis=axis, ratio=ratio, slice_gap_mm=gap)
    try:
        engine = plan(size[::-1], grid, settings)
    except ValueError:
        with pytest.raises(ValueError, match=r".\.$"):
            planned(size, spacing, axis, ratio, gap)
        return
    said = planned(size, spacing, axis, ratio, gap)
    assert said.axes == "ijk" or engine.axes == (2 - "ijk".index(said.axes),)
    assert len(said.axes) == len(engine.axes)
    after = list(size)
    for each, operator in zip(engine.axes, engine.operators, strict=True):
        after[2 - each] = operator.fine
        grid = finer_grid(grid, each, operator.coarse, operator.fine)
    assert said.size == tuple(after)
    assert said.spacing_mm == pytest.approx(np.linalg.norm(grid[:3, :3], axis=0))
