# SPDX-License-Identifier: Apache-2.0
"""Between hire and result: inputs go up, the log comes down, and the wait ends by the chain's deadlines.

Nothing that a gateway says or keeps back can hold the buyer up: each request is bounded in time and size, each blob
is sent a few times at most, and what ends the wait is read from the chain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from gpubond.buyer.codes import JobCode
from gpubond.buyer.desk import POLL_SECONDS, Desk
from gpubond.buyer.gateway_client import MAX_LOG_BYTES, Busy, LogPiece, NotSeenYet, Overtaken
from gpubond.buyer.gateway_parts import Meter
from gpubond.buyer.handing_over import put_inputs
from gpubond.buyer.job_view import JobView, moment_text, view_job
from gpubond.buyer.provider_answer import checked_answer
from gpubond.buyer.way import Way, is_silence
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status
from gpubond.errors import BadInput, BadSettings, Refused, Unreachable
from gpubond.store.boundaries import boundary

# How often one blob is sent before the gateway is taken at its deeds: it does not want it.
MAX_SENDS = 3
# Bytes of a log that are read between two looks at the chain; of all of it `MAX_LOG_BYTES`.
MAX_LOG_BYTES_AT_ONCE = 16 << 20
# Requests for it at once: a gateway may hand it out byte by byte.
MAX_LOG_REQUESTS = 256
# Seconds for which the gateway may wait for more of a run's log, and the look at the chain with it.
LOG_WAIT_SECONDS = 3
# Looks at a node that does not answer before a wait ends with that; it may be resumed.
MAX_SILENCE = 20

Log = Callable[[bytes], None]
T = TypeVar("T")


class Delivery:
    """Uploads, status, log and the wait of one buyer's jobs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def status(self, job: str) -> JobView:
        """Where a job stands, what it waits for and until when."""
        record = self._desk.record(job)
        answer, problem = None, None
        ended = record.status.final
        # Of a job that was given back only its provider knows why; nothing depends on what it says.
        if not ended or record.status == Status.DECLINED:
            try:
                with self._desk.gateway(record) as gateway:
                    answer = checked_answer(gateway.status())
            except (NotSeenYet, Unreachable, Refused, BadSettings) as error:
                if not ended:
                    if not is_silence(error):
                        raise
                    problem = error.message
        order = self._desk.order_of(record)
        cancelled = order is not None and order.cancelled
        demands = self._desk.session.index.demands.of_job(record.job)
        return view_job(record, answer, problem, self._desk.contracts.now(), demands, cancelled=cancelled)

    def upload(self, job: str) -> None:
        """Sends what the provider still lacks. May be repeated; ends at once if nothing is missing.

        Raises:
            Unreachable: the gateway did not answer, or did not see the job, until the acknowledgement
                deadline. The money is not lost: see the remedy.
            Refused: the gateway asks for what is not part of the job, or for the same again and again.
        """
        desk = self._desk
        record = desk.record(job)
        order = desk.order_of(record)
        if order is None:
            raise BadInput(
                "this job was not submitted from here, so its inputs are not known",
                field="job",
                value=job,
                remedy="use the home folder that submitted it",
            )
        if order.box is not None:
            put_inputs(desk, order)  # as before the hire; it sends what is not there any more
            return
        sent: dict[str, int] = {}
        with desk.gateway(record) as gateway:
            while missing := self._missing(gateway, record):
                for name in missing:
                    path = order.files.get(name)
                    if path is None:
                        raise Refused(
                            "the provider asks for a blob that is not part of the job",
                            field="sha256",
                            value=name,
                            remedy="wait for the deadline; then `gpubond job expire` refunds and compensates you",
                        )
                    sent[name] = sent.get(name, 0) + 1
                    if sent[name] > MAX_SENDS:
                        raise Refused(
                            f"the provider took the same blob {MAX_SENDS} times and still asks for it",
                            field="sha256",
                            value=name,
                            remedy="wait for the deadline; then `gpubond job expire` refunds and compensates you",
                        )
                    what = "the specification" if name == order.spec_hash else path.name
                    desk.say(f"uploading {what} ({_size(path):,} bytes)")
                    try:
                        self._patiently(partial(gateway.upload, name, path, Meter(desk.say, what)), record)
                    except Overtaken:
                        break  # the specification alone was enough to decide on the job: it lacks nothing any more
                    boundary("buy:blob_sent")
        boundary("buy:uploaded")

    def wait(
        self,
        job: str,
        *,
        on_log: Log | None = None,
        expire: Callable[[str], object] | None = None,
        upload: Callable[[str], None] | None = None,
    ) -> JobView:
        """Waits until the provider committed to a result, or the job ended otherwise.

        Args:
            job: the job's id.
            on_log: receives the job's log as it comes; it goes on where it was after the gateway was away.
            expire: called once the deadline has passed without a result; without it the wait ends then.
            upload: called while the provider lacks inputs that this buyer has.
        """
        desk = self._desk
        log = None if on_log is None else _LogReader(desk, on_log)
        last, silence = "", 0
        given_up: str | None = None
        while True:
            try:
                view = self.status(job)
                silence = 0
                if log is not None and view.provider_status is not None:
                    log.read(view.record, running=view.provider_status.get("state") == "running")
                words = _words(view)
                if words != last:
                    last = words
                    desk.say(words)
                if view.record.status.final or view.record.status in (Status.COMMITTED, Status.DISPUTED):
                    return view
                if view.code == JobCode.OVERDUE:
                    if expire is None:
                        return view
                    expire(job)  # seen at the next look, which follows the chain by the confirmations wanted
                if upload is not None and given_up is None and (view.provider_status or {}).get("missing"):
                    given_up = self._try_upload(upload, view)
            except Unreachable as error:
                # An answer that does not come proves nothing.
                silence += 1
                if silence > MAX_SILENCE:
                    raise
                desk.say(f"{error.message}; nothing is lost, trying again")
                time.sleep(POLL_SECONDS * min(silence, 10))
            time.sleep(POLL_SECONDS)

    def logs(self, job: str, offset: int = 0) -> Iterator[bytes]:
        """The job's log from a byte offset to its present end, at most `MAX_LOG_BYTES` of it."""
        with self._desk.gateway(self._desk.own(job)) as gateway:
            for piece in _pieces(gateway, offset, MAX_LOG_BYTES, wait=0):
                yield piece.data

    def _try_upload(self, upload: Callable[[str], None], view: JobView) -> str | None:
        """Why there is no use in another try, if there is none."""
        order = self._desk.order_of(view.record)
        if order is None or order.cancelled:
            return "not ours to upload"
        try:
            upload(view.record.job)
        except (Refused, BadInput, Unreachable) as error:
            if not is_silence(error) and error.field != "job":
                raise
            self._desk.say(f"the upload has come to nothing: {error.message}")
            return error.message
        return None

    def _missing(self, gateway: Way, record: JobRecord) -> list[str]:
        answer = checked_answer(self._patiently(gateway.status, record))
        return list(answer.get("missing") or [])

    def _patiently(self, ask: Callable[[], T], record: JobRecord) -> T:
        told = False
        while True:
            try:
                return ask()
            except (NotSeenYet, Unreachable, Busy) as error:
                if self._desk.contracts.now() > record.terms.acknowledge_by:
                    raise Unreachable(
                        f"the provider did not take the inputs in time: {error.message}",
                        field="job",
                        value=record.job,
                        remedy="nothing is lost: the provider must still deliver or pay; after "
                        f"{moment_text(record.terms.deliver_by)} `gpubond job expire` refunds and compensates you",
                    ) from None
                if not told:
                    told = True
                    until = moment_text(record.terms.acknowledge_by)
                    self._desk.say(f"waiting for the provider until {until}: {error.message}")
                time.sleep(POLL_SECONDS)


def _pieces(gateway: Way, offset: int, most: int, wait: int) -> Iterator[LogPiece]:
    """The log from a byte on, at most so many bytes, as far as it goes; the gateway may wait so long for more."""
    for number, piece in enumerate(gateway.follow_logs(offset, wait), 1):
        data = piece.data[:most]
        if not data:
            return
        most -= len(data)
        yield replace(piece, data=data)
        if number == MAX_LOG_REQUESTS:
            return


class _LogReader:
    """Reads a log that grows, across gaps; no more than a job's log can have."""

    def __init__(self, desk: Desk, on_log: Log) -> None:
        self._desk = desk
        self._on_log = on_log
        self._offset = 0
        self._left = MAX_LOG_BYTES
        self._away = False
        self._waits = True

    def read(self, record: JobRecord, *, running: bool) -> None:
        """Takes what has come since the last time; while the job runs, the gateway is asked to wait for it."""
        wait = LOG_WAIT_SECONDS if running and self._waits else 0
        try:
            with self._desk.gateway(record) as gateway:
                for piece in _pieces(gateway, self._offset, min(MAX_LOG_BYTES_AT_ONCE, self._left), wait):
                    self._offset = piece.offset + len(piece.data)
                    self._left -= len(piece.data)
                    self._on_log(piece.data)
                    if not self._left:
                        self._desk.say("the provider sends more log than a job can have; no more of it is shown")
            if self._away:
                self._desk.say("the log goes on")
            self._away = False
        except Busy:
            self._waits = False  # few requests of a buyer may wait at once
        except (Unreachable, Refused, NotSeenYet) as error:
            if not self._away:
                self._desk.say(f"the log is away and goes on where it was: {error.message}")
            self._away = True


def _words(view: JobView) -> str:
    """What a job waits for and until when, or how it ended: one line of progress."""
    status = view.record.status
    at_provider = (view.provider_status or {}).get("state") if status == Status.ACTIVE else None
    if view.waits_for is None:
        return f"{status.name.lower()}: {view.explanation}"
    until = "" if view.until is None else f", until {moment_text(view.until)}"
    return f"{at_provider or status.name.lower()}: waits for {view.waits_for}{until}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BadInput(
            f"an input of the job cannot be read any more: {error.strerror}",
            field="input",
            value=str(path),
            remedy="bring the file back as it was; then `gpubond job upload` goes on",
        ) from None
