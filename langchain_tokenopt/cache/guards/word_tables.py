"""The words that the guards know: data, no rules.

Words of the frame, fillers, opposites and synonyms are ours. They were collected from one half of
the CheckList question pairs (see :mod:`langchain_tokenopt.cache.guards`).
"""

from __future__ import annotations

__all__ = [
    "ASPECT_WORDS",
    "DEPENDENT_WORDS",
    "FILLERS",
    "FORMS_OF_BE",
    "FRAME_WORDS",
    "FUNCTION_WORDS",
    "GENDER_OF",
    "LANGUAGES_OF",
    "NEGATING_PREFIXES",
    "NEGATORS",
    "OPPOSITES",
    "PRONOUNS",
    "STOP_WORDS_OF",
    "SYMMETRIC_WORDS",
    "SYNONYMS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words(
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

FILLERS = _words(
    "actually really truly indeed currently simply basically just please now still even ever "
    "exactly literally honestly seriously definitely certainly surely possibly probably maybe "
    "presently somehow fact quite rather right supposedly apparently today kindly quickly hey hi "
    "hello sure okay ok help"
)
"""Words that may come and go without changing what is asked."""

FRAME_WORDS = FUNCTION_WORDS | FILLERS

NEGATORS = _words(
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


def _both_ways(pairs: str) -> dict[str, frozenset[str]]:
    """Return the opposites of each word of pairs that are separated by ``|``."""
    found: dict[str, frozenset[str]] = {}
    for pair in pairs.split("|"):
        one, other = pair.split()
        found[one] = found.get(one, frozenset()) | {other}
        found[other] = found.get(other, frozenset()) | {one}
    return found


OPPOSITES = _both_ways(_OPPOSITE_PAIRS)
NEGATING_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "de", "non", "mis", "a")

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
SYNONYMS = {
    word: number
    for number, group in enumerate(_SYNONYM_GROUPS.split("|"))
    for word in group.split()
}

SYMMETRIC_WORDS = _words(
    "and or nor of vs versus between both together friends friend married related engaged similar "
    "same different difference differ compare compared comparison equal divorced siblings "
    "brothers sisters neighbors neighbours cousins roommates twins meet met dating marry"
)
"""Words that join two things without saying who comes first."""

STOP_WORDS_OF = {
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
LANGUAGES_OF = {
    word: tuple(name for name, known in STOP_WORDS_OF.items() if word in known)
    for word in frozenset().union(*STOP_WORDS_OF.values())
}

ASPECT_WORDS = _words("used use becoming former formerly previously")
FORMS_OF_BE = _words("is are was were be been being get gets got am")

GENDER_OF = {"he": "m", "him": "m", "his": "m", "she": "f", "her": "f", "hers": "f"}

PRONOUNS = _words("he him his she her hers it its they them their")

DEPENDENT_WORDS = _words(
    "i me my mine we us our you your he him his she her they them their this that these those"
)
