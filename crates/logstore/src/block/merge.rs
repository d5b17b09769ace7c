//! Leaves to templates: a place where too many words occur becomes a slot.

use std::collections::{HashMap, HashSet};

use super::group::{Grouping, Leaf, Template};
use super::split::{Span, TOKEN, VALUE};
use super::token;

/// Words at one place at most, else it becomes a slot.
const WORDS_MAX: usize = 16;
/// Templates of one shape at most, else more places become slots.
const TEMPLATES_MAX: usize = 64;
/// Leaves of a shape that are looked at to see whether slots pay.
const SAMPLE: usize = 256;
/// Static text between slots of fewer bytes is not worth much.
const STATIC_MIN: u32 = 4;
/// Stands for a word in a shape; text has no such byte.
const WORD: u8 = 0xfd;

/// Where a slot's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Among the text's spans.
    Span(u32),
    /// Among the words of the text's leaf.
    Word(u32),
    /// It is the whole text.
    Whole,
}

/// Gives each leaf its template.
pub(super) fn templates(grouping: &mut Grouping) {
    grouping.templates.clear();
    grouping.words.clear();
    if grouping.leaves.len() <= WORDS_MAX {
        for number in 0..grouping.leaves.len() {
            add_as_it_is(grouping, number);
        }
        return;
    }
    let mut shapes: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
    for (number, leaf) in grouping.leaves.iter().enumerate() {
        let (shape, words) = shape(&grouping.statics, leaf);
        shapes.entry(shape).or_default().push(number as u32);
        grouping.words.push(words);
    }
    // In the order in which their first leaves came: what is written depends on the text alone.
    let mut shapes: Vec<Vec<u32>> = shapes.into_values().collect();
    shapes.sort_unstable();
    for leaves in shapes {
        if leaves.len() <= WORDS_MAX {
            for leaf in leaves {
                add_as_it_is(grouping, leaf as usize);
            }
        } else {
            merge(grouping, &leaves);
        }
    }
}

fn add_as_it_is(grouping: &mut Grouping, leaf: usize) {
    let number = grouping.templates.len() as u32;
    let leaf = &mut grouping.leaves[leaf];
    leaf.template = number;
    let text = leaf.text.of(&grouping.statics).to_vec();
    let slots = text.iter().filter(|b| **b >= VALUE).count() as u32;
    grouping.templates.push(Template {
        slots: (0..slots).map(Slot::Span).collect(),
        texts: leaf.texts,
        text,
    });
}

/// A static part with its words replaced, and where they are.
fn shape(statics: &[u8], leaf: &Leaf) -> (Vec<u8>, Vec<Span>) {
    let text = leaf.text.of(statics);
    let mut shape = Vec::with_capacity(text.len());
    let mut words = Vec::new();
    let mut at = 0;
    for part in text.split_inclusive(|b| *b >= VALUE) {
        let static_bytes = part.len() - usize::from(part.last().is_some_and(|b| *b >= VALUE));
        let content = str::from_utf8(&part[..static_bytes]).unwrap_or("");
        let mut copied = 0;
        for token in token::tokens(content) {
            shape.extend_from_slice(&part[copied..token.at]);
            shape.push(WORD);
            copied = token.at + token.text.len();
            let start = leaf.text.start as usize + at;
            words.push(Span::new(start + token.at, start + copied));
        }
        shape.extend_from_slice(&part[copied..]);
        at += part.len();
    }
    (shape, words)
}

/// Merges leaves of one shape.
fn merge(grouping: &mut Grouping, leaves: &[u32]) {
    let counts = distinct_words(grouping, leaves);
    for words_max in [WORDS_MAX, 4, 1] {
        let is_slot: Vec<bool> = counts.iter().map(|c| *c > words_max).collect();
        if !pays(grouping, leaves, &is_slot) {
            for leaf in leaves {
                add_as_it_is(grouping, *leaf as usize);
            }
            return;
        }
        let mut keys: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
        for leaf in leaves {
            let key = merged(grouping, *leaf, &is_slot);
            keys.entry(key).or_default().push(*leaf);
        }
        if keys.len() > TEMPLATES_MAX && words_max > 1 {
            continue;
        }
        let mut keys: Vec<(Vec<u8>, Vec<u32>)> = keys.into_iter().collect();
        keys.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        for (text, leaves) in keys {
            let number = grouping.templates.len() as u32;
            let mut texts = 0;
            for leaf in &leaves {
                grouping.leaves[*leaf as usize].template = number;
                texts += grouping.leaves[*leaf as usize].texts;
            }
            let slots = slots(grouping, leaves[0], &is_slot);
            grouping.templates.push(Template { text, slots, texts });
        }
        return;
    }
}

/// Whether words as slots are expected to take less than the texts whole, both behind zstd:
/// where most words are others in each text, their dictionaries take more.
fn pays(grouping: &Grouping, leaves: &[u32], is_slot: &[bool]) -> bool {
    let texts: u32 = leaves
        .iter()
        .map(|l| grouping.leaves[*l as usize].texts)
        .sum();
    let texts = f64::from(texts);
    let step = leaves.len().div_ceil(SAMPLE);
    let sample: Vec<u32> = leaves.iter().copied().step_by(step).collect();
    let (mut as_slots, mut whole) = (0.0, 0.0);
    for place in (0..is_slot.len()).filter(|place| is_slot[*place]) {
        let words = sample
            .iter()
            .map(|l| grouping.words[*l as usize][place].of(&grouping.statics));
        let bytes = words.clone().map(<[u8]>::len).sum::<usize>() as f64 / sample.len() as f64;
        let known = words.collect::<HashSet<_>>().len() as f64;
        let distinct = if known * 2.0 < sample.len() as f64 {
            // Few come again and again: the sample has them all.
            known
        } else {
            // So many words there must be for that few to have come twice.
            let size = sample.len() as f64;
            let words = size * size / (2.0 * (size - known).max(0.5));
            words * (1.0 - (-(leaves.len() as f64) / words).exp())
        };
        as_slots += distinct * (bytes + 1.0) * 0.6 + texts * distinct.log2() / 8.0;
        whole += texts * bytes * 0.45;
    }
    // What stands between them costs zstd a match of some bytes in each text.
    let words = &grouping.words[leaves[0] as usize];
    let text = grouping.leaves[leaves[0] as usize].text;
    let mut start = text.start;
    for (word, _) in words.iter().zip(is_slot).filter(|(_, is_slot)| **is_slot) {
        whole += f64::from(u8::from(word.start - start >= STATIC_MIN)) * 2.0 * texts;
        start = word.end;
    }
    whole += f64::from(u8::from(text.end - start >= STATIC_MIN)) * 2.0 * texts;
    as_slots < whole
}

/// How many words leaves of one shape have at each place.
fn distinct_words(grouping: &Grouping, leaves: &[u32]) -> Vec<usize> {
    let places = grouping.words[leaves[0] as usize].len();
    (0..places)
        .map(|place| {
            let mut seen = HashSet::new();
            for leaf in leaves {
                seen.insert(grouping.words[*leaf as usize][place].of(&grouping.statics));
                if seen.len() > WORDS_MAX {
                    break;
                }
            }
            seen.len()
        })
        .collect()
}

/// A static part with marks for the words that are slots.
fn merged(grouping: &Grouping, leaf: u32, is_slot: &[bool]) -> Vec<u8> {
    let text = grouping.leaves[leaf as usize].text;
    let mut key = Vec::new();
    let mut copied = text.start as usize;
    for (word, is_slot) in grouping.words[leaf as usize].iter().zip(is_slot) {
        if *is_slot {
            key.extend_from_slice(&grouping.statics[copied..word.start as usize]);
            key.push(TOKEN);
            copied = word.end as usize;
        }
    }
    key.extend_from_slice(&grouping.statics[copied..text.end as usize]);
    key
}

/// Where the values of a merged leaf's slots are, in their order.
fn slots(grouping: &Grouping, leaf: u32, is_slot: &[bool]) -> Vec<Slot> {
    let text = grouping.leaves[leaf as usize].text;
    let content = text.of(&grouping.statics).iter().enumerate();
    let marks = content.filter(|(_, b)| **b >= VALUE).zip(0_u32..);
    let spans = marks.map(|((at, _), number)| (text.start + at as u32, Slot::Span(number)));
    let words = grouping.words[leaf as usize]
        .iter()
        .zip(is_slot)
        .zip(0_u32..);
    let words = words.filter(|((_, is_slot), _)| **is_slot);
    let words = words.map(|((word, _), number)| (word.start, Slot::Word(number)));
    let mut slots: Vec<(u32, Slot)> = spans.chain(words).collect();
    slots.sort_unstable_by_key(|(at, _)| *at);
    slots.into_iter().map(|(_, slot)| slot).collect()
}
