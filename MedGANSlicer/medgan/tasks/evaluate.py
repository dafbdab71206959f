"""Evaluate volumes and label maps of a scene: how good results are, alone, against a reference, or as sets.

Inputs are named ``role``, ``role method``, ``role/case`` or ``role method/case``. Roles: "result" (its method is called
"result" unless named), "reference", "before" (what the results were made from), "mask" (images are measured inside it)
and "segments" (signal and contrast are measured in them). What has no case serves every case. Labels that overlap are
several label maps, the further ones named as ``role//2`` or ``role method/case//2``. Returns no volumes; the report is
that of ``medgan.evaluation.table.Evaluation.to_dict``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import medgan
from medgan.evaluation.cases import Case, Source, evaluate_cases
from medgan.evaluation.labels import layered
from medgan.evaluation.sets import Features, evaluate_sets
from medgan.evaluation.table import Evaluation
from medgan.progress import Progress, silent
from medgan.settings import EvaluateSettings, Figures
from medgan.tasks import Outputs
from medgan.volume import LabelMap, Volume

ROLES = ("result", "reference", "before", "mask", "segments")


def run(
    inputs: Mapping[str, Volume | LabelMap],
    settings: EvaluateSettings,
    progress: Progress = silent,
    features: Features | None = None,
) -> Outputs:
    """Every figure of the results among the inputs.

    Cases that fail are rows of the report with their reason. Raises ``ValueError`` when nothing could be measured, with
    the first reason, ``Cancelled`` when progress says so. ``features`` stands in for the shipped feature network.
    """
    begun = time.monotonic()
    settings.check()
    cases = _cases(inputs)
    kind = _kind(cases, settings)
    if kind is Figures.SETS:
        evaluation = _sets(cases, settings, progress, features)
    else:
        evaluation = evaluate_cases(kind, cases, settings, progress)
    measured = [row for row in evaluation.rows if not row.get("error")]
    if not measured:
        raise ValueError(evaluation.rows[0]["error"])
    about = {"task": "evaluate", "package_version": medgan.__version__, "seconds": round(time.monotonic() - begun, 2)}
    return Outputs(report={**about, **evaluation.to_dict()})


def _cases(inputs: Mapping[str, Volume | LabelMap]) -> list[Case]:
    """The inputs by case. Raises ``ValueError`` for a name that says nothing, or when there is no result."""
    parsed: dict[tuple[str, str, str], list[Volume | LabelMap]] = {}
    for name, volume in inputs.items():
        parsed.setdefault(_parsed(name), []).append(volume)
    names = list(dict.fromkeys(case for _, _, case in parsed if case)) or [""]
    cases = {name: Case(name) for name in names}
    # What serves every case comes first, so that what belongs to one replaces it there.
    for (role, method, of), held in sorted(parsed.items(), key=lambda entry: bool(entry[0][2])):
        layers = [each for each in held if isinstance(each, LabelMap)]
        volume = layered(layers) if layers else held[0]
        for case in [cases[of]] if of else cases.values():
            if role == "result":
                case.results[method or "result"] = _source(volume)
            else:
                setattr(case, role, _source(volume))
    if not any(case.results for case in cases.values()):
        raise ValueError("There is no result to evaluate; choose at least one volume or segmentation.")
    return list(cases.values())


def _parsed(name: str) -> tuple[str, str, str]:
    """Role, method and case; the layers of one thing have the same."""
    before, _, case = name.partition("//")[0].partition("/")
    role, _, method = before.partition(" ")
    if role not in ROLES or (method and role != "result"):
        raise ValueError(f"The input '{name}' has no known role; it must begin with one of {', '.join(ROLES)}.")
    return role, method.strip(), case


def _source(volume: Volume | LabelMap) -> Source:
    return lambda: volume


def _kind(cases: list[Case], settings: EvaluateSettings) -> Figures:
    has_reference = any(case.reference for case in cases)
    if settings.figures is not Figures.AUTO:
        if settings.figures is not Figures.VOLUMES and not has_reference:
            raise ValueError(f"{settings.figures.label()} need a reference; choose one.")
        return settings.figures
    if not has_reference:
        return Figures.VOLUMES
    source = next(case.reference for case in cases if case.reference)
    return Figures.SEGMENTATIONS if isinstance(source(), LabelMap) else Figures.IMAGES


def _sets(cases: list[Case], settings: EvaluateSettings, progress: Progress, features: Features | None) -> Evaluation:
    if features is None:
        from medgan.evaluation.features import features
    assert features is not None
    methods = dict.fromkeys(method for case in cases for method in case.results)
    results = {
        method: {case.name: case.results[method] for case in cases if method in case.results} for method in methods
    }
    reference = {case.name: case.reference for case in cases if case.reference}
    return evaluate_sets(results, reference, settings, progress, features)
