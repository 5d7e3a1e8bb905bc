"""Wrapped networks and models: nothing that they say of themselves is lost in a wrapper."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from diffsde import ReverseSDE, classifier_free, load_model, save_model, solve
from diffsde.equations.counted import says_of
from diffsde.equations.variance_preserving import VPSDE
from diffsde.errors import InputError
from diffsde.scores.checkpoint import describe_model
from diffsde.scores.model import ScoreModel
from diffsde.scores.preconditioning import EDM
from diffsde.scores.residual_unet import ResidualUNet
from diffsde.scores.score_matching import score_matching_loss
from diffsde.system.description import digest_of
from diffsde.system.wrapped import unwrapped

SHAPE = (1, 8, 8)
Wrap = Callable[[nn.Module], nn.Module]


def model() -> ScoreModel:
    torch.manual_seed(0)
    network = ResidualUNet(channels=(8, 32), blocks=(1, 1, 1), embed_dim=16, classes=3)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.2)
    return ScoreModel(network, VPSDE(), SHAPE, EDM()).eval()


def distributed(module: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(module)


def compiled_and_parallel(module: nn.Module) -> nn.Module:
    return torch.compile(nn.DataParallel(module), backend="eager")


WRAPS = [nn.DataParallel, distributed, AveragedModel]


@pytest.fixture(scope="module", autouse=True)
def _one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("store") / "store"
    dist.init_process_group("gloo", store=dist.FileStore(os.fspath(file), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def noise(n: int = 3) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("wrap", [*WRAPS, compiled_and_parallel])
def test_a_wrapped_network_is_the_network(wrap: Wrap, tmp_path: Path) -> None:
    plain, wrapped = model(), model()
    wrapped.network = wrap(wrapped.network).eval()
    assert wrapped.classes == 3
    assert describe_model(wrapped) == describe_model(plain)
    with torch.no_grad():
        assert torch.equal(wrapped(noise(), 0.4, 2), plain(noise(), 0.4, 2))
        again = load_model(save_model(wrapped, tmp_path / "m.safetensors"))
        assert torch.equal(again(noise(), 0.4, 2), plain(noise(), 0.4, 2))
    assert "ResidualUNet of" in repr(wrapped)
    assert isinstance(digest_of(wrapped, "model"), str)


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_wrapped_model_is_the_model(wrap: Wrap, tmp_path: Path) -> None:
    plain, wrapped = model(), wrap(model()).eval()
    assert unwrapped(wrapped).sde.config() == plain.sde.config()
    assert describe_model(wrapped) == describe_model(plain)
    score, own = (classifier_free(m, 1, 2.0) for m in (wrapped, plain))
    x1 = plain.sde.prior_sample((2, *SHAPE), seed=0)
    ends = [
        solve(ReverseSDE(plain.sde, s, SHAPE), x1, "euler", steps=3, seed=0) for s in (score, own)
    ]
    # The wrapper is given times, the model itself coefficients of all times at once.
    torch.testing.assert_close(ends[0].final, ends[1].final, rtol=1e-4, atol=1e-4)
    assert ends[0].stats.nfe == ends[1].stats.nfe == 6
    again = load_model(save_model(wrapped, tmp_path / "m.safetensors"))
    assert describe_model(again) == describe_model(plain)
    loss = [
        score_matching_loss(m, noise(), torch.Generator().manual_seed(0)).item()
        for m in (wrapped, plain)
    ]
    assert loss[0] == loss[1]


def test_what_a_score_says_is_heard_through_its_wrapper() -> None:
    guided = classifier_free(model(), 1, 2.0)
    assert says_of(nn.DataParallel(guided), "evaluations", 1) == 2
    assert says_of(nn.DataParallel(nn.Identity()), "evaluations", 1) == 1


def test_a_module_of_ones_own_is_no_wrapper(tmp_path: Path) -> None:
    """It may compute something else than what it holds, so nothing is taken from inside of it."""

    class Negated(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Any) -> Tensor:
            return -self.module(*args)

    own = model()
    own.network = Negated(own.network)
    assert own.classes == 0
    with pytest.raises(InputError, match="Negated cannot be named"):
        save_model(own, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"model = Negated.*expected a ScoreModel"):
        save_model(Negated(model()), tmp_path / "m.safetensors")


def around(config: Any, network: nn.Module) -> nn.Module:
    import peft

    return peft.get_peft_model(network, config)


def within(config: Any, network: nn.Module) -> nn.Module:
    import peft

    return peft.inject_adapter_in_model(config, network)


@pytest.mark.parametrize("attach", [around, within])
def test_adapters_are_merged_when_they_are_saved(attach: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    adapted = model()
    before = adapted(noise(), 0.4, 2)
    config = peft.LoraConfig(target_modules=["embed.0", "embed_class"], init_lora_weights=False)
    adapted.network = attach(config, adapted.network).eval()
    assert adapted.classes == 3
    with torch.no_grad():
        wanted = adapted(noise(), 0.4, 2)
        again = load_model(save_model(adapted, tmp_path / "m.safetensors"))
        # W + BA is rounded once more than W x + B A x.
        torch.testing.assert_close(again(noise(), 0.4, 2), wanted, rtol=1e-4, atol=1e-4)
        assert (wanted - before).abs().max() > 1e-2
        assert torch.equal(adapted(noise(), 0.4, 2), wanted)  # the model itself is as it was
    assert isinstance(digest_of(adapted, "model"), str)


def test_a_network_whose_parts_are_wrapped_cannot_be_saved(tmp_path: Path) -> None:
    """Its tensors have other names than `load_model` would look for."""
    own = model()
    own.network.attention = nn.DataParallel(own.network.attention)
    with pytest.raises(InputError, match=r"attention\..*merge or unwrap them first"):
        save_model(own, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
