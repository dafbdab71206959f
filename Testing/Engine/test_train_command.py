"""``medgan train`` as a person sees it: real processes and files, a model at the end, one sentence for each trouble."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import model_folders
import phantoms
from command_line import command, environment, one_sentence, run, run_alone
from medgan import models, processes
from medgan.evaluation.table import from_png
from medgan.job import Job, JobStatus
from medgan.settings import TrainKind, TrainSettings
from medgan.training import checkpoint, claim
from medgan.training.live import sparkline
from medgan.volume import LabelMap, Volume, read_volume, write_volume

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

QUICK = ("--minutes", 2, "--patch", 16, "--batch", 1, "--log-every", 2, "--validate-every", 10, "--sample-every", 0)
SHAPE = (19, 23, 21)


def a_head(seed: int) -> Volume:
    noisy = phantoms.rician(phantoms.head(SHAPE), 10.0, seed)
    return Volume(np.rint(noisy), phantoms.awkward_geometry(), voxel_type="int16")


def volumes_in(folder: Path, count: int = 3, ending: str = ".nii.gz") -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        write_volume(a_head(number), folder / f"p{number}_T1{ending}")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict:
    """One training of 20 steps from a tiny model, in a child process, that several tests look at."""
    root = tmp_path_factory.mktemp("entraîné à")
    model_folders.write_bundle(root / "models" / "tiny")
    data = volumes_in(root / "my scans")
    write_volume(a_head(0), data / "p9_copy.nii.gz")
    more = ("--steps", 20, "--start", "tiny", "--name", "own", "--out", root / "run", *QUICK)
    done = run_alone("train", "enhance", data, *more, MEDGAN_MODELS=str(root / "models"))
    return {"root": root, "data": data, "done": done, "more": more}


def test_training_says_what_became_of_it(trained):
    done = trained["done"]
    assert done.returncode == 0, done.stderr
    assert "own" in done.stdout
    assert re.search(r"20 in (\d+\.?\d* seconds|[1-9].* minutes) \(", done.stdout)
    assert "Is it done?" in done.stdout
    assert "medgan enhance ... --model own" in done.stdout
    assert "Rejected: p9_copy.nii.gz: It has the same voxels as 'p0_T1.nii.gz'." in done.stderr
    assert "psnr" in done.stderr  # a line for each validation where there is no terminal


def test_run_folder_holds_what_can_be_looked_up_later(trained):
    folder = trained["root"] / "run"
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["steps"], settings["start"]) == (20, "tiny")
    steps = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in steps) == 20
    assert any("val_psnr" in row for row in steps)
    data = json.loads((folder / "data.json").read_text())
    assert [one["use"] for one in data["read"]].count("validation") == 1
    assert not (folder / "running.json").exists()


def test_card_says_what_the_model_was_made_of(trained, monkeypatch):
    monkeypatch.setenv("MEDGAN_MODELS", str(trained["root"] / "models"))
    card = models.find("own")
    models.verify(card)
    assert (card.task, card.network, card.restores) == ("enhance", "medgan.DenoiseNet", "noise")
    assert card.network_arguments == model_folders.TINY
    assert card.licence == "not stated"
    assert 5.0 < card.figures["psnr"] < 60.0
    assert card.details["data"]["patients"] == 3
    assert card.details["data"]["spacing_mm"]["largest"] == pytest.approx([0.7, 1.1, 2.3], rel=1e-5)
    assert card.details["training"]["settings"]["start"] == "tiny"
    assert "my scans" not in json.dumps(card.details)
    text = (card.folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert str(trained["root"]) not in text + (card.folder / "configs" / "metadata.json").read_text(encoding="utf-8")
    assert "p0" not in text  # no names of patients or files
    assert card.details["data"]["sha256"] in text
    picture = from_png((card.folder / "docs" / "curves.png").read_bytes())
    assert picture.shape[2] == 3
    assert 0.001 < (picture < 0.9).mean() < 0.2
    network = models.build_network(card, models.load_state(card, "faithful"))
    assert sum(parameter.numel() for parameter in network.parameters()) > 0


def test_model_is_used_by_its_name(trained):
    root = trained["root"]
    noisy = Volume(phantoms.rician(phantoms.head(phantoms.ODD_SHAPE), 60.0), phantoms.awkward_geometry())
    write_volume(noisy, root / "noisy.nrrd")
    done = run("enhance", root / "noisy.nrrd", root / "out.nrrd", "--model", "own", MEDGAN_MODELS=str(root / "models"))
    assert done.returncode == 0, done.stderr
    result = read_volume(root / "out.nrrd")
    np.testing.assert_allclose(result.ijk_to_ras, noisy.ijk_to_ras, atol=1e-4)
    clean = phantoms.head(phantoms.ODD_SHAPE)
    assert np.abs(result.array - clean).mean() < np.abs(noisy.array - clean).mean()


def test_same_command_goes_on_and_keeps_its_model(trained, call, monkeypatch):
    root = trained["root"]
    monkeypatch.setenv("MEDGAN_MODELS", str(root / "models"))
    before = models.find("own").weights["faithful"].sha256
    more = [24 if value == 20 else value for value in trained["more"]]
    done = call("train", "enhance", trained["data"], *more)
    assert done.returncode == 0, done.stderr
    assert "The training goes on from step 20." in done.stderr
    card = models.find("own")
    assert card.details["training"]["steps"] == 24
    assert card.weights["faithful"].sha256 != before or card.details["training"]["done"]
    assert not (root / "models" / "own-2").exists()
    added = trained["data"] / "p7_T1.nii.gz"
    write_volume(a_head(7), added)
    call("train", "enhance", trained["data"], *[26 if value == 24 else value for value in more])
    added.unlink()
    assert "The data changed while it was trained" in (card.folder / "docs" / "README.md").read_text(encoding="utf-8")


def test_other_training_of_that_name_gets_another_name(trained, call, monkeypatch):
    root = trained["root"]
    monkeypatch.setenv("MEDGAN_MODELS", str(root / "models"))
    before = models.find("own").weights["faithful"].sha256
    more = [root / "run2" if value == root / "run" else 4 if value == 20 else value for value in trained["more"]]
    done = call("train", "enhance", trained["data"], *more, "--json")
    report = json.loads(done.stdout)
    assert report["name"] == "own-2"
    assert Path(report["bundle"]).parent == (root / "models").resolve()
    assert models.find("own").weights["faithful"].sha256 == before


def test_other_settings_do_not_go_on_in_a_run_folder(trained, call, monkeypatch):
    monkeypatch.setenv("MEDGAN_MODELS", str(trained["root"] / "models"))
    done = call("train", "enhance", trained["data"], *trained["more"], "--seed", 3)
    one_sentence(done, "holds a training with other settings. --seed is 0 there, not 3")


def test_run_that_was_killed_while_it_saved_goes_on_with_its_own_settings(tmp_path):
    settings = TrainSettings(data="", out=str(tmp_path), batch=2)
    with claim.opened(settings):
        checkpoint.write({"step": 1}, tmp_path)
    (tmp_path / checkpoint.NAME).rename(tmp_path / checkpoint.PREVIOUS)
    assert checkpoint.read(tmp_path)[0]["step"] == 1
    with pytest.raises(claim.RunError, match=r"'batch' is 2 there, not 8"), claim.opened(replace(settings, batch=8)):
        pass


def test_data_of_the_same_name_in_another_folder_is_other_data(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_MODELS", str(trained["root"] / "models"))
    (tmp_path / "my scans").mkdir()
    done = run("train", "enhance", "my scans", *trained["more"], cwd=tmp_path)
    one_sentence(done, "holds a training with other settings. The data is")
    held = json.loads((trained["root"] / "run" / "settings.json").read_text(encoding="utf-8"))
    monkeypatch.chdir(trained["root"])
    mine = {**held, "data": "my scans", "start": "models/tiny"}
    settings = TrainSettings.from_dict({name: mine[name] for name in TrainSettings.__dataclass_fields__})
    whole = claim.completed(settings)
    assert Path(whole.data).is_absolute()
    assert Path(whole.data).samefile(trained["data"])
    assert Path(whole.start).samefile(trained["root"] / "models" / "tiny")
    assert claim.completed(replace(settings, start="tiny")).start == "tiny"


def test_a_model_that_makes_volumes_worse_says_so_where_it_is_met(trained, call, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path / "models"))
    made = ("--steps", 2, "--rate", 1, "--average", 0, "--name", "bad")
    found = call("train", "enhance", trained["data"], *QUICK, *made)
    assert found.returncode == 0
    said = " ".join(found.stdout.split())
    assert "Results are farther from the truth than their input" in said
    assert "Use it" not in said
    assert "do not use such a model" in models.find("bad").limits
    assert "do not use such a model" in (tmp_path / "models" / "bad" / "docs" / "README.md").read_text(encoding="utf-8")


@posix_only
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    model_folders.write_bundle(tmp_path / "models" / "tiny")
    data, out = volumes_in(tmp_path / "data"), tmp_path / "run"
    more = ("--steps", 100000, "--start", "tiny", "--out", out, *QUICK)
    process = subprocess.Popen(
        command("train", "enhance", data, *more),
        env=environment(MEDGAN_MODELS=str(tmp_path / "models")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and not (out / "log.jsonl").exists():
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, complaint
    assert said == ""
    assert "what was learned is saved in" in complaint
    assert "Traceback" not in complaint
    assert (out / "checkpoint.pt").is_file()
    assert not (out / "running.json").exists()
    assert not (tmp_path / "models" / "enhance-data").exists()


def test_training_of_scene_volumes_in_a_job_can_be_cancelled(tmp_path, a_model):
    volumes = {f"images/0{number} Head": a_head(number) for number in range(2)}
    out = tmp_path / "run"
    settings = TrainSettings(
        kind=TrainKind.ENHANCE, out=str(out), name="scene", start=a_model, steps=100000, minutes=0.0, patch=16, batch=1,
        log_every=2,
    )  # fmt: skip
    with Job("train", volumes, settings, grace_s=30) as job:
        job.start()
        end = time.monotonic() + 120
        while job.poll().status is JobStatus.RUNNING and time.monotonic() < end and not (out / "log.jsonl").exists():
            time.sleep(0.1)
        assert job.poll().status is JobStatus.RUNNING, job.poll().error
        job.cancel()
        assert job.wait(60).status is JobStatus.CANCELLED
    assert (out / "checkpoint.pt").is_file()


@pytest.mark.parametrize(
    ("kind", "prepare", "phrase", "code"),
    [
        ("denoising", lambda f: volumes_in(f), "There is no kind of training 'denoising'; there are: enhance,", 2),
        ("enhance", lambda f: f, "There is no folder", 1),
        ("enhance", lambda f: f.mkdir(), "is empty; readable are NIfTI", 1),
        ("enhance", lambda f: volumes_in(f, 1), "There is only one patient to train on ('p0')", 1),
        ("segment", lambda f: _labels(f, "q"), "No image has a label map of its name", 1),
        (
            "segment",
            lambda f: _labels(f, "p", (9, 23, 21)),
            "on different grids: 21 x 23 x 19 voxels and 21 x 23 x 9",
            1,
        ),
        ("label-to-volume", lambda f: volumes_in(f), "No label maps were found; put them into a folder 'labels'", 1),
        ("translate", lambda f: volumes_in(f), "The names do not tell source from target", 1),
        ("segment", lambda f: volumes_in(f), "looks like an image, not a label map", 1),
    ],
)
def test_what_can_not_be_trained_on_is_said_in_one_sentence(call, tmp_path, monkeypatch, kind, prepare, phrase, code):
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path / "models"))
    prepare(tmp_path / "data")
    done = call("train", kind, tmp_path / "data", "--out", tmp_path / "run", *QUICK)
    one_sentence(done, phrase, code)
    assert not (tmp_path / "models").exists()


def _labels(folder: Path, name: str, shape=SHAPE) -> None:
    volumes_in(folder / "images", 2)
    (folder / "labels").mkdir()
    labels = LabelMap((phantoms.head(shape) / 100).astype(np.int16), phantoms.awkward_geometry())
    for number in range(2):
        write_volume(labels, folder / "labels" / f"{name}{number}_T1.nii.gz")


@pytest.mark.parametrize(
    ("option", "value", "phrase"),
    [
        ("--patch", 20, "--patch must be a multiple of 8"),
        ("--validation-share", 2, "--validation-share must lie between 0 and 0.9"),
        ("--steps", -1, "--steps must lie between"),
        ("--name", "a/b", "can not be the name of a model"),
    ],
)
def test_wrong_option_is_wrong_usage(call, tmp_path, option, value, phrase):
    one_sentence(call("train", "enhance", tmp_path, option, value), phrase, 2)


def test_folder_of_something_else_is_no_run_folder(call, tmp_path, a_model):
    data = volumes_in(tmp_path / "data", 2)
    one_sentence(call("train", "enhance", data, "--out", data, *QUICK), "holds other files and no training")


def test_full_disk_is_said_before_the_training(call, tmp_path, a_model, monkeypatch):
    data = volumes_in(tmp_path / "data", 2)
    usage = type("Usage", (), {"free": 10**6})
    monkeypatch.setattr("medgan.training.data_cache.shutil.disk_usage", lambda folder: usage)
    one_sentence(call("train", "enhance", data, "--out", tmp_path / "run", *QUICK), "needs about 0.2 GB")


def test_model_folder_that_can_not_be_written_is_said_before_the_training(call, tmp_path, a_model, monkeypatch):
    data = volumes_in(tmp_path / "data", 2)
    monkeypatch.setenv("MEDGAN_MODELS", str(data / "p0_T1.nii.gz" / "models"))
    one_sentence(call("train", "enhance", data, "--out", tmp_path / "run", *QUICK), "models' can not be written")
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_model_that_could_not_be_written_is_when_there_is_room(call, tmp_path, a_model):
    data, bundle = volumes_in(tmp_path / "data", 2), tmp_path / "run" / "bundle"
    train = ("train", "enhance", data, "--out", tmp_path / "run", "--start", "tiny", "--name", "late", "--steps", 1,
             "--validation-share", 0, *QUICK)  # fmt: skip
    assert call(*train, "--check-data").returncode == 0
    bundle.write_text("in the way")
    one_sentence(call(*train), f"The model can not be written into '{bundle}'")
    bundle.unlink()
    done = call(*train)
    assert done.returncode == 0, done.stderr
    assert "goes on from step 1" in done.stderr
    text = (bundle / "late" / "docs" / "README.md").read_text(encoding="utf-8")
    assert "Of volumes of the training itself, for no patients were kept for validation" in text
    assert "| psnr |" in text


def test_folder_in_which_another_process_trains_is_left_alone(call, tmp_path, a_model):
    data = volumes_in(tmp_path / "data", 2)
    (tmp_path / "run").mkdir()
    held = tmp_path / "run" / "running.json"
    entry = {"pid": os.getppid(), "host": platform.node(), "started": processes.started(os.getppid())}
    for other, phrase in ((entry, "Another process"), ({**entry, "host": "elsewhere"}, "on 'elsewhere'")):
        held.write_text(json.dumps(other))
        done = call("train", "enhance", data, "--out", tmp_path / "run", *QUICK)
        one_sentence(done, phrase)
        assert str(held) in done.stderr


@pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")
def test_process_began_at_one_moment_whatever_the_time_zone_and_the_language(monkeypatch):
    """Where there is no /proc, as on macOS, ``ps`` tells it in local time."""
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: str(path) != "/proc/self/stat" and exists(path))
    said = set()
    for zone in ("Europe/Berlin", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        said.add(processes.started(os.getpid()))
    assert len(said) == 1
    assert re.search(r"\d:\d\d:\d\d 20\d\d$", said.pop())


def test_training_whose_model_would_have_no_place_does_not_begin(call, tmp_path, monkeypatch):
    monkeypatch.delenv("MEDGAN_MODELS", raising=False)
    monkeypatch.setattr(Path, "home", _no_home)
    data = volumes_in(tmp_path / "data", 2)
    done = call("train", "enhance", data, "--out", tmp_path / "run", *QUICK)
    one_sentence(done, "There is no home folder to keep your models in; name a folder in", code=2)


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_name_of_nobody_s_home_folder_is_a_name_as_for_the_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path))
    settings = claim.completed(TrainSettings(data="~nobody at all/scans", out="~nobody at all/run"))
    assert settings.out == str(Path("~nobody at all/run"))
    assert settings.data == os.path.abspath("~nobody at all/scans")


@pytest.mark.parametrize(
    "change", [{"started": "before"}, {"host": "elsewhere"}, {"pid": 0}], ids=["number given again", "silent", "none"]
)
def test_folder_of_a_training_that_is_gone_is_free(tmp_path, change):
    settings = TrainSettings(name="own", out=str(tmp_path))
    entry = {"pid": os.getppid(), "host": platform.node(), "started": processes.started(os.getppid())}
    (tmp_path / "running.json").write_text(json.dumps({**entry, **change}))
    os.utime(tmp_path / "running.json", (time.time() - 2 * claim.SILENT_S,) * 2)
    with claim.opened(settings):
        assert json.loads((tmp_path / "running.json").read_text())["pid"] == os.getpid()


def test_a_training_shows_that_it_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "RENEWED_S", 0.01)
    path = tmp_path / "running.json"
    with claim.opened(TrainSettings(name="own", out=str(tmp_path))):
        os.utime(path, (time.time() - 2 * claim.SILENT_S,) * 2)
        until = time.monotonic() + 10.0
        while path.stat().st_mtime < time.time() - claim.SILENT_S and time.monotonic() < until:
            time.sleep(0.01)
        path.write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
        with pytest.raises(claim.RunError, match="If none is, wait 5 minutes or delete"):
            claim.opened(TrainSettings(name="own", out=str(tmp_path))).__enter__()


def test_data_is_checked_without_training(call, tmp_path, a_model):
    data = volumes_in(tmp_path / "data", 2)
    (data / "bad.nii.gz").write_bytes(b"bad")
    done = call("train", "enhance", data, "--out", tmp_path / "run", "--check-data")
    assert done.returncode == 0, done.stderr
    assert "21 x 23 x 19 voxels of 0.7 x 1.1 x 2.3 mm, patient p0" in done.stdout
    counted, where = done.stdout.splitlines()[-2:]
    assert counted == "2 cases, 1 rejected; 1 patient to train on, 1 for validation."
    assert str(tmp_path / "run") in where
    assert "Rejected: bad.nii.gz: " in done.stderr
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_checking_data_leaves_the_record_of_a_training(call, tmp_path, a_model):
    data = volumes_in(tmp_path / "data", 2)
    train = ("train", "enhance", data, "--out", tmp_path / "run", "--start", "tiny", "--steps", 1, *QUICK)
    assert call(*train, "--check-data").returncode == 0

    def record() -> dict:
        held = json.loads((tmp_path / "run" / "data.json").read_text())
        return {name: held[name] for name in ("sha256", "changed", "uses", "names")}

    assert record()["uses"] == {}
    done = call(*train)
    assert done.returncode == 0, done.stderr
    was = record()
    assert sorted(was["uses"].values()) == ["train", "validation"]
    write_volume(a_head(7), data / "p7_T1.nii.gz")
    done = call(*train, "--check-data")
    assert "The data changed" in done.stderr
    assert record() == was
    done = call(*train, "--steps", 2)
    assert done.returncode == 0, done.stderr
    assert record()["changed"]
    assert record()["uses"].items() > was["uses"].items()


def test_help_shows_kinds_and_groups(call):
    said = call("train", "--help").stdout
    for phrase in ("label-to-volume", "Data", "How long", "--validation-share", "the same command again goes on"):
        assert phrase in said


def test_curve_of_text_falls_as_the_values_do():
    assert sparkline([4, 3, 2, 1], plain=True) == "#*-_"
    assert sparkline([1.0, float("nan"), 1.0]) == "▅▅"
    assert sparkline([]) == ""
    assert len(sparkline(list(range(1000)), width=30)) == 30
