"""A real model that needs no training: the network starts as a shrinkage of cosine coefficients, which denoises."""

from __future__ import annotations

import json
from pathlib import Path


def save_bundle(folder: Path) -> Path:
    """A bundle in ``folder`` with the untrained, small network of the shipped model. Returns the folder."""
    import torch

    from medgan.models import sha256_of
    from medgan.networks import NETWORKS

    arguments = {"channels": 4, "deep_channels": 8, "deep_pairs": 1}
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    weights = folder / "models" / "model.pt"
    torch.manual_seed(0)
    torch.save(NETWORKS["medgan.DenoiseNet"](**arguments).state_dict(), weights)
    ours = {
        "title": "Untrained",
        "network": "medgan.DenoiseNet",
        "network_arguments": arguments,
        "weights": {"faithful": {"file": "models/model.pt", "sha256": sha256_of(weights)}},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.0.1", "medgan": ours}))
    return folder
