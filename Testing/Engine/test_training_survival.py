"""What a training survives: being killed, a torn checkpoint, a full disk, losses that are no numbers."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import medgan
import tiny_training
from medgan.training import checkpoint, loop
from medgan.training.journal import read_log
from medgan.training.loop import train
from medgan.training.result import TrainingStopped
from tiny_training import HalfKind, RandomPairs, losses, settings

pytestmark = pytest.mark.usefixtures("one_thread")

PATH = os.pathsep.join([str(Path(medgan.__file__).parents[1]), str(Path(tiny_training.__file__).parent)])


def child(folder, limit_bytes=None, slow=False, **changes) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": PATH, "DROPOUT": "0.3", "SECONDS_A_SAMPLE": "0.05" if slow else "0"}
    command = [sys.executable, tiny_training.__file__, str(folder), json.dumps(changes)]

    def limit():
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limit
    )


def run(folder, kind=None, dropout=0.0, **changes):
    chosen = settings(**changes)
    kind = kind or HalfKind(chosen, dropout)
    return kind, train(kind, RandomPairs(), chosen, folder)


def same_weights(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "changes",
    [
        {"adversarial": "hinge", "r1_weight": 1.0, "critic_steps": 2},
        {"adversarial": "wasserstein", "accumulate": 2, "spectral_norm": False, "log_every": 3},
        {"adversarial": "non-saturating", "precision": "float16", "average": 0.99},
    ],
)
def test_a_resumed_training_is_bit_equal_to_an_uninterrupted_one(tmp_path, changes):
    """With dropout, which draws from the global generator; stopped between two lines of the log and started anew."""
    whole_kind, whole = run(tmp_path / "whole", dropout=0.3, steps=20, **changes)

    def progress(fraction, message=""):
        if message.startswith("Step 10 "):
            raise loop.Cancelled

    chosen = settings(steps=20, **changes)
    with pytest.raises(loop.Cancelled):
        train(HalfKind(chosen, 0.3), RandomPairs(), chosen, tmp_path / "parts", progress)
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 10
    torch.manual_seed(99)  # a new process would have other random numbers
    kind, resumed = run(tmp_path / "parts", dropout=0.3, steps=20, **changes)
    assert losses(resumed.curves) == losses(whole.curves)
    assert same_weights(kind.state_dict(), whole_kind.state_dict())
    assert same_weights(resumed.generator.state_dict(), whole.generator.state_dict())


def test_a_killed_training_goes_on_from_its_checkpoint_and_writes_the_same_log(tmp_path):
    whole_kind, whole = run(tmp_path / "whole", dropout=0.3, steps=24)
    folder = tmp_path / "killed"
    killed = child(folder, slow=True, steps=24, save_minutes=0.01)
    end = time.monotonic() + 300
    while len(read_log(folder)) < 10:  # beyond a checkpoint
        assert killed.poll() is None, killed.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    state, _ = checkpoint.read(folder)
    seen = read_log(folder)[-1]["step"]
    assert state["step"] <= seen < 24
    with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
        log.write('{"step": 23, "generator_l')  # a line that was being written
    kind, resumed = run(folder, dropout=0.3, steps=24)
    assert resumed.messages == ([f"The training goes on from step {state['step']}."])
    assert losses(read_log(folder)) == losses(resumed.curves) == losses(whole.curves)
    assert same_weights(kind.state_dict(), whole_kind.state_dict())


def test_a_torn_checkpoint_falls_back_to_the_one_before_and_the_log_with_it(tmp_path):
    _, whole = run(tmp_path / "whole", steps=15)
    folder = tmp_path / "torn"
    run(folder, steps=5)
    run(folder, steps=10)
    path = folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    _, resumed = run(folder, steps=15)
    assert "checkpoint.pt is damaged" in resumed.messages[0]
    assert resumed.messages[1] == "The training goes on from step 5."
    # Where validations fall does not depend on the step a run ended at, 5 and 10 being such steps.
    assert losses(resumed.curves) != []
    assert [row["step"] for row in resumed.curves if "generator_loss" in row] == list(range(1, 16))
    assert len(whole.curves) == len(resumed.curves)


def test_a_disk_that_is_full_ends_in_one_sentence_and_keeps_the_last_checkpoint(tmp_path):
    """The operating system refuses to make files longer than so many bytes, which the log outgrows."""
    folder = tmp_path / "full"
    run(folder, steps=2)
    size = (folder / "checkpoint.pt").stat().st_size
    done = child(folder, limit_bytes=size + 2000, steps=2000, validate_every=0, save_minutes=0.01)
    _, said = done.communicate(timeout=300)
    assert done.returncode == 1
    last = said.strip().splitlines()[-1]
    assert f"Folder {folder} can not be written (File too large" in last
    assert "is whole. Make room and start it again in the same folder" in last
    state, told = checkpoint.read(folder)
    assert told == []
    assert f"The checkpoint of step {state['step']} is whole" in last
    _, resumed = run(folder, steps=state["step"] + 1)
    assert resumed.steps == state["step"] + 1
    done = child(tmp_path / "new", limit_bytes=1000, steps=2)
    _, said = done.communicate(timeout=300)
    assert said.strip().endswith("so the training stopped at step 0. Make room and start it again.")


def test_a_checkpoint_that_does_not_fit_ends_in_one_sentence(tmp_path, monkeypatch):
    run(tmp_path, steps=2)
    real = checkpoint.save_whole

    def no_room(state, path):
        real(state, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_whole", no_room)
    with pytest.raises(
        TrainingStopped, match=r"No space left on device.* GB are free.*The checkpoint of step 2 is whole"
    ):
        run(tmp_path, steps=4)
    assert checkpoint.read(tmp_path)[0]["step"] == 2
    assert not (tmp_path / "checkpoint.tmp").exists()


def failing(steps, changes=None):
    """A kind whose loss is no number in the calls of these numbers."""

    class Failing(HalfKind):
        calls = 0

        def generator_loss(self, batch, adversarial):
            values = super().generator_loss(batch, adversarial)
            type(self).calls += 1
            return {**values, "loss": values["loss"] * float("nan")} if self.calls in steps else values

    return Failing(settings(**(changes or {})))


def test_single_losses_that_are_no_numbers_are_skipped_and_counted(tmp_path):
    kind, result = run(tmp_path, failing({3, 7, 8}), steps=12)
    assert all(torch.isfinite(parameter).all() for parameter in kind.parameters())
    rows = {row["step"]: row for row in result.curves if "seconds" in row}
    assert rows[12]["skipped"] == 3
    assert "generator_loss" not in rows[3]
    assert "skipped" not in rows[2]
    assert result.steps == 12


def test_several_in_a_row_go_back_to_the_checkpoint_with_half_the_rate(tmp_path):
    run(tmp_path, steps=4)
    _, result = run(tmp_path, failing(range(4, 9)), steps=30)
    alarm = next(row for row in result.curves if row.get("alarm") == "not a number")
    assert alarm["step"] == 4
    assert "went back to step 4 with half the rates" in alarm["advice"]
    assert result.steps == 30
    rows = {row["step"]: row for row in result.curves if "rates" in row}
    assert sorted(rows) == list(range(1, 31))
    assert rows[10]["rates"]["generator"] == pytest.approx(0.5e-2)
    assert any("went back to step 4" in text for text in result.messages)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["rate_factor"] == 0.5


def test_losses_that_stay_no_numbers_end_with_advice(tmp_path):
    with pytest.raises(
        TrainingStopped, match=r"5 steps in a row up to step 5, also after going back 3 times.*--critic-rate"
    ):
        run(tmp_path, failing(range(1, 1000)), steps=30)
    state, _ = checkpoint.read(tmp_path)
    assert (state["step"], state["returns"], state["rate_factor"]) == (0, 3, 0.125)
    assert all(torch.isfinite(tensor).all() for tensor in state["kind"].values() if tensor.is_floating_point())


def test_a_checkpoint_of_other_networks_is_one_sentence(tmp_path):
    run(tmp_path, steps=2)
    with pytest.raises(TrainingStopped, match="belongs to other networks"):
        run(tmp_path, HalfKind(settings(), with_critic=False), steps=4)


def test_ctrl_c_saves_before_it_interrupts(tmp_path):
    stopped = child(tmp_path, slow=True, steps=2000)
    end = time.monotonic() + 300
    while len(read_log(tmp_path)) < 3:
        assert stopped.poll() is None, stopped.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    _, said = stopped.communicate(timeout=300)
    assert "KeyboardInterrupt" in said
    state, _ = checkpoint.read(tmp_path)
    assert state["step"] == read_log(tmp_path)[-1]["step"] >= 3
