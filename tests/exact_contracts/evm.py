# SPDX-License-Identifier: Apache-2.0
"""Calls views of compiled contracts in anvil's EVM, which does a thousand times as many a second as titanoboa's."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from gpubond.anvil import find_anvil
from gpubond.devnet import free_port
from tests.mutation.chain import CONTRACTS, ROOT, Chain, Deployed, compile_file

ANVIL_CACHE = ROOT / ".cache" / "anvil"
DEPLOYER = "0x" + "aa" * 20
FLOAT32, COMMITMENTS, JUDGE = "Float32Harness", "ExactHarness", "Judge"
CALLABLE = (FLOAT32, COMMITMENTS, JUDGE)
_GAS = hex(2**50)


class Reverted(Exception):
    """The contract refused; says with which reason."""


class Evm:
    """An anvil node on which contracts without state of their own are called."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._deployed: dict[str, Deployed] = {}

    def rpc(self, method: str, *params: Any) -> dict[str, Any]:
        """The whole answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=240)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def add(self, contract: str, replaced: Mapping[Path, str] | None = None, name: str = "") -> None:
        """Makes a harness or a contract callable, by another name if it is one with some sources replaced."""
        name = name or contract
        path = Path(__file__).with_name(f"{contract}.vy")
        program = compile_file(path if path.exists() else CONTRACTS / path.name, replaced, quick=bool(replaced))
        chain = Chain()
        code = chain.code(chain.deploy(name, program, program.abi, DEPLOYER))
        address = "0x" + keccak(text=name)[12:].hex()
        self.rpc("anvil_setCode", address, "0x" + code.hex())
        self._deployed[name] = Deployed(name, address, program.abi)

    def code(self, name: str) -> bytes:
        """What stands on the chain."""
        return bytes.fromhex(self.rpc("eth_getCode", self._deployed[name].address, "latest")["result"][2:])

    def call(self, name: str, function: str, *args: Any) -> Any:
        """What a function with one result returns. Raises Reverted."""
        contract = self._deployed[name]
        found = contract.functions[function, len(args)]
        request = {"to": contract.address, "data": "0x" + found.call_data(args).hex(), "gas": _GAS}
        answer = self.rpc("eth_call", request, "latest")
        if "error" in answer:
            raise Reverted(answer["error"]["message"])
        return found.value(bytes.fromhex(answer["result"][2:]))

    def gas(self, name: str, function: str, *args: Any) -> int:
        """What a call takes besides what any transaction with its calldata does."""
        contract = self._deployed[name]
        data = contract.functions[function, len(args)].call_data(args)
        answer = self.rpc("debug_traceCall", {"to": contract.address, "data": "0x" + data.hex(), "gas": _GAS}, "latest")
        if "error" in answer or answer["result"]["failed"]:
            raise Reverted(str(answer.get("error") or answer["result"]["returnValue"]))
        zeros = data.count(0)
        return int(answer["result"]["gas"]) - 21_000 - 4 * zeros - 16 * (len(data) - zeros)


@contextmanager
def running(log: Path) -> Iterator[Evm]:
    """An anvil of our own; what it says goes to `log`."""
    port = free_port()
    command = [str(find_anvil(ANVIL_CACHE)), "--port", str(port), "--hardfork", "cancun", "--disable-block-gas-limit"]
    command += ["--memory-limit", str(2**30)]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            evm = Evm(port)
            for attempt in range(200):
                try:
                    evm.rpc("eth_chainId")
                    break
                except OSError:
                    assert attempt < 199, log.read_text()
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.1)
            yield evm
        finally:
            process.terminate()
