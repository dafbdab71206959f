"""What is trained on together: a training case, its roles, and what was found of them.

Nothing is read here. A case has a name, a patient, and one or more volumes for each role; the roles of a kind are

- enhance: "target" (clean), or "input" and "target"; from-noise and autoencoder: "image"
- translate: "source" and "target", one of them alone where there are no pairs
- segment: "labels" and, unless images are made on the fly, "image"; label-to-volume: "labels" and "image"
- classify: "image", and the case has a group: its class
"""

from __future__ import annotations

from dataclasses import dataclass, field

from medgan.settings import TrainKind
from medgan.training.data_files import Found

ROLES = {
    TrainKind.ENHANCE: ("input", "target"),
    TrainKind.TRANSLATE: ("source", "target"),
    TrainKind.LABEL_TO_VOLUME: ("labels", "image"),
    TrainKind.FROM_NOISE: ("image",),
    TrainKind.SEGMENT: ("image", "labels"),
    TrainKind.AUTOENCODER: ("image",),
    TrainKind.CLASSIFY: ("image",),
}
WHOLE = (TrainKind.FROM_NOISE, TrainKind.CLASSIFY)
"""Kinds whose samples are whole volumes, brought to one cube."""

CALLED = {"input": "input", "target": "target", "source": "source", "labels": "label map", "image": "image"}


@dataclass(eq=False)
class Case:
    """What is trained on together. ``volumes``: role to its channels."""

    name: str
    patient: str
    volumes: dict[str, list[Found]]
    group: str = ""
    """Classification: what it is an example of."""


@dataclass
class Cases:
    """The cases, what takes no part and why, and what the person should know of how they were found."""

    cases: list[Case] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    paired: bool = True
