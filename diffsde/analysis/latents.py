r"""Latents: the noise that the flow makes of an image, and the way back.

The probability flow is an ODE, so it runs in both directions: x(ε) → x(T) encodes an image as
noise, x(T) → x(ε) decodes it, and only the solver's error is lost. Because the prior is
Gaussian, two latents are joined by a great arc and not by a line,

    z_w  =  ( sin((1 − w) θ) z₀  +  sin(w θ) z₁ ) / sin θ,      θ the angle between them.

The arc keeps the length that draws from the prior have in many dimensions. A temperature τ
scales latents before they are decoded, as if the prior were N(m, τ² s(T)² I): below 1, images
are more probable and less varied. Arc and scaling are centred on the prior's mean m, which is
zero unless the SDE was given the data's mean.

Source: Song et al., arXiv 2011.13456, section 4.3 and appendix D.4; White, arXiv
1609.04468, for the arc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.forward import expand
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.errors import InputError
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.solving import solve
from diffsde.solvers.trajectory import Stats, Trajectory
from diffsde.system.numbers import whole_number

__all__ = [
    "RoundTrip",
    "compare_round_trips",
    "decode",
    "encode",
    "interpolate",
    "round_trip",
    "slerp",
]


def encode(
    flow: ProbabilityFlow,
    x: Tensor,
    method: str = "dopri5",
    *,
    clock: str = "log_sigma",
    **settings: Any,
) -> Trajectory:
    """Solve the flow from ε to T: the final state is the latent of x.

    Args:
        flow: the probability flow.
        x: (B, C, H, W) or (B, D), taken as the state at ε.
        method: name of an ODE solver. A fixed-step one needs `steps`.
        clock, settings: as `solve` takes them, such as rtol, atol, steps, save.
    """
    return _solve_between(flow, x, (flow.sde.eps, flow.sde.T), method, clock, settings)


def decode(
    flow: ProbabilityFlow,
    latents: Tensor,
    method: str = "dopri5",
    *,
    temperature: float = 1.0,
    clock: str = "log_sigma",
    **settings: Any,
) -> Trajectory:
    """Solve the flow from T to ε: the final state holds the images of the latents.

    Args:
        flow: the probability flow.
        latents: (B, C, H, W) or (B, D).
        method, clock, settings: as for `encode`.
        temperature: τ > 0, the factor of the latents' distance from the prior's mean.
    """
    if not temperature > 0:
        raise InputError(f"temperature = {temperature}: expected a number > 0")
    times = (flow.sde.T, flow.sde.eps)
    mean = flow.sde.prior_mean(latents)
    latents = mean + temperature * (latents - mean)
    return _solve_between(flow, latents, times, method, clock, settings)


def _solve_between(
    flow: ProbabilityFlow,
    x: Tensor,
    times: tuple[float, float],
    method: str,
    clock: str,
    settings: dict[str, Any],
) -> Trajectory:
    if not isinstance(flow, ProbabilityFlow):
        raise InputError(
            f"flow = {type(flow).__name__}: expected a ProbabilityFlow; an SDE forgets its start, "
            "so its paths cannot be reversed"
        )
    if not find_solver(method, "ode").adaptive and "steps" not in settings:
        raise InputError(f"{method} takes fixed steps: give steps=")
    return solve(flow, x, method, ts=list(times), clock=clock, **{"save": "last", **settings})


@dataclass(frozen=True)
class RoundTrip:
    """An image encoded and decoded.

    Attributes:
        error: (B,) rms change of the pixels by the round trip.
        latents: (B, …) the state at T.
        back: (B, …) the state back at ε.
        nfe: evaluations of the score, both ways.
    """

    error: Tensor
    latents: Tensor
    back: Tensor
    nfe: int


def round_trip(
    flow: ProbabilityFlow, x: Tensor, method: str = "dopri5", **settings: Any
) -> RoundTrip:
    """Encode and decode x with the same solver and tolerance; see `encode`."""
    there = encode(flow, x, method, **settings)
    back = decode(flow, there.final, method, **settings)
    error = (back.final - x).flatten(1).square().mean(1).sqrt()
    return RoundTrip(error, there.final, back.final, there.stats.nfe + back.stats.nfe)


def compare_round_trips(
    flow: ProbabilityFlow,
    x: Tensor,
    methods: Sequence[str],
    *,
    tolerances: Sequence[float] = (1e-3, 1e-5),
    steps: Sequence[int] = (20, 40, 80),
    clock: str = "log_sigma",
) -> list[dict[str, Any]]:
    """Measure the cost and the error of a round trip, solver by solver.

    Args:
        flow, x, clock: see `encode`.
        methods: names of ODE solvers.
        tolerances: rtol and atol of those that choose their own steps.
        steps: numbers of steps, one way, of the others.

    Returns:
        A row for each method and each tolerance or number of steps, with the keys `method`,
        `tolerance` (None for fixed steps), `steps` (None for adaptive ones), `nfe` (both ways)
        and `error` (rms over all pixels). `plot_work_precision` takes these rows.
    """
    rows = []
    for method in methods:
        adaptive = find_solver(method, "ode").adaptive
        for number in tolerances if adaptive else steps:
            how = {"rtol": number, "atol": number} if adaptive else {"steps": number}
            trip = round_trip(flow, x, method, clock=clock, **how)
            rows.append(
                {
                    "method": method,
                    "tolerance": number if adaptive else None,
                    "steps": None if adaptive else number,
                    "nfe": trip.nfe,
                    "error": float(trip.error.square().mean().sqrt()),
                }
            )
    return rows


def slerp(z0: Tensor, z1: Tensor, weights: Tensor) -> Tensor:
    """Points on the arcs about zero from z0 to z1: (F, B, …).

    Args:
        z0, z1: (B, …), the ends; if their lengths differ, the length changes along the arc.
        weights: (F,), from 0 to 1.

    Raises:
        InputError: the ends have different shapes.
    """
    if z0.shape != z1.shape:
        raise InputError(
            f"ends of shapes {tuple(z0.shape)}, {tuple(z1.shape)}: expected the same shape"
        )
    cosine = torch.cosine_similarity(z0.flatten(1), z1.flatten(1)).clamp(-1, 1)
    angle = expand(torch.acos(cosine), z0)
    w = weights.to(z0).reshape(-1, *[1] * z0.dim())
    sine = torch.sin(angle)
    straight = sine < 1e-4  # between parallel ends the arc is a line
    arc = (torch.sin((1 - w) * angle) * z0 + torch.sin(w * angle) * z1) / sine.clamp(min=1e-4)
    return torch.where(straight, (1 - w) * z0 + w * z1, arc)


def interpolate(
    flow: ProbabilityFlow,
    x0: Tensor,
    x1: Tensor,
    frames: int = 11,
    method: str = "dopri5",
    *,
    clock: str = "log_sigma",
    **settings: Any,
) -> Trajectory:
    """Images between two images, along the arc between their latents.

    Args:
        flow: the probability flow.
        x0, x1: (B, …), the ends, taken as states at ε.
        frames: number of images, including both ends.
        method, clock, settings: as for `encode`.

    Returns:
        A `Trajectory` that every view takes: `ts` holds the weights from 0 to 1, `ys` the
        images, (frames, B, …).

    Raises:
        InputError: an argument does not fit.
    """
    frames = whole_number(frames, "frames", 2, why=", for the ends")
    both = encode(flow, torch.cat([x0, x1]), method, clock=clock, **settings)
    weights = torch.linspace(0, 1, frames, dtype=torch.float64, device="cpu")
    mean = flow.sde.prior_mean(both.final)
    z0, z1 = (both.final - mean).split([len(x0), len(x1)])
    latents = mean + slerp(z0, z1, weights)
    strip = decode(flow, latents.flatten(0, 1), method, clock=clock, **settings)
    stats = Stats(
        both.stats.nfe + strip.stats.nfe,
        both.stats.steps + strip.stats.steps,
        both.stats.rejected + strip.stats.rejected,
        both.stats.seconds + strip.stats.seconds,
    )
    return Trajectory(weights, strip.final.reshape(latents.shape), method, stats, flow.shape)
