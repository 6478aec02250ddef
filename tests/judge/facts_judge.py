"""One fact among many that are alike, or that contradict it: the half to judge by."""

from __future__ import annotations

import json
import random

from tests.judge.facts import Fact

_R = random.Random(77)
_WHO = ("Abara", "Castell", "Dvorak", "Eklund", "Farouk", "Giordano", "Hwang", "Iversen", "Kaya")
_CALM = {
    "airline": (
        "The lounge overlooks the runway.",
        "Cabin crew wear dark green.",
        "Meals are prepared in the north kitchen.",
        "The first aircraft was a mail plane.",
        "Seats are made of recycled leather.",
    ),
    "library": (
        "The reading room has forty lamps.",
        "A cat lives in the basement.",
        "Newspapers hang on wooden rods.",
        "The stairs creak in winter.",
        "School classes visit in autumn.",
    ),
    "brewery": (
        "The copper kettles are from 1920.",
        "Horses pull the wagon at the fair.",
        "The malt smells of bread.",
        "The cellar is cut into the rock.",
        "Guests may taste two kinds.",
    ),
    "power plant": (
        "The cooling tower can be seen from the coast.",
        "A fence surrounds the site.",
        "Herons nest by the outlet.",
        "The control room has no windows.",
        "School groups come by bus.",
    ),
    "hotel": (
        "The lobby smells of cedar.",
        "The lift has a folding gate.",
        "Breakfast is served under the arcade.",
        "A pianist plays on Fridays.",
        "The curtains are heavy and red.",
    ),
    "laboratory": (
        "The corridor is painted in yellow.",
        "Coffee is not allowed near the benches.",
        "The centrifuge stands in a niche.",
        "Students wash the glassware.",
        "The windows face the park.",
    ),
    "theatre": (
        "The curtain was woven in Lyon.",
        "The bar opens an hour before the play.",
        "Swallows nest under the roof.",
        "The stage slopes a little.",
        "Costumes are kept in the attic.",
    ),
    "forestry": (
        "The path runs along a brook.",
        "Deer are seen at dusk.",
        "The hut has a tin roof.",
        "Mushrooms grow near the old oak.",
        "Snow lies until April.",
    ),
}


def _pad(field: str, sentences: list[str], times: int = 4) -> str:
    calm = [s for _ in range(times) for s in _R.sample(_CALM[field], len(_CALM[field]))]
    step = max(1, len(calm) // (len(sentences) + 1))
    for n, sentence in enumerate(sentences):
        calm.insert(min(len(calm), step * (n + 1) + n), sentence)
    return " ".join(calm)


def _alike(
    field: str, n: int, rows: list[str], question: str, right: str, glue: str = "\n"
) -> Fact:
    assert sum(right in row for row in rows) == 1, (n, right)
    return Fact(f"j-alike-{n}", field, "alike", glue.join(rows), question, right)


def _seats() -> Fact:
    rows = [
        f"Booking {_R.choice('QXZ')}{n:03}: {_R.choice(_WHO)}, seat {n % 30 + 1}{'ABCDEF'[n % 6]}, bag {2000 + n}"
        for n in range(70)
    ]
    code = rows[45].split(":")[0].split()[1]
    return _alike("airline", 1, rows, f"Which bag goes with booking {code}?", "bag 2045")


def _books() -> Fact:
    rows = [
        f"{_R.choice(_WHO)}, {'Winter' if n % 2 else 'Summer'} Tales vol. {n}: shelf {n % 9}-{500 + n * 2}, lent"
        for n in range(60)
    ]
    return _alike("library", 2, rows, "On which shelf is volume 33 of the Tales?", "shelf 6-566")


def _tanks() -> Fact:
    rows = [
        f"tank{n}\t{8 + n % 5}.{n % 10} C\t{_R.choice(_WHO)}\tpH {4 + n / 100:.2f}"
        for n in range(60)
    ]
    rows.insert(0, "tank\ttemperature\tbrewer\tacidity")
    return _alike("brewery", 3, rows, "How acid is tank7?", "pH 4.07")


def _valves() -> Fact:
    rows = [
        f"{_R.randint(1, 28):02}/0{n % 9 + 1}/2025 valve V-{n + 10}-A checked by {_R.choice(_WHO)}, torque {210 + n} Nm."
        for n in range(60)
    ]
    return _alike("power plant", 4, rows, "What torque was found at V-38-A?", "torque 238 Nm", " ")


def _rooms() -> Fact:
    rows = [
        {
            "room": 100 + n,
            "guest": _R.choice(_WHO),
            "until": f"{n % 28 + 1} June",
            "safe": 40000 + 17 * n,
        }
        for n in range(50)
    ]
    text = "\n".join(json.dumps(row) for row in rows)
    right = str(40000 + 17 * 31)
    return Fact("j-alike-5", "hotel", "alike", text, "Which code has the safe in room 131?", right)


def _samples() -> Fact:
    rows = [
        f"Sample {n} of {_R.choice(_WHO)} (rack {n % 8}, address 10.7.{n}.4) weighs {n * 3 + 11} mg"
        for n in range(1, 61)
    ]
    return _alike(
        "laboratory", 6, rows, "How heavy is the sample with the address 10.7.29.4?", "weighs 98 mg"
    )


def _trees() -> Fact:
    rows = [
        f"{n}. {'oak' if n % 3 else 'beech'} at marker M{n:02}, girth {100 + n * 4} cm, felled {1960 + n}"
        for n in range(1, 61)
    ]
    return _alike(
        "forestry", 7, rows, "How thick was the tree that was felled in 1988?", "girth 212 cm"
    )


def _yearly(
    field: str, n: int, titles: list[tuple[str, str]], line: str, ask: str, right: str
) -> Fact:
    documents = [(title, _pad(field, [line.format(value)], 1)) for title, value in titles]
    wrong = tuple(value for _, value in titles if value != right)
    return Fact(f"j-year-{n}", field, "yearly", documents, ask, right, wrong)


def _fixed(field: str, n: int, said: list[str], ask: str, right: str, *wrong: str) -> Fact:
    return Fact(f"j-fix-{n}", field, "corrected", _pad(field, said), ask, right, wrong)


CASES: tuple[Fact, ...] = (
    _seats(),
    _books(),
    _tanks(),
    _valves(),
    _rooms(),
    _samples(),
    _trees(),
    _yearly(
        "theatre",
        1,
        [
            ("Season 2020/21", "22 francs"),
            ("Season 2021/22", "25 francs"),
            ("Season 2022/23", "28 francs"),
        ],
        "A seat in the stalls costs {}.",
        "What does a seat in the stalls cost in the season 2021/22?",
        "25 francs",
    ),
    _yearly(
        "hotel",
        2,
        [
            ("Rates of 2025", "140 dollars"),
            ("Rates of 2024", "125 dollars"),
            ("Rates of 2023", "118 dollars"),
        ],
        "A double room is {} a night.",
        "How much was a double room in 2023?",
        "118 dollars",
    ),
    _yearly(
        "power plant",
        3,
        [
            ("Report for May", "311 MW"),
            ("Report for June", "298 MW"),
            ("Report for July", "352 MW"),
        ],
        "Mean output was {}.",
        "What was the mean output in June?",
        "298 MW",
    ),
    Fact(
        "j-date-1",
        "library",
        "dated",
        "\n\n".join(
            f"Notice, {day}\n" + _pad("library", [f"The library closes at {hour}."], 1)
            for day, hour in (
                ("12 January 2023", "six"),
                ("30 October 2024", "eight"),
                ("5 March 2024", "seven"),
            )
        ),
        "When does the library close nowadays?",
        "closes at eight",
        ("closes at six", "closes at seven"),
    ),
    Fact(
        "j-date-2",
        "forestry",
        "dated",
        _pad(
            "forestry",
            [
                "In 2015 the ranger was Iversen.",
                "Since 2022 the ranger has been Kaya.",
                "From 2018 to 2021 the ranger was Hwang.",
            ],
        ),
        "Who is the ranger today?",
        "Kaya",
        ("Iversen", "Hwang"),
    ),
    Fact(
        "j-date-3",
        "laboratory",
        "dated",
        "\n".join(
            f"2025-0{month}-10 {_R.choice(_WHO)}: the freezer is set to {degrees} degrees"
            for month, degrees in ((2, "-70"), (3, "-75"), (4, "-65"), (6, "-80"))
        )
        + "\n"
        + "\n".join(f"2025-05-0{n} Eklund: {s}" for n, s in enumerate(_CALM["laboratory"], 1)),
        "What was the freezer set to in March 2025?",
        "-75 degrees",
        ("-70 degrees", "-65 degrees", "-80 degrees"),
        (24, 40, 60, 90),
    ),
    _fixed(
        "airline",
        1,
        ["Flight 88 departs from gate C14.", "Gate change: flight 88 departs from gate B2."],
        "From which gate does flight 88 depart?",
        "gate B2",
        "gate C14",
    ),
    _fixed(
        "brewery",
        2,
        [
            "We bottle the dark beer on 4 July.",
            "That date cannot be kept; we bottle the dark beer on 18 July.",
        ],
        "When is the dark beer bottled?",
        "18 July",
        "4 July",
    ),
    _fixed(
        "power plant",
        3,
        [
            "The pump failed because of sand.",
            "After the inspection the cause turned out to be a cracked seal, so the pump did not fail because of dirt.",
        ],
        "Why did the pump fail?",
        "a cracked seal",
        "because of sand",
    ),
    _fixed(
        "theatre",
        4,
        [
            "Ms Giordano plays the queen.",
            "Ms Giordano is ill; in her place Ms Hwang plays the queen.",
        ],
        "Who plays the queen?",
        "Ms Hwang plays",
    ),
    _fixed(
        "laboratory",
        5,
        [
            "The boiling point was given as 81 degrees.",
            "This was a misreading, the boiling point is 78 degrees.",
        ],
        "What is the boiling point?",
        "78 degrees",
        "81 degrees",
    ),
    _fixed(
        "hotel",
        6,
        ["The pool opens at nine.", "(Edit: the pool opens at seven, sorry for the slip.)"],
        "At what time does the pool open?",
        "at seven",
        "at nine",
    ),
    _fixed(
        "forestry",
        7,
        [
            "The forest office wants to fell 400 trees.",
            "It has withdrawn this number and wants to fell 150 trees.",
        ],
        "How many trees does the office want to fell?",
        "150 trees",
        "400 trees",
    ),
)
