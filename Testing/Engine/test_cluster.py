"""The same work on a Dask cluster: real workers in processes of their own, one of them killed at its work."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import phantoms
from command_line import command, environment, one_sentence
from medgan import cluster
from medgan.settings import EnhanceSettings
from medgan.volume import Volume, read_volume, write_volume

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
COUNT = 3


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """A cluster of two worker processes with one thread each, whose jobs have their folders in ``temporary``."""
    distributed = pytest.importorskip("distributed")
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setenv("OMP_NUM_THREADS", "1")
        here = distributed.LocalCluster(
            n_workers=2,
            processes=True,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=str(temporary / "dask"),
        )
        with here:
            yield {"address": here.scheduler_address, "temporary": temporary}


def started(folder: Path, address: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("enhance", "in", "--out", "new", "--dask", address, *more),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def jobs_at_work(temporary: Path) -> list[Path]:
    """The folders of jobs whose child has begun."""
    return [path.parent for path in temporary.glob("medgan-job-*/pid")]


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 240.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return found


def scans(folder: Path, count: int, side: int = 24) -> None:
    (folder / "in").mkdir()
    for seed in range(count):
        noisy = np.rint(phantoms.rician(phantoms.head((side, side, side)), 50.0, seed=seed))
        write_volume(Volume(noisy, phantoms.awkward_geometry(), voxel_type="int16"), folder / "in" / f"scan{seed}.nrrd")


@posix_only
def test_worker_that_is_killed_loses_nothing_and_nothing_is_done_twice(tmp_path, two_workers):
    from medgan.tasks.enhance import run as here

    scans(tmp_path, COUNT)
    log = tmp_path / "new" / ".medgan" / "log.jsonl"
    with started(tmp_path, two_workers["address"], "--json", "--report", "r.csv") as process:
        wait_for(log.exists, process)  # something is finished, and not lost by what follows
        victim = wait_for(lambda: jobs_at_work(two_workers["temporary"]), process)[0]
        killed = int(victim.name.split("-")[-2])  # medgan-job-HOST-PID-...: the process that has started it
        os.kill(killed, signal.SIGKILL)
        done_before = [json.loads(line)["output"] for line in log.read_text().splitlines()]
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    said = json.loads(out)["files"]
    names = [f"scan{seed}_enhanced.nrrd" for seed in range(COUNT)]
    assert [(Path(file["output"]).name, file["status"]) for file in said] == [(name, "done") for name in names]
    finished = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["output"] for line in finished) == names  # each of them once
    assert 1 <= len(done_before) < COUNT
    assert killed not in {line["process"] for line in finished if line["output"] not in done_before}
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [".medgan", *names]
    for seed, name in enumerate(names):
        alone = here({"volume": read_volume(tmp_path / "in" / f"scan{seed}.nrrd")}, EnhanceSettings())
        np.testing.assert_array_equal(
            read_volume(tmp_path / "new" / name).array, alone.volumes["volume"].stored(), err_msg=name
        )
    assert (tmp_path / "r.csv").read_text().count(",done,") == COUNT
    wait_until_empty(two_workers["temporary"])


@posix_only
def test_interruption_cancels_what_the_workers_do(tmp_path, two_workers):
    scans(tmp_path, 2, side=90)
    with started(tmp_path, two_workers["address"]) as process:
        children = wait_for(lambda: jobs_at_work(two_workers["temporary"]), process)
        pids = [int((folder / "pid").read_text() or 0) for folder in children]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == ("", "Interrupted; 0 of 2 files are done, nothing was written for the others.\n")
    wait_until_empty(two_workers["temporary"])
    assert not (tmp_path / "new").exists()
    for pid in filter(None, pids):
        status = Path(f"/proc/{pid}/status")
        assert not status.exists() or "State:\tZ" in status.read_text()


def wait_until_empty(temporary: Path) -> None:
    end = time.monotonic() + 20
    while list(temporary.glob("medgan-job-*")):
        assert time.monotonic() < end, "folders of jobs are left"
        time.sleep(0.02)


# Clusters that can not be used


def a_closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_cluster_that_does_not_answer_is_one_sentence(tmp_path, call, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "REACH_S", 0.5)
    address = f"tcp://127.0.0.1:{a_closed_port()}"
    begun = time.monotonic()
    done = call("enhance", "a.nrrd", "b.nrrd", "--dask", address, cwd=tmp_path)
    one_sentence(done, f"No Dask scheduler answers at '{address}' within 0.5 s")
    assert time.monotonic() - begun < 10


def test_address_that_is_none_is_one_sentence(tmp_path, call):
    pytest.importorskip("distributed")
    done = call("enhance", "a.nrrd", "b.nrrd", "--dask", "my-cluster", cwd=tmp_path)
    one_sentence(done, "'my-cluster' is not the address of a Dask scheduler")


def test_cluster_without_dask_says_what_to_install(tmp_path, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = call("enhance", "a.nrrd", "b.nrrd", "--dask", "tcp://127.0.0.1:1", cwd=tmp_path)
    one_sentence(done, 'install it with: pip install "medganslicer[cluster]".')


def test_cluster_without_workers_or_with_another_version_is_one_sentence(tmp_path, call, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "REACH_S", 1.0)
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0", protocol="tcp") as empty:
        address = empty.scheduler_address
        done = call("enhance", "a.nrrd", "b.nrrd", "--dask", address, cwd=tmp_path)
        one_sentence(done, f"at '{address}' has no workers; start one with 'dask worker {address} --nthreads 1'")
        empty.scale(1)
        monkeypatch.setattr(cluster, "REACH_S", 10.0)
        monkeypatch.setattr(cluster, "_version", lambda: "0.0.7")  # what a worker answers, this process being one
        done = call("enhance", "a.nrrd", "b.nrrd", "--dask", address, cwd=tmp_path)
        one_sentence(done, "have medgan 0.0.7, this is")
