"""Whose events somebody may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from langchain_tokenopt.core.attribution import name_from
from langchain_tokenopt.core.records import UsageEvent

__all__ = ["NOBODY_KNOWN", "Owner", "Viewer", "owner_of", "viewer_of"]

Owner = tuple[str | None, str | None]
"""The user and the organization of an event, as far as they are known."""

NOBODY_KNOWN: Final[Owner] = (None, None)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who sees the events of one user, of one organization, of a user in one, or all.

    Args:
        user: The ``user_id`` that calls are recorded under.
        organization: The ``organization_id``. Give it with the user where user ids are only unique
            within an organization.
        sees_all: Of an operator, who sees the events of all, and those of nobody known.

    Raises:
        ValueError: None of them is given, one is empty, or *sees_all* stands with another: a
            session without a user sees nothing.

    Example:
        >>> Viewer(user="ann").sees(("ann", "acme")), Viewer(user="ann").sees((None, None))
        (True, False)
    """

    user: str | None = None
    organization: str | None = None
    sees_all: bool = False

    def __post_init__(self) -> None:
        given = [said for said in (self.user, self.organization) if said is not None]
        is_somebody = bool(given) and all(isinstance(said, str) and said for said in given)
        if bool(given) is self.sees_all or not (self.sees_all is True or is_somebody):
            raise ValueError(
                f"a viewer is a user, an organization or both, each a text that is not empty, or "
                f"sees_all=True; got user={self.user!r}, organization={self.organization!r}, "
                f"sees_all={self.sees_all!r}."
            )

    def sees(self, owner: Owner) -> bool:
        """Whether an event of *owner* is for this viewer. One whose owner is unknown is not."""
        user, organization = owner
        return self.sees_all or (
            (self.user is None or self.user == user)
            and (self.organization is None or self.organization == organization)
        )


def viewer_of(answer: object) -> Viewer | None:
    """Return whom ``authorize`` has let in; ``None``: nobody.

    Raises:
        TypeError: The answer is none of those that are meant.
        ValueError: It is the empty text.

    Example:
        >>> viewer_of("ann").user, viewer_of(None)
        ('ann', None)
        >>> viewer_of(True)
        Traceback (most recent call last):
        ...
        TypeError: authorize returns the name of a user, a Viewer, or None to refuse; it returned \
True.
    """
    if answer is None or isinstance(answer, Viewer):
        return answer
    if isinstance(answer, str):
        return Viewer(user=name_from(answer))
    raise TypeError(
        f"authorize returns the name of a user, a Viewer, or None to refuse; it returned "
        f"{answer!r}."
    )


def owner_of(event: UsageEvent) -> Owner:
    """Return whose event it is, as far as it says so itself."""
    made_by = getattr(event, "attribution", event)
    return getattr(made_by, "user", None), getattr(made_by, "organization", None)
