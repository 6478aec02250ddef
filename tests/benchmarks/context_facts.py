"""Chats in which somebody tells facts once, and asks for them in the end.

Two banks of facts and of talk: ``fit`` is what rules are made with, ``judge`` is what they are
judged by. No sentence of the one is in the other. With a folder of data, what stands between the
facts can also be real talk: utterances of meetings, the odd ones to fit, the even ones to judge.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

__all__ = ["MEETINGS", "Bank", "Chat", "Fact", "bank_of", "chat_of", "spoken"]

MEETINGS: Final = "compression/qmsum_test.jsonl.gz"
Part = Literal["fit", "judge"]


@dataclass(frozen=True, slots=True)
class Fact:
    """What is told with one value, and how it is asked for."""

    kind: str
    told: str
    asked: str
    values: str
    """The kind of its value."""


@dataclass(frozen=True, slots=True)
class Bank:
    """Facts, and talk to stand between them."""

    facts: Sequence[Fact]
    talk: Sequence[str]
    replies: Sequence[str]


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, and what was told in it: kind, value, question."""

    messages: list[BaseMessage]
    told: list[tuple[str, str, str]]


def _facts(lines: str) -> list[Fact]:
    return [Fact(*(part.strip() for part in line.split("|"))) for line in lines.strip().split("\n")]


_FIT_FACTS: Final = _facts(
    """
id | My booking reference is {}. | What is my booking reference? | code
id | The failing build is {} on the release branch. | Which build was failing? | code
id | You can see it in ticket {}, if you want to look. | Which ticket was it? | code
amount | We agreed that the penalty is {} per week of delay. | How high is the penalty? | money
amount | The landlord asks for {} a month, heating not included. | What is the rent? | money
amount | I paid {} for it at the time. | How much did I pay for it? | money
date | The lease ends on {}. | When does the lease end? | date
date | Mum's operation was moved to {}. | When is Mum's operation? | date
time | The plumber can only come at {}. | When can the plumber come? | time
name | Our contact at the bank is called {}. | Who is our contact at the bank? | name
name | By the way, {} has taken over from Martin. | Who has taken over from Martin? | name
name | The kids' teacher this year is {}. | Who is the teacher this year? | name
place | We moved to {} in spring. | Where did we move? | town
place | My sister lives in {} now. | Where does my sister live? | town
place | The spare key is under the {}. | Where is the spare key? | thing
preference | I cannot stand {}, whatever the sauce. | What can I not stand? | food
preference | For breakfast she only eats {}. | What does she eat for breakfast? | food
health | I get a rash from {}. | What do I get a rash from? | food
health | The doctor put me on {}. | What did the doctor put me on? | drug
thing | The dog chewed up my {} last night. | What did the dog chew up? | thing
thing | For the birthday we are giving him a {}. | What are we giving him? | thing
decision | In the end we went for the {}. | What did we go for in the end? | thing
rule | Please never send anything to the {} address. | Which address must not be used? | thing
correction | Sorry, I got that wrong before: the room is {}. | Which room is it? | code
number | There will be {} of us at the table. | How many of us will there be? | count
number | The tank holds {} litres. | How much does the tank hold? | count
es, health | Soy alérgica al medicamento {}. | ¿A qué medicamento soy alérgica? | drug
es, place | Dejé las llaves en casa de {}. | ¿Dónde dejé las llaves? | name
ja, id | 注文番号は{}です。 | 注文番号は何でしたか？ | code
ja, place | 来月{}に引っ越します。 | どこに引っ越しますか？ | town
de, id | Meine Versicherungsnummer lautet {}. | Wie lautet meine Nummer? | code
de, thing | Im Keller steht noch das alte {}. | Was steht noch im Keller? | ding
fr, id | Le code de l'immeuble est {}. | Quel est le code de l'immeuble ? | code
fr, name | Ma voisine s'appelle {}. | Comment s'appelle ma voisine ? | name
"""
)
_JUDGE_FACTS: Final = _facts(
    """
id | The parcel went out under {}. | What is the number of the parcel? | code
id | Use {} for the guest network. | What is the password of the guest network? | code
id | It crashes since commit {}. | Since which commit does it crash? | code
amount | Their last offer was {}, take it or leave it. | What was their last offer? | money
amount | Repairs came to {} all told. | What did the repairs come to? | money
date | Her passport runs out on {}. | When does her passport run out? | date
date | The hearing has been set for {}. | When is the hearing? | date
time | Visiting hours end at {}. | When do visiting hours end? | time
name | I report to {} these days. | Who do I report to? | name
name | {} signed for it at the front desk. | Who signed for it? | name
name | Our youngest wants to be called {} from now on. | What does our youngest want to be called? \
| name
place | Grandpa grew up in {}. | Where did Grandpa grow up? | town
place | The van is parked behind the {}. | Where is the van parked? | thing
place | I hid the present in the {}. | Where is the present? | thing
preference | He takes his coffee with {}. | What does he take in his coffee? | food
preference | Anything is fine as long as there is no {} in it. | What must not be in it? | food
health | Since the accident she takes {} before bed. | What does she take before bed? | drug
health | Bee stings and {} send my throat closing up. | What closes my throat, besides bees? | food
thing | Somebody walked off with our {}. | What was stolen? | thing
thing | Next year he hopes to build a {}. | What does he hope to build? | thing
decision | Let us settle on the {} and be done with it. | What did we settle on? | thing
rule | Whatever happens, do not tell {} about the trip. | Who must not hear of the trip? | name
correction | Forget the earlier number, the gate is {}. | Which gate is it? | code
number | We ordered {} chairs from them. | How many chairs did we order? | count
number | The trail is {} kilometres long. | How long is the trail? | count
es, date | La boda es el {}. | ¿Cuándo es la boda? | date
es, food | A mi padre le sienta fatal el {}. | ¿Qué le sienta fatal a mi padre? | comida
ja, name | 担当者は{}さんに変わりました。 | 担当者は誰ですか？ | name
zh, id | 我的会员号是{}。 | 我的会员号是多少？ | code
de, town | Unsere Tochter studiert seit Herbst in {}. | Wo studiert unsere Tochter? | town
de, amount | Für den Umzug zahlen wir {}. | Was zahlen wir für den Umzug? | money
fr, thing | On a laissé le {} chez le voisin. | Qu'a-t-on laissé chez le voisin ? | chose
pt, id | O número do processo é {}. | Qual é o número do processo? | code
it, name | Il nuovo medico si chiama {}. | Come si chiama il nuovo medico? | name
"""
)
_FIT_TALK: Final = """
I was wondering how these things usually go, since it has been a while for all of us.
Everybody says something else about it, which is a little confusing to be honest.
We can look at it in more detail whenever there is some time left.
There is really no hurry at all with any of this.
It has been raining since the morning and I have hardly been outside.
I keep thinking about what you said, and I guess there is something to it.
That would be lovely, though I do not want to make a fuss about it.
Some days are better than others, you know how it is.
I had a look at the pages you mentioned and most of it made sense.
What would you do if you were in my shoes?
Could you explain the second part once more, a bit more slowly?
Honestly, I did not expect it to take so long.
My head is spinning a little from all of this.
It is always the same story with these forms.
Let me think about it over the weekend.
The neighbours were quite loud again, so I did not sleep that well.
I like how you put it, that is easier to understand.
Do you think it makes any difference in the long run?
People keep telling me to relax, which does not help.
Well, at least the coffee was good.
I suppose we will see how it turns out.
It reminds me of the time when we were young and had no plan at all.
Can you give me a few ideas, nothing too fancy?
That is more or less what I was hoping for.
I will have to ask at home what they think.
Sometimes I wish it were simpler, but then it would be boring as well.
La verdad es que me parece bien, aunque todavía lo estoy pensando con calma.
Mi familia opina otra cosa sobre el asunto, como siempre.
Bueno, ya veremos cómo sale todo al final.
そうですね、最近は天気もよくて、散歩をすると気持ちがいいと思います。
家族もそう言っていますし、ゆっくり考えてみます。
少し難しい話ですが、だんだんわかってきました。
Das klingt vernünftig, auch wenn ich noch nicht ganz überzeugt bin.
Irgendwie habe ich mir das alles leichter vorgestellt.
C'est vrai que ce n'est pas toujours facile de s'y retrouver.
On verra bien ce que ça donne, il n'y a pas le feu.
"""
_JUDGE_TALK: Final = """
It is funny how quickly one gets used to things like that.
I am still not sure what to make of the whole thing.
My brother would probably laugh if he heard me talk like this.
Maybe I am overthinking it, but better safe than sorry.
The last few weeks have been rather busy, so bear with me.
Is there an easier way, or is that how everyone does it?
I tried the first suggestion and it sort of worked.
We had a nice evening, nothing special, just food and a film.
Tell me a little more about how that would look in practice.
To me it sounds like a lot of effort for a small gain.
Once the summer is over things should calm down a bit.
I read something similar in a magazine the other day.
You make it sound simple, and perhaps it is.
The garden needs some attention, too, but that can wait.
Oh well, nobody is perfect, and it could be worse.
What are the usual mistakes that beginners make?
It feels good to talk it through with somebody patient.
I would rather not decide while I am tired.
There was a long queue at the counter and nobody seemed to care.
Every time I look at it I notice something new.
Would it be rude to ask them again so soon?
I am glad that we have cleared that up, more or less.
The children are playing in the next room, so I may be distracted.
In any case it was worth trying, even if nothing comes of it.
He means well, he is just not very good at listening.
That part I had understood, it is the rest that puzzles me.
A mí me da un poco igual, mientras no haya que madrugar.
Hoy ha sido un día largo y no me apetece pensar demasiado.
La gente habla mucho y luego no pasa nada.
今日は少し疲れたので、また明日ゆっくり考えたいと思います。
そういう考え方もあるのですね、勉強になります。
我觉得这样也挺好的，不用太着急。
Man gewöhnt sich ja an alles, sogar an den Lärm von der Straße.
Vielleicht sollte ich einfach mal eine Nacht darüber schlafen.
Je ne sais pas trop quoi en penser, pour être honnête.
Às vezes é melhor esperar um pouco antes de resolver.
In fondo non è così grave, basta avere pazienza.
"""
_FIT_REPLIES: Final = """
That sounds fine to me, we can look at it in more detail whenever you like.
I understand. There are usually two or three ways to go about it, and none of them is wrong.
Take your time. It often helps to write down what matters most, and then to compare.
Many people feel that way, and it tends to get easier with some practice.
Good question. In general it depends on how much effort you want to put in.
Entiendo. Podemos verlo con más calma cuando quieras.
なるほど。ゆっくり考えてみましょう。
Of course. In short: begin with the small things, and leave the rest for later.
"""
_JUDGE_REPLIES: Final = """
Happy to help with that. A good first step is to keep things simple and see what happens.
That is understandable, and you are certainly not alone with it.
There is no right or wrong here; it mostly comes down to taste.
If you like, we can go through it together, one thing after the other.
Noted. Is there anything else on your mind?
It may sound odd, but a short break is often the best thing one can do.
Claro, lo vemos paso a paso cuando te venga bien.
好的，我们可以慢慢来。
"""
_VALUES: Final[dict[Part, dict[str, str]]] = {
    "fit": {
        "name": "Ilse Brandvik;Tomasz Wrona;Ayesha Karim;João Pratas;Mei Tanaka;Oduya;Fenwick",
        "town": "Tromsø;Graz;Leeds;Kanazawa;Oaxaca;Ghent;Turku",
        "thing": "blue flowerpot;garden hose;leather armchair;oak ladder;tin lantern;canoe;anvil",
        "food": "aubergine;walnuts;porridge;oysters;fennel;rhubarb;lentils",
        "drug": "ibuprofeno;metformin;amoxicillin;ramipril;sertraline",
        "ding": "Klavier;Schlauchboot;Spinnrad;Akkordeon",
    },
    "judge": {
        "name": "Marit Solheim;Kwame Asante;Pilar Ugarte;Stellan;Bronagh;Hiroshi Endo;Ludmila",
        "town": "Bergen;Cork;Ljubljana;Nagoya;Valparaíso;Tartu;Bremen",
        "thing": "bakery;old windmill;laundry basket;treehouse;copper kettle;harp;sundial",
        "food": "cardamom;celery;oat milk;shellfish;coriander;peanuts;ginger",
        "drug": "melatonin;naproxen;warfarin;gabapentin;lisinopril",
        "comida": "pepino;marisco;queso azul",
        "chose": "parasol;vélo rouge;trampoline",
    },
}
_MONTHS: Final = ["January", "March", "April", "June", "August", "September", "November"]


def _value(kind: str, part: Part, chance: random.Random) -> str:
    number = chance.randint(1_000, 9_999)
    if kind == "code":
        forms = (
            f"{chance.choice('KXQZ')}{chance.choice('BDRT')}-{number}",
            f"{number}{chance.choice('abcdf')}{chance.randint(10, 99)}",
            f"{chance.choice('ABCD')}{chance.randint(11, 89)}",
        )
        return chance.choice(forms)
    if kind == "money":
        sign, sum_ = chance.choice("€$£"), chance.randint(110, 9_800)
        return f"{sign}{sum_:,}" if chance.random() < 0.5 else f"{sum_} euros"
    if kind == "date":
        day, month = chance.randint(2, 28), chance.choice(_MONTHS)
        return (
            f"{day} {month}" if chance.random() < 0.5 else f"2027-0{chance.randint(1, 9)}-{day:02}"
        )
    if kind == "time":
        return f"{chance.randint(7, 19)}:{chance.choice(('15', '30', '45'))}"
    if kind == "count":
        words = ["seven", "eleven", "fourteen", "nineteen", "thirty-two"]
        return chance.choice(words) if chance.random() < 0.4 else str(chance.randint(13, 480))
    return chance.choice(_VALUES[part][kind].split(";"))


def bank_of(part: Part) -> Bank:
    """Return one of the two banks."""
    facts, talk, replies = {
        "fit": (_FIT_FACTS, _FIT_TALK, _FIT_REPLIES),
        "judge": (_JUDGE_FACTS, _JUDGE_TALK, _JUDGE_REPLIES),
    }[part]
    return Bank(facts, talk.strip().split("\n"), replies.strip().split("\n"))


def spoken(folder: Path, part: Part) -> list[str]:
    """Return utterances of 6 to 60 words from every other meeting."""
    with gzip.open(folder / MEETINGS, "rt", encoding="utf-8") as lines:
        meetings = [json.loads(line) for line in lines][part == "judge" :: 2]
    said = (
        " ".join(turn["content"].replace("{vocalsound}", "").split())
        for meeting in meetings
        for turn in meeting["meeting_transcripts"]
    )
    return sorted({each for each in said if 6 <= len(each.split()) <= 60})


def chat_of(
    part: Part, seed: int, *, turns: int = 56, facts: int = 8, talk: Sequence[str] = ()
) -> Chat:
    """Return a chat of so many turns with so many facts in it, most of them in the user's turns.

    Args:
        part: Whose sentences.
        seed: Which of its chats.
        turns: Messages of the user, each with a reply.
        facts: How many are told.
        talk: What stands between them, in the place of the bank's own.
    """
    chance, bank = random.Random(f"{part} {seed}"), bank_of(part)
    between, replies = talk or bank.talk, talk or bank.replies
    places = chance.sample(range(turns), facts)
    chosen = dict(zip(places, chance.sample(bank.facts, facts), strict=True))
    messages: list[BaseMessage] = [SystemMessage("You help."), HumanMessage("Let us talk.")]
    messages.append(AIMessage("Gladly."))
    told = []
    for turn in range(turns):
        said = [chance.choice(between) for _ in range(chance.choice((1, 2, 3)))]
        answer = [chance.choice(replies)]
        if fact := chosen.get(turn):
            value = _value(fact.values, part, chance)
            for _ in range(50):  # told once
                if not any(value in m.text for m in messages):
                    break
                value = _value(fact.values, part, chance)
            sentence = fact.told.format(value)
            told.append((fact.kind, value, fact.asked))
            by_model = chance.random() < 0.15
            into = answer if by_model else said
            into.insert(chance.randint(0, len(into)), sentence)
        messages += [HumanMessage(" ".join(said)), AIMessage(" ".join(answer))]
    return Chat(messages, told)
