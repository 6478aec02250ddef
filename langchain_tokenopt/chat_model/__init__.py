"""Stages around any chat model, which keeps its own class and all its methods."""

from langchain_tokenopt.chat_model.optimize import optimize
from langchain_tokenopt.chat_model.presets import stages_of
from langchain_tokenopt.core.host_releases import check_host
from langchain_tokenopt.core.levels import Level

check_host("langchain-core")

__all__ = ["Level", "optimize", "stages_of"]
