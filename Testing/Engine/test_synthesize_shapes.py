"""Heads from noise: flows that do not fold, and a label map and a volume that follow from the latent vector."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from medgan.models import build_network, find, load_state
from medgan.networks import shapes
from medgan.networks.shapes import FLUID, WHITE, ShapeNet, centres, composed, flow, level_at, smallest_jacobian
from medgan.progress import silent
from medgan.recipes.shapes import groups_of, model_of, with_folds
from medgan.settings import SynthesizeSettings
from medgan.synthesis.scan import Run
from medgan.synthesis.shapes import shape_of
from medgan.tasks import synthesize

SIZE = (40, 44, 36)
QUICK = SynthesizeSettings("brain-from-noise", spacing_mm=4.0)


@pytest.fixture(scope="module")
def shipped():
    card = find("brain-from-noise")
    return Run(card, build_network(card, load_state(card, "faithful")), None, 0, [])


def labels_of(shipped, seed=0, mix=0.0, **settings):
    return shape_of(replace(QUICK, **settings), seed, mix, shipped, silent)[0]


def brain_ml(labels):
    return float(((labels.array > 0) & (labels.array < 500)).sum() * np.prod(labels.spacing_mm) / 1000)


def test_the_flow_of_a_constant_velocity_is_a_shift_and_can_be_undone():
    velocity = torch.tensor([1.5, -2.0, 0.5]).view(3, 1, 1, 1).expand(3, 6, 6, 6)
    moved = flow(velocity, (20, 22, 18), SIZE)
    assert torch.allclose(moved, velocity[:, :1, :1, :1].expand_as(moved), atol=1e-5)
    bent = 4 * torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    there, back = (flow(sign * bent, (20, 22, 18), SIZE) for sign in (1, -1))
    both = composed(back, there, SIZE)[:, 4:-4, 4:-4, 4:-4]
    assert both.norm(dim=0).mean() < 0.1 * there.norm(dim=0).mean()


def test_the_jacobian_of_a_scaling_is_its_factor():
    places = centres((20, 22, 18), SIZE)
    growth = torch.tensor([0.1, -0.2, 0.3]).view(3, 1, 1, 1)
    assert smallest_jacobian(growth * places, SIZE) == pytest.approx(1.1 * 0.8 * 1.3, rel=1e-4)
    assert smallest_jacobian(-1.2 * places[:1] * torch.tensor([1.0, 0, 0]).view(3, 1, 1, 1), SIZE) < 0


def test_the_fitted_model_holds_each_head_that_it_was_fitted_to():
    rng = torch.Generator().manual_seed(0)
    velocities = {name: torch.randn(3, 4, 5, 4, generator=rng) for name in "abcd"}
    bases = {name: np.random.default_rng(n).integers(0, 60, SIZE).astype(np.int16) for n, name in enumerate("bd")}
    state, arguments = model_of(velocities, bases)
    network = ShapeNet(**arguments)
    network.load_state_dict(state)
    assert network.components == 3
    assert torch.allclose(network.float().velocity(network.own[1]), velocities["d"], atol=0.05)
    assert np.array_equal(network.codes.numpy()[network.unpacked("base0").numpy()], bases["b"])


def a_folded_model(**more):
    """A model of two heads whose folds are all fluid and all white matter on a base of grey matter; nothing moves."""
    velocities = {name: torch.zeros(3, 4, 5, 4) for name in "ab"}
    base = np.full(SIZE, 3, np.int16)
    base[:, :, : SIZE[2] // 2] = 24
    base[:4] = 515
    state, arguments = model_of(velocities, {"a": base})
    state, arguments = with_folds(state, arguments, [np.full(SIZE, level, np.uint8) for level in (FLUID, WHITE)])
    network = ShapeNet(**{**arguments, **more})
    network.load_state_dict({**state, "scales": torch.ones(1), "own": torch.zeros(1, 1)})
    return network.float(), base


def test_the_cortex_is_folded_by_the_head_whose_field_is_largest_and_grey_lies_between(monkeypatch):
    monkeypatch.setattr(shapes, "SHARPNESS", 6.0)  # the box is small
    network, base = a_folded_model(bend_mm=0.0)
    latent = torch.zeros(network.latent)
    assert np.array_equal(network.shape(latent).labels, base)  # no field, so the base keeps its own
    fields = latent[2:].view(2, *network.regions)
    fields[1, :, :, 0], fields[0, :, :, 1] = 1.0, 1.0  # white matter at the left, fluid at the right
    found = network.shape(latent).labels
    assert np.array_equal(found[:4], base[:4])  # bone is not folded
    assert (found[4:, :, :10] == 2).all()
    assert (found[4:, :, -10:] == 24).all()
    row = found[20, 20]
    assert set(np.unique(row)) == {2, 3, 24}
    assert sorted(row.tolist(), key=[2, 3, 24].index) == row.tolist()


def test_further_bending_is_as_large_as_asked_and_folds_nothing():
    network, _ = a_folded_model(bend_mm=1.5)
    rng = torch.Generator().manual_seed(0)
    latent = torch.zeros(network.latent)
    latent[-2400:] = torch.randn(2400, generator=rng)
    large = ShapeNet((208, 224, 176), (32, 34, 27), 1, (4,), 2, bend_mm=4.0)
    size = large.bend(torch.randn(large.latent, generator=rng)).square().sum(dim=0).mean().sqrt()
    assert float(size) == pytest.approx(4.0, rel=0.1)
    shape = network.shape(latent)
    assert shape.smallest_jacobian > 0
    assert not np.array_equal(shape.labels, network.shape(0.0 * latent).labels)


def test_levels_are_between_those_of_the_voxels_around_where_there_are_any():
    levels = torch.zeros(1, 3, 3, 3, dtype=torch.uint8)
    levels[0, 1, 1], levels[0, 2, 1] = 1, 3
    heads = torch.zeros(4, dtype=torch.long)
    places = torch.tensor([[1.0, 1.5, 2.0, 0.2], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    assert torch.allclose(level_at(levels, heads, places), torch.tensor([1.0, 2.0, 3.0, 0.0]))


def test_groups_tell_parts_from_tissues():
    groups = groups_of(np.array([0, 2, 41, 3, 10, 49, 17, 515, 9999]))
    assert groups[0] == 0
    assert groups[1] == groups[2]
    assert groups[4] == groups[5]
    assert len(set(groups.tolist())) == 7


def test_a_head_has_its_labels_and_no_folds(shipped):
    for seed in range(2):
        labels, said = shape_of(QUICK, seed, 0.0, shipped, silent)
        assert said["folding"]["smallest_jacobian"] > 0
        assert 700 < brain_ml(labels) < 2000
        assert {2, 41, 3, 42, 4, 43, 16} <= set(np.unique(labels.array).tolist())
    assert labels.labels[16].name == "Brain-Stem"
    assert np.allclose(labels.ijk_to_ras @ [*((n - 1) / 2 for n in labels.shape[::-1]), 1], [0, 0, 0, 1])
    assert np.allclose(labels.spacing_mm, 4.0, rtol=0.02)


def test_sides_lie_where_they_belong(shipped):
    labels = labels_of(shipped)
    places = {value: np.argwhere(labels.array == value).mean(axis=0) for value in (2, 41, 16, 3, 8)}
    assert places[2][2] < places[41][2]  # left hemisphere at the left: i grows to the right
    assert places[16][0] < places[3][0]  # brain stem below the cortex
    assert places[8][1] < places[3][1]  # cerebellum behind


def test_latents_seeds_sliders_truncation_and_what_lies_between(shipped):
    one, two = labels_of(shipped, 1).array, labels_of(shipped, 2).array
    assert (one != two).mean() > 0.03
    assert np.array_equal(labels_of(shipped, 1, 0.0, toward=2).array, one)
    assert np.array_equal(labels_of(shipped, 1, 1.0, toward=2).array, two)
    usual = labels_of(shipped, 1, truncation=0.0).array
    assert np.array_equal(usual, labels_of(shipped, 2, truncation=0.0, sliders="0 0 0").array)
    sizes = [brain_ml(labels_of(shipped, truncation=0.0, sliders=text)) for text in ("-2", "0", "2")]
    assert sizes in (sorted(sizes), sorted(sizes, reverse=True))
    assert max(sizes) / min(sizes) > 1.1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sliders": "1 a"}, "must be numbers such as"),
        ({"sliders": "9"}, "from -5 to 5"),
        ({"sliders": "nan"}, "from -5 to 5"),
        ({"sliders": " ".join(["0"] * 99)}, "has 99 numbers"),
        ({"spacing_mm": 0.2}, "are finer than the model"),
    ],
)
def test_bad_latents_are_refused_in_one_sentence(settings, sentence, shipped):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        labels_of(shipped, **settings)


def test_a_volume_comes_with_the_labels_that_it_shows():
    outputs = synthesize.run({}, replace(QUICK, seed=3))
    sample = outputs.report["samples"][0]
    volume, labels = outputs.volumes["sample 1"], outputs.volumes[sample["labels"]]
    assert np.array_equal(volume.ijk_to_ras, labels.ijk_to_ras)
    assert volume.shape == labels.shape
    told = sample["intensities"]
    for value in (2, 4, 3):
        inside = volume.array[labels.array == value]
        assert inside.mean() == pytest.approx(told[str(value)]["mean"], abs=0.15)
    assert sample["painted_by"]["model"] == "label-to-volume"
    assert len(sample["painted_by"]["model_sha256"]["faithful"]) == 64
    assert len(sample["latent"]) == find("brain-from-noise").network_arguments["components"]
    again = synthesize.run({}, replace(QUICK, seed=3))
    assert np.array_equal(again.volumes["sample 1"].array, volume.array)
