# SPDX-License-Identifier: Apache-2.0
"""Stands by this provider's committed EXACT runs: answers each move of a challenger, ends games of silent ones, and has
held jobs released.

What is due follows from the index and the outbox, as for demands. It goes on while the worker drains, and whatever the
operator's policy is: who is silent loses the job's collateral.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from gpubond.chain.game_index import GameRecord, GameState
from gpubond.chain.games import dispute_game
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status, Tier
from gpubond.chain.sender import Sender
from gpubond.chain.session import Session
from gpubond.disputes.execution import Execution
from gpubond.disputes.followed import due
from gpubond.disputes.levels import Side
from gpubond.disputes.ordered import paths_of, terms_about
from gpubond.disputes.playing import Known, Player, Urgent
from gpubond.errors import BadInput, GpuBondError, Refused
from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.engines import best
from gpubond.exact.manifest import MANIFEST
from gpubond.exact.memory import prepare
from gpubond.exact.refusal import Refused as NotValid
from gpubond.jobs.exact_check import load_task
from gpubond.jobs.manifest import Manifest
from gpubond.jobs.spec import JobSpec
from gpubond.provider.inputs import JobInputs
from gpubond.provider.sparing import Sparing
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog
from gpubond.settings import ProviderSettings

logger = logging.getLogger(__name__)

# Seconds before something that failed is tried again, and between two looks at what can be taken out.
RETRY_SECONDS = 5.0
COLLECT_EVERY = 3600.0


class Disputing:
    """The asserter of one worker. One thread calls it, the dispatcher's.

    Args:
        session: chain and index.
        sender: the operator's.
        work: the results of jobs, with the states that were kept.
        stores: inputs, outputs and states, which stay there until a job is final.
        inputs: the specifications.
        provider: whose jobs.
    """

    def __init__(
        self,
        session: Session,
        sender: Sender,
        work: WorkLog,
        stores: BuyerStores,
        inputs: JobInputs,
        provider: ProviderSettings,
    ) -> None:
        self._session = session
        self._sender = sender
        self._work = work
        self._stores = stores
        self._inputs = inputs
        self._provider = provider
        self._contract = dispute_game(session.contracts)
        # One thing after the other, the most urgent first, whichever job it is for: docs/trust.md says why that does.
        self._urgent = Urgent("games")
        self._player = (
            None
            if self._contract is None
            else Player(self._contract, session.index, sender, Side.ASSERTER, self._urgent)
        )
        self._known: dict[str, Known] = {}
        self._loading: dict[str, Future[Known]] = {}
        self._later: dict[str, float] = {}
        self._collected = float("-inf")
        self._sparing = Sparing(logger)
        self._said: dict[str, str] = {}

    @property
    def open_games(self) -> int:
        """Games that wait for an end."""
        return len(self._session.index.games.of_provider(self._provider.address))

    def tick(self) -> None:
        """Takes every open game as far as it goes without waiting, the most urgent first; one that fails does not hold
        up the others."""
        if self._player is None:
            return
        seen = self._session.watcher.position().number
        games = self._session.index.games.of_provider(self._provider.address)
        self._forget(games)
        for game in sorted(games, key=self._player.deadline):
            self._guarded(game.game, partial(self._step, game, seen))
        for record in self._session.index.jobs(provider=self._provider.address, live_only=True):
            if record.status == Status.DISPUTED and record.terms.tier == Tier.EXACT:
                self._guarded(record.job, partial(self._release, record))
        if time.monotonic() - self._collected >= COLLECT_EVERY:
            self._guarded("collect", self._collect)

    def stop(self) -> None:
        """Begins nothing new."""
        self._urgent.stop()

    def _guarded(self, about: str, what: Callable[[], object]) -> None:
        if time.monotonic() < self._later.get(about, 0):
            return
        try:
            what()
        except GpuBondError as error:
            self._sparing.warn((about, error.code, error.field), "game %s: %s", about, error)
            self._later[about] = time.monotonic() + RETRY_SECONDS
        except Exception:
            logger.exception("game %s: a step failed and is tried again", about)
            self._later[about] = time.monotonic() + RETRY_SECONDS

    def _step(self, game: GameRecord, seen: int) -> None:
        record = self._session.index.job(game.job)
        if record is None or record.status.final or self._player is None:
            return
        known = self._known_of(record)
        if known is None:
            return
        words = self._player.step(game, known, self._session.contracts.now(), seen)
        if self._said.get(game.game) != words:
            self._said[game.game] = words
            logger.debug("game %s on job %s: %s", game.game, game.job, words)

    def _release(self, record: JobRecord) -> None:
        """Has a job go on whose games are all lost."""
        assert self._contract is not None  # noqa: S101  # there is a player
        kept = self._contract.games_of(record.job_id)
        if kept.open or kept.convicted or not kept.opened:
            return
        call = self._contract.release(record.terms)
        self._sender.submit(f"release:{record.job}:{kept.opened}", call.to, call.data)

    def _collect(self) -> None:
        """Takes out what lost games brought the provider: only the owner could, so it is told."""
        assert self._contract is not None  # noqa: S101  # there is a player
        due = self._contract.balance_of(self._provider.address)
        self._collected = time.monotonic()
        if due:
            text = self._session.contracts.token_info.text(due)
            logger.info("%s that lost games brought can be taken out: `gpubond provider withdraw`", text)

    def _known_of(self, record: JobRecord) -> Known | None:
        """This machine's run of a committed job; None while it is being read and hashed, which takes its time.

        Raises:
            Refused: the store has lost something of it.
        """
        known = self._known.get(record.job)
        if known is not None:
            return known
        loading = self._loading.get(record.job)
        if loading is None:
            spec, work = self._inputs.spec(record.terms), self._work.get(record.job)
            result = None if work is None else work.result
            if spec is None or result is None:
                raise _lost(record.job, "specification or result are not known here")
            games = self._session.index.games
            waiting = [game for game in games.of_job(record.job) if game.state is GameState.OPEN]
            first = min((due(games.moves(game.game)) for game in waiting), default=0)
            self._loading[record.job] = self._urgent.submit(first, partial(self._load, record, spec, result))
            return None
        if not loading.done():
            return None
        del self._loading[record.job]
        known = self._known[record.job] = loading.result()
        return known

    def _load(self, record: JobRecord, spec: JobSpec, result: dict[str, Any]) -> Known:
        blobs = self._stores.of(record.terms.buyer)
        section = spec.exact
        try:
            if section is None:
                raise _lost(record.job, "its specification is of another runtime")
            files = {item.sha256: blobs.path(item.sha256) for item in spec.inputs}
            manifest = Manifest.parse(blobs.path(result["manifest"]).read_bytes())
            outputs = {item.path: blobs.path(item.sha256) for item in manifest.files}
            states = {int(step): blobs.path(name) for step, name in result.get("states", {}).items()}
            states[section.steps] = outputs[section.final]
            folder = self._folder(record.job, outputs[section.manifest], states)
            task = load_task(section, paths_of(spec, section, files))
            execution = Execution(prepare(best(), task.program), task, folder)
            return Known(terms_about(spec, execution.statement), execution)
        except (BadInput, NotValid, OSError, KeyError) as error:
            raise _lost(record.job, str(error)) from error

    def _folder(self, job: str, manifest: Path, states: dict[int, Path]) -> Path:
        """A folder in which the run lies as `gpubond exact run` would have left it: links to blobs."""
        folder = self._session.home.directory / "games" / job
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700, parents=True)
        (folder / MANIFEST).symlink_to(manifest)
        for step, path in states.items():
            checkpoint_path(folder, step).symlink_to(path)
        return folder

    def _forget(self, games: list[GameRecord]) -> None:
        jobs, names = {game.job for game in games}, {game.game for game in games}
        for job in [job for job in self._known if job not in jobs]:
            del self._known[job]
            shutil.rmtree(self._session.home.directory / "games" / job, ignore_errors=True)
        if self._player is not None:
            self._player.forget(names)
        self._said = {game: words for game, words in self._said.items() if game in names}


def _lost(job: str, why: str) -> Refused:
    return Refused(
        f"this machine cannot stand by the run that was committed: {why}",
        field="job",
        value=job,
        remedy="restore the store of the worker that ran the job before the game's clock runs out",
    )
