# SPDX-License-Identifier: Apache-2.0
"""The real contracts on titanoboa, and games in them: each move is made there and by the rules in Python alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import boa
from eth_typing import BlockNumber
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from web3.types import LogReceipt

from gpubond.chain.abi import load_abi
from gpubond.chain.events import EventDecoder
from gpubond.chain.game_index import MOVES, GameMove
from gpubond.disputes import rules
from gpubond.disputes.calldata import call
from gpubond.disputes.levels import Side
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Verdict
from gpubond.disputes.structs import Origin, Registered, joined, run_of
from gpubond.disputes.terms import Terms
from gpubond.exact.refusal import Refused
from tests.disputes.play import Game, Player, play
from tests.stateful.chain import CONTRACTS, Deployed, Log, load
from tests.stateful.model import Refused as Reverted
from tests.unit import reference

CHAIN_ID = 31337
USD = 10**6
DAY = 86_400
CLOCK, INCREMENT, MAX_ANSWER = 2 * DAY, 1_800, 3_600
GWEI = 10**9
RATE = 2_000 * USD
COLLATERAL, MOST_COLLATERAL = 20_000 * USD, 10**6 * USD
WINDOW = 7 * DAY
PEOPLE = ("owner", "operator", "buyer", "rival", "friend", "liar", "thief", "keeper")
WEALTH = 10**9 * USD
OVER = (1).to_bytes(32, "big")
EMPTY = bytes(32)


@dataclass
class Laid:
    """Contracts and people; each job is a new one of the one provider."""

    people: dict[str, str]
    token: Deployed
    staking: Deployed
    escrow: Deployed
    judge: str
    examiner: str
    game: Deployed
    clock: int  # seconds that a side has at first
    _salts: Iterator[int] = field(default_factory=lambda: itertools.count(1), kw_only=True)

    @classmethod
    def deploy(cls, token: str = "mocks/PlainToken", clock: int = CLOCK) -> Self:  # noqa: S107
        boa.env.evm.patch.chain_id = CHAIN_ID
        people = {name: str(boa.env.generate_address(name)) for name in PEOPLE}
        boa.env.eoa = boa.env.generate_address("admin")
        coin = Deployed(load(CONTRACTS, token, *((6,) if token == "mocks/PlainToken" else ())))
        staking = Deployed(load(CONTRACTS, "ProviderStaking", coin.address))
        escrow = Deployed(load(CONTRACTS, "JobEscrow", coin.address, staking.address, 0))
        judge = load(CONTRACTS, "Judge").address
        examiner = load(CONTRACTS, "Examiner", judge).address
        numbers = (clock, INCREMENT, MAX_ANSWER, GWEI, RATE, MOST_COLLATERAL)
        game = Deployed(load(CONTRACTS, "DisputeGame", escrow.address, examiner, *numbers))
        found = cls(people, coin, staking, escrow, judge, examiner, game, clock)
        found._prepare()
        return found

    def _prepare(self) -> None:
        owner, operator, buyer = (self.people[name] for name in ("owner", "operator", "buyer"))
        for person in self.people.values():
            self.call("token", "mint", person, person, WEALTH)
            for spender in (self.staking, self.escrow, self.game):
                self.call("token", "approve", person, spender.address, 2**255)
        self.call("staking", "register", owner, operator, "https://provider.example")
        self.call("staking", "stake", owner, WEALTH // 2, owner)
        self.call("staking", "allow", owner, self.escrow.address, WEALTH // 2, WEALTH // 2)
        self.call("escrow", "approve_arbiter", owner, self.game.address, True)
        self.call("escrow", "deposit", buyer, WEALTH // 2, buyer)

    def call(self, contract: str, name: str, sender: str, *args: Any) -> Any:
        """As `sender`, by name or address. Raises Reverted with the reason."""
        found: Deployed = getattr(self, contract)
        return found.functions[name](self.people.get(sender, sender), *args)

    def salt(self) -> bytes:
        """One that was not used."""
        return next(self._salts).to_bytes(32, "big")

    def committed(self, exact: Terms, root: bytes, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """A job with these exact terms that is hired, run, and committed to this root: its terms and commitment.
        `changes` are of offer or order.
        """
        now = int(boa.env.timestamp)
        offer = {
            "provider": self.people["owner"],
            "resource_class": b"cpu-sim".ljust(32, b"\0"),
            "count": 1,
            "tiers": reference.EXACT | reference.BASIC,
            "price_per_second": 100,
            "shortest_run": 60,
            "longest_run": 3_600,
            "acknowledge_window": 900,
            "delivery_margin": 600,
            "challenge_window": WINDOW,
            "failure_cap_bps": 0,
            "max_fee_bps": 500,
            "collateral": COLLATERAL,
            "expiry": now + DAY + next(self._salts),
            "arbiter": self.game.address,
        }
        order = {
            "spec_hash": b"\x22" * 32,
            "tier": reference.EXACT,
            "tasks": 1,
            "longest_run": 3_600,
            "exact_terms": exact.exact_terms,
            "audit_fee": 0,
            "audit_seal": EMPTY,
            "group": EMPTY,
            "salt": self.salt(),
        }
        offer |= {key: changes[key] for key in changes if key in offer}
        order |= {key: changes[key] for key in changes if key in order}
        self.call("escrow", "post_offer", "operator", offer)
        self.call("escrow", "hire", "buyer", offer, order)
        offer_id = reference.offer_id(CHAIN_ID, self.escrow.address, offer)
        terms = reference.terms_of(
            offer, order, offer_id=offer_id, buyer=self.people["buyer"], fee_bps=0, matched_at=now
        )
        chunks = 0 if order["tier"] == reference.EXACT else 1
        self.call("escrow", "commit", "operator", terms, root, chunks, 0, 60, 1)
        pay = reference.pay(terms, now=now, seconds_used=60)
        return terms, {"result_root": root, "chunks": chunks, "pay": pay, "committed_at": now}


@dataclass
class World(Laid):
    """Opens games about jobs with any exact terms."""

    def open(self, terms: Terms, run_root: bytes, nodes: tuple[bytes, ...]) -> ChainGame:
        """A game about a new job. nodes: the challenger's first of RUN."""
        of_job, commitment = self.committed(terms, run_root)
        rival = self.people["rival"]
        job = reference.job_id(CHAIN_ID, self.escrow.address, of_job)
        bond = self.call("game", "bond_of", "rival", job, COLLATERAL, reference.escrowed(of_job))
        said = terms.statement
        origin = Origin(job, said.program, said.initial, said.data, bond, GWEI, 0)
        opening = (of_job, commitment, run_of(terms), terms.answer_seconds, self.salt(), bond, joined(nodes))
        game, logs = self.game.functions["open"].logged(rival, *opening)
        increment = INCREMENT + terms.answer_seconds
        clock = self.clock | self.clock << 32 | boa.env.timestamp << 64 | increment << 104 | 3 << 136
        registered = Registered(game, clock, rival, self.people["owner"], origin)
        found = ChainGame(self, registered, rules.begin(terms, run_root, nodes), of_job, commitment)
        found.take(logs)
        found.check()
        return found


@dataclass
class ChainGame:
    """One game, in the contract and in Python. After each move both are compared."""

    world: World
    registered: Registered
    position: Position
    terms: dict[str, Any]
    commitment: dict[str, Any]
    # What makes a move of the rules one about this job, if its statement is another than theirs.
    fit: Callable[[Position, Move], Move] = lambda position, move: move
    # As the index has them.
    events: list[GameMove] = field(default_factory=list)

    def take(self, logs: Sequence[Log]) -> None:
        """Notes the events of a call."""
        decoder = EventDecoder({self.world.game.address: load_abi("DisputeGame")})
        none = HexBytes(EMPTY)
        for address, topics, data in logs:
            found = decoder.decode(
                LogReceipt(
                    address=to_checksum_address(address),
                    topics=[HexBytes(topic.to_bytes(32, "big")) for topic in topics],
                    data=HexBytes(data),
                    blockHash=none,
                    blockNumber=BlockNumber(0),
                    logIndex=0,
                    transactionHash=none,
                    transactionIndex=0,
                    removed=False,
                )
            )
            if found is not None and found.name in MOVES:
                self.events.append(GameMove(found.name, found.args, ""))

    def stored(self) -> bytes:
        """What the contract keeps of it."""
        return bytes(self.world.call("game", "position", "rival", self.registered.game))

    def check(self) -> None:
        """The contract's position is this one."""
        assert self.stored() == self.registered.place(self.position).hash(), self.position.level

    def move(self, move: Move) -> Position | Verdict:
        """Makes a move in both. Raises Refused if both refuse it, and fails if only one does."""
        turn = self.position.turn
        sender = "operator" if turn is Side.ASSERTER else "rival"
        try:
            after = rules.apply(self.position, move)
        except Refused as refused:
            self.refuses(sender, move)
            raise refused
        function, arguments = call(self.registered, self.position, self.fit(self.position, move))
        address = self.world.people[sender]
        _, logs = self.world.game.functions[function].logged(address, *arguments)
        self.take(logs)
        if isinstance(after, Verdict):
            self._check_verdict(after)
            return after
        side = 1 if turn is Side.CHALLENGER else 0
        clock = self.registered.clock
        clock += (clock >> 104 & 2**32 - 1) << 32 * side
        clock += side << 136
        self.registered = self.registered._replace(clock=clock)
        self.position = after
        self.check()
        return after

    def refuses(self, sender: str, move: Move) -> None:
        """The contract does not take it, if it can be written as a call at all."""
        before = self.stored()
        try:
            function, arguments = call(self.registered, self.position, move)
            self.world.call("game", function, sender, *arguments)
        except Exception as error:
            if not isinstance(error, Reverted) and not unwritable(error):
                raise
            assert not isinstance(error, Reverted) or self.stored() == before
            return
        raise AssertionError(f"the contract takes {move}")

    def _check_verdict(self, verdict: Verdict) -> None:
        held = self.world.call("game", "games_of", "rival", self.registered.origin.job)
        assert held[2] == verdict.convicted
        assert (self.stored() == OVER) != verdict.convicted

    def play(self, asserter: Player, challenger: Player) -> Game:
        """From the beginning to the end."""
        return play(self.position, asserter, challenger, lambda _, move: self.move(move))


def unwritable(error: Exception) -> bool:
    """Whether this says of a move that no call can be made of it: it has no place, is of the wrong
    types, or eth_abi cannot encode it."""
    known = (Refused, ValueError, OverflowError, IndexError, TypeError, AttributeError)
    return isinstance(error, known) or type(error).__module__.startswith("eth_abi")
