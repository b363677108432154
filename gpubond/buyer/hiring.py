# SPDX-License-Identifier: Apache-2.0
"""From a submission to a job on chain: one hire for each order, whatever is interrupted; and the next best one.

Each order is stored before its hire is signed, each hire is stored under its order's salt before it is broadcast,
and a hire that was mined is found again by that salt. So a step that is repeated finds what it did before.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gpubond.buyer.box import Box
from gpubond.buyer.codes import SubmissionCode
from gpubond.buyer.desk import POLL_SECONDS, Desk
from gpubond.buyer.handing_over import hand_over
from gpubond.buyer.orders import NO_TERMS, OrderRecord, Submission
from gpubond.buyer.quotes import Prepared, Quote, choose
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Order, Status, Tier
from gpubond.chain.outbox import OUTBOX, Outbox, OutboxEntry, OutboxState
from gpubond.errors import BadInput, NotEnough, Refused, Unreachable
from gpubond.jobs.spec import JobSpec, parse_spec
from gpubond.store.boundaries import boundary

# Seconds that the node may take to show the event of a hire that it has mined.
FIND_TIMEOUT = 120.0
# Deposits for one order: more than one only if something else spent the balance meanwhile.
MAX_DEPOSITS = 4

QuoteAll = Callable[[int, str | None, JobSpec | None], list[Quote]]


class HireRefused(Refused):
    """The contract refuses a hire: nothing was spent, and nobody hired."""


class NotWanted(Refused):
    """The buyer cancelled it before the hire was sent."""


class Hiring:
    """Hires for submissions.

    Args:
        desk: whose.
        quote: all offers for so many seconds, a class and a job, cheapest first.
    """

    def __init__(self, desk: Desk, quote: QuoteAll) -> None:
        self._desk = desk
        self._quote = quote
        desk.session.database.install(OUTBOX)

    def begin(self, prepared: Prepared, retries: int) -> Submission:
        """Stores a submission with its first order; sends nothing."""
        desk = self._desk
        canonical, spec_hash = prepared.spec.canonical(), prepared.spec.hash()
        desk.blobs.put([canonical], spec_hash.hex(), len(canonical))
        files = {name: path.absolute() for name, path in prepared.files.items()}
        files[spec_hash.hex()] = desk.blobs.path(spec_hash.hex())
        submission = desk.orders.begin(
            name=prepared.spec.name,
            spec_hash=spec_hash,
            files=files,
            seconds=prepared.seconds,
            class_name=prepared.class_name,
            max_price=prepared.max_price,
            retries=retries,
            offer=prepared.quote.record.offer,
            box=self._box(prepared.recipient),
            exact_terms=prepared.exact_terms,
        )
        boundary("buy:submission_stored")
        return submission

    def complete(self, order: OrderRecord, seconds: int) -> str:
        """Hires for an order, or finds the hire that was made; returns the job's id (0x hex).

        Raises:
            HireRefused: the contract refuses; the order is noted as refused.
            NotEnough, Unreachable: try again; what was sent is not sent twice.
        """
        desk = self._desk
        salt = bytes.fromhex(order.salt)
        found = self._find(salt)
        if found is not None:
            return found
        if order.refusal is not None:
            raise HireRefused(order.refusal, field="offer", remedy=SubmissionCode.HIRE_REFUSED.remedy)
        if order.offer is None:
            raise BadInput(
                "this order is of an older release, which did not note the offer",
                field="order",
                value=order.salt,
                remedy="submit the job again",
            )
        purpose = f"hire:{order.salt}"
        known, trailer = self._sent(purpose), None
        if known is None or known.state == OutboxState.DISPLACED:
            self._require_wanted(order)
            self._require_all_back(order)
            trailer = hand_over(desk, order, seconds)
            self._top_up(order.salt, order.offer.price_per_second * seconds)
            boundary("buy:funds_ready")
        call = desk.contracts.hire(order.offer, _terms(order, seconds))
        if trailer is not None:
            call = call.followed_by(trailer.encode())
        try:
            entry = desk.session.send(call, purpose)
        except Refused as error:
            desk.orders.set_refusal(order.salt, error.message)
            raise HireRefused(error.message, field=error.field, value=error.value, remedy=error.remedy) from None
        boundary("buy:hire_mined")
        job = self._await_event(salt)
        desk.say(f"hired: job {job} (transaction {entry.tx_hash})")
        return job

    def next(self, submission: Submission, last: OrderRecord) -> SubmissionCode | None:
        """Stores the order for the next best offer after one that came to nothing; None if it is stored.

        Never the same provider again, and only when all that was escrowed before is back: at no moment more than
        the highest price is at stake.

        Returns: how the submission ends, if nobody else may be hired.
        Raises: Unreachable, if the node does not answer.
        """
        desk = self._desk
        ended = self._ended(submission, last)
        if ended is not None:
            return ended
        self._require_all_back(last, itself=True)
        tried = frozenset(
            order.offer.provider for order in desk.orders.of_submission(submission.id) if order.offer is not None
        )
        spec = self._spec(last)
        try:
            quote = choose(
                self._quote(submission.seconds, submission.class_name, spec),
                offer_id=None,
                provider=None,
                max_price=submission.max_price,
                answers=desk.reach.answers,
                lacks=desk.reach.lacks(spec),
                without=tried,
            )
        except (NotEnough, Refused, BadInput, Unreachable) as error:
            if isinstance(error, Unreachable) and error.field != "gateway":
                raise
            desk.say(f"nobody else can be hired: {error.message}")
            return SubmissionCode.NO_OFFER_LEFT
        text = desk.contracts.token_info.text
        desk.say(
            f"hiring the next best, {last.number + 1} of at most {submission.retries} times: "
            f"{quote.record.offer.class_name} of {quote.record.offer.provider}, {text(quote.most)} at most"
        )
        desk.orders.add_next(last, quote.record.offer, self._box(desk.reach.recipient(quote.endpoint)))
        boundary("buy:next_stored")
        return None

    def _spec(self, order: OrderRecord) -> JobSpec:
        return parse_spec(self._desk.blobs.path(order.spec_hash).read_bytes(), bytes.fromhex(order.spec_hash))

    def _ended(self, submission: Submission, last: OrderRecord) -> SubmissionCode | None:
        """Why nobody may be hired after an order, whatever is on offer."""
        now = self._desk.orders.submission(submission.id)
        if now is not None and not now.code.open:
            return now.code
        if last.cancelled:
            return SubmissionCode.CANCELLED
        if last.number >= submission.retries:
            return SubmissionCode.TRIES_USED_UP if last.refusal is None else SubmissionCode.HIRE_REFUSED
        return None

    def _box(self, recipient: str | None) -> Box | None:
        """A new box in this buyer's store for a note to that key; None: there is a gateway."""
        store = self._desk.reach.settings
        return None if recipient is None or store is None else Box.new(store.url, recipient)

    @contextmanager
    def driving(self, submission: str) -> Iterator[None]:
        """Keeps every other process from driving the same submission.

        Raises:
            Refused: another one drives it.
        """
        folder = self._desk.session.home.directory / "submissions"
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / f"{submission}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(
                    "another command drives this submission",
                    field="submission",
                    value=submission,
                    remedy="let it go on, or end it first; `gpubond job status` shows the job meanwhile",
                ) from None
            yield
        finally:
            os.close(descriptor)

    def interrupted(self, spec_hash: bytes) -> Submission | None:
        """A submission of the same job that has not ended, and that no process drives."""
        for submission in self._desk.orders.open_submissions(spec_hash):
            if submission.code != SubmissionCode.OPEN:
                continue
            try:
                with self.driving(submission.id):
                    return submission
            except Refused:
                continue
        return None

    def _sent(self, purpose: str) -> OutboxEntry | None:
        session = self._desk.session
        outbox = Outbox(session.deployment.chain_id, session.address)
        return outbox.find(session.database.connection, purpose)

    def was_sent(self, order: OrderRecord) -> bool:
        """Whether the hire of an order was signed, and so may be on chain now or later."""
        return self._sent(f"hire:{order.salt}") is not None

    def _require_wanted(self, order: OrderRecord) -> None:
        now = self._desk.orders.by_salt(bytes.fromhex(order.salt))
        if now is None or now.cancelled:
            raise NotWanted(
                SubmissionCode.CANCELLED_BEFORE_HIRE.meaning,
                field="submission",
                value=order.submission,
                remedy="submit the job again if you want it after all",
            )

    def _require_all_back(self, order: OrderRecord, itself: bool = False) -> None:
        """Passes if no earlier hire of the submission holds money."""
        if order.submission is None:
            return
        index = self._desk.session.index
        for earlier in self._desk.orders.of_submission(order.submission):
            if earlier.number > order.number or (earlier.number == order.number and not itself):
                continue
            record = index.ordered(self._desk.session.address, bytes.fromhex(earlier.salt))
            gone = record is None and earlier.refusal is None and self.was_sent(earlier)
            if gone or (record is not None and not _is_back(record)):
                raise Unreachable(
                    "an earlier hire of this submission may still hold its price, so nobody else is hired",
                    field="job",
                    value=earlier.job or earlier.salt,
                    remedy="`gpubond job resume` goes on once it is over",
                )

    def _find(self, salt: bytes) -> str | None:
        session = self._desk.session
        session.sync()
        record = session.index.ordered(session.address, salt)
        if record is None:
            return None
        self._desk.orders.set_job(salt, record.job)
        boundary("buy:job_noted")
        return record.job

    def _await_event(self, salt: bytes) -> str:
        deadline = time.monotonic() + FIND_TIMEOUT
        while (job := self._find(salt)) is None:
            if time.monotonic() > deadline:
                raise Unreachable(
                    "the hire was mined, but the node does not show its event",
                    field="node",
                    remedy="nothing is lost: `gpubond job resume` goes on as soon as the node shows it",
                )
            time.sleep(POLL_SECONDS)
        return job

    def _top_up(self, salt: str, most: int) -> None:
        """Brings the balance to what the hire needs. Deposits are the buyer's own money, and withdrawable."""
        desk = self._desk
        address, escrow = desk.session.address, str(desk.contracts.escrow.address)
        for number in range(MAX_DEPOSITS):
            # One that was interrupted is awaited first, else it would be made twice.
            pending = self._sent(f"deposit:{salt}:{number}")
            if pending is not None and not pending.final:
                desk.say("waiting for the interrupted deposit …")
                desk.session.resume(pending)
            short = most - desk.contracts.escrow_balance(address)
            if short <= 0:
                return
            if pending is not None:
                continue
            if desk.contracts.token_allowance(address, escrow) < short:
                desk.session.send(desk.contracts.approve(escrow, short), f"approve:{salt}:{short}")
            desk.session.send(desk.contracts.deposit(short, address), f"deposit:{salt}:{number}")
        raise NotEnough(
            "the balance was spent by something else while this job was to be hired",
            field="balance",
            value=desk.contracts.escrow_balance(address),
            remedy="end the other program, or add to the balance with `gpubond account deposit`; then resume",
        )


def _is_back(record: JobRecord) -> bool:
    """Whether all that a job escrowed is with its buyer again."""
    if record.status == Status.SETTLED and record.commitment is not None:
        return record.commitment.pay == 0
    return record.status in (Status.DECLINED, Status.EXPIRED)


def _terms(order: OrderRecord, seconds: int) -> Order:
    return Order(
        spec_hash=bytes.fromhex(order.spec_hash),
        tier=Tier.BASIC if order.exact_terms == NO_TERMS else Tier.EXACT,
        tasks=1,
        longest_run=seconds,
        exact_terms=order.exact_terms,
        audit_fee=0,
        audit_seal=bytes(32),
        group=bytes(32),
        salt=bytes.fromhex(order.salt),
    )
