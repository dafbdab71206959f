"""The training recipe on a small data folder: it learns, and stops and goes on without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import medgan
import phantoms
from medgan.models import load_state, read_card, sha256_of
from medgan.networks.deblur import DeblurNet
from medgan.networks.denoise import DenoiseNet
from medgan.networks.superres import SliceNet
from medgan.noise import SIGNED
from medgan.recipes import deblur, denoise, superres, training
from medgan.recipes.bundle import update_bundle
from medgan.recipes.data import NoisyPatches, Pool, load_label_maps, load_sources
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


def train(data, out, steps: int, *more: str, recipe=denoise) -> dict[str, torch.Tensor]:
    arguments = f"--data {data} --out {out} --minutes 0 --batch 1 --patch 18 --synthetic 1 --log-every 1 --device cpu"
    recipe.main([*arguments.split(), "--steps", str(steps), *more])
    return torch.load(out / "checkpoint.pt", weights_only=True)


def test_data_without_a_manifest_and_devices_are_told_on_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        denoise.main(["--data", str(tmp_path), "--out", str(tmp_path / "run")])
    assert f"there is no manifest.csv in '{tmp_path}'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        denoise.main(["--help"])
    assert "--device {auto,cuda,mps,cpu}" in capsys.readouterr().out


TWO_PROCESSES = """
import sys, torch
from medgan.recipes import denoise, training

save = training.Trainer.save
def keep(self):
    save(self)
    torch.save(self.network.state_dict(), self.options.out / f"process{self.world.rank}.pt")
training.Trainer.save = keep
denoise.main(sys.argv[1:])
"""


def test_processes_of_torchrun_learn_one_network_from_patches_of_their_own(a_data_folder, tmp_path):
    program, out = tmp_path / "two.py", tmp_path / "two"
    program.write_text(TWO_PROCESSES)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    words += f"--data {a_data_folder} --out {out} --minutes 0 --steps 3 --batch 1 --patch 18 --synthetic 1".split()
    words += ["--log-every", "1", "--adversarial-share", "0.3", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(Path(medgan.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    alone = train(a_data_folder, tmp_path / "one", 3, "--adversarial-share", "0.3")["network"]
    one, other = (torch.load(out / f"process{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())
    assert not all(torch.equal(one[name], tensor) for name, tensor in alone.items())


def test_training_that_goes_on_gives_the_weights_of_an_uninterrupted_one(a_data_folder, tmp_path, monkeypatch):
    whole = train(a_data_folder, tmp_path / "whole", 6, "--adversarial-share", "0.5")

    class Stopped(Exception):
        pass

    log = training.Trainer.log

    def stop_after_two(self, entry):
        log(self, entry)
        if entry["step"] == 2:
            self.save()
            raise Stopped

    monkeypatch.setattr(training.Trainer, "log", stop_after_two)
    with pytest.raises(Stopped):
        train(a_data_folder, tmp_path / "parts", 6, "--adversarial-share", "0.5")
    monkeypatch.setattr(training.Trainer, "log", log)
    parts = train(a_data_folder, tmp_path / "parts", 6, "--adversarial-share", "0.5")
    assert parts["step"] == 6
    for part in ("network", "average", "faithful", "discriminator"):
        for name, tensor in whole[part].items():
            assert torch.equal(tensor, parts[part][name]), (part, name)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert "discriminator" in lines[-1]
    assert all(np.isfinite(value) for line in lines for value in line.values())


# Each with its network, its patches, and the fall of the mean logarithm of the error that 30 steps bring at least.
RECIPES = {
    "denoise": (denoise, DenoiseNet, NoisyPatches, 0.02),
    "superres": (superres, SliceNet, superres.SlicePatches, 0.0003),
    "deblur": (deblur, DeblurNet, deblur.BlurPatches, 0.0003),
}


@pytest.mark.parametrize("name", RECIPES)
def test_training_lowers_the_error_on_patches_it_has_not_seen(a_data_folder, tmp_path, name):
    recipe, make, patches, least = RECIPES[name]
    torch.manual_seed(3)
    start = make()
    torch.save(start.state_dict(), tmp_path / "start.pt")
    more = f"--adversarial-share 0 --rate 0.003 --start {tmp_path / 'start.pt'}".split()
    train(a_data_folder, tmp_path / "run", 30, *more, recipe=recipe)
    trained = make()
    held = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    trained.load_state_dict({key: tensor.float() for key, tensor in held.items()})
    source = load_sources(a_data_folder / "manifest.csv", {"one", "ct"})
    fresh = patches(Pool(source, [], torch.device("cpu")), 18)
    generator = torch.Generator().manual_seed(99)
    before, after = [], []
    with torch.no_grad():
        for _ in range(6):
            batch = fresh.batch(2, generator)
            for network, errors in ((start, before), (trained, after)):
                errors.append(training.squared_error(network(*batch.inputs), batch.clean).log())
    assert torch.stack(after).mean() < torch.stack(before).mean() - least


def test_the_denoiser_is_told_the_noise_that_is_measured(a_data_folder):
    """Not one that follows from the source alone: by that the network would know the volume again."""
    patches = NoisyPatches(Pool(load_sources(a_data_folder / "manifest.csv", set()), [], torch.device("cpu")), 18)
    batch = patches.batch(40, torch.Generator().manual_seed(4))
    of_ct = torch.tensor([name.startswith("ct") for name in batch.names])
    assert of_ct.any()
    assert not of_ct.all()
    signed = torch.isclose(batch.spread[:, 0], SIGNED * batch.sigma)
    assert signed[of_ct].all(), "values of CT lie below and above 0"
    assert not signed[~of_ct].all(), "those of most MR do not"
    strong = batch.level > 0.04
    assert strong.any()
    assert 0.9 < (batch.sigma / batch.level)[strong].median() < 1.5
    shapes = batch.spread[:, 1:] / batch.sigma[:, None]
    apart = (shapes[:, None] - shapes[None]).abs().mean(dim=-1) + torch.eye(40)
    assert apart.min() > 1e-4, "no two regions have the same profile"


def test_network_built_around_the_denoiser_may_start_from_it(a_data_folder, tmp_path):
    """As wide as the denoiser is, unless told otherwise."""
    torch.save(DenoiseNet(channels=40).state_dict(), tmp_path / "denoise.pt")
    train(a_data_folder, tmp_path / "run", 1, "--start", str(tmp_path / "denoise.pt"), "--rate", "0", recipe=superres)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["network"]
    for name, tensor in torch.load(tmp_path / "denoise.pt", weights_only=True).items():
        assert torch.equal(state[f"core.{name}"], tensor)


@pytest.mark.parametrize("size", [training.LARGER, {"channels": 40}])
def test_larger_network_starts_with_the_answers_of_the_smaller_one(a_data_folder, size):
    torch.manual_seed(5)
    small, large = DenoiseNet(), DenoiseNet(**size)
    for parameter in small.parameters():  # a fresh network answers like a threshold, whatever lies inside
        torch.nn.init.normal_(parameter, std=0.05)
    training.begin_with(small.state_dict(), large)
    batch = NoisyPatches(Pool(load_sources(a_data_folder / "manifest.csv", set()), [], torch.device("cpu")), 18).batch(
        2, torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        torch.testing.assert_close(large(*batch.inputs), small(*batch.inputs))
    with pytest.raises(ValueError, match="has no deep" if "deepest_pairs" in size else "has the shape"):
        training.begin_with(large.state_dict(), small)


def test_further_channels_learn_at_once():
    torch.manual_seed(6)
    small, large = DenoiseNet(), DenoiseNet(channels=40)
    torch.nn.init.normal_(small.leave.weight, std=0.05)
    training.begin_with(small.state_dict(), large)
    large(torch.rand(1, 1, 18, 18, 18), torch.tensor([0.1]), torch.full((1, 64), 0.1)).square().mean().backward()
    assert (large.leave.weight.grad[:, 32:].abs().amax(dim=0) > 0).all()


def test_left_out_volumes_are_never_read(a_data_folder):
    (a_data_folder / "two.nii.gz").write_bytes(b"not a volume")
    names = [source.name for source in load_sources(a_data_folder / "manifest.csv", {"two"})]
    assert names == ["one", "ct"]
    assert len(load_label_maps(a_data_folder / "manifest.csv", set())) == 1
    assert load_label_maps(a_data_folder / "manifest.csv", {"labels"}) == []
    assert training.left_out("one,two") == {"one", "two"}
    listed = a_data_folder / "held_out.json"
    listed.write_text(
        json.dumps({"note": "why", "volumes": [{"file": "mr/two.nii.gz"}], "more": [{"file": "x.nii.gz"}]})
    )
    assert training.left_out(str(listed)) == {"two", "x"}


def test_network_is_as_wide_and_deep_as_the_weights_that_it_starts_from(a_data_folder, tmp_path):
    torch.save(DenoiseNet(channels=40, **training.LARGER).state_dict(), tmp_path / "start.pt")
    train(a_data_folder, tmp_path / "run", 1, "--start", str(tmp_path / "start.pt"), recipe=superres)
    size = json.loads((tmp_path / "run" / "arguments.json").read_text())
    assert size == {"channels": 40, **training.LARGER}
    SliceNet(**size).load_state_dict(torch.load(tmp_path / "run" / "model.pt", weights_only=True))


def test_trained_weights_become_a_bundle(a_data_folder, tmp_path):
    train(a_data_folder, tmp_path / "run", 2, "--adversarial-share", "0.5", "--larger", "--channels", "40")
    bundle = tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "metadata.json").write_text(json.dumps({"medgan": {"network": "medgan.DenoiseNet"}}))
    update_bundle(tmp_path / "run", bundle)
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    for key, name in (("faithful", "model.pt"), ("natural", "model_natural.pt")):
        assert metadata["medgan"]["weights"][key]["sha256"] == sha256_of(bundle / "models" / name)
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    card = read_card(bundle)
    for key, name in (("faithful", "model.pt"), ("natural", "model_natural.pt")):
        trained, held = torch.load(tmp_path / "run" / name, weights_only=True), load_state(card, key)
        for part, tensor in trained.items():
            torch.testing.assert_close(held[part].float(), tensor.float(), rtol=0.04, atol=1e-5)
    DenoiseNet(**metadata["medgan"]["network_arguments"]).load_state_dict(state)
    (tmp_path / "run" / "model_natural.pt").unlink()
    update_bundle(tmp_path / "run", bundle)
    assert [path.name for path in (bundle / "models").iterdir()] == ["model.pt"], "no weights of another training"
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    with pytest.raises(ValueError, match="train first"):
        update_bundle(a_data_folder, bundle)
