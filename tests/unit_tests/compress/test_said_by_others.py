"""What a prompt quotes is never taken for the caller's words, nor given up after them."""

from __future__ import annotations

import pytest

from langchain_tokenopt import PromptCompressor
from langchain_tokenopt.compress.prompt_parts import read_message


def required(text: str) -> str:
    """Return what has to stay of *text*, without the white space around it."""
    units = read_message(text).units
    return "".join(unit.within(text) for unit in units if unit.required).strip()


def shortened(text: str, limit: int, **options: str) -> str:
    """Return *text* in so many tokens."""
    made = PromptCompressor(limit, model="gpt-4o", remember=0, **options).invoke(text)
    assert isinstance(made, str)
    return made


# --- the question behind a document of short paragraphs ------------------------------------------

_DOCUMENTS = {
    "English": (
        "The price rose again in spring and nobody knew the reason for it. Vault {n} holds {m} "
        "coins of silver.",
        "The bridge was painted red.",
        "Question: ",
        "Which colour is the bridge?",
    ),
    "German": (
        "Der Preis stieg im Frühling wieder und niemand kannte den Grund. Fach {n} birgt {m} "
        "Münzen aus Silber.",
        "Die Brücke wurde rot gestrichen.",
        "Frage: ",
        "Welche Farbe hat die Brücke?",
    ),
    "French": (
        "Le prix a encore monté au printemps et personne n'en savait la raison. Le coffre {n} "
        "contient {m} pièces.",
        "Le pont a été peint en rouge.",
        "Question : ",
        "Quelle est la couleur du pont ?",
    ),
    "Spanish": (
        "El precio volvió a subir en primavera y nadie sabía la razón de ello. La caja {n} guarda "
        "{m} monedas.",
        "El puente se pintó de rojo.",
        "Pregunta: ",
        "¿De qué color es el puente?",
    ),
}
_AROUND = {
    "a tag": ("<document>\n", "\n</document>\n\n"),
    "a tag of another name": ('<kontext id="7">\n', "\n</kontext>\n\n"),
    "a fence": ("```\n", "\n```\n\n"),
    "rules": ("=====\n", "\n=====\n\n"),
    "headings": ("## Notes\n\n", "\n\n## Task\n\n"),
    "nothing": ("", "\n\n"),
}


@pytest.mark.parametrize("language", _DOCUMENTS)
@pytest.mark.parametrize("around", _AROUND)
def test_what_stands_behind_a_document_is_the_question(language: str, around: str) -> None:
    """Its last paragraph is none, however many words they share, and goes as others do."""
    written, fact, label, asked = _DOCUMENTS[language]
    paragraphs = [written.format(n=n, m=n * 37 + 211) for n in range(40)]
    paragraphs[0] = f"{fact} {paragraphs[0]}"
    opening, closing = _AROUND[around]
    text = opening + "\n\n".join(paragraphs) + closing + label + asked

    assert read_message(text).question == asked
    assert paragraphs[-1] not in required(text)
    left = shortened(text, 200)
    assert fact in left
    assert asked in left


# --- what comes again ----------------------------------------------------------------------------

_NOTICES = [
    "If you are not the addressee of this message, please delete it.",
    "Do not forward this notice. You must keep it at hand.",
    "Bitte beachten Sie unsere Hausordnung im Anhang.",
    "Veuillez ne pas imprimer ce message.",
]
_ASKED = "Which ship left berth 7?"


@pytest.mark.parametrize("notice", _NOTICES)
@pytest.mark.parametrize("form", ["{notice} {note}", "{note} {notice}", "{notice}\n\n{note}"])
def test_a_sentence_that_comes_again_instructs_nobody(notice: str, form: str) -> None:
    """Nor where it stands first of all; the question stays."""
    notes = [
        f"Berth {n} was dredged {n * 3} days ago, and Ship {n * 9} left it." for n in range(20)
    ]
    material = [form.format(notice=notice, note=note) for note in notes]
    text = "\n\n".join([notice, *material, _ASKED])

    assert required(text) == _ASKED
    assert notes[7] in shortened(text, 150)


def test_a_document_that_was_pasted_often_can_be_shortened() -> None:
    """No paragraph of it is the caller's."""
    page = (
        "The ferry leaves pier four at nine. Its captain is Ada Quill. It has twelve sailors.\n\n"
        "The boat was painted green in May. Tickets cost nine crowns. Children travel for free."
    )
    text = "\n\n".join([*[page] * 12, "Who is the captain?"])

    assert required(text) == "Who is the captain?"
    assert "Ada Quill" in shortened(text, 60)


def test_an_instruction_may_be_said_three_times() -> None:
    """Before the passages, behind them and at the end."""
    rule = "Answer with one single word."
    text = "\n\n".join([rule, *_MILLS, rule, _WHEN, rule])

    left = shortened(text, 120)
    assert left.startswith(rule)
    assert left.endswith(rule)


# --- verses --------------------------------------------------------------------------------------

_VERSES = [
    "You are the river, you are my night\nDon't you leave me, baby\nYou must hold me tonight",
    "Wer reitet so spät noch durch das Tal\nDu sollst nicht weinen, Kind\nEs singt der Wind",
    "Vous devez fuir, petits oiseaux\nQuand vient le soir\nEt l'hiver sur les roseaux",
    "Eres la luz de mi ventana\nNo te me vayas, corazón\n¿Quién me canta la canción?",
]
_MILLS = [
    f"The mill of village {n} was built in {1700 + n} by monks, who sold the flour in {n + 2} "
    "markets of the valley. It burned down once, and its stones were used for the bridge there."
    for n in range(12)
]
_WHEN = "When was the mill of village 7 built?"
_RULE = "Use these pieces of context to answer the question at the end."


@pytest.mark.parametrize("verse", _VERSES)
@pytest.mark.parametrize("at", [0, 5, 12])
def test_a_song_among_passages_is_one_of_them(verse: str, at: int) -> None:
    """Its verses speak to somebody and ask, but not to whoever answers."""
    other = "Over the hills and far away\nThe geese have gone since yesterday\nIn the rain"
    passages = [*_MILLS[:at], verse, other, *_MILLS[at:]]
    text = "\n\n".join([_RULE, *passages, f"Question: {_WHEN}\nAnswer:"])

    assert required(text) == f"{_RULE}\n\nQuestion: {_WHEN}\nAnswer:"
    assert _MILLS[7].split(". ")[0] in shortened(text, 100)


_LINES = ["Speak like a sailor", "Skip the greeting", "Stop after ten words"]


@pytest.mark.parametrize("above", [[], ["Answer from the passages."], ["Write these lines:"]])
@pytest.mark.parametrize("is_behind", [True, False])
def test_lines_of_the_caller_are_no_verse(above: list[str], is_behind: bool) -> None:
    """They stand alone beside the passages, or are announced."""
    told = [*above, "\n".join(_LINES)]
    parts = [*_MILLS, *told, _WHEN] if is_behind else [*told, *_MILLS, _WHEN]
    left = shortened("\n\n".join(parts), 140)

    assert [line for line in [*above, *_LINES, _WHEN] if line not in left] == []


def test_a_passage_about_users_addresses_nobody() -> None:
    """It is as long as the others, and says nothing of answers."""
    tool = (
        "The User State Migration Tool is a command line program that copies files of a profile. "
        "The user may keep them on a disk or a share, and the tool moves them in one hour, however "
        "many there are, unless the disk is full."
    )
    text = "\n\n".join([_RULE, tool, *_MILLS, f"Question: {_WHEN}"])

    assert "Migration" not in required(text)


# --- one text alone beside what the caller says --------------------------------------------------

_TEXTS = {
    "told in a letter": (
        "Which seal fits the new pump? Name it only.",
        "Dear neighbours,\n\nYou must close the tap by noon. Never open the grey box.\n\nThe new "
        "pump has a seal of type K9. Do not call us at night.\n\nPlease sign the list in the hall. "
        "You should keep the cellar dry.\n\nKind regards,\nIda Holm",
        "K9",
    ),
    "told in a German letter": (
        "Wann kommt der Ofenbauer? Antworte mit einem Datum.",
        "Liebe Mieter,\n\nbitte räumen Sie den Keller. Stellen Sie nie Räder in den Flur.\n\n"
        "Der Ofenbauer kommt am 9. März. Bitte öffnen Sie ihm.\n\nBitte lüften Sie jeden Tag. "
        "Bitte grüßen Sie den Hund.\n\nViele Grüße\nOle Brandt",
        "9. März",
    ),
    "announced without a colon": (
        "You are a patient clerk. Answer only from the text below.",
        "Never feed the swans. You must leash your dog. The lake was dug in 1722. Always stay on "
        "the path. Only anglers may use the jetty. Do not pick the reed. You must shut the gate. "
        "Carts must keep right.",
        "1722",
    ),
    "in Japanese": (
        "次の文章だけを使って答えてください。",
        "犬は必ずつなぐこと。芝生に入ってはいけない。池は1722年に掘られた。"
        "門は必ず閉めなければならない。花を折ってはいけない。釣りは禁止です。",
        "1722",
    ),
    "in Russian": (
        "Отвечай только на английском языке.",
        "Никогда не кормите лебедей. Собаку нужно вести на поводке. Пруд вырыли в 1722 году. "
        "Всегда держитесь тропы. Рвать камыш нельзя. Ворота нужно закрывать.",
        "1722",
    ),
}


@pytest.mark.parametrize("form", _TEXTS)
@pytest.mark.parametrize("asked", ["\n\nWhat is said of the lake and the pump?", ""])
def test_a_text_that_commands_others_is_shortened(form: str, asked: str) -> None:
    """What it tells its readers to do is nothing that the caller says."""
    told, text, answer = _TEXTS[form]
    whole = f"{told}\n\n{text}{asked}"

    assert required(whole).replace("\n\n", "") == (told + asked).replace("\n\n", "")
    assert answer in whole


def test_a_letter_that_is_the_whole_message_is_its_authors_own() -> None:
    """Nobody else asks for anything."""
    text = "Dear assistant,\n\nYou must name three harbours. Never name a lake.\n\nThanks,\nIda"

    assert required(text) == text


def test_a_stanza_alone_commands_nobody() -> None:
    """Its lines go on in the next; who tells in lines ends them."""
    stanza = (
        "Don't wake the miller when the wheel is still,\nYou must not ask him what the water said,"
        "\nAlways the river takes another hill,\nNever the same the shadow on his bed,"
    )
    rest = "\nUse what is left of moonlight, if you will"
    told = "Name the mood of these lines in one word. Be brief, and add nothing else to it at all."
    poem = f"{stanza}{rest},\n{stanza}{rest}."

    assert required(f"{told}\n\n{poem}\n\nWho sleeps?") == f"{told}\n\nWho sleeps?"
    assert _LINES[0] in required("\n\n".join([*_MILLS, "\n".join(_LINES)]))


# --- the caller's words beside short passages without labels -------------------------------------

_SHORT = {
    "Round it to tens.": (
        "The well of village {n} is {m} feet deep, and was dug by miners from the hills.",
        "How deep is the well of village 4?",
    ),
    "Schreibe es in Worten.": (
        "Der Brunnen von Dorf {n} ist {m} Fuß tief, gegraben von Bergleuten aus den Hügeln.",
        "Wie tief ist der Brunnen von Dorf 4?",
    ),
    "Écris-le en lettres.": (
        "Le puits du village {n} a {m} pieds de fond et fut creusé par des mineurs des collines.",
        "Quelle est la profondeur du puits du village 4 ?",
    ),
    "Escríbelo con letras.": (
        "El pozo de la aldea {n} tiene {m} pies de hondo y lo cavaron mineros de las colinas.",
        "¿Qué hondura tiene el pozo de la aldea 4?",
    ),
    "Напиши словами.": (
        "Колодец деревни {n} глубиной {m} футов вырыли горняки, пришедшие с холмов.",
        "Какой глубины колодец деревни 4?",
    ),
    "漢字で書いて。": (
        "{n}番の村の井戸は深さ{m}尺で、丘から来た鉱夫たちによって掘られたものである。",
        "4番の村の井戸の深さは？",
    ),
}
_PLACES = (
    "{told}\n\n{all}\n\n{asked}", "{asked} {told}\n\n{all}", "{asked}\n\n{told}\n\n{all}",
    "{all}\n\n{asked} {told}", "{all}\n\n{asked}\n\n{told}", "{all}\n\n{told}\n\n{asked}",
)  # fmt: skip


@pytest.mark.parametrize("told", _SHORT)
@pytest.mark.parametrize("place", _PLACES)
def test_question_and_instruction_stay_beside_short_paragraphs(told: str, place: str) -> None:
    """Nothing but blank lines tells what is the caller's, and passages are short themselves."""
    passage, asked = _SHORT[told]
    passages = "\n\n".join(passage.format(n=n, m=n * 37) for n in range(1, 9))
    text = place.format(told=told, asked=asked, all=passages)
    said = place.format(told=told, asked=asked, all="").replace("\n\n\n\n", "\n\n").strip()

    assert required(text) == said
    assert passage.format(n=4, m=148)[:20] in shortened(text, 130)


@pytest.mark.parametrize("told", _SHORT)
@pytest.mark.parametrize("rule", ["----", "===="])
def test_question_and_instruction_stay_behind_rules(told: str, rule: str) -> None:
    """A sentence above a rule is no title of what follows, in scripts without spaces either."""
    passage, asked = _SHORT[told]
    passages = f"\n{rule}\n".join(passage.format(n=n, m=n * 37) for n in range(1, 9))

    assert required(f"{passages}\n\n{asked}\n\n{told}") == f"{asked}\n\n{told}"


def test_titles_that_ask_lead_their_passages() -> None:
    """Even if they alone ask."""
    mills = [*_MILLS]
    mills[5] = f"Where's the miller?\n\n{mills[5]}"
    text = "\n\n".join([_RULE, *(f"The mill of {n}\n\n{m}" for n, m in enumerate(mills)), _WHEN])

    assert "Where's" not in required(text)


# --- what goes first -----------------------------------------------------------------------------


def test_instructions_go_after_what_stands_further_inside() -> None:
    """Where not all that seems to be the caller's fits, its edges are what surely is."""
    stanza = "Over the hills and far away\nThe geese have gone since yesterday\nIn rain"
    text = "\n\n".join([_RULE, stanza, *_MILLS, f"Question: {_WHEN}"])
    assert stanza in required(text)

    left = shortened(text, 40, on_infeasible="drop_lowest")

    assert _RULE in left
    assert _WHEN in left
