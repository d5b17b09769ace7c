//! Reading requests' bodies: bounded, and decompressed as their headers say.

use std::io::Read as _;
use std::ops::Deref;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use kittiwake_wire::snappy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reply::Problem;

/// Bytes of a body as it comes.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Bytes of a body once it is decompressed.
pub const PLAIN_BYTES_MAX: usize = 96 << 20;
/// Bytes of a form.
pub const FORM_BYTES_MAX: usize = 1 << 20;

/// Bytes of all bodies with data that are read or worked on at once.
const HELD_BYTES_MAX: usize = 512 << 20;

/// Room for bodies with data: who sends when there is none is asked to come again.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HELD_BYTES_MAX)))
    }
}

/// A body's bytes, with their place in the room.
#[derive(Debug)]
pub struct Held {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl Deref for Held {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl Room {
    /// Reads a whole body of at most [`BODY_BYTES_MAX`]. Its bytes take their place as they
    /// come, so that a sender that is slow holds no more than it has sent.
    pub async fn read(&self, mut body: Body) -> Result<Held, Problem> {
        use http_body_util::BodyExt as _;
        check_announced(&body, BODY_BYTES_MAX)?;
        let mut place: Option<OwnedSemaphorePermit> = None;
        let mut parts: Vec<Bytes> = Vec::new();
        let mut len = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Problem::bad_data(format!("body: {error}")))?;
            let Ok(part) = frame.into_data() else {
                continue;
            };
            len += part.len();
            if len > BODY_BYTES_MAX {
                return Err(too_large(BODY_BYTES_MAX));
            }
            let bytes = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.0).try_acquire_many_owned(bytes);
            let more =
                more.map_err(|_| Problem::unavailable("too many bytes of requests in flight"))?;
            match &mut place {
                Some(place) => place.merge(more),
                None => place = Some(more),
            }
            parts.push(part);
        }
        let bytes = match parts.as_mut_slice() {
            [one] => std::mem::take(one),
            parts => parts.concat().into(),
        };
        Ok(Held {
            bytes,
            _place: place,
        })
    }
}

/// Refuses a body whose length is said to be far too large before it is sent. One that is a little
/// too large is read up to the limit first: many senders look for an answer only when they have
/// sent all, and would see a broken connection in place of the reason.
fn check_announced(body: &Body, max_bytes: usize) -> Result<(), Problem> {
    use axum::body::HttpBody as _;
    if body.size_hint().lower() > 2 * max_bytes as u64 {
        return Err(too_large(max_bytes));
    }
    Ok(())
}

/// Reads a whole body of at most so many bytes.
pub async fn read(body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    use http_body_util::{BodyExt as _, LengthLimitError, Limited};
    check_announced(&body, max_bytes)?;
    match Limited::new(body, max_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(max_bytes)),
        Err(error) => Err(Problem::bad_data(format!("body: {error}"))),
    }
}

/// A body over the limit.
pub fn too_large(max_bytes: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "bad_data",
        format!("body is larger than {max_bytes} bytes"),
    )
}

/// A header's value, lower case, without parameters.
pub fn token(headers: &HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).and_then(|v| v.to_str().ok());
    let value = value.unwrap_or("").split(';').next().unwrap_or("");
    value.trim().to_ascii_lowercase()
}

/// Undoes snappy.
pub fn unsnap(body: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut plain = Vec::new();
    let len = snappy::decompress(body, PLAIN_BYTES_MAX, &mut plain)
        .map_err(crate::ingest::snappy_problem)?
        .len();
    plain.truncate(len);
    Ok(plain)
}

/// Undoes gzip, zstd or deflate; other encodings are refused.
pub fn decompress(encoding: &str, body: &Bytes) -> Result<Bytes, Problem> {
    let read: Box<dyn std::io::Read + '_> = match encoding {
        "" | "identity" => return Ok(body.clone()),
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(&body[..])),
        "deflate" => Box::new(flate2::read::ZlibDecoder::new(&body[..])),
        "zstd" => Box::new(
            zstd::stream::read::Decoder::new(&body[..])
                .map_err(|e| Problem::bad_data(format!("zstd body: {e}")))?,
        ),
        other => {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "bad_data",
                format!("content encoding {other:?} is not supported; use gzip, zstd or deflate"),
            ));
        }
    };
    let mut plain = Vec::new();
    read.take(PLAIN_BYTES_MAX as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|e| Problem::bad_data(format!("{encoding} body: {e}")))?;
    if plain.len() > PLAIN_BYTES_MAX {
        return Err(too_large(PLAIN_BYTES_MAX));
    }
    Ok(plain.into())
}
