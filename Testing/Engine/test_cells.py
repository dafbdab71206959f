"""Cells of tables: what would be a formula in a spreadsheet stays a text."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from medgan import batch_report
from medgan.cells import plain_cell
from medgan.segmentation import files
from medgan.training.class_figures import ClassFigures

FORMULA = '=HYPERLINK("http://example.org")'


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (FORMULA, f"'{FORMULA}"), ("@a", "'@a"), ("-left", "'-left"), ("\t=1", "'\t=1"), (Path("+a.nii"), "'+a.nii"),
        ("-1.5", "-1.5"), ("+2e3", "+2e3"), (-1.5, -1.5), (Path("a=.nii"), Path("a=.nii")), ("", ""), (None, None),
    ],
)  # fmt: skip
def test_formulas_become_texts_and_all_else_stays(value, cell):
    assert plain_cell(value) == cell


def test_tables_hold_no_formulas(tmp_path):
    item = files.Item((Path("=1+1.nii.gz"),), Path("labels.nii.gz"))
    segments = [{"value": 1, "name": FORMULA, "volume_ml": -2.0}]
    batch_report.write(tmp_path / "report.csv", [{"input": Path("=1+1.nii.gz"), "error": FORMULA}])
    tables = [
        files.table_text([files.Result(item, {"segments": segments})]),
        (tmp_path / "report.csv").read_bytes().decode(),
        ClassFigures([FORMULA, "other"], matrix=[[1, 0], [0, 1]]).csv(),
    ]
    for table in tables:
        cells = [cell for row in csv.reader(io.StringIO(table)) for cell in row]
        assert f"'{FORMULA}" in cells
        assert not [cell for cell in cells if cell.startswith("=")]
        assert "\r" not in table
    assert "-2.0" in tables[0]
