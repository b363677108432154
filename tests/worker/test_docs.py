# SPDX-License-Identifier: Apache-2.0
"""Tables in the docs say what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import load_job_file
from gpubond.provider.work import STATES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def reasons_table() -> str:
    rows = [
        f"| `{reason.value}` | {reason.exit_code} | {reason.fault} | {reason.meaning} {reason.remedy} |"
        for reason in Reason
    ]
    return "\n".join(["| code | exit | fault | meaning and remedy |", "|---|---|---|---|", *rows])


def states_table() -> str:
    rows = [f"| `{state.value}` | {words or 'nothing: the end'} |" for state, words in STATES.items()]
    return "\n".join(["| state | waits for |", "|---|---|", *rows])


def test_the_reasons_in_the_docs_are_those_of_the_code() -> None:
    assert reasons_table() in (DOCS / "job-file.md").read_text()


def test_the_states_in_the_docs_are_those_of_the_code() -> None:
    assert states_table() in (DOCS / "lifecycle.md").read_text()


@pytest.mark.parametrize("runtime", ["python", "cuda"])
def test_the_examples_in_the_docs_are_valid(runtime: str, tmp_path: Path) -> None:
    text = (DOCS / "job-file.md").read_text()
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    document = json.loads(blocks[0])
    names = ["square.py", "today.npy"]
    document["inputs"][1]["source"] = "today.npy"
    if runtime == "cuda":
        document |= json.loads("{" + blocks[1] + "}")
        del document["python"]
        document |= {"runtime": "cuda", "inputs": [{"path": "scale.cu"}, {"path": "x.npy"}], "outputs": ["y.npy"]}
        names = ["scale.cu", "x.npy"]
    for name in names:
        (tmp_path / name).write_text("x")
    (tmp_path / "job.json").write_text(json.dumps(document))
    spec, _ = load_job_file(tmp_path / "job.json")
    assert spec.runtime == runtime
