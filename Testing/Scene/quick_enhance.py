"""A task that needs no network: the name of the model in the settings says how it behaves."""

from __future__ import annotations

import time

from scene_report import a_report

from medgan.tasks import Outputs


def run(inputs, settings, progress) -> Outputs:
    """Adds 5 to every voxel ("quick"), never ends ("endless"), or fails ("failing")."""
    volume = inputs["volume"]
    progress(0.25, "Working")
    if settings.model == "failing":
        raise ValueError("Model 'failing' fails; choose another.")
    while settings.model == "endless":
        time.sleep(0.01)
        progress(0.5, "Still working")
    difference = volume.like(volume.array * 0 + 5, "float32")
    measured = {"sigma_before": 40.0, "sigma_after": 8.0, "mean_absolute_change": 5.0, "device": "CPU (1 threads)"}
    told = {"settings": settings.to_dict(), "seed": settings.seed, "seconds": 0.5, "messages": ["A quick result."]}
    report = a_report(model=settings.model, **told, **measured)
    return Outputs({"volume": volume.like(volume.array + 5), "difference": difference}, report)
