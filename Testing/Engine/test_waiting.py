"""A child that has done its job does the next one, if it was started in the same way, and ends when nobody needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from child_with_small_tasks import SmallJob, SmallSettings
from test_job import gone, posix_only, wait_for

from medgan import job as jobs
from medgan import waiting
from medgan.job import JobStatus


@pytest.fixture(autouse=True)
def _nobody_waits():
    waiting.end_all()
    yield
    waiting.end_all()


def did(folder: Path, text: str = "", task: str = "double", stay_s: float = 30.0, **options) -> dict:
    """The report of a small job that was done."""
    with SmallJob(task, {}, SmallSettings(text), parent_folder=folder, stay_s=stay_s, **options) as job:
        job.start()
        assert job.wait(20).status is JobStatus.DONE, job.poll().details
        return job.report()


def test_the_next_job_is_done_by_the_same_process_with_a_log_of_its_own(tmp_path, a_volume):
    first = did(tmp_path, "one", "says")["pid"]
    with SmallJob("says", {}, SmallSettings("two"), parent_folder=tmp_path, stay_s=30.0) as job:
        job.start()
        wait_for(lambda: job.poll().status is not JobStatus.RUNNING)
        assert job.report()["pid"] == first
        assert (job.folder / "log.txt").read_text().split("\n") == ["two", "two too", ""]
    with SmallJob("double", {"volume": a_volume}, SmallSettings(), parent_folder=tmp_path, stay_s=30.0) as job:
        job.start()
        assert job.wait(20).status is JobStatus.DONE
        assert job.outputs().volumes["volume"].array.max() == 2 * a_volume.array.max()
        assert job.report()["pid"] == first
    assert list(tmp_path.iterdir()) == []


def test_who_did_not_ask_for_it_gets_no_waiting_child_back(tmp_path):
    process = did(tmp_path, stay_s=0.0)["pid"]
    wait_for(lambda: gone(process))


def test_own_variables_are_taken_over_and_others_need_a_process_of_their_own(tmp_path):
    first = did(tmp_path, environment={"MEDGAN_TEST": "a"})
    second = did(tmp_path, environment={"MEDGAN_TEST": "b"})
    third = did(tmp_path)
    other = did(tmp_path, environment={"OMP_NUM_THREADS": "3"})
    assert [each["environment"] for each in (first, second, third)] == ["a", "b", ""]
    assert first["pid"] == second["pid"] == third["pid"] != other["pid"]


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_a_child_whose_job_went_wrong_is_not_used_again(tmp_path, how):
    first = did(tmp_path)["pid"]
    task, text = ("raises", "value:no") if how == "fails" else ("patient", "")
    with SmallJob(task, {}, SmallSettings(text), parent_folder=tmp_path, stay_s=30.0) as job:
        job.start()
        if how == "is cancelled":
            wait_for(lambda: job.poll().message == "Working")
            assert int((job.folder / "pid").read_text()) == first
            begun = time.monotonic()
            job.cancel()
            assert job.wait(5).status is JobStatus.CANCELLED
            assert time.monotonic() - begun < 1.0
        else:
            assert job.wait(20).error == "no."
    wait_for(lambda: gone(first))
    assert did(tmp_path)["pid"] != first


def test_cancel_after_the_work_is_done_gives_no_result(tmp_path):
    with SmallJob("double", {}, SmallSettings(), parent_folder=tmp_path, stay_s=30.0) as job:
        job.start()
        events = job.folder / "events.jsonl"
        wait_for(lambda: events.exists() and "waits" in events.read_text())
        process = int((job.folder / "pid").read_text())
        job.cancel()
        assert job.wait(5).status is JobStatus.CANCELLED
        assert gone(process)


def test_it_ends_after_its_time(tmp_path):
    process = did(tmp_path, stay_s=0.2)["pid"]
    wait_for(lambda: gone(process), 5)
    assert did(tmp_path)["pid"] != process


def test_it_ends_when_told(tmp_path):
    process = did(tmp_path)["pid"]
    assert not gone(process)
    waiting.end_all()
    assert gone(process)


@posix_only
@pytest.mark.parametrize("sent", ["SIGKILL", "SIGSTOP"])
def test_a_job_is_done_also_when_the_waiting_child_has_died_or_does_not_listen(tmp_path, monkeypatch, sent):
    monkeypatch.setattr(jobs, "ANSWER_S", 0.3)
    process = did(tmp_path)["pid"]
    os.kill(process, getattr(signal, sent))
    assert did(tmp_path)["pid"] != process
    assert gone(process)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what is open is read from /proc")
def test_log_that_a_launcher_holds_open_keeps_nobody_waiting_and_goes_with_it(tmp_path, monkeypatch, slicers_launcher):
    """Windows removes no file that is open; PythonSlicer has the log of the first job of its child open."""
    launchers: list[Path] = []

    def rmtree(folder: Path, ignore_errors: bool) -> None:
        open_files = [each.resolve() for launcher in launchers if launcher.exists() for each in launcher.iterdir()]
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                path.rmdir()
            elif path not in open_files:
                path.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()

    monkeypatch.setattr("shutil.rmtree", rmtree)
    first = None
    for _ in range(2):
        with SmallJob("says", {}, SmallSettings(), parent_folder=tmp_path, stay_s=30.0, python=slicers_launcher) as job:
            job.start()
            launchers.append(Path(f"/proc/{job._remains.process.pid}/fd"))
            first = first or job.folder
            assert job.wait(20).status is JobStatus.DONE, job.poll().details
            begun = time.monotonic()
        assert time.monotonic() - begun < 0.5
        assert sorted(tmp_path.rglob("*")) == [first, first / "log.txt"]
    waiting.end_all()
    assert list(tmp_path.iterdir()) == []


PARENT = """
import sys, time
sys.path[:0] = [{engine!r}, {tests!r}]
from child_with_small_tasks import SmallJob, SmallSettings
with SmallJob("double", {{}}, SmallSettings(), parent_folder={folder!r}, stay_s=60.0) as job:
    job.start()
    job.wait(20)
    print(job.report()["pid"], flush=True)
time.sleep({sleep})
"""


@posix_only
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "ended"])
def test_it_ends_with_the_process_that_started_it(tmp_path, killed):
    tests = Path(__file__).parent
    text = PARENT.format(
        engine=str(tests.parents[1] / "MedGANSlicer"), tests=str(tests), folder=str(tmp_path), sleep=60 * killed
    )
    parent = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    process = int(parent.stdout.readline())
    if killed:
        parent.kill()
    parent.wait(20)
    wait_for(lambda: gone(process), 5)
