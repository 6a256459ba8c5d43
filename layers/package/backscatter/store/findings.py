"""Findings as they are kept: who they are, what was decided, what was told.

    pk                sk             holds
    finding#KEY       state          what is known; small, since it is written under a lock again and again
    finding#KEY       finding#HASH   the finding as JSON text
    finding#KEY       verdict#HASH   a verdict as JSON text
    waiting#HOUR|DAY  KEY            that a capture of this time, if it can hold one of these hosts, matters to KEY
    due               TIME#KEY       when KEY is to be looked at again, whatever comes
    later             TIME#CAPTURE   when findings are to be judged again that CAPTURE can hold one end of only

Texts are filed under the hash of what they say, and the state names the one that counts: two judges at once write side
by side, and the state decides between them. Whatever the state does not name goes by time to live.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backscatter.errors import StoreError
from backscatter.finding.serial import finding_from
from backscatter.flow.record import rfc3339
from backscatter.flow.window import Window
from backscatter.store.catalogue import DAY, HOUR, SECOND
from backscatter.store.items import EXPIRES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backscatter.finding.model import Finding
    from backscatter.store.items import Items

#: Characters of a verdict's JSON text.
VERDICT_LARGEST = 250_000
#: Characters of what stands beside it for people.
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a finding. Times in ns since 1970-01-01 UTC.

    key         names it in the store
    finding     as it came last
    text        hash of the finding's text
    hosts       keyed hashes of the hosts that it is about; empty for any host
    window      in which captures matter to it
    lock        counts the writes of the state: a write is made on condition of it
    judged      the verdict's hash; "" where the finding has not been judged since it came or was updated
    revision    how many pieces of news there were; the notice of each carries it
    told        the last revision whose notice went out
    gist        what the last piece of news said (`store.news.gist`); None where there was none
    turned_from the label of the piece of news before it; "" where there was none
    lease_until until when somebody is telling the news
    due         when it is to be looked at again; 0 for never
    patience_until  until when missing captures are waited for
    final_at    from when on captures do not change it any more
    expires_at  seconds
    heard       which channels heard the last piece of news already, where others did not take it
    ends        how many of `hosts` are the one end of its conversations, the rest being the other end; 0 where a
                capture of any of them matters at once
    tries       how often it was taken up in a row without a verdict coming of it
    """

    key: str
    finding: Finding
    text: str
    hosts: tuple[int, ...]
    window: Window
    lock: int
    judged: str
    revision: int
    told: int
    gist: dict[str, object] | None
    turned_from: str
    lease_until: int
    due: int
    patience_until: int
    final_at: int
    expires_at: int
    heard: tuple[str, ...] = ()
    ends: int = 0
    tries: int = 0

    @property
    def notice_id(self) -> str:
        """Names one piece of news: a notice that is repeated carries the same one."""
        return f"{self.key}-{self.revision}"

    @property
    def untold(self) -> bool:
        """There is news whose notice did not go out yet."""
        return self.told < self.revision


def finding_key(finding: Finding) -> str:
    """The name of a finding in the store: the same for every update of it."""
    return text_hash(json.dumps([finding.source, finding.id, finding.account, finding.region]))


def recall(items: Items, key: str) -> State | None:
    """What is known of a finding; None where nothing is. Raises StoreError where it cannot be read."""
    return next(recall_all(items, [key]), None)


def recall_all(items: Items, keys: Iterable[str]) -> Iterator[State]:
    """The states of those keys that there are. Raises StoreError for one that cannot be read, behind all others.

    A text is written before the state that names it, so where it is missing time to live took it, and the state is as
    good as gone.
    """
    states = items.get_all([(f"finding#{key}", "state") for key in dict.fromkeys(keys)])
    texts = {
        (str(item["pk"]), str(item["sk"])): str(item["text"])
        for item in items.get_all([(str(state["pk"]), f"finding#{state['text']}") for state in states])
    }
    damaged = []
    for state in states:
        text = texts.get((str(state["pk"]), f"finding#{state['text']}"))
        if text is None:
            continue
        try:
            known = _state(state, text)
        except StoreError as error:
            damaged.append(error)
        else:
            yield known
    if damaged:
        raise damaged[0]


def forget(items: Items, key: str, now: int) -> None:
    """Remove the state of a finding where its time is over: time to live deletes late, and its texts before it."""
    for state in items.get_all([(f"finding#{key}", "state")]):
        if int(str(state[EXPIRES])) * SECOND <= now:
            items.delete(f"finding#{key}", "state")


def verdict_of(items: Items, state: State) -> dict[str, Any] | None:
    """The record of the verdict that counts; None where there is none."""
    found = items.get_all([(f"finding#{state.key}", f"verdict#{state.judged}")]) if state.judged else []
    return json.loads(str(found[0]["text"])) if found else None


def revised(state: State, **changes: Any) -> State:
    """The state after one more write."""
    return dataclasses.replace(state, lock=state.lock + 1, **changes)


def state_item(state: State) -> dict[str, object]:
    """The state as an item, with what people want to read first."""
    finding = state.finding
    return {
        "pk": f"finding#{state.key}",
        "sk": "state",
        "hosts": [f"{host:016x}" for host in state.hosts],
        "window": [state.window.start, state.window.end],
        "gist": state.gist,
        "heard": list(state.heard),
        "ends": state.ends,
        "tries": state.tries,
        EXPIRES: state.expires_at,
        **{name: getattr(state, name) for name in _PLAIN},
        "title": shown(finding.title),
        "source": shown(finding.source),
        "id": shown(finding.id),
        "seen": [None if time is None else rfc3339(time) for time in (finding.first_seen, finding.last_seen)],
    }


#: Fields of the state that are attributes as they are.
_PLAIN = (
    *("text", "lock", "judged", "revision", "told", "turned_from"),
    *("lease_until", "due", "patience_until", "final_at"),
)


def finding_item(state: State, text: str) -> dict[str, object]:
    """The finding's own item; `text` is its `finding_text`."""
    return {"pk": f"finding#{state.key}", "sk": f"finding#{text_hash(text)}", "text": text, EXPIRES: state.expires_at}


def verdict_item(state: State, record: Mapping[str, Any], text: str) -> dict[str, object]:
    """A verdict's own item; `text` is its `verdict_text`."""
    return {
        "pk": f"finding#{state.key}",
        "sk": f"verdict#{text_hash(text)}",
        "text": text,
        "verdict": shown(str(record["verdict"])),
        "band": shown(str(record["band"])),
        "summary": shown(str(record.get("summary", ""))),
        EXPIRES: state.expires_at,
    }


def verdict_text(record: Mapping[str, Any], largest: int = VERDICT_LARGEST) -> str:
    """A verdict record as JSON of at most `largest` characters.

    Flows that find no room are left out, then packets; numbers and sentences stay. Raises StoreError where that is not
    enough.
    """
    text = _json(record)
    flows = list(record.get("flows", ()))
    while len(text) > largest and flows:
        flows = flows[: len(flows) // 2]
        text = _json({**record, "flows": flows})
    if len(text) > largest:
        evidence = [{**each, "packets": []} for each in record.get("evidence", ())]
        text = _json({**record, "flows": [], "evidence": evidence})
    if len(text) > largest:
        raise StoreError(f"a verdict has {len(text)} characters without flows and packets, {largest} are kept")
    return text


def waiting_items(state: State, most_days: int = 62) -> list[dict[str, object]]:
    """By which hours or, for a long window, days a capture finds the finding.

    Of a window of more than `most_days` the latest days are taken.
    """
    common = {
        "sk": state.key,
        "hosts": [f"{host:016x}" for host in state.hosts],
        "ends": state.ends,
        "window": [state.window.start, state.window.end],
        EXPIRES: state.final_at // SECOND,
    }
    hours = hours_of(state.window)
    periods = list(map(_hour, hours)) if len(hours) <= 6 else list(map(_day, days_of(state.window)[-most_days:]))
    return [{"pk": f"waiting#{period}", **common} for period in periods]


def waiting_partitions(window: Window) -> list[str]:
    """The partitions that a capture of this span has to look at."""
    return [f"waiting#{period}" for period in (*map(_hour, hours_of(window)), *map(_day, days_of(window)))]


def hours_of(window: Window) -> range:
    """The hours since 1970 that the window touches."""
    return range(window.start // HOUR, window.end // HOUR + 1)


def days_of(window: Window) -> range:
    """The days since 1970 that the window touches."""
    return range(window.start // DAY, window.end // DAY + 1)


def due_key(state: State) -> tuple[str, str]:
    """Where the schedule has it."""
    return "due", f"{state.due:020d}#{state.key}"


def due_item(state: State) -> dict[str, object]:
    """Its entry in the schedule."""
    pk, sk = due_key(state)
    return {"pk": pk, "sk": sk, EXPIRES: state.expires_at}


def shown(text: str) -> str:
    """Text of others beside what is read by us: short, and of characters that every encoder takes."""
    return text[:_SHOWN].encode("utf-8", "replace").decode()


def _state(item: Mapping[str, Any], text: str) -> State:
    try:
        return State(
            key=str(item["pk"]).partition("#")[2],
            finding=finding_from(text),
            hosts=tuple(int(host, 16) for host in item["hosts"]),
            window=Window(*item["window"]),
            gist=item["gist"],
            expires_at=item[EXPIRES],
            heard=tuple(item.get("heard", ())),
            ends=item.get("ends", 0),
            tries=item.get("tries", 0),
            **{name: item[name] for name in _PLAIN},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{item.get('pk')}: the state of a finding cannot be read: {error!r}") from error


def _hour(hour: int) -> str:
    return rfc3339(hour * HOUR)[:13]


def _day(day: int) -> str:
    return rfc3339(day * DAY)[:10]


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), sort_keys=True)


def text_hash(text: str) -> str:
    """Names a text by what it says."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
