//! Tests of a field of lines, done on its column where the lines are well-formed.

use kittiwake_model::{FieldTest, Labels, StoreError};

use super::plan::{Found, PartPlan, failed};
use crate::block::{Field, Rows};
use crate::part::Block;

/// Keeps the rows of a block that pass a test.
pub(super) fn keep(
    test: &dyn FieldTest,
    part_plan: &PartPlan,
    block: &Block,
    found: &mut Found,
) -> Result<(), StoreError> {
    let part = &part_plan.part;
    let text = match &mut found.text {
        Some(text) => text,
        none => none.insert(part.text(block).map_err(failed)?),
    };
    let mut kept = Rows::none(block.rows);
    // Where a line may have the label otherwise, its field is not what is tested.
    let mut by_line = Rows::none(block.rows);
    let labels = |stream: usize| &part.streams[stream].labels;
    let is_told = |name: &String| name == test.name() || name.starts_with("__");
    if block.has_metadata() && part.metadata_names.iter().any(is_told) {
        by_line = found.rows.clone();
    } else {
        for (run, rows) in block.runs() {
            if labels(run.stream).get(test.name()).is_some() {
                by_line.insert_range(rows);
            }
        }
        by_line.intersect(&found.rows);
        let mut by_field = found.rows.clone();
        by_field.subtract(&by_line);
        text.field(test.format(), test.name(), &by_field, |row, field| {
            let accepted = match field {
                Field::Value(value) => test.accepts(Some(value)),
                Field::Absent => test.accepts(None),
                Field::Unknown => None,
            };
            match accepted {
                Some(true) => kept.insert(row),
                Some(false) => {}
                None => by_line.insert(row),
            }
        })
        .map_err(failed)?;
    }
    if !by_line.is_empty() {
        let metadata = part.metadata(block).map_err(failed)?;
        let lines = text.lines_of(&by_line).map_err(failed)?;
        let (no_labels, mut runs) = (Labels::empty(), block.runs());
        let mut run = runs.next();
        for (nth, row) in by_line.iter().enumerate() {
            while run.as_ref().is_some_and(|(_, rows)| rows.end <= row) {
                run = runs.next();
            }
            let Some((run, _)) = &run else {
                break;
            };
            let metadata = metadata.of(row).unwrap_or(&no_labels);
            if test.accepts_line(labels(run.stream), metadata, lines.line(nth)) {
                kept.insert(row);
            }
        }
    }
    found.rows.intersect(&kept);
    Ok(())
}
