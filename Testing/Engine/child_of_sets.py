"""The child process of a job with a quick task for making volumes; everything else of it is the real thing.

Image: label value plus seed / 1000; label map: the input, moved along i by the seed. Where the seed is the one in the
environment variable MEDGAN_TEST_FAILS the task fails. A model from noise makes its own label map.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np


def run(inputs, settings, progress):
    from medgan.tasks import Outputs
    from medgan.volume import Label, LabelMap, Volume

    maps = [volume for name, volume in inputs.items() if name.startswith("labels")]
    volumes, samples = {}, []
    for number in range(settings.count):
        seed = settings.seed + number
        progress(number / settings.count, f"Volume {number}")
        if str(seed) == os.environ.get("MEDGAN_TEST_FAILS"):
            raise ValueError(f"The seed {seed} can not be used.")
        if maps:
            labels = maps[number % len(maps)]
        else:
            matrix = np.eye(4)
            labels = LabelMap(np.full((4, 5, 6), 2 + seed % 2, np.int16), matrix, {2: Label("A"), 3: Label("A")})
        moved = LabelMap(np.roll(labels.array, seed, axis=2), labels.ijk_to_ras, labels.labels)
        array = moved.array.astype(np.float32) + seed / 1000 + settings.mix / 100
        volumes[f"sample {number + 1}"] = Volume(array, labels.ijk_to_ras)
        volumes[f"sample {number + 1} labels"] = moved
        samples.append(
            {"volume": f"sample {number + 1}", "labels": f"sample {number + 1} labels", "seed": seed, "told": seed}
        )
    report = {
        "task": "synthesize", "model": "quick", "model_version": "1.0",
        "model_sha256": dict(entry.split("=") for entry in os.environ["MEDGAN_TEST_WEIGHTS"].split()),
        "settings": settings.to_dict(), "seed": settings.seed, "package_version": "0", "device": "CPU", "seconds": 0.1,
        "messages": [], "synthetic": True, "source": "label-to-volume", "samples": samples,
    }  # fmt: skip
    return Outputs(volumes, report)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), str(here.parents[1] / "MedGANSlicer")]
    from medgan import job_child, tasks

    tasks.TASKS["synthesize"] = "child_of_sets"
    sys.exit(job_child.main(Path(sys.argv[1])))
