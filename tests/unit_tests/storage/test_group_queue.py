"""Changes that share a transaction: alone with what they change, told when it is on the disk."""

from __future__ import annotations

import itertools
import linecache
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_tokenopt.storage import group_queue
from langchain_tokenopt.storage.errors import PostgresError
from langchain_tokenopt.storage.group_queue import GroupQueue


class Books:
    """Numbers that transactions change: committed all at once, durable after that."""

    def __init__(self, most_groups=4, wait_seconds=20.0):
        self.committed = Counter()
        self.durable = Counter()
        self.sizes = []
        self.busy = set()
        self.fails = False
        self.opening = threading.Event()
        self.may_open = threading.Event()
        self.may_open.set()
        self.queue = GroupQueue(self._open, most_groups, wait_seconds)

    @contextmanager
    def _open(self, wishes):
        places = {place for wish in wishes for place in wish}
        assert not places & self.busy, "two transactions at once"
        self.busy |= places
        self.sizes.append(len(wishes))
        self.opening.set()
        try:
            assert self.may_open.wait(10)
            if self.fails:
                raise OSError("no server")
            yield Transaction(self, places)
        finally:
            self.busy -= places

    def add(self, *places, raises=None):
        """Add one in each place."""
        with self.queue.turn(places, frozenset(places)) as shared:
            assert not shared.is_used, "two in it at once"
            shared.is_used = True
            time.sleep(0)
            if raises is None:
                shared.own.update(places)
            shared.is_used = False
            if raises is not None:
                raise raises
        assert all(self.durable[place] for place in places)


class Transaction:
    """What is changed together."""

    def __init__(self, books, places):
        self.books = books
        self.places = places
        self.own = Counter()
        self.is_used = False

    def commit(self):
        self.books.committed += self.own
        self.books.busy -= self.places

    def flush(self):
        self.books.durable += self.own


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), min_size=1, max_size=40))
def test_every_change_is_made_once(changes):
    """Whoever waits for whom, alone with its places, and durable when it returns."""
    books = Books()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda places: books.add(*places), changes))

    assert Counter(place for places in changes for place in places) == books.durable
    assert len(changes) == sum(books.sizes)


def _waiting(books, count):
    deadline = time.monotonic() + 10
    while len(books.queue._waiting) < count and time.monotonic() < deadline:
        time.sleep(0.001)


def test_those_who_wait_go_together():
    """Three came while the first was at it."""
    books = Books()
    books.may_open.clear()
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(books.add, "a")
        assert books.opening.wait(10)
        others = [threads.submit(books.add, "a", number) for number in range(3)]
        _waiting(books, 3)
        books.may_open.set()
        for each in (first, *others):
            each.result(10)

    assert [1, 3] == books.sizes
    assert 4 == books.durable["a"]


def test_a_change_that_fails_takes_nobody_with_it():
    """In the same transaction, first or last, also by Ctrl-C."""
    for kind in (ValueError, KeyboardInterrupt):
        books = Books()
        books.may_open.clear()
        with ThreadPoolExecutor(4) as threads:
            first = threads.submit(books.add, "a")
            assert books.opening.wait(10)
            raising = threads.submit(books.add, "a", raises=kind("mine"))
            _waiting(books, 1)
            others = [threads.submit(books.add, "a") for _ in range(2)]
            _waiting(books, 3)
            books.may_open.set()
            with pytest.raises(kind, match="mine"):
                raising.result(10)
            for each in (first, *others):
                each.result(10)
        assert (3, [1, 3]) == (books.durable["a"], books.sizes)


def test_all_hear_of_a_transaction_that_fails():
    """And the next one is tried anew."""
    books = Books()
    books.may_open.clear()
    books.fails = True
    with ThreadPoolExecutor(4) as threads:
        each = [threads.submit(books.add, "a") for _ in range(4)]
        assert books.opening.wait(10)
        _waiting(books, 3)
        books.may_open.set()
        for future in each:
            with pytest.raises(OSError, match="no server"):
                future.result(10)
    books.fails = False
    books.add("a")
    assert 1 == books.durable["a"]


def test_who_stands_still_holds_up_only_who_wants_the_same(monkeypatch):
    """Others go on after a moment, and nobody who came later overtakes one who waits."""
    monkeypatch.setattr(group_queue, "_PATIENCE_SECONDS", 0.02)
    books = Books()
    still = threading.Event()
    inside = threading.Event()

    def stand_still():
        with books.queue.turn(("a",), frozenset("a")) as shared:
            inside.set()
            still.wait(10)
            shared.own.update("a")

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(stand_still)
        assert inside.wait(10)
        second = threads.submit(books.add, "a", "b")
        _waiting(books, 1)
        third = threads.submit(books.add, "b")
        threads.submit(books.add, "c").result(10)
        assert not second.done()
        assert not third.done()
        still.set()
        for each in (first, second, third):
            each.result(10)
    assert {"a": 2, "b": 2, "c": 1} == books.durable


def test_nobody_waits_for_ever(monkeypatch):
    """Who has waited long enough is told so, and the others go on."""
    monkeypatch.setattr(group_queue, "_PATIENCE_SECONDS", 0.01)
    books = Books(wait_seconds=0.1)
    books.may_open.clear()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(books.add, "a")
        assert books.opening.wait(10)
        with pytest.raises(PostgresError, match=r"for 0 seconds\. Try again"):
            books.add("a")
        books.may_open.set()
        first.result(10)
    books.add("a")
    assert 2 == books.durable["a"]


@pytest.mark.parametrize("interrupted", range(3))
@pytest.mark.parametrize("when", ["waiting", "its turn"])
def test_who_gives_up_leaves_no_gap(monkeypatch, interrupted, when):
    """While it waits, or when it was to lead or to follow."""
    books = Books()
    books.may_open.clear()
    wait = books.queue._wait
    tickets = {}

    def give_up(ticket):
        tickets[ticket.wish[-1]] = ticket
        wait(ticket)
        if ticket.wish[-1] == interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(books.queue, "_wait", give_up)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(books.add, "a", "first")
        assert books.opening.wait(10)
        each = [threads.submit(books.add, "a", number) for number in range(3)]
        _waiting(books, 3)
        if when == "waiting":
            tickets[interrupted].turn.set()
            with pytest.raises(KeyboardInterrupt):
                each[interrupted].result(10)
        books.may_open.set()
        first.result(10)
        for number, future in enumerate(each):
            if number == interrupted:
                with pytest.raises(KeyboardInterrupt):
                    future.result(10)
            else:
                future.result(10)
    books.add("a", "last")
    assert 4 == books.durable["a"]


def test_others_hear_that_who_led_them_was_interrupted(monkeypatch):
    """Ctrl-C reaches the main thread only; the others may try again."""
    books = Books()

    def interrupt(_self):
        raise KeyboardInterrupt

    books.may_open.clear()
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(books.add, "a")
        assert books.opening.wait(10)
        others = [threads.submit(books.add, "a") for _ in range(3)]
        _waiting(books, 3)
        monkeypatch.setattr(Transaction, "commit", interrupt)
        books.may_open.set()
        errors = [type(each.exception(10)) for each in (first, *others)]
    assert [KeyboardInterrupt] * 2 + [PostgresError] * 2 == sorted(errors, key=str)
    monkeypatch.undo()
    books.add("a")
    assert 1 == books.durable["a"]


def test_one_who_stands_still_keeps_nobody_for_ever(monkeypatch):
    """Whether it leads or follows: the others are told, and go on without it."""
    monkeypatch.setattr(group_queue, "_PATIENCE_SECONDS", 0.02)
    for place in range(3):
        monkeypatch.setattr(group_queue, "_MOMENT_SECONDS", 10)  # until all three are here
        books = Books(wait_seconds=0.3)
        books.queue._expected = 3
        still, inside = threading.Event(), threading.Event()

        def stand_still(books=books, still=still, inside=inside):
            with books.queue.turn(("a",), frozenset("a")) as shared:
                inside.set()
                assert still.wait(10)
                shared.own.update("a")

        books.may_open.clear()
        with ThreadPoolExecutor(3) as threads:
            changes = [lambda books=books: books.add("a")] * 2
            changes.insert(place, stand_still)
            each = []
            for number, change in enumerate(changes):
                each.append(threads.submit(change))
                _here(books, number + 1)
            books.may_open.set()
            assert inside.wait(10)
            monkeypatch.setattr(group_queue, "_MOMENT_SECONDS", 0)
            others = [one for number, one in enumerate(each) if number != place]
            assert all(isinstance(one.exception(10), PostgresError) for one in others)
            if place == 0:  # whose locks the server has taken away
                time.sleep(0.35)
                books.busy.clear()
            books.add("a")
            assert 1 == books.durable["a"]
            still.set()
            assert (place == 0) == (each[place].exception(10) is None)
        assert [] == books.queue._tickets


def _here(books, count):
    deadline = time.monotonic() + 10
    while len(books.queue._tickets) < count and time.monotonic() < deadline:
        time.sleep(0.001)


def _interrupted_at(step, run):
    """Call *run* with Ctrl-C before a line of the queue; whether there are so many lines."""
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if frame.f_code.co_filename != group_queue.__file__:
            return None
        text = linecache.getline(group_queue.__file__, frame.f_lineno).strip()
        if event == "line" and not text.startswith("with self._lock"):  # left by that line, too
            lines += 1
            if lines == step:
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return lines >= step


def test_ctrl_c_at_any_line_leaves_nobody_waiting(monkeypatch):
    """In the thread that leads others: each is told or goes on, and the queue is as it was."""
    monkeypatch.setattr(group_queue, "_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(group_queue, "_MOMENT_SECONDS", 0.03)
    for step in itertools.count(1):
        books = Books()
        books.queue._expected = 3
        with ThreadPoolExecutor(3) as threads:
            lead = threads.submit(_interrupted_at, step, lambda books=books: books.add("a"))
            others = [threads.submit(books.add, "a") for _ in range(2)]
            goes_on = lead.result(10)
            errors = [each.exception(10) for each in others]
        assert {type(None), PostgresError} >= {*map(type, errors)}
        assert [] == books.queue._tickets
        books.add("a")
        assert books.durable["a"] > errors.count(None)
        if not goes_on:
            break
    assert step > 40


def test_a_program_that_ends_waits_for_nobody(monkeypatch):
    """Daemon threads stand still then, and would never give their turn back."""
    books = Books()
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    with pytest.raises(PostgresError, match="about to end"):
        books.add("a")
