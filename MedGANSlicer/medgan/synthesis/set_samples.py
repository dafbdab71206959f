"""The samples of a set: which they are, what each is made from, and whether it was made before."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan.batch import FileFailed
from medgan.labelfiles import read_map
from medgan.models import sha256_of
from medgan.records import NOT_IN_KEY
from medgan.settings import SynthesizeSettings
from medgan.synthesis.cards import PAINTER, SHAPES, find
from medgan.training import data_names
from medgan.volume import LabelMap, Volume, read_volume, stem_of

DIGITS = 4
"""Of the seed in a name, at least."""


@dataclass(frozen=True)
class Source:
    """A file that samples are made from: the name of the input of the task, where it lies, and what it holds."""

    role: str
    path: Path
    sha256: str

    def said(self, folder: Path) -> dict[str, str]:
        """What a sidecar in ``folder`` says of it."""
        try:
            place = Path(os.path.relpath(self.path, folder)).as_posix()
        except ValueError:  # another drive of Windows
            place = str(self.path.absolute())
        return {"role": self.role, "name": self.path.name, "path": place, "sha256": self.sha256}


@dataclass(frozen=True)
class Sample:
    """One volume of a set. ``number`` counts from 0, ``settings`` are those that make it alone."""

    number: int
    name: str
    patient: str
    settings: SynthesizeSettings
    sources: tuple[Source, ...]

    def key(self, weights: Mapping[str, str]) -> dict[str, Any]:
        """What has to be the same for the sample to be the same."""
        return key_of(self.settings.to_dict(), weights, [(each.role, each.sha256) for each in self.sources])


def key_of(
    settings: Mapping[str, Any], weights: Mapping[str, str], sources: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Plain JSON values; the model counts by its weights, not by where it lies."""
    chosen = {name: value for name, value in settings.items() if name not in (*NOT_IN_KEY, "model")}
    return {"settings": chosen, "weights": dict(weights), "sources": [list(each) for each in sources]}


def task_of(model: str) -> tuple[str, dict[str, str]]:
    """What a model makes volumes from, and the SHA-256 of all weights that take part. Raises ``ModelError``."""
    card = find(model)
    weights = {key: weight.sha256 for key, weight in card.weights.items()}
    painter = card.details.get("painter") or (PAINTER if card.network == SHAPES else "")
    if painter:
        weights |= {f"{painter}/{key}": weight.sha256 for key, weight in find(str(painter)).weights.items()}
    return card.task, weights


def weights_of(held: Mapping[str, Any]) -> dict[str, str]:
    """The same, of what stands beside a sample."""
    weights, painted = dict(held["model_sha256"]), held.get("painted_by") or {}
    return weights | {f"{painted['model']}/{key}": sha for key, sha in painted.get("model_sha256", {}).items()}


def planned(settings: SynthesizeSettings, sources: Sequence[Path], also: Mapping[str, Path], task: str) -> list[Sample]:
    """The samples that are asked for, in order; ``also`` are inputs that all have, by their roles.

    Raises :class:`FileFailed` for files that can not be read.

    Of several label maps a seed takes the one numbered seed modulo their number, so it does not matter how many
    volumes are made together.
    """
    width = max(DIGITS, len(str(settings.seed + settings.count - 1)))
    extra = tuple(Source(role, path, fingerprint(path)) for role, path in also.items())
    maps, channels = [], []
    for number, path in enumerate(dict.fromkeys(sources), 1):
        if task == "label-to-volume":
            maps.append(Source("labels", path, fingerprint(path)))
        else:
            channels.append(Source(f"volume {number}" if number > 1 else "volume", path, fingerprint(path)))
    patients = patients_of(maps or channels[:1])
    samples, ends = [], f"{settings.seed:0{width}d}to{settings.toward:0{width}d}"
    for number in range(settings.count):
        own: dict[str, Any] = {"count": 1}
        seed = settings.seed + number
        name = f"{seed:0{width}d}"
        if settings.toward >= 0:
            seed = settings.seed
            name = f"{ends}at{number + 1:03d}"
            own["mix"] = number / (settings.count - 1) if settings.count > 1 else settings.mix
        elif task == "translate":
            name = plain_word(channels[0].path)
        used = (maps[seed % len(maps)],) if maps else tuple(channels)
        patient = patients[used[0]] if used else f"sub-{name}" if settings.toward < 0 else f"sub-{ends}"
        alone = SynthesizeSettings.from_dict({**settings.to_dict(), **own, "seed": seed})
        assert isinstance(alone, SynthesizeSettings)
        samples.append(Sample(number, name, patient, alone, used + extra))
    return samples


def patients_of(sources: Sequence[Source]) -> dict[Source, str]:
    """Whose each file is, by which samples made from it stay together: what training takes from its name, and only
    where that tells files apart no more, with the folders in which they differ ("bert" of bert/mri/aseg.nii.gz)."""
    paths = {source: source.path.absolute() for source in sources}
    drives = {path.drive for path in paths.values()}
    root = os.path.commonpath([path.parent for path in paths.values()]) if len(drives) == 1 else ""
    plain = {source: data_names.patient(stem_of(path)) for source, path in paths.items()}
    whole = {}
    for source, path in paths.items():
        parent = path.parent.relative_to(root or path.anchor)
        whole[source] = data_names.patient((parent / stem_of(path)).as_posix())
    count = Counter(name for name, _ in {(plain[source], whole[source]) for source in sources})
    return {
        source: plain[source] if count[plain[source]] == 1 and name.endswith(f"/{plain[source]}") else name
        for source, name in whole.items()
    }


def plain_word(path: Path) -> str:
    """The name of a file without its ending, letters and digits only, as names in BIDS are."""
    return re.sub(r"[^A-Za-z0-9]", "", stem_of(path)) or "scan"


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder. Raises :class:`FileFailed`."""
    try:
        if not path.is_dir():
            return sha256_of(path)
        whole = hashlib.sha256()
        for file in sorted(each for each in path.iterdir() if each.is_file()):
            whole.update(f"{file.name} {sha256_of(file)}\n".encode())
        return whole.hexdigest()
    except OSError as error:
        raise FileFailed(f"'{path}' can not be read: {error.strerror}.") from error


def read_source(source: Source, told: list[str] | None = None) -> Volume | LabelMap:
    """What the task gets. Names of labels come from the file or the table beside it; ``told`` gets what to know."""
    if source.role != "labels":
        return read_volume(source.path)
    labels, said = read_map(source.path)
    if told is not None:
        told += [f"{source.path.name}: {sentence}" for sentence in said]
    return labels
