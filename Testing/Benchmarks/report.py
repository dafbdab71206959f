"""Turns the rows of the denoising benchmark into verdicts and Markdown tables.

Means are over *cases* (volumes times levels). The mean that the requirements speak of is over all MR and CT cases; PET
stands beside it. Comparisons of two methods are over the cases that both have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from methods import Row

FAITHFUL, NATURAL = "medgan_0", "medgan_1"
SIMPLE_PEERS = ("nlm", "tv", "dipy_nlm", "curvature_flow")
REQUIRED = ("MR", "CT")


def verdicts(rows: list[Row]) -> list[dict[str, str]]:
    """One entry a requirement: what is asked, PASS, FALLS SHORT or NOT MEASURED, and the numbers."""
    required = [row for row in rows if row.modality in REQUIRED]
    found = [_above_at_every_level(required, figure) for figure in ("psnr", "ssim")]
    found += [_not_below_bm4d(required, "psnr", 0.0, "dB"), _not_below_bm4d(required, "ssim", 0.0, "")]
    found += [_not_below_bm4d(required, "psnr", 1.0, "dB")]
    found += [_sigma_verdict(required, "the true one", _sigma_error)]
    found += [_sigma_verdict(required, "what was added and what the original brings, together", _sigma_error_of_all)]
    return [*found, *_character_verdicts(required)]


def requirement(asked: str, passed: bool | None, numbers: str) -> dict[str, str]:
    """One line of the verdicts; ``passed`` is None for what was not measured."""
    verdict = "NOT MEASURED" if passed is None else "PASS" if passed else "FALLS SHORT"
    return {"asked": asked, "verdict": verdict, "numbers": numbers}


def _above_at_every_level(rows: list[Row], figure: str) -> dict[str, str]:
    asked = f"{figure.upper()} at character 0 above scikit-image NLM and TV, dipy NLM and curvature flow at every level"
    margins = {}
    for setting in settings_of(rows):
        for peer in SIMPLE_PEERS:
            pairs = paired([row for row in rows if row.setting == setting], FAITHFUL, peer, figure)
            if pairs.size:
                margins[f"{peer} at {setting}"] = float((pairs[:, 0] - pairs[:, 1]).mean())
    missing = sorted(set(SIMPLE_PEERS) - {name.split(" at ")[0] for name in margins})
    if not margins:
        return requirement(asked, None, "a peer or character 0 was not run")
    below = {name: margin for name, margin in margins.items() if margin <= 0}
    closest = min(margins, key=lambda name: margins[name])
    numbers = f"smallest margin {margins[closest]:+.3f} ({closest}), {len(margins)} comparisons"
    if below:
        numbers += "; below: " + ", ".join(f"{name} {margin:+.3f}" for name, margin in below.items())
    if missing:
        numbers += "; not run: " + ", ".join(missing)
    return requirement(asked, False if below else None if missing else True, numbers)


def _not_below_bm4d(rows: list[Row], figure: str, goal: float, unit: str) -> dict[str, str]:
    asked = f"mean {figure.upper()} at character 0 " + (
        f"{goal:+.1f} {unit} over BM4D (goal)" if goal else "not below BM4D's, which is given the true sigma"
    )
    parts = []
    for peer in ("bm4d", "bm4d_corrected"):
        pairs = paired(rows, FAITHFUL, peer, figure)
        if not pairs.size:
            return requirement(asked, None, "BM4D or character 0 was not run")
        parts.append((pairs.mean(axis=0), len(pairs)))
    (ours, theirs), count = parts[0]
    (_, corrected), _ = parts[1]
    numbers = f"{ours:.3f} against {theirs:.3f}: {ours - theirs:+.3f} {unit}".rstrip() + f" on {count} cases"
    numbers += f" ({ours - corrected:+.3f} to BM4D with its bias corrected"
    same = paired(rows, FAITHFUL, "bm4d_estimated", figure)
    if same.size:
        mine, other = same.mean(axis=0)
        numbers += f", {mine - other:+.3f} to BM4D told the sigma that MedGAN estimates"
    numbers += ")"
    return requirement(asked, bool(ours - theirs >= goal), numbers)


def _sigma_verdict(rows: list[Row], truth: str, error_of: Callable[[Row], float]) -> dict[str, str]:
    asked = f"estimated sigma within 15 % of {truth}"
    errors = {row.case: error_of(row) for row in rows if row.method == FAITHFUL}
    if not errors:
        return requirement(asked, None, "character 0 was not run")
    worst = max(errors, key=lambda name: abs(errors[name]))
    inside = sum(abs(error) <= 0.15 for error in errors.values())
    return requirement(
        asked, inside == len(errors), f"{inside} of {len(errors)} cases; worst {100 * errors[worst]:+.1f} % ({worst})"
    )


def _character_verdicts(rows: list[Row]) -> list[dict[str, str]]:
    texture = "character 1 has a better perceptual score (patch MMD) than character 0"
    loss = "character 1 loses at most 2 dB to character 0"
    scores, errors = (paired(rows, NATURAL, FAITHFUL, figure) for figure in ("patch_mmd", "psnr"))
    if not scores.size:
        return [requirement(asked, None, "character 0 or 1 was not run") for asked in (texture, loss)]
    one, zero = scores.mean(axis=0)
    better = int((scores[:, 0] < scores[:, 1]).sum())
    losses = errors[:, 1] - errors[:, 0]
    return [
        requirement(
            texture, bool(one < zero), f"{one:.2f} against {zero:.2f}, better in {better} of {len(scores)} cases"
        ),
        requirement(loss, bool(losses.mean() <= 2.0), f"mean {losses.mean():.2f} dB, largest {losses.max():.2f} dB"),
    ]


def paired(rows: Iterable[Row], first: str, second: str, figure: str) -> np.ndarray:
    """(n, 2) values of two methods on the cases that both have; (0,) when there is none."""
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        values.setdefault(row.case, {})[row.method] = row.figures[figure]
    return np.array([[case[first], case[second]] for case in values.values() if first in case and second in case])


def _sigma_error(row: Row) -> float:
    return (row.sigma_estimated or 0.0) / row.sigma - 1.0


def _sigma_error_of_all(row: Row) -> float:
    """As if the estimate should find the noise of the original as well; that is itself estimated, without the other."""
    return (row.sigma_estimated or 0.0) / math.hypot(row.sigma, row.sigma_original or 0.0) - 1.0


def markdown(rows: list[Row], about: dict[str, Any]) -> str:
    """The whole report."""
    lines = ["# Denoising benchmark", "", _about(about), "", "## Verdicts", ""]
    lines += table(["asked", "verdict", "numbers"], [list(entry.values()) for entry in verdicts(rows)])
    for figure, title in (("psnr", "PSNR, dB"), ("ssim", "SSIM")):
        lines += ["", f"## {title}, mean over the volumes", "", *table(*_by_setting(rows, figure))]
    lines += ["", "## Texture and cost", "", *_texture_note(), "", *table(*_texture(rows))]
    lines += ["", "## Estimated noise", "", *table(*_noise(rows))]
    for figure, title in (("psnr", "PSNR, dB"), ("ssim", "SSIM"), ("patch_mmd", "patch MMD")):
        lines += ["", f"## {title}, each case", "", *table(*by_case(rows, figure))]
    return "\n".join(lines) + "\n"


def _about(about: dict[str, Any]) -> str:
    crop = f"central crops of up to {about['crop']} voxels a side" if about["crop"] else "whole volumes"
    peers = "" if about["peers"] else " The reference methods were left out: no environment was given for them."
    return (
        f"Model `{about['model']}`, device `{about['device']}`, {crop}, noise seed {about['seed']}, "
        f"{about['machine']}, Python {about['python']}. Held-out volumes: {', '.join(about['volumes'])}. "
        "How noise, range and foreground are defined stands in `cases.py`, the figures in `figures.py`, what each "
        "reference method is told in `peers.py`."
        f"{peers}"
    )


def _texture_note() -> list[str]:
    return [
        "Means over the MR and CT cases. The perceptual score is the patch MMD (x 1000); it, GMSD and the spectrum's "
        "distance are better when lower. Seconds and peak memory of the reference methods are those of one process, "
        "one thread and the chosen setting alone; they depend on what else the machine did. `speed.py` measures time."
    ]


def _by_setting(rows: list[Row], figure: str) -> tuple[list[str], list[list[str]]]:
    settings = settings_of(rows)
    header = ["method", "knows", *settings, "mean MR and CT", "mean PET"]
    body = []
    for method, title, knows in methods_of(rows):
        mine = [row for row in rows if row.method == method]
        groups = [[row for row in mine if row.setting == setting] for setting in settings]
        groups.append([row for row in mine if row.modality in REQUIRED])
        groups.append([row for row in mine if row.modality == "PET"])
        body.append([title, knows, *(_mean(group, figure, rows) for group in groups)])
    return header, body


def _mean(group: list[Row], figure: str, rows: list[Row]) -> str:
    """The mean; with the number of cases when the method lacks some that others have."""
    if not group:
        return ""
    settings = {row.setting for row in group}
    expected = len({row.case for row in rows if row.setting in settings})
    text = number(float(np.mean([row.figures[figure] for row in group])), figure)
    return text if len(group) == expected else f"{text} (n={len(group)})"


def _texture(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["method", "patch MMD", "GMSD", "spectrum, dB", "seconds a crop", "peak memory, MB"]
    body = []
    for method, title, _ in methods_of(rows):
        mine = [row for row in rows if row.method == method and row.modality in REQUIRED]
        if not mine:
            continue
        figures = [_mean(mine, figure, rows) for figure in ("patch_mmd", "gmsd", "spectrum")]
        memory = [row.peak_memory_mb for row in mine if row.peak_memory_mb is not None]
        seconds = np.mean([row.seconds for row in mine])
        body.append([title, *figures, f"{seconds:.1f}", f"{max(memory):.0f}" if memory else ""])
    return header, body


def _noise(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["case", "true sigma", "estimated", "error, %", "estimated in the original", "error to both together, %"]
    mine = [row for row in rows if row.sigma_estimated is not None]
    first = [row for row in mine if row.method == mine[0].method] if mine else []
    body = []
    for row in first:
        added = [f"{row.sigma:.4g}", f"{row.sigma_estimated:.4g}", f"{100 * _sigma_error(row):+.1f}"]
        body.append([row.case, *added, f"{row.sigma_original:.4g}", f"{100 * _sigma_error_of_all(row):+.1f}"])
    return header, body


def by_case(rows: list[Row], figure: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a table with one line a case and one column a method."""
    methods = methods_of(rows)
    values = {(row.case, row.method): row.figures[figure] for row in rows}
    body = []
    for case in dict.fromkeys(row.case for row in rows):
        cells = [values.get((case, method)) for method, _, _ in methods]
        body.append([case, *("" if cell is None else number(cell, figure) for cell in cells)])
    return ["case", *(title for _, title, _ in methods)], body


def settings_of(rows: list[Row]) -> list[str]:
    """The settings of the rows, each once, in their order."""
    return list(dict.fromkeys(row.setting for row in rows))


def methods_of(rows: list[Row]) -> list[tuple[str, str, str]]:
    """Key, title and knowledge of each method, in the order of the rows."""
    return list(dict.fromkeys((row.method, row.title, row.knows) for row in rows))


def number(value: float, figure: str) -> str:
    """A figure with the digits it deserves."""
    digits = {"psnr": 2, "ssim": 4, "patch_mmd": 2, "gmsd": 4, "spectrum": 2, "consistency": 1}
    return f"{value:.{digits[figure]}f}"


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns also line up in a terminal."""
    widths = [max(len(str(line[column])) for line in [header, *body]) for column in range(len(header))]
    lines = [
        " | ".join(str(cell).ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [header, *body]
    ]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return [f"| {line} |" for line in lines]
