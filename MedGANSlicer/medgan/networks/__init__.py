"""The networks that a model may use: an allow-list, so that a bundle can name a class but never bring one."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from medgan.networks.autoencoder import AutoencoderNet
from medgan.networks.classify import ClassNet
from medgan.networks.contrast import ContrastNet
from medgan.networks.deblur import DeblurNet
from medgan.networks.denoise import DenoiseNet
from medgan.networks.features import FeatureNet
from medgan.networks.from_noise import NoiseNet
from medgan.networks.healthy import HealthyNet
from medgan.networks.label_to_volume import LabelNet
from medgan.networks.parts import PartsNet
from medgan.networks.recognise import RecogniseNet
from medgan.networks.render import RenderNet
from medgan.networks.shapes import ShapeNet
from medgan.networks.superres import SliceNet
from medgan.networks.translate import TranslateNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "medgan.AutoencoderNet": AutoencoderNet,
    "medgan.ClassNet": ClassNet,
    "medgan.ContrastNet": ContrastNet,
    "medgan.DeblurNet": DeblurNet,
    "medgan.DenoiseNet": DenoiseNet,
    "medgan.FeatureNet": FeatureNet,
    "medgan.HealthyNet": HealthyNet,
    "medgan.LabelNet": LabelNet,
    "medgan.NoiseNet": NoiseNet,
    "medgan.PartsNet": PartsNet,
    "medgan.RenderNet": RenderNet,
    "medgan.RecogniseNet": RecogniseNet,
    "medgan.ShapeNet": ShapeNet,
    "medgan.SliceNet": SliceNet,
    "medgan.TranslateNet": TranslateNet,
}
"""Network class by the name that stands in a bundle's metadata."""

NOISE_CONDITIONED = (DenoiseNet,)
"""Networks that take (image, sigma, spread); others that denoise take the image alone."""
