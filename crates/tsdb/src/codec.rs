//! Numbers to bytes and back, bit for bit.
//!
//! Values are compressed in groups: the series of one metric name behave alike, and pco needs
//! some 2,000 numbers to pay for its tables. A group is one pco chunk with one page per
//! series, so that a query decodes only the series it wants. What kind of number a series
//! holds decides its group: counters and sizes are integers, many gauges are integers divided
//! by a power of ten, and only the rest is compressed as doubles.
//!
//! Times are columns that series share: the samples of one scrape have one time.

use kittiwake_journal::bytes::{Malformed, Reader, put_uvarint, put_varint};
use pco::wrapped::{ChunkDecompressor, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, PagingSpec};

/// Samples of one series in one group at most.
pub const PAGE_SAMPLES_MAX: usize = 1 << 12;
/// Samples of one group at most; bounds what decoding allocates.
pub const GROUP_SAMPLES_MAX: usize = 1 << 18;
/// Numbers that pco decodes at once.
const BATCH: usize = 256;
/// The level of pco at which its cost was measured (docs: life of a sample).
const LEVEL: usize = 4;
/// Decimal places that are tried before a series counts as doubles.
const PLACES_MAX: u8 = 9;
/// Integers up to this magnitude are doubles without loss.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Powers of ten that are doubles without loss.
const POWERS: [f64; PLACES_MAX as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Why numbers could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// More numbers than a page or group may hold.
    #[error("{0} numbers are more than a group of values may hold")]
    TooMany(usize),
    /// The bytes are not what the encoder writes.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// pco refused the numbers or the bytes.
    #[error("compressed numbers: {0}")]
    Pco(#[from] pco::errors::PcoError),
    /// A page that the group does not have, or another number of values than it has.
    #[error("no page {page} with {len} values in this group")]
    NoPage {
        /// The page asked for.
        page: usize,
        /// How many values were expected in it.
        len: usize,
    },
}

/// What kind of numbers a series holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NumberClass {
    /// Integers divided by this power of ten; 0 for integers.
    Decimal(u8),
    /// Any double: also -0.0, NaN with its payload, infinities.
    Double,
}

impl NumberClass {
    /// The narrowest class from which all values come back bit for bit.
    pub fn of(values: &[f64]) -> Self {
        integers(values, &mut Vec::new())
    }

    /// The class as one byte: decimal places, or 255 for doubles.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Decimal(places) => places,
            Self::Double => u8::MAX,
        }
    }

    /// The class that a byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            u8::MAX => Some(Self::Double),
            places if places <= PLACES_MAX => Some(Self::Decimal(places)),
            _ => None,
        }
    }
}

/// Replaces `into` by the integers that, divided by a power of ten, are exactly these values,
/// and gives the class; there are none for doubles.
pub fn integers(values: &[f64], into: &mut Vec<i64>) -> NumberClass {
    let mut places = 0;
    'places: loop {
        into.clear();
        for value in values {
            if let Some(integer) = scaled(*value, places) {
                into.push(integer);
                continue;
            }
            // What came before may not bear more places: all is tried again with them.
            while places < PLACES_MAX {
                places += 1;
                if scaled(*value, places).is_some() {
                    continue 'places;
                }
            }
            into.clear();
            return NumberClass::Double;
        }
        return NumberClass::Decimal(places);
    }
}

/// Turns integers of one class into those of another with as many or more places, when all of
/// them stay exact.
pub(crate) fn rescale(numbers: &mut [i64], from: u8, to: u8) -> bool {
    let Some(power) = to.checked_sub(from).map(|d| POWERS[usize::from(d)] as i64) else {
        return false;
    };
    let max = EXACT_MAX as i64 / power;
    let fits = numbers.iter().all(|n| n.abs() <= max);
    if fits && power > 1 {
        for number in numbers {
            *number *= power;
        }
    }
    fits
}

/// The value that an integer of a class stands for.
#[inline]
pub(crate) fn unscaled(integer: i64, places: u8) -> f64 {
    match places {
        0 => integer as f64,
        places => integer as f64 / POWERS[usize::from(places.min(PLACES_MAX))],
    }
}

/// The integer that, divided by ten to the power of `places`, is exactly this value.
#[inline]
fn scaled(value: f64, places: u8) -> Option<i64> {
    let large = value * POWERS[usize::from(places)];
    if large.abs() > EXACT_MAX || large.is_nan() {
        return None;
    }
    let integer = if places == 0 {
        large as i64
    } else {
        (large + 0.5_f64.copysign(large)) as i64
    };
    // Through the integer and back, as the decoder does: -0.0 comes back as 0.0.
    (unscaled(integer, places).to_bits() == value.to_bits()).then_some(integer)
}

/// An encoded group: the chunk's tables, then the pages, which can be read alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// What all pages need.
    pub header: Vec<u8>,
    /// One page per series, in the order given.
    pub pages: Vec<Vec<u8>>,
}

/// Encodes pages of integers; none of them may be empty.
pub fn encode_integers(pages: &[&[i64]]) -> Result<Group, CodecError> {
    encode_pages(pages)
}

/// Encodes pages of doubles; none of them may be empty.
pub fn encode_doubles(pages: &[&[f64]]) -> Result<Group, CodecError> {
    encode_pages(pages)
}

fn encode_pages<T: pco::data_types::Number>(pages: &[&[T]]) -> Result<Group, CodecError> {
    let total = pages.iter().map(|p| p.len()).sum();
    let largest = pages.iter().map(|p| p.len()).max().unwrap_or(0);
    if total > GROUP_SAMPLES_MAX || largest > PAGE_SAMPLES_MAX {
        return Err(CodecError::TooMany(total));
    }
    if total == 0 {
        return Ok(Group::default());
    }
    encode_numbers(&pages.concat(), pages.iter().map(|p| p.len()).collect())
}

pub(crate) fn encode_numbers<T: pco::data_types::Number>(
    numbers: &[T],
    lens: Vec<usize>,
) -> Result<Group, CodecError> {
    let pages = lens.len();
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_paging_spec(PagingSpec::Exact(lens));
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(numbers, &config)?;
    let header = chunk.write_meta(file.write_header(Vec::new())?)?;
    let pages = (0..pages)
        .map(|page| Ok(chunk.write_page(page, Vec::new())?))
        .collect::<Result<_, CodecError>>()?;
    Ok(Group { header, pages })
}

/// The tables of a group, read once for all its pages.
#[derive(Debug)]
pub enum Tables {
    /// Of integers.
    Decimal(u8, Box<ChunkDecompressor<i64>>),
    /// Of doubles.
    Double(Box<ChunkDecompressor<f64>>),
}

/// What decoding needs beside the tables; kept from page to page.
#[derive(Default)]
pub struct Scratch {
    pco: DecompressorScratch,
    integers: Vec<i64>,
}

impl Tables {
    /// Reads the tables of a group.
    pub fn read(class: NumberClass, header: &[u8]) -> Result<Self, CodecError> {
        let (file, rest) = FileDecompressor::new(header)?;
        Ok(match class {
            NumberClass::Decimal(places) => {
                Self::Decimal(places, Box::new(file.chunk_decompressor(rest)?.0))
            }
            NumberClass::Double => Self::Double(Box::new(file.chunk_decompressor(rest)?.0)),
        })
    }

    /// Appends the first `wanted` of the `len` values of one page to `into`.
    pub fn decode(
        &self,
        page: &[u8],
        len: usize,
        wanted: usize,
        scratch: &mut Scratch,
        into: &mut Vec<f64>,
    ) -> Result<(), CodecError> {
        if len > PAGE_SAMPLES_MAX || wanted > len {
            return Err(CodecError::TooMany(len.max(wanted)));
        }
        let end = into.len() + wanted;
        // pco decodes so many at once, and all up to the wanted ones.
        let len_read = wanted.next_multiple_of(BATCH).min(len);
        match self {
            Self::Decimal(places, chunk) => {
                let numbers = &mut scratch.integers;
                numbers.resize(len_read, 0);
                let read = chunk
                    .page_decompressor_with_scratch(page, len, &mut scratch.pco)?
                    .read(numbers)?;
                is_whole(read.n_processed, len_read)?;
                into.extend(numbers[..wanted].iter().map(|n| unscaled(*n, *places)));
            }
            Self::Double(chunk) => {
                let start = into.len();
                into.resize(start + len_read, 0.0);
                let read = chunk
                    .page_decompressor_with_scratch(page, len, &mut scratch.pco)?
                    .read(&mut into[start..])?;
                is_whole(read.n_processed, len_read)?;
                into.truncate(end);
            }
        }
        Ok(())
    }
}

fn is_whole(read: usize, len: usize) -> Result<(), CodecError> {
    if read == len {
        Ok(())
    } else {
        Err(CodecError::NoPage { page: 0, len })
    }
}

pub(crate) fn decode_numbers<T: pco::data_types::Number + Default>(
    header: &[u8],
    page: &[u8],
    len: usize,
) -> Result<Vec<T>, CodecError> {
    let (file, rest) = FileDecompressor::new(header)?;
    let (mut chunk, _) = file.chunk_decompressor::<T, _>(rest)?;
    let mut numbers = vec![T::default(); len];
    let progress = chunk.page_decompressor(page, len)?.read(&mut numbers)?;
    is_whole(progress.n_processed, len)?;
    Ok(numbers)
}

/// Appends a column of ascending times in ms. A regular column, of any length, is a start, a
/// step and a count.
///
/// ```text
/// count uvarint | first varint | step varint | irregular u8 | if so, per further time: its
/// difference to the one before, less the step, as a varint
/// ```
pub fn encode_times(times: &[i64], out: &mut Vec<u8>) {
    put_uvarint(out, times.len() as u64);
    let Some(first) = times.first() else { return };
    let step = times.get(1).map_or(0, |second| second.wrapping_sub(*first));
    put_varint(out, *first);
    put_varint(out, step);
    let steps = || times.windows(2).map(|w| w[1].wrapping_sub(w[0]));
    let irregular = steps().any(|s| s != step);
    out.push(u8::from(irregular));
    if irregular {
        for s in steps() {
            put_varint(out, s.wrapping_sub(step));
        }
    }
}

/// Reads a column of times and appends it to `into`.
pub fn decode_times(reader: &mut Reader<'_>, into: &mut Vec<i64>) -> Result<(), CodecError> {
    let count = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
    if count > PAGE_SAMPLES_MAX {
        return Err(CodecError::TooMany(count));
    }
    if count == 0 {
        return Ok(());
    }
    let mut time = reader.varint()?;
    let step = reader.varint()?;
    let irregular = reader.u8()? != 0;
    into.push(time);
    for _ in 1..count {
        let more = if irregular { reader.varint()? } else { 0 };
        time = time.wrapping_add(step).wrapping_add(more);
        into.push(time);
    }
    Ok(())
}

/// Appends a column of start times in ms, which mostly stay for long.
///
/// ```text
/// runs uvarint | per run: length uvarint, start less the one before varint
/// ```
pub fn encode_starts(starts: &[i64], out: &mut Vec<u8>) {
    put_uvarint(out, starts.chunk_by(|a, b| a == b).count() as u64);
    let mut before = 0_i64;
    for run in starts.chunk_by(|a, b| a == b) {
        put_uvarint(out, run.len() as u64);
        put_varint(out, run[0].wrapping_sub(before));
        before = run[0];
    }
}

/// Reads a column of `len` start times and appends it to `into`.
pub fn decode_starts(
    reader: &mut Reader<'_>,
    len: usize,
    into: &mut Vec<i64>,
) -> Result<(), CodecError> {
    let (mut left, mut start) = (len, 0_i64);
    for _ in 0..reader.count(2)? {
        let run = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
        start = start.wrapping_add(reader.varint()?);
        if run > left {
            return Err(CodecError::NoPage { page: 0, len });
        }
        left -= run;
        into.extend(std::iter::repeat_n(start, run));
    }
    if left > 0 {
        return Err(CodecError::NoPage { page: 0, len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    fn round_trip(series: &[Vec<f64>]) {
        let all: Vec<f64> = series.concat();
        let class = NumberClass::of(&all);
        let slices: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
        let mut pages = vec![Vec::new(); series.len()];
        let group = match class {
            NumberClass::Double => encode_doubles(&slices).unwrap(),
            NumberClass::Decimal(to) => {
                for (values, page) in series.iter().zip(&mut pages) {
                    let NumberClass::Decimal(from) = integers(values, page) else {
                        panic!("a part is wider than the whole")
                    };
                    assert!(rescale(page, from, to));
                }
                encode_integers(&pages.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
            }
        };
        let tables = Tables::read(class, &group.header).unwrap();
        let mut scratch = Scratch::default();
        for (values, page) in series.iter().zip(&group.pages) {
            let mut back = Vec::new();
            tables
                .decode(page, values.len(), values.len(), &mut scratch, &mut back)
                .unwrap();
            assert_eq!(bits(&back), bits(values), "as {class:?}");
        }
    }

    #[test]
    fn classes_are_as_narrow_as_can_be() {
        assert_eq!(NumberClass::of(&[1.0, -3.0, 0.0]), NumberClass::Decimal(0));
        assert_eq!(NumberClass::of(&[0.1, 2.5, 1.25]), NumberClass::Decimal(2));
        assert_eq!(NumberClass::of(&[1e15, 0.001]), NumberClass::Double);
        for odd in [-0.0, f64::NAN, f64::INFINITY, 1e300, std::f64::consts::PI] {
            assert_eq!(NumberClass::of(&[1.0, odd]), NumberClass::Double, "{odd}");
        }
    }

    #[test]
    fn odd_values_keep_their_bits() {
        let stale = kittiwake_model::stale_nan();
        round_trip(&[
            vec![-0.0, 0.0, stale, f64::NAN, f64::NEG_INFINITY],
            vec![5e-324, 1.0],
        ]);
        round_trip(&[vec![EXACT_MAX, -EXACT_MAX], vec![EXACT_MAX + 2.0]]);
    }

    #[test]
    fn a_counter_takes_little() {
        let series: Vec<Vec<i64>> = (0..20)
            .map(|s| (0..240).map(|i| s * 1000 + i * 7).collect())
            .collect();
        let slices: Vec<&[i64]> = series.iter().map(Vec::as_slice).collect();
        let group = encode_integers(&slices).unwrap();
        let size: usize = group.header.len() + group.pages.iter().map(Vec::len).sum::<usize>();
        assert!(size < 20 * 240 / 4, "{size} bytes for {} samples", 20 * 240);
    }

    #[test]
    fn too_many_are_refused() {
        let many = vec![1.0; PAGE_SAMPLES_MAX + 1];
        assert!(matches!(
            encode_doubles(&[&many]),
            Err(CodecError::TooMany(_))
        ));
        let mut out = Vec::new();
        put_uvarint(&mut out, u64::MAX);
        assert!(decode_times(&mut Reader::new(&out), &mut Vec::new()).is_err());
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            any::<i32>().prop_map(f64::from),
            any::<i32>().prop_map(|i| f64::from(i) / 1000.0),
        ]
    }

    proptest! {
        #[test]
        fn values_come_back_bit_for_bit(
            series in proptest::collection::vec(proptest::collection::vec(number(), 1..50), 1..6),
        ) {
            round_trip(&series);
        }

        #[test]
        fn decimals_come_back_bit_for_bit(
            series in proptest::collection::vec(
                proptest::collection::vec(any::<i32>().prop_map(|i| f64::from(i) / 100.0), 1..50), 1..6),
        ) {
            prop_assert_ne!(NumberClass::of(&series.concat()), NumberClass::Double);
            round_trip(&series);
        }

        #[test]
        fn times_come_back(times in proptest::collection::vec(any::<i64>(), 0..60), start: i32, step in 0_i64..99_999) {
            let regular: Vec<i64> = (0..50).map(|i| i64::from(start) + i * step).collect();
            for times in [times, regular] {
                let mut out = Vec::new();
                encode_times(&times, &mut out);
                let mut back = Vec::new();
                let mut reader = Reader::new(&out);
                decode_times(&mut reader, &mut back).unwrap();
                prop_assert!(reader.is_at_end());
                prop_assert_eq!(back, times);
            }
        }

        #[test]
        fn starts_come_back(runs in proptest::collection::vec((any::<i64>(), 1_usize..9), 0..9)) {
            let starts: Vec<i64> = runs.into_iter().flat_map(|(s, n)| vec![s; n]).collect();
            let (mut out, mut back) = (Vec::new(), Vec::new());
            encode_starts(&starts, &mut out);
            decode_starts(&mut Reader::new(&out), starts.len(), &mut back).unwrap();
            prop_assert_eq!(&back, &starts);
            prop_assert!(decode_starts(&mut Reader::new(&out), starts.len() + 1, &mut back).is_err());
        }

        #[test]
        fn random_bytes_never_panic(
            header in proptest::collection::vec(any::<u8>(), 0..40),
            page in proptest::collection::vec(any::<u8>(), 0..40),
            len in 0_usize..300,
            class in 0_u8..12,
        ) {
            let _ = decode_times(&mut Reader::new(&page), &mut Vec::new());
            let _ = decode_starts(&mut Reader::new(&page), len, &mut Vec::new());
            let class = NumberClass::from_byte(class).unwrap_or(NumberClass::Double);
            let group = match class {
                NumberClass::Double => encode_doubles(&[&[1.0, 2.0, 3.0]]).unwrap(),
                NumberClass::Decimal(_) => encode_integers(&[&[1, 2, 3]]).unwrap(),
            };
            let mut scratch = Scratch::default();
            let tables = Tables::read(class, &group.header).unwrap();
            let _ = tables.decode(&page, len, len, &mut scratch, &mut Vec::new());
            if let Ok(tables) = Tables::read(class, &header) {
                let _ = tables.decode(&page, len, len, &mut scratch, &mut Vec::new());
                let _ = tables.decode(&group.pages[0], 3, 2, &mut scratch, &mut Vec::new());
            }
        }
    }
}
