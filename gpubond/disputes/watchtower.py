# SPDX-License-Identifier: Apache-2.0
"""Computes committed EXACT runs again, and challenges those that are wrong, to the end: opens a game, plays it, has the
provider convicted, claims, takes out.

What is due follows from the index, the outbox and the contract; the store holds what was found and which games are
wanted. So a killed watchtower goes on where it was, and a reorg that removes or swaps moves is no case of its own.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path

from gpubond.chain.contracts import Call, Contracts
from gpubond.chain.game_index import GameRecord, GameState
from gpubond.chain.games import DisputeGame
from gpubond.chain.index import JobRecord, MarketIndex
from gpubond.chain.market import Status, Tier
from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.chain.session import Session
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.checking import Checked, Stopped, check_run
from gpubond.disputes.levels import Side
from gpubond.disputes.playing import Known, Player
from gpubond.disputes.sources import Sources
from gpubond.disputes.structs import run_of
from gpubond.disputes.watch_log import Watched, WatchLog, WatchState
from gpubond.errors import BadInput, GpuBondError, KeyInUse, NotEnough, Refused, Unreachable

logger = logging.getLogger(__name__)

# Seconds before something that failed is tried again.
RETRY_SECONDS = 5.0
# A job whose inputs are not to be had is asked for again so seldom.
MISSING_SECONDS = 60.0
_LOTS = 1 << 64


class Watchtower:
    """One key's watch over one deployment. One thread calls it; runs and moves are computed in others.

    Args:
        session: chain and index, with the key that pays bonds.
        contract: the deployment's game.
        sender: of that key.
        sources: where specifications and inputs are to be had.
        only: look at this job alone, whatever the lot says.
    """

    def __init__(
        self, session: Session, contract: DisputeGame, sender: Sender, sources: Sources, only: str | None = None
    ) -> None:
        self.log = WatchLog(session.database)
        self._session = session
        self._settings = session.settings.watchtower
        self._contract = contract
        self._sender = sender
        self._sources = sources
        self._only = only
        self._player = Player(contract, session.index, sender, Side.CHALLENGER)
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="check")
        self._checking: dict[str, Future[Checked]] = {}
        self._known: dict[str, Known] = {}
        self._later: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def tick(self) -> None:
        """Takes everything as far as it goes without waiting; what fails does not hold up the rest."""
        seen = self._session.watcher.position().number
        now = self._session.contracts.now()
        for record in self._jobs():
            self._guarded(record.job, partial(self._look, record, now))
        games = self._mine()
        for game in games:
            self._guarded(game.game, partial(self._play, game, now, seen))
        self._player.forget({game.game for game in games if game.state is GameState.OPEN})
        self._guarded("withdraw", lambda: self._withdraw(games))
        self._clean(games)

    def poll(self) -> None:
        """Looks after transactions; what is wrong with one does not hold up the rest."""
        try:
            self._sender.poll()
        except (KeyInUse, NotEnough) as error:
            self._say("transactions", str(error), logging.WARNING)

    def look(self, record: JobRecord) -> None:
        """One look at one job that goes no further than computing it again; what fails is noted."""
        known = self.log.get(record.job)
        if known is None or known.state is WatchState.NOT_DRAWN:
            self.log.set(record.job, WatchState.TO_CHECK)
        elif self._as_committed(record, known).state is WatchState.TO_CHECK:
            self._check(record)

    def stop(self) -> None:
        """Begins nothing new; what is being computed goes on at the next start."""
        self._stop.set()
        self._player.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def busy(self) -> bool:
        """Whether something is being computed, or a game is not over yet, of the jobs that are looked at."""
        if self._checking:
            return True
        return any(self._is_unfinished(record) for record in self._jobs())

    def folder(self, job: str) -> Path:
        """Where a job's run lies."""
        return self._session.home.directory / "watch" / job

    # Looking.

    def _jobs(self) -> list[JobRecord]:
        """Committed jobs that this deployment's game may decide about, and those that it has decided about for us."""
        index = self._session.index
        if self._only is not None:
            found = index.job(self._only)
            return [] if found is None else [found]
        wanted = {record.job: record for record in index.jobs(live_only=True)}
        for game in self._mine():
            record = index.job(game.job)
            if record is not None:
                wanted.setdefault(game.job, record)
        return [
            record
            for record in wanted.values()
            if record.terms.tier == Tier.EXACT
            and record.terms.arbiter == self._contract.address
            and record.commitment is not None
        ]

    def _look(self, record: JobRecord, now: int) -> None:
        known = self.log.get(record.job)
        if known is None:
            drawn = self._only is not None or self._is_drawn(record.job)
            self.log.set(record.job, WatchState.TO_CHECK if drawn else WatchState.NOT_DRAWN)
            return
        known = self._as_committed(record, known)
        if known.state is WatchState.TO_CHECK and not record.status.final:
            self._check(record)
        elif known.state is WatchState.WRONG:
            self._challenge(record, known, now)

    def _as_committed(self, record: JobRecord, known: Watched) -> Watched:
        """What was found, about the commitment that the chain has now: a reorg may have put another in its place."""
        if known.root is None or record.commitment is None or known.state not in (WatchState.RIGHT, WatchState.WRONG):
            return known
        ours = bytes.fromhex(known.root)
        state = WatchState.RIGHT if ours == record.commitment.result_root else WatchState.WRONG
        if state is not known.state:
            self.log.set(record.job, state, root=ours, detail="the chain has another commitment than before")
        return replace(known, state=state)

    def _is_drawn(self, job: str) -> bool:
        lot = int.from_bytes(sha256(self.log.secret + bytes.fromhex(job[2:])).digest()[:8], "big")
        return lot < int(self._settings.share * _LOTS)

    def _check(self, record: JobRecord) -> None:
        checking = self._checking.get(record.job)
        if checking is None:
            self._checking[record.job] = self._pool.submit(self._compute, record)
            return
        if not checking.done():
            return
        del self._checking[record.job]
        try:
            checked = checking.result()
        except Stopped:
            return
        except Unreachable as error:
            self.log.set(record.job, WatchState.TO_CHECK, detail=error.message)
            self._later[record.job] = time.monotonic() + MISSING_SECONDS
            self._say(record.job, f"waits: {error.message}")
            return
        except BadInput as error:
            self.log.set(record.job, WatchState.UNCHECKABLE, detail=str(error))
            self._say(record.job, f"cannot be checked: {error}")
            return
        self._note(record, checked)

    def _note(self, record: JobRecord, checked: Checked) -> None:
        self._known[record.job] = checked.known
        state = WatchState.RIGHT if checked.is_right else WatchState.WRONG
        words = "is right" if checked.is_right else f"is WRONG: it should be 0x{checked.ours.hex()}"
        self.log.set(record.job, state, root=checked.ours, detail="")
        self._say(record.job, f"the run root 0x{checked.committed.hex()} {words}")

    def _compute(self, record: JobRecord) -> Checked:
        return check_run(
            record,
            self._sources,
            self.folder(record.job),
            gateway=public_address(self._session.index, record),
            memory_bytes=self._settings.max_memory_mib << 20,
            disk_bytes=self._settings.max_disk_mib << 20,
            watch=lambda words: self._say(record.job, words, logging.DEBUG),
            stop=self._stop.is_set,
        )

    # Challenging.

    def _challenge(self, record: JobRecord, known: Watched, now: int) -> None:
        if any(game.job == record.job for game in self._mine()):
            return
        if record.status not in (Status.COMMITTED, Status.DISPUTED) or record.commitment is None:
            return
        if now >= record.commitment.committed_at + record.terms.challenge_window:
            self._say(record.job, "the challenge window is over: nobody can challenge it any more")
            return
        limit = self._limit(known)
        if limit is None:
            self._say(record.job, "it is wrong, and watchtower.max_bond is not set: `gpubond watchtower challenge`")
            return
        bond = self._contract.bond_of(record.job_id, record.terms)
        text = self._session.contracts.token_info.text
        if bond > limit:
            raise NotEnough(
                f"a challenge of job {record.job} needs a bond of {text(bond)}",
                field="watchtower.max_bond",
                value=text(limit),
                remedy="raise it, or give `gpubond watchtower challenge` a higher --max-bond",
            )
        checked = self._checked(record)
        if checked is None:
            return
        wanted = self.log.want_game(record.job, limit)
        assert wanted.salt is not None  # noqa: S101  # it was just set
        self._open(record, checked, bytes.fromhex(wanted.salt), bond, limit)

    def _limit(self, known: Watched) -> int | None:
        if known.max_bond is not None:
            return known.max_bond
        if self._settings.max_bond is None:
            return None
        return self._session.contracts.token_info.units(self._settings.max_bond, "watchtower.max_bond")

    def _open(self, record: JobRecord, known: Known, salt: bytes, bond: int, limit: int) -> None:
        """Opens the game; its transaction waits for that which allows the bond."""
        contracts, me = self._session.contracts, self._session.address
        assert record.commitment is not None  # noqa: S101  # the caller has looked
        purpose = f"open:{record.job}:{salt.hex()[:16]}"
        if self._sent(purpose):
            return
        require_wallet(contracts, me, bond)
        if contracts.token_allowance(me, self._contract.address) < bond:
            # The limit, since a bond can grow until it is mined; none of it is taken but by this key's own `open`.
            self._send(f"approve:{purpose}", contracts.approve(self._contract.address, limit))
            return
        nodes = Challenger(known.execution, known.terms).opening()
        call = self._contract.open(
            record.terms, record.commitment, run_of(known.terms), known.terms.answer_seconds, salt, limit, nodes
        )
        self._send(purpose, call)
        self._say(record.job, f"challenged, with a bond of {contracts.token_info.text(bond)}")

    # Playing.

    def _mine(self) -> list[GameRecord]:
        return self._session.index.games.of_challenger(self._session.address)

    def _play(self, game: GameRecord, now: int, seen: int) -> None:
        record = self._session.index.job(game.job)
        if record is None or (self._only is not None and self._only != game.job):
            return
        if game.state in (GameState.LOST, GameState.CLAIMED):
            self._release(record, game)
            return
        known = self._checked(record)
        if known is None:
            return
        kept = self._contract.games_of(record.job_id)
        if kept.convicted:
            self._collect(record, game, known, told=kept.told)
            return
        words = self._player.step(game, known, now, seen)
        self._say(game.game, words)

    def _release(self, record: JobRecord, game: GameRecord) -> None:
        """A lost game's job goes on; anyone may say so."""
        if game.state is not GameState.LOST or record.status != Status.DISPUTED:
            return
        kept = self._contract.games_of(record.job_id)
        if not kept.open and not kept.convicted:
            self._send(f"release:{record.job}:{kept.opened}", self._contract.release(record.terms))

    def _collect(self, record: JobRecord, game: GameRecord, known: Known, *, told: bool) -> None:
        if not told and record.status == Status.DISPUTED and record.commitment is not None:
            self._send(f"convict:{record.job}", self._contract.convict(record.terms, record.commitment))
            self._say(game.game, "won: the provider is convicted")
            return
        if not told:
            return
        stands = self._player.stand(game, known)
        call = self._contract.claim(game.game_id, *stands.structs)
        self._send(f"claim:{game.game}", call)
        self._say(game.game, "claims bond and share")

    def _withdraw(self, games: list[GameRecord]) -> None:
        """Takes out what games brought: bonds, refunds, and what remains of a share, also after others' claims."""
        if not any(game.state is GameState.CLAIMED for game in games):
            return
        due = self._contract.balance_of(self._session.address)
        if not due:
            return
        for number in count(1):
            purpose = f"withdraw:game:{number}"
            entry = self._sender.entry(purpose)
            if entry is not None and not entry.final:
                return
            if entry is None or entry.state is OutboxState.DISPLACED:
                self._send(purpose, self._contract.withdraw(due, self._session.address))
                self._say("withdraw", f"takes out {self._session.contracts.token_info.text(due)} of bonds and shares")
                return

    # The rest.

    def _checked(self, record: JobRecord) -> Known | None:
        """What a game is played from; None while it is being computed again, after a restart."""
        known = self._known.get(record.job)
        if known is not None:
            return known
        checking = self._checking.get(record.job)
        if checking is None:
            self._checking[record.job] = self._pool.submit(self._compute, record)
            return None
        if checking.done():
            del self._checking[record.job]
            self._known[record.job] = checking.result().known
        return self._known.get(record.job)

    def _is_unfinished(self, record: JobRecord) -> bool:
        known = self.log.get(record.job)
        if known is None or (known.state is WatchState.TO_CHECK and not record.status.final):
            return True
        mine = [game for game in self._mine() if game.job == record.job]
        if any(game.state is GameState.OPEN or game.state is GameState.CONVICTED for game in mine):
            return True
        if mine and self._contract.balance_of(self._session.address):
            return any(game.state is GameState.CLAIMED for game in mine)
        return bool(known.salt) and not mine and not record.status.final

    def _send(self, purpose: str, call: Call) -> None:
        """Sends once; what was mined in vain is tried again a few times."""
        entry = self._sender.submit(purpose, call.to, call.data, retry_reverted=True)
        if entry.state is OutboxState.REVERTED:
            raise Refused(
                f"{purpose.partition(':')[0]} was mined and refused again and again: {entry.reason}",
                field="transaction",
                value=entry.tx_hash,
                remedy="look at the job: `gpubond watchtower status`",
            )

    def _sent(self, purpose: str) -> bool:
        entry = self._sender.entry(purpose)
        return entry is not None and entry.state not in (OutboxState.DISPLACED, OutboxState.REVERTED)

    def _guarded(self, about: str, what: Callable[[], object]) -> None:
        if time.monotonic() < self._later.get(about, 0):
            return
        try:
            what()
        except GpuBondError as error:
            self._say(about, str(error), logging.WARNING)
            self._later[about] = time.monotonic() + RETRY_SECONDS
        except Exception:
            logger.exception("%s: a step failed and is tried again", about)
            self._later[about] = time.monotonic() + RETRY_SECONDS

    def _say(self, about: str, words: str, level: int = logging.INFO) -> None:
        if self._said.get(about) != words:
            self._said[about] = words
            logger.log(level, "%s: %s", about, words)

    def _clean(self, games: list[GameRecord]) -> None:
        """Runs of jobs that are over need not be kept."""
        root = self._session.home.directory / "watch"
        if not root.is_dir():
            return
        folders = list(root.iterdir())
        if not folders and not self._checking:
            self._sources.clear()
        played = {game.job for game in games if game.state in (GameState.OPEN, GameState.CONVICTED)}
        for folder in folders:
            record = self._session.index.job(folder.name)
            needed = folder.name in played or folder.name in self._checking
            if record is not None and record.status.final and not needed:
                self._known.pop(folder.name, None)
                shutil.rmtree(folder, ignore_errors=True)


def public_address(index: MarketIndex, record: JobRecord) -> str:
    """Where a job's provider serves what is public of it, see `Sources.spec`; empty if it names no address."""
    provider = index.provider(record.terms.provider)
    endpoint = "" if provider is None else provider.endpoint
    return f"{endpoint.rstrip('/')}/v1/jobs/{record.job}/public" if endpoint.startswith("http") else ""


def require_wallet(contracts: Contracts, account: str, bond: int) -> None:
    """Raises NotEnough unless an account's wallet has a bond, base units."""
    wallet, text = contracts.token_balance(account), contracts.token_info.text
    if wallet < bond:
        raise NotEnough(
            f"the bond is {text(bond)}, the wallet of {account} has {text(wallet)}",
            field="bond",
            value=text(wallet),
            remedy=f"send it {text(bond - wallet)} before the challenge window ends",
        )
