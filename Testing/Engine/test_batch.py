"""Many files: several at a time, taken up again, with one report, and an interruption that leaves nothing half done."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import medgan
import phantoms
from command_line import command, environment, one_sentence, run
from medgan import batch, local_runs, processes, records
from medgan.batch import FileFailed, Item, Manner, enhance_file
from medgan.inference import cpu_device, run_with_fallback
from medgan.job import JobState
from medgan.plan import UsageError, volume_files
from medgan.settings import Device, EnhanceSettings
from medgan.volume import Volume, VolumeError, read_volume, write_volume
from medgan.writing import write

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def a_scan(path: Path, seed: int = 0) -> Path:
    noisy = np.rint(phantoms.rician(phantoms.head(), 50.0, seed=seed))
    write_volume(Volume(noisy, phantoms.awkward_geometry(), voxel_type="int16"), path)
    return path


@pytest.fixture(scope="module")
def first_run(tmp_path_factory) -> dict:
    """One run over three rows of a list, two files at a time, that several tests look at."""
    folder = tmp_path_factory.mktemp("many")
    for seed, name in enumerate("ab"):
        a_scan(folder / f"{name}.nrrd", seed)
    (folder / "broken.nii").write_text("no scan")
    rows = ["input,strength,noise", "a.nrrd,0,", "b.nrrd,,40", "broken.nii,,", "a.nrrd,loud,"]
    (folder / "list.csv").write_text("\n".join(rows))
    done = run("enhance", "list.csv", "--out", "new", "--jobs", 2, "--report", "report.csv", cwd=folder)
    return {"folder": folder, "done": done}


@pytest.fixture
def finished(first_run, tmp_path) -> Path:
    """A copy of that run's folder, times and all, to go on from."""
    return Path(shutil.copytree(first_run["folder"], tmp_path / "copy"))


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """The names of files that would have been computed; the child process is left out, its result is the input."""
    names: list[str] = []

    def instead(item, settings, watch, environment):
        names.append(item.source.name)
        watch(batch.JobState())
        volume = read_volume(item.source)
        figures = {"sigma_before": 2.0, "sigma_after": 1.0, "seconds": 0.1, "device": "CPU", "device_reason": ""}
        return dict.fromkeys(item.targets, volume), figures, []

    monkeypatch.setattr(batch, "_enhanced", instead)
    return names


def test_rows_of_a_list_have_their_own_settings(first_run):
    folder, done = first_run["folder"], first_run["done"]
    assert done.returncode == 1
    before, same = (read_volume(folder / name).array for name in ("a.nrrd", "new/a_enhanced.nrrd"))
    np.testing.assert_array_equal(before, same)  # strength 0
    lines = sorted(done.stdout.splitlines())
    assert lines[0].startswith("a.nrrd -> ")
    assert "(noise set to 40, measured after:" in lines[1]
    assert done.stderr.splitlines()[-2:] == [
        "  broken.nii: 'broken.nii' is not in NIfTI format, whatever its ending says; give a volume file.",
        "  a.nrrd: Line 5 of 'list.csv': 'strength' is 'loud'; it must be a number.",
    ]


def test_file_of_a_parallel_run_is_the_same_alone(first_run):
    folder = first_run["folder"]
    done = run("enhance", "b.nrrd", "alone.nrrd", "--noise", 40, cwd=folder)
    assert "noise set to 40, measured after: " in done.stdout
    assert done.returncode == 0, done.stderr
    alone, among = read_volume(folder / "alone.nrrd"), read_volume(folder / "new" / "b_enhanced.nrrd")
    np.testing.assert_array_equal(alone.array, among.array)
    assert np.abs(alone.array - read_volume(folder / "b.nrrd").array).mean() > 5


def test_report_has_a_row_for_each_file_also_for_those_that_failed(first_run):
    with (first_run["folder"] / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["input"], row["status"]) for row in rows] == [
        ("a.nrrd", "done"),
        ("b.nrrd", "done"),
        ("broken.nii", "failed"),
        ("a.nrrd", "failed"),
    ]
    good, bad = rows[1], rows[2]
    assert Path(good["output"]) == Path("new/b_enhanced.nrrd")
    assert float(good["sigma_before"]) == pytest.approx(40)
    assert 0 < float(good["sigma_after"]) < 36  # it was told 40 where there are 50
    assert float(good["seconds"]) > 0
    assert (good["model"], good["medgan_version"], good["error"]) == ("denoise", medgan.__version__, "")
    assert good["model_version"]
    assert good["suspicions"].isdigit()
    assert "is not in NIfTI format" in bad["error"]
    assert (bad["output"], bad["model"], bad["seconds"]) == ("", "", "")


def test_log_has_a_line_for_each_finished_file(first_run):
    lines = (first_run["folder"] / "new" / ".medgan" / "log.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["output"] for line in lines) == ["a_enhanced.nrrd", "b_enhanced.nrrd"]


# Taken up again


def resumed(call, folder: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return call("enhance", "list.csv", "--out", "new", "--resume", *more, cwd=folder)


def test_resume_computes_only_what_is_not_done(finished, call, computed):
    done = resumed(call, finished, "--report", "r.json")
    assert computed == ["broken.nii"]
    assert sorted(done.stdout.splitlines()) == [
        f"a.nrrd -> {Path('new/a_enhanced.nrrd')}  (done before)",
        f"b.nrrd -> {Path('new/b_enhanced.nrrd')}  (done before)",
    ]
    rows = json.loads((finished / "r.json").read_text())["files"]
    assert [row["status"] for row in rows] == ["skipped", "skipped", "failed", "failed"]
    assert rows[1]["sigma_before"] == pytest.approx(40)  # from the record


def test_folder_that_has_moved_is_still_known(finished, call, computed):
    finished.rename(finished.with_name("moved"))
    resumed(call, finished.with_name("moved"))
    assert computed == ["broken.nii"]


def test_result_that_was_replaced_by_another_is_not_taken_for_done(finished, call, computed):
    """Also where both have the same size, as uncompressed files have."""
    call("enhance", "b.nrrd", "new/b_enhanced.nrrd", "--strength", 0.2, "--overwrite", cwd=finished)
    done = resumed(call, finished)
    assert computed == ["b.nrrd", "broken.nii"]
    assert "b_enhanced.nrrd' exists already and was made from another input or" in done.stderr.replace("\\", "/")


def test_one_file_is_taken_up_as_many_are(finished, call, computed):
    more = ("b.nrrd", "one.nrrd", "--noise", 40)
    call("enhance", *more, cwd=finished)
    assert "(done before)" in call("enhance", *more, "--resume", cwd=finished).stdout
    (finished / ".medgan" / "one.nrrd.json").unlink()
    done = call("enhance", *more, "--resume", cwd=finished)
    assert (
        done.stderr
        == "'one.nrrd' exists already and nothing is known of how it was made; add --overwrite to replace it.\n"
    )
    assert computed == ["b.nrrd"]


def test_result_in_a_folder_of_slices_is_no_scan(tmp_path, call, computed):
    """Whatever lies beside them: slices have many names."""
    for name in ("clean.nrrd", "clean.nhdr"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / "IM0001").write_bytes(b"a slice")
        item = Item(a_scan(tmp_path / "a.nrrd"), folder / name)
        enhance_file(item, EnhanceSettings(), Manner())
        assert volume_files(folder) == [folder]
        (folder / "IM0001").unlink()
        with pytest.raises(UsageError, match="nothing but results of earlier runs"):
            volume_files(folder)


@pytest.mark.parametrize("name", ["v.nhdr", "v.mhd", "V.MHD", "own name.mhd"])
def test_changed_voxels_beside_a_header_are_another_input(tmp_path, call, computed, name):
    a_scan(tmp_path / name)
    (voxels,) = [file for file in tmp_path.iterdir() if file.name != name]
    if "own" in name:
        header = (tmp_path / name).read_text().replace(voxels.name, "elsewhere.bin")
        (tmp_path / name).write_text(header)
        voxels = voxels.rename(tmp_path / "elsewhere.bin")
    for _ in range(2):
        call("enhance", name, "out.nrrd", "--resume", "--overwrite", cwd=tmp_path)
    assert computed == [name]
    os.utime(voxels, (1, 1))
    call("enhance", name, "out.nrrd", "--resume", "--overwrite", cwd=tmp_path)
    assert computed == [name] * 2


def test_failed_replacement_leaves_the_old_result_and_what_is_known_of_it(finished, computed, monkeypatch):
    item = Item(finished / "b.nrrd", finished / "new" / "b_enhanced.nrrd")
    record = finished / "new" / ".medgan" / "b_enhanced.nrrd.json"
    before = record.read_text()

    def full(*told):
        raise VolumeError("The disk is full.")

    monkeypatch.setattr(batch, "write", full)
    with pytest.raises(FileFailed, match="The disk is full"):
        enhance_file(item, EnhanceSettings(), Manner(overwrite=True))
    assert record.read_text() == before


def test_geometry_that_is_lost_and_settings_that_are_idle_are_said(finished, call):
    done = call("enhance", "b.nrrd", "b.npy", "--strength", 0, "--blur", 1.2, cwd=finished)
    assert "'b.npy' holds the voxels alone" in done.stderr
    assert "--blur is for deblurring and has no effect here." in done.stderr, "by the name of its option"


def test_where_and_with_how_much_memory_it_was_computed_does_not_matter(finished, call, computed):
    resumed(call, finished, "--memory", 3, "--device", "cpu", "--jobs", 2)
    assert computed == ["broken.nii"]


@pytest.mark.parametrize("change", ["settings", "input", "weights", "frames"])
def test_result_of_something_else_is_not_taken_for_done(finished, call, computed, change, monkeypatch):
    more: tuple[object, ...] = ()
    if change == "settings":
        more = ("--seed", 1)
    elif change == "input":
        for name in "ab":
            os.utime(finished / f"{name}.nrrd", (1, 1))
    elif change == "weights":
        monkeypatch.setattr(records.models, "find_chain", lambda text: [])
    elif change == "frames":
        more = ("--frames", "0:2")
    done = resumed(call, finished, *more)
    assert computed == ["broken.nii"]
    assert done.stderr.count("exists already and was made from another input or with other settings; add --over") == 2
    resumed(call, finished, "--overwrite", *more)
    assert sorted(computed[1:]) == ["a.nrrd", "b.nrrd", "broken.nii"]


def test_half_written_results_never_count_as_done(finished, call, computed):
    (finished / "new" / "a_enhanced.nrrd").write_bytes(b"half")
    record = finished / "new" / ".medgan" / "b_enhanced.nrrd.json"
    begun = {**json.loads(record.read_text()), "status": "begun"}
    record.write_text(json.dumps(begun))
    done = resumed(call, finished)
    # b was cut off by us and is made again; a was changed by somebody, and only --overwrite replaces it.
    assert sorted(computed) == ["b.nrrd", "broken.nii"]
    assert "'new/a_enhanced.nrrd' exists already" in done.stderr.replace("\\", "/")
    assert json.loads(record.read_text())["status"] == "done"


def test_run_knows_what_it_has_finished_itself_without_resume(finished, computed):
    """So that a second try of a task, after its worker died between the end and the answer, computes nothing."""
    item = Item(finished / "b.nrrd", finished / "out.nrrd")
    settings, manner = EnhanceSettings(), Manner(run="this one")
    assert enhance_file(item, settings, manner).status == "done"
    assert enhance_file(item, settings, manner).status == "skipped"
    with pytest.raises(FileFailed, match="exists already; add --overwrite"):
        enhance_file(item, settings, Manner(run="another"))
    assert computed == ["b.nrrd"]


def test_without_resume_results_that_exist_stay_as_they_are(finished, call, computed):
    before = (finished / "new" / "b_enhanced.nrrd").read_bytes()
    done = call("enhance", "a.nrrd", "b.nrrd", "--out", "new", cwd=finished)
    assert done.stderr.count("exists already; add --overwrite to replace it.") == 2
    assert computed == []
    assert (finished / "new" / "b_enhanced.nrrd").read_bytes() == before


def test_results_beside_their_inputs_are_not_enhanced_again(tmp_path, call, computed):
    for name in "ab":
        a_scan(tmp_path / f"{name}.nrrd")
    first = call("enhance", ".", "--out", ".", "--difference", ".", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    a_scan(tmp_path / "c.nrrd")
    call("enhance", ".", "--out", ".", "--difference", ".", "--resume", cwd=tmp_path)
    assert sorted(computed) == ["a.nrrd", "b.nrrd", "c.nrrd"]
    for name in "abc":
        (tmp_path / f"{name}.nrrd").unlink()
    one_sentence(call("enhance", ".", "--out", "x", cwd=tmp_path), "nothing but results of earlier runs", code=2)


def test_failure_at_the_end_leaves_no_record(tmp_path, computed, monkeypatch):
    item = Item(a_scan(tmp_path / "a.nrrd"), tmp_path / "new" / "too" / "b.nrrd", make_folders=True)
    monkeypatch.setattr(records, "finish", lambda *told: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(FileFailed, match=r"record in '.*too' can not be written: No space left"):
        enhance_file(item, EnhanceSettings(), Manner(run="x"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nrrd"]


def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine, dead = processes.folder_prefix(".medgan-"), processes.folder_prefix(".medgan-").rsplit("-", 2)[0]
    for name in (f"{mine}abc", f"{dead}-{ended.pid}-abc", f".medgan-elsewhere-{ended.pid}-abc"):
        (tmp_path / name).mkdir()
    a_scan(tmp_path / "a.nrrd")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{mine}abc", f".medgan-elsewhere-{ended.pid}-abc", "a.nrrd"]
    )


def test_run_removes_what_a_killed_one_was_writing(tmp_path, computed):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    prefix = processes.folder_prefix(".medgan-").rsplit("-", 2)[0]
    item = Item(a_scan(tmp_path / "a.nrrd"), tmp_path / "b.nrrd")
    (tmp_path / f"{prefix}-{ended.pid}-abc").mkdir()
    enhance_file(item, EnhanceSettings())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".medgan", "a.nrrd", "b.nrrd"]


def test_folder_that_another_host_is_writing_stays(tmp_path, monkeypatch):
    """The workers of a cluster often have names that differ in the last letters only."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(processes.platform, "node", lambda: "dask-worker-6d4cf56db6-abcde")
    theirs = tmp_path / processes.folder_prefix(".medgan-").replace(str(os.getpid()), str(ended.pid))
    theirs.mkdir()
    monkeypatch.setattr(processes.platform, "node", lambda: "dask-worker-6d4cf56db6-xy9zq")
    processes.sweep(tmp_path, ".medgan-")
    assert theirs.is_dir()
    monkeypatch.setattr(processes.platform, "node", lambda: "dask-worker-6d4cf56db6-abcde")
    processes.sweep(tmp_path, ".medgan-")
    assert not theirs.exists()


def test_old_result_stays_when_the_new_one_is_not_whole(tmp_path, computed, monkeypatch):
    def refused(volume, path):
        if path.name == "d.nii.gz":
            raise VolumeError(f"'{path}' can not be written.")
        return write(volume, path)

    monkeypatch.setattr(batch, "write", refused)
    item = Item(a_scan(tmp_path / "a.nrrd"), tmp_path / "r.nrrd", difference=tmp_path / "d.nii.gz")
    (tmp_path / "r.nrrd").write_text("old")
    with pytest.raises(FileFailed) as failed:
        enhance_file(item, EnhanceSettings(), Manner(overwrite=True))
    assert str(failed.value) == f"'{tmp_path / 'd.nii.gz'}' can not be written."
    assert (tmp_path / "r.nrrd").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nrrd", "r.nrrd"]


@pytest.mark.parametrize("name", ["out.mhd", "out.nhdr"])
def test_second_file_that_fails_takes_the_voxels_of_the_first_along(tmp_path, computed, monkeypatch, name):
    def refused(volume, path):
        if path.name == "d.nii.gz":
            raise VolumeError("The disk is full.")
        return write(volume, path)

    monkeypatch.setattr(batch, "write", refused)
    item = Item(a_scan(tmp_path / "a.nrrd"), tmp_path / name, difference=tmp_path / "d.nii.gz")
    with pytest.raises(FileFailed, match="disk is full"):
        enhance_file(item, EnhanceSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["a.nrrd"]


@pytest.mark.parametrize("linked", [False, True])
def test_input_is_never_written_over_whatever_it_is_called(tmp_path, call, computed, linked):
    scan = a_scan(tmp_path / "a.nrrd")
    target, before = scan, scan.read_bytes()
    if linked:
        target = tmp_path / "b.nrrd"
        os.link(scan, target)
    one_sentence(call("enhance", "a.nrrd", target, "--overwrite", cwd=tmp_path), "is an input itself")
    assert scan.read_bytes() == before
    assert computed == []


def test_two_outputs_of_one_name_are_refused_before_the_work(tmp_path, call, computed):
    a_scan(tmp_path / "a.nrrd")
    done = call("enhance", "a.nrrd", "b.nrrd", "--difference", "b.nrrd", cwd=tmp_path)
    one_sentence(done, "The result and the difference would become the same file 'b.nrrd'")
    assert computed == []


@pytest.mark.parametrize("voxels", [[-(2.0**24), 0.0], [0.0, 2.0**24]])
def test_whole_numbers_that_float32_may_have_rounded_are_read_again(voxels):
    array = np.array(voxels, np.float32).reshape(1, 1, 2)
    assert batch._was_rounded(Volume(array, np.eye(4), voxel_type="int32"))
    assert not batch._was_rounded(Volume(array / 2, np.eye(4), voxel_type="int32"))


def test_input_of_another_length_is_another_one(tmp_path):
    scan, targets = a_scan(tmp_path / "a.nrrd"), {"volume": tmp_path / "b.nrrd"}
    os.utime(scan, (1, 1))
    before = records.key_of(scan, EnhanceSettings(), targets)
    with scan.open("ab") as file:
        file.write(b"more")
    os.utime(scan, (1, 1))
    assert records.key_of(scan, EnhanceSettings(), targets) != before


def test_what_another_run_has_begun_is_not_replaced(finished, computed):
    item = Item(finished / "b.nrrd", finished / "out.nrrd")
    item.target.write_text("half")
    records.begin([item.target], {}, "that one")
    with pytest.raises(FileFailed, match="exists already"):
        enhance_file(item, EnhanceSettings(), Manner(run="this one"))
    assert enhance_file(item, EnhanceSettings(), Manner(run="that one")).status == "done"


@pytest.mark.parametrize(
    ("change", "known"),
    [({"bytes": "x"}, False), ({"report": None}, False), ({"key": []}, False), ({"bytes": {}}, True), (None, False)],
)
def test_damaged_record_is_none(tmp_path, change, known):
    targets = {"volume": a_scan(tmp_path / "b.nrrd")}
    key = records.key_of(a_scan(tmp_path / "a.nrrd"), EnhanceSettings(), targets)
    (tmp_path / ".medgan").mkdir()
    records.finish(targets, key, "", {"seconds": 1})
    assert records.finished(targets["volume"], key) == {"seconds": 1}
    file = tmp_path / ".medgan" / "b.nrrd.json"
    file.write_text("[" if change is None else json.dumps(json.loads(file.read_text()) | change))
    assert records.finished(targets["volume"], key) is None
    assert records.is_known(targets["volume"]) is known


def test_record_that_counts_is_written_last(tmp_path, computed, monkeypatch):
    """What is killed before it has a result that does not count as done."""
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(records, "_write", lambda target, record: written.append((target.name, record["status"])))
    (tmp_path / records.FOLDER).mkdir()
    targets = {"volume": tmp_path / "b.nrrd", "difference": tmp_path / "d.nrrd"}
    for target in targets.values():
        target.write_text("new")
    records.finish(targets, {}, "", {})
    assert written == [("d.nrrd", "done"), ("b.nrrd", "done")]


def test_result_that_was_replaced_in_part_has_no_record(tmp_path, computed, monkeypatch):
    """Of two files the first was replaced and can not be brought back: what was known of them holds no longer."""
    item = Item(a_scan(tmp_path / "a.nrrd"), tmp_path / "b.nrrd", difference=tmp_path / "d.nrrd")
    enhance_file(item, EnhanceSettings(), Manner(run="first"))
    assert records.is_result(item.target)
    place = batch.put

    def full(file, target, undo):
        if target == item.difference:
            raise OSError(28, "No space left on device")
        place(file, target, undo)

    monkeypatch.setattr(batch, "put", full)
    with pytest.raises(FileFailed, match="No space left"):
        enhance_file(item, EnhanceSettings(seed=1), Manner(overwrite=True))
    assert not records.is_result(item.target)
    assert not records.is_result(item.difference)


def test_input_of_another_row_is_never_written_over(tmp_path, call, computed):
    before = [a_scan(tmp_path / f"{name}.nrrd", seed).read_bytes() for seed, name in enumerate("ab")]
    (tmp_path / "list.csv").write_text("input,output\na.nrrd,b.nrrd\nb.nrrd,d.nrrd\n")
    done = call("enhance", "list.csv", "--overwrite", cwd=tmp_path)
    one_sentence(done, "is one of the inputs and would be written over", code=2)
    assert [(tmp_path / f"{name}.nrrd").read_bytes() for name in "ab"] == before
    assert computed == []


@pytest.mark.parametrize("name", ["list.csv", "notes.csv", "notes.json"])
def test_report_replaces_only_reports(tmp_path, call, computed, name):
    a_scan(tmp_path / "a.nrrd")
    text = "input,output\na.nrrd,b.nrrd\n"
    for file in {"list.csv", name}:
        (tmp_path / file).write_text(text)
    code = 2 if name == "list.csv" else 1
    one_sentence(call("enhance", "list.csv", "--report", name, cwd=tmp_path), f"'{name}'", code=code)
    assert (tmp_path / name).read_text() == text
    assert computed == []
    for _ in range(2):  # its own report is written anew
        assert call("enhance", "list.csv", "--report", "r.csv", "--overwrite", cwd=tmp_path).returncode == 0
        assert call("enhance", "list.csv", "--report", "r.json", "--overwrite", cwd=tmp_path).returncode == 0


def test_result_that_appears_meanwhile_is_not_replaced(tmp_path, computed, monkeypatch):
    item = Item(a_scan(tmp_path / "a.nrrd"), tmp_path / "b.nrrd")

    def slow(*arguments):
        (tmp_path / "b.nrrd").write_text("somebody else's")
        return dict.fromkeys(item.targets, read_volume(item.source)), {}, []

    monkeypatch.setattr(batch, "_enhanced", slow)
    with pytest.raises(FileFailed, match="exists already"):
        enhance_file(item, EnhanceSettings())
    assert (tmp_path / "b.nrrd").read_text() == "somebody else's"


def test_results_in_the_folder_of_a_series_do_not_hide_it(tmp_path, call, computed):
    phantoms.write_dicom_series(tmp_path / "series", phantoms.head((7, 9, 11)).astype(np.int16))
    for _ in range(2):
        done = call("enhance", "series", "--out", "series", "--resume", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert computed == ["series"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_name_that_is_not_utf_8_is_one_failed_file(tmp_path, call, computed):
    a_scan(tmp_path / "a.nrrd")
    a_scan(tmp_path / "b.nrrd").rename(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"M\xfcller.nrrd")))
    done = call("enhance", ".", "--out", "new", "--report", "r.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "not UTF-8; rename it" in done.stderr
    assert "a.nrrd" in computed
    assert "failed" in (tmp_path / "r.csv").read_text()


@pytest.mark.parametrize("name", ["B.NRRD", "B.MHA", "B.MHD", "B.NPZ", "B.NII", "B.NII.GZ", "B.NPY"])
def test_endings_in_capitals_are_those_formats(tmp_path, name):
    scan = read_volume(a_scan(tmp_path / "a.nrrd"))
    write_volume(scan, tmp_path / name)
    again = read_volume(tmp_path / name)
    np.testing.assert_array_equal(again.array, scan.array)
    extra = {"B.zraw"} if name == "B.MHD" else set()
    assert {path.name for path in tmp_path.iterdir()} == {"a.nrrd", name, *extra}


def test_from_scratch_in_a_list_takes_the_usual_time(tmp_path, call, computed):
    a_scan(tmp_path / "a.nrrd")
    (tmp_path / "list.csv").write_text("input,output,model,from-scratch\na.nrrd,b.nrrd,superres,yes\n")
    assert call("enhance", "list.csv", cwd=tmp_path).returncode == 0


def test_report_that_can_not_be_written_is_said_before_the_work(tmp_path, call, computed):
    a_scan(tmp_path / "a.nrrd")
    done = call("enhance", "a.nrrd", "b.nrrd", "--report", "nowhere/r.csv", cwd=tmp_path)
    one_sentence(done, "can not be written: No such file or directory")
    assert computed == []


# What a person reads


def test_new_grid_and_doubtful_places_are_said_in_words(tmp_path, call, monkeypatch):
    places = [{"sentence": f"Place {n}."} for n in range(5)]
    figures = {"sigma_before": 20.0, "sigma_after": 4.0, "seconds": 3.25, "device": "CPU", "device_reason": ""}
    grid = {"size_voxels": [10, 20, 120], "spacing_mm": [1.0, 1.0, 0.75]}

    def instead(item, *rest):
        return batch.Result(item, {**figures, "suspicions": places, "new_grid": grid})

    monkeypatch.setattr(batch, "enhance_file", instead)
    done = call("enhance", "a.nrrd", "b.nrrd", cwd=tmp_path)
    assert done.stdout == "a.nrrd -> b.nrrd  (now 10 x 20 x 120 voxels of 1 x 1 x 0.75 mm, noise 20 -> 4, 3.2 s, CPU)\n"
    assert done.stderr.splitlines() == [
        "a.nrrd: Place 0.",
        "a.nrrd: Place 1.",
        "a.nrrd: Place 2.",
        "a.nrrd: and 2 more such places; --json names them all.",
    ]


def test_options_become_the_settings_of_the_same_meaning(tmp_path, call, monkeypatch):
    seen: list[EnhanceSettings] = []

    def instead(item, settings, *rest):
        seen.append(item.settings(settings))
        raise FileFailed("Setting 'blur_sigma' is not to my taste.")

    monkeypatch.setattr(batch, "enhance_file", instead)
    options = "--axis j --ratio 2.5 --slice-profile gaussian --slice-gap 0.5 --blur 1.5 --uncertainty u.nrrd --seed 4"
    one_sentence(call("enhance", "a.nrrd", "b.nrrd", *options.split(), "--fit", cwd=tmp_path), "--blur is not")
    call("enhance", "a.nrrd", "b.nrrd", "--fit-minutes", 0.5, "--from-scratch", cwd=tmp_path)
    call("enhance", "a.nrrd", "b.nrrd", "--from-scratch", cwd=tmp_path)
    first, second, third = (settings.to_dict() for settings in seen)
    wanted = {
        "axis": "j",
        "ratio": 2.5,
        "slice_profile": "gaussian",
        "slice_gap_mm": 0.5,
        "blur_sigma": 1.5,
        "uncertainty": True,
        "seed": 4,
        "fit_minutes": 2.0,
        "fit_from_scratch": False,
    }
    assert {name: first[name] for name in wanted} == wanted
    assert (second["fit_minutes"], second["fit_from_scratch"], second["uncertainty"]) == (0.5, True, False)
    assert (third["fit_minutes"], third["fit_from_scratch"]) == (2.0, True)


@posix_only
@pytest.mark.parametrize("where", ["terminal", "file"])
def test_results_go_where_they_are_sent_while_a_bar_is_shown(finished, where):
    import pty

    ours, theirs = pty.openpty()
    arguments = command("enhance", "b.nrrd", "--out", "new", "--noise", "40", "--resume")
    out = theirs if where == "terminal" else subprocess.PIPE
    more = environment(TERM="xterm")
    with subprocess.Popen(arguments, cwd=finished, env=more, stdout=out, stderr=theirs) as process:
        sent = (process.communicate(timeout=60)[0] or b"").decode()
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    line = f"b.nrrd -> {Path('new/b_enhanced.nrrd')}  (done before)"
    assert "0%" in shown  # the bar
    assert sent == ("" if where == "terminal" else f"{line}\n")
    # A line of its own, and not the end of the line with the bar.
    assert re.findall(rf"(?:^|\n|\r|\x1b\[2K)({re.escape(line)})\r\n", shown) == ([line] if where == "terminal" else [])


# Several at a time


def test_jobs_share_cores_memory_and_gpus(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    settings, children = local_runs.shares(3, EnhanceSettings(device=Device.CPU, memory_limit_gb=6.0))
    assert settings.memory_limit_gb == 2.0
    assert children == [{"OMP_NUM_THREADS": "2"}] * 3
    monkeypatch.setattr(local_runs, "free_memory_bytes", lambda: 8_000_000_000)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_runs.shares(4, EnhanceSettings())[0].memory_limit_gb == 2.0
    monkeypatch.setattr(local_runs, "torch_knows_gpus", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    settings, children = local_runs.shares(3, EnhanceSettings())
    assert [child["CUDA_VISIBLE_DEVICES"] for child in children] == ["2", "5", "2"]
    assert settings.memory_limit_gb == 0.0
    assert local_runs.shares(1, EnhanceSettings(memory_limit_gb=3.0))[0].memory_limit_gb == 3.0


@pytest.mark.skipif(sys.platform == "win32", reason="the tool is a shell script here")
def test_jobs_on_one_gpu_share_its_memory(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$*" in\n*"-i 2") echo 16000 ;;\n*"-i 5") echo 8000 ;;\n*) exit 6 ;;\nesac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(local_runs, "torch_knows_gpus", lambda: True)
    for gpus, jobs, limit_gb in (("2", 4, 4.0), ("2,5", 3, 4.0), ("2,5", 2, 0.0), ("MIG-1", 2, 0.0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
        given = local_runs.shares(jobs, EnhanceSettings())[0].memory_limit_gb
        assert given == pytest.approx(1.048576 * limit_gb)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert local_runs.shares(2, EnhanceSettings(memory_limit_gb=6.0))[0].memory_limit_gb == 3.0


@pytest.mark.parametrize(("built_for", "limit_gb"), [("None", 4.0), ("'12.8'", 0.0)])
def test_build_of_torch_without_gpus_shares_the_memory_of_the_computer(tmp_path, monkeypatch, built_for, limit_gb):
    for name, text in {"__init__.py": "", "version.py": f"cuda = {built_for}\nhip = None\n"}.items():
        (tmp_path / "torch").mkdir(exist_ok=True)
        (tmp_path / "torch" / name).write_text(text)
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(local_runs, "free_memory_bytes", lambda: 8_000_000_000)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    settings, children = local_runs.shares(2, EnhanceSettings())
    assert settings.memory_limit_gb == limit_gb
    assert ["CUDA_VISIBLE_DEVICES" in child for child in children] == [limit_gb == 0] * 2
    assert "torch" not in sys.modules  # it was not imported for that


def test_refusal_of_a_share_of_memory_names_the_option_that_helps(tmp_path, monkeypatch):
    """The sentence of the engine itself, which knows of no jobs; a limit of the row's own is still called a limit."""

    def refused(item, settings, *rest):
        limit = int(item.settings(settings).memory_limit_gb * 1e9)
        run_with_fallback(lambda device: None, np.zeros((64, 64, 64)), 10_000, cpu_device(), limit, None)

    monkeypatch.setattr(batch, "enhance_file", refused)
    monkeypatch.setattr(local_runs, "free_memory_bytes", lambda: 80_000_000)
    items = [Item(tmp_path / "a.nrrd", tmp_path / "b.nrrd"), Item(tmp_path / "c.nrrd", tmp_path / "d.nrrd")]
    items[1] = dataclasses.replace(items[1], changes=(("memory_limit_gb", 0.03),))
    settings = EnhanceSettings(device=Device.CPU)
    ready = dict(local_runs.run(items, settings, Manner(), 2, lambda number, state: None))
    assert "and the share of each job is 0.04 GB; use fewer --jobs or crop the volume." in ready[0].error
    assert "and the limit is 0.03 GB; raise it or crop the volume." in ready[1].error


@posix_only
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_interruption_waits_until_the_first_has_cleaned_up(tmp_path, second):
    folder = tmp_path / "job"

    def work(number, environment, watched):
        folder.mkdir()
        try:
            while True:
                watched(JobState())
                time.sleep(0.01)
        finally:
            time.sleep(0.3)
            folder.rmdir()

    def interrupt():
        while not folder.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        os.kill(os.getpid(), second)

    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(local_runs.spread(1, [{}], work, lambda number, state: None))
        assert not folder.exists()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@posix_only
def test_interruption_ends_all_children_and_the_report_tells_of_it(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "in").mkdir()
    for seed, name in enumerate("abc"):
        noisy = phantoms.rician(phantoms.head((90, 90, 90)), 50.0, seed=seed)
        write_volume(Volume(noisy, np.eye(4)), tmp_path / "in" / f"{name}.nrrd")
    process = subprocess.Popen(
        command("enhance", "in", "--out", "new", "--jobs", "2", "--report", "r.json"),
        cwd=tmp_path,
        env=environment(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        end = time.monotonic() + 60
        while len(list(temporary.glob("*/pid"))) < 2:
            assert time.monotonic() < end
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        children = [int(path.read_text() or 0) for path in temporary.glob("*/pid")]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert (out, err) == ("", "Interrupted; 0 of 3 files are done, nothing was written for the others.\n")
    assert list(temporary.iterdir()) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in", "r.json", "temporary"]
    rows = json.loads((tmp_path / "r.json").read_text())["files"]
    assert [row["status"] for row in rows] == ["not done"] * 3
    for child in filter(None, children):
        status = Path(f"/proc/{child}/status")
        assert not status.exists() or "State:\tZ" in status.read_text()
