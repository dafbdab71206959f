"""A list of files as CSV: what its rows become, and what is said of bad ones. Nothing is computed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import one_sentence
from medgan import worklist
from medgan.plan import Places, UsageError, plan
from medgan.settings import Axis, Device, EnhanceSettings, SliceProfile


def a_list(folder: Path, *lines: str, name: str = "list.csv") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def test_paths_of_a_list_are_relative_to_it(tmp_path):
    path = a_list(tmp_path, "input,output,difference", "a.nrrd,new/b.nii.gz,d.mha", "/far/c.nrrd,e.nrrd,")
    first, second = plan([path], Places())
    assert (first.source, first.target) == (tmp_path / "a.nrrd", tmp_path / "new" / "b.nii.gz")
    assert first.targets == {"volume": tmp_path / "new" / "b.nii.gz", "difference": tmp_path / "d.mha"}
    assert (second.source, second.target) == (Path("/far/c.nrrd"), tmp_path / "e.nrrd")
    assert second.difference is None
    assert first.make_folders


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_row_without_output_goes_into_the_folder_for_results(tmp_path, separator):
    rows = (f"input{separator}output", f"x/a.nrrd{separator}", f"b.nii.gz{separator}own.nrrd")
    path = a_list(tmp_path, *rows)
    places = Places(Path("out"), uncertainty=Path("maps"))
    first, second = plan([path], places)
    assert (first.target, first.uncertainty) == (Path("out/a_enhanced.nrrd"), Path("maps/a_uncertainty.nrrd"))
    assert (second.target, second.uncertainty) == (tmp_path / "own.nrrd", Path("maps/b_uncertainty.nii.gz"))
    assert first.settings(EnhanceSettings()).uncertainty is True


def test_columns_named_like_options_or_settings_change_the_row_alone(tmp_path):
    columns = "Input,output,model,strength,character,noise,device,axis,ratio,slice-profile,slice_gap_mm,blur,fit,seed"
    row = "a.nrrd,b.nrrd,denoise,0.5,1,12.5,CPU,k,2.5,gaussian,0.3,1.25,yes,7"
    own, plain = plan([a_list(tmp_path, columns, row, "c.nrrd,d.nrrd" + "," * 12)], Places())
    common = EnhanceSettings(strength=0.25, seed=3)
    settings = own.settings(common)
    assert (settings.model, settings.strength, settings.character, settings.noise_sigma) == ("denoise", 0.5, 1.0, 12.5)
    assert (settings.device, settings.axis, settings.slice_profile) == (Device.CPU, Axis.K, SliceProfile.GAUSSIAN)
    assert (settings.ratio, settings.slice_gap_mm, settings.blur_sigma) == (2.5, 0.3, 1.25)
    assert (settings.fit_minutes, settings.seed) == (2.0, 7)
    assert plain.settings(common) == common


@pytest.mark.parametrize(
    ("columns", "row", "phrase"),
    [
        ("input,output", ",b.nrrd", "it names no input."),
        ("input,output", "a.nrrd,", "it names no output; add a column 'output', or --out FOLDER."),
        ("input,output", "a.nrrd,b.png", "'b.png' is not the name of a volume file"),
        ("input,output,noise", "a.nrrd,b.nrrd,much", "'noise' is 'much'; it must be a number."),
        ("input,output,seed", "a.nrrd,b.nrrd,1.5", "'seed' is '1.5'; it must be a whole number."),
        ("input,output,axis", "a.nrrd,b.nrrd,x", "'axis' is 'x'; it must be one of auto, i, j, k, all."),
        ("input,output,fit", "a.nrrd,b.nrrd,maybe", "'fit' is 'maybe'; it must be yes or no."),
        ("input,output,noise", "a.nrrd,b.nrrd,-1", "Column 'noise' must lie between 0 and"),
        ("input,output,blur_sigma", "a.nrrd,b.nrrd,-1", "Column 'blur_sigma' must lie between 0 and"),
        ("input,output,model", "a.nrrd,b.nrrd,nose", "There is no model 'nose'"),
        ("input,output", "a.nrrd,good.nrrd", "it would write"),
        ("input,output", "folder,b.nrrd", "'folder' holds several volumes; give them a row each."),
    ],
)
def test_bad_row_has_a_sentence_with_its_line_and_stops_no_other(tmp_path, columns, row, phrase):
    (tmp_path / "folder").mkdir()
    for name in ("a.nii", "b.nii"):
        (tmp_path / "folder" / name).touch()
    good, bad, last = plan([a_list(tmp_path, columns, "x.nrrd,good.nrrd", row, "y.nrrd,last.nrrd")], Places())
    assert (good.problem, last.problem) == ("", "")
    assert bad.problem.startswith("Line 3 of 'list.csv': ")
    assert phrase in bad.problem
    assert bad.problem.endswith(".")
    assert "\n" not in bad.problem


@pytest.mark.parametrize(
    ("lines", "phrase"),
    [
        (["file,output", "a,b"], "has no column 'input'"),
        (["input,output"], "has no rows below"),
        ([""], "has no column 'input'"),
    ],
)
def test_list_that_is_none_is_one_sentence_and_code_2(tmp_path, call, lines, phrase):
    one_sentence(call("enhance", a_list(tmp_path, *lines)), phrase, code=2)


def test_missing_list_and_a_list_that_is_no_text_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv' can not be read: No such file"):
        plan([tmp_path / "none.csv"], Places())
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00input")
    with pytest.raises(UsageError, match="no text in UTF-8"):
        plan([tmp_path / "bytes.csv"], Places())


def test_frames_of_a_row_go_before_those_of_the_command(tmp_path):
    path = a_list(tmp_path, "input,output,frames", "a.nii,b.nii,:2", "c.nii,d.nii,", "e.nii,f.nii,two")
    items = plan([path], Places(), "1:3")
    assert [item.frames for item in items[:2]] == ["0:2", "1:3"]
    assert "0:10, not 'two'" in items[2].problem


def test_row_with_more_cells_than_columns_is_not_taken(tmp_path):
    """A decimal comma would shift what stands behind it."""
    path = a_list(tmp_path, "input,output,strength", "a.nrrd,b.nrrd,0,5", "c.nrrd,d.nrrd,0.5,,")
    shifted, fine = plan([path], Places())
    assert shifted.problem.startswith("Line 2 of 'list.csv': it has more cells than there are columns")
    assert fine.settings(EnhanceSettings()).strength == 0.5


@pytest.mark.parametrize("columns", ["strength,Strength", "noise,noise_sigma", "output,Output"])
def test_two_columns_of_one_meaning_are_refused(tmp_path, columns):
    with pytest.raises(UsageError, match="has two columns that mean"):
        plan([a_list(tmp_path, f"input,{columns}", "a.nrrd,1,2")], Places(Path("o")))


def test_row_can_go_without_the_fit_of_the_others(tmp_path):
    (item,) = plan([a_list(tmp_path, "input,output,fit", "a.nrrd,b.nrrd,no")], Places())
    settings = item.settings(EnhanceSettings(fit_minutes=2.0, fit_from_scratch=True))
    assert (settings.fit_minutes, settings.fit_from_scratch) == (0.0, False)


def test_one_file_by_two_names_fails_its_row_alone(tmp_path):
    first, second = plan([a_list(tmp_path, "input,output", "a.nrrd,o/b.nrrd", "a.nrrd,o/../o/b.nrrd")], Places())
    assert not first.problem
    assert "as line 2 does" in second.problem


def test_columns_that_mean_nothing_are_said_once_and_bad_rows_at_the_end(tmp_path, call):
    path = a_list(tmp_path, "input,patient,output,diagnosis", "a.nrrd,X,b.nrrd,?", ",Y,c.nrrd,?", "d.nrrd,Z,e.nrrd,?")
    assert worklist.unknown_columns(path) == ["patient", "diagnosis"]
    done = call("enhance", path)
    assert done.returncode == 1
    ignored, count, *rest = done.stderr.splitlines()
    assert ignored == "Ignored: columns 'patient', 'diagnosis', which is no setting of a file."
    assert count == "3 of 3 files failed:"
    assert rest[1] == f"  {path}: Line 3 of 'list.csv': it names no input."
    assert "There is no file" in rest[0]
    assert "There is no file" in rest[2]


def test_list_and_one_result_do_not_go_together(tmp_path, call):
    path = a_list(tmp_path, "input,output", "a.nrrd,b.nrrd")
    one_sentence(call("enhance", path, "c.nrrd"), "needs --out FOLDER", code=2)
