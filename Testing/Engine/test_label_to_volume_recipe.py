"""How label-to-volume learns: labels found in volumes, their statistics, losses that leave chance alone, resuming."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import phantoms
from medgan.recipes import label_to_volume as recipe
from medgan.recipes.label_to_volume_data import Lessons, Parts, Scan, classes, filled, joined, scan, table, textures
from medgan.volume import Volume, write_volume


@pytest.fixture(scope="module")
def a_scan() -> Scan:
    array = phantoms.rician(phantoms.head((20, 30, 34)), sigma=20.0)
    return scan("leg_CT", "CT", Volume(array, phantoms.geometry((1.0, 1.2, 3.0))), Parts())


def test_classes_and_their_statistics_are_those_of_the_image():
    image = np.repeat(np.array([0.1, 0.5, 0.9], np.float32), 1000).reshape(3, 25, 40)
    found = classes(image, 3, np.zeros(3))
    assert np.array_equal(found, np.repeat([0, 1, 2], 1000).reshape(3, 25, 40))
    assert np.allclose(table(image, found), [[1000, 0.1, 0], [1000, 0.5, 0], [1000, 0.9, 0]], atol=1e-6)


def test_joined_labels_have_the_statistics_of_both():
    held = torch.tensor([[100.0, 0.0, 0.0], [30.0, 0.2, 0.01], [10.0, 0.6, 0.04]])
    alone = joined(held, torch.Generator().manual_seed(0), 0.0)
    assert torch.allclose(alone, torch.tensor([[0.0, 0.0], [0.2, 0.1], [0.6, 0.2]]))
    mean = (30 * 0.2 + 10 * 0.6) / 40
    square = (30 * (0.01 + 0.04) + 10 * (0.04 + 0.36)) / 40
    wanted = torch.tensor([mean, (square - mean**2) ** 0.5])
    found = [joined(held, torch.Generator().manual_seed(seed), 1.0) for seed in range(8)]
    together = [one for one in found if torch.equal(one[1], one[2])]
    assert together
    assert torch.allclose(together[0][1], wanted, atol=1e-5)
    assert all(torch.equal(one[0], torch.zeros(2)) for one in found)  # the background stays alone


def test_a_lesson_shows_one_place_of_the_volume_and_its_labels(a_scan):
    lesson = Lessons([a_scan], 16).lesson(torch.Generator().manual_seed(3))
    assert lesson.image.shape == (1, 16, 16, 16)
    assert lesson.condition.shape == (2, 16, 16, 16)
    correlation = np.corrcoef(lesson.image.ravel(), lesson.condition[0].ravel())[0, 1]
    assert correlation > 0.8
    again = Lessons([a_scan], 16).lesson(torch.Generator().manual_seed(3))
    assert torch.equal(lesson.texture[0], again.texture[0])
    assert not torch.equal(*lesson.texture)
    assert filled(torch.rand(2, 3, 16, 16), 16).shape == (2, 16, 16, 16)
    assert textures([a_scan])[0]["contrast"] == "CT"


def test_the_error_of_the_mean_leaves_chance_alone_and_energies_do_not(a_scan):
    torch.manual_seed(0)
    batch = recipe.Batch(Lessons([a_scan], 16).batch(2, torch.Generator().manual_seed(1)), torch.device("cpu"))
    noisy = batch.image + 0.3 * batch.unit * torch.randn_like(batch.image)
    assert abs(float(recipe.mean_error(noisy, batch))) < 0.01
    assert float(recipe.mean_error(batch.image + 0.3 * batch.unit, batch)) == pytest.approx(0.09, rel=0.01)
    assert float(recipe.energy_error(batch.image, batch)) == 0.0
    assert float(recipe.energy_error(noisy, batch)) > 0.2


def test_training_learns_goes_on_and_leaves_what_a_bundle_needs(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    write_volume(Volume(phantoms.rician(phantoms.head((20, 24, 24)), 20.0), np.eye(4)), data / "one.nii.gz")
    (data / "manifest.csv").write_text("file,modality\none.nii.gz,CT\nmask.nii.gz,mask\n", encoding="utf-8")
    words = ["--data", str(data), "--out", str(out), "--minutes", "0", "--batch", "1", "--side", "16"]
    words += ["--log-every", "1", "--device", "cpu"]
    recipe.main([*words, "--steps", "2"])
    recipe.main([*words, "--steps", "4"])
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {"mean", "energy", "critic", "adversarial"} <= set(lines[-1])
    state = torch.load(out / "model.pt", weights_only=True)
    assert all(tensor.dtype is torch.float16 for tensor in state.values())
    assert float(state["leave.weight"].abs().max()) > 0  # it has left the mixture
    assert json.loads((out / "about.json").read_text(encoding="utf-8"))["textures"][0]["contrast"] == "CT"
