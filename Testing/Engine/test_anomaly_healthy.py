"""The shipped model of anomalies on a real scan, on awkward inputs, and its recipe."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

import phantoms
from medgan.anomaly_healthy import both_ways, on_lines
from medgan.anomaly_regions import regions
from medgan.networks.healthy import CONTEXT, HealthyNet
from medgan.recipes import anomaly as recipe
from medgan.recipes import anomaly_data
from medgan.samples import sample_path
from medgan.settings import AnomalySettings, Device
from medgan.tasks import anomaly
from medgan.volume import LabelMap, Volume, read_volume, write_volume

SETTINGS = AnomalySettings(device=Device.CPU)


@pytest.fixture(scope="module")
def a_slab(tmp_path_factory):
    """60 oblique slices of the sample, as a file."""
    sample = read_volume(sample_path())
    matrix = sample.ijk_to_ras.copy()
    matrix[:, 3] = matrix @ [0, 0, 60, 1]
    path = tmp_path_factory.mktemp("scans") / "slab.nrrd"
    write_volume(Volume(sample.array[60:120], matrix), path)
    return path


@pytest.fixture(scope="module")
def outputs(a_slab):
    return anomaly.run({"volume": read_volume(a_slab)}, SETTINGS)


def test_map_lies_in_the_brain_and_the_restored_scan_keeps_its_anatomy(a_slab, outputs):
    scan, found = read_volume(a_slab), outputs.volumes["anomaly"]
    assert found.shape == scan.shape
    assert np.array_equal(found.ijk_to_ras, scan.ijk_to_ras)
    assert found.array.min() >= 0.0
    assert found.array.max() <= 1.0
    assert np.all(found.array[scan.array == 0] < 0.5)
    brain = scan.array > 60
    assert found.array.max() > 0.2
    report = outputs.report
    assert report["unit"] == "score of an anomaly, 0 to 1"
    assert "not a diagnosis" in report["research"]
    assert report["regions"] == regions(found, report["threshold"], SETTINGS.smallest_ml)
    healthy = outputs.volumes["reconstruction"].array
    assert np.corrcoef(healthy[brain], scan.array[brain])[0, 1] > 0.7
    assert np.array_equal(healthy[0, 0], scan.array[0, 0])  # air


def test_the_command_maps_a_folder_and_writes_tables(a_slab, outputs, tmp_path, call):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.nrrd").symlink_to(a_slab)
    (folder / "broken.nii.gz").write_bytes(b"no scan")
    said = call("anomaly", folder, "--out", tmp_path / "out", "--csv", tmp_path / "scans.csv",
                "--regions", tmp_path / "regions.csv", "--device", "cpu", "--json")  # fmt: skip
    assert said.returncode == 1
    document = json.loads(said.stdout)
    assert [entry["status"] for entry in document["files"]] == ["done", "failed"]
    assert "broken.nii.gz" in said.stderr
    written = read_volume(tmp_path / "out/a_anomaly.nrrd")
    assert np.allclose(written.array, outputs.volumes["anomaly"].array, atol=2e-3)
    beside = json.loads((tmp_path / "out/a_anomaly.json").read_text())
    assert (beside["synthetic"], beside["content"], beside["model"]) == (True, "anomaly", "anomaly")
    with open(tmp_path / "regions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["volume_ml"]) for row in rows] == pytest.approx(
        [region["volume_ml"] for region in outputs.report["regions"]], abs=0.05
    )
    with open(tmp_path / "scans.csv", newline="") as file:
        scans = list(csv.DictReader(file))
    assert [row["status"] for row in scans] == ["done", "failed"]
    assert int(scans[0]["regions"]) == len(rows)


def test_the_command_refuses_what_it_can_not_do(a_slab, tmp_path, call):
    said = call("anomaly", a_slab, "--out", a_slab)
    assert (said.returncode, "is a file; --out takes a folder" in said.stderr) == (2, True)
    said = call("anomaly", a_slab, "--out", tmp_path / "map.nrrd")
    assert (said.returncode, "map.nrrd' is the name of a volume file" in said.stderr) == (2, True)
    said = call("anomaly", a_slab, tmp_path / "map.nrrd", "--regions", tmp_path / "regions.txt")
    assert (said.returncode, "end it with .csv" in said.stderr) == (2, True)
    said = call("anomaly", a_slab, tmp_path / "map.nrrd", "--threshold", "-1")
    assert (said.returncode, "--threshold must lie between" in said.stderr) == (2, True)
    said = call("anomaly", a_slab, a_slab, "--overwrite")
    assert (said.returncode, "is an input itself" in said.stderr) == (1, True)


@pytest.mark.parametrize(
    "array",
    [
        np.full((20, 21, 22), 5.0),
        np.ones((1, 1, 1)),
        phantoms.head((9, 40, 41))[4:5],
        1e9 * phantoms.head((16, 17, 18)),
        np.where(np.arange(16 * 16 * 16).reshape(16, 16, 16) % 97 == 0, np.nan, phantoms.head((16, 16, 16))),
        -1000.0 + phantoms.head((12, 30, 14)),
    ],
    ids=["constant", "one voxel", "one slice", "huge", "some NaN", "below zero"],
)
def test_what_is_no_head_gets_a_map_and_a_sentence(array):
    volume = Volume(array.astype(np.float32), phantoms.awkward_geometry())
    outputs = anomaly.run({"volume": volume}, SETTINGS)
    found = outputs.volumes["anomaly"].array
    assert found.shape == array.shape
    assert np.isfinite(found).all()
    assert np.isfinite(outputs.volumes["reconstruction"].array).all()
    assert any("hardly an MR scan of a whole head" in message for message in outputs.report["messages"])
    json.dumps(outputs.report, allow_nan=False)


def test_what_can_not_be_mapped_is_refused_in_a_sentence():
    labels = LabelMap(np.ones((4, 4, 4), np.int16), np.eye(4))
    with pytest.raises(ValueError, match="needs a scalar volume"):
        anomaly.run({"volume": labels}, SETTINGS)
    with pytest.raises(ValueError, match="damaged"):
        anomaly.run({"volume": Volume(np.full((8, 8, 8), np.nan, np.float32), np.eye(4))}, SETTINGS)
    with pytest.raises(ValueError, match=r"GB of memory and 0\.01 GB may be used"):
        anomaly.run({"volume": Volume(np.ones((90, 90, 90), np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))},
                    AnomalySettings(device=Device.CPU, memory_limit_gb=0.01))  # fmt: skip


def test_an_untrained_generator_mixes_what_it_sees():
    torch.manual_seed(0)
    network = HealthyNet().eval()
    seen = torch.full((1, len(CONTEXT) + 1, 32, 48), 0.5)
    with torch.no_grad():
        answer = network(seen)
    assert answer.shape == (1, 3, 32, 48)
    assert torch.allclose(answer[:, 1], torch.tensor(0.5))
    assert torch.allclose(answer[:, 2], torch.tensor(0.5))


def test_a_generator_that_keeps_replaces_what_it_suspects_alone():
    torch.manual_seed(0)
    restorer = HealthyNet(keeps=True).restorer.eval()
    seen = torch.rand(1, len(CONTEXT) + 1, 32, 48)
    own = seen[:, 1:2]
    with torch.no_grad():
        said = restorer.parts(seen)
        said.suspicion = torch.full_like(said.brain, -30.0)
        said.suspicion[..., :24] = 30.0
        restored = restorer.replaced(seen, said)
    assert torch.allclose(restored[..., 24:], own[..., 24:])
    assert torch.allclose(restored[..., :24], said.proposed[..., :24])
    assert not torch.allclose(said.proposed, own, atol=0.1)


def test_a_judge_that_shares_sees_the_generators_features():
    torch.manual_seed(0)
    network = HealthyNet(keeps=True, shares=True).eval()
    seen = torch.rand(1, len(CONTEXT) + 1, 32, 48)
    with torch.no_grad():
        said = network.restorer.parts(seen)
        healthy = network.restorer.replaced(seen, said)
        with_features = network.judged(seen, healthy, said.features)
        assert torch.allclose(network(seen)[:, :1], torch.sigmoid(with_features))
        assert not torch.allclose(network.judged(seen, healthy), with_features)


def test_answer_does_not_depend_on_which_side_is_which():
    torch.manual_seed(0)
    network = HealthyNet(keeps=True, shares=True).eval()
    seen = torch.rand(1, len(CONTEXT) + 1, 32, 48)
    with torch.no_grad():
        assert torch.allclose(both_ways(network, seen).flip(3), both_ways(network, seen.flip(3)), atol=1e-6)


def test_simulated_anomalies_stay_in_the_brain():
    slab = 0.4 + 0.2 * torch.rand(3, 60, 50, generator=torch.Generator().manual_seed(1))
    brain = torch.zeros(3, 60, 50, dtype=torch.bool)
    brain[:, 15:45, 10:40] = True
    signs = []
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        change = anomaly_data.with_anomalies(slab, brain, torch.zeros_like(brain), 1.0, generator) - slab
        assert torch.all(change[~brain] == 0.0)
        signs.append(float(change.sum()))
    assert sum(sign > 0 for sign in signs) > 8  # most are bright when all are wanted so


def test_a_change_in_the_mirror_lies_on_the_other_side_of_the_brain():
    brain = torch.zeros(1, 20, 30, dtype=torch.bool)
    brain[:, 5:15, 4:21] = True  # its middle is column 12
    change = torch.zeros(1, 20, 30)
    change[0, 10, 7] = 0.3
    seen = anomaly_data.in_mirror(change, brain)
    assert torch.nonzero(seen).tolist() == [[0, 10, 17]]
    assert float(seen.sum()) == pytest.approx(0.3)


def test_slices_between_the_asked_ones_are_linear():
    said = np.array([0.0, 3.0, 6.0])[:, None, None] * np.ones((3, 2, 2))
    assert np.allclose(on_lines(said, np.array([0, 3, 6]), 8)[:, 0, 0], [0, 1, 2, 3, 4, 5, 6, 6])


@pytest.fixture
def a_data_folder(tmp_path):
    """Two label maps of a head with FreeSurfer codes; the second is the one to check on."""
    head = phantoms.head((70, 90, 80))
    side = np.arange(80) < 40
    labels = np.zeros(head.shape, np.int16)
    for value, left, right in ((300, 515, 515), (700, 2, 41), (400, 4, 43), (1000, 10, 49)):
        labels[head == value] = np.broadcast_to(np.where(side, left, right), head.shape)[head == value]
    folder = tmp_path / "data"
    folder.mkdir()
    rows = ["file,modality"]
    for name in ("synthseg_01", "synthseg_17"):
        write_volume(LabelMap(labels, np.diag([2.0, 2.0, 2.0, 1.0])), folder / f"{name}.nii.gz")
        rows.append(f"{name}.nii.gz,label map (FreeSurfer codes)")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_recipe_that_goes_on_gives_the_weights_of_an_uninterrupted_one(
    a_data_folder, tmp_path, monkeypatch, one_thread
):
    common = ["--data", str(a_data_folder), "--minutes", "0", "--batch", "1", "--pool", "1", "--renew", "2",
              "--check", "", "--device", "cpu", "--log-every", "1"]  # fmt: skip
    recipe.main([*common, "--out", str(tmp_path / "whole"), "--steps", "3"])

    class Stopped(Exception):
        pass

    log = recipe.Trainer.log

    def stop_after_one(self, entry):
        log(self, entry)
        if entry["step"] == 1 and "share" in entry:
            self.save()
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(recipe.Trainer, "log", stop_after_one)
        with pytest.raises(Stopped):
            recipe.main([*common, "--out", str(tmp_path / "parts"), "--steps", "3"])
    recipe.main([*common, "--out", str(tmp_path / "parts"), "--steps", "3"])
    whole, parts = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    entries = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(entry["error"]) for entry in entries if "error" in entry)
