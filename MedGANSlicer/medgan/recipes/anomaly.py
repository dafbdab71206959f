"""Train the network that shows anomalies of heads: ``python -m medgan.recipes.anomaly --data DIR --out DIR``.

It sees healthy heads only: most are drawn from label maps as T1, T2 and FLAIR scans, some are real scans without their
bright spots. Simulated blobs are put into their slices. The generator takes them out again, against a critic that tells
real healthy slices from restored ones; the judge learns from the critic's features where slice and restoration differ
by a blob. In some of its lessons the judge gets the blurred slice in place of the restoration, so that it can be
measured what the generator is good for. Seeded; stops when the time or the steps are spent, and goes on from its
checkpoint with the same command. Label maps and scans in ``--leave-out`` are never learned from.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.evaluation.detection import average_precision
from medgan.networks.healthy import CONTEXT, HealthyNet, bank
from medgan.recipes import files
from medgan.recipes.anomaly_data import Batch, Pool, load_scans
from medgan.recipes.parts import LEFT_OUT, load_heads
from medgan.training.average import Average

MIDDLE = slice(len(CONTEXT) // 2, len(CONTEXT) // 2 + 1)

WITHOUT_GENERATOR = 0.15
"""How often the judge gets the blurred slice in place of the restoration."""

WEIGHTS = {"error": 1.0, "brain": 0.1, "adversarial": 0.01, "features": 0.1}
"""Of the generator's terms."""


def blurred(slice_B1HW: Tensor) -> Tensor:
    """What stands in for the restoration where the generator takes no part."""
    return bank(slice_B1HW)[:, 1:2]


class Trainer:
    """All that a run has to keep to go on later as if nothing had happened."""

    def __init__(self, options: argparse.Namespace, pool: Pool, checks: list[Batch]) -> None:
        self.options, self.pool, self.checks = options, pool, checks
        self.device = torch.device(options.device)
        torch.manual_seed(options.seed)
        self.network = HealthyNet().to(self.device)
        if options.start:
            held = torch.load(options.start, map_location=self.device, weights_only=True)
            self.network.load_state_dict({name: tensor.float() for name, tensor in held.items()})
        self.followed = Average(self.network, 0.995)
        self.average: HealthyNet = self.followed.network  # type: ignore[assignment]
        self.generator_parameters = list(self.network.restorer.parameters())
        self.judge_parameters = [*self.network.critic.parameters(), *self.network.judge.parameters()]
        self.optimisers = {
            "generator": torch.optim.AdamW(self.generator_parameters, options.rate, betas=(0.8, 0.99)),
            "judge": torch.optim.AdamW(self.judge_parameters, options.rate, betas=(0.8, 0.99)),
        }
        self.random = torch.Generator().manual_seed(options.seed)
        self.step, self.elapsed = 0, 0.0

    def share(self) -> float:
        """Share of the budget that is spent, 0 to 1: the larger of time and steps."""
        by_time = self.elapsed / (60.0 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_time, self.step / self.options.steps if self.options.steps else 0.0)

    def train(self) -> None:
        saved, sums = time.monotonic(), {}  # type: ignore[var-annotated]
        while self.share() < 1.0:
            begun = time.monotonic()
            self.pool.fill(self.pool.size + self.step // self.options.renew)
            batch = self.pool.batch(self.options.batch, self.random)
            for name, value in self._learn(batch).items():
                sums[name] = sums.get(name, 0.0) + value / self.options.log_every
            self.step += 1
            self.elapsed += time.monotonic() - begun
            if self.step % self.options.log_every == 0:
                self.log({"step": self.step, "share": self.share(), "seconds": self.elapsed, **sums})
                sums = {}
            if time.monotonic() - saved > 60.0 * self.options.save_minutes:
                self.save()
                self.log({"step": self.step, **self.check()})
                saved = time.monotonic()
        self.save()
        self.log({"step": self.step, **self.check()})

    def _learn(self, batch: Batch) -> dict[str, float]:
        """One step of the judge and its critic, one of the generator."""
        warm = min(1.0, (self.step + 1) / 40)
        rate = self.options.rate * warm * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.share()))))
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
        held = Batch(*(column.to(self.device) for column in vars(batch).values()))
        healthy, brain = self.network.restorer(held.seen)
        said = self._teach_judge(held, healthy.detach())
        counted = (~held.ignored).float()
        weight = (0.1 + 0.9 * held.brain + 2.0 * (held.altered > 0)) * counted
        terms = {"error": ((healthy - held.clean).abs() * weight).sum() / weight.sum()}
        terms["brain"] = F.binary_cross_entropy_with_logits(brain, held.brain)
        self.network.critic.requires_grad_(False)
        fake = self.network.critic(healthy)
        with torch.no_grad():
            real = self.network.critic(held.clean)
        self.network.critic.requires_grad_(True)
        patch = F.avg_pool2d(held.brain, 8)
        terms["adversarial"] = ((fake[-1] - 1.0).square() * patch).sum() / patch.sum().clamp_min(1.0)
        pairs = zip(fake[:-1], real[:-1], strict=True)
        apart = [(a - b).abs().mean() / b.abs().mean().clamp_min(1e-3) for a, b in pairs]
        terms["features"] = torch.stack(apart).mean()
        self._step("generator", sum(WEIGHTS[name] * term for name, term in terms.items()), self.generator_parameters)
        self.followed.follow(self.network, self.step + 1)
        return said | {name: float(term.detach()) for name, term in terms.items()}

    def _teach_judge(self, held: Batch, healthy: Tensor) -> dict[str, float]:
        image, other = held.seen[:, MIDDLE], held.seen[:, -1:]
        chance = torch.rand(len(image), 1, 1, 1, generator=self.random).to(self.device)
        reference = torch.where(chance < WITHOUT_GENERATOR, blurred(image), healthy)
        features = self.network.critic(torch.cat([image, reference, other, held.clean, healthy]))
        parts = [[level[n * len(image) : (n + 1) * len(image)] for level in features] for n in range(5)]
        logit = self.network.judge([image, reference, other], [part[:-1] for part in parts[:3]])
        counted = ((held.altered >= 0) & ~held.ignored).float() * (0.2 + 0.8 * held.brain)
        target = (held.altered > 0).float()
        weight = counted * (1.0 + 2.0 * target)
        entropy = (F.binary_cross_entropy_with_logits(logit, target, reduction="none") * weight).sum() / weight.sum()
        p = torch.sigmoid(logit) * counted
        dice = 1.0 - (2.0 * (p * target).sum() + 1.0) / (p.sum() + (target * counted).sum() + 1.0)
        real, fake = parts[3][-1], parts[4][-1]
        versus = (real - 1.0).square().mean() + fake.square().mean()
        self._step("judge", entropy + 0.3 * dice + 0.1 * versus, self.judge_parameters)
        return {name: float(term.detach()) for name, term in (("entropy", entropy), ("dice", dice), ("versus", versus))}

    def _step(self, which: str, loss: Any, parameters: list[nn.Parameter]) -> None:
        optimiser = self.optimisers[which]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        if torch.isfinite(norm):
            optimiser.step()

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Average precision over pixels of left-out heads: of the judge, with a blurred slice for the restoration, and
        of the error of the restoration alone; the Dice coefficient of the brain. Nothing without such heads."""
        if not self.checks:
            return {}
        held: dict[str, list[Tensor]] = {"judge": [], "without_generator": [], "error_alone": [], "truth": []}
        inside, whole = 0.0, 0.0
        for batch in self.checks:
            seen, image = batch.seen.to(self.device), batch.seen[:, MIDDLE].to(self.device)
            answer = self.average(seen).cpu()
            counted = (batch.altered >= 0) & (batch.brain > 0)
            held["judge"].append(answer[:, :1][counted])
            held["without_generator"].append(self.average.judged(seen, blurred(image)).cpu()[counted])
            held["error_alone"].append(F.avg_pool2d((answer[:, 1:2] - image.cpu()).abs(), 3, 1, 1)[counted])
            held["truth"].append(batch.altered[counted] > 0)
            found = answer[:, 2:] > 0.5
            inside += 2.0 * float((found & (batch.brain > 0)).sum())
            whole += float(found.sum() + batch.brain.sum())
        truth = torch.cat(held.pop("truth")).numpy()
        result = {name: average_precision(torch.cat(parts).numpy(), truth) for name, parts in held.items()}
        return {**result, "brain_dice": inside / max(whole, 1.0)}

    def log(self, entry: dict[str, Any]) -> None:
        files.log(entry, self.options.out)

    def save(self) -> None:
        """The checkpoint, and beside it the averaged weights in float16."""
        state = {"network": self.network.state_dict(), "average": self.average.state_dict(), "step": self.step}
        state |= {"optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}}
        state |= {"elapsed": self.elapsed, "random": self.random.get_state()}
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
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.random.set_state(state["random"].cpu())
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"going on from step {self.step}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    options.add_argument("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    options.add_argument("--leave-out", default=LEFT_OUT, help="comma-separated label maps never to learn from")
    options.add_argument("--check", default="synthseg_17,synthseg_19", help="left-out label maps that are watched")
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
    checks = Pool(watched, [], 6, 0.0, 77)
    random = torch.Generator().manual_seed(77)
    checks.fill(6 if watched else 0)
    batches = [checks.batch(6, random) for _ in range(6)] if watched else []
    trainer = Trainer(chosen, Pool(heads, scans, chosen.pool, chosen.real, chosen.seed), batches)
    trainer.resume()
    trainer.train()


if __name__ == "__main__":
    main()
