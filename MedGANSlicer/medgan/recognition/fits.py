"""Whether a volume looks like what a model was trained on: sentences for when it surely does not."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from medgan.inference import fill_not_finite
from medgan.models import ModelCard, ModelError, build_network, find, load_state
from medgan.recognition.look import Head, heads_of, look
from medgan.recognition.words import percent
from medgan.volume import LabelMap, Volume

MODEL = "recognise"

SURE = 0.95
"""Only answers at least so sure make a sentence: a wrong warning costs more trust than a missing one."""

FEWEST = (4, 24, 24)
"""Voxels along the axes, from the shortest, below which nothing is said."""

FAMILIES = ("CT", "PET", "MR")


def fits(card: ModelCard, seen: Volume | LabelMap | Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each way in which a volume (or the ``what`` of its recognition) is surely not what a model was
    trained on; none when that is not known.

    A model says what it was trained on by the words CT, PET and MR (T1, T2, FLAIR) in the modality of its card, and by
    "regions" in its metadata. Takes under a second; a recognition that fails says nothing.
    """
    families = {name for name in FAMILIES if re.search(rf"\b{name}\b", card.modality)}
    if not families:
        return []
    what = seen if isinstance(seen, Mapping) else recognised(seen)
    kind = what.get("kind")
    if not kind:
        return []
    scores = kind["scores"]
    if scores.get("label map", 0.0) >= SURE:
        return [
            f"This looks like a label map ({percent(scores['label map'])}); model '{card.name}' was trained on scans "
            f"({card.modality})."
        ]
    said = []
    likely = {name: sum(p for label, p in scores.items() if label.split(" ")[0] == name) for name in FAMILIES}
    best = max(likely, key=lambda name: likely[name])
    if likely[best] >= SURE and best not in families:
        said.append(
            f"This looks like {best} ({percent(likely[best])}); model '{card.name}' was trained on {card.modality}."
        )
    own = sum(likely[name] for name in families)
    if not said and own < 1 - SURE and sum(scores.values()) > 0.5:  # else it looks like nothing that is known
        said.append(
            f"This hardly looks like {' or '.join(sorted(families))} ({percent(own)}); model '{card.name}' was trained "
            f"on {card.modality}."
        )
    contrasts = set(re.findall(r"\b(?:T1|T2|FLAIR)", card.modality))
    contrast = max((name for name in scores if name.startswith("MR ")), key=lambda name: scores[name], default="")
    if (
        families == {"MR"}
        and contrasts
        and scores.get(contrast, 0.0) >= SURE
        and contrast.split(" ")[1] not in contrasts
    ):
        said.append(
            f"This looks like {contrast} ({percent(scores[contrast])}); model '{card.name}' was trained on "
            f"{card.modality}."
        )
    regions = [str(name) for name in card.details.get("regions", ())]
    region = what.get("region")
    if regions and region and region["confidence"] >= SURE and region["label"] not in [*regions, "unknown"]:
        said.append(
            f"This looks like {region['label']} ({percent(region['confidence'])}); model '{card.name}' was trained on "
            f"{' and '.join(regions)}."
        )
    return said


def recognised(volume: Volume | LabelMap) -> dict[str, dict[str, Any]]:
    """A quick recognition of a volume by the shipped model; empty when there is none or nothing can be seen."""
    if any(side < least for side, least in zip(sorted(volume.shape), FEWEST, strict=True)):
        return {}
    try:
        network, heads = _shipped()
        if isinstance(volume, LabelMap):
            volume = Volume(volume.array, volume.ijk_to_ras, {}, volume.voxel_type)
        return look(network, heads, volume, _finite(volume.array), stacks=1).what
    except ModelError:
        return {}


def _finite(array: np.ndarray) -> np.ndarray:
    try:
        return fill_not_finite(array)[0]
    except ValueError as error:
        raise ModelError(str(error)) from error  # the task itself says so


@functools.lru_cache(maxsize=1)
def _shipped() -> tuple[nn.Module, tuple[Head, ...]]:
    card = find(MODEL)
    return build_network(card, load_state(card, next(iter(card.weights)))), tuple(heads_of(card))
