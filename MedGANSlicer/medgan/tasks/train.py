"""Train a model: data, networks and losses of a kind, the loop, and a bundle that is in the menus at once.

The run has a folder of its own (``settings.out``), which outlives the job: the same settings again go on from its
checkpoint. Files there: settings.json, data.json (what was read, rejected and why), log.jsonl, samples/, checkpoint.pt,
cache/, bundle/<name>/.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medgan import bundle_files
from medgan.models import ModelCard, find
from medgan.progress import Progress, part, silent
from medgan.settings import TrainKind, TrainSettings
from medgan.tasks import Outputs
from medgan.training import claim, export
from medgan.training.class_figures import ClassFigures, class_figures
from medgan.training.data import TrainingData, prepare
from medgan.training.kinds import make_kind
from medgan.training.loop import train
from medgan.training.parallel import is_main
from medgan.training.result import TrainingResult
from medgan.volume import LabelMap, Volume

READING = 0.05
"""Share of the progress that the data step takes."""


def run(inputs: Mapping[str, Volume | LabelMap], settings: TrainSettings, progress: Progress = silent) -> Outputs:
    """Train as the settings say on ``settings.data``, or on the inputs where that is ''.

    Returns no volumes; the report has "name", "bundle" (path of the finished model), "run" (its folder), "done" (a
    plain answer to: is it done?), "steps", "seconds", "stopped", "figures", "data", "rejected" and "messages". Raises
    ``ValueError`` with one sentence for what can not be done, ``Cancelled`` after a checkpoint was saved.
    """
    settings.check()
    settings = claim.completed(settings)
    start = find(settings.start) if settings.start else None
    folder = Path(settings.out)
    with _folder(settings) as run_name:
        progress(0.0, "Looking at the data")
        data = prepare(inputs, settings, folder, part(progress, 0.0, READING), start)
        torch.manual_seed(settings.seed)
        kind = make_kind(settings, data.facts, start)
        if is_main():
            bundle_files.check_person_folder()  # now, and not after hours
        result = train(kind, data.samples, settings, folder, part(progress, READING, 0.99), data.report)
        if not result.written:
            return Outputs()
        progress(0.99, "Writing the model")
        exported = kind.export(result.generator)
        classes = None
        if settings.kind is TrainKind.CLASSIFY:
            try:
                classes = class_figures(result.generator, data.samples, data.facts.classes, folder, settings.name)
            except (ValueError, OSError) as error:  # of a model that took hours
                result.messages.append(f"The figures of the classes could not be made: {str(error).rstrip('.')}.")
        bundle = folder / "bundle" / settings.name
        export.write_bundle(bundle, exported, settings, data, result, run_name, classes)
        card = export.publish(bundle, settings.name)
        shutil.rmtree(bundle.with_name(f".{bundle.name}.part"), ignore_errors=True)
    progress(1.0, "Done")
    return Outputs(report=_report(card, settings, data, result, start, classes))


def _folder(settings: TrainSettings) -> contextlib.AbstractContextManager[str]:
    """The run folder, held by the first process of torchrun; the others only read there."""
    return claim.opened(settings) if is_main() else contextlib.nullcontext("")


def _report(
    card: ModelCard,
    settings: TrainSettings,
    data: TrainingData,
    result: TrainingResult,
    start: ModelCard | None,
    classes: ClassFigures | None,
) -> dict[str, Any]:
    messages = [*data.messages, *result.messages]
    if card.name != settings.name:
        messages.append(f"There is a model '{settings.name}' already; this one is called '{card.name}'.")
    return {
        "task": "train",
        "kind": settings.kind.value,
        "name": card.name,
        "bundle": str(card.folder),
        "run": settings.out,
        "start": start.name if start is not None else "",
        "steps": result.steps,
        "seconds": round(result.seconds, 2),
        "stopped": result.stopped,
        "done": result.done,
        "figures": export.figures_of(result) | (classes.flat() if classes else {}),
        **({"classes": classes.rows, "confusion": [classes.classes, classes.matrix]} if classes else {}),
        "data": {
            "fingerprint": data.fingerprint,
            "patients": data.report["patients"],
            "read": len(data.report["read"]),
        },
        "rejected": data.report["rejected"],
        "messages": list(dict.fromkeys(messages)),
        "settings": settings.to_dict(),
        "seed": settings.seed,
    }
