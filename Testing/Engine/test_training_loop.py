"""The loop on a kind that learns to halve an image: what it learns, logs, averages, and when it stops."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from medgan.evaluation.table import from_png
from medgan.progress import Cancelled
from medgan.settings import Precision
from medgan.training import checkpoint, updates
from medgan.training.average import Average
from medgan.training.export import figures_of
from medgan.training.loop import BY_THE_CLOCK, train
from medgan.training.plan import Plan
from medgan.training.result import TrainingStopped
from tiny_training import HalfKind, RandomPairs, losses, settings


def run(folder, kind=None, samples=None, progress=lambda fraction, message="": None, **changes):
    chosen = settings(**changes)
    kind = kind or HalfKind(chosen)
    return kind, train(kind, samples or RandomPairs(), chosen, folder, progress)


def named(rows, name):
    return [row[name] for row in rows if name in row]


def test_it_learns_and_logs_every_curve(tmp_path):
    seen = []
    kind, result = run(
        tmp_path, steps=60, average=0.9, progress=lambda fraction, message="": seen.append((fraction, message))
    )
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert result.curves == rows
    assert (result.steps, result.stopped, result.written) == (60, "steps", True)
    errors = named(rows, "generator_error")
    assert np.mean(errors[-5:]) < 0.1 * np.mean(errors[:2])
    steps = [row for row in rows if "generator_loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 61))
    assert all(
        {"seconds", "steps_a_second", "loading", "adversarial", "critic_loss", "right"} <= row.keys() for row in steps
    )
    assert steps[30]["rates"] == {"generator": pytest.approx(0.01), "critic": pytest.approx(0.001)}
    assert [row["step"] for row in rows if "val_score" in row] == list(range(5, 61, 5))
    assert result.best["score"] == pytest.approx(max(named(rows, "val_score")), rel=1e-6)
    assert result.best["similarity"] == result.best["score"]
    # What is handed back has the figures of the best validation.
    figures = kind.validate(result.generator, RandomPairs().validation())
    assert figures["score"] == pytest.approx(result.best["score"], rel=1e-5)
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert any("Step 59 of 60" in message for _, message in seen)


def test_a_finished_training_is_not_done_again_and_goes_on_with_more_steps(tmp_path):
    run(tmp_path, steps=10)
    log = (tmp_path / "log.jsonl").read_bytes()
    _, again = run(tmp_path, steps=10)
    assert again.steps == 10
    assert (tmp_path / "log.jsonl").read_bytes() == log
    _, more = run(tmp_path, steps=12, device="mps")
    assert more.steps == 12
    assert more.messages[0] == "The training goes on from step 10.", "before what is said of the device, if anything is"
    assert (tmp_path / "log.jsonl").read_bytes().startswith(log)


def test_minutes_that_were_spent_before_an_interruption_count(tmp_path):
    run(tmp_path, steps=3)
    state, _ = checkpoint.read(tmp_path)
    checkpoint.write({**state, "seconds": 90.0}, tmp_path)
    _, result = run(tmp_path, steps=4, minutes=1.0)
    assert (result.steps, result.stopped) == (3, "minutes")
    assert 90.0 <= result.seconds < 150.0


def test_without_a_critic_there_is_no_adversarial_term(tmp_path):
    kind = HalfKind(settings(), with_critic=False)
    _, result = run(tmp_path, kind, steps=6)
    assert not named(result.curves, "critic_loss")
    assert set(named(result.curves, "adversarial")) == {0.0}


def test_average_follows_the_weights_by_its_decay():
    network = nn.Linear(1, 1, bias=False)
    average = Average(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(1.0)
        average.network.weight.fill_(0.0)
    average.follow(network, 1)  # decay 1/10 at the first step
    assert average.network.weight.item() == pytest.approx(0.9)
    average.follow(network, 1000)
    assert average.network.weight.item() == pytest.approx(0.95)
    assert not average.network.weight.requires_grad
    exact = Average(network, 0.0)
    exact.follow(network, 50)
    assert exact.network.weight.item() == 1.0


def test_accumulated_batches_are_one_larger_batch(tmp_path):
    kinds, rows = [], []
    for name, changes in {"large": {"batch": 4}, "accumulated": {"batch": 2, "accumulate": 2}}.items():
        kind, result = run(tmp_path / name, steps=4, **changes)
        kinds.append(kind)
        rows.append(named(result.curves, "generator_loss"))
    np.testing.assert_allclose(*rows, rtol=1e-4)
    for one, other in zip(*(kind.generator.parameters() for kind in kinds), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped():
    network = nn.Linear(1, 1, bias=False)
    one_sample = {"x": torch.ones(1, 1)}
    world = updates.World(0, 1, torch.device("cpu"))
    phase = world.phase(network, lambda batch: {"loss": 1000.0 * network(batch["x"]).sum()})
    made = updates.Updates(network, phase, 0.1, (0.9, 0.99), torch.float32, world.device)
    made.begin()
    values = made.add(one_sample, 1.0, True)
    assert network.weight.grad.item() == pytest.approx(1000.0)
    assert made.apply(values["loss"], world)
    assert network.weight.grad.item() == pytest.approx(updates.CLIP, rel=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_what_float32_learns(tmp_path, precision):
    _, result = run(tmp_path, steps=40, precision=precision)
    errors = named(result.curves, "generator_error")
    assert np.mean(errors[-5:]) < 0.2 * np.mean(errors[:2])
    assert not named(result.curves, "skipped")
    scaler = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["generator"]["scaler"]
    assert bool(scaler) == (precision == "float16")


def test_automatic_precision_is_float32_but_on_a_fast_gpu(monkeypatch):
    monkeypatch.setattr(updates, "fast_bfloat16", lambda device: True)
    formats = [updates.number_format(Precision.AUTO, torch.device(name)) for name in ("cpu", "cuda", "mps")]
    assert formats == [torch.float32, torch.bfloat16, torch.float32]
    monkeypatch.setattr(updates, "fast_bfloat16", lambda device: False)
    assert updates.number_format(Precision.AUTO, torch.device("cuda")) is torch.float32


def test_float16_finds_a_scale_without_counting_it_as_a_failure(tmp_path):
    """The first scale is 65536: a loss of 1000 overflows with it."""

    class Loud(HalfKind):
        def generator_loss(self, batch, adversarial):
            values = super().generator_loss(batch, 0.0)
            return {**values, "loss": 1e4 * values["error"]}

    _, result = run(tmp_path, Loud(settings()), steps=15, precision="float16")
    assert not named(result.curves, "skipped")
    scaler = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["generator"]["scaler"]
    assert scaler["scale"] < 65536.0


def test_several_critic_steps_see_samples_of_their_own(tmp_path):
    seen = []

    class Watching(HalfKind):
        def critic_loss(self, batch):
            seen.append(float(batch["input"].sum()))
            return super().critic_loss(batch)

    _, result = run(tmp_path, Watching(settings()), steps=3, critic_steps=2)
    assert len(seen) == len(set(seen)) == 6
    assert result.steps == 3


def test_generator_step_leaves_the_critic_alone_and_the_other_way_round(tmp_path):
    chosen = settings(steps=1, spectral_norm=False)

    class Watching(HalfKind):
        def critic_loss(self, batch):
            self.wanted = [p.requires_grad for p in (*self.generator.parameters(), *self.critic.parameters())]
            return super().critic_loss(batch)

        def generator_loss(self, batch, adversarial):
            self.before = [parameter.clone() for parameter in self.critic.parameters()]
            self.asked = [p.requires_grad for p in (*self.generator.parameters(), *self.critic.parameters())]
            return super().generator_loss(batch, adversarial)

    kind = Watching(chosen)
    train(kind, RandomPairs(), chosen, tmp_path)
    assert kind.wanted == [False] * 4 + [True] * 4
    assert kind.asked == [True] * 4 + [False] * 4
    assert all(torch.equal(a, b) for a, b in zip(kind.before, kind.critic.parameters(), strict=True))


def test_faithful_stage_comes_first_and_hands_its_best_weights_on(tmp_path):
    chosen = settings(steps=20, average=0.0)
    kind = HalfKind(chosen)
    kind.faithful_share, kind.stops_early = 0.5, False
    _, result = run(tmp_path, kind, steps=20, average=0.0)
    rows = [row for row in result.curves if "generator_loss" in row]
    assert [row["step"] for row in rows if row["adversarial"] == 0.0] == list(range(1, 11))
    assert all(("critic_loss" in row) == (row["step"] > 10) for row in rows)
    assert rows[-1]["rates"]["generator"] == pytest.approx(0.1 * 1e-2)
    assert kind.begun_from
    assert [row["step"] for row in rows if row.get("val_counts") is False] == [15, 20]
    assert {"step": 10, "note": "The adversarial term begins."} in result.curves


def test_figures_are_those_of_the_weights_that_are_handed_back(tmp_path):
    kind = HalfKind(settings(average=0.0))
    kind.faithful_share, kind.stops_early = 0.5, False
    _, result = run(tmp_path, kind, average=0.0)
    figures = figures_of(result)
    assert figures["step"] == 20  # the best one that counts was of other weights
    with torch.no_grad():
        now = kind.validate(result.generator, RandomPairs().validation())
    assert figures["score"] == pytest.approx(now["score"])


def test_a_faithful_stage_goes_on_when_there_are_more_steps(tmp_path):
    def go_on(steps):
        kind = HalfKind(settings(average=0.0))
        kind.faithful_share, kind.stops_early, kind.keeps_faithful = 0.5, False, True
        result = run(tmp_path, kind, steps=steps, average=0.0)[1]
        generator = HalfKind(settings()).generator
        generator.load_state_dict(kind.begun_from)
        with torch.no_grad():
            return result, kind.validate(generator, RandomPairs().validation())["score"]

    first, second = go_on(20), go_on(80)
    for result, score in (first, second):
        assert result.best["score"] == pytest.approx(score)
    assert 20 < second[0].best["step"] <= 40
    assert second[1] > first[1]
    notes = [(row["step"], row["note"]) for row in second[0].curves if "note" in row]
    began, on = "The adversarial term begins.", "The faithful stage goes on."
    assert notes == [(10, began), (20, on), (40, began)]


def test_a_faithful_stage_that_no_longer_improves_ends_early(tmp_path):
    chosen = settings(steps=1000, patience=3, validate_every=1)
    kind = HalfKind(chosen)
    kind.faithful_share, kind.stops_early = 0.99, True
    kind.validate = lambda generator, batches: {"score": 1.0}
    _, result = run(tmp_path, kind, steps=1000, patience=3, validate_every=1)
    # The first counts as the best; three without a gain end the faithful stage, three more the other one.
    assert kind.begun_from
    assert (result.stopped, result.steps) == ("patience", 7)


def test_scores_on_other_validation_volumes_are_not_compared(tmp_path):
    class Brighter(RandomPairs):
        def validation(self):
            return [{name: 10.0 * tensor for name, tensor in batch.items()} for batch in super().validation()]

    kind, first = run(tmp_path, steps=40, validate_every=4)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["validation"]["best"]
    kind.generator.load_state_dict(saved["state"])
    with torch.no_grad():
        score = kind.validate(kind.generator, Brighter().validation())["score"]
    assert score < first.best["score"], "the same weights"
    _, second = run(tmp_path, samples=Brighter(), steps=44, validate_every=4)
    assert second.best["score"] == pytest.approx(max(score, named(second.curves, "val_score")[-1]))
    anew = next(row for row in second.curves if row.get("compares_anew"))
    assert anew["val_score"] == pytest.approx(score)
    assert (anew["step"], anew["val_step"]) == (40, first.best["step"])
    assert second.done.startswith("Too early to say: 2 validations so far")
    log = (tmp_path / "log.jsonl").read_bytes()
    run(tmp_path, samples=Brighter(), steps=44, validate_every=4)
    assert (tmp_path / "log.jsonl").read_bytes() == log, "it is measured anew once"


@pytest.mark.parametrize("changed", [False, True])
def test_checkpoint_without_its_validation_volumes_goes_by_the_data(tmp_path, changed):
    run(tmp_path, steps=8, validate_every=4)
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["validation"]["digest"]
    torch.save(state, path)
    more = settings(steps=12, validate_every=4)
    result = train(HalfKind(more), RandomPairs(), more, tmp_path, data={"changed": changed})
    assert any(row.get("compares_anew") for row in result.curves) is changed
    assert json.loads((tmp_path / "data.json").read_text()) == {"changed": changed}


def test_data_of_a_training_that_did_no_step_is_not_noted(tmp_path):
    def cancels(fraction, message=""):
        raise Cancelled

    chosen = settings(steps=4)
    with pytest.raises(Cancelled):
        train(HalfKind(chosen), RandomPairs(), chosen, tmp_path, cancels, data={"changed": True})
    assert (tmp_path / "checkpoint.pt").exists()
    assert not (tmp_path / "data.json").exists()


def test_early_stop_hands_back_the_best_weights(tmp_path):
    values = iter([1.0, 3.0, 2.0, 2.5, 2.9, 2.0])
    kept = []

    class Scripted(HalfKind):
        def validate(self, generator, batches):
            kept.append({name: tensor.clone() for name, tensor in generator.state_dict().items()})
            return {"score": next(values)}

    _, result = run(tmp_path, Scripted(settings()), patience=3, validate_every=2)
    assert (result.stopped, result.steps) == ("patience", 10)
    assert (result.best["step"], result.best["score"]) == (4, 3.0)
    for name, tensor in result.generator.state_dict().items():
        assert torch.equal(tensor, kept[1][name])


def test_sample_images_are_the_pictures_side_by_side(tmp_path):
    run(tmp_path, steps=4, sample_every=2)
    files = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert files == ["step_000002.png", "step_000004.png"]
    picture = from_png((tmp_path / "samples" / files[0]).read_bytes())
    assert picture.shape == (8, 8 + 2 + 8 + 2 + 8)
    image = RandomPairs().validation()[0]["input"][0, 0, 4].numpy()
    np.testing.assert_allclose(picture[:, :8], image, atol=1 / 255)
    np.testing.assert_allclose(picture[:, 20:], 0.5 * image, atol=1 / 255)
    assert np.all(picture[:, 8:10] == 1.0)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"step": 2, "pictures": "samples/step_000002.png", "names": ["input", "result", "target"]} in rows


def test_tensorboard_logs_where_it_is_installed_and_one_sentence_where_not(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not
    _, result = run(tmp_path / "without", steps=2, tensorboard=True)
    assert [text for text in result.messages if "tensorboard" in text] == [
        "TensorBoard logs are not written: install the Python package 'tensorboard' to have them."
    ]
    monkeypatch.undo()
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, result = run(tmp_path / "with", steps=5, tensorboard=True, sample_every=5)
    board = events.EventAccumulator(str(tmp_path / "with" / "tensorboard"))
    board.Reload()
    written = [scalar.value for scalar in board.Scalars("generator/error")]
    np.testing.assert_allclose(written, named(result.curves, "generator_error"), rtol=1e-5)
    assert board.Images("samples")[0].step == 5


def test_what_goes_wrong_in_the_data_is_said_as_it_is(tmp_path):
    class Broken(RandomPairs):
        def sample(self, rng):
            raise ValueError("Volume 'a.nii' has 3 channels; choose others.")

    with pytest.raises(ValueError, match="has 3 channels"):
        run(tmp_path, samples=Broken())


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "there").write_text("")
    with pytest.raises(TrainingStopped, match="can not be written"):
        run(tmp_path / "there")


def test_rates_over_the_budget():
    one = Plan(1000, 0.0, 0.0)
    assert [round(one.rates(int(1000 * share), share)[0], 3) for share in (0.0, 0.2, 0.5, 0.75, 0.999)] == [
        0.01, 1.0, 1.0, 0.5, 0.01,
    ]  # fmt: skip
    assert [one.adversarial(share) for share in (0.0, 0.025, 0.5)] == [0.05, 0.5, 1.0]
    two = Plan(1000, 0.0, 0.8)
    assert [round(two.rates(500, share)[0], 3) for share in (0.4, 0.79, 0.8)] == [0.505, 0.01, 0.1]
    assert [two.adversarial(share) for share in (0.79, 0.8, 0.9)] == [0.0, 0.05, 1.0]
    assert Plan(0, 2.0, 0.0).share(10**6, 60.0) == 0.5
    assert Plan(0, 2.0, 0.0).share(10**6, 120.0) == 1.0
    assert Plan(1000, 60.0, 0.0).share(0, 35.0) == 0.0
    assert Plan(1000, 60.0, 0.0).share(25, 85.0) == 0.025
    assert Plan(1000, 60.0, 0.0).share(25, 180.0) == 0.05
    assert Plan(100, 2.0, 1.0).adversarial(0.99) == 0.0


def test_a_seed_gives_the_same_losses_however_fast_the_computer_is(tmp_path):
    chosen = settings(minutes=60.0, steps=8)
    slow, fast = (
        train(HalfKind(chosen), RandomPairs(seconds), chosen, tmp_path / str(seconds)) for seconds in (0.05, 0.0)
    )
    assert losses(slow.curves) == losses(fast.curves)


def test_a_training_that_goes_by_the_clock_says_so_once(tmp_path):
    chosen = settings(minutes=0.01, steps=10**6)
    train(HalfKind(chosen), RandomPairs(0.02), chosen, tmp_path)
    more = dataclasses.replace(chosen, minutes=0.02)
    result = train(HalfKind(more), RandomPairs(0.02), more, tmp_path)
    assert result.stopped == "minutes"
    assert [row["note"] for row in result.curves if "note" in row] == [BY_THE_CLOCK]


def test_cancel_is_heeded_within_a_step_and_loses_nothing(tmp_path):
    """Cancelled at every place where progress is looked at, then gone on: the log is that of an undisturbed run."""
    _, whole = run(tmp_path / "whole", steps=3, accumulate=2, validate_every=2)
    for place in range(1, 16, 2):  # every step looks once at its start and once for each batch of either network
        folder = tmp_path / str(place)
        left = [place]

        def progress(fraction, message="", left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Cancelled

        with pytest.raises(Cancelled):
            run(folder, steps=3, accumulate=2, validate_every=2, progress=progress)
        _, result = run(folder, steps=3, accumulate=2, validate_every=2)
        assert losses(result.curves) == losses(whole.curves), place
