"""Models and paths of other libraries, tested with these libraries where they are installed."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from diffsde import GaussianScore, ProbabilityFlow, ReverseSDE, solve
from diffsde.equations.forward import SDE
from diffsde.equations.named import SDES
from diffsde.equations.variance_exploding import EDMSDE, VESDE
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.scores.azula import from_azula, to_azula
from diffsde.scores.denoisers import DenoiserScore, from_denoiser, to_denoiser
from diffsde.scores.diffusers import from_diffusers, to_diffusers
from diffsde.solvers.trajectory import Trajectory
from diffsde.views.arrays import from_xarray, to_numpy, to_xarray

MEAN = torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64)
STD = torch.tensor([0.8, 0.3, 0.5], dtype=torch.float64)


def exact(sde: SDE) -> GaussianScore:
    return GaussianScore(sde, MEAN, STD)


def denoise(y: Tensor, sigma: Tensor) -> Tensor:
    """The exact denoiser of N(MEAN, STD²), at any noise level."""
    weight = STD**2 / (STD**2 + sigma[:, None] ** 2)
    return MEAN + weight * (y - MEAN)


def states(n: int = 5) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0)).double()


# -- denoisers -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", SDES.values(), ids=SDES.keys())
def test_a_denoiser_is_a_score_of_every_sde_and_back(make: type[SDE]) -> None:
    sde, x = make(), states()
    score = from_denoiser(denoise, sde)
    for t in (0.1, torch.linspace(0.05, 0.9, 5).double()):
        torch.testing.assert_close(score(x, t), exact(sde)(x, t), rtol=1e-6, atol=1e-8)
    back = to_denoiser(score, sde)
    sigma = torch.tensor([0.05, 0.1, 0.5, 2.0, 8.0]).double()
    torch.testing.assert_close(back(x, sigma), denoise(x, sigma), rtol=1e-6, atol=1e-8)
    clean = ReverseSDE(sde, score, (3,)).denoise(x, torch.tensor(0.3).double())
    torch.testing.assert_close(score.denoise(x, 0.3), clean, rtol=1e-6, atol=1e-6)


def test_modules_are_called_in_their_own_dtype() -> None:
    network = torch.nn.Linear(3, 3)
    score = from_denoiser(_TakesLevel(network), VPSDE())
    assert score(states(), 0.5).dtype == torch.float64
    assert len(list(score.parameters())) == 2  # it moves and trains with the score


class _TakesLevel(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        return self.network(y) / (1 + sigma[:, None])


# -- azula -----------------------------------------------------------------------------------


def test_azula_denoiser_as_a_score() -> None:
    pytest.importorskip("azula", reason="azula is not installed: diffsde[interchange]")
    from azula.denoise import GaussianDenoiser
    from azula.linalg.covariance import DiagonalCovariance
    from azula.noise import CosineSchedule, VESchedule, VPSchedule

    for schedule in (VPSchedule(), CosineSchedule(), VESchedule(1e-2, 50.0)):
        theirs = GaussianDenoiser(MEAN, DiagonalCovariance(STD**2), schedule)
        score = from_azula(theirs)
        score.sde.check()
        at = torch.tensor(0.4, dtype=torch.float64)
        torch.testing.assert_close(score(states(), at), exact(score.sde)(states(), at))
        assert tuple(score.sde.interval) == (0.0, 1.0)
    flow = ProbabilityFlow(score.sde, score, (3,))
    x1 = score.sde.prior_sample((4, 3), seed=0, dtype=torch.float64)
    mine = ProbabilityFlow(score.sde, exact(score.sde), (3,))
    ends = [solve(p, x1, "dpmpp_2m", steps=20, clock="karras").final for p in (flow, mine)]
    torch.testing.assert_close(*ends)


def test_our_score_in_azula_samplers() -> None:
    pytest.importorskip("azula", reason="azula is not installed: diffsde[interchange]")
    from azula.sample import DDIMSampler

    sde = VPSDE()
    x1 = sde.prior_sample((4, 3), seed=0, dtype=torch.float64)
    sampler = DDIMSampler(
        to_azula(exact(sde), sde), start=1.0, stop=0.0, steps=40, dtype=torch.float64, silent=True
    )
    flow = ProbabilityFlow(sde, exact(sde), (3,))
    ours = solve(flow, x1, "ddim", steps=40).final
    torch.testing.assert_close(sampler(x1), ours, rtol=1e-5, atol=1e-6)


# -- k-diffusion -----------------------------------------------------------------------------


def test_our_score_in_k_diffusion_samplers() -> None:
    sampling = pytest.importorskip(
        "k_diffusion.sampling", reason="k-diffusion is not installed",
        exc_type=ImportError,
    )  # fmt: skip
    sde = EDMSDE()
    n = 20
    sigmas = sampling.get_sigmas_karras(n + 1, sde.eps, sde.T)[:-1].double()  # without the last, 0
    x1 = sde.prior_sample((4, 3), seed=0, dtype=torch.float64)
    model = to_denoiser(exact(sde), sde)
    flow = ProbabilityFlow(sde, exact(sde), (3,))
    for name, ours in (("sample_heun", "heun_edm"), ("sample_dpmpp_2m", "dpmpp_2m")):
        theirs = getattr(sampling, name)(model, x1, sigmas, disable=True)
        mine = solve(flow, x1, ours, steps=n, clock="karras").final
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)


def test_k_diffusion_denoiser_as_a_score() -> None:
    external = pytest.importorskip(
        "k_diffusion.external", reason="k-diffusion is not installed",
        exc_type=ImportError,
    )  # fmt: skip
    alphas = discrete_alphas()
    theirs = external.DiscreteEpsDDPMDenoiser(_EpsModel(alphas), alphas, quantize=False)
    score = from_denoiser(theirs, VPSDE())
    at = torch.tensor([0.02, 0.1, 0.3, 0.6, 0.9])
    x = states().float()
    torch.testing.assert_close(score(x, at), exact(VPSDE())(x, at), rtol=1e-2, atol=1e-2)


# -- diffusers -------------------------------------------------------------------------------


def discrete_alphas(steps: int = 1000) -> Tensor:
    """ᾱ of DDPM (arXiv 2006.11239, section 4)."""
    return (1 - torch.linspace(1e-4, 0.02, steps)).cumprod(0)


class _EpsModel(torch.nn.Module):
    """The exact model of a discrete schedule; at a fractional step it interpolates σ."""

    def __init__(self, alphas: Tensor, prediction: str = "epsilon") -> None:
        super().__init__()
        self.levels = ((1 - alphas) / alphas).sqrt().double()
        self.prediction = prediction

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        low = timestep.double().floor().clamp(max=len(self.levels) - 2).long()
        w = timestep.double() - low
        logs = self.levels.log()
        sigma = ((1 - w) * logs[low] + w * logs[low + 1]).exp()[:, None]
        root = (1 + sigma**2).sqrt()
        y = root * sample
        clean = denoise(y, sigma[:, 0])
        noise = (y - clean) / sigma
        v = (noise - sigma * clean) / root
        answers = {"epsilon": noise, "sample": clean, "v_prediction": v}
        return answers[self.prediction].to(sample)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_discrete_model_as_a_score(prediction: str) -> None:
    """This needs no library: a scheduler is its alphas and its prediction type."""
    alphas = discrete_alphas()
    scheduler = SimpleNamespace(
        alphas_cumprod=alphas, config=SimpleNamespace(prediction_type=prediction)
    )
    x, at = states(), torch.tensor([0.02, 0.1, 0.3, 0.6, 0.9]).double()
    for sde in (VPSDE(), EDMSDE()):
        score = from_diffusers(_EpsModel(alphas, prediction), scheduler, sde)
        torch.testing.assert_close(score(x, at), exact(sde)(x, at), rtol=1e-5, atol=1e-6)
    ours = to_diffusers(exact(VPSDE()), VPSDE(), scheduler)
    steps = torch.tensor([5, 100, 400, 700, 999])
    torch.testing.assert_close(
        ours(x, steps).sample, _EpsModel(alphas, prediction)(x, steps), rtol=1e-5, atol=1e-6
    )


def test_real_diffusers_schedulers() -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: diffsde[interchange]")
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    sde = VPSDE()
    x = x1 = sde.prior_sample((6, 3), seed=0, dtype=torch.float64)
    model = to_diffusers(exact(sde), sde, scheduler)
    scheduler.set_timesteps(100)
    for step in scheduler.timesteps:
        x = scheduler.step(model(x, step).sample, step, x).prev_sample
    # Their last step goes to ᾱ = ᾱ_0, ours to ε: both are a few thousandths away from t = 0.
    flow = ProbabilityFlow(sde, exact(sde), (3,))
    ours = solve(flow, x1, "dopri5", clock="log_sigma").final
    torch.testing.assert_close(x, ours, rtol=0.05, atol=0.03)
    score = from_diffusers(_EpsModel(scheduler.alphas_cumprod), scheduler)
    again = solve(ProbabilityFlow(sde, score, (3,)), x1, "dopri5", clock="log_sigma").final
    torch.testing.assert_close(again, ours, rtol=1e-2, atol=1e-2)


def test_real_diffusers_networks() -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: diffsde[interchange]")
    from diffusers import DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4, layers_per_block=1, add_attention=False,
    ).eval()  # fmt: skip
    score = from_diffusers(unet, DDPMScheduler())
    x1 = score.sde.prior_sample((2, 1, 8, 8), seed=0)
    with torch.no_grad():
        k, alpha = 400, discrete_alphas()[400].double()
        t = score.sde.time_of_noise_level(((1 - alpha) / alpha).sqrt())
        noise = -score(x1, t) * score.sde.marginal_std(t).float()
        torch.testing.assert_close(noise, unet(x1, k).sample, rtol=2e-3, atol=2e-3)


# -- trajectories ----------------------------------------------------------------------------


def path(shape: tuple[int, ...] = (1, 2, 3)) -> Trajectory:
    sde = VESDE()
    flow = ProbabilityFlow(sde, GaussianScore(sde, torch.zeros(shape), 0.3), shape)
    return solve(flow, sde.prior_sample((4, *shape), seed=0), "heun2", steps=6, clock="karras")


def test_numpy(tmp_path: Path) -> None:
    sol = path()
    np.savez(tmp_path / "path.npz", **to_numpy(sol))
    with np.load(tmp_path / "path.npz") as arrays:
        assert set(arrays) == {"ts", "ys", "diffusion", "std", "evaluations"}
        assert np.array_equal(arrays["ys"], sol.ys.numpy())
        assert np.array_equal(arrays["std"], sol.std.numpy())


@pytest.mark.parametrize("shape", [(1, 2, 3), (5,)])
def test_xarray_there_and_back(shape: tuple[int, ...]) -> None:
    pytest.importorskip("xarray", reason="xarray is not installed: diffsde[xarray]")
    sol = path(shape)
    dataset = to_xarray(sol)
    if len(shape) == 3:
        assert dataset.states.dims == ("t", "sample", "channel", "row", "column")
        assert dataset.sizes == {"t": 7, "sample": 4, "channel": 1, "row": 2, "column": 3}
    end = dataset.states.sel(t=sol.ts[-1].item(), method="nearest").isel(sample=2).values
    assert np.array_equal(end, sol.final[2].numpy())
    assert dataset.attrs["nfe"] == 12
    again = from_xarray(dataset)
    assert torch.equal(again.ys, sol.ys)
    assert torch.equal(again.ts, sol.ts)
    assert torch.equal(again.std, sol.std)
    assert torch.equal(again.evaluations, sol.evaluations)
    assert (again.method, again.stats, again.shape) == (sol.method, sol.stats, sol.shape)
    assert (again.kind, from_xarray(to_xarray(replace(sol, kind=None))).kind) == ("ode", None)
    with pytest.raises(InputError, match="lacks states: was it made by to_xarray"):
        from_xarray(dataset.drop_vars("states"))


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(InputError, match=r"xarray is not installed: pip install 'diffsde\[xarray"):
        to_xarray(path())
    with pytest.raises(InputError, match=r"azula is not installed: .*\[interchange\]"):
        to_azula(exact(VPSDE()), VPSDE())
    assert builtins.__import__ is found


def test_an_sde_before_its_model_is_refused() -> None:
    """An SDE can be called, so without this check the mistake would show only in a solve."""
    sde, text = VPSDE(), r"VPSDE\(.*an SDE: expected the {0} first and the SDE second, \({0}, sde\)"
    for make in (from_denoiser, DenoiserScore):
        with pytest.raises(InputError, match=text.format("denoiser")):
            make(sde, denoise)
    with pytest.raises(InputError, match=text.format("score")):
        to_denoiser(sde, exact(sde))
    with pytest.raises(InputError, match=text.format("score")):
        to_azula(sde, exact(sde))
    with pytest.raises(InputError, match=text.format("score")):
        to_diffusers(sde, exact(sde), SimpleNamespace())
    with pytest.raises(InputError, match="score = 3: expected something called"):
        to_denoiser(3, sde)


def test_error_texts() -> None:
    with pytest.raises(InputError, match="denoiser = None: expected something called"):
        from_denoiser(None, VPSDE())
    with pytest.raises(InputError, match="SimpleNamespace: expected one with alphas_cumprod"):
        from_diffusers(denoise, SimpleNamespace())
    odd = SimpleNamespace(
        alphas_cumprod=discrete_alphas(), config=SimpleNamespace(prediction_type="flow")
    )
    with pytest.raises(InputError, match=r"prediction_type 'flow': .*Valid names: epsilon"):
        from_diffusers(denoise, odd)
