"""Is it done? A plain answer from the curves of a training. Works on the rows of ``log.jsonl``; imports no torch."""

from __future__ import annotations

import itertools
from statistics import fmean, median
from typing import Any

from medgan.training.alarms import Rows, comparable, scores, series, worse_than_input

FEWEST = 6
"""Validations before anything can be said."""

LITTLE = 0.02
"""A gain in the last quarter of the steps below this share of the whole gain is none."""

INITIALS = ("psnr", "ssim", "mmd")


def verdict(rows: Rows) -> str:
    """A few sentences that begin with Yes, No, or why nothing can be said."""
    best: dict[str, Any] = max(comparable(rows), key=lambda row: row["val_score"], default={})
    worse = worse_than_input(best.get("val_psnr"), best.get("val_psnr_before"))
    return f"{_is_it_done(rows)} {worse}".rstrip()


def _is_it_done(rows: Rows) -> str:
    values = scores(rows)
    if not values and series(rows, "val_score"):
        return (
            "Nothing can be said: all validations so far came after the adversarial term began, which lowers the "
            "score. Validate more often (Validate every, --validate-every)."
        )
    if not values:
        return (
            "Nothing can be said: there was no validation. Keep some patients for it (Validation, --validation-share) "
            "and set how often (Validate every, --validate-every)."
        )
    name = score_name(rows)
    first, last = values[0], values[-1]
    best_step, best = max(values, key=lambda pair: pair[1])
    if len(values) < FEWEST:
        which = "so far" if all(row.get("val_counts", True) for row in rows) else "before the adversarial term"
        found = f"{_count(len(values), 'validation')} {which}"
        return f"Too early to say: {found}, best {name} {best:.4g} at step {best_step}."
    swing = median(abs(b[1] - a[1]) for a, b in itertools.pairwise(values))
    quarter = last[0] - 0.25 * (last[0] - first[0])
    earlier = max(value for step, value in values if step <= quarter)
    gain, whole = best - earlier, best - min(value for _, value in values)
    after = [value for step, value in values if step > best_step]
    if len(after) >= 3 and fmean(after[-3:]) < best - 3.0 * swing:
        keeps_best = next((row["keeps_best"] for row in reversed(rows) if "keeps_best" in row), False)
        kept = "The weights of the best step are the ones kept." if keeps_best else "Fewer steps would have done."
        return (
            f"Yes, since step {best_step}: {name} was {best:.4g} there and fell to {fmean(after[-3:]):.4g} since. "
            f"{kept}"
        )
    if whole <= 0 or gain <= max(LITTLE * whole, 0.0):
        return (
            f"Yes: {name} has hardly risen in the last quarter of the steps (best {best:.4g} at step {best_step}); "
            "more steps would bring little."
        )
    return (
        f"No: {name} still rises, by {gain:.2g} in the last quarter of the steps to {best:.4g} at step {best_step}. "
        "Start it again in the same folder with more steps or minutes and it goes on."
    )


def score_name(rows: Rows) -> str:
    """What the score of a run's validations is called: the figure that it repeats."""
    for row in reversed(rows):
        if "val_score" in row:
            same = [n for n, v in row.items() if n.startswith("val_") and n != "val_score" and v == row["val_score"]]
            name = next(
                (n.removeprefix("val_") for n in same if n not in ("val_counts", "val_step")), "the validation score"
            )
            return name.upper() if name in INITIALS else name
    return "the validation score"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
