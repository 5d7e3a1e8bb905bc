"""Solves on a device: the CPU's results, and the host waits for none of the steps.

The device is emulated (see `tests.emulated_device`), mostly as one that has no float64.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffsde import (
    STOP,
    BlowUpError,
    BrownianPath,
    LimitError,
    MixtureScore,
    ProbabilityFlow,
    ReverseSDE,
    SolveError,
    autoguidance,
    classifier_free,
    ensemble,
    from_noise_prediction,
    inpainting,
    list_solvers,
    load_pretrained,
    log_likelihood,
    solve,
    steps,
)
from diffsde.analysis import encode, interpolate
from diffsde.equations.forward import SDE
from tests.emulated_device import Emulated, OnDevice
from tests.problems import mild

FEW, MORE = 2, 9  # a solve is looked at once more from 8 steps on
LAUNCHES = 70  # an evaluation, 24 of them the score's: a draw of noise takes three hundred
# Of an adaptive SDE: three steps, and one draw of all levels of the path at its three times. 410
# to 810 were counted; where each time is drawn by itself, up to 1,230.
ATTEMPT = 900
LOOKS = 3  # at the start, early on, and at the end
ROWS = list_solvers()
FIXED = [row for row in ROWS if row.one_step is not None]
BY_ITSELF = [row for row in ROWS if row.adaptive and row.one_step is not None]
NOISY = [row for row in ROWS if row.kind == "sde" and row.can_adapt]
# These ask whether they have converged, up to so often a step.
ITERATE = {"implicit_adams": 5, "fixed_adams": 5}
CLOCKS = ["t", "sigma", "log_sigma", "karras"]  # in turn
X = mild().prior_sample((3, 2), seed=0)
AT_MAKING = 4  # looks when an exact score is made on a device: its stds and weights are checked

Place = Callable[[Any], Any]
"""Puts a tensor or a module where it is wanted."""


def ids(row: Any) -> str:
    return f"{row.kind}-{row.name}"


def score(sde: SDE | None = None) -> MixtureScore:
    means = torch.tensor([[0.5, -0.2], [-0.4, 0.3]])
    return MixtureScore(sde or mild(), means, torch.tensor([0.2, 0.3]), [0.7, 0.3]).float()


def problem(kind: str, of: nn.Module) -> Any:
    sde = of.sde if isinstance(of, MixtureScore) else mild()
    return (ReverseSDE if kind == "sde" else ProbabilityFlow)(sde, of, (2,))


def here(value: Any) -> Any:
    return value


def on(device: Emulated) -> Place:
    def place(value: Any) -> Any:
        return device.module(value) if isinstance(value, nn.Module) else device.tensor(value)

    return place


def solved(row: Any, place: Place, x: Tensor = X, **how: Any) -> Any:
    how = {"seed": 1, **how}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a law lost, no convergence in two steps
        return solve(problem(row.kind, place(score())), place(x), row.name, **how)


def assert_same(device: Emulated, found: Any, expected: Any, rtol: float = 1e-5) -> None:
    assert isinstance(found, OnDevice)
    torch.testing.assert_close(device.cpu(found.detach()), expected.detach(), rtol=rtol, atol=1e-5)


# -- fixed steps ---------------------------------------------------------------------------


CHURN, CORRECTORS = {"S_churn": 3.0}, {"corrector_steps": 2}  # further sets of noise


@pytest.mark.parametrize(
    ("row", "options"),
    [
        *((row, {}) for row in FIXED),
        *((row, CHURN) for row in FIXED if row.name == "heun_edm"),
        *((row, CORRECTORS) for row in FIXED if row.name == "pc"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else ids(value),
)
def test_fixed_steps_of_every_row(row: Any, options: dict[str, Any]) -> None:
    """The CPU's states; looks, copies of times and draws of noise however many the steps."""
    clock = CLOCKS[FIXED.index(row) % len(CLOCKS)]
    how = {"adaptive": False, "clock": clock, "options": options}
    there = solved(row, here, steps=MORE, **how)
    with Emulated(float64=False) as device:
        transfers, launches, calls = [], [], []
        for count in (FEW, MORE):
            device.reset()
            found = solved(row, on(device), steps=count, **how)
            assert device.synchronisations <= LOOKS + ITERATE.get(row.name, 0) * count
            transfers.append(device.transfers)
            launches.append(device.launches)
            calls.append(found.stats.nfe)
        assert_same(device, found.ys, there.ys)
        assert found.stats.nfe == there.stats.nfe
        assert transfers[0] == transfers[1]
        assert launches[1] - launches[0] <= LAUNCHES * (calls[1] - calls[0])


@pytest.mark.parametrize("row", [row for row in FIXED if row.kind == "sde"], ids=ids)
def test_fixed_steps_along_a_path(row: Any) -> None:
    how: dict[str, Any] = {"noise": BrownianPath(1), "steps": 2, "x": X.double()}
    there = solved(row, here, **how)
    with Emulated() as device:
        found = solved(row, on(device), **how)
        assert device.synchronisations <= LOOKS
        assert_same(device, found.ys, there.ys)


# -- steps of their own --------------------------------------------------------------------


@pytest.mark.parametrize("row", BY_ITSELF, ids=ids)
def test_adaptive_flows(row: Any) -> None:
    """Two looks a step at most, which ends and whose error somebody must know."""
    how = {"rtol": 0.05, "atol": 0.05, "clock": "log_sigma", "save": "last"}
    there = solved(row, here, **how)
    with Emulated(float64=False) as device:
        found = solved(row, on(device), **how)
        taken = found.stats.steps + found.stats.rejected
        assert device.synchronisations <= 2 * taken + 6  # and at the start
        assert_same(device, found.ys, there.ys)


WIDE = {
    **{"rtol": 1.0, "atol": 1.0, "adaptive": True, "ts": [1.0, 0.8], "save": "last"},
    **{"noise": BrownianPath(1, resolution=2**-9), "options": {"first_step": 0.05}},
}
COMPARED = ("srk", "sosra", "seeds_2")  # in float64 too, one of each family


@pytest.mark.parametrize(
    ("row", "float64"),
    [(row, False) for row in NOISY] + [(row, True) for row in NOISY if row.name in COMPARED],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_adaptive_sdes(row: Any, float64: bool) -> None:
    """Without float64 the halves and the whole are compared in float32."""
    there = solved(row, here, **WIDE)
    with Emulated(float64=float64) as device:
        found = solved(row, on(device), **WIDE)
        assert 1 < found.stats.steps <= found.stats.nfe
        tried = found.stats.steps + found.stats.rejected
        assert device.synchronisations <= 2 * found.stats.nfe / row.evaluations + 3
        assert device.launches <= ATTEMPT * tried
        assert_same(device, found.ys, there.ys)


def test_scipy_s_steps() -> None:
    """Every evaluation comes to the CPU, where the steps are taken."""
    (row,) = (row for row in ROWS if row.name == "scipy_solver")
    there = solved(row, here, rtol=0.01, atol=0.01)
    with Emulated(float64=False) as device:
        found = solved(row, on(device), rtol=0.01, atol=0.01)
        assert device.synchronisations <= found.stats.nfe + 2 * found.stats.steps + LOOKS
        assert_same(device, found.ys, there.ys)


# -- failures ------------------------------------------------------------------------------


class Fails(nn.Module):
    """A score that does something else from an evaluation on."""

    def __init__(self, at: int, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.calls, self.at, self.what = score(), 0, at, what

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        found = self.inner(x, t)
        return found if self.calls < self.at else self.what(found)


def nothing(found: Tensor) -> Tensor:
    return found / 0


def huge(found: Tensor) -> Tensor:
    return 1e9 * found


def one_is_not_a_number(found: Tensor) -> Tensor:
    return torch.cat([found[:1] * math.nan, found[1:]])


def failure(place: Place, at: int, what: Any, **how: Any) -> SolveError:
    with pytest.raises(SolveError) as caught:
        solve(problem("ode", place(Fails(at, what))), place(X), **how)
    return caught.value


SAVES: list[Any] = ["all", "last", 3]
LIMITS = ("max_nfe", "max_steps")


BAD = [nothing, huge, one_is_not_a_number]
# The first evaluation, one before the early look, one after it; and for dopri5 one at the end of a
# step that is not part of the state there.
PLACES = [("euler", 1), ("euler", 10), ("dopri5", 13)]


@pytest.mark.parametrize(
    ("method", "at", "save", "what"),
    [
        *(("euler", 4, save, what) for save in SAVES for what in BAD),
        *((*place, save, nothing) for place in PLACES for save in SAVES),
    ],
)
def test_a_failure_names_the_first_bad_step(method: str, at: int, save: Any, what: Any) -> None:
    """Found late, it hands back what the CPU does: the path up to the last good state."""
    how = {"method": method, "steps": 10, "adaptive": False, "save": save}
    there = failure(here, at, what, **how)
    with Emulated(float64=False) as device:
        found = failure(on(device), at, what, **how)
        assert device.synchronisations <= LOOKS
        assert (str(found), type(found)) == (str(there), type(there))
        path, expected = found.trajectory, there.trajectory
        assert torch.equal(path.ts, expected.ts)
        assert torch.equal(path.evaluations, expected.evaluations)
        assert path.stats.steps == expected.stats.steps
        assert_same(device, path.ys, expected.ys)


@pytest.mark.parametrize("save", SAVES)
def test_what_came_before_an_error_is_the_error(save: Any) -> None:
    """A score, a limit or Ctrl-C that stops a solve after a bad step stops it at that step."""

    def stops(found: Tensor) -> Tensor:
        if bool((found != found).any()):
            raise ValueError("not a number")
        return found * math.nan

    how = {"method": "euler", "steps": 20, "save": save}
    there = failure(here, 3, nothing, **how)
    with Emulated(float64=False) as device:
        assert str(failure(on(device), 3, stops, **how)) == str(there)
        for limit in LIMITS:
            limited = failure(on(device), 3, nothing, **{limit: 6}, **how)
            assert isinstance(limited, BlowUpError)
            assert str(limited) == str(there)
        interrupted = Fails(3, nothing)

        def ctrl_c(*_: Any) -> None:
            if interrupted.calls == 6:
                raise KeyboardInterrupt

        interrupted.inner.register_forward_hook(ctrl_c)
        with pytest.raises(KeyboardInterrupt) as caught:
            solve(problem("ode", on(device)(interrupted)), device.tensor(X), **how)
        assert_same(device, caught.value.trajectory.ys, there.trajectory.ys)


@pytest.mark.parametrize("extra", ["denoise", "estimates"])
def test_a_clean_image_that_is_not_finite(extra: str) -> None:
    how = {"method": "euler", "steps": 3, extra: True}
    there = failure(here, 4, nothing, **how)
    with Emulated(float64=False) as device:
        found = failure(on(device), 4, nothing, **how)
        assert str(found) == str(there)
        assert_same(device, found.trajectory.ys, there.trajectory.ys)


def test_a_solve_that_failed_goes_on_from_its_last_good_state() -> None:
    """With what is wrong put right, to the end of a solve that did not fail."""
    for save in SAVES:
        whole = solve(problem("ode", score()), X, "heun2", steps=10, save=save)
        with Emulated(float64=False) as device:
            fails = on(device)(Fails(9, nothing))
            with pytest.raises(BlowUpError) as caught:
                solve(problem("ode", fails), device.tensor(X), "heun2", steps=10, save=save)
            fails.at = 100
            assert_same(device, caught.value.trajectory.resume().final, whole.final)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_hands_back_the_path(limit: str) -> None:
    """The host counts by itself, and need not wait for the device."""
    whole = solve(problem("ode", score()), X, "euler", steps=30)
    with Emulated(float64=False) as device:
        flow = problem("ode", on(device)(score()))
        with pytest.raises(LimitError) as caught:
            solve(flow, device.tensor(X), "euler", steps=30, **{limit: 20})
        assert device.synchronisations <= LOOKS
        assert_same(device, caught.value.trajectory.ys, whole.ys[:21])


# -- everything else -----------------------------------------------------------------------


class Labelled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = score()

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        found = self.inner(x, t)
        return found if label is None else found + 0.1 * label[:, None].to(x)


def of_classes(label: Any, guidance: float = 2.0) -> Callable[[Place], nn.Module]:
    return lambda place: classifier_free(place(Labelled()), label, guidance)


def observed(place: Place) -> nn.Module:
    return inpainting(
        place(score()), mild(), place(torch.tensor([[0.5, 0.0]])), place(torch.tensor([1.0, 0.0]))
    )


class Predicts(nn.Module):
    """A network of a discrete schedule, which is told the step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 0.9]), requires_grad=False)

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        return self.weight * x * (k / 100)[:, None]


def of_steps(place: Place) -> nn.Module:
    alphas = torch.linspace(0.999, 0.98, 100, dtype=torch.float64).cumprod(0)
    return place(from_noise_prediction(Predicts(), alphas, shape=(2,)))


def flow_of(make: Callable[[Place], nn.Module], **how: Any) -> Callable[[Place], Tensor]:
    how = {"method": "heun2", "steps": 3, **how}
    return lambda place: solve(problem("ode", make(place)), place(X), **how).final


def plain(place: Place) -> nn.Module:
    found: nn.Module = place(score())
    return found


def within(**how: Any) -> Callable[[Place], Tensor]:
    return lambda place: solve(problem("ode", plain(place)), place(X), **how)(0.4)


def sde_of(**how: Any) -> Callable[[Place], Tensor]:
    how = {"method": "em", "steps": 3, "seed": 1, **how}
    return lambda place: solve(problem("sde", place(score())), place(X), **how).final


class Diagonal:
    """A user's SDE, whose noise depends on the state."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return -y

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return 0.1 * y


class General(Diagonal):
    noise_type, sde_type = "general", "stratonovich"

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([0.1 * y, 0.2 + 0 * y], 2)


def own(made: Any, method: str, **how: Any) -> Callable[[Place], Tensor]:
    how = {"ts": [0.0, 1.0], "seed": 0, **how}
    return lambda place: solve(made, place(X), method, **how).final


def by_hand(place: Place) -> Tensor:
    for step in steps(problem("ode", place(score())), place(X), "heun2", steps=3):
        clean = step.denoised()
        step.x = step.x.clamp(-3, 3)
    return step.x + clean


def event(t: float, x: Tensor) -> Tensor:
    return x.abs().mean() - 1.5


def gradient(grad: bool | str, kind: str = "ode", method: str = "heun2") -> Any:
    def of(place: Place) -> Tensor:
        x = place(X.clone()).requires_grad_()
        solve(
            problem(kind, place(score())), x, method, steps=3, seed=0, grad=grad
        ).final.sum().backward()
        assert x.grad is not None
        return x.grad

    return of


def likelihood(**how: Any) -> Callable[[Place], Tensor]:
    how = {"method": "heun2", "steps": 2, "seed": 0, **how}
    return lambda place: (
        log_likelihood(problem("ode", place(score())), place(0.05 * X), **how).log_prob
    )


def moments(place: Place) -> Tensor:
    summary = ensemble(problem("sde", place(score())), 4, "em", chunk=2, save=2, steps=2)
    return torch.stack([summary.mean, summary.std, summary.quantiles[0]])


LOOSE = {"method": "dopri5", "steps": None, "rtol": 0.1, "atol": 0.1}
MANY = {"method": "em", "steps": None, **WIDE}
# What is computed, and how often the host may wait: at the start, at the end and where it asks.
FEATURES: dict[str, tuple[Callable[[Place], Tensor], int]] = {
    "denoise": (flow_of(plain, denoise=True, estimates=True), 3),
    "image": (flow_of(plain, save=[0.5, 0.3]), 3),
    "chunk": (flow_of(plain, chunk=2), 6),
    "callback": (flow_of(plain, callback=lambda t, x, stats: STOP if t < 0.5 else None), 5),
    "event": (flow_of(plain, event=event), 20),
    "event of an adaptive flow": (flow_of(plain, event=event, **LOOSE), 40),
    "event of adaptive noise": (sde_of(**{**MANY, "event": event}), 60),
    "event of churn": (
        flow_of(plain, event=event, method="heun_edm", options={"S_churn": 3.0}, seed=1), 20,
    ),
    "event of a corrector": (sde_of(method="pc", event=event), 20),
    "event of a restart": (flow_of(plain, event=event, method="restart", seed=1), 20),
    "event of a third part": (sde_of(method="seeds_3", event=event), 20),
    "within": (within(method="heun2", steps=2), 6),
    "within a multistep": (within(method="dpmpp_2m", steps=2), 6),
    "within an adaptive flow": (within(**LOOSE), 60),
    "by hand": (by_hand, 11),
    "graph": (gradient(True), 3),
    "adjoint": (gradient("adjoint"), 80),
    "adjoint of noise": (gradient("adjoint", "sde", "midpoint"), 80),
    "one class": (flow_of(of_classes(1)), 3),
    "classes": (flow_of(of_classes(torch.tensor([0, 1, 2]))), 3),
    "classes in an adaptive flow": (flow_of(of_classes(torch.tensor([0, 1, 2])), **LOOSE), 40),
    "autoguidance": (flow_of(lambda place: autoguidance(place(score()), place(score()), 1.5)), 3),
    "observation": (flow_of(observed), 5),
    "eta": (
        lambda place: solve(
            ReverseSDE(mild(), place(score()), (2,), eta=lambda t: t), place(X), "sde_dpmpp_2m",
            steps=3, seed=0,
        ).final, 3,
    ),
    "forward": (lambda place: solve(mild(), place(X), "euler", steps=3, seed=0).final, 3),
    "churn": (flow_of(plain, method="heun_edm", options={"S_churn": 3.0}, seed=1), 3),
    "function": (own(lambda t, y: -y * t, "rk4", steps=3, seed=None), 3),
    "function, adaptive": (own(lambda t, y: -y * t, "dopri5", seed=None), 40),
    "own noise": (own(Diagonal(), "milstein", steps=3), 3),
    "own noise, adaptive": (own(Diagonal(), "srk", adaptive=True, rtol=0.3, atol=0.3), 40),
    "own general noise": (own(General(), "log_ode", steps=3), 3),
    "own general noise, adaptive": (own(General(), "heun", adaptive=True, rtol=0.3, atol=0.3), 40),
    "likelihood": (likelihood(probes=2), 3),
    "exact likelihood": (likelihood(exact=True), 3),
    "latents": (
        lambda place: encode(
            problem("ode", plain(place)), place(0.05 * X), "heun2", steps=3
        ).final, 3,
    ),
    "interpolation": (
        lambda place: interpolate(
            problem("ode", plain(place)), place(X[:1]), place(X[1:2]), 3, "heun2", steps=3
        ).final, 6,
    ),
    "ensemble": (moments, 30),
    "noise prediction": (flow_of(of_steps, clock="karras"), 3),
    "density": (lambda place: place(score()).log_prob(place(X), 0.5), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FEATURES)
def test_everything_else(name: str) -> None:
    compute, looks = FEATURES[name]
    there = compute(here).detach()
    with Emulated(float64=False) as device:
        found = device.cpu(compute(on(device)).detach())
        assert device.synchronisations <= looks
    torch.testing.assert_close(found, there, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("label", [3, torch.tensor([3, 5])])
def test_the_shipped_network_and_its_classes(label: Any) -> None:
    def drawn(place: Place) -> Any:
        model = place(load_pretrained("mnist"))
        x = place(model.sde.prior_sample((2, *model.shape), seed=0))
        flow = model.flow(label=label, guidance=2.0)
        return solve(flow, x, "heun2", steps=2, clock="karras", save="last").final

    there = drawn(here)
    with Emulated(float64=False) as device:
        found = drawn(on(device))
        assert device.synchronisations <= LOOKS
        assert_same(device, found, there)


# -- torch's default device ----------------------------------------------------------------


@pytest.mark.parametrize("row", FIXED, ids=ids)
def test_the_default_device_leads_there(row: Any) -> None:
    """What is made without a device is made there; times stay on the host."""
    how = {"clock": "karras", "steps": FEW, "adaptive": False, "save": "last"}
    there = solved(row, here, **how)
    with Emulated() as device:
        torch.set_default_device(device.device)
        try:
            x = mild().prior_sample((3, 2), seed=0)
            device.reset()
            found = solved(row, here, x=x, **how)
        finally:
            torch.set_default_device(None)
        assert device.synchronisations <= LOOKS + ITERATE.get(row.name, 0) * FEW + AT_MAKING
        assert_same(device, found.final, there.final, rtol=1e-4)
