"""The shipped label-to-volume model: intensities from everywhere, any vocabulary, moving labels, what scanners add."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import phantoms
from medgan.models import catalogue, verify
from medgan.networks.render import MULTIPLE, RenderNet, mixture
from medgan.settings import Contrast, SynthesizeSettings
from medgan.synthesis.labels_intensities import parsed
from medgan.synthesis.labels_presets import presets
from medgan.synthesis.labels_scanner import in_slices
from medgan.synthesis.labels_shape import moved, random_deformation, smallest_jacobian
from medgan.synthesis.texture import OCTAVES, coloured_noise, octave_shares
from medgan.tasks import synthesize
from medgan.volume import Label, LabelMap, Volume

NAMES = {2: "Left-Cerebral-White-Matter", 3: "Left-Cerebral-Cortex", 4: "Left-Lateral-Ventricle", 515: "Bone-Cortical"}


@pytest.fixture(scope="module")
def a_head():
    """White matter, cortex, ventricle and bone as FreeSurfer numbers and names them; oblique and left-handed."""
    head = phantoms.head((31, 34, 37))
    values = np.array([0, 515, 3, 2, 4])[np.digitize(head, [1, 350, 600, 900])]
    names = {value: Label(name) for value, name in NAMES.items()}
    return LabelMap(values.astype(np.int16), phantoms.awkward_geometry(), names)


def made(labels, reference=None, **settings):
    inputs = {"labels": labels} | ({"reference": reference} if reference is not None else {})
    return synthesize.run(inputs, SynthesizeSettings("label-to-volume", **settings))


def mean_of(outputs, labels, value, name="sample 1"):
    return float(np.median(outputs.volumes[name].array[labels.array == value]))


def test_the_shipped_model_is_whole():
    card = catalogue()["label-to-volume"]
    verify(card)
    assert card.task == "label-to-volume"
    assert (card.folder / "LICENSE").is_file()
    assert sum(weight.path.stat().st_size for weight in card.weights.values()) < 4_000_000
    said = (card.folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert "held_out.json" in said


@pytest.mark.parametrize(("contrast", "order"), [("T1", [4, 3, 2]), ("T2", [2, 3, 4]), ("FLAIR", [4, 2, 3])])
def test_presets_give_tissues_the_order_of_their_contrast(a_head, contrast, order):
    outputs = made(a_head, contrast=Contrast(contrast))
    found = [mean_of(outputs, a_head, value) for value in order]
    assert found == sorted(found)
    assert found[-1] - found[0] > 0.1
    assert not outputs.report["messages"]
    assert np.array_equal(outputs.volumes["sample 1"].ijk_to_ras, a_head.ijk_to_ras)


def test_ct_is_in_hounsfield_units_and_knows_common_names(a_head):
    names = {2: Label("liver"), 3: Label("lung_upper_lobe_left"), 4: Label("vertebrae_L1"), 515: Label("Zork")}
    outputs = made(LabelMap(a_head.array, a_head.ijk_to_ras, names), contrast=Contrast.CT)
    assert mean_of(outputs, a_head, 0) == pytest.approx(-1000, abs=30)
    assert outputs.report["samples"][0]["intensities"]["2"]["mean"] == pytest.approx(60, abs=1)
    assert outputs.report["samples"][0]["intensities"]["3"]["mean"] == pytest.approx(-820, abs=1)
    assert outputs.report["samples"][0]["intensity_unit"] == "HU"
    assert len(outputs.report["messages"]) == 1
    assert "Zork" in outputs.report["messages"][0]


def preset_of(name, value=2, contrast=Contrast.CT):
    labels = LabelMap(np.full((2, 2, 2), value, np.int16), np.eye(4), {value: Label(name)})
    return presets(contrast, [value], labels).get(value)


def test_a_name_says_more_than_a_number():
    white, grey = (preset_of(NAMES[value], value, Contrast.T1) for value in (2, 3))
    assert preset_of("left cerebral cortex", 2, Contrast.T1) == grey != white
    assert preset_of("Necrosis", 2, Contrast.T1) is None


def test_values_without_names_are_of_freesurfer_where_two_structures_have_both_sides(a_head):
    nobody = LabelMap(np.zeros((2, 2, 2), np.int16), np.eye(4), {41: Label("41")})
    assert presets(Contrast.T1, [0, 1, 2, 4], nobody).keys() == {0}  # as the tumours of BraTS
    assert presets(Contrast.T1, [0, 2, 4, 41, 43, 9999], nobody).keys() == {0, 2, 4, 41, 43}
    outputs = made(LabelMap(a_head.array, a_head.ijk_to_ras), contrast=Contrast.T1)
    assert "how bright the labels 2, 3, 4, 515 are in MR T1" in " ".join(outputs.report["messages"])


@pytest.mark.parametrize(
    ("mean", "names"),
    [
        (-820, "lung lung_upper_lobe_left LeftLung lungs leftlung lungright"),
        (40, "lung_tumor liver-tumours bone_tumour lung_nodule"),
        (45, "lung_vessels liver_vessel heart_atrium_left iliac_arteries atrial_appendage pulmonary_vein"),
        (-100, "bone_fat torso_fat"), (350, "hip_left rib_left_1 ribs ribcage vertebrae_L1 vertebra bones"),
        (-980, "air airway airways bowel_gas"), (35, "kidney kidneys rightkidney"),
        (8, "brain_ventricle urinary_bladder kidney_cyst_left"),
        (34, "hippocampus parahippocampal_gyrus brain"), (52, "hip_muscle gluteus_maximus_left"),
        (None, "hippocampal_fissure cribriform_plate hair zork"),
    ],
)  # fmt: skip
def test_names_in_ct_are_taken_by_whole_words(mean, names):
    found = {name: preset_of(name, 77) for name in names.split()}
    assert {name: pair and pair[0] for name, pair in found.items()} == dict.fromkeys(found, mean)


def test_a_reference_gives_intensities_and_texture(a_head):
    rng = np.random.default_rng(0)
    wanted = {0: 0.0, 515: 150.0, 3: 500.0, 2: 800.0, 4: 200.0}
    image = np.vectorize(wanted.get)(a_head.array) + 30.0 * (a_head.array > 0) * rng.standard_normal(a_head.shape)
    reference = Volume(image.astype(np.float32), a_head.ijk_to_ras)
    outputs = made(a_head, reference)
    for value in (2, 3, 515):
        assert mean_of(outputs, a_head, value) == pytest.approx(wanted[value], abs=60)
    assert outputs.report["samples"][0]["intensity_unit"] == "that of the reference"
    ignored = made(a_head, reference, contrast=Contrast.T1)
    assert "reference was not used" in ignored.report["messages"][0]


def test_intensities_by_hand_in_any_unit(a_head):
    outputs = made(a_head, contrast=Contrast.BY_HAND, intensities="0=-1000 2=-500/5; 3=40/5, 4=900/20 515=1200")
    for value, mean in ((2, -500), (3, 40), (515, 1200)):
        assert outputs.report["samples"][0]["intensities"][str(value)]["mean"] == pytest.approx(mean, abs=0.5)
    for value, mean in ((2, -500), (3, 40)):  # the bone is thin
        assert mean_of(outputs, a_head, value) == pytest.approx(mean, abs=180)
    changed = made(a_head, contrast=Contrast.T1, intensities="2=0.2 77=0.4")
    assert mean_of(changed, a_head, 2) < mean_of(changed, a_head, 3)
    assert "77" in changed.report["messages"][0]


def test_typed_mean_leaves_a_label_the_standard_deviation_it_has(a_head):
    usual, typed = (
        made(a_head, contrast=Contrast.CT, intensities=text).report["samples"][0]["intensities"]
        for text in ("", "2=70 3=50/3")
    )
    assert typed["2"] == {"mean": pytest.approx(70.0, abs=0.1), "sd": usual["2"]["sd"]}
    assert typed["3"]["sd"] == pytest.approx(3.0, abs=0.01)


def test_typed_intensities_are_read_or_refused():
    assert parsed("2=0.7/0.03 3=0.5") == {2: (0.7, 0.03), 3: (0.5, None)}
    assert parsed(" 2 = -7e1 / 3 , 15=.5 ") == {2: (-70.0, 3.0), 15: (0.5, None)}
    assert parsed("  ") == {}
    for text in ("2", "2=", "2=a", "2=0.1/-1", "x=3", "2=1.2.3"):
        with pytest.raises(ValueError, match="is no intensity of a label"):
            parsed(text)
    for text in ("1=1e308", "1=0/2e9", "1=-2e9"):
        with pytest.raises(ValueError, match=r"with numbers up to 1e\+09"):
            parsed(text)
    with pytest.raises(ValueError, match="Label 2 has two intensities"):
        parsed("2=1 2=3")


def test_labels_move_without_folding_and_the_volume_with_them(a_head):
    still = made(a_head, contrast=Contrast.T1, seed=3)
    outputs = made(a_head, contrast=Contrast.T1, seed=3, deformation_mm=4.0, count=2)
    labels = outputs.volumes["sample 1 labels"]
    assert np.array_equal(still.volumes["sample 1 labels"].array, a_head.array)
    share = (labels.array != a_head.array).mean()
    assert 0.05 < share < 0.9
    assert (labels.array != outputs.volumes["sample 2 labels"].array).mean() > 0.05
    assert labels.array.dtype == a_head.array.dtype
    assert set(np.unique(labels.array)) <= set(np.unique(a_head.array))
    said = outputs.report["samples"][0]["folding"]
    assert said["smallest_jacobian"] > 0
    assert said["rms_mm"] == pytest.approx(4.0, rel=0.1)
    moved_there, left = labels.array == 2, (a_head.array == 2) & (labels.array != 2)
    image = outputs.volumes["sample 1"].array
    assert np.median(image[moved_there]) > np.median(image[left]) + 0.05


def test_deformations_are_smooth_seeded_and_as_large_as_asked():
    shape, spacing = (24, 60, 50), (3.0, 1.0, 1.2)
    found = [random_deformation(shape, spacing, 6.0, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(found[0].field_mm, found[1].field_mm)
    assert not np.array_equal(found[0].field_mm, found[2].field_mm)
    for one in found:
        assert one.smallest_jacobian > 0
        assert one.rms_mm == pytest.approx(6.0, rel=0.1)
    huge = random_deformation((40, 40, 40), (1.0, 1.0, 1.0), 30.0, np.random.default_rng(0))
    assert huge.smallest_jacobian > 0
    flat = random_deformation((1, 30, 30), (5.0, 1.0, 1.0), 3.0, np.random.default_rng(0))
    assert not flat.field_mm[0].any()
    assert random_deformation((1, 1, 1), (1.0, 1.0, 1.0), 3.0, np.random.default_rng(0)).rms_mm == 0.0


def test_folding_is_seen():
    places = np.indices((6, 6, 6), dtype=np.float32)
    apart = (2.0, 2.0, 2.0)
    assert smallest_jacobian(np.zeros_like(places), apart) == pytest.approx(1.0)
    stretch = np.zeros_like(places)
    stretch[0] = 0.5 * 2.0 * places[0]
    assert smallest_jacobian(stretch, apart) == pytest.approx(1.5)
    fold = np.zeros_like(places)
    fold[1, :, 3] = -3.0
    assert smallest_jacobian(fold, apart) < 0


def test_a_shift_takes_labels_from_where_it_says():
    rng = np.random.default_rng(0)
    labels = LabelMap(rng.integers(0, 5, (9, 12, 15)).astype(np.uint8), np.diag([2.0, 3.0, 4.0, 1.0]))
    deformation = random_deformation((9, 12, 15), (4.0, 3.0, 2.0), 0.0, rng)
    field = np.zeros_like(deformation.field_mm)
    field[0], field[2] = 4.0, -2.0  # one voxel along k, one back along i
    shifted = moved(labels, type(deformation)(field, 1.0, 0.0)).array
    assert np.array_equal(shifted[:-1, :, 1:], labels.array[1:, :, :-1])


def test_the_scanner_adds_noise_bias_and_slices(a_head):
    plain = made(a_head, contrast=Contrast.T1).volumes["sample 1"].array
    noisy = made(a_head, contrast=Contrast.T1, noise=0.1).volumes["sample 1"].array
    uneven = made(a_head, contrast=Contrast.T1, bias=0.4).volumes["sample 1"].array
    sliced = made(a_head, contrast=Contrast.T1, slice_mm=9.2).volumes["sample 1"].array
    assert (noisy - plain)[a_head.array > 0].std() == pytest.approx(0.1, rel=0.15)
    assert noisy.min() >= 0
    ratio = uneven[plain > 0.3] / plain[plain > 0.3]
    assert 0.05 < ratio.std() < 0.8
    steps = [np.abs(np.diff(image, 2, axis=0)).mean() for image in (sliced, plain)]
    assert steps[0] < 0.5 * steps[1]


def test_thick_slices_keep_what_is_linear_and_the_mean():
    ramp = torch.arange(40.0).view(-1, 1, 1).expand(40, 3, 3)
    assert torch.allclose(in_slices(ramp, 0, 4.0)[6:-6], ramp[6:-6], atol=0.51)
    assert in_slices(torch.ones(1, 3, 3), 0, 2.0).shape == (1, 3, 3)
    assert torch.allclose(in_slices(torch.full((7, 3, 3), 2.0), 0, 20.0), torch.tensor(2.0))


def test_noise_has_the_octaves_that_are_asked_for():
    rng = np.random.default_rng(0)
    for shares in ([0.7, 0.2, 0.1, 0, 0], [0.1, 0.2, 0.4, 0.3, 0.0]):
        noise = coloured_noise((48, 50, 51), shares, rng)
        assert noise.std() == pytest.approx(1.0, abs=1e-3)
        assert octave_shares(noise) == pytest.approx(shares, abs=0.13)
    assert coloured_noise((1, 1, 1), [0.2] * OCTAVES, rng).shape == (1, 1, 1)
    assert octave_shares(np.zeros((4, 4, 4))) == pytest.approx([0.2] * OCTAVES)


def test_noise_is_as_strong_along_every_axis():
    """The power of waves that run across an axis, and of the shortest ones along it, is that of the other axes."""
    noise = coloured_noise((64, 64, 64), [1.0, 0.0, 0.0, 0.0, 0.0], np.random.default_rng(0))
    power = np.abs(np.fft.fftn(noise)) ** 2
    for place in (0, 32):
        k, j, i = (float(power.take(place, axis=axis).mean()) for axis in range(3))
        assert i == pytest.approx((k + j) / 2, rel=0.12)


def test_the_network_starts_as_the_mixture_and_takes_any_side():
    torch.manual_seed(0)
    condition = torch.rand(1, 2, 11, 14, 9) * 0.5
    texture, style = torch.randn(1, 1, 11, 14, 9), torch.zeros(1, 8)
    rendered, unit = mixture(condition, texture)
    assert torch.allclose(RenderNet()(condition, texture, style)[..., :8, :8, :8], rendered[..., :8, :8, :8], atol=1e-5)
    flat = torch.full((1, 2, 8, 8, 8), 0.3)
    one = mixture(flat, torch.ones(1, 1, 8, 8, 8))[0]
    assert torch.allclose(one, torch.tensor(0.6))  # mean plus one standard deviation
    assert MULTIPLE == 4
    assert float(unit.min()) > 0


def test_tiles_of_the_shipped_model_show_no_seams():
    values = np.array([0, 2, 3, 4], np.int16)[np.digitize(phantoms.head((40, 38, 72)), [1, 350, 600])]
    labels = LabelMap(values, np.eye(4))
    whole = made(labels, contrast=Contrast.T1, seed=3).volumes["sample 1"].array
    tiled = made(labels, contrast=Contrast.T1, seed=3, memory_limit_gb=0.055).volumes["sample 1"].array
    assert not np.array_equal(whole, tiled)  # there were tiles
    change = np.abs(whole - tiled)
    assert change.mean() < 0.004
    assert np.abs(np.diff((whole - tiled).mean(axis=(0, 1)))).max() < 0.01


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 33), (50, 2, 3)])
def test_small_and_flat_label_maps_work(shape):
    labels = LabelMap(np.full(shape, 4711, np.int32), phantoms.awkward_geometry())
    outputs = made(labels, deformation_mm=3.0, bias=0.2, noise=0.01, slice_mm=5.0)
    assert outputs.volumes["sample 1"].shape == shape
    assert np.isfinite(outputs.volumes["sample 1"].array).all()
    assert "4711" in outputs.report["messages"][0]


def test_several_label_maps_take_turns(a_head):
    other = LabelMap(np.where(a_head.array == 2, 3, a_head.array), a_head.ijk_to_ras)
    settings = SynthesizeSettings("label-to-volume", contrast=Contrast.T1, count=3, seed=5)
    outputs = synthesize.run({"labels": a_head, "labels 2": other}, settings)
    shown = [outputs.volumes[f"sample {number} labels"].array for number in (1, 2, 3)]
    assert [bool((array == 2).any()) for array in shown] == [True, False, True]
    alone = made(other, contrast=Contrast.T1, seed=6).volumes["sample 1"].array
    assert np.array_equal(outputs.volumes["sample 2"].array, alone)


def test_what_can_not_be_done_is_said_in_one_sentence(a_head):
    def refused(text, **settings):
        with pytest.raises(ValueError, match=re.escape(text)):
            made(a_head, **settings)

    refused("needs a reference volume on the grid", contrast=Contrast.REFERENCE)
    refused(
        "The labels Left-Cerebral-White-Matter, Left-Cerebral-Cortex, Left-Lateral-Ventricle have no intensity",
        contrast=Contrast.BY_HAND,
        intensities="515=3",
    )
    refused("'2:7' is no intensity of a label", intensities="2:7")
    refused("'deformation_mm' must lie between 0 and 30", deformation_mm=31.0)
    nothing = Volume(np.full(a_head.shape, np.nan, np.float32), a_head.ijk_to_ras)
    refused("are not finite numbers", reference=nothing)
    refused("lie on two grids", reference=Volume(np.zeros((4, 4, 4), np.float32), np.eye(4)))
    flat = made(a_head, Volume(np.full(a_head.shape, 7.0, np.float32), a_head.ijk_to_ras))
    assert np.isfinite(flat.volumes["sample 1"].array).all()
