"""Names of volumes in labels: scanners and archives write long ones without a space."""

from __future__ import annotations


def breakable(text: str) -> str:
    """The text for a label that wraps words: a line may end after an underscore, where Qt would make it wider."""
    return text.replace("_", "_\u200b")
