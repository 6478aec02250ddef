"""The report of what was lost says the truth, in every script."""

from __future__ import annotations

import json

import pytest

from langchain_tokenopt.compress.loss import loss_between, numbers_of


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("v2.4.1 is out, see RFC-5321.", ["v2.4.1", "RFC-5321"]),
        ("It fell to -5, then to \u22127 or +3 %.", ["-5", "\u22127", "+3 %"]),
        ("3-5 days from 5 May 2026 at 10:30", ["3-5 days", "5 May 2026", "10:30"]),
        ("$1,200.50 of 1 000 and 3,14", ["$1,200.50", "1", "000", "3", "14"]),
        ("[7,8,9] and x=5", ["7", "8", "9", "5"]),
        ("192.168.4.20:80 in node12", ["192.168.4.20:80", "node12"]),
        ("在2019年开放了3.5公里", ["2019", "3.5"]),
        ("no number", []),
    ],
)
def test_numbers_are_whole(text, numbers):
    """With sign, currency, version and unit."""
    assert numbers == numbers_of(text)


def test_another_number_with_the_same_digits_is_another():
    """Neither a part nor the opposite of a number keeps it."""
    loss = loss_between("It fell to -5 in v2.4.1 by 25 %.", "It is 5 in 4.1 by 5 %.")

    assert set(loss.numbers.lost) == {"-5", "v2.4.1", "25 %"}


@pytest.mark.parametrize(
    "sentence",
    [
        "He never paid", "Er zahlt nicht", "Il ne paie pas", "No pagó nada", "Non paga mai",
        "Ele não paga", "Hij betaalt niet", "Он не платит", "他不付钱", "彼は払わない",
        "돈을 내지 않는다",
        "वह नहीं देता", "لم يدفع",
    ],
)  # fmt: skip
def test_negations_are_seen_in_every_language(sentence):
    """A lost one is told, a kept one is not."""
    other = "Rain. "
    lost = loss_between(f"{other}{sentence}.", other).negations
    kept = loss_between(f"{other}{sentence}.", f"{sentence}.").negations

    assert (lost.before, len(lost.lost)) == (kept.before, kept.before)
    assert lost.before >= 1
    assert kept.lost == ()


def test_what_is_only_written_otherwise_is_not_lost():
    """JSON in fewer tokens says the same."""
    rows = [{"id": n, "note": f"Never pay {n}.5 EUR", "ids": [n, n + 1]} for n in range(3)]
    table = {"columns": ["id", "note", "ids"], "data": [list(row.values()) for row in rows]}
    for after in (json.dumps(rows, separators=(",", ":")), json.dumps(table)):
        loss = loss_between(json.dumps(rows, indent=2), after)

        assert (loss.numbers.lost, loss.negations.lost) == ((), ())
