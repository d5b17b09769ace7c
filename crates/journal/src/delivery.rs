//! Record pieces for deliveries: both stores write into their logs which frames of which
//! collector they have, beside the data of those frames.

use kittiwake_model::delivery::{FrameNumber, Origin, Sender};

use crate::bytes::{Malformed, Reader, put_bytes, put_uvarint};

/// Appends where a request came from, if its sender numbers its frames.
pub fn put_origin(out: &mut Vec<u8>, origin: Option<&Origin>) {
    let Some(origin) = origin else {
        out.push(0);
        return;
    };
    out.push(1);
    put_sender(out, &origin.sender);
    put_frame(out, origin.frame);
    put_uvarint(out, origin.first);
}

/// Reads what [`put_origin`] wrote.
pub fn read_origin(reader: &mut Reader<'_>) -> Result<Option<Origin>, Malformed> {
    if reader.u8()? == 0 {
        return Ok(None);
    }
    Ok(Some(Origin {
        sender: sender(reader)?,
        frame: frame(reader)?,
        first: reader.uvarint()?,
    }))
}

/// Appends what is known of one sender: its mark and the frames above it.
pub fn put_marks(
    out: &mut Vec<u8>,
    sender: &Sender,
    mark: u64,
    frames: impl Iterator<Item = FrameNumber>,
) {
    put_sender(out, sender);
    put_uvarint(out, mark);
    let frames: Vec<FrameNumber> = frames.collect();
    put_uvarint(out, frames.len() as u64);
    for frame in frames {
        put_frame(out, frame);
    }
}

/// Reads what [`put_marks`] wrote.
pub fn read_marks(reader: &mut Reader<'_>) -> Result<(Sender, u64, Vec<FrameNumber>), Malformed> {
    let sender = sender(reader)?;
    let mark = reader.uvarint()?;
    let mut frames = Vec::new();
    for _ in 0..reader.count(3)? {
        frames.push(frame(reader)?);
    }
    Ok((sender, mark, frames))
}

fn put_sender(out: &mut Vec<u8>, sender: &Sender) {
    put_bytes(out, sender.token.as_bytes());
    put_bytes(out, sender.agent.as_bytes());
    out.extend_from_slice(&sender.epoch.to_le_bytes());
}

fn sender(reader: &mut Reader<'_>) -> Result<Sender, Malformed> {
    Ok(Sender {
        token: reader.text()?.to_owned(),
        agent: reader.text()?.to_owned(),
        epoch: reader.u64()?,
    })
}

fn put_frame(out: &mut Vec<u8>, frame: FrameNumber) {
    put_uvarint(out, frame.sequence);
    put_uvarint(out, u64::from(frame.part));
    out.push(u8::from(frame.is_last));
}

fn frame(reader: &mut Reader<'_>) -> Result<FrameNumber, Malformed> {
    let sequence = reader.uvarint()?;
    let at = reader.position();
    let part = u32::try_from(reader.uvarint()?).map_err(|_| Malformed {
        at,
        wanted: "the number of a part",
    })?;
    Ok(FrameNumber {
        sequence,
        part,
        is_last: reader.u8()? != 0,
    })
}
