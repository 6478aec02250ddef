"""Messages between agents as templates: tokens beside JSON, YAML, TOON and prose; decode errors.

Run:     python -m tests.benchmarks.learn_templates [--quick] [--toon PYTHON] [--data DIR]
             [--model PYTHON --answers FILE]
Data:    500 messages of eleven kinds from ten fields in nine languages, drawn with a seed
         (handover_messages.py). With DIR also the tool results of the airline trajectories: forms
         are proposed from the first half of the trajectories, the second half is packed.
Rule:    every way of writing says the same: the kind and every field that is not absent; "as
         pydantic writes it" also says what is absent. Tokens are those of o200k_base and
         cl100k_base. A message is decoded right if the object is equal and so is its dump.
Rivals:  compact JSON, YAML (PyYAML), TOON (toon-format, in the environment PYTHON), a sentence for
         each field.
Model:   with a small language model (real_model.py, 135 M parameters): it is asked for one value of
         a message, in English, from compact JSON and from the template; the answer is right if the
         value stands in it.
Output:  results/learn_templates.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from langchain_tokenopt import MessageTemplates, counter_for
from tests.benchmarks.handover_messages import handovers, templates_for
from tests.benchmarks.results import write_result
from tests.benchmarks.small_chat_model import SmallChatModel

OURS, JSON, WHOLE = "MessageTemplates", "JSON, compact", "JSON, as pydantic writes it"
YAML, TOON, PROSE = "YAML", "TOON", "prose, a sentence a field"
COUNTERS = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}
Message = tuple[str, str, BaseModel]


def run(
    number: int = 500,
    *,
    toon: str | None = None,
    data: Path | None = None,
    model: str | None = None,
    answers: Path = Path("learn_templates_answers.jsonl"),
) -> dict[str, Any]:
    """Return all figures."""
    messages = handovers(number)
    figures = {
        "messages": len(messages),
        "kinds": len({kind for kind, _, _ in messages}),
        "fields": len({field for _, field, _ in messages}),
        "alone": _alone(messages, toon),
        "ten together": _together(messages, toon),
        "decoding": _decoding(messages),
    }
    if data is not None:
        figures["proposed"] = _proposed(data)
    if model is not None:
        figures["reading"] = _reading(model, answers)
    return figures


# --- ways to write a message ---------------------------------------------------------------------


def content(kind: str, message: BaseModel) -> dict[str, Any]:
    """Return what a message says: its kind and what is not absent."""
    return {"form": kind, **_present(message.model_dump(mode="json", by_alias=True))}


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _present(v) for k, v in value.items() if not (v is None or v in ("", [], {}))}
    return [_present(item) for item in value] if isinstance(value, list) else value


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=10**9)


def as_prose(value: dict[str, Any]) -> str:
    """Write a sentence for each field; a record in a sentence of its own."""
    parts = [f"This is a message of the form {value.get('form', 'list')}."]
    for name, item in value.items():
        said = name.replace("_", " ")
        if isinstance(item, list) and item and isinstance(item[0], dict):
            rows = ("; ".join(f"{k} is {_plain(v)}" for k, v in row.items()) for row in item)
            parts += [f"{said.capitalize()} {n}: {row}." for n, row in enumerate(rows, 1)]
        elif name != "form":
            parts.append(f"The {said} {'are' if isinstance(item, list) else 'is'} {_plain(item)}.")
    return " ".join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _in_toon(values: Sequence[Any], python: str | None) -> list[str] | None:
    if python is None:
        return None
    program = (
        "import json, sys, toon_format\n"
        "for line in sys.stdin: print(json.dumps(toon_format.encode(json.loads(line))))"
    )
    lines = "\n".join(map(compact, values))
    asked = subprocess.run(
        [python, "-c", program],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONUTF8": "1"},
    )
    return [json.loads(line) for line in asked.stdout.splitlines()]


# --- tokens --------------------------------------------------------------------------------------


def _alone(messages: Sequence[Message], toon: str | None) -> dict[str, Any]:
    templates = templates_for()
    said = [content(kind, message) for kind, _, message in messages]
    ways: dict[str, list[str] | None] = {
        WHOLE: [compact({"form": k, **m.model_dump(mode="json", by_alias=True)})
            for k, _, m in messages
        ],
        JSON: [compact(value) for value in said],
        YAML: [as_yaml(value) for value in said],
        TOON: _in_toon(said, toon),
        PROSE: [as_prose(value) for value in said],
        OURS: [templates.pack(message) for _, _, message in messages],
    }  # fmt: skip
    return _compared(ways, [kind for kind, _, _ in messages])


def _together(messages: Sequence[Message], toon: str | None) -> dict[str, Any]:
    """Ten messages of a kind at a time, as a reader of several agents gets them."""
    templates = templates_for()
    by_kind: dict[str, list[BaseModel]] = defaultdict(list)
    for kind, _, message in messages:
        by_kind[kind].append(message)
    lists = [(k, of[at : at + 10]) for k, of in by_kind.items() for at in range(0, len(of) - 9, 10)]
    said = [
        {
            "form": kind,
            "messages": [_present(m.model_dump(mode="json", by_alias=True)) for m in many],
        }
        for kind, many in lists
    ]
    ways: dict[str, list[str] | None] = {
        JSON: [compact(value) for value in said],
        YAML: [as_yaml(value) for value in said],
        TOON: _in_toon(said, toon),
        OURS: [templates.pack(many) for _, many in lists],
    }
    return _compared(ways, [kind for kind, _ in lists])


def _compared(ways: dict[str, list[str] | None], kinds: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for vocabulary, name in COUNTERS.items():
        count = counter_for(name).count
        tokens = {
            way: [count(text).tokens for text in texts] for way, texts in ways.items() if texts
        }
        base, ours = tokens[JSON], tokens[OURS]
        by_kind: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for kind, before, after in zip(kinds, base, ours, strict=True):
            by_kind[kind][0] += before
            by_kind[kind][1] += after
        found[vocabulary] = {
            "tokens": {way: sum(of) for way, of in tokens.items()},
            "saved_beside_compact_json": {
                way: round(1 - sum(of) / sum(base), 4) for way, of in tokens.items()
            },
            "saved_by_kind": {k: round(1 - b / a, 4) for k, (a, b) in by_kind.items()},
            "larger_than_compact_json": sum(o > b for o, b in zip(ours, base, strict=True)),
        }  # fmt: skip
    return found


# --- decoding ------------------------------------------------------------------------------------


def _decoding(messages: Sequence[Message]) -> dict[str, Any]:
    templates = templates_for()
    errors, characters, packing, expanding = 0, 0, [], []
    for _, _, message in messages:
        began = time.perf_counter()
        packed = templates.pack(message)
        between = time.perf_counter()
        again = templates.expand(json.loads(json.dumps(packed)))
        packing.append(between - began)
        expanding.append(time.perf_counter() - between)
        errors += again != message
        characters += again.model_dump_json() != message.model_dump_json()
    packed = [templates.pack(message) for _, _, message in messages]
    hostile = [
        text
        for one in packed
        for text in (f"{one}.", one[:-1], f"See:\n{one}", one.replace("a", "b", 1), f"> {one}")
        if text not in packed
    ]
    return {
        "decode_errors": errors,
        "texts_not_the_same_to_the_character": characters,
        "look_alikes": len(hostile),
        "look_alikes_expanded": sum(templates.expand(text) != text for text in hostile),
        "packed_texts_that_came_back_as_text": sum(
            templates.expand(templates.pack(one)) == one for one in packed
        ),
        "pack_us": round(statistics.median(packing) * 1e6),
        "expand_us": round(statistics.median(expanding) * 1e6),
    }


# --- forms that were not known -------------------------------------------------------------------


def _proposed(data: Path) -> dict[str, Any]:
    """Propose forms from half of the trajectories; pack the tool results of the other half."""
    with gzip.open(data / "compression" / "tau_gpt4o_airline_dev.jsonl.gz", "rt") as file:
        runs = [json.loads(line) for line in file]
    halves = [_results(runs[: len(runs) // 2]), _results(runs[len(runs) // 2 :])]
    templates = MessageTemplates()
    proposed = templates.propose(halves[0])
    for form in proposed:
        templates.register(form.name, form.model)
    count = counter_for("gpt-4o").count
    tokens, packed, errors = [0, 0], 0, 0
    for result in halves[1]:
        best = compact(result)
        for form in proposed:
            try:
                message = form.model.model_validate(result, extra="forbid")
            except ValueError:
                continue
            text = templates.pack(message)
            errors += templates.expand(text) != message
            packed += 1
            tokens[0] += count(best).tokens
            tokens[1] += count(text).tokens
            break
    return {
        "forms": len(proposed),
        "results": len(halves[1]),
        "packed": packed,
        "decode_errors": errors,
        "tokens_json": tokens[0],
        "tokens_packed": tokens[1],
        "saved": round(1 - tokens[1] / tokens[0], 4),
    }


def _results(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    said = (m for one in runs for m in one["traj"] if m.get("role") == "tool")
    return [json.loads(m["content"]) for m in said if str(m.get("content")).startswith("{")]


# --- a small language model reads ----------------------------------------------------------------

LOOKED_UP = 60
_SAID = {"by": "sender", "to": "recipient", "id": "id of this message"}
"""Names of fields that nobody would ask for."""
_ASK = "{text}\n\nWhat is the {what}? Answer with the value only."


def _reading(python: str, answers: Path) -> dict[str, Any]:
    """Ask a small model for one value, of JSON and of the template."""
    rng = random.Random(4)
    templates = templates_for()
    asked: list[tuple[str, str, dict[str, Any], Any]] = []
    english = [one for one in handovers(2_000, seed=13) if "English" in one[1]]
    for kind, _, message in english:
        said = content(kind, message)
        plain = {
            name: str(value)
            for name, value in said.items()
            if name != "form" and isinstance(value, str | int | float) and len(str(value)) < 40
        }
        if plain and len(asked) < LOOKED_UP:
            name = rng.choice(sorted(plain))
            what = _SAID.get(name, name.replace("_", " "))
            asked.append((what, plain[name], said, message))
    writers: dict[str, Callable[[dict[str, Any], Any], str]] = {
        JSON: lambda said, _: compact(said),
        OURS: lambda _, message: str(templates.pack(message)),
    }
    model = SmallChatModel(python=python, answers=answers, max_tokens=16)
    right: dict[str, list[bool]] = {way: [] for way in writers}
    try:
        for what, value, said, message in asked:
            for way, write in writers.items():
                prompt = _ASK.format(text=write(said, message), what=what)
                answer = model.invoke([HumanMessage(prompt)]).text
                right[way].append(value.casefold() in answer.casefold())
    finally:
        model.close()
    pairs = list(zip(right[OURS], right[JSON], strict=True))
    return {
        "questions": len(asked),
        "right": {way: sum(of) for way, of in right.items()},
        "right_only_as_template": sum(a and not b for a, b in pairs),
        "right_only_as_json": sum(b and not a for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--toon", help="Python with requirements-rivals-learn.txt")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", help="Python with requirements-real-model.txt")
    parser.add_argument("--answers", type=Path, default=Path("learn_templates_answers.jsonl"))
    given = parser.parse_args()
    figures = run(
        100 if given.quick else 500,
        toon=given.toon,
        data=given.data,
        model=None if given.quick else given.model,
        answers=given.answers,
    )
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    if not given.quick:
        command = "python -m tests.benchmarks.learn_templates"
        if given.toon:
            command += " --toon PYTHON"
        if given.data:
            command += " --data DIR"
        if given.model:
            command += " --model PYTHON"
        write_result("learn_templates", command, figures, "pydantic", "pyyaml")


if __name__ == "__main__":
    main()
