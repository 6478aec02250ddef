"""The handler's own promises; what it counts in the real host is in test_conformance.py."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from langchain_tokenopt import TokenOptWarning, TokenUsageCallbackHandler, track_usage
from langchain_tokenopt.core.attribution import attribution_of
from langchain_tokenopt.core.records import Saving, UsageTotals
from langchain_tokenopt.core.staged_runs import StagedRun
from langchain_tokenopt.core.usage import Usage
from langchain_tokenopt.pricing.rate_card import RateCard
from tests.support.stages import Recording

DIMENSIONS = ["agent", "tool", "model", "node", "user", "run", "thread_id"]


def _model(answers: int = 1) -> FakeListChatModel:
    return FakeListChatModel(responses=["four"] * answers)


class _List:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def record(self, event: Any) -> None:
        self.events.append(event)


class _Broken:
    def record(self, event: Any) -> None:
        raise OSError("disk full")


class TestSums:
    """Parts add up to the whole, whatever is still remembered."""

    @pytest.mark.parametrize("dimension", DIMENSIONS)
    def test_the_parts_of_every_dimension_add_up(self, dimension):
        """Calls without a value stand under "(none)"."""
        usage = TokenUsageCallbackHandler()
        for user in ("ada", "bob", None):
            metadata = {"user_id": user, "thread_id": user} if user else {}
            _model().invoke("hello there", {"callbacks": [usage], "metadata": metadata})

        parts = usage.by(dimension)

        assert usage.totals().calls == sum(part.calls for part in parts.values()) == 3
        assert usage.totals().total_tokens == sum(part.total_tokens for part in parts.values())

    @pytest.mark.parametrize("dimension", ["agent", "tool", "model", "node", "user"])
    @pytest.mark.parametrize("kept", [0, 10])
    def test_totals_outlive_the_records(self, kept, dimension, monkeypatch):
        """A handler that runs for weeks forgets records, not sums."""
        monkeypatch.setattr("langchain_tokenopt.tracking.callbacks._BATCH", 7)
        usage = TokenUsageCallbackHandler(max_records=kept)
        everything = TokenUsageCallbackHandler()
        config = {"callbacks": [usage, everything]}
        for i in range(40):
            _model().invoke("hello " * i, {**config, "metadata": {"user_id": f"u{i % 3}"}})

        assert kept == len(usage.records)
        assert 40 == len(everything.records)
        assert everything.totals().total_tokens == usage.totals().total_tokens
        assert {k: v.calls for k, v in everything.by(dimension).items()} == {
            k: v.calls for k, v in usage.by(dimension).items()
        }

    def test_the_largest_spender_comes_first(self):
        """As one reads a bill."""
        usage = TokenUsageCallbackHandler()
        for user, words in (("small", 1), ("large", 100), ("middle", 10)):
            config = {"callbacks": [usage], "metadata": {"user_id": user}}
            _model().invoke("word " * words, config)

        assert ["large", "middle", "small"] == list(usage.by("user"))

    def test_an_unknown_dimension_is_refused(self):
        """With those that there are."""
        with pytest.raises(ValueError, match=r"agent, node, tool, .* run"):
            TokenUsageCallbackHandler().by("colour")

    def test_no_calls_are_zero_tokens_and_no_percentiles(self):
        """Unknown is not zero."""
        totals = TokenUsageCallbackHandler().totals()

        assert (0, 0, None) == (totals.calls, totals.total_tokens, totals.duration_p95_seconds)


class TestSinks:
    """Who else hears of a call."""

    def test_sinks_hear_of_a_call_as_it_ends(self):
        """One record, complete."""
        sink = _List()
        usage = TokenUsageCallbackHandler(sinks=[sink])

        _model().invoke("hi", {"callbacks": [usage]})

        assert sink.events == usage.records

    async def test_a_failing_sink_never_breaks_a_call(self):
        """It is warned about once; the others still hear, and the call is counted."""
        good = _List()
        usage = TokenUsageCallbackHandler(sinks=[_Broken(), good])

        with pytest.warns(TokenOptWarning, match="disk full") as warned:
            for _ in range(3):
                _model().invoke("hi", {"callbacks": [usage]})
                await _model().ainvoke("hi", {"callbacks": [usage]})

        assert 1 == len(warned)
        assert 6 == len(good.events) == usage.totals().calls

    def test_what_is_no_sink_is_refused(self):
        """At construction."""
        with pytest.raises(TypeError, match="record"):
            TokenUsageCallbackHandler(sinks=[print])
        with pytest.raises(ValueError, match="max_records"):
            TokenUsageCallbackHandler(max_records=-1)

    def test_savings_of_stages_reach_the_sinks_priced(self):
        """With the run, agent and model that only the end of the call knows."""
        from langchain_tokenopt import optimize

        class Saving_(Recording):
            def open(self, request):
                request.run.stages.append("Shorten")
                saving = Saving(stage="Shorten", tokens_before=1_000, tokens_after=400)
                request.run.savings.append(saving)
                return super().open(request)

        sink = _List()
        usage = TokenUsageCallbackHandler(sinks=[sink])
        model = optimize(_Priced(responses=["x"]), Saving_())

        model.invoke("hi", {"callbacks": [usage]})

        record, saving = sink.events
        assert ("Shorten",) == record.stages
        assert 600 == record.saved_tokens == saving.saved_tokens == usage.totals().saved_tokens
        per_token = RateCard().rates("gpt-4o", "openai").cost(Usage(600, 0))
        assert per_token == saving.saved_nano_usd == usage.totals().saved_nano_usd
        assert record.run_id == saving.run_id


class _Priced(FakeListChatModel):
    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_model_type": "chat"}


class TestWho:
    """On whose account a call goes."""

    @pytest.mark.parametrize(
        ("metadata", "agent"),
        [
            (
                {
                    "tokenopt_agent": "explicit",
                    "lc_agent_name": "agent",
                    "langgraph_checkpoint_ns": "node:1",
                },
                "explicit",
            ),
            ({"lc_agent_name": "agent", "langgraph_checkpoint_ns": "node:1"}, "agent"),
            ({"langgraph_checkpoint_ns": "node:1|inner:2"}, "node"),
            ({}, "chain"),
        ],
        ids=["explicit", "create_agent", "node", "chain"],
    )
    def test_the_first_that_is_known_is_the_agent(self, metadata, agent):
        """Explicit metadata, the agent's name, the outermost node, the nearest named chain."""
        assert agent == attribution_of(metadata, fallback_agent="chain").agent

    def test_a_named_chain_lends_its_name(self):
        """Where no graph and no agent says who it is; class names do not count."""
        usage = TokenUsageCallbackHandler()
        chain = (RunnableLambda(lambda x: x) | _model()).with_config(run_name="summariser")

        chain.invoke("hi", {"callbacks": [usage]})
        (RunnableLambda(lambda x: x) | _model()).invoke("hi", {"callbacks": [usage]})

        assert {"summariser", "default"} == set(usage.by("agent"))

    def test_calls_inside_a_tool_are_the_tools(self):
        """Also below chains that the tool runs."""
        usage = TokenUsageCallbackHandler()
        model = _model()

        @tool
        def research(question: str) -> str:
            """Find out."""
            return (RunnableLambda(lambda x: x) | model).invoke(question).text

        research.invoke("why?", {"callbacks": [usage]})

        assert ["research"] == list(usage.by("tool"))

    def test_the_user_of_a_run_comes_before_the_user_of_the_handler(self):
        """One handler may serve many users."""
        usage = TokenUsageCallbackHandler(user="everybody")

        _model().invoke("hi", {"callbacks": [usage], "metadata": {"user_id": "ada"}})
        _model().invoke("hi", {"callbacks": [usage]})

        assert {"ada", "everybody"} == set(usage.by("user"))


class TestTracking:
    """``with track_usage()``."""

    def test_nested_trackers_count_every_call_once(self):
        """Each counts what happens below it; sinks of the outer hear of the inner's calls."""
        outer_sink, inner_sink = _List(), _List()

        with track_usage(sinks=[outer_sink]) as outer:
            _model().invoke("a")
            with track_usage(sinks=[inner_sink]) as inner:
                _model().invoke("b")
            _model().invoke("c")
        _model().invoke("d")

        assert (3, 1) == (outer.totals().calls, inner.totals().calls)
        assert (3, 1) == (len(outer_sink.events), len(inner_sink.events))

    def test_an_inner_tracker_inside_a_chain_counts_nothing_twice(self):
        """There the outer handler is inherited and the inner one hands on as well."""
        model = _model()

        def step(text: str) -> str:
            with track_usage() as inner:
                answer = model.invoke(text)
            assert inner.totals().calls == 1
            return answer.text

        sink = _List()
        with track_usage(sinks=[sink]) as outer:
            RunnableLambda(step).with_config(run_name="outermost").invoke("hi")

        assert 1 == len(sink.events)
        assert 1 == outer.totals().calls
        assert ["outermost"] == list(outer.by("agent"))

    def test_a_tracker_and_a_handler_both_count(self):
        """They do not know of each other."""
        usage = TokenUsageCallbackHandler()
        with track_usage() as tracked:
            _model().invoke("hi", {"callbacks": [usage]})

        assert 1 == usage.totals().calls == tracked.totals().calls

    def test_no_hook_is_left_behind(self):
        """LangChain's own context manager leaves one per use."""
        from langchain_core.tracers.context import _configure_hooks

        before = len(_configure_hooks)
        for _ in range(50):
            with track_usage():
                pass

        assert before == len(_configure_hooks)

    def test_a_thread_with_a_copied_context_is_covered(self):
        """A bare thread has no context; a copied one does."""
        with track_usage() as usage:
            for run in (copy_context().run,):
                thread = threading.Thread(target=run, args=(_model().invoke, "hi"))
                thread.start()
                thread.join()

        assert 1 == usage.totals().calls

    def test_calls_from_many_threads_are_all_counted(self):
        """Batches run in threads."""
        usage = TokenUsageCallbackHandler()
        model = _model()

        model.batch(["hi"] * 200, {"callbacks": [usage], "max_concurrency": 16})

        assert 200 == usage.totals().calls

    def test_nothing_is_kept_of_runs_that_have_ended(self):
        """Neither prompts nor lineage."""
        usage = TokenUsageCallbackHandler()

        (RunnableLambda(lambda x: x) | _model()).invoke("hi", {"callbacks": [usage]})

        assert not usage._lineage
        assert not usage._calls
        assert all(call._messages is None for call in usage._settled)


class TestUsage:
    """Numbers as providers give them."""

    @pytest.mark.parametrize(
        ("usage", "flaw"),
        [
            (Usage(-5, 1), "input_tokens is negative"),
            (Usage(10, 5, cache_read_tokens=11), "cached tokens (11) exceed input_tokens (10)"),
            (Usage(10, 5, reasoning_tokens=6), "reasoning_tokens (6) exceed output_tokens (5)"),
            (Usage(10, 5, output_audio_tokens=6), "output_audio_tokens (6) exceed output_tokens"),
            (Usage(10**12, 5), "1,000,000,000,000 tokens in one call"),
            (Usage(10, 5, cache_write_tokens=1, cache_write_1h_tokens=2), "cache_write_1h_tokens"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_impossible_numbers_are_flagged_and_kept(self, usage, flaw):
        """Never clamped silently."""
        assert flaw in " ".join(usage.flaws())

    def test_possible_numbers_have_no_flaws(self):
        """All parts within their wholes."""
        whole = Usage(100, 50, 40, 60, 20, 50, 100, 50)

        assert () == whole.flaws() == Usage().flaws()
        assert Usage(200, 100, 80, 120, 40, 100, 200, 100) == whole + whole

    def test_adding_totals_adds_counts(self):
        """Percentiles cannot be added."""
        one = UsageTotals(calls=1, input_tokens=5, duration_p50_seconds=1.0)
        two = UsageTotals(calls=2, input_tokens=7, duration_p50_seconds=2.0)

        assert UsageTotals(calls=3, input_tokens=12) == one + two

    def test_a_cache_hit_marked_by_our_own_cache_is_recognised(self):
        """Also where langchain-core's mark is missing."""
        from uuid import uuid4

        from langchain_core.messages import AIMessage
        from langchain_core.outputs import ChatGeneration

        from langchain_tokenopt.core.staged_runs import CacheHit
        from langchain_tokenopt.tracking.provider_usage import is_marked_hit

        hit = ChatGeneration(message=AIMessage("x"))
        hit.generation_info = CacheHit(reason="stop")
        plain = ChatGeneration(message=AIMessage("x"), generation_info={"reason": "stop"})

        assert is_marked_hit(hit, uuid4())
        assert not is_marked_hit(plain, uuid4())
        assert hit == plain

    def test_a_core_that_marks_no_hits_is_read_by_ids(self, monkeypatch):
        """langchain-core plans to drop its mark; a hit keeps the id of its first run."""
        from uuid import uuid4

        from langchain_core.messages import AIMessage
        from langchain_core.outputs import ChatGeneration

        from langchain_tokenopt.tracking import provider_usage

        monkeypatch.setattr(provider_usage, "core_marks_cache_hits", lambda: False)
        first, second = uuid4(), uuid4()
        answer = ChatGeneration(message=AIMessage("x", id=f"lc_run--{first}-0"))

        assert provider_usage.is_marked_hit(answer, second)
        assert not provider_usage.is_marked_hit(answer, first)

    def test_what_the_seam_publishes_is_found_until_it_is_withdrawn(self):
        """By the id of the run."""
        from uuid import uuid4

        from langchain_tokenopt.core.staged_runs import publish_run, published_run, withdraw_run

        run = StagedRun(run_id=uuid4())
        publish_run(run)
        assert published_run(run.run_id) is run
        withdraw_run(run.run_id)
        assert published_run(run.run_id) is None
