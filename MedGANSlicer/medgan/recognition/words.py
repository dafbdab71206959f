"""What was seen, in sentences: the answer, what it is good for, and what does not go together. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medgan.models import ModelCard

RESEARCH = "For research only; not a diagnosis."

SURE_OF_PLANE = 0.98
"""So sure of the plane of the slices recognition must be to doubt the geometry: of halves and thick slices it was
wrongly up to 0.97."""

HELPS = {"noise": "noise", "blur": "blur", "slice thickness": "resolution"}
"""What an enhancement model has to restore, by the finding about the quality."""

_WHY = {"noise": "takes the noise away", "blur": "sharpens it", "resolution": "makes thinner slices"}


def sentence(what: Mapping[str, Mapping[str, Any]]) -> str:
    """The answers in one sentence, as in "MR, FLAIR, head, axial slices."."""
    kind, region, plane = (what.get(name, {"unknown": True, "nearest": ""}) for name in ("kind", "region", "plane"))
    rest = [] if region["unknown"] else [region["label"]]
    rest += [] if plane["unknown"] else [f"{plane['label']} slices"]
    if kind["unknown"]:
        if not kind["nearest"] or kind.get("none_of_these", 0.0) >= 0.5:
            return "Unknown: it looks like no scan that the model knows."
        near = f"Unknown: nearest is {kind['nearest']} ({percent(kind['confidence'])})"
        return ", ".join([near, *rest]) + "."
    first = kind["label"].replace("MR ", "MR, ") if kind["label"] != "MR" else "MR of an unclear contrast"
    text = ", ".join([first, *rest]) + "."
    return text[0].upper() + text[1:]


def percent(confidence: float) -> str:
    """A confidence for people; never 100 %."""
    return f"{min(99, round(100 * confidence))} %"


def warnings(what: Mapping[str, Mapping[str, Any]], plane: str) -> list[str]:
    """What the picture and the geometry (its name of the slices' plane) say differently."""
    seen = what.get("plane")
    if not seen or not plane or seen["unknown"] or what["kind"]["unknown"]:
        return []
    if seen["confidence"] >= SURE_OF_PLANE and seen["label"] != plane:
        return [
            f"The slices look {seen['label']} ({percent(seen['confidence'])}), but the file's geometry calls them "
            f"{plane}; check the orientation of the volume."
        ]
    return []


def advice(
    what: Mapping[str, Mapping[str, Any]], quality: Sequence[Mapping[str, Any]], cards: Mapping[str, ModelCard]
) -> list[dict[str, str]]:
    """Which task and model fit, each with a sentence. Models whose card names other kinds of scan are left out."""
    kind, region = what["kind"], what.get("region", {"unknown": True, "label": ""})
    if kind["unknown"]:
        return []
    found: list[dict[str, str]] = []

    def add(task: str, card: ModelCard, text: str) -> None:
        found.append({"task": task, "model": card.name, "sentence": text})

    family, head = kind["label"].split(" ")[0], not region["unknown"] and region["label"] == "head"
    if kind["label"] == "label map":
        card = first_card(cards, "label-to-volume", "")
        if card is not None and head:
            add("synthesize", card, f"'{card.name}' makes scans of this label map.")
        return found
    for seen in quality:
        restores = HELPS.get(str(seen.get("name")))
        card = first_card(cards, "enhance", family, restores) if restores and seen.get("remark") else None
        if card is not None and restores is not None:
            add("enhance", card, f"{seen['sentence']} '{card.name}' {_WHY[restores]}.")
    if head and family in ("MR", "CT") and "brain-parts" in cards:
        add("segment", cards["brain-parts"], "'brain-parts' names the structures of the brain.")
    elif family == "CT" and not region["unknown"] and "tissue-ct" in cards:
        add("segment", cards["tissue-ct"], "'tissue-ct' parts the body into soft tissue, fat, bone and air.")
    unusual = first_card(cards, "anomaly", family)
    if head and unusual is not None:
        add("anomaly", unusual, f"'{unusual.name}' shows what is unlike healthy heads.")
    return found


def first_card(cards: Mapping[str, ModelCard], task: str, family: str, restores: str | None = None) -> ModelCard | None:
    """The first model for a task that names this family of scans, or none at all."""
    for card in cards.values():
        known = not family or not card.modality or family in card.modality
        if card.task == task and known and restores in (None, card.restores):
            return card
    return None
