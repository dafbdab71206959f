"""Noise that is correlated, as the kernels of CT, filters and interpolation make it: what knowing that brings.

    python Testing/Benchmarks/correlated.py --data DATA

Central crops of the MR and CT volumes of a group of ``held_out.json``, with noise of 1.5 and 4 % of the range (complex,
then magnitudes, for MR; Gaussian for CT) that was filtered before it was added: by CT kernels (its power grows with the
frequency within the slices, and falls again), by a Gaussian within the slices or along all axes, and by interpolation
halfway between the voxels of a slice. The truth is the volume without that noise. PSNR in the foreground, character 0:
the noisy volume, the best of a few Gaussian filters (told the truth), MedGAN with the noise taken for independent (told
to the network as it is, and looked at for being uneven), and MedGAN; then the noise that is there, that of the highest
frequencies, and the one that is said, in percent of the range.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from unittest import mock

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent / "MedGANSlicer")]

from cases import central_box, entries, original  # noqa: E402
from report import table  # noqa: E402
from with_and_without import METHODS, compared, parser_of  # noqa: E402

from medgan.noise import NoiseProfile, noise_profile  # noqa: E402

PERCENTS = (1.5, 4.0)
KINDS = ("independent", "sharp kernel", "soft kernel", "Gaussian 0.6 in slices", "Gaussian 0.9 in slices",
         "Gaussian 0.6", "halfway in slices")  # fmt: skip


def main() -> int:
    options, body = parser_of("Measure denoising of correlated noise.").parse_args(), []
    for entry in entries(options.data, options.group):
        if entry["modality"] == "PET":
            continue
        array, ijk_to_ras, data_range, foreground = original(options.data, entry)
        box = central_box(array.shape, (options.crop,) * 3)
        clean, inside = np.ascontiguousarray(array[box]), np.ascontiguousarray(foreground[box])
        magnitudes = entry["modality"] == "MR"
        generator = np.random.default_rng(zlib.crc32(entry["name"].encode()))
        for kind in KINDS:
            if magnitudes and "kernel" in kind:
                continue
            for percent in PERCENTS:
                sigma = percent / 100.0 * data_range
                noisy = clean + sigma * filtered_noise(clean.shape, kind, generator)
                if magnitudes:
                    noisy = np.hypot(noisy, sigma * filtered_noise(clean.shape, kind, generator))
                noisy = noisy.astype(np.float32)
                without = mock.patch.object(NoiseProfile, "plainly_correlated", False)
                found = compared(noisy, clean, inside, data_range, ijk_to_ras, without)
                there = float((noisy - clean)[inside].std())
                levels = [there, noise_profile(noisy).sigma, found.report["sigma_before"]]
                body.append([entry["name"], kind, f"{percent:g} %", *found.cells])
                body[-1] += [f"{100 * x / data_range:.2f}" for x in levels]
                print(*body[-1], file=sys.stderr)
    head = ["volume", "filter", "noise", *METHODS, "as independent", "MedGAN", "there", "highest", "said"]
    print(*table(head, body), sep="\n")
    return 0


def filtered_noise(shape: tuple[int, ...], kind: str, generator: np.random.Generator) -> np.ndarray:
    """Noise of standard deviation 1 with the spectrum of that kind."""
    k, j, i = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij", sparse=True)
    within = np.sqrt(j**2 + i**2)

    def gaussian(width: float, squared: np.ndarray) -> np.ndarray:
        return np.exp(-2.0 * (np.pi * width) ** 2 * squared)

    response = {
        "independent": np.ones_like(within),
        "sharp kernel": np.sqrt(within) * np.exp(-((within / 0.4) ** 2)),
        "soft kernel": np.sqrt(within) * np.exp(-((within / 0.25) ** 2)),
        "Gaussian 0.6 in slices": gaussian(0.6, within**2),
        "Gaussian 0.9 in slices": gaussian(0.9, within**2),
        "Gaussian 0.6": gaussian(0.6, k**2 + within**2),
        "halfway in slices": np.cos(np.pi * j) * np.cos(np.pi * i),
    }[kind]
    noise = np.fft.ifftn(np.fft.fftn(generator.standard_normal(shape)) * response).real
    return noise / noise.std()


if __name__ == "__main__":
    sys.exit(main())
