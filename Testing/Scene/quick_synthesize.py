"""A task in the place of synthesis that needs no network: volumes whose voxels tell what they were made from."""

from __future__ import annotations

import time

import numpy as np
from scene_report import a_report

from medgan.tasks import Outputs
from medgan.volume import Label, LabelMap, Volume

SHAPE = (8, 10, 12)


def run(inputs, settings, progress) -> Outputs:
    """From labels 10 times their value plus the seed, from noise the seed, of a volume its voxels plus the seed."""
    progress(0.3, "Working")
    if settings.model == "failing":
        raise ValueError("Model 'failing' fails; choose another.")
    while settings.model == "endless":
        progress(0.5, "Still working")
        time.sleep(0.02)
    volumes, samples = {}, []
    for number in range(settings.count):
        seed, name = settings.seed + number, f"sample {number + 1}"
        told = {"volume": name, "labels": None, "seed": seed, "intensity_unit": "0 to 1"}
        if "labels" in inputs:
            source = inputs["labels"]
            volumes[name] = Volume(10.0 * source.array.astype(np.float32) + seed, source.ijk_to_ras)
            volumes[f"{name} labels"] = LabelMap(source.array, source.ijk_to_ras, source.labels)
            told |= {"labels": f"{name} labels", "folding": {"smallest_jacobian": 0.4, "rms_mm": 3.0}}
        elif "volume" in inputs:
            source = inputs["volume"]
            volumes[name] = Volume(source.array + seed, source.ijk_to_ras)
            if settings.model == "contrasts":
                _guard(told, volumes, source)
        else:
            ramp = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
            volumes[name] = Volume(ramp + seed, np.eye(4))
            labels = LabelMap((ramp > 400).astype(np.uint8), np.eye(4), {1: Label("half", (0.1, 0.8, 0.2))})
            volumes[f"{name} labels"] = labels
            told["labels"] = f"{name} labels"
        samples.append(told)
    said = {"settings": settings.to_dict(), "seed": settings.seed, "seconds": 0.5, "messages": [], "device": "CPU"}
    return Outputs(volumes, a_report(task="synthesize", model=settings.model, samples=samples, **said))


def _guard(told: dict, volumes: dict, source: Volume) -> None:
    """What a model of contrasts says of its result."""
    for what, value in (("difference", 2.0), ("uncertainty", 3.0)):
        told[what] = f"{told['volume']} {what}"
        volumes[told[what]] = source.like(np.full(source.shape, value), "float32")
    place = (source.ijk_to_ras @ [3, 2, 1, 1.0])[:3].tolist()
    told["suspicions"] = [{"ras_mm": place, "kind": "unsure", "sentence": "The model is unsure here."}]
