"""Variations of one volume: coarse stays, fine changes, and what is bad is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy import ndimage

import phantoms
from command_line import one_sentence
from medgan.progress import Cancelled
from medgan.settings import SynthesizeSettings
from medgan.synthesis.variations import carried, found_offsets, middles, scales
from medgan.tasks import synthesize
from medgan.volume import Label, LabelMap, Volume, write_volume


@pytest.fixture(scope="module")
def a_volume():
    """A textured head, oblique and left-handed."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.standard_normal((30, 41, 37)), 0.8)
    head = phantoms.head((30, 41, 37))
    return Volume(head + 150 * texture * (head > 0), phantoms.geometry((1, 1, 1.3), (10, 20, 30), left_handed=True),
                  {}, "int16")  # fmt: skip


def run(volume, labels=None, progress=lambda *_: None, **settings):
    inputs = {"volume": volume} | ({"labels": labels} if labels is not None else {})
    return synthesize.run(inputs, SynthesizeSettings("variations", **settings), progress)


def test_coarse_stays_and_fine_changes(a_volume):
    outputs = run(a_volume, seed=3)
    made = outputs.volumes["sample 1"]
    assert np.array_equal(made.ijk_to_ras, a_volume.ijk_to_ras)
    assert made.voxel_type == "int16"
    assert a_volume.array.min() <= made.array.min() <= made.array.max() <= a_volume.array.max()
    both = [ndimage.gaussian_filter(each, 4.0) for each in (made.array, a_volume.array)]
    assert np.corrcoef(*(each.ravel() for each in both))[0, 1] > 0.97
    inside = phantoms.head(a_volume.shape) == 700
    fine = [(each - ndimage.gaussian_filter(each, 1.5))[inside] for each in (made.array, a_volume.array)]
    assert abs(np.corrcoef(*fine)[0, 1]) < 0.6
    assert 0.7 < fine[0].std() / fine[1].std() < 1.3  # other texture, but as strong
    sample = outputs.report["samples"][0]
    assert sample["coarse_correlation"] > 0.97
    assert sample["fine_correlation"] < 0.9
    assert sample["folding"]["smallest_jacobian"] > 0
    assert outputs.report["source"] == "variations"
    assert outputs.report["synthetic"] is True


def test_padding_of_a_ct_becomes_air():
    made = [
        run(Volume(phantoms.padded_ct(padding, (16, 24, 24)), np.eye(4)), seed=2).volumes["sample 1"].array
        for padding in (-1024.0, -3024.0)
    ]
    assert np.array_equal(*made)


def test_each_follows_from_its_own_seed(a_volume):
    small = Volume(a_volume.array[5:25, 10:30, 8:28], np.eye(4))
    two = run(small, seed=7, count=2)
    alone = run(small, seed=8).volumes["sample 1"].array
    assert np.array_equal(two.volumes["sample 2"].array, alone)
    assert not np.array_equal(two.volumes["sample 1"].array, alone)


def test_labels_move_with_the_volume(a_volume):
    head = phantoms.head(a_volume.shape)
    values = np.searchsorted([100, 350, 600, 900], head).astype(np.int16)
    labels = LabelMap(values, a_volume.ijk_to_ras, {3: Label("Brain")})
    outputs = run(Volume(head, a_volume.ijk_to_ras), labels, seed=1, deformation_mm=2.5)
    made, moved = outputs.volumes["sample 1"].array, outputs.volumes["sample 1 labels"]
    assert outputs.report["samples"][0]["labels"] == "sample 1 labels"
    assert moved.labels[3].name == "Brain"
    assert 0.02 < (moved.array != values).mean() < 0.4
    inner = ndimage.binary_erosion(moved.array == 3)
    assert np.median(made[inner]) == pytest.approx(700, abs=15)
    assert np.abs(made[inner] - 700).mean() < np.abs(made[values == 3] - 700).mean()


def test_the_search_finds_where_a_patch_came_from():
    known = torch.rand(24, 26, 28, generator=torch.Generator().manual_seed(1))
    known = torch.from_numpy(ndimage.gaussian_filter(known.numpy(), 2.0))
    guess = known.roll((5, -4, 6), (0, 1, 2))
    clock = type("Never", (), {"up": lambda self: False})()
    offsets = found_offsets(guess, known, 8, torch.Generator().manual_seed(0), clock, lambda *_: None)
    right = (offsets == torch.tensor([-5, 4, -6])).all(dim=-1)[4:-4, 4:-4, 4:-4]
    assert right.float().mean() > 0.5  # a search, no proof
    assert (offsets.abs().amax(dim=-1) >= 3).all()  # never itself


def test_patches_bring_their_detail_along():
    detail = torch.rand(9, 8, 11)
    centres = tuple(len(middles(n)) for n in detail.shape)
    offsets = torch.tensor([2, -1, 3]).expand(*centres, 3)
    assert torch.allclose(carried(detail, offsets)[:-2, 1:, :-3], detail[2:, :-1, 3:])


def test_scales_go_from_coarse_to_the_voxels():
    assert scales((40, 80, 80), (2.0, 1.0, 1.0), 4.0) == [[20, 20, 20], [40, 40, 40], [40, 80, 80]]


def test_time_that_is_up_is_said_and_the_result_is_whole(a_volume):
    outputs = run(a_volume, minutes=1e-6)
    assert any("time was up" in message for message in outputs.report["messages"])
    assert outputs.report["samples"][0]["coarse_correlation"] > 0.9
    assert not run(a_volume).report["messages"]


def test_cancel_ends_the_search(a_volume):
    def progress(fraction, message=""):
        if fraction > 0.4:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(a_volume, progress=progress)


def test_voxels_that_are_no_numbers_stay_so(a_volume):
    array = a_volume.array.copy()
    array[4, 5, 6] = np.nan
    made = run(Volume(array, np.eye(4))).volumes["sample 1"].array
    assert np.isnan(made[4, 5, 6])
    assert np.isnan(made).sum() == 1


@pytest.mark.parametrize(
    ("array", "settings", "sentence"),
    [
        (np.ones((20, 20, 20)), {}, "the same everywhere"),
        (np.ones((1, 20, 20)), {}, "need 16 voxels along every axis"),
        (phantoms.head(), {"coarse_mm": 1.0}, "Nothing in this volume is finer than 1 mm"),
        (phantoms.head(), {"toward": 2}, "only models from noise have"),
    ],
)
def test_what_can_not_be_varied_is_said_in_one_sentence(array, settings, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(Volume(array, np.eye(4)), **settings)


def test_command_names_its_option_where_the_model_names_its_setting(tmp_path, call):
    write_volume(Volume(phantoms.head(), np.eye(4)), tmp_path / "head.nrrd")
    done = call("synthesize", tmp_path / "head.nrrd", tmp_path / "out.nrrd", "--model", "variations", "--coarse", 1)
    one_sentence(done, "finer than 1 mm; set --coarse to more than")


def test_labels_on_another_grid_are_refused(a_volume):
    with pytest.raises(ValueError, match="lie on two grids"):
        run(a_volume, LabelMap(np.ones((9, 9, 9), np.uint8), np.eye(4)))
    with pytest.raises(ValueError, match="need a scalar volume"):
        synthesize.run({}, SynthesizeSettings("variations"))
