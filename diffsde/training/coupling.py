r"""Couplings: which noise z goes with which image x(0) of a batch.

Diffusion draws the two independently. For a probability flow any coupling will do whose marginals
are the data and N(0, I), and one with short lines from noise to image makes a flow that is almost
straight, with less variance in its gradient. Within a batch, the shortest lines are found by
optimal transport: the permutation of its noises for which Σ ‖x(0) − z‖² is least.

The law of x(t) between the ends is then another than that of the forward process, so the velocity
is no score: such a network has a flow, but no reverse SDE (`CoupledFlowPrediction`). Nor is z
normal given a class, so classes are refused. The images that are coupled are those which a process
works on at a time. They belong to (seed, update, positions), so a run can be resumed, but another
number of processes, or of accumulated parts, makes another run.

Source: Tong et al., arXiv 2302.00482, section 3.2; Pooladian et al., arXiv 2304.14772.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffsde.system.parameters import finest_dtype

__all__ = ["COUPLINGS"]


def _independent(x: Tensor, z: Tensor) -> Tensor:
    return z


@torch.no_grad()
def _optimal(x: Tensor, z: Tensor) -> Tensor:
    """The noises in the order in which they are nearest to the images, in sum of squares."""
    from scipy.optimize import linear_sum_assignment

    # The squares themselves are in every permutation: only the products differ.
    finest = finest_dtype(x.device)
    products = x.flatten(1).to(finest) @ z.flatten(1).to(finest).T
    _, chosen = linear_sum_assignment(products.cpu().numpy(), maximize=True)
    return z[torch.from_numpy(chosen).to(z.device)]


COUPLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "independent": _independent,
    "optimal": _optimal,
}
"""Called with images and noises, both (B, …); returns the noises, in the order of the images."""
