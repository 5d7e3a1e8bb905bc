"""What is kept on disk belongs to what made it: nothing else ever gets its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde import VESDE, ProbabilityFlow, ScoreModel, classifier_free
from diffsde.analysis import conventions
from diffsde.analysis.dataset_likelihood import evaluate_likelihood
from diffsde.errors import InputError
from diffsde.evaluation.samplers import Sampler, sample_images
from diffsde.scores.precision import Way
from diffsde.system.digest import digest
from diffsde.system.tensorfile import read_tensors, write_tensors
from tests.system.kinds_of_scores import (
    SHAPE,
    compiled_in_place,
    divided,
    labelled,
    model as untrained,
    with_mean,
)

SETTINGS = {"chunk": 2, "method": "heun2", "steps": 2, "probes": 2}
SAMPLER = Sampler("heun2", "ode", 3)


def model(*args: Any, **kwargs: Any) -> ScoreModel:
    return trained(untrained(*args, **kwargs))


def trained(made: ScoreModel) -> ScoreModel:
    """The zeros of an untrained network filled in, so that every part of it counts."""
    generator = torch.Generator().manual_seed(1)
    for parameter in made.network.parameters():
        if not parameter.any():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return made


def images() -> Tensor:
    return torch.randint(0, 256, (4, *SHAPE), generator=torch.Generator().manual_seed(0)) / 255


def flow(score: Any) -> ProbabilityFlow:
    return ProbabilityFlow(getattr(score, "sde", None) or VESDE(), score, SHAPE)


def half() -> ScoreModel:
    return Way(bfloat16=True).of(model())


LIKELIHOODS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "label": (lambda: classifier_free(model(), 3, 3.0), lambda: classifier_free(model(), 7, 3.0)),
    "guidance": (lambda: classifier_free(model(), 3, 3.0), lambda: classifier_free(model(), 3, 1)),
    "way": (half, model),
    "band": (partial(divided, -9.0, 0.0), model),
    "bands": (partial(divided, -9.0, 0.0), partial(divided, -9.0, -2.0)),
    "mean": (partial(with_mean, 0.1), partial(with_mean, 0.9)),
    "weights": (model, partial(model, 1)),
    "partial": (
        lambda: partial(model(), class_label=3),
        lambda: partial(model(), class_label=7),
    ),
}
SAMPLES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "label": (lambda: trained(labelled(3)), lambda: trained(labelled(7))),
    "way": (half, model),
    "band": (partial(divided, -9.0, 0.0), model),
    "mean": (partial(with_mean, 0.1), partial(with_mean, 0.9)),
    "sigma_data": (partial(model, 0, None, "edm"), partial(model, 0, None, "velocity")),
    "compiled": (compiled_in_place, untrained),
}


@pytest.mark.parametrize(("first", "second"), LIKELIHOODS.values(), ids=LIKELIHOODS.keys())
def test_likelihoods_of_another_score_are_refused(
    tmp_path: Path, first: Callable[[], Any], second: Callable[[], Any]
) -> None:
    path = tmp_path / "kept"
    kept = evaluate_likelihood(flow(first()), images(), path=path, **SETTINGS)
    with pytest.raises(InputError, match="holds likelihoods (of another|with other)"):
        evaluate_likelihood(flow(second()), images(), path=path, **SETTINGS)
    again = evaluate_likelihood(flow(first()), images(), path=path, **SETTINGS)
    assert torch.equal(again.log_prob, kept.log_prob)
    assert torch.equal(
        evaluate_likelihood(flow(first()), images(), **SETTINGS).log_prob, kept.log_prob
    )


def test_likelihoods_of_functions_are_not_kept(tmp_path: Path) -> None:
    first, second = (flow(partial(lambda k, x, t: -k * x, k)) for k in (1.0, 2.0))
    with pytest.raises(InputError, match=r"flow\.score\[0\] = <function .*cannot be described"):
        evaluate_likelihood(first, images(), path=tmp_path / "kept", **SETTINGS)
    assert not (tmp_path / "kept").exists()
    found = [evaluate_likelihood(f, images(), **SETTINGS).log_prob for f in (first, second)]
    assert not torch.equal(*found)


@pytest.mark.parametrize(
    "change",
    [{"steps": 3}, {"method": "midpoint"}, {"probes": 3}, {"clock": "sigma"}, {"eps": 1e-2},
     {"exact": True}, {"seed": 1}, {"chunk": 4}, {"probe": "gaussian"}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_likelihoods_of_other_settings_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path, made = tmp_path / "kept", flow(model())
    evaluate_likelihood(made, images(), path=path, **SETTINGS)
    with pytest.raises(InputError, match=f"with other {next(iter(change))}"):
        evaluate_likelihood(made, images(), path=path, **{**SETTINGS, **change})


def test_a_changed_default_is_another_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "kept", flow(model())
    adaptive = {"method": "dopri5", "rtol": 0.1}
    evaluate_likelihood(made, images(), path=path, **adaptive)
    defaults = {"seed": 0, "eps": VESDE().eps, "exact": False, "atol": 1e-5}
    evaluate_likelihood(made, images(), path=path, **adaptive, **defaults)  # goes on
    with pytest.raises(InputError, match="with other atol"):
        evaluate_likelihood(made, images(), path=path, **adaptive, atol=1e-4)
    monkeypatch.setitem(conventions._FLOW_SETTINGS, "atol", 1e-4)
    with pytest.raises(InputError, match="likelihoods with other atol"):
        evaluate_likelihood(made, images(), path=path, **adaptive)


def test_likelihoods_under_autocast_and_of_other_dtypes_are_refused(tmp_path: Path) -> None:
    path, made = tmp_path / "kept", flow(model())
    evaluate_likelihood(made, images(), path=path, **SETTINGS)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(InputError, match="with other autocast"),
    ):
        evaluate_likelihood(made, images(), path=path, **SETTINGS)
    with pytest.raises(InputError, match="other dtype, images"):
        evaluate_likelihood(made, images().double(), path=path, **SETTINGS)


def test_likelihoods_of_an_older_version_are_refused(tmp_path: Path) -> None:
    path, made = tmp_path / "kept", flow(model())
    old = {
        "images": digest([images()]),
        "score": f"ScoreModel {digest(made.score.state_dict().values())}",
        "sde": {"name": "VESDE", **made.sde.config()},
        "seed": 0,
        **SETTINGS,
    }
    tensors = {"log_prob": torch.zeros(2, dtype=torch.float64), "nfe": torch.tensor(4)}
    for held, match in ((old, "of an older version"), (None, "of nothing that is described")):
        write_tensors(path, tensors, {"likelihood": held})
        with pytest.raises(InputError, match=match):
            evaluate_likelihood(made, images(), path=path, **SETTINGS)


def test_a_flow_of_ones_own_is_another_flow(tmp_path: Path) -> None:
    class Slower(ProbabilityFlow):
        def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
            return 0.5 * super().drift(x, t)

    path, made = tmp_path / "kept", flow(model())
    evaluate_likelihood(made, images(), path=path, **SETTINGS)
    with pytest.raises(InputError, match="likelihoods of another flow"):
        evaluate_likelihood(Slower(made.sde, made.score, SHAPE), images(), path=path, **SETTINGS)


@pytest.mark.parametrize(("first", "second"), SAMPLES.values(), ids=SAMPLES.keys())
def test_images_of_another_model_are_refused(
    tmp_path: Path, first: Callable[[], Any], second: Callable[[], Any]
) -> None:
    draw = partial(sample_images, sampler=SAMPLER, n=2, progress=False)
    write_kept = partial(draw, out=tmp_path)
    if first is compiled_in_place:
        first, second = second, first  # compiling takes long: only what is refused is compiled
    kept = write_kept(first())
    with pytest.raises(InputError, match="holds images of another model"):
        write_kept(second())
    assert torch.equal(write_kept(first()).images, kept.images)
    assert torch.equal(draw(first()).images, kept.images)


def test_images_of_other_settings_are_refused(tmp_path: Path) -> None:
    draw = partial(sample_images, model(), n=2, progress=False)
    draw(SAMPLER, out=tmp_path)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(InputError, match="images with other autocast"),
    ):
        draw(SAMPLER, out=tmp_path)


def test_images_of_an_older_version_are_refused(tmp_path: Path) -> None:
    made = model()
    sample_images(made, SAMPLER, 2, out=tmp_path, progress=False)
    (path,) = tmp_path.iterdir()
    name = f"ScoreModel {digest(made.state_dict().values())}"
    old = {"samples": {**asdict(SAMPLER), "seed": 0, "model": name}}
    write_tensors(path, read_tensors(path)[0], old)
    with pytest.raises(InputError, match="images of an older version.*remove this one's files"):
        sample_images(made, SAMPLER, 2, out=tmp_path, progress=False)


def test_images_of_a_model_with_hooks_are_not_kept(tmp_path: Path) -> None:
    made = model()
    made.network.register_forward_hook(lambda _m, _x, out: 2 * out)
    with pytest.raises(InputError, match="cannot be described"):
        sample_images(made, SAMPLER, 2, out=tmp_path, progress=False)
    assert sample_images(made, SAMPLER, 2, progress=False).images.shape == (2, *SHAPE)
