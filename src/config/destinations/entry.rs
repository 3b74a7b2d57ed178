//! From the tables of the file to destinations.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::complaint::{Complaint, Complaints, Lines};
use super::context::Context;
use super::pattern;
use super::settings::{RULES, Rule, Setting, settings};
use super::source::{Sources, unknown};
use super::value::{Item, shown};
use super::{Heading, Limits, MOST_ENTRIES, Origin, Origins, Sheet};
use crate::domain::backoff::{Backoff, Delays, TICK};
use crate::domain::destination::{Destination, Destinations};
use crate::domain::event::{MAX_NAME_BYTES, Target};

/// An entry as far as it is read, with where its values come from.
#[derive(Clone)]
struct Entry {
    destination: Destination,
    origins: Origins,
}

/// A file as far as it is read.
pub(super) struct Reading<'a> {
    lines: &'a Lines<'a>,
    context: Context,
    defaults: Entry,
    names: Vec<(String, Destination)>,
    patterns: Vec<(String, Destination)>,
    origins: HashMap<Heading, Origins>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(lines: &'a Lines<'a>, flags: &Destination, sources: Sources, limits: Limits) -> Self {
        let backoff = match flags.policy.delays {
            Delays::Growing(backoff) => backoff,
            // The flags know no list.
            Delays::Listed { jitter, .. } => Backoff { initial: TICK, max: TICK, factor: 1.0, jitter },
        };
        Self {
            lines,
            context: Context { sources, limits, backoff },
            defaults: Entry { destination: flags.clone(), origins: Origins::new() },
            names: Vec::new(),
            patterns: Vec::new(),
            origins: HashMap::new(),
        }
    }

    /// Reads all entries, the defaults first.
    pub(super) fn file(&mut self, table: &'a DeTable<'a>, complaints: &mut Complaints) {
        let [mut defaults, mut names, mut hosts] = [None; 3];
        for (key, value) in table {
            match &**key.get_ref() {
                "defaults" => defaults = Some(value),
                "names" => names = Some(value),
                "hosts" => hosts = Some(value),
                other => {
                    complaints.add(key.span().start, unknown(other, "[defaults], [names.NAME] or [hosts.\"HOST\"]"));
                }
            }
        }
        if let Some(defaults) = defaults {
            let entry = self.entry(&Heading::Defaults, Item::new(defaults), complaints);
            self.defaults = entry;
        }
        self.origins.insert(Heading::Defaults, self.defaults.origins.clone());
        let sections = [(names, "[names.NAME]"), (hosts, "[hosts.\"HOST\"]")];
        for (is_name, (section, write)) in [true, false].into_iter().zip(sections) {
            let Some(section) = section.map(Item::new) else { continue };
            for (key, value) in complaints.note(section.table(write)).into_iter().flatten() {
                if self.names.len() + self.patterns.len() == MOST_ENTRIES {
                    complaints.add(
                        key.span().start,
                        format!("there are more than {MOST_ENTRIES} entries: use a pattern for several"),
                    );
                    return;
                }
                if is_name { self.name(key, value, complaints) } else { self.host(key, value, complaints) }
            }
        }
    }

    fn name(&mut self, key: &'a Spanned<DeString<'a>>, value: &'a Spanned<DeValue<'a>>, complaints: &mut Complaints) {
        let (at, name) = (key.span().start, key.get_ref());
        if !Target::is_name(name) {
            let write = format!("1 to {MAX_NAME_BYTES} of a-z, 0-9, -, _ and ., beginning with a letter");
            complaints.add(at, format!("{} is no name of a destination: use {write}", shown(name)));
            return;
        }
        let heading = Heading::Name(name.to_string());
        let mut entry = self.entry(&heading, Item::new(value), complaints);
        if Item::new(value).lacks("url") {
            complaints.add(at, format!("{heading} has no url: add where its requests go"));
        }
        entry.destination.entry = name.as_ref().into();
        self.names.push((name.to_string(), entry.destination));
        self.origins.insert(heading, entry.origins);
    }

    fn host(&mut self, key: &'a Spanned<DeString<'a>>, value: &'a Spanned<DeValue<'a>>, complaints: &mut Complaints) {
        let at = key.span().start;
        let pattern = pattern::normal(key.get_ref()).map_err(|what| Complaint { at, what });
        let Some(pattern) = complaints.note(pattern) else { return };
        let heading = Heading::Host(pattern.clone());
        if self.origins.contains_key(&heading) {
            complaints.add(at, format!("{heading} is there twice, in different spellings: leave one out"));
            return;
        }
        let mut entry = self.entry(&heading, Item::new(value), complaints);
        entry.destination.entry = pattern.as_str().into();
        self.patterns.push((pattern, entry.destination));
        self.origins.insert(heading, entry.origins);
    }

    /// The defaults, and what the entry sets over them.
    fn entry(&mut self, heading: &Heading, item: Item<'a>, complaints: &mut Complaints) -> Entry {
        let mut entry = self.defaults.clone();
        let mut set: Vec<(&'static str, usize)> = Vec::new();
        let Some(table) = complaints.note(item.table("a table of settings")) else { return entry };
        for (key, at, item) in flat(table) {
            let Some(setting) = settings().iter().find(|setting| setting.key == key) else {
                complaints.add(at, unknown(&key, &known(heading)));
                continue;
            };
            if setting.key == "url" && !matches!(heading, Heading::Name(_)) {
                complaints.add(at, "only what is called by its name has a url: write [names.NAME], or leave it out");
                continue;
            }
            set.push((setting.key, at));
            if complaints.note(self.set(&mut entry.destination, setting, item)).is_some() {
                let line = self.lines.position(at).0;
                entry.origins.insert(setting.key, Origin { heading: heading.clone(), line });
            }
        }
        for Rule { keys, broken } in RULES {
            // What the defaults alone break was said there.
            let last = set.iter().filter(|(key, _)| keys.contains(key)).map(|(_, at)| *at).max();
            if let Some((at, what)) = last.and_then(|at| broken(&entry.destination).map(|what| (at, what))) {
                complaints.add(at, what);
            }
        }
        let grows = set.iter().find(|(key, _)| ["backoff.initial", "backoff.factor", "backoff.max"].contains(key));
        if let (Some((key, at)), true) = (grows, set.iter().any(|(key, _)| *key == "backoff.delays")) {
            complaints.add(*at, format!("a list of delays does not grow: leave out {key}, or the list"));
        }
        entry
    }

    fn set(&mut self, to: &mut Destination, setting: &Setting, item: Item<'_>) -> Result<(), Complaint> {
        match setting.clear {
            Some(clear) if item.is_false() => {
                clear(to);
                Ok(())
            }
            _ => (setting.read)(to, item, &mut self.context),
        }
    }

    /// All was right.
    pub(super) fn end(self) -> Sheet {
        let counts = (self.names.len(), self.patterns.len());
        let mut destinations = Destinations::new(self.defaults.destination);
        for (name, destination) in self.names {
            destinations.add_name(&name, destination);
        }
        for (pattern, destination) in self.patterns {
            destinations.add_pattern(&pattern, destination);
        }
        destinations.digest = self.context.sources.digest();
        Sheet { destinations, counts, origins: self.origins }
    }
}

/// The settings of a table, those of `backoff` with a dot. A list there is short for `backoff.delays`.
fn flat<'a>(table: &'a DeTable<'a>) -> Vec<(String, usize, Item<'a>)> {
    let mut found = Vec::new();
    for (key, value) in table {
        let (name, at, item) = (key.get_ref(), key.span().start, Item::new(value));
        match item.as_table() {
            Some(inner) if name == "backoff" => {
                let inner = inner
                    .iter()
                    .map(|(key, value)| (format!("{name}.{}", key.get_ref()), key.span().start, Item::new(value)));
                found.extend(inner);
            }
            None if name == "backoff" => found.push((format!("{name}.delays"), at, item)),
            _ => found.push((name.to_string(), at, item)),
        }
    }
    found
}

fn known(heading: &Heading) -> String {
    let keys = settings().iter().map(|setting| setting.key);
    let keys = keys.filter(|key| *key != "url" || matches!(heading, Heading::Name(_)));
    keys.collect::<Vec<_>>().join(", ")
}
