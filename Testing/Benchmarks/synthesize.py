"""Figures of synthesis: ``python Testing/Benchmarks/synthesize.py --data DATA --output results --quick``.

Made brains against real ones that no training has seen, beside the Gaussian-mixture rendering of the same label maps:
what is made (synthesize_samples.py), from what real scans (synthesize_real.py), how near and how different
(synthesize_figures.py), whether scans were learned by heart (synthesize_memory.py), and whether a segmenter learns from
them (synthesize_use.py). ``--model`` and ``--noise-model`` name the models; "" leaves one out.

Writes ``synthesize.json`` and ``synthesize.md``. Everything is kept under ``synthesize-cache`` as it gets ready, by
what it was computed from, so a run that was interrupted goes on, and one with other weights keeps what does not depend
on them. ``--quick`` takes about a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "MedGANSlicer")]

import numpy as np  # noqa: E402
import synthesize_figures as figures  # noqa: E402
import synthesize_memory as memory  # noqa: E402
import synthesize_report as report  # noqa: E402
import synthesize_use as use  # noqa: E402
import torch  # noqa: E402
from synthesize_real import CONTRASTS, heads, patient, seen_heads, tissues, tissues_of_codes, unit  # noqa: E402
from synthesize_samples import METHODS, Sample, samples  # noqa: E402

from medgan.models import find  # noqa: E402


@dataclass(frozen=True)
class Amount:
    """How much is done: samples of a contrast, cubes of a brain, scans they are looked for in, steps and contrasts of
    the segmenter, its seeds, label maps that shapes are compared with."""

    samples: int
    cubes: int
    scans: int
    steps: int
    contrasts: tuple[str, ...]
    seeds: int
    shapes: int


QUICK = Amount(2, 4, 2, 160, ("T1",), 1, 6)
FULL = Amount(8, 16, 6, 800, CONTRASTS, 3, 16)


class Shelf:
    """What was computed before, by what it was computed from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, kind: str, make: Callable[[], Any], *arrays: np.ndarray, also: str = "") -> Any:
        """What ``make`` returns (plain JSON), from the file of ``kind`` and these arrays if there is one."""
        whole = hashlib.sha256(also.encode())
        for array in arrays:
            whole.update(np.ascontiguousarray(array, np.float16).tobytes())
        path = self.folder / f"{kind}_{whole.hexdigest()[:16]}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        begun = time.monotonic()
        found = make()
        part = path.with_suffix(".part")
        part.write_text(json.dumps(found), encoding="utf-8")
        os.replace(part, path)
        print(f"{kind}: {time.monotonic() - begun:.1f} s", flush=True)
        return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with mr and labels")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="label-to-volume", help="makes volumes from label maps")
    parser.add_argument("--noise-model", default="brain-from-noise", help="makes them from noise")
    parser.add_argument("--quick", action="store_true", help="about a quarter of an hour on one core")
    parser.add_argument("--only", choices=("figures", "memory", "use"), nargs="+", default=["figures", "memory", "use"])
    parser.add_argument("--segmenters", type=int, default=0, help="seeds of the segmenter; 0: 1 if quick, else 3")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    amount = QUICK if options.quick else FULL
    if options.segmenters:
        amount = replace(amount, seeds=options.segmenters)
    models = {key: name for key, name in (("labels", options.model), ("noise", options.noise_model)) if name}
    shelf = Shelf(options.output / "synthesize-cache")
    made: list[Sample] = []
    for key, name in models.items():
        weights = "".join(weight.sha256 for weight in find(name).weights.values())
        if key == "noise":  # its volumes come from the other model as well
            weights += "".join(weight.sha256 for weight in find(options.model or "label-to-volume").weights.values())
        cache = shelf.folder / f"{key}_{hashlib.sha256(weights.encode()).hexdigest()[:12]}_{options.seed}"
        made += samples(options.data, {key: name}, amount.samples, options.seed, cache)
    held: dict[str, Any] = {"models": models, "seed": options.seed, "quick": options.quick, "made": seconds_of(made)}
    for stage, measure in (("figures", measured_figures), ("memory", measured_memory), ("use", measured_use)):
        if stage in options.only:
            held[stage] = measure(options.data, made, amount, shelf)
            (options.output / "synthesize.json").write_text(json.dumps(held, indent=1), encoding="utf-8")
            (options.output / "synthesize.md").write_text(report.markdown(held), encoding="utf-8")
    print(report.markdown(held))


def seconds_of(made: list[Sample]) -> dict[str, float]:
    """How long a volume took, by group, on this machine."""
    return {
        group: float(np.mean([sample.seconds for sample in made if sample.group == group]))
        for group in dict.fromkeys(sample.group for sample in made)
    }


def measured_figures(data: Path, made: list[Sample], amount: Amount, shelf: Shelf) -> list[dict[str, Any]]:
    return figures.all_figures(made, patient(data, "held out"), patient(data, "other"), shelf.keep)


def measured_memory(data: Path, made: list[Sample], amount: Amount, shelf: Shelf) -> list[dict[str, Any]]:
    """One row for each group and method, and one for the held-out patient."""
    held_out = {contrast: unit(volume) for contrast, volume in patient(data, "held out").scans.items()}
    scans = {name: unit(volume) for name, volume in seen_heads(data).items()}
    points = {name: shelf.keep("points", lambda i=image: figures.points(i).tolist(), image)
              for name, image in scans.items()}  # fmt: skip
    seen = np.concatenate([np.array(each) for each in points.values()])
    searched = [scans[name] for name in sorted(scans, key=lambda name: (not name.endswith("T1"), name))[: amount.scans]]

    def row(images: list[np.ndarray]) -> dict[str, float]:
        place = np.concatenate([np.array(shelf.keep("points", lambda i=i: figures.points(i).tolist(), i))
                                for i in images])  # fmt: skip
        found = []
        for number, image in enumerate(images):
            wanted = memory.cubes(image, amount.cubes, number)
            found += shelf.keep(
                f"correlations{len(searched)}x{amount.cubes}",
                lambda w=wanted: np.max([memory.correlations(w, scan) for scan in searched], axis=0).tolist(),
                *wanted,
            )
        return {
            "nearest": float(np.median(memory.nearest(place, seen))),
            "nearer": memory.nearer_share(place, seen, real),
            "correlation": float(np.mean(found)),
            "largest": float(np.max(found)),
        }

    real = np.concatenate([np.array(shelf.keep("points", lambda i=i: figures.points(i).tolist(), i))
                           for i in held_out.values()])  # fmt: skip
    rows: list[dict[str, Any]] = [{"group": "real", "method": "held-out patient", **row(list(held_out.values()))}]
    for group in dict.fromkeys(sample.group for sample in made):
        for method in METHODS:
            images = [s.image(method) for s in made if s.group == group and (s.number == 0 or amount.samples > 2)]
            rows.append({"group": group, "method": method, **row(images)})
    if any(sample.group == "from noise" for sample in made):
        rows += _shapes(data, made, amount, shelf)
    return rows


def _shapes(data: Path, made: list[Sample], amount: Amount, shelf: Shelf) -> list[dict[str, Any]]:
    names = tuple(f"synthseg_{number:02d}" for number in range(1, amount.shapes + 1))
    training = [
        np.array(shelf.keep("shape", lambda n=name: memory.shape_of(heads(data, (n,))[0].array).tolist(), also=name))
        for name in names
    ]
    among = [max(memory.likeness(one, other) for other in training if other is not one) for one in training]
    noise = {sample.number: sample for sample in made if sample.group == "from noise"}
    ours = [max(memory.likeness(memory.shape_of(s.labels), other) for other in training) for s in noise.values()]
    said = {"real": among, "from noise": ours}
    return [{"group": group, "method": "shape", "mean": float(np.mean(found)), "largest": float(np.max(found))}
            for group, found in said.items()]  # fmt: skip


def measured_use(data: Path, made: list[Sample], amount: Amount, shelf: Shelf) -> list[dict[str, Any]]:
    """Dice on the held-out patient by contrast, kind of training pair and seed."""
    held_out, other = patient(data, "held out"), patient(data, "other")
    truth = tissues(held_out)
    rows = []
    for contrast in amount.contrasts:
        pairs = {("real", "other patient"): [(unit(other.scans[contrast]), tissues(other))]}
        for group in ("heads", "from noise"):
            these = [sample for sample in made if (sample.group, sample.contrast) == (group, contrast)]
            for method in METHODS if these else ():
                pairs[group, method] = [(s.image(method), tissues_of_codes(s.labels)) for s in these]
        image = unit(held_out.scans[contrast])
        for (group, method), shown in pairs.items():
            for seed in range(amount.seeds):
                found = shelf.keep(
                    f"use{amount.steps}_{seed}",
                    lambda p=shown, s=seed, i=image: use.dice(use.taught(p, amount.steps, s), i, truth),
                    *(each for pair in shown for each in pair), image, truth,
                )  # fmt: skip
                rows.append({"group": group, "method": method, "contrast": contrast, "seed": seed, **found})
    return rows


if __name__ == "__main__":
    main()
