"""Volumes that were filled up from a coarser matrix: what denoising on that matrix brings.

    python Testing/Benchmarks/zero_filled.py --data DATA

Central crops of the MR and CT volumes of a group of ``held_out.json``, with noise of 3 and 6 % of the range (complex,
then magnitudes, for MR; Gaussian for CT), of whose k-space 100, 85, 70 and 50 % along j and i are kept, or an ellipse
of j and i (whole, or up to 70 % of them), or of all axes (MR only), and the rest is filled with zeros. The truth is
the volume without noise, filled up in the same way. PSNR in the foreground, character 0: the noisy volume, the best
of a few Gaussian filters (told the truth), MedGAN on the voxels as they are, and MedGAN; then the noise that is there
and the two estimates of it, in percent of the range.
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

from degrading import zero_filled  # noqa: E402
from medgan.restoration import step  # noqa: E402

BOXES = {f"{100 * share:.0f} %": share for share in (1.0, 0.85, 0.7, 0.5)}
ELLIPSES = {"ellipse": ((1, 2), 1.0), "ellipse of 70 %": ((1, 2), 0.7), "ellipsoid": ((0, 1, 2), 1.0)}
PERCENTS = (3.0, 6.0)


def main() -> int:
    parser = parser_of("Measure denoising of volumes filled up from a coarser matrix.")
    parser.add_argument("--matrix", default="", help="only those whose name holds this, such as 'ellips'")
    options, body = parser.parse_args(), []
    for entry in entries(options.data, options.group):
        if entry["modality"] == "PET":
            continue
        array, ijk_to_ras, data_range, foreground = original(options.data, entry)
        box = central_box(array.shape, (options.crop,) * 3)
        inside = np.ascontiguousarray(foreground[box])
        generator = np.random.default_rng(zlib.crc32(entry["name"].encode()))
        for kind in (kind for kind in (*BOXES, *ELLIPSES) if options.matrix in kind):
            if kind in ELLIPSES and entry["modality"] != "MR":
                continue
            clean = filled_up(array[box], kind, entry["modality"])
            for percent in PERCENTS:
                sigma = percent / 100.0 * data_range
                noise = sigma * generator.standard_normal(clean.shape)
                if entry["modality"] == "MR":
                    noise = noise + 1j * sigma * generator.standard_normal(clean.shape)
                noisy = filled_up(array[box] + noise, kind, entry["modality"])
                without = mock.patch.object(step, "acquired_matrix", return_value=None)
                found = compared(noisy, clean, inside, data_range, ijk_to_ras, without)
                there = float((noisy - clean)[inside].std())
                levels = [there, found.without["sigma_before"], found.report["sigma_before"]]
                body.append([entry["name"], kind, f"{percent:g} %", *found.cells])
                body[-1] += [f"{100 * x / data_range:.2f}" for x in levels]
                print(*body[-1], file=sys.stderr)
    head = ["volume", "matrix", "noise", *METHODS, "on the voxels", "MedGAN", "there", "voxels", "found"]
    print(*table(head, body), sep="\n")
    return 0


def filled_up(array: np.ndarray, kind: str, modality: str) -> np.ndarray:
    """What there is of k-space then, the rest zeros; magnitudes for MR."""
    if kind in BOXES:
        found = zero_filled(array, (array.shape[0], *(round(BOXES[kind] * side) for side in array.shape[1:])))
    else:
        axes, radius = ELLIPSES[kind]
        frequency = np.meshgrid(*(2.0 * np.fft.fftfreq(side) for side in array.shape), indexing="ij", sparse=True)
        found = np.fft.ifftn(np.fft.fftn(array) * (sum(np.square(frequency[axis]) for axis in axes) <= radius**2))
    return np.ascontiguousarray(np.abs(found) if modality == "MR" else found.real, dtype=np.float32)


if __name__ == "__main__":
    sys.exit(main())
