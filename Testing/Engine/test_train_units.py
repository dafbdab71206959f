"""A model gets volumes in the unit in which it was trained: CT in Hounsfield units, or all by their own range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import phantoms
from medgan import models
from medgan.settings import TrainKind, TrainSettings
from medgan.synthesis.scan import normalisation_of
from medgan.training import data_cache
from medgan.training.data import TrainingData, prepare
from medgan.training.export import _normalise
from medgan.volume import LabelMap, Volume


def a_map(seed: int) -> np.ndarray:
    k, j, i = np.indices((18, 20, 22)) - np.array([9.0, 10.0, 11.0]).reshape(3, 1, 1, 1)
    distance = np.sqrt(k**2 + j**2 + i**2)
    return (distance < 7 + 0.2 * seed).astype(np.int16) + (distance < 4)


def a_scan(levels: tuple[float, float, float], seed: int) -> Volume:
    noise = np.random.default_rng(seed).normal(0, 5, (18, 20, 22))
    return Volume(np.rint(np.array(levels)[a_map(seed)] + noise), phantoms.geometry((1.0, 1.0, 1.0)), {}, "int16")


def ct(seed: int, air: float = -1000.0) -> Volume:
    return a_scan((air, 40.0, 300.0), seed)


def mr(seed: int) -> Volume:
    scan = a_scan((0.0, 400.0, 800.0), seed)
    return scan.like(np.abs(scan.array))


def labels(seed: int) -> LabelMap:
    return LabelMap(a_map(seed), phantoms.geometry((1.0, 1.0, 1.0)))


def prepared(folder, inputs, kind: TrainKind) -> tuple[TrainingData, TrainSettings]:
    settings = TrainSettings(kind=kind, patch=16, batch=2)
    return prepare(inputs, settings, folder), settings


def differences(folder, inputs, data: TrainingData, settings: TrainSettings, role: str) -> list[float]:
    """Of each volume of a role: how far the training saw it from what the finished model will see."""
    card = replace(models.find("translate"), details=_normalise(settings, data))
    found = []
    for entry in [*data.samples.training, *data.samples.checking]:
        stored = np.load(folder / "cache" / entry.files[role])[0] / data_cache.ONE
        array = inputs[entry.sources[role]].array
        seen = np.clip(normalisation_of(array, card).apply(array), 0.0, 1.0)
        found.append(abs(float(np.sort(seen.ravel())[-stored.size :].mean() - stored.mean())))
    return found


def test_ct_is_translated_from_the_unit_it_was_learned_from(tmp_path):
    inputs = {f"source/p{n}": ct(n) for n in range(3)} | {f"target/p{n}": mr(n) for n in range(3)}
    data, settings = prepared(tmp_path, inputs, TrainKind.TRANSLATE)
    assert data.facts.modality == "CT"
    assert data.facts.ranges["source"] == data_cache.HOUNSFIELD
    assert data.facts.ranges["target"][0] == 0.0
    assert max(differences(tmp_path, inputs, data, settings, "source")) < 0.01


def test_mr_that_becomes_ct_is_taken_by_its_own_range(tmp_path):
    inputs = {f"source/p{n}": mr(n) for n in range(3)} | {f"target/p{n}": ct(n) for n in range(3)}
    data, settings = prepared(tmp_path, inputs, TrainKind.TRANSLATE)
    assert data.facts.modality == ""
    assert data.facts.ranges["target"] == data_cache.HOUNSFIELD, "the result is in HU"
    assert max(differences(tmp_path, inputs, data, settings, "source")) < 0.01


@pytest.mark.parametrize(
    ("odd", "hounsfield", "said"),
    [
        (ct(4, air=-200.0), True, "all are taken for CT in Hounsfield units."),
        (mr(4), False, "each is scaled by its own range."),
    ],
)
def test_one_odd_volume_does_not_split_the_unit_of_the_others(tmp_path, odd, hounsfield, said):
    inputs = {f"images/p{n}": ct(n) for n in range(4)} | {"images/p4": odd}
    data, settings = prepared(tmp_path, {**inputs, **{f"labels/p{n}": labels(n) for n in range(5)}}, TrainKind.SEGMENT)
    assert data.facts.modality == ("CT" if hounsfield else "")
    assert f"4 of 5 images look like CT, 'images/p4' does not; {said}" in data.messages
    assert max(differences(tmp_path, inputs, data, settings, "image")) < 0.01


@pytest.mark.parametrize("kind", [TrainKind.SEGMENT, TrainKind.ENHANCE])
def test_padding_of_ct_is_air(tmp_path, kind):
    stored = []
    for padding in (-1024.0, -2000.0, -3024.0):
        scans = {f"p{n}": Volume(phantoms.padded_ct(padding, seed=n), phantoms.geometry()) for n in range(3)}
        inputs: dict = {f"images/{name}": scan for name, scan in scans.items()}
        if kind is TrainKind.SEGMENT:
            for name, scan in scans.items():
                inputs[f"labels/{name}"] = LabelMap((scan.array > 150).astype(np.uint8), scan.ijk_to_ras)
        data, _ = prepared(tmp_path / str(padding), inputs, kind)
        assert data.facts.modality == "CT"
        stored.append((data.facts.ranges, [entry.digest for entry in data.samples.training]))
    assert stored[0] == stored[1] == stored[2]


def test_one_ct_does_not_make_the_others_ct(tmp_path):
    """Also where these go below 0, as filtered images do."""
    inputs = {"images/p0": ct(0)} | {f"images/p{n}": ct(n, air=-200.0) for n in range(1, 4)}
    data, settings = prepared(tmp_path, {**inputs, **{f"labels/p{n}": labels(n) for n in range(4)}}, TrainKind.SEGMENT)
    assert data.facts.modality == ""
    said = "1 of 4 images look like CT, 'images/p1' and 2 more do not; each is scaled by its own range."
    assert said in data.messages
    assert max(differences(tmp_path, inputs, data, settings, "image")) < 0.01
