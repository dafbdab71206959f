"""Training patches for tissue-ct: CT volumes with rule-made targets, heads drawn from label maps, and what is done
to both so that few volumes teach much. Arrays are [k, j, i] in RAS order, 3 mm voxels, Hounsfield units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from medgan.recipes.data import read_manifest
from medgan.recipes.tissue_targets import AIR, BONE, FAT, IGNORE, OUTSIDE, SOFT, SPACING_MM, tissue_targets
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.volume import read_volume

CUT_OUT = ("covidctmd", "totalseg_aorta")
"""Beginnings of the names of volumes that are cut out of a chest: no voxel lies outside the body."""

WITH_CONTRAST = ("totalseg_aorta",)
"""Blood is as bright as bone there, so nothing is taught where the rules say bone."""

TRUNCATED = ("sts005",)
"""The patient is cut off by the field of view and bright at its rim; the rules fail there."""

_HEAD_GROUPS: tuple[tuple[tuple[int, ...], int, float, float], ...] = (
    ((511,), FAT, -95.0, 25.0),
    ((515,), BONE, 950.0, 250.0),
    ((514, 516), BONE, 420.0, 150.0),
    ((24, 4, 5, 14, 15, 43, 44), SOFT, 10.0, 6.0),
    ((2, 41, 7, 46, 16), SOFT, 28.0, 6.0),
    ((3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58, 28, 60), SOFT, 38.0, 6.0),
)
"""Label values of a whole-head label map, what they are on CT, and their mean HU with its spread over patients."""

_REST = (SOFT, 45.0, 20.0)


@dataclass
class CtSource:
    """A CT with targets; ``all_inside``: no voxel of it lies outside the body."""

    hounsfield: np.ndarray
    labels: np.ndarray
    all_inside: bool
    name: str


@dataclass
class HeadSource:
    """Share of each tissue group (G, D, H, W) in each voxel; the last two are the rest and air. ``classes``: (G,)."""

    shares: np.ndarray
    classes: np.ndarray
    name: str


def load_ct(folder: Path, left_out: set[str]) -> list[CtSource]:
    """Every CT of a data folder that is not left out, at 3 mm with its targets."""
    sources = []
    for row in read_manifest(folder / "manifest.csv"):
        stem = Path(row["file"]).name.removesuffix(".nii.gz")
        if not row["modality"].startswith("CT") or stem in left_out or stem.startswith(TRUNCATED):
            continue
        volume = read_volume(folder / row["file"])
        source = Grid(volume.shape, volume.ijk_to_ras)
        hounsfield = resampled(volume.array, source, working_grid(source, (SPACING_MM,) * 3, "RAS"), -1024.0)
        inside = stem.startswith(CUT_OUT)
        labels = tissue_targets(hounsfield, inside)
        if not inside:
            labels[labels == AIR] = OUTSIDE  # limbs: what is enclosed there is the gap between two legs
        if stem.startswith(WITH_CONTRAST):
            labels[(labels == BONE) | (hounsfield > 120.0)] = IGNORE
        sources.append(CtSource(hounsfield, labels, inside, stem))
    return sources


def load_heads(folder: Path, left_out: set[str], most: int = 6) -> list[HeadSource]:
    """Whole-head label maps of a data folder as shares of tissues in voxels of 3 mm."""
    heads: list[HeadSource] = []
    for row in read_manifest(folder / "manifest.csv"):
        stem = Path(row["file"]).name.removesuffix(".nii.gz")
        if not row["modality"].startswith("label map (FreeSurfer") or stem in left_out or len(heads) == most:
            continue
        volume = read_volume(folder / row["file"])
        source = Grid(volume.shape, volume.ijk_to_ras)
        labels = resampled(volume.array, source, working_grid(source, None, "RAS")).astype(np.int16)
        box = tuple(slice(max(0, int(w.min()) - 12), int(w.max()) + 13) for w in np.nonzero(labels))
        labels = labels[box]
        labels = labels[tuple(slice(0, side // 3 * 3) for side in labels.shape)]
        groups = [np.isin(labels, values) for values, _, _, _ in _HEAD_GROUPS]
        rest = (labels > 0) & ~np.logical_or.reduce(groups)
        shares = np.stack([_thirds(group) for group in [*groups, rest, labels == 0]])
        classes = np.array([kind for _, kind, _, _ in _HEAD_GROUPS] + [_REST[0], OUTSIDE], np.uint8)
        heads.append(HeadSource(shares.astype(np.float16), classes, stem))
    return heads


def _thirds(mask: np.ndarray) -> np.ndarray:
    k, j, i = (side // 3 for side in mask.shape)
    return mask.reshape(k, 3, j, 3, i, 3).mean(axis=(1, 3, 5))


class TissuePatches:
    """Patches of Hounsfield units (s, s, s) and their labels, the same for the same random generator."""

    def __init__(self, sources: Sequence[CtSource], heads: Sequence[HeadSource], side: int) -> None:
        self.sources, self.heads, self.side = sources, heads, side

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One patch, changed at random: contrast agent, gas, another body outline, table, blur, slices and noise."""
        if self.heads and rng.random() < 0.2:
            hounsfield, labels = self._head(rng)
        else:
            source = self.sources[int(rng.integers(len(self.sources)))]
            hounsfield, labels = self._cut(rng, source.hounsfield, source.labels)
            if source.all_inside and rng.random() < 0.8:
                carve(rng, hounsfield, labels)
        if rng.random() < 0.15:
            paint(rng, hounsfield, labels, (SOFT,), SOFT, rng.uniform(120, 400))
        if rng.random() < 0.4:
            paint(rng, hounsfield, labels, (SOFT, FAT), AIR, rng.uniform(-1000, -750))
        if rng.random() < 0.7:
            add_table(rng, hounsfield, labels)
        hounsfield = seen(rng, hounsfield)
        flips = tuple(axis for axis in range(3) if rng.random() < 0.5)
        return np.flip(hounsfield, flips).copy(), np.flip(labels, flips).copy()

    def _cut(self, rng: np.random.Generator, hounsfield: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
        """A random box; where the volume is shorter than the patch it is mirrored."""
        starts = [rng.integers(max(1, side - self.side + 1)) for side in labels.shape]
        box = tuple(slice(start, start + self.side) for start in starts)
        short = [(0, max(0, self.side - side)) for side in labels.shape]
        pad = [(before, after) for before, after in short]
        return np.pad(hounsfield[box], pad, mode="symmetric"), np.pad(labels[box], pad, mode="symmetric")

    def _head(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        head = self.heads[int(rng.integers(len(self.heads)))]
        shares = head.shares.astype(np.float32)
        means = [rng.normal(mean, spread) for _, _, mean, spread in _HEAD_GROUPS]
        means += [rng.normal(_REST[1], _REST[2]), -1000.0]
        hounsfield = np.tensordot(np.array(means, np.float32), shares, 1)
        labels = head.classes[shares.argmax(axis=0)]
        closed = ndimage.binary_closing(np.pad(labels != OUTSIDE, 4), iterations=3)[4:-4, 4:-4, 4:-4]
        labels[(labels == OUTSIDE) & ndimage.binary_fill_holes(closed)] = AIR
        return self._cut(rng, hounsfield, labels)  # type: ignore[return-value]


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> np.ndarray:
    """Noise of mean 0 and standard deviation 1 without anything finer than ``sigma`` voxels."""
    coarse = [max(3, int(side / sigma) + 2) for side in shape]
    noise = ndimage.zoom(rng.standard_normal(coarse), [s / c for s, c in zip(shape, coarse, strict=True)], order=2)
    return noise / noise.std()


def carve(rng: np.random.Generator, hounsfield: np.ndarray, labels: np.ndarray) -> None:
    """Give a patch out of a body an outline of its own: air, skin, fat and muscle around what is kept."""
    shape = np.array(labels.shape)
    centre = shape * rng.uniform(0.2, 0.8, 3)
    radii = shape * np.array([rng.uniform(1.0, 3.0), rng.uniform(0.35, 0.7), rng.uniform(0.35, 0.7)])
    place = np.indices(labels.shape)
    share = np.sqrt(sum(((place[n] - centre[n]) / radii[n]) ** 2 for n in range(3)))
    depth = (1.0 - share) * radii[1:].mean() * SPACING_MM + 6.0 * smooth_noise(rng, labels.shape, 10)
    skin, fat, wall = 3.0, rng.uniform(0.0, 30.0), rng.uniform(3.0, 25.0)
    for low, kind, value in (
        (skin + fat, SOFT, rng.normal(50, 10)),
        (skin, FAT, rng.normal(-100, 12)),
        (0.0, SOFT, rng.normal(20, 40)),
        (-np.inf, OUTSIDE, rng.uniform(-1020, -980)),
    ):
        high = {SOFT: skin + fat + wall if low > skin else skin, FAT: skin + fat, OUTSIDE: 0.0}[kind]
        layer = (depth >= low) & (depth < high)
        hounsfield[layer], labels[layer] = value, kind
    hounsfield[:] = ndimage.gaussian_filter(hounsfield, 0.35)


def paint(
    rng: np.random.Generator, hounsfield: np.ndarray, labels: np.ndarray, onto: tuple[int, ...], kind: int, value: float
) -> None:
    """Draw a few bodies of one density into tissue: vessels and organs with contrast agent, or gas."""
    for _ in range(rng.integers(1, 4)):
        centre = [rng.integers(side) for side in labels.shape]
        radii = rng.uniform(1.0, 7.0) * np.exp(rng.normal(0.0, 0.4, 3))
        place = np.indices(labels.shape)
        distance = sum(((place[n] - centre[n]) / radii[n]) ** 2 for n in range(3))
        body = (distance + 0.3 * smooth_noise(rng, labels.shape, 4) < 1.0) & np.isin(labels, onto)
        hounsfield[body], labels[body] = value, kind


def add_table(rng: np.random.Generator, hounsfield: np.ndarray, labels: np.ndarray) -> None:
    """A curved plate, or cloth, in the air outside: not the body, whatever its density."""
    outside = labels == OUTSIDE
    if not outside.any():
        return
    _, j, i = np.indices(labels.shape)
    side = labels.shape[1]
    where = rng.uniform(0, side) + rng.uniform(-0.01, 0.02) * (i - rng.uniform(0, side)) ** 2
    plate = outside & (np.abs(j - where) < rng.uniform(0.5, 2.0))
    hounsfield[plate] = rng.uniform(-900, 150)
    if rng.random() < 0.4:
        near = outside & ndimage.binary_dilation(~outside, iterations=int(rng.integers(1, 4)))
        cloth = near & (smooth_noise(rng, labels.shape, 3) > 0.8)
        hounsfield[cloth] = rng.uniform(-980, -600)


def seen(rng: np.random.Generator, hounsfield: np.ndarray) -> np.ndarray:
    """What a scanner makes of it: scale, blur, thick slices, noise of 3 to 250 HU, a round field of view."""
    result = hounsfield * rng.uniform(0.95, 1.05) + rng.normal(0.0, 12.0)
    if rng.random() < 0.5:
        result = ndimage.gaussian_filter(result, rng.uniform(0.2, 0.8, 3))
    if rng.random() < 0.3:
        axis, thick = int(rng.integers(3)), int(rng.integers(2, 4))
        result = ndimage.uniform_filter1d(result, thick, axis)
        result = np.repeat(np.take(result, range(0, result.shape[axis], thick), axis), thick, axis)
        result = ndimage.uniform_filter1d(np.take(result, range(hounsfield.shape[axis]), axis), thick, axis)
    noise = rng.standard_normal(result.shape)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, rng.uniform(0.3, 0.9, 3))
        noise /= noise.std()
    result = result + np.exp(rng.uniform(np.log(3.0), np.log(250.0))) * noise
    if rng.random() < 0.1:
        _, j, i = np.indices(result.shape)
        far = np.hypot(j - rng.uniform(0, result.shape[1]), i - rng.uniform(0, result.shape[2]))
        result[far > result.shape[1] * rng.uniform(0.9, 1.3)] = -1024.0
    return result.astype(np.float32)
