//! The collector of the server's own machine: the same frames with the same numbers as any
//! other's, without a socket between.

use std::sync::Arc;

use async_trait::async_trait;
use kittiwake_collector::{Kind, Outcome, Request, Shipper};
use kittiwake_wire::delivery;

use crate::ingest::Ingest;
use crate::reply::Problem;

/// Ships into the stores of this program.
#[derive(Debug)]
pub struct InProcess(pub Arc<Ingest>);

#[async_trait]
impl Shipper for InProcess {
    async fn ship(&self, request: Request) -> Outcome {
        let ingest = Arc::clone(&self.0);
        let shipped = tokio::task::spawn_blocking(move || {
            let get = |name: &str| {
                let found = request.headers.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| value.as_str())
            };
            let origin = delivery::parse(get, "").map_err(|e| Problem::bad_data(e.to_string()))?;
            match request.kind {
                Kind::Metrics => ingest.remote_write_2(&request.body, origin.as_ref()),
                Kind::MetricsV1 => ingest.remote_write(&request.body, origin.as_ref()),
                Kind::Logs => {
                    let plain = crate::body::unsnap(&request.body)?;
                    ingest.loki_protobuf(&plain, origin.as_ref())
                }
            }
        });
        match shipped.await {
            Ok(Ok(_)) => Outcome::Stored,
            Ok(Err(problem)) => match problem.status.as_u16() {
                400 | 422 => Outcome::Refused(problem.message),
                413 => Outcome::TooLarge,
                _ => Outcome::Retry {
                    reason: problem.message,
                    after: None,
                },
            },
            Err(_) => Outcome::Retry {
                reason: "ingest failed unexpectedly".to_owned(),
                after: None,
            },
        }
    }
}
