"""What holds for every word limit and every answer."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.limits.excerpt import Excerpt, Limit
from langchain_tokenopt.limits.markdown import Scanner
from langchain_tokenopt.limits.request_line import language_asked_in, room_for
from langchain_tokenopt.text.words import WordCounter, count_words
from tests.support.answers import LANGUAGES, answer, pieces_of

pytestmark = pytest.mark.exhaustive

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])

answers = st.integers(0, 2**32).map(answer)
noise = st.text(
    st.sampled_from(list("aB1 .!?…,:;-*_`~#>|()[]\"'“”„«»\n\n\t  。！、「」字か\x00\u200b👍")),
    max_size=200,
)
texts = st.one_of(answers, noise, st.text(max_size=200))
limits = st.integers(1, 120)


def excerpt(text: str, limit: Limit) -> str:
    shown = Excerpt(limit, _tokens)
    return shown.feed(text) + shown.finish()


def _tokens(text: str) -> int:
    return counter_for("gpt-4o").count(text).tokens


@settings(max_examples=300, deadline=None)
@given(texts, limits)
def test_never_more_words_than_allowed(text, words):
    """Whatever the text is made of."""
    assert count_words(excerpt(text, Limit(words=words))) <= words


@settings(max_examples=100, deadline=None)
@given(texts, limits)
def test_never_more_tokens_than_allowed(text, tokens):
    """The ellipsis and what closes markup included."""
    assert _tokens(excerpt(text, Limit(tokens=tokens))) <= tokens


@settings(max_examples=200, deadline=None)
@given(texts)
def test_what_fits_is_unchanged(text):
    """To the byte, at a limit of exactly its length."""
    words = max(1, count_words(text))

    assert text == excerpt(text, Limit(words=words))
    assert text == excerpt(text, Limit(tokens=max(1, _tokens(text))))


@settings(max_examples=200, deadline=None)
@given(texts, limits, st.integers())
def test_pieces_make_no_difference(text, words, seed):
    """A stream shows what the whole shows, however it is divided."""
    shown = Excerpt(Limit(words=words))

    streamed = "".join(map(shown.feed, pieces_of(text, random.Random(seed)))) + shown.finish()

    assert excerpt(text, Limit(words=words)) == streamed


@settings(max_examples=200, deadline=None)
@given(texts, limits)
def test_more_room_never_shows_less(text, words):
    """A larger limit shows at least as many words."""
    smaller, larger = (excerpt(text, Limit(words=n)) for n in (words, words + 1))

    assert count_words(smaller) <= count_words(larger)


@settings(max_examples=200, deadline=None)
@given(texts, limits)
def test_what_is_shown_is_the_beginning(text, words):
    """Only an ellipsis and what closes markup come after."""
    shown = excerpt(text, Limit(words=words))
    common = next((i for i, (a, b) in enumerate(zip(shown, text, strict=False)) if a != b), None)
    added = "" if common is None else shown[common:]

    assert count_words(added) == 0


@settings(max_examples=200, deadline=None)
@given(answers, limits)
def test_units_are_whole_and_markdown_stays_valid(text, words):
    """Every block that is shown is one of the answer's, to its end; only the first may be cut."""
    shown = excerpt(text, Limit(words=words))

    assert [] == flaws(text, shown)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(10, 150), st.sampled_from(LANGUAGES))
def test_max_tokens_never_cuts_what_the_word_limit_allows(seed, words, language):
    """The room left for words holds the tokens of any answer of so many words."""
    shown = excerpt(answer(seed, language), Limit(words=words))

    for model in ("gpt-4o", "gpt-4"):
        assert counter_for(model).count(shown).tokens <= room_for(words, language)
        assert counter_for(model).count(shown).tokens <= room_for(words, language_asked_in(shown))


@settings(max_examples=100, deadline=None)
@given(texts)
def test_boundaries_move_forward(text):
    """A unit ends after the one before it, behind what has been read, never after a space."""
    scanner, last = Scanner(), 0
    for at, char in enumerate(text):
        boundary = scanner.read(char)
        if boundary is not None:
            assert last < boundary.at <= at
            assert not text[boundary.at - 1].isspace()
            last = boundary.at


@settings(max_examples=100, deadline=None)
@given(texts)
def test_words_begin_and_end_in_order(text):
    """Each word has a place of its own."""
    counter = WordCounter()
    for char in text:
        counter.read(char)

    assert counter.starts == sorted(set(counter.starts))
    assert all(start < end for start, end in zip(counter.starts, counter.ends, strict=True))


def flaws(text: str, shown: str) -> list[str]:
    """Say what is wrong with an excerpt, as a Markdown parser sees it."""
    if shown == text:
        return []
    found = []
    original, excerpted = MARKDOWN.parse(text), MARKDOWN.parse(shown)
    lines = shown.split("\n")
    for token in excerpted:
        if token.type == "fence" and token.map is not None:
            closing = lines[min(token.map[1], len(lines)) - 1].strip(" >-")
            if not closing.startswith(token.markup) or token.map[1] - token.map[0] < 2:
                found.append(f"open fence {token.markup!r}")
    whole = {kind: _blocks(original, kind) for kind in _KINDS}
    for kind in _KINDS:
        found += [
            f"{kind} is not whole: {block!r}"
            for block in _blocks(excerpted, kind)
            if block not in whole[kind] and "…" not in block
        ]
    paragraphs = [t.content for t in excerpted if t.type == "inline"]
    last = paragraphs[-1] if paragraphs else ""
    is_whole = not last or last in {t.content for t in original if t.type == "inline"}
    if not is_whole and "…" not in last and last.rstrip('*_~`"”“»」）)')[-1:] not in _SENTENCE_ENDS:
        found.append(f"ends within a sentence: {last!r}")
    if _stray_marks(excerpted) > _stray_marks(original):
        found.append(f"emphasis is open: {shown!r}")
    return found


_SENTENCE_ENDS = set(".!?。！？")
_KINDS = {"item": ("list_item_open",), "row": ("tr_open",), "code": ("fence",)}


def _blocks(tokens: list[Token], kind: str) -> list[str]:
    """Return the first paragraph of each item, the cells of each row, each line of code."""
    blocks = []
    for at, token in enumerate(tokens):
        if token.type not in _KINDS[kind]:
            continue
        if kind == "code":
            blocks += token.content.split("\n")
        elif kind == "row":
            end = next(i for i in range(at, len(tokens)) if tokens[i].type == "tr_close")
            blocks.append("|".join(t.content for t in tokens[at:end] if t.type == "inline"))
        else:
            inline = next((t for t in tokens[at : at + 3] if t.type == "inline"), None)
            blocks.append(inline.content if inline else "")
    return blocks


def _stray_marks(tokens: list[Token]) -> int:
    """Count emphasis marks that a parser takes for text."""
    inline = (child for token in tokens for child in token.children or ())
    return sum(child.content.count("**") for child in inline if child.type == "text")
