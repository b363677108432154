# SPDX-License-Identifier: Apache-2.0
"""A thousand jobs through one worker, and a worker that has nothing to do."""

from __future__ import annotations

import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import psutil

from benchmarks.worker_market import Place, note, running_worker, send
from demo.processes import Worker
from gpubond.buyer.client import Buyer
from gpubond.chain.development import advance_time
from gpubond.chain.market import Order, Status, Tier

BATCH = 32
LEAST_PER_SECOND = 0.5  # slower than this counts as stuck


def many(place: Place, worker: Worker, buyer_home: Path, jobs: int, slots: int) -> dict[str, Any]:
    """So many jobs of one program, as fast as the offer's places come free; each must be committed and paid."""
    job_file = place.job("many", 0, seconds=60)
    process = psutil.Process(worker.process.pid)
    with Buyer.open(buyer_home) as buyer:
        first = buyer.submit(job_file)  # brings the inputs
        buyer.wait(first)
        record = buyer.record(first)
        offer_id = "0x" + record.terms.offer.hex()
        session = buyer.session
        offer = session.index.offer(offer_id)
        if offer is None:
            raise RuntimeError("the offer of the first job is not known")
        cpu, began = _cpu(process), time.monotonic()
        deadline = began + jobs / LEAST_PER_SECOND
        hired = 0
        while hired < jobs:
            session.sync()
            known = session.index.offer(offer_id)
            if known is None:
                raise RuntimeError("the offer is gone")
            free = min(BATCH, slots - known.active, jobs - hired)
            if free < min(BATCH, jobs - hired, slots):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"stuck: {hired} of {jobs} jobs hired, {known.active} places taken")
                time.sleep(0.2)
                continue
            orders = [_order(record.terms.spec_hash, hired + number) for number in range(free)]
            send(session, "hire many", "hire_many", offer.offer.as_tuple(), [each.as_tuple() for each in orders])
            hired += free
            if hired % (BATCH * 4) == 0:
                note(f"{hired} of {jobs} jobs hired, {time.monotonic() - began:.0f} s")
        while _statuses(buyer)[Status.ACTIVE]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"stuck: {_statuses(buyer)}")
            time.sleep(0.5)
        seconds = time.monotonic() - began
        used = _cpu(process) - cpu
        _settle(buyer, place)
        ended = _statuses(buyer)
    committed = ended[Status.SETTLED]
    return {
        "jobs": jobs,
        "jobs_1000_lost": jobs + 1 - committed,
        "seconds": round(seconds, 1),
        "jobs_per_second": round(jobs / seconds, 2),
        "slots": slots,
        "cpu_s_per_job": round(used / jobs, 3),
        "cpu_counts": "the worker and its jobs' processes",
        "rss_mib": round(process.memory_info().rss / 2**20),
    }


def _order(spec_hash: bytes, number: int) -> Order:
    return Order(
        spec_hash=spec_hash,
        tier=Tier.BASIC,
        tasks=1,
        longest_run=60,
        exact_terms=bytes(32),
        audit_fee=0,
        audit_seal=bytes(32),
        group=bytes(32),
        salt=number.to_bytes(32, "big"),
    )


def _statuses(buyer: Buyer) -> Counter[Status]:
    return Counter(record.status for record, _ in buyer.jobs())


def _settle(buyer: Buyer, place: Place) -> None:
    """The buyer releases all at once where the worker has not settled yet."""
    session = buyer.session
    ready = [record for record, _ in buyer.jobs() if record.status == Status.COMMITTED]
    for at in range(0, len(ready), BATCH):
        items = [
            (record.terms.as_tuple(), record.commitment.as_tuple())
            for record in ready[at : at + BATCH]
            if record.commitment is not None
        ]
        send(session, "settle many", "settle_many", items)
    advance_time(session.node, 1)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


class Counting:
    """A door to the node that counts calls by method. Loopback only."""

    def __init__(self, target: str) -> None:
        self.calls: Counter[str] = Counter()
        counting = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # the base class names it
                body = self.rfile.read(int(self.headers["content-length"]))
                counting.calls[body.split(b'"method":')[1].split(b'"')[1].decode()] += 1
                asked = Request(target, body, {"content-type": "application/json"})  # noqa: S310 - loopback
                with urlopen(asked, timeout=60) as answer:  # noqa: S310
                    data = answer.read()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def idle(place: Place, home: Path, counting: Counting, seconds: int) -> dict[str, Any]:
    """A worker without jobs: its CPU time, and how often it asks the node."""
    with running_worker(home) as worker:
        process = psutil.Process(worker.process.pid)
        time.sleep(5)
        note(f"{seconds} s of idleness")
        counting.calls.clear()
        cpu, began = _cpu(process), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        return {
            "seconds": seconds,
            "idle_cpu_percent": round(100 * (_cpu(process) - cpu) / passed, 2),
            "idle_rpc_calls_per_minute": round(60 * counting.calls.total() / passed, 1),
            "idle_rpc_methods": dict(counting.calls.most_common()),
            "rss_mib": round(process.memory_info().rss / 2**20),
        }
