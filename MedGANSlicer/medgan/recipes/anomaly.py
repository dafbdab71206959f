"""Train the network that shows anomalies of heads: ``python -m medgan.recipes.anomaly --data DIR --out DIR``.

It sees healthy heads only: most are drawn from label maps as T1, T2 and FLAIR scans, some are real scans without their
bright spots. Simulated anomalies are put into their slices. The generator says what it suspects and what should be
there instead, against a critic that tells real healthy slices from restored ones; the judge learns from the critic's
features where slice and restoration differ by an anomaly. In some of its lessons the judge gets the blurred slice in
place of the restoration and none of the generator's features, so that it can be measured what the generator is good
for. Seeded; stops when the time or the steps are spent, and goes on from its checkpoint with the same command. Label
maps and scans in ``--leave-out`` are never learned from.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.evaluation.detection import average_precision
from medgan.networks.healthy import CONTEXT, HealthyNet, bank
from medgan.precision import training_autocast
from medgan.recipes import files
from medgan.recipes.anomaly_data import WATCHED, Batch, Pool, load_scans
from medgan.recipes.data import data_folder
from medgan.recipes.parts import LEFT_OUT, load_heads
from medgan.training.average import Average

MIDDLE = slice(len(CONTEXT) // 2, len(CONTEXT) // 2 + 1)

NETWORK: dict[str, Any] = {"keeps": True, "shares": True}
"""Arguments of the network: what is healthy stays as it is, so that the error shows what the generator changed."""

WITHOUT_GENERATOR = 0.1
"""How often the judge gets the blurred slice in place of the restoration."""

WEIGHTS = {"error": 2.0, "proposal": 2.0, "suspicion": 1.0, "brain": 1.0, "adversarial": 0.02,
           "entropy": 1.0, "dice": 0.3, "versus": 0.1}  # fmt: skip
"""Of the generator's terms, and those of judge and critic."""

TO_GENERATOR = 0.2
"""Share of the judge's gradient that reaches the generator, as in DRAEM; most of what it learns is to restore."""

GAME_EVERY = 4
"""Steps from one round of generator against critic to the next."""


def blurred(slice_B1HW: Tensor) -> Tensor:
    """What stands in for the restoration where the generator takes no part."""
    return bank(slice_B1HW)[:, 1:2]


@torch.no_grad()
def checked(network: HealthyNet, batches: list[Batch], device: torch.device) -> dict[str, float]:
    """Average precision over the brain's pixels: of the judge, of the judge with a blurred slice for the restoration,
    and of the error of the restoration alone; the Dice coefficient of the brain."""
    held: dict[str, list[Tensor]] = {"judge": [], "without_generator": [], "error_alone": [], "truth": []}
    inside, whole = 0.0, 0.0
    for batch in batches:
        seen, image = batch.seen.to(device), batch.seen[:, MIDDLE].to(device)
        with training_autocast(device):
            answer = network(seen).float().cpu()
            without = network.judged(seen, blurred(image)).float().cpu()
        counted = (batch.altered >= 0) & (batch.brain > 0) & ~batch.ignored
        held["judge"].append(answer[:, :1][counted])
        held["without_generator"].append(without[counted])
        held["error_alone"].append(F.avg_pool2d((answer[:, 1:2] - image.cpu()).abs(), 3, 1, 1)[counted])
        held["truth"].append(batch.altered[counted] > 0)
        found = answer[:, 2:] > 0.5
        inside += 2.0 * float((found & (batch.brain > 0)).sum())
        whole += float(found.sum() + batch.brain.sum())
    truth = torch.cat(held.pop("truth")).numpy()
    result = {name: average_precision(torch.cat(parts).numpy(), truth) for name, parts in held.items()}
    return {**result, "brain_dice": inside / max(whole, 1.0)}


class Trainer:
    """All that a run has to keep to go on later as if nothing had happened."""

    def __init__(self, options: argparse.Namespace, pool: Pool, checks: dict[str, list[Batch]]) -> None:
        self.options, self.pool, self.checks = options, pool, checks
        self.device = torch.device(options.device)
        torch.manual_seed(options.seed)
        self.network = HealthyNet(**NETWORK).to(self.device)
        if options.start:
            held = torch.load(options.start, map_location=self.device, weights_only=True)
            self.network.load_state_dict({name: tensor.float() for name, tensor in held.items()})
        self.followed = Average(self.network, 0.997)
        self.average: HealthyNet = self.followed.network  # type: ignore[assignment]
        self.optimiser = torch.optim.AdamW(self.network.parameters(), options.rate, betas=(0.9, 0.99))
        self.random = torch.Generator().manual_seed(options.seed)
        self.step, self.elapsed = 0, 0.0

    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1: the larger of time and steps."""
        by_time = self.elapsed / (60.0 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_time, self.step / self.options.steps if self.options.steps else 0.0)

    def train(self) -> None:
        saved, terms = time.monotonic(), dict[str, list[float]]()
        while self.share() < 1.0:
            begun = time.monotonic()
            self.pool.fill(self.pool.size + self.step // self.options.renew)
            batch = self.pool.batch(self.options.batch, self.random)
            for name, value in self._learn(batch).items():
                terms.setdefault(name, []).append(value)
            self.step += 1
            self.elapsed += time.monotonic() - begun
            if self.step % self.options.log_every == 0:
                means = {name: math.fsum(values) / len(values) for name, values in terms.items()}
                self.log({"step": self.step, "share": self.share(), "seconds": self.elapsed, **means})
                terms = {}
            if time.monotonic() - saved > 60.0 * self.options.save_minutes:
                self.save()
                self.log({"step": self.step, **self.check()})
                saved = time.monotonic()
        self.save()
        self.log({"step": self.step, **self.check()})

    def _learn(self, batch: Batch) -> dict[str, float]:
        """One step of all parts together: each term reaches the part that it is to teach."""
        warm = min(1.0, (self.step + 1) / 40)
        rate = self.options.rate * warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.share()))))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        held = Batch(*(column.to(self.device) for column in vars(batch).values()))
        with training_autocast(self.device):
            told = self.network.restorer.parts(held.seen)
            healthy = self.network.restorer.replaced(held.seen, told)
            logit = self.network.judged(held.seen, *self._references(held, healthy, told.features)).float()
        target = (held.altered > 0).float()
        weight = (0.1 + 0.9 * held.brain + 5.0 * target) * ~held.ignored
        terms = {
            name: ((said.float() - held.clean).abs() * weight).sum() / weight.sum()
            for name, said in (("error", healthy), ("proposal", told.proposed))
        }
        terms["brain"] = F.binary_cross_entropy_with_logits(told.brain.float(), held.brain)
        counted = ((held.altered >= 0) & ~held.ignored).float() * (0.2 + 0.8 * held.brain)
        weight = counted * (1.0 + 2.0 * target)
        for name, said in (("entropy", logit), ("suspicion", told.suspicion)):
            if said is not None:
                entropy = F.binary_cross_entropy_with_logits(said.float(), target, reduction="none")
                terms[name] = (entropy * weight).sum() / weight.sum()
        p = torch.sigmoid(logit) * counted
        terms["dice"] = 1.0 - (2.0 * (p * target).sum() + 1.0) / (p.sum() + (target * counted).sum() + 1.0)
        if self.step % GAME_EVERY == 0:
            terms |= self._game(held, healthy)
        loss: Any = sum(WEIGHTS[name] * term for name, term in terms.items())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.followed.follow(self.network, self.step + 1)
        return {name: float(term.detach()) for name, term in terms.items()}

    def _references(self, held: Batch, healthy: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """What the judge gets from the generator, now and then in its place a blurred slice and no features. Through
        the restoration a little of what the judge learns reaches the generator, through the features all of it."""
        without = (torch.rand(len(healthy), 1, 1, 1, generator=self.random) < WITHOUT_GENERATOR).to(self.device)
        reached = torch.lerp(healthy.detach(), healthy, TO_GENERATOR)
        return torch.where(without, blurred(held.seen[:, MIDDLE]), reached), features * ~without

    def _game(self, held: Batch, healthy: Tensor) -> dict[str, Tensor]:
        """The critic learns to tell restored slices from real ones, the generator to pass as real (least squares)."""
        critic, count = self.network.critic, len(healthy)
        with training_autocast(self.device):
            said = critic(torch.cat([held.clean, healthy.detach()]))[-1].float()
            critic.requires_grad_(False)
            fake = critic(healthy)[-1].float()
            critic.requires_grad_(True)
        patch = F.avg_pool2d(held.brain, 8)
        return {
            "versus": (said[:count] - 1.0).square().mean() + said[count:].square().mean(),
            "adversarial": ((fake - 1.0).square() * patch).sum() / patch.sum().clamp_min(1.0),
        }

    def check(self) -> dict[str, float]:
        """What :func:`checked` says of every group of slices that were never learned from."""
        found: dict[str, float] = {}
        for group, batches in self.checks.items():
            found |= {f"{group}_{name}": value for name, value in checked(self.average, batches, self.device).items()}
        return found

    def log(self, entry: dict[str, Any]) -> None:
        files.log(entry, self.options.out)

    def save(self) -> None:
        """The checkpoint, and beside it the averaged weights in float16."""
        state = {"network": self.network.state_dict(), "average": self.average.state_dict(), "step": self.step}
        state |= {"optimiser": self.optimiser.state_dict(), "elapsed": self.elapsed, "random": self.random.get_state()}
        files.save(state, self.options.out / "checkpoint.pt")
        files.save(files.halved(self.average.state_dict()), self.options.out / "model.pt")

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder, if there is one."""
        path = self.options.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.random.set_state(state["random"].cpu())
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"going on from step {self.step}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=data_folder, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    options.add_argument("--leave-out", default=LEFT_OUT, help="comma-separated label maps never to learn from")
    options.add_argument("--check", default="synthseg_17,synthseg_19", help="left-out label maps that are watched")
    options.add_argument("--watch-real", action=argparse.BooleanOptionalAction, default=True,
                         help="also watch scans of a patient who is not learned from")  # fmt: skip
    options.add_argument("--minutes", type=float, default=17.0, help="time budget; 0: none")
    options.add_argument("--steps", type=int, default=0, help="step budget; 0: none")
    options.add_argument("--batch", type=int, default=6)
    options.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    options.add_argument("--pool", type=int, default=40, help="heads kept at a time")
    options.add_argument("--renew", type=int, default=8, help="steps after which one of them is replaced")
    options.add_argument("--real", type=float, default=0.25, help="share of real scans")
    options.add_argument("--save-minutes", type=float, default=4.0)
    options.add_argument("--log-every", type=int, default=20)
    options.add_argument("--start", type=Path, help="weights (model.pt) to start from")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(arguments)
    if not chosen.minutes and not chosen.steps:
        raise SystemExit("Give a budget: --minutes, --steps or both.")
    chosen.out.mkdir(parents=True, exist_ok=True)
    manifest = chosen.data / "manifest.csv"
    left_out = {stem for stem in chosen.leave_out.split(",") if stem}
    heads = load_heads(manifest, left_out=left_out)
    if not heads:
        raise SystemExit(f"{manifest} names no whole-head label map that is not left out.")
    scans = load_scans(manifest) if chosen.real > 0 else []
    print(f"{len(heads)} label maps, {len(scans)} real scans", flush=True)
    watched = load_heads(manifest, wanted={stem for stem in chosen.check.split(",") if stem} & left_out)
    checks = {"drawn": Pool(watched, [], 9, 0.0, 77)} if watched else {}
    seen = load_scans(manifest, WATCHED) if chosen.watch_real else []
    if seen:
        checks["real"] = Pool([], seen, 6, 1.0, 78)
    random, batches = torch.Generator().manual_seed(77), {}
    for group, held in checks.items():
        held.fill(held.size)
        batches[group] = [held.batch(6, random) for _ in range(6)]
    trainer = Trainer(chosen, Pool(heads, scans, chosen.pool, chosen.real, chosen.seed), batches)
    (chosen.out / "arguments.json").write_text(json.dumps(NETWORK) + "\n", encoding="utf-8")
    trainer.resume()
    trainer.train()


if __name__ == "__main__":
    main()
