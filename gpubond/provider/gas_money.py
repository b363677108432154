# SPDX-License-Identifier: Apache-2.0
"""How long an account's gas money lasts, and the warning of a worker whose money runs out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_UP, Decimal, localcontext

from eth_utils.address import to_checksum_address
from web3 import Web3

from gpubond.chain.fees import market_fees

logger = logging.getLogger(__name__)

# Gas of a job for its provider, commitment and settlement, and of a call of its owner: the figures in
# benchmarks/results/gas.json, rounded up, with the fifth that the sender adds.
JOB_GAS = 130_000
OWNER_CALL_GAS = 90_000
# Of all answers in the longest game that a challenger can lead through (`DisputeGame.GAME_GAS`, with that fifth).
GAME_GAS = 1_500_000
# Seconds between two looks, and between two warnings.
LOOK_EVERY = 300.0
WARN_EVERY = 3600.0
_MANY = 10_000
_DIGITS = 6


@dataclass(frozen=True)
class GasMoney:
    """What an account has (wei), and what a unit of gas costs at most (wei), as the sender reckons."""

    balance: int
    gas_price: int

    def calls(self, gas: int) -> int:
        """How many calls of so much gas it pays for."""
        return self.balance // max(1, gas * self.gas_price)

    @property
    def jobs(self) -> int:
        """How many jobs it pays for."""
        return self.calls(JOB_GAS)

    @property
    def jobs_text(self) -> str:
        """The same in words."""
        if self.jobs >= _MANY:
            return f"more than {_MANY:,} jobs"
        return f"{self.jobs:,} {'job' if self.jobs == 1 else 'jobs'}"

    @property
    def text(self) -> str:
        """The balance in the chain's coin."""
        return coins(self.balance)

    def coins(self, gas: int) -> str:
        """What so much gas costs, in the chain's coin."""
        return coins(gas * self.gas_price, ROUND_UP)

    def coins_for(self, jobs: int) -> str:
        """What so many jobs cost, in the chain's coin."""
        return self.coins(jobs * JOB_GAS)


def answers_lack(money: GasMoney, jobs: int) -> str:
    """What is missing for the answers of a game about each of so many EXACT jobs, in words; empty if nothing is."""
    if money.calls(GAME_GAS) >= jobs:
        return ""
    short = GasMoney(jobs * GAME_GAS * money.gas_price - money.balance, 1)
    which = "of one EXACT job" if jobs == 1 else f"of {jobs} EXACT jobs"
    return f"the operator has {money.text}; to answer challenges {which} it needs {coins(short.balance, ROUND_UP)} more"


def gas_money(node: Web3, address: str) -> GasMoney:
    """The gas money of an account at today's price.

    Raises:
        Unreachable: the node does not answer.
    """
    balance = int(node.eth.get_balance(to_checksum_address(address)))
    return GasMoney(balance, market_fees(node).max_fee)


class GasWatch:
    """Warns when the operator's money lasts for few jobs: at once, then hourly, and again when it is gone.

    Args:
        low_jobs: warn below so many jobs.
        clock: seconds, from anywhere.
    """

    def __init__(self, node: Web3, address: str, low_jobs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._address = address
        self._low_jobs = low_jobs
        self._clock = clock
        self._looked = float("-inf")
        self._warned: tuple[float, int] | None = None

    def look(self) -> None:
        """Looks if the time has come; cheap otherwise.

        Raises:
            Unreachable: the node does not answer.
        """
        now = self._clock()
        if now - self._looked < LOOK_EVERY:
            return
        money = gas_money(self._node, self._address)
        self._looked = now
        if money.jobs >= self._low_jobs:
            if self._warned is not None:
                logger.info("gas money is enough again: %s, for %s", money.text, money.jobs_text)
            self._warned = None
            return
        if self._warned is not None:
            at, jobs = self._warned
            if now - at < WARN_EVERY and not (money.jobs == 0 < jobs):
                return
        self._warned = (now, money.jobs)
        logger.warning(
            "low gas money: the operator %s has %s, enough for %s; send it %s for 100 jobs",
            self._address,
            money.text,
            money.jobs_text,
            money.coins_for(100),
        )


def coins(wei: int, rounding: str = ROUND_DOWN) -> str:
    """Wei in words, to six digits."""
    return f"{coin_text(wei, rounding)} of the chain's coin"


def coin_text(wei: int, rounding: str = ROUND_DOWN) -> str:
    """Wei as a number of the chain's coin, to six digits."""
    with localcontext() as context:
        context.prec, context.rounding = _DIGITS, rounding
        value = +Decimal(wei).scaleb(-18)
    return f"{value.normalize():f}"
