"""Making volumes with trained models: grid and unit, seeds, marks, and a sentence for what can not be done."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import kind_tools
import phantoms
from medgan.models import ModelError, sha256_of
from medgan.networks import NETWORKS
from medgan.progress import Cancelled
from medgan.settings import Contrast, SynthesizeSettings
from medgan.synthesis.latents import between, latent_of
from medgan.tasks import synthesize
from medgan.training.kinds.base import Exported, plain_state
from medgan.volume import Label, LabelMap, Volume, read_volume, write_volume

NETWORK = {
    "translate": ("medgan.TranslateNet", {"widths": [4, 8], "deep_pairs": 1}),
    "label-to-volume": ("medgan.LabelNet", {"widths": [4, 8], "told": 4, "style": 4}),
    "from-noise": ("medgan.NoiseNet", {"latent": 8, "widths": [8, 8, 4]}),
}


@pytest.fixture
def a_model(tmp_path):
    """A function that saves an untrained bundle; translation starts as the identity, labels as their means."""

    def made(task: str, alive: bool = False, **about) -> str:
        name, arguments = NETWORK[task]
        torch.manual_seed(2)
        network = NETWORKS[name](**arguments)
        if alive:  # last layers start at 0
            torch.nn.init.normal_(network.leave.weight, std=0.1)
        folder = tmp_path / f"{task} ü"
        kind_tools.bundle_of(Exported(task, name, arguments, {"faithful": plain_state(network)}, about), folder)
        return str(folder)

    return made


@pytest.fixture
def a_label_map():
    """A head in five parts with values that no model knows, oblique and left-handed."""
    head = phantoms.head((30, 33, 37))
    values = np.array([0, 3, 17, 1042, 8])[np.digitize(head, [1, 350, 600, 900])]
    return LabelMap(values.astype(np.int16), phantoms.awkward_geometry(), {17: Label("White matter")})


def run(inputs, model, **settings):
    return synthesize.run(inputs, SynthesizeSettings(model, **settings))


def test_translation_keeps_the_grid_and_says_its_unit(a_model):
    volume = Volume(phantoms.head((21, 26, 30)), phantoms.awkward_geometry(), {}, "int16")
    untouched = volume.array.copy()
    model = a_model("translate", ranges={"target": [100.0, 300.0]}, orientation="RAS", spacing_mm=None)
    outputs = run({"volume": volume}, model)
    result = outputs.volumes["sample 1"]
    assert np.array_equal(result.ijk_to_ras, volume.ijk_to_ras)
    assert np.array_equal(volume.array, untouched)
    normal = np.clip(volume.array / np.percentile(volume.array[volume.array > 100], 99.9), 0, 1)
    assert np.abs(result.array - (100 + 200 * normal)).mean() < 2.0  # an untrained one starts as the identity
    assert outputs.report["synthetic"] is True
    assert outputs.report["samples"][0]["intensity_unit"].startswith("typical of the target")
    assert len(outputs.report["model_sha256"]["faithful"]) == 64


def test_translation_at_another_spacing_comes_back_to_the_grid_of_the_input(a_model):
    array = np.fromfunction(lambda k, j, i: 200 + 10 * k + 3 * j + 2 * i, (18, 20, 22)).astype(np.float32)
    volume = Volume(array, phantoms.geometry((1.0, 1.0, 2.0)))
    result = run({"volume": volume}, a_model("translate", spacing_mm=[1.5, 1.5, 1.5])).volumes["sample 1"]
    assert result.shape == volume.shape
    inner = (slice(3, -3),) * 3
    scale = np.polyfit(array[inner].ravel(), result.array[inner].ravel(), 1)
    assert np.abs(np.polyval(scale, array[inner]) - result.array[inner]).max() < 0.01  # the ramp is still one


def test_voxels_that_are_no_numbers_stay_so_and_are_told(a_model):
    array = phantoms.head((20, 20, 20))
    array[10, 9, 8] = np.nan
    outputs = run({"volume": Volume(array, np.eye(4))}, a_model("translate"))
    broken = np.isnan(outputs.volumes["sample 1"].array)
    assert broken[10, 9, 8]
    assert broken.sum() == 1
    assert any("1 voxels were not finite" in message for message in outputs.report["messages"])


def test_padding_of_a_ct_is_translated_as_air(a_model):
    """Also where it is the reference of a label map."""
    padded, air = (Volume(phantoms.padded_ct(padding, (16, 20, 20)), np.eye(4)) for padding in (-3024.0, -1024.0))
    model = a_model("translate")
    made = [run({"volume": volume}, model).volumes["sample 1"].array for volume in (padded, air)]
    assert np.array_equal(*made)
    labels, model = LabelMap((air.array > 150).astype(np.uint8), np.eye(4)), a_model("label-to-volume", alive=True)
    made = [run({"labels": labels, "reference": each}, model).volumes["sample 1"].array for each in (padded, air)]
    assert np.array_equal(*made)


def test_a_reference_gives_labels_of_any_vocabulary_its_intensities(a_label_map, a_model):
    rng = np.random.default_rng(0)
    wanted = {0: 10.0, 3: 900.0, 17: 300.0, 1042: 650.0, 8: 480.0}
    image = np.vectorize(wanted.get)(a_label_map.array) + 5.0 * rng.standard_normal(a_label_map.shape)
    reference = Volume(image.astype(np.float32), a_label_map.ijk_to_ras)
    model = a_model("label-to-volume", alive=True, orientation="RAS")
    outputs = run({"labels": a_label_map, "reference": reference}, model, seed=4)
    made = outputs.volumes["sample 1"]
    assert np.array_equal(made.ijk_to_ras, a_label_map.ijk_to_ras)
    for value, mean in wanted.items():
        assert made.array[a_label_map.array == value].mean() == pytest.approx(mean, abs=40)
    assert outputs.report["samples"][0]["intensity_unit"] == "that of the reference"
    assert not outputs.report["messages"]


def test_known_labels_get_their_usual_intensities_and_new_ones_are_named(a_label_map, a_model):
    known = [{"value": 0, "name": "Background", "mean": 0.0, "sd": 0.0},
             {"value": 3, "name": "Cortex", "mean": 0.4, "sd": 0.01},
             {"value": 1042, "name": "Skull", "mean": 0.2, "sd": 0.01},
             {"value": 8, "name": "Skin", "mean": 0.9, "sd": 0.01}]  # fmt: skip
    model = a_model("label-to-volume", intensities=known, ranges={"image": [0.0, 1000.0]})
    outputs = run({"labels": a_label_map}, model)
    made = outputs.volumes["sample 1"].array
    assert made[a_label_map.array == 3].mean() == pytest.approx(400, abs=1)
    assert made[a_label_map.array == 1042].mean() == pytest.approx(200, abs=1)
    assert "White matter" in outputs.report["messages"][0]
    random = run({"labels": a_label_map}, model, contrast=Contrast.RANDOM).volumes["sample 1"].array
    assert abs(random[a_label_map.array == 3].mean() - 400) > 20


def test_seeds_give_the_same_voxels_again_one_by_one(a_label_map, a_model):
    model = a_model("label-to-volume", alive=True)
    three = run({"labels": a_label_map}, model, count=3, seed=7)
    assert [sample["seed"] for sample in three.report["samples"]] == [7, 8, 9]
    alone = run({"labels": a_label_map}, model, seed=9).volumes["sample 1"].array
    assert np.array_equal(three.volumes["sample 3"].array, alone)
    assert not np.array_equal(three.volumes["sample 1"].array, three.volumes["sample 2"].array)


def test_tiles_show_no_seams(a_model):
    values = np.array([0, 1, 2, 3], np.int16)[np.digitize(phantoms.head((40, 40, 80)), [1, 350, 600])]
    labels = LabelMap(values, np.eye(4))
    model = a_model("label-to-volume", alive=True)
    whole = run({"labels": labels}, model, seed=3).volumes["sample 1"].array
    tiled = run({"labels": labels}, model, seed=3, memory_limit_gb=0.12).volumes["sample 1"].array
    assert not np.array_equal(whole, tiled)  # there were tiles
    assert np.abs(whole - tiled).max() < 0.02


def test_volumes_from_noise_lie_around_the_origin_and_between_their_seeds(a_model):
    model = a_model("from-noise", spacing_mm=[2.0, 2.0, 3.0], ranges={"image": [-50.0, 150.0]})
    made = run({}, model, seed=1).volumes["sample 1"]
    assert made.shape == (16, 16, 16)
    assert made.spacing_mm == (2.0, 2.0, 3.0)
    assert np.allclose(made.ijk_to_ras @ [7.5, 7.5, 7.5, 1], [0, 0, 0, 1])
    assert np.array_equal(made.ijk_to_ras[:3, :3], np.diag([2.0, 2.0, 3.0]))
    assert made.array.min() >= -50.0
    path = run({}, model, seed=1, toward=2, count=5)
    assert np.array_equal(path.volumes["sample 1"].array, made.array)
    assert np.array_equal(path.volumes["sample 5"].array, run({}, model, seed=2).volumes["sample 1"].array)
    steps = [np.abs(path.volumes[f"sample {n}"].array - made.array).mean() for n in range(1, 6)]
    assert steps == sorted(steps)
    usual = [run({}, model, seed=seed, truncation=0.1).volumes["sample 1"].array for seed in (1, 2)]
    whole = [run({}, model, seed=seed).volumes["sample 1"].array for seed in (1, 2)]
    assert np.abs(usual[0] - usual[1]).mean() < 0.6 * np.abs(whole[0] - whole[1]).mean()
    middle = [run({}, model, seed=seed, truncation=0.0).volumes["sample 1"].array for seed in (1, 2)]
    assert np.array_equal(*middle)


def test_gpu_without_room_for_the_network_leaves_it_to_the_processor(a_model, a_full_gpu):
    model = a_model("from-noise")
    wanted = run({}, model, seed=1).volumes["sample 1"].array
    a_full_gpu("medgan.tasks.synthesize")
    made = run({}, model, seed=1)
    assert np.array_equal(made.volumes["sample 1"].array, wanted)
    assert "full GPU ran out of memory; the CPU was used." in made.report["messages"]


def test_what_lies_between_two_latents_is_as_long_as_they_are():
    one, other = latent_of(1, 400), latent_of(2, 400)
    middle = between(one, other, 0.5)
    assert float(middle.norm()) == pytest.approx(0.5 * float(one.norm() + other.norm()), rel=0.01)
    assert float(torch.dot(middle, one)) == pytest.approx(float(torch.dot(middle, other)), rel=0.2)
    assert torch.allclose(between(one, one, 0.3), one)


def test_cancel_ends_the_work(a_label_map, a_model):
    calls = []

    def progress(fraction, message=""):
        calls.append(fraction)
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        synthesize.run({"labels": a_label_map}, SynthesizeSettings(a_model("label-to-volume"), count=3), progress)
    assert 0.3 < calls[-1] < 0.7


def test_what_can_not_be_done_is_said_in_one_sentence(a_label_map, a_model):
    def refused(text, inputs, model, error=ValueError, **settings):
        with pytest.raises(error, match=re.escape(text)):
            run(inputs, model, **settings)

    labels, noise, translator = a_model("label-to-volume"), a_model("from-noise"), a_model("translate")
    volume = Volume(phantoms.head((20, 20, 20)), np.eye(4))
    refused("No model was named", {}, "", ModelError)
    refused("is for the task 'enhance'", {"volume": volume}, "denoise", ModelError)
    refused("needs a label map", {"volume": volume}, labels)
    refused("The label map is empty", {"labels": LabelMap(np.zeros((8, 8, 8), np.uint8), np.eye(4))}, labels)
    refused("lie on two grids (20 x 20 x 20 voxels and", {"labels": a_label_map, "reference": volume}, labels)
    refused("needs a scalar volume", {"labels": a_label_map}, translator)
    refused("set the count to 1", {"volume": volume}, translator, count=2)
    refused("only models from noise have", {"labels": a_label_map}, labels, toward=3)
    refused("takes 1 channels, 2 were given", {"volume": volume, "volume 2": volume}, translator)
    assert run({}, noise).volumes


def test_command_writes_volumes_that_are_marked_and_can_be_made_again(a_model, a_label_map, tmp_path, call):
    model = a_model("label-to-volume", alive=True)
    write_volume(a_label_map, tmp_path / "parts.nrrd")
    said = call("synthesize", tmp_path / "parts.nrrd", "--model", model, "--out", tmp_path / "many", "--count", 2,
                "--seed", 5, "--json")  # fmt: skip
    assert said.returncode == 0, said.stderr
    files = json.loads(said.stdout)["files"]
    assert [entry["seed"] for entry in files] == [5, 6]
    folder = tmp_path / "many" / "sub-0006" / "anat"
    beside = json.loads((folder / "sub-0006_image.json").read_text(encoding="utf-8"))
    assert beside["synthetic"] is True
    assert beside["model_sha256"]["faithful"] == sha256_of(next((tmp_path / "label-to-volume ü" / "models").iterdir()))
    assert beside["settings"]["seed"] == 6
    assert beside["inputs"][0]["name"] == "parts.nrrd"
    made = read_volume(folder / "sub-0006_image.nii.gz")
    assert np.allclose(made.ijk_to_ras, a_label_map.ijk_to_ras, atol=1e-3)
    said = call("synthesize", "--again", folder / "sub-0006_image.json", tmp_path / "again.nii.gz", "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["files"][0]["same"] is True
    assert np.array_equal(read_volume(tmp_path / "again.nii.gz").array, made.array)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--model", "{noise}"], 2, "Say where to write"),
        (["--model", "{noise}", "--count", "3", "{out}.nii.gz"], 2, "3 volumes need a folder"),
        (["--model", "{noise}", "--out", "{out}.nii.gz"], 2, "is the name of a volume file"),
        (["--model", "{noise}", "{out}.txt"], 2, "is not the name of a volume file"),
        (["--model", "{noise}", "--truncation", "2", "{out}.nii.gz"], 2, "--truncation must lie between 0 and 1"),
        (["{out}.nii.gz"], 1, "Say which model"),
        (["--model", "{noise}", "scan.nii.gz", "{out}.nii.gz"], 1, "makes volumes from noise and reads none"),
        (["--model", "{noise}", "--reference", "scan.nii.gz", "{out}.nii.gz"], 1, "--reference goes with"),
        (["--model", "denoise", "{out}.nii.gz"], 1, "is for the task 'enhance'"),
        (["--model", "{noise}", "{out}/none/x.nii.gz"], 1, "There is no folder"),
        (["--model", "{noise}", "{out}.nii.gz", "--nnunet"], 2, "are for sets"),
        (["--model", "{noise}", "--labels", "parts.nrrd", "{out}.nii.gz"], 1, "--labels goes with"),
        (["--model", "none such", "--out", "{out}", "--count", "2"], 1, "There is no model"),
        (["--again", "{noise}.json", "{out}.nii.gz"], 1, "can not be read"),
        (["--again", "x.json", "--out", "{out}"], 2, "--again makes one volume"),
    ],
)
def test_command_says_what_is_wrong_and_leaves_nothing(arguments, code, sentence, a_model, tmp_path, call):
    places = {"noise": a_model("from-noise"), "out": str(tmp_path / "made")}
    said = call("synthesize", *(argument.format(**places) for argument in arguments))
    assert said.returncode == code
    assert sentence in said.stderr
    assert len(said.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("made*"))
