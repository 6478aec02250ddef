"""Settings that follow from what was seen, and stay where they are when too little was."""

from langchain_tokenopt.learn.auto_tune import AutoTune

__all__ = ["AutoTune"]
