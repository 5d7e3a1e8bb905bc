r"""Exact scores: Gaussian data and mixtures, whose scores are known in closed form.

Solvers and networks are tested against them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE, exact_time, expand
from diffsde.errors import InputError
from diffsde.noise.normal import NormalTable
from diffsde.noise.seeds import checked_seed
from diffsde.system.one_line import one_line
from diffsde.system.parameters import finest_dtype

__all__ = ["GaussianScore", "MixtureScore"]

_FAR = 5.0  # standard deviations, within which practically all data lie


class _Exact(nn.Module):
    """A score of given numbers, which it holds in float64 where their device has that."""

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> _Exact:
        """What `to`, `float` and `cuda` come to.

        Raises:
            InputError: the numbers are float64, and are sent to a device that has none.
        """
        try:
            return super()._apply(fn, recurse)
        except TypeError as error:
            if not any(numbers.dtype == torch.float64 for numbers in self.buffers()):
                raise
            name = type(self).__name__
            raise InputError(
                f"{name} holds float64 numbers, which that device does not have: call .float() "
                f"first, as in score.float().to('mps') ({error})"
            ) from error


class GaussianScore(_Exact):
    """The exact score of Gaussian data N(mean, diag(std²)) under a forward process.

    At time t the law is N(a mean, a² std² + s²), so the score is
    −(x − a mean) / (a² std² + s²).

    Args:
        sde: the forward process.
        mean, std: numbers or tensors that broadcast to the shape of one sample. Two numbers
            make samples of shape (1,), and the score of x of any shape.

    Attributes:
        data_scale: the size that numbers of the data may have, five stds from the mean.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sde: SDE, mean: Tensor | float, std: Tensor | float) -> None:
        super().__init__()
        self.sde = sde
        pair = torch.broadcast_tensors(*(_precise(v) for v in (mean, std)))
        if not (pair[1] > 0).all():
            raise InputError(f"std = {std}: expected positive numbers")
        # Found here, while the numbers are on the host.
        self.data_scale = float((pair[0].abs() + _FAR * pair[1]).max())
        self.register_buffer("mean", pair[0].clone())
        self.register_buffer("std", pair[1].clone())

    def __repr__(self) -> str:
        one = self.mean.dim() == 0
        law = f"mean={float(self.mean):g}, std={float(self.std):g}, " if one else ""
        return f"GaussianScore({one_line(self.sde)}, {law}shape={self.shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mean.shape) or (1,)

    def _law(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean and variance of x(t), broadcast against x, in x's dtype."""
        t = exact_time(t, x)
        scale = expand(self.sde.marginal_scale(t), x)
        std = expand(self.sde.marginal_std(t), x)
        return scale * self.mean.to(x), (scale * self.std.to(x)) ** 2 + std**2

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        """∇ log p_t(x), of x's shape (B, …)."""
        mean, variance = self._law(x, t)
        return (mean - x) / variance

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """log p_t(x) in nats, of shape (B,)."""
        mean, variance = self._law(x, t)
        terms = (x - mean) ** 2 / variance + torch.log(2 * math.pi * variance)
        return -0.5 * terms.flatten(1).sum(1)

    def sample(self, n: int, t: Tensor | float, seed: int | None = None) -> Tensor:
        """n samples of x(t), of shape (n, *shape); sample i depends on seed and i alone."""
        z = _draws(n, self.shape, checked_seed(seed), self.mean.device)
        mean, variance = self._law(z, t)
        return mean + variance.sqrt() * z


class MixtureScore(_Exact):
    """The exact score of a mixture of isotropic Gaussians Σ wₖ N(mₖ, cₖ² I).

    Every component stays Gaussian under the forward process. The score is the average of the
    components' scores, weighted by the posterior probability of each component.

    Args:
        sde: the forward process.
        means: mₖ, (K, …).
        stds: cₖ, a number or (K,).
        weights: wₖ, (K,), positive; equal if left out. They are divided by their sum.

    Attributes:
        data_scale: the size that numbers of the data may have, five stds from a mean.
    """

    means: Tensor
    stds: Tensor
    log_weights: Tensor

    def __init__(
        self,
        sde: SDE,
        means: Tensor,
        stds: Tensor | float,
        weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.sde = sde
        means = _precise(means)
        if means.dim() < 2:
            raise InputError(f"means has shape {tuple(means.shape)}: expected (K, …)")
        stds = _precise(stds)
        weights = [1.0] * len(means) if weights is None else weights
        w = _precise(weights)
        _check_components(len(means), stds, w)
        stds = stds.expand(len(means)).clone()
        self.data_scale = float((means.abs().flatten(1).amax(1) + _FAR * stds).max())
        self.register_buffer("means", means)
        self.register_buffer("stds", stds)
        self.register_buffer("log_weights", (w / w.sum()).log())

    def __repr__(self) -> str:
        components = f"{len(self.means)} components"
        return f"MixtureScore({one_line(self.sde)}, {components}, shape={self.shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    def _components(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """a mₖ − x of shape (B, K, …), variances and log(wₖ pₖ(x)), both of shape (B, K)."""
        t = exact_time(t, x).to(x.device).expand(len(x))[:, None]
        scale, std = self.sde.marginal_scale(t).to(x), self.sde.marginal_std(t).to(x)
        variance = (scale * self.stds.to(x)) ** 2 + std**2
        towards = expand(scale[:, 0], x).unsqueeze(1) * self.means.to(x) - x.unsqueeze(1)
        distance = towards.flatten(2).square().sum(2)
        dims = x[0].numel()
        log_density = -0.5 * (distance / variance + dims * torch.log(2 * math.pi * variance))
        return towards, variance, self.log_weights.to(x) + log_density

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        """∇ log p_t(x), of x's shape (B, …)."""
        towards, variance, log_joint = self._components(x, t)
        pull = log_joint.softmax(1) / variance
        return (
            (expand(pull.flatten(), towards.flatten(0, 1)) * towards.flatten(0, 1))
            .reshape(towards.shape)
            .sum(1)
        )

    def log_prob(self, x: Tensor, t: Tensor | float) -> Tensor:
        """log p_t(x) in nats, of shape (B,)."""
        return self._components(x, t)[2].logsumexp(1)

    def sample(self, n: int, t: Tensor | float, seed: int | None = None) -> Tensor:
        """n samples of x(t), of shape (n, *shape); sample i depends on seed and i alone."""
        seed = checked_seed(seed)
        z = _draws(n, self.shape, seed, self.means.device)
        which = self._chosen(n, seed)
        t = exact_time(t, self.means).to(z.device)
        scale, std = self.sde.marginal_scale(t), self.sde.marginal_std(t)
        width = ((scale * self.stds[which]) ** 2 + std**2).sqrt()
        return (expand(scale, z) * self.means[which] + expand(width, z) * z).to(z)

    def _chosen(self, n: int, seed: int) -> Tensor:
        """The components of n samples, (n,)."""
        table, device = NormalTable(seed, "component"), self.means.device
        finest = finest_dtype(device)
        numbers = table.rows(range(n), 0, (), finest, device)
        bounds = self.log_weights.to(finest).exp().cumsum(0)[:-1]
        return torch.searchsorted(bounds, torch.special.ndtr(numbers))


def _precise(numbers: Any) -> Tensor:
    """Numbers in float64, or in float32 on a device that has no float64."""
    place = numbers.device if isinstance(numbers, Tensor) else torch.get_default_device()
    return torch.as_tensor(numbers, dtype=finest_dtype(place))


def _check_components(n: int, stds: Tensor, weights: Tensor) -> None:
    if stds.shape not in ((), (n,)) or weights.shape != (n,):
        raise InputError(
            f"{n} means, stds of shape {tuple(stds.shape)}, weights of shape "
            f"{tuple(weights.shape)}: expected one std and one weight for each mean"
        )
    if not ((stds > 0).all() and (weights > 0).all()):
        raise InputError("stds and weights: expected positive numbers")


def _draws(n: int, shape: Sequence[int], seed: int, device: torch.device) -> Tensor:
    table = NormalTable(seed, "sample")
    return table.rows(range(n), 0, shape, torch.get_default_dtype(), device)
