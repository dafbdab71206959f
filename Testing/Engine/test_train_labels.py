"""What labels are in training data: names from files, equal names with other values, values of large atlases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import phantoms
from medgan import labelfiles
from medgan.labels import segmentation_of
from medgan.segments import Layer, Segment, Segmentation
from medgan.settings import TrainKind, TrainSettings
from medgan.training.data import DataError, TrainingData, prepare
from medgan.training.kinds import make_kind
from medgan.volume import Label, LabelMap, Volume, write_volume

SHAPE = (18, 20, 22)


def parts(*values: int) -> np.ndarray:
    """A row of boxes from left to right, one for each value."""
    array = np.zeros(SHAPE, np.int32)
    for place, value in enumerate(values):
        array[3:15, 3:16, 2 + 6 * place : 7 + 6 * place] = value
    return array


def a_scan(seed: int) -> Volume:
    noisy = phantoms.rician(phantoms.head(SHAPE), 20.0, seed)
    return Volume(np.rint(noisy), np.eye(4), voxel_type="int16")


def prepared(folder: Path, inputs=None, data: Path | str = "") -> TrainingData:
    settings = TrainSettings(kind=TrainKind.SEGMENT, data=str(data), patch=16, batch=2)
    folder.mkdir(exist_ok=True)
    return prepare(inputs or {}, settings, folder)


def cases_of(*named: dict[int, str]) -> dict[str, Volume | LabelMap]:
    """Scans with label maps; of each the names by value, and from left to right in the order of the names."""
    inputs: dict[str, Volume | LabelMap] = {}
    for number, names in enumerate(named):
        ordered = sorted(names, key=lambda value: names[value])
        labels = {value: Label(name) for value, name in names.items()}
        inputs[f"images/p{number}"] = a_scan(number)
        inputs[f"labels/p{number}"] = LabelMap(parts(*ordered), np.eye(4), labels)
    return inputs


def stored(folder: Path, data: TrainingData) -> list[np.ndarray]:
    """The label map of each case as it is trained on, in the order of the cases."""
    entries = sorted([*data.samples.training, *data.samples.checking], key=lambda entry: entry.name)
    return [np.load(folder / "cache" / entry.files["labels"]) for entry in entries]


def names_of(data: TrainingData) -> dict[int, str]:
    return {row["value"]: row["name"] for row in data.facts.labels}


def test_segments_that_are_numbered_in_another_order_are_the_same_labels(tmp_path):
    named = ({1: "Liver", 2: "spleen"}, {1: "spleen", 2: "liver"}, {1: "spleen", 2: "tumour"}, {1: "liver"})
    data = prepared(tmp_path, cases_of(*named))
    assert names_of(data) == {1: "Liver", 2: "spleen", 3: "tumour"}
    held = stored(tmp_path, data)
    assert [sorted(np.unique(array)) for array in held] == [[0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 1]]
    assert np.array_equal(held[0], held[1]), "liver is left of spleen in both"
    assert any("'spleen' 1 as 2, 'liver' 2 as 1" in message for message in data.messages)


def test_one_value_with_two_names_is_refused(tmp_path):
    data = prepared(tmp_path, cases_of({1: "liver"}, {1: "liver"}, {1: "kidney"}))
    assert [(one["name"], one["why"]) for one in data.report["rejected"]] == [
        (
            "images/p2",
            "It calls the label 1 'kidney', the volumes before it 'liver'; give equal labels equal names.",
        )
    ]
    with pytest.raises(DataError, match="only one patient"):
        prepared(tmp_path / "two", cases_of({1: "liver"}, {1: "kidney"}))


def test_names_are_those_in_a_segmentation_file(tmp_path):
    folder = tmp_path / "data"
    for place in ("images", "labels"):
        (folder / place).mkdir(parents=True)
    for number in range(2):
        write_volume(a_scan(number), folder / "images" / f"p{number}.nii.gz")
        labels = LabelMap(parts(1, 2), np.eye(4), {1: Label("left lung"), 2: Label("right lung")})
        labelfiles.write(segmentation_of([labels])[0], folder / "labels" / f"p{number}.seg.nrrd")
    data = prepared(tmp_path / "run", data=folder)
    assert names_of(data) == {1: "left lung", 2: "right lung"}
    assert data.samples.manner.sides.may_mirror


def test_names_are_those_of_the_table_beside_a_label_map(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        write_volume(a_scan(number), folder / f"p{number}.nii.gz")
        write_volume(LabelMap(parts(1, 2), np.eye(4)), folder / f"p{number}_seg.nii.gz")
        (folder / f"p{number}_seg.labels.csv").write_text("value,name\n1,heart\n2,liver\n")
    assert names_of(prepared(tmp_path / "run", data=folder)) == {1: "heart", 2: "liver"}
    for number in range(2):
        (folder / f"p{number}_seg.labels.csv").write_text("value,name\n1,heart\n2,spleen and more\n")
    assert names_of(prepared(tmp_path / "run", data=folder)) == {1: "heart", 2: "spleen and more"}


def overlapping() -> Segmentation:
    """Two segments as the Segment Editor makes them where they overlap: in layers of their own, both with value 1."""
    organ, tumour = (parts(1) > 0).astype(np.uint8), np.zeros(SHAPE, np.uint8)
    tumour[6:10, 6:10, 3:6] = 1
    segments = [Segment(Label("organ"), 0, 1), Segment(Label("tumour"), 1, 1)]
    return Segmentation(SHAPE, np.eye(4), [Layer(organ), Layer(tumour)], segments)


def test_overlapping_segments_of_a_file_become_one_label_map_and_that_is_said(tmp_path):
    labelfiles.write(overlapping(), tmp_path / "p.seg.nrrd")
    labels, said = labelfiles.read_map(tmp_path / "p.seg.nrrd")
    assert {value: label.name for value, label in labels.labels.items()} == {1: "organ", 2: "tumour"}
    assert (labels.array == 2).sum() == 4 * 4 * 3
    assert any("Where segments overlap, the last in the list wins" in sentence for sentence in said)


def test_usual_intensities_of_labels_are_those_of_whole_training_volumes(tmp_path):
    """A few voxels that no validation patch shows are known; what validation patients alone have is not."""
    cases = cases_of(*[{1: "one", 2: "two"}] * 5)
    settings = TrainSettings(kind=TrainKind.LABEL_TO_VOLUME, patch=16, batch=2)
    (kept,) = prepare(cases, settings, tmp_path / "first").samples.checking
    names = [name.removeprefix("images/") for name in cases if name.startswith("images/")]
    seen = [name for name in names if name not in kept.name]
    for name in names:
        held = cases[f"labels/{name}"]
        held.array[9, 15, 9:12] = 5 if name == seen[0] else 9 if name in kept.name else 0
        held.labels |= {5: Label("five"), 9: Label("nine")}
    data = prepare(cases, settings, tmp_path / "second")
    assert [entry.name for entry in data.samples.checking] == [kept.name]
    ranges = {entry.name.removeprefix("images/"): entry.ranges["image"] for entry in data.samples.training}

    def expected(value: int) -> list[float]:
        pairs = []
        for name, (low, high) in ranges.items():
            inside = cases[f"images/{name}"].array[cases[f"labels/{name}"].array == value]
            if inside.size:
                scaled = np.clip((inside - low) / (high - low), 0.0, 1.0)
                pairs.append([scaled.mean(), scaled.std()])
        return np.mean(pairs, axis=0).tolist()

    assert sorted(data.facts.intensities) == [0, 1, 2, 5]
    for value in (1, 2, 5):
        assert data.facts.intensities[value] == pytest.approx(expected(value), abs=2e-4)
    again = prepare(cases, settings, tmp_path / "second")
    assert again.facts.intensities == data.facts.intensities
    kind = make_kind(settings, data.facts)
    told = {row["name"]: (row["mean"], row["sd"]) for row in kind.export(kind.generator).about["intensities"]}
    assert list(told) == ["Background", "one", "two", "five"]
    assert told["five"] == pytest.approx(expected(5), abs=2e-4)
    kind.load_state_dict({**kind.state_dict(), "usual": torch.zeros(5, 2)})  # of a checkpoint from before


def test_large_values_of_an_atlas_stay_what_they_are_in_made_images(tmp_path):
    values = (312_782_546, 312_782_550, 614_454_277)
    inputs = {f"p{n}_seg": LabelMap(np.roll(parts(*values), n, axis=0), np.eye(4)) for n in range(3)}
    data = prepared(tmp_path, inputs)
    assert data.samples.manner.made
    seen: set[int] = set()
    for seed in range(8):
        labels = data.samples.sample(torch.Generator().manual_seed(seed))["labels"]
        seen |= set(labels.unique().tolist())
        places = [torch.nonzero(labels == index)[:, 2].float().mean() for index in (1, 2, 3) if (labels == index).any()]
        assert places == sorted(places), "from left to right"
    assert seen == {0, 1, 2, 3}
