"""The command line, as ``python -m langchain_tokenopt``."""

from langchain_tokenopt.cli import main

if __name__ == "__main__":
    main()
