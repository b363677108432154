# SPDX-License-Identifier: Apache-2.0
"""`gpubond watchtower`: compute committed EXACT runs again, and challenge those that are wrong."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gpubond.chain.game_index import GameRecord, GameState
from gpubond.chain.games import DisputeGame, dispute_game
from gpubond.chain.index import JobRecord
from gpubond.chain.session import Session, open_session
from gpubond.cli.command import Group, home_option, reporting, require_yes
from gpubond.cli.failures import interrupted
from gpubond.cli.logs import log_to_stderr
from gpubond.cli.output import facts, moment, print_json, progress, shortened, table
from gpubond.cli.setup import TOKENS
from gpubond.cli.watchtower_job import exact_job, open_sources, source_option
from gpubond.cli.watchtower_tale import tale
from gpubond.disputes.watch_log import Watched, WatchLog, WatchState
from gpubond.disputes.watchtower import Watchtower, require_wallet
from gpubond.errors import BadSettings, Differs, JobFailed, NotEnough, Refused, Unreachable

logger = logging.getLogger(__name__)

_home = home_option("buyer")
# Seconds between two looks at the chain while nothing is due.
_MOST_PAUSE = 30.0


@click.group(cls=Group)
def group() -> None:
    """Compute committed EXACT runs again, and challenge those that are wrong.

    \b
    Example: gpubond watchtower check 0x1f2e3d4c5b6a7988
    """


@click.command()
@click.option("--verbose", is_flag=True, help="Log more.")
@source_option
@_home
@reporting
def run(verbose: bool, sources: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Follow committed EXACT jobs until it is told to end: compute a share again, challenge, play, claim.

    [watchtower] in gpubond.toml says which share (`share`), and what a game may cost (`max_bond`): without that it
    only looks. Ctrl-C or SIGTERM ends it; open games go on at the next start, and their clocks run meanwhile. Nothing
    is lost by SIGKILL either.

    Example: GPUBOND_PASSPHRASE_FILE=~/.secret gpubond watchtower run
    """
    log_to_stderr(verbose=verbose, as_json=as_json)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open_session(home) as session, _tower(session, sources) as tower:
        logger.info("watchtower of %s is up", session.address)
        _drive(session, tower, stop)
    logger.info("watchtower ended")


@click.command()
@_home
@reporting
def status(home: Path, as_json: bool) -> None:
    """Show which jobs were looked at, what was found, and how games stand. Reads only; no key is needed.

    Example: gpubond watchtower status
    """
    with open_session(home, with_key=False) as session:
        _contract(session)
        session.sync()
        rows = [_row(session, watched) for watched in WatchLog(session.database).all()]
    if as_json:
        print_json({"jobs": rows})
        return
    if not rows:
        click.echo("No job was looked at yet: `gpubond watchtower run`, or `check JOB`.")
        return
    table(
        ("job", "found", "on chain", "game", "since", "detail"),
        [
            (
                *(shortened(row["job"]), row["state"], row["status"] or "not there"),
                *(row["games"][-1]["state"] if row["games"] else "", moment(row["updated"]), row["detail"] or ""),
            )
            for row in rows
        ],
    )


@click.command()
@click.argument("job", metavar="JOB")
@source_option
@_home
@reporting
def check(job: str, sources: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Compute a committed EXACT run again, and say whether its run root is right. Sends nothing.

    JOB is its id, or the beginning of it. Exit code 10 means that it is wrong. What is interrupted goes on when it is
    called again.

    Example: gpubond watchtower check 0x1f2e3d4c5b6a7988
    """
    with open_session(home) as session:
        record = exact_job(session, job)
        with _tower(session, sources, record.job) as tower:
            watched = _until_checked(session, tower, record)
    shown = {"job": record.job, "state": watched.state.value, "ours": watched.root, "detail": watched.detail}
    shown["committed"] = None if record.commitment is None else record.commitment.result_root.hex()
    if as_json:
        print_json(shown)
    else:
        facts([(name, value) for name, value in shown.items() if value])
    if watched.state is WatchState.WRONG:
        raise Differs(
            "the committed run root is not the right one",
            field="run root",
            value=shown["committed"],
            remedy=f"`gpubond watchtower challenge {record.job}` has the provider convicted",
        )


@click.command()
@click.argument("job", metavar="JOB")
@click.option("--max-bond", type=TOKENS, help="Highest bond.  [default: max_bond of [watchtower]]")
@click.option("--yes", is_flag=True, help="Do not ask before the bond is paid.")
@source_option
@_home
@reporting
def challenge(job: str, max_bond: Any, yes: bool, sources: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Challenge a wrong EXACT run, and play until its provider is convicted and bond and share are back.

    It is computed again first: a right one is not challenged. Then the bond is shown, which is lost if the game is.
    What is interrupted goes on when it is called again; the game's clock runs meanwhile.

    Example: gpubond watchtower challenge 0x1f2e3d4c5b6a7988 --max-bond 50
    """
    with open_session(home) as session:
        record, contract = exact_job(session, job), _contract(session)
        with _tower(session, sources, record.job) as tower:
            watched = _until_checked(session, tower, record)
            if watched.state is not WatchState.WRONG:
                raise Refused(
                    f"there is nothing to challenge: {watched.state.meaning}",
                    field="JOB",
                    value=record.job,
                    remedy=watched.detail or "None needed.",
                )
            if not any(game.job == record.job for game in _games(session)):
                limit = _bond_limit(session, contract, record, max_bond)
                require_yes("Challenge?", yes, "give --yes, and --max-bond to be safe")
                tower.log.want_game(record.job, limit)
            _until_over(session, tower)
        record = exact_job(session, job)
        games = [game for game in _games(session) if game.job == record.job]
        shown = _row(session, watched)
    if as_json:
        print_json(shown)
    won = any(game.state in (GameState.CONVICTED, GameState.CLAIMED) for game in games)
    if not won:
        raise JobFailed(
            "the game was lost, and the bond with it" if games else "the challenge window ended before a game was open",
            field="JOB",
            value=record.job,
            remedy="`gpubond watchtower status` shows the game; check this machine's memory",
        )
    if not as_json:
        click.echo(f"The provider was convicted; job {record.job} is {record.status.name.lower()}.")


def _contract(session: Session) -> DisputeGame:
    found = dispute_game(session.contracts)
    if found is None:
        raise BadSettings(
            "this deployment has no DisputeGame, so nothing can be disputed here",
            field="chain.deployment",
            value=str(session.settings.chain.deployment),
            remedy="use a deployment of this release",
        )
    return found


@contextmanager
def _tower(session: Session, sources: tuple[str, ...], only: str | None = None) -> Iterator[Watchtower]:
    with open_sources(session, sources) as found, session.sender() as sender:
        tower = Watchtower(session, _contract(session), sender, found, only)
        try:
            yield tower
        finally:
            tower.stop()


def _step(session: Session, tower: Watchtower) -> None:
    session.sync()
    tower.poll()
    tower.tick()


def _drive(session: Session, tower: Watchtower, stop: threading.Event) -> None:
    pause, failures = session.settings.chain.poll_seconds, 0
    while not stop.is_set():
        try:
            _step(session, tower)
            failures = 0
        except Unreachable as error:
            failures += 1
            logger.warning("%s; nothing is lost, trying again", error.message)
        except Exception:
            failures += 1
            logger.exception("the step failed; nothing is lost, trying again")
        stop.wait(min(_MOST_PAUSE, pause * 2 ** min(failures, 10)))


def _until_checked(session: Session, tower: Watchtower, record: JobRecord) -> Watched:
    """Waits until a job was computed again. Raises what keeps it from that."""
    progress(f"computing job {shortened(record.job)} again")
    try:
        while True:
            tower.look(record)
            watched = tower.log.get(record.job)
            assert watched is not None  # noqa: S101  # `look` has noted it
            if watched.state not in (WatchState.TO_CHECK, WatchState.NOT_DRAWN):
                return watched
            if watched.detail:
                raise Unreachable(
                    watched.detail, field="JOB", value=record.job, remedy="name another place by --source, or try later"
                )
            time.sleep(0.05)
    except KeyboardInterrupt:
        raise interrupted("nothing is lost: the same command goes on") from None


def _until_over(session: Session, tower: Watchtower) -> None:
    try:
        while True:
            _step(session, tower)
            if not tower.busy:
                return
            time.sleep(session.settings.chain.poll_seconds)
    except KeyboardInterrupt:
        raise interrupted("nothing is lost: the same command goes on with the game, whose clock runs") from None


def _bond_limit(session: Session, contract: DisputeGame, record: JobRecord, given: Any) -> int:
    """What the bond may be at most, in base units; told before it is paid."""
    token = session.contracts.token_info
    bond = contract.bond_of(record.job_id, record.terms)
    chosen = given if given is not None else session.settings.watchtower.max_bond
    # A bond grows with the gas price until it is mined.
    limit = bond * 2 if chosen is None else token.units(chosen, "--max-bond")
    progress(f"the bond is {token.text(bond)} now, and {token.text(limit)} at most: it comes back with the conviction")
    if bond > limit:
        raise NotEnough(
            f"the bond is {token.text(bond)}",
            field="--max-bond",
            value=token.text(limit),
            remedy="raise it, or wait for a lower gas price while the challenge window is open",
        )
    require_wallet(session.contracts, session.address, bond)
    return limit


def _games(session: Session) -> list[GameRecord]:
    return session.index.games.of_challenger(session.address)


def _row(session: Session, watched: Watched) -> dict[str, Any]:
    record = session.index.job(watched.job)
    games = session.index.games.of_job(watched.job)
    return {
        "job": watched.job,
        "state": watched.state.value,
        "meaning": watched.state.meaning,
        "status": None if record is None else record.status.name.lower(),
        "ours": watched.root,
        "committed": None if record is None or record.commitment is None else record.commitment.result_root.hex(),
        "detail": watched.detail,
        "updated": watched.updated,
        "games": [
            {
                "game": game.game,
                "challenger": game.challenger,
                "state": game.state.value,
                "bond": game.bond,
                "moves": len(session.index.games.moves(game.game)),
            }
            for game in games
        ],
    }


for _command in (run, status, check, challenge, tale):
    group.add_command(_command)
