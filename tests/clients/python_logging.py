"""Python's logging with python-logging-loki: two lines, one with tags and metadata of its own."""

import logging
import os

import logging_loki

handler = logging_loki.LokiHandler(
    url=os.environ["KITTIWAKE_URL"] + "/loki/api/v1/push",
    tags={"application": "python"},
    version="1",
)
logger = logging.getLogger("shop")
logger.addHandler(handler)
logger.error("payment %s failed", 42, extra={"tags": {"region": "eu"}})
logger.warning("slow")
