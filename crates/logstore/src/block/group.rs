//! Texts grouped by what they have in common.
//!
//! A leaf is one static part. Leaves become templates as they are, but for two things: where
//! leaves differ in more than [`WORDS_MAX`] words at one place, the word becomes a slot
//! ([`super::merge`]); and texts of leaves with very few are kept whole, as the only slot of a
//! template without a static part.

use hashbrown::HashTable;
use kittiwake_journal::bytes::{put_bytes, put_uvarint};
use xxhash_rust::xxh3::xxh3_64;

use super::BlockError;
use super::column::{GROUP, Sink};
use super::fields;
use super::merge::{self, Slot};
use super::split::{Span, Splitter, VALUE};

/// A leaf of fewer texts is no template of its own.
const TEXTS_MIN: u32 = 4;
/// One template per so many texts at least, else nothing is gained by grouping.
const TEXTS_PER_TEMPLATE: usize = 4;
/// Texts after which it is seen that nothing will be gained.
const TRIAL: usize = 512;

/// A static part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    /// Place in [`Grouping::statics`].
    pub(super) text: Span,
    pub(super) texts: u32,
    pub(super) template: u32,
}

/// How texts are put together again.
#[derive(Debug, Default)]
pub(super) struct Template {
    /// The static part with a mark for each slot.
    pub(super) text: Vec<u8>,
    pub(super) slots: Vec<Slot>,
    pub(super) texts: u32,
}

/// Texts, split and grouped. Used again, it keeps its memory.
#[derive(Default)]
pub(super) struct Grouping {
    /// Static parts of all leaves.
    pub(super) statics: Vec<u8>,
    pub(super) leaves: Vec<Leaf>,
    /// Words of all leaves, as places in `statics`; filled where words become slots.
    pub(super) words: Vec<Vec<Span>>,
    pub(super) templates: Vec<Template>,
    table: HashTable<u32>,
    spans: Vec<Span>,
    /// Where each text's spans start.
    first_span: Vec<u32>,
    leaf_of: Vec<u32>,
    /// Texts in order of their templates.
    order: Vec<u32>,
    values: Vec<Span>,
    numbers: Vec<u64>,
}

impl Grouping {
    /// Splits texts; `false` when they have too little in common.
    pub(super) fn split(&mut self, text: &str, items: &[Span], has_keys: bool) -> bool {
        self.statics.clear();
        self.leaves.clear();
        self.table.clear();
        self.spans.clear();
        self.first_span.clear();
        self.leaf_of.clear();
        for (number, item) in items.iter().enumerate() {
            self.first_span.push(self.spans.len() as u32);
            let start = self.statics.len();
            let mut splitter = Splitter {
                text,
                statics: &mut self.statics,
                spans: &mut self.spans,
            };
            if has_keys {
                splitter.line(*item);
            } else {
                splitter.value(*item);
            }
            let leaf = self.leaf(start);
            self.leaf_of.push(leaf);
            if !has_keys && number == TRIAL && self.leaves.len() > TRIAL / 2 {
                return false;
            }
        }
        merge::templates(self);
        self.keep_rare_whole(items.len());
        let whole = self.templates.iter().find(|t| t.slots == [Slot::Whole]);
        let whole = whole.map_or(0, |t| t.texts as usize);
        self.templates.len() * TEXTS_PER_TEMPLATE <= items.len() && whole * 2 <= items.len()
    }

    /// The leaf whose static part was just written.
    fn leaf(&mut self, start: usize) -> u32 {
        let content = &self.statics[start..];
        let hash = xxh3_64(content);
        let (statics, leaves) = (&self.statics, &mut self.leaves);
        let known = self.table.find(hash, |leaf| {
            leaves[*leaf as usize].text.of(statics) == content
        });
        if let Some(leaf) = known.copied() {
            leaves[leaf as usize].texts += 1;
            self.statics.truncate(start);
            return leaf;
        }
        leaves.push(Leaf {
            text: Span::new(start, statics.len()),
            texts: 1,
            template: 0,
        });
        let leaf = leaves.len() as u32 - 1;
        self.table.insert_unique(hash, leaf, |leaf| {
            xxh3_64(leaves[*leaf as usize].text.of(statics))
        });
        leaf
    }

    /// Puts the texts of rare templates into one that keeps them whole.
    fn keep_rare_whole(&mut self, texts: usize) {
        let is_rare = |t: &Template| t.texts < TEXTS_MIN;
        let rare: u32 = self
            .templates
            .iter()
            .filter(|t| is_rare(t))
            .map(|t| t.texts)
            .sum();
        if rare == 0 || texts < TEXTS_MIN as usize {
            return;
        }
        let mut numbers = Vec::with_capacity(self.templates.len());
        let mut kept = 0;
        for template in &self.templates {
            numbers.push((!is_rare(template)).then_some(kept));
            kept += u32::from(!is_rare(template));
        }
        self.templates.retain(|t| !is_rare(t));
        self.templates.push(Template {
            text: vec![VALUE],
            slots: vec![Slot::Whole],
            texts: rare,
        });
        for leaf in &mut self.leaves {
            leaf.template = numbers[leaf.template as usize].unwrap_or(kept);
        }
    }

    /// Writes what [`Grouping::split`] found: templates, each text's template, the columns.
    pub(super) fn put(
        &mut self,
        text: &str,
        items: &[Span],
        inner: Option<&mut Grouping>,
        sink: &mut Sink,
    ) -> Result<(), BlockError> {
        self.sort();
        let out = &mut sink.directory;
        put_uvarint(out, self.templates.len() as u64);
        for template in &self.templates {
            put_bytes(out, &template.text);
            put_uvarint(out, u64::from(template.texts));
            for part in template.text.split(|b| *b >= VALUE) {
                sink.tokens.add_text(str::from_utf8(part).unwrap_or(""));
            }
        }
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        let template_of = |leaf: &u32| u64::from(self.leaves[*leaf as usize].template);
        numbers.extend(self.leaf_of.iter().map(template_of));
        sink.put_ints(&numbers)?;
        self.numbers = numbers;
        self.put_columns(text, items, inner, sink)
    }

    /// Brings the texts in the order of their templates.
    fn sort(&mut self) {
        let mut next = Vec::with_capacity(self.templates.len());
        let mut start = 0;
        for template in &self.templates {
            next.push(start);
            start += template.texts;
        }
        self.order.clear();
        self.order.resize(self.leaf_of.len(), 0);
        for (number, leaf) in self.leaf_of.iter().enumerate() {
            let place = &mut next[self.leaves[*leaf as usize].template as usize];
            self.order[*place as usize] = number as u32;
            *place += 1;
        }
    }

    fn put_columns(
        &mut self,
        text: &str,
        items: &[Span],
        mut inner: Option<&mut Grouping>,
        sink: &mut Sink,
    ) -> Result<(), BlockError> {
        let mut values = std::mem::take(&mut self.values);
        let mut start = 0;
        for template in &self.templates {
            let texts = &self.order[start..start + template.texts as usize];
            start += texts.len();
            let marks = template.text.iter().filter(|b| **b >= VALUE);
            let mut fields = inner
                .as_ref()
                .and_then(|_| fields::of_template(&template.text));
            for (number, (slot, mark)) in template.slots.iter().zip(marks).enumerate() {
                values.clear();
                match slot {
                    Slot::Whole => {
                        values.extend(texts.iter().map(|t| items[*t as usize]));
                        if sink.put_typed(text, &values)?.is_none() {
                            sink.put_text(text, &values)?;
                        }
                        continue;
                    }
                    Slot::Word(place) => {
                        self.put_words(texts, *place as usize, sink)?;
                        continue;
                    }
                    Slot::Span(number) => values.extend(texts.iter().map(|t| {
                        let first = self.first_span[*t as usize];
                        self.spans[(first + number) as usize]
                    })),
                }
                let typed = sink.put_typed(text, &values)?;
                let is_typed = typed.is_some();
                if let Some((_, slots)) = &fields {
                    let style = slots[number].style;
                    let mut samples = typed.unwrap_or(&values).iter();
                    if !samples.all(|sample| style.is_clean(sample.str(text))) {
                        fields = None;
                    }
                }
                if is_typed {
                    continue;
                }
                let inner = inner.as_deref_mut().filter(|_| *mark == VALUE);
                let Some(inner) = inner else {
                    sink.put_text(text, &values)?;
                    continue;
                };
                if inner.split(text, &values, false) {
                    sink.directory.push(GROUP);
                    inner.put(text, &values, None, sink)?;
                } else {
                    sink.put_text(text, &values)?;
                }
            }
            if inner.is_some() {
                let format = fields.map(|(format, _)| format);
                sink.directory.push(fields::code(format));
            }
        }
        self.values = values;
        Ok(())
    }

    /// Writes the words that the texts' leaves have at one place.
    fn put_words(&self, texts: &[u32], place: usize, sink: &mut Sink) -> Result<(), BlockError> {
        let word_of = |leaf: u32| {
            let word = self.words[leaf as usize][place].of(&self.statics);
            str::from_utf8(word).unwrap_or("")
        };
        let mut numbers = std::collections::HashMap::new();
        let mut distinct = Vec::new();
        let mut by_leaf = vec![u64::MAX; self.leaves.len()];
        let mut column = Vec::with_capacity(texts.len());
        for text in texts {
            let leaf = self.leaf_of[*text as usize];
            let number = &mut by_leaf[leaf as usize];
            if *number == u64::MAX {
                let word = word_of(leaf);
                *number = *numbers.entry(word).or_insert_with(|| {
                    distinct.push(word);
                    distinct.len() as u64 - 1
                });
            }
            column.push(*number);
        }
        if distinct.len() * 4 > texts.len() * 3 {
            let words = column.iter().map(|number| distinct[*number as usize]);
            return sink.put_texts(words);
        }
        sink.put_numbered(distinct.iter().copied(), &column)
    }
}
