"""Middleware as it is made: what it takes, what it refuses, and in which company it may stand."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import warnings
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    LLMToolSelectorMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
)
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage

from langchain_tokenopt import (
    BudgetPlan,
    ContextMiddleware,
    ModelRoutingMiddleware,
    PromptCompressionMiddleware,
    SemanticCache,
    SemanticCacheMiddleware,
    StageMiddleware,
    TokenBudgetMiddleware,
    TokenOptWarning,
    ToolLimits,
    ToolSelectionMiddleware,
    ToolSelector,
    WordLimit,
    WordLimitMiddleware,
    optimize,
    stages_of,
)
from langchain_tokenopt.agents.staged_request import StagedRequest, Views
from langchain_tokenopt.chat_model.staged_call import seam_of
from langchain_tokenopt.chat_model.staged_model import staged_view
from langchain_tokenopt.stage import PassThrough
from langchain_tokenopt.testing import ExtractiveChatModel
from tests.support.stages import Recording

PLAN = BudgetPlan(total_tokens=5_000)
ASKED: Any = {"messages": [("user", "The sky is blue. What colour is the sky?")]}


def request_of(model: Any) -> ModelRequest[Any]:
    return ModelRequest(model=model, messages=[HumanMessage("Hi")])


# Single stages


@pytest.mark.parametrize(
    ("middleware", "stage"),
    [
        (WordLimitMiddleware, WordLimit),
        (ToolSelectionMiddleware, ToolSelector),
        (SemanticCacheMiddleware, SemanticCache),
    ],
)
def test_single_stages_take_the_arguments_of_the_stage(middleware: type, stage: type) -> None:
    """As help() and editors show them, and no others."""
    assert inspect.signature(middleware).parameters == inspect.signature(stage).parameters
    with pytest.raises(TypeError):
        middleware(no_such_argument=1)


def test_single_stages_are_their_stage() -> None:
    """With what it was given."""
    (limit,) = WordLimitMiddleware(60, max_sentences=3).stages
    assert isinstance(limit, WordLimit)
    assert (limit.limit.words, limit.limit.sentences) == (60, 3)
    assert PromptCompressionMiddleware(keep=0.5).name == "PromptCompressionMiddleware"
    assert ContextMiddleware(max_tokens=600).name == "ContextMiddleware"


def test_a_level_is_that_of_optimize() -> None:
    """The same stages."""
    mine, theirs = StageMiddleware(level="balanced").stages, stages_of("balanced")
    assert [stage.fingerprint for stage in mine] == [stage.fingerprint for stage in theirs]
    own, *_ = StageMiddleware(ToolSelector(max_tools=3), level="balanced").stages
    assert isinstance(own, ToolSelector)
    assert own.max_tools == 3


# What is refused when it is made


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: StageMiddleware("limit"), TypeError, "is no stage"),
        (lambda: StageMiddleware(PLAN), TypeError, r"TokenBudgetMiddleware\(plan\)"),
        (lambda: StageMiddleware(WordLimit(3), WordLimit(4)), ValueError, "WordLimit"),
        (
            lambda: StageMiddleware(SemanticCache(semantic=False), InMemoryCache()),
            ValueError,
            "CACHE",
        ),
        (lambda: StageMiddleware(level="much"), ValueError, "level"),
        (lambda: TokenBudgetMiddleware(5_000), TypeError, "a plan is needed"),
        (lambda: TokenBudgetMiddleware(PLAN, pth="b.db"), TypeError, "Did you mean path"),
        (lambda: TokenBudgetMiddleware(PLAN, tool_limits=3), TypeError, "tool_limits"),
    ],
)
def test_mistakes_are_named_at_once(make: Any, error: type[Exception], says: str) -> None:
    """Before any agent is made."""
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize(
    ("middleware", "says"),
    [
        ([WordLimitMiddleware(3), WordLimitMiddleware(4)], "two stages of the kind WordLimit"),
        ([StageMiddleware(WordLimit(3)), WordLimitMiddleware(4)], "two stages of the kind"),
        ([TokenBudgetMiddleware(PLAN), TokenBudgetMiddleware(PLAN)], "two stages of the kind"),
        ([SemanticCacheMiddleware(semantic=False), StageMiddleware(InMemoryCache())], "CACHE"),
    ],
)
@pytest.mark.parametrize("tools", [[], [len]])
def test_contradictions_are_named_when_the_agent_is_made(
    middleware: list[Any], says: str, tools: list[Any]
) -> None:
    """Though each middleware by itself is sound."""

    def size(text: str) -> int:
        """Tell the length of a text."""
        return len(text)

    with pytest.raises(ValueError, match=says):
        create_agent(ExtractiveChatModel(), [size] if tools else [], middleware=middleware)


def test_the_models_own_stages_count() -> None:
    """They would contradict each other in every call."""
    model = optimize(ExtractiveChatModel(), WordLimit(3))
    with pytest.raises(ValueError, match="two stages of the kind WordLimit"):
        create_agent(model, middleware=[WordLimitMiddleware(4)])


def test_a_stage_that_the_model_has_is_not_added_again() -> None:
    """It is the same stage, and acts once."""
    recording = Recording()
    model = optimize(ExtractiveChatModel(), recording)
    create_agent(model, middleware=[StageMiddleware(recording)]).invoke(ASKED)
    assert recording.events.count("open") == 1


@pytest.mark.parametrize(
    ("other", "behind", "says"),
    [
        (
            LLMToolSelectorMiddleware(model=ExtractiveChatModel()),
            False,
            "put .* before it, or call",
        ),
        (LLMToolSelectorMiddleware(model=ExtractiveChatModel()), True, ""),
        (SummarizationMiddleware(ExtractiveChatModel()), False, "charge: call .*with plan.run"),
        (SummarizationMiddleware(ExtractiveChatModel()), True, "charge: call .*with plan.run"),
    ],
)
def test_who_asks_models_that_nobody_pays_is_named(
    other: AgentMiddleware, behind: bool, says: str
) -> None:
    """Where there is a budget, and nothing can be done about it from here."""
    budget, shorter = TokenBudgetMiddleware(PLAN), WordLimitMiddleware(9)

    def make(own: AgentMiddleware) -> None:
        create_agent(ExtractiveChatModel(), middleware=[own, other] if behind else [other, own])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(shorter)
        if not says:
            make(budget)
    if says:
        with pytest.warns(
            TokenOptWarning, match=f"{type(other).__name__} asks a model by .*{says}"
        ):
            make(budget)


def size(text: str) -> int:
    """Tell the length of a text."""
    return len(text)


ONCE = ToolLimits(max_calls=1)


@pytest.mark.parametrize(
    ("budget", "options", "says"),
    [
        (
            {"tool_limits": {"sise": ONCE}},
            {},
            "tool_limits name 'sise'.*it has size, .* Did you mean size",
        ),
        (
            {"tool_limits": {"sise": ONCE}},
            {"tools": ()},
            "tool_limits name 'sise'.*it has write_todos",
        ),
        ({"tool_limits": {"size": ONCE}}, {}, ""),
        ({"tool_limits": {"write_todos": ONCE}}, {}, ""),  # other middleware brings it
        ({"tool_limits": {"search": ONCE}}, {"tools": [{"type": "search"}]}, ""),
        ({"agents": {"Size": {"cap": 99}}}, {}, "has an agent 'Size', and the tool .* 'size'"),
        ({"agents": {"size": {"cap": 99}, "other": {}}}, {}, ""),
        ({"agents": {"writer": {}}}, {"name": "write"}, "no agent 'write'. Did you mean writer"),
        ({"agents": {"writer": {}}}, {"name": "reader"}, ""),
    ],
)
def test_names_that_nothing_has_are_named(
    budget: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    """When the agent is made, and its tools are known."""
    plan = BudgetPlan(total_tokens=5_000, agents=budget.pop("agents", {}))
    middleware = [TokenBudgetMiddleware(plan, **budget), TodoListMiddleware()]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        create_agent(
            ExtractiveChatModel(), **{"tools": [size], "middleware": middleware, **options}
        )
    told = [str(one.message) for one in seen if issubclass(one.category, TokenOptWarning)]
    assert len(told) == bool(says)
    assert re.search(says, "".join(told))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (FakeListChatModel(responses=["x"]), "FakeListChatModel cannot .* no bind_tools"),
        (ExtractiveChatModel(profile={"tool_calling": False}), "its profile says so"),
        (ExtractiveChatModel(profile={"tool_calling": True}), ""),
        (ExtractiveChatModel(), ""),
    ],
)
def test_a_model_that_cannot_call_tools_is_named_where_there_are_some(
    model: Any, says: str
) -> None:
    """Other middleware may choose another model, so it is no error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_agent(model, middleware=[WordLimitMiddleware(9)])
        if not says:
            create_agent(model, [size], middleware=[WordLimitMiddleware(9)])
    if says:
        with pytest.warns(TokenOptWarning, match=f"the agent has tools, and .*{says}"):
            create_agent(model, [size], middleware=[WordLimitMiddleware(9)])


# The request whose model goes through stages


class Choosing(AgentMiddleware):
    """Chooses another model, by overriding or, as older middleware does, by setting it."""

    def __init__(self, model: Any, how: str) -> None:
        self.model_ = model
        self.how = how

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        if self.how == "override":
            request = request.override(model=self.model_)
        elif self.how == "twice":
            request = request.override(model=self.model_).override(messages=request.messages)
            request = request.override(model=request.model.model_copy())
        else:
            request.model = self.model_
        return handler(request)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", ["override", "twice", "set"])
@pytest.mark.parametrize("first", [True, False])
def test_whichever_model_is_chosen_goes_through_the_stages(how: str, first: bool) -> None:
    """Wherever the one that chooses stands."""
    recording, other = Recording(), FakeListChatModel(responses=["chosen"])
    both = [StageMiddleware(recording), Choosing(other, how)]
    agent = create_agent(ExtractiveChatModel(), middleware=both if first else both[::-1])
    assert agent.invoke(ASKED)["messages"][-1].text == "chosen"
    assert recording.events == ["open", "close"] or recording.events.count("open") == 1


def test_stages_of_several_add_up_on_the_way() -> None:
    """Each request further in has all of them, and its model once each."""
    first, second = Recording("first"), WordLimit(9)
    outer = StagedRequest.of(request_of(ExtractiveChatModel()), (first,), False, Views())
    inner = StagedRequest.of(outer, (second,), True, Views())
    chosen = inner.override(model=FakeListChatModel(responses=["x"]), tools=[])
    assert seam_of(chosen.model).stages == (first, second)
    assert seam_of(inner.model).stages == (first, second)
    assert seam_of(outer.model).stages == (first,)
    assert (seam_of(outer.model).observe, seam_of(chosen.model).observe) == (False, True)
    assert isinstance(inner, ModelRequest)


# The model that agents ask


def test_a_view_shares_the_models_state() -> None:
    """A model that counts its calls goes on counting, as it would without stages."""
    model = FakeListChatModel(responses=["one", "two", "three"])
    agent = create_agent(model, middleware=[WordLimitMiddleware(9)])
    said = [agent.invoke(ASKED)["messages"][-1].text for _ in range(3)]
    assert said == ["one", "two", "three"]


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda view: view.model_copy(),
        lambda view: view.model_copy(update={"cache": None}),
        lambda view: view.model_copy(update={"responses": ["seven eight"]}, deep=True),
        lambda view: staged_view(view),
        lambda view: optimize(view),
    ],
)
def test_a_copy_of_a_view_has_its_stages_and_a_state_of_its_own(copied: Any) -> None:
    """Other middleware may copy the model that it finds."""
    model = FakeListChatModel(responses=["five six", "seven eight"])
    view = staged_view(model, (WordLimit(1, ask=False),))
    made = copied(view)
    assert isinstance(made, FakeListChatModel)
    assert [type(stage) for stage in seam_of(made).stages] == [WordLimit]
    assert len(made.invoke("Hi").text.split()) == 1


def test_a_view_travels_with_its_stages() -> None:
    """To another process, as an optimized model does."""
    view = staged_view(FakeListChatModel(responses=["one"]), (PassThrough(),))
    made = pickle.loads(pickle.dumps(view))
    assert [type(stage) for stage in seam_of(made).stages] == [PassThrough]


def test_what_is_set_on_a_view_holds_for_it() -> None:
    """A cache, too, which LangChain is not to see; the model itself keeps its own."""
    model = FakeListChatModel(responses=["one", "two"])
    view = staged_view(model, (WordLimit(9),))
    view.cache = InMemoryCache()
    assert [view.invoke("Hi").text, view.invoke("Hi").text] == ["one", "one"]
    assert model.cache is None
    assert view.cache is False


# Answers


def test_an_agent_without_stages_is_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Middleware of nothing, and any that is switched off."""
    said = create_agent(ExtractiveChatModel()).invoke(ASKED)["messages"][-1].text
    nothing = create_agent(ExtractiveChatModel(), middleware=[StageMiddleware()])
    assert nothing.invoke(ASKED)["messages"][-1].text == said
    off = create_agent(
        GenericFakeChatModel(messages=iter([AIMessage("a b c")])),
        middleware=[WordLimitMiddleware(1)],
    )
    monkeypatch.setenv("TOKENOPT_DISABLE", "1")
    assert off.invoke(ASKED)["messages"][-1].text == "a b c"


def test_middleware_can_be_called_without_an_agent() -> None:
    """As tests of middleware do: a request, and a handler."""
    seen: list[Any] = []

    def handler(request: Any) -> Any:
        seen.append(request)
        return ModelResponse([request.model.invoke(request.messages)])

    answer = WordLimitMiddleware(1).wrap_model_call(
        request_of(FakeListChatModel(responses=["one two three"])), handler
    )
    assert answer.result[0].text == "one…"
    assert list(WordLimitMiddleware(1).tools) == []
    assert TokenBudgetMiddleware(PLAN, tool_limits=ToolLimits(max_calls=1)).stages


async def test_agents_are_made_and_run_where_nothing_may_wait() -> None:
    """As servers do for each request: on the event loop."""
    model = ExtractiveChatModel()

    def made() -> Any:
        middleware = [
            TokenBudgetMiddleware(PLAN),
            SemanticCacheMiddleware(semantic=False),
            ModelRoutingMiddleware({"cheap": model.model_copy(), "own": model}),
            ToolSelectionMiddleware(embeddings=False),
            ContextMiddleware(max_tokens=60_000),
            PromptCompressionMiddleware(keep=0.9),
            WordLimitMiddleware(60),
        ]
        return create_agent(model, [size], middleware=middleware)

    await made().ainvoke(ASKED)  # imports, vocabularies
    with blockbuster_ctx():
        TokenBudgetMiddleware(PLAN, path="never-opened.db")
        result = await made().ainvoke(ASKED)
    assert "blue" in result["messages"][-1].text
