"""On whose account a call goes, read from the metadata of its run."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "Attribution",
    "agent_names_in",
    "attribution_here",
    "attribution_of",
    "metadata_saying",
    "name_from",
    "names_of",
    "owner_label",
    "owner_labels",
    "said_around",
    "saying",
]


@dataclass(frozen=True, slots=True)
class Attribution:
    """On whose account a call goes."""

    agent: str = "default"
    node: str | None = None
    """Path of LangGraph nodes, outermost first, joined by ``/``."""
    tool: str | None = None
    """The tool inside which the call was made."""
    user: str | None = None
    thread_id: str | None = None
    purpose: str | None = None
    """LangChain's ``lc_source``: which middleware made the call for its own ends."""
    organization: str | None = None
    """The user's organization, or tenant."""
    tag: str | None = None
    """A label of the application's own, such as the feature that it was for."""


NOBODY: Final = Attribution()
"""Of a call of which nothing is known."""


def attribution_of(
    metadata: Mapping[str, Any],
    *,
    agent: str | None = None,
    fallback_agent: str | None = None,
    fallback_user: str | None = None,
    fallback_organization: str | None = None,
    tool: str | None = None,
) -> Attribution:
    """Read from a run's metadata who made the call.

    The agent is the first of: *agent*, for who knows the runs above the call; ``tokenopt_agent`` in
    the metadata (set it with ``add_node(..., metadata={"tokenopt_agent": "news"})``), the name of
    the ``create_agent`` agent (``lc_agent_name``), the outermost LangGraph node, *fallback_agent*,
    ``"default"``.
    ``langgraph_node`` alone is no agent: inside agents it reads "model" or "tools". The user is
    ``user_id``, the organization ``organization_id``, ``org_id`` or ``tenant_id``. A label of your
    own is ``tokenopt_tag``: the feature, the customer, the experiment.

    Example:
        >>> made_by = attribution_of({"langgraph_checkpoint_ns": "docs:4f1a|model:77b0"})
        >>> made_by.agent, made_by.node
        ('docs', 'docs/model')
    """
    get = metadata.get
    namespace, node, outermost = get("langgraph_checkpoint_ns"), None, None
    if namespace:
        parts = namespace.split("|")  # "research:4f1a|1|analyst:77b0": called once more
        path = [part.partition(":")[0] for part in parts if not part.isdecimal()]
        node, outermost = "/".join(path), next(iter(path), None)
    explicit, own = agent_names_in(metadata)
    agent = agent or explicit or own or outermost or fallback_agent
    user, thread_id, tag = get("user_id"), get("thread_id"), get("tokenopt_tag")
    organization = next((get(key) for key in _ORGANIZATION_KEYS if _names(get(key))), None)
    user = user if _names(user) else fallback_user
    organization = fallback_organization if organization is None else organization
    return Attribution(
        agent=name_from(agent or "default"),
        node=node,
        tool=tool,
        user=None if user is None else name_from(user),
        thread_id=None if thread_id is None else name_from(thread_id),
        purpose=get("lc_source"),
        organization=None if organization is None else name_from(organization),
        tag=None if tag is None else name_from(tag),
    )


Said = tuple[tuple[str, str], ...]
"""What blocks say, the innermost last: ``user`` or ``organization``, and a name."""

_SAID: Final[ContextVar[Said]] = ContextVar("langchain_tokenopt_said", default=())


def saying(user: object = None, organization: object = None) -> Mapping[ContextVar[Any], Any]:
    """Return what a block sets that says whose the calls inside of it are.

    Example:
        >>> from langchain_tokenopt.core.context_blocks import ContextBlock
        >>> with ContextBlock(saying(user="ann")), ContextBlock(saying(organization="acme")):
        ...     said_around()
        (('user', 'ann'), ('organization', 'acme'))
    """
    return {_SAID: (*_SAID.get(), *names_of(user, organization).items())}


def names_of(user: object = None, organization: object = None) -> dict[str, str]:
    """Return those names of ``user`` and ``organization`` that are given."""
    given = {"user": user, "organization": organization}
    return {what: name_from(name) for what, name in given.items() if name is not None}


def said_around(context: Context | None = None) -> Said:
    """Return whose calls are that are made here, as ``track_usage``, scopes and runs around say.

    Args:
        context: In which they are made, if not here.
    """
    return _SAID.get() if context is None else context.get(_SAID, ())


def attribution_here(metadata: Mapping[str, Any]) -> Attribution:
    """Return who makes a call here: as its metadata says, then as the blocks around it do.

    Usage, budgets, caches and what is learned read it alike.

    Example:
        >>> from langchain_tokenopt.core.context_blocks import ContextBlock
        >>> with ContextBlock(saying(user="ann")):
        ...     attribution_here({}).user, attribution_here({"user_id": "bob"}).user
        ('ann', 'bob')
    """
    around = dict(_SAID.get())
    return attribution_of(
        metadata,
        fallback_user=around.get("user"),
        fallback_organization=around.get("organization"),
    )


def metadata_saying(
    agent: str | None = None, user: str | None = None, organization: str | None = None
) -> dict[str, str]:
    """Return metadata from which :func:`attribution_of` reads these.

    Example:
        >>> attribution_of(metadata_saying("news", "ann")).user
        'ann'
    """
    said = {"tokenopt_agent": agent, "user_id": user, "organization_id": organization}
    return {key: value for key, value in said.items() if value is not None}


def name_from(value: object) -> str:
    r"""Return a name as text that every file can hold; ids may be numbers.

    Half of a surrogate pair is no text to a database: it is written as an escape, so that different
    names stay different.

    Example:
        >>> name_from(7), name_from("ann \ud800")
        ('7', 'ann \\ud800')
    """
    name = str(value)
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def _names(name: object) -> bool:
    """Say whether it is a name: nobody is signed in as ``None``, or as an empty one."""
    return name is not None and name != ""


def agent_names_in(metadata: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the explicit name of the agent, and the one that ``create_agent`` was given."""
    return metadata.get("tokenopt_agent"), metadata.get("lc_agent_name")


_ORGANIZATION_KEYS: Final = ("organization_id", "org_id", "tenant_id")
"""Of several, the first counts."""

_OWNER_LABELS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("user_id", "user"), "user"),
    **dict.fromkeys((*_ORGANIZATION_KEYS, "tenant", "organization"), "organization"),
    "account_id": "account",
}
"""Keys of metadata that say whose data a call may see, and what they name."""


def owner_label(key: str) -> str:
    """Return what a key names: ``user``, ``organization``, ``account``, or itself.

    Example:
        >>> [owner_label(key) for key in ("user_id", "tenant", "team")]
        ['user', 'organization', 'team']
    """
    return _OWNER_LABELS.get(key, key)


def owner_labels(metadata: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the labels in a run's metadata that say whose data a call may see.

    A label has several values where keys contradict each other.

    Example:
        >>> owner_labels({"user_id": 7, "thread_id": "t-1"})
        {('user', '7')}
    """
    return {
        (label, name_from(metadata[key]))
        for key, label in _OWNER_LABELS.items()
        if metadata.get(key) is not None
    }
