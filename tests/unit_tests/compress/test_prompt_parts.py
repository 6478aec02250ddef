"""What in a message instructs, asks and quotes."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda

from langchain_tokenopt.compress import PromptCompressor
from langchain_tokenopt.compress.addressing import addresses
from langchain_tokenopt.compress.prompt_parts import read_material, read_message

PASSAGES = "Context: Tea is hot. Ice is cold. Birds sing.\nSnow is white.\n\n"
QUESTION = "What is cold?"


def outside(text: str) -> str:
    """Return what has to stay of *text*."""
    return "".join(u.within(text) for u in read_message(text).units if u.required)


@pytest.mark.parametrize(
    "question",
    [QUESTION, f"{QUESTION}\n", "茶热吗？", "I wonder. What is cold?", f"{'x' * 699}?"],
    ids=["question", "line end", "Chinese", "two sentences", "long"],
)
def test_a_question_behind_the_last_passage_needs_no_label(question):
    """It is the question, it stays, and it brings no label of the passages with it."""
    text = PASSAGES + question
    parts = read_message(text)

    assert question.strip().endswith(parts.question)
    assert question == outside(text)
    assert all(unit.head < 0 for unit in parts.units if unit.required)


@pytest.mark.parametrize(
    "ending",
    ["Rain is wet. Fog is damp. Hail is hard. It falls in May.", f"{'x' * 700}. {'x' * 700}?"],
    ids=["as long as the others", "too long"],
)
def test_other_last_paragraphs_are_passages(ending):
    """A paragraph as long as the others and a long text are quoted."""
    assert ending[:20] not in outside(PASSAGES + ending)


def test_a_section_of_its_own_that_asks_is_the_question():
    """A question may stand under a heading."""
    assert "## Colder\nIs ice cold?" == outside(f"{PASSAGES}## Colder\nIs ice cold?")


def test_an_unlabelled_question_decides_what_is_kept():
    """At the compressor: the question stays, and the sentence that answers it."""
    filler = "".join(f"Fact {n} is that birds of kind {n} sing. " for n in range(40))
    question = "Who skates on the frozen lake?"
    text = (
        f"Context: Birds sing.\n{filler}Ada Quill skates on the frozen lake. {filler}\n\n{question}"
    )

    made = PromptCompressor(30, model="cl100k_base").invoke(text)

    assert "Ada Quill skates on the frozen lake." in made
    assert made.endswith(question)


LISTS = {
    "English": ("Context", "Question", "Fact {} is that birds sing.", "Ice is cold.", QUESTION),
    "German": ("Kontext", "Frage", "Vogel {} singt laut.", "Eis ist kalt.", "Was ist kalt?"),
    "Spanish": ("Contexto", "Pregunta", "Gallo {} canta.", "El hielo es frío.", "¿Qué es frío?"),
}  # fmt: skip


@pytest.mark.parametrize("behind", ["", "\nAnswer:"], ids=["last", "before a cue"])
@pytest.mark.parametrize("indent", ["", "  "], ids=["flush", "deeper"])
@pytest.mark.parametrize("language", LISTS)
def test_a_labelled_question_below_a_list_is_no_entry_of_yaml(language, indent, behind):
    """Labels and items are read as a prompt where one of the labels asks."""
    label, asking, filler, fact, question = LISTS[language]
    facts = [filler.format(n) for n in range(40)]
    items = "\n".join(f"{indent}- {line}" for line in [*facts[:25], fact, *facts[25:]])
    text = f"{label}:\n{items}\n{asking}: {question}{behind}"
    chain = RunnableLambda(lambda _: text) | PromptCompressor(60, model="cl100k_base")

    made = chain.invoke({})

    assert f"{asking}: {question}{behind}" in made
    assert fact in made


def test_several_questions_under_labels_are_records():
    """Data of many questions asks nothing: every record may go."""
    records = "\n---\n".join(f"question: What is {n}?\ntags:\n- a{n}" for n in range(30))

    assert read_material(records).question is None


@pytest.mark.parametrize("said", ["申请书", "请求", "邀请函", "请愿书", "请假条"])
def test_a_word_that_contains_a_please_tells_nobody_anything(said):
    """Petitions and invitations are what Chinese passages are about; a plain 请 still asks."""
    question = "谁给奎尔湾的渡轮刷了漆？"
    towns, plain = ["阿登", "博尔顿", "科夫", "多佛"], "当地报纸说{}的市场太吵，但居民不同意。"
    told = f"1943年有13人就{{}}附近的市场签署了{said}。"
    passages = "\n\n".join(
        (told if n % 3 == 2 else plain).format(towns[n % 4]) + plain.format(towns[n % 3])
        for n in range(21)
    )

    assert question == outside(f"{question}\n\n{passages}").strip()
    assert addresses("请只用一句话回答。")


@pytest.mark.parametrize(
    "told",
    [
        "Benutze nur die Abschnitte. Wenn sie es nicht sagen, sage das.",
        "Verwenden Sie nur die Texte, die folgen.",
        "Utiliza solo los pasajes. Si no lo dicen, dilo.",
        "Используйте только эти отрывки.",
    ],
)
def test_an_instruction_above_short_passages_stays(told):
    """It is as long as the passages are, and told apart by its first word."""
    passages = "\n\n".join(
        f"Die Reparatur der Halle {n} in Korfu dauerte {n} Monate und wurde von der Stadt bezahlt."
        for n in range(10, 30)
    )

    assert told in outside(f"{told}\n\n{passages}\n\nWer hat Halle 12 bezahlt?")


@pytest.mark.parametrize("place", [0, 10, 36, 59])
def test_a_labelled_question_stays_however_the_passages_look(place):
    """Lines from one template look like a log; the one that is unlike them like its frame."""
    lines = [f"Lighthouse {n} was repaired in {1900 + n} by the office." for n in range(60)]
    lines.insert(place, "The granary beside the mill was built by Mathilde Orne for the monks.")
    asked = "Question: Who built the granary?"
    prompt = "Notes:\n" + "\n\n".join(lines) + f"\n\n{asked}"
    shortened = PromptCompressor(max_tokens=300).compress([HumanMessage(prompt)])

    said = str(shortened.content[0].content)
    assert said.endswith(asked)
    assert "Mathilde Orne" in said


@pytest.mark.parametrize("place", [0, 20, 39])
@pytest.mark.parametrize(
    "asked",
    ["Frage: Wer hat die Mühle gestiftet?", "谁捐赠了磨坊？", "Pytanie: kto podarował młyn"],
)
def test_a_question_right_behind_lines_that_look_like_a_log_is_none_of_them(place, asked):
    """Also where one of the lines is unlike the others, as messages below a record are."""
    lines = [f"Die Halle {n} wurde im Jahr {1900 + n} von der Stadt gebaut." for n in range(40)]
    lines.insert(place, "Die Mühle hat Mathilde Orne gestiftet, und sie steht am Fluss.")
    prompt = "Kontext: " + "\n".join(lines) + f"\n{asked}"
    shortened = PromptCompressor(max_tokens=250).compress([HumanMessage(prompt)])

    assert str(shortened.content[0].content).endswith(asked)
