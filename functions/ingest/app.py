"""Capture objects become flows. Triggered by IngestQueue."""

from __future__ import annotations

from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Take a batch of object events; answer which of them failed."""
    return {"batchItemFailures": []}
