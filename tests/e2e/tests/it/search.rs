//! The search's tail over a real WebSocket, and its lines over a real connection.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};

/// Asks for a WebSocket and reads up to the end of the answer's headers.
fn upgraded(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream
}

/// The text of the next frame, which servers do not mask.
fn frame(stream: &mut TcpStream) -> String {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x81, "no whole text");
    let len = match head[1] {
        126 => {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            usize::from(u16::from_be_bytes(len))
        }
        len => usize::from(len),
    };
    let mut text = vec![0; len];
    stream.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_websocket_is_told_what_is_found_as_it_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), None, &["--storage.retention.time", "0"]);
    let api = server.api();
    let address = api.base.strip_prefix("http://").unwrap();
    let path = "/api/search/tail?query=level%3Aerror&selector=%7Bapp%3D%22shop%22%7D";
    let mut stream = upgraded(address, path);
    let push = |app: &str, line: &str| {
        let body = json!({"streams": [{"stream": {"app": app}, "values": [["1700000000000000000", line]]}]});
        let kind = [("content-type", "application/json")];
        let sent = api.post("/loki/api/v1/push", &kind, body.to_string().as_bytes());
        assert_eq!(sent.map(|a| a.status), Some(204));
    };
    push("other", "level=error elsewhere");
    push("shop", "level=info started");
    push("shop", "level=error failed");
    let message: Value = serde_json::from_str(&frame(&mut stream)).unwrap();
    assert_eq!(message["entries"].as_array().unwrap().len(), 1, "{message}");
    assert_eq!(message["entries"][0]["line"], "level=error failed");
    assert_eq!(message["dropped"], 0);
    drop(stream);
    server.program.assert_quiet(&[]);
    assert!(server.program.stop().success());
}
