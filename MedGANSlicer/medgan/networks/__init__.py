"""The networks that a model may use: an allow-list, so that a bundle can name a class but never bring one."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from medgan.networks.deblur import DeblurNet
from medgan.networks.denoise import DenoiseNet
from medgan.networks.superres import SliceNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "medgan.DeblurNet": DeblurNet,
    "medgan.DenoiseNet": DenoiseNet,
    "medgan.SliceNet": SliceNet,
}
"""Network class by the name that stands in a bundle's metadata."""

NOISE_CONDITIONED = (DenoiseNet,)
"""Networks that take (image, sigma, spread), through ``shift_averaged``; others that denoise take the image alone."""
