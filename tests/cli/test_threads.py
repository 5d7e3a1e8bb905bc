"""Threads are chosen before torch is loaded: later, waiting threads could not be told to sleep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from diffsde.cli import report
from diffsde.cli.app import COMMANDS, main

class Reached(BaseException):
    pass

def stop(threads):
    raise Reached

report.use_threads = stop
for name in COMMANDS:
    out = "page.html" if name in ("explore", "likelihood") else "folder"
    if name == "solvers":
        continue  # it computes nothing
    sys.argv = ["diffsde", name, "--out", out]
    try:
        main()
    except Reached:
        print(name, "torch" in sys.modules)
"""


def test_every_command_that_computes_chooses_threads_before_torch_is_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout.split("\n")[:-1] == [
        f"{name} False"
        for name in (
            "gallery", "sample", "explore", "evaluate", "likelihood", "work-precision", "atlas",
            "train",
        )
    ]  # fmt: skip
