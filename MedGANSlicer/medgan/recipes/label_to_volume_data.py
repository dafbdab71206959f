"""What label-to-volume learns from: real volumes with label maps that are found in them, and the statistics of these.

Volumes with label maps of their own hardly exist. So each volume gets several: the classes of its smoothed intensities,
few and many, and, for heads, the parts that the model brain-parts names, with such classes around them. In a lesson
some labels are joined, so that a label may hold much or little. Thus no vocabulary is special.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medgan.degradation import kind_of, pick, uniform
from medgan.networks.render import style_of
from medgan.noise import intensity_range
from medgan.recipes import files
from medgan.recipes.data import is_label_map, read_manifest
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.settings import Device, SegmentSettings
from medgan.synthesis.texture import coloured_noise, octave_shares
from medgan.volume import Volume, read_volume

FINEST_MM = 0.9
"""Volumes finer than this are brought to 1 mm."""

CLASSES = ((4, 1.5), (7, 1.0), (11, 0.7))
"""Number of classes of a label map of intensities, and how far the volume is smoothed before (mm)."""

SAMPLE = 112
"""Side of the middle part in which the spectrum of a residual is measured."""

SHARES = {"head": 0.6, "MR": 0.12, "CT": 0.24, "PET": 0.04}
"""How often a lesson comes from each kind of volume."""


@dataclass
class Scan:
    """One volume (D, H, W) in 0..1, float16, and its label maps: uint8 indices, each with its statistics (K, 3), which
    are voxels, mean and variance; and the shares of the octaves of what the means leave over."""

    name: str
    kind: str
    image: Tensor
    spacing_mm: Tensor
    maps: list[Tensor]
    tables: list[Tensor]
    shares: list[Tensor]


@dataclass
class Lesson:
    """Two results are wanted of a condition: image (1, s, s, s), condition (2, s, s, s), two textures (1, s, s, s)."""

    image: Tensor
    condition: Tensor
    texture: tuple[Tensor, Tensor]
    style: Tensor


def scans(data: Path, left_out: set[str], cache: Path, only: set[str] | None = None) -> list[Scan]:
    """Every volume of a data folder that is not left out (or those in ``only``), with its label maps; these are kept
    in ``cache``, a folder, because finding them takes minutes."""
    cache.mkdir(parents=True, exist_ok=True)
    found, named = [], Parts()
    for row in read_manifest(data / "manifest.csv"):
        stem = Path(row["file"]).name.removesuffix(".nii.gz")
        if is_label_map(row) or stem in left_out or (only is not None and stem not in only):
            continue
        file = cache / f"{stem}.pt"
        if not file.exists():
            kind = "head" if row["file"].startswith("mr/") else kind_of(row["modality"])
            made = scan(stem, kind, read_volume(data / row["file"]), named)
            files.save(vars(made), file)
            print(f"{stem}: {[len(table) for table in made.tables]} labels", flush=True)
        found.append(Scan(**torch.load(file, map_location="cpu", weights_only=True)))
    return found


def scan(name: str, kind: str, volume: Volume, named: Parts) -> Scan:
    """A volume with its label maps."""
    source = Grid(volume.shape, volume.ijk_to_ras)
    if max(volume.spacing_mm) < FINEST_MM:
        target = working_grid(source, (1.0, 1.0, 1.0), None)
        volume = Volume(resampled(volume.array, source, target), target.ijk_to_ras)
    array = np.clip(volume.array, -1024, 3071) if kind == "CT" else volume.array
    low, high = intensity_range(array)
    image = np.clip((array - low) / (high - low), 0.0, 1.0).astype(np.float32)
    spacing = np.array(volume.spacing_mm[::-1])
    maps = [classes(image, count, smooth / spacing) for count, smooth in CLASSES]
    brain = named.of(name, volume) if kind == "head" else None
    if brain is not None:
        around = classes(image, 5, 1.0 / spacing)
        maps.append(np.where(brain > 0, brain + around.max() + 1, around))
    maps = [np.unique(labels, return_inverse=True)[1].reshape(image.shape).astype(np.uint8) for labels in maps]
    tables = [table(image, labels) for labels in maps]
    residuals = [image - held[:, 1][labels] for labels, held in zip(maps, tables, strict=True)]
    middle = tuple(slice(max(0, side // 2 - SAMPLE // 2), side // 2 + SAMPLE // 2) for side in image.shape)
    shares = [torch.from_numpy(octave_shares(residual[middle])).float() for residual in residuals]
    return Scan(
        name, kind, torch.from_numpy(image).half(), torch.from_numpy(spacing).float(),
        [torch.from_numpy(labels) for labels in maps], [torch.from_numpy(held).float() for held in tables], shares,
    )  # fmt: skip


class Parts:
    """The codes that the shipped model brain-parts gives a brain, from its T1 or isotropic T2; the other contrasts
    that lie on the same grid share them."""

    def __init__(self) -> None:
        self.patient, self.grid, self.codes = "", np.zeros((4, 4)), np.zeros((1, 1, 1), np.int64)

    def of(self, name: str, volume: Volume) -> np.ndarray | None:
        """Codes [k, j, i], 0 outside of the brain; None where there are none."""
        from medgan.parts import OUTSIDE_BRAIN
        from medgan.tasks import segment

        patient = name.rsplit("_", 1)[0]
        same = self.codes.shape == volume.shape and np.allclose(self.grid, volume.ijk_to_ras, atol=1e-3)
        if patient == self.patient and same:
            return self.codes
        if "T1" not in name and max(volume.spacing_mm) > 1.5:
            return None
        settings = SegmentSettings("brain-parts", flips=False, device=Device.CPU)
        found = segment.run({"volume": volume}, settings).volumes["labels"].array.astype(np.int64)
        self.patient, self.grid = patient, volume.ijk_to_ras
        self.codes = np.where(np.isin(found, OUTSIDE_BRAIN), 0, found)
        return self.codes


def classes(image: np.ndarray, count: int, sigma: np.ndarray) -> np.ndarray:
    """Classes of a smoothed image by Lloyd's algorithm on its intensities: 0 is the darkest."""
    soft = ndimage.gaussian_filter(image, sigma)
    sample = np.sort(soft.ravel()[:: max(1, soft.size // 100_000)])
    centres = np.quantile(np.unique(sample.round(4)), (np.arange(count) + 0.5) / count)
    for _ in range(30):
        borders = (centres[1:] + centres[:-1]) / 2
        index = np.searchsorted(borders, sample)
        size = np.bincount(index, minlength=count)
        centres = np.where(size > 0, np.bincount(index, weights=sample, minlength=count) / np.maximum(size, 1), centres)
    found: np.ndarray = np.searchsorted((centres[1:] + centres[:-1]) / 2, soft)
    return found


def table(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(K, 3) voxels, mean and variance of every label 0..K-1."""
    index = labels.ravel()
    count = np.maximum(np.bincount(index), 1)
    mean = np.bincount(index, weights=image.ravel()) / count
    return np.stack([count, mean, np.bincount(index, weights=(image.ravel() - mean[index]) ** 2) / count], axis=1)


def joined(held: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """(K, 2) mean and standard deviation of every label after some labels were joined with others."""
    group = torch.arange(len(held))
    for label in range(1, len(held)):  # the darkest one, mostly air, stays alone
        if uniform(0.0, 1.0, generator) < share:
            group[label] = group[1 + pick(len(held) - 1, generator)]
    empty = torch.zeros(len(held))
    count = empty.index_add(0, group, held[:, 0])
    mean = empty.index_add(0, group, held[:, 0] * held[:, 1]) / count.clamp_min(1)
    square = empty.index_add(0, group, held[:, 0] * (held[:, 2] + held[:, 1].square())) / count.clamp_min(1)
    spread = (square - mean.square()).clamp_min(0.0).sqrt()
    return torch.stack([mean[group], spread[group]], dim=1)


def textures(held: list[Scan]) -> list[dict[str, Any]]:
    """Of each head and each CT: its contrast, the size of its voxels, and the spectrum of what its finest label map
    leaves over. Volumes from labels alone take their texture from these."""
    found = []
    for entry in held:
        contrast = next((name for name in ("FLAIR", "T2", "T1", "CT") if name in entry.name.upper()), "")
        contrast = "CT" if entry.kind == "CT" else contrast
        if contrast and entry.kind in ("head", "CT"):
            size = round(float(entry.spacing_mm.prod()), 4)
            shares = [round(share, 4) for share in entry.shares[-1].tolist()]
            found.append({"contrast": contrast, "voxel_mm3": size, "shares": shares})
    return found


class Lessons:
    """Endless lessons, the same ones for the same generator state."""

    def __init__(self, held: list[Scan], side: int) -> None:
        self.by_kind = {kind: [entry for entry in held if entry.kind == kind] for kind in SHARES}
        self.side = side

    def batch(self, size: int, generator: torch.Generator) -> list[Lesson]:
        return [self.lesson(generator) for _ in range(size)]

    def lesson(self, generator: torch.Generator) -> Lesson:
        """A cube of a random volume, turned at random."""
        kinds = [kind for kind in SHARES if self.by_kind[kind]]
        place = uniform(0.0, sum(SHARES[kind] for kind in kinds), generator)
        while place > SHARES[kinds[0]] and len(kinds) > 1:
            place -= SHARES[kinds.pop(0)]
        chosen = self.by_kind[kinds[0]][pick(len(self.by_kind[kinds[0]]), generator)]
        number = pick(len(chosen.maps), generator)
        box = self._box(chosen.image, generator)
        image, labels = chosen.image[box].float(), chosen.maps[number][box].long()
        statistics = joined(chosen.tables[number], generator, 0.5 * uniform(0.0, 1.0, generator) ** 2)
        condition = statistics[labels].movedim(-1, 0)
        order = torch.randperm(3, generator=generator).tolist()
        flips = [axis + 1 for axis in range(3) if uniform(0, 1, generator) < 0.5]
        turned = torch.cat([image[None], condition]).permute(0, *(axis + 1 for axis in order)).flip(flips)
        turned = filled(turned, self.side)
        shares = chosen.shares[number]
        one, other = (texture(turned.shape[1:], shares, generator) for _ in range(2))
        style = style_of(shares, chosen.spacing_mm[order])
        return Lesson(turned[:1], turned[1:], (one, other), style)

    def _box(self, image: Tensor, generator: torch.Generator) -> tuple[slice, ...]:
        """A random box; mostly background is tried again."""
        box: tuple[slice, ...] = ()
        for _ in range(4):
            start = [pick(max(1, length - self.side + 1), generator) for length in image.shape]
            box = tuple(slice(first, first + self.side) for first in start)
            if float((image[box] > 0.08).float().mean()) > 0.35:
                break
        return box


def texture(shape: torch.Size, shares: Tensor, generator: torch.Generator) -> Tensor:
    """(1, D, H, W) noise as the network gets it, cut from a larger piece so that it has coarse waves as well."""
    larger = [side + 24 for side in shape]
    seed = int(torch.randint(2**31, (), generator=generator))
    made = coloured_noise(larger, shares.tolist(), np.random.default_rng(seed))
    return torch.from_numpy(made[tuple(slice(12, 12 + side) for side in shape)].copy())[None]


def filled(parts: Tensor, side: int) -> Tensor:
    """(C, s, s, s): short sides are continued by reflection, again and again if need be."""
    for axis in (1, 2, 3):
        while parts.shape[axis] < side:
            parts = torch.cat([parts, parts.flip(axis)], dim=axis).narrow(axis, 0, min(side, 2 * parts.shape[axis]))
    return parts
