//! `/api/status`: the server and the nodes that it hears from, for the page.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use kittiwake_sources::{DockerState, Status as SourcesStatus};
use parking_lot::RwLock;

use crate::app::App;
use crate::reply::{json, push_json_str};

/// What is known of the nodes; so far of the one with the collector in this program.
#[derive(Debug, Default)]
pub struct Nodes {
    embedded: RwLock<Option<Arc<SourcesStatus>>>,
}

impl Nodes {
    /// Names the collector that runs in this program.
    pub fn set_embedded(&self, status: Arc<SourcesStatus>) {
        *self.embedded.write() = Some(status);
    }

    /// The collector that runs in this program.
    pub fn embedded(&self) -> Option<Arc<SourcesStatus>> {
        self.embedded.read().clone()
    }
}

/// `/api/status`
pub async fn status(State(app): State<App>) -> Response {
    let mut out = String::from(r#"{"version":"#);
    push_json_str(&mut out, env!("CARGO_PKG_VERSION"));
    out.push_str(",\"uptime_seconds\":");
    out.push_str(&app.started.elapsed().as_secs().to_string());
    out.push_str(",\"hosts\":[");
    if let Some(status) = app.nodes.embedded() {
        push_host(&mut out, &status);
    }
    out.push_str("]}");
    json(out)
}

fn push_host(out: &mut String, status: &SourcesStatus) {
    let containers = status.container_states();
    let docker = match status.docker() {
        DockerState::Ok => "ok".to_owned(),
        DockerState::Connecting => "The Docker engine has not answered yet.".to_owned(),
        DockerState::Unavailable(why) => why,
    };
    out.push_str(r#"{"host":"#);
    push_json_str(out, &status.host());
    out.push_str(",\"containers\":");
    out.push_str(&containers.len().to_string());
    out.push_str(",\"docker\":");
    push_json_str(out, &docker);
    out.push_str(",\"logs\":{");
    for (index, container) in containers.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_json_str(out, &container.info.name);
        out.push(':');
        push_json_str(out, container.logs.as_str());
    }
    out.push_str("}}");
}
