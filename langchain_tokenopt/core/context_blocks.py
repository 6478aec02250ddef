"""Values that a ``with`` block gives to context variables, wherever and whenever it is left.

A block in a generator may be left in another context than it was entered in (a web server reads it
step by step in threads), or before a block that began inside of it (two generators read in turns).
To put the old values back without a look would then switch off somebody else's block.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self

from langchain_tokenopt.core.errors import TokenOptWarning

__all__ = ["ContextBlock", "block_here"]

_IN_ANOTHER: Final = (
    "A block of langchain_tokenopt (track_usage, token_scope, plan.run, cache.scope) was left in "
    "another context than it was entered in: calls that began in between may not belong to it."
)
_OUT_OF_ORDER: Final = (
    "A block of langchain_tokenopt (track_usage, token_scope, plan.run, cache.scope) was left "
    "before a block that began inside of it: calls that began in between belong to both."
)
_MEND: Final = " If it stands in a generator, read that through in_own_context(generator)."


class ContextBlock:
    """What one ``with`` block sets.

    Leaving it takes back what it has set where it still is the innermost block. Where it is not,
    its values are not there to be taken back, or go when the blocks inside of it are left; a
    warning says what that means for calls made in between.

    Args:
        values: By context variable.

    Example:
        >>> name = ContextVar("name", default="nobody")
        >>> with ContextBlock({name: "ann"}):
        ...     name.get()
        'ann'
        >>> name.get()
        'nobody'
    """

    __slots__ = ("_around", "_is_over", "_repeats", "_replaced", "_values")

    def __init__(
        self, values: Mapping[ContextVar[Any], Any], repeats: ContextBlock | None = None
    ) -> None:
        self._values = values
        self._repeats = repeats
        self._replaced: Mapping[ContextVar[Any], Any] = {}
        self._around: ContextBlock | None = None
        self._is_over = False

    def __enter__(self) -> Self:
        self._around = _INNERMOST.get()
        self._replaced = {variable: variable.get() for variable in self._values}
        for variable, value in self._values.items():
            variable.set(value)
        _INNERMOST.set(self)
        return self

    @property
    def is_innermost(self) -> bool:
        """Whether what holds here is what this block has set."""
        return _INNERMOST.get() is self

    def again(self) -> AbstractContextManager[object]:
        """Return a block that sets what this one and those around it have set, in any context.

        Where this block holds already, it sets nothing: blocks inside of it go on.
        """
        if _stands_around(self, _INNERMOST.get()):
            return nullcontext()
        values: dict[ContextVar[Any], Any] = {}
        block: ContextBlock | None = self
        while block is not None:
            values = {**block._values, **values}
            block = block._around
        return ContextBlock(values, repeats=self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        innermost = _INNERMOST.get()
        if innermost is self:
            _unwind(self)
        elif kind is None or not issubclass(kind, GeneratorExit):  # else the garbage collector's
            message = _OUT_OF_ORDER if _stands_around(self, innermost) else _IN_ANOTHER
            warnings.warn(message + _MEND, TokenOptWarning, stacklevel=3)


_INNERMOST: ContextVar[ContextBlock | None] = ContextVar("langchain_tokenopt_block", default=None)


def _unwind(block: ContextBlock | None) -> None:
    """Take back what *block* has set, and with it the blocks around it that are over already."""
    while block is not None and block._is_over:
        for variable, value in block._replaced.items():
            variable.set(value)
        block = block._around
    _INNERMOST.set(block)


def _stands_around(block: ContextBlock, inner: ContextBlock | None) -> bool:
    while inner is not None and block not in (inner, inner._repeats):
        inner = inner._around
    return inner is not None


def block_here() -> ContextBlock | None:
    """Return the innermost block that holds here."""
    return _INNERMOST.get()
