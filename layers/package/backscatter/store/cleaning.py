"""What was begun and never finished: found by its intent, taken up again where that is possible, else taken away.

Whoever is about to write items that are listed later declares his intent first. A function lives two minutes, a
message is delivered five times in an hour; what is older than ABANDONED, not listed, and not begun anew was given up.
It is condemned first, and taken away by a later pass: whoever begins meanwhile sees that and leaves it to another
delivery, and whoever began before has listed it by then, or is dead. So nobody's items are taken away under his hands.

    pk  intents                 sk  TIME#CAPTURE, TIME in ns with 20 digits
    pk  capture#ID              sk  condemned
    pk  cleaning                sk  bookmark: all intents before it are settled

Intents expire by themselves: an intent that was carried out costs one write unit and no other call.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from backscatter.errors import StoreError
from backscatter.store.captures import capture_id, part_key, part_name, relist
from backscatter.store.catalogue import CaptureObject
from backscatter.store.frame import expand, squeeze
from backscatter.store.items import EXPIRES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backscatter.store.items import Items

SECOND = 10**9
MINUTE = 60 * SECOND

#: After this long (ns) nobody is at it any more.
ABANDONED = 120 * MINUTE
#: Between condemning and taking away (ns): longer than a function lives, shorter than the time between two passes.
GRACE = 10 * MINUTE
#: Intents, and what condemns, go by themselves after this long (s).
_KEEP = 7 * 24 * 3600
#: Intents that one pass looks at.
MOST = 10_000

_INTENTS = "intents"
_BOOKMARK = ("cleaning", "bookmark")
_SHELVES_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody is about to write.

    source   the object
    begun    when, ns
    shelves  how many parts each bucket of its segments has
    part     of a capture that is shared out: which part it is; -1 for all of a capture, or for the sharing out itself
    shared   whether it is the sharing out of a capture: then there are no segments of its own
    listing  the keys under which the capture is listed afterwards
    """

    source: CaptureObject
    begun: int
    shelves: tuple[int, ...] = ()
    part: int = -1
    shared: bool = False
    listing: tuple[tuple[str, str], ...] = ()

    @property
    def capture(self) -> str:
        """The id of the capture."""
        return capture_id(self.source)


def declare(items: Items, intent: Intent) -> None:
    """Declare an intent, before anything is written. Raises StoreError where the capture is condemned just now."""
    items.put_all([_item(intent)])
    if is_condemned(items, intent.capture):
        raise StoreError(f"{intent.source.key} is being taken away, since nobody finished it for hours: try again")


def is_condemned(items: Items, capture: str) -> bool:
    """Whether a capture is being taken away."""
    return bool(items.get_all([_condemned_key(capture)]))


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a pass did: captures whose listing was finished, those taken up again, condemned, and taken away."""

    finished: int = 0
    revived: int = 0
    condemned: int = 0
    removed: int = 0


class Owner(Protocol):
    """Whoever writes what is cleaned up. Where a method raises, the next pass goes on."""

    def revive(self, intent: Intent) -> bool:
        """Take up the sharing out of a capture again and declare that anew, if it is worth trying; whether it was."""
        ...

    def forsake(self, intent: Intent) -> None:
        """Hear of a capture that is about to be taken away."""
        ...

    def finish(self, intent: Intent) -> None:
        """Hear of a capture that is listed, since whoever listed it may have been killed before he did the rest."""
        ...


def clean(items: Items, now: int, owner: Owner) -> Cleaned:
    """One pass over the intents that are old enough."""
    since = _bookmark(items)
    old = _intents(items, since, now - ABANDONED)
    fresh = {intent.capture for intent in _intents(items, now - ABANDONED + 1, now + ABANDONED, most=sys.maxsize)}
    listed = _listed(items, {intent.capture for intent in old})
    counts = {"finished": 0, "revived": 0, "condemned": 0, "removed": 0}
    settled_to = now - ABANDONED if len(old) < MOST else old[-1].begun - 1
    done: set[str] = set()
    for intent in old:
        if intent.capture in done:
            continue
        if intent.capture in fresh and intent.capture not in listed:
            # Somebody is at it. What he leaves undone will have to be taken away with what was left before.
            settled_to = min(settled_to, intent.begun - 1)
            continue
        done.add(intent.capture)
        outcome = _settle(items, [one for one in old if one.capture == intent.capture], now, listed, owner)
        if outcome in counts:
            counts[outcome] += 1
        if outcome in ("revived", "condemned", "waiting"):
            settled_to = min(settled_to, intent.begun - 1)
    pk, sk = _BOOKMARK
    items.put_all([{"pk": pk, "sk": sk, "until": settled_to}])
    return Cleaned(**counts)


def _settle(
    items: Items,
    intents: Sequence[Intent],
    now: int,
    listed: set[str],
    owner: Owner,
) -> str:
    """What becomes of a capture that nobody is at any more, given all that was declared of it."""
    capture = intents[0].capture
    condemned = items.get_all([_condemned_key(capture)])
    shared = [intent for intent in intents if intent.shared]
    if capture in listed:
        if shared:
            owner.finish(shared[-1])
        if condemned:
            items.delete(*_condemned_key(capture))
        return "listed"
    if any(relist(items, intent.listing) for intent in intents):
        owner.finish(intents[-1])
        return "finished"
    if shared and not condemned and owner.revive(shared[-1]):
        return "revived"
    if not condemned:
        pk, sk = _condemned_key(capture)
        items.put_all([{"pk": pk, "sk": sk, "at": now, EXPIRES: now // SECOND + _KEEP}])
        return "condemned"
    at: Any = condemned[0]["at"]
    if now - at < GRACE:
        return "waiting"
    owner.forsake(intents[-1])
    for intent in intents:
        for pk, sk in _written(items, intent):
            items.delete(pk, sk)
    items.delete(*_condemned_key(capture))
    return "removed"


def _written(items: Items, intent: Intent) -> Iterator[tuple[str, str]]:
    """The keys of what an intent may have led to."""
    name = intent.capture if intent.part < 0 else part_name(intent.capture, intent.part)
    for bucket, parts in enumerate(intent.shelves):
        for part in range(parts):
            for item in list(items.query(f"flows#{name}#{bucket}#{part}")):
                yield str(item["pk"]), str(item["sk"])
    if intent.part >= 0:
        yield part_key(intent.capture, intent.part)


def _listed(items: Items, captures: Iterable[str]) -> set[str]:
    keys = {(f"capture#{capture}", "listed"): capture for capture in captures}
    return {keys[str(item["pk"]), str(item["sk"])] for item in items.get_all(list(keys))}


def _intents(items: Items, since: int, until: int, most: int = MOST) -> list[Intent]:
    found = []
    for item in items.query(_INTENTS, f"{max(0, since):020d}", f"{max(0, until):020d}#~"):
        found.append(_intent(item))
        if len(found) == most:
            break
    return found


def _bookmark(items: Items) -> int:
    for item in items.get_all([_BOOKMARK]):
        until: Any = item["until"]
        return int(until) + 1
    return 0


def _condemned_key(capture: str) -> tuple[str, str]:
    return f"capture#{capture}", "condemned"


def _item(intent: Intent) -> dict[str, object]:
    source = intent.source
    return {
        "pk": _INTENTS,
        "sk": f"{intent.begun:020d}#{intent.capture}#{intent.part}",
        "object": [source.bucket, source.key, source.version],
        "shelves": squeeze(json.dumps(intent.shelves).encode()),
        "part": intent.part,
        "shared": intent.shared,
        "listing": [list(key) for key in intent.listing],
        EXPIRES: intent.begun // SECOND + _KEEP,
    }


def _intent(item: Mapping[str, Any]) -> Intent:
    try:
        bucket, key, version = item["object"]
        shelves = tuple(json.loads(expand(item["shelves"], _SHELVES_LARGEST)))
        begun = int(item["sk"].partition("#")[0])
        listing = tuple((str(pk), str(sk)) for pk, sk in item["listing"])
        return Intent(CaptureObject(bucket, key, version), begun, shelves, item["part"], item["shared"], listing)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{item.get('pk')} {item.get('sk')}: the intent cannot be read: {error!r}") from error
