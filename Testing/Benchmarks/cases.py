"""The test cases of the denoising benchmark: held-out volumes with noise of a known level.

A case is a central crop of one volume of ``held_out.json`` with one kind and level of noise. What is measured how:

- *range*: the intensity span to which noise percentages and PSNR refer. MR and PET: from 0 to the 99.9th percentile of
  the foreground of the whole volume. CT: the window -1000..1000 HU (2000 HU); CT volumes are clipped to
  -1024..3071 HU first.
- *foreground*: MR and PET: above 5 % of the 99.9th percentile of the whole volume. CT: above -900 HU.
- *noise*: ``rician`` is the magnitude of the signal with Gaussian noise on both channels; ``gaussian`` is additive;
  ``poisson`` draws counts, scaled so that the noise variance averaged over the foreground is sigma squared.
  Sigma is ``level`` percent of the range.

Everything random comes from a generator seeded by the benchmark's seed, the case's name and nothing else.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HELD_OUT = Path(__file__).with_name("held_out.json")
CT_WINDOW_HU = (-1000.0, 1000.0)
CT_CLIP_HU = (-1024.0, 3071.0)
CT_FOREGROUND_HU = -900.0
NOISES = {
    "MR": (("rician", 1.0), ("rician", 3.0), ("rician", 5.0), ("rician", 9.0)),
    "CT": (("gaussian", 1.5), ("gaussian", 4.0)),
    "PET": (("gaussian", 3.0), ("gaussian", 9.0), ("poisson", 3.0), ("poisson", 9.0)),
}
"""Kinds and levels (percent of the range) of the noise that each modality gets."""


@dataclass(frozen=True)
class Case:
    """One clean crop and its noisy version, both float32 [k, j, i] in the unit of the volume."""

    name: str
    volume: str
    modality: str
    noise: str
    level_percent: float
    sigma: float
    data_range: float
    ijk_to_ras: np.ndarray
    clean: np.ndarray
    noisy: np.ndarray
    foreground: np.ndarray

    @property
    def setting(self) -> str:
        """Modality, noise and level, without the volume: the group that means are taken over."""
        if self.modality == "CT":
            return f"CT {self.sigma:g} HU"
        return f"{self.modality} {self.noise} {self.level_percent:g} %"


def cases(data: Path, crop: int = 96, seed: int = 0, only: str = "") -> Iterator[Case]:
    """Every case, in the order of ``held_out.json``. ``crop`` 0 takes whole volumes; ``only`` is a part of the names.

    Raises ``FileNotFoundError`` naming the folder and the first file that it lacks.
    """
    for entry in entries(data):
        if any(only in name for name in _names(entry)):
            yield from _cases_of(entry, data, crop, seed, only)


def entries(data: Path, group: str = "volumes") -> list[dict[str, str]]:
    """What ``held_out.json`` says of each volume of a group ("volumes" or "validation"): name, file, modality.

    Raises ``FileNotFoundError`` naming the folder and the first file that it lacks.
    """
    found = json.loads(HELD_OUT.read_text(encoding="utf-8"))[group]
    for entry in found:
        if not (data / entry["file"]).is_file():
            raise FileNotFoundError(
                f"The data folder {data} has no {entry['file']}; "
                "give the folder that holds mr/, ct/ and multi/ with --data."
            )
    return found


def _names(entry: dict[str, str]) -> list[str]:
    return [f"{entry['name']}_{noise}_{level:g}" for noise, level in NOISES[entry["modality"]]]


def _cases_of(entry: dict[str, str], data: Path, crop: int, seed: int, only: str) -> Iterator[Case]:
    array, ijk_to_ras, data_range, foreground = original(data, entry)
    box = central_box(array.shape, (crop,) * 3 if crop > 0 else array.shape)
    ijk_to_ras[:3, 3] += ijk_to_ras[:3, :3] @ [part.start for part in reversed(box)]
    clean = np.ascontiguousarray(array[box])
    for name, (noise, level) in zip(_names(entry), NOISES[entry["modality"]], strict=True):
        if only not in name:
            continue
        sigma = level / 100.0 * data_range
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        noisy = add_noise(clean, noise, sigma, foreground[box], generator)
        yield Case(
            name=name,
            volume=entry["name"],
            modality=entry["modality"],
            noise=noise,
            level_percent=level,
            sigma=sigma,
            data_range=data_range,
            ijk_to_ras=ijk_to_ras.copy(),
            clean=clean,
            noisy=noisy,
            foreground=np.ascontiguousarray(foreground[box]),
        )


def original(data: Path, entry: dict[str, str]) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """A whole volume [k, j, i] (CT clipped), its ijk-to-RAS matrix, its range and its foreground."""
    array, ijk_to_ras = _read(data / entry["file"])
    data_range, foreground = range_and_foreground(array, entry["modality"])
    if entry["modality"] == "CT":
        array = np.clip(array, *CT_CLIP_HU)
    return array, ijk_to_ras, data_range, foreground


def range_and_foreground(array: np.ndarray, modality: str) -> tuple[float, np.ndarray]:
    """Span of intensities that percentages refer to, and the mask in which figures are taken."""
    if modality == "CT":
        return CT_WINDOW_HU[1] - CT_WINDOW_HU[0], array > CT_FOREGROUND_HU
    foreground = array > 0.05 * np.percentile(array, 99.9)
    return float(np.percentile(array[foreground], 99.9)), foreground


def add_noise(
    clean: np.ndarray, noise: str, sigma: float, foreground: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """A noisy float32 copy of ``clean``; see the top of the file for the kinds."""
    if noise == "poisson":
        signal = np.maximum(clean, 0.0).astype(np.float64)
        counts_per_unit = signal[foreground].mean() / sigma**2
        return (generator.poisson(signal * counts_per_unit) / counts_per_unit).astype(np.float32)
    real = clean + sigma * generator.standard_normal(clean.shape)
    if noise == "gaussian":
        return real.astype(np.float32)
    if noise == "rician":
        return np.hypot(real, sigma * generator.standard_normal(clean.shape)).astype(np.float32)
    raise ValueError(f"There is no noise '{noise}'; there are rician, gaussian and poisson.")


def central_box(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[slice, ...]:
    """The middle of an array, with at most the wanted number of voxels along each axis."""
    starts = [max((size - side) // 2, 0) for size, side in zip(shape, wanted, strict=True)]
    return tuple(slice(start, min(start + side, size)) for start, side, size in zip(starts, wanted, shape, strict=True))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array float32 [k, j, i] and the 4x4 matrix from voxel indices to RAS millimetres."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = lps_to_ras @ np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = lps_to_ras @ np.array(image.GetOrigin())
    return array, matrix
