"""Which intensities tissues have in the usual kinds of scan, and which tissue a label is."""

from __future__ import annotations

from medgan import freesurfer
from medgan.generation import CONTRASTS, tissue_of
from medgan.inference import Normalisation
from medgan.segmentation import description
from medgan.settings import Contrast
from medgan.volume import LabelMap

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
    (("lung",), -820, 60), (("trachea", "airway", "air", "bowel gas", "sinus"), -980, 20),
    (("liver",), 60, 14), (("spleen",), 50, 14), (("kidney",), 35, 18), (("pancreas",), 40, 18),
    (("adrenal",), 30, 18), (("gallbladder", "bladder", "cyst"), 8, 10), (("stomach", "esophagus", "duodenum"), 30, 35),
    (("colon", "intestine", "bowel"), 10, 90), (("prostate", "uterus"), 40, 15), (("thyroid",), 95, 20),
    (("heart", "atri", "ventricle of heart", "myocard"), 45, 15),
    (("aorta", "artery", "vein", "vena", "vessel", "trunk"), 45, 15), (("cartilage",), 90, 40),
    (("marrow",), 250, 120),
    (("vertebra", "rib", "hip", "sacrum", "scapula", "clavicula", "clavicle", "femur", "humerus", "sternum", "skull",
      "pelvis", "tibia", "fibula", "bone", "mandible", "teeth"), 350, 220),
    (("gluteus", "iliopsoas", "autochthon", "muscle", "psoas"), 52, 16), (("fat", "adipose", "subcutaneous"), -100, 18),
    (("skin",), -10, 60), (("brain", "spinal cord", "spinal_cord"), 34, 8), (("tumor", "tumour", "lesion"), 40, 18),
    (("blood", "haemorrhage", "hemorrhage"), 65, 10), (("soft tissue", "body", "tissue"), 30, 40),
)  # fmt: skip
"""Words in the names of labels, and mean and standard deviation in HU without contrast agent; the first that fits."""

CT_SCALE = Normalisation(*description.HOUNSFIELD)
"""From HU to the unit of the network."""


def tissue(value: int, labels: LabelMap) -> str:
    """The tissue that a label is, by the code of FreeSurfer; '' when its name says that it is something else."""
    own, usual = labels.labels.get(value), freesurfer.label(value)
    named = own.name if own else ""
    if value and named and (usual is None or _plain(named) not in (_plain(usual.name), str(value))):
        value = _CODES.get(_plain(named), -1)
    return tissue_of(value)


def preset(contrast: Contrast, value: int, labels: LabelMap) -> tuple[float, float] | None:
    """Mean and standard deviation of a label in a kind of scan, in HU for CT, else 0 to 1; None when not known."""
    found = tissue(value, labels)
    if contrast is Contrast.CT:
        if found:
            return HOUNSFIELD[found]
        own = labels.labels.get(value)
        name = own.name.lower().replace("_", " ") if own else ""
        return next(
            ((mean, sd) for words, mean, sd in HOUNSFIELD_OF_NAMES if any(word in name for word in words)), None
        )
    if not found:
        return None
    means = T2_OF_BRAINS if contrast is Contrast.T2 else {}
    return means.get(found, CONTRASTS[contrast.value][found]), SPREADS[found]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


_CODES = {_plain(label.name): value for value, label in reversed(freesurfer.table().labels.items())}
