# SPDX-License-Identifier: Apache-2.0
"""The terms of an ordered EXACT job: from its specification and inputs alone, so that buyer, provider and whoever
watches compute the same, and believe nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpubond.disputes.terms import Terms
from gpubond.errors import BadInput
from gpubond.exact.commitments import Statement
from gpubond.exact.refusal import Refused
from gpubond.jobs.exact_check import statement_of
from gpubond.jobs.exact_section import ExactSection
from gpubond.jobs.spec import JobSpec


def paths_of(spec: JobSpec, section: ExactSection, files: Mapping[str, Path]) -> dict[str, Path]:
    """The local files of a run by field of the section. files: by SHA-256 (hex).

    Raises:
        BadInput: an input is not here.
    """
    content = {item.path: item.sha256 for item in spec.inputs}
    paths = {}
    for field, path in section.read.items():
        if content[path] not in files:
            raise BadInput(
                f"the input {path!r} is not here, so what is to be computed cannot be stated",
                field=f"exact.{field}",
                value=path,
                remedy="name its local file by `source` beside its url",
            )
        paths[field] = files[content[path]]
    return paths


def terms_of(spec: JobSpec, files: Mapping[str, Path]) -> Terms:
    """The terms of a job of tier `exact`; reads and hashes all of its tensors. files: local ones by SHA-256 (hex).

    Raises:
        BadInput: it is of another tier, an input is not here, or not valid.
    """
    section, seconds = _asked(spec)
    paths = paths_of(spec, section, files)
    try:
        return Terms(statement_of(section, paths), seconds)
    except Refused as refused:
        remedy = refused.remedy or "correct the file, or name another one"
        raise BadInput(refused.reason, field=refused.field, value=refused.value, remedy=remedy) from None
    except OSError as error:
        raise BadInput(
            f"an input cannot be read: {error.strerror}", field="inputs", value=error.filename, remedy="let it be read"
        ) from None


def terms_about(spec: JobSpec, statement: Statement) -> Terms:
    """As `terms_of`, for who has read and hashed the tensors. statement: of a run of this job.

    Raises:
        BadInput: it is of another tier.
    """
    _, seconds = _asked(spec)
    return Terms(statement, seconds)


def _asked(spec: JobSpec) -> tuple[ExactSection, int]:
    """What is to be computed, and the seconds that an answer may take. Raises BadInput for a job of another tier."""
    section = spec.exact
    if section is None or spec.tier is None or section.answer_seconds is None:
        missing = spec.tier is not None and section is not None
        raise BadInput(
            "there is nothing that could be disputed" if not missing else "is missing",
            field="exact.answer_seconds" if missing else "tier",
            value=None if missing else spec.tier,
            remedy='a job whose result can be disputed has `"tier": "exact"`, runtime `exact` and exact.answer_seconds',
        )
    return section, section.answer_seconds
