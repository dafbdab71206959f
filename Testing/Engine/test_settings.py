"""Settings check themselves, and are the same after a trip through JSON."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import typing
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan.settings import SETTINGS, Bounds, Device, EnhanceSettings


@settings(max_examples=30, deadline=None)
@given(
    st.builds(
        EnhanceSettings,
        model=st.text(),
        strength=st.floats(0, 1),
        character=st.floats(0, 1),
        noise_sigma=st.floats(0, 1e9),
        device=st.sampled_from(Device),
        memory_limit_gb=st.floats(0, 4096),
        seed=st.integers(0, 2**31 - 1),
    )
)
def test_settings_survive_json(chosen):
    assert EnhanceSettings.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


def test_every_task_has_settings_with_usable_defaults():
    for name, kind in SETTINGS.items():
        assert kind.from_dict(kind().to_dict()) == kind(), name


def test_every_number_has_bounds_that_hold_its_default():
    """The Slicer side turns them into the ranges of its widgets."""
    hints = typing.get_type_hints(EnhanceSettings, include_extras=True)
    for field in fields(EnhanceSettings):
        if isinstance(field.default, (int, float)) and not isinstance(field.default, bool):
            bounds = next(entry for entry in hints[field.name].__metadata__ if isinstance(entry, Bounds))
            assert bounds.minimum <= field.default <= bounds.maximum


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"strength": 1.5}, "Setting 'strength' must lie between 0 and 1, not 1.5."),
        ({"strength": -0.1}, "Setting 'strength' must lie between 0 and 1, not -0.1."),
        ({"character": math.nan}, "Setting 'character' must be a finite number, not nan."),
        ({"strength": "1"}, "Setting 'strength' must be float, not '1'."),
        ({"strength": True}, "Setting 'strength' must be float, not True."),
        ({"seed": 1.0}, "Setting 'seed' must be int, not 1.0."),
        ({"seed": -1}, "Setting 'seed' must lie between 0 and 2147483647, not -1."),
        ({"noise_sigma": math.inf}, "Setting 'noise_sigma' must be a finite number, not inf."),
        ({"device": "cuda"}, "Setting 'device' must be Device, not 'cuda'."),
        ({"model": None}, "Setting 'model' must be str, not None."),
    ],
)
def test_impossible_setting_is_one_sentence(values, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        EnhanceSettings(**values)


def test_a_whole_number_is_a_strength():
    assert EnhanceSettings(strength=1, character=0).strength == 1


def test_change_after_the_making_is_found_by_check():
    chosen = EnhanceSettings()
    chosen.strength = 7.0
    with pytest.raises(ValueError, match="'strength'"):
        chosen.check()


def test_unknown_setting_names_the_known_ones():
    with pytest.raises(ValueError, match="Unknown setting colour for EnhanceSettings; it has model, strength"):
        EnhanceSettings.from_dict({"colour": 1})


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="is not a valid Device"):
        EnhanceSettings.from_dict({"device": "abacus"})


def test_every_device_has_words_for_a_person():
    assert all(device.label() for device in Device)


def test_settings_load_without_anything_else():
    code = (
        "import sys; before = set(sys.modules); import medgan.settings; "
        "print(sorted(m for m in set(sys.modules) - before if m.split('.')[0] in "
        "('torch', 'numpy', 'monai', 'SimpleITK', 'scipy')))"
    )
    import medgan

    folder = str(medgan.__path__[0]).removesuffix("medgan")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
