"""Enhancement: first as close to the clean patch as can be, then against a critic of patches.

The weights of the end of the first stage are kept (*faithful*), those of the second are the *natural* ones;
``medgan enhance`` goes from one to the other by its character. The networks, and how they are called, are those of the
shipped models, so that these can be trained further.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medgan.models import ModelCard
from medgan.networks.deblur import DeblurNet
from medgan.networks.denoise import DenoiseNet
from medgan.networks.superres import SliceNet
from medgan.noise import NoiseProfile
from medgan.recipes.deblur import MARGIN
from medgan.recipes.training import frequency_distance, squared_error
from medgan.settings import Restores, TrainSettings
from medgan.training.kinds import degrade
from medgan.training.kinds.base import Batch, Exported, Facts, Kind, drawn, middle_slice, plain_state, uniform
from medgan.training.kinds.common import Built, Means, check_channels, critic_of_patches, opinion, psnr, ssim, started
from medgan.training.losses import Adversarial

ERROR_WEIGHT = 3.0
ADVERSARIAL_WEIGHT = 0.01
FREQUENCY_WEIGHT = 5.0
LARGE_ERROR = 20.0
"""Multiple of the squared error of the input from which on it counts by its logarithm."""

Answer = tuple[Tensor, Tensor, Tensor]
"""The network's answer, what it should have been, and what one has without a network, all (B, 1, D, H, W)."""


class Enhance(Kind):
    """Batches: "target", and "input" when there are pairs; without, the target is degraded in :meth:`draw`."""

    faithful_share = 0.8
    stops_early = False
    keeps_faithful = True

    def __init__(self, built: Built, critic: nn.Module | None, settings: TrainSettings, facts: Facts) -> None:
        super().__init__()
        self.built, self.facts, self.restores = (built.name, built.arguments), facts, settings.restores
        self.weight = settings.adversarial_weight * ADVERSARIAL_WEIGHT
        self.generator, self.critic = built.network, critic
        self.adversarial = Adversarial(settings)
        self.faithful = copy.deepcopy(built.network).requires_grad_(False)
        self.begun: Tensor
        self.register_buffer("begun", torch.tensor(False))

    @classmethod
    def make(cls, settings: TrainSettings, facts: Facts, start: ModelCard | None) -> Enhance:
        """Raises ``ValueError`` for data that can not teach such a model."""
        if facts.channels != 1:
            raise ValueError(f"Enhancement is trained on volumes of one channel; these have {facts.channels}.")
        if settings.restores is Restores.BLUR and facts.patch < 2 * MARGIN + 16:
            raise ValueError(f"Deblurring needs patches of at least {2 * MARGIN + 16} voxels, not {facts.patch}.")
        built = started(start, settings, {})
        check_channels(built, facts.channels, start)
        critic = critic_of_patches(1, settings)
        return cls(built, critic, settings, facts)

    def draw(self, sample: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        target = sample["target"]
        if "input" in sample and self.restores is not Restores.NOISE:
            raise ValueError(
                f"Pairs can not teach how to restore the {self.restores.value}; give the sharp volumes alone."
            )
        if "input" in sample:
            own = degrade.measured(sample["input"], self.facts.modality)
            new = {"sigma": torch.tensor(own.sigma), "spread": torch.from_numpy(own.spread).float()}
            new |= {"input": sample["input"], "target": target}
        elif self.restores is Restores.RESOLUTION:
            new = degrade.thick(target, rng)
        else:
            own = degrade.measured(target, self.facts.modality)
            if "sigma" in sample and "spread" in sample:
                own = NoiseProfile(float(sample["sigma"]), sample["spread"].numpy())
            blur = self.restores is Restores.BLUR
            new = degrade.deconvolved(target, own, rng) if blur else degrade.noisy(
                target, own, self.facts.modality, rng
            )  # fmt: skip
        return {**new, "mix": uniform(rng)}

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        assert self.critic is not None
        with torch.no_grad():
            answers = self._answers(self.generator, batch)
        mixes = batch["mix"].split([len(result) for result, _, _ in answers])
        found = [
            self.adversarial.critic(self.critic, target, result, mix)
            for (result, target, _), mix in zip(answers, mixes, strict=True)
        ]
        return {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        answers = self._answers(self.generator, batch)
        error = torch.cat([_relative_error(*answer) for answer in answers])
        terms = {"error": error.mean()}
        loss = ERROR_WEIGHT * terms["error"]
        if adversarial and self.critic is not None:
            judged = [opinion(self.critic, self.adversarial, target, result) for result, target, _ in answers]
            terms["adversarial"], terms["features"] = (torch.stack(each).mean() for each in zip(*judged, strict=True))
            terms["spectrum"] = torch.stack([frequency_distance(a, b) for a, b, _ in answers]).mean()
            more = self.weight * (terms["adversarial"] + terms["features"]) + FREQUENCY_WEIGHT * terms["spectrum"]
            loss = loss + adversarial * more
        return {"loss": loss, **terms}

    @torch.no_grad()
    def adversarial_begins(self, average: nn.Module) -> None:
        self.faithful.load_state_dict(average.state_dict())
        self.generator.load_state_dict(average.state_dict())
        self.begun.fill_(True)

    def faithful_goes_on(self) -> None:
        self.begun.fill_(False)

    @torch.no_grad()
    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        means = Means()
        for number, batch in enumerate(batches):
            for result, target, before in self._answers(generator, drawn(self, [batch], number)[0]):
                means.add("psnr", psnr(result, target))
                means.add("ssim", ssim(result, target))
                means.add("psnr_before", psnr(before, target))
        found = means.result()
        return {**found, "score": found["psnr"]}

    @torch.no_grad()
    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        result, target, before = self._answers(generator, drawn(self, [batch])[0])[0]
        return {"before": middle_slice(before[0]), "result": middle_slice(result[0]), "target": middle_slice(target[0])}

    def export(self, average: nn.Module) -> Exported:
        faithful = plain_state(self.faithful if bool(self.begun) else average)
        weights = {"faithful": faithful} | ({"natural": plain_state(average)} if bool(self.begun) else {})
        about = {**self.facts.about(), "restores": self.restores.value}
        return Exported("enhance", *self.built, weights, about)

    def _answers(self, generator: nn.Module, batch: Batch) -> list[Answer]:
        """Of all samples at once; one by one where each has its own slices."""
        if isinstance(generator, SliceNet):
            samples = zip(batch["target"], batch["operator"], batch["level"], strict=True)
            return [_from_slices(generator, target, numbers, level) for target, numbers, level in samples]
        given: tuple[Tensor, ...] = (batch["input"],)
        if isinstance(generator, (DenoiseNet, DeblurNet)):
            given += (batch["sigma"], batch["spread"])
        if isinstance(generator, DeblurNet):
            given += (batch["blur"],)
        return [(generator(*given).float(), batch["target"], batch["input"])]


def _from_slices(generator: SliceNet, target: Tensor, numbers: Tensor, level: Tensor) -> Answer:
    operator = degrade.operator_of(numbers)
    fine = target[None, :, : operator.fine]
    with torch.autocast(fine.device.type, enabled=False):  # the data are not rounded, only the network's way is
        slices = torch.einsum("nf,bcfhw->bcnhw", torch.from_numpy(operator.measure).to(fine), fine)
        before = torch.einsum("fn,bcnhw->bcfhw", torch.from_numpy(operator.restore).to(fine), slices)
    return generator(slices, level[None], operator).float(), fine, before


def _relative_error(result: Tensor, target: Tensor, before: Tensor) -> Tensor:
    """(B,) squared error as a share of what it was, so that easy and hard patches count alike; its logarithm where it
    is large, so that no patch rules the step and each still says which way."""
    share = squared_error(result, target) / squared_error(before, target).clamp_min(1e-6)
    return share.clamp_max(LARGE_ERROR) + LARGE_ERROR * (share.clamp_min(LARGE_ERROR) / LARGE_ERROR).log()
