"""What looks wrong in the curves of a training, with advice. Works on the rows of ``log.jsonl``; imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

Rows = Sequence[dict[str, Any]]

LOOK_BACK = 2000
"""Rows at the end of the log that are looked at."""

QUIET_STEPS = 2000
"""An alarm is not said again within so many steps."""

SURE, SURE_STEPS, SURE_ROWS = 0.95, 300, 10
"""A critic that is right so often, for so many steps and rows, teaches the generator little."""

FEWEST_WORSE = 3
"""Validations, all worse than their input, before that is an alarm."""

TIMES_WORSE = 10.0
"""A loss that grew so much over what it was is not fluctuating."""


@dataclass(frozen=True)
class Alarm:
    """Something to look at: when, which (a short name), and what it means and what to do (one or two sentences)."""

    step: int
    alarm: str
    advice: str

    def row(self) -> dict[str, Any]:
        return {"step": self.step, "alarm": self.alarm, "advice": self.advice}


def check(rows: Rows) -> list[Alarm]:
    """The alarms that are due at the last row and were not said lately."""
    recent = rows[-LOOK_BACK:]
    if not recent:
        return []
    step = recent[-1]["step"]
    said = {row["alarm"] for row in recent if "alarm" in row and row["step"] > step - QUIET_STEPS}
    found = {
        "critic too strong": _critic_too_strong(recent),
        "samples alike": _samples_alike(recent),
        "diverging": _diverging(recent),
        "overfitting": _overfitting(recent),
        "worse than the input": _worse_than_input(recent),
    }
    return [Alarm(step, name, advice) for name, advice in found.items() if advice and name not in said]


def series(rows: Rows, name: str) -> list[tuple[int, float]]:
    """(step, value) of the rows that have a finite value of that name."""
    return [(row["step"], row[name]) for row in rows if isinstance(row.get(name), (int, float))]


def comparable(rows: Rows) -> list[dict[str, Any]]:
    """The rows of validations that may be compared: not those where the adversarial term lowers the score, and not
    those on other volumes than the last ones."""
    first = max((number for number, row in enumerate(rows) if row.get("compares_anew")), default=0)
    found = [{**row, "step": row.get("val_step", row["step"])} for row in rows[first:] if row.get("val_counts", True)]
    return [row for row in found if isinstance(row.get("val_score"), (int, float))]


def scores(rows: Rows) -> list[tuple[int, float]]:
    """(step, score) of the validations that may be compared."""
    return series(comparable(rows), "val_score")


def worse_than_input(now: float | None, before: float | None) -> str:
    """A sentence where a validation says that results are farther from the truth than what they were made of; else ''.
    ``now``, ``before``: PSNR, None where it was not measured."""
    if now is None or before is None or now >= before:
        return ""
    return (
        f"Results are farther from the truth than their input (PSNR {now:.4g}, before {before:.4g}): do not use such a "
        "model."
    )


def _critic_too_strong(rows: Rows) -> str:
    right = series(rows, "right")
    sure = 0
    while sure < len(right) and right[-1 - sure][1] > SURE:
        sure += 1
    if sure < SURE_ROWS or right[-1][0] - right[-sure][0] < SURE_STEPS:
        return ""
    return (
        f"The critic has told real from made images in more than 95 % of cases since step {right[-sure][0]}, so the "
        "generator learns little from it. Lower Critic's rate (--critic-rate), or set R1 penalty (--r1-weight) to 10."
    )


def _samples_alike(rows: Rows) -> str:
    values = series(rows, "val_diversity")
    if len(values) < 3:
        return ""
    real = series(rows, "val_diversity_real")
    usual = real[-1][1] if real else max(value for _, value in values)
    now = max(value for _, value in values[-2:])
    if usual <= 0 or now >= 0.5 * usual:
        return ""
    compared = "in the real ones" if real else "earlier"
    return (
        f"The samples grow alike: their diversity is {now:.3g}, {usual:.3g} {compared} (mode collapse). "
        "Go back to an earlier checkpoint or start again with a larger batch, a lower Learning rate (--rate), or R1 "
        "penalty (--r1-weight) set to 10."
    )


def _diverging(rows: Rows) -> str:
    # What a loss is made of changes where the adversarial term begins and rises, so only like rows are compared.
    weight = rows[-1].get("adversarial", 1.0)
    alike = [row for row in rows if row.get("adversarial", 1.0) == weight]
    rates = ("generator_loss", "Learning rate (--rate)"), ("critic_loss", "Critic's rate (--critic-rate)")
    for name, rate in rates:
        values = [abs(value) for _, value in series(alike, name)]
        if len(values) < 15:
            continue
        now, before = median(values[-5:]), median(values[:-5][-100:])
        if now > TIMES_WORSE * max(before, 0.1):
            return (
                f"The loss of the {name.split('_')[0]} grew from about {before:.3g} to {now:.3g}: the training "
                f"diverges. Lower {rate}, or set R1 penalty (--r1-weight) to 10."
            )
    return ""


def _worse_than_input(rows: Rows) -> str:
    found = comparable(rows)
    said = [worse_than_input(row.get("val_psnr"), row.get("val_psnr_before")) for row in found]
    if len(found) < FEWEST_WORSE or not all(said):
        return ""
    if found[-1]["val_score"] > max(row["val_score"] for row in found[:-1]):  # it is on its way
        return ""
    return f"{said[-1]} Start in a new folder with a lower rate, or from a model."


def _overfitting(rows: Rows) -> str:
    values = scores(rows)
    if len(values) < 8:
        return ""
    best_step, best = max(values, key=lambda pair: pair[1])
    after = [value for step, value in values if step > best_step]
    swing = median(abs(b[1] - a[1]) for a, b in itertools.pairwise(values))
    if len(after) < 5 or fmean(after[-3:]) > best - 2.0 * swing:
        return ""
    loss = series(rows, "generator_loss")
    near = [value for step, value in loss if abs(step - best_step) <= max(1, (values[1][0] - values[0][0]))]
    if not near or fmean(value for _, value in loss[-5:]) >= fmean(near):
        return ""
    return (
        f"Validation was best at step {best_step} and falls since, while the training loss still falls: the model "
        "learns its training volumes by heart. Add volumes, or stop here: the weights of the best step are kept."
    )
