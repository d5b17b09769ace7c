//! Small files that are replaced as a whole: magic, version, content, checksum of all before; and
//! the pieces of content that the lists of deletions of both stores share.

use std::path::{Path, PathBuf};

use kittiwake_env::{Fs, FsError};
use kittiwake_model::{MatchOp, Matcher};

use crate::bytes::{Malformed, Reader, put_bytes, put_uvarint};
use crate::sealed::Kind;

/// Largest file that is read, in bytes.
const BYTES_MAX: u64 = 64 << 20;
/// Operators by their numbers.
const OPERATORS: [MatchOp; 4] = [
    MatchOp::Equal,
    MatchOp::NotEqual,
    MatchOp::Regex,
    MatchOp::NotRegex,
];

/// Why such a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WholeError {
    /// The file system failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A later version of this program wrote it.
    #[error("{}: version {version} is not known to this build, which reads up to {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest that is known.
        known: u32,
    },
    /// Bytes are missing or changed.
    #[error("{}: damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        what: String,
    },
}

/// Replaces the file, durably.
pub fn write(fs: &dyn Fs, path: &Path, kind: Kind, content: &[u8]) -> Result<(), FsError> {
    fs.write_atomic(path, &[&encode(kind, content)])
}

/// Reads the file, and gives what `decode` makes of its content; `None` when there is none.
pub fn read<T>(
    fs: &dyn Fs,
    path: &Path,
    kind: Kind,
    decode: impl FnOnce(&mut Reader<'_>) -> Result<T, String>,
) -> Result<Option<T>, WholeError> {
    if !fs.exists(path)? {
        return Ok(None);
    }
    let bytes = fs.read(path, BYTES_MAX)?;
    let damaged = |what: String| WholeError::Damaged {
        path: path.to_owned(),
        what,
    };
    let version = version(&bytes, kind).ok_or_else(|| damaged("of another kind".to_owned()))?;
    if version != kind.version {
        return Err(WholeError::Version {
            path: path.to_owned(),
            version,
            known: kind.version,
        });
    }
    let content = content(&bytes).ok_or_else(|| damaged("checksum".to_owned()))?;
    decode(&mut Reader::new(content)).map(Some).map_err(damaged)
}

/// The bytes of a file.
pub fn encode(kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut out = kind.magic.to_vec();
    out.extend_from_slice(&kind.version.to_le_bytes());
    out.extend_from_slice(content);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn version(bytes: &[u8], kind: Kind) -> Option<u32> {
    let (version, _) = bytes.strip_prefix(&kind.magic)?.split_first_chunk::<4>()?;
    Some(u32::from_le_bytes(*version))
}

/// What stands between head and checksum, if that is right.
fn content(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let is_right = crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    body.get(12..).filter(|_| is_right)
}

/// Appends matchers: count, then operator u8, name, value.
pub fn put_matchers(out: &mut Vec<u8>, matchers: &[Matcher]) {
    put_uvarint(out, matchers.len() as u64);
    for matcher in matchers {
        let number = OPERATORS.iter().position(|op| *op == matcher.op());
        out.push(number.unwrap_or(0) as u8);
        put_bytes(out, matcher.name().as_bytes());
        put_bytes(out, matcher.value().as_bytes());
    }
}

/// Reads matchers.
pub fn read_matchers(reader: &mut Reader<'_>) -> Result<Vec<Matcher>, String> {
    let malformed = |error: Malformed| error.to_string();
    let mut matchers = Vec::new();
    for _ in 0..reader.count(3).map_err(malformed)? {
        let number = reader.u8().map_err(malformed)?;
        let op = OPERATORS
            .get(usize::from(number))
            .ok_or_else(|| format!("operator {number}"))?;
        let name = reader.text().map_err(malformed)?;
        let value = reader.text().map_err(malformed)?;
        matchers.push(Matcher::new(*op, name, value).map_err(|e| e.to_string())?);
    }
    Ok(matchers)
}

#[cfg(test)]
mod tests {
    use kittiwake_env::SimFs;

    use super::*;

    const KIND: Kind = Kind {
        magic: *b"KWTESTWH",
        version: 3,
    };

    #[test]
    fn comes_back_and_damage_and_versions_are_told() {
        let (fs, dir) = (SimFs::new(1), Path::new("/w"));
        fs.create_dir_all(dir).unwrap();
        let path = dir.join("LIST");
        let text = |reader: &mut Reader<'_>| {
            let text = reader.text().map_err(|e| e.to_string())?;
            Ok(text.to_owned())
        };
        assert_eq!(read(&fs, &path, KIND, text).unwrap(), None);
        let mut content = Vec::new();
        put_bytes(&mut content, b"kept");
        write(&fs, &path, KIND, &content).unwrap();
        assert_eq!(
            read(&fs, &path, KIND, text).unwrap().as_deref(),
            Some("kept")
        );
        let good = encode(KIND, &content);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs.write_atomic(&path, &[&bad]).unwrap();
            assert!(read(&fs, &path, KIND, text).is_err(), "byte {at}");
            fs.write_atomic(&path, &[&good[..at]]).unwrap();
            assert!(read(&fs, &path, KIND, text).is_err(), "{at} bytes");
        }
        fs.write_atomic(&path, &[&good]).unwrap();
        let newer = Kind { version: 2, ..KIND };
        let error = read(&fs, &path, newer, text).unwrap_err().to_string();
        assert!(
            error.contains("version 3") && error.contains("up to 2"),
            "{error}"
        );
    }

    #[test]
    fn matchers_come_back() {
        let matchers = OPERATORS.map(|op| Matcher::new(op, "name", "v.*").unwrap());
        let mut out = Vec::new();
        put_matchers(&mut out, &matchers);
        assert_eq!(read_matchers(&mut Reader::new(&out)).unwrap(), matchers);
        out[1] = 9;
        let error = read_matchers(&mut Reader::new(&out)).unwrap_err();
        assert_eq!(error, "operator 9");
    }
}
