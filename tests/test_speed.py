"""Ways to evaluate a score: what they cost in accuracy, and that failures are told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffsde import ProbabilityFlow, solve, speed
from diffsde.errors import InputError
from diffsde.networks import ResidualUNet
from diffsde.preconditioning import EDM
from diffsde.score import ScoreModel
from diffsde.sde import VESDE
from diffsde.speed import SpeedTrial, _fastest, _Way, optimize

BF16 = _Way(bfloat16=True)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solves of a few steps: here nothing is judged by its images."""
    monkeypatch.setattr(speed, "_STEPS", 3)


def tiny(classes: int = 0) -> ScoreModel:
    torch.manual_seed(0)
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=8, classes=classes)
    nn.init.normal_(network.last.weight, std=0.05)
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
    assert fast.chosen.image_error <= 1 / 255
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    text = repr(fast)
    assert f"> {fast.chosen.name}" in text
    assert "at most 1/255 rms (batches of 4" in text
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
        for name in ("first", "last", "embed.0", "embed.2", "encoder.0.film", "middle.0.film",
                     "decoder.0.film")
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
    """By a stand-in, since the compiler takes half a minute."""
    calls = []

    def compiler(network: nn.Module, **options: object) -> nn.Module:
        network.register_forward_hook(lambda *_: calls.append(options))
        return network

    monkeypatch.setattr(torch, "compile", compiler)
    fast = optimize(tiny(), batch=2, rounds=1)
    assert [t.name.split(", ")[-1] for t in fast.trials[4:]] == ["compiled"] * 2
    assert not any(trial.failure for trial in fast.trials)
    assert calls


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


def test_error_texts() -> None:
    with pytest.raises(InputError, match="batch = 0: expected a whole number ≥ 1"):
        optimize(tiny(), batch=0)
    with pytest.raises(InputError, match="tolerance = -1: expected a number ≥ 0"):
        optimize(tiny(), tolerance=-1)


def test_a_network_of_ones_own() -> None:
    """Any module called (x, label) will do."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return self.conv(x) + label[:, None, None, None]

    torch.manual_seed(0)
    model = ScoreModel(Own(), VESDE(), (1, 8, 8), EDM(0.33))
    assert not any(t.failure for t in optimize(model, batch=2, rounds=1, compile=False).trials)
