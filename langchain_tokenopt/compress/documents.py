"""The compressor for retrievers: LangChain's ``BaseDocumentCompressor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, SkipValidation

from langchain_tokenopt.compress.prompt_compressor import PromptCompressor

__all__ = ["DocumentCompressor"]


class DocumentCompressor(BaseDocumentCompressor):
    """Shorten retrieved documents to an exact number of tokens.

    For ``ContextualCompressionRetriever``. Counted is what the documents are once joined: the title
    (``metadata["title"]``) on a line of its own, the text, and a blank line between documents.

    Args:
        max_tokens: Tokens of all documents together.
        compressor: In place of *max_tokens*: a compressor with other settings.

    Raises:
        ValueError: If not exactly one of the two is given.

    Example:
        >>> documents = [Document("Tea is hot. Ice is cold."), Document("Birds can fly.")]
        >>> shorten = DocumentCompressor(max_tokens=5)
        >>> [d.page_content for d in shorten.compress_documents(documents, "What is cold?")]
        ['Ice is cold.']
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    compressor: SkipValidation[PromptCompressor]

    def __init__(
        self, max_tokens: int | None = None, compressor: PromptCompressor | None = None
    ) -> None:
        if (max_tokens is None) == (compressor is None):
            raise ValueError("Give exactly one of max_tokens and compressor.")
        fields: dict[str, Any] = {"compressor": compressor or PromptCompressor(max_tokens)}
        super().__init__(**fields)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Return *documents* shortened for *query*; those without anything relevant are left out.

        Raises:
            BudgetInfeasibleError: If what must be kept does not fit.
        """
        if not documents:
            return documents
        return self.compressor.compress(documents, query or None).content

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """As :meth:`compress_documents`, in a thread.

        Raises:
            BudgetInfeasibleError: If what must be kept does not fit.
        """
        return await run_in_executor(None, self.compress_documents, documents, query, callbacks)
