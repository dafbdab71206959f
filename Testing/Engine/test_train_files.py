"""Models as zip files: what is packed can be added elsewhere, and what is no model or a trap is not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tracemalloc
import zipfile
from pathlib import Path

import pytest

import model_folders
from command_line import one_sentence
from medgan import bundle_files, models
from medgan.models import ModelError


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """The model folder of another person, which does not exist yet."""
    folder = tmp_path / "élan" / "models"
    monkeypatch.setenv("MEDGAN_MODELS", str(folder))
    return folder


@pytest.fixture
def packed(tmp_path) -> Path:
    """A packed model called "tiny", with files beside it that no model needs."""
    bundle = model_folders.write_bundle(tmp_path / "from" / "tiny")
    (bundle / "docs").mkdir()
    (bundle / "docs" / "README.md").write_text("# Tiny")
    (bundle / "run.py").write_text("print('never')")
    (bundle / "models" / "optimiser.bin").write_bytes(b"0" * 100)
    return bundle_files.pack(models.read_card(bundle), tmp_path / "tiny.zip")


def rewritten(packed: Path, more: dict[str, bytes | None]) -> Path:
    """The zip file with files added, replaced, or (None) left out."""
    target = packed.with_name("changed.zip")
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(target, "w") as changed:
        for entry in source.infolist():
            if entry.filename not in more:
                changed.writestr(entry, source.read(entry))
        for name, content in more.items():
            if content is not None:
                changed.writestr(name, content)
    return target


def test_packed_model_is_added_with_the_same_weights_and_nothing_else(packed, elsewhere):
    with zipfile.ZipFile(packed) as held:
        assert not any(name.endswith((".py", ".bin")) for name in held.namelist())
    card = bundle_files.add(packed)
    assert card.folder == (elsewhere / "tiny").resolve()
    assert models.find("tiny").figures == {"psnr": 1.5}
    original = models.read_card(packed.parent / "from" / "tiny")
    assert card.weights["faithful"].sha256 == original.weights["faithful"].sha256
    models.verify(card)
    assert sorted(file.name for file in elsewhere.rglob("*") if file.is_file()) == [
        "README.md",
        "metadata.json",
        "model_faithful.pt",
        "model_natural.pt",
    ]


def test_model_is_not_packed_without_its_weights(tmp_path):
    bundle = model_folders.write_bundle(tmp_path / "tiny")
    (bundle / "models" / "model_natural.pt").rename(bundle / "models" / "model_natural.pth")
    card = bundle / "configs" / "metadata.json"
    card.write_text(card.read_text().replace("model_natural.pt", "model_natural.pth"))
    with pytest.raises(ModelError, match=r"'model_natural\.pth' of model 'tiny' can not be packed; .* ends in \.pt"):
        bundle_files.pack(models.read_card(bundle), tmp_path / "tiny.zip")
    assert not (tmp_path / "tiny.zip").exists()


def test_what_a_link_points_to_is_not_packed(tmp_path):
    bundle = model_folders.write_bundle(tmp_path / "tiny")
    (tmp_path / "private.txt").write_text("secret")
    try:
        (bundle / "LICENSE.txt").symlink_to(tmp_path / "private.txt")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(ModelError, match=r"'LICENSE\.txt' of model 'tiny' is a link to a file outside its folder"):
        bundle_files.pack(models.read_card(bundle), tmp_path / "tiny.zip")
    (bundle / "LICENSE.txt").unlink()
    (bundle / "LICENSE.txt").symlink_to("configs/metadata.json")
    bundle_files.pack(models.read_card(bundle), tmp_path / "tiny.zip")


@pytest.mark.parametrize("name", ["before", "own"])
def test_model_of_the_same_training_is_replaced(tmp_path, elsewhere, name):
    bundle = model_folders.write_bundle(tmp_path / "run" / name)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["medgan"]["run"] = "one"
    for version in ("0.1.0", "0.2.0"):
        path.write_text(json.dumps({**metadata, "version": version}))
        card = bundle_files.install(bundle, name)
        assert (card.name, card.version) == (name, version)
    assert [folder.name for folder in elsewhere.iterdir()] == [name]


@pytest.mark.parametrize("refusals", [3, 1000], ids=["for a moment", "for good"])
def test_model_stays_where_its_renewed_copy_can_not_take_its_place(tmp_path, elsewhere, monkeypatch, refusals):
    """As on Windows, where a virus scanner may have a file of the fresh copy open."""
    bundle = model_folders.write_bundle(tmp_path / "run" / "own")
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["medgan"]["run"] = "one"
    path.write_text(json.dumps({**metadata, "version": "0.1.0"}))
    bundle_files.install(bundle, "own")
    path.write_text(json.dumps({**metadata, "version": "0.2.0"}))
    moved, refused = os.replace, []

    def held_open(source, target):
        if Path(source).name == "own" and Path(source).parent != elsewhere and len(refused) < refusals:
            refused.append(source)
            raise PermissionError(errno.EACCES, "Access is denied")
        moved(source, target)

    monkeypatch.setattr(os, "replace", held_open)
    monkeypatch.setattr(bundle_files, "WAITS_S", (0.0, 0.0, 0.0))
    if refusals > 3:
        with pytest.raises(ModelError, match="Access is denied"):
            bundle_files.install(bundle, "own")
    else:
        bundle_files.install(bundle, "own")
    assert models.find("own").version == ("0.1.0" if refusals > 3 else "0.2.0")
    assert [folder.name for folder in elsewhere.iterdir()] == ["own"]


def test_verifying_takes_less_memory_than_the_weights(tmp_path):
    bundle = model_folders.write_bundle(tmp_path / "large")
    file = bundle / "models" / "model_natural.pt"
    with file.open("wb") as held:
        held.truncate(3 * 10**7)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["medgan"]["weights"]["natural"]["sha256"] = hashlib.sha256(bytes(3 * 10**7)).hexdigest()
    path.write_text(json.dumps(metadata))
    tracemalloc.start()
    try:
        models.verify(models.read_card(bundle))
        assert tracemalloc.get_traced_memory()[1] < 5 * 10**6
    finally:
        tracemalloc.stop()


def test_model_never_takes_the_place_of_another(packed, elsewhere):
    bundle_files.add(packed)
    (elsewhere / "tiny" / "LICENSE").write_text("mine")
    with pytest.raises(ModelError, match="There is a model 'tiny' already"):
        bundle_files.add(packed)
    assert (elsewhere / "tiny" / "LICENSE").read_text() == "mine"
    assert bundle_files.add(packed, "tiny-2").name == "tiny-2"
    with pytest.raises(ModelError, match="There is a model 'denoise' already"):
        bundle_files.add(packed, "denoise")  # a shipped one


@pytest.mark.parametrize(
    "name", ["../out.json", "tiny/../../out.json", "/out.json", "C:\\out.json", "tiny\\..\\x.json"]
)
def test_file_that_would_lie_outside_is_refused(packed, elsewhere, name):
    with pytest.raises(ModelError, match="would lie outside"):
        bundle_files.add(rewritten(packed, {name: b"{}"}))
    assert not list(elsewhere.rglob("*")) if elsewhere.exists() else True
    assert not (elsewhere.parent / "out.json").exists()


def test_link_is_refused(packed, elsewhere):
    target = packed.with_name("link.zip")
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(target, "w") as changed:
        for entry in source.infolist():
            changed.writestr(entry, source.read(entry))
        link = zipfile.ZipInfo("tiny/docs/link.md")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        changed.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match="a link"):
        bundle_files.add(target)


def test_changed_weights_are_refused_and_leave_nothing(packed, elsewhere):
    with pytest.raises(ModelError, match="is not the file its card describes"):
        bundle_files.add(rewritten(packed, {"tiny/models/model_natural.pt": b"other weights"}))
    assert list(elsewhere.iterdir()) == []


def test_bomb_is_refused_before_it_is_unpacked(packed, elsewhere, monkeypatch):
    monkeypatch.setattr(bundle_files, "MOST_BYTES", 10**6)
    bomb = packed.with_name("bomb.zip")
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("tiny/models/model.pt", b"\0" * 2 * 10**6)
    with pytest.raises(ModelError, match=r"unpacks to 0\.0 GB"):
        bundle_files.add(bomb)
    assert not elsewhere.exists()


def test_code_in_a_configuration_is_refused(packed, elsewhere):
    metadata = json.loads(zipfile.ZipFile(packed).read("tiny/configs/metadata.json"))
    metadata["medgan"]["network_arguments"] = {"channels": "$__import__('os').abort()"}
    with pytest.raises(ModelError, match="never run"):
        bundle_files.add(rewritten(packed, {"tiny/configs/metadata.json": json.dumps(metadata).encode()}))


def test_pickled_code_is_added_as_bytes_and_never_run(tmp_path, elsewhere):
    trap = tmp_path / "trap"
    content = model_folders.pickled_code(trap)
    bundle = model_folders.write_bundle(tmp_path / "from" / "evil", content=content)
    assert hashlib.sha256(content).hexdigest() in (bundle / "configs" / "metadata.json").read_text()
    card = bundle_files.add(bundle_files.pack(models.read_card(bundle), tmp_path / "evil.zip"))
    with pytest.raises(ModelError, match="Python objects"):
        models.load_state(card, "faithful")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "phrase"), [(b"no zip at all", "is no zip file"), (b"", "is no zip file"), (None, "There is no file")]
)
def test_file_that_is_no_model_is_refused(tmp_path, elsewhere, content, phrase):
    path = tmp_path / "model.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=phrase):
        bundle_files.add(path)


def test_zip_without_a_model_is_refused(tmp_path, elsewhere):
    path = tmp_path / "holiday.zip"
    with zipfile.ZipFile(path, "w") as held:
        held.writestr("beach.png", b"...")
    with pytest.raises(ModelError, match="holds no model"):
        bundle_files.add(path)


def test_name_that_no_file_can_have_is_one_sentence(tmp_path, packed, elsewhere):
    with pytest.raises(ModelError, match="can not be read: File name too long"):
        bundle_files.add(tmp_path / f"{'n' * 300}.zip")
    with pytest.raises(ModelError, match="can not be written: File name too long"):
        bundle_files.pack(models.read_card(tmp_path / "from" / "tiny"), tmp_path / f"{'n' * 300}.zip")
    metadata = json.loads(zipfile.ZipFile(packed).read("tiny/configs/metadata.json"))
    for name in ("a\0b", "n" * 300):
        metadata["medgan"]["weights"]["faithful"]["file"] = name
        with pytest.raises(ModelError, match=r"is no name of a weight file|are missing"):
            bundle_files.add(rewritten(packed, {"tiny/configs/metadata.json": json.dumps(metadata).encode()}))
    assert list(elsewhere.iterdir()) == []


def test_zip_with_changed_names_is_refused(packed, elsewhere):
    content = packed.read_bytes()
    name = content.rindex(b"PK\x01\x02") + 46
    changed = bytearray(content)
    changed[name - 37] |= 8  # this name is UTF-8
    changed[name] = 0xB7
    packed.write_bytes(changed)
    with pytest.raises(ModelError, match="damaged"):
        bundle_files.add(packed)


def test_packing_replaces_nothing_beside_the_file(tmp_path, packed):
    beside = tmp_path / "tiny.zip.part"
    beside.write_text("mine")
    bundle_files.pack(models.read_card(tmp_path / "from" / "tiny"), packed)
    assert beside.read_text() == "mine"
    assert sorted(tmp_path.glob("*.zip*")) == [packed, beside]
    assert not list(tmp_path.glob(".*"))


def test_cut_off_zip_is_refused(packed, elsewhere):
    packed.write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(ModelError, match="damaged"):
        bundle_files.add(packed)


@pytest.mark.parametrize("name", ["", "a/b", "a+b", "..", "white space"])
def test_name_that_no_model_can_have_is_refused(name):
    with pytest.raises(ModelError, match="can not be the name"):
        bundle_files.checked_name(name)


def test_models_are_packed_and_added_by_the_command(call, tmp_path, a_model, monkeypatch):
    out = tmp_path / "shared model.zip"
    done = call("models", "pack", a_model, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny -> ")
    said = json.loads(call("models", "pack", a_model, tmp_path / "other.zip", "--json").stdout)
    assert (said["name"], Path(said["file"]), said["bytes"]) == ("tiny", tmp_path / "other.zip", out.stat().st_size)
    one_sentence(call("models", "pack", a_model, out), "exists already; add --overwrite")
    one_sentence(call("models", "add", out), "There is a model 'tiny' already")
    monkeypatch.setenv("MEDGAN_MODELS", str(tmp_path / "other"))
    assert call("models", "add", out, "--name", "shared").returncode == 0
    said = json.loads(call("models", "add", out, "--name", "third", "--json").stdout)
    assert (said["name"], Path(said["folder"]), said["task"]) == ("third", tmp_path / "other" / "third", "enhance")
    listed = json.loads(call("models", "--json").stdout)
    assert "shared" in [card["name"] for card in listed["models"]]
    assert "shared" in call("models").stdout
