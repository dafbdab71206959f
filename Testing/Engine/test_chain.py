"""Several models named for one run: which ones, and in which order they work."""

from __future__ import annotations

import os

import pytest

import model_folders
from command_line import one_sentence
from medgan.models import ModelError, find_chain


@pytest.fixture
def three_models(tmp_path, monkeypatch):
    """Models called hush, edge and fine, which restore noise, blur and resolution."""
    content = b"no weights, which nobody opens here"
    for name, restores in (("hush", "noise"), ("edge", "blur"), ("fine", "resolution")):
        model_folders.write_bundle(tmp_path / "models" / name, content=content, restores=restores)
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("fine", ["fine"]),
        ("fine+edge+hush", ["hush", "edge", "fine"]),
        ("edge + hush", ["hush", "edge"]),
        ("denoise+fine", ["denoise", "fine"]),
    ],
)
def test_models_work_in_the_order_noise_blur_resolution(three_models, text, order):
    assert [card.name for card in find_chain(text)] == order


def test_folders_are_models_of_a_chain_and_may_hold_a_plus(three_models):
    with_plus = three_models.parent / "a+b"
    model_folders.write_bundle(with_plus, content=b"", restores="blur")
    assert [card.folder for card in find_chain(str(with_plus))] == [with_plus]
    assert [card.name for card in find_chain(f"{three_models / 'fine'}+hush")] == ["hush", "fine"]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("hush+nose", "There is no model 'nose'"),
        ("hush++fine", "'hush++fine' has an empty place"),
        ("hush+", "has an empty place"),
        ("hush+denoise", "'hush' and 'denoise' both restore the noise"),
        ("fine+edge+fine", "'fine' and 'fine' both restore the resolution"),
    ],
)
def test_chain_that_can_not_be_is_one_sentence(three_models, call, text, phrase):
    with pytest.raises(ModelError, match=r"^[^\n]+[.]$") as raised:
        find_chain(text)
    assert phrase in str(raised.value)
    one_sentence(call("enhance", "a.nrrd", "b.nrrd", "--model", text), phrase)


def test_residual_of_denoising_alone_is_refused_before_the_work(three_models, call, tmp_path):
    done = call("enhance", "a.nrrd", "b.nrrd", "--residual", "r.nrrd", "--model", "hush", cwd=tmp_path)
    one_sentence(done, "Model 'hush' only takes away noise and makes no residual; --difference shows")
    # With a model that makes one, the missing input is what is wrong.
    done = call("enhance", "a.nrrd", "b.nrrd", "--residual", "r.nrrd", "--model", "hush+fine", cwd=tmp_path)
    one_sentence(done, "There is no file")
    assert os.listdir(tmp_path) == ["models"]
