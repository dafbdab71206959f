"""A task that needs no network: the names of the models in the settings say how it behaves."""

from __future__ import annotations

import time

import numpy as np
from scene_report import a_report

from medgan.gridplan import planned
from medgan.slices import finer_grid
from medgan.tasks import Outputs
from medgan.volume import Volume

RESTORES = {"deblur": "blur", "superres": "resolution"}


def run(inputs, settings, progress) -> Outputs:
    """Adds 5 to every voxel ("quick", "denoise", ...), never ends ("endless"), or fails ("failing").

    "superres" gives every slice as often as the ratio asks. With it or "deblur" there is a residual of 1 and there are
    two places to check.
    """
    volume, parts = inputs["volume"], settings.model.split("+")
    progress(0.25, "Working")
    if "failing" in parts:
        raise ValueError("Model 'failing' fails; choose another.")
    while "endless" in parts:
        time.sleep(0.01)
        progress(0.5, "Still working")
    steps = [{"model": name, "restores": RESTORES.get(name, "noise"), "seconds": 0.1} for name in parts]
    start, grid = volume.array, volume.ijk_to_ras
    if "superres" in parts:
        start, grid = _finer(volume, settings, steps[-1])
    outputs = {
        "volume": Volume(start + 5, grid, {}, volume.voxel_type),
        "difference": Volume(np.full_like(start, 5), grid),
    }
    measured = {
        "sigma_before": 40.0,
        "sigma_after": 8.0,
        "mean_absolute_change": 5.0,
        "largest_change": 5.0,
        "sigma_source": "given" if settings.noise_sigma > 0 else "estimated",
        "device": "CPU (1 threads)",
    }
    told = {"settings": settings.to_dict(), "seed": settings.seed, "seconds": 0.5, "messages": ["A quick result."]}
    report = a_report(model=settings.model, steps=steps, suspicions=[], **told, **measured)
    if any(step["restores"] != "noise" for step in steps):
        outputs["residual"] = volume.like(np.ones_like(volume.array), "float32")
        report["suspicions"] = [_suspicion(volume, (1, 1, 1), "contradicts"), _suspicion(volume, (3, 2, 1), "added")]
        report["consistency"] = {"residual_rms": 1.0, "residual_sigmas": 0.025}
    if settings.uncertainty:
        outputs["uncertainty"] = Volume(np.linspace(0, 8, start.size).reshape(start.shape), grid)
    return Outputs(outputs, report)


def _finer(volume: Volume, settings, step: dict) -> tuple[np.ndarray, np.ndarray]:
    plan = planned(volume.shape[::-1], volume.spacing_mm, settings.axis, settings.ratio, settings.slice_gap_mm)
    array, grid = volume.array, volume.ijk_to_ras
    for axis, (before, after) in enumerate(zip(volume.shape, plan.size[::-1], strict=True)):
        array = np.take(array, np.arange(after) * before // after, axis)
        grid = finer_grid(grid, axis, before, after)
    spacings = {"spacing_mm_before": list(volume.spacing_mm), "spacing_mm_after": list(plan.spacing_mm)}
    step.update(axis=plan.axes, ratio=plan.ratio, **spacings)
    return array, grid


def _suspicion(volume: Volume, ijk: tuple[int, int, int], kind: str) -> dict:
    place = (volume.ijk_to_ras @ [*ijk, 1.0])[:3].tolist()
    return {
        "ras_mm": place,
        "kind": kind,
        "finding": f"Here the result {kind} what the input supports, by up to 120 there.",
        "sentence": f"At voxel {ijk} the result {kind} what the input supports, by up to 120 there.",
        "size_mm": [1, 1, 1],
        "volume_ml": 0.1,
    }
