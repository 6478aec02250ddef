"""Which wordings are one question by themselves, and which never are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokenopt.cache.wording import only_difference, wording_of
from langchain_tokenopt.cache.writing import same_words


def are_one(one: str, other: str) -> bool:
    left, right = wording_of(one), wording_of(other)
    return left is not None and right is not None and left.form == right.form


ONE_QUESTION = [
    # politeness
    ("How do I reset my PIN?", "Hi there! Could you please tell me how to reset my PIN? Thanks!"),
    ("Wo finde ich die Rechnung?", "Guten Tag, wo finde ich die Rechnung? Vielen Dank im Voraus!"),
    ("Quelle est la monnaie du Maroc ?", "Peux-tu me dire quelle est la monnaie du Maroc ?"),
    ("¿Dónde está mi factura?", "Hola, ¿podrías decirme dónde está mi factura, por favor?"),
    ("Dove si trova la fattura?", "Ciao, mi puoi dire dove si trova la fattura? Grazie"),
    ("Qual é a capital do Peru?", "Olá, qual é a capital do Peru, por favor?"),
    ("Где мой счёт?", "Здравствуйте! Подскажите, пожалуйста, где мой счёт?"),
    ("如何取消自动续费？", "请问怎么取消自动续费？谢谢"),
    ("バイオリンの弦は何本ですか。", "バイオリンの弦は何本でしょうか？"),
    ("비밀번호를 어떻게 변경하나요?", "안녕하세요, 비밀번호를 어떻게 변경합니까?"),
    # the frame of a question
    ("How do I mute a channel?", "What's the way to mute a channel?"),
    ("Wie entkalke ich den Kocher?", "Wie kann man den Kocher entkalken?"),
    ("¿Cómo puedo cambiar el PIN?", "¿Cómo cambio el PIN?"),
    ("Jak mogę zmienić hasło?", "Jak można zmienić hasło?"),
    ("What is the molar mass of NaCl?", "molar mass of NaCl"),
    ("Which city is Peru's capital?", "Could you tell me which city is Peru's capital?"),
    ("What does rigor mean?", "What is the meaning of rigor?"),
    ("Any idea how to clean a flute?", "How do I clean a flute?"),
    ("Could you help me understand what a lien is?", "What is a lien?"),
    ("How come ice floats?", "Why does ice float?"),
    ("Ist es möglich, den Ton auszuschalten?", "Kann man den Ton ausschalten?"),
    ("Kannst du mir die Steuer erklären?", "Erkläre mir die Steuer."),
    ("Est-il possible de payer en ligne ?", "Puis-je payer en ligne ?"),
    ("J'aimerais savoir où se trouve le port.", "Où se trouve le port ?"),
    ("Comment conserver un oeuf ?", "Comment conserver un œuf ?"),
    ("¿Hay alguna forma de pagar en línea?", "¿Es posible pagar en línea?"),
    ("Che differenza c'è tra tè e caffè?", "Qual è la differenza tra tè e caffè?"),
    ("É possível trocar o bilhete?", "Há alguma forma de trocar o bilhete?"),
    ("Is het mogelijk om de les te volgen?", "Kan ik de les volgen?"),
    ("Могу ли я вернуть билет?", "Можно ли вернуть билет?"),
    ("주문을 취소하려면 어떻게 해야 하나요?", "주문을 어떻게 취소하나요?"),
    ("What are some ways to save water?", "How can I save water?"),
    ("How do I become a pilot?", "How to be a pilot?"),
    ("Is it possible to end a lease early?", "Can I end the lease early?"),
    ("Am I allowed to ride here?", "Is it permitted to ride here?"),
    ("Why isn't the pump running?", "Why is the pump not running?"),
    ("How often must I file a return?", "How often do we have to file a return?"),
    ("What happens if I don't vote?", "What would happen if I do not vote?"),
    ("What rights does a tenant have?", "What are the rights of a tenant?"),
    ("Is a permit needed for a shed?", "Do I need a permit for a shed?"),
    ("What pressure should I store it at?", "At what pressure should I store it?"),
    ("Was soll ich tun, wenn der Hund hinkt?", "Was tun, wenn der Hund hinkt?"),
    ("Braucht man für Norwegen ein Visum?", "Brauche ich für Norwegen ein Visum?"),
    ("Hoe vaak moet ik de planten gieten?", "Hoe vaak moet je de planten gieten?"),
    ("Combien de temps dois-je cuire le riz ?", "Combien de temps faut-il cuire le riz ?"),
    ("¿Cuánto tiempo tengo que hervirlo?", "¿Cuánto tiempo hay que hervirlo?"),
    ("Ho bisogno del visto per il Cile?", "Mi serve il visto per il Cile?"),
    ("Você pode me explicar o que é um fiador?", "O que é um fiador?"),
    ("Jak długo trzeba gotować kaszę?", "Ile czasu gotować kaszę?"),
    ("Нужна ли мне прививка?", "Нужна ли прививка?"),
    # forms of a word, and ways to write it
    ("What is a tomato?", "What are tomatoes?"),
    ("What's database normalisation?", "What is database normalization?"),
    ("My bulb does not join the Wi-Fi. Why?", "My bulb doesn't join the wifi. Why?"),
    ("Explain it in one sentence.", "Explain it in a single sentence."),
    ("What is dollar-cost averaging (DCA)?", "What is dollar cost averaging?"),
    ("When did the Berlin Wall fall?", "When did the Berlin wall fall?"),
    # numbers and units
    ("Is 5 GHz enough for 1,200 sensors?", "Is 5GHz enough for 1200 sensors?"),
    ("Is it open for six days?", "Is it open for 6 days?"),
    ("What is 350 °F in °C?", "What is 350°F in degrees Celsius?"),
    ("半径是7厘米，求面积。", "半径是7cm，求面积。"),
    # places in a sentence
    ("Is tipping expected in Japan?", "In Japan, is tipping expected?"),
    ("How far is it between Rome and Bari?", "How far is it between Bari and Rome?"),
    ("I lost a tooth. What should I do?", "What should I do? I lost a tooth."),
    ("Чем можно заменить яйца в тесте?", "Чем в тесте можно заменить яйца?"),
    ("为什么铁会生锈？", "铁为什么会生锈？"),
    # material stays, and may stand before or behind the question
    ("What is printed?\n\nx = 1\nprint(x)", "x = 1\nprint(x)\n\nWhat is printed, please?"),
    ("Correct the spelling: I has a kat.", "Please correct the spelling of “I has a kat.”"),
]
WRITTEN_OTHERWISE = [  # what guards once took for differences
    ("Où est le café ?", "Ou\u0300 est le cafe\u0301 ?".replace("Ou\u0300", "O\u00f9")),
    ("¿Cuál es la hora de salida de los trenes?", "Cuál es la hora de salida de los trenes?"),
    (
        "Quel est le prix de la carte de bus de Lyon ?",
        "Quel est le prix de la carte de bus de Lyon",
    ),
    ("Wo ist „Das Boot“ zu sehen?", 'Wo ist "Das Boot" zu sehen?'),
    ("Wo liegt die Zugspitze?", "wo liegt die zugspitze"),
    ("パスワードは何ですか？", "パスワードは何ですか?"),
    ("なぜ空は青いのですか。", "なぜ空は青いのでしょうか"),
    ("Where is it\u2026", "Where is it..."),
    ("Where\u200b is the key?", "Where is the key?"),
]
ANOTHER_QUESTION = [
    ("How long must I wait?", "How long can I wait?"),
    ("How often should I pay?", "How much should I pay?"),
    ("トイレはどこですか", "トイレはどれですか"),
    ("고양이 어디에 있나요?", "고양은 어디에 있나요?"),
    ("Kann ich hier parken?", "Darf ich hier parken?"),
    ("Gibt es eine Möglichkeit, es auszuschalten?", "Gibt es eine Möglichkeit, es einzuschalten?"),
    ("¿Puedo cancelar?", "¿Debo cancelar?"),
    ("Posso cancelar?", "Pode cancelar?"),
    ("Можно ли курить?", "Нужно ли курить?"),
    ("What are some databases?", "What is a database?"),
    ("Is it not really cold?", "Is it cold?"),
    ("Can I smoke here?", "May I smoke here?"),
    ("What is the right time?", "When is the right time?"),
    ("Why don't dogs that do bark bite?", "Why do dogs that do not bark bite?"),
    ("Is it necessary to pay?", "Do I need it to pay?"),
    ("Wie lange muss ich warten?", "Wie lange soll ich warten?"),
    ("¿Cuáles son los capitales de España?", "¿Cuáles son las capitales de España?"),
    ("¿Cómo se propaga el virus?", "¿Cómo propagar el virus?"),
    ("Сколько нужно платить?", "Как долго нужно платить?"),
    # one or several, where that is what is asked for
    ("How tall is the tower?", "How tall are the towers?"),
    ("Give me a synonym for happy", "Give me synonyms for happy"),
    ("Which drugs interact with warfarin?", "Which drug interacts with warfarin?"),
    ("Can you recommend a film?", "Can you recommend films?"),
    ("Is my old red car insured?", "Are my old red cars insured?"),
    # signs, code, formulas
    ("What does `$?` mean in bash?", "What does `$!` mean in bash?"),
    ("What does $? mean in bash?", "What does $! mean in bash?"),
    ("What does git branch -d do?", "What does git branch -D do?"),
    ("What is 5!", "What is 5?"),
    ("Is a != b?", "Is a = b?"),
    ("Is a == b?", "Is a === b?"),
    ("What does a & b do?", "What does a && b do?"),
    ("What does x > y do?", "What does x >> y do?"),
    ("What does .* match?", "What does * match?"),
    ("What does *args do?", "What does **args do?"),
    ("Is .5 enough?", "Is 5 enough?"),
    ("Does it take 5 mW?", "Does it take 5 MW?"),
    ("Is (500) a loss?", "Is 500 a loss?"),
    ("What does map do?", "What does map! do?"),
    ("What does empty do?", "What does empty? do?"),
    ("Is C++ fast?", "Is C fast?"),
    ("Is C++ fast?", "Is C# fast?"),
    ("What is 7 / 2?", "What is 7 // 2?"),
    ("if x:\n  a()\n\nWhat runs?", "if x:\na()\n\nWhat runs?"),
    # letters and accents
    ("Wie hoch sind die Maße?", "Wie hoch sind die Masse?"),
    ("¿Qué es el año?", "¿Qué es el ano?"),
    ("¿Dónde está mi papá?", "¿Dónde está mi papa?"),
    ("Ist das schon gut?", "Ist das schön gut?"),
    ("What is the mass of CO?", "What is the mass of Co?"),
    ("Is Turkey nice?", "Is turkey nice?"),
    ("What is in plan A?", "What is in plan I?"),
    ("Correct this: I am here.", "Correct this: i am here."),
    ("How do you say please?", "How do you say?"),
    # numbers, units, signs
    ("May I take 500 mg?", "May I take 500 g?"),
    ("Is 100 ml enough?", "Is 100 l enough?"),
    ("May I store it at -20 °C?", "May I store it at 20 °C?"),
    ("Is 1,5 l enough?", "Is 15 l enough?"),
    ("Wie viel sind 1.200 g?", "Wie viel sind 1,200 g?"),
    ("Where is ticket QX-3092?", "Where is ticket QX-3092A?"),
    ("What is E-404?", "What is E-404x?"),
    ("What is new in v1.2?", "What is new in v1.2a?"),
    ("Fe²⁺ has how many electrons?", "Fe³⁺ has how many electrons?"),
    # words of the frame that mean something
    ("Do you ship to Germany?", "Do you ship only to Germany?"),
    ("May I disclose it?", "Must I disclose it?"),
    ("Do all plants need it?", "Do some plants need it?"),
    ("Can I take a few days?", "Can I take few days?"),
    ("Is the second half longer?", "Is a second half longer?"),
    ("Is it paid by everyone?", "Is it paid by everyone except me?"),
    ("Will it rain?", "Did it rain?"),
    ("How do I turn it on?", "How do I turn it off?"),
    ("How do I include a file?", "How do I exclude a file?"),
    ("Ist das Mittel erlaubt?", "Ist das Mittel nicht erlaubt?"),
    ("¿Hay pan con gluten?", "¿Hay pan sin gluten?"),
    ("Comment activer le mode avion ?", "Comment désactiver le mode avion ?"),
    ("Wohnung mit Kaution?", "Wohnung ohne Kaution?"),
    ("食前に飲みますか。", "食後に飲みますか。"),
    ("我可以退货吗？", "我必须退货吗？"),
    ("Как включить звук?", "Как отключить звук?"),
    # roles, directions, persons, acts
    ("Does Anna owe Ben money?", "Does Ben owe Anna money?"),
    ("Is there a train from Rome to Bari?", "Is there a train from Bari to Rome?"),
    ("東京から大阪までいくらですか。", "大阪から東京までいくらですか。"),
    ("Beißt der Hund den Mann?", "Beißt den Hund der Mann?"),
    ("Автобус обогнал трамвай?", "Трамвай обогнал автобус?"),
    ("¿Juan llamó a María?", "¿María llamó a Juan?"),
    ("¿Qué compra?", "¿Qué compras?"),
    ("What is your name?", "What is my name?"),
    ("How do I call you?", "How do you call me?"),
    ("When is my next oil change?", "When was my last oil change?"),
    ("Schedule a meeting.", "What is scheduled?"),
    ("Read my list.", "Add to my list."),
    ("Set an alarm.", "Set an alarm for 8."),
    ("What is the capital of this country?", "What is the capital of Peru?"),
    # other scripts
    ("怎么申请退款？", "血糖低怎么办？"),
    ("从上海到北京多远？", "从上海到南京多远？"),
    ("كيف أدفع الفاتورة؟", "كيف ألغي الفاتورة؟"),
    ("비밀번호를 어떻게 변경하나요?", "비밀번호를 어떻게 확인하나요?"),
]


@pytest.mark.parametrize(("one", "other"), ONE_QUESTION + WRITTEN_OTHERWISE)
def test_harmless_wordings_are_one_question(one, other):
    """Politeness, frames, articles, plurals, spellings, units, places of whole phrases."""
    assert are_one(one, other)


@pytest.mark.parametrize(("one", "other"), ANOTHER_QUESTION)
def test_what_may_change_the_answer_makes_another_question(one, other):
    """Any sign, letter, number, word or order that is not known to be harmless."""
    assert not are_one(one, other)


def test_a_long_text_to_work_on_counts_to_the_letter():
    """Whether it stands behind a colon, between quotation marks, or on lines of its own."""
    assert wording_of("Proofread what I wrote yesterday about Rome and its hills") is None
    for way in ("Proofread: {}", "Please proofread “{}”", "Fix the grammar of '{}'"):
        assert not are_one(way.format("it was a Lie"), way.format("it was a lie"))
    assert wording_of("Shorten this:\n\nHi,\ncan you come?") is None
    assert wording_of("one\ntwo") is None


_LETTERS = st.sampled_from([*"aeiou bcdfghnrst", " ", "Is ", "the ", "was ", "der ", "? ", ", "])


@given(st.lists(_LETTERS, min_size=4, max_size=30).map("".join))
def test_the_same_words_have_one_form(text):
    """What differs in writing alone never differs in wording."""
    asked = f"Hello, {text.strip().capitalize()}?"
    words = same_words(asked)
    other, one = wording_of(words) if words else None, wording_of(asked)
    if words and one is not None and other is not None and "?" not in text:
        assert one.form == other.form


@given(st.text(max_size=120))
def test_reads_whatever_people_type(text):
    """Reading is the same twice, and never raises."""
    assert wording_of(text) == wording_of(text)


def test_says_in_what_two_wordings_differ():
    """By the words that were exchanged, left out and added."""
    assert "differs only in: 'the' / ''" == only_difference("Is the sun hot?", "Is sun hot?")
