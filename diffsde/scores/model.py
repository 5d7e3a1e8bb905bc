r"""Scores: learned, exact, and the loss that learns them.

The score of a forward process at time t is s(x, t) = ∇ₓ log p_t(x); here every
score is called `(x, t)`, t a scalar or of shape (B,). Because x(t) given x(0) is
N(a x(0), s² I), a score is also a denoiser (Tweedie's formula):

    E[x(0) | x(t) = x]  =  ( x + s(t)² ∇ log p_t(x) ) / a(t).

A network learns the score by denoising score matching (arXiv 2011.13456, eq. 7)
with the weight λ(t) = s(t)²:

    loss  =  E ‖ s(t) score(a(t) x(0) + s(t) z, t) + z ‖²,    z ~ N(0, I),

summed over pixels, t uniform. For Gaussian data and mixtures of Gaussians the
score is known in closed form; these are the references that solvers are tested on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffsde.equations.forward import SDE, expand
from diffsde.errors import InputError
from diffsde.noise.seeds import fresh_seed
from diffsde.scores.preconditioning import Coefficients, Preconditioning, make_preconditioning

__all__ = [
    "SMALLEST_TIME",
    "GaussianScore",
    "MixtureScore",
    "ScoreModel",
    "labels_for",
    "score_matching_loss",
]

SMALLEST_TIME = 1e-5  # of training, as in the tutorial: the loss is degenerate at t = 0


class ScoreModel(nn.Module):
    """A network together with the forward process it was trained on: a score and a denoiser.

    Args:
        network: the body, called as (input, label) with a label of shape (B,). What it is
            called with, and what its output means, is the preconditioning's business. A body
            with an attribute `classes` > 0 is called as (input, label, class_label) when a
            class is given.
        sde: the forward process.
        shape: (C, H, W) of one image.
        preconditioning: a name from `PRECONDITIONINGS`, or one built with its arguments.
            "score", the default: the network is called as (x, t) and returns the score.

    Coefficients are computed in x's dtype, the network in its own, so x may be float64.
    """

    def __init__(
        self,
        network: nn.Module,
        sde: SDE,
        shape: Sequence[int],
        preconditioning: str | Preconditioning = "score",
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise InputError(f"shape = {tuple(shape)}: expected (channels, height, width)")
        self.network, self.sde = network, sde
        self.shape: tuple[int, ...] = tuple(shape)
        self.preconditioning = make_preconditioning(preconditioning)

    @property
    def classes(self) -> int:
        """How many classes the network knows; 0 if it takes no labels."""
        return getattr(self.network, "classes", 0)

    def coefficients(self, t: Tensor) -> Coefficients:
        """What depends on time alone, at times t of any shape: for the network, and its meaning."""
        return self.preconditioning.coefficients(self.sde, t)

    def forward(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None = None
    ) -> Tensor:
        """The score ∇ log p_t(x), of x's shape (B, C, H, W); t is a scalar or of shape (B,).

        The `coefficients` at t may be given in its place, where they are known beforehand.

        With a class, a whole number or (B,) of them, the score of that class alone,
        ∇ log p_t(x | class); −1 stands for an image of any class.
        """
        output, c = self._body(x, t, class_label)
        return expand(c.score_skip, x) * x + expand(c.score_out, x) * output

    def denoise(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None = None
    ) -> Tensor:
        """E[x(0) | x(t) = x], of x's shape: the best guess at the clean image."""
        output, c = self._body(x, t, class_label)
        return expand(c.denoised_skip, x) * x + expand(c.denoised_out, x) * output

    def _body(
        self, x: Tensor, t: Tensor | float | Coefficients, class_label: Tensor | int | None
    ) -> tuple[Tensor, Coefficients]:
        """The network's output, of x's shape and dtype, and what it means."""
        if isinstance(t, Coefficients):
            c = t
        else:
            c = self.coefficients(torch.as_tensor(t, dtype=x.dtype, device=x.device))
        dtype = next((p.dtype for p in self.network.parameters()), x.dtype)
        told = () if class_label is None else (self._class_labels(class_label, x),)
        label = c.label.expand(len(x)).contiguous().to(dtype)
        output = self.network((expand(c.input, x) * x).to(dtype), label, *told)
        return output.to(x.dtype), c

    def _class_labels(self, class_label: Tensor | int, x: Tensor) -> Tensor:
        if not self.classes:
            raise InputError(
                "this network takes no class labels: load one that does, such as "
                'load_pretrained("mnist"), or train with classes > 0'
            )
        labels = labels_for(class_label, x)
        if int(labels.min()) < -1 or int(labels.max()) >= self.classes:
            raise InputError(
                f"class labels from {int(labels.min())} to {int(labels.max())}: expected 0 to "
                f"{self.classes - 1}, or -1 for any class"
            )
        return labels


def labels_for(label: Tensor | int, x: Tensor) -> Tensor:
    """A label, or one for each sample of x (B, …), as whole numbers of shape (B,).

    Raises:
        InputError: it is another number of labels, or they are not whole.
    """
    labels = torch.as_tensor(label, device=x.device)
    if labels.is_floating_point() or labels.shape not in ((), (len(x),)):
        raise InputError(
            f"label of shape {tuple(labels.shape)}, {labels.dtype}: expected a whole number, or "
            f"{len(x)} of them, one for each sample"
        )
    return labels.long().expand(len(x))


def score_matching_loss(
    model: ScoreModel, x: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Denoising score-matching loss of a batch x of shape (B, C, H, W): a scalar.

    Times are uniform on [1e-5, T]; the squared error is summed over pixels and
    averaged over the batch, so a network that returns zero scores C·H·W on
    average (784 on 28 × 28). Source: arXiv 2011.13456, eq. 7 with λ = s².
    """
    # Drawn on the CPU, like all noise here, so that a seed means the same on every device.
    share = torch.rand(len(x), generator=generator, dtype=x.dtype).to(x.device)
    t = SMALLEST_TIME + (model.sde.T - SMALLEST_TIME) * share
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    mean, std = model.sde.marginal_prob(x, t)
    error = std * model(mean + std * z, t) + z
    loss: Tensor = error.square().flatten(1).sum(1).mean()
    return loss


class GaussianScore(nn.Module):
    """The exact score of Gaussian data N(mean, diag(std²)) under a forward process.

    At time t the law is N(a mean, a² std² + s²), so the score is
    −(x − a mean) / (a² std² + s²).

    Args:
        sde: the forward process.
        mean, std: numbers or tensors; their common shape is that of one sample
            (a pair of numbers stands for samples of shape (1,), but scores any shape).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sde: SDE, mean: Tensor | float, std: Tensor | float) -> None:
        super().__init__()
        self.sde = sde
        numbers = [torch.as_tensor(v, dtype=torch.float64) for v in (mean, std)]
        pair = torch.broadcast_tensors(*numbers)
        if not (pair[1] > 0).all():
            raise InputError(f"std = {std}: expected positive numbers")
        self.register_buffer("mean", pair[0].clone())
        self.register_buffer("std", pair[1].clone())

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mean.shape) or (1,)

    def _law(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean and variance of x(t), broadcast against x, in x's dtype."""
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
        """n draws of x(t), of shape (n, *shape)."""
        z = _draws(n, self.shape, seed)
        mean, variance = self._law(z, t)
        return mean + variance.sqrt() * z


class MixtureScore(nn.Module):
    """The exact score of a mixture of isotropic Gaussians Σ wₖ N(mₖ, cₖ² I).

    Every component stays Gaussian under the forward process; the score is the
    components' scores, averaged with the posterior probability of each.

    Args:
        sde: the forward process.
        means: (K, …), the centres.
        stds: a number or (K,), the components' standard deviations.
        weights: (K,), positive; equal if left out. They are divided by their sum.
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
        means = torch.as_tensor(means, dtype=torch.float64)
        if means.dim() < 2:
            raise InputError(f"means has shape {tuple(means.shape)}: expected (K, …)")
        count = len(means)
        stds = torch.as_tensor(stds, dtype=torch.float64)
        w = torch.as_tensor([1.0] * count if weights is None else weights, dtype=torch.float64)
        if stds.shape not in ((), (count,)) or w.shape != (count,):
            raise InputError(
                f"{count} means, stds of shape {tuple(stds.shape)}, weights of shape "
                f"{tuple(w.shape)}: expected one std and one weight for each mean"
            )
        if not ((stds > 0).all() and (w > 0).all()):
            raise InputError("stds and weights: expected positive numbers")
        self.register_buffer("means", means)
        self.register_buffer("stds", stds.expand(count).clone())
        self.register_buffer("log_weights", (w / w.sum()).double().log())

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    def _components(self, x: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """a mₖ − x of shape (B, K, …), variances and log(wₖ pₖ(x)), both of shape (B, K)."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))[:, None]
        scale, std = self.sde.marginal_scale(t), self.sde.marginal_std(t)
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
        """n draws of x(t), of shape (n, *shape)."""
        seed = fresh_seed() if seed is None else seed
        z = _draws(n, self.shape, seed)
        chooser = torch.Generator().manual_seed(seed)
        which = torch.multinomial(
            self.log_weights.cpu().exp(), n, replacement=True, generator=chooser
        )
        scale, std = self.sde.marginal_scale(t), self.sde.marginal_std(t)
        width = ((scale * self.stds.cpu()[which]) ** 2 + std**2).sqrt()
        return (scale * self.means.cpu()[which] + expand(width, z.double()) * z).to(z)


def _draws(n: int, shape: Sequence[int], seed: int | None) -> Tensor:
    generator = torch.Generator().manual_seed(fresh_seed() if seed is None else seed)
    return torch.randn(n, *shape, generator=generator)
