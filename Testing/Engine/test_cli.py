"""The ``medgan`` command as a person and a script see it: real processes, real files, exit codes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import SimpleITK as sitk
from typer.models import ArgumentInfo

import bad_files
import medgan
import model_folders
import phantoms
from command_line import PACKAGES, command, environment, one_sentence, run, run_alone
from medgan import (
    anomaly_command,
    anomaly_files,
    cli,
    console,
    enhance_command,
    evaluate_command,
    models,
    models_command,
    recognise_command,
    segment_command,
    synthesize_command,
    train_command,
    worklist,
)
from medgan.batch import Item, Manner, Result, attempt
from medgan.segmentation import files
from medgan.settings import (
    AnomalySettings,
    Device,
    EnhanceSettings,
    EvaluateSettings,
    RecogniseSettings,
    SegmentSettings,
    SynthesizeSettings,
    TrainSettings,
)
from medgan.volume import Volume, read_volume, write_volume

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture(scope="module")
def enhanced(tmp_path_factory) -> dict:
    """One run of the whole command, with the shipped model and everything asked for, that several tests look at."""
    folder = tmp_path_factory.mktemp("çà et là")
    noisy = phantoms.rician(phantoms.head(phantoms.ODD_SHAPE), sigma=50.0, seed=3)
    volume = Volume(np.rint(noisy), phantoms.awkward_geometry(), voxel_type="int16")
    write_volume(volume, folder / "scan one.nii.gz")
    write_volume(volume, folder / "résult.nrrd")  # an older result, to be replaced
    more = ("--overwrite", "--difference", folder / "change.mha")
    done = run_alone("enhance", folder / "scan one.nii.gz", folder / "résult.nrrd", *more)
    return {"folder": folder, "volume": volume, "done": done}


def test_one_file_becomes_one_file_less_noisy_and_in_its_place(enhanced):
    done, folder, before = enhanced["done"], enhanced["folder"], enhanced["volume"]
    assert done.returncode == 0, done.stderr
    after = read_volume(folder / "résult.nrrd")
    np.testing.assert_allclose(after.ijk_to_ras, before.ijk_to_ras, atol=1e-4)
    assert after.voxel_type == "int16"
    brain = np.zeros(before.shape, bool)
    brain[4:9, 10:30, 10:28] = True
    brain &= phantoms.head(phantoms.ODD_SHAPE) == 700
    assert brain.sum() > 500
    assert after.array[brain].std() < 0.75 * before.array[brain].std()
    assert abs(after.array[brain].mean() - 700) < 10


def test_difference_is_result_minus_input(enhanced):
    folder, before = enhanced["folder"], enhanced["volume"]
    change = read_volume(folder / "change.mha")
    assert change.voxel_type == "float32"
    after = read_volume(folder / "résult.nrrd")
    assert np.abs(before.array + change.array - after.array).max() <= 0.5 + 1e-3  # the result was rounded to int16
    assert change.array.std() > 10


def test_figures_and_paths_are_on_stdout_and_nothing_else_is_left(enhanced):
    done, folder = enhanced["done"], enhanced["folder"]
    assert re.search(r"scan one\.nii\.gz -> .*résult\.nrrd and .*change\.mha  \(noise \d", done.stdout)
    assert len(done.stdout.splitlines()) == 1
    left = [".medgan", "change.mha", "résult.nrrd", "scan one.nii.gz"]
    assert sorted(file.name for file in folder.iterdir()) == left
    record = json.loads((folder / ".medgan" / "résult.nrrd.json").read_text(encoding="utf-8"))
    assert record["report"]["model"] == "denoise"
    assert record["report"]["settings"]["seed"] == 0


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> dict:
    """One run over good and bad files, a folder and a DICOM series, that several tests look at."""
    folder = tmp_path_factory.mktemp("batch")
    model_folders.write_bundle(folder / "models" / "tiny")
    scans = folder / "scans"
    scans.mkdir()
    volume = Volume(phantoms.rician(phantoms.head(phantoms.ODD_SHAPE), 50.0), phantoms.awkward_geometry())
    write_volume(volume, scans / "a.nrrd")
    (scans / "b.nii").write_text("no scan")
    (scans / "notes.txt").write_text("not a volume by its name, so nobody looks at it")
    write_volume(Volume(volume.array[:1], volume.ijk_to_ras), folder / "slice.nrrd")
    phantoms.write_dicom_series(folder / "MR série", phantoms.rician(phantoms.head((8, 20, 24)), 50.0).astype(np.int16))
    where = ("--out", "new/results", "--difference", "new/changes")
    how = ("--seed", 5, "--noise", 40, "--strength", 0.9, "--character", 0.5, "--memory", 2, "--device", "cpu")
    inputs = ("scans", "missing.mha", "slice.nrrd", "MR série")
    done = run(
        "enhance", *inputs, *where, "--model", "tiny", *how, "--json", cwd=folder, MEDGAN_MODELS=str(folder / "models")
    )
    return {"folder": folder, "done": done, "volume": volume}


def test_failed_file_does_not_stop_the_rest_and_is_listed_at_the_end(batch):
    done, folder = batch["done"], batch["folder"]
    assert done.returncode == 1
    assert sorted(file.relative_to(folder / "new").as_posix() for file in (folder / "new").glob("*/[!.]*")) == [
        "changes/MR série_difference.nii.gz",
        "changes/a_difference.nrrd",
        "results/MR série_enhanced.nii.gz",
        "results/a_enhanced.nrrd",
    ]
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "3 of 5 files failed",
        f"  {Path('scans', 'b.nii')}",
        "  missing.mha",
        "  slice.nrrd",
    ]


def test_json_is_one_document_with_what_became_of_every_file(batch):
    said = json.loads(batch["done"].stdout)
    assert (said["version"], said["failed"]) == (medgan.__version__, 3)
    assert [file["status"] for file in said["files"]] == ["done", "failed", "failed", "failed", "done"]
    good, bad, missing, thin, _ = said["files"]
    assert Path(good["output"]) == Path("new/results/a_enhanced.nrrd")
    assert Path(good["difference"]) == Path("new/changes/a_difference.nrrd")
    assert (bad["output"], bad["difference"]) == (None, None)
    assert "is not in NIfTI format" in bad["error"]
    assert "There is no file" in missing["error"]
    assert "needs 4 voxels along every axis" in thin["error"]
    report = good["report"]
    assert (report["model"], report["seed"], report["sigma_source"], report["synthetic"]) == ("tiny", 5, "given", True)
    assert report["sigma_before"] == pytest.approx(40, rel=0.01)
    assert report["settings"] == EnhanceSettings("tiny", 0.9, 0.5, 40.0, Device.CPU, 2.0, 5).to_dict()


def test_dicom_folder_is_one_input(batch):
    result = read_volume(batch["folder"] / "new" / "results" / "MR série_enhanced.nii.gz")
    series = read_volume(batch["folder"] / "MR série")
    np.testing.assert_allclose(result.ijk_to_ras, series.ijk_to_ras, atol=1e-4)
    assert result.voxel_type == series.voxel_type


def tilted(folder: Path) -> np.ndarray:
    """A DICOM series of a tilted gantry in ``folder``, and its voxels."""
    array = phantoms.rician(phantoms.head((8, 20, 24)), 50.0).astype(np.int16)
    phantoms.write_dicom_series(folder, array, positions_mm=[(0.0, 0.7 * k, 3.0 * k) for k in range(len(array))])
    return array


def test_results_of_a_tilted_gantry_get_a_format_that_holds_them(tmp_path):
    tilted(tmp_path / "CT")
    done = run("enhance", "CT", "--out", "new", "--difference", "new", "--strength", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = sorted(file.name for file in (tmp_path / "new").glob("[!.]*"))
    assert names == ["CT_difference.nrrd", "CT_enhanced.nrrd"]
    result = read_volume(tmp_path / "new" / "CT_enhanced.nrrd")
    np.testing.assert_allclose(result.ijk_to_ras, read_volume(tmp_path / "CT").ijk_to_ras, atol=1e-6)


@pytest.mark.parametrize("names", [("out.nii.gz", "d.nrrd"), ("out.nrrd", "d.nii")])
def test_sheared_axes_that_the_format_can_not_hold_are_refused_before_the_work(tmp_path, call, monkeypatch, names):
    tilted(tmp_path / "CT")
    monkeypatch.setattr("medgan.batch.Job", None)  # nothing is computed
    done = call("enhance", "CT", names[0], "--difference", names[1], cwd=tmp_path)
    one_sentence(done, f"write '{next(name for name in names if 'nii' in name)}' as .nrrd or .mha.")


# Voxels


def test_counts_of_a_small_range_are_not_rounded_away(tmp_path):
    counts = np.random.default_rng(0).poisson(phantoms.head() / 100.0)
    assert counts.max() < 32
    write_volume(Volume(counts, phantoms.awkward_geometry(), voxel_type="int16"), tmp_path / "a.nrrd")
    done = run("enhance", "a.nrrd", "b.nrrd", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = read_volume(tmp_path / "b.nrrd")
    assert after.voxel_type == "float32"
    assert (after.array != np.rint(after.array))[counts > 0].mean() > 0.9


@pytest.mark.parametrize("kind", ["float64", "int32"])
def test_strength_of_zero_writes_the_very_values_of_the_input(tmp_path, kind):
    array = phantoms.rician(phantoms.head(), 50.0).astype(np.float64)
    array = array / 3 if kind == "float64" else np.rint(array).astype(np.int32) + 2**24 + 1
    assert (array.astype(np.float32) != array).mean() > 0.3
    np.savez(tmp_path / "a.npz", array=array, ijk_to_ras=phantoms.awkward_geometry())
    done = run("enhance", "a.npz", "b.npz", "--strength", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "b.npz") as held:
        assert held["array"].dtype == kind
        np.testing.assert_array_equal(held["array"], array)


def test_frames_of_a_strength_of_zero_keep_their_very_values_and_others_one_type(tmp_path):
    frames = phantoms.rician(phantoms.head(), 50.0) / 3 + np.arange(3.0)[:, None, None, None]
    small = np.random.default_rng(0).poisson(phantoms.head() / 100.0)
    counts = np.stack([small, np.rint(phantoms.rician(phantoms.head(), 50.0))]).astype(np.int16)
    for name, array in {"f": frames, "c": counts}.items():
        sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(tmp_path / f"{name}.mha"))
    same = run("enhance", "f.mha", "same.mha", "--strength", 0, "--frames", "1:2", cwd=tmp_path)
    mixed = run("enhance", "c.mha", "mixed.mha", cwd=tmp_path)
    assert (same.returncode, mixed.returncode) == (0, 0), same.stderr + mixed.stderr
    one, two = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name))) for name in ("same.mha", "mixed.mha"))
    assert (one.dtype, two.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal(one, frames[1:2])
    for frame in two:
        assert (frame != np.rint(frame))[phantoms.head() > 0].mean() > 0.9


# Bad input


@pytest.mark.parametrize("kind", [
    "missing", "empty nii.gz", "empty nrrd", "cut nii.gz", "cut nrrd", "text as nii", "rgb nii", "all NaN",
    "zero spacing nii", "zero spacing mha",
])  # fmt: skip
@pytest.mark.parametrize("subcommand", ["enhance", "info"])
def test_bad_input_is_one_sentence_and_leaves_no_file(tmp_path, a_model, kind, subcommand, call):
    make, phrase = bad_files.BAD[kind]
    path = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    more = [tmp_path / "out.nii.gz", "--difference", tmp_path / "d.nii.gz", "--model", a_model]
    done = call(subcommand, path, *(more if subcommand == "enhance" else []))
    one_sentence(done, phrase)
    assert sorted(tmp_path.iterdir()) == before


def test_tampered_model_is_one_sentence_and_leaves_no_file(tmp_path, an_oblique_volume, call):
    bundle = model_folders.write_bundle(tmp_path / "mine")
    with (bundle / "models" / "model_faithful.pt").open("ab") as file:
        file.write(b"x")
    write_volume(an_oblique_volume, tmp_path / "a.nrrd")
    done = call("enhance", "a.nrrd", "b.nrrd", "--model", "./mine", cwd=tmp_path)
    one_sentence(done, "is not the file its card describes")
    assert not (tmp_path / "b.nrrd").exists()


def test_model_with_pickled_code_is_one_sentence_and_nothing_is_run(tmp_path, an_oblique_volume):
    trap = tmp_path / "sprung"
    model_folders.write_bundle(tmp_path / "mine", content=model_folders.pickled_code(trap))
    write_volume(an_oblique_volume, tmp_path / "a.nrrd")
    done = run("enhance", "a.nrrd", "b.nrrd", "--model", "./mine", cwd=tmp_path)
    one_sentence(done, "holds Python objects besides tensors")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nrrd", "mine"]


def test_letters_that_stdout_has_no_code_for_do_not_end_the_command(tmp_path, a_volume):
    """As in a file of Windows, which has those of one code page."""
    name = "tête 日本 \N{BRAIN}.nrrd"
    write_volume(a_volume, tmp_path / name)
    done = run_alone("info", tmp_path / name, "--json", PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(json.loads(done.stdout)["file"]) == tmp_path / name
    table = subprocess.run(
        command("info", tmp_path / name), capture_output=True, env=environment(PYTHONIOENCODING="cp1252"), check=True
    )
    assert r"tête \u65e5\u672c \U0001f9e0.nrrd" in table.stdout.decode("cp1252")


def test_failure_as_json_is_still_one_document(tmp_path, a_model, call):
    done = call("enhance", "none.nrrd", "b.nrrd", "--model", a_model, "--json", cwd=tmp_path)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert said["failed"] == 1
    assert said["files"][0]["status"] == "failed"
    assert said["files"][0]["error"].startswith("There is no file")
    assert said["files"][0]["output"] is None


def test_existing_result_is_kept_unless_overwrite_is_said(tmp_path, a_model, an_oblique_volume, call):
    write_volume(an_oblique_volume, tmp_path / "a.nrrd")
    write_volume(an_oblique_volume, tmp_path / "b.nrrd")
    before = (tmp_path / "b.nrrd").read_bytes()
    one_sentence(call("enhance", "a.nrrd", "b.nrrd", "--model", a_model, cwd=tmp_path), "add --overwrite")
    assert (tmp_path / "b.nrrd").read_bytes() == before
    one_sentence(
        call("enhance", "a.nrrd", "a.nrrd", "--overwrite", "--model", a_model, cwd=tmp_path), "an input itself"
    )


def test_folder_that_can_not_be_made_is_refused_before_the_work(tmp_path, call):
    (tmp_path / "taken.txt").touch()
    # The input does not exist and is not complained of: the target comes first.
    done = call("enhance", "a.nrrd", "--out", "taken.txt/results", cwd=tmp_path)
    one_sentence(done, f"'{Path('taken.txt', 'results')}' can not be made in 'taken.txt'")


def test_full_disk_at_the_end_leaves_neither_result_nor_difference(
    tmp_path, a_model, monkeypatch, an_oblique_volume, full_disk
):
    """The result fits, the difference does not: both or none."""
    from medgan.batch import FileFailed, Item, enhance_file
    from medgan.settings import EnhanceSettings

    write_volume(an_oblique_volume, tmp_path / "a.nrrd")
    item = Item(tmp_path / "a.nrrd", tmp_path / "b.nii", tmp_path / "d.nii")
    monkeypatch.setenv("PYTHONPATH", PACKAGES)
    # 37 x 41 x 29 voxels: the result has 88,338 bytes as int16 and the difference 176,324 as float32.
    with pytest.raises(FileFailed, match=r"'d\.nii' can not be written"):
        enhance_file(item, EnhanceSettings(model=a_model), watch=lambda state: full_disk(120_000))
    assert [file.name for file in tmp_path.iterdir()] == ["a.nrrd"]


# Usage


def test_folder_that_can_not_be_made_is_said_before_the_work(tmp_path):
    write_volume(Volume(phantoms.head((9, 10, 11)), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "taken").touch()
    source = tmp_path / "a.nii"
    for folder in (tmp_path / "taken", tmp_path / "taken" / "sub"):
        out = folder / "b.nii"
        for result in (
            attempt(Item(source, out, make_folders=True), EnhanceSettings(), Manner()),
            files.attempt(files.Item((source,), out, make_folder=True), SegmentSettings(), False, pytest.fail),
            anomaly_files.attempt(
                anomaly_files.Item((source,), out, makes_folder=True), AnomalySettings(), False, pytest.fail
            ),
        ):
            assert result.error == f"Folder '{folder}' can not be made in '{folder.parent}'; choose another."


def test_file_that_fails_unexpectedly_does_not_end_the_run(tmp_path, monkeypatch):
    def broken(path):
        raise KeyError("spacing")

    source, out = tmp_path / "a.nii", tmp_path / "b.nii"
    for module in ("batch", "segmentation.files", "anomaly_files", "recognise_command"):
        monkeypatch.setattr(f"medgan.{module}.read_volume", broken)
    source.write_bytes(bytes(400))
    seen = [
        attempt(Item(source, out), EnhanceSettings(), Manner()),
        files.attempt(files.Item((source,), out), SegmentSettings(), False, print),
        anomaly_files.attempt(anomaly_files.Item((source,), out), AnomalySettings(), False, print),
        recognise_command._attempt(source, RecogniseSettings()),
    ]
    for result in seen:
        assert result.error == "Unexpected KeyError: 'spacing'."
        assert "in broken" in result.details


@pytest.mark.parametrize(
    ("function", "settings", "options", "apart"),
    [
        (enhance_command.enhance, EnhanceSettings, worklist.OPTIONS, {"uncertainty"}),
        (train_command.train, TrainSettings, train_command.OPTIONS, {"kind", "data", "out"}),
        (segment_command.segment, SegmentSettings, segment_command.OPTIONS, {"uncertainty", "seed"}),
        (synthesize_command.synthesize, SynthesizeSettings, synthesize_command.OPTIONS, set()),
        (anomaly_command.anomaly, AnomalySettings, anomaly_command.OPTIONS, set()),
        (recognise_command.recognise, RecogniseSettings, recognise_command.OPTIONS, {"saliency"}),
        (evaluate_command.evaluate, EvaluateSettings, evaluate_command.OPTIONS, set()),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_options_begin_where_the_panel_does(function, settings, options, apart):
    """``apart``: settings that the command takes from files and folders, or has no option for."""
    parameters = inspect.signature(function).parameters
    for field in dataclasses.fields(settings):
        name = options.get(field.name, field.name).replace("-", "_")
        if field.name not in apart:
            assert parameters[name].default == field.default, name
    assert set(options) <= {field.name for field in dataclasses.fields(settings)}


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["a.nrrd"], "Say where to write"),
        (["a.nrrd", "b.nrrd", "c.nrrd"], "Say where to write"),
        (["a.nrrd", "folder"], "is not the name of a volume file"),
        (["a.nrrd", "b.png"], "is not the name of a volume file"),
        (["a.nrrd", "--out", "taken.txt"], "--out takes a folder"),
        (["a.nrrd", "--out", "b.nii.gz"], "'b.nii.gz' is the name of a volume file; give it as the last argument"),
        (["a.nrrd", "--out", "o", "--difference", "d.nrrd"], "--difference takes a folder too"),
        (["a.nrrd", "./a.nrrd", "--out", "o"], "'a.nrrd' is given twice"),
        (["x/a.nrrd", "y/a.nrrd", "--out", "o"], "would both become"),
        (["a.nrrd", "b.nrrd", "--strength", "2"], "--strength must lie between 0 and 1, not 2"),
        (["a.nrrd", "b.nrrd", "--noise", "nan"], "--noise must be a finite number"),
        (["a.nrrd", "b.nrrd", "--memory", "-1"], "--memory must lie between 0 and 4096, not -1"),
        (["a.nrrd", "b.nrrd", "--ratio", "9"], "--ratio must lie between 0 and 8, not 9"),
        (["a.nrrd", "b.nrrd", "--slice-gap", "-1"], "--slice-gap must lie between 0 and 100, not -1"),
        (["a.nrrd", "b.nrrd", "--blur", "4"], "--blur must lie between 0 and 3, not 4"),
        (["a.nrrd", "b.nrrd", "--fit-minutes", "-2"], "--fit-minutes must lie between 0 and 600, not -2"),
        (["a.nrrd", "--out", "o", "--uncertainty", "u.nrrd"], "--uncertainty takes a folder too"),
        (["a.nrrd", "b.nrrd", "--seed", "2147483648"], "--seed must lie between 0 and 2147483647, not 2147483648"),
        (["a.nrrd", "b.nrrd", "--frames", "3"], "--frames takes the first frame and the one to stop before"),
        (["a.nrrd", "b.nrrd", "--report", "r.txt"], "end it with .csv or .json"),
        (["a.nrrd", "b.nrrd", "--jobs", "2", "--dask", "tcp://h:1"], "--jobs is for this computer"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(tmp_path, arguments, phrase, call):
    (tmp_path / "taken.txt").touch()
    one_sentence(call("enhance", *arguments, cwd=tmp_path), phrase, code=2)
    assert [file.name for file in tmp_path.iterdir()] == ["taken.txt"]


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["enhance"], ["enhance", "a", "b", "--device", "abacus"], ["sing"]]
)
def test_unknown_options_and_commands_are_code_2(arguments, call):
    done = call(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nose", "There is no model 'nose'; there are: denoise"),
        ("n" * 300, "nnn'; there are: denoise"),
        ("", "Say which model"),
        (os.sep, f"Model '{Path(os.sep).resolve()}' has no readable 'configs/metadata.json'"),
    ],
)
def test_model_that_is_none_is_named_as_it_was_given(tmp_path, call, model, said):
    one_sentence(call("enhance", "a.nrrd", "b.nrrd", "--model", model, cwd=tmp_path), said)


def test_folder_that_is_no_packed_model_is_named(tmp_path, call):
    said = "can not be read" if os.name == "nt" else "'.' is a folder; give a zip file"
    one_sentence(call("models", "add", ".", cwd=tmp_path), said)
    one_sentence(call("models", "pack", "", "e.zip", cwd=tmp_path), "Say which model")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such device")
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["--version"]])
def test_output_that_can_not_be_written_is_said(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert (done.returncode, done.stderr) == (1, "The output can not be written: No space left on device.\n")


def test_terminal_without_a_width_still_shows_tables(call):
    assert len(call("models", COLUMNS="0").stdout) > 100


def test_interruption_is_never_silent(call, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(console, "models_table", interrupted)
    done = call("models")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize(("asked", "said"), [("cuda", "slice.nrrd: There is no GPU.\n"), ("auto", ""), ("cpu", "")])
def test_device_that_was_asked_for_and_is_not_there_is_said(monkeypatch, call, tmp_path, asked, said):
    def without_child(item, settings, *rest):
        reason = "" if settings.device is Device.CPU else "There is no GPU."
        figures = {"sigma_before": 2.0, "sigma_after": 1.0, "seconds": 0.1, "device": "CPU"}
        return Result(item, {**figures, "device_reason": reason})

    monkeypatch.setattr("medgan.batch.enhance_file", without_child)  # the run itself is slow and elsewhere tested
    done = call("enhance", "slice.nrrd", "b.nrrd", "--device", asked, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, said)


# The other commands


def test_version():
    assert run_alone("--version").stdout == f"medgan {medgan.__version__}\n"


def test_what_a_model_says_does_not_command_the_terminal(a_model, call):
    path = models.find(a_model).folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["medgan"]["title"] = "[b]\x1b[2JTi\x07"
    path.write_text(json.dumps(metadata))
    assert "[b]\ufffd[2JTi\ufffd" in call("models").stdout
    assert "no model '\ufffd[2J'" in call("models", "pack", "\x1b[2J", "out.zip").stderr


def test_models_lists_the_shipped_and_the_own_and_the_broken(a_model, call):
    root = Path(os.environ["MEDGAN_MODELS"])
    (root / "broken" / "configs").mkdir(parents=True)
    done = call("models")
    assert done.returncode == 0
    assert re.search(r"^denoise +\d", done.stdout, re.MULTILINE)
    assert re.search(r"^tiny +0\.3\.1 +Tiny +enhance +MR, CT +Apache-2\.0", done.stdout, re.MULTILINE)
    assert "Not usable: Model 'broken' has no readable 'configs/metadata.json'" in done.stderr
    said = json.loads(call("models", "--json").stdout)
    names = [model["name"] for model in said["models"]]
    assert "denoise" in names[:-1]
    assert names[-1] == "tiny"
    assert said["models"][-1]["weights"]["faithful"]["sha256"]
    assert said["unusable"][0]["folder"].endswith("broken")


def test_info_says_geometry_voxels_noise_and_kind(tmp_path, an_oblique_volume, call):
    write_volume(an_oblique_volume, tmp_path / "a.nii.gz")
    said = json.loads(call("info", tmp_path / "a.nii.gz", "--json").stdout)
    assert said["size_voxels"] == [37, 41, 29]
    assert said["spacing_mm"] == pytest.approx([0.7, 1.1, 2.3], abs=1e-4)
    assert (said["voxel_type"], said["handedness"], said["format"]) == ("int16", "left", "NIfTI")
    assert said["minimum"] == an_oblique_volume.array.min()
    assert said["maximum"] == an_oblique_volume.array.max()
    assert said["noise_sigma"] == pytest.approx(50, rel=0.4)  # the phantom's hard edges count as noise, too
    assert said["looks_like"].startswith("MR or PET")
    done = call("info", tmp_path / "a.nii.gz")
    assert "37 x 41 x 29 voxels" in done.stdout
    assert "left-handed" in done.stdout


def test_info_of_very_small_voxels_keeps_their_size(tmp_path, call):
    write_volume(Volume(phantoms.head((8, 9, 10)), np.diag([2.5e-7, 1e-6, 0.0012345, 1])), tmp_path / "a.npz")
    said = json.loads(call("info", tmp_path / "a.npz", "--json").stdout)
    assert said["spacing_mm"] == [2.5e-7, 1e-6, 0.0012345]
    assert said["extent_mm"] == [2.5e-6, 9e-6, 0.009876]


def test_info_of_a_folder_of_volumes_names_one_to_give(tmp_path, call):
    (tmp_path / "b.nii").touch()
    (tmp_path / "notes.txt").touch()
    one_sentence(call("info", tmp_path), "volume files; give one of them, for example 'b.nii'")


def test_info_of_a_label_map_and_of_a_ct(tmp_path, a_label_map, call):
    write_volume(a_label_map, tmp_path / "labels.nrrd")
    assert json.loads(call("info", tmp_path / "labels.nrrd", "--json").stdout)["looks_like"] == (
        "label map or mask with 4 values"
    )
    rng = np.random.default_rng(0)
    ct = np.where(phantoms.head() > 0, phantoms.head() / 10 + rng.normal(0, 20, (24, 24, 24)), -1000)
    write_volume(Volume(ct, np.eye(4), voxel_type="int16"), tmp_path / "ct.nrrd")
    assert json.loads(call("info", tmp_path / "ct.nrrd", "--json").stdout)["looks_like"] == "CT in Hounsfield units"


def test_info_takes_no_difference_of_scans_for_ct(tmp_path, call):
    moved = 2 * np.diff(phantoms.rician(phantoms.head((64, 64, 64)), 30))
    assert moved.min() < -1000
    write_volume(Volume(moved, np.eye(4), voxel_type="int16"), tmp_path / "difference.nrrd")
    said = json.loads(call("info", tmp_path / "difference.nrrd", "--json").stdout)["looks_like"]
    assert said == "not clear: it has negative values, but not the range of CT"


@pytest.mark.parametrize("padding", [-2000.0, -3024.0])
def test_info_of_a_padded_ct_is_that_of_its_air(tmp_path, call, padding):
    said = []
    for value in (padding, -1024.0):
        write_volume(Volume(phantoms.padded_ct(value), np.eye(4), voxel_type="int16"), tmp_path / "ct.nrrd")
        said.append(json.loads(call("info", tmp_path / "ct.nrrd", "--json").stdout))
    assert said[0]["looks_like"] == "CT in Hounsfield units"
    assert said[0]["noise_sigma"] == said[1]["noise_sigma"]
    assert said[0]["minimum"] == padding


def test_demo_without_slicer_says_which_extra_to_install(tmp_path):
    (tmp_path / "slicer.py").write_text("raise ModuleNotFoundError('no slicer', name='slicer')")
    (tmp_path / "vtk.py").write_text("raise ModuleNotFoundError('no vtk', name='vtk')")
    done = run_alone("demo", "--out", tmp_path / "demo", PYTHONPATH=os.pathsep.join((str(tmp_path), PACKAGES)))
    one_sentence(done, 'pip install "medganslicer[demo]"')


# Interruptions


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_leaves_no_file_no_folder_and_no_process(tmp_path, a_model, number):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    noisy = phantoms.rician(phantoms.head((90, 90, 90)), 50.0)
    write_volume(Volume(noisy, np.eye(4)), tmp_path / "a.nrrd")
    process = subprocess.Popen(
        command("enhance", "a.nrrd", "b.nrrd", "--model", a_model),
        cwd=tmp_path,
        env=environment(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        end = time.monotonic() + 30
        while not list(temporary.glob("*/pid")):
            assert time.monotonic() < end
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        child = int(next(temporary.glob("*/pid")).read_text() or 0)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert (out, err) == ("", "Interrupted; nothing was written for the file at hand.\n")
    assert list(temporary.iterdir()) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nrrd", "temporary"]
    if child:
        status = Path(f"/proc/{child}/status")
        assert not status.exists() or "State:\tZ" in status.read_text()


def test_whether_a_file_can_be_read_is_said_by_who_reads_it():
    """Not by the command line, which would refuse all files for the sake of one."""
    found = {}
    for each in (*cli.app.registered_commands, *models_command.app.registered_commands):
        for name, kind in get_type_hints(each.callback, include_extras=True).items():
            told = next((one for one in get_args(kind)[1:] if isinstance(one, ArgumentInfo)), None)
            if told is not None and "pathlib" in str(kind):
                found[each.callback.__name__, name] = told.readable
    assert len(found) >= 11
    assert not any(found.values()), found


@posix_only
def test_file_that_may_not_be_opened_does_not_stop_the_rest(tmp_path, a_model, an_oblique_volume):
    for name in ("a.nrrd", "b.nrrd", "locked/c.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_volume(an_oblique_volume, tmp_path / name)
    (tmp_path / "a.nrrd").chmod(0)
    if os.access(tmp_path / "a.nrrd", os.R_OK):
        pytest.skip("the administrator may open everything")
    (tmp_path / "locked").chmod(0)
    inputs = ("a.nrrd", "locked", "locked/c.nrrd", "b.nrrd")
    try:
        done = run("enhance", *inputs, "--out", "o", "--model", "tiny", cwd=tmp_path)
        info = run("info", "locked", cwd=tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert (done.returncode, "b.nrrd -> " in done.stdout) == (1, True), done.stderr
    assert [line.partition(" can not be opened: ")[::2] for line in done.stderr.splitlines()[1:]] == [
        (f"  {name}: '{name}'", "Permission denied.") for name in inputs[:3]
    ]
    one_sentence(info, "'locked' can not be opened: Permission denied")


@posix_only
@pytest.mark.parametrize("command", ["segment a.nrrd o.nrrd --table", "anomaly a.nrrd o.nrrd --regions",
                                     "recognise a.nrrd --csv"])  # fmt: skip
def test_table_that_can_not_be_written_is_refused_before_the_work(tmp_path, command, call):
    (tmp_path / "t.csv").mkdir()
    (tmp_path / "locked").mkdir(mode=0o500)
    # The input does not exist and is not complained of: the table comes first.
    one_sentence(call(*command.split(), "t.csv", cwd=tmp_path), "'t.csv' is a folder")
    one_sentence(call(*command.split(), "none/t.csv", cwd=tmp_path), "There is no folder 'none'")
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("the administrator may write everywhere")
    one_sentence(call(*command.split(), "locked/t.csv", cwd=tmp_path), "Folder 'locked' can not be written to")


@posix_only
@pytest.mark.parametrize(
    ("arguments", "closed"), [("models --json", ">&-"), ("--version", "2>&-"), ("info a.nrrd", ">&- 2>&-")]
)
def test_closed_output_is_no_error(tmp_path, an_oblique_volume, arguments, closed):
    write_volume(an_oblique_volume, tmp_path / "a.nrrd")
    line = f'"{sys.executable}" -m medgan {arguments} {closed}'
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@posix_only
def test_a_reader_that_goes_away_is_no_error_message():
    for arguments in ("models", "models --json", "--help"):
        line = f'"{sys.executable}" -m medgan {arguments} | true'
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, env=environment(), timeout=60, check=False
        )
        assert done.stderr == ""


def test_unexpected_error_is_a_sentence_and_a_traceback_only_on_request(tmp_path):
    """A defect of ours, brought about by a module that breaks on import."""
    (tmp_path / "SimpleITK.py").write_text("raise AssertionError('broken inside')")
    path = os.pathsep.join((str(tmp_path), PACKAGES))
    one_sentence(run_alone("info", "a.nrrd", cwd=tmp_path, PYTHONPATH=path), "run again with --debug to see where")
    done = run_alone("info", "a.nrrd", "--debug", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


# Chains


def test_chain_writes_a_new_grid_with_its_residual_and_uncertainty(tmp_path):
    """Slices of 4 mm become 1 mm; the residual lies on the old grid, the uncertainty on the new one."""
    thick = phantoms.head((32, 25, 23)).reshape(8, 4, 25, 23).mean(axis=1)
    geometry = phantoms.geometry((1.0, 1.0, 4.0), (10.0, 20.0, 30.0), (5.0, -6.0, 7.0), left_handed=True)
    before = Volume(np.rint(phantoms.rician(thick, 20.0)), geometry, voxel_type="int16")
    write_volume(before, tmp_path / "a.nii.gz")
    extras = ("--residual", "r.nrrd", "--uncertainty", "u.nrrd", "--report", "report.json")
    done = run("enhance", "a.nii.gz", "b.nii.gz", "--model", "superres+denoise", *extras, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "b.nii.gz and r.nrrd and u.nrrd  (now 23 x 25 x 32 voxels of 1 x 1 x 1 mm, noise " in done.stdout
    after, residual, unsure = (read_volume(tmp_path / name) for name in ("b.nii.gz", "r.nrrd", "u.nrrd"))
    assert (after.shape, after.voxel_type) == ((32, 25, 23), "int16")
    np.testing.assert_allclose(after.spacing_mm, (1, 1, 1), atol=1e-4)
    centres = [volume.ijk_to_ras @ [*(np.array(volume.shape[::-1]) - 1) / 2, 1] for volume in (before, after)]
    np.testing.assert_allclose(centres[0], centres[1], atol=1e-3)
    assert (residual.shape, residual.voxel_type) == (before.shape, "float32")
    np.testing.assert_allclose(residual.ijk_to_ras, before.ijk_to_ras, atol=1e-4)
    assert unsure.shape == after.shape
    assert unsure.array.min() >= 0
    assert unsure.array.max() > 0
    row = json.loads((tmp_path / "report.json").read_text())["files"][0]
    assert row["model"] == "denoise+superres"
    assert row["residual_rms"] == pytest.approx(float(np.sqrt(np.square(residual.array).mean())), rel=0.01)
