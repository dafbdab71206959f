"""Who finds lesions: ``python Testing/Benchmarks/anomaly.py --data DIR --output DIR [--cases drawn real lesions]``.

Lesions are put at random into healthy heads that the model has not seen (drawn from held-out label maps; a real T1
scan), and there is one real FLAIR scan with its drawn lesions. Measured for every method on the same voxels (those of
the brain, whose mask no method is asked for): average precision, and the share of lesions found at 1, 3 and 10 false
regions a volume. Methods: the shipped model; its parts (error of the restoration alone; judge with a blurred slice in
place of the restoration, which takes the generator out); z-score against the mirrored hemisphere, plain and with the
sign of the lesions known, each with the best of three smoothings.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomaly_lesions import with_lesions
from free_response import free_response, sensitivity_at
from scipy import ndimage

from medgan.anomaly_healthy import Head, both_ways, looked_at, smoothed, through
from medgan.evaluation.detection import average_precision
from medgan.generation import at_places, random_places, rendered
from medgan.inference import choose_device
from medgan.networks.healthy import CONTEXT, SPACING_MM, HealthyNet
from medgan.progress import silent
from medgan.recipes.anomaly import blurred
from medgan.recipes.anomaly_data import RANGES, VIEW, WATCHED, brain_of, load_scans
from medgan.recipes.parts import BRAIN, load_heads
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.settings import Device
from medgan.synthesis.scan import Run, opened
from medgan.volume import Volume, read_volume

FALSE_REGIONS = (1.0, 3.0, 10.0)
SMALLEST_ML = 0.05
SMOOTHINGS_MM = (0.0, 1.5, 3.0)
REPORTED, VALIDATION = ("synthseg_18", "synthseg_20"), ("synthseg_17", "synthseg_19")
LESIONS = 6


@dataclass
class Case:
    """A scan, the voxels that count (bool), and the lesions in it (0: none)."""

    name: str
    group: str
    kind: str
    volume: Volume
    brain: np.ndarray
    lesions: np.ndarray


def drawn_cases(data: Path, heads: tuple[str, ...], group: str) -> Iterator[Case]:
    """Held-out heads as T1, T2 and FLAIR scans of 1.5 mm, with and without skull, with lesions in them."""
    for number, head in enumerate(load_heads(data / "manifest.csv", wanted=set(heads))):
        for turn, kind in enumerate(("T1", "T2", "FLAIR")):
            generator = torch.Generator().manual_seed(500 + 10 * number + turn)
            ranges = replace(RANGES, presets=(kind,), preset_share=1.0)
            places, _ = random_places(VIEW, head.middle, SPACING_MM, generator, ranges)
            codes = at_places(head.codes, places).round().long()
            if (number + turn) % 2:
                codes = torch.where(codes >= 500, 0, codes)
            brain = torch.isin(codes, torch.tensor(BRAIN)).numpy()
            image = rendered(codes, SPACING_MM, generator, ranges).numpy()
            image, lesions = with_lesions(image, brain, SPACING_MM, kind, LESIONS, 900 + 10 * number + turn)
            matrix = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
            yield Case(f"{head.name} {kind}", group, kind, Volume(image, matrix), brain, lesions)


def real_cases(data: Path, draws: int) -> Iterator[Case]:
    """The T1 scan of a healthy person at 1.5 mm, with different lesions in it each time."""
    volume = read_volume(data / "mr/datalad_T1_0p67mm.nii.gz")
    source = Grid(volume.shape, volume.ijk_to_ras)
    grid = working_grid(source, (SPACING_MM,) * 3, "RAS")
    array = resampled(volume.array, source, grid)
    brain = brain_of(array)
    for draw in range(draws):
        image, lesions = with_lesions(array, brain, SPACING_MM, "T1", LESIONS, 950 + draw)
        yield Case(f"datalad T1, draw {draw + 1}", "real T1, lesions put in", "T1", Volume(image, grid.ijk_to_ras),
                   brain, lesions)  # fmt: skip


def watched_cases(data: Path) -> Iterator[Case]:
    """Real scans of the patient who is watched while the model learns, at 1.5 mm, with lesions in them; the patient's
    own bright spots do not count."""
    for number, scan in enumerate(load_scans(data / "manifest.csv", WATCHED)):
        brain = scan.brain.numpy()
        image, lesions = with_lesions(scan.image.numpy(), brain, SPACING_MM, scan.kind, LESIONS, 930 + number)
        counted = brain & (~scan.ignored.numpy() | (lesions > 0))
        yield Case(f"{WATCHED} {scan.kind}", "validation, real scans", scan.kind,
                   Volume(image, np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])), counted, lesions)  # fmt: skip


def lesion_case(data: Path) -> Case:
    """The FLAIR scan of a person with multiple sclerosis, 1 mm, and the lesions that experts drew."""
    volume = read_volume(data / "mr/oms_mni26_FLAIR.nii.gz")
    mask = read_volume(data / "mr/oms_mni26_LESION.nii.gz").array > 0
    brain = ndimage.binary_fill_holes(ndimage.binary_opening(volume.array > 0.05 * np.percentile(volume.array, 99)))
    lesions, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(lesions.ravel())
    lesions = np.where(sizes[lesions] >= 10, lesions, 0)  # ten voxels: smaller ones are left out of the count
    lesions[mask & (lesions == 0)] = 0
    return Case("oms_mni26 FLAIR", "real FLAIR, real lesions", "FLAIR", volume, np.asarray(brain), lesions)


def maps_of(case: Case, work: Run) -> dict[str, np.ndarray]:
    """The map of every method on the grid of the case, and how long the model and the mirror took."""
    begun = time.process_time()
    head = looked_at(case.volume, work, silent)
    answer = through(head.slices, head.other, work, silent, call=both_ways)
    where = ndimage.binary_dilation(head.inside, iterations=2) & (answer[2] > 0.5)
    found = {"model": smoothed(answer[0] * where)}
    print(f"  {time.process_time() - begun:.1f} s of CPU for the model, brain {head.inside.sum() * 0.003375:.0f} ml")
    error = np.abs(head.slices - answer[1]) * where
    found |= best_of(error, "error of the restoration alone")
    found["judge without the generator"] = smoothed(
        through(head.slices, head.other, work, silent, call=without_generator)[0] * where
    )
    found |= mirror_scores(head, case)
    return {name: head.back(values) for name, values in found.items()}


def without_generator(network: HealthyNet, seen: torch.Tensor) -> torch.Tensor:
    """The judge's answer to a slice and its blurred copy, as they are and mirrored like the model's."""
    middle = len(CONTEXT) // 2
    answers = [torch.sigmoid(network.judged(way, blurred(way[:, middle : middle + 1]))) for way in (seen, seen.flip(3))]
    return (0.5 * (answers[0] + answers[1].flip(3))).repeat(1, 3, 1, 1)


def mirror_scores(head: Head, case: Case) -> dict[str, np.ndarray]:
    """z-score of the difference to the mirrored hemisphere, over the voxels of the brain."""
    source, working = Grid(case.brain.shape, case.volume.ijk_to_ras), head.working
    brain = resampled(case.brain.astype(np.float32), source, working) > 0.5
    difference = head.slices - head.other
    inside = difference[brain]
    spread = 1.4826 * float(np.median(np.abs(inside - np.median(inside))))
    z = np.where(brain, (difference - float(np.median(inside))) / max(spread, 1e-6), 0.0)
    sign = -1.0 if case.kind == "T1" else 1.0
    return best_of(np.abs(z), "mirrored hemisphere") | best_of(sign * z, "mirrored hemisphere, sign known")


def best_of(values: np.ndarray, name: str) -> dict[str, np.ndarray]:
    return {
        f"{name} @{mm:g}": ndimage.gaussian_filter(values, mm / SPACING_MM) if mm else values for mm in SMOOTHINGS_MM
    }


def measured(maps: list[dict[str, np.ndarray]], cases: list[Case]) -> dict[str, dict[str, Any]]:
    """Figures of every method over the cases of a group; of several smoothings the one with the best precision."""
    found: dict[str, dict[str, Any]] = {}
    for full in maps[0]:
        name = full.split(" @")[0]
        precisions = [
            average_precision(values[full][case.brain], case.lesions[case.brain] > 0)
            for values, case in zip(maps, cases, strict=True)
        ]
        mean = float(np.mean(precisions))
        if name in found and found[name]["average_precision"] >= mean:
            continue
        scores = [np.where(case.brain, values[full], -1.0) for values, case in zip(maps, cases, strict=True)]
        inside = np.concatenate([score[case.brain] for score, case in zip(scores, cases, strict=True)])
        levels = np.unique(np.quantile(inside, 1.0 - np.geomspace(1e-4, 0.2, 24)))
        levels = levels[levels > 0]
        voxel_ml = abs(float(np.linalg.det(cases[0].volume.ijk_to_ras[:3, :3]))) / 1000.0
        curve = free_response(scores, [case.lesions for case in cases], levels, max(1, round(SMALLEST_ML / voxel_ml)))
        found[name] = {
            "average_precision": round(mean, 4),
            "of_each": {case.name: round(value, 4) for case, value in zip(cases, precisions, strict=True)},
            "smoothing": full.split(" @")[1] + " mm" if " @" in full else "own",
            **{f"sensitivity_at_{n:g}": round(sensitivity_at(curve, n), 3) for n in FALSE_REGIONS},
            "curve": [(round(p.threshold, 4), round(p.sensitivity, 3), p.false_regions) for p in curve],
        }
        if name == "model":
            found[name]["best_dice"] = best_dice(scores, cases)
    return found


def best_dice(scores: list[np.ndarray], cases: list[Case]) -> dict[str, float]:
    """The threshold with the largest Dice coefficient over all voxels of the cases."""
    levels = np.arange(0.05, 1.0, 0.05)
    truth = sum(int((case.lesions[case.brain] > 0).sum()) for case in cases)
    best = []
    for level in levels:
        hit = sum(int(((s >= level) & (c.lesions > 0)).sum()) for s, c in zip(scores, cases, strict=True))
        said = sum(int((s >= level).sum()) for s in scores)
        best.append(2.0 * hit / max(truth + said, 1))
    at = int(np.argmax(best))
    return {"threshold": round(float(levels[at]), 2), "dice": round(best[at], 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the training and held-out volumes")
    parser.add_argument("--output", type=Path, required=True, help="folder for figures.json")
    parser.add_argument("--model", default="anomaly")
    parser.add_argument("--cases", nargs="+", default=["lesions", "real", "drawn"],
                        choices=["lesions", "real", "drawn", "validation", "watched"])  # fmt: skip
    parser.add_argument("--draws", type=int, default=3, help="how often lesions are put into the real scan")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    made = {
        "drawn": lambda: drawn_cases(options.data, REPORTED, "drawn heads, lesions put in"),
        "validation": lambda: drawn_cases(options.data, VALIDATION, "validation"),
        "watched": lambda: watched_cases(options.data),
        "real": lambda: real_cases(options.data, options.draws),
        "lesions": lambda: iter([lesion_case(options.data)]),
    }
    figures: dict[str, Any] = {}
    for chosen in options.cases:
        cases, maps = [], []
        work = opened(options.model, ("anomaly",), "maps anomalies", choose_device(Device.CPU), 0.0)
        for case in made[chosen]():
            print(f"{case.name}: {len(np.unique(case.lesions)) - 1} lesions", flush=True)
            maps.append(maps_of(case, work))
            cases.append(case)
        group = cases[0].group
        figures[group] = measured(maps, cases)
        share = np.mean([(case.lesions[case.brain] > 0).mean() for case in cases])
        print(f"\n{group}: {len(cases)} volumes, {100 * share:.2f} % of the brain is lesion")
        print("| method | average precision | " + " | ".join(f"found at {n:g} false" for n in FALSE_REGIONS) + " |")
        print("|---|---|" + "---|" * len(FALSE_REGIONS))
        for name, row in figures[group].items():
            levels = " | ".join(f"{row[f'sensitivity_at_{n:g}']:.2f}" for n in FALSE_REGIONS)
            print(f"| {name} ({row['smoothing']}) | {row['average_precision']:.3f} | {levels} |")
        print(f"best Dice: {figures[group]['model']['best_dice']}\n", flush=True)
        (options.output / "figures.json").write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
