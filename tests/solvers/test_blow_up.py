"""When a state counts as blown up: a matter of the problem and of the sample, not of the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffsde import (
    VESDE,
    VPSDE,
    GaussianScore,
    InputError,
    MixtureScore,
    ProbabilityFlow,
    ReverseSDE,
    SolveError,
    solve,
)
from diffsde.equations.forward import SDE
from diffsde.equations.reverse import ReverseProblem
from diffsde.scores import classifier_free, linear_inverse


class Opaque(nn.Module):
    """A network: it says nothing of its data."""

    def __init__(self, score: nn.Module) -> None:
        super().__init__()
        self.inner = score

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(x, t)


def far(sde: SDE, centred: bool = True) -> GaussianScore:
    """Data around 500 ± 50."""
    if centred:
        sde.centre(torch.tensor([500.0]))
    return GaussianScore(sde, torch.tensor([500.0]), 50.0)


def gaussian(sde: SDE) -> nn.Module:
    return far(sde, centred=False)


def pair(sde: SDE) -> nn.Module:
    return MixtureScore(sde, torch.tensor([[500.0], [-500.0]]), 50.0)


def observed(sde: SDE) -> nn.Module:
    return linear_inverse(pair(sde), sde, lambda x: x, torch.tensor([[490.0]]), noise=1.0)


def labelled(sde: SDE) -> nn.Module:
    score = far(sde, centred=False)

    class Labelled(nn.Module):
        data_scale = score.data_scale

        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            return score(x, t)

    return classifier_free(Labelled(), 1, 2.0)


def mean_known(sde: SDE) -> nn.Module:
    return Opaque(far(sde))


@pytest.mark.parametrize("kind", [ReverseSDE, ProbabilityFlow])
@pytest.mark.parametrize("make", [gaussian, pair, observed, labelled, mean_known])
def test_data_far_from_zero_pass_alone_and_in_a_batch(make, kind) -> None:  # type: ignore[no-untyped-def]
    sde = VPSDE()
    problem = kind(sde, make(sde), (1,))
    x = sde.prior_sample((300, 1), seed=0)
    how = {"steps": 30, "clock": "log_sigma", "seed": 1, "save": "last"}
    method = "sde_dpmpp_2m" if problem.stochastic else "dpmpp_2m"
    whole = solve(problem, x, method, **how).final
    for i in range(0, 300, 60):
        alone = solve(problem, x[i : i + 1], method, first=i, **how).final
        assert torch.allclose(alone, whole[i : i + 1], rtol=1e-4)
    assert float(whole.abs().max()) > 200


def test_an_opaque_network_is_given_the_scale_of_its_data() -> None:
    sde = VPSDE()
    score = Opaque(far(sde, centred=False))
    x = sde.prior_sample((1, 1), seed=0)
    how = {"steps": 30, "clock": "log_sigma", "save": "last"}
    with pytest.raises(SolveError, match=r"blown up .*data_scale="):
        solve(ProbabilityFlow(sde, score, (1,)), x, "dpmpp_2m", **how)
    told = ProbabilityFlow(sde, score, (1,), data_scale=600)
    assert float(solve(told, x, "dpmpp_2m", **how).final) > 200
    assert told.with_score(lambda x, t: score(x, t)).data_scale == 600
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="data_scale"):
            ReverseSDE(sde, score, (1,), data_scale=wrong)


def expelling(x: Tensor, t: Tensor) -> Tensor:
    """A score that drives out whatever lies above 5."""
    return torch.where(x > 5, 40 * x, 0 * x)


@pytest.mark.parametrize("large", [30.0, 1e6])
def test_a_sample_that_blows_up_does_so_in_any_batch(large: float) -> None:
    """Neither its neighbours' size nor their calm hides it; nor does it hurt them."""
    problem = ProbabilityFlow(VESDE(), expelling, (1,))
    calm = torch.tensor([[0.5], [-1.0], [-large]])
    bad = torch.tensor([[6.0]])
    how = {"steps": 20, "save": "last"}
    solve(problem, calm, "euler", **how)
    messages = []
    for x in (bad, torch.cat([calm, bad]), torch.cat([bad, calm])):
        with pytest.raises(SolveError, match="blown up") as caught:
            solve(problem, x, "euler", **how)
        messages.append((str(caught.value), caught.value.trajectory.stats.steps))
    assert len(set(messages)) == 1


def test_the_scale_of_a_problem() -> None:
    def scale(problem: ReverseProblem) -> float:
        return problem.to_dynamics().scale

    sde = VESDE()
    score = GaussianScore(sde, torch.zeros(1), 1.0)
    assert scale(ReverseSDE(sde, score, (1,))) == pytest.approx(sde.prior_std)
    assert 500 <= scale(ReverseSDE(sde, far(sde, centred=False), (1,))) <= 1000
    sde.centre(torch.tensor([-300.0]))
    assert 300 <= scale(ReverseSDE(sde, Opaque(score), (1,))) <= 400
