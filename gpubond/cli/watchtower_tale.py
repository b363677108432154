# SPDX-License-Identifier: Apache-2.0
"""`gpubond watchtower tale`: the page that tells how a game went."""

from __future__ import annotations

from pathlib import Path

import click

from gpubond.chain.game_index import GameRecord, GameState
from gpubond.chain.index import JobRecord
from gpubond.chain.session import Session, open_session
from gpubond.cli.command import home_option, reporting
from gpubond.cli.exact_task import read_program
from gpubond.cli.output import facts, print_json, shortened
from gpubond.cli.watchtower_job import exact_job, open_sources, source_option
from gpubond.disputes.ordered import paths_of, terms_of
from gpubond.disputes.tale import Names
from gpubond.disputes.tale_chain import tale_on_chain
from gpubond.disputes.tale_page import page
from gpubond.disputes.terms import Terms
from gpubond.disputes.watchtower import public_address
from gpubond.errors import BadInput
from gpubond.exact.program import Program


@click.command()
@click.argument("job", metavar="JOB")
@click.option("--game", metavar="GAME", help="Which of several games, by its id or the beginning of it.")
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("dispute.html"),
    show_default=True,
    help="The file to write.",
)
@source_option
@home_option("buyer")
@reporting
def tale(job: str, game: str | None, target: Path, sources: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Draw a game that is over as one HTML page: each question, the piece that was judged, and the gas of each move.

    JOB is its id, or the beginning of it. All is read from the chain, and from the job's specification and inputs. The
    page loads nothing from anywhere. Sends nothing; no key is needed.

    Example: gpubond watchtower tale 0x1f2e3d4c5b6a7988 --to dispute.html
    """
    with open_session(home, with_key=False) as session:
        record = exact_job(session, job)
        chosen = _game(session, record, game)
        terms, program = _ordered(session, record, sources)
        names = Names(record.job, "the provider", "the challenger", f"The run of job {shortened(record.job)}")
        told = tale_on_chain(
            session.contracts,
            chosen,
            session.index.games.moves(chosen.game),
            terms,
            program,
            names,
        )
    try:
        target.write_text(page(told), "utf-8")
    except OSError as error:
        raise BadInput(
            f"the page cannot be written: {error.strerror}", field="--to", value=target, remedy="name another file"
        ) from None
    shown = {
        "job": record.job,
        "game": chosen.game,
        "verdict": "convicted" if told.convicted else "acquitted",
        "transactions": len(told.costs),
        "gas": told.gas,
        "page": str(target),
    }
    if as_json:
        print_json(shown)
    else:
        facts([(name, f"{value:,}" if isinstance(value, int) else value) for name, value in shown.items()])


def _game(session: Session, record: JobRecord, wanted: str | None) -> GameRecord:
    """The game that is meant, which must be over."""
    games = session.index.games.of_job(record.job)
    named = [game for game in games if wanted is None or game.game.startswith(wanted.lower())]
    over = [game for game in named if game.state is not GameState.OPEN]
    if len(over) == 1:
        return over[0]
    if not games:
        raise BadInput("nobody has disputed the job", field="JOB", value=record.job, remedy="name another job")
    if not named:
        raise BadInput("the job has no such game", field="--game", value=wanted, remedy=_choices(games))
    if not over:
        raise BadInput("no such game of the job is over yet", field="JOB", value=record.job, remedy="wait for its end")
    raise BadInput(f"{len(over)} games are meant", field="--game", value=wanted or "", remedy=_choices(over))


def _choices(games: list[GameRecord]) -> str:
    return "choose one: " + ", ".join(f"{game.game} ({game.state.value})" for game in games)


def _ordered(session: Session, record: JobRecord, sources: tuple[str, ...]) -> tuple[Terms, Program]:
    """The terms that were disputed, and the program."""
    with open_sources(session, sources) as found:
        gateway = public_address(session.index, record)
        spec = found.spec(record.terms, gateway)
        files = found.inputs(spec, gateway)
        terms = terms_of(spec, files)
        assert spec.exact is not None  # noqa: S101  # by `terms_of`
        return terms, read_program(paths_of(spec, spec.exact, files)["program"])
