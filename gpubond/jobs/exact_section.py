# SPDX-License-Identifier: Apache-2.0
"""The `exact` section of a job specification: an exact program (docs/exact.md), its tensors, and how far it goes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from gpubond.jobs.answer_time import MOST_SECONDS
from gpubond.jobs.cuda_section import MAX_SAFE_INTEGER
from gpubond.jobs.model import Model
from gpubond.jobs.paths import JobPath

Count = Annotated[int, Field(strict=True, ge=1, le=MAX_SAFE_INTEGER)]


class ExactSection(Model):
    """Take `steps` steps of `program` from the state `initial`, with a checkpoint each `interval` steps.

    program, initial, data, names: inputs. names is the file beside the program that names its metrics.
    final, manifest, metrics: outputs: the last state, the run's manifest with the run root, a line of metrics a step.
    every: metrics are taken each so-many steps.
    answer_seconds: of a job of tier EXACT, the time that one answer in a dispute may take by itself.
    """

    program: JobPath
    initial: JobPath
    data: JobPath | None = None
    names: JobPath | None = None
    steps: Count
    interval: Count
    final: JobPath
    manifest: JobPath
    metrics: JobPath | None = None
    every: Count = 1
    answer_seconds: Annotated[int, Field(strict=True, ge=1, le=MOST_SECONDS)] | None = None

    @model_validator(mode="after")
    def _metrics_have_names(self) -> ExactSection:
        if self.metrics is not None and self.names is None:
            raise ValueError(f"metrics {self.metrics!r} need `names`, the file that says which there are")
        return self

    @property
    def read(self) -> dict[str, str]:
        """The inputs that it needs, by field."""
        found = {"program": self.program, "initial": self.initial, "data": self.data, "names": self.names}
        return {field: path for field, path in found.items() if path is not None}

    @property
    def written(self) -> dict[str, str]:
        """The outputs that it writes, by field."""
        found = {"final": self.final, "manifest": self.manifest, "metrics": self.metrics}
        return {field: path for field, path in found.items() if path is not None}
