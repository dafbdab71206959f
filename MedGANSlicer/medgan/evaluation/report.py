"""An evaluation as files: tables as CSV, everything as JSON, and a page to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import medgan
from medgan.cells import csv_text
from medgan.evaluation.report_html import html_report
from medgan.evaluation.report_text import extra_columns
from medgan.evaluation.table import Evaluation
from medgan.staging import put_text

CASES, SUMMARY, COMPARISONS, DOCUMENT, PAGE = (
    "cases.csv",
    "summary.csv",
    "comparisons.csv",
    "report.json",
    "report.html",
)
FILES = (CASES, SUMMARY, COMPARISONS, DOCUMENT, PAGE)
"""What :func:`write` makes in its folder; the comparisons only when there are some."""

SUMMARY_COLUMNS = ("method", "label", "metric", "unit", "n", "mean", "sd", "median", "low", "high")
COMPARISON_COLUMNS = ("metric", "label", "a", "b", "n", "difference", "low", "high", "p", "p_corrected", "test")


def write(evaluation: Evaluation, folder: Path, said: str = "") -> dict[str, Path]:
    """Write the report into a folder, which is made, and return its files by name.

    Each file appears complete or not at all. Raises ``OSError``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        CASES: _csv(evaluation.rows, case_columns(evaluation)),
        SUMMARY: _csv(_with_units(evaluation), _used(SUMMARY_COLUMNS, evaluation.summary)),
        DOCUMENT: json.dumps(document(evaluation), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        PAGE: html_report(evaluation, said),
    }
    if evaluation.comparisons:
        texts[COMPARISONS] = _csv(evaluation.comparisons, _used(COMPARISON_COLUMNS, evaluation.comparisons))
    else:
        (folder / COMPARISONS).unlink(missing_ok=True)  # of an earlier run: it would not belong to the rest
    for name, text in texts.items():
        put_text(text, folder / name, errors="backslashreplace")
    return {name: folder / name for name in FILES if name in texts}


def document(evaluation: Evaluation) -> dict[str, Any]:
    """All figures as plain JSON values, without the pictures."""
    plain = evaluation.to_dict()
    del plain["pictures"]
    return {"version": medgan.__version__, **plain}


def case_columns(evaluation: Evaluation) -> list[str]:
    """The columns of the table of cases: what a row is about, then the metrics, then what went wrong."""
    labelled = any("label" in row for row in evaluation.rows)
    failed = any("error" in row for row in evaluation.rows)
    metrics = [name for name in evaluation.metrics if any(name in row for row in evaluation.rows)]
    return ["case", "method", *["label"] * labelled, *extra_columns(evaluation), *metrics, *["error"] * failed]


def _with_units(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [{**row, "unit": evaluation.metrics[row["metric"]].unit} for row in evaluation.summary]


def _used(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[str]:
    return [name for name in columns if name != "label" or any("label" in row for row in rows)]


def _csv(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    return csv_text(columns, [[row.get(name) for name in columns] for row in rows])
