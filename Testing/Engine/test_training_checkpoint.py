"""Checkpoints: there is a whole one at every moment, and a damaged one is noticed."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import medgan
from medgan.training import checkpoint

ROOT = Path(medgan.__file__).parents[1]


def state(step: int) -> dict:
    return {"step": step, "weights": torch.full((1000,), float(step)), "words": {"a": None, "b": [1.5, "ü"]}}


def test_the_newest_checkpoint_is_read_back_whole(tmp_path):
    assert checkpoint.read(tmp_path) == (None, [])
    checkpoint.write(state(1), tmp_path)
    checkpoint.write(state(2), tmp_path)
    read, told = checkpoint.read(tmp_path)
    assert told == []
    assert read["step"] == 2
    assert torch.equal(read["weights"], torch.full((1000,), 2.0))
    assert read["words"] == {"a": None, "b": [1.5, "ü"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    checkpoint.write(state(1), tmp_path)
    checkpoint.write(state(2), tmp_path)
    path = tmp_path / checkpoint.NAME
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":  # as after a crash between the two renames
        path.unlink()
    else:
        data[len(data) // 2] ^= 1  # within the tensor: torch.load alone would not notice
        path.write_bytes(data)
    read, told = checkpoint.read(tmp_path)
    assert read["step"] == 1
    assert len(told) == (damage != "gone")
    assert all("checkpoint.pt is damaged" in sentence for sentence in told)


@pytest.mark.parametrize("content", [{"weights": 1}, [1, 2], {"step": "5"}])
def test_a_file_that_is_no_checkpoint_falls_back_to_the_one_before(tmp_path, content):
    checkpoint.write(state(1), tmp_path)
    checkpoint.write(state(2), tmp_path)
    torch.save(content, tmp_path / checkpoint.NAME)
    read, told = checkpoint.read(tmp_path)
    assert read["step"] == 1
    assert told == ["Checkpoint checkpoint.pt is damaged and was not used (it is no checkpoint of a training)."]


def test_two_damaged_checkpoints_are_one_sentence(tmp_path):
    checkpoint.write(state(1), tmp_path)
    checkpoint.write(state(2), tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK nonsense")
    with pytest.raises(checkpoint.CheckpointError, match=r"No checkpoint in .* can be read"):
        checkpoint.read(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path):
    checkpoint.write(state(1), tmp_path)
    program = (
        f"import resource, sys, torch; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from medgan.training import checkpoint\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))\n"
        "try:\n    checkpoint.write({'step': 2, 'weights': torch.zeros(1_000_000)}, Path(sys.argv[1]))\n"
        "except OSError as error:\n    print('refused', error)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert "refused" in done.stdout, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NAME]
    assert checkpoint.read(tmp_path)[0]["step"] == 1
