"""The hallucination gate: does an enhancement invent small structures, and does it keep the ones that are there?

    python Testing/Benchmarks/hallucination.py --data DIR --output results

A grid phantom and held-out scans (the isotropic ones) are degraded as each task expects it, once as they are and once
with small lesions put in at random places: smooth-edged spheres of 1.5 to 4 voxels radius and 4 to 10 times the noise.
Noise is 3 % of the range for denoising and 1 % for the other tasks (Rician in MR scans, else Gaussian), the same with
and without lesions. What counts as invented, visible and kept stands in ``lesion_checks.py``, what each task takes away
in ``lesion_tasks.py``, the phantom and the lesions in ``lesion_phantom.py``. The gate is asked at characters up to 0.3;
the *yardstick* is a plain sharpening or smoothing, for comparison. Contrasts and contrast-to-noise ratios are means
over the visible lesions; shifts are in voxels of the result. *Planted* says how sharp the check is: so many of the same
blobs, put into a method's result as if it had invented them, are found. *Better* counts what the plain method would
have invented, were the result taken for the plain method.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "MedGANSlicer")]

from cases import add_noise, central_box, entries, original  # noqa: E402
from report import requirement, table  # noqa: E402

from lesion_checks import Fate, Invention, Pair, excess, fates, inventions, planted_found, visibility  # noqa: E402
from lesion_phantom import RANGE, draw, grid_phantom, scattered_lesions  # noqa: E402
from lesion_tasks import LesionTask, lesion_tasks  # noqa: E402

PHANTOM = "grid phantom"
VOLUMES = ("stroke_T1", "stroke_FLAIR", "stroke_T2", "totalseg_example_ct")
HIGHEST_CHARACTER = 0.3
CONTRAST_SHARE = 0.95


@dataclass(frozen=True)
class Scene:
    """One clean volume to be degraded."""

    name: str
    noise: str
    data_range: float
    clean: np.ndarray
    ijk_to_ras: np.ndarray
    inside: np.ndarray


@dataclass
class Finding:
    """What one method did on one scene. ``character`` is None for the yardstick."""

    task: str
    scene: str
    title: str
    character: float | None
    shift_limit: float
    invented_without: list[Invention]
    invented_with: list[Invention]
    better_without: int
    worst_excess_sigmas: float
    planted: tuple[int, int]
    lesions: list[Fate] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def outside(self) -> tuple[int, int]:
        """Inventions outside the input's structures, without and with lesions."""
        return tuple(sum(one.outside for one in found) for found in (self.invented_without, self.invented_with))

    @property
    def visible(self) -> list[Fate]:
        return [one for one in self.lesions if one.visible]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "lesions": [one.to_dict() for one in self.lesions]}


def main(words: list[str] | None = None) -> int:
    options = _parse(words)
    tasks = [task for task in lesion_tasks() if options.task in task.name]
    characters = [] if options.only_anchors else options.characters
    missing = _missing(tasks) if characters else set()
    found: list[Finding] = []
    try:
        for scene in scenes(options.data, options.volumes, options.crop):
            for task in tasks:
                print(f"{task.name} on {scene.name}", file=sys.stderr)
                found += measure(scene, task, [] if task.model in missing else characters, options.seed)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    judged = verdicts(found, [task.name for task in tasks])
    text = markdown(found, judged, options)
    print(text)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "hallucination.md").write_text(text, encoding="utf-8")
        plain = {"verdicts": judged, "findings": [one.to_dict() for one in found]}
        (options.output / "hallucination.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
        print(f"Written: {options.output / 'hallucination.md'} and {options.output / 'hallucination.json'}")
    return 0


def _missing(tasks: list[LesionTask]) -> set[str]:
    from medgan.models import catalogue

    known = catalogue()
    return {task.model for task in tasks if task.model not in known}


def scenes(data: Path, names: list[str], crop: int) -> Iterator[Scene]:
    """The phantom, then the scans. The side along k is a multiple of 4."""
    crop -= crop % 4
    phantom = grid_phantom((crop, crop, crop))
    yield Scene(PHANTOM, "gaussian", RANGE, phantom, np.eye(4), np.ones(phantom.shape, bool))
    for entry in entries(data):
        if entry["name"] not in names:
            continue
        array, ijk_to_ras, data_range, foreground = original(data, entry)
        box = central_box(array.shape, (min(crop, array.shape[0] // 4 * 4), crop, crop))
        ijk_to_ras[:3, 3] += ijk_to_ras[:3, :3] @ [part.start for part in reversed(box)]
        noise = "rician" if entry["modality"] == "MR" else "gaussian"
        clean = np.ascontiguousarray(array[box])
        yield Scene(entry["name"], noise, data_range, clean, ijk_to_ras, np.ascontiguousarray(foreground[box]))


def measure(scene: Scene, task: LesionTask, characters: list[float], seed: int) -> list[Finding]:
    """The yardstick and MedGAN at each character, with and without lesions."""
    sigma = task.noise_percent / 100.0 * scene.data_range
    number = zlib.crc32(f"{scene.name} {task.name}".encode())
    lesions = scattered_lesions(scene.clean, scene.inside, sigma, seed + number % 1000)
    clean = (scene.clean, scene.clean + draw(lesions, scene.clean.shape))

    def noisy(volume: np.ndarray) -> np.ndarray:
        given = task.degrade(volume)
        return add_noise(given, scene.noise, sigma, np.ones(given.shape, bool), np.random.default_rng([seed, number]))

    given = [noisy(volume) for volume in clean]
    plain = Pair(*(task.plain(one) for one in given))
    degraded = [task.degrade(scene.clean + draw([one], scene.clean.shape)) for one in lesions]
    seen = [visibility(one - task.degrade(scene.clean), sigma) for one in degraded]
    found = []
    for character in (None, *characters):
        start = time.perf_counter()
        if character is None:
            result = Pair(*(task.yardstick(one) for one in given))
        else:
            result = Pair(*(task.enhance(one, character, scene.ijk_to_ras) for one in given))
        seconds = (time.perf_counter() - start) / 2
        both = ((result.without, plain.without, clean[0]), (result.with_lesions, plain.with_lesions, clean[1]))
        better = len(inventions(plain.without, result.without, clean[0], sigma, task.reach))
        invented = [inventions(*three, sigma, task.reach) for three in both]
        worst = max(float(excess(*three, sigma, task.reach).max()) for three in both)
        title = task.yardstick_title if character is None else f"MedGAN, character {character:g}"
        planted = planted_found(lesions, *both[0], sigma, task.reach)
        became = fates(lesions, scene.clean, result, plain, seen, task.reach)
        limit = max(1.0, task.ratio / 2)
        found.append(
            Finding(task.name, scene.name, title, character, limit, *invented, better, worst, planted, became, seconds)
        )
    return found


def verdicts(found: list[Finding], tasks: list[str]) -> list[dict[str, str]]:
    """The lines of the gate, one of each kind a task."""
    judged = []
    for task in tasks:
        gated = [
            one
            for one in found
            if one.task == task and one.character is not None and one.character <= HIGHEST_CHARACTER
        ]
        judged += [
            _outside(task, gated),
            _nowhere_worse(task, gated),
            _kept(task, gated),
            _placed(task, gated),
            _contrast(task, gated),
        ]
    return judged


def _outside(task: str, gated: list[Finding]) -> dict[str, str]:
    asked = f"{task}: nothing new outside the input's structures, up to character {HIGHEST_CHARACTER:g}"
    if not gated:
        return requirement(asked, None, "not run")
    found = {f"{one.scene}, {one.title}": sum(one.outside) for one in gated}
    worst = max(found, key=lambda name: found[name])
    said = f"{sum(found.values())} in {2 * len(gated)} results" + (f"; most in {worst}" if found[worst] else "")
    return requirement(asked, found[worst] == 0, said)


def _nowhere_worse(task: str, gated: list[Finding]) -> dict[str, str]:
    asked = f"{task}, stricter than the gate: no structure drawn worse than by the plain method"
    if not gated:
        return requirement(asked, None, "not run")
    count = sum(len(one.invented_without) + len(one.invented_with) for one in gated)
    worst = max(gated, key=lambda one: one.worst_excess_sigmas)
    said = f"{count} in {2 * len(gated)} results; largest excess {worst.worst_excess_sigmas:.1f} sigma"
    return requirement(asked, count == 0, said + f" ({worst.scene}, {worst.title})")


def _kept(task: str, gated: list[Finding]) -> dict[str, str]:
    asked = f"{task}: every lesion that the input shows is kept"
    if not gated:
        return requirement(asked, None, "not run")
    seen = [one for finding in gated for one in finding.visible]
    kept = sum(one.kept for one in seen)
    lowest = min(one.contrast / one.plain_contrast for one in seen)
    hidden = sum(len(finding.lesions) for finding in gated) - len(seen)
    said = f"{kept} of {len(seen)} ({hidden} more are below {5:g} sigma in the input); "
    return requirement(asked, kept == len(seen), said + f"the weakest has {lowest:.2f} of its contrast in the input")


def _placed(task: str, gated: list[Finding]) -> dict[str, str]:
    limit = gated[0].shift_limit if gated else 1.0
    asked = f"{task}: no kept lesion moves by more than {limit:g} voxel{'s' if limit > 1 else ''}"
    if not gated:
        return requirement(asked, None, "not run")
    shifts = [one.shift for finding in gated for one in finding.visible if one.kept]
    worst = max(shifts, key=lambda shift: math.inf if math.isnan(shift) else shift)
    return requirement(asked, worst <= limit, f"largest {worst:.2f}, mean {np.nanmean(shifts):.2f} voxels")


def _contrast(task: str, gated: list[Finding]) -> dict[str, str]:
    asked = f"{task}: contrast-to-noise at character {HIGHEST_CHARACTER:g} at least 95 % of that at 0, on every scene"
    pairs = {}
    for one in gated:
        pairs.setdefault(one.scene, {})[one.character] = np.array([fate.contrast_to_noise for fate in one.visible])
    pairs = {name: both for name, both in pairs.items() if 0.0 in both and HIGHEST_CHARACTER in both}
    if not pairs:
        return requirement(asked, None, "not run")
    shares = {name: float(both[HIGHEST_CHARACTER].mean() / both[0.0].mean()) for name, both in pairs.items()}
    worst = min(shares, key=lambda name: shares[name])
    lesion = min(float((both[HIGHEST_CHARACTER] / both[0.0]).min()) for both in pairs.values())
    said = f"lowest {100 * shares[worst]:.1f} % ({worst}), mean {100 * np.mean(list(shares.values())):.1f} %; "
    return requirement(asked, shares[worst] >= CONTRAST_SHARE, said + f"single lesion {100 * lesion:.1f} %")


def markdown(found: list[Finding], judged: list[dict[str, str]], options: argparse.Namespace) -> str:
    """The whole report."""
    says = (__doc__ or "").strip().split("\n\n")[-1].splitlines()
    lines = [
        "# Hallucination gate",
        "",
        *says,
        "",
        f"Crops of up to {options.crop} voxels a side, seed {options.seed}.",
    ]
    lines += ["", "## Verdicts", "", *table(["asked", "verdict", "numbers"], [list(one.values()) for one in judged])]
    header = ["task", "scene", "method", "new outside: without / with lesions", "worse / better than the plain method"]
    header += ["largest excess, sigma", "planted: found / found outside / all", "kept / visible / all"]
    header += ["contrast (in the plain)", "contrast-to-noise (in the plain)", "shift: mean / largest", "seconds"]
    return "\n".join([*lines, "", "## Each scene", "", *table(header, [_line(one) for one in found])]) + "\n"


def _line(one: Finding) -> list[str]:
    seen = one.visible
    mean = {
        name: float(np.mean([getattr(fate, name) for fate in seen])) if seen else math.nan
        for name in ("contrast", "plain_contrast", "contrast_to_noise", "plain_contrast_to_noise", "shift")
    }
    return [
        one.task,
        one.scene,
        one.title,
        f"{one.outside[0]} / {one.outside[1]}",
        f"{len(one.invented_without)} / {one.better_without}",
        f"{one.worst_excess_sigmas:.2f}",
        f"{one.planted[0]} / {one.planted[1]} / {len(one.lesions)}",
        f"{sum(fate.kept for fate in seen)} / {len(seen)} / {len(one.lesions)}",
        f"{mean['contrast']:.2f} ({mean['plain_contrast']:.2f})",
        f"{mean['contrast_to_noise']:.1f} ({mean['plain_contrast_to_noise']:.1f})",
        f"{mean['shift']:.2f} / {max((fate.shift for fate in seen), default=math.nan):.2f}",
        f"{one.seconds:.1f}",
    ]


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask MedGAN's enhancements whether they invent or lose small lesions.")
    parser.add_argument("--data", type=Path, required=True, help="folder with mr, ct and multi")
    parser.add_argument("--output", type=Path, help="folder for hallucination.md and hallucination.json")
    parser.add_argument("--volumes", type=_words, default=list(VOLUMES), help="scans, with commas; '' for none")
    parser.add_argument("--task", default="", help="part of a task's name: denoise, deblur or superres")
    parser.add_argument("--crop", type=int, default=80, help="longest side of the central crop")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise and of the lesions' places")
    parser.add_argument("--characters", type=_numbers, default=[0.0, 0.3, 1.0], help="with commas")
    parser.add_argument("--only-anchors", action="store_true", help="leave MedGAN out")
    return parser.parse_args(words)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",") if word]


if __name__ == "__main__":
    sys.exit(main())
