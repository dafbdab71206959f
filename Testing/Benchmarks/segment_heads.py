"""Scans drawn from held-out label maps of heads, in contrasts that differ from those of the training.

The anatomy is not bent and the contrasts are fixed numbers of this file, apart from "random", which is any grey value
for any structure. ``medgan.generation`` draws the training images; nothing of it is used here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medgan.degradation import bias_field, gaussian_blur, normal, rician_noise
from medgan.parts import classes_of_codes
from medgan.segmentation.grid import Grid, resampled, working_grid
from medgan.volume import Volume, read_volume

HELD_OUT = ("synthseg_17", "synthseg_18", "synthseg_19", "synthseg_20")

TISSUES: dict[str, tuple[int, ...]] = {
    "white": (2, 41, 7, 46, 16, 85, 28, 60, 25, 57),
    "cortex": (3, 42, 8, 47, 17, 53, 18, 54, 26, 58),
    "deep": (10, 49, 11, 50, 12, 51),
    "pallidum": (13, 52),
    "fluid": (4, 43, 5, 44, 14, 15, 24, 72, 136, 137, 163, 164, 506),
    "bone": (515,),
    "marrow": (514, 516),
    "skin": (511,),
    "soft": (502, 507, 508, 509, 512, 530, 30, 62),
}

CONTRASTS: dict[str, dict[str, float]] = {
    "T1": {"white": 0.70, "cortex": 0.48, "deep": 0.55, "pallidum": 0.63, "fluid": 0.18, "bone": 0.10, "marrow": 0.70,
           "skin": 0.85, "soft": 0.42},
    "T2": {"white": 0.38, "cortex": 0.52, "deep": 0.45, "pallidum": 0.30, "fluid": 0.90, "bone": 0.05, "marrow": 0.35,
           "skin": 0.45, "soft": 0.30},
    "FLAIR": {"white": 0.45, "cortex": 0.58, "deep": 0.52, "pallidum": 0.40, "fluid": 0.10, "bone": 0.08,
              "marrow": 0.35, "skin": 0.60, "soft": 0.38},
    "CT": {"white": 0.52, "cortex": 0.57, "deep": 0.57, "pallidum": 0.58, "fluid": 0.43, "bone": 1.0, "marrow": 0.95,
           "skin": 0.10, "soft": 0.58},
}  # fmt: skip
"""Mean grey value of the tissues; air is 0. CT: as a brain window of -100 to 150 HU shows it."""

NOISE = 0.02
TEXTURE = 0.02
BIAS = 0.12
THICK = 5


@dataclass(frozen=True)
class Scan:
    """A drawn scan and the label value of each of its voxels (values of the parts of medgan.parts)."""

    name: str
    contrast: str
    skull: bool
    slices_mm: int
    volume: Volume
    truth: np.ndarray


def scans(data: Path, names: Sequence[str], contrasts: Sequence[str], thick: Sequence[int] = (1, THICK),
          skulls: Sequence[bool] = (True, False)) -> Iterator[Scan]:  # fmt: skip
    """Every label map in every contrast, with and without skull, with slices of 1 mm and of 5 mm."""
    for name in names:
        codes, matrix = head(data / "labels" / f"{name}.nii.gz")
        for contrast in contrasts:
            for skull in skulls:
                shown = codes if skull else np.where(codes >= 500, 0, codes)
                image = drawn(shown, contrast, zlib.crc32(f"{name} {contrast} {skull}".encode()))
                truth = parts_of(shown)
                for slices_mm in thick:
                    yield Scan(name, contrast, skull, slices_mm, *as_slices(image, truth, matrix, slices_mm))


def head(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """FreeSurfer codes [k, j, i] along S, A, R with 20 mm of air around, and their matrix."""
    volume = read_volume(path)
    source = Grid(volume.shape, volume.ijk_to_ras)
    grid = working_grid(source, None, "RAS")
    codes = resampled(volume.array, source, grid).astype(np.int32)
    found = np.nonzero(codes)
    box = tuple(slice(max(0, int(w.min()) - 20), min(n, int(w.max()) + 21)) for w, n in zip(found, codes.shape,
                                                                                            strict=True))  # fmt: skip
    return codes[box], grid.box(box).ijk_to_ras


def drawn(codes: np.ndarray, contrast: str, seed: int) -> np.ndarray:
    """A scan of 0 to about 1000 with texture, point spread, bias and Rician noise."""
    generator = torch.Generator().manual_seed(seed)
    values, index = np.unique(codes, return_inverse=True)
    tissue_of = {code: tissue for tissue, members in TISSUES.items() for code in members}
    grey = torch.rand(len(TISSUES), generator=generator).numpy() * 0.9 + 0.05
    random = dict(zip(TISSUES, grey, strict=True))
    table = random if contrast == "random" else CONTRASTS[contrast]
    means = np.array([0.0 if value == 0 else table[tissue_of.get(int(value), "soft")] for value in values])
    image = torch.from_numpy(means[index].reshape(codes.shape)).float()
    image = image + TEXTURE * normal(image, generator) * (image > 0)
    image = gaussian_blur(image, [0.5, 0.5, 0.5]) * bias_field(codes.shape, BIAS, generator)
    return 1000.0 * rician_noise(image, NOISE, generator).numpy()


def parts_of(codes: np.ndarray) -> np.ndarray:
    """The label value that the parts of medgan.parts have for each FreeSurfer code; 0 for unknown ones."""
    from medgan.parts import STRUCTURES

    values = np.zeros(int(codes.max()) + 1, np.int32)
    for code, (index, side) in classes_of_codes().items():
        if code < len(values):
            values[code] = STRUCTURES[index].right if side == 1 else STRUCTURES[index].left
    return values[codes]


def as_slices(image: np.ndarray, truth: np.ndarray, matrix: np.ndarray, slices_mm: int) -> tuple[Volume, np.ndarray]:
    """The scan in slices that each average so many voxels along S, and the label that most of them have."""
    if slices_mm == 1:
        return Volume(image, matrix), truth
    count = len(image) // slices_mm
    slabs = image[: count * slices_mm].reshape(count, slices_mm, *image.shape[1:])
    blocks = truth[: count * slices_mm].reshape(slabs.shape)
    most = np.zeros((count, *image.shape[1:]), np.int32)
    votes = np.zeros(most.shape, np.int8)
    for offset in range(slices_mm):
        own = (blocks == blocks[:, offset : offset + 1]).sum(axis=1).astype(np.int8)
        better = own > votes
        most[better], votes[better] = blocks[:, offset][better], own[better]
    coarse = matrix.copy()
    coarse[:3, 3] += coarse[:3, 2] * (slices_mm - 1) / 2
    coarse[:3, 2] *= slices_mm
    return Volume(slabs.mean(axis=1), coarse), most
