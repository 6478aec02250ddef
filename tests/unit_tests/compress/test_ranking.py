"""What is asked for is found: by its identifier, among many that are alike, in any shape."""

from __future__ import annotations

import random

import pytest
from langchain_core.documents import Document

from langchain_tokenopt.compress import PromptCompressor, join_documents
from langchain_tokenopt.compress.identifiers import closeness, identifiers, written_forms
from langchain_tokenopt.compress.prompt_parts import read_message
from langchain_tokenopt.compress.segments import segments_of

FIRST = ("Ama", "Ben", "Chloe", "Dmitri", "Elif", "Farid")
LAST = ("Boateng", "Carter", "Dubois", "Orlov", "Kaya", "Aziz", "Moreno", "Ito", "Okafor", "Park")


def seeds(count: int) -> list[dict[str, str]]:
    """Records of a seed bank; all have the same fields."""
    rng = random.Random(4)
    return [
        {
            "lot": f"SB-{70 + n}/{n % 4}",
            "shelf": f"shelf{n}",
            "keeper": f"{FIRST[n % 6]} {LAST[n // 6]}",
            "date": f"2025-{n % 12 + 1:02}-{n % 27 + 1:02}",
            "sensor": f"172.16.{n // 8}.{n + 3}",
            "version": f"3.{n % 7}.{n}",
            "mail": f"keeper{n}@seeds.example",
            "answer": f"{rng.choice('KLM')}{10_000 + 7 * n}",
        }
        for n in range(count)
    ]


SHAPES = {
    "log": "{date} 08:00:00 INFO {shelf} {sensor} {keeper} {mail} {lot} v{version} tag {answer}",
    "list": "- {lot} ({shelf}, {sensor}): {keeper}, {mail}, since {date}, v{version}, tag {answer}",
    "piped": "| {lot} | {shelf} | {keeper} | {sensor} | {date} | v{version} | {mail} | {answer} |",
    "sentences": "On {date} {keeper} ({mail}) put lot {lot} with v{version} on {shelf} next to "
    "{sensor} under tag {answer}.",
}


@pytest.mark.parametrize("field", ["lot", "shelf", "sensor", "date", "keeper", "version", "mail"])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_of_many_alike_is_found_by_any_of_its_fields(shape, field):
    """With room for one or two of sixty."""
    records = seeds(60)
    text = "\n".join(SHAPES[shape].format(**record) for record in records)

    for at in (4, 17, 40, 58):
        wanted = records[at][field]
        found = PromptCompressor(80, query=f"Which tag goes with {wanted}?").compress(text)
        assert records[at]["answer"] in found.content, (wanted, found.content)


@pytest.mark.parametrize(
    ("identifier", "text", "whole"),
    [
        ("pump4", "pump4 runs", True),
        ("pump4", "pump42 runs", False),
        ("pump4", "heatpump4 runs", False),
        ("pump4", "pump4.", True),
        ("v1.2", "v1.2.3 is out", False),
        ("10.0.0.1", "10.0.0.12 is up", False),
        ("10.0.0.1", "10.0.0.1:80 is up", True),
        ("2025-03-04", "2025-03-04T08:00Z start", True),
        ("1,200", "1,200,500 kg", False),
        ("a@b.example", "write to a@b.example, please", True),
        ("--dry-run", "pass --dry-run to see", True),
        ("--dry", "pass --dry-run to see", False),
    ],
)
def test_an_identifier_is_whole_or_no_match(identifier, text, whole):
    """One more digit is another thing."""
    text = text.lower()
    at = text.find(identifier)

    assert whole == (closeness(text, at, at + len(identifier)) == 1.0)


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("2025-03-04", "4 March 2025"),
        ("2025-03-04", "04.03.2025"),
        ("2025-03-04", "Mar 4, 2025"),
        ("12500", "12,500"),
        ("12,500", "12500"),
    ],
)
def test_dates_and_amounts_are_found_however_they_are_written(asked, written):
    """What is the same for a reader is the same for a search."""
    assert written.lower() in written_forms(asked)


def test_words_with_hyphens_are_words():
    """They are no identifiers; a number is."""
    found = [match.group() for match in identifiers("Is the state-of-the-art well-known in 2025?")]

    assert ["2025"] == found


@pytest.mark.parametrize(
    "statements",
    [
        ("The ferry takes 40 cars.", "Correction: the ferry takes 36 cars."),
        ("The ferry takes 40 cars.", "The ferry no longer takes that many, 36 cars fit in."),
        ("In 2021 the ferry takes 40 cars.", "In 2024 the ferry takes 36 cars."),
        ("As of 3 May the ferry takes 40 cars.", "As of 9 June the ferry takes 36 cars."),
    ],
    ids=["correction", "no longer", "years", "dates"],
)
@pytest.mark.parametrize("turned", [False, True], ids=["old first", "new first"])
def test_of_contradicting_statements_the_outdated_one_never_stands_alone(statements, turned):
    """What holds comes first, whatever the order of the text."""
    calm = "The water is deep. Gulls sit on the rail. A horn sounds at noon. The crew wears blue. "
    said = statements[::-1] if turned else statements
    text = calm.join(("", *(f"{each} " for each in said), ""))

    for budget in range(12, 60, 4):
        left = PromptCompressor(budget, query="How many cars does the ferry take?").compress(text)
        assert "40 cars" not in left.content or "36 cars" in left.content, budget


def letters(written: str, statements: list[tuple[str, str]]) -> str | list[Document]:
    """Dated statements between calm ones, in one of several layouts."""
    calm = "Gulls sit on the rail. A horn sounds at noon. The crew wears blue. "
    if written == "documents":
        return [Document(f"{date}\n\n{calm}{said} {calm}") for date, said in statements]
    if written == "titles":
        return [Document(calm + said, metadata={"title": date}) for date, said in statements]
    form = {
        "headings": "## {date}\n\n{calm}{said} {calm}\n\n",
        "letters": "{date}\n{calm}{said} {calm}\n\n",
        "headers": "Date: {date}\nFrom: the office\n\n{calm}{said} {calm}\n\n---\n\n",
        "files": "===== log_{date}.txt =====\n\n{calm}{said} {calm}\n\n",
        "items": "- {date}: {calm}\n- {date}: {said}\n- {date}: {calm}\n",
        "lines": "[{date}] {calm}\n[{date}] {said}\n[{date}] {calm}\n",
        "sentences": "{calm}{date}: {said} {calm}",
    }[written]
    return "".join(form.format(date=d, said=said, calm=calm) for d, said in statements)


FORMS = ("documents", "titles", "headings", "letters", "headers", "files", "items", "lines")
DATES = {
    "iso": ("2021-03-04", "2024-02-17", "2022-11-30"),
    "english": ("4 March 2021", "February 17, 2024", "30 Nov 2022"),
    "french": ("4 mars 2021", "17 février 2024", "30 novembre 2022"),
    "russian": ("4 марта 2021 года", "17 февраля 2024 года", "30 ноября 2022 года"),
    "chinese": ("2021年3月4日", "2024年2月17日", "2022年11月30日"),
}


@pytest.mark.parametrize("written", [*FORMS, "sentences"])
@pytest.mark.parametrize("dates", DATES.values(), ids=DATES.keys())
@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("How many cars does the ferry take now?", "36 cars"),
        ("How many cars does the ferry take?", "36 cars"),
        ("How many cars did the ferry take on 1 January 2023?", "52 cars"),
    ],
)
def test_the_statement_is_kept_that_holds_when_it_is_asked_for(written, dates, question, right):
    """The newest, or the newest that is not newer than the date that is asked for."""
    said = [f"The ferry takes {count} cars." for count in (40, 36, 52)]
    content = letters(written, list(zip(dates, said, strict=True)))

    left = PromptCompressor(60, model="cl100k_base").compress(content, question).content

    assert right in (left if isinstance(left, str) else join_documents(left))


def test_a_short_passage_at_the_end_is_a_passage_where_it_has_a_title():
    """It goes like the others; only the instruction and the question stay."""
    long = "Gulls sit on the rail. A horn sounds at noon. The crew wears blue. " * 6
    passages = [f"Document [{n}](Title: The ferry of year {n}) {long}" for n in range(1, 9)]
    passages.append("Document [9](Title: Notes on the weather) Fog came early.")
    text = "Answer from these.\n\n" + "\n".join(passages) + "\n\nQuestion: when is the horn of 4?"

    stays = "".join(unit.within(text) for unit in read_message(text).units if unit.required)

    assert "weather" not in stays
    assert "Answer from these." in stays
    assert "when is the horn of 4?" in stays


def test_people_who_take_turns_are_no_records():
    """Somebody speaks again behind one answer; a record begins behind all of its fields."""
    said = "Jo Lund: How is that?\nAda Ray: It is fine, I should say.\n" * 9
    text = f"Mo Fay: Good morning, all.\n{said}Mo Fay: Thank you.\nEd Poe: Bye.\nMo Fay: Bye.\n"

    assert {"turn"} == {segment.kind for segment in segments_of(text)}


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Which step shrinks the cargo?", "shrinkCargo"),
        ("Which step weighs a crate?", "CrateWeigher"),
        ("Which step reads the HTTP header?", "readHTTPHeader"),
        ("Which step paints the colour?", "paint_color"),
        ("Which step normalises the weight?", "weightNormalizer"),
        ("Which step finds the centre?", "findCenter"),
    ],
)
def test_parts_of_names_and_other_spellings_are_found(question, name):
    """A name is made of words; British and American spellings are one word."""
    others = ("loadTruck", "printLabel", "callDriver", "closeHatch", "lockDoor", "sendMail")
    lines = [f"The step {other} runs in {at} seconds." for at, other in enumerate(others * 2, 20)]
    text = "\n\n".join([*lines[:7], f"The step {name} runs in 93 seconds.", *lines[7:]])

    left = PromptCompressor(16, model="cl100k_base", query=question).compress(text)

    assert name in left.content


def test_what_held_before_is_kept_where_that_is_asked_for():
    """Nothing is put first then."""
    text = letters(
        "headings",
        [("2021-03-04", "The fee was 5 EUR at first."), ("2024-02-17", "The fee is 9 EUR.")],
    )

    left = PromptCompressor(40, query="What was the fee at first?").compress(text)

    assert "5 EUR" in left.content


@pytest.mark.parametrize("limit", [60, 120, 200])
@pytest.mark.parametrize(
    "form",
    [
        "services:\n{entries}",
        "base:\n  retries: 3\nservices:\n{entries}",
        "```yaml\nservices:\n{entries}```\n",
    ],
)
@pytest.mark.parametrize(
    "entry",
    [
        "  line-{n}:\n    port: {port}\n",
        "  line-{n}:\n    port: {port}\n    image: web:{n}.2\n",
        "  line-{n}:\n    net:\n      port: {port}\n    env:\n      debug: no\n",
    ],
)
def test_the_entry_that_its_key_names_is_found(form, entry, limit):
    """Its name stands above what is asked, one or more levels."""
    entries = "".join(entry.format(n=n, port=8_000 + n) for n in range(30))
    prompt = form.format(entries=entries) + "\nWhich port has line-19?"
    made = PromptCompressor(limit, model="cl100k_base").invoke(prompt)
    assert "8019" in made


@pytest.mark.parametrize("name", ["title", "date", "titre"])
def test_what_two_elements_say_stays_below_the_title_of_each(name):
    """However little room there is, a tag with a title is no decoration."""
    text = "\n".join(
        f'<menu {name}="{day}">The soup is made of leek. Bread is free. {cook} cooks.</menu>'
        for day, cook in (("Monday", "Ada"), ("Friday", "Cleo"), ("Sunday", "Dan"))
    )
    asked = "What is the soup made of on Friday?"
    made = PromptCompressor(48, model="gpt-4o").invoke(f"Use the menus.\n\n{text}\n\n{asked}")

    assert f'<menu {name}="Friday">The soup is made of leek.' in made
    assert made.count("<menu") == made.count("</menu>")
    assert made.count("The soup is made") == made.count("is made of leek.", made.index("<menu"))


@pytest.mark.parametrize(
    ("statement", "correction", "asked"),
    [
        ("Le four contient 40 pots.", "Rectificatif : le four contient 52 pots.",
         "Combien de pots le four contient-il ?"),
        ("Il forno contiene 40 vasi.", "Rettifica: il forno contiene 52 vasi.",
         "Quanti vasi contiene il forno?"),
        ("Der Ofen fasst 40 Töpfe.", "Inzwischen fasst der Ofen 52 Töpfe.",
         "Wie viele Töpfe fasst der Ofen?"),
        ("窯には40個の壺が入る。", "訂正：窯には52個の壺が入る。",
         "窯にはいくつの壺が入りますか？"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["[{n}] {text}\n", "Source {n}: {text}\n", "{text}\n\n"])
def test_short_facts_that_were_corrected_are_kept_as_they_hold(statement, correction, asked, mark):
    """A number before a single sentence makes no title of it."""
    facts = ["Clay comes from the pit.", statement, "Glaze is kept in jars.", correction]
    facts += ["The shed has two doors.", "Cats sleep on the shelf."]
    text = "Context:\n\n" + "".join(mark.format(n=n, text=t) for n, t in enumerate(facts, 1))
    text = f"{text.rstrip()}\n\nQuestion: {asked}"
    shorter = PromptCompressor(1000, model="gpt-4o").compress(text)
    made = PromptCompressor(int(0.65 * shorter.tokens_before), model="gpt-4o").invoke(text)

    assert correction in made
