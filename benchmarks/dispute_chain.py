# SPDX-License-Identifier: Apache-2.0
"""Games on a chain: a committed EXACT job, and the transactions of both sides until it is convicted or acquitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.gas_chain import SOURCES, Artifact, CallFailed, Chain, Contract, Receipt, account, call_data, event
from benchmarks.gas_market import EXACT, USD, Job, Market, Provider
from gpubond.disputes import rules
from gpubond.disputes.calldata import call
from gpubond.disputes.levels import Side
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Verdict
from gpubond.disputes.structs import Origin, Registered, joined, run_of
from gpubond.disputes.terms import Terms

# Others than those of `gas_chain`, in the order in which they are deployed.
GAME_SOURCES = {
    "Judge": "contracts/Judge.vy",
    "Examiner": "contracts/Examiner.vy",
    "DisputeGame": "contracts/DisputeGame.vy",
}
ALL_SOURCES = {**SOURCES, **GAME_SOURCES}

INTRINSIC = 21_000  # gas of any transaction
DAY = 86_400
CLOCK, INCREMENT, MOST_ANSWER = 3 * DAY, 6 * 3_600, 3_600
MIN_GAS_PRICE, RATE = 10**8, 3_000 * USD  # wei; base units for 10^18 wei
MAX_COLLATERAL = 100_000 * USD
COLLATERAL = 500 * USD
WINDOW = 7 * DAY
MOST_MOVES = 80
END = "end"  # the level of what follows the verdict


class Plays(Protocol):
    """Either side."""

    def move(self, position: Position) -> Move: ...


class Opens(Plays, Protocol):
    """The side that challenges."""

    def opening(self) -> tuple[bytes, ...]: ...


@dataclass(frozen=True)
class Turn:
    """One transaction. level: where the game was that it answers; `open` before the first, `end` after the last."""

    side: str
    level: str
    function: str
    gas: int
    calldata: int


@dataclass
class Played:
    """A game from its opening to the end. extra: of the claim and the withdrawal, which are for no verdict."""

    convicted: bool = False
    turns: list[Turn] = field(default_factory=list)
    extra: list[Turn] = field(default_factory=list)

    @property
    def gas(self) -> int:
        """Of both sides, up to the conviction."""
        return sum(turn.gas for turn in self.turns)

    @property
    def claim_gas(self) -> int:
        """Of the claim of bond and share."""
        return sum(turn.gas for turn in self.extra if turn.function == "claim")

    @property
    def rounds(self) -> int:
        """Pairs of moves, one of each side, rounded up. The opening is a move, what follows the verdict is not."""
        return -(-sum(turn.level != END for turn in self.turns) // 2)

    def figures(self) -> dict[str, Any]:
        """What the results file holds of it."""
        return {
            "gas": self.gas,
            "gas_without_intrinsic": self.gas - INTRINSIC * len(self.turns),
            "rounds": self.rounds,
            "transactions": len(self.turns),
            "asserter_gas": sum(turn.gas for turn in self.turns if turn.side == Side.ASSERTER.value),
            "challenger_gas": sum(turn.gas for turn in self.turns if turn.side == Side.CHALLENGER.value),
            "claim_and_withdrawal_gas": sum(turn.gas for turn in self.extra),
            "levels": _sums(self.turns, "level"),
            "functions": _sums(self.turns, "function"),
            "moves": [
                {
                    "side": turn.side,
                    "level": turn.level,
                    "function": turn.function,
                    "gas": turn.gas,
                    "gas_without_intrinsic": turn.gas - INTRINSIC,
                    "calldata_bytes": turn.calldata,
                }
                for turn in (*self.turns, *self.extra)
            ],
        }


def _sums(turns: list[Turn], by: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for turn in turns:
        entry = found.setdefault(getattr(turn, by), {"transactions": 0, "gas": 0, "gas_without_intrinsic": 0})
        entry["transactions"] += 1
        entry["gas"] += turn.gas
        entry["gas_without_intrinsic"] += turn.gas - INTRINSIC
    return found


class Court:
    """A market with the contracts of disputes, one provider and one buyer of exact runs, and one challenger."""

    def __init__(self, chain: Chain, artifacts: Mapping[str, Artifact]) -> None:
        self.chain = chain
        self._market = Market(chain, artifacts)
        admin = self._market.admin
        judge, _ = chain.deploy(admin, artifacts["Judge"])
        examiner, _ = chain.deploy(admin, artifacts["Examiner"], judge)
        parameters = (CLOCK, INCREMENT, MOST_ANSWER, MIN_GAS_PRICE, RATE, MAX_COLLATERAL)
        self.game, _ = chain.deploy(admin, artifacts["DisputeGame"], self._market.escrow, examiner, *parameters)
        self._provider = Provider(account("owner"), account("operator"))
        self._buyer, self._challenger = account("buyer"), account("challenger")
        self._games = 0
        # With the immutables, which the compiler's output leaves out and the limit does not.
        self.sizes = {each.artifact.name: self._size(each) for each in (judge, examiner, self.game)}
        self._prepare()

    def _prepare(self) -> None:
        market, send = self._market, self.chain.send
        market.fund(self._provider.owner, market.staking)
        market.fund(self._buyer, market.escrow)
        market.fund(self._challenger, self.game)
        market.join(self._provider)
        send(self._provider.owner, market.escrow, "approve_arbiter", self.game, True)
        send(self._buyer, market.escrow, "deposit", 400_000 * USD)

    def committed(self, terms: Terms, run_root: bytes) -> Job:
        """A job on these terms, committed to by this root."""
        market = self._market
        offer = market.offer(
            self._provider, tiers=EXACT, arbiter=self.game.address, collateral=COLLATERAL, challenge_window=WINDOW
        )
        market.post(self._provider, offer)
        job = market.hire(self._provider, offer, self._buyer, tier=EXACT, exact_terms=terms.exact_terms)
        market.commit(job, root=run_root)
        return job

    def play(
        self, terms: Terms, run_root: bytes, asserter: Plays, challenger: Opens, *, together: bool = False
    ) -> Played:
        """A game by real transactions, each of which must lead where the rules say.

        Args:
            terms: what the job states.
            run_root: what its provider commits to.
            asserter: plays for the provider.
            challenger: plays against it.
            together: the conviction and the claim are one transaction, by `move_many`.

        Raises:
            CallFailed: a move was refused, or the chain ends otherwise than the rules.
        """
        job = self.committed(terms, run_root)
        played = Played()
        nodes = challenger.opening()
        game = self._open(job, terms, nodes, played)
        position: Position | Verdict = rules.begin(terms, run_root, nodes)
        for _ in range(MOST_MOVES):
            assert isinstance(position, Position)  # noqa: S101 - the loop ends at a verdict
            move = (asserter if position.turn is Side.ASSERTER else challenger).move(position)
            after = rules.apply(position, move)
            if isinstance(after, Verdict):
                self._end(played, game, job, position, move, after, together)
                return played
            receipt = self._move(played, game, position, move)
            game = game._replace(clock=self._clock(receipt))
            position = after
        raise CallFailed(f"the game has no end after {MOST_MOVES} moves")

    def _open(self, job: Job, terms: Terms, nodes: tuple[bytes, ...], played: Played) -> Registered:
        self._games += 1
        salt = self._games.to_bytes(32, "big")
        run = tuple(run_of(terms))
        arguments = (job.terms, job.commitment, run, terms.answer_seconds, salt, 10**12, joined(nodes))
        receipt = self._send(played.turns, Side.CHALLENGER, "open", "open", *arguments)
        opened = event(self.game, "GameOpened", receipt)
        position, origin = opened["position"], Origin(**opened["origin"])
        return Registered(_topic(self.game, receipt), position["clock"], self._challenger, self._provider.owner, origin)

    def _move(self, played: Played, game: Registered, position: Position, move: Move) -> Receipt:
        made = call(game, position, move)
        return self._send(played.turns, position.turn, position.level.value, made.function, *made.arguments)

    def _end(
        self,
        played: Played,
        game: Registered,
        job: Job,
        last: Position,
        move: Move,
        verdict: Verdict,
        together: bool,
    ) -> None:
        """The last move, and what follows from a conviction: the escrow is told, bond and share are given out."""
        side = Side.CHALLENGER
        convict = ("convict", (job.terms, job.commitment))
        claim = ("claim", (game.game, game.place(last), game.way(last), game.origin))
        receipt = self._move(played, game, last, move)
        if event(self.game, "GameEnded", receipt)["convicted"] != verdict.convicted:
            raise CallFailed("the contract's verdict is not that of the rules")
        played.convicted = verdict.convicted
        if not verdict.convicted:
            return
        if together:
            data = [call_data(self.game.artifact, name, *arguments) for name, arguments in (convict, claim)]
            self._send(played.turns, side, END, "move_many", data)
        else:
            self._send(played.turns, side, END, convict[0], *convict[1])
            self._send(played.extra, side, END, claim[0], *claim[1])
        balance = self._balance(self._challenger)
        self._send(played.extra, side, END, "withdraw", balance, self._challenger)

    def _send(self, kept: list[Turn], side: Side, level: str, function: str, *arguments: Any) -> Receipt:
        sender = self._provider.operator if side is Side.ASSERTER else self._challenger
        receipt = self.chain.send(sender, self.game, function, *arguments)
        size = len(call_data(self.game.artifact, function, *arguments))
        kept.append(Turn(side.value, level, function, receipt.gas, size))
        return receipt

    def _balance(self, who: str) -> int:
        asked = {"to": self.game.address, "data": "0x" + call_data(self.game.artifact, "balance_of", who).hex()}
        return int(self.chain.rpc("eth_call", asked, "latest"), 16)

    def _size(self, contract: Contract) -> int:
        """Bytes of the code as it is deployed."""
        return len(str(self.chain.rpc("eth_getCode", contract.address, "latest")).removeprefix("0x")) // 2

    def _clock(self, receipt: Receipt) -> int:
        """What the last move's event says of the clocks."""
        for name in ("NodesShown", "CheckpointPicked", "BytesShown", "Picked"):
            try:
                return int(event(self.game, name, receipt)["clock"])
            except CallFailed:
                continue
        raise CallFailed("a move left no event")


def _topic(contract: Contract, receipt: Receipt) -> bytes:
    """The game's id, which is the first indexed field of its events."""
    for log in receipt.logs:
        if str(log["address"]).lower() == contract.address.lower():
            return bytes.fromhex(log["topics"][1].removeprefix("0x"))
    raise CallFailed("the game left no event")
