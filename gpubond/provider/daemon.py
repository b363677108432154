# SPDX-License-Identifier: Apache-2.0
"""The worker's process: watch, dispatch, send, serve, and end cleanly.

SIGTERM or SIGINT drains: nothing new starts, open transactions are noted, and runs that do not end by
themselves within the grace time are taken up again at the next start. SIGKILL loses nothing either.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType

from gpubond.chain.outbox import OutboxState
from gpubond.chain.sender import Sender
from gpubond.chain.session import Session, open_session
from gpubond.errors import BadSettings, GpuBondError, KeyInUse, NotEnough, Unreachable
from gpubond.jobs.requests import Domain
from gpubond.provider.cancellations import Cancellations
from gpubond.provider.dispatcher import Dispatcher
from gpubond.provider.executors.process import ProcessExecutor
from gpubond.provider.gateway import Gateway, GatewayServer
from gpubond.provider.inputs import JobInputs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog

logger = logging.getLogger(__name__)

GRACE_SECONDS = 30.0
# Longest pause between tries while the node does not answer.
MAX_PAUSE = 30.0


class Daemon:
    """One provider's worker.

    Args:
        directory: the home folder.
        grace_seconds: how long runs may go on after a signal to end.
    """

    def __init__(self, directory: Path, grace_seconds: float = GRACE_SECONDS) -> None:
        self._session = open_session(directory)
        self._grace_seconds = grace_seconds
        self._stop = threading.Event()

    def run(self) -> None:
        """Works until a signal.

        Raises:
            BadSettings: the settings lack a section, or the key is not the provider's operator.
            KeyInUse: another worker runs with this key.
            MissingTool: the sandbox cannot work on this machine.
        """
        session = self._session
        settings = session.settings
        if settings.provider is None or settings.gateway is None or settings.offer is None:
            missing = next(name for name in ("provider", "gateway", "offer") if getattr(settings, name) is None)
            raise BadSettings(
                f"the settings have no section [{missing}]",
                field=missing,
                remedy="run `gpubond provider init` in a new folder and copy the section over",
            )
        executor = ProcessExecutor(session.home.work)
        executor.check()
        with session.sender() as sender:
            self._require_operator(session, settings.provider.address)
            work = WorkLog(session.database)
            stores = BuyerStores(session.home.blobs, settings.provider.storage_mib << 20)
            inputs = JobInputs(stores, settings.gateway.max_blob_mib << 20)
            cancellations = Cancellations(session.database)
            gateway = Gateway(
                domain=Domain(session.deployment.chain_id, str(session.contracts.escrow.address)),
                index=session.index,
                work=work,
                stores=stores,
                inputs=inputs,
                log_path=executor.log_path,
                cancellations=cancellations,
                now=session.contracts.now,
            )
            server = GatewayServer(gateway.app(), settings.gateway)
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
                slots=settings.offer.count,
                cancellations=cancellations,
            )
            dispatcher.recover()
            server.start()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
            logger.info(
                "worker of %s is up: operator %s, gateway %s",
                settings.provider.address,
                session.address,
                settings.gateway.url,
            )
            try:
                self._loop(session, dispatcher, sender, settings.provider.reconcile_seconds)
                self._drain(session, dispatcher, sender)
            finally:
                dispatcher.stop()
                server.stop()
                in_flight = [entry.purpose for entry in sender.in_flight() if entry.state == OutboxState.SENT]
                if in_flight:
                    logger.info("still in flight, looked after at the next start: %s", ", ".join(in_flight))
        logger.info("worker ended")

    def _loop(self, session: Session, dispatcher: Dispatcher, sender: Sender, reconcile_seconds: float) -> None:
        pause = session.settings.chain.poll_seconds
        failures, reconciled = 0, float("-inf")
        while not self._stop.is_set():
            try:
                new = session.sync()
                # New events are acted on at once; the regular reconciliation mends whatever slipped through.
                if new or time.monotonic() - reconciled >= reconcile_seconds:
                    dispatcher.reconcile()
                    reconciled = time.monotonic()
                sender.poll()
                dispatcher.tick()
                if failures:
                    logger.info("the node answers again")
                failures = 0
            except Unreachable as error:
                failures += 1
                logger.warning("%s; nothing is torn down, trying again", error.message)
            except NotEnough as error:
                logger.warning("%s; jobs wait until the operator has gas money", error)
            except KeyInUse:
                raise
            except Exception:
                # Jobs lose collateral if the worker ends, so it outlives whatever a node answers.
                failures += 1
                logger.exception("the step failed; nothing is torn down, trying again")
            self._stop.wait(min(MAX_PAUSE, pause * 2 ** min(failures, 10)) if failures else pause)

    def _drain(self, session: Session, dispatcher: Dispatcher, sender: Sender) -> None:
        dispatcher.drain()
        if dispatcher.busy:
            logger.info("draining: %d runs may go on for %.0f s", dispatcher.busy, self._grace_seconds)
        deadline = time.monotonic() + self._grace_seconds
        while dispatcher.busy and time.monotonic() < deadline:
            time.sleep(session.settings.chain.poll_seconds)
        try:
            session.sync()
            dispatcher.tick()
            sender.poll()
        except GpuBondError as error:
            logger.warning("while draining: %s", error.message)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        logger.info("%s: draining", signal.Signals(number).name)
        self._stop.set()

    def _require_operator(self, session: Session, provider: str) -> None:
        state = session.contracts.provider(provider)
        if session.address not in (state.operator, provider):
            raise BadSettings(
                f"{session.address} is not the operator of {provider}",
                field="key",
                value=session.address,
                remedy="run `gpubond provider join`, or name the operator's key in [key]"
                if state.registered
                else "run `gpubond provider join` first: this provider is not registered",
            )
