"""Recognition: what a volume is, how sure that is, and what is said about it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import phantoms
from medgan import recognise_command, records, samples
from medgan.bundle import ModelError
from medgan.inference import MemoryRefused
from medgan.models import build_network, find, load_state, read_card
from medgan.networks.recognise import SIDE, RecogniseNet
from medgan.progress import Cancelled
from medgan.recognition import slices, words
from medgan.recognition.fits import fits
from medgan.recognition.look import Head, finding, heads_of, look
from medgan.settings import RecogniseSettings, Saliency
from medgan.tasks import recognise
from medgan.volume import LabelMap, Volume, read_volume, write_volume

KIND = Head("kind", "Kind of scan", ("CT", "MR T1", "MR T2"), 1.0, 0.6)
REGION = Head("region", "Part of the body", ("head", "chest", "abdomen"), 1.0, 0.6)


@pytest.fixture(scope="module")
def a_head() -> Volume:
    """The sample scan, every second voxel: T1 of a brain that training never saw."""
    volume = read_volume(samples.sample_path())
    return Volume(volume.array[::2, ::2, ::2], volume.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0]), {}, "int16")


@pytest.fixture(scope="module")
def some_labels() -> LabelMap:
    """A label map of nested shells and a few organs."""
    head = phantoms.head((40, 48, 44))
    return LabelMap(np.digitize(head, [1, 350, 600, 900]).astype(np.int16), phantoms.geometry((2, 2, 2)))


@pytest.fixture(scope="module")
def said(a_head):
    """The report on the sample scan, from the shipped model."""
    return recognise.run({"volume": a_head}, RecogniseSettings()).report


def seen(volume: Volume, **changes):
    return recognise.run({"volume": volume}, RecogniseSettings(**changes)).report


def test_body_is_found_where_sums_of_32_bit_voxels_overflow():
    array = np.full((32, 32, 32), 1e36, np.float32)
    array[8:24, 8:24, 8:24] = 3e38
    straight = slices.straightened(Volume(array, phantoms.geometry((5, 5, 5))), array)
    assert straight.array.shape == (32, 32, 32)
    assert all(box.stop > box.start for box in straight.box)


def test_straightened_volume_runs_to_the_right_the_front_and_the_head():
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    # i runs down, j to the left, k to the front: coronal slices of 3 mm.
    matrix = np.array([[0.0, -1, 0, 10], [0, 0, 3, 20], [-2, 0, 0, 30], [0, 0, 0, 1]])
    straight = slices.straightened(Volume(array, matrix), array)
    assert straight.array.shape == (6, 4, 5)
    assert straight.spacing_mm == (2.0, 3.0, 1.0)
    # The first voxel in RAS order lies at the lowest z (i = 5), the lowest y (k = 0), the lowest x (j = 4).
    assert straight.array[0, 0, 0] == array[0, 4, 5]
    assert straight.array[5, 3, 0] == array[3, 4, 0]
    assert (straight.axis, straight.plane) == (1, "coronal")
    assert straight.number(2) == 2
    np.testing.assert_array_equal(straight.back(straight.array), array)


def test_slices_are_counted_as_the_source_counts_them():
    array = np.zeros((7, 9, 8), np.float32)
    from_above = np.diag([1.0, 1.0, -1.0, 1.0])
    straight = slices.straightened(Volume(array, from_above), array)
    assert straight.number(0) == 6
    assert straight.plane == "axial"


def test_awkward_geometry_names_no_plane_and_comes_back_exactly():
    array = np.random.default_rng(0).random(phantoms.ODD_SHAPE, np.float32)
    straight = slices.straightened(Volume(array, phantoms.awkward_geometry()), array)
    np.testing.assert_array_equal(straight.back(straight.array), array)
    assert straight.plane == ""


def test_slices_are_fitted_in_true_proportions():
    shown = slices.fitted(torch.ones(2, 20, 40), (1.0, 2.0))
    assert shown.shape == (2, SIDE, SIDE)
    assert shown[0, :, SIDE // 2].sum() == SIDE // 4
    assert shown[0, SIDE // 2].sum() == SIDE
    coarse = slices.fitted(torch.arange(4.0 * SIDE * SIDE).reshape(1, 2 * SIDE, 2 * SIDE), (1.0, 1.0))
    assert coarse[0, 0, 0] == pytest.approx((0 + 1 + 2 * SIDE + 2 * SIDE + 1) / 4)  # means, not single pixels


def test_share_of_same_neighbours_by_hand():
    drawing = np.array([[[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 0, 0]]], np.float32)
    # Pairs with foreground: rows 2 of 5 kinds each ... along j: 1-1, 1-1, 1-2, 1-2, 2-0, 2-0; along i: 0-1, 1-1 twice
    # and 0-2, 2-2. Same: two along j, three along i, of twelve.
    assert slices.same_neighbours(drawing) == pytest.approx(5 / 12)
    assert slices.same_neighbours(np.random.default_rng(0).random((4, 8, 8))) == 0.0
    assert slices.same_neighbours(np.zeros((3, 4, 5))) == 0.0


class Brightness(torch.nn.Module):
    """Says of every slice whether it is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(100.0))

    def answers(self, stack, told):
        bright = stack.mean(dim=(3, 4))[:, 0] - stack.mean()
        single = self.scale * torch.stack([-bright, bright, torch.full_like(bright, -1.0)], dim=2)
        return {"kind": (single.mean(dim=1), single)}


def test_answers_of_slices_that_were_repeated_are_those_of_each():
    """Three slices are read as six."""
    array = np.zeros((3, 40, 40), np.float32)
    array[:, 4:36, 4:36] = np.array([300, 100, 300])[:, None, None]
    head = Head("kind", "Kind of scan", ("dark", "bright"), 1.0, 0.5)
    found = look(Brightness(), [head], Volume(array, phantoms.geometry((1, 1, 5))), array, stacks=1)
    assert [row["kind"] for row in found.each] == ["bright", "dark", "bright"]


def test_answers_below_the_threshold_are_unknown():
    found = finding(KIND, [0.5, 0.2, 0.05, 0.25])
    assert found["unknown"]
    assert found["label"] == "unknown"
    assert found["nearest"] == "CT"
    assert found["confidence"] == 0.5
    assert found["scores"] == {"CT": 0.5, "MR T1": 0.2, "MR T2": 0.05}
    assert found["none_of_these"] == 0.25
    assert finding(KIND, [0.61, 0.2, 0.05, 0.14])["label"] == "CT"


def test_two_unsure_answers_are_named_together():
    assert finding(KIND, [0.1, 0.5, 0.35, 0.05])["label"] == "MR"
    assert finding(KIND, [0.1, 0.5, 0.35, 0.05])["confidence"] == pytest.approx(0.85)
    both = finding(REGION, [0.05, 0.5, 0.4, 0.05])
    assert both["label"] == "chest and abdomen"
    assert both["confidence"] == pytest.approx(0.9)
    assert finding(REGION, [0.25, 0.3, 0.25, 0.2])["unknown"]


def test_sentences():
    what = {"kind": finding(KIND, [0.0, 0.9, 0.1, 0.0]), "region": finding(REGION, [0.9, 0.1, 0.0, 0.0])}
    assert words.sentence(what) == "MR, T1, head."
    what["kind"] = finding(KIND, [0.1, 0.5, 0.35, 0.05])
    assert words.sentence(what) == "MR of an unclear contrast, head."
    what["kind"] = finding(KIND, [0.5, 0.2, 0.1, 0.2])
    assert words.sentence(what) == "Unknown: nearest is CT (50 %), head."
    assert words.percent(0.9999) == "99 %"


def test_forward_gives_the_answers_of_all_heads_in_their_order():
    torch.manual_seed(0)
    network = RecogniseNet({"kind": 3, "plane": 2}, 8, 8).eval()
    stack, told = torch.rand(2, 1, 5, 40, 40), torch.rand(2, slices.CUES)
    with torch.no_grad():
        joined, apart = network(stack, told), network.answers(stack, told)
    assert joined.shape == (2, 7)
    assert network.first("plane") == 4
    torch.testing.assert_close(joined[:, 4:], apart["plane"][0])
    assert apart["kind"][1].shape == (2, 5, 4)
    with torch.no_grad():
        swapped = network.answers(stack.flip(2), told)["kind"][1]
    assert not torch.allclose(swapped.flip(1), apart["kind"][1], atol=1e-5)  # the order of the slices counts


def test_shipped_model_knows_the_sample(said):
    kind, region, plane = said["what"].values()
    assert kind["label"] in ("MR", "MR T1")  # a brain without its head: the contrast is not always told
    assert region["label"] == "head"
    assert plane["nearest"] == "axial"
    assert said["sentence"].startswith("MR")
    assert said["warnings"] == []
    assert said["research"] == "For research only; not a diagnosis."
    assert [row["slice"] for row in said["slices"]] == sorted({row["slice"] for row in said["slices"]})
    assert sum(row["region"] == "head" for row in said["slices"]) > 0.5 * len(said["slices"])
    assert len(said["quality"]) == 6
    assert said["synthetic"] is False
    assert {"segment"} <= {held["task"] for held in said["advice"]}
    json.dumps(said)


def test_same_scan_in_another_order_of_axes_is_told_by_its_plane(a_head):
    turned = Volume(np.ascontiguousarray(a_head.array.transpose(2, 1, 0)), a_head.ijk_to_ras[:, [2, 1, 0, 3]])
    report = seen(turned)
    assert report["what"]["region"]["label"] == "head"
    assert report["geometry_plane"] == "sagittal"
    assert report["what"]["plane"]["nearest"] == "sagittal"
    assert report["warnings"] == []


def test_wrong_geometry_is_remarked():
    plane = Head("plane", "Plane", ("axial", "sagittal"), 1.0, 0.6)
    what = {"kind": finding(KIND, [0.9, 0.1, 0.0, 0.0]), "plane": finding(plane, [0.01, 0.99, 0.0])}
    told = words.warnings(what, "axial")
    assert len(told) == 1
    assert told[0].startswith("The slices look sagittal (99 %), but the file's geometry calls them axial")
    assert words.warnings(what, "sagittal") == []
    assert words.warnings(what, "") == []
    assert words.warnings({**what, "plane": finding(plane, [0.03, 0.97, 0.0])}, "axial") == []


def test_answers_do_not_depend_on_the_unit(a_head, said):
    other = seen(Volume(a_head.array * 7.5, a_head.ijk_to_ras))
    assert other["what"]["kind"]["scores"]["MR T1"] == pytest.approx(said["what"]["kind"]["scores"]["MR T1"], abs=0.02)


def test_padding_of_a_ct_is_air():
    found = []
    for padding in (-1024.0, -2000.0, -3024.0):
        report = seen(Volume(phantoms.padded_ct(padding), np.diag([6.0, 6.0, 6.0, 1.0])))
        found.append((report["what"], report["slices"], report["quality"]))
    assert found[0][0]["kind"]["nearest"] == "CT"
    assert found[0] == found[1] == found[2]


def test_label_map_is_recognised_and_gets_no_quality(some_labels):
    report = seen(some_labels)
    assert report["what"]["kind"]["label"] == "label map"
    assert report["quality"] == []


@pytest.mark.parametrize("name", ["noise", "constant", "one voxel", "stripes"])
def test_what_is_no_scan_is_unknown(name):
    array = {
        "noise": np.random.default_rng(3).standard_normal((24, 50, 60)),
        "constant": np.full((20, 30, 30), 7.0),
        "one voxel": np.ones((1, 1, 1)),
        "stripes": np.sin(np.arange(64) / 3)[None, None] * np.ones((16, 64, 1)) + np.arange(64)[None, :, None] / 40,
    }[name]
    report = seen(Volume(array, np.eye(4)))
    assert report["what"]["kind"]["unknown"]
    assert report["sentence"].startswith("Unknown")
    assert report["advice"] == []


def test_single_slice_and_broken_voxels_are_looked_at(a_head):
    middle = len(a_head.array) // 2
    broken = a_head.array[middle : middle + 1].copy()
    broken[0, 20, 20] = np.nan
    report = seen(Volume(broken, a_head.ijk_to_ras))
    assert len(report["slices"]) == 1
    assert report["what"]["plane"]["scores"].keys() == {"axial", "coronal", "sagittal"}
    assert "1 voxels were not finite" in report["messages"][0]
    assert np.isnan(broken[0, 20, 20])
    with pytest.raises(ValueError, match="not finite"):
        seen(Volume(np.full((9, 9, 9), np.nan), np.eye(4)))


def test_huge_numbers_are_looked_at(a_head):
    assert seen(Volume(a_head.array * 1e30, a_head.ijk_to_ras))["what"]["region"]["nearest"] == "head"


def test_limit_above_what_is_free_does_not_count(a_head, monkeypatch):
    monkeypatch.setattr("medgan.inference.free_memory_bytes", lambda: 1000)
    with pytest.raises(MemoryRefused, match=r"needs at least .* 1e-06 GB may be used"):
        seen(a_head, memory_limit_gb=100.0)


def test_gpu_without_room_for_the_network_leaves_it_to_the_processor(a_head, said, a_full_gpu):
    a_full_gpu("medgan.tasks.recognise")
    found = recognise.run({"volume": a_head}, RecogniseSettings(saliency=Saliency.GRAD_CAM))
    assert found.report["what"] == said["what"]
    assert found.report["messages"][0] == "full GPU ran out of memory; the CPU was used."
    assert found.report["device"].startswith("CPU")


def test_reasons_lie_on_the_grid_of_the_input(a_head):
    matrix = phantoms.awkward_geometry()
    volume = Volume(a_head.array[:20], matrix, {}, "int16")
    found = {
        name: recognise.run({"volume": volume}, RecogniseSettings(saliency=Saliency.GRAD_CAM, target=name))
        for name in ("MR T1", "CT")
    }
    why = found["MR T1"].volumes["why"]
    assert why.shape == volume.shape
    assert why.voxel_type == "float32"
    np.testing.assert_allclose(why.ijk_to_ras, matrix)
    assert why.array.min() >= 0.0
    assert 0.5 < why.array.max() <= 1.0
    assert found["MR T1"].report["explained"] == "MR T1"
    assert not np.allclose(why.array, found["CT"].volumes["why"].array, atol=0.05)
    with pytest.raises(ValueError, match=r"names no answer.*'brain'.*MR FLAIR"):
        recognise.run({"volume": volume}, RecogniseSettings(saliency=Saliency.GRAD_CAM, target="brain"))


def test_run_can_be_cancelled_and_refuses_wrong_models(a_head, a_model, tmp_path):
    def cancel(fraction, message=""):
        raise Cancelled

    with pytest.raises(Cancelled):
        recognise.run({"volume": a_head}, RecogniseSettings(), cancel)
    with pytest.raises(ModelError, match="'tiny' is for the task 'enhance'"):
        seen(a_head, model="tiny")
    with pytest.raises(ValueError, match="needs a volume"):
        recognise.run({}, RecogniseSettings())
    with pytest.raises(ValueError, match="GB of memory"):
        seen(a_head, memory_limit_gb=1e-4)


def card_for(tmp_path, modality: str, **more):
    import model_folders

    return read_card(model_folders.write_bundle(tmp_path / "model", modality=modality, **more))


def test_models_outside_their_training_are_remarked(tmp_path, said, some_labels):
    what = said["what"]
    sure = {**what, "kind": {**what["kind"], "scores": {**what["kind"]["scores"], "CT": 0.97, "MR T1": 0.01}}}
    card = card_for(tmp_path / "a", "MR", regions=["chest"])
    assert fits(card, sure)[0] == "This looks like CT (97 %); model 'model' was trained on MR."
    assert fits(card_for(tmp_path / "b", "MR, CT"), sure) == []
    assert fits(card_for(tmp_path / "c", ""), sure) == []
    spread = {
        **what,
        "kind": {**what["kind"], "scores": {"CT": 0.01, "MR T1": 0.5, "MR FLAIR": 0.41, "label map": 0.08}},
    }
    ct = card_for(tmp_path / "d", "CT")
    assert fits(ct, spread) == ["This hardly looks like CT (1 %); model 'model' was trained on CT."]
    perhaps = {**what, "kind": {**what["kind"], "scores": {**spread["kind"]["scores"], "CT": 0.06}}}
    assert fits(ct, perhaps) == []
    flair = card_for(tmp_path / "e", "MR FLAIR")
    t1 = {**what, "kind": {**what["kind"], "scores": {"CT": 0.0, "MR T1": 0.98, "MR FLAIR": 0.01}}}
    assert fits(flair, t1) == ["This looks like MR T1 (98 %); model 'model' was trained on MR FLAIR."]
    assert fits(flair, some_labels)[0].startswith("This hardly looks like MR")


def test_constant_or_small_volumes_are_not_remarked(tmp_path, a_volume):
    card = card_for(tmp_path, "PET")
    assert fits(card, Volume(np.ones((30, 40, 40)), np.eye(4))) == []
    assert fits(card, Volume(a_volume.array[:3], np.eye(4))) == []
    assert fits(card, Volume(np.full((30, 40, 40), np.nan), np.eye(4))) == []


def test_card_without_answers_is_refused(tmp_path):
    with pytest.raises(ModelError, match="which answers"):
        heads_of(card_for(tmp_path, "MR", heads={"kind": {}}))


def test_looking_is_quick_and_changes_nothing(a_head):
    card = find("recognise")
    network = build_network(card, load_state(card, "faithful"))
    before = a_head.array.copy()
    first = look(network, heads_of(card), a_head, a_head.array)
    second = look(network, heads_of(card), a_head, a_head.array)
    assert first.what == second.what
    np.testing.assert_array_equal(before, a_head.array)


def test_command_tells_one_file(call, a_head, tmp_path):
    write_volume(a_head, tmp_path / "scan.nii.gz")
    done = call("recognise", tmp_path / "scan.nii.gz", "--saliency", tmp_path / "why.nrrd")
    assert done.returncode == 0
    assert done.stdout.startswith("MR")
    assert "head" in done.stdout.splitlines()[0]
    assert "not a diagnosis" in done.stderr
    assert read_volume(tmp_path / "why.nrrd").shape == a_head.shape
    assert json.loads((tmp_path / "why.json").read_text())["content"].startswith("why MR")
    again = call("recognise", tmp_path / "scan.nii.gz", "--saliency", tmp_path / "why.nrrd")
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_command_says_of_nothing_that_it_is_certain(capsys):
    what = {"region": {"title": "Part of the body", "scores": {"head": 0.9996, "chest": 0.0004}}}
    report = {"what": what, "messages": [], "warnings": [], "sentence": "Head.", "quality": [], "advice": []}
    recognise_command._say(recognise_command.Result(Path("a.nii"), report | {"research": "."}), True, False)
    assert "head 99 %, chest 0 %" in capsys.readouterr().out


def test_command_makes_a_table_of_a_folder(call, a_head, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_volume(a_head, folder / "one.nii.gz")
    write_volume(Volume(np.random.default_rng(0).random((12, 30, 30)), np.eye(4)), folder / "two.nrrd")
    (folder / "three.nii.gz").write_bytes(b"no volume")
    done = call("recognise", folder, "--csv", tmp_path / "table.csv", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["failed"] == 1
    assert [row["status"] for row in document["files"]] == ["done", "failed", "done"]
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [row["region"] for row in rows] == ["head", "", "unknown"]
    assert rows[2]["kind"] == "unknown"
    assert rows[1]["error"]
    assert float(rows[0]["region_confidence"]) > 0.5


def test_command_takes_a_folder_of_results(call, some_labels, tmp_path):
    write_volume(some_labels, tmp_path / "a_labels.nii.gz")
    records.note([tmp_path / "a_labels.nii.gz"], {"task": "segment"})
    done = call("recognise", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)["files"]
    assert told["report"]["what"]["kind"]["label"] == "label map"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["missing.nii.gz"], 1, "missing.nii.gz"),
        (["scan.nii.gz", "--csv", "table.txt"], 2, "end it with .csv"),
        (["scan.nii.gz", "--csv", "nowhere/table.csv"], 1, "no folder"),
        (["scan.nii.gz", "--saliency", "why.txt"], 2, "not the name of a volume file"),
        (["scan.nii.gz", "--saliency", "why.nrrd", "--method", "none"], 2, "grad-cam"),
        (["scan.nii.gz", "scan.nii.gz", "--saliency", "why.nrrd"], 2, "one volume"),
        (["scan.nii.gz", "--model", "nothing"], 1, "There is no model 'nothing'"),
        (["scan.nii.gz", "--saliency", "why.nrrd", "--target", "spleen"], 1, "--target names no answer"),
    ],
)
def test_wrong_command_lines_are_told_in_one_sentence(call, a_head, tmp_path, arguments, code, sentence):
    write_volume(a_head, tmp_path / "scan.nii.gz")
    done = call("recognise", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("why*"))
