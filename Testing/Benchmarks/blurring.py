"""The test cases of the deblurring benchmark: held-out volumes with a Gaussian blur of a known width, and noise.

- *original*: the central crop of a volume of ``held_out.json``, at most ``crop`` voxels a side. It is the reference,
  with the point spread that it was taken with.
- *input*: the whole volume blurred by a Gaussian of ``sigma`` voxels along each axis, then cropped (so that what lies
  beyond the crop has bled into it, as in a scan), then noise of 1 % of the range: Rician for MR, Gaussian for CT.
- Range and foreground are those of ``cases.py``, taken from the whole original volume.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cases import add_noise, central_box, entries, original

from degrading import blurred_by

NOISE_PERCENT = 1.0
MODALITIES = {"MR": "rician", "CT": "gaussian"}


@dataclass(frozen=True)
class BlurCase:
    """One original crop and its blurred, noisy version, float32 [k, j, i] in the unit of the volume."""

    name: str
    volume: str
    modality: str
    blur_sigma: float
    noise_sigma: float
    data_range: float
    ijk_to_ras: np.ndarray
    clean: np.ndarray
    blurred: np.ndarray
    foreground: np.ndarray

    @property
    def setting(self) -> str:
        """The group that means are taken over."""
        return f"{self.modality} sigma {self.blur_sigma:g}"


def blur_cases(
    data: Path, group: str, names: Sequence[str], sigmas: Sequence[float], crop: int, seed: int = 0
) -> Iterator[BlurCase]:
    """Every case of the MR and CT volumes of a group of ``held_out.json``; ``names`` empty takes them all."""
    for entry in entries(data, group):
        if entry["modality"] not in MODALITIES or (names and entry["name"] not in names):
            continue
        array, ijk_to_ras, data_range, foreground = original(data, entry)
        box = central_box(array.shape, (crop,) * 3)
        ijk_to_ras[:3, 3] += ijk_to_ras[:3, :3] @ [part.start for part in reversed(box)]
        noise_sigma = NOISE_PERCENT / 100.0 * data_range
        for sigma in sigmas:
            name = f"{entry['name']}_{sigma:g}"
            generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
            smooth = blurred_by(array, sigma)[box]
            yield BlurCase(
                name=name,
                volume=entry["name"],
                modality=entry["modality"],
                blur_sigma=sigma,
                noise_sigma=noise_sigma,
                data_range=data_range,
                ijk_to_ras=ijk_to_ras.copy(),
                clean=np.ascontiguousarray(array[box]),
                blurred=add_noise(smooth, MODALITIES[entry["modality"]], noise_sigma, foreground[box], generator),
                foreground=np.ascontiguousarray(foreground[box]),
            )
