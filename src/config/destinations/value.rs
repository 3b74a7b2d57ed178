//! Values of the file, each with its place.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::Complaint;

/// The longest part of a value that a complaint repeats, in characters.
const SHOWN: usize = 60;

/// A value, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) at: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    pub(super) fn new(spanned: &'a Spanned<DeValue<'a>>) -> Self {
        Self { at: spanned.span().start, value: spanned.get_ref() }
    }

    /// Something is wrong with it.
    pub(super) fn wrong(self, what: impl Into<String>) -> Complaint {
        Complaint { at: self.at, what: what.into() }
    }

    /// It has another type. What it says is not repeated: it may be secret.
    pub(super) fn mistyped(self, write: &str) -> Complaint {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or a time of day",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.wrong(format!("this is {found}: write {write}"))
    }

    pub(super) fn text(self, write: &str) -> Result<&'a str, Complaint> {
        self.value.as_str().ok_or_else(|| self.mistyped(write))
    }

    pub(super) fn as_table(self) -> Option<&'a DeTable<'a>> {
        self.value.as_table()
    }

    pub(super) fn table(self, write: &str) -> Result<&'a DeTable<'a>, Complaint> {
        self.as_table().ok_or_else(|| self.mistyped(write))
    }

    /// Whether it is a table that says nothing by this key.
    pub(super) fn lacks(self, key: &str) -> bool {
        self.as_table().is_some_and(|table| table.keys().all(|name| name.get_ref() != key))
    }

    /// What a table says by these keys, and no others.
    pub(super) fn fields<const N: usize>(self, keys: [&str; N]) -> Result<[Option<Item<'a>>; N], Complaint> {
        let write = format!("a table of {}", keys.join(", "));
        let mut fields = [None; N];
        for (key, value) in self.table(&write)? {
            let Some(place) = keys.iter().position(|known| key.get_ref() == known) else {
                let what = format!("{} is not known here: use {}", shown(key.get_ref()), keys.join(", "));
                return Err(Complaint { at: key.span().start, what });
            };
            fields[place] = Some(Item::new(value));
        }
        Ok(fields)
    }

    pub(super) fn as_list(self) -> Option<impl Iterator<Item = Item<'a>>> {
        self.value.as_array().map(|array| array.iter().map(Item::new))
    }

    pub(super) fn is_text(self) -> bool {
        self.value.is_str()
    }

    /// Whether the setting is taken away.
    pub(super) fn is_false(self) -> bool {
        self.value.as_bool() == Some(false)
    }

    pub(super) fn truth(self) -> Result<bool, Complaint> {
        self.value.as_bool().ok_or_else(|| self.mistyped("true or false"))
    }

    /// A list of texts; one text is a list of one.
    pub(super) fn texts(self, write: &str) -> Result<Vec<(Item<'a>, &'a str)>, Complaint> {
        match self.as_list() {
            Some(items) => items.map(|item| item.text(write).map(|text| (item, text))).collect(),
            None => self.text(write).map(|text| vec![(self, text)]),
        }
    }

    pub(super) fn as_integer(self) -> Option<i64> {
        let integer = self.value.as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    pub(super) fn integer(self, from: u16, to: u16) -> Result<u16, Complaint> {
        let write = format!("a whole number from {from} to {to}");
        let number = self.value.as_integer().ok_or_else(|| self.mistyped(&write))?;
        let fits = self.as_integer().and_then(|number| u16::try_from(number).ok());
        fits.filter(|fits| (from..=to).contains(fits))
            .ok_or_else(|| self.wrong(format!("{} is out of bounds: write {write}", shown(number.as_str()))))
    }

    /// A number with or without a fraction.
    pub(super) fn number(self, from: f64, to: f64) -> Result<f64, Complaint> {
        let write = format!("a number from {from} to {to}");
        let text = match self.value {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => return Err(self.mistyped(&write)),
        };
        // What is no number at all fails the bounds, too.
        let number = text.parse::<f64>().unwrap_or(f64::NAN);
        if (from..=to).contains(&number) {
            Ok(number)
        } else {
            Err(self.wrong(format!("{} is out of bounds: write {write}", shown(text))))
        }
    }

    pub(super) fn time(self, from: Duration, to: Duration) -> Result<Duration, Complaint> {
        let text = self.text("a time in quotes, such as \"500ms\", \"5s\" or \"2min\"")?;
        let time = crate::config::duration(text).map_err(|wrong| self.wrong(format!("{}: {wrong}", shown(text))))?;
        let show = humantime::format_duration;
        if time < from {
            return Err(self.wrong(format!("{} is too short: use {} or more", show(time), show(from))));
        }
        if time > to {
            return Err(self.wrong(format!("{} is too long: use {} or less", show(time), show(to))));
        }
        Ok(time)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(self, words: &[(&str, T)]) -> Result<T, Complaint> {
        let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let known = known.join(" or ");
        let text = self.text(&known)?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| self.wrong(format!("{} is not known: write {known}", shown(text))))
    }
}

/// A text that is not secret, in quotes and not too long.
pub(in crate::config) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
