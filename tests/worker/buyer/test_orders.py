# SPDX-License-Identifier: Apache-2.0
"""Orders: stored with their submission at once, followed once, and read from a store of an older release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.buyer.codes import SubmissionCode
from gpubond.buyer.orders import ORDER_TABLES, Orders, Submission
from gpubond.chain.market import Offer
from gpubond.store.database import Database
from gpubond.store.migrations import Component

SPEC_HASH = b"s" * 32
OFFER = Offer(
    "0x" + "11" * 20, b"c" * 32, 1, 1, 7, 60, 600, 900, 60, 3600, 1000, 500, 5_000_000, 2**40, "0x" + "00" * 20
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "store.sqlite") as database:
        yield database


def begin(orders: Orders, retries: int = 1) -> Submission:
    return orders.begin(
        name="squares",
        spec_hash=SPEC_HASH,
        files={"ab" * 32: Path("x.npy")},
        seconds=60,
        class_name=None,
        max_price=2**100,
        retries=retries,
        offer=OFFER,
    )


def test_a_submission_comes_with_its_first_order(database: Database) -> None:
    orders = Orders(database)
    submission = begin(orders)
    assert (submission.code, submission.max_price, submission.retries) == (SubmissionCode.OPEN, 2**100, 1)
    (order,) = orders.of_submission(submission.id)
    assert (order.number, order.job, order.offer, order.refusal, order.cancelled) == (0, None, OFFER, None, False)
    assert orders.open_submissions(SPEC_HASH) == orders.open_submissions() == [submission]
    assert orders.open_submissions(b"t" * 32) == []


def test_one_order_follows_another_whoever_asks(database: Database) -> None:
    orders = Orders(database)
    submission = begin(orders)
    (first,) = orders.of_submission(submission.id)
    assert orders.add_next(first, OFFER)
    assert not orders.add_next(first, OFFER)
    first, second = orders.of_submission(submission.id)
    assert first.salt != second.salt
    assert (second.number, second.files, second.spec_hash) == (1, first.files, first.spec_hash)


def test_nothing_follows_in_a_submission_that_has_ended(database: Database) -> None:
    orders = Orders(database)
    submission = begin(orders)
    orders.set_code(submission.id, SubmissionCode.CANCELLED)
    assert not orders.add_next(orders.of_submission(submission.id)[0], OFFER)
    assert orders.open_submissions() == []


def test_orders_of_an_older_release_are_kept(database: Database) -> None:
    database.install(Component(ORDER_TABLES.name, ORDER_TABLES.steps[:1]))
    with database.transaction() as tx:
        tx.execute(
            "INSERT INTO orders VALUES (?, '0x12', 'old', ?, ?, 1.0)", ("ab" * 32, "cd" * 32, '{"cd": "spec.json"}')
        )
    order = Orders(database).by_job("0x12")
    assert order is not None
    assert (order.name, order.files, order.submission, order.offer) == ("old", {"cd": Path("spec.json")}, None, None)
