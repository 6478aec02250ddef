"""What an exception says about the bill of the call that it has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from langchain_tokenopt.core.errors import BudgetExceededError, StopStream
from langchain_tokenopt.core.usage import UsageReport, read_report
from langchain_tokenopt.core.usage_numbers import fields_of
from langchain_tokenopt.request.finish_reasons import REASON_KEYS

__all__ = ["is_given_up", "may_have_been_billed", "report_in", "text_in"]


def is_given_up(error: BaseException) -> bool:
    """Whether the caller has stopped reading or waiting, or has read enough: no failure."""
    return isinstance(error, StopStream) or not isinstance(error, Exception)


def may_have_been_billed(error: BaseException, handled: BaseException | None = None) -> bool:
    """Whether a call that failed may have been answered, and billed, all the same.

    A refusal says so with a status, and a connection that could not be made brought nothing. A
    request that was under way when its client gave up, or when the connection broke, was read, and
    so was one whose answer could not be parsed.

    Args:
        error: What has ended the call; what has caused it counts as well.
        handled: An exception that was being handled when the call began; it is not about this call.

    Example:
        >>> may_have_been_billed(TimeoutError()), may_have_been_billed(ConnectionRefusedError())
        (True, False)
    """
    if isinstance(error, BudgetExceededError):
        return False
    if is_given_up(error):
        return True
    links = list(_chain(error, handled))
    for link in links:
        status = _status_of(link)
        if status is not None:
            return 200 <= status < 300
    names = [name for link in links for name in _class_names(link)]
    if any(word in name for name in names for word in _NEVER_SENT):
        return False
    if any(word in name for name in names for word in _UNDER_WAY):
        return True
    return bool(text_in(error, handled)) or any(map(_is_answer, _answers_at_hand(links)))


_NEVER_SENT: Final = (
    *("ConnectError", "ConnectTimeout", "ConnectionTimeout", "PoolTimeout", "ConnectorError"),
    *("ConnectionRefused", "NewConnection", "NameResolution", "gaierror", "SSLCertVerification"),
)
"""In names of exceptions of a request that never reached the provider."""

_UNDER_WAY: Final = (
    *("Timeout", "DeadlineExceeded", "ReadError", "RemoteProtocolError", "Disconnected"),
    *("ConnectionReset", "ConnectionAborted", "BrokenPipe", "IncompleteRead", "IncompleteMessage"),
    *("ChunkedEncoding", "PayloadError", "ConnectionClosed", "FinishReason"),
)
"""In names of exceptions of a request that the provider was at, or had answered."""


def _class_names(error: BaseException) -> Iterator[str]:
    for kind in type(error).__mro__:
        if kind not in (Exception, BaseException, object):
            yield kind.__name__


def _chain(error: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """The exception, what it was raised from, and what it was raised beside; each once."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _LONGEST_CHAIN:
        link = waiting.pop(0)
        if link is handled or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [cause for cause in (link.__cause__, link.__context__) if cause is not None]
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions


_LONGEST_CHAIN: Final = 16


def _status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the answer that an exception tells of."""
    response = getattr(error, "response", None)
    metadata = fields_of(fields_of(response).get("ResponseMetadata"))  # botocore
    for status in (
        *(getattr(error, name, None) for name in ("status_code", "http_status", "status", "code")),
        getattr(response, "status_code", None),
        getattr(response, "status", None),
        metadata.get("HTTPStatusCode"),
    ):
        if type(status) is int and 100 <= status < 600:
            return status
    return None


# --- usage


def report_in(error: BaseException, handled: BaseException | None = None) -> UsageReport | None:
    """Return the usage that an exception carries: on an answer, or in the body of a response.

    openai keeps the answer as ``error.completion``; langchain-openai the response as
    ``error.response``; others the body. Any attribute that holds a usage report will do, and so
    will the answer that an integration was reading when it failed.

    Example:
        >>> error = ValueError("cut off")
        >>> error.body = {"usage": {"prompt_tokens": 900, "completion_tokens": 1_200}}
        >>> report_in(error).usage
        Usage(input_tokens=900, output_tokens=1200)
    """
    links = list(_chain(error, handled))
    values = [value for link in links for value in _attributes_of(link)]
    for value in (*values, *_answers_at_hand(links)):
        report = _search(value, [_MOST_NODES])
        if report is not None:
            return report
    return None


def _attributes_of(error: BaseException) -> Iterator[Any]:
    yield from list(getattr(error, "__dict__", {}).values())
    yield from error.args


_REPORTS: Final = ("usage", "token_usage", "usage_metadata", "usageMetadata")

_MOST_NODES: Final = 200
"""How many parts of an exception's attributes are looked at."""


def _search(value: Any, left: list[int]) -> UsageReport | None:
    """Look for a report in *value* and its parts."""
    if left[0] <= 0 or isinstance(value, str | bytes | int | float | type | None | BaseException):
        return None
    left[0] -= 1
    if isinstance(value, list | tuple):
        found = (_search(part, left) for part in value)
        return next((report for report in found if report is not None), None)
    fields = _body_of(value)
    for name in _REPORTS:
        report = read_report(fields.get(name))
        if report is not None and report.usage.total_tokens:
            return report
    return _search(list(fields.values()), left) if fields else None


def _body_of(value: Any) -> Mapping[Any, Any]:
    """Return the fields of an answer, or of the JSON in the body of an HTTP response."""
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "status_code") and callable(getattr(value, "json", None)):
        with suppress(Exception):  # not read, or no JSON
            body = value.json()
            return body if isinstance(body, Mapping) else {}
        return {}
    if hasattr(type(value), "model_dump"):
        return fields_of(value)
    held = getattr(value, "__dict__", {})  # of another object nothing else: it may be a client
    return {name: held[name] for name in _REPORTS if name in held}


def _answers_at_hand(links: Sequence[BaseException]) -> Iterator[Any]:
    """What the integration had got from the provider when it failed."""
    for link in links:
        trace = link.__traceback__
        while trace is not None:
            found = trace.tb_frame.f_locals
            for name in _RESPONSES:
                if found.get(name) is not None:
                    yield found[name]
            trace = trace.tb_next


_RESPONSES: Final = ("response", "raw_response", "api_response", "resp", "completion")
"""What integrations call the answer of their provider."""

_ANSWERS: Final = frozenset(
    {
        *("choices", "output", "candidates", "content", "completion", "message", "generations"),
        *("metrics", "usage"),
        *(key for key in REASON_KEYS if key.endswith(("_reason", "Reason"))),
    }
)
"""Fields of an answer of some provider."""


def _is_answer(value: Any) -> bool:
    """Whether *value* is an answer that a provider has given, and not a refusal."""
    status = getattr(value, "status_code", None)
    if type(status) is int:
        return 200 <= status < 300
    fields = fields_of(value)
    return "error" not in fields and not _ANSWERS.isdisjoint(fields)


def text_in(error: BaseException, handled: BaseException | None = None) -> str:
    """Return what the model wrote, where its answer could not be parsed."""
    for link in _chain(error, handled):
        for name in ("llm_output", "failed_generation"):
            text = getattr(link, name, None)
            if isinstance(text, str) and text:
                return text
        text = _unparsed(link)
        if text:
            return text
    return ""


def _unparsed(error: BaseException) -> str:
    """Return the text in which pydantic found no JSON."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return ""
    with suppress(Exception):  # a foreign method
        for found in errors():
            if found.get("type") == "json_invalid" and isinstance(found.get("input"), str):
                return str(found["input"])
    return ""
