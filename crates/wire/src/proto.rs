//! Protocol buffers' wire format: fields out of bytes and into them.
//!
//! Written by hand, because a generated decoder builds a value per sample and label, and the
//! stores want slices of the request. Source: the encoding page of the Protocol Buffers
//! documentation.

/// Numbers of a repeated varint field at most: buckets of a histogram, references to labels.
const VARINTS_MAX: usize = 1 << 18;

/// Bytes that are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed request at byte {at}, field {field}: expected {wanted}")]
pub struct Malformed {
    /// The offset into the decompressed body.
    pub at: usize,
    /// The field, with those around it (`timeseries.samples.value`), or the message in which
    /// no field could be read.
    pub field: &'static str,
    /// What should have been there.
    pub wanted: &'static str,
}

/// The bytes of a message and where they stand in the body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub bytes: &'a [u8],
    pub base: usize,
}

/// A field's value as the wire has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Message<'a>),
}

/// A field: its number, where its tag stands, its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub number: u64,
    pub at: usize,
    wire: Wire<'a>,
}

impl<'a> Field<'a> {
    pub fn message(&self, field: &'static str) -> Result<Message<'a>, Malformed> {
        match self.wire {
            Wire::Bytes(message) => Ok(message),
            _ => Err(self.wanted(field, "a length and bytes")),
        }
    }

    pub fn text(&self, field: &'static str) -> Result<&'a str, Malformed> {
        let message = self.message(field)?;
        std::str::from_utf8(message.bytes).map_err(|error| Malformed {
            at: message.base + error.valid_up_to(),
            field,
            wanted: "UTF-8 text",
        })
    }

    pub fn varint(&self, field: &'static str) -> Result<u64, Malformed> {
        match self.wire {
            Wire::Varint(value) => Ok(value),
            _ => Err(self.wanted(field, "a varint")),
        }
    }

    pub fn double(&self, field: &'static str) -> Result<f64, Malformed> {
        match self.wire {
            Wire::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(self.wanted(field, "a double")),
        }
    }

    pub fn fixed32(&self, field: &'static str) -> Result<u32, Malformed> {
        match self.wire {
            Wire::Fixed32(bits) => Ok(bits),
            _ => Err(self.wanted(field, "a fixed32")),
        }
    }

    /// The numbers of a repeated varint field, one or packed: so many in `into` at most, since
    /// a byte on the wire is eight in memory.
    pub fn varints(&self, field: &'static str, into: &mut Vec<u64>) -> Result<(), Malformed> {
        match self.wire {
            Wire::Varint(value) => into.push(value),
            Wire::Bytes(message) => {
                let mut reader = Fields::new(message, field);
                while reader.at < reader.bytes.len() {
                    if into.len() == VARINTS_MAX {
                        return Err(self.wanted(field, "fewer numbers"));
                    }
                    into.push(reader.varint()?);
                }
            }
            _ => return Err(self.wanted(field, "varints")),
        }
        Ok(())
    }

    /// The numbers of a repeated double field, one or packed.
    pub fn doubles(&self, field: &'static str, into: &mut Vec<f64>) -> Result<(), Malformed> {
        match self.wire {
            Wire::Fixed64(bits) => into.push(f64::from_bits(bits)),
            Wire::Bytes(message) => {
                let (chunks, rest) = message.bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(self.wanted(field, "eight bytes for each double"));
                }
                into.extend(chunks.iter().map(|c| f64::from_le_bytes(*c)));
            }
            _ => return Err(self.wanted(field, "doubles")),
        }
        Ok(())
    }

    pub fn wanted(&self, field: &'static str, wanted: &'static str) -> Malformed {
        Malformed {
            at: self.at,
            field,
            wanted,
        }
    }
}

/// Walks the fields of a message.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    base: usize,
    at: usize,
    /// What errors call the message.
    name: &'static str,
}

impl<'a> Fields<'a> {
    pub fn new(message: Message<'a>, name: &'static str) -> Self {
        Self {
            bytes: message.bytes,
            base: message.base,
            at: 0,
            name,
        }
    }

    /// The offset of the next field in the message.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Goes on at an offset that [`Fields::position`] gave.
    pub fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// The next of several messages that each have their length in front.
    pub fn delimited(&mut self) -> Result<Option<Message<'a>>, Malformed> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        let base = self.base + self.at;
        let bytes = self.take(len)?;
        Ok(Some(Message { bytes, base }))
    }

    /// Goes behind the last field.
    pub fn close(&mut self) {
        self.at = self.bytes.len();
    }

    #[inline]
    pub fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        // Nearly every field of a request is bytes with a tag and a length of one byte each.
        if let Some([tag, len, rest @ ..]) = self.bytes.get(self.at..)
            && tag & 0x87 == 2
            && *tag >= 8
            && *len < 0x80
            && let Some(bytes) = rest.get(..usize::from(*len))
        {
            let at = self.base + self.at;
            self.at += 2 + bytes.len();
            return Ok(Some(Field {
                number: u64::from(tag >> 3),
                at,
                wire: Wire::Bytes(Message {
                    bytes,
                    base: at + 2,
                }),
            }));
        }
        // And those around them have a length of two bytes.
        if let Some([tag, low, high, rest @ ..]) = self.bytes.get(self.at..)
            && tag & 0x87 == 2
            && *tag >= 8
            && *low >= 0x80
            && (1..0x80).contains(high)
            && let Some(bytes) = rest.get(..usize::from(low & 0x7f) | (usize::from(*high) << 7))
        {
            let at = self.base + self.at;
            self.at += 3 + bytes.len();
            return Ok(Some(Field {
                number: u64::from(tag >> 3),
                at,
                wire: Wire::Bytes(Message {
                    bytes,
                    base: at + 3,
                }),
            }));
        }
        self.next_of_any_shape()
    }

    #[inline(never)]
    fn next_of_any_shape(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let at = self.base + self.at;
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let mut bits = [0; 8];
                bits.copy_from_slice(self.take(8)?);
                Wire::Fixed64(u64::from_le_bytes(bits))
            }
            2 => {
                let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let base = self.base + self.at;
                let bytes = self.take(len)?;
                Wire::Bytes(Message { bytes, base })
            }
            5 => {
                let mut bits = [0; 4];
                bits.copy_from_slice(self.take(4)?);
                Wire::Fixed32(u32::from_le_bytes(bits))
            }
            _ => return Err(self.wanted(at, "a wire type of 0, 1, 2 or 5")),
        };
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(self.wanted(at, "a field number from 1 to 2^29 - 1"));
        }
        Ok(Some(Field { number, at, wire }))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        let start = self.at;
        if let Some(&byte) = self.bytes.get(start)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        let mut value = 0_u64;
        for (i, &byte) in self.bytes[start..].iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at = start + i + 1;
                return Ok(value);
            }
        }
        Err(self.wanted(self.base + start, "a varint of at most 64 bits"))
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        match self.bytes[self.at..].get(..len) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.wanted(self.base + self.at, "more bytes than the message has")),
        }
    }

    fn wanted(&self, at: usize, wanted: &'static str) -> Malformed {
        Malformed {
            at,
            field: self.name,
            wanted,
        }
    }
}

/// A zigzag integer.
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a varint field, also where it is zero.
pub(crate) fn put_varint_field(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

pub(crate) fn put_double_field(out: &mut Vec<u8>, number: u64, value: f64) {
    put_varint(out, number << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(crate) fn put_bytes_field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a message whose fields `write` appends. The length is put in front afterwards, so
/// that nobody has to compute it; room is left for one byte, which is enough for most.
pub(crate) fn put_message(out: &mut Vec<u8>, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, number << 3 | 2);
    let first = out.len();
    out.push(0);
    write(out);
    let end = out.len();
    let len = (end - first - 1) as u64;
    if len < 0x80 {
        out[first] = len as u8;
    } else {
        out[first] = len as u8 | 0x80;
        put_varint(out, len >> 7);
        let more = out.len() - end;
        out[first + 1..].rotate_right(more);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> Fields<'_> {
        Fields::new(Message { bytes, base: 0 }, "message")
    }

    #[test]
    fn errors_name_the_byte_and_the_field() {
        for (bytes, at) in [
            (&[0x0a, 0x05, 1][..], 2),
            (&[0x09, 1], 1),
            (&[0x80], 0),
            (&[0x0b], 0),
            (&[0x02, 0x00], 0),
            (&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], 1),
        ] {
            let error = whole(bytes).next().unwrap_err();
            assert_eq!((error.at, error.field), (at, "message"), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn fields_round_trip(number in 1_u64..3000, value: u64, bits: u64, size in 0_usize..20_000) {
            let mut out = Vec::new();
            put_message(&mut out, 9, |out| {
                put_varint_field(out, number, value);
                put_double_field(out, number, f64::from_bits(bits));
                put_bytes_field(out, number, &vec![7; size]);
            });
            let message = whole(&out).next().unwrap().unwrap().message("m").unwrap();
            let mut fields = Fields::new(message, "m");
            let first = fields.next().unwrap().unwrap();
            prop_assert_eq!((first.number, first.varint("v")), (number, Ok(value)));
            let second = fields.next().unwrap().unwrap();
            prop_assert_eq!(second.double("d").unwrap().to_bits(), bits);
            let third = fields.next().unwrap().unwrap();
            prop_assert_eq!(third.message("b").unwrap().bytes, &vec![7; size][..]);
            prop_assert!(fields.next().unwrap().is_none());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut fields = whole(&bytes);
            while let Ok(Some(_)) = fields.next() {}
        }

        #[test]
        fn zigzag_round_trips(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
