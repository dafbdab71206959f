"""Recognise what a volume is: kind of scan, part of the body, plane of its slices; or a class of one's own.

Reads ``inputs["volume"]``. The report holds the answers with their confidence ("what"), those of single slices, figures
of the quality, advice on tasks and models, and warnings. With ``saliency`` the volume "why" shows on the input's grid
(0 to 1) which places spoke for an answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from medgan.inference import check_room, choose_device, fill_not_finite, run_or_on_cpu, set_deterministic
from medgan.models import catalogue, find
from medgan.progress import Progress, part, silent
from medgan.quality import measure
from medgan.recognition import words
from medgan.recognition.look import heads_of, look
from medgan.settings import RecogniseSettings, Saliency
from medgan.synthesis.scan import opened
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume

BYTES_PER_VOXEL = 12
"""What a look at a volume takes at most: the voxels, those that are not finite, and a copy of some slices."""


def run(inputs: Mapping[str, Volume | LabelMap], settings: RecogniseSettings, progress: Progress = silent) -> Outputs:
    """Recognise ``inputs["volume"]``, which is not changed. The same input and model give the same answers.

    Raises ``ValueError`` (and its kinds ``ModelError``, ``MemoryRefused``) with one sentence for what can not be done,
    ``Cancelled`` when progress says so.
    """
    begun = time.monotonic()
    settings.check()
    progress(0.0, "Loading the model")
    given = inputs.get("volume")
    if given is None:
        raise ValueError("Recognition needs a volume, given as 'volume'.")
    volume = given if isinstance(given, Volume) else Volume(given.array, given.ijk_to_ras, {}, given.voxel_type)
    size = " x ".join(str(n) for n in reversed(volume.shape))
    check_room(volume.array.size * BYTES_PER_VOXEL, int(settings.memory_limit_gb * 1e9), f"Recognising {size} voxels")
    set_deterministic(0)
    if find(settings.model).task == "classify":
        return _own_classes(volume, settings, begun, progress)
    work = opened(settings.model, ("recognise", "classify"), "recognises", choose_device(settings.device),
                  settings.memory_limit_gb)  # fmt: skip
    heads = heads_of(work.card)
    filled, broken = fill_not_finite(volume.array)
    if broken.any():
        work.told.append(f"{int(broken.sum())} voxels were not finite numbers; values were filled in.")
    progress(0.1, "Looking at the slices")
    seen, work.chosen, told = run_or_on_cpu(
        lambda device: look(work.network.to(device), heads, volume, filled), work.chosen
    )
    work.told += told
    if not seen.places:
        work.told.append("The volume is constant or too small to show anything.")
    volumes: dict[str, Volume | LabelMap] = {}
    extra: dict[str, Any] = {}
    if settings.saliency is not Saliency.NONE and seen.places:
        from medgan.recognition.why import why

        def explained(device: torch.device) -> tuple[Volume, str]:
            return why(work.network.to(device), heads, volume, seen, settings.saliency.value, settings.target,
                       part(progress, 0.3, 0.85))  # fmt: skip

        (volumes["why"], extra["explained"]), work.chosen, told = run_or_on_cpu(explained, work.chosen)
        work.told += told
    progress(0.87, "Measuring the quality")
    quality = [] if seen.what["kind"]["label"] == "label map" else measure(volume.like(filled))
    report = work.report("recognise", settings.to_dict(), time.monotonic() - begun) | {
        "sentence": words.sentence(seen.what),
        "what": seen.what,
        "slices": seen.each,
        "geometry_plane": seen.straight.plane,
        "quality": quality,
        "advice": words.advice(seen.what, quality, catalogue()),
        "warnings": words.warnings(seen.what, seen.straight.plane),
        "research": words.RESEARCH,
        "synthetic": False,
        **extra,
    }
    progress(1.0, "Done")
    return Outputs(volumes, report)


def _own_classes(volume: Volume, settings: RecogniseSettings, begun: float, progress: Progress) -> Outputs:
    """The answer of a classifier that a person trained."""
    from medgan.classification import classify

    found = classify(find(settings.model), volume, settings.device, settings.memory_limit_gb, part(progress, 0.1, 0.85),
                     saliency=settings.saliency.value, target=settings.target)  # fmt: skip
    quality = measure(volume)
    answer = found.what["class"]
    report = {
        "task": "recognise",
        "settings": settings.to_dict(),
        "seed": 0,
        "seconds": round(time.monotonic() - begun, 2),
        "synthetic": False,
        **found.provenance,
        "sentence": f"Unknown: nearest is {answer.get('nearest') or max(answer['scores'], key=answer['scores'].get)} "
        f"({words.percent(answer['confidence'])})."
        if answer["unknown"]
        else f"{answer['label']} ({words.percent(answer['confidence'])}).",
        "what": found.what,
        "slices": [],
        "quality": quality,
        "advice": [],
        "warnings": [],
        "messages": list(found.messages),
        "research": words.RESEARCH,
    }
    progress(1.0, "Done")
    return Outputs({} if found.why is None else {"why": found.why}, report)
