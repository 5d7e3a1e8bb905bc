"""The lowest versions that are tried are those that setup.cfg allows."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRIED_EXTRAS = ("tensorboard", "metrics", "xarray", "pandas")


def pinned(text: str, sign: str) -> dict[str, tuple[int, ...]]:
    """The versions of packages in lines `name sign version`."""
    found = re.findall(rf"^(\w+) {sign} ([\d.]+)$", text, re.MULTILINE)
    return {name: tuple(map(int, version.split("."))) for name, version in found}


def padded(version: tuple[int, ...]) -> tuple[int, ...]:
    return (*version, 0, 0)[:3]


def test_every_lower_bound_is_tried() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = [config["options"]["install_requires"]]
    lines += [config["options.extras_require"][extra] for extra in TRIED_EXTRAS]
    bounds = pinned("\n".join(lines), ">=")
    tried = pinned((ROOT / "tests" / "lowest.txt").read_text("utf-8"), "==")
    assert len(bounds) >= 18
    assert {k: padded(v) for k, v in tried.items()} == {k: padded(v) for k, v in bounds.items()}
