"""Training on a device: the CPU's run, and the model comes back to where the caller had it.

The device is emulated (see `tests.emulated_device`), as one that has no float64. Nor has it
autocast, since torch knows none for it.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from diffsde.data.images import ImageData
from diffsde.data.samples import ArrayData, Samples
from diffsde.equations.named import SDES
from diffsde.errors import InputError
from diffsde.scores.model import ScoreModel
from diffsde.scores.networks import NETWORKS
from diffsde.scores.preconditioning import PRECONDITIONINGS
from diffsde.system.parameters import device_of
from diffsde.system.tensorfile import read_tensors
from diffsde.training import initial_model as initial_model_module, loop as loop_module
from diffsde.training.loop import train
from diffsde.training.objectives import OBJECTIVES
from diffsde.training.recipes import OPTIMIZERS, RECIPES, Recipe
from diffsde.training.run_folder import RunFolder
from diffsde.views import comparisons
from tests.emulated_device import DEVICE, Emulated
from tests.training.test_training import interrupt_at

pytestmark = pytest.mark.filterwarnings("ignore:.*gradients were more than")
CPU = torch.device("cpu")
LOOKS = 2  # an update: its loss, and its gradient's norm

POINTS = Recipe(
    network="MLP", preconditioning="edm", objective="lognormal", sigma_data=0.5,
    averages=(0.9, 0.99), precision="float32",
)  # fmt: skip
FLOW = replace(POINTS, sde="StraightSDE", preconditioning="flow", objective="flow")
COUPLED = replace(FLOW, preconditioning="coupled-flow", coupling="optimal")
IMAGES = replace(POINTS, network="ResidualUNet")
OF_POINTS = [name for name in PRECONDITIONINGS if "flow" not in name]

# Every recipe that has a name, each name in a recipe, and what else goes another way.
VARIANTS: dict[str, Recipe] = {
    **RECIPES,
    **{name: replace(POINTS, objective=name) for name in OBJECTIVES},
    **{name: replace(POINTS, optimizer=name) for name in OPTIMIZERS},
    **{name: replace(POINTS, sde=name) for name in SDES},
    **{name: replace(POINTS, preconditioning=name) for name in OF_POINTS},
    "flow": FLOW,
    "coupled-flow": COUPLED,
    "classes": replace(IMAGES, classes=3),
    "no averages": replace(POINTS, averages=()),
    "parts": replace(POINTS, accumulate=2),
    "mirrored": replace(IMAGES, mirror=True),
    "auto": replace(POINTS, precision="auto"),
}


def test_every_choice_is_among_them() -> None:
    for name, valid in (("network", NETWORKS), ("preconditioning", PRECONDITIONINGS)):
        assert {getattr(recipe, name) for recipe in VARIANTS.values()} == {*valid}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks, and the loss of every update."""
    make = initial_model_module.make_network
    residual: dict[str, Any] = {"channels": (8, 32), "blocks": (1, 1, 1), "embed_dim": 8}
    sizes: dict[str, Any] = {
        "ResidualUNet": residual,
        "LevelUNet": {**residual, "fine_channels": 8, "fine_blocks": 1},
        "ScoreUNet": {"channels": (32, 64, 64, 64), "embed_dim": 8},
        "MLP": {"width": 8, "depth": 1},
    }
    monkeypatch.setattr(
        initial_model_module, "make_network",
        lambda name, sde, **config: make(name, sde, **(sizes[name] | config)),
    )  # fmt: skip
    monkeypatch.setattr(loop_module, "_LOG_EVERY", 1)
    monkeypatch.setattr(comparisons, "plot_losses", lambda *_: None)  # takes longer than the rest


def data_of(recipe: Recipe) -> Samples:
    numbers = torch.Generator().manual_seed(3)
    if recipe.network == "MLP":
        return ArrayData("points", torch.randn(24, 2, generator=numbers), None)
    side = 20 if recipe.network == "ScoreUNet" else 8
    pixels = torch.randint(0, 256, (24, 1, side, side), generator=numbers)
    return ImageData("noise", pixels.to(torch.uint8), torch.arange(24) % 3)


def trained(
    folder: Path, recipe: Recipe, device: torch.device = DEVICE, epochs: int = 1, **how: Any
) -> ScoreModel:
    """A run of two updates an epoch, on that device."""
    recipe = replace(recipe, epochs=epochs, batch_size=8, held_out=8, compile=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Accelerator, "device", device)
        return train(folder, data_of(recipe), recipe, progress=False, **how)


def assert_same_run(folder: Path, expected: Path) -> None:
    """Losses to rounding; and weights and their averages, by the way that they have gone.

    Adam divides by the size of a gradient. So a weight whose gradient is zero but for rounding, as
    that of a bias before a normalisation, goes its way by chance.
    """
    states = [RunFolder(expected, 1).states()[0], *(newest(path) for path in (expected, folder))]
    (first, _), (last, notes), (found, found_notes) = (read_tensors(path) for path in states)
    torch.testing.assert_close(found_notes["losses"], notes["losses"], rtol=1e-5, atol=0)
    assert [step for step, _ in notes["losses"]] == [*range(1, 1 + notes["step"])]
    pair = (found_notes["held_out"][-1], notes["held_out"][-1])
    torch.testing.assert_close(*pair, rtol=1e-5, atol=0)
    assert found_notes["recipe"] == notes["recipe"]
    assert found.keys() == last.keys() > first.keys()
    weights = [name for name in first if not name.endswith("n_averaged")]
    way = torch.cat([(last[name] - first[name]).flatten() for name in weights])
    off = torch.cat([(found[name] - last[name]).flatten() for name in weights])
    assert off.norm() < 0.1 * way.norm()


def newest(folder: Path) -> Path:
    return RunFolder(folder, 1).newest()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_recipe_trains_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    recipe = VARIANTS[name]
    recipe = recipe if name == "auto" else replace(recipe, precision="float32")
    trained(tmp_path / "cpu", replace(recipe, precision="float32"), CPU)
    with Emulated(float64=False):
        found = trained(tmp_path / "device", recipe)
        assert device_of(found) == CPU
    assert_same_run(tmp_path / "device", tmp_path / "cpu")


@pytest.mark.parametrize("name", ["edm", "muon", "coupled-flow"])
def test_the_host_waits_for_two_numbers_of_an_update(name: str, tmp_path: Path) -> None:
    counts = []
    with Emulated(float64=False) as device:
        for epochs in (1, 3):
            device.reset()
            trained(tmp_path / f"{epochs}", VARIANTS[name], epochs=epochs)
            counts.append(device.synchronisations)
    coupled = name == "coupled-flow"  # noises are matched on the host
    assert counts[1] - counts[0] == (LOOKS + coupled) * 2 * 2


@pytest.mark.parametrize("goes_on", [CPU, DEVICE], ids=str)
def test_an_interrupted_run_goes_on_on_any_device(
    goes_on: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = VARIANTS["muon"]
    trained(tmp_path / "whole", recipe, CPU)
    with Emulated(float64=False):
        with monkeypatch.context() as patch:
            interrupt_at(1, patch)
            with pytest.raises(KeyboardInterrupt):
                trained(tmp_path / "cut", recipe)
        trained(tmp_path / "cut", recipe, goes_on, resume=True)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_the_model_comes_back_to_where_the_caller_had_it(tmp_path: Path) -> None:
    """Wherever it trains; and a teacher may be anywhere."""
    start = trained(tmp_path / "start", POINTS, CPU)
    teacher = trained(tmp_path / "teacher", replace(POINTS, seed=1), CPU)
    trained(tmp_path / "cpu", POINTS, CPU, start_from=start, teacher=teacher)
    with Emulated(float64=False) as device:
        pairs = (
            (start, device.module(copy.deepcopy(teacher))),
            (device.module(copy.deepcopy(start)), teacher),
        )
        for place in (CPU, DEVICE):
            for number, (first, other) in enumerate(pairs):
                out = tmp_path / f"{place.type} {number}"
                found = trained(out, POINTS, place, start_from=first, teacher=other)
                assert device_of(found) == device_of(first)
                assert_same_run(out, tmp_path / "cpu")
        torch.set_default_device(DEVICE)
        try:
            found = trained(tmp_path / "default", POINTS)
            assert device_of(found) == DEVICE
        finally:
            torch.set_default_device(None)
    assert_same_run(tmp_path / "default", tmp_path / "start")


def test_bfloat16_without_autocast_is_refused(tmp_path: Path) -> None:
    recipe = replace(POINTS, precision="bfloat16")
    with Emulated(float64=False), pytest.raises(InputError, match="no autocast.*'float32'"):
        trained(tmp_path / "new", recipe)
    assert not [*(tmp_path / "new").glob("*.safetensors")]
    trained(tmp_path / "cpu", recipe, CPU, epochs=1)
    with Emulated(float64=False), pytest.raises(InputError, match="goes on where"):
        trained(tmp_path / "cpu", recipe, resume=True)
