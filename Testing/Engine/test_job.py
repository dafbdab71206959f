"""A job runs in a real child process, tells where it is, stops when asked, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from child_with_small_tasks import SmallJob, SmallSettings

from medgan import processes
from medgan.job import Job, JobError, JobStatus, _Remains
from medgan.settings import EnhanceSettings
from medgan.tasks import TASKS

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and process groups of POSIX")


def running(task: str, folder: Path, text: str = "", inputs=None, **options) -> SmallJob:
    """A small job that has said its first word of progress of its own."""
    job = SmallJob(task, inputs or {}, SmallSettings(text), parent_folder=folder, **options)
    job.start()
    wait_for(lambda: job.poll().message not in ("", "Starting") or job.poll().status is not JobStatus.RUNNING)
    return job


def wait_for(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waited for yet counts as ended."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        return "State:\tZ" in status.read_text()
    return not processes.alive(pid)


def child_pid(job: Job) -> int:
    assert job.folder is not None
    return int((job.folder / "pid").read_text())


def test_outputs_and_report_come_back_as_the_task_returned_them(tmp_path, an_oblique_volume):
    an_oblique_volume.meta["messages"] = ["kept"]
    with SmallJob("double", {"volume": an_oblique_volume}, SmallSettings("héllo"), parent_folder=tmp_path) as job:
        job.start()
        state = job.wait(20)
        assert (state.status, state.fraction, state.error) == (JobStatus.DONE, 1.0, "")
        outputs = job.outputs()
    result = outputs.volumes["volume"]
    np.testing.assert_array_equal(result.array, an_oblique_volume.array * 2)
    np.testing.assert_array_equal(result.ijk_to_ras, an_oblique_volume.ijk_to_ras)
    assert (result.voxel_type, result.meta) == ("int16", {"messages": ["kept"]})
    assert outputs.report["text"] == "héllo"
    assert outputs.report["pid"] != os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_label_maps_keep_their_type_names_and_colours(tmp_path, a_label_map):
    with SmallJob("echo", {"labels": a_label_map}, SmallSettings(), parent_folder=tmp_path) as job:
        job.start()
        assert job.wait(20).status is JobStatus.DONE
        back = job.outputs().volumes["labels"]
    assert back.array.dtype == np.int16
    np.testing.assert_array_equal(back.array, a_label_map.array)
    assert back.labels == a_label_map.labels


def test_progress_is_seen_while_the_task_runs(tmp_path):
    with running("patient", tmp_path) as job:
        first = job.poll()
        wait_for(lambda: job.poll().fraction > first.fraction)
        assert job.poll().status is JobStatus.RUNNING
        assert job.poll().message == "Working"


def test_job_works_from_a_folder_with_spaces_and_letters_of_other_languages(tmp_path, a_volume):
    folder = tmp_path / "mes données – 日本 ñ"
    folder.mkdir()
    with SmallJob("double", {"volume": a_volume}, SmallSettings(), parent_folder=folder) as job:
        job.start()
        assert job.wait(20).status is JobStatus.DONE, job.poll().details
        assert job.outputs().volumes["volume"].array.max() == 2000
    assert list(folder.iterdir()) == []


def test_child_finds_the_engine_from_a_copy_elsewhere(tmp_path, monkeypatch):
    """The real child script, in a folder with spaces, without PYTHONPATH; the working directory does not disturb."""
    import shutil

    import medgan

    house = tmp_path / "a house é"
    ignore = shutil.ignore_patterns("__pycache__", "bundles", "samples")
    shutil.copytree(Path(medgan.__file__).parent, house / "medgan", ignore=ignore)
    monkeypatch.setattr(Job, "child_script", house / "medgan" / "job_child.py")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    for module in ("runpy", "numpy"):
        Path(f"{module}.py").write_text("raise ImportError('a file of somebody')")
    with Job("nothing", {}, SmallSettings(), parent_folder=house) as job:
        job.start()
        assert "There is no task 'nothing'" in job.wait(30).error, job.poll().details
        assert str(house) in job.poll().details


def test_cancel_stops_willing_work_within_a_second(tmp_path):
    with running("patient", tmp_path) as job:
        pid = child_pid(job)
        start = time.monotonic()
        job.cancel()
        state = job.wait(5)
        assert time.monotonic() - start < 1.0
        assert (state.status, state.error) == (JobStatus.CANCELLED, "")
        assert gone(pid)
        with pytest.raises(JobError, match="cancelled"):
            job.outputs()
    assert list(tmp_path.iterdir()) == []


def test_cancel_stops_work_that_never_calls_progress(tmp_path):
    with running("deaf", tmp_path) as job:
        pid = child_pid(job)
        start = time.monotonic()
        job.cancel()
        assert job.wait(5).status is JobStatus.CANCELLED
        assert time.monotonic() - start < 1.0
        assert gone(pid)


def test_task_that_saves_before_it_stops_gets_the_time_that_it_was_promised(tmp_path):
    file = tmp_path / "saved"
    with running("saving", tmp_path, str(file), grace_s=30) as job:
        job.cancel()
        assert job.wait(40).status is JobStatus.CANCELLED
    assert file.read_text() == "saved"


@posix_only
def test_cancel_ends_a_process_whose_interpreter_hangs(tmp_path):
    with running("frozen", tmp_path) as job:
        pid = child_pid(job)
        start = time.monotonic()
        job.cancel()
        assert job.wait(5).status is JobStatus.CANCELLED
        assert time.monotonic() - start < 3.0  # on a machine with much else to do; a second is usual
        assert gone(pid)


def test_cancel_before_the_start_and_after_the_end_does_no_harm(tmp_path, a_volume):
    early = SmallJob("echo", {}, SmallSettings(), parent_folder=tmp_path)
    early.cancel()
    assert early.poll().status is JobStatus.CANCELLED
    with pytest.raises(JobError):
        early.start()
    with SmallJob("echo", {"volume": a_volume}, SmallSettings(), parent_folder=tmp_path) as job:
        job.start()
        job.wait(20)
        job.cancel()
        assert job.poll().status is JobStatus.DONE
        assert job.outputs().volumes["volume"].shape == a_volume.shape


@posix_only
def test_processes_that_the_task_started_end_with_the_job(tmp_path):
    for end in (lambda job: job.cancel() or job.wait(5), lambda job: job.close()):
        job = running("parental", tmp_path)
        wait_for(lambda job=job: job.poll().message.isdigit() or job.poll().message == "Working")
        events = (job.folder / "events.jsonl").read_text()
        grandchild = next(int(word) for word in events.replace('"', " ").split() if word.isdigit())
        assert not gone(grandchild)
        end(job)
        wait_for(lambda grandchild=grandchild: gone(grandchild), 3)
        job.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("value:Give a volume.", "Give a volume."),
        ("volume:no stop", "no stop."),
        ("key:slope", "The task failed: KeyError: 'slope'."),
        ("exit:3", "The task failed: SystemExit: 3."),
        ("import:", "Python package 'a_package_that_nobody_has' is not installed; install it and run the task again."),
        ("memory:It needs 9 GB, 2 GB are free.", "It needs 9 GB, 2 GB are free."),
    ],
)
def test_an_error_in_the_task_is_one_sentence_with_the_traceback_in_the_details(tmp_path, text, sentence):
    with running("raises", tmp_path, text) as job:
        state = job.wait(20)
        assert (state.status, state.error) == (JobStatus.FAILED, sentence)
        assert "Traceback" in state.details
        assert "in raises" in state.details
        with pytest.raises(JobError, match=re.escape(sentence)):
            job.outputs()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "memory:",
        "torch:CUDA out of memory. Tried to allocate 20.00 GiB",
        "torch:CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_lack_of_memory_in_the_task_is_called_by_its_name(tmp_path, text):
    with running("raises", tmp_path, text) as job:
        state = job.wait(20)
    assert state.status is JobStatus.FAILED
    assert "ran out of memory" in state.error
    assert "smaller volume" in state.error


@posix_only
def test_a_kill_from_outside_is_reported_as_lack_of_memory(tmp_path):
    with running("deaf", tmp_path) as job:
        os.kill(child_pid(job), signal.SIGKILL)
        state = job.wait(5)
        assert state.status is JobStatus.FAILED
        assert "out of memory" in state.error
        assert state.error.count(".") == 1
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_lack_of_memory_is_recognised_behind_slicers_launcher(tmp_path, slicers_launcher):
    with running("deaf", tmp_path, python=slicers_launcher) as job:
        os.kill(child_pid(job), signal.SIGKILL)
        assert "out of memory" in job.wait(5).error
    with running("echo", tmp_path, python=slicers_launcher, stay_s=20) as job:
        assert job.wait(5).status is JobStatus.DONE
        child = child_pid(job)
    with running("deaf", tmp_path, python=slicers_launcher, stay_s=20) as job:
        assert child_pid(job) == child  # so the launcher's words go into the log of its first job
        os.kill(child_pid(job), signal.SIGKILL)
        assert "out of memory" in job.wait(5).error


@posix_only
def test_slicers_launcher_loses_no_letter_of_a_folder(tmp_path, slicers_launcher, monkeypatch):
    script = tmp_path / "Erweiterung für Jörg" / "child.py"
    script.parent.mkdir()
    script.symlink_to(SmallJob.child_script)
    monkeypatch.setattr(SmallJob, "child_script", script)
    folder = tmp_path / "Jörg" / "Temp"
    folder.mkdir(parents=True)
    with running("double", folder, "Größe", python=slicers_launcher) as job:
        assert job.wait(20).status is JobStatus.DONE, job.poll().details
        assert job.report()["text"] == "Größe"


@posix_only
def test_a_crash_behind_slicers_launcher_is_no_lack_of_memory(tmp_path, slicers_launcher):
    with running("dies", tmp_path, "signal:SIGSEGV", python=slicers_launcher) as job:
        state = job.wait(5)
    assert "exit code 1" in state.error
    assert "exit abnormally" in state.details


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("137:x", "out of memory"),
        ("1:terminate called after throwing std::bad_alloc", "out of memory"),
        ("1:Killed", "out of memory"),
        ("3:something else", "exit code 3"),
        ("0:left without a word", "exit code 0"),
        pytest.param("signal:SIGSEGV", "signal 11", marks=posix_only),
    ],
)
def test_an_end_without_a_word_is_a_failure_with_its_reason_and_log(tmp_path, text, said):
    with running("dies", tmp_path, text) as job:
        state = job.wait(20)
    assert state.status is JobStatus.FAILED
    assert said in state.error
    assert ("last words" if text.startswith("signal") else text.partition(":")[2]) in state.details


def test_settings_and_task_names_are_checked_in_the_child(tmp_path):
    with SmallJob("nothing", {}, SmallSettings(), parent_folder=tmp_path) as job:
        job.start()
        assert job.wait(20).error == f"There is no task 'nothing'; there are: {', '.join(_tasks())}."


def _tasks() -> list[str]:
    return [*TASKS, "double", "says", "echo", "patient", "deaf", "saving", "frozen", "parental", "raises", "dies"]


def test_python_that_does_not_exist_is_one_sentence_and_leaves_nothing(tmp_path):
    job = Job("enhance", {}, EnhanceSettings(), python=str(tmp_path / "no python"), parent_folder=tmp_path)
    with pytest.raises(JobError, match="can not be started"):
        job.start()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_can_not_be_written_is_one_sentence(tmp_path):
    job = Job("enhance", {}, EnhanceSettings(), parent_folder=tmp_path / "missing")
    with pytest.raises(JobError, match="can not be written into"):
        job.start()


def test_a_full_disk_at_the_start_leaves_nothing(tmp_path, a_volume, full_disk):
    full_disk(1000)
    job = SmallJob("echo", {"volume": a_volume}, SmallSettings(), parent_folder=tmp_path)
    with pytest.raises(JobError, match="the disk is full; make room"):
        job.start()
    assert list(tmp_path.iterdir()) == []


def test_an_exception_in_the_with_block_ends_the_child(tmp_path):
    pids = []

    def interrupted() -> None:
        with running("deaf", tmp_path) as job:
            pids.append(child_pid(job))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert gone(pids[0])
    assert list(tmp_path.iterdir()) == []


def test_a_forgotten_job_is_cleaned_up_by_the_garbage_collector(tmp_path):
    job = running("deaf", tmp_path)
    pid = child_pid(job)
    del job
    gc.collect()
    wait_for(lambda: gone(pid), 3)
    assert list(tmp_path.iterdir()) == []


PARENT = """
import sys, time
sys.path[:0] = {paths!r}
from child_with_small_tasks import SmallJob, SmallSettings
job = SmallJob("deaf", {{}}, SmallSettings(), parent_folder={folder!r})
job.start()
while job.poll().message != "Deaf":
    time.sleep(0.02)
print((job.folder / "pid").read_text(), flush=True)
{then}
"""


def parent_process(tmp_path: Path, then: str) -> tuple[subprocess.Popen, int]:
    """Another Python that starts a job, says the number of its child and then does ``then``."""
    here = Path(__file__).resolve()
    paths = [str(here.parent), str(here.parents[2] / "MedGANSlicer")]
    code = PARENT.format(paths=paths, folder=str(tmp_path), then=then)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_the_end_of_the_interpreter_ends_the_child_and_removes_the_folder(tmp_path):
    process, pid = parent_process(tmp_path, "sys.exit(0)")
    with process:
        process.wait(10)
    wait_for(lambda: gone(pid), 3)
    assert list(tmp_path.iterdir()) == []


@posix_only
def test_child_of_a_killed_parent_ends_itself_and_removes_the_folder(tmp_path):
    process, pid = parent_process(tmp_path, "time.sleep(60)")
    with process:
        assert not gone(pid)
        process.kill()
    wait_for(lambda: gone(pid) and not list(tmp_path.iterdir()), 3)


@posix_only
def test_folder_of_a_parent_that_was_killed_later_goes_with_the_next_job(tmp_path, a_volume):
    then = 'job.cancel(); job.wait(); print("over", flush=True); time.sleep(60)'
    process, _ = parent_process(tmp_path, then)
    with process:
        assert process.stdout.readline() == "over\n"
        process.kill()
    assert len(list(tmp_path.iterdir())) == 1
    with SmallJob("echo", {"volume": a_volume}, SmallSettings(), parent_folder=tmp_path) as job:
        job.start()
        assert list(tmp_path.iterdir()) == [job.folder]
        job.wait(20)


@posix_only
def test_works_through_a_launcher_that_outlives_or_precedes_the_interpreter(tmp_path, a_volume):
    launcher = tmp_path / "Python Launcher"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\n')
    launcher.chmod(0o755)
    folder = tmp_path / "jobs"
    folder.mkdir()
    with SmallJob("echo", {"v": a_volume}, SmallSettings(), python=str(launcher), parent_folder=folder) as job:
        job.start()
        assert job.wait(20).status is JobStatus.DONE
    job = SmallJob("deaf", {}, SmallSettings(), python=str(launcher), parent_folder=folder)
    job.start()
    wait_for(lambda: job.poll().message == "Deaf")
    pid = child_pid(job)
    launcher_pid = job._remains.process.pid
    assert pid != launcher_pid
    os.kill(launcher_pid, signal.SIGKILL)  # the launcher goes, the interpreter stays behind
    wait_for(lambda: gone(pid), 3)
    assert job.wait(5).status is JobStatus.FAILED
    job.close()
    assert list(folder.iterdir()) == []


def test_parent_needs_no_torch_and_no_simpleitk():
    code = (
        "import sys; import medgan.job, medgan.settings, medgan.models, medgan.tasks, medgan.volume; "
        "print([m for m in ('torch', 'monai', 'SimpleITK', 'scipy') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "MedGANSlicer")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"


def test_polling_costs_little(tmp_path):
    """A timer of the user interface calls it: far below one frame."""
    with running("patient", tmp_path) as job:
        start = time.perf_counter()
        for _ in range(100):
            job.poll()
        assert (time.perf_counter() - start) / 100 < 0.005


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_while_a_job_is_removed_leaves_no_folder(tmp_path, monkeypatch, number):
    def interrupted(*_):
        raise KeyboardInterrupt

    remains = _Remains()
    remains.folder = tmp_path / "folder"
    remains.folder.mkdir()
    monkeypatch.setattr(remains, "end_process", lambda: os.kill(os.getpid(), number))
    before = signal.signal(number, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            remains.remove()
        assert signal.getsignal(number) is interrupted
    finally:
        signal.signal(number, before)
    assert not list(tmp_path.iterdir())
