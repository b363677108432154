# SPDX-License-Identifier: Apache-2.0
"""Jobs that come and go through their buyers' own stores: notes are read, and what the jobs bring is delivered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpubond.chain.session import Session
from gpubond.jobs.guarded_http import GuardedHttp
from gpubond.provider.cancellations import Cancellations
from gpubond.provider.inputs import JobInputs
from gpubond.provider.note_key import NoteKey
from gpubond.provider.note_reader import NoteReader
from gpubond.provider.notes import Notes
from gpubond.provider.store_delivery import StoreDelivery
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog


class StoreJobs:
    """Both directions, for one worker; see `NoteReader` and `StoreDelivery`.

    Args:
        key: to which notes are sealed.
        log_path: the log file of a job, existing or not.
        http: reaches the stores; it is told to hurry when the worker ends.
        keep_seconds: how long a job's data is kept here after its end.
        on_change: called when there is something for the worker's loop to do; it must return at once.
    """

    def __init__(
        self,
        session: Session,
        *,
        notes: Notes,
        key: NoteKey,
        work: WorkLog,
        stores: BuyerStores,
        inputs: JobInputs,
        cancellations: Cancellations,
        log_path: Callable[[str], Path],
        http: GuardedHttp,
        keep_seconds: float,
        on_change: Callable[[], None],
    ) -> None:
        self._http = http
        self._reader = NoteReader(
            notes=notes,
            index=session.index,
            node=session.node,
            escrow=str(session.contracts.escrow.address),
            key=key,
            stores=stores,
            http=http,
            on_change=on_change,
        )
        self._delivery = StoreDelivery(
            notes=notes,
            index=session.index,
            work=work,
            stores=stores,
            inputs=inputs,
            log_path=log_path,
            http=http,
            cancellations=cancellations,
            now=session.contracts.now,
            keep_seconds=keep_seconds,
            on_change=on_change,
        )

    def tick(self) -> None:
        """Has done what is due. Returns at once, but for a request to the node for each new hire."""
        self._reader.tick()
        self._delivery.tick()

    def stop(self) -> None:
        """Breaks off what is under way; it is done at the next start."""
        self._http.hurry()
        self._delivery.stop()
        self._reader.stop()
