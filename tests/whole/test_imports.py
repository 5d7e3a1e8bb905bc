"""What a fresh process loads, and what the package shows of itself."""

from __future__ import annotations

import ast
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import diffsde

SLOW = {
    "accelerate",
    "diffsde.training.loop",
    "imageio",
    "matplotlib",
    "scipy",
    "torchvision",
}
RUN_COMMAND = "sys.argv[0] = 'diffsde'; from diffsde.cli.app import main; main()"


def loaded(program: str, *arguments: str, **environment: str) -> set[str]:
    """The modules that a fresh process has loaded when the program ends."""
    report = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    done = subprocess.run(
        [sys.executable, "-c", f"{report}\n{program}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return set(done.stderr.split())


def test_importing_the_package_loads_nothing_slow() -> None:
    modules = loaded("import diffsde")
    assert "diffsde" in modules
    assert not modules & {*SLOW, "torch"}


def test_a_file_s_network_is_built_without_the_compiler() -> None:
    """On the meta device, some operations load it, which takes longer than all else."""
    modules = loaded(
        "import torch; from diffsde import VESDE\n"
        "from diffsde.scores.networks import NETWORKS, make_network\n"
        "with torch.device('meta'):\n"
        "    for name in NETWORKS: make_network(name, VESDE())\n"
        "    for name in ('ResidualUNet', 'MLP'): make_network(name, VESDE(), classes=3)\n"
        "    make_network('ResidualUNet', VESDE(), waves=(8, 16))"
    )
    assert "torch" in modules
    assert "torch._dynamo" not in modules


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["solvers", "--help"]])
def test_the_command_shows_itself_without_torch(arguments: list[str]) -> None:
    modules = loaded(RUN_COMMAND, *arguments)
    assert "diffsde.cli.app" in modules
    assert not modules & {*SLOW, "torch"}


@pytest.mark.parametrize(
    ("words", "unused"),
    [("diffsde sam", {*SLOW, "torch"}), ("diffsde sample --clock k", SLOW)],
)
def test_completion_loads_only_what_it_completes(words: str, unused: set[str]) -> None:
    modules = loaded(
        RUN_COMMAND,
        _DIFFSDE_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )
    assert "diffsde.cli.app" in modules
    assert not modules & unused


def test_dir_shows_the_public_names_and_the_folders() -> None:
    stub = ast.parse(Path(diffsde.__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [line for line in stub.body if isinstance(line, ast.ImportFrom)]
    names = {alias.name for line in imports if line.module for alias in line.names}
    folders = {module.name for module in pkgutil.iter_modules(diffsde.__path__)} - {"__main__"}
    assert dir(diffsde) == sorted(names | folders)
    for name in names:
        assert getattr(diffsde, name).__module__.startswith("diffsde."), name
    assert dir(diffsde) == sorted(names | folders), "loading a name shows nothing more"
