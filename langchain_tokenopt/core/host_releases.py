"""Whether the packages that this one builds on are installed in releases that it works with."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from langchain_tokenopt.core.errors import HostVersionError, TokenOptWarning

__all__ = ["check_host"]


@cache
def check_host(package: str) -> None:
    """Compare the installed release of *package* with the range that is known to work.

    A newer release is warned about once: it may work. An older one is known not to.

    Raises:
        HostVersionError: The release is older than the range.
    """
    allowed = _requirement(package)
    try:
        installed = Version(version(package))
    except PackageNotFoundError:  # put there without metadata: nobody knows its release
        return
    if allowed is None or allowed.specifier.contains(installed, prereleases=True):
        return
    message = (
        f"{package} {installed} is installed, and langchain-tokenopt works with "
        f"{package}{allowed.specifier}. Run: pip install '{package}{allowed.specifier}'"
    )
    bounds = [Version(s.version) for s in allowed.specifier if s.operator in (">=", ">", "==")]
    if any(installed < bound for bound in bounds):
        raise HostVersionError(message)
    warnings.warn(message, TokenOptWarning, stacklevel=3)


def _requirement(package: str) -> Requirement | None:
    """Return what ``pyproject.toml`` requires of *package*; ``None`` for what it does not name."""
    try:
        stated = map(Requirement, requires("langchain-tokenopt") or ())
    except PackageNotFoundError:  # run from a folder that was never installed
        return None
    return next((each for each in stated if each.name == package and each.marker is None), None)
