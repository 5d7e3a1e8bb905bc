"""Every command that evaluates a network does so on the device that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffsde.views.gallery import SHOWN
from tests import ranks
from tests.cli.commands import run
from tests.emulated_device import DEVICE, Emulated
from tests.system.test_launch import assert_same_files

# As small as can be: an emulated device is slow.
COMMANDS = (
    "sample --method euler --method heun2 --steps 2 --n 2 --out OUT/samples",
    "explore --method dpmpp_2m --steps 2 --n 2 --estimates --out OUT/page.html",
    "evaluate --steps 1 --n 100 --dataset DATA --features tests.ranks:features --bootstraps 1 "
    "--out OUT/evaluation",
    "likelihood --dataset DATA --n 4 --steps 2 --chunk 3 --out OUT/likelihood.safetensors",
    "work-precision --method euler --budget 1 --n 1 --out OUT/work",
    "gallery --steps 1 --n 1 --dark --out OUT/gallery",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a small model and small data are, and an empty folder for each device."""
    found = tmp_path_factory.mktemp("devices")
    ranks.prepare(found)
    (found / "cpu").mkdir()
    (found / "device").mkdir()
    return found


@pytest.fixture(autouse=True)
def less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gallery of the two samplers that it compares, and a coarse reference."""
    monkeypatch.setattr("diffsde.views.gallery.SHOWN", SHOWN[2:4])
    monkeypatch.setattr("diffsde.analysis.budgets._MOST_FINER", 8)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[:14])
def test_a_command_computes_where_it_is_told(folder: Path, command: str) -> None:
    if command.startswith("evaluate"):
        pytest.importorskip("torchmetrics")
    words = command.replace("DATA", str(folder / "data.npz"))
    words = f"{words} --model {folder / 'model.safetensors'} --device"
    done = run(*words.replace("OUT", str(folder / "cpu")).split(), "cpu")
    assert done.returncode == 0, done.stderr
    with Emulated() as device:
        done = run(*words.replace("OUT", str(folder / "device")).split(), DEVICE)
        assert done.returncode == 0, done.stderr
        assert device.transfers > 20  # its weights, to begin with
    assert_same_files(folder / "device", folder / "cpu")
