"""The small parts of the data step: names, grids, and batches that are the same however they are made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import phantoms
from medgan import models
from medgan.grids import grid_difference
from medgan.labels import segmentation_of
from medgan.settings import TrainSettings
from medgan.synthesis.scan import channels_of
from medgan.training import data_names
from medgan.training.data_grid import resampled, to_ras
from medgan.training.loader import Loader, collate, sample_generator
from medgan.volume import LabelMap, Volume, VolumeError, spacing_of

SHAPE = (19, 23, 21)


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("sub-01/ses-2/anat/sub-01_ses-2_T1w", "sub-01"),
        ("patient12_ses-1_T1", "patient12"),
        ("p3_visit2_T2", "p3"),
        ("pat1_20200101_CT", "pat1"),
        ("imagesTr/case_03_0000", "case_03"),
        ("labelsTr/case_03", "case_03"),
        ("case01/ses1/T1", "case01"),
        ("siteA/case01", "siteA/case01"),
        ("p7_noisy", "p7"),
        ("brain_3", "brain_3"),
        ("images/sub-4_01 Head", "sub-4"),
        ("AD_0001", "ad_0001"),
        ("0001/T1", "0001"),
        ("0001/2019/T1", "0001"),
        ("p1_0000", "p1"),
        ("p1_2019_T1", "p1"),
        ("p1_T1_0012", "p1"),
        ("AD_2001", "ad_2001"),
        ("imagesTr/case_a_0001", "case_a"),
        ("imagesTr/0001_0000", "0001"),
        ("BRATS_0003_0001", "brats_0003"),
    ],
)
def test_patient_is_told_by_the_name(name, patient):
    assert data_names.patient(name) == patient


@pytest.mark.parametrize(
    ("name", "words", "key"),
    [
        ("labelsTr/case_03", data_names.LABELS, "case_03"),
        ("case_03_seg", data_names.LABELS, "case_03"),
        ("p1/mask", data_names.LABELS, "p1"),
        ("seg007", data_names.LABELS, "007"),
        ("case_03", data_names.LABELS, None),
        ("masked_case", data_names.LABELS, None),
        ("A/case1", data_names.SOURCES, "case1"),
        ("case1_a", data_names.SOURCES, None),
        ("sub-1/x_T1_post", {"t1_post"}, "sub-1/x"),
    ],
)
def test_role_is_a_folder_or_an_end_of_the_name(name, words, key):
    assert data_names.without(name, words) == key


def test_axes_are_turned_to_ras_and_every_voxel_stays_where_it_is():
    array = np.random.default_rng(0).random((5, 7, 9)).astype(np.float32)
    for matrix in (phantoms.awkward_geometry(), phantoms.geometry((1, 2, 3), (0, 0, 90)), np.diag([-1.0, -1, 1, 1])):
        turned, moved = to_ras(array, matrix)
        assert (np.diag(moved[:3, :3]) > 0).all()
        places = np.argwhere(np.ones(turned.shape))[:, ::-1]
        back = np.linalg.inv(matrix) @ moved @ np.c_[places, np.ones(len(places))].T
        i, j, k = np.rint(back[:3]).astype(int)
        np.testing.assert_allclose(back[:3], [i, j, k], atol=1e-6)
        np.testing.assert_array_equal(array[k, j, i], turned.ravel())


def test_resampled_ramp_is_the_ramp_on_the_new_grid():
    matrix = phantoms.awkward_geometry()

    def ramp(shape, ijk_to_ras):
        ijk = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")[::-1])
        ras = np.einsum("ab,b...->a...", ijk_to_ras[:3, :3], ijk) + ijk_to_ras[:3, 3].reshape(3, 1, 1, 1)
        return (0.3 * ras[0] + 0.2 * ras[1] - 0.1 * ras[2]).astype(np.float32)

    result, moved = resampled(ramp((20, 24, 28), matrix), matrix, (1.3, 1.1, 1.7), labels=False)
    np.testing.assert_allclose(spacing_of(moved), (1.3, 1.1, 1.7))
    inner = (slice(3, -3),) * 3
    np.testing.assert_allclose(result[inner], ramp(result.shape, moved)[inner], atol=1e-4)


def test_grids_that_differ_by_rounding_are_the_same():
    matrix = phantoms.awkward_geometry()
    rounded = np.round(matrix, 4)
    assert grid_difference(SHAPE, matrix, SHAPE, rounded) == ""
    shifted = matrix.copy()
    shifted[0, 3] += 1.0
    assert grid_difference(SHAPE, matrix, SHAPE, shifted) == "their corners lie 1 mm apart"


def test_single_slices_of_other_thickness_are_on_other_grids():
    thin, thick = np.diag([1.0, 1.0, 5.0, 1.0]), np.diag([1.0, 1.0, 50.0, 1.0])
    assert grid_difference((1, 9, 9), thin, (1, 9, 9), thick) == "voxels of 1 x 1 x 5 mm and of 1 x 1 x 50 mm"
    assert grid_difference((1, 9, 9), thick, (1, 9, 9), thin) == "voxels of 1 x 1 x 50 mm and of 1 x 1 x 5 mm"


def test_small_voxels_are_no_excuse_for_another_grid():
    fine, coarser = np.diag([0.01, 0.01, 0.01, 1.0]), np.diag([0.01009, 0.01009, 0.01009, 1.0])
    shape = (2, 2, 512)
    maps = [LabelMap(np.ones(shape, np.uint8), matrix) for matrix in (fine, coarser)]
    with pytest.raises(VolumeError, match="different grids"):
        segmentation_of(maps)
    scans = {"volume": Volume(np.zeros(shape), fine), "volume 2": Volume(np.zeros(shape), coarser)}
    with pytest.raises(ValueError, match="must lie on one grid"):
        channels_of(scans, models.find("denoise"), 2, "It")
    moved = np.eye(4)
    moved[0, 3] = 0.002
    near = {"volume": Volume(np.zeros(shape), np.eye(4)), "volume 2": Volume(np.zeros(shape), moved)}
    assert len(channels_of(near, models.find("denoise"), 2, "It")) == 2


class _Numbers:
    """Samples that say with which generator they were drawn."""

    def sample(self, rng):
        return {"x": torch.rand(1, generator=rng)}

    def validation(self):
        return []


def test_batches_are_the_same_however_many_threads_processes_and_restarts():
    settings = TrainSettings(batch=2, accumulate=2, seed=5)
    draw = lambda sample, rng: {**sample, "y": torch.rand(1, generator=rng)}  # noqa: E731

    def batches(count, first_step=0, threads=1, rank=0, world=1, **more):
        with Loader(_Numbers(), draw, settings, first_step, rank, world, threads=threads) as loader:
            return [next(loader) for _ in range(count)]

    alone = batches(8)
    threaded = batches(8, threads=3)
    assert all(
        torch.equal(a["x"], b["x"]) and torch.equal(a["y"], b["y"]) for a, b in zip(alone, threaded, strict=True)
    )
    later = batches(4, first_step=2)
    assert all(torch.equal(a["x"], b["x"]) for a, b in zip(alone[4:], later, strict=True))
    values = torch.cat([batch["x"] for batch in alone])
    assert len(values.unique()) == 16
    # Two processes draw between them what one with the doubled batch draws.
    settings = TrainSettings(batch=4, accumulate=2, seed=5)
    doubled = batches(4)
    settings = TrainSettings(batch=2, accumulate=2, seed=5)
    halves = [batches(4, rank=rank, world=2) for rank in (0, 1)]
    for place, whole in enumerate(doubled):
        assert torch.equal(whole["x"], torch.cat([halves[0][place]["x"], halves[1][place]["x"]]))


def test_training_on_the_processor_pins_no_memory_for_a_gpu_that_can_not_be_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with Loader(_Numbers(), lambda sample, rng: sample, TrainSettings(batch=1)) as loader:
        assert not next(loader)["x"].is_pinned()


def test_trouble_with_a_sample_is_raised_where_its_batch_is_asked_for():
    class Broken(_Numbers):
        def sample(self, rng):
            raise ValueError("no such voxels")

    with (
        Loader(Broken(), lambda sample, rng: sample, TrainSettings(batch=1)) as loader,
        pytest.raises(ValueError, match="no such voxels"),
    ):
        next(loader)


def test_sample_generators_of_neighbours_are_unrelated():
    drawn = collate([{"x": torch.randn(1, generator=sample_generator(0, step, 0))} for step in range(200)])["x"]
    assert abs(float(drawn.mean())) < 0.25
    assert abs(float(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1])) < 0.25
