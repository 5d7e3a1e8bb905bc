"""Every function of `diffsde.analysis` and `diffsde.evaluation` on a device without float64.

The device is emulated (see `tests.emulated_device`). Solves are swept in `tests/solvers`, training
in `tests/training`, and commands in `tests/cli`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffsde import analysis, evaluation
from diffsde.analysis import budgets, speed_bench
from diffsde.data.images import ImageData
from diffsde.evaluation import RealImages, Sampler
from diffsde.evaluation.classifier import _new_classifier
from diffsde.scores import LevelUNet, ScoreModel
from tests.emulated_device import DEVICE, Emulated
from tests.launched import images, small_model
from tests.problems import mixture

Place = Callable[[Any], Any]
"""Puts a tensor or a module where it is wanted."""

MODEL = small_model().eval()
MANY = images(220)
PICTURES = MANY.batch(torch.arange(110))
SOME = PICTURES[:2]
NOISE = MODEL.sde.prior_sample((2, *MODEL.shape), seed=0)
HEUN = {"method": "heun2", "steps": 2}


def halves() -> tuple[ImageData, ImageData]:
    """Training images and test images."""
    first, second = slice(0, None, 2), slice(1, None, 2)
    labels = MANY.known_labels()
    train, test = (replace(MANY, images=MANY.images[i], labels=labels[i]) for i in (first, second))
    return train, test


def features(x: Tensor) -> Tensor:
    return x.flatten(1)[:, ::8]


def levels() -> ScoreModel:
    """A network that knows levels."""
    torch.manual_seed(0)
    fine = {"fine_channels": 8, "fine_blocks": 1, "sigma_data": 0.5}
    body = LevelUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, **fine)
    return ScoreModel(body, MODEL.sde, MODEL.shape, "denoised").eval()


def flow(place: Place) -> Any:
    return place(MODEL).flow()


def bits(place: Place) -> Any:
    return analysis.bits_by_noise(flow(place), place(SOME), intervals=2).bits


def budget(place: Place) -> Any:
    found = analysis.error_budget(flow(place), place(SOME), probes=2, **HEUN)
    return [found[name] for name in sorted(found)]


def checked(place: Place) -> Any:
    report = analysis.check(place(MODEL).reverse(), place(PICTURES), n=2, progress=False)
    return [row.spread for row in report.rows]


def compared(place: Place) -> Any:
    table = analysis.work_precision(flow(place), ["euler", "heun2"], [4], x=place(NOISE))
    return [row["error"] for row in table]


def compared_with_given(place: Place) -> Any:
    exact = place(NOISE)
    table = analysis.work_precision(
        place(MODEL).reverse(), ["euler"], [4], x=place(NOISE), reference=exact
    )
    return [row["error"] for row in table]


def likelihood(place: Place) -> Any:
    return analysis.evaluate_likelihood(flow(place), place(SOME), **HEUN).log_prob


def law(place: Place) -> Any:
    exact = mixture(dims=2).float()
    return [*analysis.law_errors(place(exact.sample(64, 0.5, seed=0)), place(exact), 0.5)]


def trip(place: Place) -> Any:
    return analysis.round_trip(flow(place), place(SOME), "heun2", steps=2).error


def trips(place: Place) -> Any:
    rows = analysis.compare_round_trips(flow(place), place(SOME), ["heun2"], steps=[2])
    return [row["error"] for row in rows]


def optimised(place: Place) -> Any:
    """In bfloat16 it fails, as the table says, where torch has no autocast."""
    found = analysis.optimize(place(MODEL), batch=2, rounds=1, compile=False)
    return [trial.image_error for trial in found.trials if trial.name.startswith("float32")]


def scored(place: Place) -> Any:
    return evaluation.evaluate(place(PICTURES), halves(), features, progress=False).fid


def scored_by_samplers(place: Place) -> Any:
    table = evaluation.evaluate_samplers(
        place(MODEL), [Sampler(steps=1)], 100, data=halves(), features=features, bootstraps=1,
        progress=False,
    )  # fmt: skip
    return table.rows[0].score.fid


def neighbours(place: Place) -> Any:
    """The references are mostly those of a data set, on the CPU."""
    pairs = ((place(PICTURES[2:]), PICTURES[:2]), (PICTURES[2:], place(PICTURES[:2])))
    return [float(evaluation.nearest_neighbours(x, others)[0].sum()) for others, x in pairs]


def charted(place: Place) -> Any:
    with TemporaryDirectory() as folder:
        atlas = evaluation.make_atlas(
            {"mixture": place(mixture(dims=2).float())}, evaluation.RIVALS[:1], [3], n=100,
            paths=2, out=folder, progress=False,
        )  # fmt: skip
        return [(row.error, row.wasserstein) for row in atlas.rows]


def shown_neighbours(place: Place) -> Any:
    some = {"some": place(PICTURES[:3])}
    figure = evaluation.plot_neighbours(some, place(PICTURES[5:]), PICTURES[3:5])
    return np.concatenate([patch.get_xy() for axes in figure.axes for patch in axes.patches])


def classified(place: Place, folder: Path) -> Any:
    device = place(SOME).device
    accuracy = evaluation.train_classifier(
        halves(), folder / f"{device.type}.safetensors", epochs=1, device=device, progress=False
    )
    model = evaluation.load_classifier(folder / f"{device.type}.safetensors")
    return [accuracy, *model(SOME).flatten().tolist()]


COMPUTED: dict[str, Callable[[Place], Any]] = {
    "bits_by_noise": bits,
    "error_budget": budget,
    "check": checked,
    "work_precision": compared,
    "work_precision, given": compared_with_given,
    "evaluate_likelihood": likelihood,
    "law_errors": law,
    "round_trip": trip,
    "compare_round_trips": trips,
    "decode": lambda place: analysis.decode(flow(place), place(NOISE), **HEUN).final,
    "slerp": lambda place: analysis.slerp(
        place(NOISE[:1]), place(NOISE[1:]), torch.linspace(0, 1, 3)
    ),
    "variational_bound": lambda place: (
        analysis.variational_bound(flow(place), place(SOME), draws=2, seed=0).log_prob
    ),
    "variational_bound, of levels": lambda place: (
        analysis.variational_bound(place(levels()).flow(), place(SOME), draws=4, seed=0).log_prob
    ),
    "noisy_levels": lambda place: analysis.noisy_levels(flow(place), place(SOME), seed=0),
    "dequantise": lambda place: analysis.dequantise(place(SOME), seed=0),
    "optimize": optimised,
    "evaluate": scored,
    "evaluate_samplers": scored_by_samplers,
    "sample_images": lambda place: evaluation.sample_images(
        place(MODEL), Sampler(steps=2), 3, progress=False
    ).images.double(),
    "nearest_neighbours": neighbours,
    "plot_neighbours": shown_neighbours,
    "make_atlas": charted,
}
IN_SOLVES = {"encode", "ensemble", "interpolate", "log_likelihood"}  # tests/solvers/test_device.py
OF_CLASSIFIERS = {"classifier_of", "load_classifier", "train_classifier"}  # below
# They see neither a model nor states, or only what the functions above return.
ON_THE_HOST = {
    *("data_of", "real_images", "exact_mixture", "find_convention"),
    *("plot_atlas", "plot_ensemble", "plot_evaluation"),
}


@pytest.fixture(autouse=True)
def less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse references, and solves of a few steps where images are only compared."""
    monkeypatch.setattr(budgets, "_MOST_FLOW_STEPS", 16)
    monkeypatch.setattr(budgets, "_FLOW_STEPS", 4)
    monkeypatch.setattr(speed_bench, "_STEPS", 2)


def test_every_function_is_among_them() -> None:
    functions = {
        name
        for module in (analysis, evaluation)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
    }
    computed = {name.split(",")[0] for name in COMPUTED}
    assert functions == computed | IN_SOLVES | OF_CLASSIFIERS | ON_THE_HOST


@pytest.mark.parametrize("name", COMPUTED)
def test_a_function_computes_what_it_does_on_the_cpu(name: str) -> None:
    there = COMPUTED[name](lambda value: value)
    with Emulated(float64=False) as device:
        found = COMPUTED[name](on(device))
        assert device.launches or device.synchronisations
        found = device.cpu(found) if isinstance(found, Tensor) else found
    found, there = (torch.as_tensor(value).double() for value in (found, there))
    torch.testing.assert_close(found, there, rtol=1e-4, atol=1e-4, equal_nan=True)


def on(device: Emulated) -> Place:
    def place(value: Any) -> Any:
        if isinstance(value, nn.Module):
            return device.module(copy.deepcopy(value))
        return device.tensor(value)

    return place


def test_a_classifier_is_trained_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def untrained(real: RealImages, *, device: torch.device, progress: bool) -> Any:
        asked.append(device)
        return _new_classifier(real.train, 0).eval().to(device)

    monkeypatch.setattr("diffsde.evaluation.features.classifier_of", untrained)
    with Emulated(float64=False) as device:
        for model in (MODEL, on(device)(MODEL)):
            evaluation.evaluate_samplers(
                model, [Sampler(steps=1)], 100, data=halves(), bootstraps=1, progress=False
            )
    assert [place.type for place in asked] == ["cpu", DEVICE.type]


def test_a_classifier_is_trained_on_a_device(tmp_path: Path) -> None:
    """Where torch has no autocast, in float32; the file is the same whoever reads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffsde.evaluation.classifier.has_autocast", lambda _: False)
        expected = classified(lambda value: value, tmp_path)
    with Emulated(float64=False) as device:
        found = classified(on(device), tmp_path)
        assert device.launches > 100
    assert found == pytest.approx(expected, abs=2e-3)  # weights are rounded to 16 bits
    with Emulated(float64=False):
        torch.set_default_device(DEVICE)
        try:
            again = classified(lambda value: value, tmp_path)  # on the CPU, as it says
        finally:
            torch.set_default_device(None)
    assert again == pytest.approx(expected, abs=2e-3)
