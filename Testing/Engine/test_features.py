"""The feature network: what its numbers see, what they leave out, and how it is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import phantoms
from command_line import one_sentence
from medgan import models
from medgan.degradation import gaussian_blur
from medgan.evaluation.features import MOST_CROPS, SIDE, _network, crop_features, crops, features
from medgan.networks.features import FEATURES, FeatureNet, second_difference
from medgan.recipes import features as recipe
from medgan.volume import LabelMap, Volume, write_volume


@pytest.fixture(scope="module")
def a_head() -> np.ndarray:
    """A clean head of 48 x 52 x 56 voxels with soft edges and some texture."""
    clean = torch.from_numpy(phantoms.head((48, 52, 56)))
    texture = gaussian_blur(torch.from_numpy(np.random.default_rng(1).normal(size=clean.shape)).float(), [1.5] * 3)
    return (gaussian_blur(clean, [0.6] * 3) * (1.0 + 0.5 * texture)).numpy()


@pytest.fixture(scope="module")
def an_origin(a_head) -> np.ndarray:
    return features([Volume(a_head, np.eye(4))])


def moved(array: np.ndarray, origin: np.ndarray) -> float:
    return float(np.linalg.norm(features([Volume(array, np.eye(4))]) - origin))


def test_shipped_network_is_small_and_its_file_is_the_one_of_its_card():
    card = models.find("features")
    models.verify(card)
    network = models.build_network(card, models.load_state(card, "faithful"))
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000
    assert card.weights["faithful"].path.stat().st_size < 2_000_000
    assert card.task == "features"
    assert card.trained_on
    assert card.figures


def test_features_are_one_row_a_volume_the_same_for_the_same_volume(a_head, an_origin, an_oblique_volume):
    assert an_origin.shape == (1, FEATURES)
    assert an_origin.dtype == np.float64
    both = features([an_oblique_volume, Volume(a_head, np.eye(4))])
    np.testing.assert_array_equal(both[1:], an_origin)
    assert np.linalg.norm(both[0] - both[1]) > 1.0
    assert np.isfinite(both).all()


def test_scale_and_unit_of_the_intensity_do_not_matter(a_head, an_origin):
    assert moved(a_head * 3.7, an_origin) < 0.05
    broken = a_head.copy()
    broken[20, 20, 20] = np.nan
    assert moved(broken, an_origin) < 0.5


def test_more_noise_moves_a_volume_further(a_head, an_origin):
    distances = [moved(phantoms.rician(a_head, sigma), an_origin) for sigma in (10.0, 30.0, 90.0)]
    assert 0.5 < distances[0] < distances[1] < distances[2]


def test_more_blur_and_thicker_slices_move_a_volume_further(a_head, an_origin):
    array = torch.from_numpy(a_head)
    blurred = [moved(gaussian_blur(array, [sigma] * 3).numpy(), an_origin) for sigma in (0.7, 1.5, 3.0)]
    assert 0.3 < blurred[0] < blurred[1] < blurred[2]
    thick = [moved(recipe.resliced(array, 0, ratio).numpy(), an_origin) for ratio in (2.0, 6.0)]
    assert 0.3 < thick[0] < thick[1]


def test_volumes_of_every_size_have_features(an_origin):
    noise = np.random.default_rng(0).random((1, 7, 90), dtype=np.float32)
    found = features([Volume(noise, np.eye(4)), Volume(np.zeros((5, 5, 5), np.float32), np.eye(4))])
    assert found.shape == (2, FEATURES)
    assert np.isfinite(found).all()
    assert features([]).shape == (0, FEATURES)


def test_gpu_without_room_for_the_network_leaves_it_to_the_processor(a_head, monkeypatch, a_full_gpu):
    head = Volume(a_head, np.eye(4))
    wanted = features([head])
    a_full_gpu("medgan.inference")
    monkeypatch.setattr("medgan.evaluation.features._network", _network.__wrapped__)
    assert np.array_equal(features([head]), wanted)


def test_progress_is_told_and_can_stop_it(a_head):
    from medgan.progress import Cancelled

    def stop(fraction: float, message: str = "") -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        features([Volume(a_head, np.eye(4))], stop)


def test_crops_are_few_and_keep_to_what_is_no_background():
    array = np.zeros((200, 60, 200), np.float32)
    array[:, :, :60] = 0.7
    found = crops(array)
    assert 0 < len(found) <= MOST_CROPS
    assert all(crop.shape == (SIDE, SIDE, SIDE) for crop in found)
    assert min(float(crop.mean()) for crop in found) > 0.2
    noisy = phantoms.rician(array, 0.15)
    assert len(crops(noisy)) == len(found)  # noise in the background does not make it foreground
    assert crop_features(Volume(noisy, np.eye(4))).shape == (len(found), FEATURES)


def test_second_difference_is_the_curvature_at_its_distance():
    ramp = torch.arange(20.0).expand(1, 1, 20, 20, 20)
    assert float(second_difference(ramp, 4, 2).abs().max()) == 0.0
    parabola = (torch.arange(20.0) ** 2).expand(1, 1, 20, 20, 20)
    found = second_difference(parabola, 4, 2)
    assert found.shape == (1, 1, 20, 20, 16)
    torch.testing.assert_close(found, torch.full_like(found, -2.0))  # -(2 squared) / 2


def test_network_tells_strong_noise_from_weak_before_any_training():
    torch.manual_seed(0)
    network = FeatureNet().eval()
    batch = 0.5 + torch.tensor([0.01, 0.1]).view(2, 1, 1, 1, 1) * torch.randn(2, 1, 17, 23, 31)
    with torch.inference_mode():
        weak, strong = network(batch)
    assert float((weak - strong).norm()) > 0.1


def test_group_is_contrast_and_part_of_the_body():
    found = [
        recipe.group_of(text) for text in ("MR T1w 3D", "MR_T1 extremity 0.98", "CTA torso 1.5mm", "PET extremity")
    ]
    assert found == ["MR T1 head", "MR T1 extremity", "CT torso", "PET extremity"]


def test_degraded_crop_says_what_was_done_to_it():
    generator = torch.Generator().manual_seed(3)
    clean = torch.rand(SIDE, SIDE, SIDE, generator=generator)
    flat = torch.full((SIDE, SIDE, SIDE), 0.5)
    for _ in range(12):
        state = generator.get_state()
        image, added, blur, slices, axis = recipe.degraded(clean, recipe.NoiseKind.GAUSSIAN, generator)
        if not added and not blur and not slices:
            torch.testing.assert_close(image, clean)
        assert (axis < 3) == (slices > 0)
        generator.set_state(state)
        noisy = recipe.degraded(flat, recipe.NoiseKind.GAUSSIAN, generator)[0]
        assert float(noisy.std()) == pytest.approx(added, rel=0.03, abs=1e-6)


@pytest.fixture
def a_data_folder(tmp_path):
    """Two MR heads and one whole-head label map, with their manifest; a third head that no run may see is damaged."""
    folder = tmp_path / "data"
    folder.mkdir()
    head = phantoms.head((40, 44, 48))
    for name, seed in (("one", 1), ("two", 2)):
        write_volume(Volume(phantoms.rician(head, 20.0, seed), np.eye(4)), folder / f"{name}.nii.gz")
    (folder / "held.nii.gz").write_text("no volume")
    write_volume(LabelMap(np.digitize(head, [1, 350, 600, 900]).astype(np.int16), np.eye(4)), folder / "labels.nii.gz")
    rows = ["file,modality", "one.nii.gz,MR T1", "two.nii.gz,CT chest", "held.nii.gz,MR T2"]
    rows.append("labels.nii.gz,label map (FreeSurfer codes)")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def train(data, out, steps: int) -> dict[str, torch.Tensor]:
    arguments = f"--data {data} --out {out} --leave-out held --minutes 0 --batch 2 --synthetic 1 --unit 1 --log-every 1"
    recipe.main([*arguments.split(), "--steps", str(steps)])
    return torch.load(out / "model.pt", weights_only=True)


def test_training_that_goes_on_gives_the_weights_of_an_uninterrupted_one(a_data_folder, tmp_path, monkeypatch):
    whole = train(a_data_folder, tmp_path / "whole", 4)
    assert whole["shift"].dtype == torch.float16

    class Stopped(Exception):
        pass

    log = recipe.Trainer.log

    def stop_after_two(self, entry):
        log(self, entry)
        if entry["step"] == 2:
            self.save()
            raise Stopped

    monkeypatch.setattr(recipe.Trainer, "log", stop_after_two)
    with pytest.raises(Stopped):
        train(a_data_folder, tmp_path / "parts", 4)
    monkeypatch.undo()
    parts = train(a_data_folder, tmp_path / "parts", 4)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_feature_model_is_not_offered_for_enhancement(call, tmp_path):
    write_volume(Volume(phantoms.head(), np.eye(4)), tmp_path / "in.nrrd")
    done = call("enhance", "in.nrrd", "out.nrrd", "--model", "features", cwd=tmp_path)
    one_sentence(done, "features", done.returncode)
    assert done.returncode in (1, 2)
    assert not (tmp_path / "out.nrrd").exists()
