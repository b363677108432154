# SPDX-License-Identifier: Apache-2.0
"""Deployment files: which contracts, on which chain, since which block; one JSON file a chain id."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_typing import ChecksumAddress
from eth_utils.address import is_hex_address, to_checksum_address
from eth_utils.crypto import keccak
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
)
from web3 import Web3
from web3.exceptions import Web3Exception

from gpubond.errors import BadSettings

DECIMALS_SELECTOR = "0x313ce567"  # decimals()


def _checksummed(value: str) -> str:
    if not is_hex_address(value) or not value.startswith("0x"):
        raise ValueError("not an address: give 20 bytes as 0x-hex")
    if value != to_checksum_address(value):
        raise ValueError(f"wrong checksum: if the address is right, write it {to_checksum_address(value)}")
    return value


Address = Annotated[str, AfterValidator(_checksummed)]
Hash = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Token(_Part):
    """The ERC-20 token for payment and stake. `test`: it has a faucet and is worth nothing."""

    address: Address
    symbol: Annotated[str, StringConstraints(min_length=1, max_length=32)]
    decimals: Annotated[int, Field(ge=0, le=77)]
    test: bool


class Contract(_Part):
    """One contract; `code_hash` is the keccak-256 of the code at its address, immutables included."""

    address: Address
    code_hash: Hash | None = None


class Deployment(_Part):
    """A deployment file's content, checked as far as a file can be; `verify_against` asks a node.

    `block` is the first block that can hold an event of the contracts; `transactions` are the deployments'
    hashes by contract name.
    """

    version: Literal[1]
    chain_id: Annotated[int, Field(gt=0)]
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    block: Annotated[int, Field(ge=0)]
    token: Token
    contracts: Annotated[dict[str, Contract], Field(min_length=1)]
    parameters: dict[str, int | str | bool] = Field(default_factory=dict)
    deployed_at: str | None = None
    transactions: dict[str, Hash] = Field(default_factory=dict)
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """Where it was read from."""
        return self._file

    def address(self, contract: str) -> ChecksumAddress:
        """A contract's address.

        Raises:
            BadSettings: the deployment does not have it.
        """
        entry = self.contracts.get(contract)
        if entry is None:
            raise _wrong(
                self._file,
                f"contracts.{contract}",
                None,
                "is missing",
                "deploy it, or use another deployment",
            )
        return to_checksum_address(entry.address)

    def verify_against(self, node: Web3) -> None:
        """Check that the node has what the file states: chain, block, code, and the token's decimals.

        Raises:
            BadSettings: it has not; nothing was sent.
            Unreachable: no answer.
        """
        chain_id = node.eth.chain_id
        if chain_id != self.chain_id:
            raise _wrong(
                self._file,
                "chain_id",
                self.chain_id,
                f"is not the node's chain id {chain_id}",
                f"use the deployment file of chain {chain_id}, or a node of chain {self.chain_id}",
            )
        head = node.eth.block_number
        if head < self.block:
            raise _wrong(
                self._file,
                "block",
                self.block,
                f"is above the node's head {head}",
                "wait until the node has caught up; after a restart of a local chain deploy anew",
            )
        self._check_code(node, "token", self.token.address, None)
        for name, contract in self.contracts.items():
            self._check_code(node, f"contracts.{name}", contract.address, contract.code_hash)
        self._check_decimals(node)

    def _check_code(self, node: Web3, field: str, address: str, code_hash: str | None) -> None:
        code = bytes(node.eth.get_code(to_checksum_address(address)))
        if not code:
            raise _wrong(
                self._file,
                f"{field}.address",
                address,
                f"has no code on chain {self.chain_id}",
                "use the file of a deployment on this chain; after a restart of a local chain deploy anew",
            )
        if code_hash is not None and "0x" + keccak(code).hex() != code_hash:
            raise _wrong(
                self._file,
                f"{field}.code_hash",
                code_hash,
                f"is not the hash of the code at {address}, 0x{keccak(code).hex()}",
                "do not use it before you know why: it is another contract than the one deployed",
            )

    def _check_decimals(self, node: Web3) -> None:
        """A wrong number of decimals would show and take prices a power of ten off."""
        try:
            answer = node.eth.call(
                {"to": to_checksum_address(self.token.address), "data": DECIMALS_SELECTOR},  # type: ignore[typeddict-item]
                ccip_read_enabled=False,
            )
            decimals = decode(["uint8"], bytes(answer))[0]
        except (Web3Exception, DecodingError):
            return  # ERC-20 leaves decimals() optional
        if decimals != self.token.decimals:
            raise _wrong(
                self._file,
                "token.decimals",
                self.token.decimals,
                f"is not what the token says, {decimals}",
                f"write {decimals}",
            )


def load_deployment(source: Path | int, directory: Path | None = None) -> Deployment:
    """Read and check a deployment file.

    Args:
        source: the file, or a chain id, which means `<directory>/<chain id>.json`.
        directory: where deployment files lie; needed for a chain id only.

    Raises:
        BadSettings: missing, not JSON, or a field is wrong; names file, field, value and remedy.
    """
    if isinstance(source, int):
        if directory is None:
            raise ValueError("a chain id needs the directory of the deployment files")
        path = directory / f"{source}.json"
    else:
        path = source
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.name for file in path.parent.glob("*.json")))
        raise BadSettings(
            f"there is no deployment file {path}",
            field="deployment",
            value=str(path),
            remedy="name the file of your chain's deployment with --deployment, or in [chain] of the settings"
            + (f"; in that folder there are: {known}" if known else "")
            + "; for a local chain `gpubond devnet up` writes one",
        ) from None
    except (OSError, ValueError) as error:
        raise BadSettings(
            f"the deployment file {path} cannot be read: {error}",
            field="deployment",
            value=str(path),
            remedy="restore it, or write it anew with ape run deploy",
        ) from None
    try:
        deployment = Deployment.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "(the whole file)"
        value = None if first["type"] == "missing" else first["input"]
        raise _wrong(path, field, value, f"is wrong: {first['msg']}", "correct it or deploy anew") from None
    if deployment.deployed_at is not None:
        try:
            datetime.fromisoformat(deployment.deployed_at)
        except ValueError:
            raise _wrong(path, "deployed_at", deployment.deployed_at, "is not an ISO 8601 time", "correct it") from None
    if isinstance(source, int) and deployment.chain_id != source:
        raise _wrong(
            path,
            "chain_id",
            deployment.chain_id,
            f"is not {source}, which the file's name states",
            "restore the file, or rename it to its chain id",
        )
    deployment._file = path
    return deployment


def _wrong(file: Path | None, field: str, value: object, problem: str, remedy: str) -> BadSettings:
    where = "the deployment" if file is None else f"the deployment file {file}"
    return BadSettings(f"{where}: {field} {problem}", field=field, value=value, remedy=remedy)
