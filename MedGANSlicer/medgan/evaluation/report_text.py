"""How numbers, names and p values are written in a report. Everything that goes into HTML is escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from typing import Any

from medgan.evaluation.table import FLOOR, Evaluation, MetricInfo

ALL = "all"
"""Stands for the label of a figure over all labels, where others are of one."""

NOTHING = "–"

NOT_MEASURED = "could not be measured"


def escaped(text: Any) -> str:
    """Text for HTML, also inside the quotes of an attribute."""
    return html.escape(str(text), quote=True)


def number(value: Any) -> float | None:
    """The value as a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


class Digits:
    """How the values of one metric are written: alike, with about four digits for the largest of them.

    Small ones among them have as many decimals as two digits of theirs need.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        largest = max((abs(found) for value in values if (found := number(value)) is not None), default=0.0)
        self.exponent = largest >= 1e7 or 0 < largest < 1e-3
        self.decimals = min(4, max(0, 3 - math.floor(math.log10(largest)))) if 1e-3 <= largest < 1e7 else 0

    def __call__(self, value: Any) -> str:
        found = number(value)
        if isinstance(value, float) and math.isinf(value):
            return "∞" if value > 0 else "\N{MINUS SIGN}∞"
        if found is None:
            return NOTHING
        if found == 0:
            return "0"
        decimals = max(self.decimals, 1 - math.floor(math.log10(abs(found))))
        text = f"{found:.2e}" if self.exponent or decimals > 5 else f"{found:.{decimals}f}"
        return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def p_value(value: Any) -> str:
    """A p value as readers expect it."""
    found = number(value)
    if found is None:
        return NOTHING
    return "< 0.001" if found < 0.001 else f"{found:.3f}"


def digits(evaluation: Evaluation) -> dict[str, Digits]:
    """How each metric of an evaluation is written."""
    held: dict[str, list[Any]] = {name: [] for name in evaluation.metrics}
    for name in held:
        held[name] += [row.get(name) for row in evaluation.rows]
        held[name] += [row.get("mean") for row in evaluation.summary if row["metric"] == name]
    return {name: Digits(values) for name, values in held.items()}


def extra_columns(evaluation: Evaluation) -> list[str]:
    """What rows say besides their case and their metrics, such as truth and prediction."""
    known = {"case", "method", "label", "error", *evaluation.metrics}
    return list(dict.fromkeys(name for row in evaluation.rows for name in row if name not in known))


def heading_text(info: MetricInfo) -> str:
    """Title with unit, not escaped."""
    return f"{info.title}, {info.unit}" if info.unit else info.title


def heading(info: MetricInfo) -> str:
    """Title with unit, escaped, and an arrow that says which way is better."""
    arrow = {
        "higher": ' <span class="arrow" title="higher is better">↑</span>',
        "lower": ' <span class="arrow" title="lower is better">↓</span>',
    }.get(info.better, "")
    unit = f' <span class="unit">{escaped(info.unit)}</span>' if info.unit else ""
    return escaped(info.title) + unit + arrow


def best_methods(evaluation: Evaluation, metric: str, label: str) -> set[str]:
    """The methods with the best mean, where there is a choice and one way is better."""
    better = evaluation.metrics[metric].better
    means = {
        row["method"]: mean
        for row in evaluation.summary
        if row["metric"] == metric and str(row.get("label", "")) == label and row["method"] != FLOOR
        if (mean := number(row.get("mean"))) is not None
    }
    if not better or len(means) < 2:
        return set()
    best = max(means.values()) if better == "higher" else min(means.values())
    found = {method for method, mean in means.items() if mean == best}
    return found if len(found) < len(means) else set()


def verdict(evaluation: Evaluation, comparison: dict[str, Any], level: float = 0.05) -> str:
    """What a comparison of two methods says, in words."""
    p, difference = number(comparison.get("p_corrected", comparison.get("p"))), number(comparison.get("difference"))
    least = number(comparison.get("p_least"))
    if p is None or difference is None or (least is not None and least >= level):
        return "too few cases to tell"
    if p >= level or difference == 0:
        return "no clear difference"
    info = evaluation.metrics.get(comparison["metric"], MetricInfo(""))
    if not info.better:
        return f"{comparison['a'] if difference > 0 else comparison['b']} is higher"
    a_wins = (difference > 0) == (info.better == "higher")
    return f"{comparison['a'] if a_wins else comparison['b']} is better"
