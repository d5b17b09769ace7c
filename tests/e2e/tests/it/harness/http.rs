//! Questions to a server over HTTP.

use serde_json::Value;

/// A server's API.
#[derive(Debug, Clone)]
pub struct Api {
    /// `http://host:port`
    pub base: String,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

impl Api {
    /// A GET with parameters. `None`: there was no answer.
    pub fn get(&self, path: &str, params: &[(&str, &str)]) -> Option<Answer> {
        self.get_with(path, &[], params)
    }

    /// A GET with headers and parameters.
    pub fn get_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        params: &[(&str, &str)],
    ) -> Option<Answer> {
        let mut request = agent().get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in params {
            request = request.query(name, value);
        }
        answer(request.call())
    }

    /// A POST with a body. `None`: there was no answer.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        let mut request = agent().post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body))
    }

    /// The samples of an instant query: labels and value.
    pub fn instant(&self, query: &str) -> Vec<(Value, f64)> {
        let Some(answer) = self.get("/api/v1/query", &[("query", query)]) else {
            return Vec::new();
        };
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        let body = answer.json();
        let samples = body["data"]["result"].as_array().unwrap().iter();
        let read = |s: &Value| (s["metric"].clone(), number(&s["value"][1]));
        samples.map(read).collect()
    }

    /// The one value of an instant query, if there is exactly one.
    pub fn value(&self, query: &str) -> Option<f64> {
        match self.instant(query).as_slice() {
            [(_, value)] => Some(*value),
            _ => None,
        }
    }

    /// All lines of a selector that has one stream, oldest first, with their times.
    pub fn lines(&self, selector: &str) -> Vec<(i64, String)> {
        const PAGE: usize = 5_000;
        // What is derived from a line would make several streams of one.
        let query = format!("{selector} | drop detected_level");
        let mut found: Vec<(i64, String)> = Vec::new();
        let mut start_ns: i64 = 0;
        loop {
            let params = [
                ("query", query.as_str()),
                ("direction", "forward"),
                ("limit", &PAGE.to_string()),
                ("start", &start_ns.to_string()),
                ("end", "9000000000000000000"),
            ];
            let Some(answer) = self.get("/loki/api/v1/query_range", &params) else {
                return found;
            };
            assert_eq!(answer.status, 200, "{selector}: {}", answer.text);
            let body = answer.json();
            let streams = body["data"]["result"].as_array().unwrap();
            assert!(streams.len() <= 1, "{selector} has several streams");
            let Some(stream) = streams.first() else {
                return found;
            };
            let values = stream["values"].as_array().unwrap();
            for value in values {
                let time_ns = value[0].as_str().unwrap().parse().unwrap();
                found.push((time_ns, value[1].as_str().unwrap().to_owned()));
            }
            if values.len() < PAGE {
                return found;
            }
            // The last time may have more lines than the page had room for.
            start_ns = found.last().unwrap().0;
            while found.last().is_some_and(|(t, _)| *t == start_ns) {
                found.pop();
            }
        }
    }
}

/// A number as Prometheus writes it.
fn number(value: &Value) -> f64 {
    match value.as_str().unwrap() {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap(),
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(super::PATIENCE))
        .build();
    config.into()
}

fn answer(called: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Option<Answer> {
    let mut response = called.ok()?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(256 << 20);
    // A peer may send what is no UTF-8.
    let bytes = body.read_to_vec().ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(Answer { status, text })
}
