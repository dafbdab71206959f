"""A map shows the places that spoke for an answer, and is another one when the weights are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medgan.networks.classify import ClassNet
from medgan.progress import Cancelled
from medgan.saliency import METHODS, explain, last_maps


class Bright(nn.Module):
    """Class 1 for bright voxels, class 0 for dark ones; the other channels see nothing of use."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv3d(1, 3, 3, padding=1, bias=False)
        self.answer = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()
            self.maps.weight[0, 0, 1, 1, 1] = 1.0
            self.maps.weight[1, 0, 1, 1, 1] = -1.0
            self.answer.weight.copy_(torch.tensor([[0.0, 40.0, 0.0], [40.0, 0.0, 0.0]]))

    def forward(self, image: Tensor) -> Tensor:
        return self.answer(self.maps(image).relu().mean(dim=(2, 3, 4)))


class BySlice(nn.Module):
    """Looks at slices one by one and gives its answer as a part of a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, 2, 3, padding=1)
        self.read = nn.GRU(2, 4, batch_first=True)
        self.answer = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        seen = self.look(image[0].transpose(0, 1)).relu().mean(dim=(2, 3))
        return {"kind": self.answer(self.read(seen[None])[0][:, -1])}


@pytest.fixture
def a_spot() -> Tensor:
    image = torch.zeros(1, 1, 16, 20, 18)
    image[..., 10:14, 3:8, 4:8] = 1.0
    return image


@pytest.mark.parametrize("method", METHODS)
def test_map_points_at_what_was_seen(a_spot, method):
    network = Bright().train()
    found = explain(network, a_spot, 1, method)
    assert found.shape == a_spot.shape[2:]
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0.0, 1.0)
    spot = a_spot[0, 0].numpy() > 0
    assert found[spot].mean() > 5 * found[~spot].mean()
    assert network.training  # left as it was
    assert not network.maps._forward_hooks
    assert all(parameter.grad is None for parameter in network.parameters())


def test_nothing_that_speaks_for_a_class_is_a_map_of_zeros(a_spot):
    assert explain(Bright(), a_spot, 0).max() == 0.0


def test_network_of_slices_with_several_answers_is_explained(a_spot):
    torch.manual_seed(0)
    network = BySlice().eval().requires_grad_(False)
    found = explain(network, a_spot, 2, target_layer="look", logits=lambda answer: answer["kind"])
    assert found.shape == a_spot.shape[2:]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_map_changes_with_the_weights():
    """What does not is a picture of the input (Adebayo et al. 2018, arXiv 1810.03292)."""
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    networks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        networks.append(ClassNet(2, widths=(8, 16)))
    one, other = (explain(network, image, 0) for network in networks)
    assert np.ptp(one) > 0
    assert np.ptp(other) > 0
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5
    np.testing.assert_array_equal(one, explain(networks[0], image, 0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "lime"}, "no way 'lime'"),
        ({"class_index": 2}, "no class 2; the network knows 2"),
        ({"target_layer": "nowhere"}, "no layer 'nowhere'"),
        ({"image": torch.zeros(2, 1, 8, 8, 8)}, "One image"),
    ],
)
def test_what_can_not_be_explained_is_said(a_spot, changes, said):
    asked = {"network": Bright(), "image": a_spot, "class_index": 1, **changes}
    with pytest.raises(ValueError, match=said):
        explain(**asked)


def test_network_without_convolution_is_refused():
    with pytest.raises(ValueError, match="no convolution"):
        last_maps(nn.Linear(2, 2))


def test_occlusion_can_be_cancelled(a_spot):
    told: list[float] = []

    def progress(fraction: float, message: str = "") -> None:
        told.append(fraction)
        if len(told) > 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        explain(Bright(), a_spot, 1, "occlusion", progress=progress)
    assert told == sorted(told)
