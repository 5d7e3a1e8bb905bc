"""Ways to evaluate a score: their errors, the choice between them, and their failures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffsde import ProbabilityFlow, solve
from diffsde.analysis import speed_bench
from diffsde.analysis.speed import _fastest, optimize
from diffsde.analysis.speed_bench import Bench, NoiseLevels, SpeedTrial
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.scores import precision
from diffsde.scores.model import ScoreModel
from diffsde.scores.precision import ByNoiseLevel, Replayed, Way
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.system.captures import HostCopies

BF16 = Way(bfloat16=True)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solves of a few steps: these tests do not look at images."""
    monkeypatch.setattr(speed_bench, "_STEPS", 3)


def tiny(classes: int = 0) -> ScoreModel:
    torch.manual_seed(0)
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, classes=classes)
    # Branches that are initialised to zero would hide their errors.
    for zero in (
        network.last,
        *(block.conv2 for block in network.modules() if hasattr(block, "conv2")),
    ):
        nn.init.normal_(zero.weight, std=0.05)
    return ScoreModel(network, VESDE(), (1, 12, 12), EDM(0.33)).eval()


def test_report_and_model() -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = optimize(model, batch=4, rounds=1, compile=False)
    assert [trial.name for trial in fast.trials] == [
        "float32", "float32, channels last", "bfloat16", "bfloat16, channels last",
    ]  # fmt: skip
    plain = fast.trials[0]
    assert plain.score_error == plain.image_error == 0
    assert fast.trials[1].image_error < 1e-5  # another order of summation
    assert all(1e-5 < trial.score_error < 0.05 for trial in fast.trials[2:])  # 8 bits
    assert fast.chosen.image_error <= 0.75 / 255
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    text = repr(fast)
    assert f"> {fast.chosen.name}" in text
    assert "at most 1/255 rms, with a quarter to spare (batches of 4" in text
    flow = ProbabilityFlow(fast.model.sde, fast.model, fast.model.shape)
    x1 = model.sde.prior_sample((4, *model.shape), seed=0)
    own = solve(ProbabilityFlow(model.sde, model, model.shape), x1, "ddim", steps=5).final
    theirs = solve(flow, x1, "ddim", steps=5).final
    assert float((own - theirs).square().mean().sqrt()) < 2 / 255


def test_no_tolerance_leaves_float32() -> None:
    fast = optimize(tiny(), batch=2, rounds=1, compile=False, tolerance=0)
    assert fast.chosen.name.startswith("float32")


def test_what_touches_the_image_or_the_noise_level_stays_exact() -> None:
    """Dtypes of the weighted layers' outputs, in the order in which they are called."""
    model = BF16.of(tiny())
    found: list[tuple[str, torch.dtype]] = []
    for name, module in model.network.named_modules():
        if getattr(module, "weight", None) is not None and module.weight.dim() > 1:
            module.register_forward_hook(lambda _, __, y, name=name: found.append((name, y.dtype)))
    with torch.no_grad():
        model(model.sde.prior_sample((2, *model.shape), seed=0), 0.5)
    dtypes = dict(found)
    exact = {name for name, dtype in dtypes.items() if dtype == torch.float32}
    assert exact == {
        f"network.{name}"
        for name in ("first", "decoder.0.conv2", "last",
                     "down", "attention.qkv", "attention.out", "up", "decoder.0.skip",
                     "embed.0", "embed.2", "encoder.0.film", "middle.0.film", "decoder.0.film")
    }  # fmt: skip
    assert dtypes["network.middle.0.conv1"] == torch.bfloat16


def test_a_model_of_classes_is_one_still() -> None:
    model = tiny(classes=3)
    nn.init.normal_(model.network.embed_class.weight)
    fast = BF16.of(model)
    assert fast.classes == 3
    x = model.sde.prior_sample((2, *model.shape), seed=0)
    torch.testing.assert_close(fast(x, 0.5, 1), model(x, 0.5, 1), rtol=0.05, atol=0.05)


def test_failures_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> nn.Module:
        raise RuntimeError("the compiler has no heart\nand a long trace")

    monkeypatch.setattr(torch, "compile", broken)
    network = tiny()
    fast = optimize(network, batch=1, rounds=1)
    assert {t.failure for t in fast.trials[4:]} == {"RuntimeError: the compiler has no heart"}
    assert "no heart" in repr(fast)
    monkeypatch.setenv("CXX", "no-such-compiler")
    fast = optimize(network, batch=1, rounds=1)
    assert {trial.failure for trial in fast.trials[4:]} == {
        "no C++ compiler (g++ or clang++, or CXX)"
    }


def test_compiled_models_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in, because the compiler takes half a minute."""
    calls = []

    def compiler(network: nn.Module, **options: object) -> nn.Module:
        network.register_forward_hook(lambda *_: calls.append(options))
        return network

    monkeypatch.setattr(torch, "compile", compiler)
    fast = optimize(tiny(), batch=2, rounds=1)
    assert [t.name.split(", ")[-1] for t in fast.trials[4:]] == ["compiled"] * 2
    assert not any(trial.failure for trial in fast.trials)
    assert calls


def test_what_a_graph_rewrites_is_copied() -> None:
    """A solver may remember several outputs, and a graph writes them all to one place."""
    place = torch.zeros(3)

    class Rewriting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return place.copy_(x)

    network = Replayed(Rewriting())
    first, second = network(torch.ones(3)), network(torch.zeros(3))
    assert (first.tolist(), second.tolist()) == ([1.0] * 3, [0.0] * 3)


def test_within_a_capture_an_evaluation_is_no_graph_of_its_own() -> None:
    """A graph holds no other one, so the network runs as it was before it was compiled."""

    def compiler(*_: object) -> None:
        raise AssertionError("it is compiled")

    network = nn.Linear(3, 2)
    replayed, x = Replayed(torch.compile(network, backend=compiler)), torch.ones(4, 3)
    with HostCopies().noted():
        assert torch.equal(replayed(x), network(x))
    with pytest.raises(Exception, match="it is compiled"):
        replayed(x)


def test_on_cuda_an_evaluation_is_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in; nobody has run it on a card."""
    asked: list[dict[str, object]] = []

    def compiler(network: nn.Module, **options: object) -> nn.Module:
        asked.append(options)
        return network

    monkeypatch.setattr(torch, "compile", compiler)
    Way(compiled=True).of(tiny())
    monkeypatch.setattr(precision, "device_of", lambda module: torch.device("cuda"))
    found = Way(compiled=True).of(tiny())
    assert asked == [{"options": {"freezing": True}}, {"mode": "reduce-overhead"}]
    assert isinstance(found.network, Replayed)
    assert found.classes == 0


def test_the_fastest_that_keeps_the_images() -> None:
    trials = [
        SpeedTrial("plain", 1.0, 1.0, 0.0, 0.0),
        SpeedTrial("quick", 0.5, 2.0, 0.1, 0.003),
        SpeedTrial("wild", 0.1, 9.0, 0.1, 0.2),
        SpeedTrial("broken", failure="no"),
    ]
    pairs = [(trial, tiny()) for trial in trials]
    for tolerance, name in ((1 / 255, "quick"), (1e-4, "plain"), (1.0, "wild")):
        assert _fastest(pairs, tolerance)[0].name == name


class Off(nn.Module):
    """Zero, but off by one at labels between two bounds."""

    def __init__(self, low: float = 1.0, high: float = -1.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        off = (self.low < label) & (label < self.high)
        return off[:, None, None, None] * torch.ones_like(x)


def score_of(network: nn.Module) -> ScoreModel:
    return ScoreModel(network, VESDE(), (1, 4, 4), EDM(0.33))


def test_exact_at_the_levels_that_matter_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fast network that is wrong at evaluations 3, 4 and 5 of 10 and right elsewhere."""
    monkeypatch.setattr(speed_bench, "_STEPS", 9)
    plain = score_of(Off())
    bench = Bench(plain, batch=2, rounds=1, seed=0)
    levels = NoiseLevels(plain, bench.path.ts)
    sigma = 25.0**bench.path.ts  # of the VE SDE: σ² = (25^(2t) − 1) / (2 ln 25)
    sigma = ((sigma**2 - 1) / (2 * torch.log(torch.tensor(25.0)))).sqrt()
    label = sigma.log() / 4
    fast = score_of(Off(float(label[5]) - 0.01, float(label[3]) + 0.01))
    assert bench._band(levels, plain, fast, 0.1 / 255) == (3, 6)
    assert bench.images.change(levels.mixed(plain, fast, 3, 6)) == 0
    assert levels.named(3, 6) == f"{sigma[5]:.2g} to {sigma[3]:.2g}"
    exact = SpeedTrial("float32", 4.0, 1.0, 0.0, 0.0), plain
    quick = SpeedTrial("bfloat16", 2.0, 2.0, 0.1, 0.1), fast
    (trial, model), *more = bench.by_noise_level(exact, quick, 1 / 255)
    assert not more
    assert trial.name == f"bfloat16; float32 for σ of {levels.named(3, 6)}"
    assert trial.seconds == pytest.approx((3 * 4.0 + 7 * 2.0) / 10)
    assert trial.speedup == pytest.approx(10 / (3 / 1.0 + 7 / 2.0))
    assert trial.image_error == trial.score_error == 0
    assert model.network.inside is plain.network
    assert model.network.outside is fast.network


def test_nothing_is_mixed_where_every_level_matters() -> None:
    plain, wrong = score_of(Off()), score_of(Off(-9.0, 9.0))
    bench = Bench(plain, batch=2, rounds=1, seed=0)
    trials = SpeedTrial("float32", 4.0, 1.0, 0.0, 0.0), SpeedTrial("bfloat16", 2.0, 2.0, 0.1, 0.1)
    assert bench.by_noise_level((trials[0], plain), (trials[1], wrong), 0.0) == []


def test_a_batch_of_several_levels_is_as_exact_as_any_needs() -> None:
    class Constant(nn.Module):
        classes = 7

        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x: Tensor, label: Tensor, *classes: Tensor) -> Tensor:
            return torch.full_like(x, self.value + sum(int(t[0]) for t in classes))

    network = ByNoiseLevel(Constant(1.0), Constant(2.0), (-0.5, 0.5))
    x = torch.zeros(2, 1, 1, 1)
    for labels, value in (((-1, -0.6), 2), ((-1, -0.5), 1), ((0.5, 9), 1), ((0.51, 9), 2)):
        assert (network(x, torch.tensor(labels, dtype=torch.float32)) == value).all()
    assert (network(x, torch.zeros(2), torch.tensor([3, 3])) == 4).all()
    assert network.classes == 7


def test_mixed_where_bfloat16_is_fast_and_inexact(monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up times, the fastest way that keeps the images is chosen."""
    monkeypatch.setattr(
        Bench,
        "_timed",
        lambda _, m: (1.0, 2.0 if getattr(m.network, "way", Way()).bfloat16 else 1.0),
    )
    whole = optimize(tiny(), batch=2, rounds=1, compile=False)
    error = whole.trials[2].image_error
    assert len(whole.trials) == 4  # within the tolerance nothing needs mixing
    # The error is within the tolerance, but without a quarter to spare.
    some = optimize(tiny(), batch=2, rounds=1, compile=False, tolerance=1.2 * error)
    assert some.chosen.name.startswith("bfloat16; float32 for σ of ")
    assert 1 < some.chosen.speedup < 2
    assert 0 < some.chosen.image_error <= 0.75 * 1.2 * error


def test_error_texts() -> None:
    with pytest.raises(InputError, match="batch = 0: expected a whole number ≥ 1"):
        optimize(tiny(), batch=0)
    with pytest.raises(InputError, match="tolerance = -1: expected a number ≥ 0"):
        optimize(tiny(), tolerance=-1)


def test_a_network_of_ones_own() -> None:
    """Any module that is called as (x, label) will do."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return self.conv(x) + label[:, None, None, None]

    torch.manual_seed(0)
    model = ScoreModel(Own(), VESDE(), (1, 8, 8), EDM(0.33))
    assert not any(t.failure for t in optimize(model, batch=2, rounds=1, compile=False).trials)


def test_a_network_is_told_the_noise_level_as_finely_as_it_asks() -> None:
    """In bfloat16 the step 999 of a discrete schedule would be 1000."""
    heard: list[torch.dtype] = []

    class Spy(nn.Module):
        label_dtype = torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            heard.append(label.dtype)
            return self.conv(x)

    model = ScoreModel(Spy().bfloat16(), VESDE(), (1, 4, 4), "edm")
    Way(channels_last=True).of(model)(torch.zeros(2, 1, 4, 4), 0.5)
    assert {*heard} == {torch.float32}
