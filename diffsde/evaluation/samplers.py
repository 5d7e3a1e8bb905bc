r"""Samplers: sets of images drawn by solvers.

A sampler is a solver with its steps and clock. Finished chunks of its images are saved in a folder,
so that ten thousand images survive an interruption.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffsde.equations.clocks import CLOCKS
from diffsde.equations.eta import Eta, checked_levels, eta_between
from diffsde.equations.forward import SDE
from diffsde.equations.reverse import PROBLEMS
from diffsde.errors import CheckpointError, InputError, name_list
from diffsde.evaluation.real import Data, data_of
from diffsde.scores.guidance import checked_guidance
from diffsde.scores.labels import random_classes
from diffsde.scores.model import ScoreModel
from diffsde.scores.tempering import checked_temperature
from diffsde.solvers.catalogue import find_solver
from diffsde.solvers.options import checked_options
from diffsde.solvers.settings import full_settings
from diffsde.solvers.solving import solve
from diffsde.system.bars import load_tqdm
from diffsde.system.description import (
    described_settings,
    differences,
    digest_of_score,
    surroundings,
)
from diffsde.system.digest import digest
from diffsde.system.files import check_folder
from diffsde.system.host import on_host
from diffsde.system.launch import from_each, process_number, share
from diffsde.system.numbers import real_number, truth_value, whole_number
from diffsde.system.parameters import device_of
from diffsde.system.tensorfile import read_tensors, whole_in, write_tensors
from diffsde.system.wrapped import unwrapped
from diffsde.views.decoding import decoded, image_shape

__all__ = ["Sampler", "Samples", "sample_images"]


@dataclass(frozen=True)
class Sampler:
    """A way to draw images.

    Attributes:
        method: the name of a solver.
        kind: "sde" for the reverse SDE, "ode" for the probability flow; some solvers do both.
        steps: number of steps.
        clock: the clock in which the steps are even.
        denoise: end with one more evaluation, which removes the remaining noise.
        classes: give the network a class label for each image, drawn with the frequencies of
            the training data, so that the images still have the law of the data.
        guidance: γ of `classifier_free`, towards those classes; 1 takes them as they are. A call
            of the score costs one evaluation for 0 and 1, and two for any other number.
        temperature: of the score, as `ScoreModel.sample` takes it.
        options: of the solver, such as {"last_order": 1}.
        eta: η of the reverse SDE: 0 is the flow, 1 the usual SDE.
        between: the two noise levels between which η acts (see `eta_between`); all, if left out.
    """

    method: str = "sde_dpmpp_2m"
    kind: str = "sde"
    steps: int = 20
    clock: str = "karras"
    denoise: bool = True
    classes: bool = False
    guidance: float = 1.0
    temperature: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    eta: float = 1.0
    between: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in PROBLEMS:
            raise InputError(f"kind = {self.kind!r}: {name_list(self.kind, PROBLEMS)}")
        solver = find_solver(self.method, self.kind)
        checked_options(self.options, solver, solver.adaptive)
        whole_number(self.steps, "steps")
        if self.clock not in CLOCKS:
            raise InputError(f"clock = {self.clock!r}: {name_list(str(self.clock), CLOCKS)}")
        for name in ("denoise", "classes"):
            truth_value(getattr(self, name), name)
        if checked_guidance(self.guidance) != 1 and not self.classes:
            raise InputError(f"guidance = {self.guidance:g} needs classes: give classes=True too")
        checked_temperature(self.temperature)
        real_number(self.eta, "eta", "a number ≥ 0", 0.0)
        if self.between is not None:
            checked_levels(*self.between)
        if self.kind == "ode" and (self.eta, self.between) != (1, None):
            given = f"eta = {self.eta:g}, between = {self.between}"
            raise InputError(f"{given}: the flow has no noise; leave them out")

    def eta_on(self, sde: SDE) -> Eta:
        """η as `ReverseSDE` takes it."""
        return self.eta if self.between is None else eta_between(sde, *self.between, self.eta)

    @property
    def line(self) -> str:
        """The name without the steps."""
        end = "-denoised" if self.denoise else ""
        classes = "-classes" if self.classes else ""
        guidance = "" if self.guidance == 1 else f"-guidance{self.guidance:g}"
        heat = "" if self.temperature == 1 else f"-temperature{self.temperature:g}"
        options = "".join(f"-{name}{value}" for name, value in self.options.items())
        eta = "" if self.eta == 1 else f"-eta{self.eta:g}"
        if self.between is not None:
            eta += "-between{:g}-{:g}".format(*self.between)
        ends = f"{end}{classes}{guidance}{heat}{options}{eta}"
        return f"{self.kind}-{self.method}-{self.clock}{ends}"

    @property
    def name(self) -> str:
        return f"{self.line}-{self.steps}"


@dataclass(frozen=True)
class Samples:
    """Images drawn by a sampler.

    Attributes:
        images: (N, C, H, W) in [0, 1], on the CPU.
        nfe: evaluations of the score per image; the largest, if chunks differ.
    """

    images: Tensor
    nfe: int


def sample_images(
    model: ScoreModel,
    sampler: Sampler,
    n: int = 10_000,
    *,
    data: Data | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    chunk: int = 500,
    progress: bool = True,
) -> Samples:
    """Draw n images, on the device where the model is.

    The processes of one launch (`torchrun`, `accelerate launch`) divide the chunks among
    themselves, and each returns all images, so each of them must call this. The number of processes
    does not change the images.

    Args:
        model: the score.
        sampler: solver, steps and clock.
        n: number of images.
        data: where a sampler with classes has their frequencies from, as for `evaluate`; the
            data that the model knows as its own, if left out.
        seed: seed of all random numbers; image i depends on (seed, i) alone.
        out: a folder for finished chunks; a later call with the same arguments continues
            from there. The model must be one that can be described: see
            `diffsde.system.description`.
        chunk: images solved at a time.
        progress: show a progress bar.

    Raises:
        InputError: `out` holds chunks of another model, other settings or other frequencies of
            classes, or cannot be written to; the model cannot be described; or classes are asked
            for, and the model takes none, or other ones than the data have, or its data are not
            known.
    """
    n, chunk = whole_number(n, "n"), whole_number(chunk, "chunk")
    model = unwrapped(model)
    labels = _labels(model, data) if sampler.classes else None
    shape = image_shape(model.shape, model.decoder)
    chunks = _Chunks(model, sampler, seed, labels, shape, None if out is None else Path(out))
    firsts = range(0, n, chunk)
    hidden = not (progress and process_number() == 0)
    shown = load_tqdm()(share(firsts), desc=sampler.name, unit="chunk", disable=hidden)
    own = {first: chunks.images(first, min(chunk, n - first)) for first in shown}
    levels = torch.empty((n, *shape), dtype=torch.uint8, device="cpu")
    nfe = 0
    for drawn in from_each(own):
        for first, images in drawn.items():
            levels[first : first + chunk] = images.levels
            nfe = max(nfe, images.nfe)
    return Samples(levels.float() / 255, nfe)


class _Chunk(NamedTuple):
    """Images in 256 levels, like real ones, and the evaluations of the score for each."""

    levels: Tensor
    nfe: int


class _Chunks:
    """The chunks of one sampler: read if they were saved, drawn otherwise."""

    def __init__(
        self,
        model: ScoreModel,
        sampler: Sampler,
        seed: int,
        labels: Tensor | None,
        shape: tuple[int, ...],
        folder: Path | None,
    ) -> None:
        self.model, self.sampler, self.seed = model, sampler, seed
        self.labels, self.shape, self.folder = labels, shape, folder
        self.description: dict[str, Any] = {}
        if folder is not None:
            check_folder(folder, "out")
            self.description = _description(model, sampler, seed, labels)

    def images(self, first: int, size: int) -> _Chunk:
        """Images first, …, first + size − 1."""
        if self.folder is None:
            return self._drawn(first, size)
        path = self.folder / f"{self.sampler.name}-seed{self.seed}-{first}-{size}.safetensors"
        if path.exists():
            return self._read(path, size)
        drawn = self._drawn(first, size)
        tensors = {"images": drawn.levels, "nfe": on_host(drawn.nfe)}
        write_tensors(path, tensors, {"samples": self.description})
        return drawn

    def _read(self, path: Path, size: int) -> _Chunk:
        tensors, found = read_tensors(path)
        different = differences(found.get("samples"), self.description)
        if different:
            raise InputError(
                f"{path} holds images {different}: give another folder, or remove this one's "
                "files to start again"
            )
        images, nfe = tensors.get("images"), whole_in(tensors.get("nfe"))
        shape = (size, *self.shape)
        if images is None or images.shape != shape or images.dtype != torch.uint8 or nfe is None:
            raise CheckpointError(
                f"{path}: damaged, expected images of shape {shape} in 256 levels. Remove it, and "
                "they are drawn again"
            )
        return _Chunk(images, nfe)

    def _drawn(self, first: int, size: int) -> _Chunk:
        model, sampler = self.model, self.sampler
        place, drawn = device_of(model), None
        if self.labels is not None:
            drawn = random_classes(self.labels, self.seed, range(first, first + size))
        score = model.score_for(drawn, sampler.guidance, sampler.temperature)
        dial: dict[str, Any] = {"eta": sampler.eta_on(model.sde)} if sampler.kind == "sde" else {}
        sol = solve(
            PROBLEMS[sampler.kind](model.sde, score, model.shape, **dial),
            model.sde.prior_sample((size, *model.shape), seed=self.seed, first=first, device=place),
            sampler.method,
            seed=self.seed,
            first=first,
            **_settings(sampler),
        )
        sol = sol if model.decoder is None else decoded(sol, model.decoder)
        return _Chunk((sol.images().cpu() * 255).round().to(torch.uint8), sol.stats.nfe)


def _settings(sampler: Sampler) -> dict[str, Any]:
    """What a sampler asks of `solve`, beside its method."""
    return {
        "steps": sampler.steps,
        "clock": sampler.clock,
        "save": "last",
        "denoise": sampler.denoise,
        "options": sampler.options or None,
    }


def _description(
    model: ScoreModel, sampler: Sampler, seed: int, labels: Tensor | None
) -> dict[str, Any]:
    """Everything that the images depend on, as their files keep it."""
    solver = full_settings(sampler.method, sampler.kind, **_settings(sampler))
    return {
        **described_settings({**asdict(sampler), **solver}),
        "seed": seed,
        "labels": None if labels is None else digest([labels]),
        "model": digest_of_score(model),
        **surroundings(),
    }


def _labels(model: ScoreModel, data: Data | None) -> Tensor:
    """The labels of the training images, which the model knows as classes."""
    model.of_class(0)  # which is refused if it takes none
    train = data_of(model, data).train
    train.check_classes(model.classes)
    return train.known_labels()
