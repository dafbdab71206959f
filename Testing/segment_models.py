"""Bundles for segmentation tests: oracles that need no training, and a network as MONAI's model zoo has them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIDES = ({"name": "Left-Half", "value": 2}, {"name": "Right-Half", "value": 41})
STEPS = (
    {"name": "dim", "value": 7, "color": [0.1, 0.2, 0.3], "terminology": "a~b~c"},
    {"name": "bright", "value": 300},
)


class Steps(nn.Module):
    """Labels by intensity: each channel is likely near its own level of the last input channel, background at 0."""

    def __init__(self, levels: list[float], sharpness: float = 400.0) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor([0.0, *levels]).view(1, -1, 1, 1, 1))
        self.sharpness = sharpness

    def forward(self, image: Tensor) -> Tensor:
        return -self.sharpness * (image[:, -1:] - self.levels) ** 2


class Halves(nn.Module):
    """Labels by place: what is not dark is left in the first half of the last axis (R of a RAS volume), else right."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        place = torch.linspace(-1, 1, image.shape[-1]).expand_as(image)
        dark = 400.0 * (0.3 - image)
        return torch.cat([dark, -40.0 * place, 40.0 * place], 1)


NETWORKS = {"medgan.Steps": Steps, "medgan.Halves": Halves}
"""To be put into ``medgan.networks.NETWORKS`` by a fixture: they work in the test's own process."""


def oracle(folder: Path, network: str, labels: Any, arguments: dict[str, Any] | None = None, **ours: Any) -> Path:
    """A bundle of ours with one of the networks above."""
    made = NETWORKS[network](**(arguments or {}))
    entries = [{"index": n, **label} for n, label in enumerate(labels, 1)]
    said = {"task": "segment", "network": network, "network_arguments": arguments or {}, "labels": entries, **ours}
    return _write(folder, {"version": "0.1.0", "medgan": said}, made)


def zoo_bundle(
    folder: Path, *, sigmoid: bool = False, channels: int = 1, outputs: int = 3, intensities: Any = None, **names: str
) -> Path:
    """A small untrained U-Net as in MONAI's model zoo, with code in its configuration that must never run.

    ``intensities``: the transforms of intensities in its configuration.
    """
    from monai.networks.nets import UNet

    definition = {
        "spatial_dims": 3,
        "in_channels": channels,
        "out_channels": outputs,
        "channels": [4, 8],
        "strides": [2],
    }
    torch.manual_seed(3)
    network = UNet(**definition)
    named = names or {"0": "background", "1": "liver", "2": "tumour"}
    metadata = {
        "version": "1.0.0",
        "name": "A zoo model",
        "network_data_format": {
            "inputs": {"image": {"modality": "CT", "num_channels": channels, "channel_def": {"0": "image"}}},
            "outputs": {"pred": {"channel_def": named}},
        },
    }
    window = {"_target_": "ScaleIntensityRanged", "a_min": -100, "a_max": 300, "b_min": 0.0, "b_max": 1.0, "clip": True}
    config = {
        "imports": ["$import os"],
        "device": "$os.abort()",
        "network_def": {"_target_": "UNet", **definition},
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0], "mode": "bilinear"},
                *(intensities or [window]),
            ],
        },
        "postprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": sigmoid, "softmax": not sigmoid}]},
    }  # fmt: skip
    _write(folder, metadata, network, {"model": network.state_dict()})
    (folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def _write(folder: Path, metadata: dict[str, Any], network: nn.Module, held: Any = None) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    path = folder / "models" / "model.pt"
    torch.save(held or network.state_dict(), path)
    if "medgan" in metadata:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        metadata["medgan"]["weights"] = {"faithful": {"file": "models/model.pt", "sha256": digest}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    return folder
