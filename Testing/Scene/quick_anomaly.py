"""A task in the place of the map of anomalies that needs no network: two bright corners of a known height."""

from __future__ import annotations

import time

import numpy as np
from scene_report import a_report

from medgan.anomaly_regions import regions
from medgan.tasks import Outputs

CORNERS = ((slice(1, 3), slice(1, 4), slice(1, 4), 0.9), (slice(4, 6), slice(6, 9), slice(5, 8), 0.6))
"""Voxels [k, j, i] and the height of the map there; 0.1 elsewhere."""

THRESHOLD = 0.5


def run(inputs, settings, progress) -> Outputs:
    volume = inputs["volume"]
    progress(0.3, "Working")
    if settings.model == "failing":
        raise ValueError("Model 'failing' fails; choose another.")
    while settings.model == "endless":
        progress(0.5, "Still working")
        time.sleep(0.02)
    heat = np.full(volume.shape, 0.1, np.float32)
    for k, j, i, height in CORNERS:
        heat[k, j, i] = height
    map_ = volume.like(heat, "float32")
    report = a_report(
        task="anomaly", model=settings.model, settings=settings.to_dict(), device="CPU", seconds=0.5,
        messages=["Only 7 ml look like a brain."], unit="score", threshold=THRESHOLD, largest=1.0,
        research="For research only; not a diagnosis.",
        regions=regions(map_, THRESHOLD, settings.smallest_ml),
    )  # fmt: skip
    return Outputs({"anomaly": map_, "reconstruction": volume.like(volume.array - 100)}, report)
