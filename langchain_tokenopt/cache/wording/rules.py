"""Which rules the forms of questions are made by, so that none is compared with an older one."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final
from unicodedata import unidata_version

from langchain_tokenopt.cache import writing
from langchain_tokenopt.text import numbers, scripts, stems

__all__ = ["RULES"]


def _rules() -> bytes:
    """Hash the modules that make the forms: nobody has to remember to count a version up."""
    files = [*Path(__file__).parent.glob("*.py")]
    files += [Path(module.__file__ or "") for module in (writing, numbers, scripts, stems)]
    digest = blake2b(unidata_version.encode(), digest_size=4)
    for file in sorted(files, key=lambda file: file.name):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.digest()


RULES: Final = _rules()
"""Four bytes that are others as soon as one of the rules is."""
