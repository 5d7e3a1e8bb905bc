r"""Linear observations: the score of images of which something has been seen.

By Bayes' rule the score of x(t) given an observation y is

    ∇ log p_t(x | y)  =  ∇ log p_t(x)  +  ∇ log p_t(y | x),

so it is again a score, and every solver and every view takes it. Here y = A x(0) + n with
n ~ N(0, σ_y² I): inpainting, super-resolution, deblurring. Given x(t), the clean image has mean
x̂ (Tweedie) and a covariance V, and

    ∇ log p_t(y | x)  ≈  (∂x̂/∂x)ᵀ Aᵀ ( A V Aᵀ + σ_y² I )⁻¹ (y − A x̂).

Tweedie's formula gives the covariance as well, V = (s²/a) ∂x̂/∂x, from products with the
Jacobian; the system is solved by conjugate gradients. For Gaussian data all of this is
exact. A cheaper V = (σ⁻² + c⁻²)⁻¹ I, with σ = s / a, supposes data of std c that are
independent: one product with the Jacobian for each evaluation. These products are not
evaluations and are not counted.

Sources: Rozet et al., arXiv 2405.13712 (moment matching); Song et al., "Pseudoinverse-guided
diffusion models", ICLR 2023 (the cheaper V).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.nn import functional

from diffsde.equations.forward import SDE, exact_time, expand
from diffsde.equations.graphs import leaf, ordinary, ordinary_mode, with_graph
from diffsde.equations.reverse import Score
from diffsde.equations.rows import own_rows
from diffsde.errors import InputError
from diffsde.scores.guided import Guided, Moment, moment_of, moments_at
from diffsde.system.numbers import whole_number
from diffsde.system.one_line import class_of

__all__ = ["deblurring", "inpainting", "linear_inverse", "super_resolution"]

LinearMap = Callable[[Tensor], Tensor]


def linear_inverse(
    score: Score,
    sde: SDE,
    operator: LinearMap,
    y: Tensor,
    *,
    noise: float = 0.01,
    data_std: float | None = None,
    iterations: int = 5,
) -> Score:
    """The score given y = A x(0) + n, n ~ N(0, noise² I).

    Args:
        score: of the data, differentiable in x.
        sde: its forward process.
        operator: A, from clean images (B, *shape) to observations (B, …); linear, in torch.
        y: the observation, (1, …) for all samples or (B, …), one for each.
        noise: its std σ_y. Zero is allowed; the equation then grows stiff towards ε.
        data_std: c, for the cheaper covariance; Tweedie's own if left out.
        iterations: of conjugate gradients. Each costs a product with the Jacobian, unless
            `data_std` is given.

    Returns:
        A score, called (x, t).
    """
    return _LinearInverse(score, sde, operator, y, noise, data_std, iterations)


def inpainting(
    score: Score, sde: SDE, image: Tensor, mask: Tensor, *, noise: float = 0.01, **settings: Any
) -> Score:
    """The score given some pixels of an image.

    Args:
        score, sde, noise, settings: see `linear_inverse`.
        image: (1, C, H, W), or (B, C, H, W); only its known pixels matter.
        mask: 1 where a pixel is known, 0 where it is to be painted; it broadcasts against image.
    """
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError("mask: expected zeros (to be painted) and ones (known)")
    mask = ordinary(mask.to(image))
    return linear_inverse(score, sde, _Mask(mask), mask * image, noise=noise, **settings)


def super_resolution(
    score: Score, sde: SDE, image: Tensor, factor: int, *, noise: float = 0.01, **settings: Any
) -> Score:
    """The score given a small image whose pixels are means of factor × factor large ones.

    Args:
        score, sde, noise, settings: see `linear_inverse`.
        image: (1, C, H / factor, W / factor), or with B for 1.
        factor: how many times smaller it is.
    """
    return linear_inverse(score, sde, _Pool(factor), image, noise=noise, **settings)


def deblurring(
    score: Score, sde: SDE, image: Tensor, kernel: Tensor, *, noise: float = 0.01, **settings: Any
) -> Score:
    """The score given an image that was convolved with a kernel, zero beyond its border.

    Args:
        score, sde, noise, settings: see `linear_inverse`.
        image: (1, C, H, W), or with B for 1.
        kernel: (h, w), both odd.
    """
    if kernel.dim() != 2 or any(n % 2 == 0 for n in kernel.shape):
        raise InputError(f"kernel of shape {tuple(kernel.shape)}: expected (h, w), both odd")
    return linear_inverse(score, sde, _Blur(ordinary(kernel)), image, noise=noise, **settings)


@dataclass(frozen=True)
class _Mask:
    mask: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        mask = own_rows(self.mask) if self.mask.dim() == x.dim() else self.mask
        return mask.to(x) * x


@dataclass(frozen=True)
class _Pool:
    factor: int

    def __call__(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, self.factor)


@dataclass(frozen=True)
class _Blur:
    kernel: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        height, width = self.kernel.shape
        weight = self.kernel.to(x).expand(x.shape[1], 1, height, width)
        return functional.conv2d(x, weight, padding=(height // 2, width // 2), groups=x.shape[1])


class _LinearInverse(Guided):
    def __init__(
        self,
        score: Score,
        sde: SDE,
        operator: LinearMap,
        y: Tensor,
        noise: float,
        data_std: float | None,
        iterations: int,
    ) -> None:
        super().__init__()
        if not noise >= 0:
            raise InputError(f"noise = {noise}: expected a number ≥ 0")
        if data_std is not None and not data_std > 0:
            raise InputError(f"data_std = {data_std}: expected a number > 0")
        self.score, self.sde, self.operator, self.y = score, sde, operator, ordinary(y)
        self.noise, self.data_std = noise, data_std
        self.iterations = whole_number(iterations, "iterations")

    def __repr__(self) -> str:
        what = class_of(self.operator).lstrip("_")
        observed = f"y={tuple(self.y.shape)}, noise={self.noise:g}"
        return f"linear_inverse({class_of(self.score)}, {what}, {observed})"

    def prepare(self, times: Tensor) -> list[Moment]:
        """What `forward` takes in place of each of the times (n,)."""
        return moments_at(self.score, times)

    @ordinary_mode()
    def forward(self, x: Tensor, t: Tensor | float | Moment) -> Tensor:
        """∇ log p_t(x | y), of x's shape."""
        t, known = moment_of(t)
        t = exact_time(t, x)
        keep = torch.is_grad_enabled() and x.requires_grad  # someone differentiates this score
        scale = expand(self.sde.marginal_scale(t), x)
        variance = expand(self.sde.marginal_std(t), x) ** 2
        with torch.enable_grad():
            x = x if keep else leaf(x)
            score = with_graph(self.score, "score", x, known)
            clean = (x + variance * score) / scale
            blank = leaf(torch.zeros_like(x))
            seen_blank = with_graph(self.operator, "operator", blank)

        def jacobian(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(clean, x, v, retain_graph=True, create_graph=keep)
            return product

        def adjoint(u: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(
                seen_blank, blank, u, retain_graph=True, create_graph=keep
            )
            return product

        def covariance(v: Tensor) -> Tensor:
            if self.data_std is None:
                return variance / scale * jacobian(v)
            return v / (scale**2 / variance + self.data_std**-2)

        def system(u: Tensor) -> Tensor:
            return self.operator(covariance(adjoint(u))) + self.noise**2 * u

        with torch.set_grad_enabled(keep):
            residual = self._residual(clean, seen_blank)
            weights = _conjugate_gradients(system, residual, self.iterations)
            guided = score + jacobian(adjoint(weights))
        return guided if keep else guided.detach()

    def _residual(self, clean: Tensor, seen_blank: Tensor) -> Tensor:
        """y − A x̂, of the observation's shape with B in front."""
        y = own_rows(self.y).to(clean)
        if y.shape[1:] != seen_blank.shape[1:] or len(y) not in (1, len(clean)):
            raise InputError(
                f"y has shape {tuple(y.shape)}: expected (1, …) or (B, …) as the operator makes "
                f"them of {len(clean)} samples, {tuple(seen_blank.shape)}; with solve(chunk=…) "
                "give one y for all"
            )
        if self not in _LINEAR:  # asked once, since the host waits for the answer
            if bool(seen_blank.any()):
                raise InputError("operator: not linear, it makes something of an image of zeros")
            _LINEAR.add(self)
        return y - self.operator(clean)


# Scores whose operator has been seen to make nothing of an image of zeros.
_LINEAR: WeakSet[_LinearInverse] = WeakSet()


def _conjugate_gradients(system: LinearMap, b: Tensor, iterations: int) -> Tensor:
    """Solve system(u) = b for each sample of its own, from u = 0."""

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return expand((u * v).flatten(1).sum(1), u)

    u, r, p = torch.zeros_like(b), b, b
    square = dot(r, r)
    enough = 1e-12 * square
    for _ in range(iterations):
        image = system(p)
        curvature = dot(p, image)
        # A learned Jacobian need not be positive: a sample stops where it is not, or when done.
        going = (curvature > 0) & (square > enough)
        step = torch.where(going, square / curvature.where(going, torch.ones_like(square)), 0)
        u, r = u + step * p, r - step * image
        before, square = square, dot(r, r)
        p = r + torch.where(going, square / before.where(going, torch.ones_like(square)), 0) * p
    return u
