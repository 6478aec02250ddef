"""Documents of records in forms that were put together by chance, none of them a known format.

Written after the compressor could read those of :mod:`tests.support.record_documents`, to judge it:
fields in any order, with any separators, in several languages, with line ends of either system.
"""

# ruff: noqa: E501

from __future__ import annotations

import json
import random
from collections.abc import Callable

import yaml

from tests.support.mixed_documents import NAMES, Mixed, Writer
from tests.support.record_documents import Records
from tests.support.wholeness import json_is_part, marks_close, words_in_order

# --- logs of fields in any order -----------------------------------------------------------------

_TIMES: tuple[Callable[[int], str], ...] = (
    lambda n: f"2025-11-{n % 28 + 1:02d} {n % 24:02d}:{n % 60:02d}:{n * 7 % 60:02d}.{n % 1000:03d}",
    lambda n: f"{n % 28 + 1:02d}/{n % 12 + 1:02d}/2025 {n % 24:02d}:{n % 60:02d}",
    lambda n: f"{n % 28 + 1:02d}-Nov-2025 {n % 24:02d}:{n % 60:02d}:{n % 60:02d}.{n % 1000:03d}",
    lambda n: f"Nov {n % 28 + 1:02d}, 2025 {n % 12 + 1}:{n % 60:02d}:{n % 60:02d} PM",
    lambda n: f"{n % 24:02d}:{n % 60:02d}:{n % 60:02d}",
    lambda n: f"17{n + 40_000_000:08d}",
    lambda n: f"2025-11-{n % 28 + 1:02d}T{n % 24:02d}:{n % 60:02d}:{n % 60:02d}+02:00",
    lambda n: f"{n % 28 + 1}. Nov. 2025, {n % 24:02d}:{n % 60:02d} Uhr",
    lambda n: f"2025年11月{n % 28 + 1}日 {n % 24:02d}:{n % 60:02d}:{n % 60:02d}",
    lambda n: f"T+{n:06d}.{n % 1000:03d}",
    lambda n: f"{n % 28 + 1} nov. 2025 {n % 24:02d}:{n % 60:02d}:{n % 60:02d}",
    lambda n: f"202511{n % 28 + 1:02d}-{n % 24:02d}{n % 60:02d}{n % 60:02d}",
)
_WORDS = (
    ("INFO", "WARN", "ERROR"), ("Info", "Warning", "Critical"), ("info", "warn", "err"),
    ("HINWEIS", "WARNUNG", "FEHLER"), ("正常", "警告", "错误"), ("<6>", "<4>", "<3>"), ("I", "W", "E"),
)  # fmt: skip
_AROUND = (("", ""), ("[", "]"), ("(", ")"), ("<", ">"), ("", ":"), ("{", "}"))


def _log(w: Writer) -> Records:
    rng = w.rng
    time, levels = rng.choice(_TIMES), rng.choice(_WORDS)
    fields = ["time", "level", *rng.sample(["who", "thread", "code"], rng.randint(0, 2))]
    if rng.random() < 0.6:
        rng.shuffle(fields)
    around = {name: rng.choice(_AROUND[:4] if name != "level" else _AROUND) for name in fields}
    mark = rng.choice((" ", " ", " | ", "\t", " - ", "; ", " :: ", "  ", " ~ "))
    tall = rng.choice((0.0, 0.2, 0.7))
    style = rng.choice(("deep", "flush", "tree"))
    records = []
    for n in range(rng.randint(7, 45)):
        values = {
            "time": time(n * 3 + 5), "level": rng.choice(levels), "who": f"{w.noun()}.{w.noun()}",
            "thread": f"worker-{n % 7}", "code": f"E{w.number()}{w.number()}",
        }  # fmt: skip
        head = mark.join(f"{around[f][0]}{values[f]}{around[f][1]}" for f in fields)
        record = f"{head}{mark}{rng.choice((w.sentence(), w.name(), f'{w.noun()} = {n}'))}"
        if rng.random() < tall:
            record += _below(w, style)
        records.append(record)
    return Records("strange log", records)


def _below(w: Writer, style: str) -> str:
    if style == "deep":
        lines = [f"  > {w.sentence()}", f"    {w.noun()} = {w.number()}", f"\t{w.noun()}()"]
    elif style == "tree":
        lines = [f"├── {w.noun()}", f"│   {w.noun()}.{w.noun()}", f"└── {w.number()}"]
    else:
        lines = [
            f"panicked at '{w.noun()}', src/{w.noun()}.rs:{w.number()}:5",
            f"{w.noun()}={w.number()}", "stack backtrace:", f"   {w.number()}: {w.noun()}",
            f"{w.sentence()}", f"<{w.noun()} id={w.number()}/>", f"#{w.number() % 9} {w.noun()} ()",
        ]  # fmt: skip
    first = w.rng.randrange(len(lines))
    return "\n" + "\n".join(lines[first : first + w.rng.randint(1, 4)])


def _untimed(w: Writer) -> Records:
    """Logs without any time: each begins with a word or mark of its kind."""
    form = w.rng.choice((
        lambda n: f"[{n:04d}] {w.noun()}: {w.name()} done",
        lambda n: f"worker-{n % 5}: {w.noun()} {w.name()} started",
        lambda n: f">>> {w.noun()} {n}: {w.sentence()}",
        lambda n: f"step {n}: loss={n / 7:.3f} lr=0.00{n}",
        lambda n: f"level={w.rng.choice(('info', 'warn'))} msg=\"{w.noun()} is. Up\" n={n}",
        lambda n: f"ok {n} - {w.noun()} {w.name()}",
        lambda n: f"{w.noun()}.c:{n + 10}:{w.number()}: warning: {w.name()} is unused",
        lambda n: f"E/{w.noun().title()}( {n + 100}): {w.name()} failed",
        lambda n: f"{w.rng.choice(('+', '-', '!'))} {n:05d} {w.noun()} {w.name()}",
    ))  # fmt: skip
    return Records("strange log untimed", [form(n) for n in range(w.rng.randint(8, 45))])


# --- examples ------------------------------------------------------------------------------------


def _xml(w: Writer) -> Records:
    rng = w.rng
    outer, one, two = rng.choice((
        ("beispiel", "frage", "antwort"), ("shot", "user", "assistant"), ("ejemplo", "entrada", "salida"),
        ("sample", "text", "label"), ("example", "conversation", "summary"), ("turn", "human", "ai"),
        ("EXAMPLE", "INPUT", "OUTPUT"), ("demonstration", "problem", "solution"), ("pair", "source", "target"),
        ("example", "prompt", "completion"), ("ex", "query", "response"), ("qa", "q", "a"),
    ))  # fmt: skip
    thought = rng.random() < 0.3
    pad, gap = rng.choice((("", "\n"), ("    ", "\n"), ("", ""))), None
    pad, gap = pad
    inner = rng.random() < 0.3
    records = []
    for n in range(rng.randint(3, 10)):
        ask, answer = w.prose(1, rng.choice((1, 4, 12))), rng.choice((w.noun(), w.prose(1, 4)))
        if inner:
            ask, answer = f"\n{ask}\n", f"\n{answer}\n"
        middle = f"{pad}<thinking>{w.sentence('en')}</thinking>{gap}" if thought else ""
        mark = rng.choice(("", f' n="{n}"', f" index='{n}' type=\"good\""))
        records.append(
            f"<{outer}{mark}>{gap}{pad}<{one}>{ask}</{one}>{gap}{middle}{pad}<{two}>{answer}</{two}>{gap}</{outer}>"
        )
    wrap = rng.choice(("", f"{outer}s", "few_shot"))
    header = f"{w.sentence('en')}\n\n" + (f"<{wrap}>\n" if wrap else "")
    asked = rng.choice(
        (f"\n\n<{one}>{w.sentence('en')}</{one}>", f"\n\nNow you: {w.sentence('en')}")
    )
    footer = f"\n</{wrap}>" if wrap else ""
    loose = [header, f"<{wrap}>", f"</{wrap}>"]
    return Records("strange examples xml", records, header if not wrap else "", footer if wrap else "",
                   rng.choice(("\n", "\n\n")), asked, loose=loose)  # fmt: skip


def _labels(w: Writer) -> Records:
    rng = w.rng
    one, two = rng.choice((
        ("Eingabe: ", "Ausgabe: "), ("Pregunta: ", "Respuesta: "), ("输入：", "输出："), ("Human: ", "AI: "),
        ("Utterance: ", "Intent: "), ("### Instruction:\n", "### Response:\n"), ("User: ", "Assistant: "),
        ("Frage {n}: ", "Antwort {n}: "), ("**Q:** ", "**A:** "), ("TEXT: ", "TAGS: "), ("Вопрос: ", "Ответ: "),
        ("Commit: ", "Type: "), ("- Input: ", "  Output: "), ("Sentence: ", "Translation: "),
    ))  # fmt: skip
    glue = rng.choice(("\n\n", "\n", "\n---\n", "\n\n\n"))
    if glue == "\n" and one.endswith("\n"):
        glue = "\n\n"
    title = rng.choice(("", "", "Example {n}\n", "Beispiel {n}:\n", "## Case {n}\n"))
    records = []
    for n in range(1, rng.randint(4, 10)):
        ask = w.prose(1, rng.choice((1, 3)))
        answer = rng.choice((w.noun(), f"{w.noun()}, {w.noun()}", w.prose(1, 2)))
        records.append(f"{title.format(n=n)}{one.format(n=n)}{ask}\n{two.format(n=n)}{answer}")
    n = len(records) + 1
    asked = f"\n\n{one.format(n=n)}{w.sentence('en')}\n{two.format(n=n).rstrip()}"
    return Records("strange examples labels", records, "", glue=glue, asked=asked, loose=["---"])


def _pairs_as_data(w: Writer) -> Mixed:
    """Examples as JSON, JSON lines, YAML or rows: each keeps its input and its output."""
    rng = w.rng
    one, two = rng.choice(
        (("input", "output"), ("question", "answer"), ("prompt", "completion"), ("text", "label"))
    )
    rows = [
        {
            one: f"{w.prose(1, rng.choice((1, 3, 9)))} {n}",
            two: rng.choice((w.noun(), w.prose(1, 3))),
        }
        for n in range(rng.randint(3, 10))
    ]
    shape = rng.choice(("json", "json lines", "yaml", "rows"))
    if shape == "json":
        body = json.dumps(rows, ensure_ascii=False, indent=rng.choice((None, 2)))
    elif shape == "json lines":
        body = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    elif shape == "yaml":
        body = yaml.safe_dump(rows, allow_unicode=True, sort_keys=False, width=10_000)
    else:
        lines = [f"| {row[one]} | {row[two]} |" for row in rows]
        body = "\n".join([f"| {one} | {two} |", "|---|---|", *lines])
    own = w.sentence("en")
    text = f"Answer as these do.\n\n{body}\n\n{one}: {own}\n{two}:"

    def check(left: str) -> list[str]:
        faults = [*marks_close(left), *words_in_order(text)(left)]
        if own not in left:
            faults.append("the user's own input is gone")
        if shape == "json":
            faults += json_is_part(rows, f'"{one}"')(left)
        for row in rows:
            ask, answer = row[one], row[two]
            shown = [json.dumps(v, ensure_ascii=False)[1:-1] for v in (ask, answer)]
            has = [v in left or s in left for v, s in zip((ask, answer), shown, strict=True)]
            begins = ask[:45]
            is_own = len(begins) == 45 and text.count(begins) == 1
            part = is_own and begins in left and not has[0]
            if part or (has[0] and not has[1]):
                faults.append(f"half of an example: {ask[:50]!r}")
        return faults

    return Mixed(f"strange examples {shape}", text, "", check)


# --- subtitles and transcripts -------------------------------------------------------------------


def _spoken(w: Writer) -> Records:
    rng = w.rng
    at: Callable[[int], str] = rng.choice((
        lambda n: f"{n // 60:02d}:{n % 60:02d}", lambda n: f"0:{n // 60:02d}:{n % 60:02d}",
        lambda n: f"00:{n // 60:02d}:{n % 60:02d},{n * 37 % 1000:03d}", lambda n: f"{n // 60}:{n % 60:02d}",
        lambda n: f"00:{n // 60:02d}:{n % 60:02d}.{n * 37 % 1000:03d}",
    ))  # fmt: skip
    who = rng.choice((lambda n: NAMES[n % 3], lambda n: f"Speaker {n % 3 + 1}", lambda n: f"SPEAKER_{n % 2:02d}",
                      lambda n: f"Dr. {NAMES[n % 3]} van Lee"))  # fmt: skip
    form, glue = rng.choice((
        (lambda n, t: f"{at(n)}\n{t}", "\n"), (lambda n, t: f"{who(n)} ({at(n)}): {t}", "\n"),
        (lambda n, t: f"{who(n)} [{at(n)}] {t}", "\n"), (lambda n, t: f"[{at(n)} → {at(n + 2)}] {t}", "\n"),
        (lambda n, t: f"({at(n)}) {who(n)}: {t}", "\n\n"), (lambda n, t: f"{who(n)} {at(n)}\n{t}", "\n\n"),
        (lambda n, t: f"{at(n)} - {at(n + 2)}\n{who(n)}\n{t}", "\n\n"), (lambda n, t: f"{n}\n{at(n)} --> {at(n + 2)}\n{t}", "\n\n"),
        (lambda n, t: f"{who(n)} | {at(n)}\n{t}", "\n\n"), (lambda n, t: f"{at(n)} {who(n)}: {t}", "\n"),
        (lambda n, t: f"> {who(n)} @ {at(n)}\n{t}", "\n\n"), (lambda n, t: f"- [{at(n)}] **{who(n)}**: {t}", "\n"),
        (lambda n, t: f"**{who(n)}** ({at(n)})\n{t}", "\n\n"), (lambda n, t: f"#{n} [{at(n)}]\n{t}", "\n\n"),
    ))  # fmt: skip
    tall = rng.random() < 0.5
    records = []
    for n in range(1, rng.randint(8, 45)):
        said = w.sentence()
        if tall and rng.random() < 0.5:
            said += (
                f"\n{rng.choice((w.sentence(), w.noun(), f'– {w.noun()}?', f'({w.noun()}: {n})'))}"
            )
        records.append(form(n * 4, said))
    return Records("strange transcript", records, glue=glue)


def document(rng: random.Random) -> Mixed:
    """Write a random document."""
    w = Writer(rng)
    make = rng.choice(
        (_log, _log, _log, _untimed, _xml, _xml, _labels, _spoken, _spoken, _pairs_as_data)
    )
    made = make(w)
    return made if isinstance(made, Mixed) else made.written(rng)
