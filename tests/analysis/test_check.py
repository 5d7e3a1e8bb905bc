"""`check` passes right problems and names the fault of wrong ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffsde import VESDE, InputError, ProbabilityFlow, ReverseSDE, load_images, load_pretrained
from diffsde.analysis import checking
from diffsde.analysis.checking import check
from diffsde.equations.forward import SDE, expand
from diffsde.equations.named import SDES
from diffsde.equations.reverse import ReverseProblem
from diffsde.equations.variance_preserving import VPSDE
from tests.problems import flow, gaussian, mixture, reverse

SCORE = mixture(dims=8)
DATA = SCORE.sample(200, 0.0, seed=7)
PARTS = (SCORE.sde, SCORE, SCORE.shape)


# -- right problems pass -------------------------------------------------------------


@pytest.mark.parametrize("score", [SCORE, gaussian(dims=8), mixture(VPSDE(), 8)])
@pytest.mark.parametrize("build", [flow, reverse])
@pytest.mark.parametrize("own_end", [False, True])
def test_right_problems_pass(score: object, build: object, own_end: bool) -> None:
    data = None if own_end else score.sample(200, 0.0, seed=7)  # type: ignore[attr-defined]
    report = check(build(score), data)  # type: ignore[operator]
    assert report.ok, report
    assert report.diverges is None
    assert "marginals are those of the forward process" in str(report)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("name", SDES)
def test_exact_scores_of_every_process_pass(name: str, eta: float) -> None:
    """Their solves are fine enough, however far the noise levels span."""
    score = mixture(SDES[name](), dims=8)
    data = score.sample(500, 0.0, seed=7)
    report = check(reverse(score, eta=eta) if eta else flow(score), data, n=300, progress=False)
    assert report.ok, report
    assert report.nfe == 196


@pytest.mark.parametrize("eta", [0.5, 1.5])
def test_every_eta_is_right(eta: float) -> None:
    report = check(reverse(SCORE, eta=eta), DATA)
    assert report.ok, report


def test_noise_of_one_s_own_is_right_if_the_drift_goes_with_it() -> None:
    class Fading(ReverseSDE):
        """η(t) = t."""

        def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
            weight = 0.5 * (self.sde.diffusion(t) ** 2 + self.diffusion(t) ** 2)
            return -expand(weight, x) * self.score_at(x, t)

        def diffusion(self, t: Tensor | float) -> Tensor:
            return torch.as_tensor(t) * self.sde.diffusion(t)

    report = check(Fading(*PARTS), DATA)
    assert report.ok, report


def test_the_shipped_model_passes_with_few_samples() -> None:
    model = load_pretrained("mnist")
    report = check(
        ReverseSDE(model.sde, model, model.shape),
        load_images("mnist", train=False).batch(torch.arange(200)),
        n=8,
    )
    assert report.ok, report


# -- wrong ones are found, with data and without -------------------------------------


class LostHalf(ProbabilityFlow):
    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return -(expand(self.sde.diffusion(t), x) ** 2) * self.score_at(x, t)


class WrongSign(ReverseSDE):
    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return -super().drift(x, t)


class WrongSignFlow(ProbabilityFlow):
    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return -super().drift(x, t)


class WrongNoise(ReverseSDE):
    """s(t) in place of g(t)."""

    def diffusion(self, t: Tensor | float) -> Tensor:
        return self.sde.marginal_std(t)


class WrongDrift(ProbabilityFlow):
    """σᵗ in place of its square."""

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return -0.5 * expand(self.sde.diffusion(t), x) * self.score_at(x, t)


class FlowsDrift(ReverseSDE):
    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        return 0.5 * super().drift(x, t)


WRONG = {
    LostHalf: "2 times the right one, ½ g²: the ½ is lost",
    WrongSign: "-1 times the right one, .*its sign is wrong",
    WrongSignFlow: "-1 times the right one, ½ g²: its sign is wrong",
    WrongNoise: "Wrong g: the diffusion is 0.03.* to 0.39.* times η g",
    WrongDrift: "it changes with t, so g is another function",
    FlowsDrift: "0.5 times the right one, .*this is the drift of the flow",
}


@pytest.mark.parametrize("own_end", [False, True])
@pytest.mark.parametrize("wrong", WRONG, ids=lambda cls: cls.__name__)
def test_a_wrong_problem_is_named(wrong: type[ReverseProblem], own_end: bool) -> None:
    report = check(wrong(*PARTS), None if own_end else DATA)
    assert not report.ok
    assert _matches(WRONG[wrong], report.findings[0]), report
    # The twin with the same score is right, so the fault is in the problem.
    assert not any("The score" in found and "drift" not in found for found in report.findings)


def test_where_the_lost_half_shows() -> None:
    """The flow's spread falls like (s(t) / s(1))²: it loses 10 % soon after the start."""
    score = gaussian(dims=8)
    report = check(LostHalf(score.sde, score, score.shape), score.sample(200, 0.0, seed=7))
    assert report.diverges is not None
    assert 0.7 < report.diverges < 1
    assert report.rows[-1].spread < 0.1
    assert report.rows[-1].twin_spread == pytest.approx(1, abs=0.15)
    assert _matches("so look at this flow's drift", report.findings[-1])


@pytest.mark.parametrize("own_end", [False, True])
@pytest.mark.parametrize("cls", [ReverseSDE, ProbabilityFlow])
def test_a_score_of_the_wrong_sign(cls: type[ReverseProblem], own_end: bool) -> None:
    report = check(
        cls(SCORE.sde, lambda x, t: -SCORE(x, t), SCORE.shape), None if own_end else DATA
    )
    assert _matches("The score has the wrong sign", report.findings[0]), report
    assert own_end or report.diverges == report.rows[1].t


def test_a_score_not_divided_by_the_noise() -> None:
    def noise(x: Tensor, t: Tensor | float) -> Tensor:
        return SCORE(x, t) * expand(SCORE.sde.marginal_std(t), x)

    report = check(ProbabilityFlow(SCORE.sde, noise, SCORE.shape), DATA)
    assert _matches("The score is not that of the data from t = 1", report.findings[0]), report


def test_a_forward_process_that_contradicts_itself() -> None:
    class Wrong(VESDE):
        def diffusion(self, t: Tensor | float) -> Tensor:
            return 1.5 * super().diffusion(t)

    sde: SDE = Wrong()
    report = check(ReverseSDE(sde, SCORE, SCORE.shape), DATA)
    assert _matches("The forward SDE contradicts itself", report.findings[0]), report


def test_a_forgotten_forward_drift() -> None:
    class NoDrift(ReverseSDE):
        def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
            return super().drift(x, t) - self.sde.drift(x, t)

    score = mixture(VPSDE(), 8)
    report = check(NoDrift(score.sde, score, score.shape), score.sample(200, 0.0, seed=7))
    assert not report.ok


# -- a budget of evaluations ---------------------------------------------------------


class CountedScore:
    """The score of the mixture; it counts the samples that it is asked for."""

    def __init__(self, evaluations: int = 1) -> None:
        self.evaluations, self.samples = evaluations, 0

    def __call__(self, x: Tensor, t: Tensor | float) -> Tensor:
        self.samples += len(x)
        return SCORE(x, t)


@pytest.mark.parametrize("cls", [ReverseSDE, ProbabilityFlow])
@pytest.mark.parametrize("each", [1, 2])
@pytest.mark.parametrize(
    ("budget", "nfe", "left_out"),
    [
        (None, 196, ()),
        (196, 196, ()),
        (195, 108, ("the solve of its twin",)),
        (107, 20, ("the problem's own solve", "the solve of its twin")),
    ],
)
def test_evaluations_are_counted_and_bounded(
    cls: type[ReverseProblem], each: int, budget: int | None, nfe: int, left_out: tuple[str, ...]
) -> None:
    for data in (DATA, None):
        score = CountedScore(each)
        report = check(
            cls(SCORE.sde, score, SCORE.shape), data, n=8, progress=False,
            max_nfe=None if budget is None else budget * each,
        )  # fmt: skip
        assert report.ok, report
        assert (report.nfe, score.samples) == (nfe * each, nfe * 8)
        assert report.left_out == left_out
        assert all(word in str(report) for word in left_out)
        assert ("Left out" in str(report)) == bool(left_out)
        assert ("The marginals are those" in str(report)) == (not left_out)


def test_the_parts_alone_find_a_lost_half() -> None:
    report = check(LostHalf(*PARTS), max_nfe=20)
    assert _matches(WRONG[LostHalf], report.findings[0]), report


def test_without_the_twin_nobody_is_blamed() -> None:
    score = gaussian(dims=8)
    lost = LostHalf(score.sde, score, score.shape)
    report = check(lost, score.sample(200, 0.0, seed=7), max_nfe=108)
    assert _matches("would tell where to look", report.findings[-1]), report


def test_images_take_fewer_samples_than_points() -> None:
    for side, n in ((2, 64), (10, 40), (28, 16)):
        asked = []

        def normal(x: Tensor, t: Tensor | float, asked: list[int] = asked) -> Tensor:
            asked.append(len(x))
            return -x

        check(ProbabilityFlow(VESDE(), normal, (1, side, side)), max_nfe=20)
        assert asked == [n] * 20


def test_progress_is_shown_if_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(flow(SCORE), DATA, n=4)
    assert not capsys.readouterr().err
    monkeypatch.setattr(checking, "_QUIET", 0.0)
    check(flow(SCORE), DATA, n=4, progress=False)
    assert not capsys.readouterr().err
    check(flow(SCORE), DATA, n=4)
    assert "196/196" in capsys.readouterr().err.replace(" ", "")


# -- wrong arguments -----------------------------------------------------------------


def test_mistakes() -> None:
    with pytest.raises(InputError, match="expected a ReverseSDE or a ProbabilityFlow"):
        check(SCORE.sde)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"data has shape \(5, 3\)"):
        check(flow(SCORE), torch.zeros(5, 3))
    with pytest.raises(InputError, match="n = 1"):
        check(flow(SCORE), DATA, n=1)
    with pytest.raises(InputError, match="n = 2.5"):
        check(flow(SCORE), DATA, n=2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tolerance = -1"):
        check(flow(SCORE), DATA, tolerance=-1)
    with pytest.raises(InputError, match="max_nfe = 9: expected a whole number ≥ 20, which the"):
        check(flow(SCORE), DATA, max_nfe=9)


def _matches(pattern: str, text: str) -> bool:
    import re

    return re.search(pattern, text) is not None
