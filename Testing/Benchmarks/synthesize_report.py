"""Turns the rows of the synthesis benchmark into verdicts and Markdown tables; means over the contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from report import requirement, table

FIGURES = {
    "kid": ("KID", 3),
    "mmd": ("RBF-MMD", 3),
    "frechet": ("Fréchet distance", 1),
    "fine noise": ("spectrum of fine detail, dB", 2),
    "histogram": ("intensities of a label, % of the range", 2),
    "texture": ("patch MMD x 1000", 2),
    "noise": ("noise power spectrum, dB", 2),
    "alike": ("MS-SSIM of pairs", 3),
}
"""Title and digits; all but the last are better when lower."""

Rows = Sequence[Mapping[str, Any]]


def mean(rows: Rows, group: str, method: str, figure: str) -> float | None:
    """Over the contrasts; None where it was not measured."""
    found = [row[figure] for row in rows if (row["group"], row["method"]) == (group, method) and figure in row]
    return float(np.mean(found)) if found else None


def kinds(rows: Rows) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["group"], row["method"]) for row in rows))


def verdicts(held: Mapping[str, Any]) -> list[dict[str, str]]:
    """One entry a requirement."""
    found = []
    rows = held.get("figures", [])
    for group in dict.fromkeys(row["group"] for row in rows if row["group"] != "real"):
        numbers, won = [], []
        for figure, (title, digits) in FIGURES.items():
            ours, theirs = (mean(rows, group, method, figure) for method in ("model", "mixture"))
            if figure != "alike" and ours is not None and theirs is not None:
                won.append(ours < theirs)
                numbers.append(f"{title} {ours:.{digits}f} against {theirs:.{digits}f}{'' if won[-1] else ' (worse)'}")
        found.append(requirement(f"{group}: better than the mixture on every figure", all(won), "; ".join(numbers)))
        ours, theirs = (mean(rows, group, method, "kid") for method in ("model", "mixture"))
        if ours is not None and theirs is not None:
            asked = f"{group}: KID at most 0.3 of the mixture's"
            found.append(requirement(asked, ours <= 0.3 * theirs, f"{ours / theirs:.2f} of it"))
        ours, floor = mean(rows, group, "model", "mmd"), mean(rows, "real", "other patient", "mmd")
        if ours is not None and floor is not None:
            asked = f"{group}: RBF-MMD at most 1.5 times that of two real patients"
            found.append(requirement(asked, ours <= 1.5 * floor, f"{ours:.3f}, two real patients {floor:.3f}"))
        ours, real = mean(rows, group, "model", "alike"), mean(rows, "real", "other patient", "alike")
        if ours is not None and real is not None:
            asked = f"{group}: pairs as different as real ones (MS-SSIM within 0.03)"
            found.append(requirement(asked, abs(ours - real) <= 0.03, f"{ours:.3f}, real {real:.3f}"))
    return found + _memory_verdicts(held.get("memory", [])) + _use_verdicts(held.get("use", []))


def _memory_verdicts(rows: Rows) -> list[dict[str, str]]:
    found = []
    real = next((row for row in rows if row["group"] == "real" and row["method"] != "shape"), None)
    shape = next((row for row in rows if row["group"] == "real" and row["method"] == "shape"), None)
    for row in rows:
        if row["method"] == "model" and real is not None:
            asked = f"{row['group']}: no detail nearer to a training scan than that of a real patient"
            numbers = f"largest correlation {row['largest']:.2f}, real {real['largest']:.2f}"
            found.append(requirement(asked, row["largest"] <= real["largest"] + 0.05, numbers))
        if row["method"] == "shape" and row["group"] != "real" and shape is not None:
            asked = f"{row['group']}: no shape nearer to a training head than these are to each other"
            numbers = f"largest Dice {row['largest']:.3f}, real {shape['largest']:.3f}"
            found.append(requirement(asked, row["largest"] <= shape["largest"], numbers))
    return found


def _use_verdicts(rows: Rows) -> list[dict[str, str]]:
    found = []
    real = mean(rows, "real", "other patient", "mean")
    for group in dict.fromkeys(row["group"] for row in rows if row["group"] != "real"):
        ours, theirs = (mean(rows, group, method, "mean") for method in ("model", "mixture"))
        if ours is None or theirs is None or real is None:
            continue
        asked = f"{group}: a segmenter reaches 90 % of the Dice of one trained on real pairs"
        found.append(requirement(asked, ours >= 0.9 * real, f"{ours:.3f}; real pairs {real:.3f}, mixture {theirs:.3f}"))
        asked = f"{group}: a segmenter reaches 90 % of the Dice of one trained on the mixture"
        found.append(requirement(asked, ours >= 0.9 * theirs, f"{ours:.3f} against {theirs:.3f}"))
    return found


def markdown(held: Mapping[str, Any]) -> str:
    """The whole report."""
    models = ", ".join(f"`{name}`" for name in held["models"].values())
    how = "quick" if held["quick"] else "full"
    lines = ["# Synthesis benchmark", "", f"Models {models}, seed {held['seed']}, {how} run. Means over T1, T2, FLAIR."]
    lines += [
        "Seconds a volume on this machine, with whatever else it did: "
        + ", ".join(f"{group} {seconds:.0f}" for group, seconds in held["made"].items())
        + "."
    ]
    lines += [
        "",
        "## Verdicts",
        "",
        *table(["asked", "verdict", "numbers"], [list(e.values()) for e in verdicts(held)]),
    ]
    if rows := held.get("figures"):
        header = ["made from", "how", *(title for title, _ in FIGURES.values())]
        body = [[*kind, *(_cell(mean(rows, *kind, figure), digits) for figure, (_, digits) in FIGURES.items())]
                for kind in kinds(rows)]  # fmt: skip
        lines += ["", "## Against the held-out patient", "", *table(header, body)]
    if rows := held.get("memory"):
        header = ["made from", "how", "nearest training crop", "nearer than 95 % of real", "correlation", "largest"]
        body = [[row["group"], row["method"], *(_cell(row.get(name), 3) for name in
                 ("nearest", "nearer", "correlation", "largest"))] for row in rows]  # fmt: skip
        lines += ["", "## Learned by heart?", "", *table(header, body)]
    if rows := held.get("use"):
        header = ["trained on", "how", "fluid", "grey", "white", "mean Dice"]
        body = [[*kind, *(_cell(mean(rows, *kind, name), 3) for name in ("fluid", "grey", "white", "mean"))]
                for kind in kinds(rows)]  # fmt: skip
        lines += ["", "## A segmenter that has only seen such pairs", "", *table(header, body)]
    return "\n".join(lines) + "\n"


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
