"""Several processes: what they build is what one would have built, whatever becomes of them."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest

from backscatter.flow.cores import over
from backscatter.flow.table import FLOW, FLOW_QUOTE

PARTS = list(range(50))


def a_part(number: int):
    """As many rows as the number says, and as many quotes less one, that tell which process made them."""
    rows, quotes = np.zeros(number, FLOW), np.zeros(max(number - 1, 0), FLOW_QUOTE)
    rows["start"], rows["end"] = number, os.getpid()
    quotes["count"] = number
    return rows, quotes


def assert_whole(made) -> set[int]:
    """Everything is there, in order; returns who made it."""
    makers: set[int] = set()
    for number, (rows, quotes) in zip(PARTS, made, strict=True):
        assert rows["start"].tolist() == [number] * number
        assert quotes["count"].tolist() == [number] * max(number - 1, 0)
        makers |= set(rows["end"].tolist())
    return makers


def test_every_process_does_its_share_and_the_order_stays():
    assert assert_whole(over(PARTS, a_part)) == {os.getpid()}
    makers = assert_whole(over(PARTS, a_part, 3))
    assert os.getpid() in makers
    assert len(makers) == 3


def test_what_a_forked_process_could_not_do_is_done_here():
    here = os.getpid()

    def work(number: int):
        if number > 10 and os.getpid() != here:
            raise MemoryError
        return a_part(number)

    assert len(assert_whole(over(PARTS, work, 2))) == 2


def test_errors_are_those_of_this_process():
    def work(number: int):
        if number == 7:
            raise ValueError("part 7")
        return a_part(number)

    with pytest.raises(ValueError, match="part 7"):
        list(over(PARTS, work, 2))


@pytest.mark.parametrize("processes", [2, 5])
def test_processes_end_where_nobody_wants_more(monkeypatch, processes):
    """Also where each holds the pipes of others, which are full."""
    forked, fork = [], os.fork
    monkeypatch.setattr(os, "fork", lambda: forked.append(fork()) or forked[-1])
    made = over(PARTS, lambda number: a_part(10_000 + number), processes)
    assert [len(next(made)[0]) for _ in range(3)] == [10_000, 10_001, 10_002]
    made.close()
    assert len(forked) == processes - 1
    for process in forked:
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)


def test_where_the_system_forks_no_more_all_is_done_here(monkeypatch):
    forked, fork = [], os.fork

    def second_fails():
        if forked:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        forked.append(fork())
        return forked[-1]

    monkeypatch.setattr(os, "fork", second_fails)
    assert assert_whole(over(PARTS, a_part, 3)) == {os.getpid()}
    with pytest.raises(ChildProcessError):
        os.waitpid(forked[0], os.WNOHANG)


def test_few_parts_and_a_process_with_threads_go_without():
    assert {int(rows["end"][0]) for rows, _ in over([1] * 9, a_part, 2)} == {os.getpid()}
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert assert_whole(over(PARTS, a_part, 2)) == {os.getpid()}
    finally:
        done.set()
        thread.join()
