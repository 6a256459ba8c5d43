"""Shared fixtures. Captures and alerts that others made lie in ../shared; their tests skip visibly without it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of real captures."""
    folder = SHARED / "captures"
    if not folder.is_dir():
        pytest.skip("../shared/captures is not here: real captures are not tested")
    return folder
