"""The loop with the real kinds and the real data step: stopped and gone on, the losses are the same."""

from __future__ import annotations

import pytest
import torch

import phantoms
from medgan.progress import Cancelled
from medgan.settings import TrainSettings
from medgan.training.data import prepare
from medgan.training.kinds import make_kind
from medgan.training.loop import train
from medgan.volume import Label, LabelMap, Volume
from tiny_training import losses


def inputs(*roles):
    """Three patients, each with a volume (or a label map) for every role."""
    made = {}
    for number in range(3):
        array = phantoms.rician(phantoms.head((24, 24, 24)), sigma=20.0 + number, seed=number)
        label_map = LabelMap(
            (array > 300.0).astype("int16"), phantoms.geometry(), {1: Label("bright", (1.0, 0.0, 0.0))}
        )
        for role in roles:
            volume = Volume(array, phantoms.geometry(), voxel_type="int16")
            made[f"{role}/patient{number}"] = label_map if role == "labels" else volume
    return made


@pytest.mark.parametrize(
    ("kind", "roles", "changes"),
    [
        ("from-noise", ("images",), {"critic_steps": 2}),
        ("segment", ("images", "labels"), {}),
    ],
)
def test_a_real_training_goes_on_with_the_same_losses(tmp_path, kind, roles, changes):
    """Six steps with the faithful stage and the adversarial one, where there are both; stopped after two and five."""
    plain = {
        "kind": kind, "steps": 6, "minutes": 0.0, "batch": 1, "patch": 16, "device": "cpu", "log_every": 1,
        "validate_every": 3, "sample_every": 3, "precision": "float32", "name": "test", **changes,
    }  # fmt: skip
    settings = TrainSettings.from_dict(plain)
    data = prepare(inputs(*roles), settings, tmp_path / "data")

    def made():
        torch.manual_seed(settings.seed)
        return make_kind(settings, data.facts)

    whole_kind = made()
    whole = train(whole_kind, data.samples, settings, tmp_path / "whole")
    for stop in (2, 5):

        def progress(fraction, message="", stop=stop):
            if message.startswith(f"Step {stop} "):
                raise Cancelled

        with pytest.raises(Cancelled):
            train(made(), data.samples, settings, tmp_path / "parts", progress)
    resumed_kind = made()
    resumed = train(resumed_kind, data.samples, settings, tmp_path / "parts")
    assert losses(resumed.curves) == losses(whole.curves)
    assert [row["step"] for row in whole.curves if "val_score" in row] == [3, 6]
    assert any("critic_loss" in row for row in whole.curves)
    assert sorted(path.name for path in (tmp_path / "parts" / "samples").iterdir()) == [
        "step_000003.png",
        "step_000006.png",
    ]
    held, wanted = resumed_kind.state_dict(), whole_kind.state_dict()
    assert all(torch.equal(held[name].nan_to_num(), wanted[name].nan_to_num()) for name in wanted)
