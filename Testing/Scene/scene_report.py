"""A report as the engine makes it, for results that no network made. Imports nothing of Slicer."""

from __future__ import annotations


def a_report(**changes) -> dict:
    """The report of an enhancement, as the engine makes it."""
    report = {
        "model": "denoise",
        "model_version": "1.2.3",
        "model_sha256": {"faithful": "ab" * 32, "natural": "cd" * 32},
        "settings": {"model": "denoise", "strength": 1.0, "character": 0.2, "device": "cpu", "seed": 7},
        "seed": 7,
        "package_version": "0.1.0",
        "synthetic": True,
    }
    return {**report, **changes}
