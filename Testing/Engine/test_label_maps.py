"""Segments become label maps and come back: every value exact, every overlap resolved as it is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phantoms
from medgan.labels import Overlap, label_maps, merged, segmentation_of
from medgan.labeltable import LARGEST_VALUE, LabelTable
from medgan.labelvalues import Values, assigned
from medgan.probabilities import most_probable
from medgan.resampling import grid_of_spacing, onto, whole_shift
from medgan.segments import Layer, Mapping, Segment, Segmentation, counted_in_steps
from medgan.steps import finished
from medgan.volume import Label, LabelMap, Volume, VolumeError

MATRIX = phantoms.awkward_geometry()
LEFT_LUNG = "list~SCT^123037004^Anatomical Structure~SCT^44029006^Left lung~^^~~^^~^^"


def scattered(values, shape=(5, 6, 7), seed=0, kind=np.int32) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, *values], shape).astype(kind)


def overlapping() -> Segmentation:
    """A large, a medium and a small segment; each two share voxels."""
    large, medium, small = (np.zeros((6, 6, 6), np.uint8) for _ in range(3))
    large[1:5, 1:5, 1:5], medium[2:4, 2:6, 2:4], small[3:4, 3:5, 3:4] = 1, 1, 1
    segments = [Segment(Label(name), n, 1, value) for n, (name, value) in enumerate((("L", 5), ("S", 300), ("M", 7)))]
    return Segmentation((6, 6, 6), MATRIX, [Layer(large), Layer(small), Layer(medium)], segments)


@given(
    values=st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=9, unique=True),
    kind=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.int64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_every_value_comes_back_exactly(values, kind, seed):
    held = [value for value in values if value <= np.iinfo(kind).max] or [1]
    labels = {value: Label(f"part {value}", (0.1, 0.2, 0.3), LEFT_LUNG) for value in held}
    array = scattered(held, seed=seed, kind=kind)
    segmentation, report, said = segmentation_of([LabelMap(array, MATRIX, labels)], keep_empty=True)
    (again,) = label_maps(segmentation).label_maps
    np.testing.assert_array_equal(again.array, array)
    np.testing.assert_array_equal(again.ijk_to_ras, MATRIX)
    assert again.labels == labels
    assert report["unknown"] == []
    assert sorted(report["holes"] + sorted(set(np.unique(array)) - {0})) == sorted(held)
    assert bool(said) == bool(report["holes"])


def test_more_labels_than_16_bits_hold():
    array = np.zeros((30, 40, 50), np.int32)
    array.flat[:40000] = np.arange(1, 40001) + 100
    segmentation, _, _ = segmentation_of([LabelMap(array, MATRIX)])
    converted = label_maps(segmentation)
    np.testing.assert_array_equal(converted.label_maps[0].array, array)
    assert converted.label_maps[0].array.dtype == np.int32
    assert len(converted.values) == 40000
    assert set(converted.voxels) == {1}


@pytest.mark.parametrize(
    ("rule", "order"),
    [
        (Overlap.LAST, ["L", "S", "M"]),
        (Overlap.FIRST, ["M", "S", "L"]),
        (Overlap.SMALLEST, ["L", "M", "S"]),
        (Overlap.LARGEST, ["S", "M", "L"]),
    ],
)
def test_overlaps_go_to_the_segment_that_the_rule_says(rule, order):
    segmentation = overlapping()
    expected = np.zeros((6, 6, 6), np.int32)
    by_name = {segment.label.name: number for number, segment in enumerate(segmentation.segments)}
    for name in order:  # painted one over the other
        number = by_name[name]
        expected[segmentation.mask(number)] = segmentation.segments[number].own_value
    converted = label_maps(segmentation, overlap=rule)
    np.testing.assert_array_equal(converted.label_maps[0].array, expected)
    assert converted.lost == {
        segment.label.name: int(segmentation.mask(n).sum() - (expected == segment.own_value).sum())
        for n, segment in enumerate(segmentation.segments)
        if segmentation.mask(n).sum() > (expected == segment.own_value).sum()
    }
    assert rule.label() in converted.messages[0]


def test_segments_of_one_name_tell_together_what_they_lost():
    segmentation = overlapping()
    for segment in segmentation.segments[:2]:
        segment.label = Label("part")
    converted = label_maps(segmentation)
    had = sum(int(segmentation.mask(n).sum()) for n in (0, 1))
    assert converted.lost == {"part": had - sum(converted.voxels[:2])}


def test_layers_lose_no_voxel_and_are_as_few_as_it_takes():
    segmentation = overlapping()
    apart = np.zeros((6, 6, 6), np.uint8)
    apart[0, 0, 0] = 1  # does not overlap with any, so it joins the first
    segmentation.layers.append(Layer(apart))
    segmentation.segments.append(Segment(Label("alone"), 3, 1, 9))
    converted = label_maps(segmentation, overlap=Overlap.LAYERS)
    assert len(converted.label_maps) == 3
    assert set(converted.label_maps[0].labels) == {5, 9}
    for number, value in enumerate(converted.values):
        found = [each.array == value for each in converted.label_maps if value in each.labels]
        np.testing.assert_array_equal(found[0], segmentation.mask(number))
    again, _, _ = segmentation_of(converted.label_maps)
    masks = {segment.value: again.mask(n) for n, segment in enumerate(again.segments)}
    for number, value in enumerate(converted.values):
        np.testing.assert_array_equal(masks[value], segmentation.mask(number))


def test_equal_own_values_are_told_apart_and_said():
    segments = [Segment(Label("a"), 0, 1), Segment(Label("b"), 1, 1), Segment(Label("c"), 2, 4)]
    values, said = assigned(segments, Values.OWN)
    assert values == [1, 5, 4]
    assert said == ["Another segment had the label value before; a new one was given to 'b' (5)."]


def test_values_come_from_the_table_by_name_or_by_code():
    table = LabelTable({7: Label("Left-Lung", terminology=LEFT_LUNG), 9: Label("Heart"), 20: Label("Trachea")})
    segments = [Segment(Label("heart"), 0, 1), Segment(Label("left lung"), 0, 2), Segment(Label("odd"), 0, 7)]
    segments.append(Segment(Label("Heart", terminology=LEFT_LUNG), 0, 4))
    assert assigned(segments, Values.TABLE, table)[0] == [9, 7, 21, 22]
    values, said = assigned(segments, Values.TERMINOLOGY, table)
    assert values == [9, 7, 21, 22]  # the last has the code of the lung, which 'left lung' has by its name before
    assert "'odd' (21)" in said[1]
    assert "'Heart' (22)" in said[0]
    assert assigned(segments, Values.CONSECUTIVE)[0] == [1, 2, 3, 4]
    with pytest.raises(VolumeError, match="come from a table"):
        assigned(segments, Values.TABLE)


def test_name_that_a_table_has_several_times_is_that_of_the_own_value():
    table = LabelTable({1: Label("Lesion"), 2: Label("lesion"), 7: Label("Kidney", terminology=LEFT_LUNG)})
    segments = [Segment(Label("Lesion"), 0, value) for value in (2, 1, 5)]
    segments.append(Segment(Label("Lesion", terminology=LEFT_LUNG), 0, 9))
    values, said = assigned(segments, Values.TABLE, table)
    assert values == [2, 1, 8, 7]
    assert said == ["Several times in the table; a free label value was given to 'Lesion' (8)."]


def test_free_values_are_none_of_the_table_even_below_the_largest():
    table = LabelTable({LARGEST_VALUE: Label("Liver"), 1: Label("Heart"), 3: Label("Spleen")})
    segments = [Segment(Label(name), 0, number) for number, name in enumerate(("Liver", "a", "b", "c"), 1)]
    assert assigned(segments, Values.TABLE, table)[0] == [LARGEST_VALUE, 2, 4, 5]


def test_table_names_segments_and_tells_holes_and_unknown_values():
    array = scattered([2, 5])
    table = LabelTable({2: Label("Liver", (1.0, 0.0, 0.0)), 8: Label("Spleen")}, "organs.csv")
    own = {2: Label("old name", terminology=LEFT_LUNG), 5: Label("five")}
    segmentation, report, said = segmentation_of([LabelMap(array, MATRIX, own)], table)
    assert [segment.label for segment in segmentation.segments] == [
        Label("Liver", (1.0, 0.0, 0.0), LEFT_LUNG),  # the table has no code, so the code is kept
        Label("five"),
    ]
    assert report == {"unknown": [5], "holes": [8]}
    assert said == ["Not in 'organs.csv', so not named by it: 5.", "In 'organs.csv' but without a voxel: 8."]


def test_bad_label_maps_are_one_sentence():
    with pytest.raises(VolumeError, match="holds the value -3"):
        segmentation_of([LabelMap(np.full((2, 2, 2), -3, np.int16), MATRIX)])
    with pytest.raises(VolumeError, match="from 1 to 2147483647"):
        segmentation_of([LabelMap(np.full((2, 2, 2), 2**31, np.int64), MATRIX)])
    with pytest.raises(VolumeError, match="different grids"):
        segmentation_of([LabelMap(scattered([1]), MATRIX), LabelMap(scattered([1]), np.eye(4))])
    with pytest.raises(VolumeError, match="has no segments"):
        label_maps(Segmentation((2, 2, 2), MATRIX))
    with pytest.raises(VolumeError, match="'a' and 'b' have the same voxels"):
        Segmentation((2, 2, 2), MATRIX, [], [Segment(Label("a"), 0, 1), Segment(Label("b"), 0, 1)])


def test_scan_as_a_label_map_is_said():
    draw = np.random.default_rng(0)
    scan = draw.normal(500, 90, (6, 40, 40)).round().astype(np.int16)
    cells = np.kron(np.arange(1, 301).reshape(3, 10, 10), np.ones((2, 4, 4), int)).astype(np.int16)
    said = [segmentation_of([LabelMap(array, MATRIX)])[2] for array in (scan, cells, np.clip(scan, 490, 510))]
    assert [len(each) for each in said] == [1, 0, 0]
    assert f"looks like a scan and no label map: {len(np.unique(scan))} values" in said[0][0]
    named = {int(value): Label("a cell") for value in np.unique(scan)}
    assert segmentation_of([LabelMap(scan, MATRIX, named)])[2] == []
    both = segmentation_of([LabelMap(cells, MATRIX), LabelMap(scan, MATRIX)])[2]
    assert [sentence[:24] for sentence in both] == ["Label map 2 looks like a"]


def test_mapping_leaves_out_what_it_does_not_name():
    for kind in (np.uint8, np.int8, np.int16, np.int32, np.int64):
        array = np.array([[[0, 1, 2, 100, -1 if np.iinfo(kind).min else 3]]], kind)
        np.testing.assert_array_equal(Mapping([(1, 30000), (100, 7)], np.int16)(array), [[[0, 30000, 0, 7, 0]]])
        np.testing.assert_array_equal(Mapping([(1, 3), (2**30, 4)], np.int16)(array), [[[0, 3, 0, 0, 0]]])
    assert finished(counted_in_steps(np.array([[[5, 5, 0, -2, 2**30]]]))) == {-2: 1, 5: 2, 2**30: 1}


def test_nearest_label_on_another_grid_is_that_of_the_nearest_voxel():
    array = scattered([3, 40000, 70000], (6, 7, 8))
    first = LabelMap(array, MATRIX)
    shape, matrix = (9, 5, 6), phantoms.awkward_geometry()
    matrix[:3, :3] = matrix[:3, :3] @ phantoms.rotation((5.0, -3.0, 8.0)) * 1.3
    result = label_maps(onto(segmentation_of([first])[0], shape, matrix)).label_maps[0]
    back = np.linalg.inv(MATRIX)
    for k, j, i in np.ndindex(shape):
        place = np.rint(back @ matrix @ (i, j, k, 1.0))[:3].astype(int)
        inside = all(0 <= at < n for at, n in zip(place, array.shape[::-1], strict=True))
        assert result.array[k, j, i] == (array[place[2], place[1], place[0]] if inside else 0)


def test_grid_that_lies_on_the_voxels_is_no_resampling():
    array = scattered([3, 9], (6, 7, 8))
    segmentation, _, _ = segmentation_of([LabelMap(array, MATRIX)])
    shifted = MATRIX.copy()
    shifted[:3, 3] = (MATRIX @ (1, -2, 3, 1))[:3]
    assert whole_shift(MATRIX, shifted, (6, 7, 8)) == (-3, 2, -1)
    moved = onto(segmentation, (3, 10, 7), shifted)
    assert np.shares_memory(moved.layers[0].array, array)
    assert moved.layers[0].array.shape == (3, 7, 7)  # what lies beyond the grid is gone
    expected = np.zeros((3, 10, 7), int)
    expected[:, 2:9, :] = array[3:6, :, 1:8]
    np.testing.assert_array_equal(label_maps(moved).label_maps[0].array, expected)


def test_grid_of_another_spacing_covers_the_same_box():
    shape, matrix = grid_of_spacing((10, 20, 30), MATRIX, (2.0, 1.0, 0.5))
    own = np.linalg.norm(MATRIX[:3, :3], axis=0)
    extent = np.array([30, 20, 10]) * own
    assert shape[::-1] == tuple(np.ceil(np.round(extent / (2.0, 1.0, 0.5), 6)).astype(int))
    np.testing.assert_allclose(np.linalg.norm(matrix[:3, :3], axis=0), (2.0, 1.0, 0.5))
    middle = matrix @ [*((np.array(shape[::-1]) - 1) / 2), 1]
    np.testing.assert_allclose(middle, MATRIX @ (14.5, 9.5, 4.5, 1), atol=1e-9)
    with pytest.raises(VolumeError, match="above zero"):
        grid_of_spacing((10, 20, 30), MATRIX, (0.0, 1.0, 1.0))


def test_likeliest_structure_wins_and_background_has_the_rest():
    liver = np.array([[[0.5, 0.2, 0.4, 0.0, 0.34]]], np.float32)
    spleen = np.array([[[0.3, 0.7, 0.1, 0.1, 0.33]]], np.float32)
    table = LabelTable({30: Label("Spleen", (1.0, 0.0, 0.0))})
    for scale in (1, 100):
        maps = [Volume(liver * scale, MATRIX), Volume(spleen * scale, MATRIX)]
        result, said = most_probable(maps, ["liver", "spleen"])
        np.testing.assert_array_equal(result.array, [[[1, 2, 0, 0, 1]]])
        assert {value: label.name for value, label in result.labels.items()} == {1: "liver", 2: "spleen"}
        assert said == []
        result, said = most_probable(maps, ["liver", "spleen"], table)
        assert set(result.labels) == {30, 31}
        assert said == ["Not in the table; a free label value was given to 'liver' (31)."]
    with pytest.raises(VolumeError, match="has the value 700"):
        most_probable([Volume(liver * 1000, MATRIX), Volume(spleen * 1000, MATRIX)], ["liver", "spleen"])
    with pytest.raises(VolumeError, match="below zero"):
        most_probable([Volume(-liver, MATRIX)], ["liver"])


def test_merged_segmentations_keep_all_segments():
    one, _, _ = segmentation_of([LabelMap(scattered([1, 2]), MATRIX)])
    other, _, _ = segmentation_of([LabelMap(scattered([2, 3], seed=1), MATRIX)])
    whole = merged([one, other])
    assert [segment.known_value for segment in whole.segments] == [1, 2, 2, 3]
    np.testing.assert_array_equal(whole.mask(2), other.mask(0))
    assert label_maps(whole).values == [1, 2, 4, 3]
