"""Names of volumes in labels: scanners and archives write long ones without a space."""

from __future__ import annotations

import re

_LONG = re.compile(r"[^\s\u200b]{25,}")
"""What may be wider than a panel, in wide letters."""


def breakable(text: str) -> str:
    """The text for a label that wraps words: a line may end where Qt would make it wider.

    It may end after an underscore, and anywhere in what is still long then. What allows it would be copied with the
    text, so this is nothing for a label whose text can be selected.
    """
    return _LONG.sub(_anywhere, text.replace("_", "_\u200b"))


def _anywhere(long: re.Match[str]) -> str:
    return re.sub(r"(?<=.)(?=\w)", "\u200b", long[0])
