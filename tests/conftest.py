"""One thread for each test process: pytest-xdist runs as many processes as there are cores."""

from __future__ import annotations

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
