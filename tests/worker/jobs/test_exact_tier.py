# SPDX-License-Identifier: Apache-2.0
"""Job files of tier EXACT: what they say, what is filled in, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubond.disputes.ordered import terms_of
from gpubond.errors import BadInput
from gpubond.jobs.exact_check import precheck_exact
from gpubond.jobs.spec import load_job_file
from gpubond.jobs.template import write_job


def job_file(folder: Path, section: dict[str, Any] | None = None, **changes: Any) -> Path:
    path = write_job(folder / "line", "exact")
    job = json.loads(path.read_text()) | {"tier": "exact"} | changes
    job["exact"] |= section or {}
    path.write_text(json.dumps(job))
    return path


def test_answer_seconds_are_filled_in_and_the_terms_follow_from_the_files(tmp_path: Path) -> None:
    spec, files = load_job_file(job_file(tmp_path))
    assert spec.exact is not None and spec.exact.answer_seconds is not None
    terms = terms_of(spec, files)
    assert terms.answer_seconds == spec.exact.answer_seconds
    assert (terms.statement.steps, terms.statement.interval) == (500, 100)
    stated, _ = load_job_file(job_file(tmp_path / "stated", {"answer_seconds": 77}))
    other = terms_of(stated, files)
    assert other.statement == terms.statement
    assert other.exact_terms != terms.exact_terms


def test_a_tier_changes_nothing_for_a_job_that_does_not_name_it(tmp_path: Path) -> None:
    path = write_job(tmp_path / "line", "exact")
    spec, files = load_job_file(path)
    assert spec.tier is None
    assert b"tier" not in spec.canonical() and b"answer_seconds" not in spec.canonical()
    assert spec.kept_states == {}
    with pytest.raises(BadInput) as refused:
        terms_of(spec, files)
    assert refused.value.field == "tier"


def test_all_states_but_the_last_are_kept(tmp_path: Path) -> None:
    spec, _ = load_job_file(job_file(tmp_path, {"steps": 450}))
    assert list(spec.kept_states) == [100, 200, 300, 400]


def test_disk_must_hold_every_checkpoint(tmp_path: Path) -> None:
    spec, files = load_job_file(job_file(tmp_path, {"steps": 60_000, "interval": 1}))
    with pytest.raises(BadInput) as refused:
        precheck_exact(spec, files)
    assert refused.value.field == "limits.disk_mib"
    assert "exact.interval" in (refused.value.remedy or "")


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ({"answer_seconds": 60}, {"tier": None}, "answer_seconds is for the tier"),
        ({"answer_seconds": 0}, {}, "answer_seconds"),
        ({"steps": 10**6, "interval": 1}, {}, "65536 checkpoints"),
        ({}, {"tier": "basic"}, "tier"),
    ],
)
def test_what_the_tier_does_not_allow_is_refused(
    tmp_path: Path, section: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    path = job_file(tmp_path, section, **changes)
    if changes.get("tier", "") is None:
        job = json.loads(path.read_text())
        del job["tier"]
        path.write_text(json.dumps(job))
    with pytest.raises(BadInput) as refused:
        load_job_file(path)
    assert words in str(refused.value)


def test_a_local_file_can_be_named_beside_its_url(tmp_path: Path) -> None:
    path = job_file(tmp_path)
    job = json.loads(path.read_text())
    job["inputs"][0] |= {"url": "https://data.example/line.gpx", "source": "line.gpx"}
    path.write_text(json.dumps(job))
    spec, files = load_job_file(path)
    assert spec.inputs[0].url == "https://data.example/line.gpx"
    assert spec.inputs[0].sha256 in files
