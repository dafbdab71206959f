"""Where a training is in its budget: which stage, and the learning rates that belong to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medgan.settings import TrainSettings

RISE_STEPS = 200
"""Steps in which the learning rates rise at the start; a tenth of the budget where that is less."""

RAMP = 0.05
"""Share of the budget in which the adversarial term rises to its full weight."""

SECOND_RATE = 0.1
"""Rate of the generator in the adversarial stage that follows a faithful one, as a share of the first."""

LEAST = 0.01
"""Where the rates end."""


@dataclass(frozen=True)
class Plan:
    """The budget, and how much of it comes before the adversarial term (1: there is none at all)."""

    steps: int
    minutes: float
    faithful_share: float

    @classmethod
    def of(cls, settings: TrainSettings, faithful_share: float) -> Plan:
        return cls(settings.steps, settings.minutes, faithful_share)

    def share(self, step: int, seconds: float) -> float:
        """Share of the budget that is spent after ``step`` steps and ``seconds``; 1 and more: all of it.

        Time counts in whole hundredths: while the steps are ahead of it, nothing that follows depends on the clock.
        """
        return max(self.by_steps(step), math.floor(100.0 * self.by_time(seconds)) / 100.0)

    def by_steps(self, step: int) -> float:
        """Share of the steps that are done, 0 where they have no limit."""
        return step / self.steps if self.steps else 0.0

    def by_time(self, seconds: float) -> float:
        """Share of the time that is spent, 0 where it has no limit."""
        return seconds / (60.0 * self.minutes) if self.minutes else 0.0

    def adversarial(self, share: float) -> float:
        """How much of its weight the adversarial term has: 0 in the faithful stage, then rising to 1."""
        if share < self.faithful_share or self.faithful_share >= 1.0:
            return 0.0
        return min(1.0, max(0.05, (share - self.faithful_share) / RAMP))

    def rates(self, step: int, share: float) -> tuple[float, float]:
        """Factors of the learning rates of generator and critic.

        One stage: constant, from the middle of the budget on falling (Isola et al. 2017, arXiv 1611.07004). Two: the
        faithful one falls along a cosine, the adversarial one is constant and lower.
        """
        rise_steps = min(RISE_STEPS, self.steps // 10 + 1) if self.steps else RISE_STEPS
        rise = min(1.0, (step + 1) / rise_steps)
        if self.faithful_share > 0.0 and share < self.faithful_share:
            wave = 0.5 * (1.0 + math.cos(math.pi * share / self.faithful_share))
            return rise * (LEAST + (1.0 - LEAST) * wave), 1.0
        if 0.0 < self.faithful_share < 1.0:
            return SECOND_RATE, 1.0
        fall = min(1.0, max(LEAST, 2.0 * (1.0 - share)))
        return rise * fall, rise * fall
