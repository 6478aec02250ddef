"""A page that shows a ledger while it is written: read-only, and on this machine."""

from __future__ import annotations

from langchain_tokenopt.dashboard.app import make_app

__all__ = ["make_app"]
