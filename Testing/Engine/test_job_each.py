"""One child process that runs a task once for each of several inputs."""

from __future__ import annotations

import numpy as np
from child_with_small_tasks import SmallJob, SmallSettings

from medgan.job import JobStatus
from medgan.volume import Volume


def volumes(count: int) -> dict[str, Volume]:
    rng = np.random.default_rng(0)
    return {f"frame {n}": Volume(rng.normal(size=(3, 4, 5)), np.diag([1.0, 2, 3 + n, 1])) for n in range(count)}


def test_each_input_has_a_run_of_its_own_in_the_one_child(tmp_path):
    inputs = volumes(3)
    with SmallJob("double", inputs, SmallSettings("x"), parent_folder=tmp_path, each="volume") as job:
        job.start()
        assert job.wait(20).status is JobStatus.DONE
        found = dict(job.each_output())
        runs = job.report()["runs"]
    assert list(found) == [f"frame {n}/volume" for n in range(3)]
    for name, volume in inputs.items():
        np.testing.assert_array_equal(found[f"{name}/volume"].array, 2 * volume.array)
        np.testing.assert_array_equal(found[f"{name}/volume"].ijk_to_ras, volume.ijk_to_ras)
    assert list(runs) == list(inputs)
    assert len({run["pid"] for run in runs.values()}) == 1


def test_only_the_outputs_that_are_kept_come_back(tmp_path):
    inputs = dict(zip(("a", "b"), volumes(2).values(), strict=True))
    with SmallJob("echo", inputs, SmallSettings(), parent_folder=tmp_path, keep=("b",)) as job:
        job.start()
        assert job.wait(20).status is JobStatus.DONE
        assert list(job.outputs().volumes) == ["b"]


def test_environment_of_the_child_can_be_its_own(tmp_path):
    inputs, more = volumes(1), {"MEDGAN_TEST": "mine"}
    with SmallJob("double", inputs, SmallSettings(), parent_folder=tmp_path, environment=more) as job:
        job.start()
        assert job.wait(20).status is JobStatus.DONE
        assert job.report()["environment"] == "mine"


def test_messages_and_errors_name_the_input_at_hand(tmp_path):
    with SmallJob("raises", volumes(2), SmallSettings("value:too dark"), parent_folder=tmp_path, each="volume") as job:
        job.start()
        state = job.wait(20)
    assert state.status is JobStatus.FAILED
    assert state.error == "Frame 0: too dark."
    with SmallJob("patient", volumes(2), SmallSettings(), parent_folder=tmp_path, each="volume") as job:
        job.start()
        while job.poll().message in ("", "Starting"):
            pass
        assert job.poll().message == "Frame 0: Working"
        assert job.poll().fraction < 0.5
