"""How sure recognition may say to be: a temperature for each head, and the confidence below which it says "unknown".

``python -m medgan.recipes.recognise_calibration RUN_FOLDER BUNDLE_FOLDER`` puts trained weights and what was found here
into the bundle.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.networks.recognise import RecogniseNet
from medgan.recipes.bundle import update_bundle
from medgan.recipes.recognise_data import SHARES, Examples
from medgan.recipes.recognise_scans import HEADS
from medgan.recipes.recognise_views import view_of

MOST_WRONG = 0.1
"""Of the answers above the threshold, this share at most was wrong on the validation views."""

LEAST, MOST = 0.7, 0.95
"""Of the threshold. Lower ones keep as many right on those views, but not on what is none of the answers."""


@torch.no_grad()
def calibrated(
    network: RecogniseNet, examples: Examples, seed: int, views: int = 8, made: int = 40
) -> dict[str, dict[str, float]]:
    """For each head: temperature, threshold, and what they were found on. ``examples``: volumes never trained on.

    Each is looked at ``2 * views`` times, half of them altered as in training; ``made`` made ones come along.
    """
    generator = torch.Generator().manual_seed(seed + 77)
    for number in range(made):
        examples.make(number, seed + 1, made)
    network.eval()
    pools = [(example, n % 2 == 0) for kind in SHARES for example in examples.real[kind] for n in range(2 * views)]
    pools += [(example, n % 2 == 0) for kind in SHARES for example in examples.held[kind] for n in range(4)]
    said: dict[str, list[Tensor]] = {head: [] for head in HEADS}
    wanted: dict[str, list[Tensor]] = {head: [] for head in HEADS}
    for example, plain in pools:
        view = view_of(example, generator, plain)
        for head, (volume, _) in network.answers(view.slices[None, None], view.cues[None]).items():
            said[head].append(volume[0])
            wanted[head].append(view.volume[head])
    return {head: _of_head(torch.stack(said[head]), torch.stack(wanted[head])) for head in HEADS}


def _of_head(logits: Tensor, wanted: Tensor) -> dict[str, float]:
    """Temperature of least cross-entropy, and the lowest threshold that keeps enough of the answers right."""
    scales = np.exp(np.linspace(np.log(0.5), np.log(4.0), 60))
    costs = [float(F.cross_entropy(logits / float(scale), wanted)) for scale in scales]
    temperature = float(scales[int(np.argmin(costs))])
    probability = (logits / temperature).softmax(-1)
    best, place = probability[:, :-1].max(dim=-1)
    right = wanted.gather(1, place[:, None])[:, 0] > 0.3
    threshold = MOST
    for level in np.arange(LEAST, MOST, 0.01):
        sure = best >= level
        if float((~right[sure]).float().mean() if sure.any() else 0.0) <= MOST_WRONG:
            threshold = float(level)
            break
    sure = best >= threshold
    return {
        "temperature": round(temperature, 3),
        "threshold": round(threshold, 2),
        "views": len(logits),
        "answered": round(float(sure.float().mean()), 3),
        "right_of_answered": round(float(right[sure].float().mean()), 3),
    }


def into_bundle(run: Path, bundle: Path) -> None:
    """Weights, temperatures and thresholds of a run into a bundle. Raises ``ValueError``."""
    update_bundle(run, bundle)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    for head, found in json.loads((run / "calibration.json").read_text(encoding="utf-8")).items():
        metadata["medgan"]["heads"][head] |= {name: found[name] for name in ("temperature", "threshold")}
    path.write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    options = parser.parse_args()
    into_bundle(options.run, options.bundle)


if __name__ == "__main__":
    main()
