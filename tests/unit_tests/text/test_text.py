"""Running text: words, sentences, stems, stop words, languages and numbers, in several scripts."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.text.languages import language_of
from langchain_tokenopt.text.numbers import DATES, NUMBER, NUMBER_WORDS, UNITS, quantities
from langchain_tokenopt.text.scripts import CJK, HAN, HANGUL, KANA, LATIN, UNSPACED, script_of
from langchain_tokenopt.text.sentences import (
    begins_sentence,
    is_abbreviation,
    is_before_number,
    may_be_ordinal,
    quoted_spans,
    sentence_ends,
    sentences_of,
)
from langchain_tokenopt.text.stems import root, stem
from langchain_tokenopt.text.stopwords import STOP_WORDS
from langchain_tokenopt.text.words import WORD, count_words, is_cjk, lowered, terms_of

# --- scripts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "names"),
    [
        (HAN, ("CJK UNIFIED", "CJK COMPATIBILITY", "IDEOGRAPHIC")),
        (KANA, ("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "KATAKANA-HIRAGANA")),
        (HANGUL, ("HANGUL",)),
        (LATIN, ("LATIN", "FEMININE ORDINAL", "MASCULINE ORDINAL")),
    ],
    ids=["han", "kana", "hangul", "latin"],
)
def test_ranges_hold_only_letters_of_their_script(ranges, names):
    """Every assigned character of a range is a letter, and Unicode's name for it says which."""
    found = re.findall(f"[{ranges}]", "".join(map(chr, range(0x3FFFF))))
    assigned = [char for char in found if unicodedata.category(char) != "Cn"]

    assert len(assigned) > 100
    for char in assigned:
        assert char.isalpha() or char == "〇", hex(ord(char))
        assert unicodedata.name(char).startswith(names), unicodedata.name(char)


def test_scripts_do_not_overlap():
    """A character belongs to one script."""
    every = "".join(map(chr, range(0x2FFFF)))
    parts = [set(re.findall(f"[{ranges}]", every)) for ranges in (HAN, KANA, HANGUL, LATIN)]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert set(re.findall(f"[{CJK}]", every)) == parts[0] | parts[1] | parts[2]
    assert set(re.findall(f"[{UNSPACED}]", every)) == parts[0] | parts[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "latin"),
        ("Größe", "latin"),
        ("What does 心中 mean in English?", "latin"),
        ("用中文怎么说 OK？", "han"),
        ("カタカナ", "kana"),
        ("漢字漢字漢字の読み方", "kana"),
        ("안녕하세요", "hangul"),
        ("Привет", "cyrillic"),
        ("Καλημέρα", "greek"),
        ("שלום", "hebrew"),
        ("مرحبا", "arabic"),
        ("नमस्ते", "indic"),
        ("สวัสดี", "thai"),
        ("გამარჯობა", "other"),
        ("12 + 30", ""),
        ("１２ 〜 👍", ""),
        ("", ""),
    ],
)
def test_the_script_is_that_of_most_of_the_text(text, expected):
    """One foreign word does not make a text foreign."""
    assert expected == script_of(text)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("one", 1),
        ("See https://example.com/a?b=c, page 3.", 4),
        ("It's 3.14 - nearly", 3),
        ("| a | b |", 2),
        ("日本語を話す", 6),
        ("한국어를 말해요", 2),
        ("Это не слово", 3),
        ("naïve café", 2),
        ("👍 ok", 2),
    ],
)
def test_words_are_counted_as_editors_do(text, expected):
    """Signs alone are no words; every ideograph and kana is one."""
    assert expected == count_words(text)


@given(st.text())
def test_lower_case_keeps_positions(text):
    """What is found in the lowered text stands at the same place in the text."""
    low = lowered(text)
    assert len(text) == len(low)
    for before, after in zip(text, low, strict=True):
        assert after in (before, before.lower()) or after.lower() == before.lower()


@given(st.text(alphabet="aZé1_- ·・々漢かカ가。"))
def test_words_cover_all_letters_and_digits(text):
    """Nothing that can be read falls between two words, and no word mixes CJK and others."""
    found = WORD.findall(text)
    assert "".join(found) == "".join(c for c in text if c.isalnum())
    assert all(all(map(is_cjk, word)) or not any(map(is_cjk, word)) for word in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("snake_case isn't", ["snake", "case", "isn", "t"]),
        ("Zwölf Bücher", ["zwölf", "bücher"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("猫", ["猫"]),
        ("서울역 GPT4는", ["서울", "울역", "gpt4", "는"]),
        ("为什么长城很长？", ["长城", "城很", "很长"]),
    ],
)
def test_terms_are_words_or_pairs_of_characters(text, expected):
    """Scripts without spaces are searched by neighbouring characters."""
    assert expected == terms_of(text)


# --- stems ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forms",
    [
        "cancel cancels cancelled cancelling",
        "party parties",
        "box boxes",
        "large larger",
        "stop stopped",
    ],
)
def test_inflected_forms_have_one_stem(forms):
    """Plural, tense and comparison are cut."""
    assert 1 == len({stem(word) for word in forms.split()})


@pytest.mark.parametrize(
    "forms",
    ["discovery discovered discoveries", "treat treatment treatments treating"],
)
def test_derived_words_have_one_root_but_several_stems(forms):
    """A related word is a find for a search, and another question for a guard."""
    words = forms.split()
    assert 1 == len({root(word) for word in words})
    assert 1 < len({stem(word) for word in words})


@given(st.from_regex(r"\d{1,9}", fullmatch=True))
def test_numbers_are_not_cut(number):
    """1000 is not 100."""
    assert number == stem(number) == root(number)


@given(st.text(alphabet=st.characters(categories=["Ll", "Nd"]), min_size=1))
def test_cutting_leaves_a_beginning(word):
    """Neither cut invents letters, but for the y of a plural in -ies; three letters always stay."""
    for cut in (stem(word), root(word)):
        assert word.startswith(cut) or (word.startswith(cut[:-1]) and "ies" in word)
        assert len(cut) >= min(3, len(word))


# --- stop words and languages --------------------------------------------------------------------


def test_stop_words_are_single_words_in_lower_case():
    """They are compared with words, which are in lower case."""
    for words in STOP_WORDS.values():
        assert words == {word.lower() for word in words if WORD.fullmatch(word)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?", "en"),
        ("Wie heißt die Hauptstadt von Frankreich?", "de"),
        ("¿Cuál es la capital de Francia?", "es"),
        ("Quelle est la capitale de la France et pourquoi ?", "fr"),
        ("Qual è la capitale della Francia e dove si trova?", "it"),
        ("Qual é a capital da França e onde fica, por que?", "pt"),
        ("Wat is de hoofdstad van Frankrijk?", "nl"),
        ("法国的首都是哪里？", "zh"),
        ("フランスの首都はどこですか", "ja"),
        ("프랑스의 수도는 어디입니까?", "ko"),
        ("Какая столица Франции?", "cyrillic"),
        ("რა არის საფრანგეთის დედაქალაქი?", "other"),
        ("def f(x): return x", None),
        ("2 + y, y + 2 y", None),
        ("a + y = o", None),
        ("the", None),
        ("GDP per capita per capita", None),
        ("", None),
    ],
)
def test_a_language_is_told_by_its_script_and_its_stop_words(text, expected):
    """Too little to tell is no language, however often it is repeated."""
    assert expected == language_of(text)


def test_one_word_is_enough_where_the_caller_says_so():
    """Who only chooses a wording may guess from less."""
    assert "de" == language_of("Photosynthese auf Deutsch", least=1)


@pytest.mark.parametrize("code", sorted(STOP_WORDS))
def test_stop_words_speak_for_their_own_language(code):
    """No language's list is another's in disguise."""
    assert code == language_of(" ".join(sorted(STOP_WORDS[code])))


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It grew 12 % to $4.1 billion.", ["12 %", "$4.1 billion"]),
        ("Born on 5 May 2026, or May 5, 2026.", ["5 May 2026", "May 5, 2026"]),
        ("Am 3. Oktober 1990 um 14:30", ["3. Oktober 1990", "14:30"]),
        ("1,200.50 EUR and 3 kg", ["1,200.50 EUR", "3 kg"]),
        ("3 kgs", ["3"]),
        ("none", []),
    ],
)
def test_numbers_are_found_with_what_they_count(text, expected):
    """A number is one with its currency, unit or month."""
    assert expected == NUMBER.findall(text)


def test_quantities_are_equal_when_they_are_the_same():
    """However it is written, it is the same number of the same unit."""
    same = ("5 kilograms", "five kg", "5 kilos")
    assert {(("5", "kg"),)} == {quantities(text.split()) for text in same}
    assert (("5", "lb"),) == quantities(["5", "pounds"])
    assert (("1200", "usd"),) == quantities(["$", "1,200"]) == quantities(["1200", "dollars"])
    assert (("5000", ""),) == quantities(["5", "k"])
    assert () == quantities(["which", "one"])


def test_tables_of_numbers_are_in_lower_case():
    """Words are looked up in lower case."""
    for table in (NUMBER_WORDS, UNITS, DATES):
        assert all(word == word.lower() for word in table)


# --- sentences -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rained. We left.", ["It rained.", "We left."]),
        ("Really?! Yes… Well.", ["Really?!", "Yes…", "Well."]),
        ("Dr. No met Mr. Bond at 3.5 % p.a. in the U.S. Navy.", None),
        ("Das kostet z.B. 5 Mio. Euro bzw. mehr.", None),
        ("Am 3. Mai kam der 2. Band. Er war gut.", ["Am 3. Mai kam der 2. Band.", "Er war gut."]),
        ("He left at 5. She stayed.", ["He left at 5.", "She stayed."]),
        ("La Sra. García vive en la Avda. Mayor.", None),
        (
            "See No. 5 and Fig. 2. No. That is all.",
            ["See No. 5 and Fig. 2.", "No.", "That is all."],
        ),
        ("J. R. R. Tolkien wrote it.", None),
        (
            "Read https://example.com/a.b?c=D.E now. Then v1.2.3.",
            ["Read https://example.com/a.b?c=D.E now.", "Then v1.2.3."],
        ),
        ("Pi is 3.14159. It goes on.", ["Pi is 3.14159.", "It goes on."]),
        ('She said "Go. Now." twice. He went.', ['She said "Go. Now." twice.', "He went."]),
        ("Set `a.B. C` first. Then go.", ["Set `a.B. C` first.", "Then go."]),
        ("¿Qué es? ¡No lo sé! Así es.", ["¿Qué es?", "¡No lo sé!", "Así es."]),
        ("今天下雨。我们走吧！好吗？", ["今天下雨。", "我们走吧！", "好吗？"]),
        ("雨です｡ 帰ろう。", ["雨です｡", "帰ろう。"]),
        ("Он ушёл. Она осталась.", ["Он ушёл.", "Она осталась."]),
        ("A heading\n\nA paragraph", ["A heading", "A paragraph"]),
        ("one line\ngoes on", None),
        ("it ends. but small", None),
        ("", []),
        ("  \n ", []),
    ],
)
def test_sentences_end_where_a_reader_would_say(text, expected):
    """Abbreviations, decimals, addresses, ordinals and quotations do not end one."""
    assert ([text] if expected is None else expected) == sentences_of(text)


def test_chats_begin_sentences_with_small_letters():
    """Where people do not bother with capitals, a space behind a full stop is enough."""
    text = "hi. my card (no. 5) is lost, e.g. stolen. what now?"
    assert [
        "hi.",
        "my card (no. 5) is lost, e.g. stolen.",
        "what now?",
    ] == sentences_of(text, small_letters=True)
    assert [text] == sentences_of(text)


@given(st.text(alphabet='aB3.!?。”"`{} \n\t(漢') | st.text(), st.booleans())
def test_sentences_cover_the_text(text, small_letters):
    """Ends rise, and the last one is the end of the text: nothing is lost between them."""
    ends = sentence_ends(text, small_letters=small_letters)
    assert ends == sorted(set(ends))
    assert len(text) == ends[-1]
    whole = re.sub(r"\s", "", "".join(sentences_of(text, small_letters=small_letters)))
    assert re.sub(r"\s", "", text) == whole


def test_blanks_at_the_end_are_no_sentence():
    """They belong to the last one."""
    assert [9] == sentence_ends("One.\n\n  \n")


@given(st.text(alphabet="aB. \n\"'"), st.text(alphabet="aB. \n\"'"))
def test_a_part_of_a_text_is_cut_by_itself(before, text):
    """Offsets are those of the whole text, and nothing outside of the part is looked at."""
    start = len(before)
    assert [start + end for end in sentence_ends(text)] == sentence_ends(before + text, start)


@given(st.text(alphabet='a"“”„«»「」`{} \n'))
def test_quotations_open_and_close(text):
    """Quotations are closed, on one line, and not longer than the longest."""
    for start, end in quoted_spans(text, 0, len(text)):
        assert (text[start], text[end - 1]) in {
            ('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"), ("「", "」"), ("`", "`"), ("{", "}")
        }  # fmt: skip
        assert "\n" not in text[start:end]


def test_rules_that_both_readers_share():
    """The stream reader asks the same questions, one token at a time."""
    assert is_abbreviation("Prof")
    assert is_abbreviation("(e.g")
    assert is_abbreviation("Ph.D")
    assert not is_abbreviation("cat")
    assert not is_abbreviation("No")
    assert is_before_number("Nr")
    assert not is_before_number("nr1")
    assert may_be_ordinal("31")
    assert not may_be_ordinal("310")
    assert begins_sentence("É")
    assert not begins_sentence("é")
    assert begins_sentence("5")
    assert begins_sentence("と", after_cjk=True)
    assert not begins_sentence("と", after_cjk=True, quoted=True)


def test_a_long_row_of_dots_is_read_once():
    """Where each dot is read again from every dot before it, this takes hours."""
    assert sentence_ends("." * 400_000) == [400_000]
