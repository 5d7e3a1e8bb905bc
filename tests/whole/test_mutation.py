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


def test_names_are_their_own() -> None:
    assert max(Counter(m.name for m in MUTATIONS).values()) == 1


@pytest.mark.parametrize(
    ("text", "old", "verdict", "code"),
    [
        ("assert 1 + 1 == two.two()", "return 2", "killed", 0),
        ("assert two.two() > 0", "return 2", "SURVIVED", 1),
        ("assert two.two() > 0", "return 7", "text found 0 times", 1),
        ("assert two.two() > 2", "return 2", "they must pass before", 1),
    ],
)
def test_what_becomes_of_a_mutation(
    text: str,
    old: str,
    verdict: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a repository of two functions."""
    (tmp_path / "diffsde").mkdir()
    (tmp_path / "tests").mkdir()
    for name in ("diffsde", "tests"):
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "setup.cfg").write_text("[tool:pytest]\n")
    source = tmp_path / "diffsde" / "two.py"
    source.write_text("def two() -> int:\n    return 2\n")
    (tmp_path / "tests" / "test_two.py").write_text(
        f"from diffsde import two\n\n\ndef test_two() -> None:\n    {text}\n"
    )
    before = source.read_text()
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    table = (Mutation("two", "two.py", old, "return 3", "test_two.py"),)
    monkeypatch.setattr(mutation, "MUTATIONS", table)
    assert main([]) == code
    assert verdict in capsys.readouterr().out
    assert source.read_text() == before
