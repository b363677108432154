# SPDX-License-Identifier: Apache-2.0
"""How a long-running command logs: lines for people, or one JSON document a line."""

from __future__ import annotations

import json
import logging
import sys

# These libraries log requests with their URLs, which may hold a node's API key.
_TALKATIVE = ("urllib3", "web3", "httpx", "httpcore", "uvicorn.access")


class JsonLines(logging.Formatter):
    """One JSON document a line, whatever a message holds."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "at": self.formatTime(record),
            "level": record.levelname,
            "where": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return json.dumps(document)


def log_to_stderr(*, verbose: bool, as_json: bool = False) -> None:
    """Logs to standard error, so that standard output stays the command's own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
