"""Random documents of records: logs, few-shot examples, subtitles and transcripts.

Each knows its records, which are kept with all of their lines or not at all, in their order, and
the header that must stay while any record does.
"""

# ruff: noqa: E501

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.mixed_documents import NAMES, Mixed, Writer
from tests.support.wholeness import marks_close, records_whole, tags_close, words_in_order

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass
class Records:
    """A document before it is written."""

    kind: str
    records: list[str]
    header: str = ""
    footer: str = ""
    glue: str = "\n"
    asked: str = ""
    """What the user asks behind the records, which must stay."""
    by_paragraph: bool = False
    """Whether a blank line must stand between records, as their format says."""
    loose: Sequence[str] = field(default_factory=tuple)
    """Lines that may stay or go alone."""

    def written(self, rng: random.Random) -> Mixed:
        """Write it, alone or within a prompt."""
        body = self.glue.join(self.records)
        text = f"{self.header}{body}{self.footer}"
        around = rng.choice(("alone", "alone", "fence", "tag", "prompt", "asked"))
        loose = [*self.loose]
        if self.asked:
            text += self.asked
        elif around == "fence":
            mark = "~~~" if "```" in text else "```"
            text = f"See this:\n\n{mark}\n{text}\n{mark}\n\nWhat went wrong?"
            loose += ["See this:", mark, "What went wrong?"]
        elif around == "tag":
            text = f"Read it.\n<data>\n{text}\n</data>\nWho was it?"
            loose += ["Read it.", "<data>", "</data>", "Who was it?"]
        elif around == "prompt":
            text = f"You are an analyst. Be brief.\n\n{text}\n\nWhen did the harbour fail?"
            loose += ["You are an analyst. Be brief.", "You are an analyst.", "Be brief."]
            loose += ["When did the harbour fail?"]
        elif around == "asked":
            text = f"{text}\n\nName the first failure."
            loose += ["Name the first failure."]
        faults = [
            records_whole(self.records, self.header, [*loose, self.footer, self.asked],
                          by_paragraph=self.by_paragraph),
            marks_close, tags_close(text), words_in_order(text),
        ]  # fmt: skip
        if self.asked:
            last = self.asked.strip()
            faults.append(lambda left: [] if last in left else ["the user's own input is gone"])
        query = rng.choice(("", f"What of {rng.choice(NAMES)} and the lamp?"))
        return Mixed(
            self.kind, text, "" if self.asked else query,
            lambda left: [fault for check in faults for fault in check(left)] if left.strip() else [],
        )  # fmt: skip


# --- logs ----------------------------------------------------------------------------------------


def _clock(w: Writer, n: int) -> tuple[int, int, int, int]:
    return n // 3600 % 24, n // 60 % 60, n % 60, w.rng.randint(0, 999)


def _message(w: Writer) -> str:
    return w.rng.choice((
        f"{w.noun()} {w.name()} failed", f"user {w.rng.choice(NAMES)} opened the {w.noun()}",
        f"took {w.number()} ms: {w.noun()}={w.number()}, left {w.number()}",
        w.sentence(), f"GET /{w.noun()}/{w.number()}?a=1 -> {w.number()}0",
    ))  # fmt: skip


def _continued(w: Writer, *, indented: bool | None = None) -> str:
    """What goes on below the first line of a record; empty for most."""
    if w.rng.random() < 0.6:
        return ""
    flush = (
        f"Traceback (most recent call last):\n  File \"a.py\", line {w.number()}, in {w.name()}\n"
        f"    go()\nValueError: {w.noun()} is. Bad",
        f"java.lang.IllegalStateException: {w.noun()}\n\tat com.a.B.c(B.java:{w.number()})\n"
        f"\tat com.a.D.e(D.java:{w.number()})\nCaused by: java.io.IOException: {w.noun()}\n"
        f"\t... {w.number()} more",
        f"{{\n  \"{w.noun()}\": {w.number()},\n  \"list\": [1, 2],\n  \"who\": \"{w.noun()}\"\n}}",
        f"SELECT {w.noun()} FROM {w.noun()}s\nWHERE id = {w.number()};",
        f"the {w.noun()} was not\nthere at all, {w.sentence('en')}",
        f"goroutine {w.number()} [running]:\nmain.main()\n\t/a/main.go:{w.number()} +0x1d",
        f"- {w.noun()}\n- {w.noun()}", f"{w.noun()}: {w.number()}\n{w.noun()}: {w.number()}",
    )  # fmt: skip
    deep = (
        f"    at {w.noun()}.run ({w.noun()}.js:{w.number()}:7)\n    at main (b.js:1:2)",
        f"  {w.noun()}: {w.number()}\n  {w.noun()}: {w.number()}",
        f"\t{w.sentence()}\n\t{w.sentence()}", f"  | {w.noun()} | {w.number()} |",
        f"    {{\n      \"a\": {w.number()}\n    }}",
    )  # fmt: skip
    pool = deep if indented else flush if indented is False else deep + flush
    return "\n" + w.rng.choice(pool)


def _log(w: Writer) -> Records:
    rng, kind = w.rng, w.rng.choice(list(_LOG_FORMS))
    form = _LOG_FORMS[kind]
    indented = rng.choice((True, False, None))
    single = kind in ("common", "combined", "logfmt", "quoted", "json lines", "csv")
    start, records = rng.randint(0, 80_000), []
    for n in range(rng.randint(6, 40)):
        head = form(w, start + n * rng.randint(1, 9), _message(w))
        records.append(head + ("" if single else _continued(w, indented=indented)))
    header = "time,level,who,text\n" if kind == "csv" else ""
    glue = "\n\n" if not single and rng.random() < 0.1 else "\n"
    return Records(f"log {kind}", records, header, glue=glue)


def _mixed_log(w: Writer) -> Records:
    forms = w.rng.sample([f for k, f in _LOG_FORMS.items() if k in _WITH_TIMES], 3)
    records = [
        w.rng.choice(forms)(w, n, _message(w)) + _continued(w, indented=True) for n in range(30)
    ]
    return Records("log mixed", records)


def _hms(w: Writer, n: int) -> str:
    h, m, s, _ = _clock(w, n)
    return f"{h:02d}:{m:02d}:{s:02d}"


_LOG_FORMS: dict[str, Callable[[Writer, int, str], str]] = {
    "iso": lambda w, n, t: f"2026-05-01T{_hms(w, n)}Z {w.rng.choice(LEVELS)} {t}",
    "python": lambda w, n, t: f"2026-05-01 {_hms(w, n)},123 - app.{w.noun()} - {w.rng.choice(LEVELS)} - {t}",
    "epoch": lambda w, n, t: f"{1_746_093_133 + n} {w.noun()} {t}",
    "epoch ms": lambda w, n, t: f"{1_746_093_133_000 + n}\t{w.rng.choice(LEVELS)}\t{t}",
    "syslog": lambda w, n, t: f"May  1 {_hms(w, n)} host{w.number()} sshd[{w.number()}]: {t}",
    "rfc5424": lambda w, n, t: f"<34>1 2026-05-01T{_hms(w, n)}.003Z host app {w.number()} ID{n} - {t}",
    "common": lambda w, n, t: f'10.0.{w.number()}.{n % 250} - - [01/May/2026:{_hms(w, n)} +0000] "GET /{w.noun()} HTTP/1.1" 200 {n}',
    "combined": lambda w, n, t: f'10.0.{w.number()}.7 - {w.rng.choice(NAMES)} [01/May/2026:{_hms(w, n)} +0000] "POST /{w.noun()} HTTP/2" 500 {n} "https://a.b/{w.noun()}" "Mozilla/5.0 (X11; Linux)"',
    "logfmt": lambda w, n, t: f'ts=2026-05-01T{_hms(w, n)}Z level=info msg="{w.noun()} is. Done" id={n} who={w.noun()}',
    "quoted": lambda w, n, t: f'app="{w.noun()} {n}" event="{w.noun()} opened" at="2026-05-01 {_hms(w, n)}" n={n}',
    "json lines": lambda w, n, t: f'{{"ts": "2026-05-01T{_hms(w, n)}Z", "level": "info", "msg": "{w.noun()} {n}. It is."}}',
    "log4j": lambda w, n, t: f"{_hms(w, n)}.123 [main-{w.number()}] {w.rng.choice(LEVELS):5} com.a.{w.noun()} - {t}",
    "go": lambda w, n, t: f"2026/05/01 {_hms(w, n)} main.go:{w.number()}: {t}",
    "klog": lambda w, n, t: f"{w.rng.choice('IWEF')}0501 {_hms(w, n)}.123456 {w.number():7} {w.noun()}.go:{w.number()}] {t}",
    "windows": lambda w, n, t: f"{w.rng.choice(('Information', 'Warning', 'Error'))}\t01/05/2026 {_hms(w, n)}\t{w.noun()}\t{w.number()}\tNone\t{t}",
    "brackets": lambda w, n, t: f"[{w.rng.choice(LEVELS)}] [{w.noun()}] {t}",
    "time in brackets": lambda w, n, t: f"[2026-05-01 {_hms(w, n)}] {w.noun()}.{w.rng.choice(LEVELS)}: {t}",
    "csv": lambda w, n, t: f"2026-05-01 {_hms(w, n)},{w.rng.choice(LEVELS)},{w.noun()},{w.noun()} {n}",
    "bare": lambda w, n, t: f"{w.rng.choice(LEVELS)}: {t}",
    "bare spaced": lambda w, n, t: f"{w.rng.choice(LEVELS):7}{t}",
    "ansi": lambda w, n, t: f"\x1b[3{n % 7}m{_hms(w, n)}\x1b[0m \x1b[1m{w.rng.choice(LEVELS)}\x1b[0m {t}",
    "level first": lambda w, n, t: f"{w.rng.choice(LEVELS)} 2026-05-01 {_hms(w, n)} ({w.noun()}) {t}",
    "compose": lambda w, n, t: f"{w.noun()}-{n % 3}  | {_hms(w, n)} {t}",
    "ruby": lambda w, n, t: f"{w.rng.choice('IWE')}, [2026-05-01T{_hms(w, n)}.12 #{w.number()}]  INFO -- : {t}",
    "logcat": lambda w, n, t: f"05-01 {_hms(w, n)}.123  {w.number()}  {w.number()} {w.rng.choice('IWE')} {w.noun()}: {t}",
    "dmesg": lambda w, n, t: f"[{n:6}.{w.number():06}] usb {n % 9}-{n % 4}: {t}",
    "compact": lambda w, n, t: f"20260501 {_hms(w, n).replace(':', '')} {w.rng.choice(LEVELS)} {t}",
    "ctime": lambda w, n, t: f"Fri May  1 {_hms(w, n)} 2026 {w.noun()}: {t}",
    "numbered": lambda w, n, t: f"#{n} {w.noun()}: {t}",
    "german": lambda w, n, t: f"01.05.2026 {_hms(w, n)} FEHLER {w.noun()}: {t}",
}  # fmt: skip
_WITH_TIMES = frozenset(_LOG_FORMS) - {
    "brackets", "csv", "bare", "bare spaced", "numbered", "json lines", "quoted", "dmesg",
}  # fmt: skip


# --- few-shot examples ---------------------------------------------------------------------------


def _answer(w: Writer) -> str:
    return w.rng.choice((
        w.noun(), w.sentence("en"), f"{w.sentence('en')} {w.sentence('de')}",
        f"```python\nprint({w.number()})\n\nprint('{w.noun()}')\n```",
        f"{w.sentence('en')}\n\n{w.sentence('en')}", f"{{\"{w.noun()}\": {w.number()}}}",
    ))  # fmt: skip


def _question(w: Writer) -> str:
    return w.rng.choice((w.sentence("en"), w.prose(1, 5), f"{w.sentence('en')}\n{w.sentence()}"))


def _examples(w: Writer) -> Records:
    kind = w.rng.choice(list(_EXAMPLE_FORMS))
    form = _EXAMPLE_FORMS[kind]
    short = w.rng.random() < 0.5
    asks = [_question(w) for _ in range(w.rng.randint(3, 9))]
    answers = [w.noun() if short else _answer(w) for _ in asks]
    made = form(w, list(zip(asks, answers, strict=True)), w.sentence("en"))
    made.kind = f"examples {kind}"
    made.loose = [*made.loose, "Answer as the examples do."]
    made.header = f"Answer as the examples do.\n\n{made.header}"
    return made


def _nested(
    outer: str, inner: tuple[str, str], *, wrapped: bool, lines: bool, numbered: bool = False
):
    def form(w: Writer, pairs: Sequence[tuple[str, str]], own: str) -> Records:
        gap, pad = ("\n", w.rng.choice(("", "  "))) if lines else ("", "")
        one, two = inner
        records = []
        for n, (ask, answer) in enumerate(pairs, 1):
            mark = f' id="{n}"' if numbered else ""
            records.append(
                f"<{outer}{mark}>{gap}{pad}<{one}>{ask}</{one}>{gap}{pad}<{two}>{answer}</{two}>{gap}</{outer}>"
            )
        loose = ["<examples>", "</examples>"] if wrapped else []
        header, footer = ("<examples>\n", "\n</examples>") if wrapped else ("", "")
        return Records("", records, header, footer, w.rng.choice(("\n", "\n\n")),
                       f"\n\n<{one}>{own}</{one}>", loose=loose)  # fmt: skip

    return form


def _paired(one: str, two: str):
    def form(w: Writer, pairs: Sequence[tuple[str, str]], own: str) -> Records:
        glue = w.rng.choice(("\n", "\n\n"))
        records = [f"<{one}>{ask}</{one}>\n<{two}>{answer}</{two}>" for ask, answer in pairs]
        return Records("", records, glue=glue, asked=f"\n\n<{one}>{own}</{one}>\n<{two}>")

    return form


def _labelled(one: str, two: str, title: str = "", last: str = ""):
    def form(w: Writer, pairs: Sequence[tuple[str, str]], own: str) -> Records:
        records = [
            f"{title.format(n=n)}{one.format(n=n)}{ask}\n{two.format(n=n)}{answer}"
            for n, (ask, answer) in enumerate(pairs, 1)
        ]
        n = len(pairs) + 1
        asked = f"\n\n{last}{one.format(n=n)}{own}\n{two.format(n=n).rstrip()}"
        return Records("", records, glue="\n\n", asked=asked)

    return form


_EXAMPLE_FORMS = {
    "nested": _nested("example", ("input", "output"), wrapped=True, lines=True),
    "nested bare": _nested("example", ("input", "output"), wrapped=False, lines=True),
    "one line": _nested("example", ("input", "output"), wrapped=True, lines=False),
    "attributes": _nested("example", ("question", "answer"), wrapped=True, lines=True, numbered=True),
    "own names": _nested("case", ("request", "reply"), wrapped=True, lines=True),
    "user/assistant": _paired("user", "assistant"),
    "q/a": _paired("q", "a"),
    "Input": _labelled("Input: ", "Output: "),
    "Q": _labelled("Q: ", "A: "),
    "Q1": _labelled("Q{n}: ", "A{n}: "),
    "titled": _labelled("Input: ", "Output: ", "Example {n}:\n"),
    "headed": _labelled("**Input:** ", "**Output:** ", "### Example {n}\n", "### Your turn\n"),
    "headings": _labelled("## Input\n", "## Output\n"),
    "own labels": _labelled("Ticket: ", "Team: "),
    "three": _labelled("Review: ", "Verdict: ", "Product: lamp {n}\n", "Product: lamp\n"),
}  # fmt: skip


# --- subtitles and transcripts -------------------------------------------------------------------


def _said(w: Writer) -> str:
    return w.rng.choice((w.sentence("en"), f"{w.sentence()}\nand the {w.noun()}", w.prose(1, 3)))


def _subtitles(w: Writer) -> Records:
    kind = w.rng.choice(list(_CUE_FORMS))
    form, header, glue, loose = _CUE_FORMS[kind]
    records = []
    for n in range(1, w.rng.randint(6, 40)):
        said = _said(w) if glue == "\n\n" else w.sentence()
        records.append(form(w, n, said))
    return Records(f"subtitles {kind}", records, header, glue=glue, by_paragraph=glue == "\n\n",
                   loose=loose)  # fmt: skip


def _span(w: Writer, n: int, mark: str) -> tuple[str, str]:
    return f"{_hms(w, 3 * n)}{mark}000", f"{_hms(w, 3 * n + 2)}{mark}500"


_STYLE = "STYLE\n::cue {\n  color: lime;\n}"
_CUE_FORMS: dict[str, tuple[Callable[[Writer, int, str], str], str, str, tuple[str, ...]]] = {
    "srt": (lambda w, n, t: f"{n}\n{' --> '.join(_span(w, n, ','))}\n{t}", "", "\n\n", ()),
    "srt styled": (lambda w, n, t: f"{n}\n{' --> '.join(_span(w, n, ','))}\n<i>{t}</i>", "", "\n\n", ()),
    "srt speakers": (lambda w, n, t: f"{n}\n{' --> '.join(_span(w, n, ','))}\n{NAMES[n % 4]}: {t}", "", "\n\n", ()),
    "vtt": (lambda w, n, t: f"{' --> '.join(_span(w, n, '.'))}\n{t}", "WEBVTT\n\n", "\n\n", ()),
    "vtt named": (lambda w, n, t: f"intro {n}\n{' --> '.join(_span(w, n, '.'))} align:start line:90%\n<v {NAMES[n % 4]}>{t}", "WEBVTT - of the lamp\n\n", "\n\n", ()),
    "vtt note": (lambda w, n, t: f"{' --> '.join(_span(w, n, '.'))}\n- {t}\n- Yes." if n % 5 else f"NOTE {w.noun()}\nis {n}", f"WEBVTT\nKind: captions\n\n{_STYLE}\n\n", "\n\n", ()),
    "sbv": (lambda w, n, t: f"{','.join(_span(w, n, '.'))}\n{t}", "", "\n\n", ()),
    "lrc": (lambda w, n, t: f"[{n // 20:02d}:{3 * n % 60:02d}.{w.number()}]{t}", "[ti:Lamp]\n[ar:Ada]\n", "\n", ("[ti:Lamp]", "[ar:Ada]")),
    "ass": (lambda w, n, t: f"Dialogue: 0,{_hms(w, n)[1:]}.00,{_hms(w, n + 2)[1:]}.00,Default,,0,0,0,,{t}", "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n", "\n", ()),
    "minutes": (lambda w, n, t: f"[{n // 20:02d}:{3 * n % 60:02d}] {NAMES[n % 4]}: {t}", "", "\n", ()),
    "zoom": (lambda w, n, t: f"{_hms(w, 3 * n)}\t{NAMES[n % 4]} Lee:\t{t}", "", "\n", ()),
    "zoom blocks": (lambda w, n, t: f"[{NAMES[n % 4]} Lee] {_hms(w, 3 * n)}\n{t}", "", "\n\n", ()),
    "teams": (lambda w, n, t: f"{_hms(w, 3 * n)[1:]}.0 --> {_hms(w, 3 * n + 2)[1:]}.5\n{NAMES[n % 4]} Lee\n{t}", "", "\n\n", ()),
    "slack": (lambda w, n, t: f"{NAMES[n % 4]} Lee  {n % 11 + 1}:{n % 60:02d} AM\n{t}", "", "\n\n", ()),
    "teams names": (lambda w, n, t: f"{NAMES[n % 4]} Lee   {n}:{n % 60:02d}\n{t}", "", "\n\n", ()),
}  # fmt: skip


def _ttml(w: Writer) -> Records:
    records = [
        f'<p begin="{_span(w, n, ".")[0]}" end="{_span(w, n, ".")[1]}">{w.sentence()}<br/>{w.noun()}</p>'
        for n in range(w.rng.randint(6, 40))
    ]
    header = '<tt xmlns="http://www.w3.org/ns/ttml">\n<body>\n<div>\n'
    return Records("subtitles ttml", records, header, "\n</div>\n</body>\n</tt>",
                   loose=[*header.split("\n"), "</div>", "</body>", "</tt>"])  # fmt: skip


def _chat(w: Writer) -> Records:
    kind = w.rng.choice(list(_CHAT_FORMS))
    form = _CHAT_FORMS[kind]
    records = []
    for n in range(w.rng.randint(6, 40)):
        said = w.rng.choice((w.sentence(), w.sentence(), f"{w.sentence()}\n{w.sentence('en')}",
                             f"see:\n- {w.noun()}\n- {w.noun()}", f"the\n{w.noun()} is {n}"))  # fmt: skip
        records.append(form(w, n, said if kind != "irc" else w.sentence()))
    return Records(f"chat {kind}", records)


_CHAT_FORMS: dict[str, Callable[[Writer, int, str], str]] = {
    "whatsapp": lambda w, n, t: f"[01/05/2026, {_hms(w, 60 * n)}] {NAMES[n % 4]}: {t}",
    "whatsapp dash": lambda w, n, t: f"01.05.26, {_hms(w, 60 * n)[:5]} - {NAMES[n % 4]} Lee: {t}",
    "telegram": lambda w, n, t: f"{NAMES[n % 4]}, [01.05.2026 {_hms(w, 60 * n)[:5]}]:\n{t}",
    "irc": lambda w, n, t: f"[{_hms(w, 60 * n)[:5]}] <{NAMES[n % 4].lower()}> {t}",
    "discord": lambda w, n, t: f"{NAMES[n % 4]} — Today at {n % 11 + 1}:{n % 60:02d} PM\n{t}",
    "mails": lambda w, n, t: f"From: {NAMES[n % 4]} <a{n}@b.c>\nDate: 1 May 2026 {_hms(w, n)}\nSubject: {w.noun()}\n{t}",
}  # fmt: skip


def document(rng: random.Random) -> Mixed:
    """Write a random document of records."""
    w = Writer(rng)
    makers = (_log, _log, _log, _mixed_log, _examples, _examples, _subtitles, _ttml, _chat, _chat)
    makers = (*makers, _subtitles, _log)
    return rng.choice(makers)(w).written(rng)
