"""Fixtures shared by all tests."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _single_thread():
    torch.set_num_threads(1)


@pytest.fixture
def generator():
    """A fresh random stream, the same for every test."""
    return torch.Generator().manual_seed(20240611)
