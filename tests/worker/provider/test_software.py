# SPDX-License-Identifier: Apache-2.0
"""What a worker says of its Python is what jobs find in it."""

from __future__ import annotations

import json
import platform
from pathlib import Path

from gpubond.jobs.packages import MAX_NAME
from gpubond.provider.policy import refusal_of_spec
from gpubond.provider.software import software
from gpubond.settings import GatewaySettings, ProviderSettings

from ..bench import Bench
from .test_earnings import PROVIDER, TERMS

IMPORTED = """
import importlib.metadata, json, platform, numpy
names = json.load(open("names.json"))
found = {name: importlib.metadata.version(name) for name in names}
json.dump([platform.python_version(), numpy.__version__, found], open("out.txt", "w"))
"""


def test_a_job_in_the_sandbox_finds_what_is_said_and_no_other_version(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    said = software()
    assert said.python == platform.python_version()
    assert len(said.packages) > 20 and max(map(len, said.packages)) <= MAX_NAME
    attempt = bench.python(IMPORTED, files={"names.json": json.dumps(list(said.packages))})
    python, numpy, found = json.loads(attempt.outputs["out.txt"].read_text())
    assert (python, numpy, found) == (said.python, said.packages["numpy"], dict(said.packages))


def test_what_a_job_cannot_import_is_not_said(tmp_path: Path) -> None:
    """As gpubond itself where it is installed by a link to its sources, which no sandbox shows."""
    looks = "import importlib.util as u; open('out.txt', 'w').write(str(u.find_spec('gpubond') is not None))"
    found = Bench(tmp_path).python(looks).outputs["out.txt"].read_text()
    assert found == str("gpubond" in software().packages)


def test_a_job_that_needs_what_is_not_here_is_given_back(tmp_path: Path) -> None:
    bench, gateway = Bench(tmp_path), GatewaySettings(url="http://127.0.0.1:8700")

    def refusal(**requires: str) -> str | None:
        section = {"script": "main.py", "requires": requires}
        spec = bench.spec("python", {"main.py": ""}, outputs=["out.txt"], python=section)
        return refusal_of_spec(TERMS, spec, ProviderSettings(address=PROVIDER), gateway)

    assert refusal(numpy=">=1", python=">=3.11") is None
    here = software().packages["numpy"]
    assert refusal(numpy=">=99") == f"this worker's Python lacks numpy >=99 (it has {here})"
    words = refusal(numpy=">=1", nosuchpackage=">=2")
    assert words == "this worker's Python lacks nosuchpackage >=2 (it has none)"
