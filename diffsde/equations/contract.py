r"""Objects of torchsde's contract: a user's own SDE, in t.

Such an object says its `noise_type` and `sde_type` and has some of the methods

    f(t, y)                the drift, of y's shape (B, d),
    g(t, y)                the diffusion: (B, d) for diagonal noise, else (B, d, m),
    g_prod(t, y, v)        g v, of shape (B, d), for v of shape (B, m),
    f_and_g(t, y), f_and_g_prod(t, y, v)      both at once,

with t a scalar in the dtype of the state. `ContractSDE` reads off which of them there are, and
answers for all. Where each sample has a time of its own, the object is asked once for each time.

Source: torchsde's documentation, "SDE"; Li, Wong, Chen, Duvenaud, arXiv 2001.01328.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diffsde.equations.counted import untouched
from diffsde.errors import InputError, name_list

__all__ = ["NOISE_TYPES", "ContractSDE", "follows_contract"]

NOISE_TYPES = ("additive", "diagonal", "general", "scalar")
_CALCULI = ("ito", "stratonovich")


def follows_contract(problem: Any) -> bool:
    """Whether an object is an SDE in torchsde's sense."""
    typed = all(hasattr(problem, name) for name in ("noise_type", "sde_type"))
    drift = any(hasattr(problem, name) for name in ("f", "f_and_g", "f_and_g_prod"))
    noise = ("g", "g_prod", "f_and_g", "f_and_g_prod")
    return typed and drift and any(hasattr(problem, name) for name in noise)


class ContractSDE:
    """A user's SDE, whatever part of the contract it has.

    Args:
        own: the object.

    Attributes:
        noise_type: "diagonal", "scalar", "additive" or "general".
        sde_type: "ito" or "stratonovich".

    Raises:
        InputError: a type has another name.
    """

    def __init__(self, own: Any) -> None:
        self.own, self.name = own, type(own).__name__
        self.noise_type, self.sde_type = str(own.noise_type), str(own.sde_type)
        for attribute, valid in (("noise_type", NOISE_TYPES), ("sde_type", _CALCULI)):
            value = getattr(self, attribute)
            if value not in valid:
                raise InputError(f"{self.name}.{attribute} = {value!r}: {name_list(value, valid)}")

    @property
    def has_diffusion(self) -> bool:
        """Whether g itself is known, and not only its products."""
        return hasattr(self.own, "g") or hasattr(self.own, "f_and_g")

    def channels(self, x: Tensor, t: Tensor) -> int:
        """m, the number of Brownian motions of a sample.

        Raises:
            InputError: it cannot be read off the object, or g has the wrong shape.
        """
        if self.noise_type == "diagonal":
            return x.shape[1]
        if self.has_diffusion:
            with torch.no_grad():
                return self._checked(self.g(x, t), x).shape[-1]
        if self.noise_type == "scalar":
            return 1
        count = getattr(self.own, "brownian_size", None)
        if not isinstance(count, int):
            raise InputError(
                f"{self.name} has {self.noise_type} noise and neither g nor f_and_g, so the number "
                "of its Brownian motions is unknown: give it an attribute brownian_size"
            )
        return count

    def _checked(self, g: Tensor, x: Tensor) -> Tensor:
        scalar = self.noise_type == "scalar"
        if g.dim() != 3 or g.shape[:2] != x.shape or (scalar and g.shape[2] != 1):
            wanted = f"({x.shape[0]}, {x.shape[1]}, {'1' if scalar else 'm'})"
            raise InputError(
                f"g of {self.name} returned shape {tuple(g.shape)} for a state of shape "
                f"{tuple(x.shape)}: expected {wanted} for {self.noise_type} noise"
            )
        return g

    # -- the contract, called (y, t, …); t is a scalar or of shape (B,) -------------------

    def f(self, y: Tensor, t: Tensor) -> Tensor:
        """The drift, (B, d)."""
        if hasattr(self.own, "f"):
            return self._by_time(self.own.f, y, t)
        if hasattr(self.own, "f_and_g"):
            return self._by_time(lambda t, y: self.own.f_and_g(t, y)[0], y, t)
        return self._by_time(lambda t, y: self.own.f_and_g_prod(t, y, self._no_noise(y))[0], y, t)

    def g(self, y: Tensor, t: Tensor) -> Tensor:
        """The diffusion, (B, d) for diagonal noise, else (B, d, m)."""
        if hasattr(self.own, "g"):
            return self._by_time(self.own.g, y, t)
        if hasattr(self.own, "f_and_g"):
            return self._by_time(lambda t, y: self.own.f_and_g(t, y)[1], y, t)
        raise InputError(f"{self.name} has neither g nor f_and_g, which this solver asks for")

    def g_prod(self, y: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """g v, of shape (B, d), for v of shape (B, m)."""
        if hasattr(self.own, "g_prod"):
            return self._by_time(self.own.g_prod, y, t, v)
        if self.has_diffusion:
            return self.product(self.g(y, t), v)
        return self._by_time(lambda t, y, v: self.own.f_and_g_prod(t, y, v)[1], y, t, v)

    def f_and_g(self, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both, in one call where the object has one."""
        if hasattr(self.own, "f_and_g") and not t.dim():
            f, g = untouched(self.own.f_and_g, self.name, t, y)
            return f, g
        return self.f(y, t), self.g(y, t)

    def f_and_g_prod(self, y: Tensor, t: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The drift and g v, in one call where the object has one."""
        if hasattr(self.own, "f_and_g_prod") and not t.dim():
            f, product = untouched(self.own.f_and_g_prod, self.name, t, y, v)
            return f, product
        if hasattr(self.own, "f_and_g") and not hasattr(self.own, "g_prod"):
            f, g = self.f_and_g(y, t)
            return f, self.product(g, v)
        return self.f(y, t), self.g_prod(y, t, v)

    def product(self, g: Tensor, v: Tensor) -> Tensor:
        """g v for a known g."""
        if self.noise_type == "diagonal":
            return g * v
        return torch.bmm(g, v.unsqueeze(-1)).squeeze(-1)

    def _no_noise(self, y: Tensor) -> Tensor:
        count = {"diagonal": y.shape[1], "scalar": 1}.get(self.noise_type)
        return y.new_zeros(len(y), self.own.brownian_size if count is None else count)

    def _by_time(self, fn: Callable[..., Tensor], y: Tensor, t: Tensor, *rest: Tensor) -> Tensor:
        """fn(t, y, …) with a scalar t: once, or once for each of the samples' times."""
        if not t.dim():
            value: Tensor = untouched(fn, self.name, t, y, *rest)
            return value
        rows = range(len(y))
        parts = [
            untouched(fn, self.name, t[i], *(value[i : i + 1] for value in (y, *rest)))
            for i in rows
        ]
        return torch.cat(parts)
