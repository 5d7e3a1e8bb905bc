"""One thread for each test process, and the nightly size of the tests.

pytest-xdist runs as many processes as there are cores. `pytest --thorough` takes hours: laws with
ten times the samples, 10,000 damaged inputs for each reader, 50 kills, the examples as a user runs
them, and the tests that are marked `thorough`, such as all mutations.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

from tests import problems

# No test needs a network, and without one the hub's client tries again for half a minute.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

settings.register_profile("quick", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=10_000, deadline=None, database=None)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="the nightly size: see tests/conftest.py"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: too long for every day; --thorough runs it")
    if config.getoption("thorough"):
        settings.load_profile("thorough")
        problems.be_thorough()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("thorough"):
        items[:] = [item for item in items if item.get_closest_marker("thorough") is None]
