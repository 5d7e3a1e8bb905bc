"""Captured chunks: the samples of a solve step by step, and one call to the device for each chunk.

The device and what it captures are emulated (see `tests.emulated_device`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from diffsde import (
    VESDE,
    BlowUpError,
    BrownianPath,
    InputError,
    MixtureScore,
    ScoreModel,
    inpainting,
    list_solvers,
    solve,
)
from diffsde.equations import own_rows
from diffsde.noise.normal import NormalTable
from diffsde.noise.sample_run import SampleRun
from diffsde.scores import EDM, ResidualUNet
from diffsde.system.captures import CAPTURES, HostCopies, being_captured
from tests.emulated_device import COUNTS, DEVICE, Emulated, EmulatedCapture
from tests.problems import mild
from tests.solvers.test_device import (
    CLOCKS,
    FIXED,
    LOOKS,
    ids,
    of_classes,
    of_steps,
    problem,
    score,
)

ROWS = [row for row in FIXED if not row.iterates]
MANY, CHUNK = 7, 2  # three whole chunks, two of which are replayed, and one of a single sample
X = mild().prior_sample((MANY, 2), seed=0)
REPLAY = 7  # launches: new states, samples and rows, the replay, and a copy of its states


class Noted(EmulatedCapture):
    """Notes how much has been launched whenever a chunk is replayed."""

    launched: ClassVar[list[int]] = []

    def replay(self) -> None:
        self.launched.append(COUNTS["launches"])
        super().replay()


@pytest.fixture(autouse=True)
def capture_on_the_emulated_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CAPTURES, DEVICE.type, Noted)


def solved(of: Any, x: Tensor, method: str, **how: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a law lost
        how = {"seed": 1, "chunk": CHUNK, "adaptive": False, **how}
        return solve(of, x, method, **how)


def assert_captured(row: Any, of: nn.Module, **how: Any) -> None:
    """Whatever the steps, a solve of these chunks is that of the CPU."""
    there = solved(problem(row.kind, of), X, row.name, **how)
    with Emulated(float64=False) as device:
        problem_there, x = problem(row.kind, device.module(of)), device.tensor(X)
        device.reset()
        Noted.launched.clear()
        found = solved(problem_there, x, row.name, capture=True, **how)
        first, second = Noted.launched
        assert second - first <= REPLAY + bool(how.get("estimates"))
        assert device.synchronisations <= 2 * LOOKS + 2  # of two chunks step by step, and two more
        # Orders of summation differ between a batch of two and one.
        close = {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(device.cpu(found.ys), there.ys, **close)
        assert (found.stats.nfe, found.stats.steps) == (there.stats.nfe, there.stats.steps)
        assert torch.equal(found.ts, there.ts)
        if how.get("estimates"):
            torch.testing.assert_close(device.cpu(found.denoised), there.denoised, **close)


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_fixed_steps_of_every_row(row: Any) -> None:
    clock = CLOCKS[ROWS.index(row) % len(CLOCKS)]
    save = ("all", "last", 3)[ROWS.index(row) % 3]
    denoise = ROWS.index(row) % 2 == 0
    assert_captured(row, score(), steps=5, clock=clock, save=save, denoise=denoise, first=5)


@pytest.mark.parametrize("row", [row for row in ROWS if row.kind == "sde"], ids=ids)
def test_every_sde_along_a_path(row: Any) -> None:
    assert_captured(row, score(), steps=3, noise=BrownianPath(4), seed=None)


@pytest.mark.parametrize("extra", [{"denoise": True}, {"estimates": True, "save": 2}])
@pytest.mark.parametrize("kind", ["sde", "ode"])
def test_clean_images_are_captured_too(kind: str, extra: dict[str, Any]) -> None:
    (row,) = (row for row in ROWS if row.name == "ddim" and row.kind == kind)
    assert_captured(row, score(), steps=4, **extra)


def test_a_further_chunk_costs_the_same_however_many_steps_it_has() -> None:
    with Emulated(float64=False) as device:
        flow = problem("ode", device.module(score()))
        x = device.tensor(mild().prior_sample((20, 2), seed=0))
        for steps in (2, 30):
            launches = []
            for chunks in (5, 10):
                device.reset()
                solved(flow, x[: CHUNK * chunks], "euler", steps=steps, capture=True)
                launches.append(device.launches)
            assert launches[1] - launches[0] <= 5 * REPLAY


class PerSample(nn.Module):
    """A score that has a number for each sample of the whole batch."""

    def __init__(self, sde: VESDE) -> None:
        super().__init__()
        self.sde = sde
        self.register_buffer("means", torch.linspace(-1, 1, MANY))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return (own_rows(self.means)[:, None] - x) / self.sde.marginal_std(t).reshape(-1, 1) ** 2


def test_a_score_that_has_something_for_each_sample() -> None:
    for row in (row for row in ROWS if row.name == "ddim"):
        assert_captured(row, PerSample(mild()), steps=4)


SCORES: dict[str, Callable[[Any], Any]] = {
    "guided": of_classes(torch.arange(MANY) % 3),
    "a list of classes": of_classes([k % 3 for k in range(MANY)]),
    "inpainting": lambda place: inpainting(
        place(score()), mild(), place(torch.linspace(-1, 1, 2 * MANY).view(MANY, 2)),
        place(torch.tensor([1.0, 0.0])),
    ),
    "of a discrete schedule": of_steps,
}  # fmt: skip


@pytest.mark.parametrize("make", SCORES.values(), ids=SCORES)
def test_scores_made_of_others(make: Callable[[Any], Any]) -> None:
    how: dict[str, Any] = {"steps": 4, "denoise": True}
    there = solved(problem("ode", make(lambda value: value)), X, "heun2", **how)
    with Emulated() as device:

        def place(value: Any) -> Any:
            return device.module(value) if isinstance(value, nn.Module) else device.tensor(value)

        flow, x = problem("ode", make(place)), device.tensor(X)
        found = solved(flow, x, "heun2", capture=True, **how)
        torch.testing.assert_close(device.cpu(found.ys), there.ys, rtol=1e-5, atol=1e-5)


def test_a_model_draws_its_classes_in_captured_chunks() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, classes=3).eval()
    model = ScoreModel(network, VESDE(), (1, 8, 8), EDM(0.3)).requires_grad_(False)
    how: dict[str, Any] = {"steps": 3, "seed": 0, "label": "random", "guidance": 2.0, "chunk": 2}
    there = model.sample(6, **how)
    with Emulated(float64=False) as device:
        found = device.module(model).sample(6, capture=True, **how)
        torch.testing.assert_close(device.cpu(found.ys), there.ys, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["general", "diagonal"])
def test_an_sde_of_torchsdes_contract(kind: str) -> None:
    class Own(nn.Module):
        noise_type, sde_type = kind, "ito"

        def f(self, t: Tensor, y: Tensor) -> Tensor:
            return -y

        def g(self, t: Tensor, y: Tensor) -> Tensor:
            return 0.1 * y if kind == "diagonal" else 0.1 * y[:, :, None].expand(-1, -1, 3)

    how: dict[str, Any] = {"steps": 5, "ts": [0.0, 1.0]}
    there = solved(Own(), X, "euler", **how)
    with Emulated() as device:
        found = solved(Own(), device.tensor(X), "euler", capture=True, **how)
        torch.testing.assert_close(device.cpu(found.ys), there.ys, rtol=1e-5, atol=1e-5)


def test_a_chunk_that_blows_up_says_where() -> None:
    """As it does step by step; the chunks before it are handed back."""
    x = X.clone()
    x[4] = 1e30  # in the third chunk, which is replayed

    def failure(place: Any, x: Tensor, **how: Any) -> Any:
        with pytest.raises(BlowUpError) as caught:
            solved(problem("ode", place(Steep())), x, "euler", steps=20, **how)
        return caught.value

    there = failure(lambda module: module, x)
    with Emulated(float64=False) as device:
        found = failure(device.module, device.tensor(x), capture=True)
        assert str(found) == str(there)
        assert found.trajectory.ys.shape[1] == 4
        assert torch.allclose(device.cpu(found.trajectory.ys), there.trajectory.ys)


class Steep(nn.Module):
    """A score that is infinite far away."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.where(x.abs() > 1e20, math.inf, -x)


class Copies(nn.Module):
    """A score that copies a number from the host, another one at each call."""

    def __init__(self, *, changes: bool) -> None:
        super().__init__()
        self.inner, self.changes, self.calls = score(), changes, 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += self.changes
        there = torch.full((2,), float(self.calls), device="cpu").to(x.device)
        return self.inner(x, t) + 0 * there


class Looks(nn.Module):
    """A score that looks at a number."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = score()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(x, t) if float(x.max()) < 1e9 else 0 * x


@pytest.mark.parametrize("of", [Copies(changes=True), Looks()], ids=["copies", "looks"])
def test_what_cannot_be_captured_is_an_error(of: nn.Module) -> None:
    """And the first chunk is handed back."""
    with Emulated(float64=False) as device:
        flow = problem("ode", device.module(of))
        with pytest.raises(InputError, match="cannot be captured.*Leave capture out") as caught:
            solved(flow, device.tensor(X), "euler", steps=3, capture=True)
        assert caught.value.trajectory.ys.shape[1] == CHUNK
        assert not being_captured()


def test_what_a_score_copies_alike_for_each_chunk_is_copied_once() -> None:
    (row,) = (row for row in ROWS if row.name == "heun2")
    assert_captured(row, Copies(changes=False), steps=3)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("euler", {"chunk": None}, "Give chunk="),
    ("srk", {"adaptive": True}, "srk chooses its steps as it goes"),
    ("fixed_adams", {}, "asks at each step whether it has converged"),
    ("euler", {"callback": lambda t, x, stats: None}, "look at each step"),
    ("euler", {"max_seconds": 9.0}, "look at each step"),
    ("euler", {"grad": True}, "no gradient"),
    ("euler", {"capture": "yes"}, "expected True or False"),
]


@pytest.mark.parametrize(("method", "how", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_is_refused(method: str, how: dict[str, Any], words: str) -> None:
    kind = next(row.kind for row in list_solvers() if row.name == method)
    with Emulated() as device:
        of = problem(kind, device.module(score()))
        with pytest.raises(InputError, match=words):
            solved(of, device.tensor(X), method, **{"steps": 3, "capture": True, **how})


def test_a_cpu_is_told_nothing() -> None:
    with pytest.raises(InputError, match="x is on cpu, expected cuda"):
        solved(problem("ode", score()), X, "euler", steps=3, capture=True)


def test_a_limit_counts_as_without() -> None:
    with Emulated() as device:
        flow = problem("ode", device.module(score()))
        for capture in (False, True):
            with pytest.raises(Exception, match="max_nfe = 2 evaluations are used up"):
                solved(flow, device.tensor(X), "euler", steps=5, max_nfe=2, capture=capture)


# -- the parts -----------------------------------------------------------------------------


def test_samples_that_move_make_the_noise_of_those_they_are() -> None:
    table = NormalTable(3, "brownian")
    with Emulated() as device:
        run = SampleRun(4, 3, device.device)
        for first in (4, 2**40, 0):
            run.move(first)
            assert list(run) == list(range(first, first + 3))
            made = device.cpu(table.rows(run, 7, (5,), torch.float32, device.device))
            expected = table.rows(range(first, first + 3), 7, (5,), torch.float32)
            assert torch.allclose(made, expected, atol=3e-6)


def test_copies_are_noted_and_repeated() -> None:
    host = torch.tensor([1.0, 2.0])
    copies = HostCopies()
    with Emulated() as device:

        def work(value: Tensor) -> Tensor:
            place = torch.zeros(2, device=device.device)
            place.copy_(value)
            return value.to(device.device).add_(place)  # which writes into the copy

        with copies.noted():
            assert device.cpu(work(host)).tolist() == [2.0, 4.0]
        assert device.transfers == 2
        for _ in range(2):
            with copies.repeated():
                assert device.cpu(work(host)).tolist() == [2.0, 4.0]
        assert device.transfers == 2
        with copies.repeated(), pytest.raises(RuntimeError, match="were not copied there before"):
            work(host + 1)


def test_a_mixture_on_many_chunks_keeps_its_law() -> None:
    """What a user would run: a thousand samples in chunks of a hundred."""
    of = MixtureScore(VESDE(), torch.tensor([[0.5, -0.2], [-0.4, 0.3]]), 0.1).float()
    x = VESDE().prior_sample((1000, 2), seed=0)
    how: dict[str, Any] = {"steps": 30, "clock": "karras", "chunk": 100, "save": "last"}
    there = solved(problem("sde", of), x, "sde_dpmpp_2m", **how)
    with Emulated() as device:
        rev = problem("sde", device.module(of))
        found = solved(rev, device.tensor(x), "sde_dpmpp_2m", capture=True, **how)
        torch.testing.assert_close(device.cpu(found.final), there.final, rtol=1e-3, atol=1e-3)
