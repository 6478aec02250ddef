"""The compressor: a runnable and a stage."""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.compress.examples import cover_labels, find_examples
from langchain_tokenopt.compress.fill import (
    Filled,
    cut_best,
    fill,
    required_only,
    vocabulary_of,
)
from langchain_tokenopt.compress.inputs import (
    DocumentsTask,
    Layout,
    MessagesTask,
    Task,
    TextTask,
    Tools,
    replaced_text,
)
from langchain_tokenopt.compress.lossless import duplicate_units
from langchain_tokenopt.compress.memory import Memory, Plan
from langchain_tokenopt.compress.report import CompressionResult, DroppedSpan
from langchain_tokenopt.compress.rerank import Reranker, reranker_for
from langchain_tokenopt.compress.roles import Reading
from langchain_tokenopt.compress.segment import Unit
from langchain_tokenopt.compress.select import Rarity, rarity_by_length, rarity_by_rank, relevance
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.errors import BudgetInfeasibleError, TokenOptWarning
from langchain_tokenopt.core.records import Saving, UsageSink
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from langchain_tokenopt.counting.model_names import ModelLike

__all__ = ["LEVELS", "PromptCompressor", "optimize_text"]

Content = TypeVar("Content")
Level = Literal["none", "balanced", "aggressive", "maximum"]
OnInfeasible = Literal["raise", "drop_lowest", "truncate"]
ToolResults = Literal["keep", "lossless", "select"]

LEVELS: dict[str, float] = {"none": 1.0, "balanced": 0.7, "aggressive": 0.5, "maximum": 0.3}
"""Share of the compressible tokens that each level keeps."""

DEFAULT_MODEL = "o200k_base"
"""Counts with the vocabulary of OpenAI's current models when no model is given."""

_IN_A_THREAD = 200_000
"""Characters from which async calls work in a thread: some 50,000 tokens, 20 ms or more."""

_NEARLY = 0.9
"""From this share of the tokens on, white space alone may do."""


class PromptCompressor(Runnable[Any, Any]):
    r"""Shorten prompts to an exact number of tokens, keeping what the question needs.

    Nothing is rewritten: sentences, rows, blocks and turns are kept or dropped whole, in their
    order, and JSON is written in fewer tokens without loss. Kept at all costs are system messages,
    the question, instructions that say must, never or only, placeholders, the running tool calls,
    and what *protect* matches. What already fits is returned as the same object.

    Type in, type out: ``str``, prompt value, message, list of messages, list of documents, or a
    state dict, of which *key* is shortened.

    Exactly one of *max_tokens*, *keep* and *level* is given. With *max_tokens* the whole content is
    fitted, old turns included. With *keep* or *level* each user message is shortened by its own
    content alone, and system messages and the model's turns stay as they are: the same conversation
    one turn later begins with the same bytes, so the provider's prompt cache keeps its discount.

    Args:
        max_tokens: Tokens that the content may have at most, counted again after the work.
        keep: Share of the compressible tokens to keep, above 0 and up to 1.
        level: ``"none"`` 1.0, ``"balanced"`` 0.7, ``"aggressive"`` 0.5, ``"maximum"`` 0.3.
        query: What the text must answer. By default the question in the content itself.
        model: Name or chat model, for counting. As a stage: the model that is called.
        reranker: ``"local"`` or any LangChain embeddings, asked about the few passages between
            which the words of the question do not decide.
        tool_results: ``"lossless"`` re-encodes JSON exactly, ``"keep"`` leaves tool results alone,
            ``"select"`` drops from them what the question does not need.
        protect: Regular expressions; units in which one matches are kept.
        on_infeasible: What happens when that which must be kept needs more than *max_tokens*:
            ``"raise"``; ``"drop_lowest"`` gives up what matters least first; ``"truncate"`` does
            that and in the end cuts the text.
        key: The state key to shorten when the input is a dict.
        sinks: Told of each saving.
        remember: Results to remember by content.
        path: SQLite file that remembers which units were kept, across processes. It holds hashes
            and positions, no text.

    Raises:
        ValueError: If the options contradict each other or are out of range.
        BudgetInfeasibleError: When called, as *on_infeasible* says.

    Example:
        >>> shorten = PromptCompressor(max_tokens=20, model="gpt-4o")
        >>> print(shorten.invoke(
        ...     "Context: The bridge was built in 1931. Tea is a drink. It was painted red. Birds "
        ...     "like it there. Ships pass below.\n\nQuestion: When was the bridge built?"
        ... ))
        Context: The bridge was built in 1931.
        Question: When was the bridge built?
    """

    phase = Phase.CONTEXT

    def __init__(
        self,
        max_tokens: int | None = None,
        *,
        keep: float | None = None,
        level: Level | None = None,
        query: str | None = None,
        model: ModelLike | None = None,
        reranker: Literal["local"] | Embeddings | None = None,
        tool_results: ToolResults = "lossless",
        protect: str | re.Pattern[str] | Iterable[str | re.Pattern[str]] = (),
        on_infeasible: OnInfeasible = "raise",
        key: str = "messages",
        sinks: Sequence[UsageSink] = (),
        remember: int = 256,
        path: str | None = None,
    ) -> None:
        _check_target(max_tokens, keep, level)
        _check_choice("tool_results", tool_results, get_args(ToolResults))
        _check_choice("on_infeasible", on_infeasible, get_args(OnInfeasible))
        if query is not None and not (isinstance(query, str) and query.strip()):
            raise ValueError(f"query must be a text that asks something, or None; got {query!r}.")
        if isinstance(remember, bool) or not isinstance(remember, int) or remember < 0:
            raise ValueError(f"remember must be a number of results, 0 or more; got {remember!r}.")
        for sink in sinks:
            if not isinstance(sink, UsageSink):
                raise TypeError(f"{sink!r} is no sink: it needs a method record(event).")
        self.max_tokens = max_tokens
        self.keep = LEVELS[level] if level is not None else keep
        self.level = level
        self.query = query
        self.model = model
        self.reranker = reranker
        self.tool_results = tool_results
        self.protect = _patterns(protect)
        self.on_infeasible = on_infeasible
        self.key = key
        self.sinks = tuple(sinks)
        self._rerank: Reranker | None = reranker_for(reranker)
        self._memory = Memory(remember, path)

    # -- runnable ---------------------------------------------------------------------------------

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return *input*, shortened; see the class.

        Raises:
            BudgetInfeasibleError: If what must be kept does not fit and *on_infeasible* says so.
        """
        return self._call_with_config(self._shorten, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As :meth:`invoke`; long inputs and rerankers are worked on in a thread.

        Raises:
            BudgetInfeasibleError: If what must be kept does not fit and *on_infeasible* says so.
        """
        return await self._acall_with_config(self._ashorten, input, config, **kwargs)

    def _shorten(self, content: Any) -> Any:
        result = self.compress(content)
        if result.reason in _WORTH_A_WARNING:
            warnings.warn(f"PromptCompressor: {result.reason}", TokenOptWarning, stacklevel=2)
        if result.saved_tokens:
            saving = self._saving(result)
            for sink in self.sinks:
                sink.record(saving)
        return result.content

    async def _ashorten(self, content: Any) -> Any:
        if self.blocking or _size_of(content) > _IN_A_THREAD:
            return await run_in_executor(None, self._shorten, content)
        return self._shorten(content)

    # -- stage ------------------------------------------------------------------------------------

    @property
    def blocking(self) -> bool:
        """True with a reranker or a file: they take longer than an event loop should wait."""
        return self._rerank is not None or self._memory.on_disk

    @cached_property
    def fingerprint(self) -> str:
        """Every setting that changes what the model is asked."""
        protect = [pattern.pattern for pattern in self.protect]
        settings = [
            self.max_tokens, self.keep, self.query, self.tool_results, protect, self.on_infeasible,
            self._rerank.fingerprint if self._rerank else None,
            model_name_of(self.model) if self.model is not None else None,
        ]  # fmt: skip
        return f"PromptCompressor{json.dumps(settings)}"

    def open(self, request: ModelRequest) -> StageCall | None:
        """Shorten the messages of a request.

        Raises:
            BudgetInfeasibleError: If what must be kept does not fit and *on_infeasible* says so.
        """
        model = request.model if self.model is None else self.model
        result = self._compressed(list(request.messages), None, None, model)
        if result.saved_tokens <= 0:
            return None
        attribution = attribution_of(request.run.metadata)
        saving = self._saving(
            result,
            run_id=request.run.run_id,
            agent=attribution.agent,
            model=model_name_of(request.model),
            observed=request.observe,
        )
        request.run.savings.append(saving)
        request.run.stages.append("PromptCompressor")
        for sink in self.sinks:
            sink.record(saving)
        return StageCall(request.override(messages=result.content))

    @staticmethod
    def _saving(result: CompressionResult[Any], **fields: Any) -> Saving:
        return Saving(
            stage="PromptCompressor",
            tokens_before=result.tokens_before,
            tokens_after=result.tokens_after,
            exact=result.exact,
            **fields,
        )

    # -- results ----------------------------------------------------------------------------------

    def compress(
        self,
        content: Content,
        query: str | None = None,
        max_tokens: int | None = None,
        *,
        model: ModelLike | None = None,
    ) -> CompressionResult[Content]:
        """Shorten *content* and say what that did.

        Args:
            content: As for :meth:`invoke`.
            query: In place of the compressor's own.
            max_tokens: In place of the compressor's own target.
            model: Whose tokens to count, in place of the compressor's own.

        Raises:
            ValueError: If *max_tokens* is below 1.
            BudgetInfeasibleError: If what must be kept does not fit and *on_infeasible* says so.

        Example:
            >>> result = PromptCompressor(keep=0.5).compress("It rained.")
            >>> result.content, result.saved_tokens, result.reason
            ('It rained.', 0, 'everything in it must be kept')
        """
        if max_tokens is not None:
            _check_target(max_tokens, None, None)
        counted = model or self.model or DEFAULT_MODEL
        return cast(
            "CompressionResult[Content]", self._compressed(content, query, max_tokens, counted)
        )

    def compress_many(
        self, contents: Sequence[Content], queries: Sequence[str | None] | str | None = None
    ) -> list[CompressionResult[Content]]:
        """Shorten several contents; what they share is segmented and counted once.

        Args:
            contents: For instance the same documents, once per question.
            queries: One per content, or one for all.

        Raises:
            ValueError: If there are not as many queries as contents.
            BudgetInfeasibleError: If what must be kept does not fit and *on_infeasible* says so.
        """
        if queries is None or isinstance(queries, str):
            queries = [queries] * len(contents)
        if len(queries) != len(contents):
            raise ValueError(
                f"compress_many() got {len(contents)} contents but {len(queries)} queries; "
                f"give one query each, one for all, or none."
            )
        return [
            self.compress(content, query) for content, query in zip(contents, queries, strict=True)
        ]

    def _compressed(
        self,
        content: Any,
        query: str | None,
        max_tokens: int | None,
        model: ModelLike,
        *,
        shares: bool = False,
    ) -> CompressionResult[Any]:
        query = query or self.query
        limit = max_tokens if max_tokens is not None else self.max_tokens
        keep = None if limit is not None else self.keep
        return _Job(self, model, query, limit, keep, shares=shares).run(content)


def optimize_text(text: str, query: str | None = None, max_tokens: int | None = None) -> str:
    """Shorten a text to *max_tokens*, or to half of what can be dropped.

    Args:
        text: A prompt or a page.
        query: What it must still answer; by default the question in the text.
        max_tokens: The limit; counted with OpenAI's current vocabulary.

    Raises:
        ValueError: If *max_tokens* is below 1.
        BudgetInfeasibleError: If what must be kept needs more than *max_tokens*.

    Example:
        >>> page = "Tea is hot. The bridge opened in 1931. Ice is cold. " * 20
        >>> optimize_text(page, "When did the bridge open?", max_tokens=12)
        'Tea is hot. The bridge opened in 1931.'
    """
    if max_tokens is None:
        return PromptCompressor(level="aggressive", remember=0).compress(text, query).content
    return PromptCompressor(max_tokens, remember=0).compress(text, query).content


# --- checks --------------------------------------------------------------------------------------


def _check_target(max_tokens: int | None, keep: float | None, level: str | None) -> None:
    given = [
        f"{name}={value!r}"
        for name, value in (("max_tokens", max_tokens), ("keep", keep), ("level", level))
        if value is not None
    ]
    if len(given) != 1:
        raise ValueError(
            f"Give exactly one of max_tokens, keep and level; got {', '.join(given) or 'none'}."
        )
    if max_tokens is not None and (
        isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1
    ):
        raise ValueError(f"max_tokens must be a whole number of at least 1; got {max_tokens!r}.")
    if keep is not None and (
        isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1
    ):
        raise ValueError(f"keep must be above 0 and at most 1 (all of it); got {keep!r}.")
    if level is not None:
        _check_choice("level", level, tuple(LEVELS))


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}.")


def _patterns(
    protect: str | re.Pattern[str] | Iterable[str | re.Pattern[str]],
) -> tuple[re.Pattern[str], ...]:
    if isinstance(protect, str | re.Pattern):
        protect = (protect,)
    compiled = []
    for pattern in protect:
        try:
            compiled.append(re.compile(pattern))
        except re.error as error:
            raise ValueError(
                f"protect holds {pattern!r}, which is no regular expression: {error}. "
                f"Use re.escape(...) for a literal text."
            ) from error
    return tuple(compiled)


def _size_of(content: Any) -> int:
    """Return roughly how many characters there are to work on."""
    if isinstance(content, str):
        return len(content)
    if isinstance(content, PromptValue):
        return _size_of(content.to_messages())
    if isinstance(content, Document):
        return len(content.page_content)
    if isinstance(content, BaseMessage):
        return (
            len(content.content) if isinstance(content.content, str) else len(str(content.content))
        )
    if isinstance(content, dict):
        return sum(map(_size_of, content.values()))
    return sum(map(_size_of, content)) if isinstance(content, list | tuple) else 0


# --- the work ------------------------------------------------------------------------------------

FITS = "it already fits"
NOTHING_TO_DROP = "everything in it must be kept"
_UNKNOWN = "this is no text, message, prompt, list of messages or documents"
_WORTH_A_WARNING = frozenset({_UNKNOWN})


@lru_cache(maxsize=16)
def _rarity_for(model: str) -> Rarity:
    vocabulary = vocabulary_of(counter_for(model))
    return rarity_by_length if vocabulary is None else rarity_by_rank(vocabulary.encode_ordinary)


def _read_afresh(
    reader: Callable[..., Reading], text: str, patterns: Sequence[re.Pattern[str]]
) -> Reading:
    return reader(text, patterns)


class _Job:
    """One content on its way through guard, lossless steps, selection and proof."""

    def __init__(
        self,
        owner: PromptCompressor,
        model: ModelLike,
        query: str | None,
        limit: int | None,
        keep: float | None,
        *,
        shares: bool = False,
    ) -> None:
        self.owner = owner
        self.query = query
        self.limit = limit
        self.keep = keep
        self.model = model_name_of(model)
        counter = counter_for(self.model)
        memory = owner._memory
        self.tools = Tools(
            counter=counter,
            model=self.model,
            patterns=owner.protect,
            read=memory.read if shares else _read_afresh,
            tokenize=lambda text: memory.tokenize(self.model, text, counter),
            tool_results=owner.tool_results,
            asked=query is not None,
        )
        self._last: tuple[list[bool], Any] | None = None
        self._note: str | None = None

    # -- by type ----------------------------------------------------------------------------------

    def run(self, content: Any) -> CompressionResult[Any]:
        """Dispatch on the type of *content*; what comes back is of the same type."""
        if isinstance(content, str):
            return self._text(content)
        if isinstance(content, StringPromptValue):
            return self._rewrapped(content, content.text, lambda text: StringPromptValue(text=text))
        if isinstance(content, PromptValue):
            return self._rewrapped(
                content, content.to_messages(), lambda made: ChatPromptValue(messages=made)
            )
        if isinstance(content, BaseMessage):
            return self._message(content)
        if isinstance(content, dict):
            return self._state(content)
        if isinstance(content, list | tuple) and content:
            if all(isinstance(item, BaseMessage) for item in content):
                messages = content if isinstance(content, list) else list(content)
                return self._rewrapped(content, messages, type(content))
            if all(isinstance(item, Document) for item in content):
                return self._rewrapped_documents(content)
        return CompressionResult(content, 0, 0, reason=FITS if not content else _UNKNOWN)

    def _rewrapped(
        self, original: Any, inner: Any, wrap: Callable[[Any], Any]
    ) -> CompressionResult[Any]:
        result = self._text(inner) if isinstance(inner, str) else self._messages(inner)
        made = original if result.content is inner else wrap(result.content)
        return replace(result, content=made)

    def _rewrapped_documents(self, content: Any) -> CompressionResult[Any]:
        result = self._fitted(DocumentsTask(content, self.tools), self.query)
        if isinstance(content, tuple) and isinstance(result.content, list):
            return replace(result, content=tuple(result.content))
        return result

    def _message(self, message: BaseMessage) -> CompressionResult[Any]:
        result = self._messages([message])
        made = result.content[0] if result.content else message
        return replace(result, content=made)

    def _state(self, state: dict[Any, Any]) -> CompressionResult[Any]:
        key = self.owner.key
        if key not in state:
            return CompressionResult(
                state, 0, 0, reason=f"the state has no key {key!r}; pass key= to name another"
            )
        result = self.run(state[key])
        made = state if result.content is state[key] else {**state, key: result.content}
        return replace(result, content=made)

    def _text(self, text: str) -> CompressionResult[Any]:
        return self._fitted(TextTask(text, self.tools), self.query)

    def _messages(self, messages: list[BaseMessage]) -> CompressionResult[Any]:
        if self.keep is None:
            return self._fitted(MessagesTask(messages, self.tools), self.query)
        return self._each_message(MessagesTask(messages, self.tools))

    def _each_message(self, task: MessagesTask) -> CompressionResult[Any]:
        """Shorten each user message by its own content alone, so that it never changes again."""
        if self.keep == 1.0:
            return _unchanged(task, FITS)
        made = [self._stable(message) for message in task.content]
        if all(a is b for a, b in zip(made, task.content, strict=True)):
            return _unchanged(task, NOTHING_TO_DROP)
        after = task.measure(made)
        return self._result(task, made, after, {"each message": task.tokens - after})

    def _stable(self, message: BaseMessage) -> BaseMessage:
        if isinstance(message, HumanMessage):
            return replaced_text(message, self._stable_text)
        if isinstance(message, ToolMessage) and self.tools.tool_results != "keep":
            return replaced_text(message, lambda text: self.tools.shorter(text, prose=True) or text)
        return message

    def _stable_text(self, text: str) -> str:
        content = self._fitted(TextTask(text, self.tools), self.query).content
        return str(content)

    # -- the steps --------------------------------------------------------------------------------

    def _fitted(self, task: Task, query: str | None) -> CompressionResult[Any]:
        original = task
        if (self.limit is not None and task.tokens <= self.limit) or self.keep == 1.0:
            return _unchanged(task, FITS)
        plan_key = self._plan_key(original, query) if self.owner._memory.plans else ""
        steps: dict[str, int] = {}
        goal = self.limit if self.limit is not None else math.ceil(task.tokens * (self.keep or 1))
        shorter = task.shrink(prose=goal >= _NEARLY * task.tokens)
        if shorter is not None and shorter.tokens < task.tokens:
            steps["lossless"] = task.tokens - shorter.tokens
            task = shorter
            if self.limit is not None and task.tokens <= self.limit:
                return self._result(original, task.content, task.tokens, steps)
        layout = task.layout()
        limit = self._limit_for(layout, task.tokens)
        if limit >= task.tokens:
            if task is original:
                return _unchanged(original, NOTHING_TO_DROP)
            return self._result(original, task.content, task.tokens, steps)
        filled = self._remembered(plan_key, task, layout) or self._filled(
            task, layout, query, limit
        )
        self.owner._memory.keep(plan_key, Plan(filled.kept, filled.tokens))
        if all(filled.kept) and task is original:
            return _unchanged(original, NOTHING_TO_DROP)
        content = self._assembled(task, layout, filled.kept)
        steps["select"] = task.tokens - filled.tokens
        return self._result(original, content, filled.tokens, steps, (layout.units, filled.kept))

    def _limit_for(self, layout: Layout, tokens: int) -> int:
        """Return the tokens to fill: the limit, or a share of what can be dropped."""
        if self.limit is not None:
            return self.limit
        assert self.keep is not None
        required = tokens - sum(u.tokens + u.overhead for u in layout.units)
        required += required_only(layout.units).tokens
        kinds_that_stay = sum(
            u.tokens for u in layout.units if not u.required and u.kind in ("code", "json", "diff")
        )
        compressible = max(0, tokens - required - kinds_that_stay)
        if compressible == 0:
            return tokens
        for unit in layout.units:
            unit.required = unit.required or unit.kind in ("code", "json", "diff")
        return required + kinds_that_stay + math.ceil(self.keep * compressible)

    def _filled(self, task: Task, layout: Layout, query: str | None, limit: int) -> Filled:
        likely = self._likely(layout, query)

        def measure(kept: list[bool]) -> int:
            return task.measure(self._assembled(task, layout, kept))

        filled = fill(layout.units, likely, limit, layout.fixed_tokens, measure)
        if filled is not None:
            if not any(filled.kept):
                return self._cut(task, layout, likely, limit) or filled
            return filled
        if self.limit is None:  # a share was asked for, not a limit: then nothing is dropped
            return Filled([True] * len(layout.units), task.tokens)
        return self._infeasible(task, layout, likely, limit, measure)

    def _cut(self, task: Task, layout: Layout, likely: list[float], limit: int) -> Filled | None:
        """Nothing fits whole: keep the beginning of the best unit."""

        def measure(units: Sequence[Unit], kept: list[bool]) -> int:
            return task.measure(task.assemble(replace(layout, units=list(units)), kept))

        found = cut_best(layout.texts, layout.units, likely, limit, measure)
        if found is None:
            self._note = "no unit fits, nor any word of the best one"
            return None
        layout.units, filled = found
        self._note = "no unit fits whole: the best one was cut between words"
        return filled

    def _assembled(self, task: Task, layout: Layout, kept: list[bool]) -> Any:
        """Assemble a choice, or return what was just assembled of it."""
        if self._last is None or self._last[0] is not kept:
            self._last = kept, task.assemble(layout, kept)
        return self._last[1]

    def _likely(self, layout: Layout, query: str | None) -> list[float]:
        ranked = relevance(
            layout.texts,
            layout.units,
            query or layout.question,
            prior=layout.prior,
            rarity=_rarity_for(self.model),
            rerank=self.owner._rerank,
        ).units
        for at in duplicate_units(layout.texts, layout.units):
            ranked[at] = 0.0
        _lift_labels(layout, ranked)
        return ranked

    def _infeasible(
        self,
        task: Task,
        layout: Layout,
        likely: list[float],
        limit: int,
        measure: Callable[[list[bool]], int],
    ) -> Filled:
        required = measure(required_only(layout.units).kept)
        if self.owner.on_infeasible == "raise":
            raise BudgetInfeasibleError(
                required_tokens=required,
                max_tokens=limit,
                remedy="Raise max_tokens, protect less, or give on_infeasible='drop_lowest'.",
            )
        order = sorted(
            (at for at, unit in enumerate(layout.units) if unit.required),
            key=lambda at: (_importance(layout, at), likely[at]),
        )
        for count, at in enumerate(order, 1):
            layout.units[at].required = False
            likely[at] = max(likely[at], 1e-9)
            if count == len(order) or count & (count - 1) == 0:
                filled = fill(layout.units, likely, limit, layout.fixed_tokens, measure)
                if filled is not None:
                    self._note = "part of what must be kept was given up"
                    if not any(filled.kept) and self.owner.on_infeasible == "truncate":
                        return self._cut(task, layout, likely, limit) or filled
                    return filled
        raise BudgetInfeasibleError(
            required_tokens=measure([False] * len(layout.units)),
            max_tokens=limit,
            remedy="Not even the frame of the messages fits. Raise max_tokens.",
        )

    # -- remembering ------------------------------------------------------------------------------

    def _plan_key(self, task: Task, query: str | None) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for part in (
            self.owner.fingerprint, self.model, str(self.limit), str(self.keep), query or "",
            type(task).__name__, task.text(task.content),
        ):  # fmt: skip
            digest.update(part.encode("utf-8", "surrogatepass"))
            digest.update(b"\0")
        return digest.hexdigest()

    def _remembered(self, key: str, task: Task, layout: Layout) -> Filled | None:
        """Return an earlier choice for the same content, if it still holds."""
        plan = self.owner._memory.plan(key)
        if plan is None or len(plan.kept) != len(layout.units):
            return None
        if task.measure(self._assembled(task, layout, plan.kept)) != plan.tokens:
            return None
        return Filled(plan.kept, plan.tokens)

    def _result(
        self,
        task: Task,
        content: Any,
        tokens: int,
        steps: dict[str, int],
        choice: tuple[Sequence[Unit], Sequence[bool]] = ((), ()),
    ) -> CompressionResult[Any]:
        details = _Details(task, content, *choice)
        return CompressionResult(
            content, task.tokens, tokens, task.exact, steps, self._note, details
        )


@dataclass(frozen=True, slots=True)
class _Details:
    """Holds on to a finished job for those who want to know more."""

    task: Task
    content: Any
    units: Sequence[Unit]
    kept: Sequence[bool]

    def dropped(self) -> tuple[DroppedSpan, ...]:
        return _dropped(self.units, self.kept)

    def texts(self) -> tuple[str, str]:
        return self.task.text(self.task.content), self.task.text(self.content)


def _lift_labels(layout: Layout, likely: list[float]) -> None:
    """Where few-shot examples stand for classes, let each class keep one."""
    ats = [at for at, unit in enumerate(layout.units) if unit.kind == "example"]
    if not ats:
        return
    for source in {layout.units[at].source for at in ats}:
        examples = find_examples(layout.texts[source])
        mine = [at for at in ats if layout.units[at].source == source]
        if len(examples) == len(mine):
            chances = [likely[at] for at in mine]
            cover_labels(examples, chances)
            for at, chance in zip(mine, chances, strict=True):
                likely[at] = chance


def _importance(layout: Layout, at: int) -> int:
    """Rank what is required: the question last to go, before it the patterns and obligations."""
    unit = layout.units[at]
    text = layout.texts[unit.source][unit.start : unit.end]
    if layout.question and (text.strip() in layout.question or layout.question in text):
        return 2
    return int(unit.kind in ("prose", "list", "label"))


def _dropped(units: Sequence[Unit], kept: Sequence[bool]) -> tuple[DroppedSpan, ...]:
    """Join neighbouring dropped units into spans."""
    spans: list[DroppedSpan] = []
    for unit, keep in zip(units, kept, strict=True):
        if keep or unit.start == unit.end:
            continue
        last = spans[-1] if spans else None
        if last and last.source == unit.source and last.end == unit.start:
            spans[-1] = DroppedSpan(last.source, last.start, unit.end)
        else:
            spans.append(DroppedSpan(unit.source, unit.start, unit.end))
    return tuple(spans)


def _unchanged(task: Task, reason: str) -> CompressionResult[Any]:
    details = _Details(task, task.content, (), ())
    return CompressionResult(
        task.content, task.tokens, task.tokens, task.exact, reason=reason, details=details
    )
