//! What the file refers to: other files, and variables.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::complaint::Complaint;
use super::value::{Item, shown};
use super::{LONGEST_FILE, LONGEST_IN_ALL};
use crate::config::given::read_file;

/// How a value may be given that is better not in the file itself.
const FORMS: &str = "text, { file = \"PATH\" } or { variable = \"NAME\" }";

/// A text, and the file or variable that it came from, if it did because it is secret.
pub(super) struct Found {
    pub(super) text: String,
    pub(super) from: Option<String>,
}

/// Reads what the file refers to, and takes it into the digest.
pub(super) struct Sources {
    directory: PathBuf,
    digest: Sha256,
    /// Bytes that may still be read.
    left: usize,
}

impl Sources {
    /// Paths are meant from the directory of the file, whose text is this.
    pub(super) fn new(file: &Path, text: &str) -> Self {
        let directory = file.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut sources = Self { directory, digest: Sha256::new(), left: LONGEST_IN_ALL };
        sources.note(text.as_bytes());
        sources
    }

    /// A value that may be secret: as text, or where it is.
    pub(super) fn find(&mut self, item: Item<'_>) -> Result<Found, Complaint> {
        if item.is_text() {
            return Ok(Found { text: item.text(FORMS)?.to_owned(), from: None });
        }
        let table = item.table(FORMS)?;
        let mut parts = table.iter();
        let (Some((key, place)), None) = (parts.next(), parts.next()) else {
            return Err(item.wrong(format!("this says too much or too little: write {FORMS}")));
        };
        let place = Item::new(place);
        let (text, from) = match &**key.get_ref() {
            "file" => {
                let (path, bytes) = self.read(place)?;
                let text = String::from_utf8(bytes).map_err(|_| place.wrong(format!("{path} is no text in UTF-8")))?;
                // Editors and `echo` end a file with a new line.
                (text.trim_end_matches(['\n', '\r']).to_owned(), path)
            }
            "variable" => (self.variable(place)?, format!("the variable {}", place.text(FORMS)?)),
            other => return Err(Complaint { at: key.span().start, what: unknown(other, "file, variable") }),
        };
        if text.is_empty() {
            return Err(place.wrong("there is nothing in it: fill it, or leave this out"));
        }
        Ok(Found { text, from: Some(from) })
    }

    /// The path as it is to be shown, and what is in that file.
    pub(super) fn read(&mut self, item: Item<'_>) -> Result<(String, Vec<u8>), Complaint> {
        let path = item.text("the path of a file in quotes")?;
        if path.is_empty() {
            return Err(item.wrong("this path is empty: write that of a file"));
        }
        let bytes = read_file(&self.directory.join(path), LONGEST_FILE)
            .map_err(|wrong| item.wrong(format!("{path}: {wrong}")))?;
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(|| {
            item.wrong(format!(
                "all files together are larger than {LONGEST_IN_ALL} bytes: set what is common in [defaults]"
            ))
        })?;
        self.note(&bytes);
        Ok((path.to_owned(), bytes))
    }

    #[expect(clippy::disallowed_methods, reason = "`config` is the room that reads the environment")]
    fn variable(&mut self, item: Item<'_>) -> Result<String, Complaint> {
        let name = item.text("the name of a variable in quotes")?;
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(item.wrong(format!("{} is no name of a variable", shown(name))));
        }
        let text = std::env::var(name).map_err(|wrong| match wrong {
            std::env::VarError::NotPresent => item.wrong(format!("the variable {} is not set: set it", shown(name))),
            std::env::VarError::NotUnicode(_) => {
                item.wrong(format!("the variable {} is no text in UTF-8", shown(name)))
            }
        })?;
        self.note(text.as_bytes());
        Ok(text)
    }

    /// Lengths keep what is read one after the other apart.
    fn note(&mut self, bytes: &[u8]) {
        self.digest.update((bytes.len() as u64).to_be_bytes());
        self.digest.update(bytes);
    }

    pub(super) fn digest(self) -> String {
        self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A key that nothing is meant by.
pub(super) fn unknown(key: &str, known: &str) -> String {
    format!("{} is not known here: use {known}", shown(key))
}
