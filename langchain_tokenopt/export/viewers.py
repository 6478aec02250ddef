"""Whose events somebody may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from langchain_tokenopt.core.attribution import name_from
from langchain_tokenopt.core.records import UsageEvent

__all__ = ["EVERYBODY", "NOBODY_KNOWN", "Owner", "Sight", "Viewer", "owner_of", "viewer_of"]

Owner = tuple[str | None, str | None]
"""The user and the organization of an event, as far as they are known."""

NOBODY_KNOWN: Final[Owner] = (None, None)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who sees the events of one user, of one organization, or of a user in one.

    Args:
        user: The ``user_id`` that calls are recorded under.
        organization: The ``organization_id``. Give it with the user where user ids are only unique
            within an organization.

    Raises:
        ValueError: Neither is given, or one is empty: a session without a user sees nothing.

    Example:
        >>> Viewer(user="ann").sees(("ann", "acme")), Viewer(user="ann").sees((None, None))
        (True, False)
    """

    user: str | None = None
    organization: str | None = None

    def __post_init__(self) -> None:
        given = [said for said in (self.user, self.organization) if said is not None]
        if not given or not all(isinstance(said, str) and said for said in given):
            raise ValueError(
                f"a viewer is a user, an organization or both, each a text that is not empty; got "
                f"user={self.user!r}, organization={self.organization!r}. For somebody who may see "
                f"the events of all, authorize returns EVERYBODY."
            )

    def sees(self, owner: Owner) -> bool:
        """Whether an event of *owner* is for this viewer. One whose owner is unknown is not."""
        user, organization = owner
        return (self.user is None or self.user == user) and (
            self.organization is None or self.organization == organization
        )


class _Everybody:
    def sees(self, owner: Owner) -> bool:
        return True

    def __repr__(self) -> str:
        return "EVERYBODY"


EVERYBODY: Final = _Everybody()
"""What ``authorize`` returns for an operator: the events of all, and those of nobody known."""

Sight = Viewer | _Everybody


def viewer_of(answer: object) -> Sight | None:
    """Return whom ``authorize`` has let in; ``None``: nobody.

    Raises:
        TypeError: The answer is none of those that are meant.
        ValueError: It is the empty text.

    Example:
        >>> viewer_of("ann"), viewer_of(None)
        (Viewer(user='ann', organization=None), None)
        >>> viewer_of(True)
        Traceback (most recent call last):
        ...
        TypeError: authorize returns the name of a user, a Viewer, EVERYBODY, or None to refuse; \
it returned True.
    """
    if answer is None or isinstance(answer, Viewer | _Everybody):
        return answer
    if isinstance(answer, str):
        return Viewer(user=name_from(answer))
    raise TypeError(
        f"authorize returns the name of a user, a Viewer, EVERYBODY, or None to refuse; "
        f"it returned {answer!r}."
    )


def owner_of(event: UsageEvent) -> Owner:
    """Return whose event it is, as far as it says so itself."""
    made_by = getattr(event, "attribution", event)
    return getattr(made_by, "user", None), getattr(made_by, "organization", None)
