"""A task in the place of segmentation that needs no network: what it does is told by the name of the model.

"quick": two labels by thresholds. "endless": works until it is cancelled. "failing": raises.
"""

from __future__ import annotations

import time

import numpy as np
from scene_report import a_report

from medgan.segmentation.result import measures
from medgan.tasks import Outputs
from medgan.volume import Label, LabelMap

LABELS = {2: Label("dim", (0.2, 0.4, 0.6)), 41: Label("bright", (0.9, 0.1, 0.2)), 1000: Label("absent")}


def run(inputs, settings, progress):
    model = settings.model
    if model == "failing":
        raise ValueError("Model 'failing' fails; choose another.")
    while model == "endless":
        progress(0.5, "Still working")
        time.sleep(0.02)
    volume = inputs["volume"]
    progress(0.3, "Working")
    middle = volume.array.mean()
    array = np.where(volume.array > 1.5 * middle, 41, np.where(volume.array > 0.5 * middle, 2, 0)).astype(np.uint16)
    labels = LabelMap(array, volume.ijk_to_ras.copy(), LABELS)
    volumes = {"labels": labels}
    if settings.uncertainty:
        volumes["uncertainty"] = volume.like(np.linspace(0, 1, array.size).reshape(array.shape), "float32")
    report = a_report(task="segment", model=model, settings=settings.to_dict(), synthetic=False, device="CPU")
    report["segments"] = measures(array, volume, LABELS)
    report["channels"] = len(inputs)
    return Outputs(volumes, report)
