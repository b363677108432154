# SPDX-License-Identifier: Apache-2.0
"""The buyer's library; the command line `gpubond job` is a thin layer over it.

with Buyer.open(Path("~/.gpubond/buyer")) as buyer:
    job = buyer.submit(Path("job.json"), max_price="0.50")
    buyer.wait(job)
    buyer.fetch(job, Path("outputs"))
    buyer.release(job)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpubond.buyer.demands import Demanding
from gpubond.buyer.gateway_client import GatewayClient, NotSeenYet, gateway_answers
from gpubond.buyer.gateway_parts import Meter
from gpubond.buyer.job_view import JobView, view_job
from gpubond.buyer.orders import Orders
from gpubond.buyer.outputs import require_free, require_ordered
from gpubond.buyer.quotes import Prepared, Quote, choose, quote_all
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Order, Status, Tier
from gpubond.chain.session import Progress, Session, open_session
from gpubond.errors import BadInput, JobFailed, NotEnough, Refused, Unreachable
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.cuda_check import precheck_job
from gpubond.jobs.manifest import Manifest, verify_outputs
from gpubond.jobs.requests import Domain
from gpubond.jobs.spec import JobSpec, load_job_file, parse_spec

POLL_SECONDS = 0.5


class Buyer(Demanding):
    """Everything that a buyer does, with one key on one deployment."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._orders = Orders(session.database)
        self._blobs = BlobStore(session.home.blobs)
        self._contracts = session.contracts
        self._domain = Domain(session.deployment.chain_id, str(session.contracts.escrow.address))

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

    def quote(self, seconds: int, class_name: str | None = None) -> list[Quote]:
        """Offers for a run of at most so many seconds; see `quote_all`."""
        self._session.sync()
        return quote_all(
            self._contracts,
            self._session.index,
            buyer=self._session.address,
            seconds=seconds,
            class_name=class_name,
        )

    def prepare(
        self,
        job_file: Path,
        *,
        seconds: int | None = None,
        class_name: str | None = None,
        offer: str | None = None,
        provider: str | None = None,
        max_price: str | None = None,
    ) -> Prepared:
        """Checks a job and finds its offer. Nothing is sent and nothing spent.

        Args:
            job_file: the job as JSON; see `load_job_file`.
            seconds: the longest run to pay for; by default the job's own limit.
            class_name: hire only this resource class.
            offer: hire this offer (id as 0x hex).
            provider: hire this provider (owner's address).
            max_price: whole tokens that may be spent at most.

        Raises:
            BadInput: the job, its CUDA source or an argument is wrong; the field is named.
            NotEnough: no offer within `max_price`, or wallet and balance together do not cover it.
            Refused: no offer can be hired now.
            Unreachable: no provider's gateway answers.
        """
        spec, files = load_job_file(job_file)
        limit = seconds if seconds is not None else spec.limits.seconds
        if spec.limits.seconds > limit:
            raise BadInput(
                f"the job's own limit is {spec.limits.seconds} s, so it could be cut off",
                field="seconds",
                value=limit,
                remedy=f"pay for at least {spec.limits.seconds} seconds, or lower limits.seconds in the job",
            )
        notes = list(self._precheck(spec, files))
        units = None if max_price is None else self._contracts.token_info.units(max_price, "max_price")
        quote = choose(
            self.quote(limit, class_name),
            offer_id=offer,
            provider=provider,
            max_price=units,
            answers=gateway_answers,
        )
        self._require_funds(quote.most)
        return Prepared(spec, files, quote, limit, tuple(notes))

    def hire(self, prepared: Prepared) -> str:
        """Tops the balance up, hires, uploads specification and inputs; returns the job's id (0x hex).

        If it is interrupted after the hire, `resume` goes on from there.
        """
        salt = secrets.token_bytes(32)
        canonical = prepared.spec.canonical()
        spec_hash = prepared.spec.hash()
        self._blobs.put([canonical], spec_hash.hex(), len(canonical))
        files = {name: path.absolute() for name, path in prepared.files.items()}
        files[spec_hash.hex()] = self._blobs.path(spec_hash.hex())

        self._top_up(prepared.quote.most)
        order = Order(
            spec_hash=spec_hash,
            tier=Tier.BASIC,
            tasks=1,
            longest_run=prepared.seconds,
            exact_terms=bytes(32),
            audit_fee=0,
            audit_seal=bytes(32),
            group=bytes(32),
            salt=salt,
        )
        self._orders.add(salt, prepared.spec.name, spec_hash, files)
        entry = self._session.send(self._contracts.hire(prepared.quote.record.offer, order), f"hire:{salt.hex()}")
        job = self._find(salt)
        self._orders.set_job(salt, job)
        self._session.on_progress(f"hired: job {job} (transaction {entry.tx_hash})")
        self.upload(job)
        return job

    def submit(self, job_file: Path, **choices: Any) -> str:
        """`prepare` and `hire` in one; takes the arguments of `prepare`."""
        return self.hire(self.prepare(job_file, **choices))

    def upload(self, job: str) -> None:
        """Sends what the provider still lacks. May be repeated; ends at once if nothing is missing.

        Raises:
            Unreachable: the gateway did not answer, or did not see the job, until the acknowledgement
                deadline. The money is not lost: see the remedy.
        """
        record = self.record(job)
        order = self._orders.by_job(record.job) or self._orders.by_salt(record.terms.salt)
        if order is None:
            raise BadInput(
                "this job was not submitted from here, so its inputs are not known",
                field="job",
                value=job,
                remedy="use the home folder that submitted it",
            )
        with self._gateway(record) as gateway:
            while True:
                status = self._patiently(gateway.status, record)
                missing = status.get("missing") or []
                if not missing:
                    return
                for name in missing:
                    path = order.files.get(name)
                    if path is None:
                        raise Refused(
                            "the provider asks for a blob that is not part of the job",
                            field="sha256",
                            value=str(name)[:80],
                        )
                    what = "the specification" if name == order.spec_hash else path.name
                    self._session.on_progress(f"uploading {what} ({path.stat().st_size:,} bytes)")
                    gateway.upload(name, path, Meter(self._session.on_progress, what))

    def record(self, job: str) -> JobRecord:
        """The job as the chain has it.

        Args:
            job: its id as 0x hex, or the beginning of it if that is one job's alone.

        Raises:
            BadInput: no such job in this deployment, or several.
        """
        self._session.sync()
        found = self._session.index.jobs_like(job.lower())
        if len(found) != 1:
            raise BadInput(
                "there is no such job in this deployment" if not found else "several jobs begin like this",
                field="job",
                value=job,
                remedy="`gpubond job list` shows yours; a job's id is 0x and 64 hex digits, or the first few of them",
            )
        return found[0]

    def jobs(self) -> list[tuple[JobRecord, str]]:
        """This buyer's jobs with their names, oldest first."""
        self._session.sync()
        records = self._session.index.jobs(buyer=self._session.address)
        named = ((record, self._orders.by_job(record.job)) for record in records)
        return [(record, "" if order is None else order.name) for record, order in named]

    def status(self, job: str) -> JobView:
        """Where a job stands, what it waits for and until when."""
        record = self.record(job)
        answer, problem = None, None
        if not record.status.final:
            try:
                with self._gateway(record) as gateway:
                    answer = gateway.status()
            except NotSeenYet as error:
                problem = error.message
            except (Unreachable, Refused) as error:
                problem = error.message
        return view_job(record, answer, problem, self._contracts.now(), self._session.index.demands.of_job(record.job))

    def wait(
        self,
        job: str,
        *,
        on_log: Callable[[bytes], None] | None = None,
        expire: bool = True,
    ) -> JobView:
        """Waits until the provider committed to a result, or the job ended otherwise.

        Args:
            job: the job's id.
            on_log: receives the job's log as it comes.
            expire: once the deadline has passed without a result, claim refund and compensation.
        """
        offset, last = 0, None
        while True:
            view = self.status(job)
            if on_log is not None and view.provider_status is not None:
                offset = self._drain_log(view.record, offset, on_log)
            status = view.record.status
            at_provider = (view.provider_status or {}).get("state") if status == Status.ACTIVE else None
            state = at_provider or status.name.lower()
            if state != last:
                last = state
                self._session.on_progress(f"{state}: {view.waits_for or view.explanation}")
            if status.final or status in (Status.COMMITTED, Status.DISPUTED):
                return view
            if expire and self._contracts.now() > view.record.terms.deliver_by:
                self.expire(job)
                continue
            time.sleep(POLL_SECONDS)

    def logs(self, job: str, offset: int = 0) -> Iterator[bytes]:
        """The job's log from a byte offset to its present end."""
        with self._gateway(self.record(job)) as gateway:
            while piece := gateway.logs(offset):
                offset += len(piece)
                yield piece

    def fetch(self, job: str, directory: Path) -> Manifest:
        """Fetches the outputs and checks every byte against the root on chain.

        Args:
            job: the job's id.
            directory: where the outputs go; nothing appears there that was not verified.

        Raises:
            Refused: there is no commitment yet.
            JobFailed: the provider serves other bytes than it committed to.
        """
        record = self.record(job)
        if record.commitment is None:
            raise Refused(
                "the provider has not committed to a result yet",
                field="job",
                value=job,
                remedy="`gpubond job status` says what the job waits for and until when",
            )
        directory.mkdir(parents=True, exist_ok=True)
        incoming = directory / f".incoming-{record.job[2:18]}"
        with self._gateway(record) as gateway:
            data = gateway.manifest()
            manifest = Manifest.parse(data)
            if manifest.job != record.job:
                raise JobFailed(
                    "the manifest is that of another job",
                    field="job",
                    value=manifest.job,
                    remedy="fetch again",
                )
            require_ordered(record, self._spec(record), manifest)
            require_free(directory, manifest)
            files = {item.path: incoming / str(number) for number, item in enumerate(manifest.files)}
            for item in manifest.files:
                self._session.on_progress(f"fetching {item.path} ({item.size:,} bytes)")
                meter = Meter(self._session.on_progress, item.path)
                gateway.download(item.sha256, item.size, files[item.path], meter)
        verify_outputs(record.commitment.result_root, data, files)
        for path, source in files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        (directory / "manifest.json").write_bytes(data) if "manifest.json" not in files else None
        if incoming.is_dir():
            incoming.rmdir()
        return manifest

    def _spec(self, record: JobRecord) -> JobSpec:
        name = record.terms.spec_hash.hex()
        if not self._blobs.has(name):
            raise BadInput(
                "this job was not submitted from here, so its outputs cannot be checked",
                field="job",
                value=record.job,
                remedy="use the home folder that submitted it",
            )
        return parse_spec(self._blobs.path(name).read_bytes(), record.terms.spec_hash)

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
        self._session.send(self._contracts.settle(record.terms, record.commitment), f"settle:{record.job}")
        return self.record(record.job)

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
                remedy="a job expires when nothing was committed by its deadline",
            )
        self._session.send(self._contracts.expire(record.terms), f"expire:{record.job}")
        return self.record(record.job)

    def _precheck(self, spec: JobSpec, files: dict[str, Path]) -> Iterator[str]:
        if spec.cuda is not None:
            self._session.on_progress(f"compiling {spec.cuda.source} to check it")
        if not precheck_job(spec, files):
            yield "the CUDA source was not checked here: install gpubond[cuda] to find errors before you pay"

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
                value=balance + wallet,
                remedy=f"add {text(most - balance - wallet)} to {address}"
                + (" (`gpubond account faucet` mints test tokens)" if self._session.deployment.token.test else ""),
            )

    def _top_up(self, most: int) -> None:
        address = self._session.address
        short = most - self._contracts.escrow_balance(address)
        if short <= 0:
            return
        escrow = str(self._contracts.escrow.address)
        tag = secrets.token_hex(8)
        if self._contracts.token_allowance(address, escrow) < short:
            self._session.send(self._contracts.approve(escrow, short), f"approve:{tag}")
        self._session.send(self._contracts.deposit(short, address), f"deposit:{tag}")

    def _find(self, salt: bytes) -> str:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            self._session.sync()
            for record in reversed(self._session.index.jobs(buyer=self._session.address)):
                if record.terms.salt == salt:
                    return record.job
            time.sleep(POLL_SECONDS)
        raise Unreachable(
            "the hire was mined, but the node does not show its event",
            remedy="nothing is lost: `gpubond job list` shows the job as soon as the node does",
        )

    def _gateway(self, record: JobRecord) -> GatewayClient:
        provider = self._session.index.provider(record.terms.provider)
        if provider is None or not provider.endpoint.startswith(("http://", "https://")):
            raise Unreachable(
                "the provider announced no gateway",
                field="provider",
                value=record.terms.provider,
                remedy="wait; if nothing is delivered by the deadline, `gpubond job expire` refunds you",
            )
        return GatewayClient(provider.endpoint, self._session.account, self._domain, record.job_id)

    def _patiently(self, ask: Callable[[], dict[str, Any]], record: JobRecord) -> dict[str, Any]:
        told = False
        while True:
            try:
                return ask()
            except (NotSeenYet, Unreachable) as error:
                if self._contracts.now() > record.terms.acknowledge_by:
                    raise Unreachable(
                        f"the provider did not take the inputs in time: {error.message}",
                        field="job",
                        value=record.job,
                        remedy="nothing is lost: the provider must still deliver or pay; after "
                        f"{record.terms.deliver_by} (Unix seconds) `gpubond job expire` refunds and "
                        "compensates you",
                    ) from None
                if not told:
                    told = True
                    self._session.on_progress(f"waiting for the provider: {error.message}")
                time.sleep(POLL_SECONDS)

    def _drain_log(self, record: JobRecord, offset: int, on_log: Callable[[bytes], None]) -> int:
        try:
            with self._gateway(record) as gateway:
                while piece := gateway.logs(offset):
                    offset += len(piece)
                    on_log(piece)
        except (Unreachable, Refused, NotSeenYet):
            pass  # the status says what is wrong; the log goes on when the gateway is back
        return offset
