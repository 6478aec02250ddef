"""Two hundred scripted requests for data, in five fields and five languages.

Who asks has data of nine kinds, states some of them in the request, gives others when asked, in
sentences, and will not tell a few. All is drawn with one seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, get_args

from langchain_tokenopt import DataNeed

__all__ = ["FIELDS", "Case", "cases"]

E, S, N = "essential", "supporting", "enriching"
PLACES = ["Lisbon", "Oslo", "Kyoto", "Porto", "Graz", "Lyon", "Turin", "Leeds", "Malmö", "Zürich"]
FIELDS: dict[str, list[DataNeed]] = {
    "travel": [
        DataNeed("destination", "city to go to", E),
        DataNeed("start", "day of departure", E, date),
        DataNeed("nights", "length of the stay in days", E, int),
        DataNeed("travellers", "number of people who travel", E, int),
        DataNeed("budget", "budget for all in EUR", S, float),
        DataNeed("airport", "airport to leave from", S),
        DataNeed("lodging", "where to stay", S, Literal["hostel", "hotel", "apartment"]),
        DataNeed("breakfast", "breakfast wanted", N, bool),
        DataNeed("wish", "anything that matters to them", N),
    ],
    "insurance": [
        DataNeed("car", "make and model of the car", E),
        DataNeed("registered", "day of first registration", E, date),
        DataNeed("mileage", "distance driven a year in km", E, int),
        DataNeed("postcode", "postcode of the owner", E),
        DataNeed("excess", "excess in EUR", S, float),
        DataNeed("garage", "car stands in a garage", S, bool),
        DataNeed("drivers", "number of drivers", S, int),
        DataNeed("begin", "day on which the cover begins", S, date),
        DataNeed("use", "what the car is used for", N),
    ],
    "research": [
        DataNeed("company", "company to look at", E),
        DataNeed("horizon", "how long the money is invested (months)", E, int),
        DataNeed("amount", "amount to invest in USD", E, float),
        DataNeed("risk", "how much risk is taken", E, Literal["low", "medium", "high"]),
        DataNeed("benchmark", "index to compare with", S),
        DataNeed("hedged", "currency is hedged", S, bool),
        DataNeed("loss", "loss at which to sell (%)", S, float, "%"),
        DataNeed("dividends", "dividends are paid out", N, bool),
        DataNeed("focus", "what the report should look at first", N),
    ],
    "support": [
        DataNeed("product", "product that fails", E),
        DataNeed("code", "error code that is shown", E),
        DataNeed("since", "day on which it first failed", E, date),
        DataNeed("affected", "number of users who are affected", E, int),
        DataNeed("system", "operating system", S),
        DataNeed("restarted", "it was restarted", S, bool),
        DataNeed("priority", "how urgent it is", S, Literal["normal", "urgent", "blocking"]),
        DataNeed("contact", "address to answer to", N),
        DataNeed("site", "office in which it stands", N),
    ],
    "hiring": [
        DataNeed("role", "role to be filled", E),
        DataNeed("begin", "first day of work", E, date),
        DataNeed("hours", "working time a week (hours)", E, int),
        DataNeed("salary", "salary a year in EUR", E, float),
        DataNeed("site", "office", S),
        DataNeed("remote", "work from home is possible", S, bool),
        DataNeed("level", "level of the role", S, Literal["junior", "senior", "lead"]),
        DataNeed("language", "language that the team speaks", N),
        DataNeed("team", "name of the team", N),
    ],
}
TEXTS = {
    "car": ["VW Golf 8", "Fiat Panda", "Renault Clio", "Škoda Octavia"],
    "postcode": ["80331", "SW1A 1AA", "75011", "28013"],
    "use": ["commuting only", "deliveries", "weekend trips"],
    "company": ["Siemens", "Novo Nordisk", "Inditex", "LVMH", "Nestlé"],
    "benchmark": ["MSCI World", "Euro Stoxx 50", "S&P 500"],
    "focus": ["margins", "debt", "new markets"],
    "product": ["LaserJet 4200", "CRM Mobile", "VPN client"],
    "code": ["E-4711", "0x80070005", "HTTP 502"],
    "system": ["Windows 11", "macOS 15", "Ubuntu 24.04"],
    "contact": ["mia@example.org", "ops@example.com", "li.wei@example.cn"],
    "role": ["data engineer", "nurse", "site manager"],
    "language": ["English", "Spanish", "Polish"],
    "team": ["Atlas", "Blue Harbour", "Quality"],
    "wish": ["a view of the sea", "no stairs", "vegan food", "quiet rooms"],
}
UNITS = {"eur": "EUR", "usd": "USD", "%": "%", "km": "km"}
LANGUAGES = {
    "en": {
        "request": "Hello, I would like you to help me with this: {topic}. It is about {told}.",
        "one": "That would be {values}, I think.",
        "refusal": "The rest I'd rather not say.",
        "yes": "yes",
        "no": "no",
        "and": " and ",
        "units": {"day": "days", "month": "months", "hour": "hours"},
        "topics": ["a trip", "a car insurance", "a report on shares", "a fault", "a vacancy"],
    },
    "de": {
        "request": "Guten Tag, ich hätte gern Ihre Hilfe bei {topic}. Es geht um {told}.",
        "one": "Das wäre dann {values}, denke ich.",
        "refusal": "Den Rest möchte ich nicht sagen.",
        "yes": "ja",
        "no": "nein",
        "and": " und ",
        "units": {"day": "Tage", "month": "Monate", "hour": "Stunden"},
        "topics": [
            *("einer Reise", "einer Versicherung für das Auto", "einem Bericht über Aktien"),
            *("einer Störung", "einer freien Stelle"),
        ],
    },
    "es": {
        "request": "Buenos días, quisiera que me ayude con {topic}. Se trata de {told}.",
        "one": "Pues sería {values}, creo yo.",
        "refusal": "Lo demás prefiero no decirlo.",
        "yes": "sí",
        "no": "no",
        "and": " y ",
        "units": {"day": "días", "month": "meses", "hour": "horas"},
        "topics": [
            *("un viaje", "un seguro para el coche", "un informe sobre acciones"),
            *("una avería", "un puesto que está libre"),
        ],
    },
    "fr": {
        "request": "Bonjour, je voudrais votre aide avec {topic}. Il est question de {told}.",
        "one": "Ce serait {values}, je pense.",
        "refusal": "Pour le reste, je préfère ne pas le dire.",
        "yes": "oui",
        "no": "non",
        "and": " et ",
        "units": {"day": "jours", "month": "mois", "hour": "heures"},
        "topics": [
            *("un voyage", "une assurance pour la voiture", "un rapport sur des actions"),
            *("une panne", "un poste qui est libre"),
        ],
    },
    "zh": {
        "request": "您好，我想请您帮忙处理{topic}，关于 {told}。",
        "one": "应当就是 {values} 吧。",
        "refusal": "其余的我不想说。",
        "yes": "是",
        "no": "否",
        "and": " 和 ",
        "units": {"day": "天", "month": "个月", "hour": "小时"},
        "topics": ["一次旅行", "汽车保险", "股票报告", "一个故障", "招聘"],
    },
}
MONTHS = {
    "en": ["January", "March", "May", "June", "August", "October"],
    "de": ["Januar", "März", "Mai", "Juni", "August", "Oktober"],
    "es": ["enero", "marzo", "mayo", "junio", "agosto", "octubre"],
    "fr": ["janvier", "mars", "mai", "juin", "août", "octobre"],
}
NUMBERS = (1, 3, 5, 6, 8, 10)
"""Of the months above."""


@dataclass(frozen=True)
class Case:
    """One request, and what is to come of it."""

    name: str
    field: str
    language: str
    request: str
    truth: dict[str, Any]
    """Every value, typed."""
    phrases: dict[str, str]
    """And as it is said."""
    stated: frozenset[str]
    """What the request states."""
    secret: frozenset[str]
    """What is not told."""
    is_content: bool
    """Whether what is essential would do."""

    @property
    def needs(self) -> list[DataNeed]:
        """What is needed."""
        return FIELDS[self.field]

    def answer(self, names: tuple[str, ...] | list[str], extra: str | None = None) -> str:
        """Return what is said when asked for these; *extra* is told unasked."""
        words = LANGUAGES[self.language]
        told = [name for name in names if name not in self.secret]
        told += [extra] if extra and extra not in told and extra not in self.secret else []
        if not told:
            return str(words["refusal"])
        values = ", ".join(self.phrases[name] for name in told[:-1])
        last = self.phrases[told[-1]]
        said = str(words["one"]).format(values=f"{values}{words['and']}{last}" if values else last)
        return said if len(told) >= len(names) else f"{said} {words['refusal']}"


def cases(count: int, seed: int) -> list[Case]:
    """Return the requests."""
    rng = random.Random(seed)
    return [_case(rng, n) for n in range(count)]


def _case(rng: random.Random, n: int) -> Case:
    fields, languages = [*FIELDS], [*LANGUAGES]
    field, language = fields[n % 5], languages[n // 5 % 5]
    drawn = {need.name: _drawn(rng, need, language) for need in FIELDS[field]}
    truth = {name: value for name, (value, _) in drawn.items()}
    phrases = {name: phrase for name, (_, phrase) in drawn.items()}
    said = [need.name for need in FIELDS[field] if need.kind is not bool]
    stated = rng.sample(said, rng.choice([0, 1, 2, 3]))
    others = [name for name in drawn if name not in stated]
    secret = rng.sample(others, rng.choice([0, 0, 1]))
    words: Any = LANGUAGES[language]
    told = str(words["and"]).join(phrases[name] for name in stated) or "…"
    request = str(words["request"]).format(topic=words["topics"][n % 5], told=told)
    return Case(
        f"{n} {field} {language}",
        field,
        language,
        request,
        truth,
        phrases,
        frozenset(stated),
        frozenset(secret),
        rng.random() < 0.4,
    )


def _drawn(rng: random.Random, need: DataNeed, language: str) -> tuple[Any, str]:
    """Draw a value, and how it is said."""
    words: Any = LANGUAGES[language]
    if need.kind is bool:
        value: Any = rng.random() < 0.5
        return value, str(words["yes" if value else "no"])
    if need.kind is date:
        return _day(rng, language)
    if need.kind is int:
        value = rng.randint(2, 40) * (500 if need.unit == "km" else 1)
        unit = words["units"].get(need.unit, UNITS.get(need.unit or "", ""))
        return value, f"{_grouped(value, language)} {unit}".strip()
    if need.kind is float:
        value = float(rng.randint(3, 30) if need.unit == "%" else rng.randint(4, 90) * 250)
        return value, f"{_grouped(int(value), language)} {UNITS[str(need.unit)]}"
    if choices := get_args(need.kind):
        value = rng.choice(choices)
        return value, value
    value = rng.choice(TEXTS.get(need.name, PLACES))
    return value, value


def _grouped(value: int, language: str) -> str:
    text = f"{value:,}"
    marks = {"de": ".", "es": ".", "fr": " "}
    return text.replace(",", marks.get(language, ","))


def _day(rng: random.Random, language: str) -> tuple[date, str]:
    at = rng.randrange(6)
    day = date(2026, NUMBERS[at], rng.randint(1, 28))
    if language == "zh":
        return day, f"{day.year}年{day.month}月{day.day}日"
    month = MONTHS[language][at]
    form = {"en": f"{day.day} {month} 2026", "de": f"{day.day}. {month} 2026"}
    form |= {"es": f"{day.day} de {month} de 2026", "fr": f"{day.day} {month} 2026"}
    return day, form[language]
