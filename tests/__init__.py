"""Tests of langchain_tokenopt."""
