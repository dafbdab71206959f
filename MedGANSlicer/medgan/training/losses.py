"""The adversarial losses of generator and critic, and what keeps a critic tame.

A critic takes images and returns logits: one number a sample, or a map of them (patch critic, Isola et al. 2017, arXiv
1611.07004). It may also return a list of feature maps whose last entry is the logits, as MONAI's PatchDiscriminator.

Sources: non-saturating, Goodfellow et al. 2014 (1406.2661); least squares, Mao et al. 2016 (1611.04076); hinge, Lim and
Ye 2017 (1705.02894); Wasserstein with gradient penalty, Gulrajani et al. 2017 (1704.00028); R1, Mescheder et al. 2018
(1801.04406), applied now and then, Karras et al. 2019 (1912.04958); spectral norm, Miyato et al. 2018 (1802.05957).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from monai.losses import PatchAdversarialLoss
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from medgan.settings import Adversarial as Form
from medgan.settings import TrainSettings

R1_EVERY = 16
"""Steps between two R1 penalties; each counts this many times as much, so that the mean is the same."""

Critic = Callable[[Tensor], "Tensor | Sequence[Tensor]"]

# Of MONAI's three losses only this one is the published one: its hinge goes through tanh, which flattens the gradient
# where a critic is sure of itself, and its cross-entropy through a sigmoid, which overflows in half precision.
_squares = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True, reduction="mean")


class Adversarial(nn.Module):
    """One of the four losses with its penalties, as the settings say. Has no weights and keeps no state."""

    step: int
    """The step of the training, set by the loop: R1 is due in every sixteenth."""

    def __init__(self, settings: TrainSettings) -> None:
        super().__init__()
        self.form = settings.loss()
        self.r1_weight = settings.r1_weight
        self.penalty_weight = settings.gradient_penalty if self.form is Form.WASSERSTEIN else 0.0
        self.step = 0

    def critic(self, critic: Critic, real: Tensor, fake: Tensor, mix: Tensor | None = None) -> dict[str, Tensor]:
        """What the critic minimises ("loss"), and how it does.

        ``real``, ``fake``: (B, C, ...) what the critic is shown; no gradient goes into them. ``mix``: (B,) uniform
        numbers in 0..1, needed by the gradient penalty. "right": share of correct judgements, 0.5 is guessing (not
        for Wasserstein, whose critic gives no judgements); "penalty" and "r1": unweighted, where they apply.
        """
        real, fake = real.detach(), fake.detach()
        on_real, on_fake = logits(critic(real)), logits(critic(fake))
        values = {"loss": critic_loss(self.form, on_real, on_fake)}
        if self.form is not Form.WASSERSTEIN:
            border = 0.5 if self.form is Form.LEAST_SQUARES else 0.0
            values["right"] = 0.5 * ((on_real > border).float().mean() + (on_fake < border).float().mean()).detach()
        if self.penalty_weight:
            if mix is None:
                raise ValueError("The gradient penalty needs 'mix': one number between 0 and 1 for each sample.")
            values["penalty"] = gradient_penalty(critic, real, fake, mix)
            values["loss"] = values["loss"] + self.penalty_weight * values["penalty"]
        if self.r1_weight and self.step % R1_EVERY == 0:
            values["r1"] = r1_penalty(critic, real)
            values["loss"] = values["loss"] + 0.5 * R1_EVERY * self.r1_weight * values["r1"]
        return values

    def generator(self, on_fake: Tensor | Sequence[Tensor]) -> Tensor:
        """What the generator minimises, from what the critic says of its images."""
        return generator_loss(self.form, logits(on_fake))


def logits(said: Tensor | Sequence[Tensor]) -> Tensor:
    """The logits, in float32, of what a critic returned."""
    return (said if isinstance(said, Tensor) else said[-1]).float()


def critic_loss(form: Form, on_real: Tensor, on_fake: Tensor) -> Tensor:
    """The loss of a critic from its logits; the mean over samples and positions."""
    if form is Form.NON_SATURATING:
        return F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
    if form is Form.LEAST_SQUARES:
        return 0.5 * (_squares(on_real, True, True) + _squares(on_fake, False, True))
    if form is Form.HINGE:
        return F.relu(1.0 - on_real).mean() + F.relu(1.0 + on_fake).mean()
    return on_fake.mean() - on_real.mean()


def generator_loss(form: Form, on_fake: Tensor) -> Tensor:
    """The adversarial loss of a generator from the critic's logits on its images; the mean."""
    if form is Form.NON_SATURATING:
        return F.softplus(-on_fake).mean()
    if form is Form.LEAST_SQUARES:
        return 0.5 * _squares(on_fake, True, False)
    return -on_fake.mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """(|gradient| - 1)^2 of the critic between real and fake images, the mean over samples; in float32."""
    share = mix.view(-1, *[1] * (real.ndim - 1)).float()
    squared = _squared_gradient(critic, torch.lerp(real.float(), fake.float(), share))
    return ((squared + 1e-12).sqrt() - 1.0).square().mean()


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """|gradient|^2 of the critic at real images, the mean over samples; in float32."""
    return _squared_gradient(critic, real.float()).mean()


def _squared_gradient(critic: Critic, images: Tensor) -> Tensor:
    """(B,) squared norm of the gradient of one logit; a patch critic has many, and the mean over them is taken as if
    their fields of view did not overlap."""
    images = images.detach().requires_grad_(True)
    with torch.autocast(images.device.type, enabled=False):
        said = logits(critic(images))
        (gradient,) = torch.autograd.grad(said.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1) * (len(said) / said.numel())


def spectrally_normalised(network: nn.Module) -> nn.Module:
    """The network itself, every convolution and linear layer divided by its largest singular value from now on."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
    for layer in list(network.modules()):
        if isinstance(layer, kinds) and not parametrize.is_parametrized(layer, "weight"):
            parametrizations.spectral_norm(layer)
    return network
