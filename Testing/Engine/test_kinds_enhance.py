"""Training of enhancement: it learns, keeps faithful and natural weights, and goes on from the shipped models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import kind_tools
import phantoms
from medgan.models import find, load_state
from medgan.settings import EnhanceSettings, Restores, TrainKind
from medgan.tasks import enhance
from medgan.training.kinds import make_kind
from medgan.training.kinds.enhance import _relative_error
from medgan.volume import Volume

HEAD = phantoms.head((56, 60, 64)) / 1000.0


def clean(rng):
    """A patch of a drawn head."""
    start = [int(torch.randint(8, side - 8 - kind_tools.SIDE, (), generator=rng)) for side in HEAD.shape]
    box = HEAD[tuple(slice(first, first + kind_tools.SIDE) for first in start)]
    return {"target": torch.from_numpy(np.ascontiguousarray(box, dtype=np.float32))[None]}


def test_enhancement_learns_and_its_bundle_is_run_by_enhance_unchanged(tmp_path):
    kind = kind_tools.small(TrainKind.ENHANCE)
    batches = kind_tools.validation_of(clean)
    before = kind.validate(kind.generator, batches)
    kind_tools.teach(kind, clean, 36, 0.0, rate=1e-2)
    faithful = kind.validate(kind.generator, batches)
    assert faithful["psnr"] > before["psnr"] + 0.15  # it starts as a good filter
    assert faithful["psnr"] > faithful["psnr_before"] + 2.5
    assert list(kind.export(kind.generator).weights) == ["faithful"]
    kind.adversarial_begins(kind.generator)
    kept = {name: tensor.clone() for name, tensor in kind.generator.state_dict().items()}
    said = kind_tools.teach(kind, clean, 4, 1.0, first=100)[1]
    assert {"critic_right", "generator_adversarial", "generator_features", "generator_spectrum"} <= set(said)
    exported = kind.export(kind.generator)
    assert all(torch.equal(exported.weights["faithful"][name], tensor) for name, tensor in kept.items())
    assert any(not torch.equal(exported.weights["natural"][name], tensor) for name, tensor in kept.items())

    folder = tmp_path / "mine"
    kind_tools.bundle_of(exported, folder)
    noise = np.random.default_rng(0).standard_normal((40, 44, 48)).astype(np.float32)
    truth = HEAD[8:48, 8:52, 8:56] * 700
    scan = Volume(np.abs(truth + 25 * noise), np.diag([0.9, 0.9, 1.2, 1.0]))
    results = [
        enhance.run({"volume": scan}, EnhanceSettings(str(folder), character=character)).volumes["volume"].array
        for character in (0.0, 1.0)
    ]
    errors = [float(np.sqrt(np.mean((result - truth) ** 2))) for result in results]
    assert errors[0] < 0.8 * float(np.sqrt(np.mean((scan.array - truth) ** 2)))
    assert not np.array_equal(*results)


def test_the_state_holds_the_faithful_weights():
    kind = kind_tools.small(TrainKind.ENHANCE)
    with torch.no_grad():
        kind.generator.threshold += 0.5
    kind.adversarial_begins(kind.generator)
    with torch.no_grad():
        kind.generator.threshold += 1.0
    other = kind_tools.small(TrainKind.ENHANCE)
    other.load_state_dict(kind.state_dict())
    exported = other.export(other.generator)
    assert list(exported.weights) == ["faithful", "natural"]
    moved = exported.weights["natural"]["threshold"] - exported.weights["faithful"]["threshold"]
    assert torch.allclose(moved, torch.ones_like(moved))
    other.faithful_goes_on()
    assert list(other.export(other.generator).weights) == ["faithful"]


@pytest.mark.parametrize(("model", "gain_db"), [("denoise", 0.8), ("superres", 0.5), ("deblur", 0.5)])
def test_shipped_models_are_called_as_in_use_and_can_go_on(model, gain_db):
    card = find(model)
    settings = replace(kind_tools.settings_for(TrainKind.ENHANCE), restores=Restores(card.restores), patch=40)
    kind = make_kind(settings, replace(kind_tools.FACTS, patch=40), card).eval()
    shipped = load_state(card, "faithful")
    assert all(torch.equal(tensor, shipped[name].float()) for name, tensor in kind.generator.state_dict().items())
    batches = [{"target": torch.from_numpy(HEAD[8:48, 10:50, 12:52].astype(np.float32))[None, None]}]
    found = kind.validate(kind.generator, batches)
    assert found["psnr"] > found["psnr_before"] + gain_db
    assert kind.export(kind.generator).about["restores"] == card.restores
    drawn = kind.draw({"target": batches[0]["target"][0]}, torch.Generator().manual_seed(0))
    losses = []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            losses.append(kind.generator_loss({name: tensor[None] for name, tensor in drawn.items()}, 0.0)["error"])
        losses[-1].backward()
    assert float(losses[1].detach()) == pytest.approx(float(losses[0].detach()), rel=0.02)


def test_an_error_of_any_size_says_which_way_is_better():
    kind = kind_tools.small(TrainKind.ENHANCE)
    batch = kind_tools.batch_of(kind, clean, 1)
    before = (batch["input"] - batch["target"]).square()
    errors = []
    for factor in (1.0, 3.0, 1000.0):
        far = (batch["target"] + factor * (batch["input"] - batch["target"])).requires_grad_(True)
        error = _relative_error(far, batch["target"], batch["input"])
        assert torch.autograd.grad(error.sum(), far)[0].abs().amax(dim=(1, 2, 3, 4)).min() > 0.0
        errors.append(error.detach())
    assert float(before.mean(dim=(1, 2, 3, 4)).min()) > 1e-6  # beyond the floor of the measure
    assert torch.allclose(errors[0], torch.ones(2))
    assert torch.allclose(errors[1], torch.full((2,), 9.0))
    assert torch.allclose(errors[2], 20.0 + 20.0 * torch.tensor([1e6, 1e6]).div(20.0).log())


def test_noise_of_a_pair_is_measured_and_of_a_clean_patch_is_what_was_added():
    kind = kind_tools.small(TrainKind.ENHANCE)
    rng = torch.Generator().manual_seed(3)
    target = clean(rng)["target"]
    drawn = kind.draw({"input": target + 0.05 * torch.randn(target.shape, generator=rng), "target": target}, rng)
    assert float(drawn["sigma"]) == pytest.approx(0.05, rel=0.35)
    levels = []
    for seed in range(12):
        made = kind.draw({"target": target, "sigma": torch.tensor(1e-4), "spread": torch.full((64,), 1e-4)},
                         torch.Generator().manual_seed(seed))  # fmt: skip
        added = float((made["input"] - target).std())
        levels.append(added)
        assert float(made["spread"].median()) == pytest.approx(added, rel=0.5)
    assert max(levels) > 3 * min(levels)


def test_pairs_can_not_teach_what_thick_slices_hide():
    settings = replace(kind_tools.settings_for(TrainKind.ENHANCE), restores=Restores.RESOLUTION)
    kind = make_kind(settings, kind_tools.FACTS)
    target = torch.zeros(1, 16, 16, 16)
    with pytest.raises(ValueError, match="give the sharp volumes alone"):
        kind.draw({"input": target, "target": target}, torch.Generator())
