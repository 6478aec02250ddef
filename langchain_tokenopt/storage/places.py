"""Where something is kept, as a user says it: in a file, or in a PostgreSQL database.

The one reader of that, for accounts, ledgers and caches. What cannot be read is refused without
being repeated: it may hold a password.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import quote

from langchain_tokenopt.core.errors import PlaceError

__all__ = ["database_of", "file_of", "in_one_line", "label_of", "place_of"]

_URL: Final = re.compile(r"([a-z][a-z0-9+.-]+):(//)?(.*)", re.IGNORECASE | re.DOTALL)
_POSTGRES: Final = re.compile(r"postgres(ql)?(\+\w+)?", re.IGNORECASE)
_WORDS: Final = re.compile(
    r"(\w+\s*=.*\s)?(host|hostaddr|dbname|user|password|service)\s*=", re.DOTALL
)
"""How libpq's other notation begins: ``host=db.example dbname=tokens``."""

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def place_of(place: str | Path) -> Path | str:
    """Return the path of a file, or the URL of a database as ``postgresql://...``.

    Args:
        place: A file, ``sqlite:///file`` or ``postgresql://user@host/database``; what SQLAlchemy
            and others write, such as ``postgres://`` and ``postgresql+psycopg://``, is the same.

    Raises:
        PlaceError: It is a URL of something else.

    Example:
        >>> place_of("postgres+psycopg://ann@db.example/tokens")
        'postgresql://ann@db.example/tokens'
        >>> place_of("sqlite:///tokens.db").name
        'tokens.db'
        >>> place_of("mysql://ann:secret@db.example/tokens")
        Traceback (most recent call last):
        ...
        langchain_tokenopt.core.errors.PlaceError: a place is a file, sqlite:///file or \
postgresql://user@host/database; mysql:// is none of them.
    """
    if not isinstance(place, str):
        return Path(place)
    text = place.strip()
    if "\0" in text:
        raise _refused("a name with a NUL in it")
    if _WORDS.match(text):
        raise _refused("host=... dbname=...")
    found = _URL.fullmatch(text)
    if found is None:
        if "://" in text:
            raise _refused("this")
        return Path(place)
    scheme, slashes, rest = found.groups()
    is_postgres = _POSTGRES.fullmatch(scheme) is not None
    if is_postgres and slashes:
        return f"postgresql://{rest}"
    if not is_postgres and not slashes:  # a file may have a colon in its name
        return Path(place)
    if scheme.lower() == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return Path(rest[1:])
    raise _refused(f"{scheme}:{slashes or ''}")


def file_of(place: str | Path) -> Path:
    """Return the path of what is kept in files alone.

    Raises:
        PlaceError: It is a URL of a database.

    Example:
        >>> file_of("postgresql://ann:secret@db.example/tokens")
        Traceback (most recent call last):
        ...
        langchain_tokenopt.core.errors.PlaceError: this is kept in files, not in a database: give \
the path of one.
    """
    found = place_of(place)
    if isinstance(found, Path):
        return found
    raise PlaceError("this is kept in files, not in a database: give the path of one.")


def database_of(place: str) -> str:
    """Return the URL of what several machines share.

    Raises:
        PlaceError: It is a file: each machine would have one of its own.

    Example:
        >>> database_of("tokens-db")
        Traceback (most recent call last):
        ...
        langchain_tokenopt.core.errors.PlaceError: several machines share a database, \
postgresql://user@host/database, not a file, which each would have for itself.
    """
    found = place_of(place)
    if isinstance(found, str):
        return found
    raise PlaceError(
        "several machines share a database, postgresql://user@host/database, not a file, which "
        "each would have for itself."
    )


def label_of(place: str | Path) -> str:
    """Return what may be shown of a place, wherever a password may stand in it.

    Example:
        >>> label_of("tokens.db"), label_of("postgresql://ann:s/cr@t@db.example/tokens?password=s")
        ('tokens.db', 'postgresql://db.example/tokens')
    """
    try:
        found = place_of(place)
    except PlaceError:
        found = str(place)
    if isinstance(found, Path):
        return str(place)
    scheme, colon, rest = found.partition(":")
    before = rest.rpartition("@")[2].partition("?")[0].lstrip("/")
    return in_one_line(f"{scheme}://{before}") if colon else "a database"


def in_one_line(text: str) -> str:
    """Return what may be shown within a message: control characters and line ends as in a URL.

    Example:
        >>> in_one_line("db" + chr(10) + "x")
        'db%0Ax'
    """
    return _CONTROL.sub(lambda found: quote(found[0]), text)


def _refused(beginning: str) -> PlaceError:
    return PlaceError(
        f"a place is a file, sqlite:///file or postgresql://user@host/database; {beginning} is "
        f"none of them."
    )
