"""Every other kind learns what it is for: figures get better than an untrained network's, and than a baseline."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import kind_tools
from medgan.settings import TrainKind

pytestmark = pytest.mark.usefixtures("one_thread")


def scans(rng):
    """A ball as a scan sees it: its grain is smoother than white noise."""
    labels, image = kind_tools.ball(rng)
    grain = F.avg_pool3d(torch.randn(1, 1, *image.shape, generator=rng), 3, stride=1, padding=1)[0]
    return {"image": (image + 0.15 * grain).clamp_min(0.0), "labels": labels}


def contrasts(rng):
    _, image = kind_tools.ball(rng)
    return {"source": image[None], "target": 0.9 - 0.8 * image[None]}


def strangers(rng):
    """A ball, and another one in a bright fog."""
    return {"source": kind_tools.ball(rng, 12)[1][None], "target": 0.4 + 0.5 * kind_tools.ball(rng, 12)[1][None]}


def judged(kind, sample, steps, adversarial, rate=2e-3):
    """Validation before, and the best of three on the way, whose averaged generator stays: as in a training."""
    batches = kind_tools.validation_of(sample)
    before = kind.eval().validate(kind.generator, batches)
    found = []
    for part in range(3):
        average, _ = kind_tools.teach(kind.train(), sample, steps // 3, adversarial, rate, first=1 + part * steps)
        found.append((kind.eval().validate(average, batches), average))
    best, average = max(found, key=lambda pair: pair[0]["score"])
    kind.generator.load_state_dict(average.state_dict())
    kind.validate(average, batches)  # what it remembers is of the best
    return before, best


def test_paired_translation_learns_the_other_contrast():
    before, after = judged(kind_tools.small(TrainKind.TRANSLATE), contrasts, 40, 1.0, rate=5e-3)
    assert before["psnr"] == pytest.approx(before["psnr_before"])  # it starts as the identity
    assert after["psnr"] > before["psnr"] + 10.0
    assert after["ssim"] > before["ssim"] + 0.3


def test_unpaired_translation_brings_the_fog_and_finds_its_way_back():
    kind = kind_tools.small(TrainKind.TRANSLATE, paired=False, facts=replace(kind_tools.FACTS, patch=12))
    batches = kind_tools.validation_of(strangers)
    average, _ = kind_tools.teach(kind, strangers, 48, 1.0, rate=4e-3)
    after = kind.eval().validate(average, batches)
    with torch.no_grad():
        made = torch.cat([average(batch["source"]) for batch in batches])
    source, target = (torch.cat([batch[name] for batch in batches]).mean() for name in ("source", "target"))
    assert 0.5 < float((made.mean() - source) / (target - source)) < 1.5  # 0: as it was; no pair was ever seen
    assert after["cycle_psnr"] > 12.0


def test_volumes_from_labels_look_more_real_than_independent_noise_on_means():
    kind = kind_tools.small(TrainKind.LABEL_TO_VOLUME)
    before, after = judged(kind, scans, 45, 1.0, rate=4e-3)
    assert after["texture"] < 0.7 * before["texture"]
    assert after["texture"] < 0.85 * after["texture_mixture"]
    # A contrast that it never saw, dark core in a bright shell: each label keeps the mean that is asked for.
    labels, _ = kind_tools.ball(torch.Generator().manual_seed(5))
    means = torch.tensor([0.3, 0.9, 0.1])[labels]
    condition = torch.stack([means, torch.full_like(means, 0.05)])[None]
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        made = kind.generator(
            condition, torch.randn(1, 1, *means.shape, generator=rng), torch.randn(1, 4, generator=rng)
        )
    for index, mean in enumerate((0.3, 0.9, 0.1)):
        assert float(made[0, 0][labels == index].mean()) == pytest.approx(mean, abs=0.1)


def test_volumes_from_noise_come_nearer_to_real_ones():
    before, after = judged(kind_tools.small(TrainKind.FROM_NOISE), scans, 60, 1.0, rate=2e-3)
    assert after["mmd"] < 0.75 * before["mmd"]
    assert after["diversity_real"] == before["diversity_real"]
    assert after["diversity"] > 0.02


def test_segmentation_learns_each_label_and_a_perfect_one_has_no_difference_for_the_critic():
    kind = kind_tools.small(TrainKind.SEGMENT)
    before, after = judged(kind, scans, 40, 1.0, rate=1e-2)
    assert after["dice"] > max(0.75, before["dice"] + 0.2)
    assert min(after["dice_7"], after["dice_40"]) > 0.6
    batch = kind_tools.batch_of(kind, scans, 1)
    perfect = 50.0 * F.one_hot(batch["labels"], 3).movedim(-1, 1).float()
    with torch.no_grad():
        assert float(kind._difference(batch, perfect)) < 1e-6
        assert float(kind._difference(batch, perfect.roll(1, 1))) > 0.01
    assert kind_tools.small(TrainKind.SEGMENT, adversarial_weight=50.0).weight == pytest.approx(0.1)


def test_autoencoder_says_again_what_it_knows_and_not_what_is_new():
    kind = kind_tools.small(TrainKind.AUTOENCODER)
    before, after = judged(kind, scans, 60, 0.0, rate=3e-3)
    assert after["psnr"] > before["psnr"] + 6.0
    usual = kind.export(kind.generator).about["usual_error"]
    assert usual == pytest.approx(after["error"], rel=1e-3)


def test_replay_shows_earlier_results_and_is_part_of_the_state():
    kind = kind_tools.small(TrainKind.TRANSLATE, paired=False)
    replay = kind.replay["target"]
    first = [torch.full((1, 1, 16, 16, 16), n / 32.0) for n in range(16)]
    for fake in first:
        assert torch.equal(replay.shown(fake, torch.tensor([0.1])), fake)  # nothing earlier to show yet
    other = kind_tools.small(TrainKind.TRANSLATE, paired=False)
    other.load_state_dict(kind.state_dict())
    for held in (replay, other.replay["target"]):
        new = torch.ones(2, 1, 16, 16, 16)
        shown = held.shown(new, torch.tensor([0.2, 0.7]))
        assert float(shown[0].mean()) == pytest.approx(6 / 32.0)  # 0.2 of 0.5 of 16 places
        assert torch.equal(shown[1], new[1])
        assert float(held.held[6].mean()) == 1.0
