//! A server over fresh stores.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use kittiwake_config::WebConfig;
use kittiwake_env::{Clock, Fs, RealClock, RealFs, SystemRng};
use kittiwake_model::Labels;
use kittiwake_server::access::Access;
use kittiwake_server::active_queries::ActiveQueries;
use kittiwake_server::app::{App, Options, Parts, routes};
use kittiwake_server::live_config::LiveConfig;
use kittiwake_server::status_api::Nodes;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt as _;

/// A server and where its data lies.
pub struct Server {
    pub app: App,
    router: Router,
    _dir: TempDir,
    _stop: watch::Sender<bool>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The field `data` of a success.
    pub fn data(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        let mut json = self.json();
        assert_eq!(json["status"], "success");
        json["data"].take()
    }

    /// Status and kind of an error.
    pub fn error(&self) -> (u16, String, String) {
        let json = self.json();
        assert_eq!(json["status"], "error");
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), text("errorType"), text("error"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

pub fn server() -> Server {
    configured("", Options::default())
}

/// A server with a configuration file.
pub fn configured(yaml: &str, options: Options) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let mut rng = SystemRng::new().unwrap();
    let metrics = kittiwake_tsdb::Store::open(
        Arc::clone(&fs),
        Arc::clone(&clock),
        &mut rng,
        dir.path().join("metrics"),
        kittiwake_tsdb::Options {
            retention_ms: 0,
            ..kittiwake_tsdb::Options::default()
        },
    )
    .unwrap();
    let logs = kittiwake_logstore::Store::open(
        Arc::clone(&fs),
        Arc::clone(&clock),
        &mut rng,
        dir.path().join("logs"),
        kittiwake_logstore::Options {
            retention_ns: 0,
            ..kittiwake_logstore::Options::default()
        },
    )
    .unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, yaml).unwrap();
    let (stop, stopped) = watch::channel(false);
    let alertmanager = kittiwake_alertmanager::Alertmanager::open(
        fs,
        Arc::clone(&clock),
        SystemRng::new().unwrap(),
        &dir.path().join("alertmanager"),
        None,
        kittiwake_alertmanager::engine::Options::default(),
    )
    .unwrap();
    let app = App::new(Parts {
        metrics: Arc::new(metrics),
        logs: Arc::new(logs),
        clock,
        nodes: Arc::new(Nodes::default()),
        config: Arc::new(LiveConfig::load(Some(file), 1).unwrap()),
        alertmanager: Arc::new(alertmanager),
        active: ActiveQueries::default(),
        options: Options {
            storage: dir.path().to_owned(),
            ..options
        },
        stop: stopped,
    })
    .unwrap();
    let cors = app.options.cors.clone();
    let access = Access::new(WebConfig::default(), true, None, cors, [0; 16]);
    Server {
        router: routes(app.clone(), Arc::new(access)),
        app,
        _dir: dir,
        _stop: stop,
    }
}

impl Server {
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    /// The body of an answer that goes on.
    pub async fn start(&self, request: Request<Body>) -> Body {
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body()
    }

    pub async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Posts a form.
    pub async fn form(&self, path: &str, form: &str) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.post(path, &headers, form.as_bytes().to_vec()).await
    }

    /// Writes samples of series by remote write 1.0.
    pub async fn write(&self, series: &[(&Labels, &[(i64, f64)])]) {
        let mut encoder = kittiwake_wire::remote_write::RequestEncoder::new();
        for (labels, samples) in series {
            encoder.series(labels, samples.iter().copied());
        }
        let answer = self.post("/api/v1/write", &[], encoder.finish().unwrap());
        let answer = answer.await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    }

    /// The value of an instant query that gives one series; `None` when it gives none.
    pub async fn value(&self, query: &str, time_s: f64) -> Option<String> {
        let query = percent(query);
        let path = format!("/api/v1/query?query={query}&time={time_s}");
        let data = self.get(&path).await.data();
        let result = data["result"].as_array().unwrap();
        assert!(result.len() < 2, "{data}");
        let value = result.first()?["value"][1].as_str().unwrap();
        Some(value.to_owned())
    }
}

/// A text as a parameter's value.
pub fn percent(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}
