"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from tree import ROOT

# The same examples in every run; no deadline, because machines differ.
settings.register_profile("drawbar", derandomize=True, deadline=None)
settings.load_profile("drawbar")


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """The folder of the larger data sets (``mnist/``, ``fashion-mnist/``): ``DRAWBAR_DATA``, else
    ``../shared/data`` beside the repository. The test is skipped where there is none.
    """
    named = os.environ.get("DRAWBAR_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if named and not folder.is_dir():
        pytest.fail(f"DRAWBAR_DATA names no folder: {named}")
    if not folder.is_dir():
        pytest.skip("no data sets here: set DRAWBAR_DATA to a folder that holds mnist/")
    return folder
