"""``medgan evaluate`` as a person and a script see it: real files, figures, reports, exit codes."""

from __future__ import annotations

import csv
import json
import math
import os

import numpy as np
import pytest

import medgan
import phantoms
from command_line import one_sentence, run
from medgan.evaluation import many
from medgan.volume import LabelMap, Volume, write_volume

FIELDS = "name,truth,prediction,score\na,yes,yes,0.9\nb,no,no,0.2\nc,no,yes,0.6\nd,yes,yes,0.7\ne,yes,no,0.4\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """References of three cases, and two methods: one 10 too bright everywhere, one 20."""
    folder = tmp_path_factory.mktemp("évaluation <b>")
    for name in ("truth", "ten", "twenty"):
        (folder / name).mkdir()
    for number in range(3):
        clean = phantoms.rician(phantoms.head(phantoms.ODD_SHAPE), 20.0, seed=number)
        for name, more in (("truth", 0), ("ten", 10), ("twenty", 20)):
            write_volume(Volume(clean + more, phantoms.awkward_geometry()), folder / name / f"p{number}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def evaluated(folders):
    """One run over both methods, with a report."""
    how = ("--reference", "truth", "--data-range", 1000, "--out", "report", "--bootstrap", 200, "--seed", 3)
    return run("evaluate", "ten", "twenty", *how, cwd=folders)


def test_folders_are_methods_and_their_figures_are_those_worked_out_by_hand(evaluated, folders):
    assert evaluated.returncode == 0, evaluated.stderr
    rows = list(csv.DictReader((folders / "report" / "cases.csv").open(encoding="utf-8")))
    assert [(row["case"], row["method"]) for row in rows] == [
        (f"p{number}", method) for number in range(3) for method in ("ten", "twenty")
    ]
    for row in rows:
        more = {"ten": 10, "twenty": 20}[row["method"]]
        assert float(row["mae"]) == pytest.approx(more, abs=1e-3)
        assert float(row["psnr"]) == pytest.approx(20 * math.log10(1000 / more), abs=1e-3)


def test_summary_and_comparison_say_which_method_is_nearer(evaluated, folders):
    summary = list(csv.DictReader((folders / "report" / "summary.csv").open(encoding="utf-8")))
    mae = {row["method"]: row for row in summary if row["metric"] == "mae"}
    assert float(mae["ten"]["mean"]) == pytest.approx(10, abs=1e-3)
    assert (mae["ten"]["n"], mae["ten"]["unit"]) == ("3", "intensity")
    compared = list(csv.DictReader((folders / "report" / "comparisons.csv").open(encoding="utf-8")))
    difference = next(row for row in compared if row["metric"] == "mae")
    assert (difference["a"], difference["b"]) == ("ten", "twenty")
    assert float(difference["difference"]) == pytest.approx(-10, abs=1e-3)


def test_report_holds_page_and_tables_and_stdout_says_where(evaluated, folders):
    assert sorted(file.name for file in (folders / "report").iterdir()) == [
        "cases.csv",
        "comparisons.csv",
        "report.html",
        "report.json",
        "summary.csv",
    ]
    assert f"Report: {os.path.join('report', 'report.html')}" in evaluated.stdout
    line = next(line for line in evaluated.stdout.splitlines() if line.startswith("twenty") and "PSNR" in line)
    assert f"{20 * math.log10(50):.2f}" in line
    page = (folders / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 6 * 3  # result, reference, difference of each case and method


def test_json_is_one_document_without_pictures_and_the_same_for_the_same_seed(folders, call):
    how = ("evaluate", "ten", "--reference", "truth", "--metrics", "mae, psnr", "--json", "--bootstrap", 200)
    done, again = (call(*how, cwd=folders) for _ in range(2))
    assert done.returncode == 0, done.stderr
    assert done.stdout == again.stdout
    said = json.loads(done.stdout)
    assert (said["version"], said["kind"], said["files"]) == (medgan.__version__, "images", {})
    assert list(said["metrics"]) == ["mae", "psnr"]
    assert set(said["rows"][0]) == {"case", "method", "mae", "psnr"}
    assert "pictures" not in said


def test_report_that_is_there_is_only_replaced_when_told(folders, call):
    how = ("evaluate", "ten/p0.nii.gz", "--reference", "truth/p0.nii.gz", "--out", "twice")
    assert call(*how, cwd=folders).returncode == 0
    before = (folders / "twice" / "report.json").stat().st_mtime_ns
    one_sentence(call(*how, cwd=folders), "name another folder, or replace the report with --overwrite")
    assert (folders / "twice" / "report.json").stat().st_mtime_ns == before
    assert call(*how, "--overwrite", cwd=folders).returncode == 0
    assert (folders / "twice" / "report.json").stat().st_mtime_ns > before


def test_other_grid_is_an_error_that_says_what_differs_unless_resampling_is_asked_for(folders, call):
    (folders / "moved").mkdir()
    matrix = phantoms.awkward_geometry()
    matrix[0, 3] += 5.0
    write_volume(Volume(phantoms.head(phantoms.ODD_SHAPE), matrix), folders / "moved" / "p0.nii.gz")
    how = ("evaluate", "moved/p0.nii.gz", "--reference", "truth/p0.nii.gz", "--metrics", "mae")
    done = call(*how, cwd=folders)
    assert done.returncode == 1
    assert "origin" in done.stderr
    assert "or give --resample." in done.stderr
    assert call(*how, "--resample", cwd=folders).returncode == 0


def test_notes_are_about_the_metrics_that_were_asked_for(folders, call):
    how = ("evaluate", "ten/p0.nii.gz", "--reference", "truth/p0.nii.gz", "--metrics")
    assert "SSIM" in call(*how, "psnr,ssim", cwd=folders).stderr
    asked = call(*how, "psnr", cwd=folders).stderr
    assert "Data range of PSNR" in asked
    assert "Kernel" not in asked
    assert "scales" not in asked
    other = call(*how, "mae", cwd=folders).stderr
    assert "Data range" not in other
    assert "Intervals need" in other


def test_mask_takes_the_figures_of_its_inside_alone(folders, call):
    half = phantoms.rician(phantoms.head(phantoms.ODD_SHAPE), 20.0)
    inside = np.zeros(phantoms.ODD_SHAPE, np.uint8)
    inside[:, :20] = 1
    matrix = phantoms.awkward_geometry()
    write_volume(Volume(half, matrix), folders / "half-truth.nii.gz")
    half[:, 20:] += 100
    write_volume(Volume(half, matrix), folders / "half.nii.gz")
    write_volume(LabelMap(inside, matrix), folders / "mask.nii.gz")
    how = ("evaluate", "half.nii.gz", "--reference", "half-truth.nii.gz", "--metrics", "mae", "--json")
    whole = json.loads(call(*how, cwd=folders).stdout)["rows"][0]["mae"]
    masked = json.loads(call(*how, "--mask", "mask.nii.gz", cwd=folders).stdout)["rows"][0]["mae"]
    assert whole == pytest.approx(100 * 21 / 41, rel=1e-4)
    assert masked == pytest.approx(0, abs=1e-4)


def test_label_maps_are_measured_as_segmentations(folders, call):
    truth = np.zeros((20, 20, 20), np.uint8)
    truth[5:15, 5:15, 5:15] = 2
    found = np.zeros_like(truth)
    found[5:15, 5:15, 5:10] = 2
    for name, array in (("seg-truth", truth), ("seg", found)):
        write_volume(LabelMap(array, phantoms.geometry((2.0, 1.0, 1.0))), folders / f"{name}.nrrd")
    done = call("evaluate", "seg.nrrd", "--reference", "seg-truth.nrrd", "--json", cwd=folders)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["kind"] == "segmentations"
    row = next(row for row in said["rows"] if row.get("label") not in (None, "") and row.get("dice") is not None)
    assert row["dice"] == pytest.approx(2 * 500 / 1500)
    assert row["precision"] == 1.0


def test_volumes_without_a_reference_have_their_noise_measured(folders, call):
    done = call("evaluate", "truth", "--json", cwd=folders)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["kind"] == "volumes"
    assert len(said["rows"]) == 3
    assert all(row["noise_sigma"] > 5 for row in said["rows"])


def test_sets_need_no_pairs_and_the_worse_set_lies_further_away(folders, call):
    for name, sigma in (("good", 21.0), ("bad", 150.0)):
        (folders / name).mkdir()
        for number in range(3):
            noisy = phantoms.rician(phantoms.head(phantoms.ODD_SHAPE), sigma, seed=10 + number)
            write_volume(Volume(noisy, phantoms.awkward_geometry()), folders / name / f"other{number}.nii.gz")
    done = call("evaluate", "good", "bad", "--reference", "truth", "--figures", "sets", "--json", cwd=folders)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["kind"] == "sets"
    rows = {row["method"]: row for row in said["rows"]}
    shown = call("evaluate", "good", "--reference", "truth", "--figures", "sets", "--metrics", "kid", cwd=folders)
    assert "Mean [95 % range]" in shown.stdout
    for figure in ("frechet", "kid"):
        assert rows["good"][figure] < rows["bad"][figure]


def test_predictions_in_a_csv_are_measured_as_classes(tmp_path, call):
    (tmp_path / "net.csv").write_text(FIELDS, encoding="utf-8")
    done = call("evaluate", "net.csv", "--positive", "no", cwd=tmp_path)
    assert "taken as that of 'no'; set --positive if it is that of 'yes'" in " ".join(done.stderr.split())
    done = call("evaluate", "net.csv", "--positive", "yes", "--out", "report", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    figures = {row["metric"]: row["mean"] for row in said["summary"] if row.get("label") in (None, "")}
    assert figures["accuracy"] == pytest.approx(0.6)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["auc"] == pytest.approx(5 / 6)
    cases = list(csv.DictReader((tmp_path / "report" / "cases.csv").open(encoding="utf-8")))
    assert (cases[2]["case"], cases[2]["truth"], cases[2]["prediction"]) == ("c", "no", "yes")


def test_case_that_fails_is_named_and_the_others_are_measured(folders, call):
    (folders / "some").mkdir()
    for number in (0, 1):
        content = (folders / "ten" / f"p{number}.nii.gz").read_bytes()
        (folders / "some" / f"p{number}.nii.gz").write_bytes(content if number else content[:200])
    done = call("evaluate", "some", "--reference", "truth", "--metrics", "mae", "--json", cwd=folders)
    assert done.returncode == 1
    rows = {row["case"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["p1"]["mae"] == pytest.approx(10, abs=1e-3)
    assert "damaged" in rows["p0"]["error"]
    assert "no result" in rows["p2"]["error"]
    assert "2 cases could not be measured" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "phrase", "code"),
    [
        ((), "Say what to measure", 2),
        (("nowhere.nii.gz",), "There is no file or folder 'nowhere.nii.gz'", 1),
        (("ten", "--reference", "nowhere"), "There is no file or folder 'nowhere'", 1),
        (("ten", "--metrics", "psnr,beauty"), "There is no metric 'beauty'", 2),
        (("ten", "--reference", "truth", "--metrics", "dice"), "None of the metrics asked for", 1),
        (("ten", "--reference", "truth", "--metrics", "diversity,correct"), "None of the metrics asked for", 1),
        (
            ("ten", "truth", "--figures", "sets"),
            "Sets of images need a reference; give its file or folder with --ref",
            2,
        ),
        (("ten", "--tolerance", -1), "--tolerance must lie between", 2),
        (("ten", "--out", "truth/p0.nii.gz"), "is a file; --out takes a folder", 2),
        (("net.csv", "ten"), "holds predictions", 2),
        (("net.csv", "--reference", "truth"), "--reference is for volumes", 2),
        (("net.csv",), "needs a column 'truth'", 1),
        (("empty", "--reference", "truth"), "", 1),
    ],
)
def test_what_can_not_be_done_is_one_clear_sentence(folders, call, arguments, phrase, code):
    (folders / "net.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (folders / "empty").mkdir(exist_ok=True)
    one_sentence(call("evaluate", *arguments, cwd=folders), phrase, code)


def test_metrics_are_listed(call):
    done = call("evaluate", "--metrics", "list")
    assert done.returncode == 0
    for name in ("psnr", "hd95", "kid", "auc", "noise_sigma"):
        assert name in done.stdout.split()


def test_interruption_ends_it_with_a_sentence_and_leaves_nothing(folders, call, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(many, "evaluate_files", interrupted)
    how = ("evaluate", "ten", "--reference", "truth", "--out", "interrupted")
    one_sentence(call(*how, cwd=folders), "Interrupted; nothing was written.", 130)
    assert not (folders / "interrupted").exists()
