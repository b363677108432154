# SPDX-License-Identifier: Apache-2.0
"""DisputeGame.open: on which jobs, until when, and for how much."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from gpubond.disputes.structs import run_of
from gpubond.disputes.terms import Terms
from tests.disputes.tasks import single_task
from tests.unit import reference

from .runs import Runs, challenger
from .table import COLLATERAL, DISPUTED, GWEI, MAX_ANSWER, MOST_COLLATERAL, Game, Job, Table, bond, minimum_collateral


def refused(table: Table, job: Job, reason: str, sender: str = "rival", **changes: Any) -> None:
    table.refused(reason, "open", sender, *table.arguments(job, **changes))


def test_the_first_holds_the_job(table: Table, job: Job) -> None:
    game = table.open(job)
    assert table.status(job) == DISPUTED
    assert game.bond == table.call("game", "bond_of", "keeper", b"\0" * 32, COLLATERAL, job.highest)


def test_anyone_opens_as_often_as_it_pays(table: Table, job: Job) -> None:
    for number, by in enumerate(("rival", "friend", "rival", "owner", "buyer")):
        asked = table.call("game", "bond_of", "keeper", job.id, COLLATERAL, job.highest)
        game = table.open(job, by)
        assert game.bond == asked == bond(COLLATERAL, job.highest, GWEI, number)


def test_sixty_four_games(table: Table, job: Job) -> None:
    bonds = [table.open(job, "liar").bond for _ in range(64)]
    assert bonds[63] == bonds[0] * (8 + 63) // 8
    # An honest challenger is not kept out.
    table.open(job, "rival")


def test_the_same_twice(table: Table, job: Job) -> None:
    game = table.open(job, salt=b"\x07" * 32)
    refused(table, job, "game: game exists", salt=b"\x07" * 32)
    table.open(job, "friend", salt=b"\x07" * 32)
    table.at(game.deadline)
    table.time_out(game)
    # Nor after it: moves of the one could be taken for those of the other.
    refused(table, job, "game: job is convicted", salt=b"\x07" * 32)


def test_an_id_is_not_used_again_after_a_loss(table: Table, right: Job) -> None:
    game = table.open(right, salt=b"\x07" * 32)
    table.lose(game)
    refused(table, right, "game: game exists", salt=b"\x07" * 32)
    table.open(right)


def test_in_the_last_second(table: Table, job: Job) -> None:
    table.at(job.window_end - 1)
    table.open(job)
    table.open(job, "friend")


@pytest.mark.parametrize("held", [False, True])
def test_when_the_window_is_over(table: Table, job: Job, held: bool) -> None:
    if held:
        table.open(job)
    table.at(job.window_end)
    refused(table, job, "game: challenge window is over" if held else "escrow: challenge window is over")


def test_between_loss_and_release(table: Table, right: Job) -> None:
    table.lose(table.open(right))
    again = table.open(right, "friend")
    table.refused("game: a game is open", "release", "keeper", right.terms)
    table.lose(again)
    table.release(right)
    # A released job is held again.
    table.open(right, "friend")


@pytest.mark.parametrize("change", [{"result_root": b"\xdd" * 32}, {"pay": 0}, {"committed_at": 1}], ids=str)
@pytest.mark.parametrize("held", [False, True])
def test_another_commitment(table: Table, job: Job, held: bool, change: dict[str, Any]) -> None:
    if held:
        table.open(job)
    reason = "game: not what was committed" if held else "escrow: not what was committed"
    refused(table, job, reason, commitment=job.commitment | change)


@pytest.mark.parametrize("field", ["buyer", "provider"])
def test_terms_of_no_job(table: Table, job: Job, field: str) -> None:
    refused(table, job, "escrow: wrong state", terms=job.terms | {field: table.people["thief"]})


def test_another_tier(table: Table) -> None:
    job = table.job(tier=reference.BASIC, exact_terms=b"\0" * 32)
    refused(table, job, "game: not on this tier")


def test_another_arbiter(table: Table) -> None:
    arbiter = str(boa.load("contracts/mocks/MockArbiter.vy", table.escrow.address).address)
    table.call("escrow", "approve_arbiter", "owner", arbiter, True)
    refused(table, table.job(arbiter=arbiter), "game: not the arbiter")


def test_collateral(table: Table) -> None:
    least = minimum_collateral()
    assert table.call("game", "minimum_collateral", "keeper") == least
    table.open(table.job(collateral=least))
    refused(table, table.job(collateral=least - 1), "game: collateral too low")
    table.open(table.job(collateral=MOST_COLLATERAL))
    refused(table, table.job(collateral=MOST_COLLATERAL + 1), "game: collateral too high")


def test_answer_seconds(table: Table) -> None:
    statement = table.runs.honest.terms.statement
    game = table.open(table.job(exact=Terms(statement, MAX_ANSWER)))
    assert game.registered.clock >> 104 & 2**32 - 1 == 1_800 + MAX_ANSWER
    refused(table, table.job(exact=Terms(statement, MAX_ANSWER + 1)), "game: answer takes too long")


def test_another_statement(table: Table, job: Job) -> None:
    refused(table, job, "game: not the exact terms", answer=job.exact.answer_seconds + 1)
    for name in ("program", "initial", "data"):
        refused(table, job, "game: not the exact terms", run=run_of(job.exact)._replace(**{name: b"\xee" * 32}))
    for name in ("states", "ops", "steps", "interval", "datas"):
        run = run_of(job.exact)
        refused(table, job, "game: not the exact terms", run=run._replace(**{name: getattr(run, name) + 1}))


@pytest.mark.parametrize("name", ["states", "ops", "steps", "interval"])
def test_a_run_of_nothing(table: Table, job: Job, name: str) -> None:
    refused(table, job, "game: run is not valid", run=run_of(job.exact)._replace(**{name: 0}))


@pytest.mark.parametrize(("name", "most"), [("states", 2**16), ("datas", 2**16), ("ops", 2**16), ("steps", 2**64)])
def test_a_run_too_large(table: Table, job: Job, name: str, most: int) -> None:
    refused(table, job, "game: run is not valid", run=run_of(job.exact)._replace(**{name: most}))


def test_the_bond_may_not_be_above_a_limit(table: Table, job: Job) -> None:
    asked = bond(COLLATERAL, job.highest, GWEI, 0)
    refused(table, job, "game: bond above limit", max_bond=asked - 1)
    table.open(job, max_bond=asked)


def test_a_dear_block_makes_a_dear_bond(table: Table, job: Job) -> None:
    context = boa.env.evm.vm.state.execution_context
    usual = context._base_fee_per_gas
    try:
        context._base_fee_per_gas = 50 * GWEI * 100
        game = table.open(job, price=5_000 * GWEI)
        assert game.bond > 50 * bond(COLLATERAL, job.highest, GWEI, 0) // 10
    finally:
        context._base_fee_per_gas = usual


def test_without_tokens(table: Table, job: Job) -> None:
    table.call("token", "transfer", "thief", table.people["keeper"], table.holds(table.people["thief"]))
    refused_or_broken(table, job)
    assert table.call("game", "games_of", "keeper", job.id)[0] == 0


def refused_or_broken(table: Table, job: Job) -> None:
    try:
        table.call("game", "open", "thief", *table.arguments(job))
    except Exception:
        return
    raise AssertionError("opened without a bond")


def test_a_convicted_job(table: Table, game: Game) -> None:
    table.at(game.deadline)
    table.time_out(game)
    refused(table, game.job, "game: job is convicted")
    table.convict(game.job)
    refused(table, game.job, "game: job is convicted")


def test_a_settled_job(table: Table, right: Job) -> None:
    table.at(right.window_end)
    table.call("escrow", "settle", "keeper", right.terms, right.commitment)
    refused(table, right, "escrow: wrong state")


def test_other_runs_open_with_what_the_first_level_asks_for(table: Table) -> None:
    for steps, interval in ((1, 1), (5, 5), (5, 2), (70, 1)):
        table.open(table.job(runs=Runs.of(single_task(steps, interval))))


def opening_of(job: Job) -> tuple[bytes, ...]:
    return challenger(job.theirs).opening()


def test_with_the_committed_run(table: Table) -> None:
    """There would be nothing that the provider could pick."""
    for runs in (table.runs, Runs.of(single_task(70, 1))):
        job = table.job(is_right=True, runs=runs)
        refused(table, job, "game: nothing differs", nodes=challenger(job.said).opening())
        table.open(job)


@pytest.mark.parametrize(("steps", "interval", "nodes"), [(3, 2, 2), (5, 1, 5), (70, 1, 9), (64, 1, 64)])
def test_with_too_many_nodes_or_too_few(table: Table, steps: int, interval: int, nodes: int) -> None:
    """Nodes above leaves are shown if the tree is deep, and none of those that hold no leaf."""
    job = table.job(runs=Runs.of(single_task(steps, interval)))
    shown = opening_of(job)
    assert len(shown) == nodes
    whole = b"".join(shown)
    for other in (b"", whole[32:], whole[:-1], whole[:-32], whole + bytes(1), whole + bytes(32), 2 * whole):
        # More than 64 are not even read.
        reason = "game: another number of nodes" if len(other) <= 2_048 else ""
        refused(table, job, reason, nodes=other)
    table.open(job)


def test_with_nodes_of_one_checkpoint(table: Table) -> None:
    """Its leaf is the committed one, and that of the challenger is not asked for."""
    for steps in (1, 3):
        job = table.job(runs=Runs.of(single_task(steps, 3)))
        refused(table, job, "game: nothing is to be shown", nodes=b"\x01" * 32)
        game = table.open(job)
        # Of one step the challenger begins.
        assert game.side == (1 if steps == 1 else 0)


def test_at_the_moment_of_another_opening(table: Table, job: Job) -> None:
    """Two challengers with the same run, or the same one twice: each game is its own."""
    nodes = opening_of(job)
    games = [table.open(job, by, nodes=nodes) for by in ("rival", "friend", "rival")]
    assert len({game.id for game in games}) == 3
    for game in games:
        table.step(game)
