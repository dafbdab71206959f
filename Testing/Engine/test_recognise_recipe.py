"""The recipe of recognition on a small data folder: what its examples are, that it goes on, and what it calibrates."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch

import phantoms
from medgan.bundle import read_card
from medgan.recipes import recognise, recognise_calibration, recognise_made
from medgan.recipes.recognise_data import SHARES, Examples
from medgan.recipes.recognise_scans import answer, example_of, kind_in, label_heads, load, region_in
from medgan.recipes.recognise_views import view_of
from medgan.recognition.look import heads_of
from medgan.recognition.slices import straightened
from medgan.volume import LabelMap, Volume, write_volume


@pytest.fixture
def a_data_folder(tmp_path):
    """A CT, two MR heads, and a head label map of FreeSurfer codes, with the manifest and the list of what is held."""
    folder = tmp_path / "data"
    folder.mkdir()
    head = phantoms.head((40, 44, 48))
    rng = np.random.default_rng(0)
    soft = np.abs(head + 20 * rng.standard_normal(head.shape).astype(np.float32))
    write_volume(Volume(soft, np.eye(4)), folder / "one.nii.gz")
    write_volume(Volume(soft[::-1], np.eye(4)), folder / "two.nii.gz")
    write_volume(Volume(soft - 1000, np.eye(4)), folder / "ct.nii.gz")
    labels = np.choose(np.digitize(head, [1, 350, 600, 900]), [0, 515, 4, 2, 3]).astype(np.int16)
    for name in ("synthseg_01", "synthseg_17"):
        write_volume(LabelMap(labels, np.diag([2.0, 2.0, 2.0, 1.0])), folder / f"{name}.nii.gz")
    rows = ["file,modality", "one.nii.gz,MR T1", "two.nii.gz,MR T2", "ct.nii.gz,CT chest 2 mm"]
    rows += [f"synthseg_{number}.nii.gz,label map (FreeSurfer codes)" for number in ("01", "17")]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "held.json").write_text(json.dumps({"volumes": [], "validation": [{"file": "two.nii.gz"}]}))
    return folder


def train(data, out, steps: int) -> dict[str, torch.Tensor]:
    arguments = f"--data {data} --out {out} --leave-out {data / 'held.json'} --minutes 0 --batch 2 --made 8"
    recognise.main([*arguments.split(), "--steps", str(steps), "--log-every", "1"])
    return torch.load(out / "checkpoint.pt", weights_only=True)["network"]


def test_training_goes_on_as_if_nothing_had_happened(a_data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(recognise, "calibrated", lambda network, examples, seed: {})
    monkeypatch.setattr(recognise.Trainer, "share", lambda self: self.step / 4)  # the rate depends on the budget
    whole = train(a_data_folder, tmp_path / "whole", 4)

    class Stopped(Exception):
        pass

    log, begin, kept = recognise.files.log, recognise.Trainer.resume, []

    def stop_after_two(entry, folder):
        log(entry, folder)
        if entry["step"] == 2:
            kept[-1].save()
            raise Stopped

    monkeypatch.setattr(recognise.Trainer, "resume", lambda self: (kept.append(self), begin(self)))
    with monkeypatch.context() as interrupted:
        interrupted.setattr(recognise.files, "log", stop_after_two)
        with pytest.raises(Stopped):
            train(a_data_folder, tmp_path / "halves", 4)
    halves = train(a_data_folder, tmp_path / "halves", 4)
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_calibrated_weights_become_a_bundle(a_data_folder, tmp_path, monkeypatch):
    few = functools.partial(recognise.calibrated, views=1, made=8)
    monkeypatch.setattr(recognise, "calibrated", few)
    train(a_data_folder, tmp_path / "run", 1)
    found = json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert set(found) == {"kind", "region", "plane"}
    assert all(0.5 <= head["temperature"] <= 4.0 and 0.4 <= head["threshold"] <= 0.95 for head in found.values())
    bundle = tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    heads = {"kind": {"title": "Kind", "answers": ["CT", "PET", "MR T1", "MR T2", "MR FLAIR", "label map"]}}
    metadata = {"medgan": {"task": "recognise", "network": "medgan.RecogniseNet", "heads": heads}}
    for head in ("region", "plane"):
        heads[head] = {"title": head, "answers": ["a", "b"]}
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    recognise_calibration.into_bundle(tmp_path / "run", bundle)
    head = heads_of(read_card(bundle))[0]
    assert (head.temperature, head.threshold) == (found["kind"]["temperature"], found["kind"]["threshold"])


def test_temperature_makes_overconfident_answers_as_sure_as_they_are_right():
    torch.manual_seed(0)
    truth = torch.randint(3, (4000,))
    told = torch.where(torch.rand(4000) < 0.8, truth, (truth + 1) % 3)
    logits = 8.0 * torch.nn.functional.one_hot(told, 3).float()
    logits[:, 2] -= 1e-3
    found = recognise_calibration._of_head(logits, torch.nn.functional.one_hot(truth, 3).float())
    share = float(torch.softmax(torch.tensor([8.0, 0.0, 0.0]) / found["temperature"], 0)[0])
    assert share == pytest.approx(0.8, abs=0.03)
    assert found["answered"] == 0.0  # a fifth is wrong at any confidence, so nothing is answered


def test_what_a_manifest_says():
    assert [kind_in(text) for text in ("MR T2w 3D", "CT chest", "PET extremity", "GTV mask", "MR FLAIR 2D")] == [
        "MR T2", "CT", "PET", "label map", "MR FLAIR"
    ]  # fmt: skip
    regions = [region_in(text) for text in ("MR T1W 2D", "CT torso 3mm", "MR_T1 extremity", "GTV mask", "lesion mask")]
    assert regions == ["head", "abdomen", "limb", "", ""]
    assert answer("kind", "MR").tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert answer("region", "")[-1] == 1.0


def test_slices_of_a_volume_of_chest_and_abdomen_are_told_apart():
    volume = Volume(np.random.default_rng(0).random((60, 30, 30), np.float32), np.eye(4))
    scan = example_of(straightened(volume, volume.array), "totalseg_aorta_ct_1p5mm", "CT", "abdomen")
    assert torch.equal(scan.region[0], answer("region", "abdomen"))
    assert torch.equal(scan.region[50], answer("region", "chest"))
    view = view_of(scan, torch.Generator().manual_seed(1))
    assert view.volume["region"].sum() == pytest.approx(1.0)
    assert 0.0 <= float(view.slices.min()) <= float(view.slices.max()) <= 1.0


def test_made_examples_are_of_every_kind_and_follow_from_their_number(a_data_folder):
    real = load(a_data_folder / "manifest.csv")
    first, second = (Examples(real, label_heads(real)) for _ in range(2))
    for number in range(2 * len(SHARES)):
        first.make(number, 3)
        second.make(number, 3)
    for kind in SHARES:
        assert len(first.held[kind]) == 2
        for one, other in zip(first.held[kind], second.held[kind], strict=True):
            assert torch.equal(one.array, other.array)
            assert torch.isfinite(one.array).all()
            assert torch.equal(one.kind, answer("kind", kind))
    assert all(example.flat > 0.5 for example in first.held["label map"])
    assert float(first.held["CT"][0].array.min()) < -500.0


def test_simple_bodies_have_what_their_part_has():
    generator = torch.Generator().manual_seed(0)
    for part, wanted in (("chest", recognise_made.LUNG), ("abdomen", recognise_made.KIDNEY)):
        found = [recognise_made.simple_body(part, generator) for _ in range(4)]
        assert sum(int((labels == wanted).sum() > 200) for labels, _ in found) >= 3
        assert all(bool((labels == recognise_made.CORTICAL).any()) for labels, _ in found)
    limb, chest = recognise_made.simple_body("limb", generator)
    assert (limb == recognise_made.MARROW).any()
    assert not (limb == recognise_made.LUNG).any()
    assert float(chest.sum()) == 0.0
