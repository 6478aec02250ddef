"""A stage whose settings move: through the real host, within bounds, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
import warnings
from dataclasses import dataclass

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import Field

from langchain_tokenopt import (
    Attribution,
    BudgetPlan,
    CallRecord,
    LearnedStore,
    Ledger,
    Phase,
    PromptCompressor,
    QualityGuard,
    SemanticCache,
    StageCall,
    TokenOptWarning,
    ToolSelector,
    TunableSetting,
    WordLimit,
    optimize,
    stage_all,
    token_scope,
    track_usage,
)
from langchain_tokenopt.learn.auto_tune import AutoTune
from langchain_tokenopt.learn.setting_bandit import Arm, Bandit
from tests.support.model_server import ModelServer, Reply

WORDS = {"max_words": (40, 160)}


class Sink:
    """Keeps what it hears."""

    def __init__(self):
        self.events = []

    def record(self, event):
        self.events.append(event)


def asked_in(text: str) -> int:
    """Return how many words a request asks for."""
    return int(re.findall(r"\d+", text)[-1])


def asked_words(request) -> int:
    """Return how many words a request over the wire asks for."""
    return asked_in(str(request.body["messages"][-1]["content"]))


class Obedient(BaseChatModel):
    """Answers in as many words as it is asked for, and reports what that took."""

    asked: list[int] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "obedient"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        words = asked_in(messages[-1].text)
        self.asked.append(words)
        usage = {"input_tokens": 20, "output_tokens": words, "total_tokens": 20 + words}
        message = AIMessage("Ada won in 1952. " + "word " * (words - 4), usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


@dataclass
class Dial:
    """The smallest stage that can be tuned: says how many words are wanted."""

    words: float = 160
    phase: Phase = Phase.LIMIT
    blocking: bool = False

    @property
    def fingerprint(self):
        """Its setting."""
        return f"Dial({self.words})"

    @property
    def tunable(self):
        """The number of words."""
        return {"max_words": TunableSetting(self.words, least=1)}

    def with_settings(self, settings):
        """Turned."""
        return Dial(settings["max_words"])

    def open(self, request):
        """Say it."""
        return StageCall(request.override(messages=[HumanMessage(f"In {self.words} words!")]))


@pytest.fixture
def chat(model_server: ModelServer):
    """A real chat model whose answers are as long as they are asked to be."""
    model_server.answer = lambda request: Reply(text="Yes. " + "word " * (asked_words(request) - 1))
    return model_server.chat_openai()


def play(tuner, calls, quality=lambda words: 1.0, bare=None, **metadata):
    """Make calls and judge each; return the limits that they used."""
    bare = bare or Obedient()
    model = optimize(bare, tuner)
    for _ in range(calls):
        answer = model.invoke("Tell me about bridges", {"metadata": metadata})
        assert tuner.record(quality(bare.asked[-1]), answer)
    return bare.asked


def good_from(words):
    """Return a quality: answers of fewer words are of no use."""
    return lambda asked: float(asked >= words)


def test_it_finds_the_cheapest_limit_that_is_good_enough():
    """From the user's own, in steps to neighbours, to the lowest limit of good answers."""
    sink = Sink()
    tuner = AutoTune(Dial(), bounds=WORDS, seed=1, sinks=[sink])
    used = play(tuner, 400, good_from(80))
    ladder = [160, 113, 80, 57, 40]
    assert [one["max_words"] for one in tuner.ladder] == ladder
    assert set(used) <= set(ladder)
    assert set(used[:29]) == {160}
    assert used[-100:].count(80) >= 65
    assert used.count(57) + used.count(40) <= 40
    assert tuner.settings() == {"max_words": 80}
    steps = tuner.history()
    assert [event.after for event in sink.events] == [step.after for step in steps]
    places = [
        (ladder.index(s.before["max_words"]), ladder.index(s.after["max_words"])) for s in steps
    ]
    assert all(abs(before - after) == 1 for before, after in places)
    assert all((step.agent, step.stage) == ("default", "Dial") for step in steps)
    assert all(step.reason for step in steps)
    assert "max_words 80 (bounds 40 to 160)" in tuner.explain()


def test_without_verdicts_nothing_moves():
    """Whatever is saved, and however many calls there are: too little is known, and it says so."""
    tuner, bare = AutoTune(Dial(), bounds=WORDS, seed=1), Obedient()
    model = optimize(bare, tuner)
    for _ in range(60):
        model.invoke("Tell me about bridges")
    for _ in range(29):
        assert tuner.record(1.0)
    assert set(bare.asked) == {160}
    assert tuner.history() == []
    assert "your own" in tuner.explain()
    assert "of 30 judged calls that are needed" in tuner.explain()


def agent_of(model):
    """An agent."""
    return create_agent(model, [], name="news")


def graph_of(model):
    """A graph of one node."""
    graph = StateGraph(MessagesState)
    graph.add_node("news", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "news")
    graph.add_edge("news", END)
    return graph.compile()


def chain_of(model):
    """A pipe."""
    return ChatPromptTemplate.from_template("{topic}") | model | StrOutputParser()


def stream(runnable, given):
    """Read a stream to its end."""
    return [*runnable.stream(given)]


async def astream(runnable, given):
    """Read a stream to its end."""
    return [piece async for piece in runnable.astream(given)]


HOSTS = {
    "agent": (agent_of, {"messages": [("human", "Bridges?")]}, "news"),
    "graph": (graph_of, {"messages": [("human", "Bridges?")]}, "news"),
    "chain": (chain_of, {"topic": "Bridges?"}, "default"),
}
WAYS = {
    "invoke": lambda runnable, given: runnable.invoke(given),
    "stream": stream,
    "ainvoke": lambda runnable, given: asyncio.run(runnable.ainvoke(given)),
    "astream": lambda runnable, given: asyncio.run(astream(runnable, given)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", HOSTS)
def test_it_learns_in_every_host(chat, model_server, tmp_path, host, way):
    """Sync, async and streamed, in a file: each call is counted once, under its agent."""
    tuner = AutoTune(WordLimit(160), bounds=WORDS, seed=1, store=tmp_path / "learned.db")
    build, given, agent = HOSTS[host]
    runnable = build(optimize(chat, tuner))
    sink = Sink()
    with track_usage(sinks=[sink]):
        for _ in range(2):
            WAYS[way](runnable, given)
    calls = [event for event in sink.events if isinstance(event, CallRecord)]
    assert [tuner.record(1.0, run_id=call.run_id) for call in calls] == [True, True]
    assert tuner.record(1.0) is False
    (found,) = tuner.store.values("tuning")
    judged, quality, _, billed, cost, *_ = found.value["arms"][0]
    assert (found.key, found.value["calls"]) == (agent, 2)
    assert (judged, quality, billed) == pytest.approx((1.99, 1.99, 1.99), rel=0.01)
    spent = [call.cost_nano_usd for call in calls]
    assert found.value["unit"] == "nano_usd"
    assert cost * found.value["level"] == pytest.approx(spent[0] + spent[1], rel=0.02)
    assert model_server.requests[0].body.get("stream", False) is True


def test_a_guard_around_it_says_how_good_answers_were():
    """Each trial that the guard makes is a verdict on the setting that was used."""
    tuner = AutoTune(WordLimit(160), bounds=WORDS)
    guard = QualityGuard(tuner, share=1.0, max_extra=9.0)
    bare = Obedient()
    bare_plain = optimize(bare, guard)
    bare_plain.invoke("Answer in at most 200 words about bridges")
    guard.wait(20)
    guard.close()
    (found,) = tuner.store.values("tuning")
    assert found.value["arms"][0][:2] == [1.0, 1.0]


def test_it_follows_a_shift_back_to_what_is_safe():
    """Where short answers become useless, it steps back towards the user's own setting."""
    tuner = AutoTune(Dial(), bounds=WORDS, seed=3)
    play(tuner, 400)
    assert tuner.settings()["max_words"] < 100
    used = play(tuner, 300, good_from(150))
    assert tuner.settings() == {"max_words": 160}
    assert used[-100:].count(160) >= 80
    assert "no longer known to be good enough" in tuner.history()[-1].reason


def test_one_users_history_moves_only_his_own():
    """A thousand odd calls of one user; another user's settings are those of a quiet world."""
    quiet, poisoned = (AutoTune(Dial(), bounds=WORDS, seed=5) for _ in range(2))
    play(poisoned, 300, user_id="mallory")
    play(poisoned, 300, lambda _: 0.0, user_id="eve")
    assert poisoned.settings(user="mallory")["max_words"] < 100
    for tuner in (quiet, poisoned):
        tuner._draw.seed(11)
    used = [play(tuner, 25, user_id="ann") for tuner in (quiet, poisoned)]
    assert used[0] == used[1] == [160] * 25
    assert quiet.settings() == poisoned.settings() == {"max_words": 160}


def test_what_five_users_agree_on_is_where_the_next_begins():
    """The shared prior, of which one odd history is no part."""
    tuner = AutoTune(Dial(), bounds=WORDS, seed=6)
    for number in range(6):
        play(tuner, 90, user_id=f"user {number}")
    play(tuner, 60, lambda _: 0.0, user_id="eve")
    assert {*play(tuner, 6, user_id="newcomer")} != {160}
    assert tuner.settings(user="newcomer")["max_words"] < 160


def test_agents_and_organizations_are_apart():
    """What one agent learns is not another's, nor another organization's."""
    tuner = AutoTune(Dial(), bounds=WORDS, seed=1)
    play(tuner, 200, tokenopt_agent="news", tenant_id="acme")
    assert {*play(tuner, 20, tokenopt_agent="news", tenant_id="beta")} == {160}
    assert {*play(tuner, 20, tokenopt_agent="risk", tenant_id="acme")} == {160}
    assert [step.organization for step in tuner.history("news")][:1] == ["acme"]
    assert tuner.explain("news").count("of acme") == 1


def test_the_user_of_a_scope_is_the_user():
    """As he is for every other stage."""
    tuner = AutoTune(Dial(), bounds=WORDS)
    with token_scope(user="ann"):
        play(tuner, 3)
    assert tuner.record(1.0, user="bob") is False
    assert tuner.forget("ann") == 1
    assert tuner.store.values() == []


def test_taking_hold(tmp_path):
    """Frozen settings stay, in all processes; a reset begins anew; a forgotten user is gone."""
    path = tmp_path / "learned.db"
    tuner, other = (AutoTune(Dial(), bounds=WORDS, seed=1, store=path) for _ in range(2))
    play(tuner, 200)
    found = tuner.settings()
    assert other.settings() == found != {"max_words": 160}
    assert other.explain() == tuner.explain()
    tuner.freeze()
    assert {*play(other, 60, lambda _: 0.0)} == {found["max_words"]}
    assert "Frozen" in other.explain()
    other.unfreeze()
    tuner.unfreeze()
    play(tuner, 40, lambda _: 0.0)
    assert tuner.settings() != found
    with pytest.raises(TypeError, match="names nothing"):
        tuner.forget(None)
    assert other.history()
    tuner.reset()
    assert (other.settings(), other.history()) == ({"max_words": 160}, [])
    assert {*play(other, 10)} == {160}


def test_a_call_is_judged_once_and_by_name():
    """By answer, by id of the answer or the run, or the last one; what is unknown is not judged."""
    tuner = AutoTune(Dial(), bounds=WORDS)
    model, sink = optimize(Obedient(), tuner), Sink()
    first = model.invoke("Bridges?")
    with track_usage(sinks=[sink]):
        second = model.invoke("Bridges?")
    model.invoke("Bridges?", {"metadata": {"tokenopt_agent": "news"}})
    assert tuner.record(1.0, agent="risk") is False
    assert tuner.record(True, first.id)
    assert not tuner.record(1.0, first)
    assert tuner.record(0, run_id=sink.events[-1].run_id)
    assert not tuner.record(1.0, second)
    assert tuner.record(0.5)
    assert not tuner.record(0.5)
    assert not tuner.record(0.5, "nothing known")
    for quality in (1.1, -0.1, float("nan"), "good", None):
        with pytest.raises(ValueError, match="from 0 to 1"):
            tuner.record(quality)
    with pytest.raises(TypeError, match="an answer, its id"):
        tuner.record(1.0, 7)


def test_a_cut_answer_is_a_bad_one(chat, model_server):
    """Whatever is said of it; and by itself, where that is asked for."""
    model_server.answer = lambda request: Reply(text="One two three. " * 100)
    for own, kept in ((False, [0.0, 0.0]), (True, [1.0, 0.0])):
        tuner = AutoTune(WordLimit(50), bounds={"max_words": (20, 50)}, own_verdicts=own)
        answer = optimize(chat, tuner).invoke("Bridges?")
        assert "tokenopt_stopped_by" in answer.response_metadata
        (found,) = tuner.store.values("tuning")
        assert found.value["arms"][0][:2] == kept
        tuner.record(1.0, answer)
        (found,) = tuner.store.values("tuning")
        assert found.value["arms"][0][:2] == [1.0, 0.0]


TEXT = "The bridge was built in 1931. " + " ".join(f"Bird {n} sings there." for n in range(60))
STAGES = {
    "keep": (lambda: PromptCompressor(keep=0.8), {"keep": (0.3, 0.9)}),
    "level": (lambda: PromptCompressor(level="aggressive"), {"keep": (0.3, 0.5)}),
    "tokens": (lambda: PromptCompressor(300), {"max_tokens": (100, 300)}),
    "tools": (lambda: ToolSelector(max_tools=6, embeddings=False), {"max_tools": (2, 8)}),
    "cache": (
        lambda: SemanticCache(embeddings=DeterministicFakeEmbedding(size=8), min_similarity=0.95),
        {"min_similarity": (0.9, 1.0)},
    ),
    "words and sentences": (
        lambda: WordLimit(100, max_sentences=8),
        {"max_words": (40, 120), "max_sentences": (3, 8)},
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_every_setting_of_a_stage_works(chat, model_server, name):
    """Whatever is chosen, the request goes out and the answer comes back, also streamed."""
    model_server.answer = lambda request: Reply(text="In 1931.")
    make, bounds = STAGES[name]
    tuner = AutoTune(make(), bounds=bounds)
    form = {"type": "object", "properties": {}}
    tools = [
        {"name": f"tool_{n}", "description": "Does it.", "parameters": form} for n in range(12)
    ]
    model = optimize(chat, tuner)
    model = model.bind_tools(tools) if name == "tools" else model
    asked = f"Context: {TEXT}\n\nQuestion: When was the bridge built?"
    sizes = []
    for at in range(len(tuner.ladder)):
        tuner._choice = lambda owner, at=at: at
        assert model.invoke(asked + " " * at).text == "In 1931."
        sizes.append(len(str(model_server.requests[-1].body)))
        assert "".join(piece.text for piece in model.stream(asked + "\n" * at)) == "In 1931."
    if name in ("keep", "level", "tokens", "tools"):
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) > 1
    assert len(tuner.ladder) >= 4


def test_what_works_with_the_users_own_setting_works(chat, model_server):
    """A tighter setting in which a prompt does not fit is not used for it."""
    model_server.answer = lambda request: Reply(text="In 1931.")
    tuner = AutoTune(PromptCompressor(2_000), bounds={"max_tokens": (1, 2_000)})
    tuner._choice = lambda owner: len(tuner.ladder) - 1
    model = optimize(chat, tuner)
    assert model.invoke("When was the bridge built, and why?").text == "In 1931."
    assert asyncio.run(model.ainvoke("When was the bridge built, and why?")).text == "In 1931."


class Broken(LearnedStore):
    """Fails whatever is asked of it."""

    def get(self, key):
        raise RuntimeError("no get")

    def update(self, key, change):
        raise RuntimeError("no update")


def test_tuning_that_fails_breaks_no_call(chat, model_server):
    """The user's own setting is used, and a warning says so once."""
    tuner = AutoTune(WordLimit(160), bounds=WORDS, store=Broken())
    model = optimize(chat, tuner)
    with pytest.warns(TokenOptWarning, match="your own settings") as warned:
        for _ in range(3):
            answer = model.invoke("Bridges?")
            tuner.record(1.0, answer)
    assert len(warned) == 1
    assert {asked_words(request) for request in model_server.requests} == {160}


@pytest.mark.parametrize("spoil", [b"no database", None], ids=["junk", "strange rows"])
def test_a_bad_file_breaks_no_call(tmp_path, spoil):
    """It begins with the user's own settings, and learns on."""
    path = tmp_path / "learned.db"
    if spoil is None:
        tuner = AutoTune(Dial(), bounds=WORDS, store=path)
        play(tuner, 3)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("UPDATE learned SET value = '{\"arms\": 7}'")
            database.commit()
    else:
        path.write_bytes(spoil)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TokenOptWarning)
        tuner = AutoTune(Dial(), bounds=WORDS, store=path)
        assert {*play(tuner, 5)} == {160}
        assert "5 of 30" in tuner.explain()


def test_in_a_pipe_it_uses_what_was_learned():
    """Behind the model it trims, in front of it it shortens, with the settings of its agent."""
    tuner = AutoTune(WordLimit(160), bounds=WORDS)
    learned = Bandit([Arm() for _ in tuner.ladder], 0, 0.9, at=2).as_json()
    tuner.store.update(tuner._owner(Attribution()), lambda _: learned)
    words = 80
    assert tuner.settings() == {"max_words": words}
    text = "One two three four. " * 60
    chain = FakeListChatModel(responses=[text]) | StrOutputParser() | tuner
    assert len(chain.invoke("?").split()) == words
    assert len("".join(chain.stream("?")).split()) == words
    assert len(asyncio.run(chain.ainvoke("?")).split()) == words
    shorten = AutoTune(PromptCompressor(keep=0.8), bounds=(0.3, 0.9))
    asked = f"Context: {TEXT}\n\nQuestion: When was the bridge built?"
    assert "1931" in shorten.invoke(asked)
    with pytest.raises(TypeError, match="around a model"):
        AutoTune(ToolSelector(max_tools=4, embeddings=False), bounds=(2, 4)).invoke("?")


def test_beside_a_budget_and_a_cache(chat, model_server):
    """All of them act; answers of a cache further out teach nothing."""
    plan = BudgetPlan(total_tokens=10_000)
    tuner = AutoTune(WordLimit(160), bounds=WORDS)
    model = optimize(chat, plan, InMemoryCache(), tuner)
    with plan.run() as run:
        for _ in range(3):
            model.invoke("Bridges?")
    assert len(model_server.requests) == 1
    assert 0 < run.report().account.spent_tokens < 1_000
    (found,) = tuner.store.values("tuning")
    assert found.value["calls"] == 1


def test_a_ledger_is_a_sink_that_keeps_no_steps(tmp_path):
    """It hears of them, and does not fail."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        tuner = AutoTune(Dial(), bounds=WORDS, seed=1, sinks=[ledger])
        play(tuner, 120)
        assert tuner.history()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: AutoTune("text", bounds=(1, 2)), TypeError, "cannot be tuned"),
        (lambda: AutoTune(WordLimit(9), targets=1, bounds=(1, 9)), ValueError, "between 0 and 1"),
        (
            lambda: AutoTune(WordLimit(9), targets={"speed": 1}, bounds=(1, 9)),
            ValueError,
            "quality",
        ),
        (lambda: AutoTune(WordLimit(9)), TypeError, "bounds"),
        (lambda: AutoTune(WordLimit(9), bounds=(1, float("inf"))), TypeError, "two finite numbers"),
        (lambda: AutoTune(WordLimit(9), bounds=(1, 10**400)), TypeError, "two finite numbers"),
        (lambda: AutoTune(WordLimit(9), bounds=(1, 10**9_999)), TypeError, "two finite numbers"),
        (lambda: AutoTune(WordLimit(9), bounds={"max_word": (1, 9)}), ValueError, "Did you mean"),
        (lambda: AutoTune(WordLimit(9), bounds=(9, 1)), ValueError, "lower one first"),
        (lambda: AutoTune(WordLimit(9), bounds=(1, 8)), ValueError, "within its bounds"),
        (lambda: AutoTune(WordLimit(9), bounds=(0, 9)), ValueError, "from 1"),
        (lambda: AutoTune(WordLimit(9), bounds="19"), TypeError, "bounds"),
        (
            lambda: AutoTune(WordLimit(9, on_exceed="raise"), bounds=(1, 9)),
            ValueError,
            "without breaking calls",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused(make, error, match):
    """In a sentence that says what to do."""
    with pytest.raises(error, match=match):
        make()


def test_it_stands_in_the_place_of_its_stage(chat, model_server):
    """A second limit beside it is refused, and one of the surroundings gives way."""
    tuner = AutoTune(WordLimit(160), bounds=WORDS)
    with pytest.raises(ValueError, match="two stages of the kind WordLimit"):
        optimize(chat, tuner, WordLimit(20))
    with stage_all(WordLimit(20)):
        optimize(chat, tuner).invoke("Bridges?")
    assert str(model_server.requests[0].body).count("in at most") == 1
    assert asked_words(model_server.requests[0]) == 160
