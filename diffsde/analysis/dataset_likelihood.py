r"""The likelihood of a data set, computed in chunks, with a results file that can be resumed."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffsde.analysis.conventions import CONVENTIONS, find_convention
from diffsde.analysis.density_flow import check_flow
from diffsde.analysis.likelihood import bits_per_dim
from diffsde.equations.ranges import UNIT
from diffsde.equations.reverse import ProbabilityFlow
from diffsde.errors import CheckpointError, InputError
from diffsde.system.bars import load_tqdm
from diffsde.system.description import (
    described,
    described_settings,
    differences,
    digest_of,
    digest_of_score,
    surroundings,
)
from diffsde.system.files import check_folder, check_target
from diffsde.system.host import on_host
from diffsde.system.launch import agreed, divided, process_count, process_number
from diffsde.system.numbers import whole_number
from diffsde.system.parameters import device_of
from diffsde.system.tables import Table, records
from diffsde.system.tensorfile import read_tensors, whole_in, write_tensors

__all__ = ["LikelihoodSummary", "evaluate_likelihood"]


@dataclass(frozen=True, repr=False)
class LikelihoodSummary(Table):
    """The likelihood of a data set, or of the part that is done; a data frame has a row per image.

    Attributes:
        log_prob: (N,) log-densities in nats; bounds on log-probabilities if the convention is
            "variational".
        dims: values in an image.
        nfe: evaluations of the score, summed over all chunks.
        offset: bits/dim of an image whose `log_prob` is zero, by the convention: 8 for uniformly
            dequantised images in [0, 1].
    """

    log_prob: Tensor
    dims: int
    nfe: int
    offset: float = 8.0

    @property
    def bits_per_dim(self) -> Tensor:
        """(N,) bits for each value."""
        return bits_per_dim(self.log_prob, self.dims, self.offset)

    @property
    def mean(self) -> float:
        """Mean bits/dim."""
        return float(self.bits_per_dim.mean())

    @property
    def stderr(self) -> float:
        """Standard error of `mean`, due to the choice of images, their noise and the probes."""
        return float(self.bits_per_dim.std()) / math.sqrt(len(self.log_prob))

    def _records(self) -> list[dict[str, Any]]:
        return records({n: getattr(self, n).tolist() for n in ("log_prob", "bits_per_dim")})

    def _lines(self) -> Sequence[Sequence[str]]:
        counts = f"{len(self.log_prob):,}", f"{self.nfe:,}"
        return [
            ("images", "bits/dim", "±", "evaluations"),
            (counts[0], f"{self.mean:.4f}", f"{self.stderr:.4f}", counts[1]),
        ]

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.stderr:.4f} bits/dim ({len(self.log_prob)} images)"


def evaluate_likelihood(
    flow: ProbabilityFlow,
    images: Tensor,
    *,
    convention: str | None = None,
    path: str | os.PathLike[str] | None = None,
    chunk: int = 64,
    seed: int = 0,
    progress: bool = False,
    **settings: Any,
) -> LikelihoodSummary:
    """The likelihood of a data set in bits/dim, in chunks.

    It is computed where the flow's score is. The processes of one launch (`torchrun`, `accelerate
    launch`) divide the chunks among themselves, and each returns the whole, so each of them must
    call this.

    Args:
        flow: see `log_likelihood`.
        images: (N, C, H, W), 8-bit images scaled to [0, 1], whatever the range of the flow's
            data is.
        convention: how bits are counted, a name from `CONVENTIONS`: "uniform", with dequantised
            images; "truncated-normal"; or "variational", the usual one of a network that knows
            levels, such as `LevelUNet`, as "uniform" is of others.
        path: results file, written after every chunk. If it exists, the evaluation continues
            from it, if it was written by the same flow with the same images and settings. Its
            score must be one that can be described: see `diffsde.system.description`.
        chunk: images solved at a time. The steps of an adaptive solver depend on it, within
            its tolerance.
        seed: seed of the dequantisation or the noise, and of the probes.
        progress: show a progress bar with the mean so far.
        settings: for `log_likelihood`, such as eps, probes, rtol, method; with the convention
            "variational" for `variational_bound`: eps, draws.

    Raises:
        InputError: `path` holds results of other images, another model or other settings or cannot
            be written, or the flow cannot be described.
    """
    check_flow(flow)
    if settings.get("grad"):
        raise InputError("grad: a data set's likelihood has no graph; call log_likelihood instead")
    chunk, convention = whole_number(chunk, "chunk"), find_convention(convention, flow.score)
    counted = CONVENTIONS[convention]
    full = counted.settings(settings)
    start = counted.start(flow, full["eps"])
    settings, full = {**settings, "eps": start}, {**full, "eps": start}
    if not len(images):
        raise InputError("images: expected at least one")
    description: dict[str, Any] = {}
    done, nfe, first_process = (
        torch.zeros(0, dtype=torch.float64, device="cpu"),
        0,
        process_number() == 0,
    )
    if path is not None:
        check_folder(check_target(path).parent, "path")
        description = _description(flow, images, convention, full, chunk=chunk, seed=seed)
        if first_process:
            done, nfe = _results_so_far(Path(path), description, done, len(images))
        done, nfe = agreed((done, nfe))

    def solved(first: int) -> tuple[Tensor, int]:
        part = images[first : first + chunk]
        part = part.to(device_of(flow) or part.device)
        log_prob, evaluations = counted.log_prob(flow, part, seed=seed, first=first, **settings)
        return log_prob.cpu().double(), evaluations

    offset, dims = counted.offset(flow, start), images[0].numel()
    tqdm, counts = load_tqdm(), {"total": len(images), "initial": len(done)}
    with tqdm(**counts, unit="image", disable=not (progress and first_process)) as bar:
        while len(done) < len(images):
            # A chunk for each process, so that the file holds the first images, without gaps.
            firsts = range(len(done), len(images), chunk)[: process_count()]
            for log_prob, evaluations in divided(firsts, solved):
                done, nfe = torch.cat([done, log_prob]), nfe + evaluations
            if path is not None and first_process:
                tensors = {"log_prob": done, "nfe": on_host(nfe)}
                write_tensors(path, tensors, {"likelihood": description})
            bar.update(len(done) - bar.n)
            so_far = LikelihoodSummary(done, dims, nfe, offset)
            bar.set_postfix_str(f"{so_far.mean:.4f} bits/dim")
    return LikelihoodSummary(done, dims, nfe, offset)


def _description(
    flow: ProbabilityFlow,
    images: Tensor,
    convention: str,
    settings: Mapping[str, Any],
    *,
    chunk: int,
    seed: int,
) -> dict[str, Any]:
    """Everything that the results depend on, as the results file keeps it."""
    whole = described(flow, "flow")  # of which the score and the SDE are named by themselves
    for part in ("score", "sde"):
        whole["modules"].pop(part, None)
        whole.get("attributes", {}).pop(part, None)
    return {
        "images": digest_of(images, "images"),
        "dtype": str(images.dtype),
        "score": digest_of_score(flow.score),
        "sde": f"{type(flow.sde).__name__} {digest_of(flow.sde, 'sde')}",
        "flow": digest_of(whole, "flow"),
        "chunk": chunk,
        "seed": seed,
        **({} if convention == "uniform" else {"convention": convention}),
        **({} if flow.data_range == UNIT else {"data_range": list(flow.data_range)}),
        **described_settings(settings),
        **surroundings(),
    }


def _results_so_far(
    path: Path, description: Mapping[str, Any], none: Tensor, most: int
) -> tuple[Tensor, int]:
    """The log-likelihoods and evaluations that the results file holds; none without a file."""
    if not path.exists():
        return none, 0
    tensors, found = read_tensors(path)
    different = differences(found.get("likelihood"), description)
    if different:
        raise InputError(
            f"{path} holds likelihoods {different}: give another path, or delete the file to "
            "start again"
        )
    done, nfe = tensors.get("log_prob"), whole_in(tensors.get("nfe"))
    whole = done is not None and done.dtype == torch.float64 and bool(done.isfinite().all())
    if done is None or nfe is None or not whole or done.dim() != 1 or len(done) > most:
        raise CheckpointError(
            f"{path}: damaged, expected at most {most} finite log-likelihoods. Delete the file to "
            "start again"
        )
    return done, nfe
