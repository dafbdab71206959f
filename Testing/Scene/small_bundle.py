"""Real models that need no training: the networks start as plain filters or as an interpolation."""

from __future__ import annotations

import json
from pathlib import Path

NETWORKS_OF = {
    "noise": ("medgan.DenoiseNet", {"channels": 4, "deep_channels": 8, "deep_pairs": 1}),
    "resolution": ("medgan.SliceNet", {"channels": 8, "pairs": 1}),
}


def save_bundle(folder: Path, restores: str = "noise") -> Path:
    """A bundle in ``folder`` with the untrained, small network of the shipped model. Returns the folder."""
    import torch

    from medgan.models import sha256_of
    from medgan.networks import NETWORKS

    name, arguments = NETWORKS_OF[restores]
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    weights = folder / "models" / "model.pt"
    torch.manual_seed(0)
    torch.save(NETWORKS[name](**arguments).state_dict(), weights)
    ours = {
        "title": "Untrained",
        "network": name,
        "network_arguments": arguments,
        "restores": restores,
        "weights": {"faithful": {"file": "models/model.pt", "sha256": sha256_of(weights)}},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.0.1", "medgan": ours}))
    return folder
