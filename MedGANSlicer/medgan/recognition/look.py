"""What the network says of one volume: an answer to each question, with how sure it is, and one for each slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgan.models import ModelCard, ModelError
from medgan.noise import padding_as_air
from medgan.recognition import slices as cutting
from medgan.recognition.slices import Straight
from medgan.volume import Volume

PER_STACK = 6
"""Slices that the network reads at once, as in training."""

STACKS = 4
"""Stacks along the axis in which the volume is sliced; one more is seen along each of the others."""

SMALLEST = 8
"""Fewer voxels than this along the rows or columns of a slice show nothing."""

TOGETHER = 0.25
"""Two parts of the body that are both at least so likely are named together."""


@dataclass(frozen=True)
class Head:
    """One question: its name and title, its answers, and what calibration found.

    Logits are divided by ``temperature``; below ``threshold`` the answer is "unknown".
    """

    name: str
    title: str
    answers: tuple[str, ...]
    temperature: float
    threshold: float


@dataclass(frozen=True)
class Look:
    """What was seen. ``what``: by head, as the report of the task holds it; ``each``: rows, one a slice that was seen;
    ``straight``: the volume as the network sees it, with ``places``, the slices along its axis that were looked at."""

    what: dict[str, dict[str, Any]]
    each: list[dict[str, Any]]
    straight: Straight
    places: list[int]


def heads_of(card: ModelCard) -> list[Head]:
    """The questions that a model answers, in the order of its network. Raises :class:`ModelError`."""
    try:
        return [
            Head(name, str(held.get("title", name)), tuple(map(str, held["answers"])),
                 float(held.get("temperature", 1)), float(held.get("threshold", 0.5)))
            for name, held in card.details["heads"].items()
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError(
            f"Model '{card.name}' does not say which answers it gives ('heads' in its metadata.json)."
        ) from None


@torch.inference_mode()
def look(network: nn.Module, heads: Sequence[Head], volume: Volume, array: np.ndarray, stacks: int = STACKS) -> Look:
    """Look at the finite voxels ``array`` of a volume. A constant or tiny one is unknown, without a look."""
    array = padding_as_air(array)
    straight = cutting.straightened(volume, array)
    box = straight.box[straight.axis]
    chosen = cutting.places(box.start, box.stop, PER_STACK * stacks)
    rows, columns = cutting.frame(straight, straight.axis)
    if array.min() == array.max() or min(rows.stop - rows.start, columns.stop - columns.start) < SMALLEST:
        return Look({head.name: nothing(head) for head in heads}, [], straight, [])
    told = torch.tensor([cutting.cues(array[:: max(1, len(array) // 32)], cutting.same_neighbours(straight.array))])
    sums: dict[str, list[Tensor]] = {head.name: [] for head in heads}
    each: dict[str, Tensor] = {}
    device = next(network.parameters()).device
    own = cutting.stack(straight, straight.axis, chosen)
    parts = [list(range(first, len(chosen), stacks)) for first in range(min(stacks, len(chosen)))]
    # Too few slices for a stack are repeated: the network has always read as many.
    takes = [[n * len(part) // PER_STACK for n in range(max(PER_STACK, len(part)))] for part in parts]
    takes = [take if len(part) < PER_STACK else list(range(len(part))) for take, part in zip(takes, parts, strict=True)]
    views = [(own[[part[n] for n in take]], part, take) for part, take in zip(parts, takes, strict=True)]
    for axis in range(3):
        if axis != straight.axis and straight.box[axis].stop - straight.box[axis].start >= PER_STACK:
            across = straight.box[axis]
            views.append((cutting.stack(straight, axis, cutting.places(across.start, across.stop, PER_STACK)), [], []))
    for view, part, take in views:
        answers = network.answers(view[None, None].to(device), told.to(device))  # type: ignore[operator]
        for head in heads:
            whole, single = ((logits.float().cpu() / head.temperature).softmax(-1)[0] for logits in answers[head.name])
            if part or head.name != "plane":  # slices along other axes show other planes
                sums[head.name].append(whole)
            if part:
                held = each.setdefault(head.name, torch.zeros(len(chosen), len(head.answers) + 1))
                held[part] = single[[take.index(n) for n in range(len(part))]]
    what = {head.name: finding(head, torch.stack(sums[head.name]).mean(dim=0).tolist()) for head in heads}
    return Look(what, _rows(heads, each, straight, chosen), straight, chosen)


def finding(head: Head, probabilities: Sequence[float]) -> dict[str, Any]:
    """The answer to one question from the probabilities of its answers and, last, of "none of these"."""
    scores = dict(zip(head.answers, (round(float(p), 4) for p in probabilities), strict=False))
    label, confidence = _best(head, scores)
    unknown = confidence < head.threshold
    return {
        "label": "unknown" if unknown else label,
        "title": head.title,
        "confidence": round(confidence, 4),
        "unknown": unknown,
        "nearest": label,
        "scores": scores,
        "none_of_these": round(float(probabilities[-1]), 4),
        "threshold": head.threshold,
    }


def nothing(head: Head) -> dict[str, Any]:
    """The answer where there is nothing to look at."""
    return finding(head, [0.0] * len(head.answers) + [1.0]) | {"nearest": ""}


def _best(head: Head, scores: Mapping[str, float]) -> tuple[str, float]:
    """The likeliest answer; several together where one alone is not sure: an MR of some contrast, two parts of the
    body."""
    label = max(scores, key=lambda name: scores[name])
    confidence = scores[label]
    if confidence < head.threshold and label.startswith("MR "):
        together = sum(score for name, score in scores.items() if name.startswith("MR "))
        if together >= head.threshold:
            return "MR", together
    if confidence < head.threshold and head.name == "region":
        likely = [name for name, score in scores.items() if score >= TOGETHER]
        if len(likely) == 2 and sum(scores[name] for name in likely) >= head.threshold:
            return " and ".join(likely), sum(scores[name] for name in likely)
    return label, confidence


def _rows(
    heads: Sequence[Head], each: Mapping[str, Tensor], straight: Straight, chosen: Sequence[int]
) -> list[dict[str, Any]]:
    """One row a slice, by the number that the slice has in the source."""
    rows = []
    for place, number in enumerate(chosen):
        row: dict[str, Any] = {"slice": straight.number(number)}
        for head in heads:
            found = finding(head, each[head.name][place].tolist())
            row[head.name] = found["label"]
            row.setdefault("confidence", found["confidence"])
        rows.append(row)
    return sorted(rows, key=lambda row: row["slice"])
