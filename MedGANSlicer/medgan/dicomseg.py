"""DICOM Segmentation objects: read into segments, and written for the image series they belong to. Needs highdicom.

A DICOM object numbers its segments 1, 2, 3; the label value stands in the description of each segment, so that it
comes back. What a segment is goes into the object as the codes of its terminology, or as plain "Tissue".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import medgan
from medgan.grids import same_grid
from medgan.labeltable import default_color
from medgan.labelvalues import listed
from medgan.resampling import beyond, onto, said_of_beyond
from medgan.segments import Layer, Mapping, Segment, Segmentation, check_room, fitting, slabs
from medgan.segnrrd import whole
from medgan.staging import complete
from medgan.terminology import Code, Terminology, parsed
from medgan.volume import LPS_TO_RAS, Label, VolumeError
from medgan.writing import at_right_angles

SEGMENTATION_STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_VALUE = re.compile(r"Label value (\d+)")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "Manufacturer", "ManufacturerModelName", "SeriesNumber"),
)
"""What the standard lets an image leave empty and anonymisers drop; a segmentation copies it from its images."""

_BY_HAND = (
    "What drew the segments is not known of all of them, so DICOM gets MANUAL for these; if it was a program, name it "
    "with --algorithm."
)

_TISSUE = Code("SCT", "85756007", "Tissue")


def needed() -> Any:
    """The highdicom package. Raises :class:`VolumeError` when it is not installed."""
    try:
        import highdicom
        import highdicom.seg
    except ImportError as error:
        raise VolumeError(
            "DICOM segmentations need the Python package 'highdicom', which is not installed; install it with: "
            'pip install "medganslicer[dicom]".'
        ) from error
    return highdicom


def find(path: Path) -> Path | None:
    """The one DICOM segmentation that a file or a folder is or holds; None if there is none.

    Raises :class:`VolumeError` for a folder with several.
    """
    if path.is_file():
        return path if _is_segmentation(path) else None
    found = [file for file in sorted(path.iterdir()) if file.is_file() and _is_segmentation(file)]
    if len(found) > 1:
        raise VolumeError(f"Folder '{path}' holds {len(found)} DICOM segmentations; give one of the files.")
    return found[0] if found else None


def read(path: Path) -> Segmentation:
    """The segments of a DICOM segmentation file on its own grid. Raises :class:`VolumeError`."""
    highdicom = needed()
    try:
        held = _opened(highdicom, path)
        numbers = list(held.get_segment_numbers())
        grid = held.get_volume_geometry(allow_missing_positions=True)
        if grid is None:
            raise VolumeError(f"The slices of '{path.name}' lie at uneven distances; a segmentation has even ones.")
        kind = fitting(max(numbers))
        check_room(grid.spatial_shape, kind.itemsize)
        try:
            arrays = [held.get_volume(combine_segments=True, dtype=kind).array]
            layer_of = dict.fromkeys(numbers, 0)
        except Exception:  # segments overlap; the object is then locked, so it is opened anew
            arrays, layer_of = _layers(_opened(highdicom, path), numbers, kind)
    except VolumeError:
        raise
    except Exception as error:
        said = str(error).rstrip(".")
        raise VolumeError(f"'{path.name}' is no DICOM segmentation that can be read: {said}.") from error
    segments = [_segment(held.get_segment_description(number), layer, number) for number, layer in layer_of.items()]
    matrix = LPS_TO_RAS @ np.asarray(grid.affine)[:, [2, 1, 0, 3]]
    return Segmentation(arrays[0].shape, matrix, [Layer(np.ascontiguousarray(array)) for array in arrays], segments)


def _opened(highdicom: Any, path: Path) -> Any:
    """The segmentation in a file, which says how far apart its slices are. Raises :class:`VolumeError`."""
    import pydicom

    dataset = pydicom.dcmread(path)
    if dataset.SegmentationType == "FRACTIONAL":
        whole_ones = (0, dataset.MaximumFractionalValue)
        if not np.isin(dataset.pixel_array, whole_ones).all():
            raise VolumeError(
                f"'{path.name}' says how much or how likely a voxel belongs to a segment (FRACTIONAL); give one that "
                "says whether (BINARY)."
            )
    _say_spacing(dataset)
    return highdicom.seg.Segmentation.from_dataset(dataset, copy=False)


def _layers(held: Any, numbers: Sequence[int], kind: np.dtype) -> tuple[list[np.ndarray], dict[int, int]]:
    """The numbers of segments that overlap, each in the first layer where it overlaps none; the layer of each."""
    layers: list[np.ndarray] = []
    layer_of = {}
    for number in numbers:
        mask = held.get_volume(segment_numbers=[number], combine_segments=True).array != 0
        layer_of[number] = next((n for n, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if layer_of[number] == len(layers):
            check_room(mask.shape, kind.itemsize)
            layers.append(np.zeros(mask.shape, kind))
        layers[layer_of[number]][mask] = number
    return layers, layer_of


def _say_spacing(dataset: Any) -> None:
    """Write SpacingBetweenSlices into a segmentation that does not say it and may leave out slices.

    Where two slices are closest more than once, that is their distance; once, it may be that of slices of which those
    between are empty, so the thickness counts if all slices lie at multiples of it. It may be rounded; the
    slices tell what it is exactly.
    """
    frames = dataset.PerFrameFunctionalGroupsSequence
    groups = [*dataset.SharedFunctionalGroupsSequence, *frames]
    measures = [group.PixelMeasuresSequence[0] for group in groups if "PixelMeasuresSequence" in group]
    turned = [group.PlaneOrientationSequence[0] for group in groups if "PlaneOrientationSequence" in group]
    placed = [group.PlanePositionSequence[0] for group in groups if "PlanePositionSequence" in group]
    thick = float(measures[0].get("SliceThickness") or 0.0) if measures else 0.0
    if not thick or not turned or not placed or any(each.get("SpacingBetweenSlices") for each in measures):
        return
    rows, columns = np.reshape(np.asarray(turned[0].ImageOrientationPatient, float), (2, 3))
    along = np.array([each.ImagePositionPatient for each in placed], float) @ np.cross(rows, columns)
    along = np.unique(np.round(along - along.min(), 3))

    def at_multiples_of(step: float) -> bool:
        return bool((np.abs(along - np.round(along / step) * step) <= 0.01 * step).all())

    steps = np.diff(along)
    often = len(steps) > 1 and np.isclose(steps, steps.min(), rtol=0.01).sum() > 1
    thicknesses = round(along[-1] / thick)
    exact = along[-1] / thicknesses if thicknesses else thick
    rounded = abs(exact - thick) <= 0.01 * thick
    if rounded and at_multiples_of(exact) and not (often and at_multiples_of(float(steps.min()))):
        for each in measures:
            each.SpacingBetweenSlices = f"{exact:.10g}"


def on_series(parts: Sequence[Segmentation], reference: Path) -> tuple[list[Segmentation], list[str]]:
    """Segmentations on the grid of the image series in a folder, which cuts them; and sentences.

    Raises :class:`VolumeError`.
    """
    needed()
    _, shape, matrix, _ = _series(reference)
    return _onto(parts, shape, matrix)


def _onto(
    parts: Sequence[Segmentation], shape: tuple[int, int, int], matrix: np.ndarray
) -> tuple[list[Segmentation], list[str]]:
    said = []
    if not all(same_grid(part.shape, part.ijk_to_ras, shape, matrix) for part in parts):
        said.append("The segments were brought onto the grid of the reference series, nearest neighbour.")
    said += said_of_beyond([cut for part in parts for cut in beyond(part, shape, matrix)])
    return [onto(part, shape, matrix) for part in parts], said


def write(segmentation: Segmentation, path: Path, reference: Path) -> list[str]:
    """Write the segments for the image series in folder ``reference``, on the grid of that series.

    Returns sentences for the person. Raises :class:`VolumeError`.
    """
    highdicom = needed()
    images, shape, matrix, said = _series(reference)
    if not at_right_angles(matrix):
        raise VolumeError(
            f"The series in '{reference}' has a tilted gantry, which a DICOM segmentation can not be read back from; "
            "write .seg.nrrd."
        )
    (moved,), brought = _onto([segmentation], shape, matrix)
    if not any(moved.voxels()):
        raise VolumeError(f"No segment lies within the series in '{reference}'; give the series it was drawn on.")
    said += brought
    names = [segment.label.name for segment in moved.segments]
    names += [code.meaning for segment in moved.segments for code in vars(parsed(segment.label.terminology)).values()]
    changed = [f"'{name}' as '{_held(name)}'" for name in dict.fromkeys(names) if _held(name) != name and name]
    if changed:
        said.append(f"DICOM takes names of up to 64 letters without '\\'; written were {listed(changed)}.")
    if not all(segment.algorithm for segment in moved.segments):
        said.append(_BY_HAND)
    described = [_description(highdicom, number, each) for number, each in enumerate(moved.segments, start=1)]
    try:
        held = highdicom.seg.Segmentation(
            source_images=images,
            pixel_array=_pixels(moved),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=highdicom.UID(),
            series_number=100,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="MedGANSlicer",
            manufacturer_model_name="medgan",
            software_versions=medgan.__version__,
            device_serial_number="0",
            content_description="Segmentation",
        )
    except Exception as error:
        raise VolumeError(
            f"No DICOM segmentation can be made for the series in '{reference}': {str(error).rstrip('.')}."
        ) from error
    complete({path: held.save_as})
    return said


def _is_segmentation(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] != b"DICM":
        return False
    try:
        import pydicom

        uid = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).SOPClassUID
    except ImportError:
        needed()
        return False
    except Exception:
        return False
    return str(uid) in SEGMENTATION_STORAGE


def _series(folder: Path) -> tuple[list[Any], tuple[int, int, int], np.ndarray, list[str]]:
    """The images of the series that a folder is read as, in the order of its slices; its grid, and sentences."""
    import pydicom

    from medgan import dicom, itk_names

    if not folder.is_dir():
        raise VolumeError(f"'{folder}' is not the folder of a DICOM series; a DICOM segmentation needs its images.")
    array, matrix, meta = dicom.read_series(folder)
    ordered: dict[int, Any] = {}
    back = np.linalg.inv(matrix)
    with itk_names.readable(folder) as safe:
        series = dicom.all_series(safe)
        images = [pydicom.dcmread(file, force=True) for file in series[dicom.largest(series)]]  # some have no preamble
    for image in images:
        place = back @ LPS_TO_RAS @ np.append(np.asarray(image.ImagePositionPatient, float), 1.0)
        for name in _MAY_BE_EMPTY:
            if name not in image:
                setattr(image, name, "")
        image.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: the segmentation takes it over, for names of any script
        if array.shape[0] == 1:  # highdicom would say 1 mm
            image.SpacingBetweenSlices = f"{np.linalg.norm(matrix[:3, 2]):.10g}"
        ordered[round(float(place[2]))] = image
    if sorted(ordered) != list(range(array.shape[0])):
        raise VolumeError(f"The images in '{folder}' are not one stack of slices; give one series.")
    return [ordered[k] for k in range(array.shape[0])], array.shape, matrix, meta["messages"]


def _pixels(segmentation: Segmentation) -> np.ndarray:
    """Segment numbers on the grid; where segments overlap, a mask a segment along a last axis."""
    result = np.zeros(segmentation.shape, np.uint16)
    if len(segmentation.layers) > 1:
        masks = [segmentation.mask(index) for index in range(len(segmentation.segments))]
        if np.sum(masks, axis=0, dtype=np.uint16).max() > 1:
            return np.stack(masks, axis=-1).astype(np.uint8)
        for number, mask in enumerate(masks, start=1):
            result[mask] = number
        return result
    array = whole(segmentation.layers[0], segmentation.shape)
    numbers = [(segment.value, number) for number, segment in enumerate(segmentation.segments, start=1)]
    mapping = Mapping(numbers, np.uint16)
    for slab in slabs(result.shape):
        mapping(array[slab], result[slab])
    return result


def _description(highdicom: Any, number: int, segment: Segment) -> Any:
    said = parsed(segment.label.terminology)
    red, green, blue = (round(min(1.0, max(0.0, part)) * 255) for part in segment.label.color)
    described = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=_held(segment.label.name) or f"Segment {number}",
        segmented_property_category=_concept(highdicom, said.category or _TISSUE),
        segmented_property_type=_concept(highdicom, said.type or _TISSUE),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        anatomic_regions=[_concept(highdicom, said.region)] if said.region else None,
        display_color=highdicom.color.CIELabColor.from_rgb(red, green, blue),
    )
    if segment.algorithm:
        described.SegmentAlgorithmType = "SEMIAUTOMATIC" if segment.edited else "AUTOMATIC"
        described.SegmentAlgorithmName = _held(segment.algorithm)
    described.SegmentDescription = f"Label value {segment.known_value}"
    if said.modifier:
        described.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            _concept(highdicom, said.modifier)
        ]
    if said.region and said.region_modifier:
        described.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_concept(highdicom, said.region_modifier)]
    return described


def _held(name: str) -> str:
    """A name as a DICOM object can hold it: a backslash would make two names of it."""
    return name.replace("\\", "/")[:64]


def _segment(described: Any, layer: int, number: int) -> Segment:
    category = _code(getattr(described, "SegmentedPropertyCategoryCodeSequence", None))
    types = getattr(described, "SegmentedPropertyTypeCodeSequence", None)
    kind, modifier = _code(types), _code(_inner(types, "SegmentedPropertyTypeModifierCodeSequence"))
    regions = getattr(described, "AnatomicRegionSequence", None)
    entry = Terminology(
        category, kind, modifier, _code(regions), _code(_inner(regions, "AnatomicRegionModifierSequence"))
    )
    plain = entry == Terminology(_TISSUE, _TISSUE)
    found = _VALUE.search(str(getattr(described, "SegmentDescription", "") or ""))
    value = int(found[1]) if found else 0
    color = default_color(value or number)
    lab = getattr(described, "RecommendedDisplayCIELabValue", None)
    if lab is not None:
        red, green, blue = needed().color.CIELabColor.from_dicom_value(lab).to_rgb()
        color = (red / 255, green / 255, blue / 255)
    label = Label(str(described.SegmentLabel), color, "" if plain else str(entry))
    algorithm = str(getattr(described, "SegmentAlgorithmName", "") or "")
    edited = bool(algorithm) and str(described.SegmentAlgorithmType) != "AUTOMATIC"
    return Segment(label, layer, number, value, algorithm=algorithm, edited=edited)


def _concept(highdicom: Any, code: Code) -> Any:
    return highdicom.sr.CodedConcept(code.value, code.scheme or "SCT", _held(code.meaning or code.value))


def _code(sequence: Sequence[Any] | None) -> Code:
    if not sequence:
        return Code()
    item = sequence[0]
    value = next((item.get(name) for name in ("CodeValue", "LongCodeValue", "URNCodeValue") if item.get(name)), "")
    return Code(str(item.get("CodingSchemeDesignator", "")), str(value), str(item.get("CodeMeaning", "")))


def _inner(sequence: Sequence[Any] | None, name: str) -> Sequence[Any] | None:
    return getattr(sequence[0], name, None) if sequence else None
