"""Two processes that torchrun starts do what one with the doubled batch does, and only the first one writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import medgan
import tiny_training
from medgan.settings import Device
from medgan.training.journal import read_log
from medgan.training.loop import train
from medgan.training.parallel import joined
from tiny_training import HalfKind, RandomPairs, settings

PATH = os.pathsep.join([str(Path(medgan.__file__).parents[1]), str(Path(tiny_training.__file__).parent)])


def torchrun(folder, **changes) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, tiny_training.__file__, str(folder), json.dumps(changes)],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def test_each_process_asks_its_own_gpu_and_one_without_ends_the_training(monkeypatch):
    asked = []

    def set_device(number):
        asked.append(number)
        raise RuntimeError("CUDA error: invalid device ordinal")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    for name, number in (("WORLD_SIZE", 4), ("RANK", 3), ("LOCAL_RANK", 1)):
        monkeypatch.setenv(name, str(number))
    with (
        pytest.raises(ValueError, match=r"GPU 1, .* set the device to cpu. .*invalid device ordinal\)\.$"),
        joined(Device.AUTO),
    ):
        pass
    assert asked == [1]


def test_two_processes_go_on_as_one_with_the_doubled_batch_would(tmp_path):
    """Hinge with R1 (differentiated twice), spectral norm and accumulated gradients. One process does the first steps:
    the checkpoint is the same for any number of processes."""
    shared = {"adversarial": "hinge", "r1_weight": 1.0, "accumulate": 2, "validate_every": 4}
    chosen = settings(steps=12, batch=4, **shared)
    train(HalfKind(chosen), RandomPairs(), chosen, tmp_path / "two")
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    chosen = settings(steps=20, batch=4, **shared)
    kind = HalfKind(chosen)
    alone = train(kind, RandomPairs(), chosen, tmp_path / "one")

    done = torchrun(tmp_path / "two", steps=20, batch=2, **shared)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["20", "steps"]  # one of the two speaks
    rows = [row for row in read_log(tmp_path / "two") if "rates" in row]
    wanted = [row for row in alone.curves if "rates" in row]
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert "critic_r1" in rows[16]
    for name in ("generator_loss", "generator_error", "critic_loss", "right"):
        np.testing.assert_allclose([row[name] for row in rows], [row[name] for row in wanted], rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(rows[19]["val_score"], wanted[19]["val_score"], rtol=2e-5)
    weights = torch.load(tmp_path / "two" / "weights.pt", weights_only=True)
    for name, tensor in kind.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=2e-5, atol=1e-6)
