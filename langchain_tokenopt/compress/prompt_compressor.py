"""The compressor: a runnable and a stage."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, get_args

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor

from langchain_tokenopt.compress.compression import Job, characters_of
from langchain_tokenopt.compress.content_types import Reader
from langchain_tokenopt.compress.fitting import Target
from langchain_tokenopt.compress.options import (
    DEFAULT_MODEL,
    OnInfeasible,
    ToolResults,
    check_choice,
    check_target,
    compiled,
    share_kept,
)
from langchain_tokenopt.compress.plan_cache import PlanCache
from langchain_tokenopt.compress.rerank import Reranker, reranker_for
from langchain_tokenopt.compress.result import UNKNOWN_TYPE, CompressionResult
from langchain_tokenopt.core.argument_checks import check_whole, takes_names
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.core.levels import Level
from langchain_tokenopt.core.records import Saving, UsageSink
from langchain_tokenopt.core.sinks import checked_sinks, notify, with_ambient
from langchain_tokenopt.counting.model_names import model_name_of
from langchain_tokenopt.counting.tokens import (
    TokenCount,
    TokenCounter,
    counter_of_name,
    steady_counter_of_name,
)
from langchain_tokenopt.request.model_request import ModelRequest
from langchain_tokenopt.stage import Phase, StageCall, TunableSetting

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from langchain_tokenopt.counting.model_names import ModelLike
    from langchain_tokenopt.request.facts import RequestFacts

__all__ = ["PromptCompressor", "optimize_text"]

Content = TypeVar("Content")

_IN_A_THREAD: Final = 200_000
"""Characters from which async calls work in a thread: some 50,000 tokens, 20 ms or more."""


class PromptCompressor(Runnable[Any, Any]):
    r"""Shorten prompts to an exact number of tokens, keeping what the question needs.

    Nothing is rewritten: sentences, rows, blocks and turns are kept or dropped whole, in their
    order, so that JSON, code, tables and fences stay what they are. JSON is written without white
    space, and what tools return as a table of ``columns`` and ``data`` where that is shorter. Kept
    at all costs are your instructions, the question, placeholders, and what *protect* matches.
    Passages are told from instructions by their structure, in any layout; in a system message too,
    if it says that it quotes some. Where the current turn alone is too long, the results of an
    agent's earlier tool calls go first. What already fits is returned as the same object.

    Type in, type out: ``str``, prompt value, message, list of messages (or of what LangChain takes
    for them: dicts, tuples), list of documents, or a state dict, of which *key* is shortened.

    Exactly one of *max_tokens*, *keep* and *level* is given. With *max_tokens* the whole content is
    fitted, old turns included. With *keep* or *level* each user message is shortened by its own
    content alone, and system messages and the model's turns stay as they are: the same conversation
    one turn later begins with the same bytes, so the provider's prompt cache keeps its discount.

    Models whose tokenizer is not public are counted with what is assumed of them at first. What
    providers report later does not move the cut: the same content comes out with the same bytes.

    Args:
        max_tokens: Tokens that the content may have at most, counted again after the work.
        keep: Share of the compressible tokens to keep, above 0 and up to 1: with 1 nothing is
            dropped, and JSON is written shorter.
        level: ``"none"`` changes nothing; ``"balanced"`` keeps 1.0, ``"aggressive"`` 0.5,
            ``"maximum"`` 0.3.
        query: What the text must answer. By default the question in the content itself.
        model: Name or chat model, for counting. As a stage: the model that is called.
        counter: Counts in place of the model's own counter: that of a model you host yourself.
        reranker: ``"local"`` or any LangChain embeddings, asked about the few passages between
            which the words of the question do not decide.
        tool_results: ``"lossless"`` re-encodes JSON exactly, ``"keep"`` leaves tool results alone,
            ``"select"`` drops from them what the question does not need.
        protect: Regular expressions; units in which one matches are kept.
        on_infeasible: What happens when that which must be kept needs more than *max_tokens*:
            ``"raise"``; ``"drop_lowest"`` gives up what matters least first; ``"truncate"`` does
            that and in the end cuts the text. In messages the rules of a system message are never
            given up, nor, unless it may be cut, the question.
        key: The state key to shorten when the input is a dict.
        sinks: Receive each saving. One that fails breaks no call.
        remember: Contents of which to remember how they were read and what was kept; 0 for none.

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
        <BLANKLINE>
        Question: When was the bridge built?
    """

    phase = Phase.CONTEXT

    @takes_names
    def __init__(
        self,
        max_tokens: int | None = None,
        *,
        keep: float | None = None,
        level: Level | None = None,
        query: str | None = None,
        model: ModelLike | None = None,
        counter: TokenCounter | None = None,
        reranker: Literal["local"] | Embeddings | None = None,
        tool_results: ToolResults = "lossless",
        protect: str | re.Pattern[str] | Iterable[str | re.Pattern[str]] = (),
        on_infeasible: OnInfeasible = "raise",
        key: str = "messages",
        sinks: Sequence[UsageSink] = (),
        remember: int = 256,
    ) -> None:
        check_target(max_tokens, keep, level)
        check_choice("tool_results", tool_results, get_args(ToolResults))
        check_choice("on_infeasible", on_infeasible, get_args(OnInfeasible))
        if query is not None and not (isinstance(query, str) and query.strip()):
            raise ValueError(f"query must be a text that asks something, or None; got {query!r}.")
        self.max_tokens = max_tokens
        self.keep = keep if level is None else share_kept(level)
        self.level = level
        self.query = query
        self.model = model
        self.counter = counter
        self.reranker = reranker
        self.tool_results: ToolResults = tool_results
        self.protect = compiled("protect", protect)
        self.on_infeasible: OnInfeasible = on_infeasible
        self.key = key
        self.sinks = checked_sinks(sinks)
        self._reranker: Reranker | None = reranker_for(reranker)
        self._plans = PlanCache(check_whole("remember", remember, least=0))

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

    def _shorten(self, content: Any, run_manager: Any, config: RunnableConfig) -> Any:
        result = self.compress(content)
        lacks_key = isinstance(content, dict) and self.key not in content
        if lacks_key or result.reason == UNKNOWN_TYPE:
            warnings.warn(f"PromptCompressor: {result.reason}", TokenOptWarning, stacklevel=2)
        if result.saved_tokens:
            agent = attribution_of(config.get("metadata") or {}).agent
            saving = _saving(result, agent=agent, at=datetime.now(UTC))
            notify(with_ambient(self.sinks), saving)
        return result.content

    async def _ashorten(self, content: Any, run_manager: Any, config: RunnableConfig) -> Any:
        if self.blocking or not self._is_ready or characters_of(content) > _IN_A_THREAD:
            return await run_in_executor(None, self._shorten, content, run_manager, config)
        return self._shorten(content, run_manager, config)

    # -- stage ------------------------------------------------------------------------------------

    @property
    def blocking(self) -> bool:
        """True with a reranker, and until the vocabulary of *model* is loaded.

        That takes longer than an event loop should wait; the model's own has been loaded before.
        """
        return self._reranker is not None or (self.model is not None and not self._is_ready)

    @property
    def _is_ready(self) -> bool:
        name = model_name_of(self.model or DEFAULT_MODEL)
        return self.counter is not None or steady_counter_of_name(name).is_ready

    @property
    def fingerprint(self) -> str:
        """Every setting that changes what the model is asked."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        protect = [pattern.pattern for pattern in self.protect]
        settings = [
            self.max_tokens, self.keep, self.query, self.tool_results, protect, self.on_infeasible,
            self._reranker.fingerprint if self._reranker else None,
            model_name_of(self.model) if self.model is not None else None,
            type(self.counter).__qualname__ if self.counter is not None else None,
        ]  # fmt: skip
        return f"PromptCompressor{json.dumps(settings)}"

    @property
    def tunable(self) -> Mapping[str, TunableSetting]:
        """The target: ``max_tokens``, or ``keep``, which a level sets, too, unless it is "none"."""
        if self.max_tokens is not None:
            return {"max_tokens": TunableSetting(self.max_tokens, least=1)}
        if self.keep is None:
            return {}
        return {"keep": TunableSetting(self.keep, least=0.01, most=1.0, whole=False)}

    def with_settings(self, settings: Mapping[str, float]) -> PromptCompressor:
        """Return a compressor with another target, which remembers together with this one."""
        made = copy(self)
        vars(made).pop("_fingerprint", None)
        if "max_tokens" in settings:
            made.max_tokens = int(settings["max_tokens"])
        made.keep, made.level = settings.get("keep", self.keep), None
        return made

    def open(self, request: ModelRequest) -> StageCall | None:
        """Shorten the messages of a request.

        Raises:
            BudgetInfeasibleError: If what must be kept does not fit and *on_infeasible* says so.
        """
        facts = request.facts
        name = facts.model_name if self.model is None else model_name_of(self.model)
        if self._fits_by_far(facts):
            return None
        known = None
        if name == facts.model_name and self.counter is None and facts.message_tokens.exact:
            known = facts.message_tokens
        result = self._job(name, known=known).run(request.messages)
        if result.saved_tokens <= 0:
            return None
        saving = _saving(
            result,
            run_id=request.run.run_id,
            agent=facts.attribution.agent,
            model=facts.model_name,
            observed=request.observe,
        )
        request.run.savings.append(saving)
        request.run.stages.append("PromptCompressor")
        notify(self.sinks, saving)
        return StageCall(request.override(messages=result.content))

    def _fits_by_far(self, facts: RequestFacts) -> bool:
        """Whether a request is so short that no other count of it could be too long."""
        limit = self.max_tokens if self.keep is None else None
        return limit is not None and 2 * facts.message_tokens.tokens <= limit

    # -- results ----------------------------------------------------------------------------------

    def compress(
        self,
        content: Content,
        query: str | None = None,
        max_tokens: int | None = None,
        *,
        model: ModelLike | None = None,
        known: Sequence[str] | None = None,
    ) -> CompressionResult[Content]:
        """Shorten *content* and say what that did.

        Args:
            content: As for :meth:`invoke`.
            query: In place of the compressor's own.
            max_tokens: In place of the compressor's own target. Counted with all that providers
                have reported by now: who has just so many tokens left wants them kept.
            model: Whose tokens to count, in place of the compressor's own.
            known: What others have been given who read the same for the same purpose. Then part of
                the room is for what the query does not name: what tells most for its length, and
                stands in none of these texts. ``None``: nobody else reads it.

        Raises:
            ValueError: If *max_tokens* is below 1.
            BudgetInfeasibleError: If what must be kept does not fit and *on_infeasible* says so.

        Example:
            >>> result = PromptCompressor(keep=0.5).compress("It rained.")
            >>> result.content, result.saved_tokens, result.reason
            ('It rained.', 0, 'everything in it must be kept')
        """
        if max_tokens is not None:
            check_target(max_tokens, None, None)
        name = model_name_of(model or self.model or DEFAULT_MODEL)
        result = self._job(name, query, max_tokens, others_know=known).run(content)
        return cast("CompressionResult[Content]", result)

    def _job(
        self,
        model: str,
        query: str | None = None,
        max_tokens: int | None = None,
        known: TokenCount | None = None,
        others_know: Sequence[str] | None = None,
    ) -> Job:
        query = query or self.query
        steady = self.counter or steady_counter_of_name(model)
        counter = steady if self.counter or max_tokens is None else counter_of_name(model)
        plans = self._plans if counter is steady else PlanCache(0)
        target = Target(
            limit=max_tokens if max_tokens is not None else self.max_tokens,
            keep=self.keep if max_tokens is None else None,
            query=query,
            model=model,
            fingerprint=lambda: self.fingerprint,
            on_infeasible=self.on_infeasible,
            reranker=self._reranker,
            known=others_know,
        )
        reader = Reader(
            model=model,
            counter=counter,
            tokenize=lambda text: plans.tokenize(text, counter),
            read=plans.read,
            patterns=self.protect,
            tool_results=self.tool_results,
            cut_data=target.keep is None,
            asked=query is not None,
        )
        return Job(target, reader, plans, self.key, known)


def _saving(result: CompressionResult[Any], **fields: Any) -> Saving:
    return Saving(
        stage="PromptCompressor",
        tokens_before=result.tokens_before,
        tokens_after=result.tokens_after,
        exact=result.exact,
        **fields,
    )


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
