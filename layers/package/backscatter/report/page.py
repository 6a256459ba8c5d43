"""A verdict as one self-contained HTML page: nothing is loaded from anywhere, so it can be filed with the case."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2

from backscatter.report import ladder, text
from backscatter.report.advice import ADVICE, meaning, steps
from backscatter.report.escape import plain
from backscatter.report.record import verdict_record
from backscatter.verdict.model import Label
from backscatter.verdict.words import end_text

if TYPE_CHECKING:
    from backscatter.verdict.model import Verdict

#: Which colour a verdict's badge has: real things are loud, an open question is not calm.
TONES = {
    Label.CONNECTION_ESTABLISHED: "real",
    Label.CONNECTION_ATTEMPTED: "real",
    Label.INBOUND_CONNECTION: "real",
    Label.REFLECTION_TARGET: "real",
    Label.UNDETERMINED: "open",
    Label.SYNACK_SCAN: "scan",
    Label.INBOUND_SCAN: "scan",
    Label.BACKSCATTER: "calm",
    Label.NOT_APPLICABLE: "none",
}


def page(verdict: Verdict) -> str:
    """The page, as text to be written in UTF-8."""
    return template("page.html").render(
        verdict=verdict,
        finding=verdict.finding,
        headline=ADVICE[verdict.label].headline,
        meaning=meaning(verdict),
        tone=TONES[verdict.label],
        certainty=text.certainty_text(verdict),
        why=verdict.why.value.replace("_", " ") if verdict.why else "",
        steps=steps(verdict),
        window=text.window_text(verdict.finding),
        counts=text.counts_text(verdict),
        total=sum(verdict.conversations.values()),
        effects=[
            (title, effect.value, [piece for piece in verdict.evidence if piece.effect is effect])
            for effect, title in text.EFFECTS.items()
        ],
        ladder=ladder.ladder(verdict),
        drawing=ladder,
        flows=_flows(verdict),
    )


def page_name(verdict: Verdict) -> str:
    """A file name for the page: safe on every file system, the same for the same finding and update."""
    finding = verdict.finding
    key = repr((finding.source, finding.id, finding.updated))
    readable = re.sub(r"[^A-Za-z0-9]+", "-", finding.id[-40:]).strip("-")
    stem = "-".join(part for part in (verdict.label.value, finding.source, readable) if part)
    return f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.html"


def _flows(verdict: Verdict) -> list[dict[str, Any]]:
    flows: list[dict[str, Any]] = verdict_record(verdict)["flows"]
    return flows


@cache
def template(name: str) -> jinja2.Template:
    """A template beside this file, whose values are escaped and which may name nothing that it was not given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("backscatter.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=plain, clock=text.clock_text, end=end_text)
    return environment.get_template(name)
