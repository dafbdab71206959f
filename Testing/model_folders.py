"""Bundle folders to test with: a tiny untrained one of ours, ones from elsewhere, and bad ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

TINY = {"channels": 4, "deep_channels": 8, "pairs": 1, "deep_pairs": 1}
"""Arguments of a DenoiseNet that runs in a moment. Untrained it is a plain threshold in the cosine domain."""

MONAI_UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [2, 4],
    "strides": [2],
}


def write_bundle(
    folder: Path, *, arguments: dict[str, Any] | None = None, content: bytes | None = None, **ours: Any
) -> Path:
    """A bundle of ours with two equal sets of weights; ``content`` replaces the weight files, hashes fitting."""
    import torch

    from medgan.networks import NETWORKS

    torch.manual_seed(0)
    state = NETWORKS["medgan.DenoiseNet"](**TINY).state_dict()
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    weights = {}
    for key in ("faithful", "natural"):
        path = folder / "models" / f"model_{key}.pt"
        if content is None:
            torch.save({name: tensor.half() for name, tensor in state.items()}, path)
        else:
            path.write_bytes(content)
        weights[key] = {"file": f"models/{path.name}", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    metadata = {
        "version": "0.3.1",
        "task": "Denoising of volumes",
        "description": "A tiny network for tests.",
        "intended_use": "Tests.",
        "license": "Apache-2.0",
        "network_data_format": {"inputs": {"image": {"modality": "MR", "num_channels": 1}}},
        "medgan": {
            "title": "Tiny",
            "task": "enhance",
            "modality": "MR, CT",
            "network": "medgan.DenoiseNet",
            "network_arguments": TINY if arguments is None else arguments,
            "weights": weights,
            "trained_on": ["nothing"],
            "limits": "It has learned nothing.",
            "figures": {"psnr": 1.5},
            **ours,
        },
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    return folder


def write_monai_bundle(folder: Path, definition: dict[str, Any] | None = None) -> Path:
    """A bundle that does not know us, as the MONAI model zoo has them: ``$`` strings outside the network."""
    import torch
    from monai.networks.nets import UNet

    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.manual_seed(0)
    network = UNet(**{name: value for name, value in MONAI_UNET.items() if name != "_target_"})
    torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
    metadata = {
        "version": "1.0.0",
        "name": "A UNet",
        "description": "From elsewhere.",
        "network_data_format": {"inputs": {"image": {"modality": "CT", "num_channels": 1}}},
    }
    config = {
        "imports": ["$import os"],
        "device": "$os.abort()",
        "network_def": MONAI_UNET if definition is None else definition,
        "network": "$@network_def.to(@device)",
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    (folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


class _Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def pickled_code(trap: Path) -> bytes:
    """A .pt file that makes the file ``trap`` if anybody runs it."""
    import io

    import torch

    held = io.BytesIO()
    torch.save({"weight": torch.zeros(2), "trap": _Trap(trap)}, held)
    return held.getvalue()
