"""Models are found, described and loaded; nothing in a bundle is ever run, and a broken one hurts nobody else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import model_folders
from medgan import bundle_files, models
from medgan.models import ModelError


@pytest.fixture
def bundle(tmp_path) -> Path:
    return model_folders.write_bundle(tmp_path / "tiny")


def change(folder: Path, file: str = "metadata.json", **ours) -> None:
    """Replace keys under "medgan" in the metadata, or at the top of another file."""
    path = folder / "configs" / file
    held = json.loads(path.read_text())
    (held["medgan"] if file == "metadata.json" else held).update(ours)
    path.write_text(json.dumps(held))


def test_card_says_what_the_bundle_says(bundle):
    card = models.find(bundle)
    assert (card.name, card.title, card.version, card.task) == ("tiny", "Tiny", "0.3.1", "enhance")
    assert (card.modality, card.licence, card.intended_use) == ("MR, CT", "Apache-2.0", "Tests.")
    assert (card.limits, card.trained_on, card.figures) == ("It has learned nothing.", ("nothing",), {"psnr": 1.5})
    assert (card.network, card.network_arguments) == ("medgan.DenoiseNet", model_folders.TINY)
    assert list(card.weights) == ["faithful", "natural"]
    for weight in card.weights.values():
        assert weight.sha256 == models.sha256_of(weight.path)


def test_shipped_models_are_usable():
    shipped = [card for card in models.catalogue().values() if card.folder.parent == models.SHIPPED]
    tasks = {card.name: card.task for card in shipped}
    enhance = dict.fromkeys(("denoise", "deblur", "superres"), "enhance")
    segment = dict.fromkeys(("brain-parts", "tissue-ct"), "segment")
    made = {"label-to-volume": "label-to-volume", "brain-from-noise": "from-noise", "translate": "translate"}
    assert tasks == {
        **enhance, **segment, **made, "features": "features", "recognise": "recognise", "anomaly": "anomaly",
    }  # fmt: skip
    for card in shipped:
        for key in card.weights:
            models.build_network(card, models.load_state(card, key))
        assert card.licence
        assert card.intended_use
        assert card.trained_on
        assert (card.folder / "docs" / "README.md").is_file()
        assert (card.folder / "LICENSE").is_file()


def test_person_s_models_come_after_ours(a_model):
    assert next(iter(models.catalogue())) == "denoise"
    assert models.find(a_model).title == "Tiny"
    assert list(models.catalogue())[-1] == a_model


def test_folders_of_models_hold_bundles_or_are_one(monkeypatch, tmp_path, bundle):
    assert "tiny" not in models.catalogue()
    for folder in (tmp_path, bundle):
        monkeypatch.setenv("MEDGAN_MODELS", str(folder))
        assert "tiny" in models.catalogue()


def test_folder_of_models_that_does_not_exist_is_no_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path / "nowhere"))
    assert "denoise" in models.catalogue()
    assert models.problems() == {}


def test_shipped_models_are_there_without_a_home_folder(monkeypatch, call):
    """As of services, and of containers that run as a user without a name."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MEDGAN_MODELS", raising=False)
    monkeypatch.setattr(models.Path, "home", no_home)
    assert models.model_folders() == [models.SHIPPED]
    done = call("models", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "denoise" in done.stdout


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ModelError, match=r"There is no model .nose.; there are: denoise, .*superres"):
        models.find("nose")


def test_broken_bundle_is_listed_with_its_problem_and_hides_no_other(a_model, monkeypatch):
    root = models.find(a_model).folder.parent
    (root / "broken" / "configs").mkdir(parents=True)
    (root / "broken" / "configs" / "metadata.json").write_text("{")
    shutil.copytree(models.find("denoise").folder, root / "denoise")
    assert {"denoise", a_model} <= set(models.catalogue())
    assert models.find("denoise").folder.parent == models.SHIPPED
    said = {folder.name: problem for folder, problem in models.problems().items()}
    assert "is not valid JSON" in said["broken"]
    assert "a name that is taken" in said["denoise"]
    with pytest.raises(ModelError, match="is not valid JSON"):
        models.find("broken")


def test_weights_come_back_as_they_were_saved(bundle):
    card = models.find(bundle)
    state = models.load_state(card, "faithful")
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    network = models.build_network(card, state)
    assert not network.training
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, state[name].float())


def test_weights_that_are_added_to_others_come_back_as_the_sum(bundle):
    card = models.find(bundle)
    weights = json.loads((bundle / "configs" / "metadata.json").read_text())["medgan"]["weights"]
    first, second = (models.load_state(card, key) for key in ("faithful", "natural"))
    weights["natural"]["added_to"] = "faithful"
    change(bundle, weights=weights)
    for name, tensor in models.load_state(models.find(bundle), "natural").items():
        torch.testing.assert_close(tensor, first[name].float() + second[name].float())
    for key in ("natural", "missing"):
        weights["natural"]["added_to"] = key
        change(bundle, weights=weights)
        with pytest.raises(ModelError, match=f"adds weights to '{key}', which it does not hold as they are"):
            models.load_state(models.find(bundle), "natural")
    weights["natural"]["added_to"] = "faithful"
    held = models.load_state(card, "natural")
    torch.save(dict(list(held.items())[1:]), bundle / weights["natural"]["file"])
    weights["natural"]["sha256"] = models.sha256_of(bundle / weights["natural"]["file"])
    change(bundle, weights=weights)
    with pytest.raises(ModelError, match="do not belong to the same network"):
        models.load_state(models.find(bundle), "natural")


@pytest.mark.parametrize("flip", [0, 1000, -1])
def test_tampered_weights_are_refused(bundle, flip):
    path = bundle / "models" / "model_faithful.pt"
    content = bytearray(path.read_bytes())
    content[flip] ^= 1
    path.write_bytes(content)
    card = models.find(bundle)
    with pytest.raises(ModelError, match=r"is not the file its card describes \(SHA-256"):
        models.load_state(card, "faithful")
    with pytest.raises(ModelError, match="is not the file"):
        models.verify(card)
    assert models.load_state(card, "natural")


def test_pickled_code_is_not_run(tmp_path):
    trap = tmp_path / "sprung"
    bundle = model_folders.write_bundle(tmp_path / "trap", content=model_folders.pickled_code(trap))
    with pytest.raises(ModelError, match="holds Python objects besides tensors, so it was not loaded"):
        models.load_state(models.find(bundle), "faithful")
    assert not trap.exists()
    torch.load(bundle / "models" / "model_faithful.pt", weights_only=False)
    assert trap.exists()  # the trap does work


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 nearly a zip"])
def test_weights_that_are_no_archive_are_refused(tmp_path, content):
    bundle = model_folders.write_bundle(tmp_path / "bad", content=content)
    with pytest.raises(ModelError, match=r"damaged|besides tensors") as refused:
        models.load_state(models.find(bundle), "faithful")
    assert "\n" not in str(refused.value)


def test_weights_that_hold_no_state_dict_are_refused(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    bundle = model_folders.write_bundle(tmp_path / "bad", content=(tmp_path / "list.pt").read_bytes())
    with pytest.raises(ModelError, match="not a state dict"):
        models.load_state(models.find(bundle), "faithful")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda tensor: tensor.float().index_fill(0, torch.tensor([0]), torch.nan), "numbers that are not finite"),
        (lambda tensor: tensor.index_fill(0, torch.tensor([0]), -torch.inf), "numbers that are not finite"),
        (lambda tensor: tensor.to_sparse(), "does not hold plain numbers"),
        (lambda tensor: tensor.to("meta"), "does not hold plain numbers"),
        (lambda tensor: tensor.to(torch.complex64), "does not hold plain numbers"),
    ],
)
def test_weights_that_are_no_plain_finite_numbers_are_refused(bundle, damage, said):
    file = bundle / "models" / "model_natural.pt"
    state = torch.load(file, weights_only=True)
    name = next(name for name, tensor in reversed(state.items()) if tensor.ndim > 1)
    torch.save({**state, name: damage(state[name])}, file)
    weights = json.loads((bundle / "configs" / "metadata.json").read_text())["medgan"]["weights"]
    weights["natural"]["sha256"] = models.sha256_of(file)
    change(bundle, weights=weights)
    models.load_state(models.find(bundle), "faithful")
    with pytest.raises(ModelError, match=f"'{name}' in 'model_natural.pt' .*{said}"):
        models.load_state(models.find(bundle), "natural")


def test_weights_that_do_not_fit_the_network_are_refused(tmp_path):
    bundle = model_folders.write_bundle(tmp_path / "odd", arguments={**model_folders.TINY, "channels": 6})
    card = models.find(bundle)
    with pytest.raises(ModelError, match="do not fit its network") as refused:
        models.build_network(card, models.load_state(card, "faithful"))
    assert "\n" not in str(refused.value)


def test_arguments_that_the_network_does_not_take_are_refused(tmp_path):
    bundle = model_folders.write_bundle(tmp_path / "odd", arguments={"colour": "red"})
    card = models.find(bundle)
    with pytest.raises(ModelError, match="can not be made with its arguments"):
        models.build_network(card, models.load_state(card, "faithful"))


def test_weights_that_vanish_or_were_never_there_are_refused(bundle):
    card = models.find(bundle)
    with pytest.raises(ModelError, match="has no weights 'gone'; it has faithful, natural"):
        models.load_state(card, "gone")
    (bundle / "models" / "model_natural.pt").unlink()
    with pytest.raises(ModelError, match="can not be read"):
        models.load_state(card, "natural")
    with pytest.raises(ModelError, match="are missing"):
        models.find(bundle)


@pytest.mark.parametrize(
    ("ours", "phrase"),
    [
        ({"network": "os.system"}, "network 'os.system', which is not on the list"),
        ({"network": "monai.networks.nets.Nothing"}, "is not on the list"),
        ({"network": "subprocess.Popen"}, "is not on the list"),
        ({"network": None}, "names no network"),
        ({"network_arguments": {"channels": "$__import__('os').abort()"}}, "code in its configuration"),
        ({"network_arguments": {"channels": ["@device"]}}, "code in its configuration"),
        ({"network_arguments": {"act": {"_target_": "os.abort"}}}, "builds objects inside"),
        ({"network_arguments": [1]}, "must be an object"),
        ({"weights": {}}, "names no weights"),
        ({"weights": {"faithful": {"file": "models/model_faithful.pt"}}}, '"sha256"'),
        ({"weights": {"faithful": {"file": "models/model_faithful.pt", "sha256": "00"}}}, "64 digits"),
        ({"weights": {"faithful": {"file": "../../etc/passwd", "sha256": "0" * 64}}}, "outside its folder"),
        ({"weights": {"faithful": {"file": "models/none.pt", "sha256": "0" * 64}}}, "are missing"),
    ],
)
def test_metadata_that_asks_for_too_much_is_refused_with_one_sentence(bundle, ours, phrase):
    change(bundle, **ours)
    with pytest.raises(ModelError) as refused:
        models.find(bundle)
    assert phrase in str(refused.value)
    assert "\n" not in str(refused.value)


def test_network_of_ours_that_this_version_does_not_know_is_refused_when_built(bundle):
    change(bundle, network="medgan.Newer")
    card = models.find(bundle)
    with pytest.raises(
        ModelError,
        match=r"asks for the network 'medgan\.Newer'; this version knows medgan\.AutoencoderNet, medgan\.ClassNet",
    ):
        models.build_network(card, models.load_state(card, "faithful"))


def test_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(ModelError, match="a model is a MONAI bundle folder"):
        models.find(tmp_path)


# Bundles from elsewhere


@pytest.mark.parametrize("target", ["UNet", "monai.networks.nets.UNet"])
def test_monai_bundle_from_elsewhere_works_as_it_is(tmp_path, target):
    definition = {**model_folders.MONAI_UNET, "_target_": target}
    card = models.find(model_folders.write_monai_bundle(tmp_path / "zoo", definition))
    assert (card.title, card.version, card.modality, card.task) == ("A UNet", "1.0.0", "CT", "enhance")
    network = models.build_network(card, models.load_state(card, "faithful"))
    assert network(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 1, 8, 8, 8)


def test_monai_bundle_with_several_outputs_is_not_offered_for_enhancement(tmp_path):
    definition = {**model_folders.MONAI_UNET, "out_channels": 4}
    assert models.find(model_folders.write_monai_bundle(tmp_path / "zoo", definition)).task == "segment"


@pytest.mark.parametrize(
    ("definition", "phrase"),
    [
        ({**model_folders.MONAI_UNET, "_target_": "os.system"}, "is not on the list"),
        ({**model_folders.MONAI_UNET, "_target_": "$os.system"}, "is not on the list"),
        ({**model_folders.MONAI_UNET, "strides": "$[2] * 1"}, "code in its configuration"),
        ({"spatial_dims": 3}, "describes no network"),
        ("$monai.networks.nets.UNet()", "describes no network"),
    ],
)
def test_monai_bundle_whose_network_is_code_is_refused(tmp_path, definition, phrase):
    with pytest.raises(ModelError) as refused:
        models.find(model_folders.write_monai_bundle(tmp_path / "zoo", definition))
    assert phrase in str(refused.value)


def test_interrupted_replacement_leaves_the_model_that_was_there(tmp_path, monkeypatch):
    new, old, aside = (tmp_path / name for name in ("new", "old", "aside"))
    for folder in (new, old):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    moved = os.replace

    def held_open(source, target):
        if source == new:
            raise PermissionError("Access is denied")
        moved(source, target)

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", held_open)
    monkeypatch.setattr(bundle_files.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bundle_files.take_place(new, old, aside)
    assert (old / "name").read_text() == "old"
    assert not aside.exists()
