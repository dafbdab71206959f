"""What distances in the feature space mean: ``python Testing/Benchmarks/features.py --data DIR``.

On volumes that no training has seen: how far a volume moves when it gets noisier, blurrier or coarser, whether each
step of a degradation moves it further, and how far different contrasts and parts of the body lie apart.
Prints the tables of the model's card; ``--output FILE`` keeps the numbers as JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch

from medgan.degradation import gaussian_blur, rician_noise
from medgan.evaluation.features import crop_features, normalised
from medgan.recipes.data import read_manifest
from medgan.recipes.features import group_of, resliced
from medgan.volume import Volume, read_volume

NOISE = (0.005, 0.01, 0.03, 0.09)
BLUR = (0.5, 1.0, 1.5, 2.5)
SLICES = (1.5, 2.0, 4.0, 6.0)
SIDE = 64
"""Voxels of the middle of a volume that are looked at, along each axis."""


def held_out(data: Path) -> dict[str, tuple[str, Volume]]:
    """Contrast with part of the body, and volume, by name: the volumes for measuring and those kept for choosing."""
    said = {row["file"]: row["modality"] for row in read_manifest(data / "manifest.csv")}
    lists = json.loads((Path(__file__).parent / "held_out.json").read_text(encoding="utf-8"))
    found = {}
    for row in lists["volumes"] + lists["validation"]:
        volume = read_volume(data / row["file"])
        starts = [max(0, (side - SIDE) // 2) for side in volume.shape]
        middle = volume.array[tuple(slice(start, start + SIDE) for start in starts)]
        found[row["name"]] = (group_of(said[row["file"]]), Volume(middle, volume.ijk_to_ras))
    return found


def degraded(array: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """The array in 0..1 after each degradation, weakest first; slices along the longest axis."""
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    noisy = []
    for sigma in NOISE:
        generator.set_state(state)  # the same noise, stronger
        noisy.append(rician_noise(array, sigma, generator))
    axis = int(np.argmax(array.shape))
    return {
        "noise": noisy,
        "blur": [gaussian_blur(array, [sigma] * 3) for sigma in BLUR],
        "slices": [resliced(array, axis, ratio) for ratio in SLICES],
    }


def place(array: torch.Tensor | np.ndarray) -> np.ndarray:
    """The volume's point in the feature space."""
    return crop_features(Volume(np.asarray(array), np.eye(4))).mean(axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the volumes of held_out.json")
    parser.add_argument("--output", type=Path, help="file for the numbers, as JSON")
    options = parser.parse_args()
    volumes = held_out(options.data)
    origin: dict[str, np.ndarray] = {}
    moved: dict[str, dict[str, list[float]]] = {"noise": {}, "blur": {}, "slices": {}}
    for name, (_, volume) in volumes.items():
        array = torch.from_numpy(normalised(volume.array))
        origin[name] = place(array)
        for kind, steps in degraded(array).items():
            moved[kind][name] = [float(np.linalg.norm(place(step) - origin[name])) for step in steps]
        print(f"measured {name}", flush=True)
    for kind, levels, unit in (
        ("noise", [100 * level for level in NOISE], "% of the range"),
        ("blur", BLUR, "voxels"),
        ("slices", SLICES, "times thicker"),
    ):
        print(f"\n| {kind}, {unit} | " + " | ".join(f"{level:g}" for level in levels) + " | always further |")
        print("|---" * (len(levels) + 2) + "|")
        for name, distances in moved[kind].items():
            rising = bool(np.all(np.diff([0.0, *distances]) > 0))
            print(f"| {name} | " + " | ".join(f"{distance:.2f}" for distance in distances) + f" | {_yes(rising)} |")
        mean = np.mean(list(moved[kind].values()), axis=0)
        count = sum(bool(np.all(np.diff([0.0, *found]) > 0)) for found in moved[kind].values())
        print("| mean | " + " | ".join(f"{distance:.2f}" for distance in mean) + f" | {count} of {len(moved[kind])} |")
    apart = groups_apart(volumes, origin)
    print("\n| two undegraded volumes | pairs | median distance | smallest | largest |\n|---|---|---|---|---|")
    for kind, found in apart.items():
        print(f"| {kind} | {len(found)} | {np.median(found):.2f} | {min(found):.2f} | {max(found):.2f} |")
    right, asked = nearest_of_group(volumes, origin)
    print(f"\nThe nearest other volume is of the same contrast and part of the body: {right} of {asked}.")
    if options.output is not None:
        numbers = {"moved": moved, "apart": apart, "levels": {"noise": NOISE, "blur": BLUR, "slices": SLICES}}
        options.output.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


def groups_apart(volumes: dict[str, tuple[str, Volume]], origin: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Distances of volumes of one contrast and part of the body, and of different ones."""
    found: dict[str, list[float]] = {"of one contrast and part of the body": [], "of different ones": []}
    for one, other in itertools.combinations(volumes, 2):
        kind = "of one contrast and part of the body" if volumes[one][0] == volumes[other][0] else "of different ones"
        found[kind].append(float(np.linalg.norm(origin[one] - origin[other])))
    return found


def nearest_of_group(volumes: dict[str, tuple[str, Volume]], origin: dict[str, np.ndarray]) -> tuple[int, int]:
    """How many volumes have one of their own group as the nearest, of those whose group has another."""
    right = asked = 0
    for one, (group, _) in volumes.items():
        others = [other for other in volumes if other != one]
        if group in {volumes[other][0] for other in others}:
            nearest = min(others, key=lambda other: float(np.linalg.norm(origin[one] - origin[other])))
            asked, right = asked + 1, right + (volumes[nearest][0] == group)
    return right, asked


def _yes(right: bool) -> str:
    return "yes" if right else "no"


if __name__ == "__main__":
    main()
