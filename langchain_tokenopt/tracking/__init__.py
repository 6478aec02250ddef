"""From LangChain's callbacks to records of what was billed."""
