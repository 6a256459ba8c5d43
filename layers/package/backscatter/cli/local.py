"""From files to flows: each file is decoded once, files are gathered into sensors by their times, flows are built."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backscatter.capture.record import Damage
    from backscatter.cli.terminal import Speaker


def told_damage(name: str, damage: Iterable[Damage], speaker: Speaker) -> None:
    """Say where a file could not be read, and how much of it."""
    for one in damage:
        speaker.problem(f"{name}: byte {one.offset}: {one.length} bytes not read: {one.reason}")
