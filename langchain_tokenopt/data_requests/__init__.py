"""Ask for the data that a request needs and nobody has given yet, for as few tokens as it takes."""

from __future__ import annotations

from langchain_tokenopt.core.host_releases import check_host
from langchain_tokenopt.data_requests.collected import (
    DataCollected,
    DataConflict,
    DataStage,
    Fact,
    Gap,
    SaidValue,
)
from langchain_tokenopt.data_requests.needs import DataNeed
from langchain_tokenopt.data_requests.requester import DataRequester
from langchain_tokenopt.data_requests.wording import DataQuestion

__all__ = [
    "DataCollected",
    "DataConflict",
    "DataNeed",
    "DataQuestion",
    "DataRequester",
    "DataStage",
    "Fact",
    "Gap",
    "SaidValue",
]

check_host("langgraph")
