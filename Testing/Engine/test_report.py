"""The report of an evaluation: its tables, and its page as a browser shows it."""

from __future__ import annotations

import csv
import html
import json
import math
import re

import numpy as np
import pytest

import browser
from medgan.evaluation import report
from medgan.evaluation.report_html import html_report
from medgan.evaluation.report_plots import axis_ticks, plot
from medgan.evaluation.report_text import Digits, best_methods, p_value, verdict
from medgan.evaluation.table import FLOOR, Evaluation, MetricInfo, Picture

NASTY = "<img src=x onerror=alert(1)> \"quoted\" 'x' & co"
"""A file name that a careless page would run."""

needs_browser = pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium to show the page in")


@pytest.fixture(scope="module")
def an_evaluation() -> Evaluation:
    """Six cases of two methods, one of which could not be measured, with a name that is none."""
    metrics = {
        "psnr": MetricInfo("PSNR", "dB", "higher", "10 log10(range² / MSE), <range> of the reference."),
        "mae": MetricInfo("MAE", "intensity", "lower", "Mean of |a − b|."),
        "range": MetricInfo("Data range", "intensity", "", "Robust range of the reference."),
    }
    cases = ["p1", "p2", "p10", NASTY, "p3", "p4"]
    rows = []
    for number, case in enumerate(cases):
        for method, more in (("ours", 3.0), ("</script><b>theirs", 0.0)):
            row = {"case": case, "method": method, "psnr": 30.0 + number + more, "mae": 12.5 - number - more}
            rows.append({**row, "range": 1000.0})
    rows[2]["psnr"] = math.inf
    rows[4]["mae"] = None
    rows[-1] = {"case": "p4", "method": "</script><b>theirs", "error": "The grid is 3 < 5 mm."}
    summary, comparisons = [], []
    for name in metrics:
        for method in ("ours", "</script><b>theirs"):
            values = [row[name] for row in rows if row["method"] == method and np.isfinite(row.get(name) or np.nan)]
            mean = float(np.mean(values))
            figures = {"n": len(values), "mean": mean, "sd": 1.0, "median": mean, "low": mean - 1, "high": mean + 1}
            summary.append({"method": method, "metric": name, **figures})
        compared = {"a": "ours", "b": "</script><b>theirs", "metric": name, "n": 5, "difference": 3.0}
        comparisons.append({**compared, "low": 2.5, "high": 3.5, "p": 0.0002, "p_corrected": 0.004, "test": "Wilcoxon"})
    ramp = np.tile(np.linspace(0, 1, 60), (40, 1))
    colour = np.stack([ramp, ramp[::-1], 0 * ramp], axis=-1)
    images = {"difference": colour, "reference": ramp, "result": 1 - ramp, "before": ramp**2}
    pictures = [Picture(NASTY, "ours", images, "Axial slice 7 of 12. <Grey> from 0 to 900.")]
    settings = {"seed": 3, "resample": False, "data_range": 0.0, "contrast_to": ""}
    return Evaluation("images", metrics, rows, summary, comparisons, ["A note & more."], pictures, settings)


@pytest.fixture(scope="module")
def a_report(an_evaluation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rapport é") / "new" / "report"
    return report.write(an_evaluation, folder, f"{NASTY} against truth")


def test_tables_hold_every_figure(an_evaluation, a_report):
    cases = list(csv.DictReader(a_report["cases.csv"].open(encoding="utf-8", newline="")))
    assert list(cases[0]) == ["case", "method", "psnr", "mae", "range", "error"]
    assert [row["case"] for row in cases] == [row["case"] for row in an_evaluation.rows]
    assert (cases[0]["psnr"], cases[2]["psnr"], cases[4]["mae"]) == ("33.0", "inf", "")
    assert cases[-1]["error"] == "The grid is 3 < 5 mm."
    summary = list(csv.DictReader(a_report["summary.csv"].open(encoding="utf-8", newline="")))
    assert float(summary[0]["mean"]) == an_evaluation.summary[0]["mean"]
    assert summary[0]["unit"] == "dB"
    assert len(list(csv.DictReader(a_report["comparisons.csv"].open(encoding="utf-8", newline="")))) == 3


def test_document_is_strict_json_that_makes_the_evaluation_again(an_evaluation, a_report):
    said = json.loads(a_report["report.json"].read_text(encoding="utf-8"), parse_constant=pytest.fail)
    again = Evaluation.from_dict({**said, "pictures": []})
    assert again.summary == an_evaluation.summary
    assert again.rows[2]["psnr"] is None
    assert again.metrics == an_evaluation.metrics


def test_page_fetches_nothing_and_no_name_becomes_markup(a_report):
    page = a_report["report.html"].read_text(encoding="utf-8")
    for tag, address in re.findall(r'<(\w+)[^>]*?\s(?:src|href)="([^"]*)"', page):
        assert address.startswith(("#", "data:")), (tag, address)
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert "@import" not in page
    assert NASTY not in page
    assert html.escape(NASTY) in page
    assert "</script><b>" not in page
    assert page.count("<script>") == page.count("</script>") == 1


def test_report_without_comparisons_takes_away_those_of_an_earlier_one(an_evaluation, tmp_path):
    report.write(an_evaluation, tmp_path)
    assert (tmp_path / "comparisons.csv").exists()
    files = report.write(Evaluation("images", an_evaluation.metrics, an_evaluation.rows[:1]), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(files)
    assert "comparisons.csv" not in files


def test_empty_and_unusual_evaluations_have_a_page_too(an_evaluation):
    assert "<h1>Sets of images</h1>" in html_report(Evaluation("sets"))
    name = "a file \udcff that is no UTF-8"
    assert "no UTF-8" in html_report(Evaluation("volumes", rows=[{"case": name, "method": "m", "x": "said"}]))
    matrices = {"net": [[3, 1], [0, 4]]}
    classes = Evaluation("classes", confusion={"classes": ["<no>", "yes"], "matrices": matrices})
    page = html_report(classes)
    assert "&lt;no&gt;" in page
    assert page.count('class="best"') == 2  # the diagonal


def test_metrics_of_one_name_are_told_apart_by_their_unit_and_intervals_by_the_notes():
    metrics = {
        "ml": MetricInfo("Volume error", "ml", "lower"),
        "percent": MetricInfo("Volume error", "%", "lower"),
    }
    told = {"a": "A", "b": "B", "n": 9, "difference": 1.0, "low": 0.5, "high": 1.5, "p": 0.01, "p_corrected": 0.01}
    figures = {"method": "A", "n": 9, "mean": 1.0, "low": 0.5, "high": 1.5}
    evaluation = Evaluation("segmentations", metrics, summary=[{**figures, "metric": name} for name in metrics])
    evaluation.comparisons = [{**told, "metric": name} for name in metrics]
    page = html_report(evaluation)
    assert ">Volume error, ml<" in page
    assert ">Volume error, %<" in page
    assert "95 % interval (how: see the notes)" in page
    assert "bootstrap over the cases" not in page


def test_numbers_are_written_alike_and_short():
    write = Digits([31.234, 9.5, None])
    assert [write(value) for value in (31.234, 9.5, 0.0, None, math.inf)] == ["31.23", "9.50", "0", "–", "∞"]
    assert [Digits([0.98765])(0.98765), Digits([12345.6])(-12345.6)] == ["0.9877", "\N{MINUS SIGN}12346"]
    assert Digits([2e-5])(2e-5) == "2.00e-05"
    assert [Digits([14231.0])(value) for value in (-0.3, 0.04, 2.0, 3e-6)] == [
        "\N{MINUS SIGN}0.30", "0.040", "2.0", "3.00e-06",
    ]  # fmt: skip
    assert [p_value(p) for p in (0.0001, 0.0421, 1.0, None)] == ["< 0.001", "0.042", "1.000", "–"]


def test_verdict_follows_direction_and_corrected_p(an_evaluation):
    higher = {"a": "A", "b": "B", "metric": "psnr", "difference": 2.0, "p": 0.001, "p_corrected": 0.01}
    assert verdict(an_evaluation, higher) == "A is better"
    assert verdict(an_evaluation, {**higher, "metric": "mae"}) == "B is better"
    assert verdict(an_evaluation, {**higher, "metric": "range"}) == "A is higher"
    assert verdict(an_evaluation, {**higher, "p_corrected": 0.2}) == "no clear difference"
    assert verdict(an_evaluation, {**higher, "p": None, "p_corrected": None}) == "too few cases to tell"


def test_best_mean_is_marked_but_never_the_floor(an_evaluation):
    assert best_methods(an_evaluation, "psnr", "") == {"ours"}
    assert best_methods(an_evaluation, "range", "") == set()
    rows = [{"method": name, "metric": "mae", "mean": mean} for name, mean in (("a", 3.0), ("b", 2.0), (FLOOR, 0.1))]
    assert best_methods(Evaluation("sets", an_evaluation.metrics, summary=rows), "mae", "") == {"b"}


@pytest.mark.parametrize(
    ("low", "high"), [(0.913, 0.987), (-3.0, 17.0), (5.0, 5.0), (0.0, 0.0), (1e-9, 4e-9), (-1e7, 1e6)]
)
def test_axis_has_few_round_numbers_around_the_values(low, high):
    ticks = axis_ticks(low, high)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low <= high <= ticks[-1]
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_plot_has_a_dot_for_each_case_where_its_value_is(an_evaluation):
    drawn = plot(an_evaluation, "mae", Digits([12.5]))
    assert drawn.count('class="dot"') == 10  # 12 less a missing value and a case that failed
    assert drawn.count('class="mean"') == 2
    assert drawn.count('class="box"') == 2
    at = {text: float(x) for x, text in re.findall(r'cx="([\d.]+)"[^>]*><title>([^<]*)', drawn)}
    assert at["p1: 9.50"] - at["p3: 5.50"] == pytest.approx(2 * (at["p3: 5.50"] - at["p4: 4.50"]) * 2, abs=0.5)
    assert NASTY not in drawn


@needs_browser
def test_browser_shows_every_part_without_a_complaint(a_report, tmp_path):
    probe = """
      const images = [...document.images].map((image) => [image.complete, image.naturalWidth, image.naturalHeight]);
      return { title: document.title, images: images, bold: document.querySelectorAll("b").length,
        sections: [...document.querySelectorAll("main > section")].map((part) => part.id),
        captions: [...document.querySelectorAll(".case figcaption")].map((one) => one.textContent),
        note: document.querySelector("#notes").textContent, error: document.querySelector(".error").textContent,
        best: [...document.querySelectorAll("#summary-table tbody tr:first-child .best")].length,
        plots: document.querySelectorAll(".plots svg").length,
        fetched: performance.getEntriesByType("resource").filter((one) => !one.name.startsWith("data:")).length };
    """
    shown = browser.show(a_report["report.html"], tmp_path, probe)
    assert shown.complaints == []
    found = shown.probed
    assert found["title"] == "Images against their reference"
    assert found["images"] == [[True, 60, 40]] * 4
    assert found["captions"] == ["Before", "Result", "Reference", "Difference"]
    parts = ["notes", "summary", "comparisons", "plots", "pictures", "cases", "metrics", "settings"]
    assert found["sections"] == parts
    assert (found["bold"], found["fetched"], found["plots"], found["best"]) == (0, 0, 3, 2)
    assert "1 case could not be measured" in found["note"]
    assert found["error"] == "The grid is 3 < 5 mm."


@needs_browser
def test_complaints_and_foreign_scripts_are_noticed(a_report, tmp_path):
    """The other tests rest on this: what goes wrong in a page is seen, and a script that is not ours does not run."""
    page = a_report["report.html"].read_text(encoding="utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(page.replace("</main>", '<script>document.title = "taken"</script></main>'), encoding="utf-8")
    shown = browser.show(bad, tmp_path, 'console.error("oh no"); return document.title;')
    assert any("oh no" in line for line in shown.complaints)
    assert any("Content Security Policy" in line for line in shown.complaints)
    assert shown.probed == "Images against their reference"


@needs_browser
def test_tables_sort_by_number_and_by_name_with_what_is_missing_last(a_report, tmp_path):
    probe = """
      const heads = [...document.querySelectorAll("#cases-table thead th")];
      const column = (number) => [...document.querySelector("#cases-table").tBodies[0].rows]
        .map((row) => row.cells[number] ? row.cells[number].textContent : null);
      const press = (number) => heads[number].querySelector("button").click();
      press(3); const up = column(3), said = heads[3].getAttribute("aria-sort");
      press(3); const down = column(3);
      press(0); const names = column(0);
      const filter = document.getElementById("filter");
      filter.value = "OURS"; filter.dispatchEvent(new Event("input"));
      const left = [...document.querySelectorAll("#cases-table tbody tr")].filter((row) => !row.hidden).length;
      return { up: up, said: said, down: down, names: names, after: heads[3].getAttribute("aria-sort"), left: left };
    """
    shown = browser.show(a_report["report.html"], tmp_path, probe)
    assert shown.complaints == []
    found = shown.probed
    values = [float(text) for text in found["up"][:10]]
    assert values == sorted(values)
    assert set(found["up"][10:]) == {"–", None}
    assert [float(text) for text in found["down"][:10]] == values[::-1]
    assert set(found["down"][10:]) == {"–", None}
    assert (found["said"], found["after"], found["left"]) == ("ascending", None, 6)
    numbered = [name for name in found["names"] if name.startswith("p")]
    assert numbered == [name for name in ("p1", "p2", "p3", "p4", "p10") for _ in range(2)]


@needs_browser
def test_narrow_and_dark_pages_fit_and_can_be_read(a_report, tmp_path):
    probe = """
      const style = getComputedStyle(document.body);
      const wide = [...document.querySelectorAll("body *")].filter((one) => !one.closest(".scroll, svg"))
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.tagName);
      return { page: document.documentElement.scrollWidth, window: innerWidth, wide: wide,
        paper: style.backgroundColor, ink: style.color };
    """
    narrow = browser.show(a_report["report.html"], tmp_path, probe, width=390).probed
    assert narrow["window"] <= 500
    assert narrow["page"] <= narrow["window"]
    assert narrow["wide"] == []
    dark = browser.show(a_report["report.html"], tmp_path, probe, dark=True).probed
    assert _brightness(narrow["paper"]) > 200 > 60 > _brightness(narrow["ink"])
    assert _brightness(dark["paper"]) < 60 < 200 < _brightness(dark["ink"])


def _brightness(color: str) -> float:
    return float(np.mean([float(part) for part in re.findall(r"[\d.]+", color)[:3]]))
