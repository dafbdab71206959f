"""What a person wants to know of a volume."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _


class RecogniseQuestion(Enum):
    WHAT = "what"
    UNUSUAL = "unusual"

    def label(self) -> str:
        return _("What is it, and how good?") if self is RecogniseQuestion.WHAT else _("What looks unusual?")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the models that answer it."""
        return ("recognise", "classify") if self is RecogniseQuestion.WHAT else ("anomaly", "autoencoder")
