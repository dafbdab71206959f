"""Thick slices are divided before a network looks at them, where they lie and without another mean."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import phantoms
import segment_models
from medgan import networks
from medgan.inference import choose_device
from medgan.models import ModelError
from medgan.segmentation.finer import thick_axis, with_finer_slices
from medgan.segmentation.grid import Grid, resampled
from medgan.settings import Device, SegmentSettings
from medgan.tasks.segment import run
from medgan.volume import Volume
from segment_models import STEPS, oracle


def finer(array, matrix, wanted_mm=1.0, memory_limit_gb=0.0, model="superres"):
    told: list[str] = []
    grid = Grid(array.shape, matrix)
    device = choose_device(Device.CPU)
    return *with_finer_slices(array, grid, wanted_mm, model, device, memory_limit_gb, told)[:2], told


@pytest.mark.parametrize(
    ("spacing", "slices", "axis"),
    [
        ((1.0, 1.0, 5.0), 20, 2),
        ((1.0, 5.0, 1.0), 20, 1),
        ((1.0, 1.0, 1.4), 20, None),
        ((3.0, 3.0, 3.0), 20, None),
        ((0.5, 0.5, 1.2), 20, None),
        ((1.0, 1.0, 5.0), 5, None),
    ],
)
def test_thick_slices_are_told_by_the_spacing(spacing, slices, axis):
    shape = [slices if step == max(spacing) else 30 for step in reversed(spacing)]
    matrix = phantoms.geometry(spacing, (20.0, -35.0, 50.0), left_handed=True)
    assert thick_axis(Grid(tuple(shape), matrix), 1.0) == axis


@pytest.fixture(scope="module")
def a_thick_head():
    """A head in slabs of 4 mm, oblique; its grid; the same head in slices of 1 mm and its grid."""
    whole = np.pad(phantoms.rician(phantoms.head((48, 40, 40)), 5.0), 4)
    fine = phantoms.geometry((1.0, 1.0, 1.0), (20.0, -35.0, 50.0), (12.3, -45.6, 78.9), left_handed=True)
    coarse = fine @ np.diag([1.0, 1.0, 4.0, 1.0])
    coarse[:3, 3] = (fine @ [0.0, 0.0, 1.5, 1.0])[:3]
    return whole.reshape(14, 4, 48, 48).mean(axis=1), coarse, whole, fine


def test_finer_slices_lie_where_the_thick_ones_lay(a_thick_head):
    slabs, coarse, whole, fine = a_thick_head
    array, grid, told = finer(slabs, coarse)
    assert np.allclose(np.linalg.norm(grid.ijk_to_ras[:3, :3], axis=0), 1.0)
    there = resampled(array, grid, Grid(whole.shape, fine))
    plain = resampled(slabs, Grid(slabs.shape, coarse), Grid(whole.shape, fine))
    inside = ndimage.binary_erosion(whole > 100, iterations=2)
    error, before = (np.sqrt(np.mean((one - whole)[inside] ** 2)) for one in (there, plain))
    assert error < 0.92 * before, "thick slices, interpolated, are further from the truth"
    again = there.reshape(14, 4, 48, 48).mean(axis=1)
    inside = whole.reshape(14, 4, 48, 48).min(axis=1) > 100
    assert np.abs(again - slabs)[inside].max() < 0.5
    assert told == ["The slices of 4 mm were divided by 'superres' to 1 mm before the network looked at them."]


def test_finer_voxels_within_the_slices_become_those_that_the_network_wants(a_thick_head):
    slabs, coarse, _, _ = a_thick_head
    half = coarse @ np.diag([0.5, 0.5, 1.0, 1.0])
    half[:3, 3] = (coarse @ [-0.25, -0.25, 0.0, 1.0])[:3]
    array, grid, _ = finer(np.kron(slabs, np.ones((1, 2, 2), np.float32)), half)
    assert np.allclose(np.linalg.norm(grid.ijk_to_ras[:3, :3], axis=0), 1.0)
    assert array.mean() * array.size == pytest.approx(slabs.sum() * 4, rel=0.01), "the same signal lies in the patient"


def test_without_memory_the_slices_stay_and_that_is_said(a_thick_head):
    slabs, coarse, _, _ = a_thick_head
    array, grid, told = finer(slabs, coarse, memory_limit_gb=0.001)
    assert array is slabs
    assert grid.ijk_to_ras is coarse
    assert told == ["The slices of 4 mm were interpolated: there is too little memory for 'superres'."]


def test_a_constant_volume_stays_constant():
    array, _, _ = finer(np.full((12, 20, 20), 7.0, np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    assert np.allclose(array, 7.0, atol=1e-3)


def test_a_bundle_that_asks_for_it_sees_finer_slices(tmp_path, monkeypatch, a_thick_head):
    for name, network in segment_models.NETWORKS.items():
        monkeypatch.setitem(networks.NETWORKS, name, network)
    ours = {"spacing_mm": [1, 1, 1], "orientation": "RAS", "normalise": "percentiles", "thick_slices": "superres"}
    asking = oracle(tmp_path / "asking", "medgan.Steps", STEPS, {"levels": [0.5, 1.0]}, **ours)
    slabs, coarse, _, _ = a_thick_head
    outputs = run({"volume": Volume(slabs, coarse)}, SegmentSettings(str(asking), device=Device.CPU))
    assert any("divided by 'superres'" in sentence for sentence in outputs.report["messages"])
    assert len(outputs.report["slices_divided_by"]["superres"]["sha256"]["faithful"]) == 64
    assert outputs.volumes["labels"].shape == slabs.shape
    assert (outputs.volumes["labels"].array == 300).sum() > 1000


def test_thick_slices_without_a_spacing_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "medgan.Steps", segment_models.Steps)
    bad = oracle(tmp_path / "bad", "medgan.Steps", STEPS, {"levels": [0.5, 1.0]}, thick_slices="superres")
    with pytest.raises(ModelError, match="'thick_slices' needs 'spacing_mm'"):
        run({"volume": Volume(np.ones((8, 8, 8), np.float32), np.eye(4))}, SegmentSettings(str(bad)))
