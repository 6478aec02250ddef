"""What hosts do to a cache: event loops, collected streams, forks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings

import pytest
from blockbuster import blockbuster_ctx
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from tests.support.caches import make_cache

LLM = "llm"
ASK, LIKE = "How can I change my card PIN?", "How can I modify my card PIN?"


def say(text):
    return [ChatGeneration(message=AIMessage(text))]


@pytest.mark.parametrize("kept_in", ["memory", "file"])
async def test_nothing_blocks_the_event_loop(tmp_path, kept_in):
    """Neither a miss, nor a hit of any tier, nor storing; and no call warns."""
    cache = make_cache(None if kept_in == "memory" else tmp_path / "c.db")
    with blockbuster_ctx(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await cache.alookup(ASK, LLM) is None
        await cache.aupdate(ASK, LLM, say("In Settings."))
        for question in (ASK, "how can I  change my card PIN", LIKE, ASK):
            found = await cache.alookup(question, LLM)
            assert ["In Settings."] == [answer.text for answer in found or ()]
        assert await cache.alookup("Trains to Rome?", LLM) is None
    assert [2, 1, 1] == [
        cache.stats().exact_hits,
        cache.stats().same_words_hits,
        cache.stats().semantic_hits,
    ]
    cache.close()


def run_alone(code, *arguments, seconds=60):
    """Run *code* in a process of its own, which must end in time; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


COLLECTED = """
    import gc, sys
    from langchain_core.language_models import FakeListChatModel
    from langchain_tokenopt import optimize
    from langchain_tokenopt.cache import SemanticCache
    from tests.support.embedders import WordEmbeddings

    cache = SemanticCache(embeddings=WordEmbeddings())
    model = optimize(FakeListChatModel(responses=["some words of an answer"]), cache)

    def leave(number):
        stream = model.stream(f"a left question {number}")
        next(stream)
        circle = [stream]
        circle.append(circle)

    gc.disable()
    for number in range(30):
        leave(number)
    where, left = sys.argv[1], []
    if where == "flights":  # in each line of it, under its lock, too

        def collect(frame, event, argument):
            if frame.f_code.co_filename.endswith(("single_flight.py", "flights.py")):
                gc.collect()
                leave(len(left) + 100)
                left.append(event)
            return collect

        sys.settrace(collect)
        model.invoke("another question")
        sys.settrace(None)
    else:  # in the index, under the cache's lock: the clock is read there
        clock = cache._repository._clock

        def collecting_clock():
            gc.collect()
            return clock()

        cache._repository._clock = collecting_clock
        for number in range(5):
            leave(number + 1_000)
            model.invoke(f"another question {number}")
    print("all is well", cache.stats().entries)
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("where", ["flights", "index"])
def test_a_left_stream_that_is_collected_inside_does_not_hang(where):
    """The collector closes it in the middle of the cache's own code, on the same thread."""
    assert f"all is well {1 if where == 'flights' else 5}\n" == run_alone(COLLECTED, where)


FORKS = """
    import os, sys, threading, time
    from langchain_core.outputs import Generation
    from langchain_tokenopt.cache import SemanticCache
    from tests.support.embedders import WordEmbeddings

    cache = SemanticCache(sys.argv[1], embeddings=WordEmbeddings())
    cache.update("kept", "llm", [Generation(text="kept")])
    ends = threading.Event()

    def work(seed):
        for number in range(10**9):
            if ends.is_set():
                return
            question = f"question {seed} {number % 50}"
            if cache.lookup(question, "llm") is None or number % 3 == 0:
                cache.update(question, "llm", [Generation(text=question)])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    wrong = 0
    for number in range(25):
        time.sleep(0.01)
        child = os.fork()
        if child == 0:
            found = cache.lookup("kept", "llm")
            cache.update(f"from child {number}", "llm", [Generation(text="c")])
            os._exit(0 if found and found[0].text == "kept" else 1)
        deadline = time.monotonic() + 10
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        if ended[0] == 0:
            os.kill(child, 9)
            os.waitpid(child, 0)
        wrong += ended != (child, 0)
    ends.set()
    for thread in threads:
        thread.join()
    checked = cache.check()
    print(wrong, checked.is_sound, len(checked.damaged))
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes as on POSIX")
def test_forks_while_threads_are_busy(tmp_path):
    """No child hangs, each is answered, and the file stays sound."""
    assert "0 True 0\n" == run_alone(FORKS, tmp_path / "c.db", seconds=300)
