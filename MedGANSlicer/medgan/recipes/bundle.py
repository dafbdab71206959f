"""Put trained weights into a bundle: ``python -m medgan.recipes.bundle WEIGHTS_FOLDER BUNDLE_FOLDER``.

Puts ``model.pt`` and ``model_natural.pt`` (as the difference to the first) into the bundle and their SHA-256 into its
metadata, and what a recipe has left in ``about.json`` beside them; with ``--figures FILE`` the measured figures of a
benchmark (JSON object) go there as well. Everything else in the metadata stays as it is, so a new model starts from a
copy of an old bundle.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from medgan.models import sha256_of
from medgan.recipes import files

WEIGHTS = {"faithful": "model.pt", "natural": "model_natural.pt"}

FAITHFUL_BITS, ADDED_BITS = 5, 3
"""Binary digits after the first that a weight keeps, of the ten of float16: off by 0.8 % of its size on the
mean, which costs 0.001 dB (super-resolution, 15 validation cases)."""


def update_bundle(weights: Path, bundle: Path, figures: Path | None = None) -> None:
    """Copy the weights that there are and bring the metadata up to date. Raises ``ValueError``."""
    found = {key: weights / name for key, name in WEIGHTS.items() if (weights / name).exists()}
    if "faithful" not in found:
        raise ValueError(f"There is no {WEIGHTS['faithful']} in {weights}; train first.")
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    (bundle / "models").mkdir(exist_ok=True)
    metadata["medgan"]["weights"] = {}
    for key, name in WEIGHTS.items():
        if key not in found:  # those of another training are no pair with these
            (bundle / "models" / name).unlink(missing_ok=True)
    shutil.copyfile(found["faithful"], bundle / "models" / WEIGHTS["faithful"])
    if "natural" in found:
        _write_both(found["faithful"], found["natural"], bundle / "models")
    for key, source in found.items():
        entry = {"file": f"models/{source.name}", "sha256": sha256_of(bundle / "models" / source.name)}
        metadata["medgan"]["weights"][key] = entry | ({"added_to": "faithful"} if key == "natural" else {})
    arguments = weights / "arguments.json"  # where a recipe decides the network's size
    if arguments.exists():
        metadata["medgan"]["network_arguments"] = json.loads(arguments.read_text(encoding="utf-8"))
    about = weights / "about.json"
    if about.exists():
        metadata["medgan"].update(json.loads(about.read_text(encoding="utf-8")))
    if figures is not None:
        metadata["medgan"]["figures"] = json.loads(figures.read_text(encoding="utf-8"))
    path.write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_both(faithful: Path, natural: Path, folder: Path) -> None:
    """The faithful weights and what the natural ones add to them, with no more digits than either needs: a repository
    or an installer then compresses a pair to little more than half. Float16 both."""
    one, other = (torch.load(path, map_location="cpu", weights_only=True) for path in (faithful, natural))
    added = {name: tensor.float() - one[name].float() for name, tensor in other.items()}
    for state, key, bits in ((one, "faithful", FAITHFUL_BITS), (added, "natural", ADDED_BITS)):
        files.save({name: files.rounded(tensor, bits) for name, tensor in state.items()}, folder / WEIGHTS[key])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--figures", type=Path)
    options = parser.parse_args()
    update_bundle(options.weights, options.bundle, options.figures)


if __name__ == "__main__":
    main()
