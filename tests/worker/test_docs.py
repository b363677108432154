# SPDX-License-Identifier: Apache-2.0
"""Tables in the docs say what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gpubond.cli.reasons import all_codes, page
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import load_job_file
from gpubond.jobs.worker_codes import WorkerCode
from gpubond.provider.work import STATES

ROOT = Path(__file__).resolve().parents[2]
DOCS, PACKAGE = ROOT / "docs", ROOT / "gpubond"


def states_table() -> str:
    rows = [f"| `{state.value}` | {words or 'nothing: the end'} |" for state, words in STATES.items()]
    return "\n".join(["| state | waits for |", "|---|---|", *rows])


def test_the_codes_in_the_docs_are_those_of_the_code() -> None:
    assert page() == (DOCS / "reason-codes.md").read_text(), "gpubond job reasons --markdown > docs/reason-codes.md"


def test_no_code_is_used_twice_in_a_group_and_each_has_its_words() -> None:
    codes = [(item.group, item.code) for item in all_codes()]
    assert len(codes) == len(set(codes))
    assert not [item.code for item in all_codes() if not item.meaning or (not item.remedy and item.code != "success")]
    # The exit status is all that the chain has of a reason.
    runs = [reason.exit_code for reason in Reason if reason.exit_code]
    assert len(runs) == len(set(runs))


def test_every_reason_that_the_worker_gives_is_documented() -> None:
    """Literals in the steps of a job: `reason="…"`, and the third argument of `decline`."""
    steps = ("dispatcher", "giving_back", "payment", "sending")
    source = "".join((PACKAGE / "provider" / f"{name}.py").read_text() for name in steps)
    given = {
        word
        for form in (r'reason="(\w+)"', r'\.decline\(\s*work,\s*record,\s*"(\w+)"')
        for word in re.findall(form, source)
    }
    assert {"policy", "inputs_missing", "worker_restarted"} <= given
    assert given <= {*WorkerCode, *Reason}


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
