# SPDX-License-Identifier: Apache-2.0
"""A demand is answered with the chunk and its path, and with nothing else; the last answer releases the job."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from gpubond.jobs.merkle import CHUNK_BYTES

from ..market import BALANCE, PRICE, ZERO, Account, Job, Market, logs
from ..reference import COMMITTED, DISPUTE_TIMEOUT, DISPUTED, EXPIRED, SETTLED
from .conftest import ANSWER_FEE, ANSWER_WINDOW, LANES, SECONDS, Demands, make_result

PAY = SECONDS * PRICE


def refused(demands: Demands, job: Job, lane: int, reason: str, index: int | None = None, **changes: Any) -> None:
    """The answer fails for this reason, and the demand waits on."""
    before = demands.open_lanes(job), demands.market.status(job), demands.claim(demands.market.owner)
    with ape.reverts(reason):
        demands.answer(job, lane, index, **changes)
    assert (demands.open_lanes(job), demands.market.status(job), demands.claim(demands.market.owner)) == before


def flipped(data: bytes, position: int) -> bytes:
    """One bit of it altered."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize("chunks", [1, 2, 3, 8, 9])
def test_every_chunk_can_be_shown_and_the_job_settles(demands: Demands, market: Market, chunks: int) -> None:
    job = demands.committed(chunks)
    indexes = list(range(chunks))
    for start in range(0, chunks, LANES):
        asked = indexes[start : start + LANES]
        demands.demand(job, asked)
        assert market.status(job) == DISPUTED
        for lane, index in enumerate(asked):
            receipt = demands.answer(job, lane)
            assert logs(receipt, demands.contract) == [("DataAnswered", {"job": job.id, "lane": lane, "index": index})]
            last = lane == len(asked) - 1
            released = [("JobReleased", {"job": job.id, "arbiter": demands.contract.address})]
            assert logs(receipt, market.escrow) == (released if last else [])
            assert market.status(job) == (COMMITTED if last else DISPUTED)
    assert demands.claim(market.owner) == chunks * ANSWER_FEE
    assert demands.open_lanes(job) == []
    market.escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.status(job) == SETTLED
    assert market.balance(market.owner) == PAY - PAY * 250 // 10_000
    assert market.balance(market.buyer) == BALANCE - PAY


def test_a_bundle_of_whole_chunks(demands: Demands, market: Market) -> None:
    # No padding at all: the size of the bundle is a multiple of the chunk's.
    job = demands.hire()
    spare = 1_000
    for _ in range(8):
        result = make_result(demands.folder, job, 2, spare)
        over = result.proof(0)["bundle_size"] - 2 * CHUNK_BYTES
        if over == 0:
            break
        spare += over
    assert result.proof(1)["bundle_size"] == 2 * CHUNK_BYTES
    assert result.chunks == 2
    demands.results[job.id] = result
    market.at(job.terms["matched_at"] + SECONDS)
    market.commit(job, root=result.root, chunks=2, seconds_used=SECONDS)
    demands.demand(job, [0, 1])
    demands.answer(job, 0)
    demands.answer(job, 1)
    assert market.status(job) == COMMITTED


def test_no_token_moves(demands: Demands, market: Market, held: Job) -> None:
    assert logs(demands.answer(held, 0), market.token) == []


@pytest.mark.parametrize("role", ["owner", "buyer", "thief", "keeper", "newcomer"])
def test_by_anyone_for_the_provider(
    demands: Demands, market: Market, held: Job, role: str, request: pytest.FixtureRequest
) -> None:
    sender = request.getfixturevalue(role)
    demands.answer(held, 0, sender=sender)
    assert demands.claim(market.owner) == ANSWER_FEE
    assert sender == market.owner or demands.claim(sender) == 0


def test_in_any_order(demands: Demands, market: Market, held: Job) -> None:
    demands.answer(held, 1)
    assert demands.open_lanes(held) == [0]
    demands.answer(held, 0)
    assert market.status(held) == COMMITTED


def test_the_same_chunk_in_two_lanes(demands: Demands, market: Market, data_job: Job) -> None:
    demands.demand(data_job, [1, 1])
    demands.answer(data_job, 1)
    assert demands.open_lanes(data_job) == [0]
    demands.answer(data_job, 0)
    assert demands.claim(market.owner) == 2 * ANSWER_FEE


@pytest.mark.parametrize("lane", [2, 7, 8, 255, 256, 2**255, 2**256 - 1])
def test_a_lane_without_a_demand(demands: Demands, held: Job, lane: int) -> None:
    refused(demands, held, lane, "demands: no such demand", index=0)


def test_twice(demands: Demands, held: Job) -> None:
    demands.answer(held, 0)
    refused(demands, held, 0, "demands: no such demand", index=2)


def test_other_terms(demands: Demands, market: Market, held: Job) -> None:
    # Else the fee could be somebody else's.
    with ape.reverts("demands: no such demand"):
        demands.contract.answer(
            held.terms | {"provider": market.buyer.address},
            held.commitment,
            0,
            demands.proof(held, 2),
            sender=market.buyer,
        )


@pytest.mark.parametrize(
    "changes", [{"chunks": 1}, {"result_root": b"\xdd" * 32}, {"pay": 0}, {"committed_at": 0}], ids=str
)
def test_another_commitment(demands: Demands, market: Market, held: Job, changes: dict[str, Any]) -> None:
    # Else a provider could answer from a result that it did not commit to.
    with ape.reverts("demands: not what was committed"):
        demands.contract.answer(
            held.terms, held.commitment | changes, 0, demands.proof(held, 2), sender=market.operator
        )
    assert demands.open_lanes(held) == [0, 1]


def test_in_its_last_second(demands: Demands, market: Market, held: Job) -> None:
    market.at(demands.contract.demand_of(held.id, 0).answer_by)
    demands.answer(held, 0)
    assert demands.open_lanes(held) == [1]


def test_one_second_late(demands: Demands, market: Market, held: Job) -> None:
    market.at(demands.contract.demand_of(held.id, 0).answer_by + 1)
    refused(demands, held, 0, "demands: too late to answer")


def test_each_lane_has_its_own_day(demands: Demands, market: Market, data_job: Job) -> None:
    first = demands.demand(data_job, [0]).timestamp
    market.at(first + 3_600)
    demands.demand(data_job, [1])
    market.at(first + ANSWER_WINDOW + 1)
    refused(demands, data_job, 0, "demands: too late to answer")
    demands.answer(data_job, 1)
    assert demands.open_lanes(data_job) == [0]
    # What was answered does not help what was not.
    demands.expire(data_job, 0)
    assert market.status(data_job) == EXPIRED


def test_after_the_escrows_time_out(demands: Demands, market: Market, held: Job, keeper: Account) -> None:
    market.at(market.window_end(held) + DISPUTE_TIMEOUT)
    market.escrow.settle(held.terms, held.commitment, sender=keeper)
    refused(demands, held, 0, "demands: job is not held")


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1])
def test_a_shorter_chunk(demands: Demands, held: Job, size: int) -> None:
    chunk = demands.proof(held, 2)["chunk"][:size]
    refused(demands, held, 0, "demands: chunk is not 4096 bytes", chunk=chunk)


def test_a_longer_chunk(demands: Demands, held: Job) -> None:
    chunk = demands.proof(held, 2)["chunk"] + b"\0"
    with ape.reverts():
        demands.answer(held, 0, chunk=chunk)
    assert demands.open_lanes(held) == [0, 1]


@pytest.mark.parametrize("position", [0, 1, 31, 32, 2_047, 4_064, CHUNK_BYTES - 1])
@pytest.mark.parametrize("lane", [0, 1])
def test_one_bit_of_the_chunk(demands: Demands, held: Job, lane: int, position: int) -> None:
    # Lane 0 asks for the last chunk: its padding counts as well.
    chunk = demands.proof(held, (2, 0)[lane])["chunk"]
    refused(demands, held, lane, "demands: chunk is not of the result", chunk=flipped(chunk, position))


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("position", [0, 31])
def test_one_bit_of_the_path(demands: Demands, held: Job, level: int, position: int) -> None:
    path = demands.proof(held, 2)["path"]
    path[level] = flipped(path[level], position)
    refused(demands, held, 0, "demands: chunk is not of the result", path=path)


def test_a_path_upside_down(demands: Demands, held: Job) -> None:
    path = demands.proof(held, 2)["path"]
    refused(demands, held, 0, "demands: chunk is not of the result", path=path[::-1])


@pytest.mark.parametrize("length", [0, 1, 3, 32])
def test_a_path_of_another_length(demands: Demands, held: Job, length: int) -> None:
    path = (demands.proof(held, 2)["path"] + [b"\0" * 32] * 32)[:length]
    refused(demands, held, 0, "demands: path of another length", path=path)


def test_a_path_where_there_is_none(demands: Demands) -> None:
    job = demands.committed(1)
    demands.demand(job, [0])
    refused(demands, job, 0, "demands: path of another length", path=[b"\0" * 32])
    demands.answer(job, 0)


@pytest.mark.parametrize("change", [1, -1, CHUNK_BYTES])
def test_another_manifest_size(demands: Demands, held: Job, change: int) -> None:
    size = demands.proof(held, 2)["manifest_size"] + change
    refused(demands, held, 0, "demands: chunk is not of the result", manifest_size=size)


@pytest.mark.parametrize("change", [1, -1])
def test_another_bundle_size_of_as_many_chunks(demands: Demands, held: Job, change: int) -> None:
    size = demands.proof(held, 2)["bundle_size"] + change
    refused(demands, held, 0, "demands: chunk is not of the result", bundle_size=size)


@pytest.mark.parametrize("size", [0, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 1, 2**64 - 1])
def test_another_bundle_size(demands: Demands, held: Job, size: int) -> None:
    refused(demands, held, 0, "demands: bundle of another size", bundle_size=size)


@pytest.mark.parametrize("index", [0, 1])
def test_the_proof_of_another_chunk(demands: Demands, held: Job, index: int) -> None:
    refused(demands, held, 0, "demands: chunk is not of the result", index=index)


def test_another_chunk_on_the_right_path(demands: Demands, held: Job) -> None:
    chunk = demands.proof(held, 1)["chunk"]
    refused(demands, held, 0, "demands: chunk is not of the result", chunk=chunk)


def test_the_result_of_another_job(demands: Demands, held: Job) -> None:
    other = demands.committed(3)
    refused(demands, held, 0, "demands: chunk is not of the result", **demands.proof(other, 2))


def test_an_inner_node_is_no_chunk(demands: Demands, held: Job) -> None:
    # Leaves and nodes are hashed with different first bytes.
    proof = demands.proof(held, 2)
    chunk = b"".join(proof["path"]).ljust(CHUNK_BYTES, b"\0")
    refused(demands, held, 0, "demands: chunk is not of the result", chunk=chunk)


@pytest.mark.parametrize(("chunks", "said"), [(3, 2), (3, 1), (3, 4), (3, 5), (2, 1), (1, 2), (9, 8), (8, 9)])
def test_a_lying_chunk_count_cannot_be_answered(demands: Demands, market: Market, chunks: int, said: int) -> None:
    # Fewer, so that the buyer cannot ask for the others; more, so that it asks for what is not there.
    job = demands.committed(chunks, said=said)
    demands.demand(job, [0])
    honest = demands.proof(job, 0)
    refused(demands, job, 0, "demands: bundle of another size")
    forged = {
        "bundle_size": said * CHUNK_BYTES - 1,
        "path": (honest["path"] + [b"\0" * 32] * 4)[: (said - 1).bit_length()],
    }
    refused(demands, job, 0, "demands: chunk is not of the result", **forged)
    before = market.balance(market.buyer)
    market.at(demands.contract.demand_of(job.id, 0).answer_by + 1)
    demands.expire(job, 0)
    assert market.status(job) == EXPIRED
    assert market.balance(market.buyer) == before + job.escrowed + job.escrowed // 5


def test_index_beyond_the_result_of_a_lying_count(demands: Demands) -> None:
    job = demands.committed(2, said=3)
    demands.demand(job, [2])
    refused(demands, job, 0, "demands: bundle of another size", index=1)


def test_while_paused(demands: Demands, market: Market, held: Job) -> None:
    market.escrow.set_paused(True, sender=market.admin)
    demands.answer(held, 0)
    demands.answer(held, 1)
    assert market.status(held) == COMMITTED


def test_after_the_approval_was_withdrawn(demands: Demands, market: Market, held: Job) -> None:
    market.escrow.approve_arbiter(demands.contract, False, sender=market.owner)
    demands.answer(held, 0)
    demands.answer(held, 1)
    assert market.status(held) == COMMITTED


def test_answers_and_demands_of_two_jobs_stay_apart(demands: Demands, market: Market, held: Job) -> None:
    other = demands.committed(2)
    demands.demand(other, [1])
    demands.answer(other, 0)
    assert market.status(other) == COMMITTED
    assert market.status(held) == DISPUTED
    assert demands.open_lanes(held) == [0, 1]
    assert demands.claim(ZERO) == 0
