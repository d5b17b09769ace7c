// winston with winston-loki, once in JSON and once in protobuf.
const winston = require("winston");
const LokiTransport = require("winston-loki");

async function log(json) {
  const failures = [];
  const transport = new LokiTransport({
    host: process.env.KITTIWAKE_URL,
    json,
    labels: { app: json ? "winston-json" : "winston-protobuf" },
    useWinstonMetaAsLabels: false,
    interval: 1,
    onConnectionError: (error) => failures.push(error),
  });
  const logger = winston.createLogger({ format: winston.format.json(), transports: [transport] });
  logger.info({ message: "started", labels: { part: "web" } });
  logger.error("failed", { code: 7 });
  await transport.flush();
  logger.close();
  if (failures.length > 0) throw failures[0];
}

log(true)
  .then(() => log(false))
  .then(
    () => process.exit(0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
