"""From the volumes that were found to training cases: what belongs together, by folders or endings of names."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from medgan.settings import Pairing, TrainKind, TrainSettings
from medgan.training import data_names as names
from medgan.training.data_cases import CALLED, Case, Cases
from medgan.training.data_classes import classes_of_folders, classes_of_rows
from medgan.training.data_files import DataError, Found, Search
from medgan.training.data_rows import cases_of_rows
from medgan.volume import LabelMap


def find_cases(found: Search, settings: TrainSettings) -> Cases:
    """The cases of a search. Raises :class:`DataError` when the names do not tell what a kind needs to know."""
    if settings.kind is TrainKind.CLASSIFY:
        result = classes_of_rows(found, settings) if found.rows else classes_of_folders(found.volumes)
    else:
        result = cases_of_rows(found, settings) if found.rows else _from_names(found.volumes, settings)
    result.rejected[:0] = found.rejected
    for case in result.cases:
        files = [one.path for volumes in case.volumes.values() for one in volumes if one.path is not None]
        case.patient = next((found.patients[path] for path in files if path in found.patients), case.patient)
    if not found.patients and not any(row.patient for row in found.rows):
        _name_patients(result)
    first: dict[str, str] = {}
    for case in result.cases:  # whoever is called "A" here and "a" there must not be on both sides of the split
        case.patient = first.setdefault(case.patient.casefold(), case.patient)
    return result


def _from_names(volumes: list[Found], settings: TrainSettings) -> Cases:
    result = Cases()
    tests = [one for one in volumes if names.without(one.name, names.TESTS) is not None]
    result.rejected += [(one.shown, "A test volume by its folder (imagesTs); it takes no part.") for one in tests]
    volumes = [one for one in volumes if one not in tests]
    kind = settings.kind
    if kind in (TrainKind.SEGMENT, TrainKind.LABEL_TO_VOLUME):
        _with_labels(volumes, settings, result)
    elif kind is TrainKind.TRANSLATE:
        first, second = _two_sets(volumes, settings, result)
        _matched(result, first, second, ("source", "target"), settings)
    elif kind is TrainKind.ENHANCE and (sets := _degraded_and_clean(volumes, settings, result)):
        _matched(result, *sets, ("input", "target"), settings)
    else:
        role = "target" if kind is TrainKind.ENHANCE else "image"
        for one in _images_only(volumes, result):
            result.cases.append(Case(one.shown, names.patient(one.name), {role: [one]}))
        result.paired = False
    return result


def _is_labels(one: Found, words: Collection[str] = names.LABELS) -> bool:
    return isinstance(one.volume, LabelMap) or (one.volume is None and names.without(one.name, words) is not None)


def _images_only(volumes: Iterable[Found], result: Cases) -> list[Found]:
    images = []
    for one in volumes:
        if _is_labels(one):
            result.rejected.append((one.shown, "A label map by its name; this kind of training needs images alone."))
        else:
            images.append(one)
    return images


def _with_labels(volumes: list[Found], settings: TrainSettings, result: Cases) -> None:
    label_words = names.asked(settings.target) if settings.target else names.LABELS
    image_words = names.asked(settings.source) if settings.source else names.IMAGES
    labels = [one for one in volumes if _is_labels(one, label_words)]
    images = [one for one in volumes if one not in labels]
    if settings.source:
        others = [one for one in images if names.without(one.name, image_words) is None]
        result.rejected += [(one.shown, f"Its name has no '{settings.source}'.") for one in others]
        images = [one for one in images if one not in others]
    needs_images = settings.kind is TrainKind.LABEL_TO_VOLUME
    if not labels and needs_images:
        raise DataError(
            "No label maps were found; put them into a folder 'labels' beside a folder 'images', or end their names "
            "in _seg."
        )
    if not labels or not images:
        if needs_images:
            raise DataError("Only label maps were found; this kind of training also needs an image for each of them.")
        if not labels and settings.source:
            raise DataError(f"No label maps were found beside the images named '{settings.source}'.")
        result.messages.append(
            "There are label maps and no images: images are made from the label maps, new ones for every step."
            if labels
            else "No name says label map or image: all are taken for label maps, and images are made from them."
        )
        for one in labels or images:
            result.cases.append(Case(one.shown, names.patient(one.name), {"labels": [one]}))
        result.paired = False
        return
    by_key = _by_key(labels, label_words, result)
    channels: dict[str, dict[int, Found]] = {}
    plain = []
    for one in images:
        numbered = names.channel(_image_name(one, image_words))
        if numbered and numbered[0] in by_key:
            channels.setdefault(numbered[0], {})[numbered[1]] = one
        else:
            plain.append(one)
    for name, numbered_images in channels.items():
        label = by_key.pop(name)
        ordered = [numbered_images[number] for number in sorted(numbered_images)]
        result.cases.append(Case(name, names.patient(label.name), {"image": ordered, "labels": [label]}))
    _matched(result, _by_key(plain, image_words, result), by_key, ("image", "labels"), settings)


def _image_name(one: Found, words: Collection[str]) -> str:
    """The name without the folder that says that it is an image."""
    *folders, stem = one.name.split("/")
    return "/".join([*(folder for folder in folders if folder.lower() not in words), stem])


def _by_key(volumes: Iterable[Found], words: Collection[str], result: Cases) -> dict[str, Found]:
    """Volumes by the key without the word of their role; a second one of the same key is set aside."""
    held: dict[str, Found] = {}
    for one in volumes:
        stripped = names.without(one.name, words)
        name = names.key(one.name) if stripped is None else stripped
        if name in held:
            result.rejected.append((one.shown, f"It has the same name as '{held[name].shown}' but for its role."))
        else:
            held[name] = one
    return held


def _degraded_and_clean(
    volumes: list[Found], settings: TrainSettings, result: Cases
) -> tuple[dict[str, Found], dict[str, Found]] | None:
    """The two sets of a training from pairs; None when the volumes are clean ones to be degraded on the fly."""
    named = bool(settings.source or settings.target)
    if settings.pairing is Pairing.UNPAIRED:
        return None
    first = names.asked(settings.source) if settings.source else names.DEGRADED
    second = names.asked(settings.target) if settings.target else names.CLEAN
    inputs = [one for one in volumes if names.without(one.name, first) is not None]
    targets = [one for one in volumes if one not in inputs and names.without(one.name, second) is not None]
    if not inputs or not targets:
        if named or settings.pairing is Pairing.PAIRED:
            raise DataError(
                "No pairs were found; put the volumes into two folders 'input' and 'target', or end their names in "
                "_input and _target."
            )
        return None
    rest = [one for one in volumes if one not in inputs and one not in targets]
    result.rejected += [(one.shown, "Its name says neither input nor target.") for one in rest]
    return _by_key(inputs, first, result), _by_key(targets, second, result)


def _two_sets(
    volumes: list[Found], settings: TrainSettings, result: Cases
) -> tuple[dict[str, Found], dict[str, Found]]:
    """Source and target of a translation: by the names given, by role words, endings, or the two folders there are."""
    volumes = _images_only(volumes, result)
    pairs: list[tuple[Collection[str], Collection[str]]] = []
    if settings.source and settings.target:
        pairs = [(names.asked(settings.source), names.asked(settings.target))]
    elif settings.source or settings.target:
        raise DataError("Name both the source and the target, or neither.")
    else:
        pairs = [(names.SOURCES, names.TARGETS)]
        for words in (
            _endings(volumes),
            sorted({one.name.split("/")[0].lower() for one in volumes if "/" in one.name}),
        ):
            if len(words) == 2:
                pairs.append(({words[0]}, {words[1]}))
    for number, (first, second) in enumerate(pairs):
        sources = [one for one in volumes if names.without(one.name, first) is not None]
        targets = [one for one in volumes if one not in sources and names.without(one.name, second) is not None]
        if sources and targets:
            if number:
                (one,), (other,) = first, second
                result.messages.append(
                    f"Source is '{one}' and target '{other}', in the order of their names; naming the source and the "
                    "target changes that."
                )
            rest = [one for one in volumes if one not in sources and one not in targets]
            result.rejected += [(one.shown, "Its name says neither source nor target.") for one in rest]
            return _by_key(sources, first, result), _by_key(targets, second, result)
    if settings.source:
        raise DataError(f"No volumes are named '{settings.source}' and '{settings.target}', by a folder or an ending.")
    endings = _endings(volumes)
    several = f" (there are the endings {', '.join(endings[:6])})" if len(endings) > 2 else ""
    raise DataError(
        f"The names do not tell source from target{several}; put the volumes into two folders 'source' and 'target', "
        "or name both by an ending of their names, such as T1 and T2."
    )


def _endings(volumes: Iterable[Found]) -> list[str]:
    """The last words of the names that have more than one word, in order; numbers are none."""
    last = [names.tokens(one.name.split("/")[-1]) for one in volumes]
    if any(not said for said in last):
        return []
    return sorted({said[-1] for said in last if not said[-1].isdigit()})


def _matched(
    result: Cases, first: dict[str, Found], second: dict[str, Found], roles: tuple[str, str], settings: TrainSettings
) -> None:
    """Add a case for each pair of the same key; of the rest say what is missing, or take them without pairs."""
    pairs = [(name, name) for name in first if name in second]
    left = [name for name in first if name not in second]
    free = [name for name in second if name not in first]
    for name in free:
        near = [other for other in left if _belongs(other, name)]
        if len(near) == 1:
            pairs.append((near[0], name))
            left.remove(near[0])
        elif near:
            shown = " and ".join(f"'{first[other].shown}'" for other in near[:3])
            sentence = f"{len(near)} volumes go with it ({shown}); name the source to say which."
            result.rejected.append((second[name].shown, sentence))
    matched = {other for _, other in pairs}
    translate = settings.kind is TrainKind.TRANSLATE
    if translate and (settings.pairing is Pairing.UNPAIRED or (not pairs and settings.pairing is Pairing.AUTO)):
        for role, volumes in zip(roles, (first, second), strict=True):
            for one in volumes.values():
                result.cases.append(Case(one.shown, names.patient(one.name), {role: [one]}))
        result.paired = False
        result.messages.append("Source and target are two sets without pairs (CycleGAN).")
        return
    if not pairs and not result.cases and first and second:
        one, other = next(iter(first.values())), next(iter(second.values()))
        raise DataError(
            f"No {CALLED[roles[0]]} has a {CALLED[roles[1]]} of its name: there are {len(first)} and {len(second)}, "
            f"the first ones are '{one.shown}' and '{other.shown}'."
        )
    for name, partner in pairs:
        both = {roles[0]: [first[name]], roles[1]: [second[partner]]}
        result.cases.append(Case(first[name].shown, names.patient(first[name].name), both))
    said = {shown for shown, _ in result.rejected}
    for name in left:
        result.rejected.append((first[name].shown, f"There is no {CALLED[roles[1]]} of its name."))
    for name in free:
        if name not in matched and second[name].shown not in said:
            result.rejected.append((second[name].shown, f"There is no {CALLED[roles[0]]} of its name."))


def _belongs(longer: str, shorter: str) -> bool:
    """Whether one key is the other and more words: "p1_t1" and "p1"."""
    one, other = sorted((longer, shorter), key=len)
    return bool(one) and other.startswith(one) and other[len(one) : len(one) + 1] in ("_", "/")


def _name_patients(result: Cases) -> None:
    """Where the names tell one patient for all, each case counts as one of its own, and that is said."""
    if len(result.cases) > 1 and len({case.patient for case in result.cases}) == 1:
        keys = {case.name for case in result.cases}
        if len(keys) == len(result.cases) and not result.cases[0].patient.startswith("sub-"):
            for case in result.cases:
                case.patient = case.name
            result.messages.append(
                "The names do not tell patients apart, so each volume counts as a patient of its own; a list (.csv) "
                "with a column 'patient' would know better."
            )
