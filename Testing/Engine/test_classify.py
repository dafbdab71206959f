"""A person's own classes: from folders or a list to a model that says what a new volume is, and how far to trust it."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import phantoms
from medgan import bundle_files, exchange, models
from medgan.classification import classify, prepared
from medgan.evaluation.statistics import wilson
from medgan.evaluation.table import from_png
from medgan.models import ModelError
from medgan.settings import Device, RecogniseSettings, Saliency, TrainKind, TrainSettings
from medgan.tasks.recognise import run as recognise
from medgan.tasks.train import run as train
from medgan.training.class_figures import confusion_picture
from medgan.training.data import prepare
from medgan.training.data_classes import one_sided
from medgan.training.data_files import DataError, Found, Listed, Search, search
from medgan.training.data_pairs import find_cases
from medgan.training.export import used_settings
from medgan.training.kinds.base import Facts
from medgan.training.kinds.classify import varied
from medgan.training.result import TrainingStopped
from medgan.volume import LabelMap, Volume, write_volume

SHAPE = (20, 26, 24)
CLASSIFY = {"kind": TrainKind.CLASSIFY, "patch": 16, "batch": 4, "device": Device.CPU, "minutes": 0.0}


def a_ball(hollow: bool, seed: int, matrix: np.ndarray | None = None) -> Volume:
    """A full or a hollow ball in air, of random size, brightness and noise."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    radius = np.sqrt(k**2 + j**2 + i**2) / rng.uniform(0.7, 0.85)
    inside = (radius < 1) & (radius > (0.75 if hollow else -1))
    array = phantoms.rician(inside * rng.uniform(500, 900), 15.0, seed)
    return Volume(array, phantoms.awkward_geometry() if matrix is None else matrix)


def settings(**changes) -> TrainSettings:
    return TrainSettings(**(CLASSIFY | changes))


def cases_of(*names: str, **changes):
    return find_cases(Search([Found(name) for name in names]), settings(**changes))


def of_balls(root: Path) -> TrainSettings:
    more = {"data": str(root / "data"), "out": str(root / "run"), "name": "balls", "steps": 40}
    return settings(**more, validation_share=0.4, validate_every=20, sample_every=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small model of full and hollow balls, and the report of its training."""
    root = tmp_path_factory.mktemp("classes")
    for hollow, name in ((False, "full"), (True, "hollow")):
        (root / "data" / name).mkdir(parents=True)
        for number in range(5 if hollow else 4):
            write_volume(a_ball(hollow, number + 10 * hollow), root / "data" / name / f"p{number}{name}_T1.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGAN_MODELS", str(root / "models"))
        report = train({}, of_balls(root)).report
        yield root, report, models.find("balls")


# --- which class, whose volume --------------------------------------------------------------------


def test_class_is_the_folder_and_the_same_patient_stays_one():
    cases = cases_of("mask/p1_T1", "mask/p2_T1", "none/p1_T2", "none/sub/p3_T1", "loose_T1", "none/p3_seg")
    found = {(case.group, case.patient) for case in cases.cases}
    assert found == {("mask", "p1"), ("mask", "p2"), ("none", "p1"), ("none", "sub/p3")}
    assert dict(cases.rejected) == {
        "loose_T1": "It lies in no folder of a class.",
        "none/p3_seg": "A label map by its name; classes are learned from images.",
    }


def test_numbers_of_four_digits_are_patients_in_classes():
    cases = cases_of(*(f"{group}/{name}_{n:04d}" for group, name in (("a", "AD"), ("b", "OAS1")) for n in range(1, 4)))
    assert len({case.patient for case in cases.cases}) == 6


def test_class_with_a_slash_is_no_file(tmp_path):
    rows = "file;class;date;patient\nmr/a.nii.gz;MS/NMO;2021/03/05;ann\nmr/b.nii.gz;healthy;2021/03/06;ben\n"
    (tmp_path / "list.csv").write_text(rows)
    cases = find_cases(search(str(tmp_path / "list.csv"), {}), settings())
    assert [(case.group, case.patient) for case in cases.cases] == [("MS/NMO", "ann"), ("healthy", "ben")]


def test_list_names_files_classes_and_patients(tmp_path):
    rows = "file,diagnosis,patient\nmr/a.nii.gz,0,ann\nmr/b.nii.gz,1,ben\nmr/c.nii.gz,,cid\n"
    (tmp_path / "list.csv").write_text(rows)
    cases = find_cases(search(str(tmp_path / "list.csv"), {}), settings())
    assert [(case.group, case.patient) for case in cases.cases] == [("0", "ann"), ("1", "ben")]
    assert cases.cases[0].volumes["image"][0].path == tmp_path / "mr" / "a.nii.gz"
    assert cases.rejected == [("line 4", "It names no class.")]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Search([Found("one/p1"), Found("one/p2")]), "the only class is 'one'; put the volumes"),
        (Search([Found("p1"), Found("p2")]), "no volume has a class"),
        (
            Search(rows=[Listed(2, {"image": Found("p1")}, "", {"image": "p1", "age": "7"})], columns=["image"]),
            "no column of classes; name it 'class', or choose it as target: it has image, age",
        ),
    ],
)
def test_data_without_two_classes_is_refused(made, said):
    with pytest.raises(DataError, match=said):
        find_cases(made, settings())


def test_kept_patients_are_of_every_class_and_never_trained_on(tmp_path):
    inputs = {f"{name}/p{n}": a_ball(name == "b", n + 10 * (name == "b")) for name, many in (("a", 6), ("b", 3))
              for n in range(many)}  # fmt: skip
    data = prepare(inputs, settings(validation_share=0.34), tmp_path)
    kept, seen = data.samples.checking, data.samples.training
    assert {entry.group for entry in kept} == {entry.group for entry in seen} == {"a", "b"}
    assert not {entry.patient for entry in kept} & {entry.patient for entry in seen}
    assert data.facts.classes == ("a", "b")
    rng = torch.Generator().manual_seed(0)
    drawn = [data.samples.sample(rng) for _ in range(60)]
    assert drawn[0]["image"].shape == (1, 16, 16, 16)
    assert 20 <= sum(int(sample["class"]) for sample in drawn) <= 40  # though a has twice the volumes
    assert "Volumes of each class: 'a' 6, 'b' 3; every class is drawn equally often." in data.messages


def test_patients_of_classes_stay_on_their_side_when_the_data_changes(tmp_path):
    def uses(**numbers):
        inputs = {f"{name}/p{n}": a_ball(name == "b", n) for name, many in numbers.items() for n in many}
        data = prepare(inputs, settings(), tmp_path)
        exchange.write_json(data.report, tmp_path / "data.json")  # as when the training has had it
        return {one["patient"]: one["use"] for one in data.report["read"]}

    was = uses(a=range(4), b=range(10, 14))
    (tmp_path / "checkpoint.pt").touch()
    kept = {int(patient[1:]) for patient, use in was.items() if use == "validation"}
    a, b = ([number for number in range(first, first + 4) if number not in kept] for first in (0, 10))
    now = uses(a=[*a, 5], b=range(10, 14))
    assert now.pop("p5") == "validation"
    assert now.items() <= was.items()
    with pytest.raises(DataError, match="of the class 'b' that are left were trained on"):
        uses(a=range(4), b=b)


def test_class_with_one_patient_can_not_be_kept_and_is_named(tmp_path):
    inputs = {name: a_ball(False, n) for n, name in enumerate(("a/p1", "a/p2", "b/p3"))}
    with pytest.raises(DataError, match="The class 'b' has only one patient"):
        prepare(inputs, settings(), tmp_path)


def test_a_refusal_names_the_copies_that_were_left_out(tmp_path):
    inputs = {f"{group}/p{n}": a_ball(group == "b", 0) for group in ("a", "b") for n in range(6)}
    said = r"""The class 'a' has only one .* Left out: 'a/p1': It has the same voxels as 'a/p0'\. .* And 7 more\.$"""
    with pytest.raises(DataError, match=said):
        prepare(inputs, settings(), tmp_path)


def test_label_map_of_the_scene_is_no_example():
    held = LabelMap(np.ones(SHAPE, np.int16), np.eye(4))
    with pytest.raises(DataError, match=r"the only class is 'b'.* Left out: 'a/p1': A label map"):
        find_cases(search("", {"a/p1": held, "b/p2": a_ball(False, 0)}), settings())


def test_classes_named_after_sides_are_not_mirrored():
    assert one_sided(["left knee", "other"])
    assert not one_sided(["leftover", "bright"])


def test_varied_volume_is_another_one_of_the_same_thing():
    image = torch.from_numpy(prepared(a_ball(False, 0), [2.0, 2.0, 2.0], 16)[0])[None]
    one, same, other = (varied(image, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert 0.0 <= float(one.min()) <= float(one.max()) <= 1.0
    assert np.corrcoef(one.ravel(), image.ravel())[0, 1] > 0.6


# --- how good it is -------------------------------------------------------------------------------


def test_confusions_are_drawn_darker_where_there_are_more():
    drawn = confusion_picture(["full", "hollow"], [[9, 1], [0, 4]])
    cells = [[drawn[row + 5, column + 5] for column in (72, 136)] for row in (44, 108)]
    assert cells[0][0].tolist() < cells[0][1].tolist()
    assert cells[1][0].tolist() == [255, 255, 255]
    assert (drawn < 100).any()


def test_model_of_a_run_stays_where_a_new_one_can_not_take_its_place(trained, monkeypatch):
    bundle, moved = trained[0] / "run" / "bundle" / "balls", os.replace

    def held_open(source, target):
        if Path(source).name == ".balls.part":
            raise PermissionError("Access is denied")
        moved(source, target)

    monkeypatch.setattr(os, "replace", held_open)
    monkeypatch.setattr(bundle_files, "WAITS_S", (0.0,))
    with pytest.raises(TrainingStopped, match="Access is denied"):
        train({}, of_balls(trained[0]))
    models.verify(models.read_card(bundle))


def test_model_is_written_where_its_figures_can_not_be(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path / "models"))
    shutil.copytree(trained[0] / "run", tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "bundle"))
    (tmp_path / "run" / "evaluation").write_text("not a folder")
    report = train({}, dataclasses.replace(of_balls(trained[0]), out=str(tmp_path / "run"))).report
    assert "The figures of the classes could not be made: " in " ".join(report["messages"])
    models.verify(models.find("balls"))


def test_many_classes_of_few_cases_have_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path / "models"))
    inputs = {f"k{n % 22:02d}/p{n}": a_ball(n % 2 == 0, n) for n in range(44)}
    more = {"out": str(tmp_path / "run"), "name": "many", "steps": 1, "validation_share": 0.5}
    report = train(inputs, settings(**more)).report
    assert len(report["confusion"][0]) == 22
    assert np.sum(report["confusion"][1]) == 22
    assert (models.find("many").folder / "docs" / "confusion.png").is_file()


def _settings_in(text: str) -> set[str]:
    """The names in the first table of a card."""
    return set(re.findall(r"^\| (\w+) \| ", text.split("## Figures")[0], re.MULTILINE)) - {"setting"}


def test_card_tells_the_settings_that_the_kind_goes_by():
    facts = Facts(patch=48, working_spacing_mm=(1.0, 1.0, 2.5), paired=False)
    enhance = used_settings(TrainSettings(data="ann", out="ben"), facts)
    assert (enhance["restores"], enhance["rate"], enhance["critic_rate"]) == ("noise", 1e-3, 4e-4)
    assert (enhance["adversarial"], enhance["spectral_norm"], enhance["patch"]) == ("hinge", True, 48)
    assert enhance["spacing_mm"] == "1 x 1 x 2.5"
    assert not {"data", "out", "pairing", "gradient_penalty"} & set(enhance)
    noise = used_settings(TrainSettings(TrainKind.FROM_NOISE), facts)
    assert (noise["adversarial"], noise["gradient_penalty"]) == ("wasserstein", 10.0)
    assert not {"restores", "spectral_norm"} & set(noise)
    translate = used_settings(TrainSettings(TrainKind.TRANSLATE, adversarial_weight=0.0), Facts(paired=False))
    assert (translate["pairing"], translate["spacing_mm"]) == ("unpaired", "of each volume")
    assert translate["adversarial_weight"] == 0.0
    assert not {"adversarial", "critic_steps", "critic_rate", "r1_weight", "spectral_norm"} & set(translate)


def test_training_says_what_the_model_can_do(trained):
    root, report, card = trained
    assert report["figures"]["accuracy"] == 1.0
    assert report["figures"]["accuracy_low"] == pytest.approx(wilson(4, 4)[0], abs=1e-4)
    assert report["figures"]["auc"] == 1.0
    assert report["confusion"] == [["full", "hollow"], [[2, 0], [0, 2]]]
    assert (card.task, card.details["classes"], card.network) == ("classify", ["full", "hollow"], "medgan.ClassNet")
    assert card.details["evaluation"]["cases"] == 4
    text = (card.folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert "4 volumes of patients that the training has not seen" in text
    assert "| accuracy | all | 4 | 1.000 | 0.510 to 1.000 |" in text
    assert "| rate | 0.001 |" in text  # what was taken, for the person has left it open
    assert not {"restores", "pairing", "adversarial", "critic_rate", "spectral_norm"} & _settings_in(text)
    assert re.search(r"40 steps in \d+(\.\d)? seconds with", text)
    assert "Voxel spacing 0.7 x 1.1 x 2.3 mm;" in text
    assert "p1full" not in text + json.dumps(card.details)  # no names of patients
    assert (card.folder / "docs" / "confusion.csv").read_text().splitlines() == [
        "truth,found full,found hollow",
        "full,2,0",
        "hollow,0,2",
    ]
    assert from_png((card.folder / "docs" / "confusion.png").read_bytes()).shape[2] == 3
    with (root / "run" / "evaluation" / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"balls"}
    assert [row["truth"] for row in rows] == [row["prediction"] for row in rows]
    assert all(float(row["score full"]) + float(row["score hollow"]) == pytest.approx(1.0, abs=1e-4) for row in rows)
    assert (root / "run" / "evaluation" / "report.html").is_file()


# --- and its use ----------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
def test_new_volume_is_classified_however_it_lies(trained, turned):
    matrix = phantoms.geometry((1.4, 0.9, 1.2), (0.0, 90.0, 180.0), (100.0, -50.0, 7.0)) if turned else None
    for hollow, name in ((False, "full"), (True, "hollow")):
        found = classify(trained[2], a_ball(hollow, 77 + hollow, matrix), Device.CPU).what["class"]
        assert (found["label"], found["unknown"]) == (name, False)
        assert found["confidence"] == max(found["scores"].values()) > 0.6
        assert sum(found["scores"].values()) == pytest.approx(1.0)


def test_recognition_takes_own_classes_and_says_why(trained):
    volume = a_ball(True, 78)
    chosen = RecogniseSettings(model=str(trained[2].folder), saliency=Saliency.OCCLUSION, device=Device.CPU)
    outputs = recognise({"volume": volume}, chosen)
    assert outputs.report["what"]["class"]["label"] == "hollow"
    assert outputs.report["model"] == "balls"
    assert "not a diagnosis" in outputs.report["research"]
    assert len(outputs.report["quality"]) == 6
    why = outputs.volumes["why"]
    np.testing.assert_array_equal(why.ijk_to_ras, volume.ijk_to_ras)
    assert why.shape == volume.shape
    assert 0.0 <= why.array.min() < why.array.max() <= 1.0


def test_gpu_without_room_for_the_network_leaves_it_to_the_processor(trained, a_full_gpu):
    wanted = classify(trained[2], a_ball(True, 80), Device.CPU).what
    a_full_gpu("medgan.classification")
    found = classify(trained[2], a_ball(True, 80))
    assert found.what == wanted
    assert "full GPU ran out of memory; the CPU was used." in found.messages
    assert found.provenance["device"].startswith("CPU")


def test_answer_that_is_not_sure_is_unknown(trained):
    card = trained[2]
    card.details["unknown_below"] = 1.0
    try:
        found = classify(card, a_ball(True, 79), Device.CPU)
    finally:
        del card.details["unknown_below"]
    assert found.what["class"]["label"] == "unknown"
    assert found.what["class"]["nearest"] == "hollow"
    assert "No class reaches 100 %" in found.messages[-1]


@pytest.mark.parametrize(
    ("array", "said"),
    [(np.zeros(SHAPE), "constant"), (np.ones((1, 1, 1)), "at least 4"), (np.full(SHAPE, np.nan), "not finite")],
)
def test_volume_that_shows_nothing_is_refused(trained, array, said):
    with pytest.raises(ValueError, match=said):
        classify(trained[2], Volume(array, np.eye(4)), Device.CPU)


def test_wrong_model_class_or_memory_is_said(trained):
    card = trained[2]
    with pytest.raises(ModelError, match="is for the task 'enhance'"):
        classify(models.find("denoise"), a_ball(True, 1), Device.CPU)
    with pytest.raises(ValueError, match="names no class of the model: 'square'; there are: full, hollow"):
        classify(card, a_ball(True, 1), Device.CPU, saliency="grad-cam", target="square")
    with pytest.raises(ValueError, match="crop it"):
        classify(card, a_ball(True, 1), Device.CPU, memory_limit_gb=1e-4)


def test_training_that_goes_on_from_a_model_needs_its_classes(trained, tmp_path):
    inputs = {f"{name}/p{n}{name}": a_ball(False, n + 10 * ord(name)) for name in "ab" for n in range(2)}
    with pytest.raises(ModelError, match="knows the classes full, hollow, the data has a, b"):
        train(inputs, settings(out=str(tmp_path / "run"), name="other", start=str(trained[2].folder), steps=1))


def test_model_is_written_into_no_other_place(trained):
    root = trained[0]
    assert {path.name for path in Path(root / "models").iterdir()} == {"balls"}
