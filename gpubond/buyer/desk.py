# SPDX-License-Identifier: Apache-2.0
"""What every part of the buyer's library works with: session, orders, blobs, and the way to a job's gateway."""

from __future__ import annotations

from gpubond.buyer.gateway_client import GatewayClient
from gpubond.buyer.orders import OrderRecord, Orders
from gpubond.buyer.reach import Reach
from gpubond.buyer.store_client import StoreClient
from gpubond.buyer.way import Way
from gpubond.chain.index import JobRecord
from gpubond.chain.session import Session
from gpubond.errors import BadInput, Refused, Unreachable
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.requests import Domain

POLL_SECONDS = 0.5


class Desk:
    """One buyer's key, store and contracts."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.contracts = session.contracts
        self.orders = Orders(session.database)
        self.blobs = BlobStore(session.home.blobs)
        self._clients: dict[str, StoreClient] = {}
        self.reach = Reach(session.settings.store)
        self.domain = Domain(session.deployment.chain_id, str(session.contracts.escrow.address))

    def say(self, words: str) -> None:
        """One line of progress."""
        self.session.on_progress(words)

    def record(self, job: str) -> JobRecord:
        """The job as the chain has it.

        Args:
            job: its id as 0x hex, or the beginning of it if that is one job's alone; or a submission's (s-…).

        Raises:
            BadInput: no such job in this deployment, or several.
            Refused: the submission has no job yet.
        """
        self.session.sync()
        if job.startswith("s-"):
            return self._latest(job)
        found = self.session.index.jobs_like(job.lower())
        if len(found) != 1:
            raise BadInput(
                "there is no such job in this deployment" if not found else "several jobs begin like this",
                field="job",
                value=job,
                remedy="`gpubond job list` shows yours; a job's id is 0x and 64 hex digits, or the first few of them",
            )
        return found[0]

    def own(self, job: str) -> JobRecord:
        """As `record`, of a job that this key hired: its gateway answers to nobody else.

        Raises:
            BadInput: also if it is another buyer's.
        """
        record = self.record(job)
        if record.terms.buyer != self.session.address:
            raise BadInput(
                "this job is another buyer's",
                field="job",
                value=record.job,
                remedy=f"use the home folder of {record.terms.buyer}, which hired it",
            )
        return record

    def _latest(self, identifier: str) -> JobRecord:
        submission = self.orders.submission(identifier)
        if submission is None:
            raise BadInput(
                "there is no such submission in this home folder",
                field="job",
                value=identifier,
                remedy="`gpubond job list` shows those that are open",
            )
        last = self.orders.of_submission(identifier)[-1]
        record = self.session.index.ordered(self.session.address, bytes.fromhex(last.salt))
        if record is None:
            raise Refused(
                f"the submission has no job: {submission.code.meaning}",
                field="job",
                value=identifier,
                remedy=submission.code.remedy,
            )
        return record

    def order_of(self, record: JobRecord) -> OrderRecord | None:
        """The order that a job became of, if it was submitted from here.

        By the salt: a reorg gives a job another id.
        """
        return self.orders.by_salt(record.terms.salt)

    def gateway(self, record: JobRecord) -> Way:
        """The way to a job's provider: its gateway, or the buyer's own store in which the job was handed over.

        Raises:
            Unreachable: the provider announced no gateway.
            BadSettings, MissingTool: it went through a store that the settings do not name any more.
        """
        order = self.order_of(record)
        if order is not None and order.box is not None:
            # One for all of an order's requests, which remembers what it saw a moment ago.
            if order.salt not in self._clients:
                self._clients[order.salt] = StoreClient(self.reach.store(order.box.root), order.box)
            return self._clients[order.salt]
        provider = self.session.index.provider(record.terms.provider)
        if provider is None or not provider.endpoint.startswith(("http://", "https://")):
            raise Unreachable(
                "the provider has no gateway, and this job was not handed over through a store from here",
                field="gateway",
                value=record.terms.provider,
                remedy="use the home folder that submitted it; if nothing is delivered by the deadline, "
                "`gpubond job expire` refunds you",
            )
        return GatewayClient(provider.endpoint, self.session.account, self.domain, record.job_id)
