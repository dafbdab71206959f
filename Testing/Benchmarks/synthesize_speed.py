"""Time and peak memory of a volume from a label map, and of the generator of HA-GAN for the same size, in one run.

    python Testing/Benchmarks/synthesize_speed.py --output results

The peer is our own writing of the generator that Sun et al. describe (Hierarchical amortized GAN, IEEE JBHI 2022), with
random weights: one forward pass from a latent vector to 256 x 256 x 256 voxels, whole. Ours makes a volume of that size
from nested ellipsoids with eight labels: the whole task, with intensities, noise and the model's loading (``--more``
adds deformation, bias, slices and noise). Both in float32 and, where the processor multiplies bfloat16 numbers itself,
with bfloat16 convolutions (autocast), which is how ours is used there. Each is a process of its own on ``--cores``
cores, one after the other.

*Seconds* are those of the wall clock, *CPU* those that the processor worked (on a busy machine the better figure).
*Peak memory* is the highest resident size of the whole process, with Python and torch. GB are 1e9 bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "MedGANSlicer")]

import peers  # noqa: E402
from report import requirement, table  # noqa: E402

LIMIT_GB = 6.0

NAMES = {
    "peer": "HA-GAN generator, random weights, float32",
    "peer half": "HA-GAN generator, random weights, bfloat16",
    "ours": "{}, {}",
    "exact": "{}, float32",
    "more": "{}, {}, everything on",
}
"""What is measured, each in a process of its own."""


def ellipsoids(side: int) -> np.ndarray:
    """uint8 labels 0 to 8 [k, j, i] in a cube."""
    axis = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    radius = np.sqrt((axis[:, None, None] / 0.9) ** 2 + (axis[:, None] / 0.95) ** 2 + (axis / 0.8) ** 2)
    radius += 0.02 * np.sin(19 * axis)[:, None, None] * np.sin(23 * axis)[:, None]
    return (8 - np.digitize(radius, np.linspace(0.2, 1.0, 8))).astype(np.uint8)


def peer(side: int, half: bool) -> dict[str, Any]:
    """One forward pass of HA-GAN's generator; ``half``: its convolutions in bfloat16."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    class HaGan(nn.Module):
        """Latent vector (B, 1024) -> (B, 1, side, side, side)."""

        def __init__(self, channels: int = 32) -> None:
            super().__init__()
            wide = [16 * channels, 16 * channels, 16 * channels, 8 * channels, 4 * channels, 2 * channels, channels]
            self.start = side // 64
            self.first = nn.Linear(1024, wide[0] * self.start**3)
            self.convolve = nn.ModuleList(nn.Conv3d(near, far, 3, padding=1) for near, far in itertools.pairwise(wide))
            self.norm = nn.ModuleList(nn.GroupNorm(8, far) for far in wide[1:])
            self.last = nn.Conv3d(channels, 1, 3, padding=1)

        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            x = self.first(latent).view(len(latent), -1, *[self.start] * 3)
            for convolve, norm in zip(self.convolve, self.norm, strict=True):
                x = F.interpolate(F.relu(norm(convolve(x))), scale_factor=2)
            return torch.tanh(self.last(x))

    torch.manual_seed(0)
    network = HaGan().eval()
    begun, worked = time.perf_counter(), time.process_time()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        made = network(torch.randn(1, 1024))
    assert made.shape[2:] == (side,) * 3
    return {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - worked}


def ours(side: int, model: str, more: bool, exact: bool = False) -> dict[str, Any]:
    """A volume from a label map, the whole task; ``exact``: in float32 whatever the processor can."""
    from medgan import precision
    from medgan.settings import Contrast, SynthesizeSettings
    from medgan.tasks import synthesize
    from medgan.volume import LabelMap

    if exact:
        precision.fast_bfloat16 = lambda device: False
    labels = LabelMap(ellipsoids(side), np.eye(4))
    settings = SynthesizeSettings(model, contrast=Contrast.RANDOM)
    if more:
        settings.deformation_mm, settings.bias, settings.slice_mm, settings.noise = 5.0, 0.2, 3.0, 0.02
    begun, worked = time.perf_counter(), time.process_time()
    outputs = synthesize.run({"labels": labels}, settings)
    assert outputs.volumes["sample 1"].shape == (side,) * 3
    return {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - worked}


def in_child(options: argparse.Namespace, what: str) -> dict[str, Any]:
    """The figures of one measurement in a process of its own."""
    words = [
        sys.executable,
        str(Path(__file__)),
        "--child",
        what,
        "--side",
        str(options.side),
        "--model",
        options.model,
    ]
    words += ["--cores", str(options.cores)]
    environment = {**os.environ, **dict.fromkeys(peers.THREADS, str(options.cores))}
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="folder for synthesize_speed.md and .json")
    parser.add_argument("--side", type=int, default=256, help="voxels along each side, a multiple of 64")
    parser.add_argument("--model", default="label-to-volume")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--more", action="store_true", help="also with deformation, bias, slices and noise")
    parser.add_argument("--child", choices=list(NAMES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        peers.keep_to_cores(options.cores)
        if options.child.startswith("peer"):
            found = peer(options.side, options.child == "peer half")
        else:
            found = ours(options.side, options.model, options.child == "more", options.child == "exact")
        print(json.dumps({**found, "peak_memory_mb": peers.peak_memory_mb()}))
        return 0
    import torch

    from medgan.precision import fast_bfloat16

    half = fast_bfloat16(torch.device("cpu"))
    wanted = ["peer", "ours", *(["peer half", "exact"] if half else []), *(["more"] if options.more else [])]
    measured = {what: in_child(options, what) for what in wanted}
    names = {what: name.format(options.model, "bfloat16" if half else "float32") for what, name in NAMES.items()}
    body = [
        [names[what], f"{one['seconds']:.1f}", f"{one['cpu']:.1f}", f"{one['peak_memory_mb'] / 1000:.2f}"]
        for what, one in measured.items()
    ]
    cpu = {what: one["cpu"] for what, one in measured.items()}
    pairs = [("ours", "peer"), *([("ours", "peer half"), ("exact", "peer")] if half else [])]
    peak = measured["ours"]["peak_memory_mb"] / 1000
    asked = []
    for what, than in pairs:
        ratio = cpu[what] / cpu[than]
        title = f"{names[what]}: faster than {names[than]}"
        asked.append(requirement(title, ratio < 1.0, f"{ratio:.2f} of its CPU time"))
    asked.append(requirement(f"peak memory under {LIMIT_GB:g} GB", peak < LIMIT_GB, f"{peak:.2f} GB"))
    lines = [f"{options.side} voxels a side, {options.cores} CPU cores", ""]
    lines += table(["", "seconds", "CPU", "peak memory, GB"], body)
    lines += ["", *(f"- {entry['asked']}: {entry['verdict']} ({entry['numbers']})" for entry in asked)]
    print("\n".join(lines))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "synthesize_speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (options.output / "synthesize_speed.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
