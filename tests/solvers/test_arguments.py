"""Contradictory arguments are refused before work starts, and nobody writes into the solve.

Every promise is swept over the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import diffsde
from diffsde import InputError, ProbabilityFlow, ReverseSDE, SolveError, list_solvers, solve
from diffsde.analysis.bits import bits_by_noise, error_budget
from diffsde.analysis.latents import encode
from diffsde.errors import BlowUpError
from diffsde.evaluation import Sampler, sample_images
from diffsde.scores import classifier_free, classifier_guided
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.options import divided_options, options_in_words, options_read
from diffsde.solvers.registry import Solver
from diffsde.solvers.settings import full_settings
from tests.problems import flow, mixture, reverse

SCORE = mixture(dims=4)
X = SCORE.sde.prior_sample((2, 4), seed=0)

ROWS = list_solvers()
IDS = [f"{row.kind}-{row.name}" for row in ROWS]
every_solver = pytest.mark.parametrize("row", ROWS, ids=IDS)

pytestmark = pytest.mark.filterwarnings(
    "ignore:reversible_heun ends in another law", "ignore:Functional iteration did not converge"
)


def never(x: Tensor, t: Tensor) -> Tensor:
    raise AssertionError("work has begun")


def problem(row: Solver, score: Callable[[Tensor, Tensor], Tensor] = SCORE) -> Any:
    return (ReverseSDE if row.kind == "sde" else ProbabilityFlow)(SCORE.sde, score, (4,))


# For each method with options, some of them.
OPTIONS: dict[str, dict[str, Any]] = {
    "pc": {"snr": 0.1, "corrector_steps": 2},
    "heun_edm": {"S_churn": 4.0, "S_noise": 1.1},
    "restart": {"restarts": 1, "sigma_min": 0.1},
    "milstein": {"grad_free": True},
    "scipy_solver": {"solver": "RK23", "max_step": 0.5},
    "explicit_adams": {"max_order": 4},
    "tsit5": {"safety": 0.8, "first_step": 0.01},
    "ipndm": {"last_order": 1, "max_order": 3},
    **{row.name: {"last_order": 1} for row in ROWS if list(row.options) == ["last_order"]},
}

ADVICE: dict[str, dict[str, Any]] = {
    "ask for adaptive=True": {"adaptive": True},
    "leave adaptive=False out": {},
    "take dopri5": {"method": "dopri5"},
    "take srk with adaptive=True": {"method": "srk", "adaptive": True},
}


# -- tolerances ----------------------------------------------------------------------


@every_solver
def test_fixed_steps_refuse_a_tolerance_and_say_what_to_do(row: Solver) -> None:
    if row.one_step is None or row.iterates:
        return
    how: dict[str, Any] = {"steps": 4, "adaptive": False}
    for name in ("rtol", "atol"):
        words = rf"{name} = 0.1: {row.name} takes fixed steps, .* Leave it out .*, or (.*)"
        for ask in (solve, diffsde.steps):
            with pytest.raises(InputError, match=words) as caught:
                ask(problem(row, never), X, row.name, **how, **{name: 0.1})
        with pytest.raises(InputError, match=words):
            full_settings(row.name, row.kind, **how, **{name: 0.1})
        followed = ADVICE[str(caught.value).rsplit(", or ", 1)[1]]
        with pytest.raises(SolveError, match="work has begun"):
            solve(problem(row, never), X, **{"method": row.name, **followed, name: 0.1})


@every_solver
def test_fixed_steps_that_take_a_tolerance_go_by_it(row: Solver) -> None:
    if not row.iterates:
        return
    loose, tight = (
        solve(problem(row), X, row.name, steps=8, clock="karras", rtol=tol, atol=tol).final
        for tol in (1.0, 1e-6)
    )
    assert not torch.equal(loose, tight)


def test_tolerances_elsewhere() -> None:
    """What passes its settings on to `solve`, and what has tolerances of its own."""
    still = ProbabilityFlow(SCORE.sde, never, (4,))
    for ask in (encode, diffsde.log_likelihood, diffsde.ensemble):
        x = 10 if ask is diffsde.ensemble else X
        with pytest.raises(InputError, match=r"rtol = 0.1: rk4 takes fixed steps"):
            ask(still, x, method="rk4", steps=4, rtol=0.1)  # type: ignore[operator]


def test_options_of_a_step_control_are_refused_without_one() -> None:
    for row in ROWS:
        if not row.adaptive or row.one_step is None:
            continue
        for name in row.options:
            with pytest.raises(InputError, match=rf"options\['{name}'\]: {row.name} has no"):
                solve(
                    problem(row, never), X, row.name, steps=3, adaptive=False, options={name: 0.1}
                )


@every_solver
def test_options_that_no_method_can_work_with_are_refused(row: Solver) -> None:
    """Each option's value, before work; torchdiffeq and torchsde would take most of these."""
    for name in row.options:
        for value in ("a", -1, float("nan"), None, [1.0]):
            words = rf"options\['{name}'\] = .*: (expected|did you mean|Valid names)"
            with pytest.raises(InputError, match=words):
                solve(problem(row, never), X, row.name, steps=3, options={name: value})


@every_solver
def test_several_methods_divide_options(row: Solver) -> None:
    """Each gets those that it has, and one must have each."""
    other = find_solver("euler", row.kind)
    good = {"options": OPTIONS[row.name]} if row.name in OPTIONS else {}
    pairs = [(row, row.adaptive), (other, False)]
    assert divided_options(good.get("options"), pairs) == [good.get("options", {}), {}]
    with pytest.raises(InputError, match=rf"options\['nonsense'\].* none of {row.name}"):
        divided_options({"nonsense": 1}, pairs)


def test_options_as_they_are_written() -> None:
    words = ["last_order=1", "snr=0.2", "grad_free=true", "solver=RK45"]
    found = options_read(words)
    assert found == {"last_order": 1, "snr": 0.2, "grad_free": True, "solver": "RK45"}
    assert options_in_words(found) == "last_order=1, snr=0.2, grad_free=True, solver=RK45"
    assert options_read(options_in_words(found).split(", ")) == found
    for wrong in ("last_order", "=1", "last_order=", "last_order=1 last_order=2"):
        with pytest.raises(InputError, match="NAME=VALUE|given twice"):
            options_read(wrong.split())


def test_a_budget_of_fixed_steps_halves_them() -> None:
    x = 0.5 * SCORE.sample(4, 1e-3, seed=0)
    how: dict[str, Any] = {"probes": 2, "method": "rk4"}
    coarse, fine = (error_budget(flow(SCORE), x, steps=n, **how)["tolerance"] for n in (4, 16))
    assert 0 < 20 * abs(fine) < abs(coarse)


# -- times ---------------------------------------------------------------------------


@every_solver
def test_two_times_are_not_one_step(row: Solver) -> None:
    if row.one_step is None:
        return
    with pytest.raises(InputError, match="this would be one step: give steps="):
        solve(problem(row, never), X, row.name, ts=[1.0, 1e-3], adaptive=False)


@pytest.mark.parametrize("eps", [1.0, 5.0, 0.0, -1e-3, float("nan"), "0.1"])
def test_a_likelihood_begins_between_zero_and_the_end(eps: Any) -> None:
    still = ProbabilityFlow(SCORE.sde, never, (4,))
    for ask in (diffsde.log_likelihood, bits_by_noise):
        with pytest.raises(InputError, match=r"eps = .*: expected a time above 0 and below 1"):
            ask(still, X, eps=eps)  # type: ignore[operator]


def test_a_budget_looks_at_twice_its_start_first() -> None:
    with pytest.raises(InputError, match="eps = 1.2"):
        error_budget(ProbabilityFlow(SCORE.sde, never, (4,)), X, eps=0.6)


# -- kinds of numbers, and probes ----------------------------------------------------


@every_solver
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_named_and_not_the_score(row: Solver, dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=f"x is {dtype}: expected float32 or float64"):
        solve(problem(row, never), X.to(dtype), row.name)


def test_an_exact_trace_has_no_probes() -> None:
    for how in ({"probes": 3}, {"probe": "gaussian"}):
        with pytest.raises(InputError, match=r"exact=True, probes = .*: an exact trace needs no"):
            diffsde.log_likelihood(ProbabilityFlow(SCORE.sde, never, (4,)), X, exact=True, **how)


@pytest.mark.parametrize("name", ["adaptive", "denoise", "estimates"])
def test_a_word_is_no_truth_value(name: str) -> None:
    for value in ("no", 1, 0.0):
        with pytest.raises(InputError, match=f"{name} = .*: expected True or False"):
            solve(ProbabilityFlow(SCORE.sde, never, (4,)), X, "dopri5", **{name: value})


@pytest.mark.parametrize("name", ["callback", "event"])
def test_what_is_called_can_be_called(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} = 3: expected a function"):
        solve(ProbabilityFlow(SCORE.sde, never, (4,)), X, "heun2", steps=3, **{name: 3})


def test_samplers_are_looked_at_before_data_are_read() -> None:
    for how, words in (
        ({"steps": 0}, "steps = 0"), ({"steps": 2.5}, "steps = 2.5"),
        ({"clock": "karas"}, "did you mean 'karras'"), ({"denoise": "no"}, "denoise = 'no'"),
        ({"classes": 2}, "classes = 2"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            Sampler("heun2", "ode", **how)
    for how, words in (({"n": 0}, "n = 0"), ({"n": 2.5}, "n = 2.5"), ({"chunk": 0}, "chunk = 0")):
        with pytest.raises(InputError, match=words):
            sample_images(None, Sampler(), **{"n": 2, **how})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="chunk = 0"):
        diffsde.evaluate_likelihood(flow(SCORE), torch.zeros(2, 1, 2, 2), chunk=0)


# -- classes -------------------------------------------------------------------------


class Labelled(nn.Module):
    """A score that says how many classes it knows."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        raise AssertionError("work has begun")


def test_labels_and_guidance_are_looked_at_when_a_score_is_made() -> None:
    with pytest.raises(InputError, match="label = 3: this score takes no class labels"):
        classifier_free(Labelled(0), 3, 2.0)
    for label in (3, -1, torch.tensor([0, 3]), torch.tensor([]), 0.5, True):
        with pytest.raises(InputError, match="label = .*: expected 0 to 2, the classes"):
            classifier_free(Labelled(3), label, 2.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="label = 0.5: expected a whole number"):
        classifier_guided(SCORE, SCORE, 0.5)  # type: ignore[arg-type]
    for wrong in (float("nan"), float("inf"), "2"):
        with pytest.raises(InputError, match="guidance = .*: expected a finite number"):
            classifier_free(Labelled(3), 1, wrong)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="scale = .*: expected a finite number"):
            classifier_guided(SCORE, SCORE, 1, scale=wrong)  # type: ignore[arg-type]


# -- whoever is handed the state cannot change the solve -----------------------------


def spoil(_: float, x: Tensor, *__: object) -> float:
    x.fill_(7.0)
    return 1.0


@every_solver
@pytest.mark.parametrize("adaptive", [False, True])
def test_callbacks_and_events_get_copies(row: Solver, adaptive: bool) -> None:
    if (adaptive and not row.can_adapt) or (not adaptive and row.one_step is None):
        return
    how: dict[str, Any] = {"steps": 4, "adaptive": adaptive, "clock": "karras", "seed": 1}
    if adaptive:
        how.update(rtol=0.3, atol=0.3)
    before = solve(problem(row), X, row.name, **how)
    for rule in ({"callback": spoil}, {"event": spoil}):
        assert torch.equal(solve(problem(row), X, row.name, **how, **rule).ys, before.ys)


def writes_state(x: Tensor, t: Tensor) -> Tensor:
    return SCORE(x.mul_(1.5), t)


def writes_time(x: Tensor, t: Tensor) -> Tensor:
    t *= 0.999
    return SCORE(x, t)


@every_solver
@pytest.mark.parametrize("wrong", [writes_state, writes_time])
def test_a_score_that_writes_into_the_state_is_found(row: Solver, wrong: Any) -> None:
    given = X.clone()
    with pytest.raises(SolveError, match="the score has changed its arguments in place"):
        solve(problem(row, wrong), X, row.name, steps=3, clock="karras", seed=1)
    X.copy_(given)


class Own:
    """An SDE of torchsde's contract, one of whose functions writes into the state."""

    sde_type = "ito"

    def __init__(self, noise_type: str, wrong: str) -> None:
        self.noise_type, self.wrong = noise_type, wrong

    def _at(self, name: str, y: Tensor) -> Tensor:
        return y.mul_(0.9) if name == self.wrong else 0.9 * y

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return -self._at("f", y)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.1 * torch.ones_like(self._at("g", y))


@pytest.mark.parametrize("wrong", ["f", "g"])
def test_a_user_s_sde_that_writes_into_the_state_is_found(wrong: str) -> None:
    x = torch.ones(2, 3)
    with pytest.raises(SolveError, match="has changed its arguments in place"):
        solve(Own("diagonal", wrong), x, "euler", ts=[0.0, 0.5, 1.0], seed=0)


# -- what a blow-up says -------------------------------------------------------------


def test_a_blow_up_of_a_reverse_problem_names_check() -> None:
    def exploding(x: Tensor, t: Tensor) -> Tensor:
        return 1e4 * x

    for make in (reverse, flow):
        bad = make(SCORE).with_score(exploding)
        with pytest.raises(BlowUpError, match=r"diffsde.check\(problem\) tells whether the score"):
            solve(bad, X, steps=5, seed=0) if bad.stochastic else solve(bad, X, "euler", steps=5)
        found = diffsde.check(bad, SCORE.sample(50, 0.0, seed=1), progress=False)
        assert "The score" in str(found)
    with pytest.raises(BlowUpError) as caught:
        solve(lambda t, x: 1e4 * x * x, X, "euler", ts=torch.linspace(0, 1, 20))
    assert "check" not in str(caught.value)
