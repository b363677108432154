# SPDX-License-Identifier: Apache-2.0
"""What a check is, what it finds, and how a list of them is run.

A check looks and never changes: it sends no transaction and needs no passphrase. One that fails does not hold up
those that do not need it; one that needs what failed says so instead of guessing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from web3 import Web3

from gpubond.chain.contracts import Contracts
from gpubond.chain.deployment import Deployment
from gpubond.errors import GpuBondError
from gpubond.settings import GatewaySettings, Home, OfferSettings, ProviderSettings, Settings

logger = logging.getLogger(__name__)


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # works now, or for most
    FAILED = "failed"
    SKIPPED = "skipped"  # could not be made, because another failed


@dataclass(frozen=True)
class Finding:
    """What a check found, in words, and what to do about it."""

    outcome: Outcome
    words: str
    remedy: str | None = None


def ok(words: str) -> Finding:
    """All is well."""
    return Finding(Outcome.OK, words)


def warning(words: str, remedy: str) -> Finding:
    """It works, but not as it should."""
    return Finding(Outcome.WARNING, words, remedy)


def failed(words: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Outcome.FAILED, words, remedy)


class Subject:
    """The machine that is looked at. A check sets what it has found out for those that need it.

    Set by `settings`: settings, provider, gateway, offer. By `key`: operator. By `deployment`, `node` and `contracts`:
    the attribute of that name. By `port`: worker_runs.
    """

    settings: Settings
    provider: ProviderSettings
    gateway: GatewaySettings
    offer: OfferSettings
    operator: str
    deployment: Deployment
    node: Web3
    contracts: Contracts
    worker_runs: bool

    def __init__(self, home: Home) -> None:
        self.home = home


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    name: short, for programs. looks_at: in words. needs: names of checks without which it cannot be made.
    """

    name: str
    looks_at: str
    look: Callable[[Subject], Finding]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A check and what it found."""

    name: str
    looks_at: str
    outcome: Outcome
    words: str
    remedy: str | None

    def as_dict(self) -> dict[str, str | None]:
        """JSON-ready."""
        return {
            "check": self.name,
            "outcome": str(self.outcome),
            "found": self.words,
            "remedy": self.remedy,
        }


def run_checks(subject: Subject, checks: Iterable[Check]) -> list[Result]:
    """Makes all checks in order, whatever the others find."""
    results: list[Result] = []
    unusable: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in unusable]
        if missing:
            finding = Finding(Outcome.SKIPPED, f"not checked: it needs {' and '.join(missing)}")
        else:
            finding = _look(check, subject)
        if finding.outcome in (Outcome.FAILED, Outcome.SKIPPED):
            unusable.add(check.name)
        results.append(Result(check.name, check.looks_at, finding.outcome, finding.words, finding.remedy))
    return results


def _look(check: Check, subject: Subject) -> Finding:
    try:
        return check.look(subject)
    except GpuBondError as error:
        return failed(error.message, error.remedy or "see the message")
    except Exception as error:
        logger.debug("the check %s broke", check.name, exc_info=True)
        return failed(
            f"the check itself broke: {type(error).__name__}: {error}", "report it; `doctor --verbose` shows where"
        )
