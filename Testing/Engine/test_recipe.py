"""The training recipe on a small data folder: it learns, and stops and goes on without a trace."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import phantoms
from medgan.models import sha256_of
from medgan.recipes import denoise
from medgan.recipes.bundle import update_bundle
from medgan.recipes.data import load_sources
from medgan.volume import LabelMap, Volume, write_volume


@pytest.fixture
def a_data_folder(tmp_path):
    """Two MR heads, one CT and one whole-head label map, with their manifest."""
    folder = tmp_path / "data"
    folder.mkdir()
    head = phantoms.head((40, 44, 48))
    soft = head + 20 * np.random.default_rng(0).standard_normal(head.shape).astype(np.float32)
    write_volume(Volume(np.abs(soft), np.eye(4)), folder / "one.nii.gz")
    write_volume(Volume(np.abs(soft[::-1]), np.eye(4)), folder / "two.nii.gz")
    write_volume(Volume(soft - 1000, np.eye(4)), folder / "ct.nii.gz")
    labels = np.digitize(head, [1, 350, 600, 900]).astype(np.int16)
    write_volume(LabelMap(labels, np.eye(4)), folder / "labels.nii.gz")
    rows = ["file,modality", "one.nii.gz,MR T1", "two.nii.gz,MR T2", "ct.nii.gz,CT head"]
    rows.append("labels.nii.gz,label map (FreeSurfer codes)")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def train(data, out, steps: int, *more: str) -> dict[str, torch.Tensor]:
    arguments = f"--data {data} --out {out} --minutes 0 --batch 1 --patch 18 --synthetic 1 --log-every 1 --device cpu"
    denoise.main([*arguments.split(), "--steps", str(steps), *more])
    return torch.load(out / "checkpoint.pt", weights_only=True)


def test_training_that_goes_on_gives_the_weights_of_an_uninterrupted_one(a_data_folder, tmp_path, monkeypatch):
    whole = train(a_data_folder, tmp_path / "whole", 6, "--adversarial-share", "0.5")

    class Stopped(Exception):
        pass

    log = denoise.Trainer.log

    def stop_after_two(self, entry):
        log(self, entry)
        if entry["step"] == 2:
            self.save()
            raise Stopped

    monkeypatch.setattr(denoise.Trainer, "log", stop_after_two)
    with pytest.raises(Stopped):
        train(a_data_folder, tmp_path / "parts", 6, "--adversarial-share", "0.5")
    monkeypatch.setattr(denoise.Trainer, "log", log)
    parts = train(a_data_folder, tmp_path / "parts", 6, "--adversarial-share", "0.5")
    assert parts["step"] == 6
    for part in ("network", "average", "faithful", "discriminator"):
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, parts[part][name]), (part, name)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert "discriminator" in lines[-1]
    assert all(np.isfinite(value) for line in lines for value in line.values())


def test_training_lowers_the_error(a_data_folder, tmp_path):
    train(a_data_folder, tmp_path / "run", 40, "--adversarial-share", "0", "--rate", "0.003")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, last = (np.mean([line["gain_db"] for line in part]) for part in (lines[:12], lines[-12:]))
    assert last > first


def test_left_out_volumes_are_never_read(a_data_folder):
    (a_data_folder / "two.nii.gz").write_bytes(b"not a volume")
    names = [source.name for source in load_sources(a_data_folder / "manifest.csv", {"two"})]
    assert names == ["one", "ct"]
    assert denoise.left_out("one,two") == {"one", "two"}
    listed = a_data_folder / "held_out.json"
    listed.write_text(
        json.dumps({"note": "why", "volumes": [{"file": "mr/two.nii.gz"}], "more": [{"file": "x.nii.gz"}]})
    )
    assert denoise.left_out(str(listed)) == {"two", "x"}


def test_trained_weights_become_a_bundle(a_data_folder, tmp_path):
    train(a_data_folder, tmp_path / "run", 2, "--adversarial-share", "0.5")
    bundle = tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "metadata.json").write_text(json.dumps({"medgan": {"network": "medgan.DenoiseNet"}}))
    update_bundle(tmp_path / "run", bundle)
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    for key, name in (("faithful", "model.pt"), ("natural", "model_natural.pt")):
        assert metadata["medgan"]["weights"][key]["sha256"] == sha256_of(bundle / "models" / name)
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    with pytest.raises(ValueError, match="train first"):
        update_bundle(a_data_folder, bundle)
