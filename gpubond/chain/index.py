# SPDX-License-Identifier: Apache-2.0
"""The local index of the market: offers, jobs and providers, derived from events and from nothing else.

It changes in the same transaction in which the watcher stores the events; after a reorg it is derived
anew from the events that are left, so it never differs from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpubond.chain.demand_index import DemandIndex, apply_demand, clear_demands
from gpubond.chain.game_index import GameIndex, apply_game, clear_games
from gpubond.chain.market import Commitment, JobTerms, Offer, Status
from gpubond.chain.watcher import Event, stored_events
from gpubond.store.database import Database, Transaction
from gpubond.store.migrations import Component

INDEX_TABLES = Component(
    "market",
    (
        """
        CREATE TABLE market_providers (
            provider TEXT PRIMARY KEY,
            operator TEXT NOT NULL,
            endpoint TEXT NOT NULL
        );
        CREATE TABLE market_offers (
            offer_id TEXT PRIMARY KEY,
            provider TEXT NOT NULL,
            class TEXT NOT NULL,
            fields TEXT NOT NULL,
            is_open INTEGER NOT NULL,
            active INTEGER NOT NULL DEFAULT 0
        );
        CREATE INDEX market_open_offers ON market_offers (is_open, class);
        CREATE TABLE market_jobs (
            job TEXT PRIMARY KEY,
            buyer TEXT NOT NULL,
            provider TEXT NOT NULL,
            offer_id TEXT NOT NULL,
            status INTEGER NOT NULL,
            terms TEXT NOT NULL,
            created_block INTEGER NOT NULL,
            created_tx TEXT NOT NULL,
            commitment TEXT,
            report TEXT,
            outcome TEXT,
            final_tx TEXT
        );
        CREATE INDEX market_jobs_by_provider ON market_jobs (provider, status);
        CREATE INDEX market_jobs_by_buyer ON market_jobs (buyer, status);
        """,
    ),
)

# Characters of a shortened id, "0x" included.
MIN_PREFIX = 6

# Event -> the status that it leaves a job in.
_ENDS = {
    "JobSettled": Status.SETTLED,
    "JobDeclined": Status.DECLINED,
    "JobExpired": Status.EXPIRED,
    "JobConvicted": Status.CONVICTED,
}


@dataclass(frozen=True)
class JobRecord:
    """A job as the chain has it. `report` is what the provider claimed with its commitment, `outcome` the
    amounts of the event that ended it (base units)."""

    job: str
    status: Status
    terms: JobTerms
    created_block: int
    created_tx: str
    commitment: Commitment | None
    report: dict[str, int] | None
    outcome: dict[str, int] | None
    final_tx: str | None

    @property
    def job_id(self) -> bytes:
        """The id as 32 bytes."""
        return bytes.fromhex(self.job.removeprefix("0x"))


@dataclass(frozen=True)
class OfferRecord:
    """An offer as the chain has it. `active` counts the places taken: by running jobs and by expired ones."""

    offer_id: str
    offer: Offer
    is_open: bool
    active: int


@dataclass(frozen=True)
class ProviderRecord:
    """A provider as it registered itself, and how its jobs ended so far."""

    provider: str
    operator: str
    endpoint: str
    outcomes: dict[str, int]


class MarketIndex:
    """Derives and reads the tables of the market."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install(INDEX_TABLES)
        #: Demands for the data of results.
        self.demands = DemandIndex(database)
        #: Disputes over results.
        self.games = GameIndex(database)

    def apply(self, tx: Transaction, events: Iterable[Event]) -> None:
        """Takes new events over, inside the watcher's transaction."""
        for event in events:
            _apply(tx, event)
            apply_demand(tx, event)
            apply_game(tx, event)

    def rebuild(self, tx: Transaction, from_block: int) -> None:
        """Derives everything anew after the watcher removed the events from `from_block` on."""
        for table in ("market_providers", "market_offers", "market_jobs"):
            tx.execute(f"DELETE FROM {table}")  # noqa: S608  # names from the line above
        clear_demands(tx)
        clear_games(tx)
        self.apply(tx, stored_events(tx))

    def job(self, job: str) -> JobRecord | None:
        """A job by its id (0x hex), or None."""
        row = self._database.connection.execute("SELECT * FROM market_jobs WHERE job = ?", (job,)).fetchone()
        return None if row is None else _job(row)

    def jobs_like(self, prefix: str) -> list[JobRecord]:
        """Up to two jobs whose ids begin so; the whole id finds one."""
        if not prefix.startswith("0x") or len(prefix) < MIN_PREFIX or not prefix[2:].isalnum():
            return []
        rows = self._database.connection.execute(
            "SELECT * FROM market_jobs WHERE job >= ? AND job < ? LIMIT 2", (prefix, prefix + "g")
        )
        return [_job(row) for row in rows.fetchall()]

    def jobs(
        self, *, buyer: str | None = None, provider: str | None = None, live_only: bool = False
    ) -> list[JobRecord]:
        """Jobs of a buyer, of a provider, or all; oldest first."""
        rows = self._database.connection.execute(
            """
            SELECT * FROM market_jobs
            WHERE (?1 IS NULL OR buyer = ?1) AND (?2 IS NULL OR provider = ?2)
                AND (NOT ?3 OR status IN (?4, ?5, ?6))
            ORDER BY created_block, rowid
            """,
            (buyer, provider, live_only, Status.ACTIVE, Status.COMMITTED, Status.DISPUTED),
        )
        return [_job(row) for row in rows.fetchall()]

    def ordered(self, buyer: str, salt: bytes) -> JobRecord | None:
        """The job that became of a buyer's order, by the order's salt; None if there is none, or not yet."""
        row = self._database.connection.execute(
            "SELECT * FROM market_jobs WHERE buyer = ? AND json_extract(terms, '$.salt') = ?",
            (buyer, "0x" + salt.hex()),
        ).fetchone()
        return None if row is None else _job(row)

    def offer(self, offer_id: str) -> OfferRecord | None:
        """An offer by its id (0x hex), or None."""
        row = self._database.connection.execute(
            "SELECT * FROM market_offers WHERE offer_id = ?", (offer_id,)
        ).fetchone()
        return None if row is None else _offer(row)

    def open_offers(self, class_name: str | None = None) -> list[OfferRecord]:
        """Offers that were not closed, cheapest first; they may have expired or be fully used."""
        rows = self._database.connection.execute(
            "SELECT * FROM market_offers WHERE is_open AND (?1 IS NULL OR class = ?1)", (class_name,)
        )
        return sorted((_offer(row) for row in rows.fetchall()), key=lambda record: record.offer.price_per_second)

    def lost_places(self, offer_id: str) -> int:
        """Places of an offer (0x hex) that expired jobs keep for ever."""
        # A job that was committed before it expired gave its place back then.
        row = self._database.connection.execute(
            "SELECT count(*) AS n FROM market_jobs WHERE offer_id = ? AND status = ? AND commitment IS NULL",
            (offer_id, Status.EXPIRED),
        ).fetchone()
        return int(row["n"])

    def classes(self) -> list[str]:
        """The resource classes of open offers."""
        rows = self._database.connection.execute(
            "SELECT DISTINCT class FROM market_offers WHERE is_open ORDER BY class"
        )
        return [row["class"] for row in rows.fetchall()]

    def provider(self, provider: str) -> ProviderRecord | None:
        """A provider by its owner's address, or None."""
        row = self._database.connection.execute(
            "SELECT * FROM market_providers WHERE provider = ?", (provider,)
        ).fetchone()
        if row is None:
            return None
        ends = self._database.connection.execute(
            "SELECT status, count(*) AS n FROM market_jobs WHERE provider = ? GROUP BY status", (provider,)
        )
        outcomes = {Status(end["status"]).name.lower(): end["n"] for end in ends.fetchall()}
        return ProviderRecord(row["provider"], row["operator"], row["endpoint"], outcomes)

    def providers(self) -> dict[str, ProviderRecord]:
        """All providers by their owners' addresses."""
        outcomes: dict[str, dict[str, int]] = {}
        for row in self._database.connection.execute(
            "SELECT provider, status, count(*) AS n FROM market_jobs GROUP BY provider, status"
        ).fetchall():
            outcomes.setdefault(row["provider"], {})[Status(row["status"]).name.lower()] = row["n"]
        rows = self._database.connection.execute("SELECT * FROM market_providers").fetchall()
        return {
            row["provider"]: ProviderRecord(
                row["provider"], row["operator"], row["endpoint"], outcomes.get(row["provider"], {})
            )
            for row in rows
        }


def _apply(tx: Transaction, event: Event) -> None:
    # Deposits, stake and fees are read from the contracts when they are needed.
    _apply_provider(tx, event)
    _apply_offer(tx, event)
    _apply_job(tx, event)


def _apply_provider(tx: Transaction, event: Event) -> None:
    args = event.args
    match event.name:
        case "Registered":
            tx.execute(
                "INSERT OR REPLACE INTO market_providers VALUES (?, ?, ?)",
                (args["provider"], args["operator"], args["endpoint"]),
            )
        case "OperatorSet":
            tx.execute(
                "UPDATE market_providers SET operator = ? WHERE provider = ?",
                (args["operator"], args["provider"]),
            )
        case "EndpointSet":
            tx.execute(
                "UPDATE market_providers SET endpoint = ? WHERE provider = ?",
                (args["endpoint"], args["provider"]),
            )


def _apply_offer(tx: Transaction, event: Event) -> None:
    args = event.args
    match event.name:
        case "OfferPosted":
            offer = Offer.from_json(args["offer"])
            tx.execute(
                """
                INSERT INTO market_offers (offer_id, provider, class, fields, is_open) VALUES (?, ?, ?, ?, 1)
                ON CONFLICT (offer_id) DO UPDATE SET is_open = 1
                """,
                (args["offer_id"], offer.provider, offer.class_name, json.dumps(offer.to_json())),
            )
        case "OfferClosed":
            tx.execute("UPDATE market_offers SET is_open = 0 WHERE offer_id = ?", (args["offer_id"],))
        case "OffersRevoked":
            tx.execute(
                "UPDATE market_offers SET is_open = 0 WHERE provider = ? AND json_extract(fields, '$.arbiter') = ?",
                (args["provider"], args["arbiter"]),
            )


def _apply_job(tx: Transaction, event: Event) -> None:
    args = event.args
    match event.name:
        case "JobMatched":
            terms = JobTerms.from_json(args["terms"])
            offer_id = "0x" + terms.offer.hex()
            tx.execute(
                """
                INSERT INTO market_jobs (job, buyer, provider, offer_id, status, terms, created_block, created_tx)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
                (
                    args["job"],
                    terms.buyer,
                    terms.provider,
                    offer_id,
                    Status.ACTIVE,
                    json.dumps(terms.to_json()),
                    event.block_number,
                    event.tx_hash,
                ),
            )
            tx.execute("UPDATE market_offers SET active = active + 1 WHERE offer_id = ?", (offer_id,))
        case "JobCommitted":
            report = {name: args[name] for name in ("exit_status", "seconds_used", "tasks_done")}
            tx.execute(
                "UPDATE market_jobs SET status = ?, commitment = ?, report = ? WHERE job = ?",
                (
                    Status.COMMITTED,
                    json.dumps(Commitment.from_json(args["commitment"]).to_json()),
                    json.dumps(report),
                    args["job"],
                ),
            )
            _free_slot(tx, args["job"])
        case "JobDisputed":
            _set_status(tx, args["job"], Status.DISPUTED)
        case "JobReleased":
            _set_status(tx, args["job"], Status.COMMITTED)
        case "JobConvicted" if "refund" not in args:
            pass  # the game's own, which follows the escrow's
        case "JobSettled" | "JobDeclined" | "JobExpired" | "JobConvicted":
            # A job that expires keeps its place: a machine that vanished is hired no more.
            if event.name == "JobDeclined":
                _free_slot(tx, args["job"])
            amounts = {name: value for name, value in args.items() if isinstance(value, int)}
            tx.execute(
                "UPDATE market_jobs SET status = ?, outcome = ?, final_tx = ? WHERE job = ?",
                (_ENDS[event.name], json.dumps(amounts), event.tx_hash, args["job"]),
            )


def _set_status(tx: Transaction, job: str, status: Status) -> None:
    tx.execute("UPDATE market_jobs SET status = ? WHERE job = ?", (status, job))


def _free_slot(tx: Transaction, job: str) -> None:
    tx.execute(
        """
        UPDATE market_offers SET active = active - 1
        WHERE offer_id = (SELECT offer_id FROM market_jobs WHERE job = ?)
        """,
        (job,),
    )


def _job(row: Any) -> JobRecord:
    def optional(name: str) -> Any:
        return None if row[name] is None else json.loads(row[name])

    commitment = optional("commitment")
    return JobRecord(
        job=row["job"],
        status=Status(row["status"]),
        terms=JobTerms.from_json(json.loads(row["terms"])),
        created_block=row["created_block"],
        created_tx=row["created_tx"],
        commitment=None if commitment is None else Commitment.from_json(commitment),
        report=optional("report"),
        outcome=optional("outcome"),
        final_tx=row["final_tx"],
    )


def _offer(row: Any) -> OfferRecord:
    return OfferRecord(
        offer_id=row["offer_id"],
        offer=Offer.from_json(json.loads(row["fields"])),
        is_open=bool(row["is_open"]),
        active=row["active"],
    )
