"""The OpenTelemetry SDK: records of a service, by its exporter over HTTP."""

import os
import time

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

resource = Resource.create({"service.name": "checkout", "k8s.pod.name": "checkout-1"})
provider = LoggerProvider(resource=resource)
exporter = OTLPLogExporter(
    endpoint=os.environ["KITTIWAKE_URL"] + "/v1/logs", compression=Compression.Gzip
)
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
logger = provider.get_logger("shop", "1.2")
for index in range(3):
    record = LogRecord(
        timestamp=time.time_ns(),
        severity_number=SeverityNumber.ERROR,
        severity_text="ERROR",
        body=f"order {index} refused",
        attributes={"http.status": 500 + index, "user": {"id": "u7"}},
    )
    logger.emit(record)
assert provider.force_flush()
provider.shutdown()
