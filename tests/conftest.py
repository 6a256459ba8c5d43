"""Shared fixtures. Captures and alerts that others made lie in ../shared; their tests skip visibly without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The suite is the same at every run: what random examples find by chance is looked for with HYPOTHESIS_PROFILE=explore
# (and by `make fuzz`), not by whoever happens to land a change.
# How long one example takes says more of the machine than of the code: what must be fast is measured by tests of its own.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of real captures."""
    folder = SHARED / "captures"
    if not folder.is_dir():
        pytest.skip("../shared/captures is not here: real captures are not tested")
    return folder
