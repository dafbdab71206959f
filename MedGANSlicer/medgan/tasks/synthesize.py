"""Make volumes: in another contrast, from a label map, or from noise, whichever the model is for.

- a model that translates reads ``inputs["volume"]`` (further channels as "volume 2", ...),
- one from labels reads ``inputs["labels"]`` and, for its intensities, ``inputs["reference"]`` if there is one,
- one from noise reads nothing.

Returns "volume", or "volume 1", "volume 2", ... when several are asked for: number n has the seed ``seed + n - 1``, so
each follows from its own seed alone. The report says how they were made and marks them as synthetic.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from medgan.inference import choose_device, set_deterministic
from medgan.progress import Progress, part, silent
from medgan.settings import SynthesizeSettings
from medgan.synthesis import TASKS
from medgan.synthesis.labels import from_labels
from medgan.synthesis.latents import from_noise
from medgan.synthesis.scan import opened
from medgan.synthesis.translate import translated
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume


def run(inputs: Mapping[str, Volume | LabelMap], settings: SynthesizeSettings, progress: Progress = silent) -> Outputs:
    """Make ``settings.count`` volumes. The same inputs, settings and device give the same voxels.

    Raises ``ValueError`` (and its kinds ``ModelError``, ``MemoryRefused``) with one sentence for what can not be done,
    ``Cancelled`` when progress says so.
    """
    begun = time.monotonic()
    settings.check()
    progress(0.0, "Loading the model")
    set_deterministic(settings.seed)
    work = opened(settings.model, TASKS, "makes volumes", choose_device(settings.device), settings.memory_limit_gb)
    task = work.card.task
    if task == "translate" and settings.count > 1:
        raise ValueError(f"Model '{work.card.name}' makes one volume of another, without chance; set the count to 1.")
    if settings.toward >= 0 and task != "from-noise":
        raise ValueError(f"Model '{work.card.name}' has no latent vectors to go between; only models from noise have.")
    volumes: dict[str, Volume | LabelMap] = {}
    samples: list[dict[str, Any]] = []
    for number in range(settings.count):
        share = part(progress, 0.02 + 0.96 * number / settings.count, 0.02 + 0.96 * (number + 1) / settings.count)
        share(0.0, f"Volume {number + 1} of {settings.count}" if settings.count > 1 else "Making the volume")
        name = f"volume {number + 1}" if settings.count > 1 else "volume"
        seed = settings.seed + number
        if task == "translate":
            made, said = translated(inputs, work, share)
            volumes.update(made)
        elif task == "label-to-volume":
            volumes[name], said = from_labels(inputs, settings, seed, work, share)
        else:
            mix = number / (settings.count - 1) if settings.count > 1 else settings.mix
            seed = settings.seed if settings.toward >= 0 else seed
            volumes[name], said = from_noise(settings, seed, mix, work)
            said |= {"mix": round(mix, 6), "toward": settings.toward} if settings.toward >= 0 else {}
        samples.append({"volume": name, "seed": seed, **said})
    work.told[:] = dict.fromkeys(work.told)
    report = work.report("synthesize", settings.to_dict(), time.monotonic() - begun)
    report |= {"source": task, "samples": samples}
    progress(1.0, "Done")
    return Outputs(volumes, report)
