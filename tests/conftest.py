"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with golden outputs and footage that is too large for the repository.

    ``VFI_TEST_DATA`` names it; a checkout with a ``shared`` folder beside it needs nothing.
    """
    folder = Path(os.environ.get("VFI_TEST_DATA", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip("golden outputs and footage are not on this machine (VFI_TEST_DATA)")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Pictures of tests are small: threads would wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
