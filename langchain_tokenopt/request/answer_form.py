"""The form in which a program expects the answer: text, tool calls, or a structure.

Every integration names it in its own way. What is not known here to leave the form free is taken
for a structure: a limit or a budget must not cut what a program parses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from langchain_tokenopt.request.form_tools import name_and_schema
from langchain_tokenopt.request.settings import Settings

__all__ = ["TEXT", "AnswerForm", "answer_form"]


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form that a program expects the answer in."""

    kind: Literal["text", "tools", "structured"]
    """``"tools"``: text, or calls of tools that the model chooses freely. ``"structured"``: JSON,
    an object of a schema, or a tool that must be called."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of a structure; ``None``: any object, or a schema that cannot be read."""
    tool: str | None = None
    """The tool that must be called, where there is no choice between several."""
    type: type[BaseModel] | None = None
    """The class that the object will be read into, where it is known."""
    must_call_tool: bool = False
    """True when some tool must be called."""
    tool_is_answer: bool = False
    """True when there is nothing to do with the call but to read it: the model is shown one tool
    and must call it, as ``with_structured_output`` does it. A call that was chosen among several
    is asked of the program."""

    @property
    def is_structured(self) -> bool:
        """Whether the answer is of no use when it is cut off."""
        return self.kind == "structured"

    @property
    def may_call_tools(self) -> bool:
        """Whether calls of tools may follow the text, which must then not be cut off."""
        return self.kind == "tools" or self.must_call_tool


TEXT: Final = AnswerForm("text")
TOOLS: Final = AnswerForm("tools")

_FREE: Final = (None, "", "auto", "none", "text", "text/plain", False)
"""What leaves the form free."""
_SCHEMAS: Final = (
    "response_format",  # OpenAI and most others
    "response_schema",  # Gemini
    "response_json_schema",  # Gemini
    "guided_json",  # vLLM
    "format",  # Ollama
)
_TRACED: Final = "ls_structured_output_format"
"""What LangChain tells its tracers of ``with_structured_output``, whatever the method."""
_NESTED: Final = ("output_config", "text")
"""Anthropic's and the Responses API's settings that hold a ``format``."""


def answer_form(settings: Settings | Mapping[str, Any], tools: Sequence[Any]) -> AnswerForm:
    """Read the form of the answer from the call's and the model's settings."""
    for name in _SCHEMAS:
        asked = settings.get(name)
        if _type_of(asked) not in _FREE:
            return _structure(asked)
    for name in _NESTED:
        outer = settings.get(name)
        asked = outer.get("format") if isinstance(outer, Mapping) else None
        if _type_of(asked) not in _FREE:
            return _structure(asked)
    if settings.get("response_mime_type") not in _FREE:
        return AnswerForm("structured")
    form = _of_tools(settings, tools)
    if form.is_structured or settings.get(_TRACED) is None:
        return form
    return _structure(settings.get(_TRACED))


def _type_of(asked: Any) -> Any:
    """Return what kind of form is asked for, in a shape that can be compared."""
    kind = asked.get("type", True) if isinstance(asked, Mapping) else asked
    return kind if isinstance(kind, str | bool | None) else True


def _structure(asked: Any) -> AnswerForm:
    if isinstance(asked, type):
        if issubclass(asked, BaseModel):
            return AnswerForm("structured", asked.model_json_schema(), type=asked)
        return AnswerForm("structured")
    if not isinstance(asked, Mapping):  # Ollama's "json", or what nobody knows
        return AnswerForm("structured")
    inner = asked.get("json_schema")
    holder = inner if isinstance(inner, Mapping) else asked
    schema = holder.get("schema")
    if schema is None and _is_schema(asked):
        schema = asked
    return AnswerForm("structured", schema if isinstance(schema, Mapping) else None)


def _is_schema(asked: Mapping[str, Any]) -> bool:
    return asked.get("type") not in ("json_schema", "json_object") and (
        "properties" in asked or "type" in asked
    )


def _of_tools(settings: Settings | Mapping[str, Any], tools: Sequence[Any]) -> AnswerForm:
    """Read which tools may or must be called."""
    choice = settings.get("tool_choice")
    if choice is None:
        choice = settings.get("function_call")
    kind = _type_of(choice)
    functions = tools or settings.get("functions") or ()
    if kind in _FREE:
        return TOOLS if functions and kind != "none" else TEXT
    schemas = dict(map(name_and_schema, functions))
    name, alone = _chosen(choice, schemas), len(schemas) == 1
    if name in schemas:
        schema = schemas[name]
        return AnswerForm("structured", schema, name, must_call_tool=True, tool_is_answer=alone)
    return AnswerForm("structured", must_call_tool=True)


def _chosen(choice: Any, schemas: Mapping[str | None, Any]) -> str | None:
    """Return the tool that *choice* names, or the only one there is."""
    if isinstance(choice, Mapping):
        name = (choice.get("function") or {}).get("name") or choice.get("name")
    else:
        name = choice if isinstance(choice, str) and choice in schemas else None
    if name is None and len(schemas) == 1:
        return next(iter(schemas))
    return name
