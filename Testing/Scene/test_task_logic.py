"""From nodes to nodes: names, provenance, and nothing half-made after a failure, a cancel or a vanished input.

The jobs are real child processes. In these tests a quick task takes the place of the network there (see
``quick_enhance``); ``test_enhance_scene`` runs the network.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from scene_report import a_report
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
    world_corners,
)

from medgan.job import Job, JobStatus
from medgan.progress import Cancelled
from medgan.settings import Device, EnhanceSettings
from medgan.volume import VolumeError
from MedGANSlicerLib import TaskLogic
from MedGANSlicerLib.SceneBridge import volumeFromNode

PATIENCE_S = 30


@pytest.fixture
def jobs_in(monkeypatch, tmp_path):
    """The folder that the jobs of a test are made in; its name has a space and letters beyond ASCII."""
    monkeypatch.setattr(Job, "child_script", Path(__file__).with_name("quick_child.py"))
    folder = tmp_path / "jobs é ü"
    folder.mkdir()
    return folder


def a_setting(model="quick", **changes):
    return EnhanceSettings(model=model, device=Device.CPU, **changes)


def at_end(run):
    """The state of a run once it no longer works."""
    end = time.monotonic() + PATIENCE_S
    while (state := run.poll()).status is JobStatus.RUNNING:
        assert time.monotonic() < end, "the job does not end"
        time.sleep(0.02)
    return state


def started(run):
    """Wait until the child works on the task."""
    end = time.monotonic() + PATIENCE_S
    while run.poll().fraction < 0.5:
        assert run.poll().status is JobStatus.RUNNING, run.poll()
        assert time.monotonic() < end, "the job does not start"
        time.sleep(0.02)


def pid_of(run) -> int:
    return int((run.job.folder / "pid").read_text())


def vanished(pid: int, within_s: float = 5) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_result_and_difference_are_named_after_the_input(a_scene, a_volume_node):
    names = []
    for _ in range(3):
        nodes = TaskLogic.publish(outputs_like(volumeFromNode(a_volume_node)), a_volume_node)
        names += [node.GetName() for node in nodes.present()]
    assert names == [
        "MRHead denoised",
        "MRHead denoised difference",
        "MRHead denoised 1",
        "MRHead denoised 1 difference",
        "MRHead denoised 2",
        "MRHead denoised 2 difference",
    ]


def test_result_says_what_made_it(a_scene, a_volume_node):
    outputs = outputs_like(volumeFromNode(a_volume_node))
    outputs.report["settings"]["model"] = "/home/somebody/models/denoise"
    result, difference = TaskLogic.publish(outputs, a_volume_node).present()
    for node in (result, difference):
        said = {name: node.GetAttribute(name) for name in node.GetAttributeNames() if name.startswith("MedGAN.")}
        settings = json.loads(said.pop("MedGAN.Settings"))
        assert settings == {"model": "denoise", "strength": 1.0, "character": 0.2, "device": "cpu", "seed": 7}
        assert said.pop("MedGAN.Content", "result minus input") == "result minus input"
        assert said == {
            "MedGAN.Model": "denoise",
            "MedGAN.ModelVersion": "1.2.3",
            "MedGAN.ModelSHA256": f'{{"faithful":"{"ab" * 32}","natural":"{"cd" * 32}"}}',
            "MedGAN.Seed": "7",
            "MedGAN.PackageVersion": "0.1.0",
            "MedGAN.Synthetic": "voxels produced by a network",
            "MedGAN.SourceName": "MRHead",
        }
        assert node.GetNodeReference("MedGAN.Source") is a_volume_node
    assert difference.GetAttribute("MedGAN.Content") == "result minus input"
    assert result.GetAttribute("MedGAN.Content") is None


def test_settings_are_recorded_without_tabs(a_volume_node):
    report = a_report(model="tab\there")
    text = TaskLogic.provenance(report, a_volume_node)["MedGAN.Settings"]
    assert "\t" not in text
    assert ": " not in text
    assert json.loads(text)["model"] == "tab\there"


def test_given_node_is_filled(a_scene, a_volume_node):
    output = add_volume(a_scene, noisy_box((3, 3, 3)), np.eye(4), "Mine")
    result, difference = TaskLogic.publish(outputs_like(volumeFromNode(a_volume_node)), a_volume_node, output).present()
    assert result is output
    assert [result.GetName(), difference.GetName()] == ["Mine", "Mine difference"]
    assert np.array_equal(array_of(output), noisy_box() + 5)


def test_maps_and_places_of_an_output_are_filled_with_it_and_go_with_it(a_scene, a_volume_node, an_oblique_volume_node):
    def names() -> set[str]:
        nodes = [node for node in a_scene.GetNodes() if not node.GetHideFromEditors()]
        return {node.GetName() for node in nodes if node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLMarkupsNode")}

    first = TaskLogic.publish(finer_outputs(volumeFromNode(a_volume_node)), a_volume_node)
    had = names()
    again = finer_outputs(volumeFromNode(an_oblique_volume_node))
    again.volumes["residual"].array += 50
    again.report["suspicions"] = again.report["suspicions"][:1]
    second = TaskLogic.publish(again, an_oblique_volume_node, first.volume)
    assert second == first
    assert names() == had
    assert second.difference.GetAttribute("MedGAN.SourceName") == "Oblique"
    assert np.allclose(array_of(second.residual), again.volumes["residual"].array)
    assert second.places.GetNumberOfControlPoints() == 1
    broken = outputs_like(volumeFromNode(a_volume_node), 7.0)
    broken.volumes["residual"] = dataclasses.replace(broken.volumes["difference"])
    broken.volumes["residual"].array = broken.volumes["residual"].array[0]
    with pytest.raises(TypeError):
        TaskLogic.publish(broken, a_volume_node, first.volume)
    assert names() == had
    assert (array_of(second.difference) == again.volumes["difference"].array).all()
    assert second.places.GetNumberOfControlPoints() == 1
    third = TaskLogic.publish(outputs_like(volumeFromNode(a_volume_node), 7.0), a_volume_node, first.volume)
    assert third.present() == [first.volume, first.difference]
    assert (array_of(third.difference) == 7).all()
    assert had - names() == {node.GetName() for node in first.present()[2:]}
    assert not any(a_scene.IsNodePresent(node) for node in first.present()[2:])


def test_copies_of_maps_and_the_input_itself_stay_as_they_are(a_scene, a_volume_node):
    first = TaskLogic.publish(outputs_like(volumeFromNode(a_volume_node)), a_volume_node)
    copy = a_scene.AddNode(first.difference.NewInstance())
    copy.CopyContent(first.difference)
    copy.CopyReferences(first.difference)
    copy.SetName("Kept")
    second = TaskLogic.publish(outputs_like(volumeFromNode(a_volume_node), 7.0), a_volume_node, first.volume)
    assert second.difference is first.difference
    assert (array_of(copy) == 5).all()
    TaskLogic.publish(outputs_like(volumeFromNode(first.difference), 9.0), first.difference, first.volume)
    assert (array_of(first.difference) == 7).all()
    assert a_scene.IsNodePresent(first.difference)


def test_failure_in_the_last_step_leaves_no_new_node(a_scene, a_volume_node):
    hierarchy = a_scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), a_volume_node)
    nodes, items = node_ids(a_scene), hierarchy.GetNumberOfItems()
    outputs = outputs_like(volumeFromNode(a_volume_node))
    outputs.volumes["difference"].array = outputs.volumes["difference"].array[0]  # two axes: not a volume
    with pytest.raises(TypeError):
        TaskLogic.publish(outputs, a_volume_node)
    assert node_ids(a_scene) == nodes
    assert hierarchy.GetNumberOfItems() == items


def test_failure_halfway_through_a_node_leaves_nothing_of_it(a_scene, a_volume_node):
    nodes = node_ids(a_scene)
    outputs = outputs_like(volumeFromNode(a_volume_node))
    outputs.report["seed"] = b"no JSON has bytes"
    with pytest.raises(TypeError):
        TaskLogic.publish(outputs, a_volume_node)
    from MedGANSlicerLib.ResultDisplay import showAsDifference
    from MedGANSlicerLib.SceneBridge import publishMap

    with pytest.raises(TypeError):  # its display node and colour table are there when the attribute is refused
        publishMap(a_scene, outputs.volumes["difference"], a_volume_node, "d", {"MedGAN.Seed": 7}, showAsDifference)
    assert node_ids(a_scene) == nodes


def test_failure_gives_reused_nodes_their_content_back(a_scene, a_volume_node):
    output = add_volume(a_scene, noisy_box((5, 4, 3), "uint16"), oblique_matrix(), "Mine")
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    transform.SetMatrixTransformToParent(to_vtk_matrix(oblique_matrix((1, 1, 1))))
    output.SetAndObserveTransformNodeID(transform.GetID())
    output.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    output.SetAttribute("MedGAN.Model", "older")
    output.SetNodeReferenceID("Other", transform.GetID())
    display = output.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(77, 33)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    nodes, corners = node_ids(a_scene), world_corners(output)

    outputs = outputs_like(volumeFromNode(a_volume_node))
    outputs.volumes["difference"].array = outputs.volumes["difference"].array[0]
    with pytest.raises(TypeError):
        TaskLogic.publish(outputs, a_volume_node, output)

    assert node_ids(a_scene) == nodes
    assert output.GetName() == "Mine"
    assert np.array_equal(array_of(output), noisy_box((5, 4, 3), "uint16"))
    assert array_of(output).dtype == np.uint16
    assert np.abs(world_corners(output) - corners).max() < 1e-9
    assert sorted(output.GetAttributeNames()) == ["DICOM.instanceUIDs", "MedGAN.Model"]
    assert output.GetAttribute("MedGAN.Model") == "older"
    assert output.GetNodeReference("MedGAN.Source") is None
    assert output.GetNodeReference("Other") is transform
    assert output.GetDisplayNode() is display
    assert (display.GetWindow(), display.GetLevel()) == (77, 33)
    assert display.GetColorNodeID() == "vtkMRMLColorTableNodeIron"


def test_prepare_refuses_what_can_not_be_processed(a_scene, a_volume_node):
    with pytest.raises(ValueError, match="There is no input; choose a volume"):
        TaskLogic.prepare(None, a_setting())
    empty = a_scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    with pytest.raises(VolumeError, match="'Empty' is empty"):
        TaskLogic.prepare(empty, a_setting())
    a_scene.RemoveNode(a_volume_node)
    with pytest.raises(ValueError, match="'MRHead' is in no scene"):
        TaskLogic.prepare(a_volume_node, a_setting())


def test_run_goes_from_input_to_nodes_in_a_child_process(a_scene, an_oblique_volume_node, jobs_in):
    run = TaskLogic.start(an_oblique_volume_node, a_setting(seed=42), parent_folder=jobs_in)
    try:
        nodes = node_ids(a_scene)
        assert at_end(run).status is JobStatus.DONE
        assert node_ids(a_scene) == nodes, "polling must not touch the scene"
        result, difference = run.publish().present()
    finally:
        run.close()
    assert result.GetName() == "Oblique denoised"
    assert np.array_equal(array_of(result), noisy_box() + 5)
    assert array_of(result).dtype == np.int16
    assert (array_of(difference) == 5).all()
    assert np.abs(world_corners(result) - world_corners(an_oblique_volume_node)).max() < 1e-4
    assert result.GetAttribute("MedGAN.Seed") == "42"
    assert list(jobs_in.iterdir()) == []


def test_cancel_ends_the_job_within_a_second_and_leaves_nothing(a_scene, a_volume_node, jobs_in):
    nodes = node_ids(a_scene)
    run = TaskLogic.start(a_volume_node, a_setting("endless"), parent_folder=jobs_in)
    try:
        started(run)
        pid, pressed = pid_of(run), time.monotonic()
        run.cancel()
        assert at_end(run).status is JobStatus.CANCELLED
        assert time.monotonic() - pressed < 1.5
    finally:
        run.close()
    assert vanished(pid)
    assert node_ids(a_scene) == nodes
    assert list(jobs_in.iterdir()) == []


def test_failure_of_the_engine_is_told_and_leaves_nothing(a_scene, a_volume_node, jobs_in):
    nodes = node_ids(a_scene)
    run = TaskLogic.start(a_volume_node, a_setting("failing"), parent_folder=jobs_in)
    state = at_end(run)
    assert state.status is JobStatus.FAILED
    assert state.error == "Model 'failing' fails; choose another."
    assert "quick_enhance.py" in state.details
    with pytest.raises(RuntimeError):
        run.publish()
    run.close()
    assert node_ids(a_scene) == nodes
    assert list(jobs_in.iterdir()) == []


def test_killed_child_is_reported_and_leaves_nothing(a_scene, a_volume_node, jobs_in):
    nodes = node_ids(a_scene)
    run = TaskLogic.start(a_volume_node, a_setting("endless"), parent_folder=jobs_in)
    try:
        started(run)
        os.kill(pid_of(run), signal.SIGKILL)
        state = at_end(run)
    finally:
        run.close()
    assert state.status is JobStatus.FAILED
    assert state.error
    assert node_ids(a_scene) == nodes
    assert list(jobs_in.iterdir()) == []


def test_removed_input_ends_the_run_with_a_word(a_scene, a_volume_node, jobs_in):
    run = TaskLogic.start(a_volume_node, a_setting("endless"), parent_folder=jobs_in)
    started(run)
    pid = pid_of(run)
    a_scene.RemoveNode(a_volume_node)
    nodes = node_ids(a_scene)
    state = run.poll()
    assert state.status is JobStatus.CANCELLED
    assert state.message == run.dropped == "'MRHead' has left the scene, so its result was dropped."
    assert run.publish() is None
    assert run.poll() == state
    assert vanished(pid)
    assert node_ids(a_scene) == nodes
    assert list(jobs_in.iterdir()) == []


def test_closed_scene_drops_a_result_that_was_ready(a_scene, a_volume_node, jobs_in):
    run = TaskLogic.start(a_volume_node, a_setting(), parent_folder=jobs_in)
    assert at_end(run).status is JobStatus.DONE
    same_id = a_volume_node.GetID()
    a_scene.Clear(False)
    other = add_volume(a_scene, noisy_box(), np.eye(4), "Another")
    assert other.GetID() == same_id, "the new scene must use the ID again, or this proves little"
    nodes = node_ids(a_scene)
    assert run.publish() is None
    assert "'MRHead' has left the scene" in run.dropped
    assert node_ids(a_scene) == nodes
    assert list(jobs_in.iterdir()) == []


def test_result_follows_a_transform_that_is_hardened_meanwhile(a_scene, an_oblique_volume_node, jobs_in):
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    transform.SetMatrixTransformToParent(to_vtk_matrix(oblique_matrix((1, 1, 1))))
    an_oblique_volume_node.SetAndObserveTransformNodeID(transform.GetID())
    corners = world_corners(an_oblique_volume_node)
    run = TaskLogic.start(an_oblique_volume_node, a_setting(), parent_folder=jobs_in)
    assert at_end(run).status is JobStatus.DONE
    an_oblique_volume_node.HardenTransform()
    assert an_oblique_volume_node.GetTransformNodeID() is None
    result, difference = run.publish().present()
    run.close()
    for node in (an_oblique_volume_node, result, difference):
        assert np.abs(world_corners(node) - corners).max() < 1e-4
    assert np.abs(matrix_of(result) - matrix_of(an_oblique_volume_node)).max() < 1e-9


def test_input_that_is_edited_meanwhile_keeps_the_result_and_says_so(a_scene, a_volume_node, jobs_in):
    run = TaskLogic.start(a_volume_node, a_setting(), parent_folder=jobs_in)
    assert at_end(run).status is JobStatus.DONE
    array_of(a_volume_node)[0] += 100
    a_volume_node.GetImageData().GetPointData().GetScalars().Modified()
    result = run.publish().volume
    run.close()
    assert np.array_equal(array_of(result), noisy_box() + 5)
    assert run.remark == "'MRHead' was edited meanwhile; this is the result of what it was before."


def test_input_on_another_grid_drops_the_result(a_scene, a_volume_node, jobs_in):
    run = TaskLogic.start(a_volume_node, a_setting(), parent_folder=jobs_in)
    a_volume_node.SetAndObserveImageData(add_volume(a_scene, noisy_box((3, 4, 5)), np.eye(4)).GetImageData())
    assert run.poll().status is JobStatus.CANCELLED
    assert run.dropped == "'MRHead' has another number of voxels now, so its result was dropped."
    run.close()
    assert list(jobs_in.iterdir()) == []


def test_output_that_was_removed_meanwhile_is_made_anew(a_scene, a_volume_node, an_oblique_volume_node, jobs_in):
    run = TaskLogic.start(a_volume_node, a_setting(), outputNode=an_oblique_volume_node, parent_folder=jobs_in)
    a_scene.RemoveNode(an_oblique_volume_node)
    at_end(run)
    result, _ = run.publish().present()
    run.close()
    assert result.GetName() == "MRHead denoised"
    assert np.array_equal(array_of(result), noisy_box() + 5)


def test_changed_settings_do_not_change_a_started_run(a_scene, a_volume_node, jobs_in):
    settings = a_setting(seed=3)
    run = TaskLogic.start(a_volume_node, settings, parent_folder=jobs_in)
    settings.seed = 4
    at_end(run)
    result, _ = run.publish().present()
    run.close()
    assert result.GetAttribute("MedGAN.Seed") == "3"


def test_process_runs_in_this_process_and_passes_progress_on(monkeypatch, a_scene, a_volume_node):
    monkeypatch.setitem(TaskLogic.task.__globals__["TASKS"], "enhance", "quick_enhance")
    said = []
    result, difference = TaskLogic.process(
        a_volume_node, a_setting(), lambda share, text="": said.append((share, text))
    ).present()
    assert said == [(0.25, "Working")]
    assert np.array_equal(array_of(result), noisy_box() + 5)
    assert difference.GetName() == "MRHead denoised difference"


def test_process_that_is_cancelled_leaves_nothing(monkeypatch, a_scene, a_volume_node):
    monkeypatch.setitem(TaskLogic.task.__globals__["TASKS"], "enhance", "quick_enhance")
    nodes = node_ids(a_scene)

    def stop(fraction, message=""):
        raise Cancelled

    with pytest.raises(Cancelled):
        TaskLogic.process(a_volume_node, a_setting(), stop)
    assert node_ids(a_scene) == nodes
