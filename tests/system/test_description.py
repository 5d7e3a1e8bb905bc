"""Descriptions: two scores that differ in anything differ in it, and one built twice does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
import torch
from torch import nn

from diffsde import ScheduleSDE
from diffsde.equations.variance_exploding import VESDE
from diffsde.errors import InputError
from diffsde.scores import linear_inverse
from diffsde.scores.denoisers import from_denoiser
from diffsde.solvers.settings import full_settings
from diffsde.system.description import described, digest_of, digest_of_score, surroundings
from tests.system.kinds_of_scores import AZULA, KINDS, gaussian, model


def digests(kinds: dict[str, Callable[[], Any]]) -> dict[str, str]:
    return {name: digest_of(make(), name) for name, make in kinds.items()}


def same_digests(found: dict[str, str]) -> list[list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for name, digest in found.items():
        names[digest].append(name)
    return [group for group in names.values() if len(group) > 1]


def test_every_two_scores_differ_and_the_same_built_twice_does_not() -> None:
    found = digests(KINDS)
    assert len(found) > 90
    assert same_digests(found) == []
    assert digests(KINDS) == found


def test_azulas_scores_differ_too() -> None:
    pytest.importorskip("azula", reason="azula is not installed: diffsde[interchange]")
    found = digests(AZULA)
    assert same_digests(found) == []
    assert digests(AZULA) == found


def test_another_process_finds_the_same_digests() -> None:
    program = (
        "import json\nfrom tests.system.test_description import KINDS, digests\n"
        "print(json.dumps(digests(KINDS)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, env=environment
    )
    assert json.loads(done.stdout) == digests(KINDS)


@pytest.mark.parametrize(
    ("score", "match"),
    [
        (lambda x, t: -x, "score = <function <lambda>.*, a function, cannot be described"),
        (digests, "score = <function digests"),
        (torch.zeros(3).exp, "score = <built-in method exp"),
        (attrgetter("mean"), "an? attrgetter, cannot be described"),
        (from_denoiser(lambda y, s: y, VESDE()), r"score\.denoiser = <function"),
        (gaussian(sde=ScheduleSDE(lambda t: 1 + t)), r"score\.sde\.sigma = <function"),
        (
            linear_inverse(gaussian(), VESDE(), lambda x: x, torch.zeros(1, 1, 8, 8)),
            r"score\.operator = <function",
        ),
    ],
)
def test_what_cannot_be_described_is_refused(score: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        digest_of_score(score)
    assert "leave path or out away" in str(caught.value)
    assert "description()" in str(caught.value)


def test_hooks_and_replaced_methods_are_refused() -> None:
    hooked, replaced = model(), model()
    hooked.network.register_forward_hook(lambda *_: None)
    replaced.network.forward = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"score\.network\._forward_hooks = <function"):
        digest_of_score(hooked)
    with pytest.raises(InputError, match=r"score\.network\.forward = <function"):
        digest_of_score(replaced)


def test_the_mode_counts_where_it_changes_numbers() -> None:
    quiet, dropping = gaussian(), nn.Sequential(nn.Dropout())
    assert digest_of(quiet.train(), "score") == digest_of(quiet.eval(), "score")
    assert digest_of(dropping.train(), "score") != digest_of(dropping.eval(), "score")


def test_a_module_within_itself_has_a_description() -> None:
    first, second = gaussian(), gaussian()
    first.__dict__["itself"], second.__dict__["itself"] = first, second
    assert digest_of(first, "score") == digest_of(second, "score")
    assert json.loads(json.dumps(described(first, "score"))) == described(first, "score")


def test_the_surroundings_say_in_which_precision() -> None:
    plain = surroundings()
    with torch.autocast("cpu", torch.bfloat16):
        assert surroundings() != plain
    torch.set_default_dtype(torch.float64)
    try:
        assert surroundings() != plain
    finally:
        torch.set_default_dtype(torch.float32)
    assert surroundings() == plain


def test_settings_hold_every_default() -> None:
    """Those that were given may be left out, if they are the defaults."""
    found = full_settings("heun2", "ode")
    assert found == full_settings("heun2", "ode", steps=500, clock="t", adaptive=False)
    assert full_settings("bosh3", "ode") == full_settings("bosh3", "ode", rtol=1e-5, atol=1e-5)
    assert {"steps", "clock", "rtol", "atol", "adaptive", "denoise", "options"} <= found.keys()
    assert full_settings("dopri5", "ode")["steps"] is None
