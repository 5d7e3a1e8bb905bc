"""Pipelines of diffusers: loaded from their folders, and solved as their own schedulers do.

Networks are tiny and have random weights, so they are compared, not looked at. Two loops with the
same method on the same nodes differ by rounding alone. Ours solves in float64 and asks the same
network in float32; diffusers does all in float32, where ten steps are good to about 1e-6 of the
largest state.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from diffsde import (
    EDMSDE,
    ProbabilityFlow,
    classifier_free,
    from_diffusers,
    load_model,
    save_model,
    solve,
)
from diffsde.cli.picking import pick_weights, plans
from diffsde.cli.pictures import Pictures, image_shape
from diffsde.cli.solving import solve_all
from diffsde.equations.forward import SDE
from diffsde.errors import CheckpointError, InputError
from diffsde.scores.discrete import step_of
from diffsde.scores.model import ScoreModel
from diffsde.scores.pipelines import load_pipeline
from diffsde.scores.schedulers import levels_of, meaning_of
from diffsde.solvers.catalogue import find_solver
from diffsde.system.description import digest_of

diffusers = pytest.importorskip(
    "diffusers", reason="diffusers is not installed: diffsde[interchange]"
)

CLOSE = 3e-6  # of the largest state; see above
SHAPE = (1, 8, 8)


def unet(seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    given = {
        "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 8),
        "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2,
        "norm_num_groups": 4, "layers_per_block": 1, "add_attention": False,
    }  # fmt: skip
    return diffusers.UNet2DModel(**(given | settings)).eval()


def dit(seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    given = {
        "num_attention_heads": 2, "attention_head_dim": 4, "in_channels": 4, "out_channels": 8,
        "num_layers": 1, "sample_size": 8, "num_embeds_ada_norm": 3, "norm_num_groups": 4,
    }  # fmt: skip
    return diffusers.DiTTransformer2DModel(**(given | settings)).eval()


def autoencoder(seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    given = {
        "block_out_channels": (8, 8), "latent_channels": 4, "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "mid_block_add_attention": False,
        "up_block_types": ("UpDecoderBlock2D",) * 2, "scaling_factor": 0.5, "shift_factor": 0.25,
    }  # fmt: skip
    return diffusers.AutoencoderKL(**(given | settings)).eval()


def saved(folder: Path, **parts: Any) -> Path:
    """A pipeline's folder, as `save_pretrained` writes it."""
    index: dict[str, Any] = {"_class_name": "DDPMPipeline", "_diffusers_version": "0"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def noise(n: int = 2, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def solved(model: ScoreModel, x: Tensor, method: str, **settings: Any) -> Tensor:
    """The end of the flow, in float64; an untrained network's images may be large."""
    flow = ProbabilityFlow(model.sde, model, model.shape, data_scale=1e6)
    return solve(flow, x.double(), method, **settings).final


@torch.no_grad()
def drawn_by(scheduler: Any, network: Callable[..., Any], x: Tensor, **step: Any) -> Tensor:
    """The loop of every pipeline of diffusers."""
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t).sample
        x = scheduler.step(output, t, x, **step).prev_sample
    return x


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    theirs = theirs.double()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=CLOSE * float(theirs.abs().max()))


# -- the same samples as the schedulers' own loops -------------------------------------------

SCHEDULES = [
    {"beta_schedule": "linear"},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s["beta_schedule"])
def test_ddim(schedule: dict[str, Any], prediction: str, tmp_path: Path) -> None:
    given = {"timestep_spacing": "trailing", "clip_sample": False, "prediction_type": prediction}
    scheduler = diffusers.DDIMScheduler(**schedule, **given)
    model = load_model(saved(tmp_path, unet=unet(), scheduler=scheduler))
    scheduler.set_timesteps(10)
    theirs = drawn_by(scheduler, unet(), noise())
    ts = model.sde.time_of_noise_level(levels_of(scheduler)[scheduler.timesteps])
    # Their last step goes to σ = 0, which is the denoised image.
    ours = solved(model, noise(), "ddim", ts=ts, denoise=True)
    assert_same(ours, theirs)


def test_dpm_solver(tmp_path: Path) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        timestep_spacing="trailing", lower_order_final=False, final_sigmas_type="sigma_min"
    )
    model = load_model(saved(tmp_path, unet=unet(), scheduler=scheduler))
    scheduler.set_timesteps(10)
    theirs = drawn_by(scheduler, unet(), noise())
    ts = model.sde.time_of_noise_level(scheduler.sigmas.double())
    assert_same(solved(model, noise(), "dpmpp_2m", ts=ts), theirs)


def exploding(scheduler: Any) -> ScoreModel:
    """The network under x = x(0) + σ z, in which these schedulers count."""
    low, high = levels_of(scheduler)[[0, -1]].tolist()
    return from_diffusers(unet(), scheduler, EDMSDE(T=high, eps=low)).eval()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("EulerDiscreteScheduler", "euler"), ("HeunDiscreteScheduler", "heun_edm")],
)
def test_schedulers_that_count_in_sigma(theirs: str, ours: str) -> None:
    scheduler = getattr(diffusers, theirs)(
        timestep_spacing="trailing", beta_start=1e-4, beta_end=0.02, beta_schedule="linear"
    )
    model = exploding(scheduler)
    scheduler.set_timesteps(8)
    x = scheduler.init_noise_sigma * noise()
    wanted = drawn_by(scheduler, unet(), x)
    sigmas = scheduler.sigmas[:-1].double().unique().flip(0)  # Heun's has each of them twice
    assert_same(
        solved(model, x, ours, ts=sigmas.clamp(model.sde.eps, model.sde.T), denoise=True), wanted
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("EDMEulerScheduler", "euler"), ("EDMDPMSolverMultistepScheduler", "dpmpp_2m")],
)
def test_edm(theirs: str, ours: str, prediction: str, tmp_path: Path) -> None:
    given = {"sigma_max": 20.0, "sigma_data": 0.4, "prediction_type": prediction}
    more = {} if ours == "euler" else {"lower_order_final": False, "euler_at_final": False}
    scheduler = getattr(diffusers, theirs)(**given, **more)
    model = load_model(saved(tmp_path, unet=unet(), scheduler=scheduler))
    assert (model.sde.eps, model.sde.T, model.data_range) == (0.002, 20.0, (-1.0, 1.0))
    scheduler.set_timesteps(8)
    x = 20 * noise()
    wanted = drawn_by(scheduler, unet(), x)
    ts = scheduler.sigmas[:-1].double().clamp(model.sde.eps, model.sde.T)
    assert_same(solved(model, x, ours, ts=ts, denoise=True), wanted)


def test_the_score_sde(tmp_path: Path) -> None:
    """One step of their predictor, whose noise is left out, is one of the reverse SDE."""
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0)
    network = unet(time_embedding_type="fourier")
    model = load_model(saved(tmp_path, unet=network, scheduler=scheduler))
    assert (model.sde.eps, model.sde.T, model.data_range) == (0.01, 50.0, (0.0, 1.0))
    x = 50 * noise()
    with torch.no_grad():
        score = network(x, torch.full((2,), 50.0)).sample
        assert torch.equal(model(x, 50.0), score)
        scheduler.set_timesteps(1000)
        scheduler.set_sigmas(1000)
        output = scheduler.step_pred(score, scheduler.timesteps[0], x)
        before, after = scheduler.discrete_sigmas[[-1, -2]].tolist()
        mean = x + (before**2 - after**2) * model(x, before)
    torch.testing.assert_close(output.prev_sample_mean, mean, rtol=1e-5, atol=1e-4)


def test_karras_ve(tmp_path: Path) -> None:
    """Their step is called in [−1, 1] and the network in [0, 1], where we solve."""
    scheduler = diffusers.KarrasVeScheduler(sigma_min=0.02, sigma_max=40.0)
    network = unet(time_embedding_type="fourier")
    model = load_model(saved(tmp_path, unet=network, scheduler=scheduler))
    assert (model.sde.eps, model.sde.T, model.data_range) == (0.01, 20.0, (0.0, 1.0))
    x, before, after = 30 * noise(), torch.tensor(30.0), torch.tensor(24.0)
    with torch.no_grad():
        output = (before / 2) * network((x + 1) / 2, before / 2).sample
        wanted = scheduler.step(output, before, after, x).prev_sample
    ours = solved(model, (x + 1) / 2, "euler", ts=[15.0, 12.0], steps=1)
    assert_same(2 * ours - 1, wanted)


def straight(n: int, shift: float) -> list[float]:
    """Times from 0.999 down, before the scheduler shifts them: its first one would be 1."""
    times = torch.linspace(0.999, 0.1, n, dtype=torch.float64)
    return (times / (shift - (shift - 1) * times)).tolist()


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching(shift: float, tmp_path: Path) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    model = load_model(saved(tmp_path, unet=unet(), scheduler=scheduler))
    scheduler.set_timesteps(sigmas=straight(8, shift))
    x = noise()
    for t in scheduler.timesteps:
        with torch.no_grad():
            x = scheduler.step(unet()(x, t).sample, t, x).prev_sample
    ts = scheduler.sigmas[:-1].double().clamp(max=model.sde.T)
    assert_same(solved(model, noise(), "euler", ts=ts, denoise=True), x)


def test_flow_matching_in_another_process() -> None:
    """Only noise levels count: the score of the same velocity under x = x(0) + σ z."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    own = from_diffusers(unet(), scheduler).eval()
    other = from_diffusers(unet(), scheduler, EDMSDE(T=100.0, eps=0.01)).eval()
    y, t = noise().double(), torch.tensor(0.7, dtype=torch.float64)
    with torch.no_grad():
        wanted = (0.3 * y - 0.7 * unet()(0.3 * y.float(), 700.0).sample).double()
        for model, x, at in ((own, 0.3 * y, t), (other, y, t / 0.3)):
            torch.testing.assert_close(model.denoise(x, at), wanted, rtol=1e-5, atol=1e-6)
            a, s = model.sde.marginal_scale(at), model.sde.marginal_std(at)
            score = (a * wanted - x) / s**2
            torch.testing.assert_close(model(x, at), score, rtol=1e-5, atol=1e-6)


def test_flow_prediction_of_a_multistep_solver() -> None:
    """DPM-Solver has a discrete schedule as well, which then means nothing."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True
    )
    meaning = meaning_of(scheduler)
    assert (
        meaning.preconditioning
        == meaning_of(diffusers.FlowMatchEulerDiscreteScheduler()).preconditioning
    )
    with pytest.raises(InputError, match="invert_sigmas = True"):
        meaning_of(diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True))


# -- networks --------------------------------------------------------------------------------


def ddpm(**settings: Any) -> Any:
    return diffusers.DDPMScheduler(**settings)


def test_a_network_with_classes(tmp_path: Path) -> None:
    network = unet(num_class_embeds=3)
    model = load_model(saved(tmp_path, unet=network, scheduler=ddpm(prediction_type="sample")))
    assert (model.classes, model.shape) == (3, SHAPE)
    t = model.sde.time_of_noise_level(levels_of(ddpm())[400])
    with torch.no_grad():
        wanted = network(noise(), 400, torch.tensor([2, 1])).sample
        x = noise()  # √ᾱ (x(0) + σ z), as our VP process has it
        torch.testing.assert_close(
            model.denoise(x, t, torch.tensor([2, 1])), wanted, rtol=1e-4, atol=1e-5
        )
    sol = model.sample(2, seed=0, steps=3, label=1)
    assert sol.images().shape == (2, *SHAPE)
    with pytest.raises(InputError, match="with classes only, and has no score without one"):
        model.sample(2, seed=0, steps=3)
    with pytest.raises(InputError, match=r"label = 3: expected 0 to 2"):
        model.sample(2, label=3)


def latents(folder: Path, **settings: Any) -> Path:
    parts = {"transformer": dit(), "vae": autoencoder(**settings)}
    return saved(folder, scheduler=ddpm(prediction_type="sample"), **parts)


def test_a_transformer_of_latents(tmp_path: Path) -> None:
    """It learned a variance, has a number for no class, and its pipeline decodes."""
    model = load_model(latents(tmp_path))
    assert (model.classes, model.shape) == (3, (4, 8, 8))
    x, t = noise(2, (4, 8, 8)), model.sde.time_of_noise_level(levels_of(ddpm())[400])
    steps = torch.full((2,), 400)
    with torch.no_grad():
        for label, told in ((1, 1), (-1, 3), (None, 3)):
            wanted = dit()(x, steps, torch.full((2,), told)).sample[:, :4]
            torch.testing.assert_close(model.denoise(x, t, label), wanted, rtol=1e-4, atol=1e-5)
        guided = classifier_free(model, 1, 3.0)
        assert guided(x, 0.5).shape == x.shape
        images = autoencoder().decode(x / 0.5 + 0.25).sample
        assert torch.equal(model.decoder(x), images)
    assert images.shape == (2, 3, 16, 16)


def test_the_command_line_takes_a_folder(tmp_path: Path) -> None:
    model = pick_weights(str(latents(tmp_path)))
    assert (model.shape, image_shape(model)) == ((4, 8, 8), (3, 16, 16))
    out = tmp_path / "out"
    pictures = Pictures.checked(out, model, film="gif", fps=None, paths=False, size=40, dark=False)
    assert pictures.zoom == 2
    (plan,) = plans(model, [find_solver("ddim", "ode")], model.of_class(1))
    solved = solve_all([plan], 2, seed=0, steps=3, whole=True, progress=False)
    written: list[Path] = []
    pictures.write(solved, written)
    assert [path.name for path in written] == ["samples.safetensors", "samples.png", "samples.gif"]
    with Image.open(out / "samples.png") as image:
        assert image.size[1] == 2 * 16


def test_older_names_of_a_transformer(tmp_path: Path) -> None:
    """Pipelines from before `DiTTransformer2DModel` name another class, with a norm_type."""
    folder = latents(tmp_path)
    for path in (folder / "model_index.json", folder / "transformer" / "config.json"):
        path.write_text(path.read_text().replace("DiTTransformer2DModel", "Transformer2DModel"))
    assert load_model(folder).classes == 3
    settings = folder / "transformer" / "config.json"
    settings.write_text(settings.read_text().replace("ada_norm_zero", "layer_norm"))
    with pytest.raises(CheckpointError, match="Transformer2DModel"):
        load_model(folder)


def test_statistics_of_latents(tmp_path: Path) -> None:
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    model = load_model(latents(tmp_path, latents_mean=mean, latents_std=std))
    z = noise(2, (4, 8, 8))
    columns = [torch.tensor(v).reshape(1, 4, 1, 1) for v in (mean, std)]
    with torch.no_grad():
        wanted = autoencoder().decode(z / 0.5 * columns[1] + columns[0]).sample
    torch.testing.assert_close(model.decoder(z), wanted)


def test_a_quantising_autoencoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    quantiser = diffusers.VQModel(
        block_out_channels=(8, 8), latent_channels=1, norm_num_groups=4, num_vq_embeddings=8,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        mid_block_add_attention=False, scaling_factor=0.5,
    ).eval()  # fmt: skip
    model = load_model(saved(tmp_path, unet=unet(), scheduler=ddpm(), vqvae=quantiser))
    with torch.no_grad():
        assert torch.equal(model.decoder(noise()), quantiser.decode(noise() / 0.5).sample)


def test_time_embedded_by_a_table(tmp_path: Path) -> None:
    network = unet(time_embedding_type="learned", num_train_timesteps=1000)
    model = load_model(saved(tmp_path, unet=network, scheduler=ddpm(prediction_type="sample")))
    t = model.sde.time_of_noise_level(levels_of(ddpm())[400])
    with torch.no_grad():
        wanted = network(noise(), torch.tensor([400, 400])).sample
        torch.testing.assert_close(model.denoise(noise(), t), wanted, rtol=1e-4, atol=1e-5)


def test_half_precision_is_told_the_step_exactly(tmp_path: Path) -> None:
    network = unet()
    told: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, args: told.append(args[1]))
    model = from_diffusers(network, ddpm()).to(torch.bfloat16)
    with torch.no_grad():
        model(noise(), model.sde.time_of_noise_level(levels_of(ddpm())[997]))
    assert told[0].dtype == torch.float32
    torch.testing.assert_close(told[0], torch.full((2,), 997.0), rtol=0, atol=1e-3)


def test_wrapped_networks(tmp_path: Path) -> None:
    model = from_diffusers(nn.DataParallel(unet(num_class_embeds=3)), ddpm())
    assert (model.classes, model.shape) == (3, SHAPE)


def test_networks_that_cannot_be_told_classes() -> None:
    with pytest.raises(InputError, match="class_embed_type = 'timestep': expected None"):
        from_diffusers(unet(class_embed_type="timestep", num_class_embeds=3), ddpm())


def test_a_loaded_model_can_be_described_but_not_saved(tmp_path: Path) -> None:
    """Two loads of one folder are the same to results on disk, and another seed is not."""
    folder = saved(tmp_path / "a", unet=unet(), scheduler=ddpm())
    other = saved(tmp_path / "b", unet=unet(1), scheduler=ddpm())
    digests = [digest_of(load_model(place), "model") for place in (folder, folder, other)]
    assert digests[0] == digests[1] != digests[2]
    with pytest.raises(InputError, match="PipelineNetwork cannot be named in a checkpoint"):
        save_model(load_model(folder), tmp_path / "m.safetensors")
    function = from_diffusers(lambda x, k: x, ddpm(), shape=SHAPE)
    with pytest.raises(InputError, match="cannot be described"):
        digest_of(function, "model")


# -- what a scheduler says -------------------------------------------------------------------


def test_steps_between_steps() -> None:
    levels = levels_of(ddpm())
    steps = torch.tensor([0.0, 0.5, 10.25, 998.75, 999.0], dtype=torch.float64)
    low, part = steps.floor().long().clamp(max=998), steps - steps.floor().clamp(max=998)
    between = ((1 - part) * levels[low].log() + part * levels[low + 1].log()).exp()
    torch.testing.assert_close(step_of(between, levels), steps, rtol=0, atol=1e-9)
    beyond = torch.tensor([1e-6, 1e6], dtype=torch.float64)
    assert step_of(beyond, levels).tolist() == [0, 999]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s["beta_schedule"])
def test_the_process_spans_the_schedule(schedule: dict[str, Any]) -> None:
    scheduler = ddpm(**schedule)
    sde = meaning_of(scheduler).sde
    ends = sde.noise_level(torch.tensor([sde.eps, sde.T], dtype=torch.float64))
    torch.testing.assert_close(ends, levels_of(scheduler)[[0, -1]], rtol=1e-9, atol=0)
    sde.check()


WRONG: list[tuple[Any, str]] = [
    ({"rescale_betas_zero_snr": True}, r"reaches 0 at step 999 .*alphas_cumprod\[:-1\]"),
    ({"trained_betas": [0.1, -0.1, 0.2]}, "that fall from step to step"),
    ({"trained_betas": [0.1]}, r"shape \(1,\)"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_schedules_of_no_process(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        from_diffusers(unet(), ddpm(**settings))
    with pytest.raises(CheckpointError, match=words):
        load_model(saved(tmp_path, unet=unet(), scheduler=ddpm(**settings)))


def test_the_fix_for_zero_terminal_snr() -> None:
    scheduler = ddpm(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    fixed = SimpleNamespace(alphas_cumprod=scheduler.alphas_cumprod[:-1], config=scheduler.config)
    sol = from_diffusers(unet(), fixed).sample(2, seed=0, steps=4, clock="log_sigma")
    assert bool(sol.final.isfinite().all())


def test_schedulers_that_are_refused() -> None:
    for name, words in (
        ("CMStochasticIterativeScheduler", "expected one with alphas_cumprod"),
        ("IPNDMScheduler", "expected one with alphas_cumprod"),
    ):
        with pytest.raises(InputError, match=words):
            from_diffusers(unet(), getattr(diffusers, name)())
    continuous = diffusers.EulerDiscreteScheduler(timestep_type="continuous")
    with pytest.raises(InputError, match="timestep_type 'continuous'"):
        from_diffusers(unet(), continuous)
    with pytest.raises(InputError, match=r"sigma_min = 3, sigma_max = 2"):
        from_diffusers(unet(), diffusers.EDMEulerScheduler(sigma_min=3.0, sigma_max=2.0))


def test_a_path_in_place_of_a_network(tmp_path: Path) -> None:
    for path in ("unet", tmp_path):
        with pytest.raises(InputError, match=r"expected a network, .*load_model\('"):
            from_diffusers(path, ddpm())


def test_a_function_without_a_shape() -> None:
    """It is a score all the same, which only cannot draw by itself."""
    score = from_diffusers(lambda x, k: x, ddpm())
    assert score(noise(), 0.5).shape == noise().shape
    with pytest.raises(InputError, match="does not know the shape of a sample: give shape="):
        score.sample(2)
    assert from_diffusers(lambda x, k: x, ddpm(), shape=(3,)).sample(2, seed=0, steps=2)


# -- folders that are not what they should be ------------------------------------------------


def changed(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("pipeline"), unet=unet(), scheduler=ddpm())


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "pipeline"))


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    ("unet/config.json", {"layers_per_block": 10**9}, "layers_per_block = 1000000000"),
    ("unet/config.json", {"block_out_channels": [1 << 20, 1 << 20]}, "do not belong together"),
    ("unet/config.json", {"block_out_channels": [8] * 1000}, "a list of at most 64"),
    ("unet/config.json", {"block_out_channels": "many"}, "diffusers cannot make"),
    ("unet/config.json", {"block_out_channels": [[8], [8]]}, "a list of at most"),
    ("unet/config.json", {"down_block_types": ["os.system", "rm"]}, "diffusers cannot make"),
    ("unet/config.json", {"norm_num_groups": 0}, "diffusers cannot make"),
    ("unet/config.json", {"sample_size": 10**7}, "sample_size"),
    ("unet/config.json", {"sample_size": None}, "no sample_size"),
    ("unet/config.json", {"in_channels": 2}, "conv_in.weight"),
    ("unet/config.json", {"norm_eps": float("inf")}, "norm_eps"),
    ("unet/config.json", {"quantization_config": {"load_in_8bit": True}}, "quantization_config"),
    ("unet/config.json", {"_class_name": "AutoencoderKL"}, "names UNet2DModel"),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "num_train_timesteps"),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": -5}, "scheduler"),
    ("scheduler/scheduler_config.json", {"beta_schedule": "none"}, "beta_schedule|none"),
    ("scheduler/scheduler_config.json", {"beta_end": "x" * 1000}, "beta_end"),
    ("scheduler/scheduler_config.json", {"prediction_type": "magic"}, "prediction_type 'magic'"),
    ("model_index.json", {"unet": ["diffusers", "UNet2DConditionModel"]}, "UNet2DConditionModel"),
    ("model_index.json", {"unet": ["os", "system"]}, "a pipeline of unet: system"),
    ("model_index.json", {"scheduler": ["os", "system"]}, "and a scheduler"),
    ("model_index.json", {"scheduler": ["diffusers", "NoScheduler"]}, "DDPMScheduler"),
    ("model_index.json", {"unet": None}, "and a scheduler"),
]


@pytest.mark.parametrize(("file", "settings", "words"), HOSTILE)
def test_hostile_settings(file: str, settings: dict[str, Any], words: str, folder: Path) -> None:
    changed(folder / file, **settings)
    with pytest.raises(CheckpointError, match=words):
        load_model(folder)


@pytest.mark.parametrize("file", ["unet/config.json", "model_index.json"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "not readable as JSON"),
        ("[1, 2]", "a list, expected an object"),
        ('{"a": 1' + "0" * 5000 + "}", "not readable as JSON"),
        ("\x00", "not readable as JSON"),
        (" " * 5_000_000, "too many for settings"),
    ],
)
def test_damaged_json(file: str, text: str, words: str, folder: Path) -> None:
    (folder / file).write_text(text)
    with pytest.raises(CheckpointError, match=words):
        load_model(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"pickled, diffusion_pytorch_model\.bin.*can run"):
        load_model(folder)
    weights.with_suffix(".bin").unlink()
    with pytest.raises(CheckpointError, match="is the pipeline whole"):
        load_model(folder)


def test_missing_tensors_are_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    del tensors["conv_in.bias"]
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match=r"1 missing_keys \(conv_in\.bias\)"):
        load_model(folder)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="diffusers cannot make"):
        load_model(folder)


def test_folders_that_are_no_pipelines(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither model_index\.json.*give the folder above"):
        load_model(folder / "unet")
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"scheduler_config\.json: no such file"):
        load_model(folder)


def test_without_diffusers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(InputError, match=r"diffusers is not installed: pip install"):
        load_pipeline(folder)


def test_the_test_sees_another_process() -> None:
    """The comparison above can fail: with the noise levels of another schedule, it does."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    other: SDE = meaning_of(ddpm(beta_schedule="squaredcos_cap_v2")).sde
    model = from_diffusers(unet(), ddpm(beta_schedule="squaredcos_cap_v2"), other).eval()
    scheduler.set_timesteps(10)
    theirs = drawn_by(scheduler, unet(), noise())
    ts = other.time_of_noise_level(levels_of(scheduler)[scheduler.timesteps])
    ours = solved(model, noise(), "ddim", ts=ts, denoise=True)
    assert float((ours - theirs).abs().max() / theirs.abs().max()) > 100 * CLOSE
