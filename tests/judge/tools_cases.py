"""Read the tool sets of ``tools_*.jsonl`` and make each tool as its provider wants it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool

__all__ = [
    "Query",
    "ToolSet",
    "function_of",
    "names_of",
    "native",
    "pieces",
    "read_sets",
    "same_json",
]

HERE = Path(__file__).parent
FORMATS = ("openai", "anthropic", "gemini", "bedrock", "basetool")
JSON = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """What a user says, and the tools that are needed for it."""

    id: str
    kind: str
    language: str
    text: str
    gold: tuple[frozenset[str], ...]
    """Each needed tool, as the names any of which would do; empty: none is needed."""
    before: tuple[tuple[str, str], ...] = ()
    """Earlier turns: who spoke, and what was said."""

    def messages(self) -> list[BaseMessage]:
        """The conversation up to the question."""
        kinds = {"user": HumanMessage, "assistant": AIMessage}
        return [*(kinds[role](said) for role, said in self.before), HumanMessage(self.text)]

    def found_in(self, shown: set[str]) -> bool:
        """Whether every needed tool is among those that are shown."""
        return all(names & shown for names in self.gold)


@dataclass(frozen=True)
class ToolSet:
    """The tools of one application, and what its users ask."""

    name: str
    field: str
    format: str
    language: str
    specs: tuple[JSON, ...]
    queries: list[Query] = field(default_factory=list)

    def tools(self, format: str | None = None) -> list[Any]:
        """Every tool in *format*, by default in its own."""
        formats = cycle(FORMATS if (format or self.format) == "mixed" else [format or self.format])
        return [native(spec, format or spec.get("format") or next(formats)) for spec in self.specs]


def read_sets(half: str) -> list[ToolSet]:
    """Read one half, ``build`` or ``judge``."""
    sets: dict[str, ToolSet] = {}
    for line in (HERE / f"tools_{half}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "tools" in row:
            sets[row["set"]] = ToolSet(
                row["set"], row["field"], row["format"], row["language"], tuple(row["tools"])
            )
        elif "id" in row:
            sets[row["set"]].queries.append(_query(row))
    return list(sets.values())


def _query(row: Mapping[str, Any]) -> Query:
    gold = tuple(frozenset([need] if isinstance(need, str) else need) for need in row["gold"])
    before = tuple((role, said) for role, said in row.get("before", ()))
    return Query(row["id"], row["kind"], row["language"], row["query"], gold, before)


def native(spec: JSON, format: str) -> Any:
    """Make the tool of *spec* as *format* wants it; a tool of the provider stays as it is."""
    if "raw" in spec:
        return json.loads(json.dumps(spec["raw"]))
    name, text, schema = spec["name"], spec["text"], json.loads(json.dumps(spec["parameters"]))
    described = {"name": name, **({"description": text} if text else {})}
    if format == "openai":
        return {"type": "function", "function": {**described, "parameters": schema}}
    if format == "anthropic":
        return {**described, "input_schema": schema}
    if format == "gemini":
        return {"function_declarations": [{**described, "parameters": _upper_types(schema)}]}
    if format == "bedrock":
        return {"toolSpec": {**described, "inputSchema": {"json": schema}}}
    return StructuredTool(name=name, description=text, args_schema=schema, func=_done)


def _done(**arguments: Any) -> str:
    return "done"


def _upper_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: value.upper()
            if key == "type" and isinstance(value, str)
            else {name: _upper_types(each) for name, each in value.items()}
            if key == "properties"
            else _upper_types(value)
            for key, value in schema.items()
        }
    return [_upper_types(each) for each in schema] if isinstance(schema, list) else schema


def function_of(tool: Any) -> Iterator[JSON]:
    """The functions that a tool of any format declares, as name, text and parameters."""
    if isinstance(tool, BaseTool):
        shape = tool.args_schema if isinstance(tool.args_schema, dict) else tool.args
        yield {"name": tool.name, "text": tool.description, "parameters": shape}
        return
    if not isinstance(tool, dict):
        return
    for key in ("function_declarations", "functionDeclarations"):
        declared = tool.get(key)
        for each in declared if isinstance(declared, list) else ():
            yield _function(each)
    for inner in (tool.get("function"), tool.get("toolSpec"), tool):
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            yield _function(inner)
            return


def _function(inner: JSON) -> JSON:
    schema = inner.get("parameters") or inner.get("input_schema") or inner.get("inputSchema") or {}
    return {
        "name": inner["name"],
        "text": inner.get("description") or "",
        "parameters": schema.get("json", schema) if isinstance(schema, dict) else {},
    }


def names_of(tools: list[Any]) -> list[str]:
    """The names of all functions that *tools* declare, in their order."""
    return [each["name"] for tool in tools or () for each in function_of(tool)]


def same_json(value: Any) -> str:
    """The bytes that a provider would get for *value*."""
    return json.dumps(value, ensure_ascii=False, default=str)


def pieces(tools: list[Any]) -> list[str]:
    """What a provider reads one after the other: each tool, or each function of a list of them."""
    found = []
    for tool in tools or ():
        keys = [k for k in ("function_declarations", "functionDeclarations") if k in tool]
        declared = tool[keys[0]] if len(tool) == len(keys) == 1 else None
        found += [same_json(each) for each in (declared if isinstance(declared, list) else [tool])]
    return found
