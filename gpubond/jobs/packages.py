# SPDX-License-Identifier: Apache-2.0
"""Python packages: those that a job needs, and those that a provider's Python has.

Names and versions are as on PyPI (PEP 503, PEP 440), and `python` stands for Python itself. What a provider says of
itself is read as a stranger's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, StringConstraints

PYTHON = "python"
MAX_NAME, MAX_VERSION, MAX_PACKAGES = 100, 100, 4096
# Of what is installed, what a buyer is most likely to look for; the rest is in JSON.
_LEADING = ("numpy", "scipy", "scikit-learn", "pandas", "torch", "torchvision", "jax", "tensorflow", "transformers")


def _package_name(name: str) -> str:
    known = canonicalize_name(name)
    if name != known:
        raise ValueError(f"write the package's name as {known!r}")
    return name


def _specifier(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise ValueError(f"{text!r} says no versions: write '>=2', '>=2,<3' or '==2.1.*', or '' for any") from None
    return text


PackageName = Annotated[
    str,
    StringConstraints(strict=True, max_length=MAX_NAME, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"),
    AfterValidator(_package_name),
]
Specifier = Annotated[str, StringConstraints(strict=True, max_length=MAX_VERSION), AfterValidator(_specifier)]
Requires = Annotated[dict[PackageName, Specifier], Field(min_length=1, max_length=64)]


@dataclass(frozen=True)
class Software:
    """A Python's version, and the version of each of its packages by name."""

    python: str
    packages: Mapping[str, str]

    @classmethod
    def parse(cls, document: Any) -> Software | None:
        """What a provider says; None if that is not of this form."""
        python: Any = document.get("python") if isinstance(document, dict) else None
        packages: Any = document.get("packages") if isinstance(document, dict) else None
        if not _is_text(python, MAX_VERSION) or not isinstance(packages, dict) or len(packages) > MAX_PACKAGES:
            return None
        if not all(_is_text(name, MAX_NAME) and _is_text(version, MAX_VERSION) for name, version in packages.items()):
            return None
        return cls(python, packages)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; `parse` reads it."""
        return {"python": self.python, "packages": dict(self.packages)}

    @property
    def words(self) -> str:
        """One line: Python, the packages that are looked for most, and how many others there are."""
        known = [name for name in _LEADING if name in self.packages]
        listed = [f"Python {self.python}", *(f"{name} {self.packages[name]}" for name in known)]
        others = len(self.packages) - len(known)
        return ", ".join(listed) + (f" and {others} other packages" if others else "")


def _is_text(value: Any, most: int) -> bool:
    # Printable, as it is shown on terminals.
    return isinstance(value, str) and 0 < len(value) <= most and value.isascii() and value.isprintable()


def unmet(requires: Mapping[str, str], software: Software) -> list[str]:
    """What a job needs and that Python lacks, each in words."""
    found = {**software.packages, PYTHON: software.python}
    return [
        f"{f'{name} {wanted}'.strip()} ({f'it has {found[name]}' if name in found else 'it has none'})"
        for name, wanted in requires.items()
        if name not in found or not _fits(found[name], wanted)
    ]


def in_words(requires: Mapping[str, str]) -> str:
    """What a job needs."""
    return ", ".join(f"{name} {wanted}".strip() for name, wanted in requires.items())


def _fits(version: str, wanted: str) -> bool:
    try:
        # Whoever has a pre-release installed means to use it; what is built for a processor (+cpu) is that version too.
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return not wanted
