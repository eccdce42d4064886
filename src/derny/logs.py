"""How the daemon's log lines look: text for people, one JSON object a line for machines.

One rule: a line says what happened and to whom, never a spec, a command line or a secret. That is why the
libraries beneath keep silent about their details at every level: theirs are whole headers and statements.
Set up once by the command line; a program that embeds derny configures `logging` itself.
"""

import json
import logging
import sys
from datetime import UTC, datetime

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """Keys: ts (UTC, RFC 3339), level, logger, msg, and error with a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(style: str, level: str) -> None:
    """Log to standard error, in a style (`text`, `json`), from a level up; libraries never below WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else logging.Formatter(_TEXT))
    root = logging.getLogger()
    root.handlers = [handler]
    logging.getLogger("derny").setLevel(level.upper())
    root.setLevel(max(logging.WARNING, logging.getLogger("derny").level))
