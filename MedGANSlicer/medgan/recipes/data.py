"""Training patches: clean ones cut from real and synthesised volumes, and what they look like to a scanner."""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.degradation import (
    NoiseKind,
    choose,
    correlated_noise,
    gaussian_noise,
    image_from_labels,
    kernel_spread,
    kind_of,
    pick,
    poisson_noise,
    random_noise_kernel,
    rician_noise,
    thick_slices,
    uniform,
)
from medgan.noise import intensity_range, noise_profile
from medgan.volume import read_volume

SHARES = {"MR": 0.42, "CT": 0.34, "PET": 0.06, "synthetic": 0.18}
"""How often a training patch comes from each kind of volume."""

SYNTHETIC_SIDE = 112
"""Side in voxels of a synthesised volume."""

REGION = 80
"""Longest side in voxels of the region in which noise is measured, and from which a patch is cut."""

CONTRAST = 0.35
"""Largest logarithm of the exponent that changes the contrast of MR and PET."""

AIR = 0.45
"""How far below water, as a share of the range of a CT, air lies: there the darkest voxel is not the zero."""

_NOISE = {
    "MR": ((NoiseKind.RICIAN, 0.9), (NoiseKind.GAUSSIAN, 0.1)),
    "CT": ((NoiseKind.GAUSSIAN, 0.6), (NoiseKind.CORRELATED, 0.25), (NoiseKind.POISSON, 0.15)),
    "PET": ((NoiseKind.POISSON, 0.6), (NoiseKind.GAUSSIAN, 0.4)),
    "synthetic": ((NoiseKind.RICIAN, 0.6), (NoiseKind.GAUSSIAN, 0.25), (NoiseKind.CORRELATED, 0.15)),
}
_LEVELS = {"MR": (0.007, 0.12), "CT": (0.006, 0.06), "PET": (0.01, 0.12), "synthetic": (0.007, 0.12)}


@dataclass
class Source:
    """One clean volume: (D, H, W) in 0..1, the noise it brings along, its kind and its name."""

    array: Tensor
    sigma: float
    kind: str
    name: str
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Along the array axes k, j, i."""


@dataclass
class NoisyBatch:
    """clean and noisy (B, 1, s, s, s); sigma (B,); spread (B, 64); level (B,) added noise; names of the sources."""

    clean: Tensor
    noisy: Tensor
    sigma: Tensor
    spread: Tensor
    level: Tensor
    names: list[str]

    @property
    def before(self) -> Tensor:
        return self.noisy

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.noisy, self.sigma, self.spread


def source_from_array(
    array: np.ndarray, kind: str, name: str, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Source:
    """A source normalised as inference does it (darkest 0, brightest 1)."""
    if kind == "CT":
        array = np.clip(array, -1024, 3071)
    low, high = intensity_range(array)
    scaled = ((array - low) / (high - low)).astype(np.float32)
    return Source(torch.from_numpy(scaled), noise_profile(scaled).sigma, kind, name, spacing_mm)


def load_sources(manifest: Path, left_out: set[str]) -> list[Source]:
    """Every image of a data folder whose stem is not left out, with a twofold averaged copy of the finely sampled ones.

    ``manifest``: CSV with the columns ``file`` (relative to its folder) and ``modality``. Averaged copies have
    less noise of their own and show the same anatomy at another scale.
    """
    sources = []
    for row in read_manifest(manifest):
        stem = Path(row["file"]).name.removesuffix(".nii.gz")
        if stem in left_out or is_label_map(row):
            continue
        volume = read_volume(manifest.parent / row["file"])
        array, kind = volume.array, kind_of(row["modality"])
        i, j, k = volume.spacing_mm
        sources.append(source_from_array(array, kind, stem, (k, j, i)))
        axes = [axis for axis, side in enumerate(array.shape) if side >= 140]
        if len(axes) >= 2:
            pooled = torch.from_numpy(array)
            for axis in axes:
                pooled = thick_slices(pooled, axis, 2)
            k, j, i = (step * 2 if axis in axes else step for axis, step in enumerate((k, j, i)))
            sources.append(source_from_array(pooled.numpy(), kind, stem + " averaged", (k, j, i)))
    return sources


def load_label_maps(manifest: Path, left_out: set[str]) -> list[np.ndarray]:
    """The whole-head label maps of a data folder whose stem is not left out, cut to what is not background."""
    maps = []
    for row in read_manifest(manifest):
        stem = Path(row["file"]).name.removesuffix(".nii.gz")
        if stem in left_out or not row["modality"].startswith("label map (FreeSurfer"):
            continue
        array = read_volume(manifest.parent / row["file"]).array.astype(np.int16)
        box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(array))
        maps.append(array[box])
    return maps


def data_folder(text: str) -> Path:
    """The folder of ``--data``. Raises what argparse turns into a sentence when it has no manifest."""
    if not (Path(text) / "manifest.csv").is_file():
        raise argparse.ArgumentTypeError(f"there is no manifest.csv in '{text}'; it lists the volumes to train on")
    return Path(text)


def read_manifest(manifest: Path) -> list[dict[str, str]]:
    """The rows of a manifest. Raises ``ValueError`` when a needed column is missing."""
    with open(manifest, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"file", "modality"} <= set(rows[0]):
        raise ValueError(f"{manifest} needs the columns 'file' and 'modality' and at least one row.")
    return rows


def is_label_map(row: dict[str, str]) -> bool:
    """Whether a row of the manifest is no image, but labels or a mask."""
    return any(word in row["modality"].lower() for word in ("label map", "mask"))


class Pool:
    """Real volumes and a changing few synthesised ones, to cut patches from."""

    def __init__(self, sources: list[Source], label_maps: list[np.ndarray], device: torch.device) -> None:
        self.label_maps = label_maps
        self.device = device
        self.synthesised = 0
        self.by_kind = {kind: [s for s in sources if s.kind == kind] for kind in SHARES}
        for source in sources:
            source.array = source.array.to(device)

    def synthesise(self, count: int, keep: int, seed: int) -> None:
        """Have the synthesised volumes ``count - keep`` to ``count - 1`` at hand.

        Each follows from its number and the seed alone, so that a training run which goes on from a checkpoint
        finds the volumes that it would have had.
        """
        pool = self.by_kind["synthetic"]
        for number in range(max(self.synthesised, count - keep), count if self.label_maps else 0):
            generator = torch.Generator(self.device).manual_seed(seed * 1_000_003 + number)
            labels = self.label_maps[pick(len(self.label_maps), generator)]
            start = [pick(max(1, side - SYNTHETIC_SIDE), generator) for side in labels.shape]
            part = labels[tuple(slice(first, first + SYNTHETIC_SIDE) for first in start)]
            image = image_from_labels(torch.from_numpy(part.astype(np.int64)).to(self.device), generator)
            source = source_from_array(image.cpu().numpy(), "synthetic", "synthetic")
            source.array = source.array.to(self.device)
            pool.append(source)
            self.synthesised = number + 1
        del pool[:-keep]

    def pick(self, generator: torch.Generator) -> Source:
        """One source; its kind by ``SHARES``, all of a kind equally often."""
        kinds = [kind for kind in SHARES if self.by_kind[kind]]
        sources = self.by_kind[choose([(kind, SHARES[kind]) for kind in kinds], generator)]
        return sources[pick(len(sources), generator)]


class NoisyPatches:
    """Endless batches of clean and noisy cubes, the same ones for the same generator state."""

    def __init__(self, pool: Pool, patch: int) -> None:
        self.pool, self.patch, self.device = pool, patch, pool.device
        self.synthesise = pool.synthesise

    def batch(self, size: int, generator: torch.Generator) -> NoisyBatch:
        """``size`` patches, each from a region with its own source, orientation, kind and level of noise.

        The noise is measured in the region, as it will be in the volumes of people: what the network is told has the
        errors of the measurement, and no two regions of a source have the same profile that could be learned by heart.
        """
        samples = [self._sample(generator) for _ in range(size)]
        clean, noisy, sigma, spread, level, names = zip(*samples, strict=True)
        sigmas, levels = (torch.tensor(values, device=self.device) for values in (sigma, level))
        spreads = torch.stack(spread).to(self.device)
        return NoisyBatch(torch.stack(clean), torch.stack(noisy), sigmas, spreads, levels, list(names))

    def _sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor, float, Tensor, float, str]:
        source, clean, noisy, level = self._region(generator)
        profile = noise_profile((noisy - AIR if source.kind == "CT" else noisy).cpu().numpy())
        sides = [self.patch] * 3
        place = somewhere(clean, sides, generator)
        before, after = (filled(region, place, sides)[None] for region in (clean, noisy))
        spread = torch.from_numpy(profile.spread).clamp_min(1e-6)
        return before, after, max(profile.sigma, 1e-4), spread, level, source.name

    def _region(self, generator: torch.Generator) -> tuple[Source, Tensor, Tensor, float]:
        """Source, clean and noisy region (at most ``REGION`` voxels a side), and the level of the noise."""
        source = self.pool.pick(generator)
        sides = [min(side, max(REGION, self.patch)) for side in source.array.shape]
        clean = cut(source.array, sides, generator)
        order = torch.randperm(3, generator=generator, device=generator.device).tolist()
        clean = clean.permute(order).flip([axis for axis in range(3) if uniform(0, 1, generator) < 0.5])
        if source.kind != "CT" and uniform(0, 1, generator) < 0.5:
            clean = clean.clamp_min(0.0) ** math.exp(uniform(-CONTRAST, CONTRAST, generator))
        low, high = _LEVELS[source.kind]
        level = math.exp(uniform(math.log(low), math.log(high), generator))
        noisy, _ = add_noise(clean, choose(_NOISE[source.kind], generator), level, generator)
        return source, clean, noisy, level


def add_noise(clean: Tensor, kind: NoiseKind, level: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy (D, H, W), and the (64,) spread of unit noise of that kind over the cosine coefficients."""
    white = torch.ones(64, device=clean.device)
    if kind is NoiseKind.RICIAN:
        return rician_noise(clean.clamp_min(0.0), level, generator), white
    if kind is NoiseKind.POISSON:
        return poisson_noise(clean, level, generator), white
    if kind is NoiseKind.CORRELATED:
        kernel = random_noise_kernel(generator, clean.device)
        return correlated_noise(clean, level, kernel, generator), kernel_spread(kernel)
    return gaussian_noise(clean, level, generator), white


def cut(array: Tensor, sides: Sequence[int], generator: torch.Generator) -> Tensor:
    """A random box; mostly background is tried again twice. Short axes are reflected."""
    return filled(array, somewhere(array, sides, generator), sides)


def somewhere(array: Tensor, sides: Sequence[int], generator: torch.Generator) -> tuple[slice, ...]:
    """The place of a random box within an array (D, H, W); mostly background is tried again twice."""
    place: tuple[slice, ...] = ()
    for _ in range(3):
        start = [pick(max(1, side - length + 1), generator) for side, length in zip(array.shape, sides, strict=True)]
        place = tuple(slice(first, first + length) for first, length in zip(start, sides, strict=True))
        if float((array[place] > 0.08).float().mean()) > 0.3:
            break
    return place


def filled(array: Tensor, place: tuple[slice, ...], sides: Sequence[int]) -> Tensor:
    """The box at a place, reflected where the array is too short for it."""
    box = array[place]
    missing = [length - side for side, length in zip(box.shape, sides, strict=True)]
    if any(missing):
        pads = [n for side in reversed(missing) for n in (0, side)]
        mode = "reflect" if all(side > lack for side, lack in zip(box.shape, missing, strict=True)) else "replicate"
        box = F.pad(box[None, None], pads, mode=mode)[0, 0]
    return box
