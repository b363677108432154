# SPDX-License-Identifier: Apache-2.0
"""Which Python and which packages `python` jobs find here: asked of the very Python that runs them."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

from gpubond.errors import MissingTool
from gpubond.jobs.packages import Software
from gpubond.provider.executors.sandbox import python_roots

_SECONDS = 60
# Only of folders that sandboxes show, so none that is a link to its sources; of two of a name the first is imported.
_PROGRAM = """
import importlib.metadata, json, pathlib, platform, re, sys
roots = [pathlib.Path(root).resolve() for root in sys.argv[1:]]
found = {}
for each in importlib.metadata.distributions():
    place = pathlib.Path(each.locate_file("")).resolve()
    name = each.metadata["Name"]
    usable = all(text and re.fullmatch("[!-~]{1,100}", text) for text in (name, each.version))
    link = json.loads(each.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable")
    if usable and not link and any(place.is_relative_to(root) for root in roots):
        found.setdefault(re.sub("[-_.]+", "-", name).lower(), each.version)
print(json.dumps({"python": platform.python_version(), "packages": dict(sorted(found.items()))}))
"""


@functools.cache
def software() -> Software:
    """Looked up once: what is installed later is known after the worker's next start.

    Raises:
        MissingTool: this Python does not start as it does for jobs.
    """
    # As `plan_for` starts a job: without the user's packages, which sandboxes do not show.
    command = [sys.executable, "-I", "-c", _PROGRAM, "/usr", *map(str, python_roots())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True)
        found = Software.parse(json.loads(done.stdout))
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise _broken(str(error)) from None
    if found is None:
        raise _broken("what it says of them cannot be read")
    return found


def _broken(why: str) -> MissingTool:
    return MissingTool(
        f"the packages of {sys.executable} cannot be listed: {why}",
        field="python",
        value=sys.executable,
        remedy="make the worker's virtual environment anew",
    )
