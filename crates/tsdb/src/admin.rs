//! What an operator asks for: deletions, snapshots, and how long things are kept.

use std::path::PathBuf;
use std::sync::Arc;

use kittiwake_env::FsError;
use kittiwake_journal::{FileMeta, Manifest};
use kittiwake_model::{Matcher, TimeRange};

use crate::block::Block;
use crate::store::{MANIFEST, OpenError, Store};
use crate::tiers::{Aggregate, RESOLUTIONS_MS, Tier};
use crate::tombstones::{self, Tombstone};

/// How far a retention of some series moves before blocks are looked at again, in ms.
const RETENTION_STEP_MS: i64 = 3_600_000;
/// Pieces in which a snapshot is copied.
const COPY_BYTES: usize = 1 << 20;
/// Stands for all blocks, those to come included.
const ALL_BLOCKS: u64 = u64::MAX;

impl Store {
    /// Deletes the samples in a range of time of series that match any of the selectors (each
    /// a list of matchers). They are hidden at once and leave the disk with the next
    /// compaction of their blocks, or with [`Store::clean_tombstones`].
    pub fn delete(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Result<(), OpenError> {
        if selectors.is_empty() || range.is_empty() {
            return Ok(());
        }
        // What is in the head goes to a block first, so that what comes later is not hidden.
        self.flush()?;
        let manifest = self.manifest.lock();
        let mut all = self.state.read().tombstones.to_vec();
        all.extend(selectors.iter().map(|matchers| Tombstone {
            matchers: matchers.clone(),
            range,
            before_block: manifest.next_id,
        }));
        self.put_tombstones(all)
    }

    /// Writes all blocks anew that hold deleted samples.
    pub fn clean_tombstones(&self) -> Result<(), OpenError> {
        let mut manifest = self.manifest.lock();
        let tombstones = Arc::clone(&self.state.read().tombstones);
        while let Some(at) = next_to_clean(&manifest, &tombstones, |t| t.before_block != ALL_BLOCKS)
        {
            self.merge(&mut manifest, at..at + 1)?;
        }
        self.prune_tombstones(&manifest)
    }

    /// Copies all that is stored now into `snapshots/<name>` of the store's directory, which
    /// is a store's directory itself. Gives its path.
    pub fn snapshot(&self, name: &str) -> Result<PathBuf, OpenError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            return Err(OpenError::SnapshotName(name.to_owned()));
        }
        let dir = self.dir.join("snapshots").join(name);
        if self.fs.exists(&dir)? {
            return Err(OpenError::SnapshotName(name.to_owned()));
        }
        self.flush()?;
        let manifest = self.manifest.lock();
        self.fs.create_dir_all(&dir.join(MANIFEST.folder))?;
        for meta in &manifest.files {
            let (from, to) = (MANIFEST.file(&self.dir, meta), MANIFEST.file(&dir, meta));
            self.copy(&from, &to)?;
        }
        self.fs.sync_dir(&dir.join(MANIFEST.folder))?;
        tombstones::write(self.fs.as_ref(), &dir, &self.state.read().tombstones)?;
        let mut copied = manifest.clone();
        copied.flushed = 0;
        copied.write(self.fs.as_ref(), &dir)?;
        Ok(dir)
    }

    fn copy(&self, from: &std::path::Path, to: &std::path::Path) -> Result<(), FsError> {
        let source = self.fs.open_read(from)?;
        let mut target = self.fs.create(to)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut offset = 0;
        loop {
            let read = source.read_at(offset, &mut buffer)?;
            if read == 0 {
                return target.sync();
            }
            target.write_all(&buffer[..read])?;
            offset += read as u64;
        }
    }

    /// Lets go of what is older than the retention, or more than may be kept.
    pub(crate) fn expire(&self) -> Result<(), OpenError> {
        while self.downsample_expired()? {}
        self.remove_expired()?;
        self.expire_some()
    }

    /// For how long a tier, or samples as they came, are kept, in ms; `None` is for good.
    pub(crate) fn kept_ms(&self, tier: Option<Tier>) -> Option<i64> {
        // Who keeps all samples also keeps what was left of some before.
        let is_limited = self.options.retention_ms > 0;
        is_limited.then(|| match tier {
            None => self.options.retention_ms,
            Some(tier) => self.options.downsampled_ms[tier.step],
        })
    }

    /// Before this time the blocks of a tier, or of samples as they came, have expired.
    fn expired_before(&self, tier: Option<Tier>) -> i64 {
        let kept_ms = self.kept_ms(tier);
        kept_ms.map_or(i64::MIN, |kept_ms| {
            self.clock.now_ms().saturating_sub(kept_ms)
        })
    }

    /// Replaces a block that has expired by what the next tier keeps of it. `false`: there is
    /// none, or no tier keeps anything so old.
    fn downsample_expired(&self) -> Result<bool, OpenError> {
        let mut manifest = self.manifest.lock();
        let due = manifest.files.iter().find_map(|meta| {
            let tier = Tier::of(meta.level);
            if meta.end >= self.expired_before(tier) {
                return None;
            }
            let coarser = tier.map_or(0, |t| t.step + 1)..RESOLUTIONS_MS.len();
            let keeps = |step: &usize| {
                let aggregate = Aggregate::Points;
                let step = *step;
                meta.end >= self.expired_before(Some(Tier { step, aggregate }))
            };
            Some((*meta, coarser.into_iter().find(keeps)?))
        });
        let Some((meta, step)) = due else {
            return Ok(false);
        };
        self.downsample(&mut manifest, meta, step)?;
        Ok(true)
    }

    /// Removes blocks that have expired, and the oldest ones when all together are too large.
    fn remove_expired(&self) -> Result<(), OpenError> {
        let mut manifest = self.manifest.lock();
        let mut expired: Vec<FileMeta> = Vec::new();
        let is_expired = |b: &&FileMeta| b.end < self.expired_before(Tier::of(b.level));
        expired.extend(manifest.files.iter().filter(is_expired));
        if self.options.retention_bytes > 0 {
            let sizes: Vec<(FileMeta, u64)> = {
                let state = self.state.read();
                let sized = |b: &crate::store::Placed| (b.meta, b.block.size_bytes());
                state.blocks.iter().map(sized).collect()
            };
            let mut total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
            let mut oldest = sizes;
            oldest.sort_by_key(|(meta, _)| meta.end);
            for (meta, bytes) in oldest {
                if total <= self.options.retention_bytes {
                    break;
                }
                total -= bytes;
                if !expired.contains(&meta) {
                    expired.push(meta);
                }
            }
        }
        if expired.is_empty() {
            return Ok(());
        }
        let mut next = manifest.clone();
        next.files.retain(|f| !expired.contains(f));
        next.write(self.fs.as_ref(), &self.dir)?;
        *manifest = next;
        let is_kept = |b: &crate::store::Placed| !expired.contains(&b.meta);
        self.state.write().blocks.retain(is_kept);
        for meta in &expired {
            self.fs.remove(&MANIFEST.file(&self.dir, meta))?;
        }
        self.prune_tombstones(&manifest)
    }

    /// Hides, and removes from old blocks, series that are kept for less long than others.
    fn expire_some(&self) -> Result<(), OpenError> {
        let mut all = self.state.read().tombstones.to_vec();
        let is_rule = |t: &Tombstone| t.before_block == ALL_BLOCKS;
        if self.options.retention_of.is_empty() && !all.iter().any(is_rule) {
            return Ok(());
        }
        let now = self.clock.now_ms();
        let (mut wanted, mut is_due) = (Vec::new(), false);
        for (matchers, keep_ms) in &self.options.retention_of {
            let end = now.saturating_sub(*keep_ms);
            let same = |t: &&Tombstone| is_rule(t) && t.matchers == *matchers;
            let known = all.iter().find(same).map(|t| t.range.end);
            let end = match known {
                Some(known) if end < known.saturating_add(RETENTION_STEP_MS) => known,
                _ => end,
            };
            is_due |= known != Some(end);
            wanted.push(Tombstone {
                matchers: matchers.clone(),
                range: TimeRange::new(i64::MIN, end),
                before_block: ALL_BLOCKS,
            });
        }
        if !is_due && all.iter().filter(|t| is_rule(t)).count() == wanted.len() {
            return Ok(());
        }
        all.retain(|t| !is_rule(t));
        all.extend(wanted.iter().cloned());
        self.put_tombstones(all)?;
        let mut manifest = self.manifest.lock();
        let mut at = 0;
        while at < manifest.files.len() {
            let meta = manifest.files[at];
            let block = self
                .state
                .read()
                .blocks
                .iter()
                .find(|b| b.meta == meta)
                .cloned();
            let holds = |t: &Tombstone| -> Result<bool, OpenError> {
                let Some(placed) = &block else {
                    return Ok(false);
                };
                // Only once all of the block is that old, so that each is written anew once.
                Ok(meta.end <= t.range.end
                    && !placed.block.select(&t.matchers, t.range)?.is_empty())
            };
            let mut is_held = false;
            for rule in &wanted {
                is_held |= holds(rule)?;
            }
            let before = manifest.files.len();
            if is_held {
                self.merge(&mut manifest, at..at + 1)?;
            }
            if manifest.files.len() == before {
                at += 1;
            }
        }
        Ok(())
    }

    fn put_tombstones(&self, all: Vec<Tombstone>) -> Result<(), OpenError> {
        tombstones::write(self.fs.as_ref(), &self.dir, &all)?;
        self.state.write().tombstones = Arc::new(all);
        Ok(())
    }

    /// Forgets deletions that concern no block any more.
    fn prune_tombstones(&self, manifest: &Manifest) -> Result<(), OpenError> {
        let all = Arc::clone(&self.state.read().tombstones);
        let is_needed = |t: &&Tombstone| {
            let concerns = |f: &FileMeta| t.concerns(f.id, f.start, f.end);
            t.before_block == ALL_BLOCKS || manifest.files.iter().any(concerns)
        };
        let kept: Vec<Tombstone> = all.iter().filter(is_needed).cloned().collect();
        if kept.len() == all.len() {
            return Ok(());
        }
        self.put_tombstones(kept)
    }

    /// The blocks, with their level, samples and times.
    pub fn blocks(&self) -> Vec<(FileMeta, Arc<Block>)> {
        let state = self.state.read();
        let blocks = state.blocks.iter();
        blocks.map(|b| (b.meta, Arc::clone(&b.block))).collect()
    }
}

fn next_to_clean(
    manifest: &Manifest,
    tombstones: &[Tombstone],
    is_meant: impl Fn(&Tombstone) -> bool,
) -> Option<usize> {
    manifest.files.iter().position(|f| {
        let concerns = |t: &&Tombstone| is_meant(t) && t.concerns(f.id, f.start, f.end);
        tombstones.iter().any(|t| concerns(&t))
    })
}
