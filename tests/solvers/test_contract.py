"""Users' SDEs of torchsde's contract: torchsde's own solves are the oracle."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import pytest
import torch
import torchsde
from torch import Tensor, nn

from diffsde import BrownianPath, InputError, list_solvers, solve
from diffsde.noise.brownian import SequentialBrownian

B, D, M = 5, 3, 2
TS = torch.linspace(0, 1, 9)  # eighths, which torchsde adds up without rounding
METHODS = [row.name for row in list_solvers("sde") if row.family == "torchsde"]
NOISES = ("diagonal", "scalar", "additive", "general")
CHANNELS = {"diagonal": D, "scalar": 1, "additive": M, "general": M}


class Closed(nn.Module):
    """Drift and diffusion in formulas; both depend on t."""

    def __init__(self, noise_type: str, sde_type: str) -> None:
        super().__init__()
        self.noise_type, self.sde_type = noise_type, sde_type
        self.rate = nn.Parameter(torch.tensor(0.7))

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        assert t.shape == ()
        assert t.dtype == y.dtype
        return torch.sin(t) - self.rate.to(y) * y

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        assert t.shape == ()
        assert t.dtype == y.dtype
        along = torch.linspace(0.1, 0.3, D).to(y) * (1 + t)
        if self.noise_type == "diagonal":
            return along * torch.sigmoid(y)
        if self.noise_type == "additive":
            return along.expand_as(y).unsqueeze(2) * torch.tensor([1.0, -2.0]).to(y)
        first = (along * torch.sigmoid(y)).unsqueeze(2)
        if self.noise_type == "scalar":
            return first
        return torch.cat([first, (0.2 * torch.cos(y + t)).flip(1).unsqueeze(2)], 2)


class Network(nn.Module):
    """The same with networks, as in torchsde's README."""

    def __init__(self, noise_type: str, sde_type: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.noise_type, self.sde_type = noise_type, sde_type
        columns = 1 if noise_type == "diagonal" else CHANNELS[noise_type]
        inputs = 1 if noise_type == "additive" else D + 1
        self.drift = nn.Sequential(nn.Linear(D + 1, 8), nn.Tanh(), nn.Linear(8, D))
        self.spread = nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, D * columns))

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return self.drift(torch.cat([y, t.expand(len(y), 1)], 1))

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        moment = t.expand(len(y), 1)
        known = moment if self.noise_type == "additive" else torch.cat([y, moment], 1)
        spread = 0.3 * self.spread(known)
        return spread if self.noise_type == "diagonal" else spread.reshape(len(y), D, -1)


def states(dtype: torch.dtype) -> Tensor:
    return torch.linspace(-1, 1, B * D).reshape(B, D).to(dtype)


def by_torchsde(sde: nn.Module, method: str, x: Tensor) -> Tensor:
    size = (B, CHANNELS[str(sde.noise_type)])
    bm = SequentialBrownian(4, size, dtype=x.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torchsde.sdeint(sde, x, TS.to(x), bm=bm, method=method, dt=1 / 8)


CASES = list(itertools.product((Closed, Network), NOISES, ("ito", "stratonovich"), METHODS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("make", "noise", "calculus", "method"), CASES)
def test_what_torchsde_solves_is_solved_alike(
    make: type, noise: str, calculus: str, method: str, dtype: torch.dtype
) -> None:
    """And what it refuses is refused, but for additive noise, where the two calculi agree."""
    sde, x = make(noise, calculus).to(dtype), states(dtype)
    try:
        expected = by_torchsde(sde, method, x)
    except (ValueError, RuntimeError):
        if noise == "additive":
            solve(sde, x, method, ts=TS, seed=4)
            return
        with pytest.raises(InputError, match=r"Methods that fit: \w+"):
            solve(sde, x, method, ts=TS, seed=4)
        return
    found = solve(sde, x, method, ts=TS, seed=4)
    close = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]  # rounding of eight steps
    torch.testing.assert_close(found.ys, expected.detach(), rtol=close, atol=close)
    if method == "milstein":  # it differentiates g, and finds the same where x requires a gradient
        again = solve(sde, x.clone().requires_grad_(), method, ts=TS, seed=4)
        assert torch.equal(again.ys, found.ys)


def test_the_sweep_has_what_torchsde_solves() -> None:
    """108 at least: 4 noises × 8 methods × 2 calculi × 2 problems × 2 dtypes, less refusals."""
    solved = 0
    for make, noise, calculus, method in CASES:
        try:
            by_torchsde(make(noise, calculus), method, states(torch.float32))
            solved += 1
        except (ValueError, RuntimeError):
            continue
    assert 2 * solved >= 108


# -- time ----------------------------------------------------------------------------------


class Ramp:
    """dy = t dw: the variance of an increment is (t₁³ − t₀³) / 3."""

    noise_type, sde_type = "diagonal", "ito"

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.zeros_like(y)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        return t.expand_as(y)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)])
@pytest.mark.parametrize("clock", ["t", "own"])
@pytest.mark.parametrize("source", ["seed", "path", "adaptive"])
@pytest.mark.parametrize("method", ["euler", "srk", "milstein"])
def test_g_is_asked_at_t_and_scaled_by_the_clock(
    start: float, end: float, clock: str, source: str, method: str
) -> None:
    if source == "adaptive" and method == "milstein":
        pytest.skip("the same as euler here")
    n = 4000 if source != "adaptive" else 400
    how: dict[str, Any] = {
        "seed": {"seed": 1},
        "path": {"noise": BrownianPath(1)},
        "adaptive": {"seed": 1, "adaptive": True, "rtol": 0.01, "atol": 0.01},
    }[source]
    own = (lambda r: start + (end - start) * (r + r**2) / 2) if clock == "own" else "t"
    x = torch.zeros(n, 5, dtype=torch.float64)
    ends = {} if source == "adaptive" else {"steps": 64}
    sol = solve(Ramp(), x, method, ts=[start, end], clock=own, save="last", **ends, **how)
    exact = (end**3 - start**3) / 3
    # Five standard errors of a variance, and 2 per cent for the steps of euler.
    assert float(sol.final.var()) == pytest.approx(exact, rel=5 * math.sqrt(2 / x.numel()) + 0.02)


@pytest.mark.parametrize("make", [Closed, Network])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("size", [(4, 3), (3, 3)])
def test_adaptive_steps_give_each_sample_its_own_time(
    make: type, noise: str, size: tuple[int, int]
) -> None:
    """A scalar time for every call, and a sample alone is the sample in its batch."""
    method = "euler" if noise == "general" else "srk"
    x = torch.linspace(-1, 1, 12).double().reshape(4, 3)[: size[0]]
    sde = make(noise, "ito").double()
    how: dict[str, Any] = {"adaptive": True, "rtol": 0.03, "atol": 0.03, "save": "last"}
    whole = solve(sde, x, method, ts=[0.0, 1.0], noise=BrownianPath(2), **how).final
    for i in range(len(x)):
        alone = solve(
            sde, x[i : i + 1], method, ts=[0.0, 1.0], noise=BrownianPath(2), first=i, **how
        ).final
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-9, atol=1e-12)
    fine = solve(sde, x, method, ts=[0.0, 1.0], steps=512, noise=BrownianPath(2), save="last")
    assert float((whole - fine.final).square().mean().sqrt()) < 0.05


# -- the parts that an object offers ------------------------------------------------------


class Parts:
    """A `Closed` SDE of which only some methods are offered."""

    def __init__(self, whole: Closed, names: tuple[str, ...]) -> None:
        self.noise_type, self.sde_type = whole.noise_type, whole.sde_type
        self.brownian_size = M
        product = (lambda g, v: g * v) if whole.noise_type == "diagonal" else (
            lambda g, v: torch.einsum("bdm,bm->bd", g, v)
        )  # fmt: skip
        offered = {
            "f": whole.f,
            "g": whole.g,
            "g_prod": lambda t, y, v: product(whole.g(t, y), v),
            "f_and_g": lambda t, y: (whole.f(t, y), whole.g(t, y)),
            "f_and_g_prod": lambda t, y, v: (whole.f(t, y), product(whole.g(t, y), v)),
        }
        for name in names:
            setattr(self, name, offered[name])


# Methods that need g itself, by the noise for which they do.
NEED_G = {
    "milstein": ("diagonal", "scalar"),
    "srk": ("diagonal", "scalar"),
    "log_ode": ("general",),
    "reversible_heun": NOISES,
}
OFFERED = [("f", "g"), ("f", "g_prod"), ("f_and_g",), ("f_and_g_prod",), ("f", "f_and_g_prod")]


@pytest.mark.parametrize("names", OFFERED, ids="+".join)
@pytest.mark.parametrize("calculus", ["ito", "stratonovich"])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("method", METHODS)
def test_an_object_is_taken_for_what_it_offers(
    noise: str, calculus: str, names: tuple[str, ...], method: str
) -> None:
    whole, x = Closed(noise, calculus).double(), states(torch.float64)
    try:
        expected = solve(whole, x, method, ts=TS, seed=4).final
    except InputError:
        return  # in the sweep above
    parts = Parts(whole, names)
    if not (hasattr(parts, "g") or hasattr(parts, "f_and_g")) and noise in NEED_G.get(method, ()):
        with pytest.raises(InputError, match="has only its products"):
            solve(parts, x, method, ts=TS, seed=4)
        return
    found = solve(parts, x, method, ts=TS, seed=4)
    torch.testing.assert_close(found.final, expected, rtol=1e-12, atol=1e-12)


def test_unknown_channels_are_asked_for() -> None:
    parts = Parts(Closed("general", "ito"), ("f", "g_prod"))
    del parts.brownian_size
    with pytest.raises(InputError, match="give it an attribute brownian_size"):
        solve(parts, states(torch.float32), "euler", ts=TS)


@pytest.mark.parametrize("wrong", ["noise_type", "sde_type"])
def test_unknown_types_are_refused(wrong: str) -> None:
    sde = Closed("diagonal", "ito")
    setattr(sde, wrong, "diagnal")
    with pytest.raises(InputError, match=f"Closed.{wrong} = 'diagnal'"):
        solve(sde, states(torch.float32), "euler", ts=TS)


def test_a_diffusion_of_the_wrong_shape_is_refused() -> None:
    sde = Closed("diagonal", "ito")
    sde.g = lambda t, y: y  # type: ignore[method-assign]
    sde.noise_type = "general"
    with pytest.raises(InputError, match=r"g of Closed returned shape \(5, 3\).*\(5, 3, m\)"):
        solve(sde, states(torch.float32), "euler", ts=TS)


# -- additive noise -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [Closed, Network])
@pytest.mark.parametrize("calculus", ["ito", "stratonovich"])
def test_declared_additive_noise_may_use_what_additive_noise_allows(
    make: type, calculus: str
) -> None:
    """Every method, whatever its calculus; those of order 1.5 against many small steps."""
    sde, x, noise = make("additive", calculus).double(), states(torch.float64), BrownianPath(3)
    fine = solve(sde, x, "euler", ts=[0.0, 1.0], steps=2**11, noise=noise, save="last").final
    for method in [*METHODS, "em", "sosra"]:
        sol = solve(sde, x, method, ts=[0.0, 1.0], steps=128, noise=noise, save="last")
        assert float((sol.final - fine).abs().max()) < 0.01, method


def test_a_refusal_for_the_noise_names_the_methods_that_fit() -> None:
    for method in ("em", "sosra"):
        with pytest.raises(InputError, match=r"has diagonal noise. Methods that fit: euler, .*srk"):
            solve(Closed("diagonal", "ito"), states(torch.float32), method, ts=TS)
    with pytest.raises(InputError, match=r"solves stratonovich SDEs.*Methods that fit: euler"):
        solve(Closed("diagonal", "ito"), states(torch.float32), "heun", ts=TS)


# -- the Lévy area ------------------------------------------------------------------------


def test_the_levy_area_has_the_moments_of_the_exact_one() -> None:
    """Var A_ij = h²/4, A is antisymmetric, and given W it is centred at zero."""
    h, bm = 0.5, SequentialBrownian(0, (20_000, 3), dtype=torch.float64)
    w, area = bm(0.0, h, return_A=True)
    assert torch.equal(area, -area.transpose(1, 2))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        values = area[:, i, j]
        assert float(values.var()) == pytest.approx(h * h / 4, rel=0.05)  # 2.5 standard errors
        for known in (w[:, i], w[:, j], w[:, i] * w[:, j]):
            assert abs(float(torch.corrcoef(torch.stack([values, known]))[0, 1])) < 0.03


def test_a_path_refuses_a_levy_area_that_it_does_not_have() -> None:
    sde = Closed("general", "stratonovich")
    with pytest.raises(Exception, match="no Lévy area"):
        solve(sde, states(torch.float32), "log_ode", ts=TS, noise=BrownianPath(0))


# -- training -----------------------------------------------------------------------------


def gradients(final: Tensor, x: Tensor, sde: nn.Module) -> list[Tensor]:
    inputs = [x, *sde.parameters()]
    found = torch.autograd.grad(final.square().sum(), inputs, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, inputs, strict=True)]


@pytest.mark.parametrize("make", [Closed, Network])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("calculus", "method"), [("ito", "euler"), ("stratonovich", "midpoint")])
def test_gradients_of_a_neural_sde_are_torchsde_s(
    make: type, noise: str, calculus: str, method: str
) -> None:
    sde, x = make(noise, calculus).double(), states(torch.float64).requires_grad_()
    expected = gradients(by_torchsde(sde, method, x)[-1], x, sde)
    found = gradients(solve(sde, x, method, ts=TS, seed=4, grad=True).final, x, sde)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [Closed, Network])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(
    ("calculus", "method"),
    [("ito", "euler"), ("stratonovich", "midpoint"), ("stratonovich", "reversible_heun")],
)
def test_adjoint_gradients_of_a_neural_sde_are_torchsde_s(
    make: type, noise: str, calculus: str, method: str
) -> None:
    sde, x = make(noise, calculus).double(), states(torch.float64).requires_grad_()
    size = (B, CHANNELS[noise])
    bm = SequentialInAnyOrder(4, size, dtype=x.dtype)
    ys = torchsde.sdeint_adjoint(sde, x, TS.to(x), bm=bm, method=method, dt=1 / 8)
    expected = gradients(ys[-1], x, sde)
    found = gradients(solve(sde, x, method, ts=TS, seed=4, grad="adjoint").final, x, sde)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


class SequentialInAnyOrder(SequentialBrownian):
    """The way back asks for the intervals of the way there in reverse."""

    def increment(self, ta: Any, tb: Any, area: bool) -> Any:
        return self.over(ta, tb, area)
