"""Train what tells the blur of a volume: ``python -m medgan.recipes.blur --data DIR --out MedGANSlicer/medgan``.

Crops of MR and CT volumes, and of images synthesised from label maps, are blurred by up to 2.2 voxels, most of them
alike along all axes, and get noise of 0.05 to 6 %. What :func:`medgan.blur.features` sees of them along each axis is to
become the logarithm of the width. Writes ``blur.npz``. Seeded; takes about ten minutes on a CPU.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from medgan.blur import FLOOR, WEIGHTS, features
from medgan.degradation import image_from_labels, pick, uniform
from medgan.recipes.data import data_folder, load_label_maps, load_sources, source_from_array
from medgan.recipes.training import left_out
from medgan.sharpness import NATIVE

BLURS, NOISES = (0.3, 2.2), (FLOOR, 0.06)
SHARP_SHARE = 0.15
"""Share of the crops that are not blurred."""

APART_SHARE = 0.3
"""Share of the crops that are blurred along some axes only."""

SYNTHETIC_SHARE = 0.2
SYNTHESISED = 16
SIDES = (24, 104)
"""Voxels of a crop along each axis."""

MARGIN = 8
"""Voxels around a crop that are blurred with it: the faces of a crop lead through blurred anatomy, which high
frequencies show along faces, too, so that hardly any blur seemed to be wider than 1.2 voxels without noise."""

LEAST_SPREAD = 0.05
"""Standard deviation of a crop below which it shows nothing but background."""

NETWORKS, HIDDEN, EPOCHS, SHAKEN = 3, 24, 80, 0.1


def samples(
    volumes: list[np.ndarray], synthetic: list[np.ndarray], count: int, generator: torch.Generator
) -> Iterator[tuple[np.ndarray, float]]:
    """What is seen along the axes of ``count`` crops, and the logarithm of the width there (see ``medgan.blur``)."""
    made = 0
    while made < count:
        pool = synthetic if synthetic and uniform(0, 1, generator) < SYNTHETIC_SHARE else volumes
        array = pool[pick(len(pool), generator)]
        sides = [min(SIDES[0] + pick(SIDES[1] - SIDES[0], generator), side) for side in array.shape]
        start = [pick(side - part + 1, generator) for side, part in zip(array.shape, sides, strict=True)]
        outer = [max(first - MARGIN, 0) for first in start]
        around = array[
            tuple(slice(low, first + part + MARGIN) for low, first, part in zip(outer, start, sides, strict=True))
        ]
        inner = tuple(
            slice(first - low, first - low + part) for low, first, part in zip(outer, start, sides, strict=True)
        )
        if around[inner].std() < LEAST_SPREAD:
            continue
        made += 1
        sharp = uniform(0, 1, generator) < SHARP_SHARE
        width = 0.0 if sharp else uniform(*BLURS, generator)
        apart = uniform(0, 1, generator) < APART_SHARE
        widths = [0.0 if apart and uniform(0, 1, generator) < 0.4 else width for _ in range(3)]
        noise = math.exp(uniform(math.log(NOISES[0]), math.log(NOISES[1]), generator))
        seen = ndimage.gaussian_filter(around, widths, mode="mirror")[inner]
        seen = seen + noise * torch.randn(seen.shape, generator=generator).numpy()
        for axis in range(3):
            found = features(seen, axis)
            if found is not None:
                yield found, math.log(math.hypot(widths[axis], NATIVE))


def fitted(inputs: np.ndarray, targets: np.ndarray, seed: int) -> nn.Sequential:
    """A network from normalised features (N, F) to targets (N,)."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(inputs.shape[1], HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)
    )
    seen, wanted = torch.from_numpy(inputs), torch.from_numpy(targets)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(seen)).split(256):
            shaken = seen[part] + SHAKEN * torch.randn(len(part), seen.shape[1])
            loss = F.smooth_l1_loss(network(shaken)[:, 0], wanted[part], beta=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return network


def synthesised(label_maps: list[np.ndarray], count: int, generator: torch.Generator) -> list[np.ndarray]:
    """Images from label maps, as sharp as a sharp scan and sharper: what is made by computers often is."""
    images = []
    for _ in range(count if label_maps else 0):
        labels = torch.from_numpy(label_maps[pick(len(label_maps), generator)].astype(np.int64))
        image = image_from_labels(labels, generator, (0.0, NATIVE)).numpy()
        images.append(source_from_array(image, "synthetic", "synthetic").array.numpy())
    return images


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for blur.npz")
    parser.add_argument("--leave-out", default="", help="JSON file or comma-separated stems never to train on")
    parser.add_argument("--crops", type=int, default=2800)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(words)
    generator = torch.Generator().manual_seed(options.seed)
    manifest = options.data / "manifest.csv"
    never = left_out(options.leave_out)
    sources = [each for each in load_sources(manifest, never) if each.kind != "PET"]
    if not sources:
        raise SystemExit(f"{manifest} names no MR or CT volume to learn from.")
    synthetic = synthesised(load_label_maps(manifest, never), SYNTHESISED, generator)
    rows = list(samples([each.array.numpy() for each in sources], synthetic, options.crops, generator))
    inputs, targets = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows], np.float32)
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0) + np.float32(1e-6)
    normal = np.clip((inputs - mean) / scale, -4.0, 4.0).astype(np.float32)
    networks = [fitted(normal, targets, options.seed + number) for number in range(NETWORKS)]
    with torch.no_grad():
        answers = torch.stack([network(torch.from_numpy(normal))[:, 0] for network in networks]).mean(dim=0).numpy()
    print(f"{len(rows)} axes of {options.crops} crops; mean error {np.abs(answers - targets).mean():.3f} (logarithm)")
    save(options.out, mean, scale, networks)


def save(folder: Path, mean: np.ndarray, scale: np.ndarray, networks: list[nn.Sequential]) -> None:
    """Write ``blur.npz`` as :mod:`medgan.blur` reads it, whole or not at all."""
    held: dict[str, Any] = {"mean": mean, "scale": scale}
    linear = [part for network in networks for part in network.children() if isinstance(part, nn.Linear)]
    layers: list[list[Tensor]] = [list(part.parameters()) for part in linear]
    count = len(layers) // len(networks)
    for number in range(count):
        for place, name in enumerate(("weight", "bias")):
            held[f"{name}{number}"] = np.stack([each[place].detach().numpy() for each in layers[number::count]])
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "blur.tmp.npz"
    np.savez(temporary, **held)
    os.replace(temporary, folder / WEIGHTS.name)


if __name__ == "__main__":
    main()
