"""What each enhancement is asked in the lesion checks: what the input lacks, the plain method, the settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from degrading import blurred_by, thick_geometry, thicken
from medgan.settings import Axis, Device, EnhanceSettings
from medgan.tasks import enhance
from medgan.volume import Volume
from upsampling import back_projected, bspline

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class LesionTask:
    """``degrade`` takes the clean volume to the input without noise, ``plain`` and ``yardstick`` the input to the grid
    of the clean volume. ``reach`` is one voxel of the input, or one width of the blur, along k, j and i."""

    name: str
    model: str
    noise_percent: float
    degrade: Change
    plain: Change
    yardstick: Change
    yardstick_title: str
    reach: tuple[int, int, int]
    settings: dict[str, Any]
    ratio: int = 1

    def enhance(self, given: np.ndarray, character: float, ijk_to_ras: np.ndarray | None = None) -> np.ndarray:
        """MedGAN's result for an input array, on the grid of the clean volume, whose matrix is ``ijk_to_ras``."""
        placed = np.eye(4) if ijk_to_ras is None else ijk_to_ras
        thick = thick_geometry(placed, (0,), self.ratio)
        settings = EnhanceSettings(model=self.model, character=character, device=Device.CPU, **self.settings)
        return enhance.run({"volume": Volume(given.copy(), thick)}, settings).volumes["volume"].array


def denoising(noise_percent: float = 3.0) -> LesionTask:
    """The input itself is the plain method, a Gaussian filter of 0.7 voxels the yardstick."""
    return LesionTask(
        name="denoise",
        model="denoise",
        noise_percent=noise_percent,
        degrade=lambda clean: clean,
        plain=lambda given: given,
        yardstick=lambda given: blurred_by(given, 0.7),
        yardstick_title="Gaussian 0.7",
        reach=(1, 1, 1),
        settings={},
    )


def deblurring(sigma: float = 1.2, noise_percent: float = 1.0) -> LesionTask:
    """The blurred input is the plain method, 10 Landweber iterations (linear deconvolution) the yardstick."""
    width = math.ceil(sigma)

    def landweber(given: np.ndarray) -> np.ndarray:
        estimate = given
        for _ in range(10):
            estimate = estimate + blurred_by(given - blurred_by(estimate, sigma), sigma)
        return estimate

    return LesionTask(
        name=f"deblur {sigma:g}",
        model="deblur",
        noise_percent=noise_percent,
        degrade=lambda clean: blurred_by(clean, sigma),
        plain=lambda given: given,
        yardstick=landweber,
        yardstick_title="Landweber, 10",
        reach=(width, width, width),
        settings={"blur_sigma": sigma},
    )


def super_resolution(ratio: int, noise_percent: float = 1.0) -> LesionTask:
    """Thick slices along k. Cubic B-spline is the plain method, 10 back-projections on top the yardstick."""
    return LesionTask(
        name=f"superres x{ratio}",
        model="superres",
        noise_percent=noise_percent,
        degrade=lambda clean: thicken(clean, (0,), ratio),
        plain=lambda given: bspline(given, (0,), ratio),
        yardstick=lambda given: back_projected(given, (0,), ratio),
        yardstick_title="B-spline + BP",
        reach=(ratio, 1, 1),
        settings={"axis": Axis.K, "ratio": float(ratio)},
        ratio=ratio,
    )


def lesion_tasks() -> list[LesionTask]:
    """The four that the gate asks."""
    return [denoising(), deblurring(), super_resolution(2), super_resolution(4)]
