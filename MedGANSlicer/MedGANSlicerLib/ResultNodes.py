"""The nodes that one result consists of: what they are called, what they hold, and what they say of their origin."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from MedGANSlicerLib.ResultDisplay import MapDisplay, showAsDifference, showAsUncertainty

RESULT_WORD = {"enhance": "denoised"}
"""The tasks for a volume, and what their result is called when the report does not say which steps were taken."""

STEP_WORD = {"noise": "denoised", "blur": "deblurred", "resolution": "super-resolved"}
"""What a result is called after its input, by what its only step restored."""

CHAIN_WORD = "enhanced"

SYNTHETIC = "voxels produced by a network"
"""Text of the attribute ``MedGAN.Synthetic`` of every result."""


@dataclass(frozen=True)
class MapKind:
    """A volume beside the result that says something of it. ``content``: its attribute ``MedGAN.Content``."""

    content: str
    show: MapDisplay


MAPS = {
    "difference": MapKind("result minus input", showAsDifference),
    "residual": MapKind("result measured again minus input", showAsDifference),
    "uncertainty": MapKind("standard deviation of the model's answers", showAsUncertainty),
}
"""The volumes beside the result, by their name in the task's outputs; the name also ends the name of the node."""

TRANSLATED_BACK = "result translated back minus input"
"""Content of the residual of a translated volume."""

PLACES_CONTENT = "places to check"

RESULT_ROLE = "MedGAN.Of"
"""Node reference of a map, or of the places to check, to the result that it says something of."""


@dataclass(frozen=True)
class ResultNodes:
    """``volume`` is the result; what was not made is None. All are sequences when the input was one."""

    volume: Any
    difference: Any = None
    residual: Any = None
    uncertainty: Any = None
    places: Any = None

    def present(self) -> list:
        """Those that there are, the result first."""
        nodes = [getattr(self, field.name) for field in fields(self)]
        return [node for node in nodes if node is not None]

    def each(self, change: Callable) -> ResultNodes:
        """What ``change`` makes of every node that there is."""
        nodes = {field.name: getattr(self, field.name) for field in fields(self)}
        return ResultNodes(**{name: None if node is None else change(node) for name, node in nodes.items()})


def partsOf(scene, result) -> dict[str, Any]:
    """What a scene holds beside a result node: maps under their names in ``MAPS``, and "places"."""
    contents = {MAPS[key].content: key for key in MAPS} | {TRANSLATED_BACK: "residual", PLACES_CONTENT: "places"}
    parts: dict[str, Any] = {}
    for node in scene.GetNodes():
        key = contents.get(node.GetAttribute("MedGAN.Content"))
        if key is not None and node.GetNodeReference(RESULT_ROLE) is result:
            parts.setdefault(key, node)  # a further one is a copy that the person made
    return parts


def resultWord(report: Mapping[str, Any], taskName: str) -> str:
    """What was done, as it stands after the name of the input: "denoised", "super-resolved", "enhanced"."""
    restored = [step.get("restores") for step in report.get("steps") or ()]
    if len(restored) > 1:
        return CHAIN_WORD
    return STEP_WORD.get(restored[0], CHAIN_WORD) if restored else RESULT_WORD[taskName]


def provenance(report: Mapping[str, Any], inputNode=None) -> dict[str, str]:
    """What a result node says about its origin, as node attributes: short text or compact JSON without TABs.

    A model of one's own is recorded by its name, not by the folder on this computer.
    """
    settings = {**report["settings"], "model": report["model"]}
    facts = {
        "Model": report["model"],
        "ModelVersion": report["model_version"],
        "ModelSHA256": report["model_sha256"],
        "Settings": settings,
        "Seed": report["seed"],
        "PackageVersion": report["package_version"],
        "Synthetic": SYNTHETIC,
        "SourceName": inputNode.GetName() if inputNode is not None else "",
    }
    told = {"Steps": "steps", "Consistency": "consistency", "Suspicions": "suspicions"}
    facts.update({name: report[key] for name, key in told.items() if report.get(key)})
    return {f"MedGAN.{name}": _asText(value) for name, value in facts.items()}


def ofMeasured(report: Mapping[str, Any], inputNode=None) -> dict[str, str]:
    """The same for a node that says something of measured voxels: none was made up."""
    told = provenance(report, inputNode)
    del told["MedGAN.Synthetic"]
    return told


def _asText(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)
