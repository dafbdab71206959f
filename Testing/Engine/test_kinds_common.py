"""What holds for every kind of training: losses that follow from the batch, state that survives, clear refusals."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace

import pytest
import torch

import kind_tools
from medgan.models import ModelError, find
from medgan.settings import Adversarial, Restores, TrainKind
from medgan.training.kinds import make_kind
from medgan.training.kinds.common import diversity, mmd, psnr, ssim
from medgan.training.validation import Validation

ALL = [(kind, True) for kind in TrainKind] + [(TrainKind.TRANSLATE, False)]
WITH_CRITIC = [each for each in ALL if each[0] is not TrainKind.CLASSIFY]
NAMES = [f"{kind.value}{'' if paired else ' unpaired'}" for kind, paired in ALL]
DRAWS_ANEW = (TrainKind.ENHANCE, TrainKind.LABEL_TO_VOLUME)
"""Kinds whose validation batches come back from the CPU."""


def sample(rng):
    labels, image = kind_tools.ball(rng)
    grain = (image + 0.05 * torch.randn(image.shape, generator=rng))[None]
    held = {"source": grain, "target": 0.9 - 0.8 * image[None], "image": grain, "labels": labels}
    return {**held, "class": torch.randint(2, (), generator=rng)}


@pytest.mark.parametrize(("kind", "paired"), ALL, ids=NAMES)
def test_losses_are_means_over_samples_and_follow_from_the_batch(kind, paired):
    made = kind_tools.small(kind, paired).eval()  # spectral normalisation rests
    whole = kind_tools.batch_of(made, sample, 3)
    halves = [{name: tensor[n : n + 1] for name, tensor in whole.items()} for n in range(2)]
    phases = [made.critic_loss] if made.critic is not None else []
    for phase in (*phases, lambda batch: made.generator_loss(batch, 1.0)):
        together, again = phase(whole)["loss"].item(), phase(whole)["loss"].item()
        apart = sum(phase(half)["loss"].item() for half in halves) / 2
        assert together == again
        assert together == pytest.approx(apart, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("kind", "paired"), WITH_CRITIC)
def test_generator_loss_leaves_the_critic_alone_and_the_other_way_round(kind, paired):
    made = kind_tools.small(kind, paired)
    batch = kind_tools.batch_of(made, sample, 1)
    made.generator_loss(batch, 1.0)["loss"].backward()
    assert all(p.grad is None for p in made.critic.parameters())
    trained = [p for p in made.generator.parameters() if p.grad is not None and float(p.grad.abs().max()) > 0]
    assert len(trained) >= 2  # last layers that start at 0 keep the others still at first
    for parameter in made.generator.parameters():
        parameter.grad = None
    made.critic_loss(batch)["loss"].backward()
    assert all(p.grad is None for p in made.generator.parameters())
    assert any(float(p.grad.abs().max()) > 0 for p in made.critic.parameters() if p.grad is not None)


@pytest.mark.parametrize(("kind", "paired"), ALL, ids=NAMES)
def test_validation_repeats_itself_and_pictures_are_of_one_size(kind, paired):
    made = kind_tools.small(kind, paired).eval()
    batches = kind_tools.validation_of(sample, batches=2)
    first, second = made.validate(made.generator, batches), made.validate(made.generator, batches)
    assert first == second
    shown = first[made.score_name]
    assert abs(first["score"]) == pytest.approx(abs(shown))
    pictures = made.pictures(made.generator, batches[0])
    assert len(pictures) >= (2 if kind is TrainKind.CLASSIFY else 3)
    assert len({picture.shape for picture in pictures.values()}) == 1
    assert all(picture.min() >= 0.0 and picture.max() <= 1.0 for picture in pictures.values())


@pytest.mark.parametrize(("kind", "paired"), [each for each in ALL if each[0] not in DRAWS_ANEW])
def test_validation_batches_are_where_the_networks_are(kind, paired):
    """The meta device, which has no numbers, in place of a GPU: how far it gets is how far it is looked at."""
    made = kind_tools.small(kind, paired).to("meta")
    places = []

    def look(module, given):
        weights = list(module.parameters(recurse=False))
        places.extend((tensor.device.type, weights[0].device.type) for tensor in given if weights)

    for module in made.generator.modules():
        module.register_forward_pre_hook(look)
    validation = Validation(made, kind_tools.validation_of(sample, batches=1), lambda: None)
    for what in (lambda: validation.measure(made.generator, 1, True), lambda: validation.pictures(made.generator)):
        places.clear()
        with contextlib.suppress(NotImplementedError, RuntimeError):
            what()
        assert set(places) == {("meta", "meta")}


@pytest.mark.parametrize(("kind", "paired"), ALL, ids=NAMES)
def test_mixed_precision_gives_the_losses_of_float32(kind, paired):
    made = kind_tools.small(kind, paired)
    batch = kind_tools.batch_of(made, sample, 4)
    phases = [made.critic_loss] if made.critic is not None else []
    for phase in (*phases, lambda batch: made.generator_loss(batch, 1.0)):
        full = float(phase(batch)["loss"].detach())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = phase(batch)["loss"]
        mixed.float().backward()
        assert float(mixed.detach()) == pytest.approx(full, rel=0.05, abs=0.05)


def test_every_kind_is_made_with_its_own_networks_and_their_export_builds_them_again(tmp_path):
    from medgan.models import build_network, load_state

    for kind, paired in ALL:
        facts = replace(kind_tools.FACTS, paired=paired)
        made = make_kind(kind_tools.settings_for(kind), facts)
        held = sum(parameter.numel() for parameter in made.generator.parameters())
        assert held < 4_500_000, kind
        exported = made.export(made.generator)
        assert exported.task == kind.value
        card = kind_tools.bundle_of(exported, tmp_path / f"{kind.value}-{paired}")
        build_network(card, load_state(card, "faithful"))  # raises when they do not fit


def test_what_does_not_go_together_is_said():
    def refused(text, kind, start=None, facts=kind_tools.FACTS, error=ValueError, **settings):
        with pytest.raises(error, match=re.escape(text)):
            make_kind(kind_tools.settings_for(kind, **settings), facts, start)

    shipped = find("denoise")
    refused("is for the task 'enhance'", TrainKind.SEGMENT, shipped, error=ModelError)
    refused("restores the noise, not the blur", TrainKind.ENHANCE, shipped, replace(kind_tools.FACTS, patch=48),
            ModelError, restores=Restores.BLUR)  # fmt: skip
    for name in ("translate", "label-to-volume", "brain-from-noise", "brain-parts"):
        card = find(name)
        refused("can not be trained further here", TrainKind(card.task), card, error=ModelError)
    other = replace(find("tissue-ct"), task="from-noise")  # a network of MONAI's, which is fed with images
    refused("can not be trained further here", TrainKind.FROM_NOISE, other, error=ModelError)
    refused("patches of at least 32", TrainKind.ENHANCE, restores=Restores.BLUR)
    refused("16, 32, 64 or 128 voxels", TrainKind.FROM_NOISE, facts=replace(kind_tools.FACTS, patch=48))
    refused("at least one label", TrainKind.SEGMENT, facts=replace(kind_tools.FACTS, labels=()))
    refused("taught by the critic alone", TrainKind.FROM_NOISE, adversarial_weight=0.0)
    refused("needs its critic", TrainKind.TRANSLATE, facts=replace(kind_tools.FACTS, paired=False),
            adversarial_weight=0.0)  # fmt: skip
    refused("these have 2", TrainKind.ENHANCE, facts=replace(kind_tools.FACTS, channels=2))


def test_without_adversarial_weight_there_is_no_critic():
    for kind in (TrainKind.ENHANCE, TrainKind.TRANSLATE, TrainKind.SEGMENT, TrainKind.AUTOENCODER):
        assert make_kind(kind_tools.settings_for(kind, adversarial_weight=0.0), kind_tools.FACTS).critic is None


def test_bounded_critic_has_no_norm_and_wasserstein_is_not_bounded():
    def layers(**settings):
        made = make_kind(kind_tools.settings_for(TrainKind.TRANSLATE, **settings), kind_tools.FACTS)
        return str(made.critic)

    bounded = layers()
    assert "SpectralNorm" in bounded
    assert "InstanceNorm3d" not in bounded
    free = layers(adversarial=Adversarial.WASSERSTEIN)
    assert "SpectralNorm" not in free
    assert "InstanceNorm3d" in free


def test_figures_agree_with_hand_and_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = torch.Generator().manual_seed(0)
    one = torch.rand(1, 1, 14, 15, 16, generator=rng)
    other = (one + 0.1 * torch.randn(one.shape, generator=rng)).clamp(0, 1)
    a, b = one[0, 0].numpy(), other[0, 0].numpy()
    assert float(psnr(one, other)) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-4)
    theirs = structural_similarity(a, b, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert float(ssim(one, other)) == pytest.approx(theirs, abs=0.02)  # theirs goes to the faces, MONAI's stops before
    assert float(psnr(one, one)) == 100.0
    same = torch.randn(40, 5, generator=rng)
    far = torch.randn(40, 5, generator=rng) + 3.0
    assert abs(mmd(same, torch.randn(40, 5, generator=rng))) < 0.03
    assert mmd(same, far) > 0.4
    assert diversity(one.expand(4, -1, -1, -1, -1)) == pytest.approx(0.0, abs=1e-4)
    assert diversity(torch.rand(4, 1, 12, 12, 12, generator=rng)) > 0.8
