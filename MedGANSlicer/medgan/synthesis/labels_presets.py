"""Which intensities tissues have in the usual kinds of scan, and which tissue a label is."""

from __future__ import annotations

import re
from collections.abc import Iterable

from medgan import freesurfer
from medgan.generation import CONTRASTS, tissue_of
from medgan.inference import Normalisation
from medgan.segmentation import description
from medgan.settings import Contrast
from medgan.volume import Label, LabelMap

PRESETS = (Contrast.T1, Contrast.T2, Contrast.FLAIR, Contrast.CT)

SPREADS = {
    "white": 0.05, "deep": 0.06, "grey": 0.085, "fluid": 0.07, "vessel": 0.1, "eye": 0.05, "soft": 0.13, "muscle": 0.08,
    "skin": 0.15, "cortical": 0.05, "cancellous": 0.1, "air": 0.01,
}  # fmt: skip
"""Standard deviation of MR intensities within a tissue, where 1 is the brightest of the scan."""

T2_OF_BRAINS = {"white": 0.28, "deep": 0.3, "grey": 0.37}
"""Mean intensities in T2 of two training patients, where fluid is 0.95; those of medgan.generation are brighter."""

HOUNSFIELD = {
    "white": (28, 6), "deep": (34, 6), "grey": (38, 8), "fluid": (8, 8), "vessel": (50, 15), "eye": (12, 6),
    "soft": (-60, 35), "muscle": (52, 15), "skin": (-10, 40), "cortical": (1000, 300), "cancellous": (400, 170),
    "air": (-1000, 8),
}  # fmt: skip
"""Mean and standard deviation of the tissues of a head in CT, in HU."""

HOUNSFIELD_OF_NAMES = (
    (("fat", "adipose", "subcutaneous"), -100, 18), (("cyst",), 8, 10),
    (("tumor", "tumour", "lesion", "nodule", "metastas*", "carcinoma"), 40, 18),
    (("vessel", "aorta", "artery", "vein", "vena", "brachiocephalic", "celiac"), 45, 15),
    (("blood", "haemorrhage", "hemorrhage", "haematoma", "hematoma"), 65, 10),
    (("cartilage",), 90, 40), (("marrow",), 250, 120),
    (("lung",), -820, 60), (("trachea", "airway", "air", "gas", "sinus"), -980, 20),
    (("liver",), 60, 14), (("spleen",), 50, 14), (("kidney",), 35, 18), (("pancreas",), 40, 18),
    (("adrenal",), 30, 18), (("gallbladder", "bladder"), 8, 10),
    (("stomach", "esophagus", "oesophagus", "duodenum"), 30, 35),
    (("colon", "intestine", "bowel"), 10, 90), (("prostate", "uterus"), 40, 15), (("thyroid",), 95, 20),
    (("heart", "atri*", "cardiac", "myocard*"), 45, 15),
    (("gluteus", "iliopsoas", "autochthon", "muscle", "psoas"), 52, 16),
    (("vertebra*", "rib", "ribcage", "hip", "sacrum", "scapula", "clavicula", "clavicle", "femur", "humerus", "sternum",
      "skull", "pelvis", "tibia", "fibula", "bone", "mandible", "tooth", "teeth"), 350, 220),
    (("skin",), -10, 60), (("brain ventricle", "cerebral ventricle", "lateral ventricle", "csf"), 8, 8),
    (("brain", "hippocampus", "gyrus", "cerebellum", "spinal cord"), 34, 8),
    (("soft tissue", "body", "tissue"), 30, 40),
)  # fmt: skip
"""Words in the names of labels ("*": words that begin so), and mean and standard deviation in HU without contrast
agent; the first that fits, so that what lies within an organ comes before the organs."""

CT_SCALE = Normalisation(*description.HOUNSFIELD)
"""From HU to the unit of the network."""


def presets(contrast: Contrast, values: Iterable[int], labels: LabelMap) -> dict[int, tuple[float, float]]:
    """Mean and standard deviation of those labels that are known in a kind of scan, in HU for CT, else 0 to 1."""
    values = list(values)
    of_freesurfer = freesurfer.numbered(values)
    found = {
        value: _preset(contrast, tissue(value, labels, of_freesurfer), labels.labels.get(value)) for value in values
    }
    return {value: pair for value, pair in found.items() if pair is not None}


def tissue(value: int, labels: LabelMap, of_freesurfer: bool) -> str:
    """The tissue that a label is: by its name in FreeSurfer, or without one by its value, if the values are of
    FreeSurfer; '' when it is not known."""
    own, usual = labels.labels.get(value), freesurfer.label(value)
    named = _plain(own.name) if own else ""
    if value and named in ("", str(value)):
        return tissue_of(value) if of_freesurfer else ""
    if value and (usual is None or named != _plain(usual.name)):
        value = _CODES.get(named, -1)
    return tissue_of(value)


def _preset(contrast: Contrast, found: str, own: Label | None) -> tuple[float, float] | None:
    if contrast is Contrast.CT:
        return HOUNSFIELD[found] if found else _hounsfield_of(own.name if own else "")
    if not found:
        return None
    means = T2_OF_BRAINS if contrast is Contrast.T2 else {}
    return means.get(found, CONTRASTS[contrast.value][found]), SPREADS[found]


def _hounsfield_of(name: str) -> tuple[float, float] | None:
    words = [_SIDE.sub("", word.lower()) for word in _WORD.findall(name)]
    for terms, mean, sd in HOUNSFIELD_OF_NAMES:
        if any(all(any(_is(word, part) for word in words) for part in term.split()) for term in terms):
            return mean, sd
    return None


def _is(word: str, term: str) -> bool:
    """Whether a word of a name is a term, or more than one of it."""
    if term.endswith("*"):
        return word.startswith(term[:-1])
    if re.search("[^aeiou]y$", term):
        return word in (term, term[:-1] + "ies")
    return word in (term, term + ("es" if term.endswith("s") else "s"))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""Words of names as "lung_upper_lobe", "LeftLung" and "vertebrae L1"."""

_SIDE = re.compile("^(left|right)|(left|right)$")
"""Of words as "leftlung"."""

_CODES = {_plain(label.name): value for value, label in reversed(freesurfer.table().labels.items())}
