"""The super-resolution benchmark: thick slices made from held-out volumes, and what brings the original back best.

    python Testing/Benchmarks/superres.py --data DIR --output results

``DIR`` holds the training data set with its folders ``mr``, ``ct`` and ``multi``. What is taken away from which
volumes stands in ``thick_slices.py``, the plain methods in ``upsampling.py``, PSNR, SSIM and the texture score in
``figures.py`` (range and foreground: ``cases.py``). *Consistency* is the PSNR, in the foreground of the input, of the
result made thick again against the input; the foreground of the input is where more than half of a slice's voxels are.
``--cache`` keeps the figures of the plain methods. Needs the ``test`` extra.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "MedGANSlicer")]

import restoration  # noqa: E402
import restoration_report  # noqa: E402
from methods import Row  # noqa: E402
from report import requirement  # noqa: E402
from thick_slices import SliceCase, slice_cases  # noqa: E402

import degrading  # noqa: E402
import upsampling  # noqa: E402

STRONGEST = "back_projected"
GOAL_DB = {"x2": 2.0, "x4": 1.5, "x6": 1.0}
GOAL_SSIM = {"x4": 0.03}
CONSISTENCY_DB = 50.0


def main(words: list[str] | None = None) -> int:
    options = _parse(words)
    try:
        chosen = slice_cases(options.data, options.group, options.volumes, options.ratios, options.crop, options.iso)
        rows: list[Row] = []
        pictures: list[dict[str, Any]] = []
        for case in chosen:
            print(f"{case.name}: {' x '.join(map(str, case.coarse.shape))} voxels in", file=sys.stderr)
            found, results = measure(case, options)
            rows += found
            if options.output and len(case.axes) == 1 and case.ratio == options.picture_ratio:
                pictures.append({"case": case, "results": results})
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    if not rows:
        print("No held-out MR or CT volume has one of these names.", file=sys.stderr)
        return 2
    about = restoration_report.about(options, rows)
    text = restoration_report.markdown("Super-resolution benchmark", __doc__, rows, about, verdicts(rows), STRONGEST)
    print(text)
    if options.output:
        restoration_report.write(options.output, "superres", text, rows, about, verdicts(rows))
        draw(pictures, options.output / "superres.png")
    return 0


def measure(case: SliceCase, options: argparse.Namespace) -> tuple[list[Row], dict[str, np.ndarray]]:
    """A row of every method on one case, and the results themselves by the method's key."""
    rows, results = [], {}
    for method, (title, function) in upsampling.METHODS.items():
        start = time.perf_counter()
        result = results[method] = function(case.coarse, case.axes, case.ratio)
        seconds = time.perf_counter() - start
        makers, data = [upsampling, degrading, restoration.measured], [case.clean, case.coarse]
        cache = options.cache / case.name if options.cache else None
        found = restoration.kept(cache, method, makers, data, lambda result=result: _figures(case, result))
        rows.append(restoration.row(case, method, title, "", found, seconds=seconds))
    for method, title, chosen in restoration.medgan_variants(options):
        result, report, seconds = run_medgan(case, options, chosen)
        results[method] = result
        told = {name: report[name] for name in ("model_version", "model_sha256", "device", "messages")}
        rows.append(restoration.row(case, method, title, "", _figures(case, result), seconds=seconds, parameters=told))
    return rows, results


def run_medgan(
    case: SliceCase, options: argparse.Namespace, chosen: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any], float]:
    """MedGAN's result on the original's grid, its report and its seconds."""
    from medgan.settings import Axis, Device, EnhanceSettings

    settings = EnhanceSettings(
        model=options.model, axis=Axis(case.axis_name), ratio=float(case.ratio), device=Device(options.device), **chosen
    )
    volume, report, seconds = restoration.run_medgan(case.coarse, case.coarse_ijk_to_ras, settings)
    return restoration.same_grid(volume, case.clean, case.clean_ijk_to_ras), report, seconds


def _figures(case: SliceCase, result: np.ndarray) -> dict[str, float]:
    found = restoration.measured(result, case.clean, case.foreground, case.data_range)
    inside = degrading.thicken(case.foreground.astype(np.float32), case.axes, case.ratio) > 0.5
    again = degrading.thicken(result, case.axes, case.ratio)
    found["consistency"] = restoration.consistency_db(again, case.coarse, inside, case.data_range)
    return found


def verdicts(rows: list[Row]) -> list[dict[str, str]]:
    """What issue and methods ask of character 0, and whether it is so."""
    found = []
    for figure, goals, unit in (("psnr", GOAL_DB, " dB"), ("ssim", GOAL_SSIM, "")):
        for ratio, goal in goals.items():
            asked = f"{ratio} along one axis: mean {figure.upper()} at character 0 {goal:+g}{unit} over the strongest"
            gains = restoration_report.gains(rows, "medgan_0", STRONGEST, figure, f" {ratio}")
            gains = {name: gain for name, gain in gains.items() if "iso" not in name}
            found.append(restoration_report.at_least(asked, gains, goal, figure))
    for figure in ("psnr", "ssim"):
        gains = restoration_report.gains(rows, "medgan_0", STRONGEST, figure)
        found.append(
            restoration_report.never_below(f"{figure.upper()} on no volume below the strongest", gains, figure)
        )
    values = {row.case: row.figures["consistency"] for row in rows if row.method.startswith("medgan")}
    asked = f"every result, made thick again, gives the input back at {CONSISTENCY_DB:g} dB or better"
    if not values:
        return [*found, requirement(asked, None, "MedGAN was not run")]
    worst = min(values, key=lambda name: values[name])
    return [*found, requirement(asked, values[worst] >= CONSISTENCY_DB, f"worst {values[worst]:.1f} dB ({worst})")]


def draw(pictures: list[dict[str, Any]], file: Path) -> None:
    """One line of slices a volume: original, input, strongest plain method, MedGAN, and what each gets wrong."""
    from pictures import Line, write

    lines = []
    for one in pictures:
        case, results = one["case"], one["results"]
        shown = {"original": case.clean, f"input, x{case.ratio}": results["nearest"]}
        named = {STRONGEST: "B-spline + BP", **{m: m.replace("medgan_", "MedGAN ") for m in results if "medgan" in m}}
        shown |= {title: results[method] for method, title in named.items()}
        wrong = {f"{title} - original": results[method] - case.clean for method, title in named.items()}
        across = next(axis for axis in (1, 2, 0) if axis != case.axes[0])
        lines.append(Line(case.volume, shown, wrong, across, case.data_range, case.modality))
    write(lines, file)


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure MedGAN's super-resolution against plain methods.")
    restoration_report.add_options(parser, "superres")
    parser.add_argument("--ratios", type=_integers, default=[2, 4, 6], help="whole ratios along one axis, with commas")
    parser.add_argument("--no-iso", dest="iso", action="store_false", help="leave out 2 x 2 x 2")
    parser.add_argument("--picture-ratio", type=int, default=4, help="ratio that the picture shows")
    return parser.parse_args(words)


def _integers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
