"""The log of a training, as the panel reads it while it is written."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from medgan.training.journal import Journal
from medgan.training.loop import train
from MedGANSlicerLib.RunLog import RunLog, thinned
from tiny_training import HalfKind, RandomPairs, settings


@pytest.fixture
def a_journal(tmp_path):
    return Journal(tmp_path)


def test_no_folder_is_an_empty_run(tmp_path):
    log = RunLog(tmp_path / "nowhere")
    assert log.update() is False
    assert (log.rows, log.step, log.resumable, log.picture()) == ([], 0, False, None)
    assert log.validation() == ("", {})


def test_only_what_is_new_is_read(a_journal, tmp_path):
    log = RunLog(tmp_path)
    a_journal.add({"step": 10, "generator_loss": 1.0, "critic_loss": 0.5})
    assert log.update() is True
    assert log.update() is False
    a_journal.add({"step": 20, "generator_loss": 0.5, "critic_loss": None})
    a_journal.add({"step": 20, "val_psnr": 30.0, "val_score": 30.0})
    assert log.update() is True
    assert log.losses() == {"Generator": ([10, 20], [1.0, 0.5]), "Critic": ([10], [0.5])}
    assert log.validation() == ("PSNR", {"PSNR": ([20], [30.0])})
    assert log.latest("generator_loss") == 0.5
    assert log.step == 20


def test_half_written_line_waits_for_its_end(a_journal, tmp_path):
    log, whole = RunLog(tmp_path), json.dumps({"step": 20, "generator_loss": 0.5}) + "\n"
    a_journal.add({"step": 10, "generator_loss": 1.0})
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(whole[:9])
        file.flush()
        log.update()
        assert log.step == 10
        file.write(whole[9:])
    assert log.update() is True
    assert log.step == 20


@pytest.mark.parametrize("keeps_best", [True, False])
def test_panel_says_of_the_weights_what_the_report_says(tmp_path, keeps_best):
    scores = iter([*range(1, 9), *range(7, 0, -1)])
    chosen = settings(steps=15, validate_every=1)
    kind = HalfKind(chosen)
    kind.keeps_best = keeps_best
    kind.validate = lambda generator, batches: {"score": float(next(scores))}
    result = train(kind, RandomPairs(), chosen, tmp_path)
    log = RunLog(tmp_path)
    log.update()
    assert log.verdict() == result.done
    assert ("The weights of the best step are the ones kept." in result.done) == keeps_best
    log.rows = [{name: value for name, value in row.items() if name != "keeps_best"} for row in log.rows]
    assert log.verdict().endswith("Fewer steps would have done."), "older logs do not tell"


def test_log_that_was_written_anew_is_read_anew(a_journal, tmp_path):
    log = RunLog(tmp_path)
    for step in (10, 20, 30):
        a_journal.add({"step": step, "generator_loss": 1.0})
    log.update()
    a_journal.go_back(10)
    a_journal.add({"step": 20, "generator_loss": 0.25})
    log.update()
    assert log.losses()["Generator"] == ([10, 20], [1.0, 0.25])
    os.remove(tmp_path / "log.jsonl")
    assert log.update() is True
    assert log.rows == []


def test_alarms_and_pictures(a_journal, tmp_path):
    log = RunLog(tmp_path)
    a_journal.add({"step": 10, "alarm": "diverging", "advice": "Lower the rate."})
    a_journal.add({"step": 10, "alarm": "samples alike", "advice": "Go back."})
    a_journal.add({"step": 90, "alarm": "diverging", "advice": "Lower the rate again."})
    a_journal.add_pictures(50, {"input": np.zeros((4, 4)), "made": np.ones((4, 4))})
    a_journal.add({"step": 60, "pictures": "samples/gone.png", "names": []})
    log.update()
    assert log.alarms() == [(10, "samples alike", "Go back."), (90, "diverging", "Lower the rate again.")]
    assert log.picture() == (tmp_path / "samples" / "step_000050.png", 50, ["input", "made"])


def test_checkpoint_makes_a_run_one_that_can_go_on(tmp_path):
    log = RunLog(tmp_path)
    assert not log.resumable
    (tmp_path / "checkpoint.pt").write_bytes(b"x")
    assert log.resumable
    (tmp_path / "checkpoint.pt").rename(tmp_path / "checkpoint.previous.pt")  # as for a moment of each saving
    assert log.resumable


def test_long_curves_are_thinned_to_means():
    x, y = thinned([(n, float(n % 2)) for n in range(10_000)], 100)
    assert len(x) == 100
    assert (x[0], x[-1]) == (49.5, 9949.5)
    assert set(y) == {0.5}
    assert thinned([(1, 2.0)], 100) == ([1], [2.0])
    assert thinned([], 100) == ([], [])
