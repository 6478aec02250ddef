"""What must not stay open or be torn: letters, elements of HTML, formulas, JSON."""

from __future__ import annotations

import json
import random
from collections import Counter
from html.parser import HTMLParser

import pytest
import regex
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser

from langchain_tokenopt import optimize
from langchain_tokenopt.counting.tokens import counter_for
from langchain_tokenopt.limits import WordLimit
from langchain_tokenopt.limits.elements import LONGEST_TAG
from langchain_tokenopt.limits.excerpt import Excerpt, Limit
from langchain_tokenopt.limits.markdown import LONGEST_HEAD
from tests.support.answers import pieces_of


def shown(text: str, words: int, *, pieces: list[str] | None = None) -> str:
    excerpt = Excerpt(Limit(words=words))
    return "".join(map(excerpt.feed, pieces or [text])) + excerpt.finish()


LETTERS = (
    "हिन्दी भाषा सुंदर है",
    "cafe\u0301 noir tre\u0300s fort",
    "❤\ufe0f red 👩\u200d👩\u200d👧 family 👍🏽 thumb",
    "か\u3099き\u3099く",
    "ก\u0e33ลังกิน ข้าว",
    "🇩🇪🇫🇷 flags",
    "각 한글",
    "葛\U000e0100飾区",
    "1\ufe0f\u20e3 key",
    "a\u0301" * 150 + " long",
    "👩\u200d🚀" * 80,
)


@pytest.mark.parametrize("text", LETTERS)
@pytest.mark.parametrize("words", range(1, 5))
def test_letters_are_whole(text, words):
    """Whatever the limit, and wherever the stream was divided."""
    letters = regex.findall(r"\X", text)
    for pieces in ([text], list(text)):
        left = shown(text, words, pieces=pieces).removesuffix("…")

        assert left in {"".join(letters[:n]) for n in range(len(letters) + 1)}


def test_a_text_without_any_end_of_a_letter_is_stopped():
    """A model that stacks accents for ever is no writer."""
    excerpt = Excerpt(Limit(words=3))
    excerpt.feed("a" + "\u0301" * 20_000)

    assert excerpt.is_full


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("<p>One two. Three four.</p>", 2, "<p>One two.</p>"),
        ("<ul>\n<li>One two</li>\n<li>Three</li>\n</ul>", 3, "<ul>\n<li>One two</li></ul>"),
        ("Hi there. Use a<b and c>dd. No more.", 6, "Hi there. Use a<b and c>dd."),
        ("Use List<String> here. Then go on.", 4, "Use List<String> here."),
        ("One <br> two. Three.", 3, "One <br> two."),
        ("<answer>It is red. It is old.</answer>", 4, "<answer>It is red.</answer>"),
        ("Say <name> aloud. Then leave it.", 3, "Say <name> aloud."),
        ("One two. <!-- note. --> Three. Four.", 4, "One two. <!-- note. --> Three."),
        ('See <a href="x. Y">the page. Now</a> go. End.', 6, 'See <a href="x. Y">the page.</a>'),
        ("<b>One **two. Three**</b> four.", 2, "<b>One **two.**</b>"),
        ("**One <b>two. Three</b>** four.", 2, "**One <b>two.</b>**"),
        ("```html\n<p>One\n<b>\n```\n\nTwo three.", 4, "```html\n<p>One\n<b>\n```"),
        ("`<b>` One two. Three.", 3, "`<b>` One two."),
    ],
)
def test_elements_are_closed(text, words, expected):
    """What is a tag is closed, what only looks like one is left alone."""
    assert expected == shown(text, words)


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("It is \\[ x = 1. Y + 2 \\] and more. End.", 4, "It is…"),
        ("One. \\[ x = 1. Y \\] Two. Three four five.", 6, "One. \\[ x = 1. Y \\] Two."),
        ("One. $$ x. Y $$ Two three four five.", 3, "One."),
        ("It costs $5. It is nice. And so on.", 3, "It costs $5."),
        ("Places: $$$ is dear. $ is not. End.", 4, "Places: $$$ is dear."),
        ("\\begin{itemize}\n\\item One.\n\n\\item Two.\n\\end{itemize}", 3,
         "\\begin{itemize}\n\\item One.\\end{itemize}"),
        ("So:\n\n\\begin{align}\nx &= 1. \\\\[2pt]\ny &= 2\n\\end{align}\n\nDone.", 4, "So:…"),
        ("One \\(x\\) two. Three.", 3, "One \\(x\\) two."),
        ("\\[ a + b + c + d \\] End.", 2, "\\[ a + b…\\]"),
    ],
)  # fmt: skip
def test_formulas_are_whole_or_not_begun(text, words, expected):
    """Only a text that begins with a formula longer than the limit is cut in it, and closed."""
    assert expected == shown(text, words)


DATA = {"answer": "It is long. It goes on and on.", "rows": [{"a": 1}, {"b": [2, 3]}]}
FENCED = f"```json\n{json.dumps(DATA, indent=2)}\n```"


@pytest.mark.parametrize("before", ["", "Here is the JSON:\n\n", "Sure. \n\n", "\n", "Sure! "])
@pytest.mark.parametrize("after", ["", "\n\nTell me if you need more. Bye."])
def test_fenced_json_behind_a_parser_is_whole(before, after):
    """Around the model and behind it, whole and streamed."""
    text = before + FENCED + after
    for chain in (
        optimize(GenericFakeChatModel(messages=iter([AIMessage(text)] * 2)), WordLimit(5)),
        GenericFakeChatModel(messages=iter([AIMessage(text)] * 2)) | WordLimit(5),
    ):
        parsed = chain | JsonOutputParser()

        assert parsed.invoke("?") == DATA
        assert list(parsed.stream("?"))[-1] == DATA


@pytest.mark.parametrize(
    "data",
    [[3, 5, 8, 13, 21], ["a tent", "two lamps"], [[1, 2], [3, 4]], [True, False, None, 1.5e3, -2]],
)
@pytest.mark.parametrize("around", ["{}", "\n{}\n"])
def test_a_list_of_values_behind_a_parser_is_whole(data, around):
    """However it is divided."""
    text = around.format(json.dumps(data))
    limit = WordLimit(1)

    assert text == limit.invoke(text) == "".join(limit.transform(iter(text)))


@pytest.mark.parametrize("text", ["[1] says that.", "[2, 3] say so.", "[[1]](u) says it."])
def test_what_an_answer_cites_first_is_no_json(text):
    """It is limited as any other."""
    assert shown(text * 9, 3).startswith(text[:3])
    assert len(shown(text * 9, 3)) < 2 * len(text)


def test_fenced_json_further_down_is_whole_or_left_out():
    """It is one unit of the text."""
    text = f"One two. Three four.\n\n{FENCED}\n\nEnd of it."

    assert shown(text, 10) == "One two. Three four."
    assert shown(text, 60) == text
    assert shown(text, 20) == f"One two. Three four.\n\n{FENCED}"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("br", "hr", "img"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.faults.append(tag)


def _document(rng: random.Random) -> str:
    """Markdown as models write it, with elements, formulas and JSON."""

    def sentence() -> str:
        words = [
            rng.choice(("river", "market", "window", "slowly", "quiet"))
            for _ in range(rng.randint(2, 9))
        ]
        if rng.random() < 0.2:
            words[0] = f"<b>{words[0]}</b>"
        if rng.random() < 0.2:
            words.append(rng.choice(("\\(a_1 * b. C\\)", "$5", "`x <y`", "a < b", "**bold one**")))
        return " ".join(words).capitalize() + "."

    def prose() -> str:
        return " ".join(sentence() for _ in range(rng.randint(1, 4)))

    kinds = (
        prose,
        lambda: f"<details>\n<summary>{sentence()}</summary>\n\n{prose()}\n\n{prose()}\n</details>",
        lambda: "<table>\n" + "".join(
            f"<tr><td>{sentence()}</td><td>{sentence()}</td></tr>\n" for _ in range(3)
        ) + "</table>",
        lambda: "<ul>\n" + "".join(f"<li>{prose()}</li>\n" for _ in range(3)) + "</ul>",
        lambda: f"$$\n\\frac{{a. B}}{{{rng.randint(1, 9)}}}\n$$",
        lambda: f"\\[ x = {rng.randint(1, 9)}. Y \\]",
        lambda: f"\\begin{{align}}\nx &= 1 \\\\\ny &= {rng.randint(1, 9)}\n\\end{{align}}",
        lambda: f"\\begin{{itemize}}\n\\item {prose()}\n\\item {prose()}\n\\end{{itemize}}",
        lambda: "```json\n" + json.dumps({"a": [sentence()] * 3}, indent=1) + "\n```",
        lambda: "```python\nif a < b:\n    print('<b>')\n```",
        lambda: "- " + prose() + "\n- " + prose(),
    )  # fmt: skip
    return "\n\n".join(rng.choice(kinds)() for _ in range(rng.randint(1, 7)))


@pytest.mark.parametrize("seed", range(120))
def test_nothing_stays_open_in_any_document(seed):
    """Elements, formulas and JSON of a shown text are whole, and pieces make no difference."""
    rng = random.Random(seed)
    text, words = _document(rng), rng.randint(1, 90)
    left = shown(text, words)
    prose = regex.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", left)
    tags = _Tags()
    tags.feed(prose)
    names = Counter(regex.findall(r"\\(?:begin|end)\{(\w+)\}", prose))

    assert (tags.stack, tags.faults) == ([], [])
    assert prose.count("$$") % 2 == 0
    assert prose.count("\\[") == prose.count("\\]")
    assert prose.count("\\(") == prose.count("\\)")
    assert [name for name, count in names.items() if count % 2] == []
    assert left.count("```") % 2 == 0
    for block in regex.findall(r"(?s)```json\n(.*?)```", left):
        json.loads(block)
    assert left == shown(text, words, pieces=list(pieces_of(text, rng)))


HOSTILE = (
    " ",
    "\t",
    "-",
    "- ",
    "|",
    "| a ",
    "_",
    "*",
    "*a ",
    "(",
    "(A. ",
    "[",
    "今天天气很好。",
    "\n",
    "👍\u200d",
    "\u0301",
    "今天",
    "> ",
    "1. ",
    "```\n",
    "<b>",
    "<a ",
    "<",
    "$",
    "\\",
    "\\begin{itemize}",
    "a",
    "<!-- ",
)


@pytest.mark.parametrize("unit", HOSTILE)
def test_what_was_read_is_not_read_again(unit):
    """Little of a text is kept to be looked at again, and its tokens are counted about once."""
    text = unit * (4_000 // len(unit))
    counter, counted = counter_for("gpt-4o"), 0

    def count(part: str) -> int:
        nonlocal counted
        counted += len(part)
        return counter.count(part).tokens

    excerpt = Excerpt(Limit(tokens=6_000), count)
    for at in range(0, len(text), 7):
        excerpt.feed(text[at : at + 7])
        scanner = excerpt._scanner
        assert len(scanner._head or "") <= LONGEST_HEAD + 1
        assert len(scanner._token) <= LONGEST_HEAD
        assert len(scanner._elements._seen) <= LONGEST_TAG + 1
    excerpt.finish()

    assert counted <= 4 * len(text)


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("यह एक वाक्य है। यह दूसरा वाक्य है।", 5, "यह एक वाक्य है।"),
        ("هل أنت هنا؟ نعم أنا هنا.", 4, "هل أنت هنا؟"),
        ("کیا حال ہے؟ سب ٹھیک ہے۔ شکریہ۔", 6, "کیا حال ہے؟ سب ٹھیک ہے۔"),
        ("Die Fa. Xaver zahlt. Ende gut.", 4, "Die Fa. Xaver zahlt."),
        ("Vgl. Abs. 3 dort. Nein.", 4, "Vgl. Abs. 3 dort."),
        ("これは文です。次の文です。", 8, "これは文です。"),
        ("They moved to ward B. Nobody knew why.", 5, "They moved to ward B…"),
        ("They moved to zone B. Nobody knew why.", 5, "They moved to zone B."),
        ("Le bac part à 7 h. Il est plein.", 6, "Le bac part à 7 h."),
        ("Written by A. Noor. Yes.", 4, "Written by A. Noor."),
    ],
)
def test_sentences_end_in_every_script(text, words, expected):
    """Where the room of texts says."""
    assert expected == shown(text, words)


PARTS = (
    "Sure! ", "```json\n[1, 2]\n```\n", "```\n", "[1] ", "One two. ", "Dr. No. ", "<i>x y</i> ",
    "<a href='u'>see that</a>: ", "| a | b |\n", "|---|---|\n", "- item one\n", "\\(a b\\) ",
    "hall A. So ", "\n", "\n\n", "`code it` ", "**bold ", "text** ", "“q one. ", "[1, 2, 3, 4]",
    "[[1]](u) ", "> said\n", "e\u0301 ", "天地。", "# Head\n", "`", "$x$ ",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_in_pieces_a_text_ends_where_it_does_as_a_whole(seed):
    """With any limit, whatever is open there: a stream shows nothing of a tag that does not fit."""
    rng = random.Random(seed)
    for _ in range(25):
        text = "".join(rng.choices(PARTS, k=rng.randint(1, 8)))
        limit = WordLimit(
            **{rng.choice(("max_words", "max_tokens", "max_sentences")): rng.randint(1, 14)}
        )
        whole = limit.invoke(text)

        assert "".join(limit.transform(iter(text))) == whole, (text, limit.limit)
        assert "".join(limit.transform(iter(pieces_of(text, rng)))) == whole, (text, limit.limit)
