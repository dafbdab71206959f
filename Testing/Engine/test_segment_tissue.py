"""tissue-ct: the rules that its targets come from, what training makes of them, and the shipped model on a phantom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

import phantoms
from medgan.models import find, verify
from medgan.recipes.tissue import loss_of
from medgan.recipes.tissue_data import CtSource, TissuePatches, carve
from medgan.recipes.tissue_targets import AIR, BONE, FAT, IGNORE, OUTSIDE, SOFT, body_mask, tissue_targets
from medgan.segmentation.description import describe
from medgan.segmentation.grid import Grid, resampled
from medgan.settings import Device, SegmentSettings
from medgan.tasks.segment import run
from medgan.volume import Volume


def trunk(shape=(48, 64, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Hounsfield units and labels of a trunk of 3 mm voxels: skin fat, muscle, two lungs, a spine, on a table."""
    _k, j, i = np.indices(shape)
    across, along = (i - 40) / 34.0, (j - 34) / 24.0
    ring = np.hypot(across, along)
    labels = np.select([ring < 0.82, ring < 1.0], [SOFT, FAT], OUTSIDE)
    for side in (-1, 1):
        labels[np.hypot((i - 40 - side * 15) / 9.0, (j - 36) / 12.0) < 1] = AIR
    labels[np.hypot(i - 40, j - 20) < 5] = BONE
    hounsfield = np.choose(labels, [-1000.0, 45.0, -100.0, 500.0, -850.0])
    hounsfield[:, 4:6] = np.where(labels[:, 4:6] == OUTSIDE, -200.0, hounsfield[:, 4:6])
    return ndimage.gaussian_filter(hounsfield, 0.4).astype(np.float32), labels


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_rules_find_the_tissues_of_a_trunk_and_leave_the_table():
    hounsfield, truth = trunk()
    labels = tissue_targets(hounsfield)
    for kind in (SOFT, FAT, BONE, AIR):
        assert dice(labels == kind, truth == kind) > 0.93, kind
    assert dice(labels > 0, truth > 0) > 0.97
    assert not labels[:, 4:6].any()
    assert dice(body_mask(hounsfield), truth > 0) > 0.97
    inside = tissue_targets(hounsfield[10:30, 24:44, 30:50], all_inside=True)
    assert (inside > 0).all()


def test_marrow_belongs_to_its_bone():
    _k, j, i = np.indices((20, 40, 40))
    far = np.hypot(j - 20, i - 20)
    hounsfield = np.select([far < 3, far < 6, far < 16], [-90.0, 900.0, 40.0], -1000.0)
    assert (tissue_targets(hounsfield)[10][far[10] < 5] == BONE).all()


def test_training_patches_follow_from_their_seed_and_keep_their_labels():
    hounsfield, labels = trunk()
    patches = TissuePatches([CtSource(hounsfield, labels.astype(np.uint8), False, "trunk")], [], 32)
    first, second = (patches.sample(np.random.default_rng((1, 2, 3))) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    other = patches.sample(np.random.default_rng((1, 2, 4)))
    assert not np.array_equal(first[0], other[0])
    assert set(np.unique(first[1])) <= {OUTSIDE, SOFT, FAT, BONE, AIR}
    assert patches.sources[0].hounsfield == pytest.approx(trunk()[0]), "the source stays as it is"


def test_carving_gives_a_patch_of_lung_an_outside():
    lung = np.full((32, 40, 40), -850.0, np.float32)
    labels = np.full(lung.shape, AIR, np.uint8)
    carve(np.random.default_rng(0), lung, labels)
    assert (labels == OUTSIDE).any()
    assert (labels == FAT).any()
    deep = ndimage.binary_erosion(labels == OUTSIDE)
    assert lung[deep].mean() < -950
    touching = ndimage.binary_dilation(labels == AIR) & (labels == OUTSIDE)
    assert not touching.any(), "there is a wall between lung and outside"


def test_loss_by_hand():
    labels = torch.tensor([[[[0, 1], [2, IGNORE]]]])
    sure = torch.full((1, 5, 1, 2, 2), -40.0)
    sure[0, 0, 0, 0, 0] = sure[0, 1, 0, 0, 1] = sure[0, 2, 0, 1, 0] = 40.0
    assert float(loss_of(sure, labels)) == pytest.approx(0.0, abs=1e-4)
    even = torch.zeros(1, 5, 1, 2, 2)
    one, none = (2 * 0.2 + 50) / (0.2 * 3 + 1 + 50), 50 / (0.2 * 3 + 50)
    assert float(loss_of(even, labels)) == pytest.approx(np.log(5) + 1 - (3 * one + 2 * none) / 5, rel=1e-4)


def test_shipped_model_finds_the_tissues_in_noise_on_an_oblique_grid():
    card = find("tissue-ct")
    verify(card)
    assert describe(card).coarse[0].members == (1, 2, 3, 4)
    hounsfield, truth = trunk()
    source = Grid(hounsfield.shape, np.diag([3.0, 3.0, 3.0, 1.0]))
    turned = phantoms.awkward_geometry()
    turn = turned[:3, :3] / np.linalg.norm(turned[:3, :3], axis=0)
    matrix = np.eye(4)
    matrix[:3, :3] = turn * [3.0, 3.0, 3.0]
    matrix[:3, 3] = np.array([120.0, 96.0, 72.0]) - matrix[:3, :3] @ [40, 40, 40]
    target = Grid((80, 80, 80), matrix)
    seen = resampled(hounsfield, source, target, -1000.0) + np.random.default_rng(1).normal(0, 60, target.shape)
    wanted = np.rint(resampled((truth > 0).astype(np.float32), source, target)) > 0
    settings = SegmentSettings("tissue-ct", device=Device.CPU)
    found = run({"volume": Volume(seen, matrix)}, settings).volumes["labels"].array
    assert dice(found > 0, wanted) > 0.85
    lungs = np.rint(resampled((truth == AIR).astype(np.float32), source, target)) > 0
    assert dice(found == AIR, lungs) > 0.7
