"""Forty tools of an office: eight kinds of things with five verbs each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool

__all__ = ["FORTY", "forty_tools", "shown_in"]

_THINGS = {
    "calendar": "meeting",
    "mail": "e-mail",
    "weather": "forecast",
    "invoice": "invoice",
    "flight": "flight",
    "photo": "photo",
    "music": "playlist",
    "parcel": "parcel",
}
_VERBS = {
    "create": "Make a new",
    "find": "Look for a",
    "delete": "Remove a",
    "update": "Change a",
    "share": "Send to somebody else a",
}


def forty_tools(owner: str = "the user") -> list[BaseTool]:
    """Return the tools; what they return names *owner*."""
    return [_tool(verb, thing, owner) for thing in _THINGS for verb in _VERBS]


def _tool(verb: str, thing: str, owner: str) -> BaseTool:
    def run(what: str, when: str = "") -> str:
        return f"{verb} {thing} {what} of {owner}: done"

    about = f"{_VERBS[verb]} {_THINGS[thing]}, by its name and, where that matters, its date."
    return StructuredTool.from_function(run, name=f"{verb}_{thing}", description=about)


FORTY = forty_tools()


def shown_in(body: Mapping[str, Any]) -> list[str]:
    """Return the names of the tools in a request as it was sent, in any provider's format."""
    names = []
    for tool in body.get("tools") or ():
        declared = tool.get("functionDeclarations") or [tool.get("function") or tool]
        names += [each.get("name") or each.get("type") for each in declared]
    return names
