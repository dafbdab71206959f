"""The real engine from node to node: its network in a real child process, in a real scene."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
from scene_tools import (
    add_volume,
    array_of,
    matrix_of,
    node_ids,
    oblique_matrix,
    to_world,
    under_a_transform,
    world_corners,
)
from small_bundle import save_bundle

from medgan import models
from medgan.job import JobStatus
from medgan.settings import Device, EnhanceSettings
from MedGANSlicerLib import Demo, TaskLogic
from MedGANSlicerLib.HeadlessScene import HeadlessScene
from scene_reading import load_scene

SIGMA = 40.0
SHAPE = (29, 41, 37)  # k, j, i: odd along each axis


@pytest.fixture(scope="module")
def a_model(tmp_path_factory):
    return str(save_bundle(tmp_path_factory.mktemp("models") / "untrained model ü"))


def clean_phantom() -> np.ndarray:
    """Nested boxes with a slope, 300 to 1400."""
    k, j, i = np.indices(SHAPE) / np.reshape(SHAPE, (3, 1, 1, 1))
    inner = (abs(k - 0.5) < 0.25) & (abs(j - 0.5) < 0.25) & (abs(i - 0.5) < 0.25)
    outer = (abs(k - 0.5) < 0.4) & (abs(j - 0.5) < 0.4) & (abs(i - 0.5) < 0.4)
    return 300.0 + 200 * i + 300 * outer + 600 * inner


def noisy_phantom() -> np.ndarray:
    return np.rint(clean_phantom() + np.random.default_rng(3).normal(0, SIGMA, SHAPE)).astype(np.int16)


@pytest.fixture
def a_noisy_node(a_scene):
    node = add_volume(a_scene, noisy_phantom(), oblique_matrix(left_handed=True), "Scan")
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def settings(model, **changes):
    return EnhanceSettings(model=model, device=Device.CPU, memory_limit_gb=1.0, **changes)


def finished(run):
    end = time.monotonic() + 180  # the machine may be busy
    while (state := run.poll()).status is JobStatus.RUNNING:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert state.status is JobStatus.DONE, state.details
    return state


def rms(array) -> float:
    return float(np.sqrt(np.mean(np.square(array))))


def test_denoised_node_is_nearer_to_the_truth_and_in_the_same_place(a_noisy_node, a_model):
    run = TaskLogic.start(a_noisy_node, settings(a_model, character=0.0, seed=11))
    try:
        finished(run)
        result, difference = run.publish().present()
    finally:
        run.close()
    assert array_of(result).dtype == np.int16
    assert rms(array_of(result) - clean_phantom()) < 0.5 * SIGMA, "more than 6 dB"
    change = array_of(result).astype(float) - noisy_phantom()
    assert np.abs(array_of(difference) - change).max() <= 0.5 + 1e-3, "rounding is all that may lie between them"
    assert np.abs(world_corners(result) - world_corners(a_noisy_node)).max() < 1e-4
    assert run.report["sigma_before"] == pytest.approx(SIGMA, rel=0.15)
    weights = Path(a_model, "models", "model.pt").read_bytes()
    assert json.loads(result.GetAttribute("MedGAN.ModelSHA256")) == {"faithful": hashlib.sha256(weights).hexdigest()}
    recorded = json.loads(result.GetAttribute("MedGAN.Settings"))
    assert recorded["model"] == "untrained model ü"
    assert recorded["seed"] == 11


def test_strength_zero_returns_the_very_voxels(a_scene, a_noisy_node, a_model):
    wide = add_volume(a_scene, noisy_phantom() / 7.0, np.eye(4), "Wide")
    for node in (a_noisy_node, wide):
        result, difference = TaskLogic.process(node, settings(a_model, strength=0.0)).present()
        assert array_of(result).dtype == array_of(node).dtype
        assert array_of(result).tobytes() == array_of(node).tobytes()
        assert not array_of(difference).any()


def test_same_seed_gives_the_same_voxels_in_this_and_in_a_child_process(a_noisy_node, a_model):
    here = TaskLogic.process(a_noisy_node, settings(a_model, seed=5)).volume
    run = TaskLogic.start(a_noisy_node, settings(a_model, seed=5))
    finished(run)
    there = run.publish().volume
    run.close()
    assert np.array_equal(array_of(here), array_of(there))


def test_ramp_through_the_network_has_its_world_coordinate_as_its_value(a_scene, tmp_path):
    """Super-resolution by a real network in a real child process, under a transform; away from the outer slices."""
    node = under_a_transform(a_scene, add_volume(a_scene, noisy_phantom(), oblique_matrix(left_handed=True), "Ramp"))

    def across(each) -> np.ndarray:
        k, j, i = np.indices(array_of(each).shape)
        own = np.stack([i, j, k, np.ones_like(i)], -1) @ matrix_of(each).T
        return np.array([to_world(each)(place[:3])[0] for place in own.reshape(-1, 4)]).reshape(i.shape)

    ramp = across(node)
    node.SetAndObserveImageData(add_volume(a_scene, ramp, np.eye(4)).GetImageData())
    model = str(save_bundle(tmp_path / "thin", "resolution"))
    run = TaskLogic.start(node, settings(model, ratio=2.5))
    try:
        finished(run)
        nodes = run.publish()
    finally:
        run.close()
    assert nodes.volume.GetName() == "Ramp super-resolved"
    assert array_of(nodes.volume).shape == (round(29 * 2.5), 41, 37)
    assert array_of(nodes.residual).shape == SHAPE
    inner = slice(20, -20)
    step = abs(ramp[1:] - ramp[:-1]).mean()
    error = np.abs(array_of(nodes.volume) - across(nodes.volume))[inner]
    assert error.max() < 0.04 * step, "a tenth of a new voxel"
    assert np.abs(array_of(nodes.residual)).max() < 1e-3 * np.ptp(ramp)
    assert json.loads(nodes.volume.GetAttribute("MedGAN.Steps"))[0]["axis"] == "k"


SHIPPED_CHAINS = ("superres", "deblur", "denoise+deblur+superres")


@pytest.mark.parametrize("chain", SHIPPED_CHAINS)
def test_shipped_chain_runs_from_node_to_nodes(a_noisy_node, chain):
    try:
        models.find_chain(chain)
    except models.ModelError as error:
        pytest.skip(str(error))
    nodes = TaskLogic.process(a_noisy_node, settings(chain, blur_sigma=0.8, uncertainty=True))
    word = {"superres": "super-resolved", "deblur": "deblurred"}.get(chain, "enhanced")
    assert nodes.volume.GetName() == f"Scan {word}"
    k, j, i = SHAPE
    fine = round(k * 2.3 / 0.7)
    assert array_of(nodes.volume).shape == ((fine if "superres" in chain else k), j, i)
    assert array_of(nodes.uncertainty).shape == array_of(nodes.volume).shape
    assert array_of(nodes.uncertainty).min() >= 0
    assert array_of(nodes.residual).shape == SHAPE
    assert rms(array_of(nodes.residual)) < 2 * SIGMA
    centres = [world_corners(node).mean(axis=0) for node in (a_noisy_node, nodes.volume)]
    assert np.abs(centres[0] - centres[1]).max() < 1e-4
    if chain == "superres":
        assert array_of(nodes.volume).mean() == pytest.approx(noisy_phantom().mean(), rel=0.005)
    suspicions = json.loads(nodes.volume.GetAttribute("MedGAN.Suspicions") or "[]")
    points = nodes.places.GetNumberOfControlPoints() if nodes.places is not None else 0
    assert points == len(suspicions)


def test_volume_that_is_too_flat_is_refused_in_one_sentence(a_scene, a_model):
    node = add_volume(a_scene, noisy_phantom()[:2], np.eye(4), "Flat")
    nodes = node_ids(a_scene)
    with pytest.raises(ValueError, match=r"The model .* needs .* 37 x 41 x 2"):
        TaskLogic.process(node, settings(a_model))
    assert node_ids(a_scene) == nodes


def test_demo_writes_a_scene_and_a_picture_and_says_what_it_did(tmp_path, a_model):
    import SimpleITK as sitk
    from matplotlib.image import imread

    image = sitk.GetImageFromArray(noisy_phantom())
    image.SetSpacing((0.8, 0.9, 1.5))
    sitk.WriteImage(image, str(tmp_path / "phantom.nii.gz"))
    folder, heard = tmp_path / "a demo é", []

    answer = Demo.run(
        folder,
        lambda fraction, message="": heard.append(fraction),
        model=a_model,
        sample=tmp_path / "phantom.nii.gz",
        device="cpu",
        character=0.0,
        seed=9,
    )

    assert heard[0] == 0.0
    assert heard[-1] == 1.0
    assert heard == sorted(heard)
    assert json.loads(json.dumps(answer)) == answer
    assert sorted(path.name for path in folder.iterdir()) == ["medgan-demo.mrb", "medgan-demo.png"]
    assert answer["paths"] == {"scene": str(folder / "medgan-demo.mrb"), "picture": str(folder / "medgan-demo.png")}
    figures = answer["figures"]
    assert figures["sigma_before"] == pytest.approx(SIGMA, rel=0.15)
    assert figures["sigma_after"] < 0.5 * figures["sigma_before"]
    assert figures["seconds"] > 0
    assert (figures["model"], figures["version"], figures["seed"]) == ("untrained model ü", "0.0.1", 9)
    assert figures["size"] == [37, 41, 29]
    with pytest.raises(ValueError, match=r"medgan-demo.mrb' exists already; add --overwrite"):
        Demo.run(folder, model=a_model, sample=tmp_path / "phantom.nii.gz", device="cpu")
    picture = imread(folder / "medgan-demo.png")
    assert min(picture.shape[:2]) >= 1000
    assert picture[..., :3].std() > 0.1
    with HeadlessScene() as headless:
        load_scene(headless.scene, folder / "medgan-demo.mrb", tmp_path / "unpacked")
        again = headless.scene.GetFirstNodeByName("phantom denoised")
        source = headless.scene.GetFirstNodeByName("phantom")
        assert np.array_equal(array_of(source), noisy_phantom())
        assert rms(array_of(again) - clean_phantom()) < 0.5 * SIGMA
        assert again.GetDisplayNode().GetWindow() == source.GetDisplayNode().GetWindow()
        composite = headless.scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        assert composite.GetForegroundVolumeID() == again.GetID()
        assert composite.GetBackgroundVolumeID() == source.GetID()


def test_demo_that_is_stopped_leaves_no_file(tmp_path, a_model):
    import SimpleITK as sitk

    from medgan.progress import Cancelled

    sitk.WriteImage(sitk.GetImageFromArray(noisy_phantom()), str(tmp_path / "phantom.nrrd"))

    def stop(fraction, message=""):
        if fraction >= 0.02:  # the child has been started
            raise Cancelled

    with pytest.raises(Cancelled):
        Demo.run(tmp_path / "demo", stop, model=a_model, sample=tmp_path / "phantom.nrrd", device="cpu")
    assert list((tmp_path / "demo").iterdir()) == []
