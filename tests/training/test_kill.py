"""Nothing is lost: training that is killed at random moments, and disks that refuse a write.

A training is killed 5 times, and with `pytest --thorough tests/training/test_kill.py` 50 times.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffsde.errors import CheckpointError, InputError, TrainingError
from diffsde.system.files import remove_leftovers, written_whole
from diffsde.system.tensorfile import read_tensors
from diffsde.training import loop
from diffsde.training.loop import train
from diffsde.training.run_folder import RunFolder
from tests import launched


def newest(folder: Path) -> Path:
    return RunFolder(folder, 1).newest()


def test_a_training_killed_at_random_moments_ends_as_if_it_had_not_been(
    tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = 50 if pytestconfig.getoption("thorough") else 5
    command = [sys.executable, "-m", "tests.killed", str(tmp_path), str(kills)]
    root, env = Path(__file__).parents[2], {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{kills} kills" in done.stdout
    assert " 0 failures" in done.stdout, done.stderr[-3000:]
    with capsys.disabled():
        print(f"\n{done.stdout.strip()}")
    whole, notes = read_tensors(newest(tmp_path / "whole"))
    cuts = sorted(tmp_path.glob("cut*"))
    assert cuts
    for cut in cuts:
        again, same_notes = read_tensors(newest(cut))
        assert whole.keys() == again.keys()
        for name, tensor in whole.items():
            assert torch.equal(tensor, again[name]), name
        assert {**notes, "seconds": 0} == {**same_notes, "seconds": 0}
        assert not list(cut.glob(".*")), "a killed write left its file"
        models = [load_file(run / "model.safetensors") for run in (cut, tmp_path / "whole")]
        assert all(torch.equal(models[0][name], tensor) for name, tensor in models[1].items())


# -- disks and folders that refuse a write -------------------------------------------

TWO = replace(launched.RECIPE, epochs=2)


def begun(folder: Path, epochs: int = 1) -> dict[str, bytes]:
    """Train one epoch, and return the contents of the folder."""
    recipe = replace(TWO, epochs=epochs, schedule="constant")
    train(folder, launched.images(), recipe, start_from=launched.small_model(3), progress=False)
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def go_on(folder: Path) -> None:
    recipe = replace(TWO, schedule="constant")
    train(folder, launched.images(), recipe, resume=True, progress=False)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    return tmp_path / "elsewhere"


def assert_rescued(error: TrainingError, folder: Path, elsewhere: Path) -> None:
    """The state that could not be saved is elsewhere, and the run can be resumed from it."""
    (rescued,) = elsewhere.glob("diffsde-*/state-*.safetensors")
    assert str(rescued) in str(error)
    assert read_tensors(rescued)[1]["step"] == 8
    shutil.copy(rescued, folder)
    go_on(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB, if this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk(small_disk: Path, elsewhere: Path) -> None:
    folder = small_disk / "run"
    before = begun(folder)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "ballast").write_bytes(bytes(free - 200_000))  # a state takes 600,000
    with pytest.raises(TrainingError, match=r"not be saved at update 8 .*before is whole") as found:
        go_on(folder)
    after = contents(folder)
    assert all(after[name] == data for name, data in before.items() if name.startswith("state"))
    assert not [name for name in after if name.startswith(".")]
    (small_disk / "ballast").unlink()
    assert_rescued(found.value, folder, elsewhere)


def test_a_folder_that_has_become_read_only(small_disk: Path) -> None:
    folder = small_disk / "run"
    before = begun(folder)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(TrainingError, match="nothing can be written there .*[Rr]ead-only"):
        go_on(folder)
    assert contents(folder) == before
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    go_on(folder)


def test_a_disk_that_refuses_everything(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = begun(tmp_path / "run")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffsde.system.tensorfile.save_file", full)
    with pytest.raises(TrainingError, match=rf"No space left.*not be written to {elsewhere}"):
        go_on(tmp_path / "run")
    assert contents(tmp_path / "run") == before


def test_a_place_that_cannot_be_written_to_is_known_before_the_first_update(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(TrainingError, match="nothing can be written there"):
        begun(tmp_path / "file" / "run")


def test_removed_and_damaged_states(tmp_path: Path) -> None:
    begun(tmp_path)
    state = newest(tmp_path)
    whole = state.read_bytes()
    state.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match=state.name):
        go_on(tmp_path)
    # Once the damaged state is gone, the run resumes from the one before.
    state.unlink()
    go_on(tmp_path)
    assert read_tensors(newest(tmp_path))[1]["step"] == 8
    for path in RunFolder(tmp_path, 1).states():
        path.unlink()
    with pytest.raises(CheckpointError, match="no state-"):
        go_on(tmp_path)


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_states_are_kept(
    keep: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVE_EVERY", 1)
    train(
        tmp_path,
        launched.images(),
        replace(TWO, epochs=4),
        start_from=launched.small_model(3),
        keep=keep,
        progress=False,
    )
    steps = [read_tensors(path)[1]["step"] for path in RunFolder(tmp_path, 1).states()]
    assert steps == [4, 8, 12, 16][-keep:]


def test_keep_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep = 0"):
        train(tmp_path, launched.images(), TWO, keep=0)


def test_leftovers_of_a_killed_write_are_removed_and_nothing_else(tmp_path: Path) -> None:
    names = ["a.png", ".a.png", ".b.png", ".b.png.unfinished-x", "a.png.unfinished-y"]
    for name in names:
        (tmp_path / name).touch()
    with written_whole(tmp_path / "a.png") as left:  # as a killed process leaves it
        shutil.copytree(left.parent, f"{left.parent}copy")
        left.touch()
    assert len(list(tmp_path.iterdir())) == len(names) + 1
    remove_leftovers(tmp_path / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_files_are_as_readable_as_any(tmp_path: Path) -> None:
    """safetensors writes files that only their owner may read."""
    (tmp_path / "any").touch()
    begun(tmp_path / "run")
    modes = {path.stat().st_mode for path in [*(tmp_path / "run").iterdir(), tmp_path / "any"]}
    assert len(modes) == 1
