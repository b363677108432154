# SPDX-License-Identifier: Apache-2.0
"""What a job needs of a provider's Python, and what that Python says it has."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gpubond.jobs.packages import MAX_PACKAGES, Software, in_words, unmet
from gpubond.jobs.spec import PythonSection

HERE = Software("3.11.2", {"numpy": "1.26.4", "torch": "2.13.0+cpu", "jax": "0.9.0rc1", "odd": "two"})


@pytest.mark.parametrize(
    ("requires", "words"),
    [
        ({"numpy": ">=1.26,<2", "torch": ""}, []),
        ({"python": ">=3.11,<3.13"}, []),
        # What is built for a processor is that version; whoever has a pre-release means it.
        ({"torch": "==2.13.0"}, []),
        ({"jax": ">=0.8"}, []),
        ({"torch": ">=3"}, ["torch >=3 (it has 2.13.0+cpu)"]),
        ({"python": ">=3.12"}, ["python >=3.12 (it has 3.11.2)"]),
        ({"pandas": "", "scipy": "==1.*"}, ["pandas (it has none)", "scipy ==1.* (it has none)"]),
        # A version that is none is any, and no certain one.
        ({"odd": ""}, []),
        ({"odd": ">=1"}, ["odd >=1 (it has two)"]),
    ],
)
def test_what_is_lacking_is_said_with_what_there_is(requires: dict[str, str], words: list[str]) -> None:
    assert unmet(requires, HERE) == words


@pytest.mark.parametrize(
    ("requires", "words"),
    [
        ({}, "at least 1 item"),
        ({"torch": "2"}, "'2' says no versions"),
        ({"torch": "latest"}, "says no versions"),
        ({"torch": 2}, "valid string"),
        ({"scikit_learn": ">=1"}, "write the package's name as 'scikit-learn'"),
        ({"Torch": ">=1"}, "write the package's name as 'torch'"),
        ({"torch; rm": ">=1"}, "match pattern"),
        ({"t" * 101: ">=1"}, "at most 100 characters"),
        ({f"p{number}": "" for number in range(65)}, "at most 64 items"),
    ],
)
def test_needs_that_say_nothing_are_refused(requires: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PythonSection(script="a.py", requires=requires)


def test_a_job_without_needs_has_the_specification_that_it_always_had() -> None:
    assert PythonSection(script="a.py").canonical() == b'{"args":[],"script":"a.py"}'
    needs = PythonSection(script="a.py", requires={"torch": ">=2", "numpy": ""})
    assert needs.canonical() == b'{"args":[],"requires":{"numpy":"","torch":">=2"},"script":"a.py"}'
    assert in_words(needs.requires or {}) == "torch >=2, numpy"


def test_what_a_provider_says_is_read_as_a_strangers() -> None:
    assert Software.parse(HERE.as_dict()) == HERE
    good: dict[str, Any] = {"python": "3.11.2", "packages": {}}
    for wrong in (
        *(None, 7, [], {}, {"python": "3.11.2"}, {"packages": {}}),
        *(good | {"python": 3}, good | {"python": ""}, good | {"packages": []}),
        *(good | {"packages": {"a": wrong}} for wrong in (1, "", "\x1b[2J", "9" * 101, None)),
        good | {"packages": {"\u202e": "1"}},
        good | {"packages": {f"p{number}": "1" for number in range(MAX_PACKAGES + 1)}},
    ):
        assert Software.parse(wrong) is None, wrong


def test_in_one_line() -> None:
    assert HERE.words == "Python 3.11.2, numpy 1.26.4, torch 2.13.0+cpu, jax 0.9.0rc1 and 1 other packages"
    assert Software("3.12.1", {}).words == "Python 3.12.1"
