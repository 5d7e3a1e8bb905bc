r"""Guidance: the score of a class from the score of everything, or a score from a weaker one.

By Bayes' rule the score of x(t) given a label is

    ∇ log p_t(x | label)  =  ∇ log p_t(x)  +  ∇ log p_t(label | x),

so it is again a score, and every solver and every view takes it. A classifier of noisy images
gives the second term by differentiation; it may be taken γ times. A score that takes labels, and
None for no label, needs no classifier:

    s(x, t)  +  γ ( s(x, t, label) − s(x, t) ),

where γ = 0 is no guidance, γ = 1 the class itself, and γ > 1 exaggerates it; the weight w of
Ho & Salimans is γ − 1. For γ ≠ 0, 1 no process has exactly these scores as marginals, so
different solvers need not agree in law.

Autoguidance needs no label. A weaker model of the same data, smaller or less trained, errs in the
same places and by more, so away from it lies the better score: w + γ (s − w) for γ > 1.

With a classifier a call costs 2 evaluations (the score and the classifier); without one, and with
a weaker score, it costs 2 for γ ≠ 0, 1.

Sources: Song et al., arXiv 2011.13456, section 5; Ho, Salimans, arXiv 2207.12598; Karras et al.,
arXiv 2406.02507 (autoguidance).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffsde.equations.counted import prepared, says_of
from diffsde.equations.forward import SDE
from diffsde.equations.graphs import leaf, ordinary_mode, with_graph
from diffsde.equations.reverse import Score
from diffsde.errors import InputError
from diffsde.scores.guided import Guided, Moment, moment_of, moments_at
from diffsde.scores.labels import Label, check_label, labels_for
from diffsde.system.numbers import real_number
from diffsde.system.one_line import class_of, one_line
from diffsde.system.parameters import device_of

__all__ = ["autoguidance", "checked_guidance", "classifier_free", "classifier_guided"]


def classifier_guided(
    score: Score, classifier: Score, label: Label, *, scale: float = 1.0
) -> Score:
    """The score of one class, by the gradient of a classifier of noisy images.

    Args:
        score: of all classes.
        classifier: called (x, t), gives logits (B, K); differentiable in x.
        label: a class, or (B,) classes.
        scale: γ, how many times the gradient is added.

    Raises:
        InputError: the label is not whole, or scale is not a finite number.
    """
    check_label(label)
    scale = real_number(scale, "scale", "a finite number")
    return _ClassifierGuided(score, classifier, label, scale)


def classifier_free(
    score: Callable[[Tensor, Tensor | float, Tensor | None], Tensor], label: Label, guidance: float
) -> Score:
    """The score of one class, from a score that takes labels.

    Args:
        score: a `ScoreModel` whose network knows classes, or anything called (x, t, label),
            label of shape (B,), or None for no class.
        label: a class, or (B,) classes.
        guidance: γ. 0 ignores the class, 1 uses it, and a larger number exaggerates it.

    Raises:
        InputError: the score says that it takes no labels or has no such class, or guidance is
            not a finite number.
    """
    check_label(label, says_of(score, "classes", None))
    return _ClassifierFree(score, label, checked_guidance(guidance))


def autoguidance(score: Score, weaker: Score, guidance: float) -> Score:
    """A score pushed away from a weaker one of the same data and the same forward process.

    Args:
        score: the better one.
        weaker: a smaller or less trained one, at the same noise levels.
        guidance: γ. 1 is the score itself, 0 the weaker one; 1.5 to 3 are usual.

    Raises:
        InputError: guidance is not a finite number, or the two have different processes.
    """
    guidance = checked_guidance(guidance)
    first, second = (says_of(one, "sde", None) for one in (score, weaker))
    if first is not None and second is not None and repr(first) != repr(second):
        raise InputError(
            f"the score is of {one_line(first)} and the weaker one of {one_line(second)}: expected "
            "two scores of one process"
        )
    return _Autoguided(score, weaker, guidance)


def checked_guidance(guidance: float) -> float:
    return real_number(guidance, "guidance", "a finite number")


# The operators are objects, because results on disk carry a description of them.


def _said(label: Label) -> str:
    """A label in a repr: the class, or how many there are."""
    numbers = torch.as_tensor(label).flatten()
    return f"label={int(numbers)}" if len(numbers) == 1 else f"{len(numbers)} labels"


def _beside(label: Label, score: Any) -> Label:
    """A label on the device of a score, so that it travels there once."""
    device = device_of(score) if isinstance(score, nn.Module) else None
    return label.to(device) if isinstance(label, Tensor) else label


class _ClassifierGuided(Guided):
    def __init__(self, score: Score, classifier: Score, label: Label, scale: float) -> None:
        super().__init__()
        self.score, self.classifier, self.scale = score, classifier, scale
        self.label = _beside(label, score)

    def __repr__(self) -> str:
        scores = f"{class_of(self.score)}, {class_of(self.classifier)}"
        return f"classifier_guided({scores}, {_said(self.label)}, scale={self.scale:g})"

    @property
    def evaluations(self) -> int:
        """Those of the score and those of the classifier."""
        return super().evaluations + int(says_of(self.classifier, "evaluations", 1))

    def prepare(self, times: Tensor) -> list[Moment]:
        """What `forward` takes in place of each of the times (n,)."""
        return moments_at(self.score, times)

    @ordinary_mode()
    def forward(self, x: Tensor, t: Tensor | float | Moment) -> Tensor:
        """∇ log p_t(x) + γ ∇ log p_t(label | x), of x's shape."""
        t, known = moment_of(t)
        keep = torch.is_grad_enabled() and x.requires_grad
        label = labels_for(self.label, x)
        with torch.enable_grad():
            at = x if keep else leaf(x)
            logits = with_graph(self.classifier, "classifier", at, t)
            if logits.dim() != 2 or len(logits) != len(x):
                raise InputError(
                    f"the classifier returned {tuple(logits.shape)} for {len(x)} samples: "
                    "expected logits (B, K)"
                )
            chosen = logits.log_softmax(1).gather(1, label[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, at, create_graph=keep)
        return with_graph(self.score, "score", x, known) + self.scale * gradient


class _ClassifierFree(Guided):
    def __init__(
        self,
        score: Callable[[Tensor, Tensor | float, Tensor | None], Tensor],
        label: Label,
        guidance: float,
    ) -> None:
        super().__init__()
        self.score, self.label, self.guidance = score, _beside(label, score), guidance

    def __repr__(self) -> str:
        label = _said(self.label)
        return f"classifier_free({class_of(self.score)}, {label}, guidance={self.guidance:g})"

    @property
    def evaluations(self) -> int:
        """Two calls of the score, or one where γ is 0 or 1."""
        return super().evaluations * (1 if self.guidance in (0, 1) else 2)

    @property
    def sde(self) -> SDE | None:
        """The process of the score, if it says."""
        found: SDE | None = says_of(self.score, "sde", None)
        return found

    def prepare(self, times: Tensor) -> Sequence[Any]:
        """What `forward`, and so the score that it wraps, takes in place of each time (n,)."""
        return prepared(self.score, times)

    def forward(self, x: Tensor, t: Tensor | float) -> Tensor:
        """The guided score, of x's shape; where γ is 0 or 1, one evaluation is enough."""
        return self._guided(self.score, "score", x, t)

    # A velocity and a denoiser are linear in the score, so the same combination guides them.

    @property
    def velocity(self) -> Callable[..., Tensor] | None:
        """The guided velocity, of a score that has one."""
        return self._linear("velocity")

    @property
    def denoise(self) -> Callable[..., Tensor] | None:
        """The guided denoiser, of a score that has one."""
        return self._linear("denoise")

    def _linear(self, name: str) -> Callable[..., Tensor] | None:
        fn = says_of(self.score, name, None)
        return None if fn is None else partial(self._guided, fn, name)

    def _guided(self, fn: Callable[..., Tensor], name: str, x: Tensor, t: Any) -> Tensor:
        if self.guidance == 0:
            return with_graph(fn, name, x, t, None)
        conditional = with_graph(fn, name, x, t, labels_for(self.label, x))
        if self.guidance == 1:
            return conditional
        free = with_graph(fn, name, x, t, None)
        return free + self.guidance * (conditional - free)


class _Both(NamedTuple):
    """What each of two scores takes in place of a time."""

    own: Any
    other: Any


class _Autoguided(Guided):
    def __init__(self, score: Score, weaker: Score, guidance: float) -> None:
        super().__init__()
        self.score, self.weaker, self.guidance = score, weaker, guidance

    def __repr__(self) -> str:
        scores = f"{class_of(self.score)}, {class_of(self.weaker)}"
        return f"autoguidance({scores}, guidance={self.guidance:g})"

    @property
    def evaluations(self) -> int:
        """Those of both scores, or of the one that counts."""
        both = [super().evaluations, int(says_of(self.weaker, "evaluations", 1))]
        return sum(both) if self.guidance not in (0, 1) else both[self.guidance == 0]

    def prepare(self, times: Tensor) -> Sequence[Any]:
        """What `forward` takes in place of each of the times (n,): that of both scores."""
        pairs = zip(prepared(self.score, times), prepared(self.weaker, times), strict=True)
        return [_Both(*pair) for pair in pairs]

    def forward(self, x: Tensor, t: Any) -> Tensor:
        """The guided score, of x's shape."""
        own, other = t if isinstance(t, _Both) else _Both(t, t)
        if self.guidance == 1:
            return with_graph(self.score, "score", x, own)
        weak = with_graph(self.weaker, "weaker score", x, other)
        if self.guidance == 0:
            return weak
        return weak + self.guidance * (with_graph(self.score, "score", x, own) - weak)
