# SPDX-License-Identifier: Apache-2.0
"""`DisputeGame`: what can be read from it, the calls that change it, and its conditions for an EXACT job, which buyers,
providers and whoever watches ask of the terms before any money moves. Amounts are base units of the token, durations
seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gpubond.chain.contracts import ZERO_ADDRESS, Call, Contracts
from gpubond.chain.market import Commitment, JobTerms, Offer

# Games that may be open on each of a provider's jobs at once without making it late; it computes one answer after the
# other. Why, and what more of them would cost, is in docs/trust.md.
CROWD = 64


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
    max_answer: answer seconds that the game takes at most.
    """

    address: str
    clock: int
    increment: int
    minimum_collateral: int
    maximum_collateral: int
    max_answer: int

    @property
    def answer_seconds(self) -> int:
        """What the answer seconds of all `EXACT` jobs that a provider stands by may be together: then it computes the
        answers of a crowd on each of them within the increment, and none is late."""
        return self.increment // CROWD

    @property
    def most_answer_seconds(self) -> int:
        """That the terms of a job may give to one answer; no provider takes more."""
        return min(self.max_answer, self.answer_seconds)

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
            reason = "is so long that a crowd of challengers could make an honest provider late, and none takes it"
            remedy = f"at most {self.most_answer_seconds} s: take checkpoints oftener (exact.interval)"
            return Shortfall("answer_seconds", answer_seconds, reason, remedy)
        return None

    def crowding(self, answer_seconds: int, held: int) -> Shortfall | None:
        """Why a provider must not take a job beside those that it stands by; None if it may.

        answer_seconds: the job's. held: those of the others, together.
        """
        room = max(0, self.answer_seconds - held)
        if answer_seconds <= room:
            return None
        reason = f"a crowd of challengers could make this provider late: its other EXACT jobs have {held} s already"
        remedy = f"{room} s are free of {self.answer_seconds}; take another provider, or wait until a job is final"
        return Shortfall("answer_seconds", answer_seconds, reason, remedy)


# A struct of the contract, in the order of its fields; `gpubond.disputes.structs` makes them.
Struct = tuple[Any, ...]


class DisputeGame:
    """Typed access to the contract of one deployment; make it with `dispute_game`.

    A call is data for the sender; nothing is sent here.
    """

    def __init__(self, contracts: Contracts, address: str) -> None:
        self._contracts = contracts
        self._contract = contracts.at("DisputeGame", address)
        self.address = str(self._contract.address)

    def bond_of(self, job: bytes, terms: JobTerms) -> int:
        """The bond of the next game on a job, at the present base fee."""
        return int(self._contract.functions.bond_of(job, terms.collateral, terms.escrowed).call())

    def games_of(self, job: bytes) -> JobGames:
        """What is kept of a job."""
        return JobGames(*self._contract.functions.games_of(job).call())

    def balance_of(self, account: str) -> int:
        """What an account can withdraw, base units."""
        return int(self._contract.functions.balance_of(account).call())

    def open(
        self,
        terms: JobTerms,
        commitment: Commitment,
        run: Struct,
        answer_seconds: int,
        salt: bytes,
        max_bond: int,
        nodes: Sequence[bytes],
    ) -> Call:
        """Opens a game, with a bond of at most so many base units.

        nodes: the first of the challenger's run tree; none if that has one leaf.
        """
        words = f"challenge the result 0x{commitment.result_root.hex()} with a bond"
        args = (terms.as_tuple(), commitment.as_tuple(), run, answer_seconds, salt, max_bond, b"".join(nodes))
        return self._call("open", words, *args)

    def move(self, name: str, words: str, *args: Any) -> Call:
        """A move of a game; see `gpubond.disputes.calldata`."""
        return self._call(name, words, *args)

    def time_out(self, game: bytes, position: Struct, way: Struct, origin: Struct) -> Call:
        """Ends a game whose mover's clock has run out."""
        args = (game, position, way, origin)
        return self._call("time_out", "end the game: the other side's clock has run out", *args)

    def claim(self, game: bytes, position: Struct, way: Struct, origin: Struct) -> Call:
        """Gets bond and refund of a game that was open at the conviction of its job."""
        args = (game, position, way, origin)
        return self._call("claim", "get the bond back, and the share of the collateral", *args)

    def release(self, terms: JobTerms) -> Call:
        """Lets a job be settled again whose games are all lost."""
        return self._call("release", "release the job: no game on it is open", terms.as_tuple())

    def convict(self, terms: JobTerms, commitment: Commitment) -> Call:
        """Has the escrow take the collateral of a job on which a game was won."""
        return self._call("convict", "convict the job's provider", terms.as_tuple(), commitment.as_tuple())

    def withdraw(self, amount: int, receiver: str) -> Call:
        """Takes tokens out of the caller's balance in the game."""
        words = f"withdraw {self._contracts.token_info.text(amount)} from the game to {receiver}"
        return self._call("withdraw", words, amount, receiver)

    def _call(self, name: str, words: str, *args: Any) -> Call:
        return Call(words, self.address, self._contract.encode_abi(name, args=list(args)))


class JobGames(NamedTuple):
    """What the contract keeps of a job: games that are open (after a conviction not claimed yet) and ever were; whether
    one was won, and the escrow knows; among how many games which share of the collateral (base units) goes."""

    open: int
    opened: int
    convicted: bool
    told: bool
    refunded: int
    share: int


def dispute_game(contracts: Contracts) -> DisputeGame | None:
    """The deployment's DisputeGame; None where it was deployed without."""
    return None if contracts.game_address is None else DisputeGame(contracts, contracts.game_address)


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
        max_answer=int(ask.MAX_ANSWER().call()),
    )


def offer_shortfall(
    rules: GameRules | None, offer: Offer, longest_run: int, answer_seconds: int | None = None
) -> Shortfall | None:
    """Why a job of tier EXACT must not be hired at an offer; None if nothing is against it. rules: see `game_rules`."""
    if rules is None:
        return Shortfall("arbiter", offer.arbiter, "this deployment has no DisputeGame", "use another deployment")
    return rules.shortfall(
        arbiter=offer.arbiter,
        collateral=offer.collateral,
        challenge_window=offer.challenge_window,
        longest_run=longest_run,
        answer_seconds=answer_seconds,
    )
