"""What agents tell each other again and again, in fewer tokens and with the same meaning."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticOmit

from langchain_tokenopt.compress.message_forms import FORMS
from langchain_tokenopt.compress.message_notation import (
    NOTHING_KNOWN,
    known_texts,
    read_fields,
    read_json,
    read_records,
    write_fields,
    write_json,
    write_records,
)
from langchain_tokenopt.compress.message_order import in_one_order
from langchain_tokenopt.compress.proposed_forms import ProposedForm, proposed_forms
from langchain_tokenopt.core.argument_checks import check_whole
from langchain_tokenopt.core.errors import BudgetInfeasibleError, TokenOptWarning

if TYPE_CHECKING:
    from langchain_tokenopt.compress.handover import Handover

__all__ = ["MessageTemplates"]

Model = TypeVar("Model", bound=BaseModel)

_NAME: Final = re.compile(r"[A-Za-z][\w-]{0,39}", re.ASCII)
_HEADER: Final = re.compile(
    r"([A-Za-z][\w-]{0,39})(?:/(\d{1,9}))?(\[\])? seal=(\d{6})(?=[ \n:(]|$)", re.ASCII
)
_SHORTENED: Final = re.compile(r"\n\(shortened: ([\w.,-]+)\)$")
_BLOCK: Final = re.compile(r"\n-(?= |\n|$)")
"""Begins each of several messages that make no good table."""
_TEXT: Final = "text/0"
"""Names a text that looks like a packed message, and is none."""
_ERRORS: Final = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading and writing raise where a message cannot be held, validators of users included."""


class MessageTemplates:
    r"""Write recurring messages between agents in fewer tokens, and read them back as they were.

    A message is an object of a pydantic model that has a name here: one of the seven forms of
    :mod:`~langchain_tokenopt.compress.message_forms` (task, report, decision, question, handoff,
    status, error), or of your own. :meth:`pack` writes it as text that a language model reads
    without being told how: no quotes, no keys of what is absent, the columns of records once.
    :meth:`expand` turns that text into an equal object. What was packed has been expanded once, and
    compared; a message that would not come back equal is not packed.

    Whatever is no such message passes both unchanged. Six digits behind the name seal the text and
    the meaning: a text that only looks packed, was cut or edited, or belongs to a form or version
    that has changed since, is text. With a *secret*, nobody without it can write what is expanded.

    Both methods are functions of one argument, so they are steps of a chain:
    ``model.with_structured_output(Report) | templates.pack | prompt``.
    :func:`~langchain_tokenopt.templated` puts them around a node of a graph.

    Args:
        secret: Shared by those who pack and expand.

    Example:
        >>> from langchain_tokenopt.compress.message_forms import Task
        >>> templates = MessageTemplates()
        >>> task = Task(id="T-7", to="risk", goal="Check ACME before the close.", inputs=["a.csv"])
        >>> print(packed := templates.pack(task))
        task seal=452061 id=T-7 to=risk inputs=["a.csv"]
        goal: Check ACME before the close.
        >>> templates.expand(packed) == task
        True
    """

    def __init__(self, *, secret: str | bytes = b"") -> None:
        key = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        self._key = hashlib.blake2b(key).digest() if key else b""
        self._forms: dict[tuple[str, int], _Form] = {}
        self._newest: dict[type, _Form] = {}
        self._given: set[tuple[str, int]] = set()
        self._warned: set[str] = set()
        for form in _our_forms():
            self._add(form)

    def register(self, name: str, model: type[Model], *, version: int = 1) -> type[Model]:
        """Give a form a name; it takes the place of one of ours of that name.

        A model that has changed in what it says needs the next version; register the earlier model
        under the earlier version as long as its messages are still read.

        Args:
            name: Letters, digits, ``_`` and ``-``; what the model reads in front of the message.
            model: A pydantic model.
            version: From 1; said in the text from 2 on.

        Returns:
            The model.

        Raises:
            ValueError: The name is none, or has another model in this version.
            TypeError: *model* is no pydantic model.

        Example:
            >>> class Quote(BaseModel):
            ...     symbol: str
            ...     price: float
            >>> templates = MessageTemplates()
            >>> _ = templates.register("quote", Quote)
            >>> print(templates.pack([Quote(symbol="ACME", price=4), Quote(symbol="B", price=5)]))
            quote[] seal=698901(symbol,price):
             ACME|4.0
             B|5.0
        """
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise ValueError(
                f"a form's name has 1 to 40 letters, digits, '_' or '-', and begins with a letter; "
                f"got {name!r}."
            )
        check_whole("version", version)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"a form is a pydantic model (a class); got {model!r}.")
        known = self._forms.get((name, version))
        if known is not None and known.model is not model and (name, version) in self._given:
            raise ValueError(
                f"{name!r} version {version} is {known.model.__name__} already: register "
                f"{model.__name__} as version={version + 1}, or under another name."
            )
        self._given.add((name, version))
        self._add(_Form(name, version, model))
        return model

    def _add(self, form: _Form) -> None:
        self._forms[form.name, form.version] = form
        newest = self._newest.get(form.model)
        if newest is None or newest.name != form.name or newest.version <= form.version:
            self._newest[form.model] = form

    @property
    def forms(self) -> Mapping[str, type[BaseModel]]:
        """The newest model of each name."""
        newest: dict[str, type[BaseModel]] = {}
        for name, version in sorted(self._forms):
            newest[name] = self._forms[name, version].model
        return newest

    def pack(self, message: Any, *, handover: Handover | None = None) -> Any:
        """Write a message, or a list of messages of one form, as compact text.

        Args:
            message: What is neither passes unchanged; a text that looks packed is quoted, so that
                it is expanded to that text.
            handover: Shortens texts of several sentences, which is then said at the end of the
                text; by default nothing is lost.

        Returns:
            A string, or *message* itself.
        """
        if isinstance(message, str):
            return message if self.expand(message) is message else self._quoted(message)
        many = isinstance(message, list)
        kinds = {type(item) for item in message} if many else {type(message)}
        form = self._newest.get(kinds.pop()) if len(kinds) == 1 else None
        if form is None:
            return message
        items = list(message) if many else [message]
        packed = None
        if handover is not None:
            shorter, cut = _shortened(items, handover)
            packed = self._packed(form, shorter, many, cut) if cut else None
        if packed is None:
            packed = self._packed(form, items, many)
        if packed is None:
            self._warn(form)
        return message if packed is None else packed

    def expand(self, text: Any) -> Any:
        """Return the message, or the list of messages, that :meth:`pack` was given.

        Args:
            text: What is no packed message of a form and version known here passes unchanged.
        """
        if not isinstance(text, str) or (header := _HEADER.match(text)) is None:
            return text
        name, version, many, seal = header.groups()
        body = text[header.end() :]
        if f"{name}/{version}" == _TEXT:
            return self._unquoted(body, seal, text)
        form = self._forms.get((name, int(version or 1)))
        if form is None:
            return text
        try:
            items = form.read(_SHORTENED.sub("", body), many=bool(many))
            if self._seal(form, body, items) != seal:
                return text
        except _ERRORS:
            return text
        return items if many else items[0]

    def shortened(self, text: str) -> tuple[str, ...]:
        """Return which fields of a packed message were shortened when it was packed."""
        found = _SHORTENED.search(text) if self.expand(text) is not text else None
        return tuple(found[1].split(",")) if found else ()

    @staticmethod
    def propose(messages: Sequence[Any], *, least: int = 5) -> list[ProposedForm]:
        """Return forms for messages that come again and again without having one.

        Args:
            messages: JSON objects, as dicts or as text; others are passed over.
            least: How often a form has to come.

        Returns:
            The forms, the one that would save most first; nothing is registered.

        Example:
            >>> stream = [{"symbol": "ACME", "price": n, "note": None} for n in range(9)]
            >>> [form] = MessageTemplates.propose(stream)
            >>> form.messages, sorted(form.model.model_fields)
            (9, ['note', 'price', 'symbol'])
        """
        return proposed_forms(messages, check_whole("least", least, least=2))

    # --- the text

    def _packed(
        self, form: _Form, items: list[BaseModel], many: bool, cut: Sequence[str] = ()
    ) -> str | None:
        """Return the first text that is read back as equal messages."""
        for body in form.bodies(items, many=many):
            body += f"\n(shortened: {','.join(cut)})" if cut else ""
            try:
                seal = self._seal(form, body, items)
                text = f"{form.label}{'[]' if many else ''} seal={seal}{body}"
                again = self.expand(text)
            except _ERRORS:
                continue
            if again is not text and all(map(_equal, again if many else [again], items)):
                return text
        return None

    def _seal(self, form: _Form, body: str, items: list[BaseModel]) -> str:
        meaning = "\n".join(_canonical(form.tree(item)) for item in items)
        return self._digits(form.label, body, meaning)

    def _digits(self, *parts: str) -> str:
        digest = hashlib.blake2b(digest_size=8, key=self._key, person=b"message form 1")
        for part in parts:
            written = part.encode("utf-8", "surrogatepass")
            digest.update(len(written).to_bytes(8, "big") + written)
        return f"{int.from_bytes(digest.digest(), 'big') % 1_000_000:06d}"

    def _quoted(self, text: str) -> str:
        body = f": {write_json(text)}"
        return f"{_TEXT} seal={self._digits(_TEXT, body)}{body}"

    def _unquoted(self, body: str, seal: str, text: str) -> str:
        if self._digits(_TEXT, body) != seal:
            return text
        return str(read_json(body[2:]))

    def _warn(self, form: _Form) -> None:
        if form.label not in self._warned:
            self._warned.add(form.label)
            warnings.warn(
                f"A message of the form {form.label!r} ({form.model.__name__}) is not packed, "
                f"because it would not come back equal: its model cannot read what it writes. "
                f"Such messages pass unchanged.",
                TokenOptWarning,
                stacklevel=3,
            )


class _Form:
    """A model, and how its messages are written."""

    def __init__(self, name: str, version: int, model: type[BaseModel]) -> None:
        self.name, self.version, self.model = name, version, model
        self.label = name if version == 1 else f"{name}/{version}"
        self._adapter = TypeAdapter(model)
        written, read = self._schema("serialization"), self._schema("validation")
        self._known = NOTHING_KNOWN if written is None else known_texts(written)
        self._schemas = [schema for schema in (written, read) if schema is not None]

    def _schema(self, mode: Literal["serialization", "validation"]) -> dict[str, Any] | None:
        try:
            return self._adapter.json_schema(mode=mode)
        except (PydanticUserError, PydanticOmit):  # of a type that has none
            return None

    def tree(self, message: BaseModel, *, exclude_defaults: bool = False) -> dict[str, Any]:
        """Return a message as what JSON can hold."""
        tree: dict[str, Any] = self._adapter.dump_python(
            message,
            mode="json",
            by_alias=True,
            round_trip=True,
            exclude_defaults=exclude_defaults,
            warnings="error",
        )
        return tree

    def bodies(self, items: Sequence[BaseModel], *, many: bool) -> Iterator[str]:
        """Return what can stand behind the header, the shortest first; none if it cannot be."""
        try:
            full = [self.tree(item) for item in items]
            told = [self.tree(item, exclude_defaults=True) for item in items]
            sparse = [_without_empty(tree, own) for tree, own in zip(full, told, strict=True)]
        except _ERRORS:
            return
        for fuller in (sparse, full):
            for trees in self._orders(fuller):
                with suppress(*_ERRORS):
                    yield self._body(trees, many=many)
        for trees in self._orders(full):
            with suppress(*_ERRORS):
                yield f": {write_json(trees if many else trees[0])}"

    def _orders(self, trees: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """Return trees with their sets in one order, and, should those be lists, as they are."""
        ordered = [in_one_order(tree, self._schemas) for tree in trees]
        yield ordered
        if ordered != trees:
            yield trees

    def _body(self, trees: list[dict[str, Any]], *, many: bool) -> str:
        each = [write_fields(tree, self._known) for tree in trees]
        each = [fields if fields[:1] in ("", "\n") else f" {fields}" for fields in each]
        if not many:
            return each[0]
        blocks = "".join(f"\n-{fields}" for fields in each)
        table = write_records(trees, self._known)
        return blocks if table is None or len(blocks) < len(table) else table

    def read(self, body: str, *, many: bool) -> list[BaseModel]:
        """Return the messages of a body.

        Raises:
            ValueError: It holds none of this form.
        """
        if body.startswith(": "):
            trees = read_json(body[2:])
            trees = trees if many else [trees]
        elif many and body.startswith("("):
            trees = read_records(body, self._known)
        else:
            begin, *blocks = _BLOCK.split(body) if many else ("", body)
            if begin or not all(block[:1] in ("", " ", "\n") for block in blocks):
                raise ValueError("neither fields nor JSON")
            trees = [read_fields(block.removeprefix(" "), self._known) for block in blocks]
        return [self._adapter.validate_json(json.dumps(tree)) for tree in trees]


@cache
def _our_forms() -> tuple[_Form, ...]:
    return tuple(_Form(name, 1, model) for name, model in FORMS.items())


def _without_empty(full: Any, told: Any) -> Any:
    """Drop what is empty by default: that it is absent says the same to whoever reads it."""
    if isinstance(full, dict) and isinstance(told, dict):
        return {
            key: _without_empty(value, told.get(key, value))
            for key, value in full.items()
            if key in told or not (value is None or value in ("", [], {}))
        }
    if isinstance(full, list) and isinstance(told, list) and len(full) == len(told):
        return [_without_empty(*pair) for pair in zip(full, told, strict=True)]
    return full


def _canonical(value: Any) -> str:
    """Write a value such that equal ones look equal, whatever the order of a set or of keys."""
    if isinstance(value, dict):
        inner = (f"{write_json(key)}:{_canonical(item)}" for key, item in sorted(value.items()))
        return "{" + ",".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted(map(_canonical, value))) + "]"
    return write_json(value)


def _equal(one: Any, other: Any) -> bool:
    """Compare values of one type; NaN, which equals nothing, is equal to itself here."""
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return one == other or _equal(_parts(one), _parts(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other or (one != one and other != other))


def _parts(model: BaseModel) -> dict[str, Any]:
    inside = {"extra": model.__pydantic_extra__, "private": model.__pydantic_private__}
    return {**model.__dict__, **{f" {name}": value for name, value in inside.items()}}


def _shortened(
    items: Sequence[BaseModel], handover: Handover
) -> tuple[list[BaseModel], Sequence[str]]:
    """Shorten the texts of messages; return also the names of those that are shorter now."""
    cut: dict[str, None] = {}
    shorter = []
    for item in items:
        made = {}
        for name in type(item).model_fields:
            text = getattr(item, name)
            if type(text) is str:
                with suppress(BudgetInfeasibleError):
                    made[name] = handover.invoke(text)
                if made.get(name, text) != text:
                    cut[name] = None
        shorter.append(item.model_copy(update=made))
    return shorter, list(cut)
