"""The tasks of the engine. Every task has one shape: ``run(inputs, settings, progress) -> Outputs``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medgan.volume import LabelMap, Volume

TASKS = {
    "enhance": "medgan.tasks.enhance",
    "evaluate": "medgan.tasks.evaluate",
    "train": "medgan.tasks.train",
    "segment": "medgan.tasks.segment",
    "synthesize": "medgan.tasks.synthesize",
    "anomaly": "medgan.tasks.anomaly",
    "recognise": "medgan.tasks.recognise",
}
"""Module of each task, by the task's name; imported on use, because it imports torch."""


@dataclass
class Outputs:
    """What a task returns: named volumes and a report of plain JSON values."""

    volumes: dict[str, Volume | LabelMap] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def task(name: str) -> Callable[[Mapping[str, Volume | LabelMap], Any, Any], Outputs]:
    """The ``run`` function of a task. Raises ``ValueError`` for a name that is not in ``TASKS``."""
    if name not in TASKS:
        raise ValueError(f"There is no task '{name}'; there are: {', '.join(TASKS)}.")
    return importlib.import_module(TASKS[name]).run
