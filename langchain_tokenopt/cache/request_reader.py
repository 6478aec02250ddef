"""Reading requests: whose they are, and what of them is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from langchain_tokenopt.cache.call_settings import UnkeyableError, credentials_of
from langchain_tokenopt.cache.failure_shield import Shield
from langchain_tokenopt.cache.key import Question, is_owned, node_question, question_of
from langchain_tokenopt.cache.owner_labels import ScopeLabels, name_an_owner
from langchain_tokenopt.cache.settings import CacheSettings
from langchain_tokenopt.request.model_request import ModelRequest

__all__ = ["RequestReader"]


class _NoScopeError(UnkeyableError):
    """A request that does not say whose it is, where that is required."""


class RequestReader:
    """Reads requests as LangChain hands them to a cache, or as the seam does.

    Args:
        settings: The namespace, and how much of a conversation is compared.
        shield: Counts requests that cannot be read, and warns of them.
        require_scope: Refuse requests that do not say whose they are.
    """

    def __init__(self, settings: CacheSettings, shield: Shield, *, require_scope: bool) -> None:
        self._settings = settings
        self._shield = shield
        self._require_scope = require_scope
        self._labels = ScopeLabels()

    def scope(self, labels: Mapping[str, str]) -> AbstractContextManager[None]:
        """Set labels for what is asked inside."""
        return self._labels.scope(labels)

    @property
    def why_not_read(self) -> str:
        """Why an answer is most likely not stored whose request cannot be read."""
        return "no scope" if self._require_scope else "unkeyable"

    def read_request(self, request: ModelRequest) -> Question | None:
        """Read a request of the seam, where the keys that the model calls with can be seen."""
        prompt, llm_string = request.cache_key()
        llm_string += credentials_of(request.model)
        return self.read(prompt, llm_string, request.run.metadata)

    def may_judge(self, scope: bytes) -> bool:
        """Say whether what lies in *scope* may be judged here: inside of a scope only its own."""
        labels = self._labels.labels({})
        return not name_an_owner(labels) or is_owned(scope, self._settings.namespace, labels)

    def read(
        self,
        prompt: str,
        llm_string: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        counted: bool = True,
    ) -> Question | None:
        """Read a request; ``None``, and counted, when it looks like others."""
        try:
            return self.question(prompt, llm_string, metadata)
        except _NoScopeError:
            reason = "no scope"
        except UnkeyableError as error:
            reason = "unkeyable"
            self._shield.warn(reason, f"A request is not cached: {error}")
        # Prompts and settings are foreign text, and JSON can be nested deeper than Python allows.
        except Exception as error:  # noqa: BLE001
            reason = "unreadable"
            name = type(error).__name__
            self._shield.warn(reason, f"A request cannot be read ({name}: {error}).")
        if counted:
            self._shield.misses[reason] += 1
        return None

    def read_node(self, node: Sequence[str], key: str) -> Question | None:
        """Read the input of a graph's node; ``None`` where a scope is required and there is none.

        Args:
            node: What names the node.
            key: Its input, or a hash of it.
        """
        labels = self._labels.labels()
        if self._require_scope and not name_an_owner(labels):
            self._shield.misses["no scope"] += 1
            return None
        return node_question(self._settings.namespace, labels, node, key)

    def question(
        self, prompt: str, llm_string: str, metadata: Mapping[str, Any] | None = None
    ) -> Question:
        """Read a request.

        Raises:
            UnkeyableError: If it looks like others, or does not say whose it is.
        """
        labels = self._labels.labels(metadata)
        if self._require_scope and not name_an_owner(labels):
            raise _NoScopeError("The request is in no scope, and one is required.")
        settings = self._settings
        return question_of(prompt, llm_string, settings.namespace, labels, settings.context)
