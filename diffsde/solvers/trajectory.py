r"""Trajectories: what a solve returns.

A `Trajectory` holds the path x(t₀), …, x(t_n) of every sample, the times in t and in
the order solved, what the solve cost, and the two curves that pictures compare a path
with: g(t), which is σᵗ for the tutorial's SDE, and the marginal std s(t). It knows no
solver and no score, so views read nothing else and a file keeps all they need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from diffsde.equations.ranges import UNIT, Range, checked_range, to_unit
from diffsde.errors import CheckpointError, InputError
from diffsde.system.numbers import real_number, whole_number
from diffsde.system.tensorfile import read_tensors, write_tensors

__all__ = ["Stats", "Trajectory"]

_OPTIONAL = ("diffusion", "std", "denoised", "evaluations")


@dataclass
class Stats:
    """What a solve cost.

    Attributes:
        nfe: evaluations of the score (of the drift, for other equations): how often the
            whole batch, or what of it was not finished, went through it.
        steps: accepted steps; where each sample has its own, those of the longest.
        rejected: rejected steps, over all samples.
        seconds: wall time, until the device that computed had finished.
    """

    nfe: int = 0
    steps: int = 0
    rejected: int = 0
    seconds: float = 0.0


@dataclass(repr=False)
class Trajectory:
    """The path of a batch of samples.

    Attributes:
        ts: (T,) times in t, float64, in the order solved.
        ys: (T, B, …) states, in the shape that came in.
        method: the solver's name.
        stats: what it cost.
        shape: of one sample, such as (C, H, W).
        diffusion: (T,) g(t) of the forward SDE at `ts`; None for other equations, and where g is
            infinite.
        std: (T,) marginal std s(t) at `ts`; None for other equations.
        denoised: (T, B, …) estimates E[x(0) | x(t)] beside `ys`, if they were asked for.
        evaluations: (T,) how often the score had been evaluated when each state was reached,
            int64; None where nobody counted. The estimates `denoised` come after them.
        kind: what was solved, "sde" or "ode"; None where nobody said, as in older files.
        data_range: the values of black and of white, where samples are images.
        clock: the name of the clock in which it was solved; None for a map of the caller's own,
            and where nobody said.
    """

    ts: Tensor
    ys: Tensor
    method: str
    stats: Stats = field(default_factory=Stats)
    shape: tuple[int, ...] = ()
    diffusion: Tensor | None = None
    std: Tensor | None = None
    denoised: Tensor | None = None
    evaluations: Tensor | None = None
    kind: str | None = None
    data_range: Range = UNIT
    clock: str | None = None
    _dense: Callable[[Tensor, float], Tensor] | None = field(
        default=None, repr=False, compare=False
    )

    _resume: Callable[[dict[str, Any]], Trajectory] | None = field(
        default=None, repr=False, compare=False
    )

    def __getstate__(self) -> dict[str, Any]:
        # What goes on from here holds the score and the noise, and may be any function.
        return self.__dict__ | {"_dense": None, "_resume": None}

    def cpu(self) -> Trajectory:
        """The same path in the memory of the CPU, from where it is shown and written."""
        tensors: dict[str, Any] = {
            k: v.cpu() for k, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **tensors)

    @property
    def final(self) -> Tensor:
        """The last state, (B, …)."""
        return self.ys[-1]

    def __len__(self) -> int:
        return len(self.ts)

    def __iter__(self) -> Iterator[tuple[float, Tensor]]:
        """Each time with its state, (B, …), in the order solved."""
        return zip(self.ts.tolist(), self.ys, strict=True)

    def sample(self, which: int | slice | Sequence[int]) -> Trajectory:
        """The path of one sample or of some of them, as a trajectory of that batch.

        Args:
            which: an index, a slice, or a list of indices into the batch.

        Raises:
            InputError: there is no such sample.
        """
        size = self.ys.shape[1]
        try:
            numbers = range(size)[which] if isinstance(which, slice) else which
            listed = numbers if isinstance(numbers, Sequence) else [numbers]
            index = [range(size)[whole_number(i, "sample", -size)] for i in listed]
        except (IndexError, InputError) as error:
            raise InputError(f"sample {which!r}: expected indices from 0 to {size - 1}") from error
        dense = self._dense
        return replace(
            self,
            ys=self.ys[:, index],
            denoised=None if self.denoised is None else self.denoised[:, index],
            _dense=None if dense is None else lambda _, t: dense(self.ys, t)[index],
            _resume=None,
        )

    def __repr__(self) -> str:
        """One line: the method, the sizes, from where to where, and the cost."""
        times, *rest = self.ys.shape
        batch = [f"{rest[0]} × {tuple(rest[1:])}"] if rest else []
        size = " × ".join([f"{times} times", *batch])
        way = " → ".join(_short(float(t)) for t in self.ts[[0, -1]]) if times else "nothing"
        cost = f"{self.stats.nfe:,} NFE, {_short(self.stats.seconds)} s"
        return f"Trajectory({self.method or 'own'}, {size}, t {way}, {cost})"

    def __call__(self, t: float) -> Tensor:
        """The state at any time t of the interval, (B, …): dense output.

        A flow is solved on from the nearest saved state before t, with its own solver, so
        the answer has the solver's order; an SDE likewise, along its own Brownian path.

        Raises:
            InputError: t is outside of what was solved, or this trajectory was read from a
                file or stopped early, and has no equation any more.
        """
        if self._dense is None:
            raise InputError(
                "this trajectory has no dense output: it was read from a file, copied or pickled, "
                "or its solver has none. Solve with save= at the times you need"
            )
        low, high = sorted((float(self.ts[0]), float(self.ts[-1])))
        if not low <= real_number(t, "t", "a time") <= high:
            raise InputError(f"t = {t}: expected a time between {low:g} and {high:g}")
        return self._dense(self.ys, float(t))

    def resume(self, **rules: Any) -> Trajectory:
        """Solve on, from the last state to the end that was asked for.

        The method, the noise and the nodes that remain are those of the solve, so on a fixed
        grid the states are, bit for bit, those of a solve that was never stopped. A method of
        several steps (`sde_dpmpp_2m`, `unipc`, the Adams methods, `reversible_heun`) begins
        anew and loses what it knew of the steps before.

        Args:
            rules: max_steps, max_nfe, max_seconds, callback, event, as `solve` takes them; the
                old ones no longer hold.

        Returns:
            The rest of the path; its first state is the last one of this path.

        Raises:
            InputError: the solve has reached its end, or this trajectory was read from a file.
        """
        if self._resume is None:
            raise InputError(
                "nothing to resume: this solve has reached its end, was solved in chunks, or was "
                "read from a file, copied or pickled. Solve from `final`, with the times that "
                "remain as ts="
            )
        return self._resume(rules)

    def images(self, frame: int = -1) -> Tensor:
        """One frame as images in [0, 1], (B, C, H, W); the last frame by default."""
        state = self.ys[frame]
        if state.dim() == 2 and len(self.shape) == 3:
            state = state.reshape(-1, *self.shape)
        if state.dim() != 4:
            raise InputError(
                f"states of shape {tuple(state.shape)} are not images: expected (B, C, H, W). If "
                "they are flattened images, give the problem their shape=(C, H, W) and solve "
                "again; otherwise take `ys`, or look at them with plot_paths, which shows any "
                "states, plot_signals, which shows signals (B, C, L) and points (B, D), or "
                "plot_plane, which shows points (B, 2)"
            )
        return to_unit(state.detach().float(), self.data_range).clamp(0, 1)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a safetensors file, whole or not at all."""
        tensors = {"ts": self.ts, "ys": self.ys}
        tensors |= {k: getattr(self, k) for k in _OPTIONAL if getattr(self, k) is not None}
        notes: dict[str, Any] = {"method": self.method, "kind": self.kind}
        notes |= {"stats": asdict(self.stats), "shape": list(self.shape)}
        notes |= {"data_range": list(self.data_range), "clock": self.clock}
        return write_tensors(path, tensors, {"trajectory": notes})

    def to_html(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write the explorer, one HTML file to look at the path in: see `views.explorer`."""
        # Views stand above trajectories, so they are found by name, and only when asked for.
        written: Path = import_module("diffsde.views").write_html(self, path, **options)
        return written

    def explore(self, **options: Any) -> Any:
        """The explorer inside a notebook: see `views.explore`, which takes several paths too."""
        return import_module("diffsde.views").explore(self, **options)

    def _repr_html_(self) -> str:
        page: str = import_module("diffsde.views.notebook").summary(self)
        return page

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectory:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged, or holds no trajectory.
        """
        tensors, description = read_tensors(path)
        try:
            notes = description["trajectory"]
            unknown = tensors.keys() - {"ts", "ys", *_OPTIONAL}
            if unknown:
                raise ValueError(f"unknown tensors {sorted(unknown)}")
            return cls(
                tensors["ts"],
                tensors["ys"],
                _text(notes["method"]),
                _stats(notes["stats"]),
                tuple(_count(n) for n in notes["shape"]),
                tensors.get("diffusion"),
                tensors.get("std"),
                tensors.get("denoised"),
                tensors.get("evaluations"),
                _kind(notes.get("kind")),
                checked_range(notes.get("data_range", UNIT)),
                None if notes.get("clock") is None else _text(notes["clock"]),
            )._checked()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: not a trajectory ({type(error).__name__}: {error}). "
                "Was it written by Trajectory.save?"
            ) from error

    def _checked(self) -> Trajectory:
        lengths = [len(self.ts), len(self.ys)]
        lengths += [len(v) for k in _OPTIONAL if (v := getattr(self, k)) is not None]
        if self.ts.dim() != 1 or len(set(lengths)) != 1:
            raise ValueError(f"tensors of {lengths} frames, expected one number of frames")
        if not (self.ts.is_floating_point() and self.ys.is_floating_point()):
            raise ValueError(
                f"times of {self.ts.dtype}, states of {self.ys.dtype}: expected floats"
            )
        if self.evaluations is not None and self.evaluations.is_floating_point():
            raise ValueError(f"evaluations of {self.evaluations.dtype}: expected whole numbers")
        return self

    def to(self, *args: Any, **kwargs: Any) -> Trajectory:
        """The same path on another device or in another dtype, as `Tensor.to` takes them."""
        return replace(
            self,
            ys=self.ys.to(*args, **kwargs),
            denoised=None if self.denoised is None else self.denoised.to(*args, **kwargs),
            _resume=None,
        )


def _short(value: float) -> str:
    """A number in few letters: 1, 0.42, 1e-3, 155."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.2g}" if abs(value) < 10 else f"{value:,.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _stats(notes: dict[str, Any]) -> Stats:
    stats = Stats(**notes)
    for count in (stats.nfe, stats.steps, stats.rejected):
        _count(count)
    if type(stats.seconds) not in (int, float):
        raise TypeError(f"expected seconds, found {stats.seconds!r:.40}")
    return stats


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError(f"expected a whole number, found {value!r:.40}")
    return value


def _kind(value: object) -> str | None:
    kind = None if value is None else _text(value)
    if kind not in ("sde", "ode", None):
        raise ValueError(f"expected the kind 'sde' or 'ode', found {kind!r:.40}")
    return kind


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a name, found {value!r}")
    return value
