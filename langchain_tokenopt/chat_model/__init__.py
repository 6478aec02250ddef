"""Stages around any chat model, which keeps its own class and all its methods."""

from langchain_tokenopt.chat_model.optimize import Level, optimize, stages_of
from langchain_tokenopt.core.host_releases import check_host

check_host("langchain-core")

__all__ = ["Level", "optimize", "stages_of"]
