//! The tree of routes, and the rules of inhibition.

use std::collections::BTreeMap;
use std::time::Duration;

use kittiwake_config::{Located, Problem};
use kittiwake_model::{Labels, MatchOp};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::scalar::Interval;
use crate::matchers::{self, Matcher};

/// Routes inside each other at most.
const DEPTH_MAX: usize = 64;

/// A route as it stands in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteFields {
    receiver: Option<String>,
    group_by: Option<Vec<String>>,
    r#match: Option<BTreeMap<String, String>>,
    match_re: Option<BTreeMap<String, Option<String>>>,
    matchers: Option<Vec<String>>,
    mute_time_intervals: Option<Vec<String>>,
    active_time_intervals: Option<Vec<String>>,
    r#continue: Option<bool>,
    routes: Option<Vec<Spanned<RouteFields>>>,
    group_wait: Option<Interval>,
    group_interval: Option<Interval>,
    repeat_interval: Option<Interval>,
}

/// By which labels alerts are grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// By all labels.
    All,
    /// By these.
    Labels(Vec<String>),
}

/// How alerts that come to a route are handled.
#[derive(Debug, Clone)]
pub struct RouteOptions {
    /// Who is told.
    pub receiver: String,
    /// What makes a group.
    pub group_by: GroupBy,
    /// How long a new group waits for more.
    pub group_wait: Duration,
    /// How long a group waits before it tells of changes.
    pub group_interval: Duration,
    /// After which time it is told again.
    pub repeat_interval: Duration,
    /// When nothing is told.
    pub mute_time_intervals: Vec<String>,
    /// When alone something is told.
    pub active_time_intervals: Vec<String>,
}

/// A node of the tree, with what it takes from those above it.
#[derive(Debug, Clone)]
pub struct Route {
    /// How alerts are handled.
    pub options: RouteOptions,
    /// Which alerts come here.
    pub matchers: Vec<Matcher>,
    /// Whether routes beside it are tried after it took an alert.
    pub continues: bool,
    /// The routes below.
    pub routes: Vec<Route>,
    /// The matchers on the way here; several routes may have the same.
    pub key: String,
    /// As the key, but of this route alone.
    pub id: String,
    /// Its place in the tree, in the order of [`Route::walk`].
    pub index: usize,
    /// The line in the file.
    line: u64,
}

fn refused(line: u64, text: impl Into<String>) -> Located {
    Located::new(line, Problem::Setting(text.into()))
}

pub(super) fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Matchers of all three forms, in order.
fn all_matchers(
    line: u64,
    equal: Option<BTreeMap<String, String>>,
    regex: Option<BTreeMap<String, Option<String>>>,
    texts: Option<Vec<String>>,
) -> Result<Vec<Matcher>, Located> {
    let mut all = Vec::new();
    let check = |name: &str| {
        if is_label_name(name) {
            Ok(())
        } else {
            Err(refused(line, format!("invalid label name {name:?}")))
        }
    };
    for (name, value) in equal.into_iter().flatten() {
        check(&name)?;
        let made = Matcher::new(MatchOp::Equal, &name, &value);
        all.push(made.map_err(|e| refused(line, e))?);
    }
    for (name, value) in regex.into_iter().flatten() {
        check(&name)?;
        let value =
            value.ok_or_else(|| refused(line, format!("invalid regexp value for {name:?}")))?;
        // Alertmanager takes it anchored, as keys of groups show.
        let made = Matcher::new(MatchOp::Regex, &name, &format!("^(?:{value})$"));
        all.push(made.map_err(|e| refused(line, e))?);
    }
    for text in texts.into_iter().flatten() {
        all.extend(matchers::parse(&text).map_err(|e| refused(line, e))?);
    }
    all.sort_by(Matcher::order);
    Ok(all)
}

fn group_by(line: u64, names: Vec<String>) -> Result<GroupBy, Located> {
    let is_all = names.iter().any(|name| name == "...");
    if is_all && names.iter().any(|name| name != "...") {
        let text = "cannot have wildcard group_by (`...`) and other labels at the same time";
        return Err(refused(line, text));
    }
    if is_all {
        return Ok(GroupBy::All);
    }
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            let text = format!("invalid label name {name:?} in group_by list");
            return Err(refused(line, text));
        }
        if names[..at].contains(name) {
            return Err(refused(
                line,
                format!("duplicated label {name:?} in group_by"),
            ));
        }
    }
    Ok(GroupBy::Labels(names))
}

impl Route {
    /// The root of the tree.
    pub(super) fn root(fields: Spanned<RouteFields>) -> Result<Self, Located> {
        let line = fields.referenced.line();
        let root = &fields.value;
        if root.receiver.as_ref().is_none_or(String::is_empty) {
            return Err(refused(line, "root route must specify a default receiver"));
        }
        let is_set = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
        let has_matchers = root.r#match.as_ref().is_some_and(|m| !m.is_empty())
            || root.match_re.as_ref().is_some_and(|m| !m.is_empty())
            || is_set(&root.matchers);
        for (is_there, what) in [
            (has_matchers, "any matchers"),
            (is_set(&root.mute_time_intervals), "any mute time intervals"),
            (
                is_set(&root.active_time_intervals),
                "any active time intervals",
            ),
        ] {
            if is_there {
                return Err(refused(line, format!("root route must not have {what}")));
            }
        }
        if root.r#continue == Some(true) {
            return Err(refused(line, "cannot have continue in root route"));
        }
        let defaults = RouteOptions {
            receiver: String::new(),
            group_by: GroupBy::Labels(Vec::new()),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_mins(5),
            repeat_interval: Duration::from_hours(4),
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
        };
        let mut root = Self::of(fields, &defaults, None, 0)?;
        root.number(0);
        Ok(root)
    }

    fn number(&mut self, index: usize) -> usize {
        self.index = index;
        let below = self.routes.iter_mut();
        below.fold(index + 1, |next, route| route.number(next))
    }

    /// The routes that labels come to.
    pub fn matching(&self, labels: &Labels) -> Vec<&Self> {
        let mut found = Vec::new();
        self.collect(labels, &mut found);
        found
    }

    fn collect<'a>(&'a self, labels: &Labels, found: &mut Vec<&'a Self>) -> bool {
        if !matchers::all_match(&self.matchers, labels) {
            return false;
        }
        let before = found.len();
        for route in &self.routes {
            if route.collect(labels, found) && !route.continues {
                break;
            }
        }
        if found.len() == before {
            found.push(self);
        }
        true
    }

    fn of(
        fields: Spanned<RouteFields>,
        above: &RouteOptions,
        parent: Option<(&Self, usize)>,
        depth: usize,
    ) -> Result<Self, Located> {
        let line = fields.referenced.line();
        let fields = fields.value;
        if depth > DEPTH_MAX {
            return Err(refused(
                line,
                format!("more than {DEPTH_MAX} routes inside each other"),
            ));
        }
        let mut options = above.clone();
        if let Some(receiver) = fields.receiver.filter(|r| !r.is_empty()) {
            options.receiver = receiver;
        }
        // An empty list is as none, as Go's decoder leaves it.
        if let Some(names) = fields.group_by.filter(|names| !names.is_empty()) {
            options.group_by = group_by(line, names)?;
        }
        for (name, given, option) in [
            ("group_wait", fields.group_wait, &mut options.group_wait),
            (
                "group_interval",
                fields.group_interval,
                &mut options.group_interval,
            ),
            (
                "repeat_interval",
                fields.repeat_interval,
                &mut options.repeat_interval,
            ),
        ] {
            let Some(Interval(given)) = given else {
                continue;
            };
            if given.is_zero() && name != "group_wait" {
                return Err(refused(line, format!("{name} cannot be zero")));
            }
            *option = given;
        }
        options.mute_time_intervals = fields.mute_time_intervals.unwrap_or_default();
        options.active_time_intervals = fields.active_time_intervals.unwrap_or_default();
        let matchers = all_matchers(line, fields.r#match, fields.match_re, fields.matchers)?;
        let shown = matchers::shown(&matchers);
        let (key, id) = match parent {
            None => (shown.clone(), shown),
            Some((parent, at)) => (
                format!("{}/{shown}", parent.key),
                format!("{}/{shown}/{at}", parent.id),
            ),
        };
        let mut route = Self {
            options,
            matchers,
            continues: fields.r#continue.unwrap_or(false),
            routes: Vec::new(),
            key,
            id,
            index: 0,
            line,
        };
        for (at, below) in fields.routes.into_iter().flatten().enumerate() {
            let below = Self::of(below, &route.options, Some((&route, at)), depth + 1)?;
            route.routes.push(below);
        }
        Ok(route)
    }

    /// Calls a function with this route and all below, in order.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        for route in &self.routes {
            route.walk(visit);
        }
    }

    /// Refuses names that are not known.
    pub(super) fn check(
        &self,
        has_receiver: &dyn Fn(&str) -> bool,
        has_interval: &dyn Fn(&str) -> bool,
    ) -> Result<(), Located> {
        let mut found = Ok(());
        self.walk(&mut |route| {
            if found.is_err() {
                return;
            }
            let options = &route.options;
            if !has_receiver(&options.receiver) {
                let text = format!("undefined receiver {:?} used in route", options.receiver);
                found = Err(refused(route.line, text));
            }
            let intervals = options
                .active_time_intervals
                .iter()
                .chain(&options.mute_time_intervals);
            for name in intervals.filter(|name| !has_interval(name)) {
                let text = format!("undefined time interval {name:?} used in route");
                found = Err(refused(route.line, text));
            }
        });
        found
    }
}

/// A rule of inhibition as it stands in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InhibitFields {
    name: Option<String>,
    source_match: Option<BTreeMap<String, String>>,
    source_match_re: Option<BTreeMap<String, Option<String>>>,
    source_matchers: Option<Vec<String>>,
    target_match: Option<BTreeMap<String, String>>,
    target_match_re: Option<BTreeMap<String, Option<String>>>,
    target_matchers: Option<Vec<String>>,
    equal: Option<Vec<String>>,
}

/// While an alert of the one kind fires, those of the other kind are not told.
#[derive(Debug, Clone)]
pub struct InhibitRule {
    /// Its name, if it has one.
    pub name: String,
    /// Which alerts inhibit.
    pub source: Vec<Matcher>,
    /// Which are inhibited.
    pub target: Vec<Matcher>,
    /// Labels that must be equal on both.
    pub equal: Vec<String>,
}

impl InhibitRule {
    pub(super) fn of(fields: Spanned<InhibitFields>) -> Result<Self, Located> {
        let line = fields.referenced.line();
        let fields = fields.value;
        let mut equal = fields.equal.unwrap_or_default();
        if let Some(name) = equal.iter().find(|name| name.is_empty()) {
            return Err(refused(
                line,
                format!("invalid label name {name:?} in equal list"),
            ));
        }
        equal.sort();
        equal.dedup();
        Ok(Self {
            name: fields.name.unwrap_or_default(),
            source: all_matchers(
                line,
                fields.source_match,
                fields.source_match_re,
                fields.source_matchers,
            )?,
            target: all_matchers(
                line,
                fields.target_match,
                fields.target_match_re,
                fields.target_matchers,
            )?,
            equal,
        })
    }
}
