# SPDX-License-Identifier: Apache-2.0
"""What the index says of demands follows from the events alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.demand_index import DemandState
from gpubond.chain.events import Event, event_row
from gpubond.chain.index import MarketIndex
from gpubond.chain.market import JobTerms, Status, Tier
from gpubond.chain.watcher import EVENTS
from gpubond.store.database import Database

PROVIDER, BUYER, ARBITER = ("0x" + digits * 20 for digits in ("22", "11", "33"))
JOB = "0x" + "ab" * 32
TERMS = JobTerms(
    *(BUYER, PROVIDER, b"o" * 32, b"s" * 32, Tier.BASIC, 1, 0, 5, 600, 100, 0, 0, 1, 2, 3, 4, ARBITER),
    *(bytes(32), 0, bytes(32), bytes(32), bytes(32)),
)
COMMITMENT = {"result_root": "0x" + "07" * 32, "chunks": 9, "pay": 1, "committed_at": 2}


class Story:
    """Events one after the other, a block each."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.install(EVENTS)
        self.index = MarketIndex(database)
        self.block = 0

    def tell(self, name: str, **args: Any) -> None:
        self.block += 1
        event = Event(self.block, "0x00", 0, f"0x{self.block:064x}", ARBITER, name, {"job": JOB, **args})
        with self.database.transaction() as tx:
            tx.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", event_row(event))
            self.index.apply(tx, [event])

    def commit(self) -> None:
        self.tell("JobMatched", terms=TERMS.to_json())
        self.tell("JobCommitted", commitment=COMMITMENT, exit_status=0, seconds_used=1, tasks_done=1)

    def demand(self, lane: int, index: int, answer_by: int = 100) -> None:
        self.tell("DataDemanded", provider=PROVIDER, lane=lane, index=index, answer_by=answer_by)

    def states(self) -> list[tuple[int, int, int, str]]:
        return [(item.lane, item.number, item.chunk, item.state) for item in self.index.demands.of_job(JOB)]


@pytest.fixture
def story(tmp_path: Path) -> Any:
    with Database(tmp_path / "store.sqlite") as database:
        yield Story(database)


def test_a_lane_is_used_again_and_each_demand_is_told_apart(story: Story) -> None:
    story.commit()
    story.tell("JobDisputed", arbiter=ARBITER)
    story.demand(0, 4)
    story.demand(1, 5)
    story.tell("DataAnswered", lane=0, index=4)
    # The same chunk, lane and second as before: a demand of its own all the same.
    story.demand(0, 4)
    assert story.states() == [(0, 1, 4, "answered"), (0, 2, 4, "open"), (1, 1, 5, "open")]
    assert [(item.lane, item.number) for item in story.index.demands.waiting_for(PROVIDER)] == [(0, 2), (1, 1)]
    assert story.index.demands.answered_by(PROVIDER) == 1
    assert story.index.demands.of_job(JOB)[0].answer_tx == f"0x{6:064x}"
    assert story.index.demands.waiting_for(BUYER) == []


def test_the_most_urgent_comes_first(story: Story) -> None:
    story.commit()
    story.tell("JobDisputed", arbiter=ARBITER)
    story.demand(0, 4, answer_by=300)
    story.demand(1, 5, answer_by=200)
    assert [item.chunk for item in story.index.demands.waiting_for(PROVIDER)] == [5, 4]


def test_a_withheld_result_returns_the_fees_of_the_others(story: Story) -> None:
    story.commit()
    story.tell("JobDisputed", arbiter=ARBITER)
    for lane in range(3):
        story.demand(lane, lane)
    story.tell("DataAnswered", lane=2, index=2)
    story.tell("DataWithheld", lane=1)
    story.tell("JobExpired", refund=3000, compensation=20)
    assert [item[3] for item in story.states()] == ["returned", "withheld", "answered"]
    record = story.index.job(JOB)
    assert record is not None and record.status == Status.EXPIRED


def test_a_demand_of_a_job_that_ended_otherwise_waits_for_nobody(story: Story) -> None:
    story.commit()
    story.tell("JobDisputed", arbiter=ARBITER)
    story.demand(0, 1)
    story.tell("JobSettled", to_provider=1, fee=0, refund=2999)
    assert story.index.demands.waiting_for(PROVIDER) == []
    assert [item.state for item in story.index.demands.of_job(JOB)] == [DemandState.OPEN], "its fee is still deposited"


def test_a_reorg_takes_demands_and_answers_away(story: Story) -> None:
    story.commit()
    story.tell("JobDisputed", arbiter=ARBITER)
    story.demand(0, 1)
    before = story.states()
    answered = story.block + 1
    story.tell("DataAnswered", lane=0, index=1)
    story.tell("JobReleased", arbiter=ARBITER)
    with story.database.transaction() as tx:
        tx.execute("DELETE FROM events WHERE block_number >= ?", (answered,))
        story.index.rebuild(tx, answered)
    assert story.states() == before == [(0, 1, 1, "open")]
    assert [item.chunk for item in story.index.demands.waiting_for(PROVIDER)] == [1]
