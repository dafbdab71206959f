"""The evaluation of volumes from a scene: figures, messages, failures, labels, sets and pictures, end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

import phantoms
from medgan.evaluation.conclusions import without
from medgan.evaluation.pictures import Plane
from medgan.evaluation.report_text import verdict
from medgan.evaluation.table import Evaluation
from medgan.job import Job, JobStatus
from medgan.progress import Cancelled
from medgan.settings import EvaluateSettings, Figures
from medgan.tasks.evaluate import run
from medgan.volume import Label, LabelMap, Volume

SHAPE = (13, 21, 17)
QUICK = EvaluateSettings(bootstrap=100, pictures=1)


def clean() -> Volume:
    return Volume(phantoms.head(SHAPE), phantoms.awkward_geometry())


def noisy(sigma: float, seed: int = 0) -> Volume:
    return clean().like(phantoms.rician(clean().array, sigma, seed))


def labels(array: np.ndarray, **named: str) -> LabelMap:
    names = {int(value.removeprefix("v")): Label(name) for value, name in named.items()}
    return LabelMap(array.astype(np.int16), phantoms.awkward_geometry(), names)


def two_methods(count: int = 7) -> dict[str, Volume]:
    inputs = {"reference": clean()}
    for number in range(count):
        inputs[f"result A/p{number}"] = noisy(20.0, number)
        inputs[f"result B/p{number}"] = noisy(60.0, 50 + number)
    return inputs


@pytest.fixture(scope="module")
def compared() -> Evaluation:
    return Evaluation.from_dict(run(two_methods(), QUICK).report)


def test_two_methods_on_several_cases_are_measured_summed_up_and_compared(compared):
    assert compared.kind == "images"
    assert compared.methods == ["A", "B"]
    assert [row["case"] for row in compared.rows if row["method"] == "A"] == [f"p{n}" for n in range(7)]
    (entry,) = [row for row in compared.summary if (row["method"], row["metric"]) == ("A", "psnr")]
    assert entry["n"] == 7
    assert entry["mean"] == pytest.approx(np.mean([row["psnr"] for row in compared.rows if row["method"] == "A"]))
    assert entry["low"] < entry["mean"] < entry["high"]
    (test,) = [row for row in compared.comparisons if row["metric"] == "psnr"]
    assert test["difference"] > 5.0
    assert test["p"] == pytest.approx(2 / 2**7)
    assert test["p_corrected"] == pytest.approx(6 * 2 / 2**7)
    assert all(row["metric"] != "data_range" for row in compared.comparisons)


def test_fewer_cases_than_a_clear_difference_needs_are_told(compared):
    """Seven cases are enough for one test, but not for six."""
    psnr = next(entry for entry in compared.comparisons if entry["metric"] == "psnr")
    assert (
        "7 common cases can not reach p = 0.05, corrected for 6 comparisons; it takes 8 or more." in compared.messages
    )
    assert verdict(compared, psnr) == "too few cases to tell"
    alone = without(compared, set(compared.metrics) - {"psnr"})
    assert not any("common cases" in said for said in alone.messages)
    assert verdict(alone, alone.comparisons[0]) == "A is better"
    more = Evaluation.from_dict(run(two_methods(8), QUICK).report)
    assert not any("common cases" in said for said in more.messages)
    assert verdict(more, more.comparisons[0]) == "A is better"


def test_data_range_kernel_and_statistics_are_said(compared):
    said = " ".join(compared.messages)
    for part in ("Data range of PSNR, SSIM, MS-SSIM and NRMSE: 1000", "Gaussian, 11 voxels", "BCa", "Wilcoxon", "Holm"):
        assert part in said
    assert "1 instead of 5 scales" in said


def test_report_is_plain_json_with_pictures(compared):
    report = run(two_methods(1), QUICK).report
    text = json.dumps(report, allow_nan=False)
    back = Evaluation.from_dict(json.loads(text))
    assert back.rows == report["rows"]
    assert report["task"] == "evaluate"
    (picture, other) = back.pictures  # one case, two methods
    assert (picture.method, other.method) == ("A", "B")
    assert list(picture.images) == ["result", "reference", "difference"]
    assert picture.images["reference"].max() == pytest.approx(0.7, abs=0.01)  # brain, in a range of 1000
    assert np.abs(picture.images["difference"] - 0.5).mean() < np.abs(other.images["difference"] - 0.5).mean()
    assert "Difference: grey is none" in picture.caption


def test_identical_result_has_an_infinite_psnr_that_json_holds_as_none():
    report = run({"reference": clean(), "result": clean()}, QUICK).report
    assert report["rows"][0]["psnr"] is None
    assert report["rows"][0]["ssim"] == pytest.approx(1.0)
    assert any("infinite PSNR" in message for message in report["messages"])


def test_images_are_measured_inside_the_mask():
    result = noisy(20.0)
    inside = np.zeros(SHAPE)
    inside[:6] = 1
    result.array[6:] += 5000.0
    inputs = {"reference": clean(), "result": result}
    assert run(inputs, QUICK).report["rows"][0]["psnr"] < 0
    found = run({**inputs, "mask": labels(inside)}, QUICK).report["rows"][0]
    assert found["psnr"] > 25
    with pytest.raises(ValueError, match="mask of '' is empty"):
        run({**inputs, "mask": labels(inside * 0)}, QUICK)


def test_given_data_range_counts():
    one, other = (
        run({"reference": clean(), "result": noisy(20.0)}, EvaluateSettings(data_range=width)).report["rows"][0]
        for width in (1000.0, 2000.0)
    )
    assert other["psnr"] - one["psnr"] == pytest.approx(20 * np.log10(2))
    assert other["data_range"] == 2000.0


def test_another_grid_is_an_error_that_says_what_differs_unless_resampling_is_asked_for():
    turned = Volume(np.ascontiguousarray(noisy(20.0).array[:, ::-1]), _mirrored(clean()))
    inputs = {"reference": clean(), "result": turned}
    with pytest.raises(ValueError, match=r"lies on another grid than the reference: direction .* 180 .*; origin"):
        run(inputs, QUICK)
    report = run(inputs, EvaluateSettings(resample=True)).report
    straight = run({"reference": clean(), "result": noisy(20.0)}, QUICK).report
    assert report["rows"][0]["psnr"] == pytest.approx(straight["rows"][0]["psnr"])
    assert any("was resampled onto the grid of the reference (linear" in message for message in report["messages"])


def test_where_the_result_does_not_reach_and_outside_the_mask_nothing_is_measured():
    inside = np.zeros(SHAPE)
    inside[:9] = 1
    wrong = noisy(20.0)
    wrong.array[9:] += 5000.0
    part = Volume(
        wrong.array[3:], wrong.ijk_to_ras @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]])
    )
    settings = EvaluateSettings(resample=True, data_range=1000.0)
    report = run({"reference": clean(), "result": part, "mask": labels(inside)}, settings).report
    difference = wrong.array[3:9].astype(float) - clean().array[3:9]
    assert report["rows"][0]["mae"] == pytest.approx(np.abs(difference).mean(), rel=1e-4)
    assert any("23.1 % of that grid lies outside of it and is left out" in said for said in report["messages"])


def _mirrored(volume: Volume) -> np.ndarray:
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = volume.shape[1] - 1
    return volume.ijk_to_ras @ flip


def test_case_that_fails_is_a_row_with_its_reason_and_stops_no_other():
    inputs = two_methods(2)
    inputs["result A/p0"].array[3, 3, 3] = np.nan
    inputs["result B/p1"] = Volume(np.zeros((4, 4, 4)), np.eye(4))
    evaluation = Evaluation.from_dict(run(inputs, QUICK).report)
    failed = {(row["case"], row["method"]): row["error"] for row in evaluation.failed}
    assert set(failed) == {("p0", "A"), ("p1", "B")}
    assert "not finite" in failed["p0", "A"]
    assert "size 4 x 4 x 4 and 17 x 21 x 13 voxels" in failed["p1", "B"]
    assert len(evaluation.rows) == 4
    assert "2 results could not be measured" in " ".join(evaluation.messages)


def test_input_is_measured_and_shown_beside_the_results():
    coarse = Volume(phantoms.head((7, 11, 9)), phantoms.awkward_geometry() @ np.diag([2.0, 2.0, 2.0, 1.0]))
    evaluation = Evaluation.from_dict(
        run({"reference": clean(), "result": noisy(20.0), "before": noisy(90.0)}, QUICK).report
    )
    assert evaluation.methods == ["before", "result"]
    assert evaluation.rows[0]["psnr"] < evaluation.rows[1]["psnr"]
    assert list(evaluation.pictures[0].images) == ["before", "result", "reference", "difference"]
    other = Evaluation.from_dict(run({"reference": clean(), "result": noisy(20.0), "before": coarse}, QUICK).report)
    assert (other.methods, other.failed) == (["result"], [])
    assert any("An input on another grid" in message for message in other.messages)
    assert "before" in other.pictures[0].images
    resampled = EvaluateSettings(resample=True, bootstrap=100)
    report = run({"reference": clean(), "result": noisy(20.0), "before": coarse}, resampled).report
    assert [row["method"] for row in report["rows"]] == ["before", "result"]


def test_label_maps_are_measured_label_by_label():
    array = np.zeros(SHAPE)
    array[2:8, 3:12, 4:12] = 5
    array[9:12, 5:9, 5:9] = 900
    moved = np.roll(array, 1, axis=0)
    report = run({"reference": labels(array, v5="liver", v900="spleen"), "result": labels(moved)}, QUICK).report
    assert report["kind"] == "segmentations"
    found = {row["label"]: row for row in report["rows"]}
    assert found["liver"]["dice"] == pytest.approx(5 / 6)
    assert found["spleen"]["dice"] == pytest.approx(2 / 3)
    assert found["liver"]["hd95"] == pytest.approx(2.3)  # one voxel along k
    assert "tolerance of 1 mm" in " ".join(report["messages"])
    assert report["pictures"][0]["images"].keys() == {"result", "reference", "difference"}


def test_label_that_one_method_invents_counts_for_the_one_that_does_not():
    array = np.zeros(SHAPE)
    array[2:8, 3:12, 4:12] = 1
    invented = array.copy()
    invented[10, 10, 10] = 2
    inputs = {"reference": labels(array), "result good": labels(array), "result bad": labels(invented)}
    found = {(row["method"], row["label"]): row["dice"] for row in run(inputs, QUICK).report["rows"]}
    assert found == {("good", "1"): 1.0, ("bad", "1"): 1.0, ("bad", "2"): 0.0, ("good", "2"): 1.0}


def test_every_case_has_a_row_for_every_label_whoever_is_measured_beside():
    """Case b has no label 2 on either side; and a case that names its labels has the same ones as one that does not."""
    both, one, wrong = np.zeros((3, *SHAPE))
    both[2:8, 3:12, 4:12], both[9:12, 5:9, 5:9], one[2:8, 3:12, 4:12] = 1, 2, 1
    wrong[both == 1], wrong[0, 0, 0] = 1, 2
    alone = {"reference/a": labels(both, v1="liver", v2="spleen"), "reference/b": labels(one)}
    alone |= {"result A/a": labels(both), "result A/b": labels(one)}
    beside = {**alone, "result B/a": labels(both), "result B/b": labels(wrong)}
    for inputs in (alone, beside):
        report = run(inputs, QUICK).report
        rows = [row for row in report["rows"] if row["method"] == "A"]
        assert [(row["case"], row["label"], row["dice"]) for row in rows] == [
            ("a", "liver", 1.0), ("a", "spleen", 1.0), ("b", "liver", 1.0), ("b", "spleen", 1.0),
        ]  # fmt: skip
        assert all("value" not in row for row in report["rows"])


def test_label_that_cases_call_differently_is_one():
    truth, found = np.zeros((2, *SHAPE))
    truth[2:8, 3:12, 4:12], found[5:11, 3:12, 4:12] = 1, 1
    names = {"a": "tumor", "b": "Tumor", "c": "Segment_1", "d": ""}
    inputs = {f"reference/{case}": labels(truth, v1=name) for case, name in names.items()}
    inputs |= {f"result/{case}": labels(found) for case in names}
    report = run(inputs, QUICK).report
    assert [(row["case"], row["label"], row["dice"]) for row in report["rows"]] == [
        (case, "tumor", 0.5) for case in names
    ]
    assert any("Label 1 is 'tumor' in one case and 'Segment_1' in another" in said for said in report["messages"])

    inputs |= {f"result/{case}": labels(3 * found, v3="TUMOR") for case in "ab"}
    inputs = {name: each for name, each in inputs.items() if name[-1] in "ab"}
    report = run(inputs, EvaluateSettings(by_name=True)).report
    assert [(row["label"], row["dice"]) for row in report["rows"]] == [("tumor", 0.5)] * 2
    assert not any("in another" in said for said in report["messages"])


def test_labels_of_one_name_are_told_apart_in_every_case():
    """Also in a case that has only one of them."""
    both, one = np.zeros((2, *SHAPE))
    both[2:4], both[5:7], one[5:7] = 1, 2, 2
    for cases in ({"a": both, "b": one}, {"b": one, "a": both}):
        inputs = {f"reference/{case}": labels(array, v1="lesion", v2="lesion") for case, array in cases.items()}
        inputs |= {f"result/{case}": labels(array * (array == 1)) for case, array in cases.items()}
        rows = run(inputs, QUICK).report["rows"]
        assert {(row["case"], row["label"]): row["dice"] for row in rows} == {
            ("a", "lesion (1)"): 1.0, ("a", "lesion (2)"): 0.0, ("b", "lesion (1)"): 1.0, ("b", "lesion (2)"): 0.0,
        }  # fmt: skip


def test_case_in_which_both_sides_are_rightly_empty_counts():
    empty, drawn = np.zeros(SHAPE), np.zeros(SHAPE)
    drawn[2:8, 3:12, 4:12] = 1
    inputs = {"reference/ill": labels(drawn), "result A/ill": labels(drawn), "result B/ill": labels(empty)}
    inputs |= {"reference/well": labels(empty), "result A/well": labels(empty), "result B/well": labels(drawn)}
    inputs |= {"reference/sound": labels(empty), "result A/sound": labels(empty), "result B/sound": labels(empty)}
    found = {(row["case"], row["method"]): row["dice"] for row in run(inputs, QUICK).report["rows"]}
    assert found == {
        ("ill", "A"): 1.0, ("well", "A"): 1.0, ("sound", "A"): 1.0,
        ("ill", "B"): 0.0, ("well", "B"): 0.0, ("sound", "B"): 1.0,
    }  # fmt: skip
    alone = {"reference": labels(empty, v1="lesion"), "result": labels(empty)}
    (row,) = run(alone, QUICK).report["rows"]
    assert (row["label"], row["dice"], row["hd95"]) == ("lesion", 1.0, 0.0)
    with pytest.raises(ValueError, match="Neither the result nor the reference has a label"):
        run({"reference": labels(empty), "result": labels(empty)}, QUICK)


def test_labels_are_matched_by_name_when_asked():
    array = np.zeros(SHAPE)
    array[2:8, 3:12, 4:12] = 2
    array[9:12, 5:9, 5:9] = 17
    swapped = np.where(array == 2, 17, np.where(array == 17, 2, 0))
    inputs = {
        "reference": labels(array, v2="Liver", v17="spleen"),
        "result": labels(swapped, v17="liver", v2="Spleen"),
    }
    by_value = run(inputs, QUICK).report
    assert by_value["rows"][0]["dice"] == 0.0
    assert any("Label 2 is 'Spleen' in a result and 'Liver' in its reference" in said for said in by_value["messages"])
    by_name = run(inputs, EvaluateSettings(by_name=True)).report
    assert {row["label"]: row["dice"] for row in by_name["rows"]} == {"Liver": 1.0, "spleen": 1.0}
    unnamed = {**inputs, "result": labels(swapped, v17="liver")}
    with pytest.raises(ValueError, match="Label 2 of the result has no name"):
        run(unnamed, EvaluateSettings(by_name=True))
    doubled = {**inputs, "result": labels(swapped, v17="liver", v2="Liver")}
    with pytest.raises(ValueError, match="Two labels of the result have one name"):
        run(doubled, EvaluateSettings(by_name=True))
    doubled = {**inputs, "reference": labels(array, v2="Liver", v17="liver")}
    with pytest.raises(ValueError, match="Two labels of the reference have one name"):
        run(doubled, EvaluateSettings(by_name=True))


def test_names_that_the_reference_does_not_have_stay_labels_of_their_own():
    array = np.zeros(SHAPE)
    array[2:8, 3:12, 4:12] = 2
    result = array.copy()
    result[9:12, 5:9, 5:9], result[9:12, 10:14, 5:9] = 3, 4
    inputs = {"reference": labels(array, v2="liver"), "result": labels(result, v2="Liver", v3="cyst", v4="stone")}
    rows = run(inputs, EvaluateSettings(by_name=True)).report["rows"]
    assert {row["label"]: row["dice"] for row in rows} == {"liver": 1.0, "cyst": 0.0, "stone": 0.0}


def test_volume_and_distances_of_sheared_voxels_are_those_in_the_patient():
    array = np.zeros(SHAPE)
    array[2:8, 3:12, 4:12] = 1
    more = array.copy()
    more[8, 3:12, 4:12] = 1
    matrix = phantoms.awkward_geometry() @ [[1, 0, 0, 0], [0, 1, 0.8, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    reference, result = (LabelMap(each.astype(np.uint8), matrix) for each in (array, more))
    (row,) = run({"reference": reference, "result": result}, QUICK).report["rows"]
    assert row["volume_difference"] == pytest.approx(9 * 8 * abs(np.linalg.det(matrix[:3, :3])) / 1000)
    assert row["hd95"] == pytest.approx(np.linalg.norm(matrix[:3, 2] - matrix[:3, 1]))  # below and a row back


def test_labels_of_one_name_are_told_apart():
    array = np.zeros(SHAPE)
    array[2:4], array[5:7] = 1, 2
    report = run({"reference": labels(array, v1="lesion", v2="lesion"), "result": labels(array)}, QUICK).report
    assert [row["label"] for row in report["rows"]] == ["lesion (1)", "lesion (2)"]
    report = run({"reference": labels(array, v1="2"), "result": labels(array)}, QUICK).report
    assert [row["label"] for row in report["rows"]] == ["2 (1)", "2 (2)"]
    alone = run({"result": clean(), "segments": labels(array, v1="lesion", v2="lesion")}, QUICK).report
    assert [row["label"] for row in alone["rows"][1:]] == ["lesion (1)", "lesion (2)"]


def test_padding_of_ct_does_not_widen_the_range_of_the_reference():
    found = []
    for padding in (-1024, -3024):
        array = np.pad(clean().array - 1000, ((0, 0), (4, 4), (4, 4)), constant_values=padding)
        reference = Volume(array, phantoms.awkward_geometry())
        result = reference.like(np.where(array == padding, padding, array + 5))
        found.append(run({"reference": reference, "result": result}, QUICK).report["rows"][0])
    assert found[0]["psnr"] == pytest.approx(found[1]["psnr"])
    assert found[0]["data_range"] == pytest.approx(found[1]["data_range"])


def test_padding_counts_as_air_on_both_sides():
    """Whoever pads with another number than the reference is not wrong there, also where some voxels are unknown."""
    head = np.pad(clean().array - 1000, ((0, 0), (4, 4), (4, 4)), constant_values=-3024)
    reference = Volume(head, phantoms.awkward_geometry())
    padded = np.where(head == -3024, -1024, head + 5)
    padded[0, 0, 0] = np.nan
    inside = labels(np.isfinite(padded))
    found = run({"reference": reference, "result": reference.like(padded), "mask": inside}, QUICK).report["rows"][0]
    assert found["mae"] == pytest.approx(5 * clean().array.size / (padded.size - 1))
    swapped = {"reference": reference.like(padded), "result": reference.like(head + 12), "mask": inside}
    assert run(swapped, QUICK).report["rows"][0]["mae"] == pytest.approx(found["mae"] * 7 / 5)


def test_padding_that_a_result_changed_a_little_counts_as_air_too():
    head = np.pad(clean().array - 1000, ((0, 0), (4, 4), (4, 4)), constant_values=-3024)
    reference = Volume(head, phantoms.awkward_geometry())
    exact = np.where(head == -3024, -3024, head + 5)
    soft = np.where(head == -3024, head + np.random.default_rng(0).normal(0, 0.5, head.shape), exact)
    inputs = {"reference": reference, "result exact": reference.like(exact), "result soft": reference.like(soft)}
    report = run(inputs, QUICK).report
    ours, theirs = ({**row, "method": ""} for row in report["rows"])
    assert ours == theirs
    assert any("counts as air, in the reference and in the results" in said for said in report["messages"])


def test_windows_that_reach_beyond_a_resampled_result_do_not_count():
    array = phantoms.head((30, 21, 17))
    reference = Volume(array, phantoms.awkward_geometry())
    matrix = reference.ijk_to_ras.copy()
    matrix[:, 3] = matrix @ [0, 0, 9, 1]
    report = run(
        {"reference": reference, "result": Volume(array[9:22], matrix)}, EvaluateSettings(resample=True)
    ).report
    assert (report["rows"][0]["ssim"], report["rows"][0]["ms_ssim"]) == pytest.approx((1.0, 1.0))


def test_volumes_without_a_reference_have_noise_blur_signal_and_contrast():
    array = np.full((48, 48, 48), 100.0)
    array[24:] = 300.0
    volume = Volume(array + np.random.default_rng(0).normal(0, 10, array.shape), phantoms.geometry())
    parts = np.ones((48, 48, 48))
    parts[24:] = 2
    segments = LabelMap(parts.astype(np.uint8), phantoms.geometry(), {1: Label("fat"), 2: Label("muscle")})
    report = run({"result": volume, "segments": segments}, QUICK).report
    assert report["kind"] == "volumes"
    whole, fat, muscle = report["rows"]
    assert whole["noise_sigma"] == pytest.approx(10.0, rel=0.1)
    assert fat["snr"] == pytest.approx(10.0, rel=0.05)
    assert muscle["snr"] == pytest.approx(30.0, rel=0.05)
    assert muscle["cnr"] == pytest.approx(20.0, rel=0.05)
    assert fat["cnr"] is None
    assert "CNR is the contrast to segment 'fat'." in report["messages"]
    other = run({"result": volume, "segments": segments}, EvaluateSettings(contrast_to="Muscle")).report["rows"]
    assert other[1]["cnr"] == pytest.approx(muscle["cnr"])
    with pytest.raises(ValueError, match="There is no segment 'bone'; there are fat, muscle"):
        run({"result": volume, "segments": segments}, EvaluateSettings(contrast_to="bone"))
    blurred = volume.like(ndimage.gaussian_filter(array, 1.5))
    assert run({"result": blurred}, QUICK).report["rows"][0]["blur"] > whole["blur"]


def moments(volumes, progress) -> np.ndarray:
    """Features that need no network: a few quantiles and the mean slope."""
    array = volumes[0].array
    slope = np.abs(np.diff(array, axis=2)).mean()
    return np.array([[*np.quantile(array, [0.2, 0.4, 0.6, 0.8, 0.95]), slope]]) / 100.0


def test_sets_have_figures_a_floor_and_a_warning(monkeypatch):
    monkeypatch.setattr("medgan.evaluation.sets.SIDE", 24)  # two scales of MS-SSIM, quick
    rng = np.random.default_rng(0)
    inputs = {}
    for number in range(8):
        inputs[f"reference/r{number}"] = clean().like(clean().array * rng.normal(1.0, 0.05))
    for number in range(5):
        inputs[f"result good/g{number}"] = clean().like(clean().array * rng.normal(1.0, 0.05))
        inputs[f"result bad/b{number}"] = noisy(200.0, number)
    inputs["result bad/b1"].array[:] = np.nan

    def features(volumes, progress):
        if not np.isfinite(volumes[0].array).any():
            raise ValueError("It is mostly not finite.")
        return moments(volumes, progress)

    settings = EvaluateSettings(figures=Figures.SETS)
    evaluation = Evaluation.from_dict(run(inputs, settings, features=features).report)
    rows = {row["method"]: row for row in evaluation.rows if not row.get("error")}
    assert rows["good"]["case"] == "5 volumes against 8"
    assert rows["bad"]["case"] == "4 volumes against 8"
    assert rows["bad"]["frechet"] > 3 * rows["good"]["frechet"]
    assert rows["bad"]["kid"] > rows["good"]["kid"]
    assert rows["good"]["coverage"] > rows["bad"]["coverage"]
    assert [row["error"] for row in evaluation.failed] == ["It is mostly not finite."]
    summary = {(entry["method"], entry["metric"]): entry for entry in evaluation.summary}
    floor = summary["reference against itself", "frechet"]
    assert floor["n"] == summary["good", "frechet"]["n"] == 4
    assert summary["bad", "frechet"]["mean"] > floor["high"]
    assert summary["good", "frechet"]["low"] < floor["high"]
    assert summary["reference against itself", "diversity"]["mean"] > summary["bad", "diversity"]["mean"]
    said = " ".join(evaluation.messages)
    assert "which is few" in said
    assert "3 were taken instead of 5" in said
    again = Evaluation.from_dict(run(inputs, settings, features=features).report)
    assert (again.rows, again.summary) == (evaluation.rows, evaluation.summary)


def test_sets_of_unequal_size_are_judged_by_one_floor():
    rng = np.random.default_rng(0)
    counts = {"reference": 12, "result few": 3, "result many": 6}
    inputs = {
        f"{role}/{role[-3:]}{number}": clean().like(clean().array * rng.normal(1.0, 0.05))
        for role, count in counts.items()
        for number in range(count)
    }
    report = run(inputs, EvaluateSettings(figures=Figures.SETS), features=moments).report
    entries = [entry for entry in report["summary"] if entry["metric"] == "frechet"]
    assert {entry["method"]: entry["n"] for entry in entries} == {"few": 3, "many": 3, "reference against itself": 3}
    assert any("'few' has the fewest volumes, 3" in said for said in report["messages"])


def test_progress_rises_to_one_and_cancel_stops():
    seen = []
    run(two_methods(2), QUICK, lambda fraction, message="": seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def stop(fraction, message=""):
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(two_methods(2), QUICK, stop)

    def stop_at_the_intervals(fraction, message=""):
        if fraction > 0.98:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(two_methods(2), QUICK, stop_at_the_intervals)
    between = [fraction for fraction in seen if 0.95 < fraction < 1.0]
    assert len(set(between)) > 5


@pytest.mark.parametrize(
    ("inputs", "figures", "reason"),
    [
        ({"volume": clean()}, Figures.AUTO, "'volume' has no known role"),
        ({"reference A": clean()}, Figures.AUTO, "'reference A' has no known role"),
        ({"reference": clean()}, Figures.AUTO, "no result to evaluate"),
        ({"result": clean()}, Figures.IMAGES, "need a reference"),
        ({"result": clean()}, Figures.SETS, "need a reference"),
        ({"result": labels(np.ones(SHAPE)), "reference": clean()}, Figures.AUTO, "compare things of one kind"),
        ({"result": clean(), "reference": labels(np.ones(SHAPE))}, Figures.AUTO, "compare things of one kind"),
        ({"result": labels(np.ones(SHAPE))}, Figures.AUTO, "give its reference"),
    ],
)
def test_what_is_no_evaluation_says_why(inputs, figures, reason):
    with pytest.raises(ValueError, match=reason):
        run(inputs, EvaluateSettings(figures=figures))


def test_evaluation_runs_as_a_job_in_a_child_process(tmp_path):
    inputs = {"reference": clean(), "result Größe": noisy(20.0), "mask": labels(np.ones(SHAPE))}
    with Job("evaluate", inputs, QUICK, parent_folder=tmp_path) as job:
        job.start()
        state = job.wait(120)
        assert state.status is JobStatus.DONE, state
        report = job.report()
    assert report["rows"] == run(inputs, QUICK).report["rows"]
    assert report["rows"][0]["method"] == "Größe"


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_pictures_lie_as_radiologists_look_at_them(order, left_handed):
    """A bright voxel at the right front of the patient is at the upper left of an axial picture."""
    array = np.zeros((9, 11, 13))
    array[4, 10, 12] = 1.0  # last along A and R in RAS order
    matrix = phantoms.geometry((1.0, 1.0, 1.0), left_handed=False)
    moved = array.transpose(order)
    axes = matrix.copy()
    # Columns of the matrix belong to i, j, k, the last axes of the array first.
    axes[:, :3] = matrix[:, [2 - axis for axis in order][::-1]]
    if left_handed:
        moved = moved[::-1]
        axes[:3, 3] = axes[:3, :3] @ [0, 0, moved.shape[0] - 1]
        axes[:3, 2] *= -1
    image = Plane(Volume(moved, axes)).slice(moved)
    assert image.shape == (11, 13)
    assert image[0, 0] == 1.0


def test_pictures_have_square_pixels_across_the_coarsest_axis():
    volume = Volume(np.zeros((6, 20, 10)), phantoms.geometry((2.0, 1.0, 5.0)))
    plane = Plane(volume)
    assert plane.name == "Axial slice 4 of 6"
    assert plane.slice(volume.array).shape == (20, 20)
    sagittal = Plane(Volume(np.zeros((6, 20, 10)), phantoms.geometry((5.0, 1.0, 1.0))))
    assert sagittal.name == "Sagittal slice 6 of 10"
    assert sagittal.slice(volume.array).shape == (6, 20)
