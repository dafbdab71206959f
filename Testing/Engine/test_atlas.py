"""The deformable atlas: what it is bent onto it fits, whatever the pose; and its recipe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from medgan.networks.atlas import Atlas, at, bend_onto
from medgan.networks.parts import PartsNet
from medgan.parts import STRUCTURES
from medgan.recipes import atlas as recipe
from medgan.recipes import parts
from medgan.volume import LabelMap, write_volume

EXTENT_MM = (80.0, 80.0, 80.0)
SHAPE = (28, 28, 28)


def shells(shape=(20, 20, 20), shift=(0.0, 0.0, 0.0), size=(1.0, 1.0, 1.0), turn_degrees=0.0) -> torch.Tensor:
    """(3, d, h, w): outside, a longish body, and a core that lies off its middle; places run from -1 to 1."""
    k, j, i = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in shape], indexing="ij")
    k, j, i = ((each - by) / wide for each, by, wide in zip((k, j, i), shift, size, strict=True))
    angle = math.radians(turn_degrees)
    j, i = math.cos(angle) * j + math.sin(angle) * i, math.cos(angle) * i - math.sin(angle) * j
    body = (k**2 + (j / 1.3) ** 2 + i**2) < 0.45**2
    core = (k**2 + (j - 0.2) ** 2 + i**2) < 0.2**2
    return F.one_hot(body.long() + (body & core).long(), 3).permute(3, 0, 1, 2).float()


def overlap(one: torch.Tensor, other: torch.Tensor) -> list[float]:
    """Dice of each class but the first, by the most likely class."""
    first, second = one.argmax(0), other.argmax(0)
    return [
        2 * float(((first == n) & (second == n)).sum()) / float((first == n).sum() + (second == n).sum())
        for n in range(1, len(one))
    ]


@pytest.mark.parametrize(
    "pose",
    [
        {"shift": (0.2, -0.15, 0.1)},
        {"size": (1.25, 0.85, 1.1)},
        {"turn_degrees": 20.0},
        {"shift": (-0.1, 0.1, 0.1), "size": (0.85, 1.15, 1.0), "turn_degrees": -12.0},
    ],
)
def test_an_atlas_is_bent_onto_what_is_seen_in_any_pose(pose):
    atlas, seen = shells(SHAPE), shells(SHAPE, **pose)
    before = overlap(atlas, seen)
    bend = bend_onto(atlas, seen, EXTENT_MM)
    after = overlap(at(atlas, bend.places(SHAPE)), seen)
    assert min(after) > 0.85
    assert max(before) < min(after)


def test_voxels_that_are_not_known_do_not_pull():
    atlas, truth = shells(SHAPE), shells(SHAPE, shift=(0.15, 0.0, 0.0))
    seen, known = truth.clone(), torch.ones(SHAPE)
    seen[:, :14], known[:14] = torch.tensor([1.0, 0.0, 0.0])[:, None, None, None], 0.0  # the scan ends here
    bent = at(atlas, bend_onto(atlas, seen, EXTENT_MM, known).places(SHAPE))
    assert overlap(bent[:, 14:], truth[:, 14:])[0] > 0.85
    assert float(bent[1:, 8:14].sum()) > 0.5 * float(truth[1:, 8:14].sum())


def test_the_same_is_seen_twice_and_in_inference_mode():
    atlas, seen = shells(), shells(shift=(0.1, 0.0, 0.1))
    known = bend_onto(atlas, seen, EXTENT_MM, rounds=(10, 5, 5))
    with torch.inference_mode():
        again = bend_onto(atlas.clone(), seen.clone(), EXTENT_MM, rounds=(10, 5, 5))
    assert torch.equal(known.places((20, 20, 20)), again.places((20, 20, 20)))
    assert not again.matrix.requires_grad


def test_a_second_bend_goes_on_from_the_first():
    atlas, seen = shells(SHAPE), shells(SHAPE, size=(1.25, 0.85, 1.1))
    first = bend_onto(atlas, seen, EXTENT_MM, rounds=(10, 5, 5))
    second = bend_onto(atlas, seen, EXTENT_MM, start=first, rounds=(0, 0, 40))
    one, two = (overlap(at(atlas, bend.places(SHAPE)), seen) for bend in (first, second))
    assert sum(two) > sum(one)


def test_the_atlas_keeps_one_half_and_gives_back_both():
    atlas = Atlas(3, (20, 20, 20), 4.0)
    assert float(atlas.whole()[0].min()) == 1.0  # an atlas that holds nothing says: outside
    probabilities = shells()
    atlas.hold(probabilities)
    assert atlas.left.shape == (3, 20, 20, 10)
    assert (atlas.whole() - probabilities).abs().max() < 1e-6
    kept = Atlas(3, (20, 20, 20), 4.0)
    kept.load_state_dict({name: tensor.float() for name, tensor in atlas.state_dict().items()})
    assert torch.equal(kept.whole(), atlas.whole())


def test_the_network_asks_the_atlas_only_where_there_is_a_brain(monkeypatch):
    monkeypatch.setattr("medgan.networks.parts.VIEW", (24, 28, 24))
    monkeypatch.setattr("medgan.networks.parts.LEAST_BRAIN_ML", 10.0)
    monkeypatch.setattr("medgan.networks.atlas.ROUNDS", (1, 1, 1))
    torch.manual_seed(0)
    network = PartsNet([structure.lateral for structure in STRUCTURES], channels=(4, 6, 8, 8)).eval()
    rough, near = torch.randn(1, len(STRUCTURES) + 1, 24, 24, 20), torch.rand(1, 1, 24, 24, 20)
    assert network._by_the_atlas(near, rough) is rough  # nothing is held
    network.atlas.left[0], network.atlas.left[1] = 155, 100
    little = rough.clone()
    little[:, 1:-4] = -20.0
    assert network._by_the_atlas(near, little) is little  # no brain
    said = network._by_the_atlas(near, rough)
    assert said.shape == rough.shape
    probabilities = said[0, :-1].exp()
    assert (probabilities.sum(0) - 1.0).abs().max() < 1e-2
    assert (probabilities[1] - 100 / 255).abs().max() < 1e-2
    around = [0, *range(len(STRUCTURES) - 3, len(STRUCTURES))]
    shares = rough[0, around].softmax(0) * 155 / 255  # what lies around the brain stays as the network sees it
    assert (probabilities[around] - shares).abs().max() < 0.02
    assert torch.equal(said[:, -1], rough[:, -1])  # and so does the side


def two_heads(folder) -> None:
    """Two heads of white matter, ventricle and skull that differ in size, the second only to be left out."""
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, n) for n in (60, 64, 60)], indexing="ij")
    rows = ["file,modality"]
    for name, size in (("one", 1.0), ("two", 0.8), ("three", 0.9)):
        radius = np.sqrt(k**2 + j**2 + i**2) / size
        codes = np.where(radius < 0.95, 515, 0)
        codes[radius < 0.8] = 2
        codes[radius < 0.4] = 4
        codes = np.where((i > 0) & (codes == 2), 41, np.where((i > 0) & (codes == 4), 43, codes))
        write_volume(LabelMap(codes.astype(np.int16), np.eye(4)), folder / f"{name}.nii.gz")
        rows.append(f"{name}.nii.gz,label map (FreeSurfer codes)")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def test_the_recipe_adds_a_sharp_atlas_to_the_weights_and_goes_on(tmp_path, monkeypatch):
    two_heads(tmp_path)
    monkeypatch.setattr(recipe, "VIEW", (32, 32, 32))
    monkeypatch.setattr(recipe, "ROUNDS", (20, 10, 10))
    torch.save({"rough.weight": torch.ones(2)}, tmp_path / "weights.pt")
    command = f"--data {tmp_path} --out {tmp_path / 'out'} --weights {tmp_path / 'weights.pt'} --leave-out three"
    recipe.main([*command.split(), "--rounds", "1"])
    recipe.main([*command.split(), "--rounds", "2"])
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert [f'"round": {n}' in line for n, line in enumerate(lines, 1)] == [True, True]
    held = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert held["rough.weight"].dtype == torch.float16
    left = held["atlas.left"]
    assert left.dtype == torch.uint8
    assert left.shape == (len(STRUCTURES) - 3, 32, 32, 16)
    assert (left.int().sum(0) - 255).abs().max() <= len(STRUCTURES)  # probabilities
    ventricle = [structure.name for structure in STRUCTURES].index("lateral ventricle")
    assert left[ventricle, 16, 16, 15] > 250
    assert left[0, 0, 0, 0] == 255
    heads, codes = parts.load_heads(tmp_path / "manifest.csv", left_out={"three"}), parts.Codes(torch.device("cpu"))
    plain = torch.stack([recipe.view_of(head, codes) for head in heads]).mean(0)
    assert float((left.float() / 255).square().sum(0).mean()) > float(plain.square().sum(0).mean()) + 0.01
