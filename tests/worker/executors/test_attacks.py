# SPDX-License-Identifier: Apache-2.0
"""Every attack of the table, in the real sandbox: it is contained, its end has a reason, and the worker goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.collect import BadOutput, collect_outputs

from ..bench import Bench
from ..containers.image_attacks import IMAGE_ATTACKS
from .attack_table import ATTACKS, FOREIGN_CALL, Attack, all_attacks
from .attacks import PAGE, expected_outcome, outcome_of, page


@pytest.mark.parametrize("attack", all_attacks(), ids=lambda attack: attack.name)
def test_an_attack_is_contained(bench: Bench, attack: Attack) -> None:
    assert outcome_of(bench, attack) == attack.expected


def test_the_page_lists_these_attacks_and_no_others() -> None:
    """Each outcome is what a test here or in `containers` sees."""
    every = [*ATTACKS, FOREIGN_CALL]
    rows = ((attack, expected_outcome(attack)) for attack in every)
    text = page(rows, ((attack, attack.expected) for attack in IMAGE_ATTACKS))
    assert text == PAGE.read_text(), "python -m tests.worker.executors.attacks"
    names = [attack.name for attack in every] + [attack.name for attack in IMAGE_ATTACKS]
    assert len(set(names)) == len(names)


def test_a_device_node_among_the_outputs_is_refused(tmp_path: Path) -> None:
    """A job cannot make one; if it could, it would not be taken. /dev/null is one that everybody can show."""
    with pytest.raises(BadOutput, match="not a plain file"):
        collect_outputs(Path("/dev"), ["null"], tmp_path / "out", 1 << 20)


@pytest.mark.parametrize(
    "path", ["../up", "/etc/passwd", "a/../../up", "a\x1b[2J", "a\nb", "\u202etxt", "a\\b", "./a", "a//b", "x" * 256]
)
@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_names_that_lead_out_or_deceive_are_refused_with_the_specification(bench: Bench, path: str, where: str) -> None:
    good = bench.spec("python", {"main.py": "pass"}, outputs=["out.txt"], python={"script": "main.py"})
    document = json.loads(good.canonical())
    if where == "inputs":
        document["inputs"].append({**document["inputs"][0], "path": path})
    else:
        document["outputs"].append(path)
    with pytest.raises(ValidationError, match=where):
        JobSpec.model_validate(document)
