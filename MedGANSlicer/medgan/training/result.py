"""What a training hands back, and how it ends when it can not go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn


class TrainingStopped(ValueError):
    """A training that can not go on, with the reason and what to do in one or two sentences."""


@dataclass
class TrainingResult:
    """A finished training."""

    generator: nn.Module
    """The averaged generator on the CPU, with the weights of the best validation where validations count."""

    steps: int
    seconds: float
    """Of all runs of a resumed training together."""

    stopped: str
    """Why it ended: "steps", "minutes" or "patience" (validation no longer rises)."""

    best: dict[str, Any] = field(default_factory=dict)
    """The figures of the best validation, and its "step"; empty where there was none."""

    done: str = ""
    """A plain answer to: is it done?"""

    curves: list[dict[str, Any]] = field(default_factory=list)
    """The objects of ``log.jsonl``."""

    messages: list[str] = field(default_factory=list)
    """Sentences for the person."""

    written: bool = True
    """False in all processes of torchrun but the first: they write and say nothing."""
