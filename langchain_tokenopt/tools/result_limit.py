"""Results of tools that are too long: shortened in their own form, and said to be."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Protocol

from langchain_core.messages import ToolMessage

from langchain_tokenopt.compress.prompt_compressor import PromptCompressor
from langchain_tokenopt.core.errors import BudgetInfeasibleError, TokenOptWarning
from langchain_tokenopt.core.media import IMAGE_BLOCKS, MEDIA_BLOCKS
from langchain_tokenopt.counting.request_tokens import count_messages
from langchain_tokenopt.counting.tokens import steady_counter_of_name
from langchain_tokenopt.tools.tool_limits import Refusal, ToolCallUse

__all__ = ["CompressingLoader", "ResultLoader", "shortened_result"]

_MODEL: Final = "gpt-4o"
"""Whose tokens are counted: a tool does not know who will read it."""
_COUNTER: Final = steady_counter_of_name("o200k_base")
LEAST_RESULT: Final = 64
"""Tokens below which nothing of a result could be read beside the line that says so."""
LEAST_BLOCK: Final = 4
"""Tokens that each block of text keeps."""
LEAST_ERROR: Final = 200
"""Tokens that an error message keeps, whatever the limit."""


class ResultLoader(Protocol):
    """What shortens a result that is too long, such as one that shows it page by page.

    Behind what it returns stands a line that says how much was left out, unless the loader has an
    attribute ``says_rest`` that is true: then it says so itself.
    """

    def shorten(self, text: str, max_tokens: int, query: str | None) -> str:
        """Return *text* in *max_tokens*, with what *query* needs; JSON stays JSON."""
        ...


class CompressingLoader:
    """Keeps what the question needs, in the order in which it stood; JSON stays JSON.

    Example:
        >>> text = json.dumps([{"city": f"city {n}", "people": n} for n in range(500)])
        >>> found = json.loads(CompressingLoader().shorten(text, 200, "How many live in city 7?"))
        >>> "city 7" in json.dumps(found)
        True
    """

    def shorten(self, text: str, max_tokens: int, query: str | None) -> str:
        """Return *text* in *max_tokens*."""
        is_json = _parsed(text) is not None
        for rule in ("drop_lowest", "truncate"):
            try:
                made = _compressor(rule).compress(text, query, max(1, max_tokens)).content
            except BudgetInfeasibleError:
                continue
            is_whole = not is_json or _parsed(made) is not None
            if is_whole and made.strip() and _tokens(made) <= max_tokens:
                return made
        return _beginning(text, max_tokens, is_json=is_json)


@lru_cache
def _compressor(rule: Any) -> PromptCompressor:
    return PromptCompressor(1, tool_results="select", on_infeasible=rule, remember=0)


def _beginning(text: str, max_tokens: int, *, is_json: bool) -> str:
    """Return as much of the beginning as fits; of JSON, as a text in an object."""

    def framed(length: int) -> str:
        part = text[:length]
        if is_json:
            return json.dumps({"beginning": part}, ensure_ascii=False) if length else "{}"
        return part or "\N{HORIZONTAL ELLIPSIS}"

    low, high = 0, min(len(text), 64 * max_tokens)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _tokens(framed(middle)) <= max_tokens else (low, middle - 1)
    return framed(low)


def _first_items(items: list[Any], allowed: int) -> list[Any]:
    """Return as many of the first items as fit, and how many are left out; or none."""

    def noted(count: int) -> list[Any]:
        return [*items[:count], {"_left_out": f"{len(items) - count:,} of {len(items):,} items"}]

    low, high = 0, min(len(items), allowed)
    while low < high:
        middle = (low + high + 1) // 2
        fits = _tokens(_plain(noted(middle))) <= allowed
        low, high = (middle, high) if fits else (low, middle - 1)
    return noted(low) if low else []


def _parsed(text: str) -> Any:
    """Return the object or list that *text* is in JSON; ``None``: it is none."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _tokens(text: str) -> int:
    return _COUNTER.count(text).tokens


# One text


def _shorter(text: str, allowed: int, query: str | None, loader: ResultLoader) -> str:
    """Return *text* in so many tokens, with a line that says what was left out."""
    if getattr(loader, "says_rest", False):
        return _by(loader, text, allowed, query)
    before, after = _tokens(text), allowed
    room = allowed - _tokens(_with_note(text[:0] or "", before, allowed)) - 1
    made = ""
    for _ in range(4):
        made = _by(loader, text, max(1, room), query)
        noted = _with_note(made, before, _tokens(made))
        after = _tokens(noted)
        if after <= allowed:
            return noted
        room -= after - allowed + 2
        if room < 1:
            break
    return _by(_DEFAULT, text, allowed, query)  # no room for a line


def _by(loader: ResultLoader, text: str, max_tokens: int, query: str | None) -> str:
    """Ask the loader; where it fails, or keeps too much, the package's own."""
    if loader is not _DEFAULT:
        try:
            made = loader.shorten(text, max_tokens, query)
            if isinstance(made, str) and _tokens(made) <= max_tokens:
                return made
            reason: object = "it returned more than that"
        except Exception as error:  # noqa: BLE001  foreign code, and a result that there is
            reason = repr(error)
        warnings.warn(
            f"the loader {type(loader).__name__} could not shorten a result to {max_tokens:,} "
            f"tokens ({reason}), so PromptCompressor did.",
            TokenOptWarning,
            stacklevel=2,
        )
    return _DEFAULT.shorten(text, max_tokens, query)


_DEFAULT: Final = CompressingLoader()


def _with_note(made: str, before: int, after: int) -> str:
    note = f"shortened from {before:,} to {after:,} tokens; ask for less to see the rest"
    found = _parsed(made)
    if isinstance(found, dict):
        return json.dumps({**found, "_left_out": note}, ensure_ascii=False, separators=(",", ":"))
    if isinstance(found, list):
        noted = [*found, {"_left_out": note}]
        return json.dumps(noted, ensure_ascii=False, separators=(",", ":"))
    return f"{made}\n[{note}]"


# Whole results


@dataclass(frozen=True, slots=True)
class _Shortening:
    use: ToolCallUse
    query: str | None
    loader: ResultLoader

    def of(self, result: Any) -> Any:
        """Return a result in whatever form it has; a refusal where there is no room for it."""
        if isinstance(result, ToolMessage):
            made = self.content(result.content, is_error=result.status == "error")
            if isinstance(made, Refusal):
                return result.model_copy(update={"content": str(made), "status": "error"})
            return result if made is result.content else result.model_copy(update={"content": made})
        if _is_command(result):
            return self._command(result)
        if isinstance(result, list) and any(
            isinstance(item, ToolMessage) or _is_command(item) for item in result
        ):
            return [self.of(item) for item in result]
        is_content = isinstance(result, str) or _is_content(result)
        made = self.content(result) if is_content else self._data(result)
        return str(made) if isinstance(made, Refusal) else made

    def _command(self, command: Any) -> Any:
        update = command.update
        messages = update.get("messages") if isinstance(update, Mapping) else None
        if not isinstance(messages, list):
            return command
        made = [self.of(each) if isinstance(each, ToolMessage) else each for each in messages]
        return replace(command, update={**update, "messages": made})

    def content(self, content: Any, *, is_error: bool = False) -> Any:
        before, kept = _content_tokens(content), _media_of(content)
        media = _content_tokens(kept) if kept else 0
        wanted = self.use.most(before, media, LEAST_RESULT)
        granted = 0 if is_error else self.use.grant(wanted)  # errors are no results
        allowed = granted
        if is_error:
            allowed = max(self.use.longest_error(LEAST_ERROR), media + LEAST_RESULT)
        made = content
        if before > allowed:
            if allowed - media < (1 if media and granted == wanted else LEAST_RESULT):
                return self._no_room(granted, wanted, before)
            made = self._fitted(content, before, allowed)
            if made is None:
                made = self._in_one_text(content, kept, allowed - media)
        after = before if made is content else _content_tokens(made)
        self.use.settle(before, after, 0 if is_error else granted - after)
        return made

    def _no_room(self, granted: int, wanted: int, needed: int) -> Refusal:
        refusal = self.use.without_result(granted, wanted, needed)
        if self.use.raises:
            raise refusal.error()
        return refusal

    def _data(self, value: Any) -> Any:
        """Return a value for a program, smaller where it must be, or else as a text."""
        text = _plain(value)
        before = _tokens(text)
        wanted = self.use.most(before, 0, 0)
        granted = self.use.grant(wanted)
        made, after = value, before
        if before > granted:
            if granted < LEAST_RESULT:
                return self._no_room(granted, wanted, before)
            made = self._smaller(value, text, granted)
            after = _tokens(made if isinstance(made, str) else _plain(made))
        self.use.settle(before, after, granted - after)
        return made

    def _smaller(self, value: Any, text: str, allowed: int) -> Any:
        if type(value) in (dict, list) and _parsed(text) == value:
            for room in (allowed, allowed * 3 // 4, allowed // 2):  # spaces take tokens, too
                made = _parsed(_shorter(text, room, self.query, self.loader))
                if type(made) is type(value) and _tokens(_plain(made)) <= allowed:
                    return made
        if type(value) is list and (first := _first_items(value, allowed)):
            return first
        return _shorter(text, allowed, self.query, self.loader)

    def _in_one_text(self, blocks: list[Any], kept: list[Any], room: int) -> list[Any]:
        """Return blocks that are too many, or have no texts, as one text beside the pictures."""
        text = _plain([block for block in blocks if all(block is not each for each in kept)])
        room -= _content_tokens([{"type": "text", "text": "a"}]) - 1
        short = _shorter(text, max(1, room), self.query, self.loader)
        is_plain = all(isinstance(block, str) for block in blocks)
        return [short if is_plain else {"type": "text", "text": short}, *kept]

    def _fitted(self, content: Any, before: int, allowed: int) -> Any:
        if isinstance(content, str):
            return _shorter(content, allowed, self.query, self.loader)
        texts = [block if isinstance(block, str) else block.get("text") for block in content]
        sizes = [_tokens(text) if isinstance(text, str) else 0 for text in texts]
        whole, least = sum(sizes), LEAST_BLOCK * sum(size > 0 for size in sizes)
        room = allowed - (before - whole) - least  # pictures and the like stay
        if room < 0:
            return None
        made = []
        for block, text, size in zip(content, texts, sizes, strict=True):
            part = LEAST_BLOCK + room * size // max(whole, 1)
            if size <= part:
                made.append(block)
                continue
            short = _shorter(text, part, self.query, self.loader)
            made.append(short if isinstance(block, str) else {**block, "text": short})
        return made


def shortened_result(
    result: Any, use: ToolCallUse, query: str | None, loader: ResultLoader | None = None
) -> Any:
    """Return *result* as its limits allow it, in its own form; what fits is the same object.

    Texts are shortened, in content blocks and in messages of a ``Command`` as well; artifacts,
    pictures, audio, video and files stay. Of dicts and lists that JSON has, a smaller one is made;
    of other values that are too long, a text. Errors keep 200 tokens at least.

    Args:
        result: What the tool has returned.
        use: The call, whose limits count.
        query: What the result must answer.
        loader: Shortens texts; by default the package's compressor.

    Raises:
        ToolLimitExceededError: There is no room, and ``on_exceed`` is ``"raise"``.
    """
    return _Shortening(use, query, loader or _DEFAULT).of(result)


def _is_command(result: Any) -> bool:
    return type(result).__name__ == "Command" and hasattr(result, "update")


_BLOCKS: Final = IMAGE_BLOCKS | MEDIA_BLOCKS | {"text", "json", "search_result"}


def _is_content(result: Any) -> bool:
    return (
        isinstance(result, list)
        and bool(result)
        and all(isinstance(b, str) or (isinstance(b, dict) and _type(b) in _BLOCKS) for b in result)
    )


def _type(block: Any) -> str:
    return str(block.get("type")) if isinstance(block, dict) else ""


def _media_of(content: Any) -> list[Any]:
    """Return the blocks that stay as they are: those that hold no text."""
    if isinstance(content, str):
        return []
    return [
        block
        for block in content
        if _type(block) in IMAGE_BLOCKS | MEDIA_BLOCKS
        and not isinstance(block.get("text"), str)
        and _type(block.get("source")) not in ("text", "content")
    ]


def _plain(result: Any) -> str:
    try:
        return json.dumps(result, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(result)


def _content_tokens(content: Any) -> int:
    if isinstance(content, str):
        return _tokens(content)
    whole = count_messages([ToolMessage(content, tool_call_id="")], None, _MODEL).tokens
    return whole - _empty_tokens()


@lru_cache(maxsize=1)
def _empty_tokens() -> int:
    return count_messages([ToolMessage("", tool_call_id="")], None, _MODEL).tokens
