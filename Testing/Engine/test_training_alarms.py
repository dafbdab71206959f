"""Alarms and the answer to "is it done?", from curves that are written by hand."""

from __future__ import annotations

import math
import random

import pytest

from medgan.training import alarms
from medgan.training.curves import score_name, verdict


def curve(count, every=10, **values):
    """Rows of a log, each value a function of its number."""
    return [
        {"step": every * (n + 1), "adversarial": 1.0, **{name: make(n) for name, make in values.items()}}
        for n in range(count)
    ]


def noise(seed=0, size=0.1):
    generator = random.Random(seed)
    return lambda n: generator.uniform(-size, size)


def named(rows):
    return [alarm.alarm for alarm in alarms.check(rows)]


def test_a_healthy_training_raises_no_alarm():
    rows = curve(
        300,
        right=lambda n: 0.75,
        generator_loss=lambda n: 1.0 / (1 + n),
        critic_loss=lambda n: 1.4,
        val_score=lambda n: 30.0 - 10.0 * math.exp(-n / 50),
        val_diversity=lambda n: 0.3,
        val_diversity_real=lambda n: 0.35,
    )
    assert all(not alarms.check(rows[: end + 1]) for end in range(len(rows)))
    assert alarms.check([]) == []


def test_a_critic_that_is_always_right_raises_an_alarm_after_long():
    rows = curve(60, right=lambda n: 0.8 if n < 20 else 0.97)
    assert not named(rows[:50])  # 300 steps are from row 20 to row 50
    (alarm,) = alarms.check(rows[:51])
    assert (alarm.step, alarm.alarm) == (510, "critic too strong")
    assert "since step 210" in alarm.advice
    assert "Lower Critic's rate (--critic-rate), or set R1 penalty (--r1-weight) to 10." in alarm.advice
    interrupted = curve(60, right=lambda n: 0.9 if n == 45 else 0.97)
    assert not named(interrupted)


def test_an_alarm_is_said_once_in_a_while():
    rows = curve(51, right=lambda n: 0.99)
    (first,) = alarms.check(rows)
    rows.append(first.row())
    assert not alarms.check([*rows, {"step": 600, "right": 0.99}])
    later = rows + [{"step": 510 + 10 * n, "right": 0.99} for n in range(1, 201)]
    assert [alarm.step for alarm in alarms.check(later)] == [2510]


def test_samples_that_grow_alike_raise_an_alarm():
    values = [0.3, 0.28, 0.3, 0.1, 0.05]
    rows = curve(5, every=250, val_diversity=values.__getitem__, val_diversity_real=lambda n: 0.32)
    assert not named(rows[:4])  # one low value may be chance
    (alarm,) = alarms.check(rows)
    assert alarm.alarm == "samples alike"
    assert "0.1, 0.32 in the real ones (mode collapse)" in alarm.advice
    without_real = [{"step": row["step"], "val_diversity": row["val_diversity"]} for row in rows]
    assert "0.1, 0.3 earlier" in alarms.check(without_real)[0].advice


@pytest.mark.parametrize("name", ["generator_loss", "critic_loss"])
def test_a_loss_that_grows_tenfold_raises_an_alarm(name):
    for times in (9, 12):
        assert bool(named(curve(60, **{name: lambda n: 0.5 * (times if n >= 50 else 1)}))) is (times > 10)  # noqa: B023
    rows = curve(60, **{name: lambda n: 0.5 if n < 50 else 0.5 * 2 ** (n - 50)})
    assert not named(rows[:52])
    (alarm,) = alarms.check(rows)
    assert alarm.alarm == "diverging"
    assert f"loss of the {name.split('_')[0]}" in alarm.advice


def test_a_loss_that_changes_with_the_stage_does_not_diverge():
    rows = curve(80, generator_loss=lambda n: 0.01 if n < 40 else 5.0)
    for n, row in enumerate(rows):
        row["adversarial"] = 0.0 if n < 40 else min(1.0, (n - 39) / 5)
    assert all(not named(rows[: end + 1]) for end in range(len(rows)))


def test_validation_that_falls_while_the_training_loss_falls_is_overfitting():
    wiggle = noise()
    rows = curve(
        40,
        every=100,
        generator_loss=lambda n: 1.0 / (1 + n),
        val_score=lambda n: (n if n < 20 else 20 - 0.5 * (n - 20)) + wiggle(n),
    )
    assert not named(rows[:22])
    (alarm,) = alarms.check(rows)
    assert alarm.alarm == "overfitting"
    assert "best at step 2100" in alarm.advice
    assert not named([{**row, "generator_loss": 1.0 + 0.01 * row["step"]} for row in rows])
    assert not named([{**row, "val_counts": False} for row in rows])


def test_results_that_stay_worse_than_their_input_raise_an_alarm():
    def validated(*values):
        return curve(
            len(values), val_psnr=values.__getitem__, val_score=values.__getitem__, val_psnr_before=lambda n: 33
        )

    (alarm,) = alarms.check(validated(-11.0, -10.0, -12.0))
    assert alarm.alarm == "worse than the input"
    assert "PSNR -12, before 33" in alarm.advice
    assert not named(validated(-11.0, -12.0))
    assert not named(validated(20.0, 25.0, 30.0))  # it still learns
    assert not named(validated(34.0, 30.0, 29.0))
    assert "farther from the truth than their input (PSNR -10, before 33): do not use" in verdict(
        validated(-11.0, -10.0, -12.0)
    )
    assert "farther" not in verdict(validated(20.0, 34.0, 30.0))  # the best is kept


@pytest.mark.parametrize(
    ("values", "begins", "says"),
    [
        ([], "Nothing can be said", "there was no validation"),
        ([20.0, 25.0, 24.0], "Too early to say: 3 validations so far", "best PSNR 25 at step 200"),
        ([20.0 + n for n in range(12)], "No: PSNR still rises", "to 31 at step 1200"),
        ([30.0 - 10.0 * 0.3**n for n in range(16)], "Yes: PSNR has hardly risen", "best 30"),
        (
            [20.0 + n for n in range(8)] + [27.0 - n for n in range(1, 8)],
            "Yes, since step 800",
            "The weights of the best step",
        ),
        ([20.0] * 8, "Yes: PSNR has hardly risen", "best 20 at step 100"),
    ],
)
def test_is_it_done(values, begins, says):
    rows = curve(len(values), every=100, val_psnr=values.__getitem__, val_score=values.__getitem__)
    rows = [{**row, "keeps_best": True} for row in rows]
    answer = verdict(rows)
    assert answer.startswith(begins)
    assert says in answer


def test_too_early_names_the_best_of_the_validations_that_count():
    values = [9.0, 12.5, 11.0, 10.0]
    rows = curve(4, 10, val_psnr=values.__getitem__, val_score=values.__getitem__, val_counts=lambda n: n < 3)
    assert verdict(rows) == ("Too early to say: 3 validations before the adversarial term, best PSNR 12.5 at step 20.")


def test_validations_that_do_not_count_are_not_called_missing():
    answer = verdict(curve(2, every=30, val_psnr=lambda n: 32.0, val_score=lambda n: 32.0, val_counts=lambda n: False))
    assert answer.startswith("Nothing can be said: all validations so far came after the adversarial term began")
    assert "(Validate every, --validate-every)" in answer
    anew = {"step": 60, "compares_anew": True, "val_psnr": 30.0, "val_score": 30.0, "val_step": 30}
    assert verdict([anew]) == "Too early to say: 1 validation so far, best PSNR 30 at step 30."


def test_rows_that_hold_something_else_are_passed_over():
    rows = [{"step": 1, "note": "x"}, {"step": 2, "pictures": "a.png", "names": []}, {"step": 3, "val_score": None}]
    assert alarms.check(rows) == []
    assert verdict(rows).startswith("Nothing can be said")
    assert score_name([{"step": 1, "val_counts": True, "val_dice": 0.5, "val_score": 0.5}]) == "dice"
    assert score_name([]) == "the validation score"
