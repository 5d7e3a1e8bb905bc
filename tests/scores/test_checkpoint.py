"""Checkpoints: a saved model comes back, and no file is trusted."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffsde.data.images import load_images
from diffsde.equations.reverse import ProbabilityFlow, ReverseSDE
from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import CheckpointError, DiffSDEError, InputError
from diffsde.scores.checkpoint import (
    PRETRAINED,
    build_model,
    describe_model,
    load_model,
    load_pretrained,
    save_model,
)
from diffsde.scores.denoisers import from_denoiser, to_denoiser
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_unet import ScoreUNet
from diffsde.system.tensorfile import read_tensors, write_tensors


def residual() -> ScoreModel:
    network = ResidualUNet(
        in_channels=3, channels=(16, 32), blocks=(1, 2, 1), embed_dim=32, classes=4
    )
    nn.init.normal_(network.last.weight)
    sde = VPSDE()
    sde.centre(torch.rand(3, 32, 32))
    return ScoreModel(network, sde, (3, 32, 32), EDM(0.4))


def tutorial() -> ScoreModel:
    sde = VESDE(sigma=20.0)
    return ScoreModel(ScoreUNet(sde), sde, (1, 28, 28))


@pytest.mark.parametrize("make", [residual, tutorial])
def test_round_trip(make: Any, tmp_path: Path) -> None:
    model = make().eval()
    again = load_model(save_model(model, tmp_path / "m.safetensors", note="n"))
    assert not again.training
    assert describe_model(again) == describe_model(model)
    x = torch.randn(2, *model.shape)
    with torch.no_grad():
        assert torch.equal(again(x, 0.4), model(x, 0.4))
    prior = {"shape": x.shape, "seed": 0}
    assert torch.equal(again.sde.prior_sample(**prior), model.sde.prior_sample(**prior))
    assert read_tensors(tmp_path / "m.safetensors")[1]["notes"] == {"note": "n"}


def test_a_file_from_before_preconditionings_is_the_tutorials() -> None:
    description = describe_model(tutorial())
    del description["preconditioning"]
    model = build_model(description, tutorial().network.state_dict())
    assert describe_model(model) == describe_model(tutorial())


def test_foreign_parts_cannot_be_saved(tmp_path: Path) -> None:
    model = ScoreModel(nn.Identity(), VESDE(), (1, 28, 28))
    with pytest.raises(InputError, match=r"Identity cannot be named.*NETWORKS"):
        save_model(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_missing_truncated_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(tmp_path / "none.safetensors")
    whole = save_model(residual(), tmp_path / "m.safetensors").read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="not a readable safetensors file"):
            load_model(tmp_path / "cut")
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"not written by diffsde.*'pt'"):
        load_model(tmp_path / "foreign")
    torch.save({"w": torch.zeros(2)}, tmp_path / "pickle")
    with pytest.raises(CheckpointError, match="loads no pickles"):
        load_model(tmp_path / "pickle")


def test_tensors_of_another_network(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", residual().network.state_dict(), describe_model(tutorial()))
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(tmp_path / "m")


HOSTILE: list[tuple[tuple[str, ...], Any, str]] = [
    (("network", "name"), "os.system", "no network 'os.system'"),
    (("network", "name"), ["ScoreUNet"], "no network"),
    (("network", "args"), {"channels": [10**9, 32]}, "1 to 4096"),
    (("network", "args"), {"channels": []}, "1 to 4096"),
    (("network", "args"), {"embed_dim": 10**12}, "1 to 8192"),
    (("network", "args"), {"embed_dim": True}, "1 to 8192"),
    (("network", "args"), {"blocks": [1, 10**6, 1]}, "1 to 64"),
    (("network", "args"), {"colour": 3}, "colour"),
    (("network", "args"), {"scale": "__import__('os')"}, "expected a number"),
    (("network", "args"), 5, "not an object"),
    (("network",), None, "expected a name and args"),
    (("sde", "args"), {"sigma": float("inf")}, "finite"),
    (("sde", "args"), {"sigma": 0.5}, "sigma"),
    (("preconditioning", "args"), {"sigma_data": -1}, "sigma_data"),
    (("preconditioning", "name"), "edmm", "no preconditioning"),
    (("shape",), [1, 10**9, 28], "shape"),
    (("shape",), [1, 28], "shape"),
    (("shape",), "abc", "shape"),
    (("run_this",), "rm", "unknown entries"),
]


@pytest.mark.parametrize(("where", "value", "words"), HOSTILE)
def test_hostile_metadata_builds_nothing(
    where: tuple[str, ...], value: Any, words: str, tmp_path: Path
) -> None:
    description = copy.deepcopy(describe_model(residual()))
    place = description
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    write_tensors(tmp_path / "m", residual().network.state_dict(), description)
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("description", [None, 3, [], "x", {}, {"network": {}}])
def test_metadata_of_another_form(description: Any, tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", {"w": torch.zeros(1)}, description)
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "m")


def test_damaged_bytes_raise_only_our_errors(tmp_path: Path) -> None:
    """A file with a mutated header gives a model or one of our errors, never anything else."""
    small = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8)
    path = save_model(ScoreModel(small, VESDE(), (1, 28, 28), EDM()), tmp_path / "m")
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(0)
    for _ in range(150):
        bytes_ = bytearray(whole)
        for _ in range(rng.choice([1, 3, 20])):
            bytes_[rng.randrange(header)] = rng.randrange(256)
        path.write_bytes(bytes_)
        with contextlib.suppress(DiffSDEError):
            load_model(path)


@pytest.mark.parametrize("name", PRETRAINED)
def test_shipped_models_load_and_denoise(name: str) -> None:
    model = load_pretrained(name)
    assert model.shape == (1, 28, 28)
    assert model.data == name.removesuffix("-tutorial").removesuffix("-likelihood")
    if name == "fashion-mnist":  # its images do not ship: the mean of the data will do
        x = model.sde.data_mean.expand(16, -1, -1, -1)  # type: ignore[union-attr]
    else:
        x = load_images("mnist", train=False).images[:16].float() / 255
    std = model.sde.marginal_std(0.3)
    noisy = x + std * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        clean = model.denoise(noisy, 0.3)
    assert (clean - x).std() < 0.6 * (noisy - x).std()


def test_unknown_pretrained_name() -> None:
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        load_pretrained("mnits")


def test_description_is_json() -> None:
    json.dumps(describe_model(residual()), allow_nan=False)


@pytest.mark.parametrize("name", ["m.pt", "m.ckpt", "m.bin", "m.pkl"])
def test_pickles_are_refused_by_their_names(name: str, tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"a pickle by its name.*weights_only=True"):
        load_model(tmp_path / name)
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(tmp_path / f"none{name}")


def test_a_folder_is_that_of_a_run_or_none(tmp_path: Path) -> None:
    save_model(residual(), tmp_path / "model.safetensors")
    assert describe_model(load_model(tmp_path)) == describe_model(residual())
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"neither model_index\.json.*holds other\.saf"):
        load_model(tmp_path)


def test_a_path_in_place_of_a_model(tmp_path: Path) -> None:
    sde, path = VESDE(), tmp_path / "model.safetensors"
    calls: list[Any] = [
        lambda: ReverseSDE(sde, "model.pt", (1, 28, 28)),
        lambda: ProbabilityFlow(sde, path, (1, 28, 28)),
        lambda: from_denoiser("model.pt", sde),
        lambda: to_denoiser(path, sde),
        lambda: ScoreModel("model.pt", sde, (1, 28, 28)),
        lambda: save_model("model.pt", path),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"read from a path by load_model\('.*model\.\w+'\)"):
            call()
