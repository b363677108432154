# SPDX-License-Identifier: Apache-2.0
"""One key on one deployment: node, contracts, store, index and sender, put together once.

Provider and buyer build on the same session, so both follow and send in the one way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from eth_account.signers.local import LocalAccount

from gpubond.chain.contracts import Call, Contracts
from gpubond.chain.deployment import load_deployment
from gpubond.chain.development import dev_account
from gpubond.chain.index import MarketIndex
from gpubond.chain.keys import load_key_file
from gpubond.chain.node import connect
from gpubond.chain.outbox import OutboxEntry
from gpubond.chain.sender import Sender
from gpubond.chain.watcher import Watcher
from gpubond.errors import BadSettings
from gpubond.settings import DEVELOPMENT_CHAIN_IDS, Home, KeySettings, Settings
from gpubond.store.database import Database

Progress = Callable[[str], None]

# Seconds that a command waits for its transaction before it says so and ends; nothing is lost by that.
SEND_TIMEOUT = 180.0
# Seconds that a command waits for another command with the same key.
LOCK_TIMEOUT = 60.0


def unlock_key(home: Home, key: KeySettings, chain_id: int) -> LocalAccount:
    """The account that the settings name.

    Raises:
        BadSettings: no such file, wrong passphrase, or a published development key on a public chain.
    """
    if key.dev_account is not None:
        if chain_id not in DEVELOPMENT_CHAIN_IDS:
            raise BadSettings(
                "development keys are public, so they may sign on local chains only",
                field="key.dev_account",
                value=key.dev_account,
                remedy=f"name a keystore file in [key]; chain {chain_id} is not one of {DEVELOPMENT_CHAIN_IDS}",
            )
        return dev_account(key.dev_account)
    assert key.keystore is not None  # noqa: S101  # exactly one of the two, by validation
    return load_key_file(home.resolve(key.keystore))


class Session:
    """What a worker or a buyer needs of the chain.

    Args:
        home: the folder with settings and store.
        settings: as loaded from it.
        key: who signs; None reads only.
        on_progress: called with a line of words while something is awaited.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        key: KeySettings | None = None,
        on_progress: Progress = lambda _: None,
    ) -> None:
        self.home = home
        self.settings = settings
        self.on_progress = on_progress
        self.deployment = load_deployment(home.resolve(settings.chain.deployment))
        self.node = connect(settings.chain.rpc_url, self.deployment.chain_id)
        self.deployment.verify_against(self.node)
        self.contracts = Contracts(self.node, self.deployment)
        self._account = None if key is None else unlock_key(home, key, self.deployment.chain_id)
        self.database = Database(home.store_file)
        self.index = MarketIndex(self.database)
        self.watcher = Watcher(
            self.node,
            self.database,
            self.contracts.watched,
            self.deployment.block,
            settings.chain.confirmations,
            on_events=self.index.apply,
            on_rollback=self.index.rebuild,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.close()

    @property
    def account(self) -> LocalAccount:
        """Who signs."""
        if self._account is None:
            raise RuntimeError("the session was opened without a key")
        return self._account

    @property
    def address(self) -> str:
        """The address that signs."""
        return str(self.account.address)

    def sender(self, lock_timeout: float = 0) -> Sender:
        """The one sender of this key; it keeps every other process of this machine from sending with it.

        Args:
            lock_timeout: seconds to wait for another process that sends with the key.

        Raises:
            KeyInUse: another process still sends with it.
        """
        return Sender(
            self.node,
            self.database,
            self.account,
            self.deployment.chain_id,
            confirmations=self.settings.chain.confirmations,
            poll_interval=self.settings.chain.poll_seconds,
            lock_timeout=lock_timeout,
        )

    def sync(self) -> int:
        """Takes over what the chain has added; returns how many events were new."""
        return self.watcher.poll_once()

    def send(self, call: Call, purpose: str, spare_gas: int = 0) -> OutboxEntry:
        """Sends one call and waits until it is confirmed. The same purpose is sent once, however often asked.

        Args:
            call: the call.
            purpose, spare_gas: as in `Sender.submit`.

        Raises:
            Refused: the contract refuses, with its reason; nothing was sent, or it was mined as a failure.
            NotEnough: the account has too little gas money.
            Unreachable: the node does not answer, or the transaction was not mined in time. It stays in the
                outbox and is not lost.
        """
        self.on_progress(f"{call.words} … (until it is mined, {SEND_TIMEOUT:.0f} s at most)")
        with self.sender(LOCK_TIMEOUT) as sender:
            return sender.wait(sender.submit(purpose, call.to, call.data, spare_gas=spare_gas), SEND_TIMEOUT)

    def resume(self, entry: OutboxEntry) -> OutboxEntry:
        """Goes on waiting for a transaction that was stored before. Raises as `send`."""
        with self.sender(LOCK_TIMEOUT) as sender:
            return sender.wait(entry, SEND_TIMEOUT)


def open_session(directory: Path, *, with_key: bool = True, on_progress: Progress = lambda _: None) -> Session:
    """A session from the settings in a home folder, with its main key or without any."""
    home = Home(directory)
    settings = home.load()
    return Session(home, settings, settings.key if with_key else None, on_progress)
