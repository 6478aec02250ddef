"""The same passages and question, laid out as in prompts that people write: the half to build on.

A layout takes the question and ``(title, text)`` pairs and returns a prompt: a text or messages.
All wording is ours. With no passages a layout gives its frame, whose tokens nobody can save.
"""

from __future__ import annotations

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


def _page(title: str) -> int:
    return zlib.crc32(title.encode()) % 90 + 1


def _file(title: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in title.lower()).strip("_") + ".pdf"


def helpful_answer(question: str, passages: Passages) -> Prompt:
    """The old question answering chain: a rule, bare passages, question, cue."""
    context = "\n\n".join(text for _, text in passages)
    return (
        "Answer the question at the end with the help of these pieces of text. When the answer is "
        "not in them, say that you do not know it and make nothing up.\n\n"
        f"{context}\n\nQuestion: {asked(question)}\nHelpful Answer:"
    )


def question_before_context(question: str, passages: Passages) -> Prompt:
    """The hub's short form: the question stands above the context."""
    context = "\n\n".join(text for _, text in passages)
    return [
        HumanMessage(
            "You help people to find answers. Work with the retrieved text below. If it does not "
            "tell, admit it. Write at most three sentences.\n"
            f"Question: {asked(question)} \nContext: {context} \nAnswer:"
        )
    ]


def system_holds_context(question: str, passages: Passages) -> Prompt:
    """A system message with rules and context; the user's message is the bare question."""
    context = "\n\n".join(text for _, text in passages)
    return [
        SystemMessage(
            "You answer questions of visitors. Rely on nothing but the text that follows. Stay "
            f"brief.\n\nContext:\n{context}"
        ),
        HumanMessage(asked(question)),
    ]


def between_rules(question: str, passages: Passages) -> Prompt:
    """A retrieval framework's default: context between two rules of dashes, then a query."""
    context = "\n\n".join(f"title: {title}\n\n{text}" for title, text in passages)
    return (
        "What we know stands below.\n---------------------\n"
        f"{context}\n---------------------\n"
        "Going by this and by no earlier knowledge, reply to the query.\n"
        f"Query: {asked(question)}\nAnswer: "
    )


def quoted_articles(question: str, passages: Passages) -> Prompt:
    """A cookbook's form: each article in triple quotes, the question last."""
    articles = "\n\n".join(
        f'Encyclopedia article, section {title}:\n"""\n{text}\n"""' for title, text in passages
    )
    return [
        SystemMessage("You know your way about encyclopedias."),
        HumanMessage(
            "Take the articles below to answer the question that comes after them. If you cannot "
            f'find it there, reply "Not found."\n\n{articles}\n\nQuestion: {asked(question)}'
        ),
    ]


def xml_documents(question: str, passages: Passages) -> Prompt:
    """Documents in nested tags, the question below them."""
    documents = "\n".join(
        f'<document index="{number}">\n<source>{title}</source>\n<document_content>\n{text}\n'
        "</document_content>\n</document>"
        for number, (title, text) in enumerate(passages, 1)
    )
    return [
        HumanMessage(
            f"<documents>\n{documents}\n</documents>\n\nRead the documents and tell me: "
            f"{asked(question)} Put the answer inside <answer> tags."
        )
    ]


def markdown_headings(question: str, passages: Passages) -> Prompt:
    """A Markdown page: a heading for the task, one for the sources, one for each passage."""
    sources = "\n\n".join(f"### {title}\n\n{text}" for title, text in passages)
    return (
        "# Task\n\nAnswer the user's question with the sources.\n\n"
        f"# Sources\n\n{sources}\n\n# Question\n\n{asked(question)}\n"
    )


def numbered_question_twice(question: str, passages: Passages) -> Prompt:
    """Numbered passages with the question above and below them."""
    listed = "\n".join(f"[{n}] {title}: {text}" for n, (title, text) in enumerate(passages, 1))
    return (
        f"Question: {asked(question)}\n\nSearch results:\n{listed}\n\n"
        f"Cite the results by number. Once more, the question is: {asked(question)}\nAnswer:"
    )


def json_list(question: str, passages: Passages) -> Prompt:
    """The retriever's result, dumped as JSON."""
    listed = json.dumps([{"title": t, "text": x} for t, x in passages], ensure_ascii=False)
    return [
        SystemMessage("You get search hits as JSON and answer from them."),
        HumanMessage(f"Hits:\n{listed}\n\nQuestion: {asked(question)}"),
    ]


def files_and_pages(question: str, passages: Passages) -> Prompt:
    """Each passage under the file and the page it was cut from, with rules between."""
    listed = "\n---\n".join(
        f"Source: {_file(title)} p. {_page(title)}\n{text}" for title, text in passages
    )
    return [
        SystemMessage(
            "Answer from the extracts that the user gives. Name the file and the page you used."
        ),
        HumanMessage(f"{listed}\n---\n\n{asked(question)}"),
    ]


def order_first(question: str, passages: Passages) -> Prompt:
    """No question at all: an order at the top, without labels."""
    notes = "\n\n".join(f"{title}\n{text}" for title, text in passages)
    return f"Find out {question.rstrip('? ')} from my notes and tell me.\n\n{notes}"


def blank_lines_only(question: str, passages: Passages) -> Prompt:
    """Pasted passages, then the words of a search box."""
    pasted = "\n\n".join(text for _, text in passages)
    return f"{pasted}\n\n{question.rstrip('? ')}"


def german_labels(question: str, passages: Passages) -> Prompt:
    """A German template round English passages."""
    listed = "\n\n".join(f"Titel: {title}\nText: {text}" for title, text in passages)
    return (
        "Du beantwortest Fragen nur anhand der Auszüge. Steht die Antwort nicht darin, sag das.\n\n"
        f"Auszüge:\n{listed}\n\nFrage: {asked(question)}\nAntwort:"
    )


def retriever_tool(question: str, passages: Passages) -> Prompt:
    """An agent's turn: the question, a call of the search tool, its result as text."""
    call = {"name": "search_notes", "args": {"query": question}, "id": "call_7"}
    return [
        SystemMessage("You are an agent with a search tool."),
        HumanMessage(asked(question)),
        AIMessage("", tool_calls=[call]),
        ToolMessage("\n\n".join(f"{t}\n{x}" for t, x in passages) or "-", tool_call_id="call_7"),
    ]


def rewritten_conversation(question: str, passages: Passages) -> Prompt:
    """A chat in which an earlier question was answered; the new one brings its context."""
    context = "\n\n".join(f"{title}: {text}" for title, text in passages)
    return [
        SystemMessage("You are a friendly librarian."),
        HumanMessage("Do you have anything on the history of tea?"),
        AIMessage("Yes, two shelves of it, by the window."),
        HumanMessage(f"Context:\n{context}\n\n{asked(question)}"),
    ]


LAYOUTS: dict[str, Layout] = {
    layout.__name__: layout
    for layout in (
        helpful_answer,
        question_before_context,
        system_holds_context,
        between_rules,
        quoted_articles,
        xml_documents,
        markdown_headings,
        numbered_question_twice,
        json_list,
        files_and_pages,
        order_first,
        blank_lines_only,
        german_labels,
        retriever_tool,
        rewritten_conversation,
    )
}
