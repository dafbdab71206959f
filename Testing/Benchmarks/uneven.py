"""Noise that is not as strong everywhere: what it costs to reckon with one number for it, and what evening it brings.

    python Testing/Benchmarks/uneven.py --data DATA

Central crops of the volumes of a group of ``held_out.json``, with noise of 3 % of the range (root mean square over the
foreground; Rician for MR, Gaussian for CT): the same everywhere, three times as strong in the middle as far from it,
and four times as strong at one face as at the other. PET, and MR as well, with counts of 3 and 5 %. PSNR in the
foreground, character 0: the noisy volume, the best of a few Gaussian filters (told the truth), MedGAN with one number
for the noise, and MedGAN.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "MedGANSlicer")]

from cases import add_noise, central_box, entries, original  # noqa: E402
from report import table  # noqa: E402
from with_and_without import METHODS, compared, parser_of  # noqa: E402

from medgan.restoration import denoise  # noqa: E402
from medgan.uneven_noise import Evened  # noqa: E402

PERCENT = 3.0


def main() -> int:
    options, body = parser_of("Measure denoising where noise differs over the volume.").parse_args(), []
    for entry in entries(options.data, options.group):
        array, ijk_to_ras, data_range, foreground = original(options.data, entry)
        box = central_box(array.shape, (options.crop,) * 3)
        clean, inside = np.ascontiguousarray(array[box]), np.ascontiguousarray(foreground[box])
        for kind, noisy in noises(entry, clean, inside, data_range):
            without = mock.patch.object(denoise, "evened", lambda array, *_: Evened(array))
            found = compared(noisy, clean, inside, data_range, ijk_to_ras, without)
            body.append([entry["name"], kind, *found.cells])
            print(*body[-1], file=sys.stderr)
    print(*table(["volume", "noise", *METHODS, "one number", "MedGAN"], body), sep="\n")
    return 0


def noises(
    entry: dict[str, str], clean: np.ndarray, inside: np.ndarray, data_range: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and noisy volume of every kind of noise that the modality gets."""
    generator = np.random.default_rng(zlib.crc32(entry["name"].encode()))
    if entry["modality"] != "PET":
        _, j, i = np.meshgrid(*(np.linspace(-1.0, 1.0, side) for side in clean.shape), indexing="ij", sparse=True)
        kinds = {"even": 1.0 + 0.0 * i, "x 3 in the middle": 1.0 + 2.0 * np.exp(-2.0 * (i**2 + j**2)), "x 4": 2.0**i}
        for kind, field in kinds.items():
            field = np.broadcast_to(field, clean.shape)
            sigma = field * (PERCENT / 100.0 * data_range / np.sqrt(np.mean(np.square(field[inside]))))
            real = clean + sigma * generator.standard_normal(clean.shape)
            if entry["modality"] == "MR":
                real = np.hypot(real, sigma * generator.standard_normal(clean.shape))
            yield f"{kind}, {PERCENT:g} %", real.astype(np.float32)
    if entry["modality"] != "CT":
        for percent in (PERCENT, 5.0):
            sigma = percent / 100.0 * data_range
            yield f"counts, {percent:g} %", add_noise(clean, "poisson", sigma, inside, generator)


if __name__ == "__main__":
    sys.exit(main())
