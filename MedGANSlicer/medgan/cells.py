"""What people, files and models call things, as cells of a table that a spreadsheet opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any


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
