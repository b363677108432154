# SPDX-License-Identifier: Apache-2.0
"""A crowd of griefers on a real chain against one honest provider: cheap games without a pause, base fees that rise
fiftyfold, and a provider that is killed again and again. What happens follows from a seed; time is the chain's."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from web3.types import RPCEndpoint

from gpubond.chain.contracts import Call
from gpubond.chain.development import advance_time, dev_account
from gpubond.chain.game_index import GameRecord
from gpubond.chain.games import dispute_game
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Offer, Order, Status, Tier, class_bytes
from gpubond.chain.session import Session, open_session
from gpubond.disputes import calldata, rules
from gpubond.disputes.followed import Followed, follow
from gpubond.disputes.levels import Side
from gpubond.disputes.showing import NothingWrong
from gpubond.disputes.structs import run_of
from gpubond.exact.refusal import Refused
from gpubond.store.boundaries import ARM
from tests.disputes.cheap_player import cheap
from tests.disputes.play import Honest
from tests.disputes.tricksters import Slanderer
from tests.integration.marketplace import Marketplace, wait_until

OWNER, OPERATOR, BUYER = 1, 2, 5
GRIEFERS = (7, 8, 9)
WINDOW = 7 * 86_400
SPIKE = 50
WIDTH = 12  # games that are open at once
PATIENCE = 300  # seconds until a wait fails; no test passes or fails by being faster
DEATHS = ("game:computed", "game:sent", "watch:seen", "watch:stored")


def of(account: int) -> str:
    return str(dev_account(account).address)


@dataclass
class Crowd:
    """The chain, the provider's home, and what the griefers do."""

    market: Marketplace
    provider: Path
    session: Session  # the buyer's
    chance: Random
    done: Counter[str] = field(default_factory=Counter)
    silent: set[str] = field(default_factory=set)
    players: dict[str, Slanderer] = field(default_factory=dict)
    price: int = 0
    jobs: list[tuple[JobRecord, Honest]] = field(default_factory=list)
    player: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        found = dispute_game(self.session.contracts)
        assert found is not None
        self.contract = found
        self.raw = self.market.contracts.at("DisputeGame", found.address).functions
        self.least = int(self.raw.MIN_GAS_PRICE().call())
        self.price = self.least

    # The chain.

    def rpc(self, method: str, *parameters: object) -> None:
        answer = self.market.node.provider.make_request(RPCEndpoint(method), list(parameters))
        assert "error" not in answer, answer

    def send(self, account: int, call: Call) -> None:
        """As a development account that the node signs for, at the base fee that holds."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(self.price))
        fields: Any = {"from": of(account), "to": call.to, "data": call.data, "gas": 3_000_000}
        fields |= {"maxFeePerGas": 10**13, "maxPriorityFeePerGas": 1}
        sent = self.market.node.eth.send_transaction(fields)
        receipt = self.market.node.eth.wait_for_transaction_receipt(sent, timeout=PATIENCE, poll_latency=0.01)
        assert receipt["status"] == 1, call.words

    # The market.

    def prepare(self, jobs: int) -> None:
        """Griefers with tokens, and committed jobs whose results are right."""
        contracts, me = self.session.contracts, self.session.address
        unit = 10**contracts.token_info.decimals
        for account in GRIEFERS:
            for _ in range(5):
                self.send(account, contracts.faucet(1_000 * unit, of(account)))
            self.send(account, contracts.approve(self.contract.address, 2**255))
        self.session.send(contracts.approve(contracts.escrow.address, 500 * unit), "approve")
        self.session.send(contracts.deposit(500 * unit, me), "deposit")
        tasks = cheap()
        for number in range(jobs):
            self.jobs.append(self._job(tasks[number % len(tasks)], number))

    def _job(self, honest: Honest, number: int) -> tuple[JobRecord, Honest]:
        contracts = self.session.contracts
        offer = Offer(
            provider=of(OWNER),
            resource_class=class_bytes("cpu-sim"),
            count=1,
            tiers=Tier.EXACT,
            price_per_second=1,
            shortest_run=60,
            longest_run=600,
            acknowledge_window=900,
            delivery_margin=600,
            challenge_window=WINDOW,
            failure_cap_bps=0,
            max_fee_bps=500,
            collateral=int(self.raw.minimum_collateral().call()),
            expiry=contracts.now() + 30 * 86_400 + number,
            arbiter=self.contract.address,
        )
        order = Order(
            spec_hash=secrets.token_bytes(32),
            tier=Tier.EXACT,
            tasks=1,
            longest_run=600,
            exact_terms=honest.terms.exact_terms,
            audit_fee=0,
            audit_seal=bytes(32),
            group=bytes(32),
            salt=secrets.token_bytes(32),
        )
        root = honest.execution.run_root
        with open_session(self.provider) as provider:
            provider.send(contracts.post_offer(offer), f"post:{number}")
            self.session.send(contracts.hire(offer, order), f"hire:{number}")
            self.session.sync()
            record = next(job for job in self.session.index.jobs() if job.terms.salt == order.salt)
            commit = contracts.commit(record.terms, root, chunks=0, exit_status=0, seconds_used=60, tasks_done=1)
            provider.send(commit, f"commit:{number}")
        self.session.sync()
        found = self.session.index.job(record.job)
        assert found is not None and found.status is Status.COMMITTED
        return found, honest

    # The provider.

    def start(self) -> None:
        """Starts the provider's player; one time in two it will die at a moment that has a name."""
        log = self.provider / "player.log"
        environment = {}
        if self.chance.random() < 0.5:
            environment[ARM] = f"{self.chance.choice(DEATHS)}#{self.chance.randint(1, 8)}"
        command = [sys.executable, "-m", "tests.disputes.cheap_player", str(self.provider)]
        self.player = self.market.spawn(command, log, environment)

    def kill(self) -> None:
        """SIGKILL, some time, but less than its clocks have left, and a new start."""
        assert self.player is not None
        self.player.send_signal(signal.SIGKILL)
        self.player.wait()
        self.market.workers.remove(self.player)
        self.done["kills"] += 1
        waiting = [game.deadline for game in self.look().values() if game.position.turn is Side.ASSERTER]
        if waiting and self.chance.random() < 0.5:
            advance_time(self.market.node, (min(waiting) - self.session.contracts.now()) // 2)
        self.start()

    def revive(self) -> None:
        """After a death of its own."""
        if self.player is not None and self.player.poll() is not None:
            assert self.player.returncode == -signal.SIGKILL, (self.provider / "player.log").read_text()[-3000:]
            self.market.workers.remove(self.player)
            self.done["deaths"] += 1
            self.start()

    # The games.

    def look(self) -> dict[str, Followed]:
        """Open games, as the chain has them. No clock of the provider may have run out in any."""
        self.session.sync()
        found = {}
        now = self.session.contracts.now()
        for game in self.session.index.games.of_provider(of(OWNER)):
            honest = self._honest(game)
            moves = self.session.index.games.moves(game.game)
            found[game.game] = stands = follow(moves, honest.terms, honest.task.program)
            assert stands.position.turn is Side.CHALLENGER or now < stands.deadline, "the provider's clock was lost"
        return found

    def _honest(self, game: GameRecord) -> Honest:
        return next(honest for job, honest in self.jobs if job.job == game.job)

    def open(self) -> None:
        """A game on one of the jobs. In one of six its challenger never moves again."""
        job, honest = self.chance.choice(self.jobs)
        assert job.commitment is not None
        run = run_of(honest.terms)
        seconds = honest.terms.answer_seconds
        player = Slanderer(honest.execution, self.chance.getrandbits(32))
        salt, nodes = secrets.token_bytes(32), player.opening()
        call = self.contract.open(job.terms, job.commitment, run, seconds, salt, 2**255, nodes)
        before = {game.game for game in self.session.index.games.of_job(job.job)}
        self.send(self.chance.choice(GRIEFERS), call)
        self.session.sync()
        [new] = [game.game for game in self.session.index.games.of_job(job.job) if game.game not in before]
        self.done["games"] += 1
        self.players[new] = player
        if self.chance.random() < 1 / 6:
            self.silent.add(new)

    def move(self, game: str, stands: Followed) -> None:
        """Any pick, with anything that is bound to nothing, or the last move, with what it takes."""
        record = next(one for one in self.session.index.games.of_provider(of(OWNER)) if one.game == game)
        try:
            move = self.players[game].move(stands.position)
            rules.apply(stands.position, move)
        except (Refused, NothingWrong):
            # It has said what cannot be proven.
            self.silent.add(game)
            return
        function, arguments = calldata.call(stands.registered, stands.position, move)
        [account] = [account for account in GRIEFERS if of(account) == record.challenger]
        self.send(account, self.contract.move(function, function, *arguments))
        self.done["moves"] += 1

    def raid(self, games: int) -> None:
        """So many games, from the first opening to the last end."""
        self.start()
        while True:
            self.revive()
            stands = self.look()
            if self.done["games"] == games and not stands:
                return
            self.step(stands, games)

    def step(self, stands: dict[str, Followed], games: int) -> None:
        """One thing that somebody does."""
        theirs = {game: one for game, one in stands.items() if one.position.turn is Side.CHALLENGER}
        movable = [game for game in theirs if game not in self.silent]
        actions: list[tuple[float, Callable[[], object]]] = []
        if self.done["games"] < games and len(stands) < WIDTH:
            actions.append((4.0, self.open))
        if movable:
            game = self.chance.choice(movable)
            actions.append((6.0, lambda: self.move(game, theirs[game])))
        if not actions and len(theirs) == len(stands):
            # Silent challengers alone are left: their clocks run out.
            self.until(max(one.deadline for one in theirs.values()))
        elif not actions:
            self.wait(stands)
        else:
            actions += [(0.5, self.change_price), (0.6, self.kill)]
            weights, calls = zip(*actions, strict=True)
            self.chance.choices(calls, weights)[0]()

    def change_price(self) -> None:
        """The base fee rises fiftyfold, or falls again."""
        self.price = self.least * (SPIKE if self.price == self.least else 1)
        self.done["spikes"] += self.price != self.least

    def until(self, moment: int) -> None:
        """Lets time pass, and waits for the provider to end what is over then."""
        # Before time passes: all games may be over at the next look.
        stands = self.look()
        ahead = moment - self.session.contracts.now()
        if ahead > 0:
            advance_time(self.market.node, ahead)
        self.wait(stands)

    def wait(self, stands: dict[str, Followed]) -> None:
        """Until the provider has done something."""
        before = {game: one.hash for game, one in stands.items()}

        def moved() -> bool:
            self.revive()
            return {game: one.hash for game, one in self.look().items()} != before

        wait_until(moved, PATIENCE)


def check_net(crowd: Crowd, games: int) -> None:
    """Plays so many games, all of which must be lost; what lost bonds brought the provider is at least its gas."""
    node = crowd.market.node
    coins, tokens = node.eth.get_balance(of(OPERATOR)), crowd.contract.balance_of(of(OWNER))
    crowd.raid(games)
    for job, _ in crowd.jobs:
        wait_until(lambda job=job: crowd.market.contracts.job_status(job.job_id) == Status.COMMITTED, PATIENCE)
        kept = crowd.contract.games_of(job.job_id)
        assert not kept.open and not kept.convicted
    assert sum(crowd.contract.games_of(job.job_id).opened for job, _ in crowd.jobs) == games
    income = crowd.contract.balance_of(of(OWNER)) - tokens
    gas = coins - node.eth.get_balance(of(OPERATOR))
    assert gas > 0
    assert income - gas * int(crowd.raw.RATE().call()) // 10**18 >= 0, (income, gas, crowd.done)
