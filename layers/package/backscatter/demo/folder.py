"""A temporary folder that is gone afterwards, though what wrote into it was killed a moment ago."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: How long processes that were killed may still write.
PATIENCE_SECONDS = 5.0


def remove(folder: Path) -> None:
    """Remove a folder. Grandchildren that were killed cannot be waited for, and may write until they are gone."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
