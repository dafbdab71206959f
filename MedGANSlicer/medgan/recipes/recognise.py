"""Train recognition: ``python -m medgan.recipes.recognise --data DIR --out DIR --leave-out JSON --minutes 12``.

Stacks of six slices of real and made volumes, cut, turned, windowed, blurred and made noisy at random; for each
stack and each slice the network tells the kind of scan, the part of the body and the plane. What is no scan has an
answer of its own. Stops when the time or the steps are spent, goes on from its checkpoint with the same command, then
finds the temperature of each head on the volumes named "validation" and writes ``model.pt`` (float16) and
``calibration.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.recognise import RecogniseNet
from medgan.recipes import files
from medgan.recipes.data import data_folder
from medgan.recipes.recognise_calibration import calibrated
from medgan.recipes.recognise_data import Examples
from medgan.recipes.recognise_scans import HEADS, label_heads, load
from medgan.recipes.recognise_views import View
from medgan.recipes.training import left_out

WEIGHTS = {"kind": 1.0, "region": 0.7, "plane": 0.5}
OF_SLICES = 0.5
"""How much the answers of the slices count beside those of the volumes."""

HELD_MAPS = ("synthseg_17", "synthseg_18", "synthseg_19", "synthseg_20")
"""Label maps that training never sees; 17 and 19 are for validation."""


def losses(network: RecogniseNet, views: list[View]) -> dict[str, Tensor]:
    """What is still wrong in the answers, by head; and the share of right answers to "kind"."""
    slices = torch.stack([view.slices for view in views])[:, None]
    told = torch.stack([view.cues for view in views])
    weight = torch.stack([view.weight for view in views])
    found = {}
    for head, (volume, each) in network.answers(slices, told).items():
        wanted = torch.stack([view.volume[head] for view in views])
        wanted_each = torch.stack([view.each[head] for view in views])
        of_slices = F.cross_entropy(each.flatten(0, 1), wanted_each.flatten(0, 1), reduction="none").view_as(weight)
        of_slices = (of_slices * weight).sum() / weight.sum().clamp_min(1)
        found[head] = F.cross_entropy(volume, wanted, label_smoothing=0.02) + OF_SLICES * of_slices
        if head == "kind":
            found["right"] = (volume.argmax(-1) == wanted.argmax(-1)).float().mean()
    return found


class Trainer:
    """All that a run has to keep to go on later as if nothing had happened."""

    def __init__(self, options: argparse.Namespace, examples: Examples) -> None:
        self.options, self.examples = options, examples
        torch.manual_seed(options.seed)
        self.network = RecogniseNet({name: len(answers) for name, answers in HEADS.items()})
        if options.start:
            self.network.load_state_dict(torch.load(options.start, map_location="cpu", weights_only=True))
        self.network.to(options.device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=options.rate, weight_decay=0.02)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step, self.elapsed = 0, 0.0

    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1: the larger of time and steps."""
        by_time = self.elapsed / (60.0 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_time, self.step / self.options.steps if self.options.steps else 0.0)

    def train(self) -> None:
        saved, sums = time.monotonic(), {}  # type: ignore[var-annotated]
        first = self.options.made
        made = -(-self.step // 4)  # one at every fourth step, after those to begin with
        for number in range(made, made + first):
            self.examples.make(number, self.options.seed, first)
        self.network.train()
        while self.share() < 1.0:
            begun = time.monotonic()
            if self.step % 4 == 0:
                self.examples.make(self.step // 4 + first, self.options.seed, first)
            views = [self.examples.view(self.generator) for _ in range(self.options.batch)]
            warm = min(1.0, (self.step + 1) / 80)
            for group in self.optimiser.param_groups:
                group["lr"] = self.options.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.share())))
            found = losses(self.network, views)
            loss = torch.stack([weight * found[head] for head, weight in WEIGHTS.items()]).sum()
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            self.elapsed += time.monotonic() - begun
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / self.options.log_every
            if self.step % self.options.log_every == 0:
                files.log({"step": self.step, "share": self.share(), "seconds": self.elapsed, **sums}, self.options.out)
                sums = {}
            if time.monotonic() - saved > 60.0 * self.options.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()
        self.network.eval()
        files.save(files.halved(self.network.state_dict()), self.options.out / "model.pt")

    def save(self) -> None:
        state = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}
        state |= {"elapsed": self.elapsed, "random": self.generator.get_state()}
        state |= {"dropout": torch.get_rng_state()}
        files.save(state, self.options.out / "checkpoint.pt")

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder, if there is one."""
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["random"])
        torch.set_rng_state(state["dropout"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"going on from step {self.step}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    options.add_argument("--leave-out", type=Path, required=True, help="JSON file with the volumes never to train on")
    options.add_argument("--minutes", type=float, default=12.0, help="time budget; 0: none")
    options.add_argument("--steps", type=int, default=0, help="step budget; 0: none")
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    options.add_argument("--made", type=int, default=48, help="made volumes to begin with")
    options.add_argument("--save-minutes", type=float, default=3.0)
    options.add_argument("--log-every", type=int, default=20)
    options.add_argument("--start", type=Path, help="weights (model.pt) to start from instead of random ones")
    options.add_argument("--device", default="cpu")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(arguments)
    if not chosen.minutes and not chosen.steps:
        raise SystemExit("Give a budget: --minutes, --steps or both.")
    chosen.out.mkdir(parents=True, exist_ok=True)
    manifest = chosen.data / "manifest.csv"
    real = load(manifest, left_out=left_out(str(chosen.leave_out)) | set(HELD_MAPS) | {"sts006_MR_T1_mask",
                "sts006_CT_mask", "sts006_PET_mask"})  # fmt: skip
    examples = Examples(real, label_heads(real))
    print(f"{len(real)} volumes: {', '.join(example.name for example in real)}", flush=True)
    trainer = Trainer(chosen, examples)
    trainer.resume()
    trainer.train()
    rows = json.loads(chosen.leave_out.read_text(encoding="utf-8"))["validation"]
    stems = {Path(row["file"]).name.removesuffix(".nii.gz") for row in rows} | {"synthseg_17", "synthseg_19"}
    held = load(manifest, stems)
    found = calibrated(trainer.network.cpu(), Examples(held, label_heads(held)), chosen.seed)
    (chosen.out / "calibration.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
