"""The label values of FreeSurfer: names, colours and, where SNOMED CT has an exact one, the code.

Names and colours are those of FreeSurfer's colour table, which all its viewers share; structures of both sides have
one colour. The values from 500 on are the tissues of the head outside the brain as the CHARM atlas numbers them, which
the label maps of SynthSeg use too; FreeSurfer's own table calls some of these numbers parts of the hippocampus. Codes
are those of the lists that come with 3D Slicer; a structure without an exact code there has none here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from medgan.labeltable import LabelTable
from medgan.terminology import Code, Terminology
from medgan.volume import Label

_STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")
_TISSUE = Code("SCT", "85756007", "Tissue")
_SIDES = {"Left": Code("SCT", "7771000", "Left"), "Right": Code("SCT", "24028007", "Right")}

_CODES = {
    "white matter": Code("SCT", "68523003", "Cerebral White Matter"),
    "cortex": Code("SCT", "40146001", "Cerebral cortex"),
    "lateral ventricle": Code("SCT", "66720007", "Lateral ventricle"),
    "cerebellar white matter": Code("SCT", "33060004", "Cerebellar white matter"),
    "cerebellar cortex": Code("SCT", "389081007", "Gray Matter"),
    "thalamus": Code("SCT", "42695009", "Thalamus"),
    "caudate": Code("SCT", "11000004", "Caudate nucleus"),
    "putamen": Code("SCT", "89278009", "Putamen"),
    "pallidum": Code("SCT", "14738005", "Globus pallidus"),
    "hippocampus": Code("SCT", "5366008", "Hippocampus"),
    "amygdala": Code("SCT", "4958002", "Amygdala"),
    "accumbens": Code("SCT", "427667007", "Nucleus accumbens"),
    "insula": Code("SCT", "36169008", "Insula"),
    "substantia nigra": Code("SCT", "70007007", "Substantia nigra"),
    "vessel": Code("SCT", "59820001", "Blood Vessel"),
    "third ventricle": Code("SCT", "49841001", "Third ventricle"),
    "fourth ventricle": Code("SCT", "35918002", "Fourth ventricle"),
    "brain stem": Code("SCT", "119238007", "Brain stem"),
    "csf": Code("SCT", "65216001", "Cerebrospinal Fluid"),
    "optic chiasm": Code("SCT", "244453006", "Optic chiasm"),
    "corpus callosum": Code("SCT", "88442005", "Corpus callosum"),
    "fornix": Code("SCT", "87463005", "Cerebral fornix"),
    "dura": Code("SCT", "18545000", "Dura mater"),
    "spinal cord": Code("SCT", "2748008", "Spinal cord"),
    "eyeball": Code("SCT", "79652003", "Eyeball"),
    "skull": Code("SCT", "89546000", "Skull"),
    "artery": Code("SCT", "51114001", "Artery"),
    "vein": Code("SCT", "29092000", "Vein"),
    "skin": Code("SCT", "39937001", "Skin"),
    "tissue": Code("SCT", "85756007", "Tissue"),
}
_OF_TISSUE = ("artery", "vein", "skin", "tissue")
_REGIONS = {
    "cerebellar cortex": Code("SCT", "113305005", "Cerebellum"),
    "cerebellar white matter": Code("SCT", "113305005", "Cerebellum"),
}

# Value on the left, on the right, name, colour in 0..255, code.
PAIRS = (
    (1, 40, "Cerebral-Exterior", (70, 130, 180), ""),
    (2, 41, "Cerebral-White-Matter", (245, 245, 245), "white matter"),
    (3, 42, "Cerebral-Cortex", (205, 62, 78), "cortex"),
    (4, 43, "Lateral-Ventricle", (120, 18, 134), "lateral ventricle"),
    (5, 44, "Inf-Lat-Vent", (196, 58, 250), ""),
    (6, 45, "Cerebellum-Exterior", (0, 148, 0), ""),
    (7, 46, "Cerebellum-White-Matter", (220, 248, 164), "cerebellar white matter"),
    (8, 47, "Cerebellum-Cortex", (230, 148, 34), "cerebellar cortex"),
    (10, 49, "Thalamus", (0, 118, 14), "thalamus"),
    (11, 50, "Caudate", (122, 186, 220), "caudate"),
    (12, 51, "Putamen", (236, 13, 176), "putamen"),
    (13, 52, "Pallidum", (12, 48, 255), "pallidum"),
    (17, 53, "Hippocampus", (220, 216, 20), "hippocampus"),
    (18, 54, "Amygdala", (103, 255, 255), "amygdala"),
    (19, 55, "Insula", (80, 196, 98), "insula"),
    (20, 56, "Operculum", (60, 58, 210), ""),
    (25, 57, "Lesion", (255, 165, 0), ""),
    (26, 58, "Accumbens-area", (255, 165, 0), "accumbens"),
    (27, 59, "Substancia-Nigra", (0, 255, 127), "substantia nigra"),
    (28, 60, "VentralDC", (165, 42, 42), ""),
    (29, 61, "undetermined", (135, 206, 235), ""),
    (30, 62, "vessel", (160, 32, 240), "vessel"),
    (31, 63, "choroid-plexus", (0, 200, 221), ""),
    (78, 79, "WM-hypointensities", (255, 148, 10), ""),
    (81, 82, "non-WM-hypointensities", (164, 108, 226), ""),
    # In SynthSeg's label maps these two lie within the lateral ventricle and its lower horn, where the plexus is.
    (136, 163, "choroid-plexus-of-Lateral-Ventricle", (0, 180, 200), ""),
    (137, 164, "choroid-plexus-of-Inf-Lat-Vent", (0, 160, 180), ""),
)
_SINGLE = (
    (14, "3rd-Ventricle", (204, 182, 142), "third ventricle"),
    (15, "4th-Ventricle", (42, 204, 164), "fourth ventricle"),
    (16, "Brain-Stem", (119, 159, 176), "brain stem"),
    (24, "CSF", (60, 60, 60), "csf"),
    (72, "5th-Ventricle", (120, 190, 150), ""),
    (77, "WM-hypointensities", (200, 70, 255), ""),
    (80, "non-WM-hypointensities", (164, 108, 226), ""),
    (85, "Optic-Chiasm", (234, 169, 30), "optic chiasm"),
    (86, "Corpus_Callosum", (250, 255, 50), "corpus callosum"),
    (98, "Dura", (160, 32, 240), "dura"),
    (165, "Skull", (120, 120, 120), "skull"),
    (192, "Corpus_Callosum", (250, 255, 50), ""),
    (250, "Fornix", (255, 0, 0), "fornix"),
    (251, "CC_Posterior", (0, 0, 64), ""),
    (252, "CC_Mid_Posterior", (0, 0, 112), ""),
    (253, "CC_Central", (0, 0, 160), ""),
    (254, "CC_Mid_Anterior", (0, 0, 208), ""),
    (255, "CC_Anterior", (0, 0, 255), ""),
    (258, "Head-ExtraCerebral", (150, 150, 200), ""),
    (501, "Air-Internal", (90, 90, 110), ""),
    (502, "Artery", (204, 0, 0), "artery"),
    (506, "Eyes", (230, 189, 66), "eyeball"),
    (507, "Other-Tissues", (250, 250, 51), "tissue"),
    (508, "Rectus-Muscles", (190, 50, 73), ""),
    (509, "Mucosa", (255, 160, 188), ""),
    (511, "Skin", (190, 156, 120), "skin"),
    (512, "Spinal-Cord", (0, 187, 169), "spinal cord"),
    (514, "Vein", (0, 84, 255), "vein"),
    (515, "Bone-Cortical", (238, 215, 150), ""),
    (516, "Bone-Cancellous", (237, 199, 154), ""),
    (517, "Background", (0, 168, 255), ""),
    (520, "Cortical-CSF", (120, 133, 217), ""),
    (530, "Optic-Nerve", (0, 191, 122), ""),
)


_SIDED = ({2, 41}, {3, 42}, {4, 43}, {10, 49}, {17, 53})
"""Values of large structures that every FreeSurfer label map of a head has on both sides."""


def numbered(values: Iterable[int]) -> bool:
    """Whether values without names are FreeSurfer's: two structures have both sides. 1, 2, 4 are of anybody's."""
    found = set(values)
    return sum(pair <= found for pair in _SIDED) >= 2


def table() -> LabelTable:
    """Every value this file knows."""
    labels = {}
    for left, right, name, color, code in PAIRS:
        for value, side in ((left, "Left"), (right, "Right")):
            labels[value] = Label(f"{side}-{name}", _share(color), _entry(code, side))
    for value, name, color, code in _SINGLE:
        labels[value] = Label(name, _share(color), _entry(code))
    return LabelTable(dict(sorted(labels.items())), "FreeSurfer")


@functools.cache
def _known() -> dict[int, Label]:
    return table().labels


def label(value: int) -> Label | None:
    """What FreeSurfer calls a value, or None."""
    return _known().get(value)


def _entry(code: str, side: str = "") -> str:
    if not code:
        return ""
    category = _TISSUE if code in _OF_TISSUE else _STRUCTURE
    which = _SIDES.get(side, Code())
    if code in _REGIONS:  # the list has no side for this type, but one for its region
        return str(Terminology(category, _CODES[code], Code(), _REGIONS[code], which))
    return str(Terminology(category, _CODES[code], which))


def _share(color: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = (part / 255 for part in color)
    return red, green, blue
