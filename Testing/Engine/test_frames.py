"""4D files: read and written frame by frame, and enhanced as if every frame were a file of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import phantoms
from command_line import one_sentence, run
from medgan.frame_reports import merged
from medgan.frames import AXIS, LIST, Frames, has_frames, read_frames
from medgan.settings import EnhanceSettings
from medgan.volume import Volume, VolumeError, read_volume, write_volume
from medgan.writing import write

SHAPE = (13, 17, 15)
INDEX = {"axis 0 index type": "numeric", "axis 0 index values": "1 3.5 6 8.5"}


def four_frames(layout: str = AXIS, dtype: type = np.int16) -> Frames:
    """Noisy heads, each noisier than the one before, on an oblique, left-handed, anisotropic, odd grid."""
    heads = [np.rint(phantoms.rician(phantoms.head(SHAPE), 20.0 + 20 * n, seed=n)) for n in range(4)]
    extra = dict(INDEX) if layout == LIST else {}
    return Frames(np.stack(heads).astype(dtype), phantoms.awkward_geometry(), 2.5, 1.0, layout, extra=extra)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
@pytest.mark.parametrize("layout", [AXIS, LIST])
def test_frames_come_back_with_their_voxels_their_grid_and_their_times(tmp_path, name, layout):
    frames = four_frames(layout)
    write(frames, tmp_path / name)
    assert has_frames(tmp_path / name)
    back = read_frames(tmp_path / name)
    assert back.array.dtype == np.int16
    np.testing.assert_array_equal(back.array, frames.array)
    np.testing.assert_allclose(back.ijk_to_ras, frames.ijk_to_ras, atol=1e-4)
    assert (back.step, back.start) == (2.5, 1.0)
    np.testing.assert_array_equal(back["frame 2"].array, frames.array[2])


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
def test_sequence_file_stays_one_with_its_index(tmp_path, name):
    write(four_frames(LIST), tmp_path / name)
    back = read_frames(tmp_path / name)
    assert (back.layout, back.extra) == (LIST, INDEX)
    header = (tmp_path / name).read_bytes().split(b"\n\n")[0].decode()
    assert "kinds: list domain domain domain" in header
    assert "axis 0 index values:=1 3.5 6 8.5" in header
    with pytest.raises(VolumeError, match="is 4D with 4 volumes"):
        read_volume(tmp_path / name)


def test_nrrd_with_an_axis_of_time_is_told_what_to_change(tmp_path):
    write(four_frames(LIST), tmp_path / "a.nrrd")
    content = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(content.replace(b"kinds: list ", b"kinds: time ", 1))
    with pytest.raises(VolumeError, match=r"has an axis beside the three of space .* write 'list' for it"):
        read_frames(tmp_path / "a.nrrd")


def test_times_in_milliseconds_are_read_as_seconds(tmp_path):
    import struct

    write(four_frames(), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[92:96] = struct.pack("<f", 2500.0)  # pixdim[4]
    content[123] = 2 | 16  # xyzt_units: mm and ms
    (tmp_path / "a.nii").write_bytes(content)
    assert read_frames(tmp_path / "a.nii").step == pytest.approx(2.5)


def test_part_of_the_frames_keeps_its_numbers_and_times():
    part = four_frames(LIST).part(slice(1, 3))
    assert list(part) == ["frame 1", "frame 2"]
    assert (part.start, part.first) == (3.5, 1)
    assert part.extra["axis 0 index values"] == "3.5 6"
    np.testing.assert_array_equal(part["frame 2"].array, four_frames().array[2])
    assert list(part.part(slice(1, None))) == ["frame 2"]
    with pytest.raises(VolumeError, match="has the frames 0 to 3, none of which"):
        four_frames().part(slice(7, 9))


def test_file_of_volumes_that_are_not_frames_is_refused(tmp_path):
    colour = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(colour, str(tmp_path / "colour.nrrd"))
    assert not has_frames(tmp_path / "colour.nrrd")
    with pytest.raises(VolumeError, match="has 3 values a voxel"):
        read_frames(tmp_path / "colour.nrrd")
    write_volume(Volume(phantoms.head(), np.eye(4)), tmp_path / "head.nii.gz")
    assert not has_frames(tmp_path / "head.nii.gz")
    assert not has_frames(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha"])
def test_frame_without_a_number_is_named(tmp_path, call, name):
    frames = four_frames(dtype=np.float32)
    frames.array[2] = np.nan
    write(frames, tmp_path / name)
    done = call("enhance", name, "out.nii.gz", cwd=tmp_path)
    one_sentence(done, f"Every voxel of frame 2 of '{name}' is NaN")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.fixture(scope="module")
def enhanced(tmp_path_factory) -> dict:
    """One run over a 4D file, with the difference, that several tests look at."""
    folder = tmp_path_factory.mktemp("4D")
    frames = four_frames()
    write(frames, folder / "a.nii.gz")
    more = ("--difference", "d.nrrd", "--frames", "1:", "--json", "--report", "r.json")
    done = run("enhance", "a.nii.gz", "b.nii.gz", *more, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {"folder": folder, "frames": frames, "said": json.loads(done.stdout)["files"][0]}


def test_frames_are_enhanced_as_if_each_were_alone(enhanced):
    from medgan.tasks.enhance import run as alone

    source, result = enhanced["frames"], read_frames(enhanced["folder"] / "b.nii.gz")
    change = read_frames(enhanced["folder"] / "d.nrrd")
    assert (len(result), result.array.dtype, change.array.dtype) == (3, np.int16, np.float32)
    np.testing.assert_allclose(result.ijk_to_ras, source.ijk_to_ras, atol=1e-4)
    read = read_frames(enhanced["folder"] / "a.nii.gz")
    for number in range(1, 4):
        outputs = alone({"volume": read[f"frame {number}"]}, EnhanceSettings())
        np.testing.assert_array_equal(result.array[number - 1], outputs.volumes["volume"].stored())
        np.testing.assert_array_equal(change.array[number - 1], outputs.volumes["difference"].array)
        assert np.abs(change.array[number - 1]).mean() > 3


def test_chosen_frames_keep_their_times(enhanced):
    result = read_frames(enhanced["folder"] / "b.nii.gz")
    assert (result.step, result.start) == (2.5, 3.5)


def test_report_has_a_row_for_each_frame(enhanced):
    report = enhanced["said"]["report"]
    assert [row["frame"] for row in report["frames"]] == [1, 2, 3]
    sigmas = [row["sigma_before"] for row in report["frames"]]
    assert sigmas[0] < min(sigmas[1:])  # the noise was 40, 60 and 80
    assert report["sigma_before"] == pytest.approx(np.mean(sigmas))
    rows = json.loads((enhanced["folder"] / "r.json").read_text())["files"]
    assert [row["frame"] for row in rows] == [None, 1, 2, 3]
    assert [row["sigma_before"] for row in rows[1:]] == sigmas
    assert {row["input"] for row in rows} == {"a.nii.gz"}


def test_info_describes_a_4d_file(enhanced, call):
    path = enhanced["folder"] / "a.nii.gz"
    said = json.loads(call("info", path, "--json").stdout)
    assert (said["frames"], said["frame_step"], said["frame_start"]) == (4, 2.5, 1.0)
    assert said["size_voxels"] == [15, 17, 13]
    assert said["maximum"] == enhanced["frames"].array[0].max()
    shown = call("info", path).stdout
    assert "4, 2.5 s apart" in shown
    assert "figures are those of the first frame" in shown


@pytest.mark.parametrize(
    ("source", "more", "phrase"),
    [
        ("a.nii.gz", ("b.npz",), "NumPy files hold 3D volumes"),
        ("a.nii.gz", ("b.nrrd", "--difference", "d.npy"), "NumPy files hold 3D volumes"),
        ("a.nii.gz", ("b.nrrd", "--frames", "9:"), "has the frames 0 to 3, none of which were chosen"),
        ("head.nrrd", ("b.nrrd", "--frames", "0:2"), "is no 4D file, so --frames has nothing to choose from"),
    ],
)
def test_what_can_not_be_done_with_frames_is_one_sentence(tmp_path, call, source, more, phrase):
    write(four_frames(), tmp_path / "a.nii.gz")
    write_volume(Volume(phantoms.head(), np.eye(4)), tmp_path / "head.nrrd")
    one_sentence(call("enhance", source, *more, cwd=tmp_path), phrase)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nii.gz", "head.nrrd"]


def test_messages_of_all_frames_are_said_once_and_others_with_the_frames():
    def row(*messages: str, rms: float = 1.0, places: int = 0) -> dict:
        figures = {"seconds": 1.5, "sigma_before": rms, "sigma_after": 0.5, "mean_absolute_change": 2.0}
        suspicions = [{"kind": "added", "sentence": f"Place {n}."} for n in range(places)]
        return {
            **figures,
            "largest_change": rms,
            "messages": list(messages),
            "model": "denoise",
            "consistency": {"residual_rms": rms, "residual_sigmas": None},
            "suspicions": suspicions,
        }

    found = merged({"frame 4": row("All.", "One."), "frame 5": row("All.", rms=3.0, places=2)})
    assert found["messages"] == ["All.", "Frame 4: One."]
    assert found["consistency"] == {"residual_rms": 2.0, "residual_sigmas": None}
    assert (found["seconds"], found["sigma_before"], found["largest_change"]) == (3.0, 2.0, 3.0)
    assert [suspicion["sentence"] for suspicion in found["suspicions"]] == ["Frame 5: Place 0.", "Frame 5: Place 1."]
    assert [row["frame"] for row in found["frames"]] == [4, 5]
    assert len(merged({f"frame {n}": row(places=15) for n in range(3)})["suspicions"]) == 45


def test_frames_of_a_path_that_is_no_file_are_none():
    assert not has_frames(Path("folder"))
