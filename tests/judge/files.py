"""Questions about real files, which are read where they lie, and about logs made from a seed.

A row is ``{"id", "kind", "root", "path", "sha256", "question", "answers", "line"}``. ``root`` is
``site`` (site-packages), ``usr`` or ``log``; the version in a path is ``*``. ``sha256`` is the
beginning of the digest: a file that is missing or changed is skipped, and named. An answer is a
piece of the file; white space and letter case do not count.
"""

from __future__ import annotations

import hashlib
import json
import random
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SITE = Path(sysconfig.get_paths()["purelib"])


def squeezed(text: str) -> str:
    """Without white space, in lower case: what a lossless rewriting may not change."""
    return "".join(text.split()).lower()


def kept(text: str, answers: list[str]) -> bool:
    """Whether an accepted answer stands in *text*."""
    found = squeezed(text)
    return any(squeezed(answer) in found for answer in answers)


def read(root: str, path: str) -> str | None:
    """Return the text of a file, or None if it is not on this machine."""
    if root == "log":
        kind, seed = path.split(":")
        return LOGS[kind](random.Random(int(seed)))
    folder = {"site": SITE, "usr": Path("/usr")}[root]
    found = sorted(folder.glob(path))
    return found[0].read_text(encoding="utf-8", errors="replace") if found else None


def digest(text: str) -> str:
    """Return the beginning of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cases(rows: Path, skipped: list[str] | None = None) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each row with the text of its file; the paths left out are added to *skipped*."""
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = read(row["root"], row["path"])
        if text is None or digest(text) != row["sha256"]:
            if skipped is not None:
                skipped.append(f"{row['path']}: {'missing' if text is None else 'changed'}")
            continue
        yield row, text


# --- logs ----------------------------------------------------------------------------------------


def _clock(rng: random.Random, start: int) -> Iterator[str]:
    seconds = start
    while True:
        seconds += rng.randint(1, 40)
        yield f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def access_log(rng: random.Random) -> str:
    """A web server's combined log; one request of a kind that occurs once."""
    clock, rows = _clock(rng, 30_000), []
    pages = ("/", "/shop", "/cart", "/about", "/img/logo.png", "/api/items", "/login")
    for _ in range(260):
        ip = f"10.{rng.randint(0, 20)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"
        rows.append(
            f'{ip} - - [14/May/2025:{next(clock)} +0000] "GET {rng.choice(pages)} HTTP/1.1" '
            f'200 {rng.randint(200, 9000)} "-" "Mozilla/5.0"'
        )
    rows[171] = (
        f'10.99.7.{rng.randint(1, 254)} - - [14/May/2025:{next(clock)} +0000] "DELETE '
        f'/api/items/{rng.randint(1000, 9999)} HTTP/1.1" 403 512 "-" "curl/8.4"'
    )
    rows[64] = (
        f'10.1.2.3 - maria [14/May/2025:{next(clock)} +0000] "POST /checkout HTTP/1.1" '
        f'502 {rng.randint(30_000, 39_999)} "-" "Mozilla/5.0"'
    )
    rows[222] = (
        f'10.8.8.8 - - [14/May/2025:{next(clock)} +0000] "GET /robots.txt HTTP/1.1" 200 67 "-" '
        f'"Crawler/{rng.randint(2, 9)}.{rng.randint(10, 99)}"'
    )
    return "\n".join(rows) + "\n"


def service_log(rng: random.Random) -> str:
    """A service's own log with levels, loggers and a traceback."""
    clock, rows = _clock(rng, 3_600), []
    calm = (
        "INFO  worker.pool - job {n} finished in {m} ms",
        "INFO  http.server - 200 GET /health {m} ms",
        "DEBUG cache.local - hit key=user:{n}",
        "INFO  worker.pool - job {n} picked up",
    )
    for _ in range(240):
        text = rng.choice(calm).format(n=rng.randint(1000, 9999), m=rng.randint(2, 900))
        rows.append(f"2025-02-11 {next(clock)} {text}")
    port = rng.randint(20_000, 60_000)
    rows[40] = f"2025-02-11 {next(clock)} INFO  main - listening on 0.0.0.0:{port}"
    rows[133] = (
        f"2025-02-11 {next(clock)} ERROR billing.sync - could not post invoice "
        f"INV-{rng.randint(10_000, 99_999)}\nTraceback (most recent call last):\n"
        f'  File "/srv/app/billing/sync.py", line {rng.randint(50, 300)}, in post\n'
        "    response.raise_for_status()\nTimeoutError: the ledger did not answer in 30 s"
    )
    rows[201] = (
        f"2025-02-11 {next(clock)} WARN  disk.watch - volume /data is {rng.randint(91, 98)} % full"
    )
    return "\n".join(rows) + "\n"


def json_log(rng: random.Random) -> str:
    """Structured logging: a JSON object a line."""
    clock = _clock(rng, 50_000)
    rows: list[dict[str, Any]] = []
    rows.extend(
        {
            "ts": f"2025-07-02T{next(clock)}Z",
            "level": "info",
            "msg": rng.choice(("order placed", "order packed", "order shipped")),
            "order": rng.randint(100_000, 999_999),
            "ms": rng.randint(3, 400),
        }
        for _ in range(150)
    )
    rows[33] |= {"level": "warn", "msg": "stock is low", "sku": f"BK-{rng.randint(100, 999)}"}
    rows[90] |= {"level": "error", "msg": "card declined", "customer": f"c{rng.randint(1, 9)}f2"}
    rows[121] |= {"msg": "address corrected", "zip": str(rng.randint(10_000, 99_999))}
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def build_log(rng: random.Random) -> str:
    """The output of a build server with groups, warnings, a failing test and a summary."""
    rows = [f"##[group]Set up runner {rng.randint(2, 9)}.{rng.randint(100, 400)}.0"]
    rows += [f"Downloading wheel {n}/64 ({rng.randint(20, 900)} kB)" for n in range(1, 65)]
    rows += ["##[endgroup]", "##[group]Run tests"]
    for n in range(110):
        rows.append(f"tests/test_{rng.choice('abcdefgh')}{n}.py " + "." * rng.randint(1, 20))
    rows[100] = f"tests/test_parser.py ..F  expected {rng.randint(10, 99)} tokens, got 7"
    rows[140] = f"warning: pool.recycle is deprecated since {rng.randint(3, 6)}.{rng.randint(0, 9)}"
    rows += [f"1 failed, {rng.randint(700, 900)} passed in {rng.randint(30, 90)}.4s", "exit code 1"]
    return "\n".join(rows) + "\n"


LOGS: dict[str, Callable[[random.Random], str]] = {
    "access": access_log,
    "service": service_log,
    "json": json_log,
    "build": build_log,
}
