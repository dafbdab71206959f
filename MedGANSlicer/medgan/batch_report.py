"""One table of a whole run, as CSV or JSON: a row for each file, and one for each frame of a 4D file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import medgan
from medgan.batch import Item, Result
from medgan.cells import csv_text
from medgan.staging import put_text

COLUMNS = (
    "input",
    "frame",
    "output",
    "status",
    "seconds",
    "sigma_before",
    "sigma_after",
    "residual_rms",
    "suspicions",
    "error",
    "model",
    "model_version",
    "medgan_version",
)

ENDINGS = (".csv", ".json")


def rows(items: Sequence[Item], results: Sequence[Result | None]) -> list[dict[str, Any]]:
    """The rows by their columns, in the order of the items; a file without a result was not reached or not finished."""
    found: list[dict[str, Any]] = []
    for item, result in zip(items, results, strict=True):
        start = {"input": str(item.source), "medgan_version": medgan.__version__}
        if result is None:
            found.append({**start, "status": "not done"})
            continue
        report, failed = result.report, bool(result.error)
        said = {"output": None if failed else str(item.target), "status": result.status, "error": result.error or None}
        models = {"model": report.get("model"), "model_version": report.get("model_version")}
        found.append({**start, **said, **models, **_figures(report)})
        for frame in report.get("frames", []):
            found.append({**start, "frame": frame["frame"], **said, **models, **_figures(frame)})
    return [{name: row.get(name) for name in COLUMNS} for row in found]


def is_report(path: Path) -> bool:
    """Whether a file was written by :func:`write`, or has nothing in it."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(200)
    except OSError:
        return False
    begins = ",".join(COLUMNS[:4]) if path.suffix.lower() == ".csv" else '{\n  "version"'
    return not start or start.startswith(begins)


def write(path: Path, table: Sequence[dict[str, Any]]) -> None:
    """Write the table in the format that the ending names; it appears complete or not at all. Raises ``OSError``."""
    if path.suffix.lower() == ".json":
        text = json.dumps({"version": medgan.__version__, "files": list(table)}, indent=2, ensure_ascii=False) + "\n"
    else:
        text = csv_text(COLUMNS, [[row.get(name) for name in COLUMNS] for row in table])
    put_text(text, path, errors="replace")


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    if not report:
        return {}
    return {
        "seconds": report.get("total_seconds", report.get("seconds")),
        "sigma_before": report.get("sigma_before"),
        "sigma_after": report.get("sigma_after"),
        "residual_rms": (report.get("consistency") or {}).get("residual_rms"),
        "suspicions": len(report.get("suspicions", [])),
    }
