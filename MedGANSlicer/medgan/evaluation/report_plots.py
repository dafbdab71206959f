"""Box and strip plots as inline SVG: a line for each method and label, values as dots, the mean with its interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medgan.evaluation.report_text import ALL, Digits, escaped, number
from medgan.evaluation.table import Evaluation

WIDTH, LINE, TOP, BOTTOM, LEFT, RIGHT = 540, 30, 8, 26, 170, 26
NAME_LENGTH = 22
BOX_FROM = 5
"""Fewest values of which a box is drawn; below it the dots say all."""


def plot(evaluation: Evaluation, metric: str, write: Digits) -> str:
    """The SVG of one metric, or '' when it has no values."""
    lines = _lines(evaluation, metric)
    shown = [value for line in lines for value in [*line["values"], line["low"], line["high"], line["mean"]]]
    values = [value for value in shown if value is not None]
    if not values:
        return ""
    ticks = axis_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    height = TOP + LINE * len(lines) + BOTTOM

    def x(value: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low):.1f}"

    info = evaluation.metrics[metric]
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escaped(info.title)} by method">']
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text class="tick" x="{x(tick)}" y="{height - 8}">{_tick(tick, ticks)}</text>')
    for place, line in enumerate(lines):
        middle = TOP + LINE * (place + 0.5)
        if line["first"] and place:
            parts.append(
                f'<line class="grid" x1="0" x2="{WIDTH}" y1="{TOP + LINE * place}" y2="{TOP + LINE * place}"/>'
            )
        parts += _line(line, middle, x, write)
    return "".join(parts) + "</svg>"


def axis_ticks(low: float, high: float) -> list[float]:
    """4 to 8 round numbers that reach over the values."""
    if not high - low > 1e-9 * max(abs(low), abs(high), 1e-30):
        margin = 0.05 * abs(high) or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * count for count in range(first, last + 1)]


def _lines(evaluation: Evaluation, metric: str) -> list[dict[str, Any]]:
    """Method, label, values and mean with interval of each line, labels together."""
    held: dict[tuple[str, str], dict[str, Any]] = {}
    for row in [*evaluation.rows, *(each for each in evaluation.summary if each["metric"] == metric)]:
        key = (str(row.get("label", "")), str(row["method"]))
        empty: dict[str, Any] = {"values": [], "cases": [], "mean": None, "low": None, "high": None, "n": 0}
        line = held.setdefault(key, {"label": key[0], "method": key[1], **empty})
        if "metric" in row:
            line.update({name: number(row.get(name)) for name in ("mean", "low", "high")})
        elif (value := number(row.get(metric))) is not None:
            line["values"].append(value)
            line["cases"].append(row["case"])
    labels = sorted(dict.fromkeys(label for label, _ in held), key=bool)  # that of all labels first
    found = []
    for label in labels:
        lines = [line for (named, _), line in held.items() if named == label]
        lines = [line for line in lines if line["values"] or line["mean"] is not None]
        found += [{**line, "first": number == 0} for number, line in enumerate(lines)]
    if len(labels) > 1:
        found = [{**line, "label": line["label"] or ALL} for line in found]
    return found


def _line(line: dict[str, Any], middle: float, x: Any, write: Digits) -> list[str]:
    named = f"{line['label']} · {line['method']}" if line["label"] else line["method"]
    cut = named if len(named) <= NAME_LENGTH else named[: NAME_LENGTH - 1] + "…"
    parts = [
        f'<g><text class="name" x="{LEFT - 10}" y="{middle + 4:.1f}">{escaped(cut)}'
        f"<title>{escaped(named)}</title></text>"
    ]
    values = np.array(line["values"])
    if len(values) >= BOX_FROM:
        q1, median, q3 = np.percentile(values, [25, 50, 75])
        reach = 1.5 * (q3 - q1)
        inside = values[(values >= q1 - reach) & (values <= q3 + reach)]
        parts.append(
            f'<line class="whisker" x1="{x(inside.min())}" x2="{x(inside.max())}" y1="{middle}" y2="{middle}"/>'
        )
        wide = max(0.5, float(x(q3)) - float(x(q1)))
        parts.append(f'<rect class="box" x="{x(q1)}" y="{middle - 9}" width="{wide:.1f}" height="18"/>')
        parts.append(f'<line class="median" x1="{x(median)}" x2="{x(median)}" y1="{middle - 9}" y2="{middle + 9}"/>')
    for place, (value, case) in enumerate(zip(line["values"], line["cases"], strict=True)):
        off = ((place * 7) % 5 - 2) * 2.6 if len(values) > 1 else 0.0  # spread, the same at each drawing
        said = escaped(f"{case}: {write(value)}")
        parts.append(
            f'<circle class="dot" cx="{x(value)}" cy="{middle + off:.1f}" r="2.6"><title>{said}</title></circle>'
        )
    if line["low"] is not None and line["high"] is not None:
        parts.append(
            f'<line class="interval" x1="{x(line["low"])}" x2="{x(line["high"])}" y1="{middle}" y2="{middle}"/>'
        )
    if line["mean"] is not None:
        at, said = float(x(line["mean"])), escaped(f"mean {write(line['mean'])}")
        points = f"{at - 6:.1f},{middle} {at:.1f},{middle - 6} {at + 6:.1f},{middle} {at:.1f},{middle + 6}"
        parts.append(f'<polygon class="mean" points="{points}"><title>{said}</title></polygon>')
    return [*parts, "</g>"]


def _tick(value: float, ticks: list[float]) -> str:
    step = ticks[1] - ticks[0]
    largest = max(abs(tick) for tick in ticks)
    if largest >= 1e6 or largest < 1e-3:
        return f"{value:.1e}" if value else "0"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    decimals += round(step * 10**decimals, 6) % 1 > 0
    return f"{value + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}") if abs(value) > 1e-9 * largest else "0"
