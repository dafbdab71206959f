"""What the name of a volume says: its role, its patient, and the key by which a pair finds together.

"imagesTr/case_03_0000" and "labelsTr/case_03" have the key "case_03"; "sub-01/ses-2/sub-01_ses-2_T1w" is of patient
"sub-01".
"""

from __future__ import annotations

import re
from collections.abc import Collection


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LABELS = _words(
    "label labels labelmap labelmaps seg segs segmentation segmentations mask masks dseg aseg gt groundtruth roi annot "
    "annotation annotations labelstr"
)
IMAGES = _words("image images img imgs scan scans volume volumes imagestr raw")
TESTS = _words("imagests labelsts")
"""Test volumes of the folder layout of nnU-Net: never to train on."""

SOURCES = _words("source sources src a traina")
TARGETS = _words("target targets tgt trg b trainb")
DEGRADED = _words("input inputs noisy low lowdose ldct degraded blurred thick lowres lr lq source sources accelerated")
CLEAN = _words("target targets clean high fulldose ndct hdct sharp thin highres hr hq reference references truth")

_CONTRAST = re.compile(
    r"(?:t1|t2|t1w|t2w|t2star|t1c|t1ce|t1gd|t1post|pd|pdw|flair|swi|dwi|adc|bold|mr|mri|ct|cbct|ldct|pet|spect|us|"
    r"echo\d*|run|run\d+|acq\w*|rec\w*|ce\w*|desc\w*|space\w*|preproc|brain|orig|n4|bias|reg|resampled)$"
)
_SESSION = re.compile(
    r"(?:ses|session|visit|tp|timepoint|time|scan|date|week|month|year)\w*$|(?:v|t|m)\d{1,2}$|baseline$|follow\w*$|"
    r"(?:19|20)\d{6}$|pre$|post$"
)
_CHANNEL, _YEAR = re.compile(r"000\d$"), re.compile(r"(?:19|20)\d\d$")
"""Four digits that are no number of a patient, where they stand after one."""
_BIDS = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)")
_GLUED = re.compile(r"(img|image|lbl|label|seg|mask)(\d+)$")


def tokens(stem: str) -> list[str]:
    """The words of a file name, in lower case."""
    return [word for word in re.split(r"[_\-. ]+", stem.lower()) if word]


def key(name: str) -> str:
    """A name in the form in which names are compared."""
    *folders, stem = name.split("/")
    return "/".join([*(folder.lower() for folder in folders), "_".join(tokens(stem))])


def asked(text: str) -> frozenset[str]:
    """The words for :func:`without` of a folder or ending that a person names, also as "_T1" or "raw/"."""
    lowered = text.lower()
    return frozenset({lowered, lowered.strip("_-. /")} - {""})


def without(name: str, words: Collection[str]) -> str | None:
    """The key of a name that bears one of the words as a folder or at an end of the file's name; else None.

    Single letters count as folders only ("A/case1", not "case1_a"), unless the name has nothing else.
    """
    *folders, stem = name.split("/")
    for place, folder in enumerate(folders):
        if folder.lower() in words:
            return key("/".join([*folders[:place], *folders[place + 1 :], stem]))
    said = tokens(stem)
    glued = _GLUED.match(stem.lower())
    if glued and glued[1] in words:
        return key("/".join([*folders, glued[2]]))
    long = {word for word in words if len(word) > 1 or len(said) == 1}
    for size in (1, 2):  # a word that a person names may be two tokens: "T1_post"
        if len(said) >= size:
            for chosen, rest in ((said[-size:], said[:-size]), (said[:size], said[size:])):
                if "_".join(chosen) in long or "-".join(chosen) in long:
                    return "/".join([*(folder.lower() for folder in folders), *(["_".join(rest)] if rest else [])])
    return None


def channel(name: str) -> tuple[str, int] | None:
    """The key and the channel of a name that ends in four digits, as nnU-Net has them: "case_03_0001"."""
    found = re.match(r"(.+)_(\d{4})$", name)
    return (key(found[1]), int(found[2])) if found else None


def patient(name: str, channels: bool = True) -> str:
    """Whose volume it is: the BIDS subject, else the name before a session, a contrast or a role.

    ``channels``: "0000" to "0009" after a number, or in the folders of nnU-Net, say which channel of a patient it is.
    """
    found = _BIDS.search(name)
    if found:
        return found[1]
    *folders, stem = name.split("/")
    roles = LABELS | IMAGES | TESTS | SOURCES | TARGETS | DEGRADED | CLEAN
    places = [folder for folder in folders if folder.lower() not in roles]
    said = tokens(stem)
    of_nnunet = any(folder.lower() in TESTS | {"imagestr"} for folder in folders)
    if channels and len(said) > 1 and _CHANNEL.match(said[-1]) and (of_nnunet or said[-2][-1].isdigit()):
        said.pop()
    kinds = roles - SOURCES - TARGETS | {"source", "target"}
    while said and (_passing(said[-1]) or said[-1] in kinds or _is_year(said)):
        said.pop()
    while said and said[0] in LABELS | IMAGES and len(said) > 1:
        said.pop(0)
    while said and len(said) > 1 and re.fullmatch(r"\d{1,4}", said[-1]) and _passing(said[-2]):
        said[-2:] = []  # "ses-02" is two words
        while said and _passing(said[-1]):
            said.pop()
    while places and (_is_kind(places[-1]) or (len(places) > 1 and _YEAR.match(places[-1]))):
        places.pop()
    if not said and places:
        return "/".join(places)
    return "/".join([*places, "_".join(said)]) if said else name


_KINDS = _words("anat func dwi fmap perf pet nifti nii dicom")
"""Folders between a patient and the files."""


def _is_year(words: list[str]) -> bool:
    return len(words) > 1 and bool(_YEAR.match(words[-1])) and words[-2][-1].isdigit()


def _is_kind(folder: str) -> bool:
    words = tokens(folder)
    return folder.lower() in _KINDS or bool(words and _passing(words[0]))


def _passing(word: str) -> bool:
    return bool(_CONTRAST.match(word) or _SESSION.match(word))
