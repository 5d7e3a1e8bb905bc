"""Bad input is answered at once, in the words of the command line."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from diffsde import ScoreModel
from diffsde.cli.wording import in_options
from tests.cli.commands import run

SECONDS = 5  # of the processor, in which bad input is answered: other processes do not count

# The command, its exit code, and words of the answer: the option first. FILE is a file, FOLDER
# a folder, TINY a model of MNIST without classes, LARGER one of other images with 3 classes.
BAD = [
    *(
        (f"{command} --out {out}", 2, words)
        for command in ("sample", "gallery", "evaluate", "work-precision", "atlas", "train")
        for out, words in (
            ("FILE", ("--out", "a file is in the way")),
            ("FILE/below", ("--out", "cannot write")),
            ("/proc/diffsde", ("--out /proc/diffsde", "cannot write in /proc")),
        )
    ),
    *(
        (f"{command} --out {out}", 2, words)
        for command in ("explore", "likelihood")
        for out, words in (
            ("FOLDER", ("--out", "a folder is in the way")),
            ("nowhere/page", ("--out nowhere/page", "no folder nowhere")),
            ("/proc/page", ("--out /proc/page", "cannot write in /proc")),
        )
    ),
    *(
        (f"{command} --model nope.safetensors", 1, ("--model nope.safetensors", "no such file"))
        for command in ("sample", "gallery", "explore", "evaluate", "likelihood", "work-precision")
    ),
    *(
        (f"{command} --device {device}", 2, (f"--device {device} cannot be used here", "cpu"))
        for command in ("sample", "gallery", "explore", "evaluate", "likelihood", "work-precision")
        for device in ("cudda", "meta")
    ),
    *(
        (f"{command} --method dpmpp_2m --method nope", 2, ("nope", "Valid names"))
        for command in ("sample", "explore", "evaluate", "work-precision", "atlas")
    ),
    *(
        (f"{command} --clock {clock}", 2, ("--clock karas", "did you mean 'karras'"))
        for command, clock in (
            ("sample", "karas"),
            ("explore", "karas"),
            ("evaluate", "karas"),
            ("work-precision", "t --clock karas"),
        )
    ),
    *(
        (f"{command} {options}", 2, words)
        for command in ("sample", "explore")
        for options, words in (
            ("--model TINY --label 3", ("--label 3", "takes no class labels")),
            ("--model LARGER --label 3", ("--label 3", "expected 0 to 2")),
            ("--label -1", ("--label -1", "expected 0 to 9")),
            ("--label rndom", ("--label rndom", "expected 0 to 9", "random")),
            ("--model TINY --label random", ("--label random", "takes no class labels")),
            ("--guidance 2", ("--guidance 2", "give --label too")),
            ("--label 1 --guidance nan --model LARGER", ("--guidance nan", "finite")),
            ("--rtol -0.5", ("--rtol -0.5", "≥ 0")),
            ("--rtol 0.1", ("--rtol 0.1", "sde_dpmpp_2m takes fixed steps", "--adaptive")),
            ("--atol 0.1 --fixed --method dopri5", ("--atol 0.1", "dopri5 takes fixed steps")),
            ("--atol -1 --method dopri5", ("--atol -1", "≥ 0")),
            ("--atol inf", ("--atol inf", "finite")),
            ("--eta -1", ("--eta -1", "≥ 0")),
            ("--eta 1 --method heun2 --kind ode", ("--eta", "--kind sde")),
            ("--adaptive --method dpmpp_2m", ("--adaptive", "dpmpp_2m takes fixed steps only")),
            ("--fixed --method scipy_solver", ("--adaptive/--fixed", "chooses its own steps")),
            ("--option last_order", ("--option last_order", "expected NAME=VALUE")),
            ("--option lastorder=1", ("--option lastorder", "did you mean 'last_order'")),
            ("--option last_order=9", ("--option last_order=9: expected 1 to 2",)),
            ("--option snr=1 --method em --method euler", ("--option snr", "none of em, euler")),
            ("--eta-between 1 0.1", ("low = 1, high = 0.1", "expected low < high")),
            ("--eta-between 0.1 1 --method heun2 --kind ode", ("--eta-between", "--kind sde")),
            ("--kind pde", ("--kind pde", "expected sde or ode")),
            ("--method euler --method euler", ("--method euler", "given twice")),
            ("--method em --kind ode", ("'em' solves an SDE", "--kind")),
            ("--threads 0", ("--threads", "greater than or equal to 1")),
        )
    ),
    *(
        (
            f"{command} --temperature {value}",
            2,
            (f"--temperature {value}", "expected a finite number > 0"),
        )
        for command in ("sample", "gallery", "explore", "work-precision")
        for value in ("0", "nan")
    ),
    ("sample --fps 20", 2, ("--fps 20", "--animate")),
    ("sample --animate --fps 60", 2, ("--fps 60", "at most 50")),
    ("sample --format mp4 --fps 0", 2, ("--fps 0", "more than 0")),
    ("sample --format avi", 2, ("--format", "avi")),
    ("sample --size 20", 2, ("--size 20", "28 or more")),
    ("sample --steps 0", 2, ("--steps", "greater than or equal to 1")),
    ("explore --n 5000", 2, ("--n", "do not fit")),
    ("evaluate --model LARGER", 2, ("give --dataset, such as --dataset PATH",)),
    ("evaluate --model LARGER --dataset mnist", 2, ("1 × 32 × 32", "1 × 28 × 28")),
    ("evaluate --features incepton", 2, ("--features incepton", "did you mean 'inception'")),
    ("evaluate --features numpy:nothing", 2, ("--features numpy:nothing", "MODULE:FUNCTION")),
    ("evaluate --features nomodule:f", 2, ("--features nomodule:f", "MODULE:FUNCTION")),
    ("evaluate --model TINY --classes", 2, ("--classes", "takes no class labels")),
    ("evaluate --guidance 2", 2, ("--guidance 2 needs classes", "give --classes too")),
    ("evaluate --classes --guidance nan", 2, ("--guidance nan", "finite")),
    ("evaluate --option snr=1", 2, ("--option snr", "Valid names: last_order")),
    ("evaluate --eta 0.5 --method dpmpp_2m", 2, ("--eta", "--kind sde")),
    ("evaluate --eta -1", 2, ("--eta -1", "≥ 0")),
    ("evaluate --n 99", 2, ("--n", "100")),
    ("likelihood --eps 2", 2, ("--eps 2", "below 1")),
    ("likelihood --eps 0", 2, ("--eps 0", "above 0")),
    ("likelihood --eps -1e-5", 2, ("--eps -1e-05", "above 0")),
    ("likelihood --convention truncated", 2, ("--convention truncated", "truncated-normal")),
    ("likelihood --convention variational --steps 9", 2, ("--steps 9", "nothing is solved")),
    ("likelihood --draws 4", 2, ("--draws 4 with --convention uniform", "leave it out")),
    ("likelihood --model LARGER", 2, ("give --dataset, such as --dataset PATH",)),
    ("likelihood --model LARGER --dataset mnist", 2, ("1 × 32 × 32", "1 × 28 × 28")),
    ("atlas --clock t", 2, ("--clock", "give it too")),
    ("atlas --option last_order=1", 2, ("--option", "give it too")),
    ("atlas --method ddim --clock karas", 2, ("--clock karas", "did you mean 'karras'")),
    ("atlas --model mnist --model mnist", 2, ("--model", "given twice")),
    ("atlas --model nope.safetensors", 1, ("--model nope.safetensors", "no such file")),
    ("atlas --n 99", 2, ("--n", "100")),
    ("work-precision --option snr=1", 2, ("--option snr", "last_order")),
    ("work-precision --budget 0", 2, ("--budget", "greater than or equal to 1")),
    ("work-precision --method em --method dopri5", 2, ("--method", "one kind")),
    ("train --out new --class-dropout 2", 2, ("--class-dropout 2", "expected")),
    ("train --out new --batch-size 70000", 2, ("--batch-size 70000", "samples")),
]  # fmt: skip


@pytest.fixture
def nothing_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr(ScoreModel, "forward", computed)
    monkeypatch.setattr(ScoreModel, "denoise", computed)
    monkeypatch.setattr("diffsde.evaluation.features.features_of", computed)


@pytest.mark.usefixtures("nothing_computes")
@pytest.mark.parametrize(("line", "code", "words"), BAD, ids=[line for line, _, _ in BAD])
def test_bad_input_is_answered_before_anything_is_computed(
    line: str,
    code: int,
    words: tuple[str, ...],
    tmp_path: Path,
    tiny: Path,
    larger: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    (tmp_path / "FILE").touch()
    (tmp_path / "FOLDER").mkdir()
    arguments = line.replace("TINY", str(tiny)).replace("LARGER", str(larger)).split()
    if arguments[0] == "train" and "--out" not in arguments:
        arguments += ["--out", "run"]
    started = time.process_time()
    done = run(*arguments)
    assert time.process_time() - started < SECONDS
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"FILE", "FOLDER"}


def test_a_film_without_its_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    done = run("sample", "--format", "webm", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "pip install 'diffsde[video]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_evaluation_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    done = run("evaluate", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "pip install 'diffsde[metrics]'" in done.stderr


def test_a_fresh_process_answers_in_time(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "diffsde", "likelihood", "--eps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert "--eps 2" in done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("rtol = -1.0: expected a number ≥ 0", "--rtol -1.0: expected a number ≥ 0"),
        ("Give steps=, ts=, or save=", "Give --steps, ts=, or save="),
        ("euler takes fixed steps only: leave adaptive out", None),
        ("choose a smaller batch_size or held_out", "choose a smaller --batch-size or held_out"),
        ("clock='sigma' needs σ(t): use clock='t'", "--clock sigma needs σ(t): use --clock t"),
        ("at t = 0.3 after 5 steps", "at t = 0.3 after 5 steps"),
        ("runs/batch_size = 3.csv: no such file", "runs/batch_size = 3.csv: no such file"),
        ("budgets [0]", "budgets [0]"),
    ],
)
def test_messages_speak_of_options(message: str, told: str | None) -> None:
    names = ("rtol", "steps", "adaptive", "batch_size", "clock", "budget")
    options = {name: f"--{name.replace('_', '-')}" for name in names}
    expected = told or "euler takes fixed steps only: leave --adaptive out"
    assert in_options(message, options) == expected
