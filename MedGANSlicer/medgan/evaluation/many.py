"""The evaluation of files: which result belongs to which reference, by folder and name."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medgan.evaluation.cases import Case, Source, evaluate_cases
from medgan.evaluation.labels import layered
from medgan.evaluation.sets import Features, evaluate_sets
from medgan.evaluation.table import Evaluation
from medgan.labelfiles import holds_segments, names_beside, read_label_maps, table_beside
from medgan.progress import Progress, silent
from medgan.settings import EvaluateSettings, Figures
from medgan.volume import LabelMap, Volume, VolumeError, file_format, read_volume, stem_of

SEPARATORS = ("_", "-", ".", " ")
"""What may follow the name of a case in the name of its result, as in "p1_enhanced"."""

SIDE_PRODUCTS = ("_difference", "_residual", "_uncertainty")
"""Endings of files beside a result that are no result."""

LABELS = ("_labels", "_dseg")
"""Endings of label maps beside the volume they belong to."""

SMOOTH_SHARE = 0.7
"""Share of neighbours with a label that have the same one, from which a file is taken for a label map."""


def evaluate_files(
    results: Sequence[Path],
    reference: Path | None,
    settings: EvaluateSettings,
    *,
    mask: Path | None = None,
    before: Path | None = None,
    segments: Path | None = None,
    progress: Progress = silent,
    features: Features | None = None,
) -> Evaluation:
    """Every figure of the results, which are files, or folders whose names are the methods.

    Results belong to the reference of the same name ("p1_enhanced" to "p1"); a single reference file is that of all. So
    do the files of ``mask``, ``before`` and ``segments``. Results without a reference, references without a result, and
    cases that fail are rows with their reason. Raises ``ValueError`` for what is no evaluation at all.
    """
    methods = _methods(results, reference)
    kind, message = _kind(methods, reference, settings)
    beside = 0
    if kind is not Figures.SEGMENTATIONS:
        kept = {method: volumes_alone(held) for method, held in methods.items()}
        beside = sum(len(held) - len(kept[method]) for method, held in methods.items())
        methods = kept
    if kind is Figures.SETS:
        evaluation = _sets(methods, reference, settings, progress, features)
    else:
        cases = _cases(methods, reference, kind, {"mask": mask, "before": before, "segments": segments})
        evaluation = evaluate_cases(kind, cases, settings, progress)
    if message:
        evaluation.tell(message)
    if beside:
        evaluation.tell(f"Label maps, differences and uncertainties beside their volume were left out ({beside}).")
    return evaluation


def stem(path: Path) -> str:
    """The name of a file without the ending of its format; that of a folder as it is."""
    return stem_of(path) if file_format(path) else Path(os.path.abspath(path)).name


def volumes_in(path: Path) -> dict[str, Path]:
    """The volumes of a folder by their names: files, else those in ``sub-*/anat`` (BIDS), else sub-folders (DICOM
    series), else the folder itself.

    A file stands for itself. Raises :class:`VolumeError` for two files of one name.
    """
    if not path.is_dir():
        return {stem(path): path}
    files = _files_in(path) or [file for folder in sorted(path.glob("sub-*/**/anat")) for file in _files_in(folder)]
    files = files or sorted(inner for inner in path.iterdir() if inner.is_dir() and inner.name[0] != ".") or [path]
    found: dict[str, Path] = {}
    for file in files:
        if stem(file) in found:
            raise VolumeError(f"'{path}' holds '{found[stem(file)].name}' and '{file.name}'; keep one of them there.")
        found[stem(file)] = file
    return found


def _files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and file_format(file) and file.name[0] != ".")


def volumes_alone(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files without the label maps, differences and uncertainties that lie beside the volume they belong to."""
    kept = {}
    for name, file in files.items():
        ending = next((ending for ending in (*SIDE_PRODUCTS, *LABELS) if name.endswith(ending)), None)
        main = name.removesuffix(ending) if ending else ""
        bids = ending == "_dseg" and any(
            other.startswith(f"{main}_") and not other.endswith(LABELS) and files[other].parent == file.parent
            for other in files
        )
        if not (main in files or bids):
            kept[name] = file
    return kept


def _methods(results: Sequence[Path], reference: Path | None) -> dict[str, dict[str, Path]]:
    """The results of each method by name."""
    if not results:
        raise ValueError("There is nothing to evaluate; name files or folders of results.")
    missing = next((path for path in (*results, *([reference] if reference else ())) if not path.exists()), None)
    if missing is not None:
        raise VolumeError(f"There is no file or folder '{missing}'; check the spelling.")
    files = [path for path in results if not path.is_dir()]
    one_case = len(files) == len(results) and reference is not None and not reference.is_dir()
    methods: dict[str, dict[str, Path]] = {}
    if one_case:  # several files against one: each is a method
        for path in files:
            methods.setdefault(_free(stem(path), path, methods), {})[stem(path)] = path
        return methods
    for path in results:
        if path.is_dir():
            methods[_free(Path(os.path.abspath(path)).name, path, methods)] = volumes_in(path)
    folders: dict[Path, list[Path]] = {}
    for path in files:
        folders.setdefault(Path(os.path.abspath(path)).parent, []).append(path)
    for folder, group in folders.items():
        held = methods.setdefault(_free(folder.name, folder, methods), {})
        for path in group:
            if stem(path) in held:
                raise VolumeError(f"'{held[stem(path)]}' and '{path}' have one name; give them different ones.")
            held[stem(path)] = path
    return methods


def _free(name: str, path: Path, taken: Mapping[str, object]) -> str:
    """A name for a method that no other one has."""
    if name in taken:
        name = f"{Path(os.path.abspath(path)).parent.name}/{name}"
    if name in taken:
        raise ValueError(f"'{path}' is given twice; name each result once.")
    return name


def _kind(
    methods: Mapping[str, Mapping[str, Path]], reference: Path | None, settings: EvaluateSettings
) -> tuple[Figures, str]:
    """What is to be measured, and how that was found out."""
    if settings.figures is not Figures.AUTO:
        if reference is None and settings.figures is not Figures.VOLUMES:
            raise ValueError(f"{settings.figures.label()} need a reference; give a file or folder of it.")
        return settings.figures, ""
    if reference is None:
        return Figures.VOLUMES, ""
    file, truth, sure = _first(volumes_in(reference).values(), f"'{reference}' holds no volume that can be read.")
    if sure:
        return Figures.SEGMENTATIONS, f"'{file.name}' holds labels, so segmentations were measured."
    files = [file for held in methods.values() for file in held.values()]
    other, found, _ = _first(files, "None of the results can be read.")
    one, another = (f"{path.absolute().parent.name}/{path.name}" for path in (file, other))
    if {truth, found} in ({True}, {True, None}):
        said = f"'{one}' and '{another}' look like label maps, so segmentations were measured"
        return Figures.SEGMENTATIONS, f"{said}; choose figures 'images' if not."
    if {truth, found} == {True, False}:
        labels, image = (one, another) if truth else (another, one)
        said = f"'{labels}' looks like a label map and '{image}' does not, so images were measured"
        return Figures.IMAGES, f"{said}; choose figures 'segmentations' if not."
    return Figures.IMAGES, ""


def _first(files: Iterable[Path], otherwise: str) -> tuple[Path, bool | None, bool]:
    """The first of the files that can be read and is not 0 everywhere, whether it looks like labels, and surely is.

    None instead of the former where all are 0. Where none can be read, raises :class:`VolumeError` with that sentence
    and the first reason.
    """
    empty, reason = None, ""
    for file in files:
        try:
            if holds_segments(file) or (names_beside(file) and table_beside(file).is_file()):
                return file, True, True
            volume = read_volume(file)
        except ValueError as error:
            reason = reason or f" {error}"
            continue
        if volume.array.any():
            return file, is_label_map(volume), False
        empty = empty or file
    if empty is None:
        raise VolumeError(otherwise + reason)
    return empty, None, False


def read_labels(path: Path) -> LabelMap:
    """The labels of a file with their names, whole where they overlap. Raises ``ValueError``."""
    return layered(read_label_maps(path))


def _read_mask(path: Path) -> Volume | LabelMap:
    """A mask of any kind; segments that overlap are one mask."""
    return read_labels(path) if holds_segments(path) else read_volume(path)


def is_label_map(volume: Volume) -> bool:
    """Whether a volume looks like labels: whole numbers, few below 0, in patches of one value, however thin.

    Along most axes: along one, slices of an image may be repeated, or those of labels be far apart.
    """
    array = volume.array
    positive = array > 0
    if not np.isfinite(array).all() or not np.array_equal(array, np.rint(array)):
        return False
    if np.count_nonzero(positive) <= np.count_nonzero(array < 0):
        return False
    shares = []
    for axis in range(array.ndim):
        values, labelled = np.moveaxis(array, axis, 0), np.moveaxis(positive, axis, 0)
        both = labelled[:-1] & labelled[1:]  # the border to what has no label says nothing: lesions are little else
        if both.any():
            shares.append(float((values[:-1] == values[1:])[both].mean()))
    return not shares or float(np.median(shares)) >= SMOOTH_SHARE


def _cases(
    methods: Mapping[str, Mapping[str, Path]],
    reference: Path | None,
    kind: Figures,
    extras: Mapping[str, Path | None],
) -> list[Case]:
    read: Callable[[Path], object] = read_labels if kind is Figures.SEGMENTATIONS else read_volume
    if reference is None or not reference.is_dir():
        names = list(dict.fromkeys(name for held in methods.values() for name in held))
        names = (
            [stem(reference)] if reference is not None and all(len(held) == 1 for held in methods.values()) else names
        )
        references = dict.fromkeys(names, reference)
    else:
        references = dict(volumes_in(reference))
    cases = {name: Case(name, reference=_source(read, file)) for name, file in references.items()}
    for method, held in methods.items():
        # A folder that happens to hold one file says nothing of what belongs together; a file that is named does.
        single = len(held) == len(cases) == 1 and not (reference is not None and reference.is_dir())
        found: dict[str, list[Path]] = {}
        for name, file in held.items():
            case = next(iter(cases)) if single else match(name, references)
            if case is None:
                cases[name] = cases.get(name) or Case(name)
                cases[name].problems[method] = f"There is no reference called '{name}' for '{file.name}'."
                continue
            found.setdefault(case, []).append(file)
        for case in references if reference is not None else found:
            _add_result(cases[case], method, found.get(case, []), read)
    if not any(case.results for case in cases.values()):
        raise ValueError(
            "No result is named like a reference; name them alike, or compare them as sets, without pairs "
            "(figures: sets)."
        )
    readers = {"mask": _read_mask, "before": read_volume, "segments": read_labels}
    for role, place in extras.items():
        if place is not None:
            _add_extra(role, place, list(cases.values()), readers[role])
    return list(cases.values())


def _add_result(case: Case, method: str, files: Sequence[Path], read: Callable[[Path], object]) -> None:
    if len(files) > 1:
        exact = [file for file in files if stem(file) == case.name]
        files = exact or [file for file in files if not stem(file).endswith(SIDE_PRODUCTS)]
    if len(files) == 1:
        case.results[method] = _wanted(read, files[0])
    elif files:
        listed = ", ".join(f"'{file.name}'" for file in files)
        case.problems[method] = f"There are several results for '{case.name}': {listed}; keep one in the folder."
    else:
        case.problems[method] = f"There is no result for '{case.name}'."


def _add_extra(role: str, place: Path, cases: Sequence[Case], read: Callable[[Path], object]) -> None:
    if not place.exists():
        raise VolumeError(f"There is no file or folder '{place}'; check the spelling.")
    files = volumes_in(place)
    for case in cases:
        name = match(case.name, files) if place.is_dir() else next(iter(files))
        if name is not None:
            setattr(case, role, _wanted(read, files[name]))
        elif role != "before":  # measured elsewhere than asked for is worse than not measured
            reason = f"There is no file for '{case.name}' in '{place}' ({role})."
            case.problems.update(dict.fromkeys(case.results, reason))
            case.results = {}


def match(name: str, others: Mapping[str, object]) -> str | None:
    """The one of the others that is called the same, up to an ending ("p1_enhanced" and "p1"); None for none."""
    if name in others:
        return name
    shorter = [other for other in others if name.startswith(tuple(other + mark for mark in SEPARATORS))]
    if shorter:
        return max(shorter, key=len)
    longer = [other for other in others if other.startswith(tuple(name + mark for mark in SEPARATORS))]
    return longer[0] if len(longer) == 1 else None


def _source(read: Callable[[Path], object], file: Path | None) -> Source | None:
    return None if file is None else _wanted(read, file)


def _wanted(read: Callable[[Path], object], file: Path) -> Source:
    return functools.partial(read, file)  # type: ignore[return-value]


def _sets(
    methods: Mapping[str, Mapping[str, Path]],
    reference: Path | None,
    settings: EvaluateSettings,
    progress: Progress,
    features: Features | None,
) -> Evaluation:
    if reference is None or not reference.is_dir():
        raise ValueError("Sets need a folder of reference volumes.")
    if features is None:
        from medgan.evaluation.features import features  # imports torch
    assert features is not None
    sources = {
        method: {name: functools.partial(read_volume, file) for name, file in held.items()}
        for method, held in methods.items()
    }
    files = volumes_alone(volumes_in(reference))
    real = {name: functools.partial(read_volume, file) for name, file in files.items()}
    return evaluate_sets(sources, real, settings, progress, features)
