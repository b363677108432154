# SPDX-License-Identifier: Apache-2.0
"""The buyer's library; the command line `gpubond job` is a thin layer over it, with the same names.

from gpubond import Buyer

with Buyer.open(Path("~/.gpubond/buyer")) as buyer:
    job = buyer.submit(Path("job.json"), max_price="0.50", retry=2)
    view = buyer.resume(job)          # waits, and hires the next best if the provider gives up
    buyer.fetch(view.record.job, Path("outputs"))
    buyer.release(view.record.job)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpubond.buyer.cancelling import Cancelled, cancel_job, cancel_submission
from gpubond.buyer.codes import JobCode, SubmissionCode
from gpubond.buyer.delivery import Delivery
from gpubond.buyer.demands import Demanding
from gpubond.buyer.desk import Desk
from gpubond.buyer.fetching import fetch_outputs
from gpubond.buyer.handing_over import clean_box
from gpubond.buyer.hiring import HireRefused, Hiring, NotWanted
from gpubond.buyer.job_view import JobView, failed_for_nothing
from gpubond.buyer.listing import Listed, list_all
from gpubond.buyer.orders import NO_TERMS, OrderRecord, Submission
from gpubond.buyer.quotes import Prepared, Quote, choose, quote_all, with_power
from gpubond.chain.contracts import Call
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status, Tier
from gpubond.chain.session import Progress, Session, open_session
from gpubond.disputes.ordered import terms_of
from gpubond.errors import BadInput, NotEnough, Refused
from gpubond.jobs.cuda_check import precheck_job
from gpubond.jobs.exact_check import precheck_exact
from gpubond.jobs.manifest import Manifest
from gpubond.jobs.packages import Software
from gpubond.jobs.spec import JobSpec, load_job_file
from gpubond.jobs.template import write_job
from gpubond.jobs.validate import NOT_HERE, Report, validate_job_file
from gpubond.store.boundaries import boundary

# What ended without a result and with all money back, so that the next best may be hired.
_TRY_AGAIN = (JobCode.DECLINED, JobCode.NOT_DELIVERED)


class Buyer(Demanding):
    """Everything that a buyer does, with one key on one deployment."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._contracts = session.contracts
        self._desk = Desk(session)
        self._hiring = Hiring(self._desk, self.quote)
        self._delivery = Delivery(self._desk)

    @classmethod
    def open(cls, directory: Path, on_progress: Progress = lambda _: None) -> Buyer:
        """A buyer from the settings in a home folder."""
        return cls(open_session(directory, on_progress=on_progress))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.database.close()

    @property
    def session(self) -> Session:
        """The session it works with."""
        return self._session

    @staticmethod
    def init(directory: Path, runtime: str = "python") -> Path:
        """Writes a job that runs as it is; returns its job file. See `write_job`."""
        return write_job(directory, runtime)

    @staticmethod
    def validate(job_file: Path) -> Report:
        """Everything that is wrong with a job file, without key, node or home folder."""
        return validate_job_file(job_file)

    def quote(
        self, seconds: int, class_name: str | None = None, spec: JobSpec | None = None, *, exact: bool = False
    ) -> list[Quote]:
        """Offers for a run of at most so many seconds; see `quote_all`.

        Args:
            seconds: the longest run to pay for.
            class_name: only this resource class.
            spec: only those that take this job.
            exact: only those of tier EXACT.
        """
        exact = exact or (spec is not None and spec.tier is not None)
        self._session.sync()
        coin_price = self._session.settings.chain.coin_price
        quotes = quote_all(
            self._contracts,
            self._session.index,
            buyer=self._session.address,
            seconds=seconds,
            class_name=class_name,
            coin_units=None if coin_price is None else self._contracts.token_info.units(coin_price, "chain.coin_price"),
            tier=Tier.EXACT if exact else Tier.BASIC,
            answer_seconds=None if spec is None or spec.exact is None else spec.exact.answer_seconds,
        )
        obstacle = self._desk.reach.obstacle
        return [replace(item, obstacle=obstacle(item.endpoint, item.record.offer, seconds)) for item in quotes]

    def software(self, quotes: Sequence[Quote]) -> dict[str, Software | None]:
        """Which Python and packages jobs find at the providers of these quotes, by endpoint; see `Reach.software`."""
        return self._desk.reach.software([item.endpoint for item in quotes])

    @staticmethod
    def with_power(quotes: list[Quote]) -> list[Quote]:
        """Quotes with what their providers say that their GPUs draw; see `quotes.with_power`."""
        return with_power(quotes)

    def prepare(
        self,
        job_file: Path,
        *,
        seconds: int | None = None,
        class_name: str | None = None,
        offer: str | None = None,
        provider: str | None = None,
        max_price: str | None = None,
        again: bool = True,
    ) -> Prepared:
        """Checks a job and finds its offer. Nothing is sent and nothing spent.

        Args:
            job_file: the job as JSON; see `load_job_file`.
            seconds: the longest run to pay for; by default the job's own limit.
            class_name: hire only this resource class.
            offer: hire this offer (id as 0x hex).
            provider: hire this provider (owner's address).
            max_price: whole tokens that may be spent at most.
            again: False refuses a job of which an interrupted submission is open.

        Raises:
            BadInput: the job, its CUDA source or an argument is wrong; the field is named.
            NotEnough: no offer within `max_price`, or wallet and balance together do not cover it.
            Refused: no offer can be hired now, or no provider has the packages that the job requires; or this buyer's
                store cannot be used by the provider.
            Unreachable: no provider's gateway answers, or the store does not.
            BadSettings, MissingTool: the store needs credentials, or boto3.
        """
        spec, files = load_job_file(job_file)
        interrupted = None if again else self._hiring.interrupted(spec.hash())
        if interrupted is not None:
            raise Refused(
                "a submission of this very job was interrupted and is open",
                field="submission",
                value=interrupted.id,
                remedy=f"`gpubond job resume {interrupted.id}` goes on with it; --again hires anew",
            )
        limit = seconds if seconds is not None else spec.limits.seconds
        if spec.limits.seconds > limit:
            raise BadInput(
                f"the job's own limit is {spec.limits.seconds} s, so it could be cut off",
                field="seconds",
                value=limit,
                remedy=f"pay for at least {spec.limits.seconds} seconds, or lower limits.seconds in the job",
            )
        notes = list(self._precheck(spec, files))
        exact_terms = NO_TERMS if spec.tier is None else terms_of(spec, files).exact_terms
        units = None if max_price is None else self._contracts.token_info.units(max_price, "max_price")
        quote = choose(
            self.quote(limit, class_name, spec),
            offer_id=offer,
            provider=provider,
            max_price=units,
            answers=self._desk.reach.answers,
            lacks=self._desk.reach.lacks(spec),
            text=self._contracts.token_info.text,
        )
        self._require_funds(quote.most)
        notes += self._desk.reach.said(spec, quote.endpoint)
        [quote] = with_power([quote])
        recipient = self._desk.reach.recipient(quote.endpoint)
        if recipient is not None:
            notes += self._desk.reach.check(spec)
        pinned = offer is not None or provider is not None
        rest = (class_name, units, pinned, recipient, exact_terms)
        return Prepared(spec, files, quote, limit, tuple(notes), *rest)

    def begin(self, prepared: Prepared, retry: int = 0) -> Submission:
        """Stores a submission; nothing is sent yet. `resume` does the rest, after any interruption as well.

        Args:
            prepared: from `prepare`.
            retry: how many further providers may be hired, one after the other and each for at most
                `max_price`, if the one before declines or does not deliver.

        Raises:
            BadInput: `retry` without a highest price, or with a certain offer or provider.
        """
        self.check_retry(prepared, retry)
        return self._hiring.begin(prepared, retry)

    @staticmethod
    def check_retry(prepared: Prepared, retry: int) -> None:
        """Raises BadInput if further hires are wanted without a highest price, or with a certain offer."""
        if retry and (prepared.max_price is None or prepared.pinned):
            raise BadInput(
                "to hire the next best, a highest price is needed and no certain offer or provider",
                field="retry",
                value=retry,
                remedy="give --max-price with --retry, and neither --offer nor --provider",
            )

    def hire(self, prepared: Prepared, retry: int = 0) -> str:
        """Tops the balance up, hires, uploads specification and inputs; returns the job's id (0x hex).

        If it is interrupted, `resume` goes on from there.
        """
        return self.resume(self.begin(prepared, retry).id, watch=False).record.job

    def submit(self, job_file: Path, *, retry: int = 0, **choices: Any) -> str:
        """`prepare` and `hire` in one; takes the arguments of `prepare`."""
        return self.hire(self.prepare(job_file, **choices), retry)

    def resume(self, submission: str, *, watch: bool = True, on_log: Callable[[bytes], None] | None = None) -> JobView:
        """Drives a submission to its end, or goes on where an earlier call was interrupted; hires nobody twice.

        Args:
            submission: its id, or that of its job.
            watch: False returns once the inputs are uploaded.
            on_log: receives the log as it comes.

        Raises:
            BadInput: there is no such submission.
            Refused: another process drives it; or the contract refuses the hire, and nobody else may be hired.
            NotEnough, Unreachable: as `prepare`; resume again.
        """
        found = self._submission(submission)
        with self._hiring.driving(found.id):
            while True:
                order = self._desk.orders.of_submission(found.id)[-1]
                try:
                    view = self._drive(found, order, watch, on_log)
                except HireRefused as error:
                    self._session.on_progress(f"not hired: {error.message}")
                    if self._next(found, order, error.message):
                        continue
                    raise
                if view is not None:
                    return view

    def _drive(
        self, submission: Submission, order: OrderRecord, watch: bool, on_log: Callable[[bytes], None] | None
    ) -> JobView | None:
        """One order to its end; None if another one follows it."""
        set_code = self._desk.orders.set_code
        try:
            job = self._hiring.complete(order, submission.seconds)
        except NotWanted:
            set_code(submission.id, SubmissionCode.CANCELLED_BEFORE_HIRE)
            raise
        if not watch:
            self.upload(job)
            set_code(submission.id, SubmissionCode.HANDED_OVER)
            return self.status(job)
        if submission.code.open:
            set_code(submission.id, SubmissionCode.OPEN)
        view = self.wait(job, on_log=on_log)
        boundary("buy:end_seen")
        for_nothing = submission.retries > 0 and failed_for_nothing(view.record)
        if for_nothing and view.record.status == Status.COMMITTED:
            self._session.on_progress(
                "the run failed by no fault of the job's and costs nothing: taking the money back"
            )
            self.release(job)
        elif view.code not in _TRY_AGAIN and not for_nothing:
            ended = SubmissionCode.RUN_FAILED if view.failed else SubmissionCode.DELIVERED
            set_code(submission.id, ended, view.explanation)
            return view
        return None if self._next(submission, order, view.explanation) else self.status(job)

    def _next(self, submission: Submission, order: OrderRecord, why: str) -> bool:
        """Whether another order follows one that came to nothing."""
        last = self._desk.orders.by_salt(bytes.fromhex(order.salt)) or order
        ended = self._hiring.next(submission, last)
        if ended is not None:
            self._desk.orders.set_code(submission.id, ended, why)
            if submission.retries:
                self._session.on_progress(f"{ended.meaning}")
        return ended is None

    def upload(self, job: str) -> None:
        """Sends what the provider still lacks; see `Delivery.upload`."""
        self._delivery.upload(job)

    def record(self, job: str) -> JobRecord:
        """The job as the chain has it; see `Desk.record`."""
        return self._desk.record(job)

    def jobs(self) -> list[tuple[JobRecord, str]]:
        """This buyer's jobs with their names, oldest first."""
        self._session.sync()
        names = self._desk.orders.names()
        records = self._session.index.jobs(buyer=self._session.address)
        return [(record, names.get(record.terms.salt.hex(), "")) for record in records]

    def list(self) -> Listed:
        """All jobs and open submissions with their states, sums, and what needs this buyer's action."""
        return list_all(self._desk, self.jobs())

    def status(self, job: str) -> JobView:
        """Where a job stands, what it waits for and until when."""
        return self._delivery.status(job)

    def wait(
        self,
        job: str,
        *,
        on_log: Callable[[bytes], None] | None = None,
        expire: bool = True,
    ) -> JobView:
        """Waits until the provider committed to a result, or the job ended otherwise; sends inputs that it lacks.

        Args:
            job: the job's id.
            on_log: receives the job's log as it comes.
            expire: once the deadline has passed without a result, claim refund and compensation; else return then.
        """
        return self._delivery.wait(job, on_log=on_log, expire=self.expire if expire else None, upload=self.upload)

    def follow(self, job: str, on_log: Callable[[bytes], None]) -> JobView:
        """The job's log as it comes, until the run ends; it goes on where it was if the gateway was away."""
        self._desk.own(job)
        return self._delivery.wait(job, on_log=on_log)

    def logs(self, job: str, offset: int = 0) -> Iterator[bytes]:
        """The job's log from a byte offset to its present end."""
        return self._delivery.logs(job, offset)

    def fetch(self, job: str, directory: Path) -> Manifest:
        """Fetches the outputs and checks every byte against the root on chain; see `fetch_outputs`."""
        return fetch_outputs(self._desk, job, directory)

    def clean(self, job: str) -> int:
        """Removes from this buyer's store what lies there of a job that has ended; returns how many objects at most.

        Raises:
            Refused: the job has not ended, or did not go through the store.
        """
        record = self.record(job)
        order = self._desk.order_of(record)
        if not record.status.final or order is None or order.box is None:
            raise Refused(
                "the job has not ended" if not record.status.final else "nothing of this job lies in your store",
                field="job",
                value=job,
                remedy="`gpubond job status` says what it waits for; a lifecycle rule of the store removes all in time",
            )
        return clean_box(self._desk, order)

    def cancel(self, job: str) -> Cancelled:
        """Ends a job that has no result yet, or a submission that is not hired; see `cancel_job`."""
        if job.startswith("s-"):
            ended = cancel_submission(self._desk, self._hiring, job)
            if isinstance(ended, Cancelled):
                return ended
            job = ended
        self._desk.own(job)
        return cancel_job(self._desk, self.status(job))

    def release(self, job: str) -> JobRecord:
        """Pays the provider now instead of at the end of the challenge window."""
        record = self.record(job)
        if record.commitment is None or record.status != Status.COMMITTED:
            raise Refused(
                f"there is nothing to release: the job is {record.status.name.lower()}",
                field="job",
                value=job,
                remedy="release is for a job with a commitment that is not settled yet",
            )
        return self._end(self._contracts.settle(record.terms, record.commitment), "settle", record, Status.SETTLED)

    def expire(self, job: str) -> JobRecord:
        """Claims refund and compensation for a job that was not delivered in time."""
        record = self.record(job)
        if record.status == Status.EXPIRED:
            return record
        left = record.terms.deliver_by - self._contracts.now()
        if record.status != Status.ACTIVE or left >= 0:
            raise Refused(
                f"the job cannot be expired: it is {record.status.name.lower()}"
                + (f", and due in {left} s" if record.status == Status.ACTIVE else ""),
                field="job",
                value=job,
                remedy="a job expires when nothing was committed by its deadline: see `gpubond job status`",
            )
        return self._end(self._contracts.expire(record.terms), "expire", record, Status.EXPIRED)

    def _end(self, call: Call, action: str, record: JobRecord, wanted: Status) -> JobRecord:
        try:
            self._session.send(call, f"{action}:{record.job}")
        except Refused:
            # Others may do it too, and somebody was quicker: what counts is that it is done.
            if self.record(record.job).status != wanted:
                raise
        return self.record(record.job)

    def _submission(self, identifier: str) -> Submission:
        orders = self._desk.orders
        found = orders.submission(identifier)
        if found is None and identifier.startswith("0x"):
            order = self._desk.order_of(self.record(identifier))
            found = None if order is None or order.submission is None else orders.submission(order.submission)
        if found is None:
            raise BadInput(
                "there is no such submission in this home folder",
                field="submission",
                value=identifier,
                remedy="`gpubond job list` shows those that are open",
            )
        return found

    def _precheck(self, spec: JobSpec, files: dict[str, Path]) -> Iterator[str]:
        if spec.cuda is not None:
            self._session.on_progress(f"compiling {spec.cuda.source} to check it")
        if not precheck_job(spec, files):
            yield "the CUDA source was not checked here: install gpubond[cuda] to find errors before you pay"
        if not precheck_exact(spec, files):
            yield NOT_HERE

    def _require_funds(self, most: int) -> None:
        address = self._session.address
        balance = self._contracts.escrow_balance(address)
        wallet = self._contracts.token_balance(address)
        if balance + wallet < most:
            text = self._contracts.token_info.text
            raise NotEnough(
                f"the job can cost {text(most)}; you have {text(balance)} in the escrow and {text(wallet)} "
                "in your wallet",
                field="balance",
                value=text(balance + wallet),
                remedy=f"add {text(most - balance - wallet)} to {address}"
                + (" (`gpubond account faucet` mints test tokens)" if self._session.deployment.token.test else ""),
            )
