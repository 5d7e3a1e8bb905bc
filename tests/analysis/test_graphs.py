"""A score without a graph is refused wherever its derivative in x is needed, and only there."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffsde import GaussianScore, MixtureScore, ProbabilityFlow, ReverseSDE, ScheduleSDE, solve
from diffsde.analysis.bits import bits_by_noise, error_budget
from diffsde.analysis.dataset_likelihood import evaluate_likelihood
from diffsde.analysis.likelihood import Likelihood, log_likelihood
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from diffsde.equations.straight import StraightSDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.scores import (
    classifier_free,
    classifier_guided,
    deblurring,
    inpainting,
    linear_inverse,
    super_resolution,
)
from diffsde.scores.denoisers import from_denoiser, to_denoiser
from diffsde.scores.diffusers import from_diffusers
from diffsde.scores.model import ScoreModel
from diffsde.solvers.trajectory import Trajectory

Score = Callable[[Tensor, Tensor], Tensor]
SHAPE = (1, 2, 2)


def cosine() -> SDE:
    half = math.pi / 2
    return ScheduleSDE(lambda t: torch.tan(t * half), scale=lambda t: torch.cos(t * half), T=0.99)


FAMILIES: dict[str, Callable[[], SDE]] = {
    **SDES,
    "StraightSDE": partial(StraightSDE, 0.9),  # five even steps from 0.999 would be unstable
    "ScheduleSDE": cosine,
}
every_sde = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES.keys())


# -- ways to lose the graph ------------------------------------------------------------------


def without_grad(score: Score) -> Score:
    @torch.no_grad()
    def broken(x: Tensor, t: Tensor) -> Tensor:
        return score(x, t)

    return broken


def in_inference_mode(score: Score) -> Score:
    @torch.inference_mode()
    def broken(x: Tensor, t: Tensor) -> Tensor:
        return score(x, t)

    return broken


def with_a_parameter(score: Score) -> Score:
    """What is returned requires grad, but its graph leads to a parameter only."""
    one = nn.Parameter(torch.ones((), dtype=torch.float64))
    return lambda x, t: one.to(x) * score(x.detach(), t)


BROKEN: dict[str, Callable[[Score], Score]] = {
    "no_grad": without_grad,
    "inference_mode": in_inference_mode,
    "detached input": lambda score: lambda x, t: score(x.detach(), t),
    "detached output": lambda score: lambda x, t: score(x, t).detach(),
    "numpy": lambda score: (
        lambda x, t: torch.from_numpy(
            score(torch.from_numpy(x.detach().numpy()), t).detach().numpy()
        )
    ),
    "numpy of x itself": lambda score: lambda x, t: score(torch.from_numpy(x.numpy()), t),
    "parameter": with_a_parameter,
}
every_break = pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN.keys())
NO_GRAPH = r"score.*no_grad.*inference_mode.*detach.*0 \* x"


def exact(sde: SDE) -> GaussianScore:
    return GaussianScore(sde, torch.full(SHAPE, 0.5), 0.3)


def images(n: int = 3) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def flow_of(sde: SDE, score: Score) -> ProbabilityFlow:
    return ProbabilityFlow(sde, score, SHAPE)


LIKELIHOODS: dict[str, Callable[[ProbabilityFlow], object]] = {
    "exact": lambda flow: log_likelihood(flow, images(), exact=True),
    "probes": lambda flow: log_likelihood(flow, images(), probes=2, seed=0),
    "fixed steps": lambda flow: log_likelihood(
        flow, images(), seed=0, method="heun2", steps=2, clock="karras"
    ),
    "scipy": lambda flow: log_likelihood(flow, images(), seed=0, method="scipy_solver"),
    "data set": lambda flow: evaluate_likelihood(flow, images().float()),
    "bits_by_noise": lambda flow: bits_by_noise(flow, images(), intervals=2),
    "error_budget": lambda flow: error_budget(flow, images(), probes=2),
}
GUIDED: dict[str, Callable[[Score, SDE], Score]] = {
    "linear_inverse": lambda score, sde: linear_inverse(
        score, sde, lambda x: x.sum((1, 2, 3), keepdim=True), torch.ones(1, 1, 1, 1)
    ),
    "linear_inverse, data_std": lambda score, sde: linear_inverse(
        score, sde, lambda x: x[:, :, 0], torch.ones(1, 1, 2), data_std=0.3
    ),
    "inpainting": lambda score, sde: inpainting(
        score, sde, torch.ones(1, *SHAPE), torch.eye(2).expand(SHAPE)
    ),
    "inpainting, data_std": lambda score, sde: inpainting(
        score, sde, torch.ones(1, *SHAPE), torch.eye(2).expand(SHAPE), data_std=0.3
    ),
    "super_resolution": lambda score, sde: super_resolution(score, sde, torch.ones(1, 1, 1, 1), 2),
    "deblurring": lambda score, sde: deblurring(
        score, sde, torch.ones(1, *SHAPE), torch.full((3, 3), 1 / 9)
    ),
}


@every_sde
@every_break
@pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS.keys())
def test_a_likelihood_of_a_score_without_a_graph_is_refused(
    make: Callable[[], SDE], spoil: Callable[[Score], Score], likelihood: Callable[..., object]
) -> None:
    sde = make()
    with pytest.raises(InputError, match=NO_GRAPH):
        likelihood(flow_of(sde, spoil(exact(sde))))


@every_sde
@every_break
@pytest.mark.parametrize("guide", GUIDED.values(), ids=GUIDED.keys())
def test_guidance_of_a_score_without_a_graph_is_refused(
    make: Callable[[], SDE], spoil: Callable[[Score], Score], guide: Callable[..., Score]
) -> None:
    sde = make()
    guided = guide(spoil(exact(sde)), sde)
    with pytest.raises(InputError, match=NO_GRAPH):
        guided(images().float(), 0.5 * sde.T)
    start = sde.prior_sample((2, *SHAPE), seed=0)
    with pytest.raises(InputError, match=NO_GRAPH):
        solve(ReverseSDE(sde, guided, SHAPE), start, "sde_dpmpp_2m", steps=3, seed=0)


def classify(x: Tensor, t: Tensor | float) -> Tensor:
    return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)


@every_sde
@every_break
def test_a_classifier_needs_a_graph_and_the_score_beside_it_none(
    make: Callable[[], SDE], spoil: Callable[[Score], Score]
) -> None:
    sde = make()
    x, t = images().float(), torch.tensor(0.5 * sde.T)
    with pytest.raises(InputError, match="the classifier.*no_grad"):
        classifier_guided(exact(sde), spoil(classify), 1)(x, t)
    guided = classifier_guided(spoil(exact(sde)), classify, 1)
    wanted = classifier_guided(exact(sde), classify, 1)(x, t)
    torch.testing.assert_close(guided(x, t), wanted)  # a sampler needs no derivative of it
    with pytest.raises(InputError, match=NO_GRAPH):
        log_likelihood(flow_of(sde, guided), images(), exact=True)


@every_break
def test_a_solve_needs_no_graph_unless_it_is_differentiated(
    spoil: Callable[[Score], Score],
) -> None:
    sde = VPSDE()
    right, broken = exact(sde), spoil(exact(sde))
    x = sde.prior_sample((2, *SHAPE), seed=0)
    for problem in (ReverseSDE, ProbabilityFlow):
        found, wanted = (
            solve(problem(sde, score, SHAPE), x, "euler", steps=5, seed=0).ys
            for score in (broken, right)
        )
        assert torch.equal(found, wanted)
    for grad in (True, "adjoint"):
        start = x.clone().requires_grad_()
        with pytest.raises(InputError, match=NO_GRAPH):  # at once, or on the way back
            solve(flow_of(sde, broken), start, "euler", steps=3, grad=grad).final.sum().backward()


# -- a term in x that is written out keeps a graph of its own -----------------------------------


def network(x: Tensor, label: Tensor | float) -> Tensor:
    return -x / (1 + torch.as_tensor(label).to(x).reshape(-1, 1, 1, 1) ** 2)


class _Network(nn.Module):
    def __init__(self, fn: Score) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.fn(x, label)


class _Config:
    prediction_type = "epsilon"


class _Scheduler:
    config = _Config()
    alphas_cumprod = torch.linspace(0.999, 0.01, 100, dtype=torch.float64)


def of_model(fn: Score, name: str) -> tuple[SDE, Score]:
    sde = VPSDE()
    return sde, ScoreModel(_Network(fn), sde, SHAPE, name)


def of_diffusers(fn: Score) -> tuple[SDE, Score]:
    score = from_diffusers(fn, _Scheduler())
    return score.sde, score


def labelled(fn: Score, blind: bool) -> Score:
    """A score with labels, one of whose two parts is fn."""
    whole = exact(VPSDE())
    return lambda x, t, label: (fn if (label is None) == blind else whole)(x, t)


WRAPPED: dict[str, Callable[[Score], tuple[SDE, Score]]] = {
    "score": lambda fn: of_model(fn, "score"),
    "edm": lambda fn: of_model(fn, "edm"),
    "from_denoiser": lambda fn: (VPSDE(), from_denoiser(fn, VPSDE())),
    "from_diffusers": of_diffusers,
    "to and from": lambda fn: (VPSDE(), from_denoiser(to_denoiser(fn, VPSDE()), VPSDE())),
    "free": lambda fn: (VPSDE(), classifier_free(labelled(fn, True), 1, 2.0)),
    "of a class": lambda fn: (VPSDE(), classifier_free(labelled(fn, False), 1, 2.0)),
}


@every_break
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_what_a_wrapper_adds_hides_no_missing_graph(
    spoil: Callable[[Score], Score], wrap: Callable[[Score], tuple[SDE, Score]]
) -> None:
    x = images().float()
    for fn, found in ((network, None), (spoil(network), InputError)):
        sde, score = wrap(fn)
        flow, guided = flow_of(sde, score), GUIDED["inpainting"](score, sde)
        for call in (lambda f=flow: log_likelihood(f, x, seed=0), lambda g=guided: g(x, 0.5)):
            if found is None:
                call()
                continue
            with pytest.raises(InputError, match=r"no_grad.*inference_mode.*detach.*0 \* x"):
                call()


def test_a_drift_or_an_operator_without_a_graph_is_refused() -> None:
    class Detached(VPSDE):
        def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
            return super().drift(x, t).detach()

    sde = Detached()
    with pytest.raises(InputError, match="the drift.*no_grad"):
        log_likelihood(flow_of(sde, exact(sde)), images(), exact=True)
    blind = linear_inverse(exact(sde), sde, lambda x: x.detach(), images(1))
    with pytest.raises(InputError, match="the operator.*no_grad"):
        blind(images(), 0.5)


@every_sde
def test_a_constant_score_is_declared_by_zero_times_x(make: Callable[[], SDE]) -> None:
    """Nothing tells a constant from a missing graph; its divergence is that of the drift alone."""
    sde = make()
    x = images()
    with pytest.raises(InputError, match=r"does not depend on x.*0 \* x"):
        log_likelihood(flow_of(sde, lambda x, t: torch.zeros_like(x)), x, exact=True)
    found = log_likelihood(flow_of(sde, lambda x, t: 0 * x), x, exact=True, rtol=1e-8, atol=1e-8)
    ends = torch.tensor([sde.eps, sde.T], dtype=torch.float64)
    growth = sde.marginal_scale(ends)[1] / sde.marginal_scale(ends)[0]
    wanted = sde.prior_logp(growth * x) + 4 * growth.log()
    torch.testing.assert_close(found.log_prob, wanted, rtol=1e-6, atol=1e-6)


# -- inference mode ----------------------------------------------------------------------------


@every_sde
def test_everything_works_in_inference_mode(make: Callable[[], SDE]) -> None:
    sde = make()
    score = exact(sde)
    whole = MixtureScore(sde, torch.stack([score.mean, -score.mean]), 0.3)

    def found() -> dict[str, Tensor]:
        x = images()
        start = sde.prior_sample((2, *SHAPE), seed=0)
        flow, reverse = flow_of(sde, whole), ReverseSDE(sde, whole, SHAPE)
        sol = solve(flow, start, rtol=1e-3, atol=1e-3)
        own_clock = lambda r: sde.T + r * (sde.eps - sde.T)  # noqa: E731
        answers = {
            "flow": sol.ys,
            "dense": sol(0.4 * sde.T),
            "sde": solve(reverse, start, steps=5, seed=0, estimates=True, denoise=True).ys,
            "adaptive": solve(
                reverse, start, "em", adaptive=True, seed=0, rtol=0.5, atol=0.5, save="last"
            ).ys,
            "chunks": solve(reverse, start, "srk", steps=5, seed=0, chunk=1).ys,
            "clock": solve(flow, start, "heun2", steps=5, clock=own_clock).ys,
            "exact": log_likelihood(flow, x, exact=True).log_prob,
            "probes": log_likelihood(flow, x, seed=0, probes=2).log_prob,
            "data set": evaluate_likelihood(flow, x.float()).log_prob,
            "bits": bits_by_noise(flow, x, intervals=2).bits,
            "classifier": classifier_guided(whole, classify, 1)(x, torch.tensor(0.5 * sde.T)),
        }
        for name, guide in GUIDED.items():
            guided = guide(whole, sde)
            answers[name] = guided(x, torch.tensor(0.5 * sde.T))
            answers["solved " + name] = solve(
                ReverseSDE(sde, guided, SHAPE), start, "sde_dpmpp_2m", steps=4, seed=0
            ).ys
        return answers

    usual = found()
    with torch.inference_mode():
        inside = found()
    for name, value in usual.items():
        assert torch.equal(inside[name], value), name


def test_inference_tensors_may_come_from_elsewhere() -> None:
    """States, masks and observations that were made in inference mode are copied."""
    sde = VPSDE()
    score = exact(sde)
    with torch.inference_mode():
        x, mask, observed = images(), torch.eye(2).expand(SHAPE).clone(), torch.ones(1, *SHAPE)
        t, kernel = torch.tensor(0.5), torch.full((3, 3), 1 / 9)
    for made in (x, mask, observed, t, kernel):
        assert made.is_inference()
    log_likelihood(flow_of(sde, score), x, exact=True)
    x = x.float()  # so that nothing is copied by a conversion
    inpainting(score, sde, observed, mask)(x, t)
    deblurring(score, sde, observed, kernel)(x, t)
    classifier_guided(score, classify, torch.zeros(3).long())(x, t)
    solve(flow_of(sde, score), x, "heun2", steps=3)


def test_a_score_made_in_inference_mode_says_why_it_has_no_derivative() -> None:
    sde = VPSDE()
    with torch.inference_mode():
        weight = nn.Parameter(torch.ones(SHAPE, dtype=torch.float64))
    score = lambda x, t: weight * -x  # noqa: E731
    start = sde.prior_sample((2, *SHAPE), seed=0, dtype=torch.float64)
    solve(flow_of(sde, score), start, "heun2", steps=3)  # needs no derivative
    with pytest.raises(InputError, match="the score.*made under torch.inference_mode"):
        log_likelihood(flow_of(sde, score), images(), exact=True)
    with pytest.raises(InputError, match="the score.*made under torch.inference_mode"):
        GUIDED["inpainting"](score, sde)(images(), 0.5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("grad", [True, "adjoint"])
def test_gradients_that_are_asked_for_do_not_depend_on_the_mode(
    mode: Callable[[], AbstractContextManager[None]], grad: bool | str
) -> None:
    sde = VPSDE()
    flow = flow_of(sde, exact(sde))
    start = sde.prior_sample((2, *SHAPE), seed=0).requires_grad_()
    settings = {"method": "heun2", "steps": 3, "grad": grad}
    exactly = {"exact": True, "grad": True}

    def answers() -> list[Trajectory | Likelihood]:
        chunks = solve(flow, start, chunk=1, save="last", **settings)
        return [solve(flow, start, **settings), chunks, log_likelihood(flow, start, **exactly)]

    with mode():
        inside = answers()
    outside = answers()
    for found, wanted in zip(inside, outside, strict=True):
        values = [getattr(v, "final", getattr(v, "log_prob", None)) for v in (found, wanted)]
        slopes = [torch.autograd.grad(value.sum(), start)[0] for value in values]
        assert torch.equal(*slopes)


def test_the_first_lines_of_the_readme_in_inference_mode(tmp_path: Path) -> None:
    import diffsde

    with torch.inference_mode():
        model = diffsde.load_pretrained("mnist")
        x1 = model.sde.prior_sample((2, *model.shape), seed=0)
        rev = diffsde.ReverseSDE(model.sde, model, shape=model.shape)
        sol = diffsde.solve(rev, x1, method="euler", steps=3, seed=0)
        diffsde.animate(sol, tmp_path / "em.gif")
        diffsde.plot_paths(sol, tmp_path / "em_paths.png")
        flow = diffsde.ProbabilityFlow(model.sde, model, shape=model.shape)
        sol = diffsde.solve(flow, x1, method="dpmpp_2m", steps=3, clock="karras")
        diffsde.plot_images(sol.images(), tmp_path / "flow.png")
        # and the derivative of a network that was loaded there
        found = diffsde.log_likelihood(flow, x1[:1], method="heun2", steps=1, seed=0)
    outside = diffsde.log_likelihood(flow, x1[:1], method="heun2", steps=1, seed=0)
    assert torch.equal(found.log_prob, outside.log_prob)
    sol.ys.add_(1)  # an inference tensor could not be changed here


# -- the gradient of a likelihood -----------------------------------------------------------------


def gaussian_flow(sde: SDE) -> tuple[GaussianScore, ProbabilityFlow]:
    score = GaussianScore(sde, torch.tensor([0.5, -0.2]), torch.tensor([0.7, 0.3]))
    return score, ProbabilityFlow(sde, score, (2,))


@every_sde
def test_gradient_of_gaussian_data_is_the_score(make: Callable[[], SDE]) -> None:
    """With the true law of x(T) in place of the prior, the likelihood is log p_ε itself."""
    sde = make()
    score, flow = gaussian_flow(sde)
    x = score.sample(5, sde.eps, seed=1).double().requires_grad_()
    settings = {"rtol": 1e-8, "atol": 1e-8, "grad": True}
    end, start = (torch.tensor(t, dtype=torch.float64) for t in (sde.T, sde.eps))
    for found in (
        log_likelihood(flow, x, exact=True, **settings),
        log_likelihood(flow, x, probes=2, seed=0, **settings),
    ):
        right = found.log_prob - sde.prior_logp(found.latents) + score.log_prob(found.latents, end)
        (slope,) = torch.autograd.grad(right.sum(), x)
        (wanted,) = torch.autograd.grad(score.log_prob(x, start).sum(), x)
        torch.testing.assert_close(slope, wanted, rtol=1e-5, atol=1e-6)


@every_sde
def test_gradient_is_that_of_finite_differences(make: Callable[[], SDE]) -> None:
    """A mixture's divergence depends on x, so that its graph is needed too."""
    sde = make()
    means = torch.tensor([[0.6, 0.2], [-0.6, 0.1]])
    score = MixtureScore(sde, means, torch.tensor([0.2, 0.4]))
    flow = ProbabilityFlow(sde, score, (2,))
    x = torch.tensor([[0.1, 0.3], [-0.2, 0.4]], dtype=torch.float64, requires_grad=True)
    for how in ({"exact": True}, {"probes": 2, "probe": "gaussian", "seed": 3}):
        settings = {"method": "rk4", "steps": 30, "clock": "log_sigma", **how}
        found = log_likelihood(flow, x, grad=True, **settings)
        (slope,) = torch.autograd.grad(found.log_prob.sum(), x)
        for axis in range(2):
            h = 1e-5 * torch.eye(2, dtype=torch.float64)[axis]
            plus, minus = (log_likelihood(flow, x + s * h, **settings).log_prob for s in (1, -1))
            torch.testing.assert_close(slope[:, axis], (plus - minus) / 2e-5, rtol=1e-5, atol=1e-6)
        plain = log_likelihood(flow, x, **settings)
        assert torch.equal(plain.log_prob, found.log_prob.detach())


def test_gradient_flows_to_parameters_too() -> None:
    sde = VPSDE()

    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_std = nn.Parameter(torch.tensor(-0.5, dtype=torch.float64))

        def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
            a, s = sde.marginal_scale(t), sde.marginal_std(t)
            return -x / (a**2 * (2 * self.log_std).exp() + s**2)

    score = Learned()
    flow = ProbabilityFlow(sde, score, (2,))
    x = torch.tensor([[0.1, 0.3], [-0.2, 0.4]], dtype=torch.float64)
    settings = {"exact": True, "method": "rk4", "steps": 40}
    log_likelihood(flow, x, grad=True, **settings).log_prob.sum().backward()
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            score.log_std.add_(step)
            values.append(float(log_likelihood(flow, x, **settings).log_prob.sum()))
            score.log_std.sub_(step)
    assert float(score.log_std.grad) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_without_grad_nothing_has_a_graph() -> None:
    _, flow = gaussian_flow(VPSDE())
    x = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    found = log_likelihood(flow, x, probes=2, seed=0)
    for value in (found.log_prob, found.stderr, found.latents):
        assert not value.requires_grad
    inside = log_likelihood(flow, x, probes=2, seed=0, grad=True)
    for value in (inside.log_prob, inside.latents):
        assert value.requires_grad


def test_gradients_that_cannot_be_had_are_refused() -> None:
    sde = VPSDE()
    calls = 0

    def score(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return -x

    flow = ProbabilityFlow(sde, score, (2,))
    x = torch.zeros(2, 2)
    asked = x.clone().requires_grad_()
    with pytest.raises(InputError, match=r"scipy_solver.*NumPy.*Use another method"):
        log_likelihood(flow, asked, grad=True, method="scipy_solver")
    with pytest.raises(InputError, match=r"scipy_solver.*NumPy.*Use another method"):
        solve(flow, asked, "scipy_solver", grad=True)
    with pytest.raises(InputError, match=r"grad=True: neither x nor .*requires_grad_\(\)"):
        log_likelihood(flow, x, grad=True)
    with pytest.raises(InputError, match=r"grad = 'adjoint': expected True or False"):
        log_likelihood(flow, asked, grad="adjoint")
    with pytest.raises(InputError, match=r"grad: .*log_likelihood"):
        evaluate_likelihood(flow, asked, grad=True)
    with pytest.raises(InputError, match=r"grad: .*log_likelihood"):
        error_budget(flow, asked, grad=True)
    assert not calls  # nothing was computed
