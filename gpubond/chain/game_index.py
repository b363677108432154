# SPDX-License-Identifier: Apache-2.0
"""The local index of disputes: each game with its events in order, derived from `DisputeGame`'s events alone.

What the events mean is not known here: `gpubond.disputes` follows a game through them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpubond.chain.events import Event
from gpubond.store.database import Database, Transaction
from gpubond.store.migrations import Component

GAME_TABLES = Component(
    "games",
    (
        """
        CREATE TABLE market_games (
            game TEXT PRIMARY KEY,
            job TEXT NOT NULL,
            provider TEXT NOT NULL,
            challenger TEXT NOT NULL,
            state TEXT NOT NULL,
            opened_tx TEXT NOT NULL,
            bond TEXT NOT NULL
        );
        CREATE INDEX market_games_by_job ON market_games (job);
        CREATE INDEX market_games_by_provider ON market_games (provider, state);
        CREATE INDEX market_games_by_challenger ON market_games (challenger, state);
        CREATE TABLE market_game_moves (
            game TEXT NOT NULL,
            number INTEGER NOT NULL,
            name TEXT NOT NULL,
            args TEXT NOT NULL,
            tx_hash TEXT NOT NULL,
            PRIMARY KEY (game, number)
        ) WITHOUT ROWID;
        """,
    ),
)

# Events that a game is followed through.
MOVES = frozenset({"GameOpened", "NodesShown", "CheckpointPicked", "BytesShown", "Picked"})


class GameState(StrEnum):
    """How a game stands on chain. One that is open when another convicts its job is open until it is claimed."""

    OPEN = "open"
    LOST = "lost"
    CONVICTED = "convicted"
    CLAIMED = "claimed"


@dataclass(frozen=True)
class GameMove:
    """An event of a game: what it is called, its arguments as JSON has them, and the transaction."""

    name: str
    args: dict[str, Any]
    tx_hash: str


@dataclass(frozen=True)
class GameRecord:
    """A game as the chain has it; bond in base units."""

    game: str
    job: str
    provider: str
    challenger: str
    state: GameState
    opened_tx: str
    bond: int

    @property
    def game_id(self) -> bytes:
        """The id as 32 bytes."""
        return bytes.fromhex(self.game.removeprefix("0x"))


class GameIndex:
    """Reads the tables of the games."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install(GAME_TABLES)

    def of_job(self, job: str) -> list[GameRecord]:
        """All games on a job, oldest first."""
        return self._games("WHERE job = ? ORDER BY rowid", job)

    def of_provider(self, provider: str, state: GameState = GameState.OPEN) -> list[GameRecord]:
        """A provider's games in a state, oldest first."""
        return self._games("WHERE provider = ? AND state = ? ORDER BY rowid", provider, state)

    def of_challenger(self, challenger: str) -> list[GameRecord]:
        """All games that an account opened, oldest first."""
        return self._games("WHERE challenger = ? ORDER BY rowid", challenger)

    def moves(self, game: str) -> list[GameMove]:
        """The events of a game from its opening on, in order."""
        rows = self._database.connection.execute(
            "SELECT name, args, tx_hash FROM market_game_moves WHERE game = ? ORDER BY number", (game,)
        )
        return [GameMove(row["name"], json.loads(row["args"]), row["tx_hash"]) for row in rows.fetchall()]

    def _games(self, rest: str, *keys: object) -> list[GameRecord]:
        rows = self._database.connection.execute(f"SELECT * FROM market_games {rest}", keys).fetchall()  # noqa: S608
        return [
            GameRecord(
                game=row["game"],
                job=row["job"],
                provider=row["provider"],
                challenger=row["challenger"],
                state=GameState(row["state"]),
                opened_tx=row["opened_tx"],
                bond=int(row["bond"]),
            )
            for row in rows
        ]


def clear_games(tx: Transaction) -> None:
    """Forgets all games, before they are derived anew."""
    tx.execute("DELETE FROM market_games")
    tx.execute("DELETE FROM market_game_moves")


def apply_game(tx: Transaction, event: Event) -> None:
    """Takes one event over; those of other contracts change nothing."""
    args = event.args
    if event.name == "GameOpened":
        position, origin = args["position"], args["origin"]
        tx.execute(
            "INSERT INTO market_games VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(args["game"], args["job"], position["provider"], position["challenger"], GameState.OPEN),
                *(event.tx_hash, str(origin["bond"])),
            ),
        )
    elif event.name == "GameEnded":
        state = GameState.CONVICTED if args["convicted"] else GameState.LOST
        tx.execute("UPDATE market_games SET state = ? WHERE game = ?", (state, args["game"]))
    elif event.name == "Claimed" and "game" in args:
        tx.execute("UPDATE market_games SET state = ? WHERE game = ?", (GameState.CLAIMED, args["game"]))
    if event.name in MOVES:
        tx.execute(
            "INSERT INTO market_game_moves SELECT ?1, count(*), ?2, ?3, ?4 FROM market_game_moves WHERE game = ?1",
            (args["game"], event.name, json.dumps(args), event.tx_hash),
        )
