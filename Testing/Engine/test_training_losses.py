"""The adversarial losses by hand and against MONAI, the gradient penalties on critics whose gradient is known."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import PatchDiscriminator
from torch import nn

from medgan.settings import Adversarial as Form
from medgan.settings import TrainSettings
from medgan.training.losses import (
    R1_EVERY,
    Adversarial,
    critic_loss,
    generator_loss,
    gradient_penalty,
    logits,
    r1_penalty,
    spectrally_normalised,
)

REAL, FAKE = torch.tensor([[2.0], [-0.5]]), torch.tensor([[-3.0], [0.5]])


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(
    ("form", "critic", "generator"),
    [
        (
            Form.NON_SATURATING,
            (softplus(-2.0) + softplus(0.5)) / 2 + (softplus(-3.0) + softplus(0.5)) / 2,
            (softplus(3.0) + softplus(-0.5)) / 2,
        ),
        (Form.LEAST_SQUARES, 0.5 * (1.0 + 2.25) / 2 + 0.5 * (9.0 + 0.25) / 2, 0.5 * (16.0 + 0.25) / 2),
        (Form.HINGE, (0.0 + 1.5) / 2 + (0.0 + 1.5) / 2, 1.25),
        (Form.WASSERSTEIN, -1.25 - 0.75, 1.25),
    ],
)
def test_losses_worked_out_by_hand(form, critic, generator):
    assert float(critic_loss(form, REAL, FAKE)) == pytest.approx(critic, abs=1e-6)
    assert float(generator_loss(form, FAKE)) == pytest.approx(generator, abs=1e-6)


def test_non_saturating_is_monai_s_cross_entropy_and_hinge_its_hinge_before_the_tanh():
    entropy, hinge = PatchAdversarialLoss(criterion="bce"), PatchAdversarialLoss(criterion="hinge")
    wanted = entropy(REAL, True, True) + entropy(FAKE, False, True)
    assert float(critic_loss(Form.NON_SATURATING, REAL, FAKE)) == pytest.approx(float(wanted), abs=1e-5)
    assert float(generator_loss(Form.NON_SATURATING, FAKE)) == pytest.approx(
        float(entropy(FAKE, True, False)), abs=1e-5
    )
    small_real, small_fake = REAL / 4, FAKE / 4  # within -1..1, where tanh can be undone
    wanted = hinge(small_real.atanh(), True, True) + hinge(small_fake.atanh(), False, True)
    assert float(critic_loss(Form.HINGE, small_real, small_fake)) == pytest.approx(float(wanted), abs=1e-5)


class Linear(nn.Module):
    """A critic with one logit a sample and a gradient that is its weights everywhere."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))

    def forward(self, images):
        return [images, (images * self.weight.view(1, 1, -1)).sum(dim=(1, 2), keepdim=True)]


def test_penalties_of_a_linear_critic_and_their_own_gradients():
    critic = Linear([3.0, 4.0])
    real, fake, mix = torch.rand(5, 1, 2), torch.rand(5, 1, 2), torch.rand(5)
    assert r1_penalty(critic, real).item() == pytest.approx(25.0, rel=1e-5)
    penalty = gradient_penalty(critic, real, fake, mix)
    assert penalty.item() == pytest.approx(16.0, rel=1e-5)
    penalty.backward()  # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|
    torch.testing.assert_close(critic.weight.grad, torch.tensor([8 * 0.6, 8 * 0.8]), rtol=1e-4, atol=1e-4)


def test_penalty_of_a_patch_critic_is_the_mean_over_its_patches():
    weights = nn.Conv1d(1, 1, 2, stride=2, bias=False)  # patches that do not overlap
    with torch.no_grad():
        weights.weight.copy_(torch.tensor([[[3.0, 4.0]]]))
    assert r1_penalty(weights, torch.rand(2, 1, 8)).item() == pytest.approx(25.0, rel=1e-5)


def test_gradient_penalty_looks_between_real_and_fake():
    seen = []

    def critic(images):
        seen.append(images.detach().clone())
        return images.square().sum(dim=(1, 2))

    gradient_penalty(critic, torch.zeros(2, 1, 3), torch.ones(2, 1, 3), torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(seen[0][:, 0, 0], torch.tensor([0.25, 0.75]))


def test_r1_is_applied_every_sixteenth_step_in_float32_and_counts_sixteen_times():
    adversary = Adversarial(TrainSettings(adversarial=Form.HINGE, r1_weight=0.5))
    critic, real, fake = Linear([3.0, 4.0]), torch.rand(4, 1, 2), torch.rand(4, 1, 2)
    adversary.step = 1
    plain = adversary.critic(critic, real, fake)
    assert "r1" not in plain
    adversary.step = 2 * R1_EVERY
    with torch.autocast("cpu", torch.bfloat16):
        due = adversary.critic(critic, real, fake)
    assert due["r1"].dtype is torch.float32
    assert (due["loss"] - plain["loss"]).item() == pytest.approx(0.5 * R1_EVERY * 0.5 * 25.0, rel=1e-4)


def test_share_of_right_judgements():
    class Says(nn.Module):
        def forward(self, images):
            return images

    hinge = Adversarial(TrainSettings(adversarial=Form.HINGE))
    assert float(hinge.critic(Says(), REAL, FAKE)["right"]) == 0.5
    squares = Adversarial(TrainSettings(adversarial=Form.LEAST_SQUARES))
    assert float(squares.critic(Says(), torch.full((2, 1), 0.6), torch.full((2, 1), 0.4))["right"]) == 1.0
    wasserstein = Adversarial(TrainSettings(adversarial=Form.WASSERSTEIN, gradient_penalty=0.0))
    assert "right" not in wasserstein.critic(Says(), REAL, FAKE)
    with pytest.raises(ValueError, match="needs 'mix'"):
        Adversarial(TrainSettings(adversarial=Form.WASSERSTEIN)).critic(Says(), REAL, FAKE)


def test_spectral_norm_bounds_every_layer_of_monai_s_critic_and_gradients_flow():
    critic = spectrally_normalised(PatchDiscriminator(3, 4, 1, num_layers_d=1, norm="INSTANCE"))
    said = logits(critic(torch.rand(1, 1, 8, 8, 8)))
    for _ in range(20):  # power iterations
        critic(torch.rand(1, 1, 8, 8, 8))
    convolutions = [layer for layer in critic.modules() if isinstance(layer, nn.Conv3d)]
    assert len(convolutions) == 3
    for layer in convolutions:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
        assert float(largest) == pytest.approx(1.0, abs=0.05)
    said.sum().backward()
    assert all(parameter.grad is not None for parameter in critic.parameters())


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.AUTO])
def test_every_loss_pulls_a_generator_to_the_data(form):
    torch.manual_seed(0)
    adversary = Adversarial(TrainSettings(adversarial=form, gradient_penalty=1.0, r1_weight=0.1))
    critic = nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    place = nn.Parameter(torch.tensor(0.0))  # the generator: noise around this place; the data: noise around 2
    for_critic = torch.optim.Adam(critic.parameters(), 3e-2, betas=(0.5, 0.9))
    for_generator = torch.optim.Adam([place], 5e-2, betas=(0.5, 0.9))
    places = []
    for step in range(150):
        adversary.step = step
        fake = place + 0.5 * torch.randn(32, 1)
        for_critic.zero_grad()
        adversary.critic(critic, 2.0 + 0.5 * torch.randn(32, 1), fake, torch.rand(32))["loss"].backward()
        for_critic.step()
        for_generator.zero_grad()
        adversary.generator(critic(fake)).backward()
        for_generator.step()
        places.append(float(place.detach()))
    assert sum(places[-50:]) / 50 == pytest.approx(2.0, abs=0.5)
