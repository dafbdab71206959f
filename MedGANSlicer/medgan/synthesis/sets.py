"""Made volumes with their label maps as files: one, or a set that is resumed and of which each can be made again."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan import local_runs
from medgan.batch import FileFailed, as_failure
from medgan.bundle import ModelCard
from medgan.job import Job, JobState
from medgan.settings import SynthesizeSettings
from medgan.staging import make_folder
from medgan.synthesis.cards import find, heeded
from medgan.synthesis.files import sidecar_of
from medgan.synthesis.set_layouts import NAMED, Bids, Layout, NnUnet, OneFile
from medgan.synthesis.set_samples import Sample, planned, read_source, task_of
from medgan.synthesis.set_sidecars import (
    Listing,
    entry_of,
    has_key,
    is_made,
    read_sidecar,
    write_sample,
)
from medgan.targets import check_new, check_not_read
from medgan.volume import LabelMap, Volume
from medgan.waiting import BETWEEN_FILES_S
from medgan.writing import check_target

TOGETHER = 4
"""Volumes that one child process makes at most; so many are lost at most when a run is interrupted."""

SUFFIX = {"T1": "T1w", "T2": "T2w", "FLAIR": "FLAIR", "CT": "CT"}
"""Ends of the names of volumes whose contrast is known, as in BIDS."""

GUARDS = ("difference", "uncertainty")
"""What a translation also returns, in volumes of their own; written beside a single result."""


@dataclass(frozen=True)
class Order:
    """What is made, of what, and how.

    ``out``: a folder, or, with ``one_file``, the file of a single volume. ``sources``: label maps, or the channels of
    one scan, or nothing; ``reference`` and ``labels``: inputs of all samples under these names.
    """

    settings: SynthesizeSettings
    out: Path
    sources: tuple[Path, ...] = ()
    reference: Path | None = None
    labels: Path | None = None
    one_file: bool = False
    nnunet: bool = False
    resume: bool = False
    overwrite: bool = False
    jobs: int = 1

    @property
    def also(self) -> dict[str, Path]:
        named = {"reference": self.reference, "labels": self.labels}
        return {role: path for role, path in named.items() if path is not None}

    def layout(self) -> Layout:
        if self.one_file:
            return OneFile(self.out)
        return (NnUnet if self.nnunet else Bids)(self.out, suffix_of(self.settings, find(self.settings.model)))


@dataclass
class _Lot:
    """What became of samples that one child made: what is said of each, and why there is no more."""

    made: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    error: FileFailed | None = None


def make(
    order: Order,
    said: Callable[[Mapping[str, Any]], None] = lambda entry: None,
    watch: Callable[[float, str], None] = lambda fraction, message: None,
) -> list[dict[str, Any]]:
    """Make what is missing of a set; what stands beside every sample that was asked for, with "output" and "status".

    ``said`` gets each as it is ready, ``watch`` how far all of it is. Raises :class:`FileFailed`, ``VolumeError`` or
    ``ModelError``; what was finished before stays, and ``resume`` goes on from there.
    """
    task, weights = task_of(order.settings.model)
    samples = planned(order.settings, order.sources, order.also, task)
    if order.one_file:
        check_target(order.out)
    else:
        make_folder(order.out)
    layout = order.layout()
    guards = GUARDS if task == "translate" else ()
    found: dict[int, dict[str, Any]] = {}
    for sample in samples:
        held = is_made(sidecar_of(layout.image(sample.name)), sample.key(weights)) if order.resume else None
        if held is not None:
            entry = entry_of(held, layout.image(sample.name), "done before")
            found[sample.number] = entry | {"patient": sample.patient}
            said(found[sample.number])
        elif not order.overwrite:
            _refuse_existing(layout, sample, sample.key(weights) if order.resume else None, guards)
    missing = [sample for sample in samples if sample.number not in found]
    if missing:
        _check_room(layout, missing, guards)
        if isinstance(layout, NnUnet):
            maps = {source.path: source for sample in missing for source in sample.sources if source.role == "labels"}
            layout.know(one for each in maps.values() if isinstance(one := read_source(each), LabelMap))
        listing = Listing(layout)
        for entry in found.values():
            listing.add(entry, Path(entry["output"]).parent)
        try:
            for lot in _run(order, layout, missing, len(found) / len(samples), watch):
                for entry in lot.made:
                    found[entry["number"]] = entry
                    listing.add(entry, Path(entry["output"]).parent)
                    said(entry)
                if lot.error is not None:
                    more = f" {len(found)} of {len(samples)} volumes are there; --resume goes on." if found else ""
                    raise FileFailed(f"{lot.error}{more}", lot.error.details) from lot.error
                listing.save()
        finally:
            listing.save(now=True)
    return [found[sample.number] for sample in samples]


def suffix_of(settings: SynthesizeSettings, card: ModelCard) -> str:
    """What the names of volumes end in: the contrast that the model makes, where it is one of those that have a
    name."""
    chosen = next((name for name in ("target", "contrast") if name in heeded(card)), "")
    return SUFFIX.get(str(getattr(settings, chosen).value), "image") if chosen else "image"


def notes(order: Order) -> list[str]:
    """What a person should know of a set before it is made."""
    if order.nnunet and not re.fullmatch(r"Dataset\d{3}_.+", order.out.resolve().name):
        return [f"nnU-Net finds folders that are called {NAMED}; rename '{order.out.name}' before it is to read it."]
    return []


def _refuse_existing(layout: Layout, sample: Sample, key: dict[str, Any] | None, guards: Sequence[str]) -> None:
    """Raise ``ValueError`` for what would be replaced; with a key, not for what was begun with the same."""
    image = layout.image(sample.name)
    beside = sidecar_of(image)
    if key is not None:
        if beside.exists() and not has_key(read_sidecar(beside), key):
            said = "was made from other inputs or with other settings; choose another folder, or add --overwrite"
            raise FileFailed(f"'{image}' {said}.")
        return
    more = [layout.guard(what) for what in guards] if isinstance(layout, OneFile) else []
    for file in (image, beside, layout.labels(sample.name), *more):
        check_new(file, how="--overwrite" if isinstance(layout, OneFile) else "--resume to go on, or --overwrite")


def _check_room(layout: Layout, samples: Sequence[Sample], guards: Sequence[str]) -> None:
    more = [layout.guard(what) for what in guards] if isinstance(layout, OneFile) else []
    sources = {each.path for sample in samples for each in sample.sources}
    for path in {file for one in samples for file in (layout.image(one.name), layout.labels(one.name), *more)}:
        check_not_read(path, sources)
        if not isinstance(layout, OneFile):
            make_folder(path.parent)
        check_target(path)


def _run(
    order: Order,
    layout: Layout,
    missing: Sequence[Sample],
    start: float,
    watch: Callable[[float, str], None],
) -> Iterator[_Lot]:
    """The lots as they get ready. Leaving the iterator ends those that are being made."""
    lots = lots_of(missing, order.jobs)
    settings, environments = local_runs.shares(max(1, min(order.jobs, len(lots))), order.settings)
    done = [0.0] * len(lots)
    shown = threading.Lock()

    def seen(number: int, state: JobState) -> None:
        with shown:
            done[number] = state.fraction * len(lots[number]) / len(missing)
            watch(start + (1.0 - start) * sum(done), state.message)

    def work(number: int, environment: dict[str, str], watched: Callable[[JobState], None]) -> _Lot:
        lot = _Lot()
        try:
            for entry in _made(lots[number], settings, layout, environment, watched):
                lot.made.append(entry)
        except Exception as error:
            lot.error = as_failure(error, lots[number][0].name)
        return lot

    with contextlib.closing(local_runs.spread(len(lots), environments, work, seen)) as ready:  # type: ignore[type-var]
        for _, lot in ready:
            yield lot


def lots_of(samples: Sequence[Sample], jobs: int) -> list[list[Sample]]:
    """Samples that one child makes: with seeds that follow one another, or the way between two seeds as a whole."""
    if samples and samples[0].settings.toward >= 0:
        return [list(samples)]
    most = max(1, min(TOGETHER, -(-len(samples) // max(1, jobs))))
    lots: list[list[Sample]] = []
    for sample in samples:
        last = lots[-1] if lots else []
        if last and len(last) < most and sample.settings.seed == last[-1].settings.seed + 1:
            last.append(sample)
        else:
            lots.append([sample])
    return lots


def _made(
    lot: Sequence[Sample],
    shared: SynthesizeSettings,
    layout: Layout,
    environment: Mapping[str, str],
    watched: Callable[[JobState], None],
) -> Iterator[dict[str, Any]]:
    """Have a child make the samples, write each, and what is said of it."""
    if shared.toward >= 0:  # all that lies between, also what is there already
        settings = shared
        wanted = {sample.number + 1: sample for sample in lot}
    else:
        settings = dataclasses.replace(shared, seed=lot[0].settings.seed, count=len(lot))
        wanted = dict(enumerate(lot, 1))
    told: list[str] = []
    with Job("synthesize", inputs_of(lot, told), settings, environment=environment, stay_s=BETWEEN_FILES_S) as job:
        job.complete(watched)
        report = job.report()
        report["messages"] = [*told, *report["messages"]]
        names = {number: (each["volume"], each.get("labels")) for number, each in enumerate(report["samples"], 1)}
        held: dict[str, Volume | LabelMap] = {}
        waiting = dict(wanted)
        for name, volume in job.each_output():
            held[name] = volume
            for number, sample in list(waiting.items()):
                image, labels = names[number]
                about = report["samples"][number - 1]
                guards = {what: about[what] for what in GUARDS if what in about} if isinstance(layout, OneFile) else {}
                if all(one in held for one in (image, *([labels] if labels else []), *guards.values())):
                    del waiting[number]
                    beside = {}
                    if isinstance(layout, OneFile):
                        beside = {layout.guard(what): held.pop(guarded) for what, guarded in guards.items()}
                    pair = held.pop(image), held.pop(labels) if labels else None
                    yield _written(sample, pair, report, about, layout, beside)
                    watched(JobState(fraction=1.0, message="Writing"))


def inputs_of(lot: Sequence[Sample], told: list[str] | None = None) -> dict[str, Volume | LabelMap]:
    """The inputs of the task: "labels", "labels 2", ... for one sample after the other, where they have several.

    ``told`` gets sentences about what was read.
    """
    maps = [source for sample in lot for source in sample.sources if source.role == "labels"]
    several = list(dict.fromkeys(source.path for source in maps))
    inputs = {source.role: read_source(source) for source in lot[0].sources if source.role != "labels"}
    for number, source in enumerate(maps[: len(several)], 1):  # they come again in the same order
        inputs[f"labels {number}" if number > 1 else "labels"] = read_source(source, told)
    return inputs


def _written(
    sample: Sample,
    pair: tuple[Volume | LabelMap, Volume | LabelMap | None],
    report: Mapping[str, Any],
    about: Mapping[str, Any],
    layout: Layout,
    guards: Mapping[Path, Volume | LabelMap],
) -> dict[str, Any]:
    """Write a sample; what is said of it."""
    image, labels = pair
    path = layout.image(sample.name)
    if isinstance(layout, NnUnet) and labels is None:
        raise FileFailed(f"Model '{report.get('model')}' makes no label maps, which nnU-Net needs; leave out --nnunet.")
    more: dict[str, Any] = {}
    beside = None
    if isinstance(labels, LabelMap):
        stored, more = layout.stored(labels)
        beside = layout.labels(sample.name), stored
    said = write_sample(sample, report, about, (path, image), beside, more, guards)
    return entry_of(said, path, "done") | {
        "number": sample.number,
        "seconds": report["seconds"] / len(report["samples"]),
    }
