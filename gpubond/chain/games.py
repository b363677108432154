# SPDX-License-Identifier: Apache-2.0
"""The conditions of `DisputeGame` for an EXACT job: what buyers, providers and whoever watches ask of its terms before
any money moves. Amounts are base units of the token, durations seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gpubond.chain.contracts import ZERO_ADDRESS, Contracts
from gpubond.chain.market import Offer


class Shortfall(NamedTuple):
    """Why terms do not do: a field, its value, and what would."""

    field: str
    value: object
    reason: str
    remedy: str

    @property
    def words(self) -> str:
        """In one line."""
        return f"{self.field} = {self.value}: {self.reason}; {self.remedy}"


@dataclass(frozen=True)
class GameRules:
    """What one deployment's game asks for.

    clock: seconds that each side has at first. increment: what a move adds, beside the answer seconds; also the time
    that a transaction may be kept out of the chain. minimum_collateral, maximum_collateral: of a job, base units.
    most_answer_seconds: that terms may give to one answer.
    """

    address: str
    clock: int
    increment: int
    minimum_collateral: int
    maximum_collateral: int
    most_answer_seconds: int

    def window(self, longest_run: int) -> int:
        """The shortest challenge window in which somebody can compute a run again and open a game: seconds."""
        return longest_run + 2 * self.increment

    def shortfall(
        self,
        *,
        arbiter: str,
        collateral: int,
        challenge_window: int,
        longest_run: int,
        answer_seconds: int | None = None,
    ) -> Shortfall | None:
        """The first of a job's terms that does not do; None if all do.

        answer_seconds: None where it is not known yet.
        """
        if arbiter != self.address:
            found = "none" if arbiter == ZERO_ADDRESS else arbiter
            return Shortfall("arbiter", found, f"is not this deployment's DisputeGame, {self.address}", "take that one")
        if collateral < self.minimum_collateral:
            reason = "is too low to pay those who show that a result is wrong"
            return Shortfall(
                "collateral", collateral, reason, f"at least {self.minimum_collateral} base units are needed"
            )
        if collateral > self.maximum_collateral:
            reason = "is more than the game may decide about"
            return Shortfall(
                "collateral", collateral, reason, f"at most {self.maximum_collateral} base units are allowed"
            )
        if challenge_window < self.window(longest_run):
            reason = "is too short to compute the run again and to open a game"
            remedy = f"a run of {longest_run} s needs {self.window(longest_run)} s"
            return Shortfall("challenge_window", challenge_window, reason, remedy)
        if answer_seconds is not None and answer_seconds > self.most_answer_seconds:
            reason = "makes games longer than the escrow waits for them"
            return Shortfall(
                "answer_seconds", answer_seconds, reason, f"at most {self.most_answer_seconds} s are allowed"
            )
        return None


def game_rules(contracts: Contracts) -> GameRules | None:
    """What this deployment's DisputeGame asks for; None if it has none.

    Raises:
        Unreachable: the node does not answer.
    """
    if contracts.game_address is None:
        return None
    ask = contracts.at("DisputeGame", contracts.game_address).functions
    return GameRules(
        contracts.game_address,
        clock=int(ask.CLOCK().call()),
        increment=int(ask.INCREMENT().call()),
        minimum_collateral=int(ask.minimum_collateral().call()),
        maximum_collateral=int(ask.MAX_COLLATERAL().call()),
        most_answer_seconds=int(ask.MAX_ANSWER().call()),
    )


def offer_shortfall(
    contracts: Contracts, offer: Offer, longest_run: int, answer_seconds: int | None = None
) -> Shortfall | None:
    """Why a job of tier EXACT must not be hired at an offer; None if nothing is against it."""
    rules = game_rules(contracts)
    if rules is None:
        return Shortfall("arbiter", offer.arbiter, "this deployment has no DisputeGame", "use another deployment")
    return rules.shortfall(
        arbiter=offer.arbiter,
        collateral=offer.collateral,
        challenge_window=offer.challenge_window,
        longest_run=longest_run,
        answer_seconds=answer_seconds,
    )
