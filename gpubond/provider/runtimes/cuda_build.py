# SPDX-License-Identifier: Apache-2.0
"""What compiling a CUDA job makes, as one file: a line of JSON about it, then the code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal["cubin", "ptx", "host"]


@dataclass(frozen=True)
class Build:
    """kind: machine code or PTX of `architecture`, or a shared library for this processor ("host").

    symbols: of kernels and constants, by name as in the job. global_bytes: of `__device__` variables.
    """

    kind: Kind
    architecture: str
    symbols: Mapping[str, str]
    global_bytes: int
    code: bytes

    def pack(self) -> bytes:
        """The file's content."""
        facts = asdict(self)
        del facts["code"]
        return json.dumps(facts).encode() + b"\n" + self.code


def unpack(content: bytes) -> Build:
    """The build in a file. Only what trusts its maker may call this: the job's own sandbox, never the worker."""
    facts, _, code = content.partition(b"\n")
    return Build(**json.loads(facts), code=code)
