"""Options, tables and verdicts that the benchmarks of super-resolution and deblurring share."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
from methods import Row
from report import by_case, methods_of, number, requirement, settings_of, table

TITLES = {"psnr": "PSNR, dB", "ssim": "SSIM"}


def add_options(parser: argparse.ArgumentParser, model: str) -> None:
    """The options that both benchmarks have."""
    parser.add_argument("--data", type=Path, required=True, help="folder with mr, ct and multi")
    parser.add_argument("--output", type=Path, help="folder for the tables, the rows as JSON and the picture")
    parser.add_argument("--cache", type=Path, help="folder that keeps the figures of the plain methods between runs")
    parser.add_argument("--group", default="volumes", choices=["volumes", "validation"], help="list of held_out.json")
    parser.add_argument("--volumes", type=_words, default=[], help="names of volumes, with commas; all when empty")
    parser.add_argument("--crop", type=int, default=96, help="longest side of the central crop")
    parser.add_argument("--characters", type=_numbers, default=[0.0, 1.0], help="with commas")
    parser.add_argument("--fit-minutes", type=float, default=0.0, help="also fit to each volume for so long, twice")
    parser.add_argument("--only-anchors", action="store_true", help="leave MedGAN out")
    parser.add_argument("--model", default=model, help="name of a model or path of a bundle folder")
    parser.add_argument("--device", default="cpu", choices=["auto", "cpu", "cuda", "mps"])


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",") if word]


def about(options: argparse.Namespace, rows: list[Row]) -> dict[str, Any]:
    """What a reader of the tables has to know of the run."""
    return {
        "group": options.group,
        "crop": options.crop,
        "model": "" if options.only_anchors else options.model,
        "model_version": next((row.parameters["model_version"] for row in rows if row.method.startswith("medgan")), ""),
        "device": options.device,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "volumes": list(dict.fromkeys(row.volume for row in rows)),
    }


def gains(rows: list[Row], method: str, other: str, figure: str, ending: str = "") -> dict[str, float]:
    """By case, how much higher the figure of a method is; for settings that end so."""
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.setting.endswith(ending):
            values.setdefault(row.case, {})[row.method] = row.figures[figure]
    return {case: one[method] - one[other] for case, one in values.items() if method in one and other in one}


def at_least(asked: str, found: dict[str, float], goal: float, figure: str) -> dict[str, str]:
    """Whether the mean gain over the cases reaches a goal."""
    if not found:
        return requirement(asked, None, "not run")
    mean = float(np.mean(list(found.values())))
    return requirement(asked, mean >= goal, f"{_signed(mean, figure)} on {len(found)} cases")


def never_below(asked: str, found: dict[str, float], figure: str) -> dict[str, str]:
    """Whether no case is worse."""
    if not found:
        return requirement(asked, None, "not run")
    worst = min(found, key=lambda name: found[name])
    below = sum(gain < 0 for gain in found.values())
    return requirement(
        asked, below == 0, f"{below} of {len(found)} below; worst {_signed(found[worst], figure)} ({worst})"
    )


def markdown(
    title: str, says: str, rows: list[Row], known: dict[str, Any], found: list[dict[str, str]], strongest: str
) -> str:
    """The whole report. Differences are to the method ``strongest``."""
    model = f"Model `{known['model']}` {known['model_version']}, device `{known['device']}`, " if known["model"] else ""
    lines = [
        f"# {title}",
        "",
        f"{model}central crops of up to {known['crop']} voxels a side of {', '.join(known['volumes'])}",
    ]
    lines[-1] += f" ({known['group']}); {known['machine']}, Python {known['python']}."
    lines += ["", *says.strip().split("\n\n")[-1].splitlines(), "", "## Verdicts", ""]
    lines += table(["asked", "verdict", "numbers"], [list(one.values()) for one in found])
    for figure, name in TITLES.items():
        lines += ["", f"## {name}, mean over the volumes", "", *table(*_by_setting(rows, figure))]
    reference = next((name for method, name, _ in methods_of(rows) if method == strongest), strongest)
    for figure, name in TITLES.items():
        lines += ["", f"## {name}: gain over {reference}, mean / worst volume", ""]
        lines += table(*_gain_table(rows, strongest, figure))
    lines += ["", "## Consistency, texture and time", "", *table(*_cost(rows))]
    for figure, name in TITLES.items():
        lines += ["", f"## {name}, each case", "", *table(*by_case(rows, figure))]
    return "\n".join(lines) + "\n"


def _by_setting(rows: list[Row], figure: str) -> tuple[list[str], list[list[str]]]:
    settings = settings_of(rows)
    body = []
    for method, title, knows in methods_of(rows):
        groups = [[row for row in rows if (row.method, row.setting) == (method, setting)] for setting in settings]
        means = [
            number(float(np.mean([row.figures[figure] for row in group])), figure) if group else "" for group in groups
        ]
        body.append([title, knows, *means])
    return ["method", "knows", *settings], body


def _gain_table(rows: list[Row], strongest: str, figure: str) -> tuple[list[str], list[list[str]]]:
    settings = settings_of(rows)
    body = []
    for method, title, _ in methods_of(rows):
        if method == strongest:
            continue
        cells = []
        for setting in settings:
            found = gains([row for row in rows if row.setting == setting], method, strongest, figure)
            if not found:
                cells.append("")
                continue
            worst = min(found, key=lambda name: found[name])
            mean = float(np.mean(list(found.values())))
            cells.append(f"{_signed(mean, figure)} / {_signed(found[worst], figure)} ({worst.rsplit('_', 1)[0]})")
        body.append([title, *cells])
    return ["method", *settings], body


def _cost(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    body = []
    for method, title, _ in methods_of(rows):
        mine = [row for row in rows if row.method == method]
        consistency = [row.figures["consistency"] for row in mine]
        texture = float(np.mean([row.figures["patch_mmd"] for row in mine]))
        seconds = float(np.mean([row.seconds for row in mine]))
        body.append([title, f"{np.mean(consistency):.1f} / {min(consistency):.1f}", f"{texture:.2f}", f"{seconds:.2f}"])
    return ["method", "consistency, dB: mean / worst", "patch MMD (lower is better)", "seconds a crop"], body


def _signed(value: float, figure: str) -> str:
    return f"{'+' if value >= 0 else ''}{number(value, figure)}"


def write(
    folder: Path, name: str, text: str, rows: list[Row], known: dict[str, Any], found: list[dict[str, str]]
) -> None:
    """The report as Markdown and everything measured as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    plain = {"about": known, "verdicts": found, "rows": [row.to_dict() for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    print(f"Written: {folder / f'{name}.md'} and {folder / f'{name}.json'}")
