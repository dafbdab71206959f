"""Make volumes: in another contrast, from a label map, or from noise, whichever the model is for.

- a model that translates reads ``inputs["volume"]`` (further channels as "volume 2", ...),
- one from labels reads ``inputs["labels"]`` and, for its intensities, ``inputs["reference"]`` if there is one; several
  label maps ("labels 2", ...) are taken in turn,
- one from noise reads nothing,
- the method "variations" reads ``inputs["volume"]`` and, if they are there, its "labels".

Returns "sample 1", "sample 2", ... and, where it is known what they show, "sample 1 labels", ...: number n has the seed
``seed + n - 1``, so each follows from its own seed alone. A model of contrasts adds "sample 1 difference" and "sample 1
uncertainty". The report says how they were made and marks them as synthetic.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from medgan.inference import choose_device, set_deterministic
from medgan.networks.contrast import ContrastNet
from medgan.networks.shapes import ShapeNet
from medgan.progress import Progress, part, silent
from medgan.recognition.fits import fits
from medgan.settings import SynthesizeSettings
from medgan.synthesis import TASKS
from medgan.synthesis.cards import idle
from medgan.synthesis.contrast import translated_to
from medgan.synthesis.labels import from_labels, in_turn
from medgan.synthesis.latents import from_noise
from medgan.synthesis.scan import opened
from medgan.synthesis.shapes import from_shapes
from medgan.synthesis.translate import translated
from medgan.synthesis.variations import varied
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
    work.told += idle(work.card, settings).values()
    if task == "translate" and "volume" in inputs:
        work.told += fits(work.card, inputs["volume"])
    volumes: dict[str, Volume | LabelMap] = {}
    samples: list[dict[str, Any]] = []
    for number in range(settings.count):
        share = part(progress, 0.02 + 0.96 * number / settings.count, 0.02 + 0.96 * (number + 1) / settings.count)
        share(0.0, f"Volume {number + 1} of {settings.count}" if settings.count > 1 else "Making the volume")
        name, shown = f"sample {number + 1}", None
        seed = settings.seed + number
        if task == "translate" and isinstance(work.network, ContrastNet):
            made, said = translated_to(inputs, settings, work, share)
            volumes |= {name if what == "volume" else f"{name} {what}": held for what, held in made.items()}
            said |= {what: f"{name} {what}" for what in made if what != "volume"}
        elif task == "translate":
            volumes[name], said = translated(inputs, work, share)
        elif task == "variations":
            volumes[name], shown, said = varied(inputs, settings, seed, work, share)
        elif task == "label-to-volume":
            volumes[name], shown, said = from_labels(in_turn(inputs, number), settings, seed, work, share)
        else:
            mix = number / (settings.count - 1) if settings.count > 1 else settings.mix
            seed = settings.seed if settings.toward >= 0 else seed
            if isinstance(work.network, ShapeNet):
                volumes[name], shown, said = from_shapes(settings, seed, mix, work, share)
            else:
                volumes[name], said = from_noise(settings, seed, mix, work)
            said |= {"mix": round(mix, 6), "toward": settings.toward} if settings.toward >= 0 else {}
        if shown is not None:
            volumes[f"{name} labels"] = shown
        samples.append(
            {"volume": name, "labels": f"{name} labels" if shown is not None else None, "seed": seed, **said}
        )
    work.told[:] = dict.fromkeys(work.told)
    report = work.report("synthesize", settings.to_dict(), time.monotonic() - begun)
    report |= {"source": task, "samples": samples}
    progress(1.0, "Done")
    return Outputs(volumes, report)
