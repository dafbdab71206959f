"""A sequence of volumes gives a sequence that is browsed together with it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import slicer
from scene_tools import (
    array_of,
    finer_outputs,
    image_of,
    matrix_of,
    node_ids,
    noisy_box,
    oblique_matrix,
    outputs_like,
    to_vtk_matrix,
    world_corners,
)
from small_bundle import save_bundle

from medgan.job import Job, JobStatus
from medgan.settings import Device, EnhanceSettings
from MedGANSlicerLib import TaskLogic
from MedGANSlicerLib.HeadlessScene import HeadlessScene
from MedGANSlicerLib.Places import worldPlace
from MedGANSlicerLib.SceneBridge import volumeFromNode
from MedGANSlicerLib.Sequences import SequenceRun, framesOf, publishSequence, sequenceOf
from scene_reading import load_scene

TIMES = ["0", "0.4", "1.1"]


@pytest.fixture
def a_sequence(a_scene):
    """Three int16 frames at uneven times; frame n is n * 10 brighter."""
    sequence = a_scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for number, moment in enumerate(TIMES):
        frame = slicer.vtkMRMLScalarVolumeNode()
        frame.SetName(f"frame {number}")
        frame.SetAttribute("DICOM.instanceUIDs", "1.2.3")
        frame.SetAndObserveImageData(image_of(noisy_box() + 10 * np.int16(number)))
        frame.SetIJKToRASMatrix(to_vtk_matrix(oblique_matrix(left_handed=True)))
        sequence.SetDataNodeAtValue(frame, moment)
    return sequence


@pytest.fixture
def a_browser(a_scene, a_sequence):
    browser = a_scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(a_sequence.GetID())
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    transform.SetMatrixTransformToParent(to_vtk_matrix(oblique_matrix((1, 1, 1))))
    shown = browser.GetProxyNode(a_sequence)
    shown.SetAndObserveTransformNodeID(transform.GetID())
    shown.GetDisplayNode().AutoWindowLevelOff()
    shown.GetDisplayNode().SetWindowLevel(640, 512)
    return browser


def outputs_of(sequence):
    return [outputs_like(volumeFromNode(frame), 5.0 + n) for n, frame in enumerate(framesOf(sequence))]


def test_frames_are_the_volumes_of_a_sequence(a_sequence):
    assert [array_of(frame)[0, 0, 0] - noisy_box()[0, 0, 0] for frame in framesOf(a_sequence)] == [0, 10, 20]


def test_sequence_of_something_else_is_refused(a_scene):
    sequence = a_scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Moves")
    with pytest.raises(ValueError, match="'Moves' is empty"):
        framesOf(sequence)
    sequence.SetDataNodeAtValue(slicer.vtkMRMLLinearTransformNode(), "0")
    with pytest.raises(ValueError, match="'Moves' holds LinearTransform nodes"):
        framesOf(sequence)


def test_sequence_of_a_shown_frame_is_found(a_scene, a_sequence, a_browser, a_volume_node):
    assert sequenceOf(a_browser.GetProxyNode(a_sequence)) is a_sequence
    assert sequenceOf(a_volume_node) is None


def test_results_are_browsed_with_their_source(a_scene, a_sequence, a_browser):
    result, difference = publishSequence(outputs_of(a_sequence), a_sequence).present()
    assert (result.GetName(), difference.GetName()) == ("Cine denoised", "Cine denoised difference")
    assert [result.GetNthIndexValue(n) for n in range(3)] == TIMES
    assert (result.GetIndexName(), result.GetIndexUnit()) == ("time", "s")
    assert result.GetNodeReference("MedGAN.Source") is a_sequence
    shown, shown_result, shown_difference = (a_browser.GetProxyNode(each) for each in (a_sequence, result, difference))
    for number in range(3):
        a_browser.SetSelectedItemNumber(number)
        frame = noisy_box() + 10 * number
        assert np.array_equal(array_of(shown), frame)
        assert array_of(shown_result).dtype == np.int16
        assert np.array_equal(array_of(shown_result), frame + 5 + number)
        assert (array_of(shown_difference) == 5 + number).all()
        assert np.abs(world_corners(shown_result) - world_corners(shown)).max() < 1e-4
        assert shown_result.GetTransformNodeID() == shown.GetTransformNodeID()
        assert shown_result.GetAttribute("MedGAN.Synthetic") == "voxels produced by a network"
        assert shown_result.GetAttribute("DICOM.instanceUIDs") is None
        display = shown_result.GetDisplayNode()
        assert (display.GetWindow(), display.GetLevel()) == (640, 512)
        assert shown_difference.GetDisplayNode().GetWindow() == pytest.approx(14)
        assert shown_difference.GetDisplayNode().GetColorNode().GetName() == "MedGAN difference"


def test_frames_on_a_new_grid_come_with_maps_and_places(a_scene, a_sequence, a_browser):
    outputs = [finer_outputs(volumeFromNode(frame)) for frame in framesOf(a_sequence)]
    outputs[1].report["suspicions"] = []
    nodes = publishSequence(outputs, a_sequence)
    assert [node.GetName() for node in nodes.present()] == [
        "Cine enhanced", "Cine enhanced difference", "Cine enhanced residual", "Cine enhanced uncertainty",
        "Cine enhanced to check",
    ]  # fmt: skip
    assert nodes.residual.GetNthDataNode(0).GetAttribute("MedGAN.Content") == "result measured again minus input"
    source = a_browser.GetProxyNode(a_sequence)
    shown = nodes.each(a_browser.GetProxyNode)
    assert shown.uncertainty.GetDisplayNode().GetColorNode().GetName() == "MedGAN uncertainty"
    assert shown.places.GetDisplayNode().GetVisibility()
    for number, count in enumerate([2, 0, 2]):
        a_browser.SetSelectedItemNumber(number)
        assert np.array_equal(array_of(shown.volume), np.repeat(noisy_box() + 10 * number, 3, axis=0))
        for node in shown.present():
            assert node.GetTransformNodeID() == source.GetTransformNodeID()
        centre = world_corners(source).mean(axis=0)
        assert np.abs(world_corners(shown.volume).mean(axis=0) - centre).max() < 1e-4
        assert np.abs(world_corners(shown.residual) - world_corners(source)).max() < 1e-4
        assert shown.places.GetNumberOfControlPoints() == count
        if count:
            assert np.abs(np.array(worldPlace(shown.places, 0)) - world_corners(source)[0]).max() < 1e-4


def test_source_without_a_browser_gets_one(a_scene, a_sequence):
    result, _ = publishSequence(outputs_of(a_sequence), a_sequence).present()
    (browser,) = [node for node in a_scene.GetNodes() if node.IsA("vtkMRMLSequenceBrowserNode")]
    assert browser.GetMasterSequenceNode() is a_sequence
    assert browser.GetProxyNode(result) is not None


def test_results_stay_in_place_when_the_browser_goes_meanwhile(a_scene, a_sequence, a_browser):
    shown = a_browser.GetProxyNode(a_sequence)
    transform = shown.GetTransformNodeID()
    outputs = outputs_of(a_sequence)
    a_scene.RemoveNode(a_browser)
    result = publishSequence(outputs, a_sequence, placedNode=shown).volume
    (browser,) = [node for node in a_scene.GetNodes() if node.IsA("vtkMRMLSequenceBrowserNode")]
    assert [browser.GetProxyNode(each).GetTransformNodeID() for each in (a_sequence, result)] == [transform] * 2


def test_frames_of_one_sequence_have_one_voxel_type(a_sequence, a_browser):
    outputs = outputs_of(a_sequence)
    outputs[1].volumes["volume"].array *= 1000.0  # far beyond int16
    result, _ = publishSequence(outputs, a_sequence).present()
    assert {array_of(frame).dtype.name for frame in framesOf(result)} == {"float32"}


def test_failure_leaves_neither_nodes_nor_browsed_sequences(a_scene, a_sequence, a_browser):
    outputs = outputs_of(a_sequence)
    outputs[2].volumes["difference"].array = outputs[2].volumes["difference"].array[0]
    nodes = node_ids(a_scene)
    with pytest.raises(TypeError):
        publishSequence(outputs, a_sequence)
    assert node_ids(a_scene) == nodes
    assert a_browser.GetNumberOfSynchronizedSequenceNodes(True) == 1


def test_published_sequence_is_saved_with_the_scene(a_headless_scene, a_sequence, a_browser, tmp_path):
    publishSequence(outputs_of(a_sequence), a_sequence)
    a_headless_scene.saveScene(tmp_path / "s.mrb")
    with HeadlessScene() as other:
        load_scene(other.scene, tmp_path / "s.mrb", tmp_path / "unpacked")
        result = next(
            n for n in other.scene.GetNodes() if n.IsA("vtkMRMLSequenceNode") and n.GetName() == "Cine denoised"
        )
        for number, frame in enumerate(framesOf(result)):
            assert np.array_equal(array_of(frame), noisy_box() + 5 + 11 * number)
            assert np.abs(matrix_of(frame) - oblique_matrix(left_handed=True)).max() < 1e-9
            assert frame.GetAttribute("MedGAN.Model") == "denoise"


@pytest.fixture
def a_run(monkeypatch, tmp_path, a_sequence, a_browser):
    """Starts a run whose child does ``quick_enhance`` in the place of the network."""
    monkeypatch.setattr(Job, "child_script", Path(__file__).with_name("quick_child.py"))

    def start(model):
        return SequenceRun(a_sequence, EnhanceSettings(model=model, device=Device.CPU), parent_folder=tmp_path)

    return start


def states_until_end(run):
    end, states = time.monotonic() + 180, [run.poll()]  # the machine may be busy
    while states[-1].status is JobStatus.RUNNING:
        assert time.monotonic() < end
        time.sleep(0.02)
        states.append(run.poll())
    return states


def test_run_does_one_frame_after_the_other(a_run, a_sequence, a_browser, tmp_path):
    run = a_run("quick")
    states = states_until_end(run)
    assert states[-1].status is JobStatus.DONE
    fractions = [state.fraction for state in states]
    assert fractions == sorted(fractions)
    assert any(state.message.startswith("Frame 2 of 3") for state in states)
    result, _ = run.publish().present()
    run.close()
    assert np.array_equal(array_of(framesOf(result)[2]), noisy_box() + 25)
    assert (run.report["seconds"], [row["frame"] for row in run.report["frames"]]) == (1.5, [1, 2, 3])
    assert list(tmp_path.glob("medgan-job-*")) == []


@pytest.mark.parametrize("restores", ["noise", "resolution"])
def test_frames_are_what_runs_on_single_frames_give(a_scene, a_sequence, a_browser, tmp_path, restores):
    """The real engine, with an untrained network."""
    settings = EnhanceSettings(
        model=str(save_bundle(tmp_path / "model", restores)), device=Device.CPU, memory_limit_gb=1.0, seed=4
    )
    a_sequence.RemoveDataNodeAtValue(TIMES[2])
    frames = [TaskLogic.process(a_scene.AddNode(_copy(frame)), settings).volume for frame in framesOf(a_sequence)]
    run = SequenceRun(a_sequence, settings, parent_folder=tmp_path)
    assert states_until_end(run)[-1].status is JobStatus.DONE
    result = run.publish().volume
    run.close()
    for alone, together in zip(frames, framesOf(result), strict=True):
        assert array_of(alone).tobytes() == array_of(together).tobytes()
        assert np.abs(matrix_of(alone) - matrix_of(together)).max() < 1e-9
    assert (array_of(frames[0]).shape[0] > 7) == (restores == "resolution")


def _copy(frame):
    node = slicer.vtkMRMLScalarVolumeNode()
    node.CopyContent(frame)
    return node


def test_cancelled_run_leaves_nothing(a_run, a_scene, tmp_path):
    nodes = node_ids(a_scene)
    run = a_run("endless")
    run.cancel()
    assert states_until_end(run)[-1].status is JobStatus.CANCELLED
    run.close()
    assert node_ids(a_scene) == nodes
    assert list(tmp_path.glob("medgan-job-*")) == []


def test_failed_frame_ends_the_run(a_run, tmp_path):
    run = a_run("failing")
    state = states_until_end(run)[-1]
    assert (state.status, state.error) == (JobStatus.FAILED, "Frame 1 of 3: Model 'failing' fails; choose another.")
    with pytest.raises(RuntimeError, match="choose another"):
        run.publish()
    run.close()
    assert list(tmp_path.glob("medgan-job-*")) == []


@pytest.mark.parametrize("model", ["endless", "quick"])
def test_frame_that_goes_meanwhile_ends_the_run_with_a_word(a_run, a_sequence, tmp_path, model):
    run = a_run(model)
    if model == "quick":  # it is done before the frame goes
        assert states_until_end(run)[-1].status is JobStatus.DONE
    a_sequence.RemoveDataNodeAtValue(TIMES[2])
    assert run.poll().status is JobStatus.CANCELLED
    assert run.dropped == "'Cine' has another number of frames now, so its result was dropped."
    assert run.publish() is None
    run.close()
    assert list(tmp_path.glob("medgan-job-*")) == []


def test_removed_sequence_ends_the_run_with_a_word(a_run, a_scene, a_sequence, tmp_path):
    run = a_run("endless")
    a_scene.RemoveNode(a_sequence)
    assert run.poll().message == run.dropped == "'Cine' has left the scene, so its result was dropped."
    assert run.publish() is None
    run.close()
    assert list(tmp_path.glob("medgan-job-*")) == []
