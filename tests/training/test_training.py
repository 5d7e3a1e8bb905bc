"""Training: interruptions do not change a run, and no run fails silently."""

from __future__ import annotations

import csv
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from diffsde.data.images import ImageData
from diffsde.equations.straight import StraightSDE
from diffsde.equations.variance_exploding import VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import CheckpointError, InputError, TrainingError
from diffsde.scores.checkpoint import load_model
from diffsde.scores.exact import GaussianScore
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_matching import score_matching_loss
from diffsde.system import compiler as compiler_module
from diffsde.system.tensorfile import read_tensors
from diffsde.training import (
    initial_model as initial_model_module,
    loop as loop_module,
    run as run_module,
)
from diffsde.training.initial_model import initial_model
from diffsde.training.loop import train
from diffsde.training.noise import TrainingNoise
from diffsde.training.objectives import OBJECTIVES, numbers_per_image, training_loss
from diffsde.training.recipes import RECIPES, SCHEDULES, Recipe, learning_rate
from diffsde.training.run import Run
from diffsde.training.run_folder import RunFolder
from diffsde.training.settled import settled

TINY = Recipe(
    network="ResidualUNet",
    preconditioning="edm",
    objective="lognormal",
    epochs=2,
    batch_size=8,
    sigma_data=0.33,
    held_out=8,
    averages=(0.9, 0.99),
    precision="float32",
)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the same kinds with fewer channels: only the loop is under test."""
    make = initial_model_module.make_network

    def small(name: str, sde: VESDE, **config: object) -> nn.Module:
        sizes = {"channels": (8, 32), "blocks": (1, 1, 1), "embed_dim": 8}
        return make(name, sde, **(sizes | config if name == "ResidualUNet" else config))

    monkeypatch.setattr(initial_model_module, "make_network", small)


def images(n: int = 40, channels: int = 1, size: int = 28) -> ImageData:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=generator)
    return ImageData("noise", pixels.to(torch.uint8), None)


def newest(folder: Path) -> Path:
    return RunFolder(folder, 1).newest()


def weights(folder: Path) -> dict[str, Tensor]:
    return read_tensors(newest(folder))[0]


def started(data: ImageData, recipe: Recipe) -> Run:
    """A run before its first update."""
    model = initial_model(data, recipe, VESDE())
    return Run.start(data, recipe, model, Accelerator())


def untrained(recipe: Recipe, seed: int) -> ScoreModel:
    """A model whose network does not return zero, unlike a fresh one."""
    model = initial_model(labelled(), recipe, VESDE())
    torch.manual_seed(seed)
    for parameter in model.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def numbers(seed: int, x: Tensor, recipe: Recipe = TINY) -> Tensor:
    """Normal numbers for the loss of a batch."""
    noise = TrainingNoise(seed, "training", numbers_per_image(tuple(x.shape[1:]), recipe))
    return noise.draw(0, range(len(x)))


def interrupt_at(
    step: int, monkeypatch: pytest.MonkeyPatch, signals: tuple[int, ...] = (signal.SIGINT,)
) -> None:
    """Send Ctrl-C to this process in the middle of that update."""
    update = Run.update

    def interrupted(run: Run, index: Tensor, **due: bool) -> tuple[bool, bool]:
        if run.progress.step == step:
            for number in signals:
                os.kill(os.getpid(), number)
        return update(run, index, **due)

    monkeypatch.setattr(Run, "update", interrupted)


@pytest.mark.parametrize(
    "recipe",
    [
        TINY,
        replace(TINY, optimizer="muon", schedule="trapezoid", precision="bfloat16"),
        replace(TINY, network="ScoreUNet", preconditioning="score", objective="uniform"),
    ],
    ids=["adam", "muon", "tutorial"],
)
def test_interrupted_and_resumed_is_the_same_run_bit_for_bit(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "whole", images(), recipe, progress=False)
    # In the middle of the first epoch, and of the second: a launcher and its scheduler may both
    # send a SIGTERM.
    for step, signals in ((2, (signal.SIGINT,)), (5, (signal.SIGTERM,) * 2)):
        with monkeypatch.context() as patch:
            interrupt_at(step, patch, signals)
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "cut", images(), recipe, resume=step > 2, progress=False)
        # The model that an interruption leaves behind can be used.
        load_model(tmp_path / "cut" / "model.safetensors")
        notes = read_tensors(newest(tmp_path / "cut"))[1]
        assert notes["step"] == step + 1
    train(tmp_path / "cut", images(), resume=True, progress=False)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name
    for file in ("model.safetensors", "loss.csv", "loss.png"):
        assert (tmp_path / "cut" / file).stat().st_size > 0


def test_ctrl_c_does_what_it_did_before_once_training_is_over(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    train(tmp_path, images(), replace(TINY, epochs=1), progress=False)
    assert signal.getsignal(signal.SIGINT) is before


def test_states_are_written_by_the_clock_amid_an_epoch(tmp_path: Path) -> None:
    """Whoever resumes from such a state arrives at the same weights, bit for bit."""
    often, seldom = tmp_path / "often", tmp_path / "seldom"
    model = train(often, images(), TINY, save_minutes=0, keep=100, progress=False)
    train(seldom, images(), TINY, keep=100, progress=False)
    steps = [int(path.stem[-9:]) for path in RunFolder(often, 1).states()]
    last = steps[-1]
    assert steps == [k for k in range(last + 1) if k % (last // 2) or k in (0, last)]
    assert len(RunFolder(seldom, 1).states()) == 2
    for path in RunFolder(often, 1).states():
        if int(path.stem[-9:]) > 2:  # within the first epoch
            path.unlink()
    again = train(often, images(), resume=True, progress=False)
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    (_, notes), (_, seldom_notes) = (read_tensors(newest(folder)) for folder in (often, seldom))
    assert {**notes, "seconds": 0} == {**seldom_notes, "seconds": 0}


def test_a_run_is_neither_overwritten_nor_changed(tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=1)
    train(tmp_path, images(), recipe, progress=False)
    with pytest.raises(TrainingError, match="already holds a run"):
        train(tmp_path, images(), recipe)
    with pytest.raises(
        InputError, match=r"batch_size = 8, not 4.*only epochs, accumulate may change"
    ):
        train(tmp_path, images(), replace(recipe, batch_size=4), resume=True)
    with pytest.raises(CheckpointError, match="no state-"):
        train(tmp_path / "none", images(), resume=True)
    with pytest.raises(InputError, match=r"shape \(40, 1, 28, 28\), not \(48, 1, 28, 28\)"):
        train(tmp_path, images(48), resume=True)
    model_only = tmp_path / "model.safetensors"
    newest(tmp_path).write_bytes(model_only.read_bytes())
    with pytest.raises(CheckpointError, match="not the state of a training run"):
        train(tmp_path, images(), resume=True)


def test_a_run_can_be_made_longer(tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=1, schedule="constant")
    train(tmp_path / "a", images(), recipe, progress=False)
    train(tmp_path / "a", images(), replace(recipe, epochs=2), resume=True, progress=False)
    train(tmp_path / "b", images(), replace(recipe, epochs=2), progress=False)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_training_learns(tmp_path: Path) -> None:
    """Constant images: the loss falls far below the 784 of a network that returns zero."""
    flat = ImageData("flat", torch.full((72, 1, 28, 28), 90, dtype=torch.uint8), None)
    recipe = replace(TINY, epochs=8, learning_rate=1e-2, averages=(0.8,))
    model = train(tmp_path, flat, recipe, progress=False)
    with (tmp_path / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < 0.8 * 784
    x = flat.batch(torch.arange(8))
    with torch.no_grad():
        clean = model.denoise(x + 0.5 * torch.randn(x.shape), VESDE().time_of_noise_level(0.5))
    assert (clean - x).std() < 0.25


def test_divergence_stops_and_leaves_the_run_from_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "_SAVE_EVERY", 1)
    loss_of = run_module.loss_of_images
    calls = []

    def poisoned(model: ScoreModel, *args: object) -> Tensor:
        if torch.is_grad_enabled():
            calls.append(1)
        loss: Tensor = loss_of(model, *args)  # type: ignore[arg-type]
        return loss * float("nan") if len(calls) == 6 else loss

    monkeypatch.setattr(run_module, "loss_of_images", poisoned)
    with pytest.raises(TrainingError, match=r"at update 5 the loss is nan.*samples.*learning rate"):
        train(tmp_path, images(), TINY, progress=False)
    # The state after the first epoch, four updates, was saved; all of it is finite.
    assert read_tensors(newest(tmp_path))[1]["step"] == 4
    assert all(t.isfinite().all() for t in weights(tmp_path).values() if t.is_floating_point())


def test_a_full_disk_leaves_what_was_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, epochs=1)
    train(tmp_path, images(), recipe, progress=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffsde.system.tensorfile.save_file", full)
    with pytest.raises(TrainingError, match=r"not be saved at update 8 .*No space left.*resume"):
        train(tmp_path, images(), replace(recipe, epochs=2), resume=True, progress=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_long_gradient_is_shortened() -> None:
    run = started(images(), replace(TINY, clip=2.0))
    run.update(torch.arange(8))
    usual = run.progress.norm
    for p in run.model.network.parameters():
        p.grad = torch.full_like(p, 1e3)
    run._clip(1.0, torch.arange(8))
    grads = [p.grad for p in run.model.network.parameters() if p.grad is not None]
    assert nn.utils.get_total_norm(grads).item() == pytest.approx(2 * usual, rel=1e-4)
    run.progress.pending = [1.0] * 50
    with pytest.warns(UserWarning, match="1 of the last 50 gradients were more than 2 times"):
        loop_module._log(run, tqdm(disable=True))
    run.progress.pending = [1.0] * 50
    with warnings.catch_warnings():  # only one warning
        warnings.simplefilter("error")
        loop_module._log(run, tqdm(disable=True))


def test_a_loss_above_the_trivial_one_warns() -> None:
    run = started(images(), TINY)
    run.progress.step, run.progress.pending = 1000, [2000.0] * 50
    with pytest.warns(UserWarning, match="more than the 784"):
        loop_module._log(run, tqdm(disable=True))


# Short averages, because longer ones agree while they warm up. In one of the two orders the
# best average is the last.
@pytest.mark.parametrize("averages", [(0.1, 0.5), (0.5, 0.1)])
def test_the_best_average_is_kept(averages: tuple[float, ...], tmp_path: Path) -> None:
    train(tmp_path, images(), replace(TINY, averages=averages), progress=False)
    tensors, notes = read_tensors(newest(tmp_path))
    losses = notes["held_out"][-1][1]
    best = losses.index(min(losses))
    kept = read_tensors(tmp_path / "model.safetensors")[0]
    assert torch.allclose(kept.pop("data_mean"), images().mean(), atol=1e-7)
    assert len(losses) == 2
    assert losses[0] != losses[1]
    for name, tensor in kept.items():
        assert torch.equal(tensor, tensors[f"average{best}.module.{name}"])


def test_held_out_images_are_never_trained_on() -> None:
    run = started(images(), TINY)
    seen = {int(i) for epoch in range(3) for batch in run.batches(epoch) for i in batch}
    assert seen == set(range(32))
    assert run.batches(0)[0].tolist() != run.batches(1)[0].tolist()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32])
def test_any_images(channels: int, size: int, tmp_path: Path) -> None:
    data = images(24, channels, size)
    model = train(tmp_path, data, replace(TINY, epochs=1), sde=VPSDE(), progress=False)
    assert model.shape == (channels, size, size)
    assert load_model(tmp_path / "model.safetensors").shape == model.shape


def test_tensorboard_holds_the_loss(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tmp_path, images(), replace(TINY, epochs=1), log_with="tensorboard", progress=False)
    assert list((tmp_path / "tensorboard").glob("events*"))


# -- recipes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"averages": (0.9, 1.0)}, "averages"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"objective": "lognormel"}, "did you mean 'lognormal'"),
        ({"network": "UNet"}, "ResidualUNet"),
        ({"optimizer": "sgd"}, "adam, muon"),
        ({"precision": "half"}, "bfloat16"),
        ({"clip": -1.0}, "clip = -1"),
    ],
)
def test_recipes_are_checked(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(TINY, **change)  # type: ignore[arg-type]


def test_too_few_images() -> None:
    with pytest.raises(InputError, match=r"8 samples, 8 of them held out.*held_out = 0\.02"):
        settled(TINY, images(8))


def test_muon_needs_matrices() -> None:
    recipe = replace(TINY, network="ScoreUNet", preconditioning="score", optimizer="muon")
    run = started(images(), recipe)
    # The tutorial's convolutions are not matrices: Muon takes the dense layers, Adam the rest.
    assert [type(o).__name__ for o in run.optimizers] == ["Muon", "Adam"]


def test_schedules() -> None:
    for name in SCHEDULES:
        rates = [learning_rate(replace(TINY, schedule=name), i, 2000) for i in range(2000)]
        assert max(rates) <= TINY.learning_rate
        assert rates[0] == pytest.approx(TINY.learning_rate / 200, rel=1e-3)
        assert rates[250] == pytest.approx(max(rates), rel=0.05)
        if name != "constant":
            assert rates[-1] < 0.01 * TINY.learning_rate
    flat = [learning_rate(replace(TINY, schedule="trapezoid"), i, 2000) for i in (200, 1399)]
    assert flat == [TINY.learning_rate] * 2


def test_recipes_by_name_can_be_run() -> None:
    assert RECIPES["mnist-tutorial"].network == "ScoreUNet"
    assert RECIPES["mnist-tutorial"].objective == "uniform"
    assert RECIPES["mnist"].preconditioning == "edm"


# -- objectives ---------------------------------------------------------------------


class _Zero(nn.Module):
    def forward(self, x: Tensor, _t: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_uniform_objective_is_the_score_matching_loss() -> None:
    model, x = ScoreModel(_Zero(), VESDE(), (1, 8, 8)), torch.rand(64, 1, 8, 8)
    recipe = replace(TINY, objective="uniform")
    # The numbers that `score_matching_loss` draws, with times as normal numbers.
    generator = torch.Generator().manual_seed(0)
    share, z = torch.rand(64, generator=generator), torch.randn(x.shape, generator=generator)
    same = torch.cat([torch.special.ndtri(share)[:, None], torch.zeros(64, 1), z.flatten(1)], 1)
    expected = score_matching_loss(model, x, torch.Generator().manual_seed(0))
    # Times are mapped to the normal law and back, in float32.
    assert training_loss(model, x, recipe, same).item() == pytest.approx(expected.item(), rel=1e-4)


def test_losses_of_a_network_that_returns_zero() -> None:
    x = 0.33 * torch.randn(4000, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for objective, model in (
        ("likelihood", ScoreModel(_Zero(), VESDE(), (1, 8, 8))),
        ("lognormal", ScoreModel(_Zero(), VESDE(), (1, 8, 8), EDM(0.33))),
    ):
        loss = training_loss(model, x, replace(TINY, objective=objective), numbers(0, x))
        assert loss.item() == pytest.approx(64, rel=0.02)


@pytest.mark.parametrize("sde", [VESDE(), VPSDE()], ids=lambda sde: type(sde).__name__)
def test_noise_levels_follow_their_law(sde: VESDE) -> None:
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    t = OBJECTIVES["lognormal"].times(TINY, sde, normal)
    log_level = sde.noise_level(t).log()
    middle = log_level.sort().values[[3173, 10_000, 16_827]]
    expected = TINY.level_mean + TINY.level_std * torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(middle, expected, rtol=0, atol=0.05)
    t = OBJECTIVES["likelihood"].times(TINY, sde, normal)
    log_level = sde.noise_level(t.double()).log()
    low, high = sde.noise_level(torch.tensor([1e-5, sde.T], dtype=torch.float64)).log()
    share = (log_level - low) / (high - low)
    assert -1e-3 < share.min() < 1e-3
    assert 0.999 < share.max() < 1.001
    assert share.mean() == pytest.approx(0.5, abs=0.01)


def test_likelihood_objective_is_the_integral_with_weight_g_squared() -> None:
    """arXiv 2101.09258, eq. 7: E over t of g² ‖score − target‖², here by plain sampling of t."""
    sde, x = VESDE(eps=1e-3), 0.3 * torch.randn(200_000, 1, 1, 1)
    score = GaussianScore(sde, 0.0, 0.5)

    class Wrong(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            value: Tensor = score(x, t)
            return value

    model = ScoreModel(Wrong(), sde, (1, 1, 1))
    ours = training_loss(model, x, replace(TINY, objective="likelihood"), numbers(0, x)).item()
    # Split the time axis evenly in ln σ, but weight by dt g²/s², the density of the times.
    level = sde.noise_level(torch.tensor([1e-5, 1.0], dtype=torch.float64)).log()
    edges = torch.linspace(float(level[0]), float(level[1]), 400, dtype=torch.float64).exp()
    times = sde.time_of_noise_level(edges)
    t = 0.5 * (times[1:] + times[:-1])
    s2, g2 = sde.marginal_std(t) ** 2, sde.diffusion(t) ** 2
    error = (s2 * 0.3**2 + 0.5**4) / (0.5**2 + s2) ** 2  # E ‖s score + z‖² for these Gaussians
    weight = g2 / s2 * (times[1:] - times[:-1])
    expected = float((weight * error).sum() / weight.sum())
    assert ours == pytest.approx(expected, rel=0.02)


def test_without_a_compiler_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler_module.shutil, "which", lambda _: None)
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler"):
        started(images(), replace(TINY, compile=True))


def labelled(n: int = 40, classes: int = 3) -> ImageData:
    return replace(images(n), labels=torch.arange(n) % classes)


def test_the_prior_gets_the_datas_mean(tmp_path: Path) -> None:
    sde = VESDE()
    model = train(tmp_path, images(), TINY, sde=sde, progress=False)
    assert torch.equal(model.sde.data_mean, images().mean())
    assert torch.equal(load_model(tmp_path / "model.safetensors").sde.data_mean, images().mean())
    assert sde.data_mean is None  # the argument is unchanged


def test_a_run_can_begin_with_a_trained_model(tmp_path: Path) -> None:
    first = train(tmp_path / "a", images(), TINY, progress=False)
    before = {k: v.clone() for k, v in first.state_dict().items()}
    idle = replace(TINY, epochs=1, learning_rate=1e-20, averages=())
    again = train(tmp_path / "b", images(), idle, start_from=first, progress=False)
    x = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.allclose(again(x, 0.3), first(x, 0.3), atol=1e-5)
    train(tmp_path / "c", images(), TINY, start_from=first, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in first.state_dict().items())


@pytest.mark.parametrize(
    ("recipe", "data", "match"),
    [
        (Recipe(batch_size=8, held_out=8, sigma_data=0.33), images(), "network ResidualUNet"),
        (replace(TINY, preconditioning="noise"), images(), "preconditioning EDM"),
        (TINY, images(size=32), r"shape \(1, 28, 28\)"),
    ],
)
def test_a_model_of_another_kind_begins_no_run(
    recipe: Recipe, data: ImageData, match: str, tmp_path: Path
) -> None:
    model = initial_model(images(), TINY, VESDE())
    with pytest.raises(InputError, match=match):
        train(tmp_path, data, recipe, start_from=model, progress=False)


def test_a_trained_model_learns_classes(tmp_path: Path) -> None:
    free = train(tmp_path / "free", labelled(), TINY, progress=False)
    told = replace(TINY, classes=3, learning_rate=0.1)
    begun = initial_model(labelled(), told, VESDE(), free)
    x, t = torch.randn(6, 1, 28, 28), torch.tensor(0.3)
    model = train(tmp_path / "told", labelled(), told, start_from=free, progress=False)
    with torch.no_grad():
        # An embedding that is still zero changes nothing.
        assert torch.equal(begun(x, t, torch.arange(6) % 3), free(x, t))
        assert model.classes == 3
        assert not torch.equal(model(x, t, 0), model(x, t, 1))
        assert torch.equal(model(x, t, -1), model(x, t))
        mixed = model(x, t, torch.tensor([0, 1, 2, -1, 0, -1]))
        assert torch.allclose(mixed[3], model(x, t)[3], atol=1e-5)
        assert torch.allclose(mixed[1], model(x, t, 1)[1], atol=1e-5)
    again = load_model(tmp_path / "told" / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(again(x, t, 2), model(x, t, 2))


def test_a_trained_model_learns_waves(tmp_path: Path) -> None:
    plain = initial_model(images(), TINY, VESDE())
    torch.nn.init.normal_(plain.network.last.weight)
    recipe = replace(TINY, waves=(8, 256), smallest_time=1e-7, objective="likelihood")
    begun = initial_model(images(), recipe, VESDE(), plain)
    x, t = torch.randn(6, 1, 28, 28), torch.tensor(1e-6)
    model = train(tmp_path, images(), recipe, start_from=plain, progress=False)
    again = load_model(tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(begun(x, t), plain(x, t))  # their weights are still zero
        assert model.network.first_of_waves.weight.any()
        assert torch.equal(again(x, t), model(x, t))
    for other in (replace(recipe, waves=()), replace(recipe, waves=(8,))):
        with pytest.raises(InputError, match=r"start_from has waves = \(8, 256\)"):
            initial_model(images(), other, VESDE(), model)


@pytest.mark.parametrize("more", [(1, 2, 1), (1, 5, 1)])
def test_a_trained_model_grows_blocks(more: tuple[int, ...], tmp_path: Path) -> None:
    def made(blocks: tuple[int, ...]) -> ScoreModel:
        torch.manual_seed(0)
        network = ResidualUNet(channels=(8, 32), embed_dim=8, blocks=blocks)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        return ScoreModel(network, VESDE(), (1, 28, 28), EDM(0.33))

    few = made((1, 2, 1))
    recipe = replace(TINY, blocks=more)
    begun = initial_model(images(), recipe, VESDE(), few)
    x, t = torch.randn(3, 1, 28, 28), torch.tensor([0.1, 0.3, 0.5])
    with torch.no_grad():
        # New blocks add nothing at first, up to the order of sums.
        torch.testing.assert_close(begun(x, t), few(x, t))
    assert begun.network.blocks == more
    for blocks in ((1, 1, 1), (2, 2, 1)):
        with pytest.raises(InputError, match=r"start_from has blocks = \(1, 2, 1\)"):
            initial_model(images(), replace(TINY, blocks=blocks), VESDE(), few)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"network": "ScoreUNet"}, "with ScoreUNet: expected ResidualUNet or LevelUNet"),
        ({"preconditioning": "edm"}, "expected 'denoised' with LevelUNet"),
        ({"dequantise": True}, "dequantise = True: expected False with LevelUNet"),
        (
            {"network": "ResidualUNet", "preconditioning": "score"},
            "gives the network the noise level",
        ),
        ({"blocks": (1, 4)}, "three numbers, or none"),
        ({"blocks": (1, 0, 1)}, "whole numbers, 1 to"),
        ({"waves": (8, 0)}, "whole numbers, 1 to"),
        ({"waves": (0.5,)}, "whole numbers, 1 to"),
        ({"waves": 8}, "expected a tuple"),
    ],
)
def test_what_no_network_takes(change: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        replace(RECIPES["mnist-likelihood"], **change)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_draws_times_of_a_process_that_ends_in_noise(objective: str) -> None:
    """At the end of a straight line the noise level is infinite: no even share of ln σ is."""
    recipe, endless = replace(TINY, objective=objective), StraightSDE(T=1.0)
    if objective == "likelihood":
        with pytest.raises(InputError, match=r"'likelihood' with StraightSDE.*smaller T"):
            initial_model(images(), recipe, endless)
        endless = StraightSDE(T=0.999)
    assert initial_model(images(), recipe, endless).sde.T == endless.T
    t = OBJECTIVES[objective].times(recipe, endless, torch.linspace(-3, 3, 50))
    assert 0 < float(t.min()) < float(t.median()) < float(t.max()) <= endless.T


def test_classes_need_labels_and_room() -> None:
    for data, match in ((images(), "no labels"), (labelled(classes=5), "has 5 classes")):
        with pytest.raises(InputError, match=match):
            settled(replace(TINY, classes=3), data)


def test_a_taught_run_resumes_with_its_teacher_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, classes=3, class_dropout=0.5)
    teacher = untrained(recipe, seed=1)
    train(tmp_path / "whole", labelled(), recipe, teacher=teacher, progress=False)
    interrupt_at(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", labelled(), recipe, teacher=teacher, progress=False)
    monkeypatch.undo()
    train(tmp_path / "cut", labelled(), resume=True, progress=False)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name
    train(tmp_path / "alone", labelled(), recipe, progress=False)
    other = weights(tmp_path / "alone")
    assert not torch.equal(other["network.last.weight"], whole["network.last.weight"])


def test_dropped_classes_are_not_told() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        classes = 3

        def forward(self, x: Tensor, _label: Tensor, class_label: Tensor) -> Tensor:
            seen.append(class_label)
            return 0 * x

    model = ScoreModel(Spy(), VESDE(), (1, 2, 2))
    labels, x = torch.arange(3000) % 3, torch.zeros(3000, 1, 2, 2)
    recipe = replace(TINY, objective="uniform", class_dropout=0.2)
    training_loss(model, x, recipe, numbers(0, x), labels)
    dropped = seen[0] == -1
    assert torch.equal(seen[0][~dropped], labels[~dropped])
    # Five standard deviations of a share of 3,000.
    assert abs(dropped.float().mean().item() - 0.2) < 5 * (0.2 * 0.8 / 3000) ** 0.5


def test_dequantised_images_are_uniform_within_their_levels() -> None:
    class Blank(ScoreModel):
        def denoise(self, x: Tensor, _t: Tensor, _class_label: Tensor | None = None) -> Tensor:
            return torch.zeros_like(x)

    model = Blank(_Zero(), VESDE(), (1, 8, 8))
    # All noise levels at σ = 1, where the weight is 1 + 1/σ_data².
    recipe = replace(TINY, dequantise=True, level_mean=0.0, level_std=1e-6)
    for level in (0, 255):
        x = torch.full((500, 1, 8, 8), level / 255)
        found = training_loss(model, x, recipe, numbers(1, x, recipe)).item() / (1 + 0.33**-2)
        u = torch.linspace(0, 1, 10_001, dtype=torch.float64)
        expected = 64 * float((((level + u) / 256) ** 2).mean())
        # u² has a standard deviation of 0.9 of its mean, over 32,000 pixels: five errors.
        assert found == pytest.approx(expected, rel=0.025)
    with pytest.raises(InputError, match="numbers of shape"):
        training_loss(model, x, recipe, numbers(1, x))


def test_half_of_the_images_are_mirrored() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor, _t: Tensor) -> Tensor:
            seen.append(x)
            return 0 * x

    model = ScoreModel(Spy(), VESDE(), (1, 2, 2))  # the network sees x(t) unscaled
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(2000, 1, 2, 2)
    # All noise levels at s(1e-5), 0.003.
    recipe = replace(TINY, mirror=True, level_mean=-20.0)
    training_loss(model, x, recipe, numbers(0, x, recipe))
    mirrored = seen[0][:, 0, 0, 1] > 0.5
    expected = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
    assert torch.allclose(seen[0], expected, atol=0.03)
    # Five standard deviations of a share of 2,000.
    assert abs(mirrored.float().mean().item() - 0.5) < 5 * (0.25 / 2000) ** 0.5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_time_is_drawn_below_the_smallest(objective: str) -> None:
    normal, sde = torch.linspace(-6, 6, 2001), VESDE()
    for smallest in (1e-7, 1e-2):
        recipe = replace(TINY, objective=objective, smallest_time=smallest, level_mean=-4.0)
        times = OBJECTIVES[objective].times(recipe, sde, normal)
        assert float(times.min()) == pytest.approx(smallest, rel=1e-3)
        assert float(times.max()) == pytest.approx(1.0, rel=1e-3)
