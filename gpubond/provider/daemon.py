# SPDX-License-Identifier: Apache-2.0
"""The worker's process: watch, dispatch, send, serve, and end cleanly.

SIGTERM or SIGINT drains: nothing new starts, runs may go on for the grace time, and the results of those that end
by then are committed before the process ends. The others are taken up again at the next start. A second signal
ends the grace at once. SIGKILL loses nothing either.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

from gpubond.chain.heads import Heads
from gpubond.chain.market import JobTerms, Tier
from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.chain.session import Session, open_session
from gpubond.errors import BadSettings, GpuBondError, KeyInUse, NotEnough, Unreachable
from gpubond.jobs.guarded_http import GuardedHttp
from gpubond.jobs.requests import Domain
from gpubond.provider.cancellations import Cancellations
from gpubond.provider.crowding import Promises
from gpubond.provider.demands import DemandAnswers
from gpubond.provider.dispatcher import Dispatcher
from gpubond.provider.disputing import Disputing
from gpubond.provider.exact_jobs import ExactJobs
from gpubond.provider.executors import defences
from gpubond.provider.executors.by_runtime import Executors
from gpubond.provider.fetch import UrlFetcher
from gpubond.provider.gas_money import GasWatch, answers_lack, gas_money
from gpubond.provider.gateway import Gateway
from gpubond.provider.gateway_server import GatewayServer
from gpubond.provider.gpus.consumption import Consumption
from gpubond.provider.inputs import JobInputs
from gpubond.provider.note_key import NoteKey, announced, make_note_key
from gpubond.provider.notes import Notes
from gpubond.provider.retention import Retention
from gpubond.provider.software import software
from gpubond.provider.sparing import Sparing
from gpubond.provider.store_jobs import StoreJobs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog
from gpubond.settings import GatewaySettings, Home, OfferSettings, ProviderSettings, Settings

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

# After the runs' grace, for the commitments of those that ended; the unit in packaging/ allows for both.
COMMIT_SECONDS = 30.0
# How much seldomer the node is asked while it announces its blocks by itself.
HEADS_PATIENCE = 10
# Longest pause between tries while the node does not answer.
MAX_PAUSE = 30.0


class Daemon:
    """One provider's worker.

    Args:
        directory: the home folder.
        unsandboxed: run jobs without a sandbox, which is refused but on a development chain.
    """

    def __init__(self, directory: Path, *, unsandboxed: bool = False) -> None:
        self._unsandboxed = unsandboxed
        # Who has a store has perhaps jobs in it, so a node that is silent now is waited for.
        self._patient = Home(directory).store_file.exists()
        self._stop = threading.Event()
        # Set by whatever gives the loop something to do: a new head, an input, a run that ended, a signal.
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._sparing = Sparing(logger)
        self._session = self._ask(lambda: open_session(directory))

    def run(self) -> None:
        """Works until a signal.

        Raises:
            BadSettings: the settings lack a section, or the key is not the provider's operator.
            KeyInUse: another worker runs with this key.
            BadSettings: no sandbox is wanted, and this is no development chain.
            MissingTool: the sandbox cannot work on this machine.
        """
        session = self._session
        settings = session.settings
        if settings.provider is None or settings.gateway is None or settings.offer is None:
            raise _lacking(settings)
        note_key = _note_key(session.home, settings.gateway)
        executor = self._make_executor(session, settings.provider, settings.offer)
        provider = settings.provider.address
        with self._ask(session.sender) as sender:
            self._ask(lambda: self._require_operator(session, provider))
            if not settings.gateway.listen:
                self._ask(lambda: self._warn_of_another_key(session, provider, note_key.recipient))
            work = WorkLog(session.database)
            stores = BuyerStores(
                session.home.blobs,
                settings.provider.storage_mib << 20,
                total_bytes=settings.provider.total_storage_mib << 20,
                floor_bytes=settings.provider.min_free_mib << 20,
            )
            http = GuardedHttp(allow_private=settings.gateway.fetch_from_private_addresses)
            fetcher = UrlFetcher(stores, http, settings.gateway.s3_endpoint)
            escrow = str(session.contracts.escrow.address)
            notes = Notes(session.database, session.deployment.chain_id, escrow)
            inputs = JobInputs(stores, settings.gateway.max_blob_mib << 20, fetcher, notes)
            cancellations = Cancellations(session.database)
            consumption = Consumption(work)
            gateway = Gateway(
                domain=Domain(session.deployment.chain_id, escrow),
                index=session.index,
                work=work,
                stores=stores,
                inputs=inputs,
                log_path=executor.log_path,
                settings=settings.gateway,
                cancellations=cancellations,
                now=session.contracts.now,
                note_key=note_key.recipient,
                nonces=session.home.directory / "nonces",
                on_change=self._wake.set,
                power=consumption.by_class,
            )
            server = GatewayServer(gateway, settings.gateway, session.home.resolve)
            promises = Promises(session.index, work, inputs, settings.provider.address, session.contracts.now)
            exact = ExactJobs(session.contracts, executor.log_path, partial(_answers_lack, session), held=promises.held)
            dispatcher = Dispatcher(
                provider_address=settings.provider.address,
                contracts=session.contracts,
                index=session.index,
                sender=sender,
                work=work,
                stores=stores,
                inputs=inputs,
                executor=executor,
                provider=settings.provider,
                gateway=settings.gateway,
                slots=settings.offer.count + (0 if settings.exact_offer is None else settings.exact_offer.count),
                cancellations=cancellations,
                position=lambda: session.watcher.position().number,
                exact=exact,
                on_run_ended=self._wake.set,
            )
            store_jobs = StoreJobs(
                session,
                notes=notes,
                key=note_key,
                work=work,
                stores=stores,
                inputs=inputs,
                cancellations=cancellations,
                log_path=executor.log_path,
                http=http,
                keep_seconds=settings.provider.retention_hours * 3600,
                on_change=self._wake.set,
            )
            answers = DemandAnswers(session, sender, work, stores, settings.provider)
            disputing = Disputing(session, sender, work, stores, inputs, settings.provider)
            retention = Retention(
                provider_address=settings.provider.address,
                index=session.index,
                work=work,
                stores=stores,
                inputs=inputs,
                work_root=session.home.work,
                wipe=executor.wipe,
                keep_seconds=settings.provider.retention_hours * 3600,
                chain_now=session.contracts.now,
            )
            logger.info("`python` jobs find %s", software().words)
            dispatcher.recover()
            server.start()
            self._take_signals()
            logger.info(
                "worker of %s is up: operator %s, gateway %s",
                settings.provider.address,
                session.address,
                settings.gateway.url if settings.gateway.listen else f"none: reached by {note_key.recipient}",
            )
            try:
                chores = (
                    store_jobs.tick,
                    answers.tick,
                    disputing.tick,
                    GasWatch(session.node, session.address, settings.provider.low_gas_jobs).look,
                    gateway.beat,
                    retention.sweep_if_due,
                    consumption.look,
                )
                url = settings.chain.ws_url
                with Heads(url, self._wake.set) if url else nullcontext() as heads:
                    self._loop(session, dispatcher, answers, sender, settings.provider.reconcile_seconds, chores, heads)
                self._drain(session, dispatcher, disputing, sender, settings.provider.grace_seconds)
            finally:
                for part in (answers, exact, disputing, dispatcher):
                    part.stop()
                executor.close()
                server.stop()
                store_jobs.stop()
                fetcher.stop()
                _say_in_flight(sender)
        logger.info("worker ended")

    def _make_executor(self, session: Session, provider: ProviderSettings, offer: OfferSettings) -> Executors:
        """What runs the jobs, once it has been tried and what is in force noted."""
        if self._unsandboxed:
            defences.require_development_chain(session.deployment.chain_id)
            logger.warning("%s: strangers' code runs WITHOUT A SANDBOX", session.deployment.chain_id)
        executor = Executors(session.home, provider, offer, bare=self._unsandboxed)
        executor.check()
        in_force = defences.here(sandboxed=not self._unsandboxed)
        in_force.note(session.home.directory)
        logger.info("sandbox: %s", in_force.words)
        executor.start()
        return executor

    def _loop(
        self,
        session: Session,
        dispatcher: Dispatcher,
        answers: DemandAnswers,
        sender: Sender,
        reconcile_seconds: float,
        chores: Sequence[Callable[[], object]],
        heads: Heads | None,
    ) -> None:
        pause = session.settings.chain.poll_seconds
        failures, reconciled, seen = 0, float("-inf"), None
        while not self._stop.is_set():
            try:
                session.sync()
                # New events are acted on at once, also those that another process took into the store; the regular
                # reconciliation mends whatever slipped through.
                revision = session.watcher.revision()
                if revision != seen or time.monotonic() - reconciled >= reconcile_seconds:
                    dispatcher.reconcile()
                    answers.reconcile()
                    seen, reconciled = revision, time.monotonic()
                self._poll(sender)
                dispatcher.tick()
                for chore in chores:
                    chore()
                if failures:
                    logger.info("the node answers again")
                failures = 0
            except Unreachable as error:
                failures += 1
                logger.warning("%s; nothing is torn down, trying again", error.message)
            except Exception:
                # Jobs lose collateral if the worker ends, so it outlives whatever a node answers.
                failures += 1
                logger.exception("the step failed; nothing is torn down, trying again")
            if failures:
                self._stop.wait(min(MAX_PAUSE, pause * 2 ** min(failures, 10)))
            else:
                self._wake.wait(pause * (HEADS_PATIENCE if heads is not None and heads.alive else 1))
                self._wake.clear()

    def _poll(self, sender: Sender) -> None:
        """What is wrong with one transaction must not hold up the jobs."""
        try:
            sender.poll()
        except (KeyInUse, NotEnough) as error:
            self._sparing.warn(error.message, "%s; what concerns other transactions goes on", error)

    def _drain(
        self, session: Session, dispatcher: Dispatcher, disputing: Disputing, sender: Sender, grace_seconds: float
    ) -> None:
        dispatcher.drain()
        if dispatcher.busy:
            logger.info("draining: %d runs may go on for %.0f s", dispatcher.busy, grace_seconds)
        steps = (session.sync, lambda: self._poll(sender), dispatcher.tick, disputing.tick)
        self._look_after(session, steps, grace_seconds, lambda: dispatcher.busy > 0)
        self._look_after(session, steps, COMMIT_SECONDS, lambda: dispatcher.owed > 0)
        if dispatcher.owed:
            logger.warning("%d results or declines are not confirmed yet; the next start sees to them", dispatcher.owed)
        if disputing.open_games:
            logger.warning("%d games are open: start again before their clocks run out", disputing.open_games)

    def _look_after(
        self,
        session: Session,
        steps: Sequence[Callable[[], object]],
        seconds: float,
        wanted: Callable[[], bool],
    ) -> None:
        """Goes on step by step while it is wanted, for so many seconds at most; one step is made in any case."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                for step in steps:
                    step()
            except GpuBondError as error:
                logger.warning("while draining: %s", error.message)
            except Exception:
                logger.exception("while draining: the step failed")
            if not wanted() or self._hurry.is_set() or time.monotonic() >= deadline:
                return
            self._hurry.wait(session.settings.chain.poll_seconds)

    def _ask(self, what: Callable[[], _Answer]) -> _Answer:
        """What the node answers, once it does."""
        pause = 1.0
        while True:
            try:
                return what()
            except Unreachable as error:
                if not self._patient:
                    raise
                logger.warning("%s; the worker waits for it", error.message)
                self._stop.wait(pause)
                pause = min(MAX_PAUSE, pause * 2)

    def _take_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._stop.is_set():
            logger.info("%s again: ending now", name)
            self._hurry.set()
        else:
            logger.info("%s: draining", name)
            self._stop.set()
            self._wake.set()

    def _warn_of_another_key(self, session: Session, provider: str, wanted: str) -> None:
        """Notes that are sealed to another key cannot be read; jobs that are open go on all the same."""
        session.sync()
        known = session.index.provider(provider)
        if known is not None and known.endpoint != wanted:
            logger.error(
                "what is announced on chain is not the key of this worker, so it must decline every new job: "
                "run `gpubond provider join`"
            )

    def _require_operator(self, session: Session, provider: str) -> None:
        state = session.contracts.provider(provider)
        if session.address not in (state.operator, provider):
            raise BadSettings(
                f"{session.address} is not the operator of {provider}"
                if state.registered
                else f"{provider} is not registered yet, so nobody can hire it",
                field="key" if state.registered else "provider.address",
                value=session.address if state.registered else provider,
                remedy="run `gpubond provider join`, or name the operator's key in [key]"
                if state.registered
                else "run `gpubond provider join` first",
            )


def _answers_lack(session: Session, terms: JobTerms) -> str:
    """Why one more EXACT job cannot be stood by, for want of gas money; empty if it can."""
    live = session.index.jobs(provider=terms.provider, live_only=True)
    jobs = sum(record.terms.tier == Tier.EXACT for record in live)
    return answers_lack(gas_money(session.node, session.address), max(1, jobs))


def _say_in_flight(sender: Sender) -> None:
    in_flight = [entry.purpose for entry in sender.in_flight() if entry.state == OutboxState.SENT]
    if in_flight:
        logger.info("still in flight, looked after at the next start: %s", ", ".join(in_flight))


def _note_key(home: Home, gateway: GatewaySettings) -> NoteKey:
    """The key for buyers' notes. Without a gateway it is announced on chain, so it is not made here.

    Raises:
        BadSettings: there is none, or its file is damaged.
    """
    announced(home, gateway)
    return make_note_key(home)


def _lacking(settings: Settings) -> BadSettings:
    missing = next(name for name in ("provider", "gateway", "offer") if getattr(settings, name) is None)
    return BadSettings(
        f"the settings have no section [{missing}]",
        field=missing,
        remedy="run `gpubond provider init` in a new folder and copy the section over",
    )
