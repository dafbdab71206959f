"""Maps of anomalies: what an autoencoder has not seen stands out, in units of its usual error."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import kind_tools
import phantoms
from medgan.models import ModelError
from medgan.settings import AnomalySettings, TrainKind
from medgan.synthesis import files
from medgan.tasks import anomaly
from medgan.volume import Volume, VolumeError, read_volume, write_volume

SPOT = (slice(1, 5), slice(1, 5), slice(11, 15))


def plain(rng):
    return {"image": kind_tools.ball(rng)[1][None]}


@pytest.fixture(scope="module")
def a_trained_model(tmp_path_factory):
    """The bundle of an autoencoder that has seen balls, and its usual error."""
    kind = kind_tools.small(TrainKind.AUTOENCODER)
    average, _ = kind_tools.teach(kind, plain, 120, 0.0, rate=3e-3)
    found = kind.validate(average, kind_tools.validation_of(plain))
    folder = tmp_path_factory.mktemp("models") / "balls"
    kind_tools.bundle_of(kind.export(average), folder)
    return str(folder), found["error"]


@pytest.fixture
def a_scan():
    """A ball and the same one with a bright spot in a corner, in another unit, on an awkward grid."""
    image = kind_tools.ball(torch.Generator().manual_seed(31))[1].numpy()
    spot = image.copy()
    spot[SPOT] = 0.85
    return [Volume(1000.0 * array, phantoms.awkward_geometry()) for array in (image, spot)]


def test_what_was_never_seen_stands_out_where_it_is(a_trained_model, a_scan):
    model, error = a_trained_model
    usual, unusual = (anomaly.run({"volume": scan}, AnomalySettings(model)) for scan in a_scan)
    assert usual.report["usual_error"] == pytest.approx(error, rel=1e-3)
    assert usual.report["mean"] < 2.0
    maps = [outputs.volumes["anomaly"].array for outputs in (usual, unusual)]
    assert maps[1][SPOT].mean() > 2.0 * maps[0][SPOT].mean()
    assert maps[1][SPOT].mean() > 1.5
    place = np.unravel_index(int((maps[1] - maps[0]).argmax()), maps[1].shape)
    assert all(part.start - 1 <= at <= part.stop for part, at in zip(SPOT, place, strict=True))
    assert np.array_equal(unusual.volumes["anomaly"].ijk_to_ras, a_scan[1].ijk_to_ras)
    assert unusual.report["synthetic"] is True
    said = usual.volumes["reconstruction"].array
    assert np.abs(said - a_scan[0].array).mean() < 100.0  # the unit of the input


def test_a_model_without_usual_error_measures_by_the_volume_and_says_so(a_trained_model, a_scan, tmp_path):
    folder = tmp_path / "silent"
    kind = kind_tools.small(TrainKind.AUTOENCODER)
    kind_tools.bundle_of(kind.export(kind.generator), folder)  # never validated
    outputs = anomaly.run({"volume": a_scan[0]}, AnomalySettings(str(folder)))
    assert outputs.report["usual_error_source"] == "volume"
    assert outputs.report["mean"] == pytest.approx(1.0, abs=0.01)
    assert "own mean error counts as 1" in outputs.report["messages"][0]


def test_a_volume_that_is_unlike_as_a_whole_is_told(a_trained_model):
    noise = np.random.default_rng(0).choice([250.0, 1000.0], (20, 21, 22)).astype(np.float32)
    outputs = anomaly.run({"volume": Volume(noise, np.eye(4))}, AnomalySettings(a_trained_model[0]))
    assert any("the whole volume is unlike" in message for message in outputs.report["messages"])


def test_other_models_and_inputs_are_refused(a_trained_model, a_scan):
    with pytest.raises(ModelError, match="is for the task 'enhance'; choose one for 'anomaly' or 'autoencoder'"):
        anomaly.run({"volume": a_scan[0]}, AnomalySettings("denoise"))
    with pytest.raises(ModelError, match="No model was named"):
        anomaly.run({"volume": a_scan[0]}, AnomalySettings(""))
    with pytest.raises(ValueError, match=re.escape("needs a scalar volume, given as 'volume'")):
        anomaly.run({}, AnomalySettings(a_trained_model[0]))


def test_command_writes_the_map_with_its_mark(a_trained_model, a_scan, tmp_path, call):
    write_volume(a_scan[1], tmp_path / "scan.nrrd")
    said = call("anomaly", tmp_path / "scan.nrrd", tmp_path / "map.nrrd", "--model", a_trained_model[0],
                "--reconstruction", tmp_path / "again.nrrd")  # fmt: skip
    assert said.returncode == 0, said.stderr
    direct = anomaly.run({"volume": read_volume(tmp_path / "scan.nrrd")}, AnomalySettings(a_trained_model[0]))
    written = read_volume(tmp_path / "map.nrrd")
    assert np.allclose(written.array, direct.volumes["anomaly"].array, atol=1e-4)
    beside = json.loads((tmp_path / "map.json").read_text())
    assert beside["synthetic"] is True
    assert beside["content"] == "anomaly"
    assert json.loads((tmp_path / "again.json").read_text())["content"] == "reconstruction"
    assert b"MedGAN.Synthetic:=synthetic, MedGANSlicer, model " in (tmp_path / "again.nrrd").read_bytes()
    assert b"MedGAN.Synthetic" not in (tmp_path / "map.nrrd").read_bytes()
    again = call("anomaly", tmp_path / "scan.nrrd", tmp_path / "map.nrrd", "--model", a_trained_model[0])
    assert again.returncode == 1
    assert "exists already; add --overwrite" in again.stderr


def test_disk_that_is_full_leaves_what_was_to_be_replaced(a_scan, tmp_path, full_disk):
    small, large = tmp_path / "map.nrrd", tmp_path / "again.nii"
    before = {small: b"map", tmp_path / "map.json": b"its mark"}
    for path, held in before.items():
        path.write_bytes(held)
    empty = Volume(np.zeros_like(a_scan[0].array), a_scan[0].ijk_to_ras)
    full_disk(empty.array.size)  # bytes
    with pytest.raises(VolumeError, match=r"'again\.nii' can not be written into"):
        files.write_marked({small: empty, large: a_scan[0]}, {small: {}, large: {}})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_command_says_what_is_missing(tmp_path, call):
    said = call("anomaly", tmp_path / "scan.nrrd", "--model", "denoise")
    assert (said.returncode, "Say where to write" in said.stderr) == (2, True)
    said = call("anomaly", tmp_path / "scan.nrrd", tmp_path / "map.nrrd", "--model", "")
    assert (said.returncode, "Say which model" in said.stderr) == (1, True)
    said = call("anomaly", tmp_path / "scan.nrrd", tmp_path / "map.nrrd")
    assert (said.returncode, "scan.nrrd" in said.stderr) == (1, True)
    (tmp_path / "t.csv").mkdir()
    said = call("anomaly", tmp_path / "scan.nrrd", tmp_path / "map.nrrd", "--csv", tmp_path / "t.csv", "--overwrite")
    assert (said.returncode, "t.csv' is a folder; give the name of a file" in said.stderr) == (1, True)


def test_results_that_would_share_their_description_are_refused(tmp_path):
    with pytest.raises(files.FileFailed, match=r"share the description 'map\.json'"):
        files.check_targets([tmp_path / "map.nrrd", tmp_path / "map.nii.gz"], [], False)
