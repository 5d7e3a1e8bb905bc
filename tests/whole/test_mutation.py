"""The table of mutations keeps up with the code that it changes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests import mutation
from tests.mutation import MUTATIONS, ROOT, Mutation, main


@pytest.mark.parametrize("one", MUTATIONS, ids=[m.name for m in MUTATIONS])
def test_its_text_and_its_tests_are_there(one: Mutation) -> None:
    assert one.found() == 1, f"{one.file}: {one.old!r} was not found exactly once"
    assert one.new != one.old
    for path in one.paths:
        file, *name = path.split("::")
        text = (ROOT / file).read_text("utf-8")
        function = re.sub(r"\[.*", "", name[0]) if name else "test_"
        assert f"def {function}" in text, path


@pytest.mark.thorough
def test_every_mutation_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = main([]), capsys.readouterr().out
    assert code == 0, said
    with capsys.disabled():
        print(f"\nmutations: {said.splitlines()[-1]}")


def test_names_are_their_own() -> None:
    assert max(Counter(m.name for m in MUTATIONS).values()) == 1


def two(name: str, old: str, new: str) -> Mutation:
    return Mutation(name, "two.py", old, new, "test_two.py")


@pytest.fixture
def small_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one function, one test, and a mutation for every verdict."""
    for name in ("diffsde", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\n")
    (tmp_path / "diffsde" / "two.py").write_text("def two() -> int:\n    return 2\n")
    (tmp_path / "tests" / "test_two.py").write_text(
        "from diffsde.two import two\n\n\ndef test_two() -> None:\n    assert two() > 1\n"
    )
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    table = two("seen", "2", "1"), two("unseen", "2", "3"), two("gone", "7", "3")
    monkeypatch.setattr(mutation, "MUTATIONS", table)
    return tmp_path


def test_what_becomes_of_mutations(
    small_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = small_repository / "diffsde" / "two.py"
    before = source.read_text()
    assert main([]) == 1
    found = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert found == ["killed", "SURVIVED", "text found 0 times", found[-1]]
    assert found[-1] == "1 of 3 killed; not: unseen; not: gone"
    assert source.read_text() == before


@pytest.mark.parametrize(
    ("codes", "said", "code"),
    [
        ([0, 1], "killed", 0),
        ([0, None], "killed (time)", 0),
        ([0, 0], "SURVIVED", 1),
        ([0, 4], "not run: pytest ended with 4", 1),
        ([1], "they must pass before they can tell anything", 1),
    ],
)
def test_the_exit_code(
    codes: list[int | None],
    said: str,
    code: int,
    small_repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """First of the tests without a mutation, then of those with one."""
    coming = iter(codes)
    monkeypatch.setattr(mutation, "run_tests", lambda *_: (next(coming), "output"))
    assert main(["--only", "seen"]) == code
    assert said in capsys.readouterr().out


def test_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split("\n")[:-1] == [m.name for m in MUTATIONS]
    with pytest.raises(SystemExit):
        main(["--only", "nothing of that name"])
