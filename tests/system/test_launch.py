"""Several processes give what one gives, write it once, and do not wait for the dead."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffsde.errors import InputError
from diffsde.system.launch import chosen_device, divided, from_each, share
from diffsde.system.tensorfile import read_tensors

# Chunks of another size, sums in another order, and noise of another device change float32 by 1e-6,
# and the small networks here carry that on.
ROUNDING = 1e-4
SECONDS = re.compile(r'"seconds":[0-9.e-]+')


def test_launches(
    tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """One test, since pytest-xdist would launch everything anew for each of several."""
    pytest.importorskip("torchmetrics")
    kills = 25 if pytestconfig.getoption("thorough") else 2
    launched(tmp_path, kills)
    for count in (2, 3):
        check_that_any_number_of_processes_gives_what_one_gives(tmp_path, count)
    check_that_results_are_printed_once(tmp_path)
    line = check_that_the_other_process_ends_when_one_is_killed(tmp_path, kills)
    check_that_a_process_that_fails_ends_the_other_one(tmp_path)
    with capsys.disabled():
        print(f"\n{line}")


def launched(folder: Path, kills: int) -> None:
    """Let `tests.ranks` fill the folder; what it prints is in the file `printed`."""
    command = [sys.executable, "-m", "tests.ranks", str(folder), str(kills)]
    root, env = Path(__file__).parents[2], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=400)
    (folder / "printed").write_text(done.stdout)
    said = folder / "said"
    assert done.returncode == 0, done.stderr + (said.read_text() if said.exists() else "")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_rows(path: Path, other: Path) -> None:
    """Two tables with the same cells, numbers to rounding, but for the times."""
    for row, wanted in zip(rows(path), rows(other), strict=True):
        assert row.keys() == wanted.keys()
        for name in row.keys() - {"seconds"}:
            try:
                number = float(wanted[name])
            except ValueError:
                assert row[name] == wanted[name], name
            else:
                near = pytest.approx(number, rel=ROUNDING, nan_ok=True)
                assert float(row[name]) == near, name


def without_time(notes: dict[str, Any]) -> str:
    return SECONDS.sub("", json.dumps(notes, sort_keys=True).replace(" ", ""))


def assert_close(tensor: Tensor, other: Tensor) -> None:
    """Equal to rounding, which may carry a few pixels of images in 256 levels to the next one."""
    apart = (tensor.double() - other.double()).abs()
    if tensor.dtype == torch.uint8:
        assert apart.max() <= 1
        assert (apart > 0).double().mean() < 1e-3
    else:
        assert torch.allclose(tensor.double(), other.double(), rtol=ROUNDING, atol=1e-5)


def assert_same_files(folder: Path, wanted: Path) -> None:
    """The files of a folder hold what those of the same names in another one do, but the time."""
    for name in files(folder):
        ours, theirs = folder / name, wanted / name
        if name.endswith(".safetensors"):
            (tensors, notes), (others, other_notes) = read_tensors(ours), read_tensors(theirs)
            assert without_time(notes) == without_time(other_notes), name
            assert tensors.keys() == others.keys()
            for key, tensor in tensors.items():
                assert_close(tensor, others[key])
        elif name.endswith(".csv"):
            assert_same_rows(ours, theirs)
        else:  # pictures and pages, in whose numbers rounding and the time show
            assert ours.stat().st_size == pytest.approx(theirs.stat().st_size, rel=0.02), name


def check_that_any_number_of_processes_gives_what_one_gives(launches: Path, count: int) -> None:
    one, several = launches / "1", launches / str(count)
    assert f"{count} processes:{' 0' * count}" in (launches / "printed").read_text()
    assert "ensemble.safetensors" in files(several)
    assert files(several) == files(one) if count == 2 else files(several) < files(one)
    assert_same_files(several, one)


def check_that_results_are_printed_once(launches: Path) -> None:
    said = (launches / "said").read_text()
    assert said.count(f"wrote {launches}/2/likelihood.safetensors") == 1
    assert said.count(f"wrote {launches}/2/gallery/index.html") == 1


def check_that_the_other_process_ends_when_one_is_killed(launches: Path, kills: int) -> str:
    printed = (launches / "printed").read_text()
    (line,) = re.findall(r"(\d+) kills, after each of which .* within ([\d.]+) s", printed)
    assert int(line[0]) == kills
    assert float(line[1]) < 10  # of which a busy machine may need a few
    # What was drawn before the kills was kept, and the scores are those of an undisturbed run.
    assert printed.count("whole: 0 0") >= 1
    scores = "evaluation/scores.csv"
    assert_same_rows(launches / "killed" / scores, launches / "whole" / scores)
    return printed.strip().splitlines()[-2]


def check_that_a_process_that_fails_ends_the_other_one(launches: Path) -> None:
    assert "codes: 1 1" in (launches / "printed").read_text()
    said = (launches / "said").read_text()
    assert "diffsde (1 of 2): no room on this device" in said
    assert "diffsde (0 of 2): another process of this launch has ended" in said
    assert "scores.csv" not in {Path(name).name for name in files(launches / "failed")}


def test_one_process_does_everything_itself() -> None:
    assert list(share(range(5))) == [0, 1, 2, 3, 4]
    assert divided(range(3), lambda k: k * k) == [0, 1, 4]
    assert list(from_each("own")) == ["own"]


@pytest.mark.parametrize("name", ["", "gpu", "meta", "cpu:x"])
def test_a_device_that_there_is_not(name: str) -> None:
    with pytest.raises(InputError, match=f"device = '{name}' cannot be used here .*expected .*cpu"):
        chosen_device(name)


def test_the_cpu_is_there() -> None:
    assert chosen_device("cpu") == torch.device("cpu")
    if not torch.accelerator.is_available():
        assert chosen_device() == torch.device("cpu")
