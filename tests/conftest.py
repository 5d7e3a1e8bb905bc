"""One thread for each test process: pytest-xdist runs as many processes as there are cores.

`pytest --hypothesis-profile=thorough` gives every fuzzed reader 2,000 inputs.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

settings.register_profile("quick", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=2000, deadline=None, database=None)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills",
        type=int,
        default=5,
        help="how often test_kill kills a training, and test_launch half as often a process (5)",
    )
