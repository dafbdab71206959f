"""Images made from label maps: the same for the same seed, both sides alike, and true to their labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medgan.generation import (
    CONTRASTS,
    RIGHT_TO_LEFT,
    Ranges,
    at_places,
    mirrored_codes,
    random_means,
    random_places,
    random_swelling,
    rendered,
    swollen,
)

STILL = Ranges(rotation_degrees=0, scale=0, shear=0, shift_mm=0, bend_mm=0)


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def random_image(labels: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A random scan of a randomly bent label map of 1 mm voxels, as a recipe makes it, and its labels."""
    middle = [(side - 1) / 2 for side in labels.shape]
    places, mirrored = random_places(labels.shape, middle, 1.0, generator, Ranges())
    found = at_places(labels, places).round().long()
    if mirrored:
        found = mirrored_codes(found)
    return rendered(found, 1.0, generator), found


@pytest.fixture
def a_head() -> torch.Tensor:
    """White matter left (low i) and right of the middle, ventricles, skull round it: (24, 28, 32)."""
    codes = torch.zeros(24, 28, 32, dtype=torch.long)
    codes[2:22, 2:26, 2:30] = 515
    codes[4:20, 4:24, 4:16], codes[4:20, 4:24, 16:28] = 2, 41
    codes[9:15, 8:20, 11:15], codes[9:15, 8:20, 17:21] = 4, 43
    return codes


def test_the_same_seed_gives_the_same_scan_and_another_seed_another(a_head):
    image, labels = random_image(a_head, seeded(3))
    again, same = random_image(a_head, seeded(3))
    other, _labels = random_image(a_head, seeded(4))
    assert torch.equal(image, again)
    assert torch.equal(labels, same)
    assert not torch.equal(image, other)
    assert float(image.min()) == 0.0
    assert float(image.max()) == pytest.approx(1.0)


def test_labels_are_never_mixed(a_head):
    for number in range(4):
        labels = random_image(a_head, seeded(number))[1]
        assert set(labels.unique().tolist()) <= set(a_head.unique().tolist())


def test_the_left_stays_left_in_mirrored_views_too(a_head):
    seen = set()
    for number in range(8):
        places, mirrored = random_places(a_head.shape, [11.5, 13.5, 15.5], 1.0, seeded(number), STILL)
        labels = at_places(a_head, places).round().long()
        labels = mirrored_codes(labels) if mirrored else labels
        seen.add(mirrored)
        columns = torch.arange(32, dtype=torch.float32)
        left, right = ((labels == code).float().sum((0, 1)) for code in (2, 41))
        assert float((left * columns).sum() / left.sum()) < 15.5 < float((right * columns).sum() / right.sum())
    assert seen == {True, False}


def test_a_view_without_change_is_the_label_map(a_head):
    for number in range(4):
        places, mirrored = random_places(a_head.shape, [11.5, 13.5, 15.5], 1.0, seeded(number), STILL)
        labels = at_places(a_head, places).round().long()
        expected = a_head.flip(2) if mirrored else a_head
        assert torch.equal(labels, expected)


def test_both_sides_of_a_structure_have_one_brightness():
    codes = torch.tensor([0, 2, 3, 41, 42, 515])
    for number in range(6):
        mean, spread = random_means(codes, seeded(number), Ranges())
        assert mean[1] == mean[3]
        assert mean[2] == mean[4]
        assert spread[1] == spread[3]


def test_presets_order_the_tissues_as_the_scans_they_are_named_after():
    assert CONTRASTS["T1"]["white"] > CONTRASTS["T1"]["grey"] > CONTRASTS["T1"]["fluid"]
    assert CONTRASTS["T2"]["fluid"] > CONTRASTS["T2"]["grey"] > CONTRASTS["T2"]["white"]
    assert CONTRASTS["FLAIR"]["grey"] > CONTRASTS["FLAIR"]["white"] > CONTRASTS["FLAIR"]["fluid"]
    assert max(CONTRASTS["CT"], key=CONTRASTS["CT"].get) == "cortical"


def test_thick_slices_blur_along_one_axis_only(a_head):
    thick = replace(Ranges(), thick_share=1.0, thickest_mm=6.0, noise=0.0, bias=0.0)
    thin = replace(thick, thick_share=0.0)
    sharpness = {}
    for name, ranges in (("thick", thick), ("thin", thin)):
        image = rendered(a_head, 1.0, seeded(11), ranges).numpy()
        sharpness[name] = np.sort([np.abs(np.diff(image, axis=axis)).max() for axis in range(3)])
    assert sharpness["thick"][0] < 0.7 * sharpness["thin"][0]  # the blurred axis
    assert sharpness["thick"][2] > 0.8 * sharpness["thin"][2]


def test_codes_of_the_right_side_and_the_left_exchange():
    codes = torch.tensor(sorted(RIGHT_TO_LEFT) + sorted(RIGHT_TO_LEFT.values()) + [0, 16, 515])
    assert torch.equal(mirrored_codes(mirrored_codes(codes)), codes)
    assert mirrored_codes(torch.tensor([2, 41, 16])).tolist() == [41, 2, 16]


def test_ventricles_swell_and_push_what_lies_around_them_without_tearing_it():
    shape = (40, 48, 40)
    k, j, i = torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    radius = 2.0 * (k**2 + j**2 + i**2).sqrt()  # mm
    labels = torch.where(radius < 36, 2, 0)
    labels[radius < 20], labels[radius < 16] = 11, 4  # a shell around the ventricle
    places = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij"), -1)
    swelling = torch.zeros(600)
    same = at_places(labels, swollen(places, labels, swelling, 7.0, 2.0)).round().long()
    assert torch.equal(same, labels)
    for by_mm in (6.0, -4.0):
        swelling[4] = by_mm
        found = at_places(labels, swollen(places, labels, swelling, 7.0, 2.0)).round().long()
        grown = [float(radius[found == 4].max() - radius[labels == 4].max()), float(radius[found == 2].max() - 36.0)]
        assert grown[0] == pytest.approx(by_mm, abs=2.5)
        assert abs(grown[1]) < 2.0
        pushed = radius[found == 11].mean() - radius[labels == 11].mean()
        assert float(pushed) * by_mm > 0.0
        assert ((found == 4) & (radius < 5)).sum() == (radius < 5).sum()


def test_random_swelling_is_alike_on_both_sides_and_seeded():
    one, other = random_swelling(seeded(3)), random_swelling(seeded(3))
    assert torch.equal(one, other)
    ratio = float(one[4] / one[43])
    assert 0.7 < ratio < 1.4
    assert one[[2, 41, 10, 515]].eq(0).all()
