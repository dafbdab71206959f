"""Train ``translate``: ``python -m medgan.recipes.contrast --data DATA --out DIR --minutes 15``.

First the best fixed curve for each pair of contrasts (least squares), which the network starts as; then the network,
on crops of scans of two heads in three contrasts and of pairs made from label maps. Saves every few minutes and goes
on from there when started again. At the end it writes ``model.pt`` (float16) and measures the validation head.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.networks.contrast import BRIGHTEST, CONTRASTS, ContrastNet, local_mean
from medgan.precision import training_autocast
from medgan.recipes import files
from medgan.recipes.contrast_data import TRAINING, VALIDATION, Pairs, load_triples
from medgan.recipes.data import data_folder, load_label_maps

HELD_OUT_MAPS = 4
"""The last label maps of the manifest, which are kept for validation and report."""

SPREAD_WEIGHT = 2.0
EDGE_WEIGHT = 0.5


class Trainer:
    """All that a run has to keep to go on later as if nothing had happened."""

    def __init__(self, options: argparse.Namespace, pairs: Pairs) -> None:
        self.options, self.pairs = options, pairs
        torch.manual_seed(options.seed)
        self.network = ContrastNet()
        with torch.no_grad():
            self.network.curves.copy_(fitted_curves(pairs.triples, self.network.knots))
        self.network.to(options.device)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=options.rate, weight_decay=1e-3)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step, self.elapsed = 0, 0.0

    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1: the larger of time and steps."""
        by_time = self.elapsed / (60.0 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_time, self.step / self.options.steps if self.options.steps else 0.0)

    def train(self) -> None:
        """Run until the budget is spent, saving every few minutes."""
        saved, sums = time.monotonic(), {}  # type: ignore[var-annotated]
        while self.share() < 1.0:
            begun = time.monotonic()
            for group in self.optimiser.param_groups:
                warm = min(1.0, (self.step + 1) / 50)
                group["lr"] = self.options.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.share())))
            losses = self._losses()
            self.optimiser.zero_grad(set_to_none=True)
            (losses["error"] + EDGE_WEIGHT * losses["edges"] + SPREAD_WEIGHT * losses["spread"]).backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimiser.step()
            self.step += 1
            self.elapsed += time.monotonic() - begun
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach()) / self.options.log_every
            if self.step % self.options.log_every == 0:
                files.log({"step": self.step, "share": self.share(), "seconds": self.elapsed, **sums}, self.options.out)
                sums = {}
            if time.monotonic() - saved > 60.0 * self.options.save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()
        files.save(files.halved(self.network.cpu().state_dict()), self.options.out / "model.pt")

    def _losses(self) -> dict[str, Tensor]:
        crops = [self.pairs.crop(self.generator) for _ in range(self.options.batch)]
        source, target = (torch.stack([getattr(crop, name) for crop in crops])[:, None].to(self.options.device)
                          for name in ("source", "target"))  # fmt: skip
        codes = (torch.tensor([getattr(crop, name) for crop in crops], device=self.options.device)
                 for name in ("source_code", "target_code"))  # fmt: skip
        with training_autocast(source.device):
            answer = self.network(source, *codes)
        made, spread = answer.float().split(1, dim=1)
        weight = (F.max_pool3d(source, 3, 1, 1) > 0).float() + 0.02
        weight = weight / weight.mean()
        off = (made - target).abs()
        edges = [((made.diff(dim=axis) - target.diff(dim=axis)).abs()).mean() for axis in (2, 3, 4)]
        return {
            "error": (weight * off).mean(),
            "edges": torch.stack(edges).mean(),
            "spread": (weight * (spread - local_mean(off.detach())).square()).mean(),
        }

    def save(self) -> None:
        state = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}
        state |= {"elapsed": self.elapsed, "random": self.generator.get_state()}
        files.save(state, self.options.out / "checkpoint.pt")

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, or from weights alone."""
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        if "optimiser" not in state:
            self.network.load_state_dict(state)
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["random"].cpu())
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"going on from step {self.step}", flush=True)


def fitted_curves(triples: dict[str, Tensor], knots: int) -> Tensor:
    """(3, 3, knots) the curve of each source to each target with the least mean square error over all heads."""
    place = torch.arange(knots)
    curves = torch.linspace(0.0, BRIGHTEST, knots).expand(len(CONTRASTS), len(CONTRASTS), knots).clone()
    for source in range(len(CONTRASTS)):
        for target in range(len(CONTRASTS)):
            if source == target:
                continue
            matrix, wanted = 1e-2 * torch.eye(knots, dtype=torch.float64), 1e-2 * curves[source, target].double()
            for triple in triples.values():
                where = triple[source].flatten() > 0.02
                x, y = (triple[code].flatten()[where][::7].float() for code in (source, target))
                x = (x * (knots - 1) / BRIGHTEST).clamp(0.0, knots - 1.0)
                hats = (1.0 - (x[:, None] - place).abs()).clamp_min(0.0)
                matrix += (hats.T @ hats).double() / len(x)
                wanted += (hats.T @ y).double() / len(x)
            curves[source, target] = torch.linalg.solve(matrix, wanted).float()
            curves[source, target, 0] = 0.0
    return curves


@torch.no_grad()
def validated(network: ContrastNet, triples: dict[str, Tensor], side: int = 96) -> dict[str, float]:
    """Mean absolute error in the middle of each head by pair of contrasts, with the network's own guess of it."""
    network.eval()
    found: dict[str, float] = {}
    for triple in triples.values():
        start = [max(0, (n - side) // 2) for n in triple.shape[1:]]
        box = triple[(slice(None), *(slice(first, first + side) for first in start))].float()
        for source, name in enumerate(CONTRASTS):
            for target, other in enumerate(CONTRASTS):
                if source != target:
                    codes = torch.tensor([source]), torch.tensor([target])
                    made, spread = network(box[source][None, None], *codes)[0]
                    inside = box[source] > 0.02
                    found[f"{name} to {other}"] = float((made - box[target]).abs()[inside].mean())
                    found[f"{name} to {other}, said"] = float(spread[inside].mean())
    return found


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    options.add_argument("--minutes", type=float, default=15.0, help="time budget; 0: none")
    options.add_argument("--steps", type=int, default=0, help="step budget; 0: none")
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--side", type=int, default=56, help="voxels along the side of a crop")
    options.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    options.add_argument("--device", default="cpu")
    options.add_argument("--start", type=Path, help="checkpoint or weights to start from, if there is none in --out")
    options.add_argument("--save-minutes", type=float, default=4.0)
    options.add_argument("--log-every", type=int, default=20)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(arguments)
    if not chosen.minutes and not chosen.steps:
        raise SystemExit("Give a budget: --minutes, --steps or both.")
    chosen.out.mkdir(parents=True, exist_ok=True)
    maps = load_label_maps(chosen.data / "manifest.csv", set())[:-HELD_OUT_MAPS]
    pairs = Pairs(load_triples(chosen.data, TRAINING), maps, chosen.side)
    print(f"{len(pairs.triples)} heads in three contrasts, {len(maps)} label maps", flush=True)
    trainer = Trainer(chosen, pairs)
    checkpoint = chosen.out / "checkpoint.pt"
    if checkpoint.exists() or chosen.start:
        trainer.resume(checkpoint if checkpoint.exists() else chosen.start)
    trainer.train()
    figures = validated(trainer.network, load_triples(chosen.data, VALIDATION))
    files.log({"step": trainer.step, **figures}, chosen.out)


if __name__ == "__main__":
    main()
