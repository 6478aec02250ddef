"""One fact among many that are alike, or that contradict it: the half to build on."""

from __future__ import annotations

import random

from tests.judge.facts import Fact

_R = random.Random(31)
_NAMES = ("Ortega", "Lindqvist", "Mbeki", "Tanaka", "Novak", "Petrov", "Silva", "Haddad", "Weber")
_CALM = {
    "hospital": (
        "Visitors come in through the west door.",
        "The canteen on the second floor serves soup at noon.",
        "Flowers are not allowed in intensive care.",
        "The hospital has a garden with old lime trees.",
        "Parking is free for the first hour.",
    ),
    "harbour": (
        "The quay was built from grey granite.",
        "Gulls sit on the cranes in the morning.",
        "A small café stands next to the pilot house.",
        "Fog is common in November.",
        "The lighthouse is painted in red and white.",
    ),
    "school": (
        "The school stands on a hill above the river.",
        "Pupils bring their own lunch.",
        "The choir sings in the hall every winter.",
        "The library has a corner for comics.",
        "Bicycles are parked behind the gym.",
    ),
    "football": (
        "The stadium lies by the canal.",
        "Fans meet in the old brewery before the match.",
        "The club's colours are green and black.",
        "The grass was renewed in summer.",
        "A brass band plays at half-time.",
    ),
    "farm": (
        "The farm lies in a wide valley.",
        "Two dogs guard the yard.",
        "The barn was painted last spring.",
        "Apples grow along the road.",
        "The well never ran dry.",
    ),
    "museum": (
        "The building was once a customs house.",
        "A glass roof covers the courtyard.",
        "Guides wear blue jackets.",
        "The shop sells prints and pencils.",
        "Bags have to be left in a locker.",
    ),
    "city": (
        "The town hall has a clock with four faces.",
        "A market is held on the square.",
        "The mayor plays the cello.",
        "Trams run past the theatre.",
        "The archive moved to the old mill.",
    ),
    "railway": (
        "The line follows the river for most of its way.",
        "Tickets are sold in the kiosk.",
        "The waiting room has a stove.",
        "Goods trains pass at night.",
        "The viaduct has eleven arches.",
    ),
}


def _pad(field: str, sentences: list[str], times: int = 4) -> str:
    """Spread sentences in calm ones of the field, without blank lines."""
    calm = [s for _ in range(times) for s in _R.sample(_CALM[field], len(_CALM[field]))]
    step = max(1, len(calm) // (len(sentences) + 1))
    for n, sentence in enumerate(sentences):
        calm.insert(min(len(calm), step * (n + 1) + n), sentence)
    return " ".join(calm)


def _alike(field: str, number: int, rows: list[str], at: int, question: str, right: str) -> Fact:
    assert right in rows[at]
    return Fact(f"b-alike-{number}", field, "alike", "\n".join(rows), question, right)


def _patients() -> Fact:
    rows = [
        f"Bed {n}: {_R.choice(_NAMES)}, admitted on 2 March, blood group {_R.choice(('A', 'B', '0'))}, "
        f"pulse {60 + n}."
        for n in range(1, 61)
    ]
    return _alike(
        "hospital", 1, rows, 36, "What is the pulse of the patient in bed 37?", "pulse 97"
    )


def _ships() -> Fact:
    rows = [
        f"vessel=MV-{4000 + 7 * n} berth={n % 9 + 1} cargo={_R.choice(('grain', 'ore', 'cars'))} "
        f"draught={5 + n / 10:.1f}m"
        for n in range(60)
    ]
    return _alike("harbour", 2, rows, 22, "What draught does MV-4154 have?", "draught=7.2m")


def _pupils() -> Fact:
    rows = [
        f"- {_R.choice(_NAMES)} {chr(65 + n % 26)}{n}: class {n % 6 + 5}, locker {300 + n}, bus line {n % 7}"
        for n in range(60)
    ]
    return _alike(
        "school", 3, rows, 44, "Which locker belongs to the pupil marked S44?", "locker 344"
    )


def _players() -> Fact:
    rows = ["player,shirt,goals,minutes"] + [
        f"{_R.choice(_NAMES)}_{n},{n},{n % 13},{900 + 11 * n}" for n in range(1, 61)
    ]
    row = rows[40]
    return _alike("football", 4, rows, 40, "How many minutes did shirt 40 play?", row)


def _fields() -> Fact:
    rows = [
        f"2024-{n % 12 + 1:02}-{n % 28 + 1:02} field {n + 100}: {_R.choice(('wheat', 'barley', 'rye'))}, "
        f"{30 + n} dt per hectare"
        for n in range(60)
    ]
    return _alike("farm", 5, rows, 51, "How much did field 151 yield?", "81 dt per hectare")


def _hosts() -> Fact:
    rows = [
        f"10:{n:02}:07 sensor host{n} 192.168.4.{n + 20} humidity {40 + n % 9}.{n % 10} %"
        for n in range(60)
    ]
    return _alike("museum", 6, rows, 40, "Which humidity does host40 report?", "humidity 44.0 %")


def _streets() -> Fact:
    rows = [
        f"| {n} | {_R.choice(_NAMES)} Street | {1900 + n} | permit P-{7000 + n * 3} |"
        for n in range(60)
    ]
    rows = ["| no | street | built | permit |", "|---|---|---|---|", *rows]
    return _alike(
        "city", 7, rows, 59, "In which year was the house with permit P-7171 built?", "| 1957 |"
    )


def _years(field: str, number: int, what: str, prices: dict[int, str], ask: str, year: int) -> Fact:
    documents = [
        (
            f"{what} {each}",
            _pad(field, [f"The fee for a day is {price}."], 1),
        )
        for each, price in prices.items()
    ]
    wrong = tuple(price for each, price in prices.items() if price != prices[year])
    return Fact(f"b-year-{number}", field, "yearly", documents, ask, prices[year], wrong)


def _corrected(field: str, number: int, said: list[str], ask: str, right: str, *wrong: str) -> Fact:
    return Fact(f"b-fix-{number}", field, "corrected", _pad(field, said), ask, right, wrong)


CASES: tuple[Fact, ...] = (
    _patients(),
    _ships(),
    _pupils(),
    _players(),
    _fields(),
    _hosts(),
    _streets(),
    _years(
        "museum",
        1,
        "Price list",
        {2021: "5 EUR", 2022: "6 EUR", 2023: "8 EUR", 2024: "9 EUR"},
        "What is the fee for a day in 2023?",
        2023,
    ),
    _years(
        "railway",
        2,
        "Tariff",
        {2019: "14 crowns", 2020: "15 crowns", 2021: "17 crowns"},
        "How much did a day cost in 2019?",
        2019,
    ),
    _years(
        "harbour",
        3,
        "Mooring charges of",
        {2018: "30 pounds", 2020: "34 pounds", 2022: "41 pounds"},
        "What is the current fee for a day?",
        2022,
    ),
    Fact(
        "b-date-1",
        "school",
        "dated",
        "\n\n".join(
            (
                "Letter of 3 May 2022\n"
                + _pad("school", ["The head of the school is Mrs Olsen."], 1),
                "Letter of 9 September 2024\n"
                + _pad("school", ["The head of the school is Mr Adeyemi."], 1),
                "Letter of 1 June 2023\n"
                + _pad("school", ["The head of the school is Mrs Brandt."], 1),
            )
        ),
        "Who is the head of the school now?",
        "Mr Adeyemi",
        ("Mrs Olsen", "Mrs Brandt"),
    ),
    Fact(
        "b-date-2",
        "football",
        "dated",
        _pad(
            "football",
            [
                "As of 2 January the captain is Lopez.",
                "As of 14 April the captain is Sorensen.",
                "As of 20 February the captain is Ndiaye.",
            ],
        ),
        "Who is captain of the team?",
        "Sorensen",
        ("Lopez", "Ndiaye"),
    ),
    Fact(
        "b-date-3",
        "city",
        "dated",
        "\n".join(
            f"[{day} 2025] clerk: the council meets in {room}."
            for day, room in (
                ("04 Feb", "the red hall"),
                ("11 Feb", "the mill"),
                ("18 Feb", "the town hall"),
                ("25 Feb", "the fire station"),
            )
        )
        + "\n"
        + "\n".join(f"[0{n} Mar 2025] visitor: {s}" for n, s in enumerate(_CALM["city"], 1)),
        "Where did the council meet on 11 February?",
        "the mill",
        ("the red hall", "the town hall", "the fire station"),
        (24, 40, 60, 90),
    ),
    _corrected(
        "hospital",
        1,
        [
            "The dose is 40 mg a day.",
            "Correction: the dose is 25 mg a day, the figure above is wrong.",
        ],
        "What is the dose?",
        "25 mg",
        "40 mg",
    ),
    _corrected(
        "farm",
        2,
        ["We sow on 12 April.", "In the end we changed that and sow on 3 May instead."],
        "When do we sow?",
        "3 May",
        "12 April",
    ),
    _corrected(
        "railway",
        3,
        [
            "The night train leaves from platform 4.",
            "Erratum: it is platform 9 from which the night train leaves.",
        ],
        "From which platform does the night train leave?",
        "platform 9",
        "platform 4",
    ),
    _corrected(
        "museum",
        4,
        [
            "The vase was first dated to 1650.",
            "A later study no longer holds that view and dates the vase to 1710.",
        ],
        "From what year is the vase?",
        "1710",
        "1650",
    ),
    _corrected(
        "city",
        5,
        [
            "The bridge closes on Monday.",
            "Update: not on Monday but on Thursday the bridge closes.",
        ],
        "When does the bridge close?",
        "Thursday",
    ),
    _corrected(
        "harbour",
        6,
        ["Pilot Jansen takes the tanker in.", "Scrap that, pilot Okoro takes the tanker in."],
        "Which pilot takes the tanker in?",
        "Okoro",
        "Jansen",
    ),
    _corrected(
        "school",
        7,
        [
            "The trip goes to the salt mine.",
            "Since the mine is flooded, the trip now goes to the castle.",
        ],
        "Where does the trip go?",
        "the castle",
        "the salt mine",
    ),
)
