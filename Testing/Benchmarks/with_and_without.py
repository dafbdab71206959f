"""Denoising with a part of it and without: what the benchmarks of single parts share."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import restoration
from figures import psnr
from scipy import ndimage

from medgan.settings import EnhanceSettings

WIDTHS = (0.4, 0.6, 0.8, 1.0, 1.4)
"""Of the Gaussian filters, of which the best is told the truth."""

METHODS = ("noisy", "best Gaussian")
"""Names of the first columns of :attr:`Compared.psnr`."""


@dataclass(frozen=True)
class Compared:
    """PSNR in dB of the noisy volume, the best Gaussian filter, MedGAN without the part and with it; their reports."""

    psnr: tuple[float, float, float, float]
    without: dict[str, Any]
    report: dict[str, Any]

    @property
    def cells(self) -> list[str]:
        return [f"{found:.2f}" for found in self.psnr]


def parser_of(description: str) -> argparse.ArgumentParser:
    """With the options for data, group and crop."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder with mr, ct and multi")
    parser.add_argument("--group", default="volumes", help="group of held_out.json")
    parser.add_argument("--crop", type=int, default=96, help="longest side of the central crop")
    return parser


def compared(
    noisy: np.ndarray,
    clean: np.ndarray,
    inside: np.ndarray,
    data_range: float,
    ijk_to_ras: np.ndarray,
    without: AbstractContextManager[Any],
) -> Compared:
    """At character 0, in the foreground ``inside``; ``without`` leaves the part out."""
    settings = EnhanceSettings(character=0.0)
    with without:
        plain, told, _ = restoration.run_medgan(noisy, ijk_to_ras, settings)
    result, report, _ = restoration.run_medgan(noisy, ijk_to_ras, settings)
    smooth = max(psnr(ndimage.gaussian_filter(noisy, width), clean, inside, data_range) for width in WIDTHS)
    first, third, last = (psnr(each, clean, inside, data_range) for each in (noisy, plain.array, result.array))
    return Compared((first, smooth, third, last), told, report)
