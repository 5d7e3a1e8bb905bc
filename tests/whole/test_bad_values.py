"""Values of the wrong kind: each number, shape, device and name that the main functions take.

Each is in turn a word, NaN, a negative number, a list and any object, and the error is always ours
and names the argument. Options of solvers and tolerances are swept with the solvers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffsde
from diffsde import VESDE, InputError, ProbabilityFlow, ReverseSDE, ScoreModel, solve
from diffsde.analysis import variational_bound
from diffsde.equations import SDES
from diffsde.noise import BrownianPath
from diffsde.scores import EDM
from diffsde.training import Recipe
from diffsde.views import animate, write_html
from tests.problems import mixture

SCORE = mixture(dims=2)
FLOW, REVERSE = (kind(SCORE.sde, SCORE, (2,)) for kind in (ProbabilityFlow, ReverseSDE))
X = SCORE.sde.prior_sample((3, 2), seed=0)
IMAGES = torch.linspace(0, 1, 2 * 28 * 28).view(2, 1, 28, 28).mul(255).round() / 255


class Body(torch.nn.Module):
    """A network that costs nothing."""

    classes = 3

    def forward(self, x: torch.Tensor, level: torch.Tensor, label: Any = None) -> torch.Tensor:
        return 0 * x


MODEL = ScoreModel(Body(), VESDE(), (1, 28, 28), EDM(0.33))
SOL, PICTURES = solve(FLOW, X, "heun2", steps=3), MODEL.sample(1, method="ddim", steps=2, seed=0)

HOW: dict[str, Any] = {"method": "heun2", "steps": 2, "seed": 0}
PARTS: dict[str, Any] = {"sde": SCORE.sde, "score": SCORE, "shape": (2,)}
WRONG: list[Any] = ["a", float("nan"), -1, -2.5, [-1.5], object()]

# Calls that are good as they are, and what is swept of their arguments.
CALLS: dict[str, tuple[Callable[..., Any], str]] = {
    "solve": (
        partial(solve, FLOW, X, **HOW),
        "steps ts clock method chunk first seed max_steps max_nfe max_seconds adaptive options",
    ),
    "steps": (
        lambda **given: list(diffsde.steps(REVERSE, X, **{**HOW, "method": "em", **given})),
        "steps ts clock method seed",
    ),
    "prior_sample": (
        partial(SCORE.sde.prior_sample, **{"shape": (3, 2), "seed": 0}),
        "shape seed first dtype device",
    ),
    "sample": (
        partial(MODEL.sample, **{"n": 1, **HOW}),
        "n steps seed label guidance temperature clock kind device dtype",
    ),
    "ensemble": (partial(diffsde.ensemble, FLOW, **{"n": 4, **HOW}), "n steps seed chunk"),
    "log_likelihood": (
        partial(diffsde.log_likelihood, FLOW, 0.1 * X, **{**HOW, "method": "rk4"}),
        "steps seed first probes probe eps exact",
    ),
    "work_precision": (
        partial(diffsde.work_precision, FLOW, ["heun2"], **{"budgets": [4], "n": 2}),
        "budgets n seed clock ts repeats options",
    ),
    "check": (partial(diffsde.check, REVERSE), "data n seed tolerance max_nfe"),
    "variational_bound": (
        partial(variational_bound, MODEL.flow(), IMAGES, draws=1),
        "draws seed first eps",
    ),
    "BrownianPath": (BrownianPath, "seed resolution"),
    "animate": (
        partial(animate, PICTURES, "no.gif"),
        "fps speed duration hold columns zoom title denoised histogram ping_pong dark",
    ),
    "write_html": (partial(write_html, PICTURES, "no.html"), "megabytes"),
    "a trajectory": (SOL, "t"),
    "ReverseSDE": (partial(ReverseSDE, **PARTS), "sde score shape eta data_scale"),
    "ProbabilityFlow": (partial(ProbabilityFlow, **PARTS), "sde score shape data_scale"),
    "VESDE": (SDES["VESDE"], "sigma T eps"),
    "VPSDE": (SDES["VPSDE"], "beta_min beta_max T eps"),
    "SubVPSDE": (SDES["SubVPSDE"], "beta_min beta_max T eps"),
    "EDMSDE": (SDES["EDMSDE"], "T eps"),
    "StraightSDE": (SDES["StraightSDE"], "T eps"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_value_of_the_wrong_kind_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call, arguments = CALLS[name]
    for argument in arguments.split():
        for value in WRONG:
            with pytest.raises(InputError, match=f"{argument} = |expected|Valid names"):
                call(**{argument: value})
    assert not list(tmp_path.iterdir())


def test_a_recipe_takes_numbers_as_people_have_them() -> None:
    numbers: Any = {
        "epochs": np.int64(3), "seed": torch.tensor(4), "learning_rate": np.float32(0.5),
        "averages": [np.float64(0.5)], "compile": np.bool_(True),
    }  # fmt: skip
    plain = {"epochs": 3, "seed": 4, "learning_rate": 0.5, "averages": (0.5,), "compile": True}
    assert Recipe(**numbers) == Recipe(**plain)


def test_every_process_is_swept() -> None:
    assert set(SDES) <= set(CALLS)
