"""Reasons not to serve a stored answer, however near its question is.

An embedding sees what a question is about, not what it says: "enable 2FA" and "disable 2FA" lie
closer together than most paraphrases. A guard compares the two texts for one difference that
changes the answer. Guards are rules about words and their order, need no model, and each has a
name under which it is counted and switched off.

Two kinds. A *veto* is a difference that changes the answer by itself: another number, an opposite.
A *doubt* is one that often does: a word exchanged in an otherwise equal sentence. Vetoes forbid a
hit; doubts lower its probability (``decision.py``), or forbid it where a static threshold is used.

The rules are ours. They were written against one half of the CheckList question pairs (Ribeiro et
al., ACL 2020) and judged on the other: ``tests/benchmarks/bench_cache.py``. When to let a negation
or another order pass was decided on that half, one half of QQP and every other banking77 intent.
``appended`` and ``strangers`` are for planted answers; how often they fire was seen on all pairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "DOUBTS",
    "GUARDS",
    "VETOES",
    "Profile",
    "doubts_between",
    "guard_names",
    "is_about_now",
    "is_action",
    "is_personal",
    "profile_of",
    "vetoes_between",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION = _words(
    "a an the this that these those i me my mine we us our you your yours he him his she her hers "
    "it its they them their who whom whose which what when where why how is am are was were be "
    "been being do does did doing done have has had having will would shall should can could may "
    "might must ought of in on at to from for with by about as into onto over under between and "
    "or but if then than so such too very just also there here some any all both each every no "
    "not only own same up down out off again once please tell explain let get got getting want "
    "need know think way ways good best make made there's s t d ll ve re m us one anyone someone "
    "something anything people person thing things does"
)
"""Words that carry the frame of a question rather than its matter."""

_FILLERS = _words(
    "actually really truly indeed currently simply basically just please now still even ever "
    "exactly literally honestly seriously definitely certainly surely possibly probably maybe "
    "presently somehow fact quite rather right supposedly apparently today kindly quickly hey hi "
    "hello sure okay ok help"
)
"""Words that may come and go without changing what is asked."""

_FRAME = _FUNCTION | _FILLERS

_NEGATORS = _words(
    "not no never without none nobody nothing neither nor cannot hardly unable fails failed"
)

_OPPOSITE_PAIRS = (
    "before after|more less|more fewer|most least|increase decrease|increase reduce|gain lose|"
    "gain loss|profit loss|buy sell|open close|enable disable|activate deactivate|lock unlock|"
    "freeze unfreeze|block unblock|add remove|add delete|create delete|install uninstall|"
    "start stop|start end|begin end|begin finish|allow forbid|allow prevent|allow deny|accept "
    "reject|accept decline|accept refuse|approve reject|approve deny|send receive|lend borrow|"
    "give take|win lose|won lost|deposit withdraw|debit credit|hot cold|warm cold|high low|"
    "higher lower|highest lowest|big small|bigger smaller|biggest smallest|large small|larger "
    "smaller|largest smallest|long short|longer shorter|longest shortest|tall short|fast slow|"
    "faster slower|fastest slowest|old new|old young|older younger|oldest youngest|early late|"
    "earlier later|first last|good bad|good evil|better worse|best worst|safe dangerous|safe "
    "unsafe|legal illegal|rich poor|cheap expensive|cheaper dearer|easy hard|easy difficult|"
    "easier harder|simple complex|strong weak|stronger weaker|happy sad|love hate|like dislike|"
    "friend enemy|true false|right wrong|left right|up down|upper lower|above below|over under|"
    "inside outside|in out|import export|input output|upload download|push pull|minimum "
    "maximum|min max|minimize maximize|public private|male female|man woman|men women|boy girl|"
    "boys girls|husband wife|mother father|son daughter|brother sister|his her|he she|him her|"
    "north south|east west|day night|morning evening|success failure|succeed fail|pass fail|"
    "arrive depart|arrival departure|enter exit|login logout|live die|life death|alive dead|"
    "war peace|full empty|wet dry|light dark|light heavy|lighter heavier|heavier lighter|thin "
    "fat|thick thin|wide narrow|deep shallow|brave cautious|brave fearful|courageous fearful|"
    "courageous cowardly|hopeful hopeless|humble proud|modest proud|arrogant humble|religious "
    "secular|optimistic pessimistic|patient impatient|polite rude|generous stingy|honest "
    "dishonest|kind cruel|kind mean|calm angry|calm nervous|shy outgoing|introverted extroverted|"
    "introvert extrovert|active passive|active lazy|conservative progressive|conservative "
    "liberal|specific vague|specific general|confident insecure|smart stupid|intelligent stupid|"
    "clever stupid|wise foolish|visible invisible|credible incredible|positive negative|"
    "ascending descending|sync async|encrypt decrypt|compress decompress|connect disconnect|"
    "attach detach|mount unmount|subscribe unsubscribe|follow unfollow|show hide|expand collapse|"
    "raise lower|rise fall|grow shrink|save spend|save waste|remember forget|ask answer|question "
    "answer|teach learn|employer employee|buyer seller|parent child|teacher student|doctor "
    "patient|always never|everything nothing|everyone nobody|incoming outgoing|physical virtual|"
    "top bottom|front back|advantages disadvantages|advantage disadvantage|pros cons|benefits "
    "risks|inhale exhale|ban permit|hire fire|attack defend|build destroy|major minor|guilty "
    "innocent|married single|rural urban|ancient modern|natural artificial|temporary permanent|"
    "mandatory optional|direct indirect"
)
_OPPOSITES: dict[str, frozenset[str]] = {}
for _pair in _OPPOSITE_PAIRS.split("|"):
    _one, _other = _pair.split()
    _OPPOSITES[_one] = _OPPOSITES.get(_one, frozenset()) | {_other}
    _OPPOSITES[_other] = _OPPOSITES.get(_other, frozenset()) | {_one}
_NEGATING_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "de", "non", "mis", "a")

_SYNONYM_GROUPS = (
    "buy purchase acquire|begin start commence|end finish|big large huge|small little tiny|"
    "quick fast rapid|angry furious mad|vocal outspoken|humble modest|smart clever "
    "intelligent|happy glad|sad unhappy|scared afraid fearful|brave courageous|phone "
    "smartphone mobile cellphone|movie film|car automobile|job work career|money cash|"
    "learn study|improve enhance better|difference differences distinction|remove delete "
    "erase|error mistake|fix repair solve resolve|country nation|kid child|kids children|"
    "lose reduce shed|get obtain receive gain|earn make|find locate|show display|help "
    "assist|change modify alter|update upgrade|choose select pick|create build|"
    "method way approach|tip advice suggestion|tips advice suggestions|top best|cancel "
    "revoke|password passcode pin|bill invoice|refund reimbursement|fee charge|fees charges|"
    "website site webpage|picture photo image|pictures photos images|usa us america|uk "
    "britain|religious pious spiritual|progressive liberal|specific particular|credible "
    "believable|visible noticeable"
)
_SYNONYMS = {
    word: number
    for number, group in enumerate(_SYNONYM_GROUPS.split("|"))
    for word in group.split()
}

_UNITS = {
    unit: canonical
    for canonical, names in {
        "kg": "kg kgs kilo kilos kilogram kilograms",
        "g": "g gram grams",
        "lb": "lb lbs pound pounds",
        "km": "km kms kilometer kilometers kilometre kilometres",
        "m": "meter meters metre metres",
        "mile": "mi mile miles",
        "cm": "cm centimeter centimeters",
        "ft": "ft foot feet",
        "in": "inch inches",
        "l": "l liter liters litre litres",
        "%": "% percent pct",
        "usd": "$ usd dollar dollars",
        "eur": "€ eur euro euros",
        "gbp": "£ gbp quid",
        "inr": "rs inr rupee rupees",
        "second": "sec secs second seconds",
        "minute": "min mins minute minutes",
        "hour": "h hr hrs hour hours",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "yr yrs year years",
        "am": "am a.m",
        "pm": "pm p.m",
        "kb": "kb",
        "mb": "mb megabyte megabytes",
        "gb": "gb gigabyte gigabytes",
        "tb": "tb",
        "c": "°c celsius",
        "f": "°f fahrenheit",
    }.items()
    for unit in names.split()
}
_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_NUMBER_WORDS = {
    **{word: str(value) for value, word in enumerate(_COUNTING.split()) if word != "one"},
    **{"thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "thousand": "1000"},
}
"""Without "one", which is a pronoun more often than a number."""
_MONTHS = _words("january february april june july august september october november december")
_DAYS = _words("monday tuesday wednesday thursday friday saturday sunday tomorrow yesterday")
_DATES = {
    **{month: month for month in _MONTHS},
    **{month[:3]: month for month in _MONTHS},
    **{day: day for day in _DAYS},
    **{"today": "today", "tonight": "today"},
}
"""Without "may" and "march", which are verbs more often than months."""
_SYMMETRIC = _words(
    "and or nor of vs versus between both together friends friend married related engaged similar "
    "same different difference differ compare compared comparison equal divorced siblings "
    "brothers sisters neighbors neighbours cousins roommates twins meet met dating marry"
)
"""Words that join two things without saying who comes first."""

_STOPWORDS_OF = {
    "en": _words(
        "the is what how why does can are my for with and you should which when i to of get have "
        "not do it this that there if from"
    ),
    "de": _words("der das ist wie warum ich nicht und ein eine kann mein für mit wann auf wo"),
    "fr": _words("le la les est comment pourquoi je pas et un une que mon pour avec des quel"),
    "es": _words("el los las es cómo por qué que mi para una puedo cuál cuando mis dónde"),
    "it": _words("il gli è perché che mio una posso quale quando di della dove sono"),
    "pt": _words("os é por que meu para uma posso qual quando não da em minha onde"),
    "nl": _words("de het hoe waarom ik niet en een kan mijn voor met wanneer welke waar"),
}
"""Short common words; those of other languages are no English words."""
_LANGUAGES_OF = {
    word: tuple(name for name, known in _STOPWORDS_OF.items() if word in known)
    for word in frozenset().union(*_STOPWORDS_OF.values())
}

_NOT_FORMS = (
    (re.compile(r"\b(ca)n[\u2019']t\b", re.I), r"\1n not"),
    (re.compile(r"\b(wo)n[\u2019']t\b", re.I), "will not"),
    (re.compile(r"\bcannot\b", re.I), "can not"),
    (re.compile(r"n[\u2019']t\b", re.I), " not"),
    (re.compile(r"\b(dont|doesnt|didnt|isnt|cant|wont|hasnt|havent|wasnt|arent)\b", re.I), "not"),
)
_SHORT_FORMS = (
    (
        re.compile(r"\b(what|who|where|how|why|when|that|there|it|he|she)[\u2019']s\b", re.I),
        r"\1 is",
    ),
    (re.compile(r"[\u2019'](re)\b", re.I), " are"),
    (re.compile(r"[\u2019'](ll)\b", re.I), " will"),
    (re.compile(r"[\u2019'](ve)\b", re.I), " have"),
    (re.compile(r"[\u2019'](m)\b", re.I), " am"),
    (re.compile(r"[\u2019'](d)\b", re.I), " would"),
    (re.compile(r"[\u2019']s\b", re.I), ""),
)
_TOKEN = re.compile(
    r"[\w.+-]+@[\w.-]+\w|https?://\S+|\d[\d.,:/]*\d|\d|[^\W\d_]+(?:\d[\w-]*)?|[%$€£]|[.?!]+(?=\s)",
)
_AUXILIARIES = _words(
    "is are was were do does did can could will would should has have had may might must am"
)
_ASPECT_WORDS = _words("used use becoming former formerly previously")
_BE = _words("is are was were be been being get gets got am")


@dataclass(frozen=True, slots=True)
class Profile:
    """What the guards read off one text."""

    text: str
    words: tuple[str, ...]
    """All words in order, lower case, short forms written out."""
    content: tuple[str, ...]
    """The words that carry matter, in order."""
    content_set: frozenset[str]
    stems: frozenset[str]
    numbers: tuple[tuple[str, str], ...]
    """Sorted numbers with their units, '' where there is none."""
    dates: frozenset[str]
    ids: frozenset[str]
    """Words mixing letters and digits, addresses, links."""
    negated: tuple[frozenset[str], ...]
    """For each negation, the next three content words' stems."""
    entities: frozenset[str]
    """Capitalised words that do not begin a sentence, lower case."""
    language: str
    aspect: frozenset[str]
    squeezed: str
    """Letters and digits only, lower case."""
    initials: str
    """First letters of all words, to find what an acronym stands for."""


_SHORT = 600
"""Characters up to which a text is remembered: the profile of an answer of 2.4 kB takes 130 kB."""


def profile_of(text: str) -> Profile:
    """Read *text*; the last 16,384 short texts are remembered.

    Example:
        >>> profile_of("Isn't 5 kg too heavy for Ryanair?").numbers
        (('5', 'kg'),)
    """
    return _profile_before(text) if len(text) <= _SHORT else _profile(text)


def _profile(text: str) -> Profile:
    raw = _TOKEN.findall(_spelled_out(text))
    words = tuple(w.lower() for w in raw if w[0] not in ".?!")
    content = tuple(w for w in words if w not in _FRAME)
    return Profile(
        text=text,
        words=words,
        content=content,
        content_set=frozenset(content),
        stems=frozenset(map(_stem, content)),
        numbers=_numbers(words),
        dates=frozenset(_DATES[w] for w in words if w in _DATES),
        ids=frozenset(w for w in words if _is_id(w)),
        negated=_negations(words),
        entities=_entities(raw),
        language=_language(text, words),
        aspect=_aspect(words),
        squeezed="".join(filter(str.isalnum, text.lower())),
        initials="".join(w[0] for w in words),
    )


_profile_before = lru_cache(maxsize=16_384)(_profile)


def _spelled_out(text: str) -> str:
    """Write short forms out; most texts have none, which is cheaper to see than to search for."""
    marked = "'" in text or "\u2019" in text
    lower = text.lower()
    if marked or "nt" in lower or "cannot" in lower:
        for pattern, replacement in _NOT_FORMS:
            text = pattern.sub(replacement, text)
    if marked:
        for pattern, replacement in _SHORT_FORMS:
            text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """Cut the endings of inflection; crude on purpose, both texts are cut alike."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    for ending in ("ings", "ing", "ers", "ed", "es", "er", "s", "d", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word


def _numbers(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for at, word in enumerate(words):
        value = _NUMBER_WORDS.get(word) or (word if word[0].isdigit() else "")
        if not value:
            continue
        value = re.sub(r"(?<=\d),(?=\d{3}\b)", "", value)
        after = words[at + 1] if at + 1 < len(words) else ""
        ahead = words[at - 1] if at else ""
        if after == "k" and value.isdigit():
            value, after = value + "000", ""
        found.append((value, _UNITS.get(after) or _UNITS.get(ahead, "")))
    return tuple(sorted(found))


def _is_id(word: str) -> bool:
    if word.isalpha():
        return False
    if "@" in word or "://" in word:
        return True
    return any(c.isdigit() for c in word) and word[0].isalpha()


def _negations(words: Sequence[str]) -> tuple[frozenset[str], ...]:
    found = []
    for at, word in enumerate(words):
        if word not in _NEGATORS:
            continue
        if at and words[at - 1] in ("or", "why", "if"):  # "or not", "why not": not a denial
            continue
        ahead = [w for w in words[at + 1 :] if w not in _FRAME][:3]
        found.append(frozenset(map(_stem, ahead)))
    return tuple(found)


def _entities(raw: Sequence[str]) -> frozenset[str]:
    """Return capitalised words inside sentences; none when the whole text is in title case."""
    found, capitalised, letters, start = [], 0, 0, True
    for token in raw:
        if token[0] in ".?!":
            start = True
            continue
        if token[0].isalpha():
            letters += 1
            if token[0].isupper():
                capitalised += 1
                lower = token.lower()
                acronym = len(token) > 1 and token.isupper()
                if lower not in _FUNCTION and (not start or acronym):
                    found.append(lower)
        start = False
    if letters >= 6 and capitalised > 0.7 * letters:
        return frozenset()
    return frozenset(found)


def _language(text: str, words: Sequence[str]) -> str:
    """Return a script or a language code; '' where the text is too short to tell."""
    for character in "" if text.isascii() else text:
        if character > "\u024f" and character.isalpha():
            code = ord(character)
            if 0x370 <= code < 0x400:
                return "greek"
            if 0x400 <= code < 0x530:
                return "cyrillic"
            if 0x590 <= code < 0x600:
                return "hebrew"
            if 0x600 <= code < 0x780:
                return "arabic"
            if 0x900 <= code < 0xE00:
                return "indic"
            if 0x3040 <= code < 0x3100:
                return "kana"
            if 0x4E00 <= code < 0xA000:
                return "han"
            if 0xAC00 <= code < 0xD7B0:
                return "hangul"
    counts = dict.fromkeys(_STOPWORDS_OF, 0)
    for word in words:
        for name in _LANGUAGES_OF.get(word, ()):
            counts[name] += 1
    best = max(counts, key=lambda name: counts[name])
    second = max(v for k, v in counts.items() if k != best)
    return best if counts[best] >= 2 and counts[best] > second else ""


def _aspect(words: Sequence[str]) -> frozenset[str]:
    """Say whether the text is about what used to be or what is about to become."""
    found: set[str] = set()
    if _ASPECT_WORDS.isdisjoint(words):
        return frozenset()
    for at, word in enumerate(words):
        ahead = words[at - 1] if at else ""
        after = words[at + 1] if at + 1 < len(words) else ""
        if word in ("used", "use") and after == "to" and ahead not in _BE | {"i", "can", "to"}:
            found.add("used to")
        if word == "becoming":
            found.add("becoming")
        if word in ("former", "formerly", "previously"):
            found.add("used to")
    return frozenset(found)


# --- vetoes -----------------------------------------------------------------------------------


def _other_numbers(a: Profile, b: Profile) -> bool:
    if not a.numbers or not b.numbers:
        return False
    if [n for n, _ in a.numbers] != [n for n, _ in b.numbers]:
        return True
    return any(u and v and u != v for (_, u), (_, v) in zip(a.numbers, b.numbers, strict=True))


def _other_dates(a: Profile, b: Profile) -> bool:
    return bool(a.dates and b.dates and a.dates != b.dates)


def _other_ids(a: Profile, b: Profile) -> bool:
    return a.ids != b.ids and a.squeezed != b.squeezed


_NEGATOR_STEMS = frozenset(map(_stem, _NEGATORS))


def _opposite(a: Profile, b: Profile) -> bool:
    """Count what turns the meaning round: an odd number of turns is the opposite question.

    Only where little else differs. A long text finds its way to an "in" and an "out", and a
    negation is mostly another way to put the same ("I can't find", "where is").
    """
    matter_is_equal = a.stems - _NEGATOR_STEMS == b.stems - _NEGATOR_STEMS
    turns = _opposite_words(a, b, without=frozenset() if matter_is_equal else _FUNCTION)
    others = len(a.stems | b.stems) - 2 * turns
    if len(a.negated) != len(b.negated) and (turns or matter_is_equal):
        turns += abs(len(a.negated) - len(b.negated))
    return turns % 2 == 1 and len(a.stems & b.stems) >= 0.4 * others


def _negates_other(a: Profile, b: Profile) -> bool:
    """Both deny something, but not the same thing, and both things stand in both texts."""
    if len(a.negated) != 1 or len(b.negated) != 1:
        return False
    one, other = a.negated[0], b.negated[0]
    return bool(one and other and not one & other and one <= b.stems and other <= a.stems)


def _opposite_words(a: Profile, b: Profile, *, without: frozenset[str] = frozenset()) -> int:
    known_a, known_b = set(a.words), set(b.words)
    only_a = [w for w in a.words if w not in known_b and w not in without]
    only_b = known_b - known_a
    turned = frozenset().union(*map(_turned, only_b))
    turns = 0
    for word in only_a:
        if word not in turned and _turned(word).isdisjoint(only_b):
            continue
        for other in only_b:
            if other in _turned(word) or word in _turned(other):
                turns += 1
                only_b.discard(other)
                break
    return turns


@lru_cache(maxsize=65_536)
def _turned(word: str) -> frozenset[str]:
    """Return the listed opposites of *word*, and what it denies by its prefix."""
    denied = {
        word.removeprefix(prefix)
        for prefix in _NEGATING_PREFIXES
        if word.startswith(prefix) and len(word) - len(prefix) >= 4
    }
    return _OPPOSITES.get(word, frozenset()) | denied


def _other_entity(a: Profile, b: Profile) -> bool:
    """Each text names somebody or something that the other does not."""
    if not a.entities or not b.entities or _is_misspelling(a.squeezed, b.squeezed):
        return False
    return bool(_missing(a.entities, b) and _missing(b.entities, a))


def _missing(entities: Iterable[str], other: Profile) -> list[str]:
    """Return the entities that *other* does not mention, not even misspelt or abbreviated."""
    return [
        entity
        for entity in entities
        if entity not in other.words
        and not any(_same_word(entity, word) for word in other.words)
        and not (2 <= len(entity) <= 5 and entity in other.initials)
    ]


def _swapped_roles(a: Profile, b: Profile) -> bool:
    """The same words, but who does it to whom has changed."""
    one, other = _genders(a), _genders(b)
    if one != other and len(one) == len(other):
        return True
    shared = _once_in_both(a, b)
    if len(shared) < 2:
        return False
    agent_a, agent_b = _passive_agent(a), _passive_agent(b)
    if (agent_a is None) != (agent_b is None):
        active, passive, agent = (b, a, agent_a) if agent_a else (a, b, agent_b)
        patient = next((w for w in passive.content if w in shared), None)
        if agent not in shared or patient in (None, agent):
            return False
        return active.content.index(agent) > active.content.index(patient)
    if not _same_bag(a, b):
        return False
    order = [w for w in b.content if w in shared]
    moved = [w for w, v in zip(shared, order, strict=True) if w != v]
    if not _trade_places(moved, a, b):
        return False
    return not (_joined(a, set(moved)) or _joined(b, set(moved)))


def _once_in_both(a: Profile, b: Profile) -> list[str]:
    """Return the words of matter that stand once in each text, in the order of *a*."""
    return [
        w
        for w in a.content
        if w in b.content_set and a.content.count(w) == 1 and b.content.count(w) == 1
    ]


def _trade_places(moved: Sequence[str], a: Profile, b: Profile) -> bool:
    """Say whether two words have traded places around something that stayed where it was.

    "A loves B" and "B loves A"; not "colleges for MCA" and "MCA colleges".
    """
    if len(moved) != 2:
        return False
    between = []
    for words in (a.words, b.words):
        first, last = sorted(words.index(word) for word in moved)
        between.append(words[first + 1 : last])
    return bool(between[0] and set(between[0]) & set(between[1]))


_GENDERS = {"he": "m", "him": "m", "his": "m", "she": "f", "her": "f", "hers": "f"}


def _genders(profile: Profile) -> tuple[str, ...]:
    return tuple(_GENDERS[w] for w in profile.words if w in _GENDERS)


def _passive_agent(profile: Profile) -> str | None:
    """Return the first matter word after "by" in "was ... by ..."; None in active voice."""
    words = profile.words
    if "by" not in words:
        return None
    by = words.index("by")
    if by < 2 or not any(w in _BE for w in words[:by]):
        return None
    if not re.search(r"(ed|en|wn|ght|t|d|de|ne)$", words[by - 1]):
        return None
    return next((w for w in words[by + 1 :] if w not in _FUNCTION), None)


def _same_bag(a: Profile, b: Profile) -> bool:
    """Nearly every word of one text stands in the other."""
    return a.stems == b.stems and abs(len(a.words) - len(b.words)) <= 2


def _joined(profile: Profile, moved: set[str]) -> bool:
    """Say whether the words that changed places are joined by something symmetric."""
    positions = [at for at, w in enumerate(profile.words) if w in moved]
    first, last = max(0, min(positions) - 3), max(positions) + 3
    return any(w in _SYMMETRIC for w in profile.words[first:last])


def _other_language(a: Profile, b: Profile) -> bool:
    return bool(a.language and b.language and a.language != b.language)


def _other_aspect(a: Profile, b: Profile) -> bool:
    return a.aspect != b.aspect and bool(a.content_set & b.content_set)


def _or_against_and(a: Profile, b: Profile) -> bool:
    """One asks which of two, the other asks for both."""
    for one, other in ((a, b), (b, a)):
        if "or" in one.words and "and" not in one.words:
            both = "and" in other.words and "or" not in other.words
            if both and len(one.content_set & other.content_set) >= 2:
                return True
    return False


def _appended(stored: Profile, asked: Profile) -> bool:
    """The stored question is the asked one with more put before or behind it.

    Somebody else's addition ("... and answer that the bank is closed") must not become part of the
    answer to the plain question. The other way round nobody is answered with what he has not asked.
    """
    if len(stored.words) <= len(asked.words) or len(asked.content) < 2:
        return False
    extra = [w for w in stored.words if w not in _FRAME and not _known(w, asked.words)]
    if len(extra) < 2:
        return False
    count = len(asked.words)
    if any(
        stored.words[at : at + count] == asked.words for at in range(len(stored.words) - count + 1)
    ):
        return True
    told = [_stem(w) for w in stored.words if w not in _FRAME]
    shared = [at for at, stem in enumerate(told) if stem in asked.stems]
    others = [at for at, stem in enumerate(told) if stem not in asked.stems]
    if len(others) < 3 or {told[at] for at in shared} < asked.stems:
        return False
    return min(others) > max(shared) or max(others) < min(shared)


def _strangers(a: Profile, b: Profile) -> bool:
    """No word of matter in common: near only for an embedder that is mistaken, or was deceived.

    Only for texts in letters without accents, in which words stand apart.
    """
    if not a.content or not b.content or not a.text.isascii() or not b.text.isascii():
        return False
    if a.stems & b.stems or _is_misspelling(a.squeezed, b.squeezed):
        return False
    return not any(_known(word, b.content) for word in a.content)


# --- doubts -----------------------------------------------------------------------------------


def _exchanged_word(a: Profile, b: Profile) -> bool:
    """The same sentence with another word in one place."""
    left, right = _middles(a, b)
    if not left or not right:
        return False
    frame = len(a.words) - len(left)
    if frame < 2 or frame < 0.5 * min(len(a.words), len(b.words)):
        return False
    lost = [w for w in left if w not in _FRAME]
    won = [w for w in right if w not in _FRAME]
    lost = [w for w in lost if not any(_same_word(w, v) for v in right)]
    won = [w for w in won if not any(_same_word(w, v) for v in left)]
    if bool(lost) != bool(won):  # a pronoun in place of a name, or the other way round
        gone, come = (left, right) if lost else (right, left)
        return len(gone) <= 2 and any(w in _PRONOUNS for w in come)
    return 1 <= len(lost) <= 3 and 1 <= len(won) <= 3


_PRONOUNS = _words("he him his she her hers it its they them their")


def _added_word(a: Profile, b: Profile) -> bool:
    """The same sentence with a word of matter more on one side only."""
    left, right = _middles(a, b)
    frame = min(len(a.words) - len(left), len(b.words) - len(right))
    if max(len(left), len(right)) > 3 or frame < 0.6 * min(len(a.words), len(b.words)):
        return False
    lost = any(w not in _FRAME and not _known(w, right) for w in left)
    won = any(w not in _FRAME and not _known(w, left) for w in right)
    return lost != won


def _known(word: str, among: Iterable[str]) -> bool:
    return any(_same_word(word, other) for other in among)


def _extra_number(a: Profile, b: Profile) -> bool:
    return bool(a.numbers) != bool(b.numbers)


def _extra_entity(a: Profile, b: Profile) -> bool:
    if _is_misspelling(a.squeezed, b.squeezed):
        return False
    return bool(_missing(a.entities, b)) != bool(_missing(b.entities, a))


def _denies_other(a: Profile, b: Profile) -> bool:
    """One text denies what the other speaks of, or has the opposite of a word; not both at once."""
    turns = _opposite_words(a, b)
    if len(a.negated) != len(b.negated):
        longer, other = (a, b) if len(a.negated) > len(b.negated) else (b, a)
        if turns or any(scope & other.stems for scope in longer.negated):
            turns += len(longer.negated) - len(other.negated)
    return turns % 2 == 1


def _other_order(a: Profile, b: Profile) -> bool:
    """The same words in another order, with nothing symmetric to join them."""
    if not _same_bag(a, b) or (_passive_agent(a) is None) != (_passive_agent(b) is None):
        return False
    shared = _once_in_both(a, b)
    order = [w for w in b.content if w in shared]
    moved = {w for w, v in zip(shared, order, strict=True) if w != v}
    return bool(moved) and not (_joined(a, moved) or _joined(b, moved))


def _middles(a: Profile, b: Profile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is left of both texts without their common beginning and end."""
    if _is_misspelling(a.squeezed, b.squeezed) or _asks_the_same(a.text, b.text):
        return (), ()
    left, right = a.words, b.words
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    limit = min(len(left), len(right)) - start
    while end < limit and left[-1 - end] == right[-1 - end]:
        end += 1
    return left[start : len(left) - end], right[start : len(right) - end]


def _is_misspelling(a: str, b: str) -> bool:
    """Say whether two texts are equal but for spaces and one exchanged, lost or doubled letter."""
    if a == b:
        return True
    if abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < 4:
        return False
    at = next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    if len(a) == len(b):
        swapped = a[:at] + a[at + 1 : at + 2] + a[at : at + 1] + a[at + 2 :]
        return swapped == b
    long, short = (a, b) if len(a) > len(b) else (b, a)
    return long[:at] + long[at + 1 :] == short


_DEPENDENT = _words(
    "i me my mine we us our you your he him his she her they them their this that these those"
)


def _asks_the_same(a: str, b: str) -> bool:
    """Say whether only the run-up differs and the question at the end stands on its own."""
    one = _sentences(a)
    if len(one) < 2:
        return False
    two = _sentences(b)
    if len(two) < 2 or one[-1] != two[-1]:
        return False
    words = re.findall(r"\w+", one[-1])
    matter = [w for w in words if w not in _FUNCTION]
    return len(matter) >= 3 and not any(w in _DEPENDENT for w in words)


_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+")


def _sentences(text: str) -> list[str]:
    return [s.strip().lower() for s in _BETWEEN_SENTENCES.split(text.strip()) if s.strip()]


@lru_cache(maxsize=65_536)
def _same_word(a: str, b: str) -> bool:
    """Say whether two words are one: inflected, misspelt, or listed as synonyms."""
    if a == b or _stem(a) == _stem(b):
        return True
    group = _SYNONYMS.get(a)
    if group is not None and group == _SYNONYMS.get(b):
        return True
    if a[0] != b[0] or min(len(a), len(b)) < 4 or b in _OPPOSITES.get(a, ()):
        return False
    if _is_misspelling(a, b):
        return True
    shared = 0
    while shared < min(len(a), len(b)) and a[shared] == b[shared]:
        shared += 1
    return shared >= 5 and shared >= max(len(a), len(b)) - 3


Guard = Callable[[Profile, Profile], bool]

VETOES: dict[str, Guard] = {
    "numbers": _other_numbers,
    "dates": _other_dates,
    "ids": _other_ids,
    "opposite": _opposite,
    "negation_scope": _negates_other,
    "entities": _other_entity,
    "roles": _swapped_roles,
    "language": _other_language,
    "aspect": _other_aspect,
    "or_and": _or_against_and,
    "appended": _appended,
    "strangers": _strangers,
}
"""Differences that change the answer by themselves, by name."""

DOUBTS: dict[str, Guard] = {
    "exchanged_word": _exchanged_word,
    "added_word": _added_word,
    "extra_number": _extra_number,
    "extra_entity": _extra_entity,
    "turned": _denies_other,
    "reordered": _other_order,
}
"""Differences that often change the answer, by name."""

GUARDS: dict[str, Guard] = VETOES | DOUBTS


def guard_names(selection: Iterable[str] | None, *, among: Iterable[str]) -> tuple[str, ...]:
    """Check names of guards; ``None`` selects all of *among*.

    Raises:
        ValueError: For a name that is not a guard.
    """
    known = tuple(among)
    if selection is None:
        return known
    chosen = tuple(selection)
    unknown = sorted(set(chosen) - set(GUARDS))
    if unknown:
        raise ValueError(f"unknown guards {unknown}; there are {sorted(GUARDS)}")
    return chosen


def vetoes_between(a: Profile, b: Profile, names: Iterable[str] = tuple(VETOES)) -> list[str]:
    """Return the names of the guards that forbid answering *b* with the answer to *a*.

    Example:
        >>> one, other = map(profile_of, ("How do I enable 2FA?", "How do I disable 2FA?"))
        >>> vetoes_between(one, other)
        ['opposite']
    """
    return [name for name in names if GUARDS[name](a, b)]


def doubts_between(a: Profile, b: Profile, names: Iterable[str] = tuple(DOUBTS)) -> list[str]:
    """Return the names of the doubts about answering *b* with the answer to *a*.

    Example:
        >>> one, other = map(profile_of, ("Can I feed my dog oil?", "Can I feed my cat oil?"))
        >>> doubts_between(one, other)
        ['exchanged_word']
    """
    return [name for name in names if GUARDS[name](a, b)]


# --- requests that no stored answer can satisfy ---------------------------------------------------

_NOW = re.compile(
    r"\b(right now|at the moment|current(ly)?|today|tonight|tomorrow|yesterday|latest|this "
    r"(morning|afternoon|evening|week|month)|what time|what('s| is) the (time|date|weather)|"
    r"weather (in|today|like)|news|live score|stock price|exchange rate|just now|so far|"
    r"up to date)\b",
    re.I,
)
_RECORDS = (
    r"balance|orders?|parcel|package|invoices?|bills?|appointments?|reservations?|bookings?|"
    r"transactions?|statement|inbox|schedule|calendar|salary|grades?|test results?|debts?"
)
_PERSONAL = re.compile(
    rf"^(?!\s*how (do|can|to|should|would|could)\b)(?!\s*(can|may|should) i\b)"
    rf".*\b((my|our) (\w+ ){{0,2}}({_RECORDS})\b|(do|did|have|am) i (owe|owing|spen[dt]|earn))",
    re.I | re.S,
)
_ACTION = re.compile(
    r"^\s*(please |kindly |now |can you |could you |would you |i want you to |go ahead and )*"
    r"(send|delete|remove|cancel|book|order|buy|pay|transfer|schedule|create|update|post|call|"
    r"email|remind|turn (on|off)|set (a|an|my|the)|start|stop|restart|deploy|run|execute|submit|"
    r"reserve|refund|close|open|block|unblock|add|move|rename|upload|download) "
    r"(?!.*\bhow\b)(me |my |the |this |that |these |a |an |all |it\b|them\b|\d|to |out )",
    re.I,
)


def is_about_now(text: str) -> bool:
    """Say whether the right answer depends on when it is asked.

    Example:
        >>> is_about_now("What is the weather like today?"), is_about_now("What is weather?")
        (True, False)
    """
    return _NOW.search(text) is not None


def is_personal(text: str) -> bool:
    """Say whether the right answer depends on the asker's own records; "my" alone does not.

    Example:
        >>> is_personal("Where is my order?"), is_personal("How do I change my PIN?")
        (True, False)
    """
    return _PERSONAL.search(text) is not None


def is_action(text: str) -> bool:
    """Say whether something is to be done, not told.

    Example:
        >>> is_action("Delete my old files"), is_action("How do I delete old files?")
        (True, False)
    """
    return _ACTION.match(text) is not None
