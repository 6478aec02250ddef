"""The prefetcher in its hosts: what it loads ahead, for whom, and that no call suffers from it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import warnings
from typing import Annotated, ClassVar

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import InjectedToolArg, tool

from langchain_tokenopt import Prefetcher, RateCard, SemanticCache, Usage, optimize, track_usage
from langchain_tokenopt.core.errors import TokenOptWarning
from langchain_tokenopt.storage.learned_store import LearnedStore
from tests.support.fakes import FakeAnswer, fake_chat

DAY = ["inbox", "calendar", "news"]


class Loader:
    """Notes what it is asked for, and in which thread."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: list[str] = []
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, key):
        self.asked.append(key)
        self.threads.append(threading.current_thread().name)
        self.gate.wait(5)
        if self.fails and self.threads[-1].startswith("tokenopt"):
            raise OSError("down")
        return f"{key}!"


def live(prefetcher, days, *, user="ann", keys=DAY):
    """Ask for the keys in turn, with time enough between two calls."""
    for _ in range(days):
        for key in keys:
            assert f"{key}!" == prefetcher.get(key, user=user)
            prefetcher.wait()


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def prefetcher(loader):
    with Prefetcher(loader=loader) as made:
        yield made


def test_what_is_nearly_certain_is_loaded_ahead_and_nothing_twice(loader, prefetcher):
    """Once the order is known, no call has to wait, and the loader works as often as before."""
    live(prefetcher, 20)
    in_foreground = loader.threads.count("MainThread")
    live(prefetcher, 20)

    assert in_foreground == loader.threads.count("MainThread")
    stats = prefetcher.stats()
    assert 0 == stats.wasted
    assert 1 == stats.outstanding
    assert 40 * DAY + DAY[:1] == loader.asked
    assert stats.started == stats.used + 1


def test_nothing_is_begun_before_predictions_were_right(loader, prefetcher):
    """The first loads wait until 18 predictions in a row were right in the shadow."""
    live(prefetcher, 4)
    assert 0 == prefetcher.stats().started
    live(prefetcher, 10)
    assert 18 == prefetcher.stats().right_in_shadow
    assert 0 < prefetcher.stats().started


def test_it_stops_when_habits_change_and_begins_again(loader, prefetcher):
    """A new order costs at most three loads; when it is known, loading ahead goes on."""
    live(prefetcher, 20)
    live(prefetcher, 1, keys=["inbox", "sports", "weather", "calendar", "maps", "news", "inbox"])
    for n in range(60):
        live(prefetcher, 1, keys=[f"thing {n * n % 61}"])
    changed = prefetcher.stats()
    assert changed.wasted <= 3
    live(prefetcher, 30, keys=["sports", "weather", "maps"])
    assert changed.used + 20 < prefetcher.stats().used
    assert prefetcher.stats().waste_ratio < 0.1


def test_what_fails_in_the_background_is_loaded_by_the_call(loader, prefetcher):
    """A loader that raises ahead breaks nothing, is not retried, and counts as waste."""
    live(prefetcher, 16)
    loader.fails = True
    live(prefetcher, 16)
    stats = prefetcher.stats()
    assert stats.failed == stats.wasted == 3
    assert prefetcher.explain(user="ann").startswith("Nothing is loaded ahead")


def test_a_call_joins_what_is_under_way(loader, prefetcher):
    """A call for what is being loaded waits for it instead of loading it again."""
    live(prefetcher, 16)
    loader.gate.clear()
    begun = len(loader.asked)
    threading.Timer(0.05, loader.gate.set).start()
    prefetcher._ahead.sources["loader"].mean_seconds = 5.0
    assert "inbox!" == prefetcher.get("inbox", user="ann")
    assert "calendar!" == prefetcher.get("calendar", user="ann")
    assert begun + 2 >= len(loader.asked)


def test_a_load_that_hangs_holds_nobody_up(loader, prefetcher):
    """A call waits for a hanging load no longer than twice the usual time, then loads itself."""
    live(prefetcher, 16)
    hanging, loader.gate = loader.gate, threading.Event()
    prefetcher.get("inbox", user="ann")  # was loaded ahead; the next load hangs
    deadline = time.monotonic() + 5
    while loader.asked[-1] != "calendar" and time.monotonic() < deadline:
        time.sleep(0.001)
    loader.gate, hanging = hanging, loader.gate
    begun = time.monotonic()
    assert "calendar!" == prefetcher.get("calendar", user="ann")
    assert time.monotonic() - begun < 1
    assert 1 == prefetcher.stats().wasted
    hanging.set()


def test_nobody_is_given_what_was_loaded_for_another(loader):
    """The same keys of two users are loaded for each; a shared one is handed to whoever asks."""
    with Prefetcher(loader=loader, shared=["news"]) as prefetcher:
        live(prefetcher, 16, user="ann")
        live(prefetcher, 16, user="bob")
        prefetcher.get("inbox", user="ann")
        prefetcher.wait()
        before = len(loader.asked)
        prefetcher.get("calendar", user="bob")
        assert before < len(loader.asked)
        prefetcher.get("calendar", user="ann")
        prefetcher.wait()
        before = len(loader.asked)
        prefetcher.get("news", user="cat")
        assert before == len(loader.asked)


def test_others_habits_are_known_to_a_newcomer_from_three_users_on(loader, prefetcher):
    """What three do, a fourth is expected to do; what one does is his own business."""
    for user in ("ann", "bob", "cat"):
        live(prefetcher, 16, user=user)
    live(prefetcher, 60, user="odd", keys=["secret", "diary"])
    used = prefetcher.stats().used
    live(prefetcher, 2, user="new")
    assert used + 2 <= prefetcher.stats().used
    prefetcher.get("secret", user="new")
    assert "diary" not in prefetcher.explain(user="new")


def test_a_forgotten_user_begins_anew(loader):
    """Nothing of a forgotten user is held, foretold or stored."""
    store = LearnedStore()
    with Prefetcher(loader=loader, store=store) as prefetcher:
        live(prefetcher, 16, user="ann")
    assert store.values(user="ann")
    with Prefetcher(loader=loader, store=store) as prefetcher:
        prefetcher.get("inbox", user="ann")
        assert "calendar" in prefetcher.explain(user="ann")
        prefetcher._ahead.habits.wait(5)
        with pytest.raises(TypeError, match="names nothing"):
            prefetcher.forget(None)
        assert 0 < prefetcher.forget("ann")
        prefetcher.get("inbox", user="ann")
        assert "calendar" not in prefetcher.explain(user="ann")
    assert 1 == len(store.values(user="ann"))


def test_what_several_have_learned_adds_up(loader):
    """Whoever meets a user anew reads what others have stored, and adds to it."""
    store = LearnedStore()
    one, other = (Prefetcher(loader=loader, store=store) for _ in range(2))
    with one:
        live(one, 10)
    with other:
        other.get("inbox", user="ann")
        other._ahead.habits.wait(5)
        other.get("calendar", user="ann")
        assert "news" in other.explain(user="ann")
    (stored,) = store.values(user="ann")
    fading = sum(0.5 ** (n / 64) for n in range(32))
    everything = [row[1:] for row in stored.value["followers"] if not row[0]]
    assert fading == pytest.approx(sum(everything[0][1::2]), abs=0.1)


def test_async_loads_run_on_the_loop_and_end_with_it():
    """An async loader is asked on the loop that asks; what is under way at its end is given up."""
    asked, loops = [], set()

    async def load(key):
        asked.append(key)
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)
        if key == "forever":
            await asyncio.sleep(3_600)
        return f"{key}!"

    prefetcher = Prefetcher(loader=load)

    async def main(days, keys):
        for _ in range(days):
            for key in keys:
                if key != "forever":
                    assert f"{key}!" == await prefetcher.aget(key, user="ann")
                await asyncio.sleep(0.001)
        return id(asyncio.get_running_loop())

    assert {asyncio.run(main(20, DAY))} == loops
    assert 20 * 3 <= len(asked) <= 20 * 3 + 1
    assert 0 < prefetcher.stats().used
    prefetcher.close()
    assert 0 == prefetcher.stats().outstanding


# Tools


def shop(read_only=("orders", "order"), **options):
    """A shop's tools, wrapped; what was called for whom."""
    calls = []

    @tool
    def orders(customer: str, config: RunnableConfig) -> str:
        """List a customer's orders."""
        calls.append(("orders", customer))
        return f'{{"ids": ["{customer}-1", "{customer}-2", "{customer}-3"]}}'

    @tool(response_format="content_and_artifact")
    def order(id: str) -> tuple[str, dict]:
        """Read an order."""
        calls.append(("order", id))
        return f"Order {id}.", {"id": id}

    @tool
    def cancel(id: str) -> str:
        """Cancel an order."""
        calls.append(("cancel", id))
        return "Cancelled."

    prefetcher = Prefetcher(read_only=read_only, **options)
    return prefetcher, prefetcher.wrap([orders, order, cancel]), calls


def serve(prefetcher, tools, customer, *, user="ann", cancels=False):
    """Read a customer's orders one by one, as agents do."""
    listing, reading, cancelling = tools
    config = {"metadata": {"user_id": user, "thread_id": customer}}
    listing.invoke({"customer": customer}, config)
    prefetcher.wait()
    for n in (1, 2, 3):
        call = {"name": "order", "args": {"id": f"{customer}-{n}"}, "id": f"c{n}"}
        message = reading.invoke({**call, "type": "tool_call"}, config)
        assert f"Order {customer}-{n}." == message.content
        assert f"c{n}" == message.tool_call_id
        assert {"id": f"{customer}-{n}"} == message.artifact
        prefetcher.wait()
        if cancels:
            cancelling.invoke({"id": f"{customer}-{n}"}, config)


def test_calls_never_seen_before_are_foretold_from_results():
    """The next entry of a list that a tool has returned is read ahead, for every new customer."""
    prefetcher, tools, calls = shop()
    for n in range(20):
        serve(prefetcher, tools, f"c{n}")
    stats = prefetcher.stats()
    assert 0 == stats.wasted
    assert 3 * 10 <= stats.used
    assert 80 == len(calls) == len(set(calls))


def test_tools_that_are_not_named_are_never_called_ahead():
    """A tool that is not in read_only is called by the agent alone, however certain it is."""
    prefetcher, tools, calls = shop(read_only=["orders"])
    for n in range(20):
        serve(prefetcher, tools, f"c{n}", cancels=True)
    assert 20 * 7 == len(calls)
    assert 0 == prefetcher.stats().started


def test_a_change_drops_what_is_held():
    """After a tool that may change something, what was loaded before is loaded anew."""
    prefetcher, tools, calls = shop()
    for n in range(20):
        serve(prefetcher, tools, f"c{n}")
    tools[0].invoke({"customer": "z"}, {"metadata": {"user_id": "ann", "thread_id": "z"}})
    prefetcher.wait()
    assert ("order", "z-1") == calls[-1]
    tools[2].invoke({"id": "z-1"}, {"metadata": {"user_id": "ann", "thread_id": "z"}})
    tools[1].invoke({"id": "z-1"}, {"metadata": {"user_id": "ann", "thread_id": "z"}})
    assert 2 == calls.count(("order", "z-1"))
    assert 1 == prefetcher.stats().wasted


def test_injected_arguments_are_in_no_prediction():
    """A tool that is given what the model did not choose is called as ever, and never ahead."""
    calls = []

    @tool
    def mail(folder: str, account: Annotated[str, InjectedToolArg]) -> str:
        """Read mail."""
        calls.append(threading.current_thread() is threading.main_thread())
        return f"{account}: {folder}"

    prefetcher = Prefetcher(read_only=["mail"])
    wrapped = prefetcher.wrap(mail)
    for n in range(60):
        folder = ("in", "out")[n % 2]
        found = wrapped.invoke({"folder": folder, "account": "ann"})
        assert f"ann: {folder}" == found
        prefetcher.wait()
    assert all(calls)
    assert 0 == prefetcher.stats().started


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_an_agent_reads_ahead(mode):
    """In create_agent a tool's next call is under way while the model thinks."""
    calls = []

    @tool
    async def page(number: int) -> str:
        """Read a page."""
        calls.append(number)
        return json.dumps({"next": number + 1})

    @tool("page")
    def page_in_thread(number: int) -> str:
        """Read a page."""
        calls.append(number)
        return json.dumps({"next": number + 1})

    original = page if mode == "ainvoke" else page_in_thread
    with Prefetcher(read_only=["page"]) as prefetcher:
        wrapped = prefetcher.wrap(original)
        assert type(original).__name__ == type(wrapped).__name__
        answers = [
            FakeAnswer("", tool_calls=[{"name": "page", "args": {"number": n}, "id": f"c{n}"}])
            for n in range(40)
        ]
        model = fake_chat("_agenerate", answers=[*answers, FakeAnswer("Done.")])
        model.delay_seconds = 0.002
        agent = create_agent(model, [wrapped])
        asked = {"messages": [HumanMessage("Read.")]}
        config = {"metadata": {"user_id": "ann"}, "recursion_limit": 100}
        if mode == "invoke":
            state = agent.invoke(asked, config)
        else:
            state = asyncio.run(agent.ainvoke(asked, config))
        results = [m.content for m in state["messages"] if isinstance(m, ToolMessage)]
        assert [json.dumps({"next": n + 1}) for n in range(40)] == results
        stats = prefetcher.stats()
        assert 15 <= stats.used
        assert stats.waste_ratio <= 0.1
        assert sorted(set(calls)) == sorted(calls)


class Library(BaseRetriever):
    """Finds one document for each question."""

    asked: ClassVar[list] = []

    def _get_relevant_documents(self, query, *, run_manager):
        self.asked.append((query, threading.current_thread().name))
        return [Document(f"About {query}.")]


def test_retrievers_and_embeddings_work_ahead():
    """A retriever keeps its class, in a pipe too; an embedder returns the same vectors."""
    library = Library()
    with Prefetcher() as prefetcher:
        retriever = prefetcher.wrap(library)
        assert isinstance(retriever, Library)
        chain = retriever | RunnableLambda(lambda found: found[0].page_content)
        for n in range(60):
            topic = DAY[n % 3]
            assert f"About {topic}." == chain.invoke(topic, {"metadata": {"user_id": "ann"}})
            prefetcher.wait()
        assert 20 <= prefetcher.stats().used
        assert 61 == len(library.asked)

        plain = DeterministicFakeEmbedding(size=4)
        embedder = prefetcher.wrap(plain)
        with track_usage(user="ann"):
            for n in range(60):
                assert plain.embed_query(DAY[n % 3]) == embedder.embed_query(DAY[n % 3])
                prefetcher.wait()
        assert 50 <= prefetcher.stats().used


def test_functions_and_runnables_work_ahead():
    """Functions, sync and async, and runnables, by their names in read_only."""

    def look(word: str, times: int = 1) -> str:
        return times * word

    async def alook(word: str) -> str:
        return word

    with Prefetcher(read_only=["look", "alook", "upper"]) as prefetcher:
        wrapped, awrapped = prefetcher.wrap((look, alook))
        runnable = prefetcher.wrap(RunnableLambda(str.upper, name="upper"))

        async def main():
            for n in range(60):
                assert 2 * DAY[n % 3] == wrapped(DAY[n % 3], times=2)
                await asyncio.sleep(0.002)
                assert DAY[n % 3] == await awrapped(DAY[n % 3])
                await asyncio.sleep(0.002)
                assert DAY[n % 3].upper() == await runnable.ainvoke(DAY[n % 3])
                prefetcher.wait()

        asyncio.run(main())
        assert 90 <= prefetcher.stats().used
        assert "NEWS" == runnable.invoke("news")


# Money


def test_models_are_called_ahead_only_within_a_budget():
    """Without a budget no model is called ahead; with one, as long as it lasts, as ``prefetch``."""
    card = RateCard({"models": {"fake-1": {"input": 1_000, "output": 1_000}}})

    def run(**options):
        model = fake_chat(answers=[FakeAnswer(usage=Usage(9, 4))] * 200)

        @tool
        def ask(topic: str) -> str:
            """Ask a model."""
            return model.invoke(topic, max_tokens=10).text

        with (
            Prefetcher(read_only=["ask"], rate_card=card, **options) as prefetcher,
            track_usage(rate_card=card) as usage,
        ):
            wrapped = prefetcher.wrap(ask)
            for n in range(60):
                wrapped.invoke({"topic": DAY[n % 3]}, {"metadata": {"user_id": "ann"}})
                prefetcher.wait()
            return prefetcher.stats(), usage.by("agent"), len(model.calls)

    stats, agents, calls = run()
    assert "prefetch" not in agents
    assert 60 == calls
    assert 0 < stats.failed
    stats, agents, calls = run(budget_usd=1.0)
    assert 20 < agents["prefetch"].calls
    assert agents["prefetch"].cost_usd == stats.spent_usd > 0
    limited, agents, _ = run(budget_usd=float(stats.spent_usd) / 4)
    assert 0 < limited.spent_usd <= stats.spent_usd / 4
    assert 0 == limited.failed == limited.wasted
    assert 5 < limited.refused
    assert limited.used + 1 == agents["prefetch"].calls  # the one that was refused


def test_a_cache_is_filled_ahead():
    """With a cache and a model, what is probably asked next is answered before it is asked."""
    model = fake_chat(answers=[FakeAnswer(usage=Usage(9, 4))] * 60)
    cache = SemanticCache(semantic=False)
    card = RateCard({"models": {"fake-1": {"input": 1, "output": 1}}})
    mine = optimize(model, cache)
    with Prefetcher(cache, model, budget_usd=1.0, rate_card=card) as prefetcher:
        for n in range(60):
            prefetcher.observe(f"What is in my {DAY[n % 3]}?", user="ann")
            prefetcher.wait()
        assert prefetcher.stats().used > 20
        assert 3 == len(model.calls) == cache.stats().entries
        mine.invoke("What is in my inbox?", {"metadata": {"user_id": "ann"}})
        assert 3 == len(model.calls)


@pytest.mark.parametrize("budget_usd", [None, 1e-6])
def test_what_a_tool_makes_of_a_refused_model_is_handed_to_nobody(budget_usd):
    """A tool that answers without its model, ahead, is asked again by the call itself."""
    card = RateCard({"models": {"fake-1": {"input": 1_000, "output": 1_000}}})
    model = fake_chat(answers=[FakeAnswer("Fine.", usage=Usage(9, 4))] * 200)

    @tool
    def ask(topic: str) -> str:
        """Ask a model, if there is one."""
        try:
            return model.invoke(topic, max_tokens=10).text
        except Exception:
            return "There is no model."

    options = {"read_only": ["ask"], "rate_card": card, "budget_usd": budget_usd}
    with Prefetcher(**options) as prefetcher:
        wrapped = prefetcher.wrap(ask)
        for n in range(60):
            config = {"metadata": {"user_id": "ann"}}
            assert "Fine." == wrapped.invoke({"topic": DAY[n % 3]}, config)
            prefetcher.wait()
        assert prefetcher.stats().wasted <= 1
        assert "no money is left" in prefetcher.explain(user="ann")


# Changes


def hall(*, is_async=False, **options):
    """A hall's wrapped tools, and the seats that are free in it."""
    seats = {"free": 100}

    def menu() -> str:
        """Show the menu."""
        return "book, free"

    def free() -> str:
        """Say how many seats are free."""
        return str(seats["free"])

    def book(n: int, **more: object) -> str:
        """Book seats."""
        seats["free"] -= n
        if n == 0:
            raise OSError("down")
        return "booked"

    async def afree() -> str:
        return free()

    async def abook(n: int, **more: object) -> str:
        await asyncio.sleep(0.01)
        return book(n, **more)

    afree.__name__, abook.__name__ = "free", "book"
    functions = [menu, afree, abook] if is_async else [menu, free, book]
    prefetcher = Prefetcher(read_only=["menu", "free"], **options)
    return prefetcher, prefetcher.wrap(functions), seats


def run_of(user, n=0):
    return {"metadata": {"user_id": user, "thread_id": f"{user}{n}"}}


def as_user(user, n, function, *args, **kwargs):
    """Call a function as part of a user's run."""
    return RunnableLambda(lambda _: function(*args, **kwargs)).invoke(None, run_of(user, n))


@pytest.mark.parametrize("how", ["plain", "not JSON", "raises"])
def test_a_change_by_anybody_drops_what_is_held_for_all(how):
    """No read is older than another user's change, whatever the change was given or has raised."""
    prefetcher, (menu, free, book), seats = hall()
    for i in range(60):
        as_user("kim", i, menu)
        prefetcher.wait()
        if i > 30 and how == "raises":
            seats["free"] -= 1
            with pytest.raises(OSError, match="down"):
                as_user("lee", i, book, 0)
        elif i > 30:
            more = {"at": object()} if how == "not JSON" else {}
            as_user("lee", i, book, 2, **more)
        assert str(seats["free"]) == as_user("kim", i, free)
        prefetcher.wait()
    assert 0 < prefetcher.stats().wasted <= 4


@pytest.mark.parametrize("is_before", [True, False])
def test_a_change_by_anybody_drops_what_is_held_async(is_before):
    """The same on an event loop; what would be read while a change is under way is not begun."""
    prefetcher, (menu, free, book), seats = hall(is_async=True)

    async def as_(user, n, function, *args):
        async def called(_):
            found = function(*args)
            return await found if asyncio.iscoroutine(found) else found

        return await RunnableLambda(called).ainvoke(None, run_of(user, n))

    async def main():
        for i in range(40):
            changing = None
            if i > 30 and not is_before:
                changing = asyncio.create_task(as_("lee", i, book, 2))
                while not prefetcher._ahead._changes:
                    await asyncio.sleep(0)
            await as_("kim", i, menu)
            await asyncio.sleep(0.001)
            if i > 30:
                await (changing or as_("lee", i, book, 2))
            assert str(seats["free"]) == await as_("kim", i, free)

    asyncio.run(main())
    stats = prefetcher.stats()
    assert 0 < stats.used
    assert (0 < stats.wasted) if is_before else (9 == stats.refused)


def test_changes_that_are_said_to_be_ones_own_leave_others_alone():
    """What changes only what its caller reads drops what is held for him, not for others."""
    prefetcher, (menu, free, book), _ = hall(own_changes=["book"])
    for i in range(60):
        as_user("kim", i, menu)
        prefetcher.wait()
        as_user("lee", i, book, 2)
        as_user("kim", i, free)
        prefetcher.wait()
    assert 0 == prefetcher.stats().wasted
    assert 30 < prefetcher.stats().used


# Habits after a restart


def days(store, count, *, keys=DAY, user="kim", first=0):
    """Live some days in a process of its own; return what was done."""
    with Prefetcher(loader=str.upper, store=store) as prefetcher:
        for n in range(first, first + count):
            for key in keys:
                assert key.upper() == prefetcher.get(key, user=user, thread_id=str(n))
                prefetcher.wait()
        prefetcher._ahead.habits.wait(5)
    return prefetcher.stats()


@pytest.mark.parametrize("count", [1, 5])
def test_a_restart_goes_on_where_it_was(count):
    """With what the store knows, two of three calls are loaded ahead from the first day on."""
    store = LearnedStore()
    days(store, 40)
    for n in range(3):
        assert 2 * count == days(store, count, first=100 * n).used


def test_a_restart_trusts_what_was_learned_until_the_first_waste():
    """Where habits have changed meanwhile, one load is wasted and no more, restarts or not."""
    store = LearnedStore()
    days(store, 40)
    wasted = [
        days(store, 3, keys=["inbox", f"x{n}", f"y{n}", f"z{n}"], first=100 * n).wasted
        for n in range(4)
    ]
    assert 1 == sum(wasted)


def test_newcomers_after_a_restart_begin_as_those_before_it():
    """What the first calls of others have told of newcomers is known after a restart, too."""
    store = LearnedStore()
    for user in ("ann", "bob", "cat", "dan", "eve"):
        days(store, 20, user=user)
    assert 0 < days(store, 2, user="new").used


def test_what_never_was_right_is_not_opened_by_restarts():
    """A closed gate stays closed over restarts, while there is nothing to be sure of."""
    store = LearnedStore()
    for n in range(8):
        assert 0 == days(store, 2, first=100 * n).started or n > 3


@pytest.mark.parametrize("place", ["symbols", "followers", "gate"])
@pytest.mark.parametrize("junk", ["nonsense", 7, None, [], {}, ["[1]"], [[[0], 0, 10**400]]])
def test_a_store_of_another_shape_is_begun_anew(place, junk):
    """One warning, calls as ever, and what is learned then is kept."""
    store = LearnedStore()
    days(store, 20)
    other = LearnedStore()
    for line in store.export():
        row = json.loads(line)
        row["value"][place] = junk if place == "gate" else [junk, *row["value"][place][1:]]
        other.load([json.dumps(row, separators=(",", ":"))])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        days(other, 20)
        assert 2 == days(other, 1).used
    assert (junk is not None or place != "gate") == len(warned)
    assert "It is learned anew" in str(warned[0].message) if warned else junk is None


# The process


def test_closing_does_not_wait_for_what_hangs(loader):
    """Closing takes a second at most, and what was wrapped goes on without prefetching."""
    prefetcher = Prefetcher(loader=loader)
    live(prefetcher, 16)
    loader.gate.clear()
    prefetcher._ahead.sources["loader"].mean_seconds = 0.001
    threading.Timer(0.2, loader.gate.set).start()
    assert "inbox!" == prefetcher.get("inbox", user="ann")
    begun = time.monotonic()
    prefetcher.close()
    assert time.monotonic() - begun < 3
    assert 0 == prefetcher.stats().outstanding
    assert "calendar!" == prefetcher.get("calendar", user="ann")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_goes_on_without_its_parents_threads(loader, prefetcher):
    """A child neither waits for its parent's loads nor hands them out."""
    live(prefetcher, 16)
    loader.gate.clear()
    prefetcher._ahead.sources["loader"].mean_seconds = 0.001
    threading.Timer(0.3, loader.gate.set).start()
    prefetcher.get("inbox", user="ann")
    child = os.fork()
    if child == 0:
        loader.gate = threading.Event()
        loader.gate.set()
        answered = prefetcher.get("calendar", user="ann") == "calendar!"
        stats = prefetcher.stats()
        os._exit(
            0 if answered and stats.started == stats.used + stats.wasted + stats.outstanding else 1
        )
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"max_waste": 0}, ValueError, "max_waste must be above 0 and below 1; got 0"),
        ({"max_waste": True}, ValueError, "max_waste"),
        ({"ttl_seconds": -1}, ValueError, "ttl_seconds must be a number above 0; got -1"),
        ({"max_held": 0}, ValueError, "max_held must be a whole number of at least 1"),
        ({"cache": {}}, TypeError, "cache must be a SemanticCache or None; got {}"),
        ({"store": "learned.db"}, TypeError, "store must be a LearnedStore or None"),
        ({"loader": 7}, TypeError, "loader must be a function of a key, or a runnable; got 7"),
        ({"read_only": "search"}, TypeError, "read_only is a list of names; got 'search'"),
        ({"cache": SemanticCache(semantic=False)}, TypeError, "give the model as loader"),
        ({"loader": fake_chat()}, ValueError, "budget_usd"),
        ({"lodaer": str}, TypeError, "Did you mean loader"),
    ],
)
def test_bad_arguments_are_told(arguments, error, told):
    """An error is a sentence with the value and the fix."""
    with pytest.raises(error, match=told.replace("{", r"\{").replace("(", r"\(")):
        Prefetcher(**arguments)


def test_what_cannot_be_wrapped_is_told(prefetcher):
    """A model, a class and a number are refused in words; a key that JSON cannot hold is loaded."""
    for thing, told in ((fake_chat(), "loader"), (dict, "the class dict"), (7, "got 7")):
        with pytest.raises(TypeError, match=told):
            prefetcher.wrap(thing)
    with pytest.raises(TypeError, match="get needs a sync loader, and there is none"):
        Prefetcher().get("a")
    key = object()
    assert f"{key}!" == prefetcher.get(key, user="ann")


def test_a_fault_of_our_own_breaks_no_call(loader, prefetcher, monkeypatch):
    """Whatever goes wrong inside is warned about once, and the call is made."""
    monkeypatch.setattr(prefetcher._ahead.habits, "predict", lambda caller: 1 / 0)
    with pytest.warns(TokenOptWarning, match="Prefetching failed") as warned:
        live(prefetcher, 2)
    assert 1 == len(warned)


def test_it_can_be_switched_off(loader, prefetcher, monkeypatch):
    """TOKENOPT_DISABLE=1 lets every call pass."""
    monkeypatch.setenv("TOKENOPT_DISABLE", "1")
    live(prefetcher, 3)
    assert 0 == prefetcher.stats().calls


def test_it_hears_of_model_calls_as_a_sink():
    """As a sink of a tracker it learns in which order agents call models, and warms for them."""
    warmed = []
    model = fake_chat(answers=[])
    with Prefetcher(loader=warmed.append) as prefetcher, track_usage([prefetcher], user="ann"):
        for n in range(60):
            agent = DAY[n % 3]
            model.invoke("Go.", {"metadata": {"tokenopt_agent": agent, "thread_id": "t"}})
            prefetcher.wait()
        assert 20 < prefetcher.stats().used
    assert set(DAY) == set(warmed)
