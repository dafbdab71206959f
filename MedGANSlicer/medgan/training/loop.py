"""The training loop: batch, critic step, generator step, log, save.

It knows nothing of images: the kind (medgan.training.kinds) has the networks and their losses, the samples come from
medgan.training.data. It goes on from the checkpoint in the run's folder, if there is one, as if it had never stopped:
a sample is drawn from (seed, step, number), and whatever else is random from (seed, step, phase, process), so the seed
and the step are all the random state there is.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from medgan.progress import Cancelled, Progress, silent
from medgan.settings import TrainSettings
from medgan.training import parallel
from medgan.training.alarms import Alarm
from medgan.training.average import Average
from medgan.training.curves import score_name, verdict
from medgan.training.interrupt import Interrupts
from medgan.training.kinds.base import Kind
from medgan.training.loader import Loader, Samples
from medgan.training.losses import Adversarial
from medgan.training.means import Means
from medgan.training.parallel import World
from medgan.training.plan import Plan
from medgan.training.randomness import seed_everything
from medgan.training.result import TrainingResult, TrainingStopped
from medgan.training.run_folder import RunFolder
from medgan.training.updates import Updates, number_format
from medgan.training.validation import Validation

BAD_STEPS = 5
"""Steps in a row whose losses are no numbers before the training goes back to its checkpoint."""

MOST_RETURNS = 3
"""How often it goes back, with half the rates each time, before it gives up."""

BY_THE_CLOCK = (
    "The minutes are ahead of the steps and set the learning rates, so the same seed need not give the same losses "
    "again; with minutes 0 it does."
)

Batch = dict[str, Tensor]


def train(
    kind: Kind,
    samples: Samples,
    settings: TrainSettings,
    folder: Path,
    progress: Progress = silent,
    data: Mapping[str, Any] | None = None,
) -> TrainingResult:
    """Train ``kind`` until the budget is spent or validation no longer rises, in ``folder`` (made if need be).

    ``data``: what ``data.json`` is to hold from the first step on (see :class:`medgan.training.data.TrainingData`).

    Started again with the same folder it goes on. Raises :class:`Cancelled` (asked for by ``progress``) or
    ``KeyboardInterrupt`` (also at SIGTERM) after a checkpoint was saved, :class:`TrainingStopped` if it can not go on.
    """
    with parallel.joined(settings.device) as world, Interrupts(progress, world) as interrupts:
        run_folder = RunFolder(Path(folder), world, settings.tensorboard, data)
        try:
            return Training(kind, samples, settings, run_folder, interrupts, world).run()
        finally:
            run_folder.close()


class Training:
    """One run: its networks, where it is, and what it writes."""

    def __init__(
        self,
        kind: Kind,
        samples: Samples,
        settings: TrainSettings,
        folder: RunFolder,
        interrupts: Interrupts,
        world: World,
    ) -> None:
        self.settings, self.samples, self.folder = settings, samples, folder
        self.interrupts, self.world = interrupts, world
        self.kind = kind.to(world.device).train()
        self.plan = Plan.of(settings, 1.0 if kind.critic is None else kind.faithful_share)
        rate, critic_rate = settings.rates()
        numbers = number_format(settings.precision, world.device)
        # A short memory suits a goal that an opponent moves: Gulrajani et al. 2017 (arXiv 1704.00028).
        betas = (0.9, 0.99) if self.plan.faithful_share > 0.0 else (0.5, 0.9)
        phase = world.phase(kind.generator, kind.generator_loss)
        self.generator = Updates(kind.generator, phase, rate, betas, numbers, world.device)
        self.critic: Updates | None = None
        if kind.critic is not None:
            phase = world.phase(kind.critic, kind.critic_loss)
            self.critic = Updates(kind.critic, phase, critic_rate, (0.5, 0.9), numbers, world.device)
        self.average = Average(kind.generator, settings.average)
        self.validation = Validation(kind, samples.validation() if world.main else [], self.look)
        self.means = Means()

        # Where the training is; all of it is in the checkpoint.
        self.step, self.seconds_before = 0, 0.0
        self.critic_steps_done = 0
        """Of the step at hand: a cancel between critic and generator loses nothing."""
        self.adversarial_began = False
        self.skipped_share = 0.0
        """Share of the budget that a faithful stage left over which ended early."""
        self.rate_factor, self.returns = 1.0, 0
        self.bad_steps, self.bad_in_a_row = 0, 0
        self.logged_step = 0

        self.share, self.adversarial = 0.0, 0.0
        self.clock_noted = False
        self.stopped = ""
        self.rates = {"generator": 0.0, "critic": 0.0}
        self.begun = self.saved_at = time.monotonic()
        self.pace_since, self.pace_steps, self.waited_s = time.monotonic(), 0, 0.0

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> TrainingResult:
        """Train to the end. A cancel saves first."""
        self.begin()
        try:
            if self.logged_step < self.step:  # the person cancelled in the midst of a validation
                self.log()
            while not self.stopped:
                with self.loader() as batches:
                    self.train_with(batches)
            return self.finish()
        except (Cancelled, KeyboardInterrupt):
            if self.interrupts.may_save and not self.bad_in_a_row:
                self.save()
            raise

    def train_with(self, batches: Loader) -> None:
        """Steps until the training is over, or went back to its checkpoint and needs the batches from there."""
        first = self.step
        while self.begin_step():
            if self.step == first:
                self.folder.write_data()
            taken = [self.to_device(next(batches)) for _ in range(self.batches_a_step)]
            sound = self.critic_step(taken)
            sound = self.generator_step(taken[-self.settings.accumulate :]) and sound
            self.step += 1
            self.pace_steps += 1
            self.waited_s, batches.waited_s = self.waited_s + batches.waited_s, 0.0
            if not self.carries_on(sound):
                return
            self.log()
            self.save_now_and_then()

    def critic_step(self, batches: list[Batch]) -> bool:
        """Train the critic, more than once if asked for. Whether its losses were numbers."""
        if self.critic is None or not self.adversarial:
            return True
        self.critic.freeze(False)
        self.generator.freeze(True)
        sound, size = True, self.settings.accumulate
        while self.critic_steps_done < self.settings.critic_steps:
            first = self.critic_steps_done * size
            sound = self.update(self.critic, batches[first : first + size], f"critic {first}") and sound
            self.critic_steps_done += 1
        return sound

    def generator_step(self, batches: list[Batch]) -> bool:
        """Train the generator, and let the average follow. Whether its losses were numbers."""
        self.generator.freeze(False)
        if self.critic is not None:
            self.critic.freeze(True)
        sound = self.update(self.generator, batches, "generator", self.adversarial)
        self.average.follow(self.kind.generator, self.step + 1)
        self.critic_steps_done = 0
        return sound

    def update(self, network: Updates, batches: list[Batch], phase: str, *more: float) -> bool:
        """One step of one network with the mean loss of the batches. Whether loss and gradient were numbers."""
        seed_everything(self.settings.seed, self.step, phase, self.world.rank)
        network.begin()
        means = Means()
        kept = [buffer.clone() for buffer in self.kind.buffers()] if len(batches) > 1 else []
        for number, batch in enumerate(batches):
            try:
                self.look()
            except BaseException:
                # Spectral norm and running statistics move with every forward pass: this step begins anew one day.
                for buffer, before in zip(self.kind.buffers(), kept, strict=False):
                    buffer.copy_(before)
                raise
            means.add(network.add(batch, 1.0 / len(batches), number == len(batches) - 1, *more))
        values = means.tensors()
        sound = network.apply(values["loss"], self.world)
        if sound:
            prefix = phase.split()[0]
            self.means.add({n if n == "right" else f"{prefix}_{n}": value for n, value in values.items()})
        return sound

    # --- before and after a step -------------------------------------------------------------------------------------

    def begin_step(self) -> bool:
        """Agree on where in the budget the training is and set the rates. Whether there is a step to do."""
        self.interrupts.check(self.spent, self.line())
        share = self.plan.share(self.step, self.seconds)
        self.note_clock(share > self.plan.by_steps(self.step) > 0.0)
        share += self.skipped_share
        patient = not self.settings.patience or self.validation.stale < self.settings.patience
        if not patient and share < self.plan.faithful_share < 1.0:
            self.skipped_share += self.plan.faithful_share - share
            share, patient = self.plan.faithful_share, True
            self.validation.stale = 0
        agreed = [share, float(patient), float(self.interrupts.asked), self.skipped_share]
        self.share, patience_left, asked, self.skipped_share = self.world.from_main(agreed)
        self.interrupts.obey(bool(asked))
        if self.share >= 1.0 or not patience_left:
            by_steps = self.settings.steps > 0 and self.step >= self.settings.steps
            self.stopped = "patience" if not patience_left else "steps" if by_steps else "minutes"
            return False
        self.adversarial = self.plan.adversarial(self.share)
        if self.plan.faithful_share > 0.0 and bool(self.adversarial) != self.adversarial_began:
            self.change_stage()
        factor, critic_factor = self.plan.rates(self.step, self.share)
        self.rates["generator"] = self.generator.set_rate(factor * self.rate_factor)
        if self.critic is not None:
            self.rates["critic"] = self.critic.set_rate(critic_factor * self.rate_factor)
        for part in self.kind.modules():
            if isinstance(part, Adversarial):
                part.step = self.step
        return True

    def note_clock(self, governs: bool) -> None:
        """Say once that the time is ahead of the steps."""
        if governs and not self.clock_noted:
            self.clock_noted = True
            if not any(row.get("note") == BY_THE_CLOCK for row in self.folder.rows):
                self.folder.write({"step": self.step, "note": BY_THE_CLOCK})

    def change_stage(self) -> None:
        """The adversarial stage begins, or the faithful one goes on since there is budget for more of it: either from
        the best weights."""
        best = self.world.object_from_main(self.validation.best.get("state"))
        if best:
            self.average.network.load_state_dict(best)
        self.kind.generator.load_state_dict(self.average.network.state_dict())
        self.generator.optimiser.state.clear()
        self.validation.stale = 0
        self.adversarial_began = not self.adversarial_began
        if self.adversarial_began:
            self.kind.adversarial_begins(self.average.network)
        else:
            self.kind.faithful_goes_on()
        note = "The adversarial term begins." if self.adversarial_began else "The faithful stage goes on."
        self.folder.write({"step": self.step, "note": note})

    def carries_on(self, sound: bool) -> bool:
        """Count the steps that were no numbers (their networks did not change); go back after several in a row."""
        self.bad_in_a_row = 0 if sound else self.bad_in_a_row + 1
        self.bad_steps += not sound
        if self.bad_in_a_row < BAD_STEPS:
            return True
        if self.returns == MOST_RETURNS:
            raise TrainingStopped(
                f"The losses were no numbers in {BAD_STEPS} steps in a row up to step {self.step}, also after going "
                f"back {MOST_RETURNS} times with lower rates. Lower Learning rate (--rate) and Critic's rate "
                "(--critic-rate), or set Precision (--precision) to float32, and start in a new folder."
            )
        failed, returns, factor, bad = self.step, self.returns + 1, 0.5 * self.rate_factor, self.bad_steps
        self.restore(going_back=True)
        self.returns, self.rate_factor, self.bad_steps = returns, factor, bad
        advice = (
            f"The losses were no numbers in {BAD_STEPS} steps up to step {failed}; the training went back to step "
            f"{self.step} with half the rates. If it happens again, lower Learning rate (--rate) or set Precision "
            "(--precision) to float32."
        )
        self.folder.tell(Alarm(self.step, "not a number", advice))
        self.save()
        return False

    def log(self) -> None:
        """Write the means of the losses, validate, draw sample images and raise alarms, each when it is due."""
        settings = self.settings
        validates = bool(settings.validate_every) and self.step % settings.validate_every == 0
        if validates or self.step % settings.log_every == 0:
            self.write_row(validates)
            self.folder.tell_alarms()
        self.logged_step = self.step
        if settings.sample_every and self.step % settings.sample_every == 0 and self.world.main:
            seed_everything(settings.seed, 0, "pictures", 0)
            self.folder.write_pictures(self.step, self.validation.pictures(self.average.network))

    def write_row(self, validates: bool) -> None:
        validated: dict[str, Any] = {}
        if validates and self.world.main:
            seed_everything(self.settings.seed, self.step, "validation", 0)
            counts = self.kind.stops_early or not self.adversarial
            validated = self.validation.measure(self.average.network, self.step, counts)
        row: dict[str, Any] = {"step": self.step, "seconds": round(self.seconds, 2)}
        losses = self.means.take(self.world)
        if losses or self.pace_steps:
            took = max(time.monotonic() - self.pace_since, 1e-9)
            rates = self.rates if self.critic is not None else {"generator": self.rates["generator"]}
            row |= {
                "steps_a_second": self.pace_steps / took,
                "loading": self.waited_s / took,
                "rates": dict(rates),
                "adversarial": self.adversarial,
                **losses,
            }
        if self.bad_steps:
            row["skipped"] = self.bad_steps
        if validated:
            row |= {**validated, "keeps_best": self.exports_best}
        self.folder.write(row)
        self.pace_since, self.pace_steps, self.waited_s = time.monotonic(), 0, 0.0

    @property
    def hands_best(self) -> bool:
        """Whether the result has the weights of the best validation."""
        return self.kind.keeps_best and (self.kind.stops_early or not self.adversarial_began)

    @property
    def exports_best(self) -> bool:
        """Whether the model has them, be it beside others."""
        return self.hands_best or self.kind.keeps_faithful

    def finish(self) -> TrainingResult:
        """The last validation, the last checkpoint, and the result."""
        if self.validation.last_step != self.step and self.step > 0:
            self.write_row(validates=True)
        if self.folder.saved_step != self.step:
            self.save()
        if self.validation.best and self.hands_best:
            self.average.network.load_state_dict(self.validation.best["state"])
        return TrainingResult(
            generator=self.average.network.cpu(),
            steps=self.step,
            seconds=self.seconds,
            stopped=self.stopped,
            best=self.validation.best_figures() if self.exports_best else {},
            done=verdict(self.folder.rows),
            curves=self.folder.rows,
            messages=[*self.folder.messages, *filter(None, [self.world.reason])],
            written=self.world.main,
        )

    # --- what is kept ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Go on from the checkpoint in the folder, or write the first one: a folder that can not be written to shows
        now and not in five minutes."""
        if self.restore():
            self.folder.messages.append(f"The training goes on from step {self.step}.")
            if self.validation.of_other_data and self.world.main:
                self.compare_anew()
        else:
            self.save()

    def compare_anew(self) -> None:
        """The validation volumes are others than before: what is compared from now on is measured on these."""
        seed_everything(self.settings.seed, self.step, "validation", 0)
        values = self.validation.measure_best_again(copy.deepcopy(self.average.network))
        note = "The validation volumes changed; figures from before can not be compared with later ones."
        self.folder.write({"step": self.step, "note": note, "compares_anew": True, **values})
        self.save()

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "random": {"seed": self.settings.seed, "step": self.step},
            "critic_steps_done": self.critic_steps_done,
            "adversarial_began": self.adversarial_began,
            "skipped_share": self.skipped_share,
            "rate_factor": self.rate_factor,
            "returns": self.returns,
            "bad_steps": self.bad_steps,
            "logged_step": self.logged_step,
            "rates": dict(self.rates),
            "adversarial": self.adversarial,
            "kind": self.kind.state_dict(),
            "generator": self.generator.state(),
            "critic": self.critic.state() if self.critic is not None else {},
            "average": self.average.network.state_dict(),
            "validation": self.validation.state(),
            "means": self.means.state(),
            "settings": self.settings.to_dict(),
        }

    def save(self) -> None:
        """Make this moment the checkpoint."""
        self.saved_at = time.monotonic()
        self.folder.save(self.state() if self.world.main else {"step": self.step})

    def save_now_and_then(self) -> None:
        # Only where the losses are all logged, so that no process but the first has any to add.
        due = time.monotonic() - self.saved_at > 60.0 * self.settings.save_minutes
        if due and self.step % self.settings.log_every == 0 and not self.bad_in_a_row:
            self.save()

    def restore(self, going_back: bool = False) -> bool:
        """Take over the checkpoint; False where there is none. ``going_back``: the time that was lost stays counted."""
        state = self.folder.read()
        if state is None:
            return False
        try:
            self.kind.load_state_dict(state["kind"])
            self.average.network.load_state_dict(state["average"])
            self.generator.load(state["generator"])
            if self.critic is not None:
                self.critic.load(state["critic"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise TrainingStopped(
                f"The checkpoint in {self.folder.path} belongs to other networks than these settings and this data "
                "(its labels, channels and classes) make; choose another folder, or the settings in its settings.json "
                "and the data that it began with."
            ) from error
        self.validation.load(state["validation"], self.folder.data_changed)
        self.means.load(state["means"], self.world.device)
        self.step, self.critic_steps_done = state["step"], state["critic_steps_done"]
        self.adversarial_began, self.skipped_share = state["adversarial_began"], state["skipped_share"]
        self.rate_factor, self.returns = state["rate_factor"], state["returns"]
        self.bad_steps, self.bad_in_a_row, self.logged_step = state["bad_steps"], 0, state["logged_step"]
        self.rates, self.adversarial = dict(state["rates"]), state["adversarial"]
        if not going_back:
            self.seconds_before, self.begun = state["seconds"], time.monotonic()
        return True

    # --- small things ------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.begun

    @property
    def spent(self) -> float:
        """Share of the budget that is spent, for the person."""
        return max(self.plan.by_steps(self.step), self.plan.by_time(self.seconds)) + self.skipped_share

    @property
    def batches_a_step(self) -> int:
        return self.settings.accumulate * (self.settings.critic_steps if self.critic is not None else 1)

    def loader(self) -> Loader:
        settings = dataclasses.replace(self.settings, accumulate=self.batches_a_step)
        return Loader(
            self.samples,
            self.kind.draw,
            settings,
            first_step=self.step,
            rank=self.world.rank,
            world=self.world.size,
            waiting=self.look,
            pin=self.world.device.type == "cuda",
        )

    def to_device(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.world.device, non_blocking=True) for name, tensor in batch.items()}

    def look(self) -> None:
        """Stop here if the person wants to."""
        self.interrupts.check(self.spent)

    def line(self) -> str:
        """Where the training is, for the person."""
        steps = f" of {self.settings.steps}" if self.settings.steps else ""
        score = ""
        if self.validation.best:
            score = f", best {score_name(self.folder.rows)} {self.validation.best['figures']['score']:.4g}"
        return f"Step {self.step}{steps}{score}"
