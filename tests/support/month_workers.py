"""Workers of a simulated month: what they ask, the model that writes its own bill, one clock."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import random
import re
import struct
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig

from langchain_tokenopt import BudgetPlan, Ledger, SemanticCache, optimize, track_usage
from langchain_tokenopt.budget import TokenBudget
from langchain_tokenopt.core.errors import TokenOptError
from langchain_tokenopt.core.records import CallRecord, UsageEvent

STARTS = datetime(2026, 10, 1, tzinfo=UTC)
HOURS = (10, 16)
AGENTS = ("research", "write", "check")
USERS = 20
KINDS = {"plain": 50, "async": 12, "stream": 12, "cut": 6, "retry": 10, "busy": 5, "lost": 5}
"""How a call is made, or ends, and how often."""
MOST_TOKENS = 200
CUT_WORDS = 5
"""After how many words a stream is cut off; whole answers have more."""


@dataclass(frozen=True)
class Size:
    """How large a simulation is."""

    days: int = 30
    processes: int = 8
    workers: int = 50
    kill_every: int = 3
    """In how many moments there is one in which a process is killed."""
    restarts: int = 3
    busy: float = 1.0
    """In which part of the moments a worker has something to do."""


# What is asked


class Call(NamedTuple):
    """One question of a task."""

    agent: str
    kind: str
    prompt: str


class Task(NamedTuple):
    """Calls of one run for one user, at one moment."""

    name: str
    user: str
    organization: str
    calls: Sequence[Call]

    @classmethod
    def of(cls, worker: int, moment: int) -> Task:
        """Return what a worker does at a moment: the same each time it is asked."""
        chance = random.Random(f"{worker} {moment}")
        number = chance.randrange(USERS)
        calls = []
        for place, agent in enumerate(chance.sample(AGENTS, chance.randint(1, len(AGENTS)))):
            (kind,) = chance.choices([*KINDS], [*KINDS.values()])
            which = chance.randrange(30)
            if kind in ("cut", "retry", "busy", "lost"):  # an answer from the cache ends well
                which = 1_000_000 + 1_000 * moment + 10 * worker + place
            words = 20 + which % 90
            prompt = f"user-{number} asks for {words} words of number {which}, {kind}"
            calls.append(Call(agent, kind, prompt.replace("async", "plain")))
        return cls(f"{worker}-{moment}", f"user-{number}", f"org-{number % 4}", calls)


def answer_to(prompt: str) -> str:
    """Return the one right answer."""
    user, words, which = re.findall(r"(user-\d+) asks for (\d+) words of number (\d+)", prompt)[0]
    return " ".join([f"{user}/{which}", *(f"w{n}" for n in range(int(words) - 1))])


def plan() -> BudgetPlan:
    """Return the plan of all tasks: some days of users are too small for what they ask."""
    return BudgetPlan(
        total_tokens=5_000,
        agents={agent: {"floor": 400} for agent in AGENTS},
        on_exceed="raise",
        within=[
            {"total_tokens": 1_200, "per": "user", "window": "day"},
            {"total_tokens": 10**7, "per": "organization", "window": "month"},
            {"total_tokens": 10**8, "per": "plan", "window": "month"},
        ],
        name="month",
    )


# The model, which writes its own bill


class Busy(Exception):
    """A provider that has no room now, and bills nothing."""

    status_code = 429


class Journal:
    """Lines that outlive whoever has written them; a line is written whole."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, *words: object) -> None:
        """Add a line."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


TASK: ContextVar[str] = ContextVar("task", default="-")
STREAM: ContextVar[UUID | None] = ContextVar("stream", default=None)
"""The id of a stream, which LangChain does not tell the model."""


class BillingModel(BaseChatModel):
    """Answers as it is told to, and writes down what it bills before anybody has the answer."""

    model_name: str = "gpt-4o-mini"
    max_tokens: int = MOST_TOKENS
    journal: Any = None

    @property
    def _llm_type(self) -> str:
        return "billing"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, "max_tokens": self.max_tokens}

    def _words(self, messages: Sequence[BaseMessage], run: Any, options: Any) -> list[str]:
        prompt = messages[-1].text  # to which a budget may have added something
        which, kind = re.findall(r"number (\d+), (\w+)", prompt)[0]
        if kind == "busy" or (kind == "retry" and which not in _refused_before):
            _refused_before.add(which)
            raise Busy("try again")
        if kind == "lost":
            raise ConnectionRefusedError("nobody there")
        words = re.findall(r"\S+\s*", answer_to(prompt))
        return words[: options.get("max_tokens") or self.max_tokens]

    def _bill(self, messages: Sequence[BaseMessage], run: Any, written: int) -> dict[str, int]:
        sent = sum(len(message.text.split()) for message in messages)
        run_id = STREAM.get() if run is None else run.run_id
        self.journal.write("bill", TASK.get(), run_id, sent, written)
        return {"input_tokens": sent, "output_tokens": written, "total_tokens": sent + written}

    def _answer(self, messages: Sequence[BaseMessage], run: Any, options: Any) -> ChatResult:
        words = self._words(messages, run, options)
        usage = self._bill(messages, run, len(words))
        message = AIMessage("".join(words), usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> ChatResult:
        result = self._answer(messages, run_manager, options)
        time.sleep(0.005)
        return result

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> ChatResult:
        result = self._answer(messages, run_manager, options)
        await asyncio.sleep(0.005)
        return result

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **options: Any
    ) -> Iterator[ChatGenerationChunk]:
        words, written = self._words(messages, run_manager, options), 0
        usage = None
        try:
            for word in words:
                written += 1
                yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        finally:  # also where nobody reads on: it stops, and bills what it has written
            usage = self._bill(messages, run_manager, written)
        yield ChatGenerationChunk(
            message=AIMessageChunk(content="", usage_metadata=usage, chunk_position="last")
        )


_refused_before: set[str] = set()


# Workers


class Clock:
    """The clock of all processes, which stands still until it is set; and what workers are at."""

    def __init__(self, workers: int) -> None:
        self._shared = mmap.mmap(-1, 16 + 16 * workers)
        self._workers = workers

    def now(self) -> float:
        """Return seconds since 1970."""
        seconds: float = struct.unpack_from("d", self._shared, 0)[0]
        return seconds

    @property
    def moment(self) -> int:
        """How many moments have begun."""
        return self._number(1)

    def set(self, moment: int) -> None:
        """Let all be at a moment."""
        day, which = divmod(moment, len(HOURS))
        at = STARTS + timedelta(days=day, hours=HOURS[which])
        struct.pack_into("d", self._shared, 0, at.timestamp())
        struct.pack_into("q", self._shared, 8, moment + 1)

    def begun(self, worker: int) -> int:
        """Return how many tasks a worker has begun."""
        return self._number(2 + 2 * worker)

    def begin(self, worker: int) -> int:
        """Take note that a worker begins its next task; return the moment of that."""
        moment = self.begun(worker)
        struct.pack_into("qq", self._shared, 16 + 16 * worker, moment + 1, 1)
        return moment

    def end(self, worker: int) -> None:
        """Take note that a worker has ended its task, or was ended itself."""
        struct.pack_into("q", self._shared, 24 + 16 * worker, 0)

    def is_over(self) -> bool:
        """Whether everybody has done what there was to do."""
        return all(
            self.begun(worker) == self.moment and not self._number(3 + 2 * worker)
            for worker in range(self._workers)
        )

    def _number(self, place: int) -> int:
        number: int = struct.unpack_from("q", self._shared, 8 * place)[0]
        return number


@dataclass
class AtSimulatedTime:
    """Passes calls on to a ledger as if they had been made when the clock says."""

    ledger: Ledger
    clock: Clock

    def record(self, event: UsageEvent) -> None:
        """Take a call."""
        if isinstance(event, CallRecord):
            at = datetime.fromtimestamp(self.clock.now(), UTC)
            self.ledger.record(replace(event, started_at=at))


@dataclass
class Process:
    """One process of workers."""

    number: int
    url: str
    journal: Journal
    clock: Clock
    size: Size
    parent: int = field(default_factory=os.getpid)

    def work(self) -> None:
        """Do all that is to be done, until the month is over."""
        warnings.simplefilter("ignore")
        reserve = TokenBudget.reserve

        def reserving(budget: TokenBudget, *args: Any, **kwargs: Any) -> Any:
            self.journal.write("asks", TASK.get())
            hold = reserve(budget, *args, **kwargs)
            self.journal.write("hold", TASK.get(), hold.tokens if hold else 0)
            return hold

        TokenBudget.reserve = reserving  # type: ignore[method-assign, assignment]
        ledger = _patiently(lambda: Ledger(self.url))
        cache = _patiently(lambda: SemanticCache(self.url, semantic=False))
        mine = range(self.number, self.size.workers, self.size.processes)
        threads = [
            threading.Thread(target=self._run_tasks, args=(worker, ledger, cache))
            for worker in mine
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ledger.close()
        stats = _patiently(cache.stats)
        self.journal.write("cache", os.getpid(), stats.hits, stats.saved_tokens)
        cache.close()

    def _run_tasks(self, worker: int, ledger: Ledger, cache: SemanticCache) -> None:
        model = optimize(BillingModel(journal=self.journal), plan(), cache)
        sink = AtSimulatedTime(ledger, self.clock)
        while self.clock.begun(worker) < self.size.days * len(HOURS):
            if self.clock.begun(worker) == self.clock.moment:
                time.sleep(0.005)
                if os.getppid() != self.parent:
                    os._exit(1)
                continue
            moment = self.clock.begin(worker)
            if random.Random(f"busy {worker} {moment}").random() >= self.size.busy:
                self.clock.end(worker)
                continue
            task = Task.of(worker, moment)
            TASK.set(task.name)
            self.journal.write("begin", task.name, os.getpid())
            try:
                self._run(task, model, sink)
            except TokenOptError as error:
                self.journal.write("refused", task.name, type(error).__name__, error)
            except Exception:  # a fault of the simulation, or of the package
                self.journal.write("failed", task.name, repr(traceback.format_exc()))
            self.journal.write("end", task.name)
            self.clock.end(worker)

    def _run(self, task: Task, model: Any, sink: AtSimulatedTime) -> None:
        run = plan().run(
            task.name,
            user=task.user,
            organization=task.organization,
            store=self.url,
            clock=self.clock.now,
        )
        with track_usage(sinks=[sink]), run:
            for call in task.calls:
                about = {"tokenopt_agent": call.agent, "user_id": task.user}
                about |= {"organization_id": task.organization, "thread_id": task.name}
                try:
                    text = _ask(model, call, {"metadata": about})
                except (Busy, ConnectionRefusedError):
                    self.journal.write("failing", task.name)
                    continue
                said = text.removesuffix("\N{HORIZONTAL ELLIPSIS}")  # where it had to be short
                if not answer_to(call.prompt).startswith(said) or (call.kind != "cut") > bool(said):
                    self.journal.write("wrong", task.name, repr(text))


def _patiently(do: Callable[[], Any]) -> Any:
    """Do what may fail while the server is away."""
    while True:
        try:
            return do()
        except (TokenOptError, OSError):
            time.sleep(0.05)


def _ask(model: Any, call: Call, config: RunnableConfig) -> str:
    if call.kind in ("stream", "cut"):
        config["run_id"] = uuid4()
        STREAM.set(config["run_id"])
    if call.kind == "async":
        text: str = asyncio.run(model.ainvoke(call.prompt, config)).text
    elif call.kind == "stream":
        text = "".join(chunk.text for chunk in model.stream(call.prompt, config))
    elif call.kind == "cut":
        stream = model.stream(call.prompt, config)
        text = "".join(chunk.text for chunk in itertools.islice(stream, CUT_WORDS))
        stream.close()
    elif call.kind == "retry":
        patient = model.with_retry(
            retry_if_exception_type=(Busy,), wait_exponential_jitter=False, stop_after_attempt=2
        )
        text = patient.invoke(call.prompt, config).text
    else:
        text = model.invoke(call.prompt, config).text
    return text


def fork(process: Process) -> int:
    child = os.fork()
    if child == 0:
        try:
            process.work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child
