"""Label tables keep values, names, colours and codes through every format that can hold them, and say what was lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan import freesurfer, terminology
from medgan.labeltable import LabelTable, TableError, default_color, read_table, unnamed, write_table
from medgan.terminology import Code, Terminology
from medgan.volume import Label

HIPPOCAMPUS = str(
    Terminology(
        Code("SCT", "123037004", "Anatomical Structure"),
        Code("SCT", "5366008", "Hippocampus"),
        Code("SCT", "7771000", "Left"),
    )
)

KEEP = "write .json to keep it."

words = st.text(st.characters(categories=("L", "N", "P", "Zs"), include_characters=' ,;"'), max_size=30)
names = words.map(lambda text: " ".join(text.split())).filter(lambda text: text and not text.startswith("#"))
colors = st.tuples(*[st.integers(0, 255).map(lambda part: part / 255)] * 3)
codes = st.builds(Code, st.sampled_from(["SCT", "DCM"]), st.from_regex(r"[0-9]{5,9}", fullmatch=True), names)
codes = codes.map(lambda code: Code(code.scheme, code.value, code.meaning.replace("^", "").replace("~", "").strip()))
entries = st.just("") | st.builds(Terminology, codes, codes, codes | st.just(Code())).map(str)
tables = st.dictionaries(st.integers(1, 2**31 - 1), st.builds(Label, names, colors, entries), min_size=1, max_size=8)


@pytest.mark.parametrize("name", ["n/a", " left", "left ", "two\nlines", "it's", "'quoted'", "a_b", 'a "b"'])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".label", ".ctbl"])
def test_names_that_are_not_read_back_are_said(tmp_path, ending, name):
    said = write_table({7: Label(name)}, tmp_path / f"own{ending}")
    kept = read_table(tmp_path / f"own{ending}").labels[7].name == name
    lost = [] if kept else [f"'own{ending}' can not hold the name '{name}' letter by letter; {KEEP}"]
    assert [sentence for sentence in said if not sentence.startswith("3D Slicer")] == lost
    assert kept or ending != ".json"


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json"])
@given(labels=tables)
@settings(max_examples=30, deadline=None)
def test_tables_with_codes_come_back_as_they_were(tmp_path_factory, ending, labels):
    path = tmp_path_factory.mktemp("tables") / f"own{ending}"
    assert [sentence for sentence in write_table(labels, path) if not sentence.startswith("3D Slicer")] == []
    assert read_table(path).labels == labels


@given(labels=tables)
@settings(max_examples=30, deadline=None)
def test_itk_snap_keeps_all_but_codes_and_quotes_and_says_so(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("tables") / "own.label"
    said = write_table(labels, path)
    expected = {v: Label(label.name.replace('"', "'"), label.color) for v, label in labels.items()}
    assert read_table(path).labels == expected
    assert any("terminology" in sentence for sentence in said) == any(label.terminology for label in labels.values())
    assert any("letter by letter" in s for s in said) == any('"' in label.name for label in labels.values())


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        (7, "upper, left; a#b", ""),
        (7, 'upper "pole"', "does not read the name 'upper \"pole\"' of 'own{}'"),
        (7, "# 7", "does not read 'own{}', because a name begins with '#'"),
        (1_000_000, "lung", ""),
        (1_000_001, "lung", "does not read 'own{}', because its label values end at 1000000"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json"])
def test_columns_that_slicer_does_not_read_are_said(tmp_path, ending, value, name, said):
    told = write_table({value: Label(name), 9: Label("liver")}, tmp_path / f"own{ending}")
    assert bool(told) == (said != "" and ending != ".json")
    assert all(said.format(ending) in sentence for sentence in told)
    assert read_table(tmp_path / f"own{ending}").labels[value].name == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "value,name,r,g,b\n1,A,1,0,1\n2.0,B,1,0,0\n"),
        ("b.csv", "value,name,r,g,b,a\n1,A,255,0,255,255\n2,B,255,0,0,255\n"),
        ("c.csv", "1.0,A,1,0,1\n2.0,B,1,0,0\n"),
        ("d.json", '[{"value": 1, "name": "A", "color": [255, 0, 255]}, {"value": 2, "r": 255, "g": 0, "b": 0}]'),
        ("e.json", '[{"value": 1.0, "name": "A", "color": [1, 0, 1]}, {"value": 2, "color": [1, 0, 0]}]'),
    ],
)
def test_colours_are_shares_of_1_or_of_255_in_all_rows(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert [label.color for label in read_table(tmp_path / name).labels.values()] == [(1, 0, 1), (1, 0, 0)]
    (tmp_path / name).write_text(text.replace("2.0,B,1,", "2.0,B,255,").replace("1, 0, 0", "255, 0, 0"))
    dark = 1 / 255 if name[0] in "ace" else 1
    assert [label.color for label in read_table(tmp_path / name).labels.values()] == [(dark, 0, dark), (1, 0, 0)]


def test_colour_table_of_slicer_holds_spaces_as_underscores(tmp_path):
    labels = {3: Label("left lung", (1.0, 0.0, 0.2)), 40000: Label("a_b", (0.0, 0.0, 0.0))}
    said = write_table(labels, tmp_path / "own.ctbl")
    assert (tmp_path / "own.ctbl").read_text().splitlines()[2:] == [
        "0 Background 0 0 0 0",
        "3 left_lung 255 0 51 255",
        "40000 a_b 0 0 0 255",
    ]
    assert read_table(tmp_path / "own.ctbl").labels == {3: labels[3], 40000: Label("a b", (0.0, 0.0, 0.0))}
    assert said == ["'own.ctbl' can not hold the name 'a_b' letter by letter; write .json to keep it."]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id;structure;r;g;b\n7;Lung;0.5;0;1\n"),
        ("aa.csv", "LabelValue,Name,Color_R,Color_G,Color_B,Color_A\n7,Lung,0.5,0,1.0,255\n"),
        ("ab.csv", "LabelValue,Name,R,G,B,A\n7,Lung,0.5,0,1,100\n"),
        ("b.csv", "7,Lung,127.5,0,255\n"),
        ("c.json", '{"labels": {"background": 0, "Lung": 7}}'),
        ("d.json", '{"7": "Lung"}'),
        ("e.json", '[{"value": 7, "name": "Lung", "color": "#8000ff"}]'),
        ("f.json", '{"medgan": {"labels": [{"index": 1, "value": 7, "name": "Lung", "color": [0.5, 0, 1]}]}}'),
        ("ca.csv", "value,label\n7,Lung\n"),
        ("cb.tsv", "index\tlabel\n7\tLung\n"),
        ("cc.csv", "ID;Label\n7;Lung\n"),
        ("cd.csv", "label,name,id\n7,Lung,1\n"),
        ("ce.json", '[{"id": 7, "label": "Lung"}]'),
        ("cf.json", '{"7": {"label": "Lung"}}'),
        ("cg.tsv", "index\tname\tabbreviation\tcolor\tmapping\n7\tLung\tL\tn/a\tn/a\n"),
        ("g.txt", "#No. Label Name: R G B A\n0 Unknown 0 0 0 0\n7   Lung   128 0 255 0\n"),
        ("h.txt", '  7   128    0  255        1  1  1    "Lung"\n'),
    ],
)
def test_tables_of_other_programs_are_understood(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    labels = read_table(tmp_path / name).labels
    assert {value: label.name for value, label in labels.items()} == {7: "Lung"}
    expected = default_color(7) if name[0] in "cd" else (0.5, 0.0, 1.0)
    assert labels[7].color == pytest.approx(expected, abs=0.5 / 255)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "LabelValue,Name\nseven,Lung\n", "'seven' in 'a.csv' is not a label value"),
        ("a.csv", "LabelValue,Name\n7,Lung\n7,Liver\n", "'a.csv' has label 7 twice"),
        ("a.csv", "Name,Comment\nLung,7\n", "'a.csv' has no column for the label value"),
        ("a.csv", "LabelValue,Name,Color_R,Color_G,Color_B\n7,Lung,300,0,0\n", "not three numbers from 0 to 255"),
        ("a.csv", "", "'a.csv' is empty"),
        ("a.csv", "LabelValue,Name\n-7,Lung\n", "'-7' in 'a.csv' is not a label value"),
        ("a.csv", "Value,Organ\n7,Lung\n", "'a.csv' has no column 'Name' but one 'organ'"),
        ("a.json", '[{"value": 7, "organ": "Lung"}]', "'a.json' has no column 'Name' but one 'organ'"),
        ("a.json", "{", "'a.json' is not valid JSON"),
        ("a.json", "5", "'a.json' holds no labels"),
        ("a.json", '[{"name": "x"}]', "has no 'value'"),
        ("a.ctbl", "7 Lung 1\n", "Line 1 of 'a.ctbl' is not one of a colour table"),
        ("a.doc", "7", "'a.doc' is not a label table by its ending"),
        ("a.json", '[{"value": 7, "name": "x"}, {"value": 7, "name": "y"}]', "'a.json' has label 7 twice"),
        ("a.json", '{"labels": {"liver": 7, "lesion": 7}}', "'a.json' has label 7 twice"),
        ("a.json", '[{"value": true}]', "'True' in 'a.json' is not a label value"),
        ("a.json", "[" * 100_000, "'a.json' is not valid JSON"),
        ("a.csv", "LabelValue,Name\n7," + "x" * 200_000, "'a.csv' is no table with columns"),
        ("a.csv", "LabelValue,Name\n7,a\0b\n", "'a.csv' is no plain text"),
        ("a.ctbl", "\u00b2 Lung 1 2 3 255\n", "Line 1 of 'a.ctbl' is not one of a colour table"),
        ("a.ctbl", "9" * 5000 + " Lung 1 2 3 255\n", "is not a label value"),
    ],
)
def test_bad_table_is_one_sentence(tmp_path, name, text, said):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(TableError) as error:
        read_table(tmp_path / name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_table_is_one_sentence(tmp_path):
    with pytest.raises(TableError, match="There is no file"):
        read_table(tmp_path / "nothing.csv")


def test_values_are_found_by_name_and_by_code_and_only_when_there_is_one():
    other = HIPPOCAMPUS.replace("DICOM master list", "another list").replace("Hippocampus", "Hippocampus proper")
    table = LabelTable({1: Label("Left-Lung"), 2: Label("x", terminology=HIPPOCAMPUS), 3: Label("y"), 4: Label("Y")})
    assert table.value_of_name("left lung") == 1
    assert table.value_of_name("y") is None
    assert table.value_of_terminology(other) == 2
    assert table.value_of_terminology(HIPPOCAMPUS.replace("7771000", "24028007")) is None
    assert table.unused([1, 2]) == [3, 4]


def test_plain_tissue_is_no_structure():
    """3D Slicer says it of every new segment."""
    tissue = str(Terminology(Code("SCT", "85756007", "Tissue"), Code("SCT", "85756007", "Tissue")))
    assert LabelTable({507: Label("Other", terminology=tissue)}).value_of_terminology(tissue) is None


def test_freesurfer_is_built_in_with_sides_and_codes(tmp_path):
    table = read_table("freesurfer")
    assert table.labels[17].name == "Left-Hippocampus"
    assert table.labels[53].terminology.count("^Right") == 1
    assert terminology.parsed(table.labels[17].terminology).codes[:3] == ("123037004", "5366008", "7771000")
    assert table.labels[511].name == "Skin"
    assert {4, 43, 14, 15, 24, 136, 137, 163, 164, 530} <= set(table.labels)
    sides = [(v, label.name[5:]) for v, label in table.labels.items() if label.name.startswith("Left-")]
    others = {label.name[6:] for label in table.labels.values() if label.name.startswith("Right-")}
    assert {name for _, name in sides} == others
    codes = [terminology.parsed(label.terminology).codes for label in table.labels.values() if label.terminology]
    assert len(set(codes)) == len(codes), "no two values may mean the same structure"
    assert freesurfer.label(17) == table.labels[17]
    assert freesurfer.label(9999) is None
    assert freesurfer.label(17) is freesurfer.label(17), "the table is made once"
    write_table(table, tmp_path / "fs.json")
    assert [row["value"] for row in json.loads((tmp_path / "fs.json").read_text())["labels"]] == sorted(table.labels)


def test_neighbouring_values_have_colours_that_can_be_told_apart():
    for value in range(1, 300):
        here, there = default_color(value), default_color(value + 1)
        assert sum(abs(a - b) for a, b in zip(here, there, strict=True)) > 0.25
    assert unnamed(7) == Label("label 7", default_color(7))
