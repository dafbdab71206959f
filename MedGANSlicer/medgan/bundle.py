"""One MONAI bundle folder as a model card. Imports without torch and runs nothing of the bundle.

Our keys stand under "medgan" in ``configs/metadata.json``. A bundle from elsewhere has none: its network and the
arguments are read from ``configs/inference.json``, as JSON and never as MONAI's configuration language, which
runs every string that starts with a dollar sign.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MONAI_NETWORKS = (
    "AttentionUnet",
    "BasicUNet",
    "BasicUNetPlusPlus",
    "DynUNet",
    "FlexibleUNet",
    "SegResNet",
    "SegResNetDS",
    "SwinUNETR",
    "UNETR",
    "UNet",
    "VNet",
)
"""Networks of ``monai.networks.nets`` that a bundle may name, besides our own ``medgan.networks.NETWORKS``."""

MONAI_PREFIX = "monai.networks.nets."


class ModelError(ValueError):
    """A model that can not be used; the text is one sentence for a person."""


@dataclass(frozen=True)
class WeightFile:
    """A state dict on disk. ``sha256`` is '' for bundles from elsewhere, which state none.

    ``added_to``: the key of the weights whose tensors are to be added to those of the file; '' for none.
    """

    path: Path
    sha256: str
    added_to: str = ""


@dataclass(frozen=True)
class ModelCard:
    """What a bundle says about its model; made without opening its weights."""

    name: str
    folder: Path
    network: str
    network_arguments: dict[str, Any]
    weights: dict[str, WeightFile]
    version: str = ""
    title: str = ""
    task: str = "enhance"
    modality: str = ""
    description: str = ""
    licence: str = ""
    intended_use: str = ""
    limits: str = ""
    trained_on: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    intensity: str = ""
    restores: str = "noise"
    """What an enhancement model takes away: "noise", "blur" or "resolution" (too few slices)."""
    details: dict[str, Any] = field(default_factory=dict)
    """All of "medgan" in its metadata.json: what tasks need besides, unchecked."""


RESTORES = ("noise", "blur", "resolution")
"""In the order in which they have to be restored: what comes later would sharpen what comes earlier."""


def read_card(folder: Path) -> ModelCard:
    """The card of one bundle folder. Raises :class:`ModelError` naming what is missing or wrong in it."""
    folder = folder.resolve()
    metadata = _json(folder, folder / "configs" / "metadata.json")
    ours = metadata.get("medgan")
    if ours is None:
        return _card_from_elsewhere(folder, metadata)
    if not isinstance(ours, dict):
        raise ModelError(f"Model '{folder.name}': \"medgan\" in its metadata.json must be an object.")
    weights = ours.get("weights")
    if not isinstance(weights, dict) or not weights:
        raise ModelError(f"Model '{folder.name}' names no weights in its metadata.json.")
    return ModelCard(
        name=folder.name,
        folder=folder,
        network=_allowed(folder, ours.get("network")),
        network_arguments=_literal(folder, ours.get("network_arguments", {})),
        weights={str(key): _weight_file(folder, entry) for key, entry in weights.items()},
        task=str(ours.get("task", "enhance")),
        restores=_restores(folder, ours.get("restores", "noise")),
        details=ours,
        **_said(folder, {**metadata, **ours}),
    )


def _json(folder: Path, path: Path) -> dict[str, Any]:
    where = f"'{path.parent.name}/{path.name}'"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"Model '{folder.name or folder}' has no readable {where}; a model is a MONAI bundle folder."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"Model '{folder.name}': {where} is not valid JSON; restore it from its source.") from error
    if not isinstance(held, dict):
        raise ModelError(f"Model '{folder.name}': {where} must hold one JSON object.")
    return held


def _card_from_elsewhere(folder: Path, metadata: dict[str, Any]) -> ModelCard:
    """A MONAI bundle that does not know us: its network and its arguments stand in its inference config."""
    config = _json(folder, folder / "configs" / "inference.json")
    definition = config.get("network_def", config.get("network"))
    if not isinstance(definition, dict) or "_target_" not in definition:
        raise ModelError(f"Model '{folder.name}': its inference.json describes no network ('network_def').")
    arguments = {name: value for name, value in definition.items() if name not in ("_target_", "_disabled_", "_desc_")}
    image = metadata.get("network_data_format", {})
    for step in ("inputs", "image"):
        image = image.get(step, {}) if isinstance(image, dict) else {}
    metadata = {"modality": image.get("modality", "") if isinstance(image, dict) else "", **metadata}
    return ModelCard(
        name=folder.name,
        folder=folder,
        network=_allowed(folder, definition["_target_"]),
        network_arguments=_literal(folder, arguments),
        weights={"faithful": WeightFile(_inside(folder, "models/model.pt"), "")},
        task="enhance" if arguments.get("out_channels") == 1 else "segment",
        **_said(folder, metadata),
    )


def _restores(folder: Path, said: Any) -> str:
    if said not in RESTORES:
        raise ModelError(f"Model '{folder.name}' restores {said!r}; it must be one of {', '.join(RESTORES)}.")
    return str(said)


def _said(folder: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    def text(*keys: str) -> str:
        value = next((metadata[key] for key in keys if metadata.get(key)), "")
        return " ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else str(value)

    trained_on, figures = metadata.get("trained_on", ()), metadata.get("figures", {})
    return {
        "version": text("version"),
        "title": text("title", "name") or folder.name,
        "modality": text("modality"),
        "description": text("description"),
        "licence": text("licence", "license", "copyright"),
        "intended_use": text("intended_use"),
        "limits": text("limits"),
        "trained_on": tuple(str(part) for part in trained_on) if isinstance(trained_on, list) else (str(trained_on),),
        "figures": figures if isinstance(figures, dict) else {},
        "intensity": text("intensity"),
    }


def _allowed(folder: Path, target: Any) -> str:
    """The full name of a network. Ours are looked up when they are built, because they import torch."""
    if not isinstance(target, str):
        raise ModelError(f"Model '{folder.name}' names no network.")
    short = target.removeprefix(MONAI_PREFIX)
    if short in MONAI_NETWORKS:
        return MONAI_PREFIX + short
    if target.startswith("medgan."):
        return target
    raise ModelError(
        f"Model '{folder.name}' asks for the network '{target}', which is not on the list of known ones; "
        f"known are ours and {', '.join(MONAI_NETWORKS)} of MONAI."
    )


def _literal(folder: Path, arguments: Any) -> dict[str, Any]:
    """The arguments, when they are plain values. MONAI runs strings that start with $ and follows @ and %."""
    if not isinstance(arguments, dict):
        raise ModelError(f"Model '{folder.name}': the arguments of its network must be an object.")
    pending: list[Any] = [arguments]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if any(str(key).startswith("_") for key in value):
                raise ModelError(
                    f"Model '{folder.name}' builds objects inside its network arguments, which is not run."
                )
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and value.startswith(("$", "@", "%")):
            raise ModelError(
                f"Model '{folder.name}' has code in its configuration ({value[:40]!r}), which is never run; replace it "
                "by plain values."
            )
    return arguments


def _weight_file(folder: Path, entry: Any) -> WeightFile:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("file"), str)
        or not isinstance(entry.get("sha256"), str)
    ):
        raise ModelError(f'Model \'{folder.name}\' must give a "file" and a "sha256" for each of its weights.')
    if len(entry["sha256"]) != 64:
        raise ModelError(f"Model '{folder.name}': the SHA-256 of '{entry['file']}' must have 64 digits.")
    return WeightFile(_inside(folder, entry["file"]), entry["sha256"].lower(), str(entry.get("added_to") or ""))


def _inside(folder: Path, name: str) -> Path:
    try:
        path = (folder / name).resolve()
        there = path.is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise ModelError(f"Model '{folder.name}': {name[:40]!r} is no name of a weight file.") from error
    if not path.is_relative_to(folder):
        raise ModelError(f"Model '{folder.name}': the weights '{name}' lie outside its folder.")
    if not there:
        raise ModelError(f"Model '{folder.name}': its weights '{name}' are missing; install the model again.")
    return path
