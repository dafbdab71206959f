"""What people, files and models call things, as cells of a table that a spreadsheet opens."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def separator_of(text: str) -> str:
    """What separates the cells of a CSV file: the comma, semicolon or tab that its first line has most of."""
    return max(",;\t", key=text.partition("\n")[0].count)


def plain_cell(value: Any) -> Any:
    """The value; a text that a spreadsheet would run as a formula with an apostrophe before it, which keeps it a text.

    For tables that are not read again.
    """
    if not isinstance(value, (str, Path)) or not str(value).startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return f"'{value}"
    return value


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV, its cells as :func:`plain_cell` gives them, its lines ended by a line feed alone."""
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(plain_cell, row) for row in rows)
    return held.getvalue()
