"""The deblurring benchmark: Gaussian blur and noise put on held-out volumes, and what brings the original back best.

    python Testing/Benchmarks/deblur.py --data DIR --output results

``DIR`` holds the training data set with its folders ``mr``, ``ct`` and ``multi``. What is done to which volumes stands
in ``blurring.py``, the plain methods and what they are told in ``deconvolution.py``, PSNR, SSIM and the texture score
in ``figures.py`` (range and foreground: ``cases.py``). *Consistency* is the PSNR of the result, blurred again, against
the input; the input's noise alone keeps it near 40 dB. MedGAN estimates the noise itself, and the blur where it says
so.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "MedGANSlicer")]

import deconvolution  # noqa: E402
import restoration  # noqa: E402
import restoration_report  # noqa: E402
from blurring import BlurCase, blur_cases  # noqa: E402
from methods import Row  # noqa: E402
from report import requirement, table  # noqa: E402

import degrading  # noqa: E402

STRONGEST = ("tikhonov", "richardson_lucy")
GOAL_SIGMA, GOAL_DB = 1.2, 2.0


def main(words: list[str] | None = None) -> int:
    options = _parse(words)
    rows: list[Row] = []
    pictures: list[tuple[BlurCase, dict[str, np.ndarray]]] = []
    own: dict[str, float] = {}
    try:
        for case in blur_cases(options.data, options.group, options.volumes, options.sigmas, options.crop):
            print(case.name, file=sys.stderr)
            if not options.only_anchors and case.volume not in own:
                own[case.volume] = _blur_found(run_medgan(case, case.clean, options, {"character": 0.0})[1])
            found, results = measure(case, options)
            rows += found
            if case.blur_sigma == options.picture_sigma:
                pictures.append((case, results))
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    if not rows:
        print("No held-out MR or CT volume has one of these names.", file=sys.stderr)
        return 2
    about = restoration_report.about(options, rows) | {"estimated_blur_of_the_originals": own}
    judged = verdicts(rows)
    text = restoration_report.markdown("Deblurring benchmark", __doc__, rows, about, judged, "tikhonov")
    if own:
        text += "\n".join(["", "## Estimated blur, voxels", "", *table(*_estimates(rows, own))]) + "\n"
    print(text)
    if options.output:
        restoration_report.write(options.output, "deblur", text, rows, about, judged)
        draw(pictures, options.output / "deblur.png")
    return 0


def measure(case: BlurCase, options: argparse.Namespace) -> tuple[list[Row], dict[str, np.ndarray]]:
    """A row of every method on one case, and the results by the method's key."""
    results = {"input": case.blurred}
    rows = [restoration.row(case, "input", "input", "", _figures(case, case.blurred))]
    for method, (title, knows, function) in deconvolution.METHODS.items():
        found = _kept_result(case, method, function, options)
        results[method] = found["result"]
        told = {"seconds": found["seconds"], "parameters": found["parameters"]}
        rows.append(restoration.row(case, method, title, knows, found["figures"], **told))
    for method, title, chosen in restoration.medgan_variants(options):
        for knows, blur in (("blur", case.blur_sigma), ("", 0.0)):
            if method.endswith(("fit", "scratch")) and not blur:
                continue
            key = method if blur else f"{method}_estimated"
            result, report, seconds = run_medgan(case, case.blurred, options, {**chosen, "blur_sigma": blur})
            results[key] = result
            told = {name: report[name] for name in ("model_version", "model_sha256", "device", "sigma_before")}
            told |= {"blur_sigma_used": _blur_found(report), "blur_sigma": case.blur_sigma}
            found, says = _figures(case, result), title if blur else f"{title}, blur estimated"
            rows.append(restoration.row(case, key, says, knows, found, seconds=seconds, parameters=told))
    return rows, results


def _kept_result(case: BlurCase, method: str, function: Any, options: argparse.Namespace) -> dict[str, Any]:
    """What a plain method gives. The array lies in the cache beside its figures."""
    cache = options.cache / f"blur_{case.name}" if options.cache else None
    made: list[np.ndarray] = []

    def make() -> dict[str, Any]:
        start = time.perf_counter()
        result, parameters = function(case)
        made.append(result)
        seconds = time.perf_counter() - start
        if cache:
            cache.mkdir(parents=True, exist_ok=True)
            np.save(cache / f"{method}.npy", result)
        return {"seconds": seconds, "parameters": parameters, "figures": _figures(case, result)}

    makers, data = [deconvolution, degrading, restoration.measured], [case.clean, case.blurred]
    found = restoration.kept(cache, method, makers, data, make)
    return {**found, "result": made[0] if made or cache is None else np.load(cache / f"{method}.npy")}


def run_medgan(
    case: BlurCase, array: np.ndarray, options: argparse.Namespace, chosen: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any], float]:
    """MedGAN's result, its report and its seconds."""
    from medgan.settings import Device, EnhanceSettings

    settings = EnhanceSettings(model=options.model, device=Device(options.device), **chosen)
    volume, report, seconds = restoration.run_medgan(array, case.ijk_to_ras, settings)
    return restoration.same_grid(volume, case.clean, case.ijk_to_ras), report, seconds


def _blur_found(report: dict[str, Any]) -> float:
    """The width in voxels that a run worked with; NaN when its model does not restore blur."""
    return next((float(step["blur_sigma"]) for step in report.get("steps", []) if "blur_sigma" in step), math.nan)


def _figures(case: BlurCase, result: np.ndarray) -> dict[str, float]:
    found = restoration.measured(result, case.clean, case.foreground, case.data_range)
    again = degrading.blurred_by(result, case.blur_sigma)
    found["consistency"] = restoration.consistency_db(again, case.blurred, case.foreground, case.data_range)
    return found


def verdicts(rows: list[Row]) -> list[dict[str, str]]:
    """What the issue asks at its one blur, with the blur given and estimated."""
    found = []
    better = _with_better(rows)
    for method, says in (("medgan_0", "blur given"), ("medgan_0_estimated", "blur estimated")):
        for figure in ("psnr", "ssim"):
            gains = restoration_report.gains(better, method, "better", figure, f"sigma {GOAL_SIGMA:g}")
            asked = f"sigma {GOAL_SIGMA:g}: mean {figure.upper()} at character 0, {says}, "
            asked += f"{GOAL_DB:+g} dB over" if figure == "psnr" else "above"
            asked += " the better of Tikhonov and Richardson-Lucy"
            found.append(restoration_report.at_least(asked, gains, GOAL_DB if figure == "psnr" else 0.0, figure))
        gains = restoration_report.gains(better, method, "better", "psnr")
        asked = f"PSNR on no case below the better of the two, {says}"
        found.append(restoration_report.never_below(asked, gains, "psnr"))
    errors = {
        row.case: row.parameters["blur_sigma_used"] / row.parameters["blur_sigma"] - 1.0
        for row in rows
        if row.method == "medgan_0_estimated"
    }
    asked = "estimated blur within 25 % of what was put on (originals have their own on top)"
    if not errors:
        return [*found, requirement(asked, None, "not run")]
    inside = sum(abs(error) <= 0.25 for error in errors.values())
    worst = max(errors, key=lambda name: abs(errors[name]))
    said = f"{inside} of {len(errors)} cases; worst {100 * errors[worst]:+.0f} % ({worst})"
    return [*found, requirement(asked, inside == len(errors), said)]


def _with_better(rows: list[Row]) -> list[Row]:
    """The rows, and for each case one of a method "better" with the higher figures of the two plain ones."""
    extra = []
    for case in dict.fromkeys(row.case for row in rows):
        two = [row for row in rows if row.case == case and row.method in STRONGEST]
        best = {name: max(row.figures[name] for row in two) for name in ("psnr", "ssim")}
        extra.append(restoration.row(_Named(two[0]), "better", "better of the two", "", best))
    return [*rows, *extra]


class _Named:
    """The naming part of a case, taken from one of its rows."""

    def __init__(self, row: Row) -> None:
        self.name, self.volume, self.modality, self.setting = row.case, row.volume, row.modality, row.setting


def _estimates(rows: list[Row], own: dict[str, float]) -> tuple[list[str], list[list[str]]]:
    header = ["case", "put on", "estimated", "error, %", "estimated of the original", "both, root of squares"]
    body = []
    for row in rows:
        if row.method == "medgan_0_estimated":
            true, used = row.parameters["blur_sigma"], row.parameters["blur_sigma_used"]
            both = math.hypot(true, own[row.volume])
            cells = [
                f"{true:g}",
                f"{used:.2f}",
                f"{100 * (used / true - 1):+.0f}",
                f"{own[row.volume]:.2f}",
                f"{both:.2f}",
            ]
            body.append([row.case, *cells])
    return header, body


def draw(pictures: list[tuple[BlurCase, dict[str, np.ndarray]]], file: Path) -> None:
    """One line of slices a volume: original, input, plain methods, MedGAN, and what each gets wrong."""
    from pictures import Line, write

    titles = {"input": "input", "tikhonov": "Tikhonov", "richardson_lucy": "Richardson-Lucy"}
    titles |= {"medgan_0": "MedGAN 0", "medgan_0_estimated": "MedGAN 0, estimated", "medgan_1": "MedGAN 1"}
    lines = []
    for case, results in pictures:
        shown = {title: results[method] for method, title in titles.items() if method in results}
        wrong = {f"{title} - original": result - case.clean for title, result in shown.items() if title != "input"}
        lines.append(Line(case.volume, {"original": case.clean, **shown}, wrong, 0, case.data_range, case.modality))
    write(lines, file)


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure MedGAN's deblurring against plain methods.")
    restoration_report.add_options(parser, "deblur")
    parser.add_argument("--sigmas", type=_numbers, default=[0.7, 1.2, 1.8], help="widths in voxels, with commas")
    parser.add_argument("--picture-sigma", type=float, default=1.2, help="width that the picture shows")
    return parser.parse_args(words)


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
