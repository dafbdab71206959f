"""One report for the frames of a 4D file: what they share, their means, and each one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEANS = ("sigma_before", "sigma_after", "mean_absolute_change")
OWN = ("seconds", "sigma_before", "sigma_after", "mean_absolute_change", "largest_change", "consistency", "steps")
"""What a frame's own row holds, besides its messages and suspicions."""


def merged(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The report of a file from those of its frames, by "frame N": the figures are means, ``frames`` holds the rows."""
    rows = [dict(report) for report in reports.values()]
    whole = dict(rows[0])
    for name in MEANS:
        whole[name] = sum(row[name] for row in rows) / len(rows)
    whole["largest_change"] = max(row["largest_change"] for row in rows)
    whole["seconds"] = round(sum(row["seconds"] for row in rows), 2)
    if "consistency" in whole:
        parts = [row["consistency"] for row in rows]
        whole["consistency"] = {name: _mean([part.get(name) for part in parts]) for name in parts[0]}
    whole["messages"] = _messages(reports)
    if "suspicions" in whole:
        whole["suspicions"] = [
            {**suspicion, "frame": _number(name), "sentence": f"{name.capitalize()}: {suspicion['sentence']}"}
            for name, report in reports.items()
            for suspicion in report["suspicions"]
        ]
    shared = ("messages", "suspicions")
    whole["frames"] = [
        {"frame": _number(name), **{key: report[key] for key in (*OWN, *shared) if key in report}}
        for name, report in reports.items()
    ]
    return whole


def _messages(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every message once; with the first frame's name, unless all frames have it."""
    found: dict[str, list[str]] = {}
    for name, report in reports.items():
        for message in report["messages"]:
            found.setdefault(message, []).append(name)
    return [
        message if len(names) == len(reports) else f"{_listed(names)}: {message}" for message, names in found.items()
    ]


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:3]).capitalize()}{' ...' if len(names) > 3 else ''}"


def _mean(values: list[Any]) -> float | None:
    return None if any(value is None for value in values) else sum(values) / len(values)


def _number(name: str) -> int:
    return int(name.removeprefix("frame "))
