"""Captures of floods, made: who answered whom, amid ordinary traffic that proves that the capture was whole."""

from __future__ import annotations

from tests.verdict.tape import Tape

from backscatter.demo.wire import tcp
from backscatter.flood.answers import Answers, unsolicited
from backscatter.flow.window import Window

VICTIM, OURS = "198.51.100.7", "10.0.0.5"
ALWAYS = Window(0, 1 << 62)


def answered(tape: Tape, at: float, *, victim=VICTIM, port=80, ours=OURS, our_port=4000, ack=500, refused=True, **more):
    """A SYN+ACK of a victim to us, and our refusal."""
    tape.add(at, tcp(victim, port, ours, our_port, "SA", seq=9, ack=ack, **more))
    if refused:
        tape.add(at + 0.001, tcp(ours, our_port, victim, port, "R", seq=ack))
    return tape


def whole(*hosts: str, until: float = 700) -> Tape:
    """A capture of ten minutes and more in which some of our hosts go about their business."""
    tape = Tape()
    for number, host in enumerate(hosts or (OURS,)):
        tape.ordinary(number * 0.3, until, host=host)
    return tape


def answers_in(tape: Tape, *, home=(), cuts=()) -> Answers:
    scene = tape.scene(cuts)
    return unsolicited(scene.table, scene.censuses(ALWAYS), home)
