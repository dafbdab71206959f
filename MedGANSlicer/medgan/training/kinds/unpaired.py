"""Translation learned from two sets of volumes that have nothing to do with each other.

Source: CycleGAN, Zhu et al. 2017 (arXiv 1703.10593): there and back again must be the beginning (cycle), what is a
target already stays as it is (identity), and each critic also sees results of earlier steps (Shrivastava et al. 2017,
1612.07828).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from medgan.models import ModelCard
from medgan.settings import TrainSettings
from medgan.training.kinds.base import Batch, Exported, Facts, Kind, middle_slice, plain_state, uniform
from medgan.training.kinds.common import Built, Means, critic_of_patches, frozen, mmd, psnr, texture
from medgan.training.kinds.translate import translator
from medgan.training.losses import Adversarial
from medgan.training.starts import network_of

CYCLE_WEIGHT = 10.0
IDENTITY_WEIGHT = 5.0

KEPT = 16
"""Earlier results that are kept for each critic."""

SIDES = ("target", "source")
"""What a batch holds and each critic judges."""


class TwoWays(nn.Module):
    """Both translators; called, it is the one from source to target."""

    def __init__(self, forth: nn.Module, back: nn.Module) -> None:
        super().__init__()
        self.forth, self.back = forth, back

    def forward(self, source: Tensor) -> Tensor:
        return self.forth(source)


class Replay(nn.Module):
    """Earlier results, half of which are shown again; part of the state. Kept in half precision."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.held: Tensor
        self.count: Tensor
        self.register_buffer("held", torch.zeros(KEPT, channels, patch, patch, patch, dtype=torch.float16))
        self.register_buffer("count", torch.tensor(0))

    @torch.no_grad()
    def shown(self, fakes: Tensor, chances: Tensor) -> Tensor:
        """The fakes (B, C, D, H, W), some of them exchanged for earlier ones; ``chances`` (B,) between 0 and 1 decide.

        Several processes would each hold other results, so with several only the new ones are shown.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return fakes
        answer = []
        for fake, chance in zip(fakes, chances.tolist(), strict=True):
            count = int(self.count)
            if count < KEPT:
                self.held[count] = fake.half()
                self.count += 1
                answer.append(fake)
            elif chance < 0.5:
                place = min(KEPT - 1, int(2.0 * chance * KEPT))
                answer.append(self.held[place].to(fake))
                self.held[place] = fake.half()
            else:
                answer.append(fake)
        return torch.stack(answer)


class Unpaired(Kind):
    """Batches: "source" and "target", of different patients."""

    score_name = "mmd"

    def __init__(
        self, forth: Built, back: nn.Module, critics: nn.ModuleDict | None, settings: TrainSettings, facts: Facts
    ) -> None:
        super().__init__()
        self.built, self.facts = (forth.name, forth.arguments), facts
        self.weight = settings.adversarial_weight
        self.generator = TwoWays(forth.network, back)
        self.critic = critics
        self.adversarial = Adversarial(settings)
        channels = {"target": facts.target_channels, "source": facts.channels}
        self.replay: dict[str, Replay] = {}
        for side in SIDES:
            self.replay[side] = Replay(channels[side], facts.patch)
            self.add_module(f"replay_{side}", self.replay[side])

    @classmethod
    def make(cls, settings: TrainSettings, facts: Facts, start: ModelCard | None) -> Unpaired:
        """Raises ``ValueError`` without a critic, which is all that tells what a target looks like."""
        if not settings.adversarial_weight:
            raise ValueError("Translation without pairs needs its critic; set 'adversarial_weight' above 0.")
        forth = translator(settings, facts, start)
        arguments = {"in_channels": facts.target_channels, "out_channels": facts.channels}
        back = Built(network_of(settings.kind), arguments).network
        channels = {"target": facts.target_channels, "source": facts.channels}
        critics = nn.ModuleDict()
        for side in SIDES:
            critic = critic_of_patches(channels[side], settings)
            assert critic is not None
            critics[side] = critic
        return cls(forth, back, critics, settings, facts)

    def draw(self, sample: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        chance = {f"{name}_{side}": uniform(rng) for name in ("mix", "replay") for side in SIDES}
        return {"source": sample["source"], "target": sample["target"], **chance}

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(self.critic, nn.ModuleDict)
        answer: dict[str, Tensor] = {}
        for side, fake in self._fakes(batch).items():
            shown = self.replay[side].shown(fake, batch[f"replay_{side}"])
            found = self.adversarial.critic(self.critic[side], batch[side], shown, batch[f"mix_{side}"])
            for name, value in found.items():
                answer[name] = answer.get(name, torch.zeros_like(value)) + 0.5 * value
        return answer

    @torch.no_grad()
    def _fakes(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(self.generator, TwoWays)
        forth, back = self.generator.forth, self.generator.back
        return {"target": forth(batch["source"]).float(), "source": back(batch["target"]).float()}

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        assert isinstance(self.generator, TwoWays)
        forth, back = self.generator.forth, self.generator.back
        source, target = batch["source"], batch["target"]
        fakes = {"target": forth(source).float(), "source": back(target).float()}
        again = F.l1_loss(back(fakes["target"]).float(), source) + F.l1_loss(forth(fakes["source"]).float(), target)
        terms = {"cycle": again}
        loss = CYCLE_WEIGHT * again
        if source.shape[1] == target.shape[1]:
            terms["identity"] = F.l1_loss(forth(target).float(), target) + F.l1_loss(back(source).float(), source)
            loss = loss + IDENTITY_WEIGHT * terms["identity"]
        if adversarial and isinstance(self.critic, nn.ModuleDict):
            with frozen(self.critic):
                judged = [self.adversarial.generator(self.critic[side](fakes[side])) for side in SIDES]
            terms["adversarial"] = torch.stack(judged).sum()
            loss = loss + adversarial * self.weight * terms["adversarial"]
        return {"loss": loss, **terms}

    @torch.no_grad()
    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """ "mmd": how far the texture of results is from that of targets (0 is best); "mmd_before": of sources."""
        assert isinstance(generator, TwoWays)
        means, looks = Means(), {"target": [], "result": [], "source": []}  # type: ignore[var-annotated]
        for batch in batches:
            fake = generator(batch["source"]).float()
            means.add("cycle_psnr", psnr(generator.back(fake).float(), batch["source"]))
            for name, volume in (("target", batch["target"]), ("result", fake), ("source", batch["source"])):
                looks[name].append(texture(volume.mean(dim=1, keepdim=True)))
        look = {name: torch.cat(each) for name, each in looks.items()}
        found = means.result()
        if len(look["target"]) > 1:
            found["mmd"] = mmd(look["result"], look["target"])
            found["mmd_before"] = mmd(look["source"], look["target"])
        return {**found, "score": -found.get("mmd", -found["cycle_psnr"])}

    @torch.no_grad()
    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        assert isinstance(generator, TwoWays)
        fake = generator(batch["source"][:1])
        shown = {
            "source": batch["source"],
            "result": fake,
            "back again": generator.back(fake),
            "target": batch["target"],
        }
        return {name: middle_slice(volume[0]) for name, volume in shown.items()}

    def export(self, average: nn.Module) -> Exported:
        assert isinstance(average, TwoWays)
        return Exported("translate", *self.built, {"faithful": plain_state(average.forth)}, self.facts.about())
