"""The network that names the parts of a head: its shapes and sides, and its recipe on a small head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medgan.models import find
from medgan.networks.mixture import Mixture, fitted, for_voxels_of_half, likely
from medgan.networks.parts import PartsNet
from medgan.parts import STRUCTURES, classes_of_codes, values
from medgan.recipes import parts
from medgan.volume import LabelMap, write_volume


@pytest.fixture
def a_small_network() -> PartsNet:
    torch.manual_seed(0)
    return PartsNet([structure.lateral for structure in STRUCTURES], channels=(4, 6, 8, 8)).eval()


@pytest.fixture
def a_head_of_two_tissues() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A noisy scan (1, 1, 32, 32, 32), which of three structures is where, and a prior whose borders lie elsewhere."""
    place = torch.linspace(-1, 1, 32)
    k, j, i = torch.meshgrid(place, place, place, indexing="ij")

    def shells(shift: float) -> torch.Tensor:
        radius = torch.sqrt(k**2 + j**2 + (i - shift) ** 2)
        return (radius < 0.9).long() + (radius < 0.5).long()

    truth = shells(0.0)[None]
    brightness = torch.tensor([0.05, 0.4, 0.8])[truth][None]
    image = brightness + 0.03 * torch.randn(brightness.shape, generator=torch.Generator().manual_seed(0))
    guess = F.one_hot(shells(0.12), 3).permute(3, 0, 1, 2)[None].float()
    prior = F.avg_pool3d(F.pad(guess, [3] * 6, mode="replicate"), 7, 1)
    return image, truth, (prior + 0.01) / 1.03


def small_head(shape=(40, 44, 48)) -> np.ndarray:
    """FreeSurfer codes, axes S, A, R: two hemispheres with cortex, white matter and ventricles in a skull."""
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.sqrt(k**2 + j**2 + i**2)
    codes = np.zeros(shape, np.int16)
    codes[radius < 0.95] = 515
    right = i > 0
    for limit, left_code, right_code in ((0.85, 3, 42), (0.65, 2, 41), (0.3, 4, 43)):
        codes[(radius < limit) & ~right] = left_code
        codes[(radius < limit) & right] = right_code
    return codes


@pytest.fixture
def a_data_folder(tmp_path):
    """Two small heads, the second upside down in memory, with their manifest."""
    folder = tmp_path / "data"
    folder.mkdir()
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    write_volume(LabelMap(small_head(), matrix), folder / "one.nii.gz")
    turned = np.diag([1.0, 1.0, -1.0, 1.0])
    write_volume(LabelMap(small_head()[::-1].copy(), turned), folder / "two.nii.gz")
    rows = ["file,modality", *(f"{name}.nii.gz,label map (FreeSurfer codes)" for name in ("one", "two"))]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_every_label_has_one_value_and_every_value_one_structure():
    assert len(values()) == len(set(values())) == 35
    known = classes_of_codes()
    assert [STRUCTURES[known[value][0]].name for value in (2, 41, 16, 515)] == [
        "cerebral white matter", "cerebral white matter", "brain stem", "skull",
    ]  # fmt: skip
    assert [known[value][1] for value in (2, 41, 16)] == [0, 1, -1]


def test_probabilities_of_all_labels_sum_to_one_on_a_volume_of_any_size(a_small_network):
    with torch.no_grad():
        logs = a_small_network(torch.rand(1, 1, 13, 40, 67))
    assert logs.shape == (1, 35, 13, 40, 67)
    assert logs.exp().sum(1).sub(1).abs().max() < 1e-4


def test_mixed_precision_changes_no_answer(a_small_network):
    """As on a GPU, where everything that segments runs in mixed precision."""
    image = torch.rand(1, 1, 60, 66, 70, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        full = a_small_network(image)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(a_small_network(image), full)


def test_slabs_give_the_answer_of_the_whole(a_small_network, monkeypatch):
    image = torch.rand(1, 1, 96, 32, 32)
    with torch.no_grad():
        in_slabs = a_small_network(image)
        monkeypatch.setattr("medgan.networks.parts.SLAB", 96)
        whole = a_small_network(image)
    assert (in_slabs - whole).abs().max() < 1e-3


def test_the_view_is_centred_on_the_brain_wherever_it_lies_in_the_scan(a_small_network):
    network = a_small_network
    rough = torch.zeros(1, len(STRUCTURES) + 1, 144, 112, 96)
    rough[:, 0] = 5.0
    rough[:, 1, 90:130, 40:80, 30:70] = 20.0  # white matter
    view = network._brain(rough, [slice(0, side) for side in rough.shape[2:]], rough.shape[2:])
    assert view == [slice(64, 144), slice(12, 108), slice(10, 90)]  # at the end of the first axis, about the middle
    inside = rough[:, :, 64:144, 12:108, 10:90]
    assert network._brain(inside, view, rough.shape[2:]) == view
    nothing = torch.zeros_like(rough)
    whole = [slice(0, side) for side in rough.shape[2:]]
    assert network._brain(nothing, whole, rough.shape[2:]) == [slice(32, 112), slice(8, 104), slice(8, 88)]


def test_away_from_the_brain_there_are_no_structures_of_it(a_small_network):
    image = torch.rand(1, 1, 256, 64, 64)
    with torch.no_grad():
        found = a_small_network(image).argmax(1)[0]
    in_view = [set(found[start : start + 32].unique().tolist()) for start in range(0, 256, 32)]
    away = [labels <= {0, 33, 34} for labels in in_view]
    assert sum(away) >= 2  # the view is 160 voxels long, and the labels beside it are cut at 32
    assert not all(away)


def test_brightness_finds_the_true_border_and_the_field_of_the_coil(a_head_of_two_tissues):
    image, truth, prior = a_head_of_two_tissues
    ramp = torch.linspace(-0.2, 0.2, 32).view(1, 1, 1, 1, 32)
    before = (prior.argmax(1) == truth).float().mean()
    for scan in (image, 1.0 - image, image + ramp):  # another contrast and an uneven coil make no difference
        after = (likely(scan, prior, fitted(scan, prior)).argmax(1) == truth).float().mean()
        assert after > 0.97 > before
    field = fitted(image + ramp, prior).field
    slope = float((field[..., -6] - field[..., 6]).mean())
    assert 0.5 < slope / float(ramp[..., -6] - ramp[..., 6]) < 1.2


def test_a_thin_structure_that_is_looked_for_in_the_wrong_place_has_the_brightness_of_what_is_like_it():
    generator = torch.Generator().manual_seed(1)
    truth = torch.zeros(1, 32, 32, 32, dtype=torch.long)
    truth[:, 4:12, 4:28, 4:28] = 1  # large
    truth[:, 20:23, 4:28, 4:28] = 2  # thin, equally bright
    image = torch.tensor([0.2, 0.6, 0.6])[truth][None] + 0.04 * torch.randn(1, 1, 32, 32, 32, generator=generator)
    guess = F.one_hot(truth, 3).permute(0, 4, 1, 2, 3).float()
    guess[:, [0, 2]] = guess[:, [0, 2]].roll(5, 2)  # beside its place
    prior = F.avg_pool3d(F.pad(guess, [1] * 6, mode="replicate"), 3, 1) * 0.97 + 0.01
    alone, together = (float(fitted(image, prior, alike).mean[2]) for alike in ((), ((1, 2),)))
    assert alone < 0.3
    assert together == pytest.approx(0.6, abs=0.05)


def test_smaller_voxels_are_noisier_and_what_they_are_is_known_from_their_differences():
    generator = torch.Generator().manual_seed(1)
    fine = 0.5 + 0.08 * torch.randn(1, 1, 32, 32, 32, generator=generator)
    coarse = F.avg_pool3d(fine, 2)
    known = Mixture(torch.tensor([0.5]), coarse.var()[None], torch.zeros_like(coarse))
    spread = for_voxels_of_half(known, fine, coarse, torch.ones_like(coarse) > 0).variance.sqrt()
    assert float(spread) == pytest.approx(0.08, rel=0.05)


def test_the_shipped_model_knows_which_structures_are_the_same_tissue():
    names = [structure.name for structure in STRUCTURES]
    groups = find("brain-parts").network_arguments["alike"]
    assert [names[index] for index in groups[-1]] == ["caudate", "putamen", "accumbens"]
    assert [names[group[0]] for group in groups] == ["cerebral white matter", "cerebral cortex", "lateral ventricle",
                                                     "caudate"]  # fmt: skip


def test_heads_are_turned_to_one_orientation_whatever_the_file(a_data_folder):
    one, two = parts.load_heads(a_data_folder / "manifest.csv")
    assert torch.equal(one.codes, two.codes)
    assert one.middle == two.middle
    assert (one.codes == 2).float().mean((0, 1)).argmax() < (one.codes == 41).float().mean((0, 1)).argmax()


def test_in_ras_order_turns_by_right_angles_only():
    array = np.arange(24).reshape(2, 3, 4)
    matrix = np.zeros((4, 4))
    matrix[0, 2], matrix[1, 0], matrix[2, 1], matrix[3, 3] = -1.0, 1.0, 1.0, 1.0  # k to L, i to A, j to S
    turned = parts.in_ras_order(array, matrix)
    assert turned.shape == (3, 4, 2)
    assert turned[0, 0].tolist() == [array[1, 0, 0], array[0, 0, 0]]


def test_the_recipe_learns_and_goes_on_where_it_stopped(a_data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "VIEW", (32, 32, 32))
    small = lambda lateral: PartsNet(lateral, channels=(8, 8, 8, 8))  # noqa: E731
    monkeypatch.setattr(parts, "PartsNet", small)

    def train(out, *more):
        arguments = f"--data {a_data_folder} --out {out} --leave-out two --minutes 0 --log-every 5"
        parts.main([*arguments.split(), "--device", "cpu", *more])
        return torch.load(out / "checkpoint.pt", weights_only=True)

    whole = train(tmp_path / "whole", "--steps", "40", "--critic-share", "0.2")
    losses = (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    first, last = (float(line.split('"loss": ')[1].split(",")[0].rstrip("}")) for line in (losses[0], losses[-1]))
    assert last < 0.9 * first
    assert '"critic"' in losses[-1]
    assert '"critic"' not in losses[0]
    assert whole["step"] == 40
    held = torch.load(tmp_path / "whole" / "model.pt", weights_only=True)
    assert all(tensor.dtype == torch.float16 for name, tensor in held.items() if name != "atlas.left")

    class Stopped(Exception):
        pass

    step = parts.Trainer.learn

    def stop_at_the_eighth(self, share):
        if self.step == 8:
            self.save()
            raise Stopped
        return step(self, share)

    more = ("--steps", "40", "--critic-share", "0.2")
    monkeypatch.setattr(parts.Trainer, "learn", stop_at_the_eighth)
    with pytest.raises(Stopped):
        train(tmp_path / "halves", *more)
    monkeypatch.setattr(parts.Trainer, "learn", step)
    halves = train(tmp_path / "halves", *more)
    for name, tensor in whole["average"].items():
        assert torch.equal(tensor, halves["average"][name]), name


def test_a_folder_without_heads_is_refused_with_one_sentence(tmp_path, a_data_folder):
    with pytest.raises(SystemExit, match="names no whole-head label map"):
        parts.main(["--data", str(a_data_folder), "--out", str(tmp_path / "out"), "--leave-out", "one,two"])
