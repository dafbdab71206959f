"""Made volumes have the intensities that were asked for, without sharper borders."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan.settings import Contrast, SynthesizeSettings
from medgan.synthesis.labels_calibrate import BINS, calibrated, distribution, insides, of_27
from medgan.tasks import synthesize
from medgan.volume import Label, LabelMap, Volume


@pytest.fixture(scope="module")
def three_organs():
    """Air, muscle, liver and bone in thick layers; oblique and left-handed."""
    values = np.array([0, 1, 2, 3], np.int16)[np.digitize(phantoms.head((44, 40, 48)), [1, 350, 600])]
    names = {1: Label("muscle"), 2: Label("liver"), 3: Label("vertebrae_L1")}
    return LabelMap(values, phantoms.awkward_geometry(), names)


def made(labels, reference=None, **settings):
    inputs = {"labels": labels} | ({"reference": reference} if reference is not None else {})
    return synthesize.run(inputs, SynthesizeSettings("label-to-volume", **settings))


def test_requested_hounsfield_units_are_those_of_the_result(three_organs):
    outputs = made(three_organs, contrast=Contrast.CT, intensities="3=300/40", seed=4)
    image, told = outputs.volumes["sample 1"].array, outputs.report["samples"][0]["intensities"]
    inside = insides(three_organs.array)
    for value, mean, sd in ((1, 52, 16), (2, 60, 14), (3, 300, 40)):
        found = image[inside & (three_organs.array == value)]
        assert told[str(value)]["mean"] == pytest.approx(mean, abs=0.1)
        assert found.mean() == pytest.approx(mean, abs=1.0)
        assert found.std() == pytest.approx(sd, rel=0.05)


def test_a_reference_gives_each_label_its_whole_distribution(three_organs):
    rng = np.random.default_rng(0)
    skewed = np.array([0.0, 200.0, 500.0, 800.0])[three_organs.array] + rng.gamma(1.5, 40.0, three_organs.shape)
    reference = Volume(skewed.astype(np.float32), three_organs.ijk_to_ras)
    image = made(three_organs, reference).volumes["sample 1"].array
    for value in (1, 2, 3):
        here = three_organs.array == value
        wanted = np.quantile(skewed[here], (0.05, 0.25, 0.5, 0.75, 0.95))
        assert np.quantile(image[here], (0.05, 0.25, 0.5, 0.75, 0.95)) == pytest.approx(wanted, abs=8.0)


def layers(wide=12):
    """Labels 0, 1, 2 in layers along k, and a volume of them with partial volume and noise, both off."""
    index = np.repeat(np.array([0, 1, 2], np.uint8), wide)[:, None, None] * np.ones((1, 20, 20), np.uint8)
    means = np.array([0.1, 0.5, 0.8])
    soft = ndimage.uniform_filter1d(means[index], 3, axis=0, mode="nearest")
    noise = 0.05 * np.random.default_rng(1).standard_normal(index.shape)
    return index, means, (soft + noise + 0.04 * (index == 1)).astype(np.float32)


def test_insides_get_mean_and_spread_and_borders_stay_as_soft():
    index, means, image = layers()
    wanted = np.stack([means, [0.02, 0.1, 0.05]], axis=1)
    before = image.mean(axis=(1, 2))
    found = calibrated(image.copy(), index, wanted)
    inside = insides(index)
    for value in range(3):
        held = found[inside & (index == value)]
        assert (held.mean(), held.std()) == pytest.approx(wanted[value], abs=1e-3)
    steps = [np.abs(np.diff(profile)) for profile in (before, found.mean(axis=(1, 2)))]
    assert steps[1].max() < steps[0].max() + 0.02
    half = found.mean(axis=(1, 2))[11:13]  # the two voxels at the first border keep their partial volume
    assert half == pytest.approx([0.1 + 0.4 / 3, 0.5 - 0.4 / 3], abs=0.03)


def test_a_label_without_an_inside_is_brought_near_its_mean():
    index = np.zeros((24, 24, 24), np.uint8)
    index[:, 12] = 1
    means = np.array([0.2, 0.7])
    soft = 0.68 * means[index] + 0.32 * of_27(means[index].astype(np.float32))
    wanted = np.stack([means, [0.0, 0.02]], axis=1)
    found = calibrated((soft - 0.1 * (index == 1)).astype(np.float32), index, wanted)
    assert found[:, 12].mean() == pytest.approx(soft[:, 12].mean(), abs=0.01)


def test_the_insides_are_where_all_27_voxels_are_alike():
    labels = np.random.default_rng(0).integers(0, 2, (9, 10, 11)) * (np.indices((9, 10, 11)).sum(axis=0) > 14)
    wanted = ndimage.minimum_filter(labels, 3, mode="nearest") == ndimage.maximum_filter(labels, 3, mode="nearest")
    assert np.array_equal(insides(labels), wanted)
    assert 0 < wanted.sum() < wanted.size
    smooth = ndimage.uniform_filter(labels.astype(np.float32), 3, mode="nearest")
    assert np.allclose(of_27(labels.astype(np.float32)), smooth, atol=1e-5)


def test_distributions_count_every_voxel():
    counted = distribution(np.array([-0.1, 0.0, 0.5, 1.0, 1.2], np.float32))
    assert counted.sum() == 5
    assert (counted[0], counted[BINS // 2], counted[-1]) == (2, 1, 2)
