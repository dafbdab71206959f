"""Segmentation of one volume, with oracles in the place of trained networks: the answer is known beforehand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

import phantoms
import segment_models
from medgan import inference, models, networks
from medgan.inference import MemoryRefused
from medgan.models import ModelError
from medgan.progress import Cancelled
from medgan.segmentation.description import describe
from medgan.segmentation.grid import Grid
from medgan.segmentation.network import Runner
from medgan.segmentation.result import indices_on, measures
from medgan.settings import Device, SegmentSettings
from medgan.tasks.segment import BYTES_OF_RESULT, run
from medgan.volume import Label, LabelMap, Volume
from segment_models import SIDES, STEPS, oracle

LEVELS = {"levels": [0.5, 1.0]}


@pytest.fixture(autouse=True)
def oracles(monkeypatch):
    for name, network in segment_models.NETWORKS.items():
        monkeypatch.setitem(networks.NETWORKS, name, network)


@pytest.fixture
def steps(tmp_path):
    """Names what is half as bright as the brightest "dim" (7), the brightest "bright" (300); any grid of 2 mm."""
    ours = {"spacing_mm": [2, 2, 2], "orientation": "RAS", "normalise": "percentiles"}
    return oracle(tmp_path / "steps", "medgan.Steps", STEPS, LEVELS, **ours)


def nested(shape=(40, 36, 44), matrix=None) -> tuple[Volume, np.ndarray]:
    """A ball of 500 with a bright core of 1000 in air, on any grid, and the label of each voxel."""
    matrix = np.diag([1.0, 1.0, 1.0, 1.0]) if matrix is None else matrix
    k, j, i = np.indices(shape)
    places = (matrix @ np.stack([i, j, k, np.ones_like(i)]).reshape(4, -1))[:3].T
    centre = (matrix @ [(shape[2] - 1) / 2, (shape[1] - 1) / 2, (shape[0] - 1) / 2, 1])[:3]
    far = np.linalg.norm(places - centre, axis=1).reshape(shape)
    reach = 0.4 * min(np.linalg.norm(matrix[:3, :3], axis=0) * shape[::-1])
    truth = np.where(far < 0.6 * reach, 300, np.where(far < reach, 7, 0))
    return Volume(np.select([truth == 300, truth == 7], [1000.0, 500.0]), matrix), truth


def settings(model, **changes) -> SegmentSettings:
    return SegmentSettings(str(model), device=Device.CPU, **changes)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        ((40, 36, 44), np.eye(4)),
        ((61, 59, 67), phantoms.awkward_geometry() @ np.diag([0.7, 0.7, 0.35, 1.0])),
        ((13, 50, 47), np.array([[0, -1.3, 0, 80], [-1.3, 0, 0, 20], [0, 0, 5.0, -9], [0, 0, 0, 1.0]])),
    ],
    ids=["plain", "oblique", "thick"],
)
def test_labels_lie_on_the_grid_of_any_volume(steps, shape, matrix):
    volume, truth = nested(shape, matrix)
    outputs = run({"volume": volume}, settings(steps, clean_up=False))
    labels = outputs.volumes["labels"]
    assert labels.shape == volume.shape
    assert np.array_equal(labels.ijk_to_ras, volume.ijk_to_ras)
    assert dice(labels.array == 300, truth == 300) > 0.9
    assert dice(labels.array > 0, truth > 0) > 0.93
    assert labels.labels[7] == Label("dim", (0.1, 0.2, 0.3), "a~b~c")
    assert outputs.report["working_spacing_mm"] == pytest.approx([2, 2, 2], rel=0.06)


def test_padding_of_a_ct_is_air_to_the_network_and_measured_as_it_is(steps):
    volume, _ = nested()
    labels = []
    for padding in (-1024.0, -3024.0):
        array = volume.array * 2.0 - 1000.0
        array[:3] = array[18:20, :12] = padding
        outputs = run({"volume": volume.like(array)}, settings(steps, clean_up=False))
        labels.append(outputs.volumes["labels"].array)
        for row in outputs.report["segments"]:
            assert row["mean"] == pytest.approx(array[labels[-1] == row["value"]].mean(dtype=np.float64))
    assert np.array_equal(*labels)


def test_measures_are_those_of_the_input_grid(steps):
    matrix = np.array([[1.0, 0.4, 0, 0], [0, 1.1, 0, 0], [0, 0, 1.2, 0], [0, 0, 0, 1]])  # sheared
    volume, _ = nested(matrix=matrix)
    volume.array += np.random.default_rng(0).normal(0, 5, volume.shape).astype(np.float32)
    outputs = run({"volume": volume}, settings(steps))
    mask = outputs.volumes["labels"].array == 300
    row = next(row for row in outputs.report["segments"] if row["value"] == 300)
    assert row["voxels"] == mask.sum()
    assert row["volume_ml"] == pytest.approx(mask.sum() * 1.0 * 1.1 * 1.2 / 1000)
    assert row["mean"] == pytest.approx(volume.array[mask].mean(), rel=1e-5)
    assert row["sd"] == pytest.approx(volume.array[mask].std(), rel=1e-4)


def test_no_more_memory_is_used_for_a_label_than_was_planned():
    shape, few = (64, 48, 48), (32, 24, 24)
    target, working = Grid(shape, np.eye(4)), Grid(few, np.diag([2.0, 2.0, 2.0, 1.0]))
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], few).transpose(3, 0, 1, 2).astype(np.float32)
    labels, volume = rng.integers(0, 3, shape).astype(np.uint8), Volume(rng.random(shape), np.eye(4))
    table = {1: Label("one"), 2: Label("two")}

    def bytes_per_voxel(work) -> float:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1] / volume.array.size
        finally:
            tracemalloc.stop()

    assert bytes_per_voxel(lambda: indices_on(probabilities, working, target)) < BYTES_OF_RESULT
    assert bytes_per_voxel(lambda: measures(labels, volume, table, volume.array)) < 1.0


def test_mirrored_answer_has_its_sides_exchanged(tmp_path):
    halves = oracle(tmp_path / "halves", "medgan.Halves", SIDES, orientation="RAS", spacing_mm=[1, 1, 1], multiple=1)
    turned = np.array([[0, 0, -1.0, 40], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])  # slices from right to left
    volume, truth = nested(matrix=turned)
    with_flips = run({"volume": volume}, settings(halves, uncertainty=True, flips=True))
    alone = run({"volume": volume}, settings(halves))
    labels = with_flips.volumes["labels"].array
    right = 40 - np.arange(volume.shape[0])[:, None, None] * np.ones(volume.shape) > 40 - (volume.shape[0] - 1) / 2
    inside = truth > 0
    assert dice(labels == 41, inside & right) > 0.9
    assert dice(labels == 2, inside & ~right) > 0.9
    assert np.array_equal(labels, alone.volumes["labels"].array)
    far = inside & (np.abs(np.arange(volume.shape[0]) - 19.5) > 4)[:, None, None]
    assert with_flips.volumes["uncertainty"].array[far].max() < 0.2, "both answers agree"
    assert with_flips.report["mirrored"]
    assert not alone.report["mirrored"]


def test_labels_of_one_side_keep_the_volume_from_being_mirrored(tmp_path):
    one = oracle(tmp_path / "one", "medgan.Halves", [{"name": "Left-Half"}, {"name": "other"}], orientation="RAS")
    report = run({"volume": nested()[0]}, settings(one, flips=True)).report
    assert not report["mirrored"]
    assert report["messages"] == [
        "Some labels of the model have no partner on the other side of the body, so the volume was not mirrored."
    ]


def test_tiles_and_the_whole_give_the_same_labels(steps):
    volume, _ = nested((60, 56, 64))
    fine = {"spacing_mm": 1.0}
    whole = run({"volume": volume}, settings(steps, **fine))
    tiled = run({"volume": volume}, settings(steps, memory_limit_gb=0.016, **fine), seen := Seen())
    assert np.array_equal(whole.volumes["labels"].array, tiled.volumes["labels"].array)
    assert seen.largest("tile") > 1


def test_memory_that_runs_out_is_met_with_smaller_tiles(tmp_path, monkeypatch):
    """A true lack of memory would end the test run."""

    class Narrow(segment_models.Steps):
        def forward(self, image):
            if image[0, 0].numel() > 80_000:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(image)

    ours = {"spacing_mm": [1, 1, 1], "orientation": "RAS", "normalise": "percentiles", "multiple": 4}
    steps = oracle(tmp_path / "fine", "medgan.Steps", STEPS, LEVELS, **ours)
    volume, _ = nested((48, 44, 52))
    whole = run({"volume": volume}, settings(steps))
    monkeypatch.setitem(networks.NETWORKS, "medgan.Steps", Narrow)
    narrow = run({"volume": volume}, settings(steps))
    assert np.array_equal(whole.volumes["labels"].array, narrow.volumes["labels"].array)
    assert [message for message in narrow.report["messages"] if "smaller ones were used" in message]


class Seen:
    """Progress that remembers what it was told."""

    def __init__(self, cancel_at: float = 2.0) -> None:
        self.told: list[tuple[float, str]] = []
        self.cancel_at = cancel_at

    def __call__(self, fraction: float, message: str = "") -> None:
        self.told.append((fraction, message))
        if fraction >= self.cancel_at:
            raise Cancelled

    def largest(self, word: str) -> int:
        return max(int(message.split()[-1]) for _, message in self.told if word in message)


def test_too_little_memory_is_refused_with_numbers(steps):
    with pytest.raises(MemoryRefused, match=r"needs at least [\d.]+ GB of memory.* 0\.0004 GB"):
        run({"volume": nested()[0]}, settings(steps, memory_limit_gb=0.0004))
    with pytest.raises(MemoryRefused, match=r"A volume of \d+ x \d+ x \d+ voxels .*3 labels of 'steps'.* 0\.003 GB"):
        run({"volume": nested((20, 20, 20))[0]}, settings(steps, memory_limit_gb=0.003, spacing_mm=0.4))


def a_runner(model, chosen, limit: int) -> Runner:
    card = models.find(str(model))
    return Runner(
        models.build_network(card, models.load_state(card, "faithful")), describe(card), card.name, chosen, limit
    )


def test_memory_that_runs_out_is_met_with_smaller_and_smaller_tiles(steps, monkeypatch):
    sizes = []

    def run_tiled(predict, image, plan, *more):
        sizes.append(plan.voxels)
        if len(sizes) < 3:
            raise MemoryError
        return inference.run_tiled(predict, image, plan, *more)

    monkeypatch.setattr("medgan.segmentation.network.run_tiled", run_tiled)
    runner = a_runner(steps, inference.cpu_device(), 120_000_000)
    runner.probabilities(np.zeros((1, 120, 120, 120), np.float32), None, Seen())
    assert sizes == sorted(set(sizes), reverse=True)
    assert runner.told == [f"Memory ran out with tiles of {size} voxels; smaller ones were used." for size in sizes[:2]]


def test_answers_on_a_gpu_need_room_in_ram(steps, monkeypatch):
    runner = a_runner(steps, inference.ChosenDevice(torch.device("cuda"), "GPU"), 0)
    shape = (1, 800, 800, 800)
    monkeypatch.setattr(inference, "free_memory_bytes", lambda: 40_000_000_000)
    assert runner._plan(shape, 100, 100_000_000_000, 0, 1).tile == shape[1:]
    monkeypatch.setattr(inference, "free_memory_bytes", lambda: 8_000_000_000)
    with pytest.raises(MemoryRefused, match=r"800 x 800 x 800 voxels into 3 labels needs at least 10\.2 GB"):
        runner._plan(shape, 100, 100_000_000_000, 0, 1)


def test_gpu_without_room_for_the_network_leaves_it_to_the_processor(steps, a_full_gpu):
    wanted = run({"volume": nested()[0]}, settings(steps)).volumes["labels"].array
    a_full_gpu("medgan.tasks.segment")
    found = run({"volume": nested()[0]}, SegmentSettings(str(steps)))
    assert np.array_equal(found.volumes["labels"].array, wanted)
    assert "full GPU ran out of memory; the CPU was used." in found.report["messages"]
    assert found.report["device"].startswith("CPU")


def test_progress_rises_and_cancels(steps):
    seen = Seen()
    run({"volume": nested()[0]}, settings(steps), seen)
    fractions = [fraction for fraction, _ in seen.told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    with pytest.raises(Cancelled):
        run({"volume": nested()[0]}, settings(steps), Seen(cancel_at=0.5))


def test_uncertainty_is_large_where_labels_are_alike(tmp_path):
    soft = oracle(tmp_path / "soft", "medgan.Steps", STEPS, {**LEVELS, "sharpness": 8.0}, normalise="percentiles")
    volume, truth = nested()
    outputs = run({"volume": volume}, settings(soft, uncertainty=True))
    unsure = outputs.volumes["uncertainty"].array
    assert unsure.min() >= 0.0
    assert unsure.max() <= 1.0
    weights = np.exp(-8.0 * (np.array([0, 0.5, 1.0]) - 1.0) ** 2)  # a voxel of the core
    share = weights / weights.sum()
    assert unsure[truth == 300].mean() == pytest.approx(-(share * np.log(share)).sum() / np.log(3), rel=1e-3)
    row = next(row for row in outputs.report["segments"] if row["value"] == 300)
    assert row["uncertainty"] == pytest.approx(unsure[outputs.volumes["labels"].array == 300].mean(), rel=1e-4)


def test_second_channel_may_lie_on_another_grid(tmp_path):
    two = oracle(tmp_path / "two", "medgan.Steps", STEPS, LEVELS, channels=["T1", "FLAIR"], normalise="percentiles")
    volume, truth = nested()
    flat = volume.like(np.ones(volume.shape))
    matrix = np.array([[0, 1.5, 0, 0], [1.5, 0, 0, 0], [0, 0, -1.5, 39], [0, 0, 0, 1.0]])
    k, j, i = np.indices((27, 30, 24))
    place = np.rint((matrix @ np.stack([i, j, k, np.ones_like(i)]).reshape(4, -1))[:3]).astype(int)
    inside = np.all((place >= 0) & (place < np.array(volume.shape[::-1])[:, None]), axis=0)
    place = np.where(inside, place, 0)
    array = np.where(inside, volume.array[place[2], place[1], place[0]], 0).reshape(k.shape)
    outputs = run({"volume": flat, "volume 2": Volume(array, matrix)}, settings(two))
    assert outputs.volumes["labels"].shape == flat.shape
    assert dice(outputs.volumes["labels"].array == 300, truth == 300) > 0.9
    with pytest.raises(ModelError, match=r"takes 2 channels \(T1, FLAIR\), and 1 were given"):
        run({"volume": flat}, settings(two))


def test_report_says_what_it_was_made_with(steps):
    volume, _ = nested()
    first, second = (run({"volume": volume}, settings(steps, seed=5)) for _ in range(2))
    assert np.array_equal(first.volumes["labels"].array, second.volumes["labels"].array)
    report = first.report
    assert report["model"] == "steps"
    assert report["model_version"] == "0.1.0"
    assert len(report["model_sha256"]["faithful"]) == 64
    assert report["settings"]["seed"] == report["seed"] == 5
    assert report["device"].startswith("CPU")
    assert report["synthetic"] is False


def test_what_can_not_be_segmented_is_said_in_a_sentence(steps):
    volume, _ = nested()
    with pytest.raises(ModelError, match="Model 'denoise' is made for the task 'enhance', not to segment"):
        run({"volume": volume}, settings("denoise"))
    with pytest.raises(ValueError, match="needs a scalar volume"):
        run({"volume": LabelMap(np.zeros((4, 4, 4), int), np.eye(4))}, settings(steps))
    with pytest.raises(ModelError, match="has no coarse variant"):
        run({"volume": volume}, settings(steps, coarse=True))
    with pytest.raises(ValueError, match="Every voxel of the volume is 3; there is nothing to segment"):
        run({"volume": volume.like(np.full(volume.shape, 3.0))}, settings(steps))
    with pytest.raises(ValueError, match="not finite"):
        run({"volume": volume.like(np.full(volume.shape, np.nan))}, settings(steps))


def test_holes_of_a_volume_are_filled_and_told(steps):
    volume, truth = nested()
    volume.array[20, 18, 20:23] = np.nan
    outputs = run({"volume": volume}, settings(steps))
    assert dice(outputs.volumes["labels"].array == 300, truth == 300) > 0.9
    assert "3 voxels were not finite numbers" in outputs.report["messages"][0]
    row = next(row for row in outputs.report["segments"] if row["value"] == 300)
    assert row["mean"] == pytest.approx(1000, rel=0.02)


def test_scan_of_less_than_a_model_expects_is_said(tmp_path):
    volume, _ = nested((40, 36, 44), phantoms.awkward_geometry())
    shortest = min(np.array(volume.shape[::-1]) * volume.spacing_mm)
    said = []
    for name, least in (("enough", shortest - 1), ("more", shortest + 1)):
        model = oracle(tmp_path / name, "medgan.Steps", STEPS, LEVELS, least_extent_mm=least)
        said.append(run({"volume": volume}, settings(model)).report["messages"])
    assert [len(each) for each in said] == [0, 1]
    assert f"covers only {shortest:.3g} mm along one axis; 'more' expects" in said[1][0]
    assert describe(models.find("brain-parts")).least_extent_mm == 100


def test_scan_without_air_may_not_be_in_hounsfield_units(tmp_path):
    volume, _ = nested()
    said = []
    for name, kind, offset in (("ct", "hounsfield", -1000.0), ("raw", "hounsfield", 0.0), ("mr", "percentiles", 0.0)):
        model = oracle(tmp_path / name, "medgan.Steps", STEPS, LEVELS, normalise=kind)
        report = run({"volume": volume.like(volume.array + offset)}, settings(model)).report
        said.append(sum("may not be Hounsfield units" in message for message in report["messages"]))
    assert said == [0, 1, 0]


def test_nothing_found_is_said(tmp_path):
    never = oracle(tmp_path / "never", "medgan.Steps", STEPS, {"levels": [5.0, 9.0]})
    report = run({"volume": nested()[0]}, settings(never)).report
    assert "'never' found nothing of what it knows" in report["messages"][0]
    assert [row["voxels"] for row in report["segments"]] == [0, 0]
    assert report["segments"][0]["mean"] is None
