"""The same passages and question, laid out as in prompts that people write: the half to judge by.

The kinds differ from those in ``layouts_build``. All wording is ours.
"""

from __future__ import annotations

import html
import json
import zlib
from collections.abc import Callable, Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

Passages = Sequence[tuple[str, str]]
Prompt = str | list[BaseMessage]
Layout = Callable[[str, Passages], Prompt]


def asked(question: str) -> str:
    """Write the question as a sentence: with a capital letter and a question mark."""
    return question[:1].upper() + question[1:].rstrip("? ") + "?"


def context_tag_in_system(question: str, passages: Passages) -> Prompt:
    """The retrieval chain of the 2023 and 2024 guides: one tag in the system message."""
    context = "\n\n".join(text for _, text in passages)
    return [
        SystemMessage(
            "Reply to the user with what stands in the context and with nothing else:\n\n"
            f"<context>\n{context}\n</context>"
        ),
        HumanMessage(asked(question)),
    ]


def following_context(question: str, passages: Passages) -> Prompt:
    """A template in one message: "based on the following context", the question last."""
    context = "\n\n".join(text for _, text in passages)
    return [
        HumanMessage(
            "Give an answer to the question that rests on the following context alone:\n"
            f"{context}\n\nQuestion: {asked(question)}\n"
        )
    ]


def html_page(question: str, passages: Passages) -> Prompt:
    """A scraped page."""
    body = "\n".join(
        f"<h2>{html.escape(title)}</h2>\n<p>{html.escape(text, quote=False)}</p>"
        for title, text in passages
    )
    return (
        f"{asked(question)}\n\nHere is the page that I saved:\n\n<html>\n<body>\n{body}\n</body>\n"
        "</html>"
    )


def yaml_list(question: str, passages: Passages) -> Prompt:
    """Passages as a YAML list."""
    rows = "\n".join(
        f"- title: {json.dumps(title, ensure_ascii=False)}\n  text: "
        f"{json.dumps(text, ensure_ascii=False)}"
        for title, text in passages
    )
    return f"passages:\n{rows}\n\nquestion: {asked(question)}\nanswer:"


def json_lines(question: str, passages: Passages) -> Prompt:
    """One JSON object a line, as loaders write them."""
    rows = "\n".join(
        json.dumps(
            {"page_content": text, "metadata": {"source": title, "chunk": n}}, ensure_ascii=False
        )
        for n, (title, text) in enumerate(passages)
    )
    return [
        SystemMessage(f"Knowledge base extract, one record a line:\n{rows}"),
        HumanMessage(asked(question)),
    ]


def document_reprs(question: str, passages: Passages) -> Prompt:
    """Somebody forgot to format the documents: Python's own notation of a list of them."""
    rows = ", ".join(
        f"Document(metadata={{'source': {title!r}, 'score': 0.{zlib.crc32(title.encode()) % 90 + 10}"
        f"}}, page_content={text!r})"
        for title, text in passages
    )
    return f"Context: [{rows}]\n\nQuestion: {asked(question)}\n\nAnswer:"


def chat_export(question: str, passages: Passages) -> Prompt:
    """Messages of a group, pasted with dates and names."""
    names = ("Mira", "Tom", "Dr. Okafor", "Lena S.")
    rows = "\n".join(
        f"[2024-03-{n % 27 + 1:02}, {8 + n % 12}:{n * 7 % 60:02}] {names[n % 4]}: {text}"
        for n, (_, text) in enumerate(passages)
    )
    return f"Our group chat:\n\n{rows}\n\nWhat did they say about this: {asked(question)}"


def quoted_email(question: str, passages: Passages) -> Prompt:
    """An e-mail whose quoted part holds the passages."""
    quoted = "\n>\n".join(f"> {title}\n> {text}" for title, text in passages)
    return (
        f"Hi,\n\nI got the mail below from our archive. {asked(question)}\n\nThanks\nJo\n\n"
        f"On Tuesday the archive wrote:\n{quoted}\n"
    )


def underlined_titles(question: str, passages: Passages) -> Prompt:
    """Titles underlined with equals signs, as in plain-text documentation."""
    listed = "\n\n".join(f"{title}\n{'=' * len(title)}\n{text}" for title, text in passages)
    return (
        f"{listed}\n\nUse the text above. Tell me {question.rstrip('? ')}. Answer in one sentence."
    )


def french_question_first(question: str, passages: Passages) -> Prompt:
    """A French template, the question first."""
    listed = "\n\n".join(f"Extrait {n} :\n{text}" for n, (_, text) in enumerate(passages, 1))
    return [
        SystemMessage("Tu réponds en te servant uniquement des extraits fournis."),
        HumanMessage(f"Question : {asked(question)}\n\nExtraits :\n\n{listed}\n\nRéponse :"),
    ]


def one_blob_per_line(question: str, passages: Passages) -> Prompt:
    """One passage a line without titles; a search phrase first."""
    lines = "\n".join(" ".join(text.split()) for _, text in passages)
    return f"{question.rstrip('? ')}\n\n{lines}"


def chunks_with_scores(question: str, passages: Passages) -> Prompt:
    """What a vector store prints: number, score, origin, then the text."""
    listed = "\n\n".join(
        f"Chunk {n} | score 0.{99 - n} | {title}\n{text}"
        for n, (title, text) in enumerate(passages, 1)
    )
    return [
        SystemMessage(
            "You answer questions about the user's library.\n\nRetrieved chunks:\n\n"
            f"{listed}\n\nEnd of chunks. Never mention the scores."
        ),
        HumanMessage(asked(question)),
    ]


def bold_bullets(question: str, passages: Passages) -> Prompt:
    """A Markdown list with bold titles, the question in bold above it."""
    listed = "\n".join(f"- **{title}**: {text}" for title, text in passages)
    return f"**Question:** {asked(question)}\n\n**Evidence:**\n{listed}\n\n**Answer:**"


def piped_table(question: str, passages: Passages) -> Prompt:
    """A Markdown table of titles and extracts."""
    rows = "\n".join(
        f"| {n} | {title.replace('|', '/')} | {text.replace('|', '/')} |"
        for n, (title, text) in enumerate(passages, 1)
    )
    return (
        f"| No. | Title | Extract |\n| --- | --- | --- |\n{rows}\n\n"
        f"From the table: {asked(question)}"
    )


def json_tool_result(question: str, passages: Passages) -> Prompt:
    """An agent's turn with the result of its tool as JSON."""
    call = {"name": "vector_search", "args": {"text": question, "k": 20}, "id": "t1"}
    result = {"results": [{"title": t, "snippet": x} for t, x in passages], "took_ms": 12}
    return [
        HumanMessage(asked(question)),
        AIMessage("", tool_calls=[call]),
        ToolMessage(json.dumps(result, ensure_ascii=False), tool_call_id="t1"),
    ]


def search_result_tags(question: str, passages: Passages) -> Prompt:
    """Flat tags with attributes, rules after them, the question in a tag of its own."""
    listed = "\n".join(
        f"<result id='{n}' title={json.dumps(title, ensure_ascii=False)}>{text}</result>"
        for n, (title, text) in enumerate(passages, 1)
    )
    return [
        HumanMessage(
            f"<search_results>\n{listed}\n</search_results>\n\n<rules>\nQuote word for word where "
            f"you can.\n</rules>\n\n<question>{asked(question)}</question>"
        )
    ]


LAYOUTS: dict[str, Layout] = {
    layout.__name__: layout
    for layout in (
        context_tag_in_system,
        following_context,
        html_page,
        yaml_list,
        json_lines,
        document_reprs,
        chat_export,
        quoted_email,
        underlined_titles,
        french_question_first,
        one_blob_per_line,
        chunks_with_scores,
        bold_bullets,
        piped_table,
        json_tool_result,
        search_result_tags,
    )
}
