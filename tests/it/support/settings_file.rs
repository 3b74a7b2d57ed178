//! A file of destinations, that a test changes.

use std::path::{Path, PathBuf};

use super::World;

/// A file in a directory of its own.
pub struct SettingsFile(PathBuf);

impl SettingsFile {
    pub fn new(world: &World, text: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-destinations", world.name));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = Self(directory.join("destinations.toml"));
        file.write(text);
        file
    }

    pub fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("the file is written");
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }

    pub fn directory(&self) -> &Path {
        self.0.parent().expect("it has a directory of its own")
    }
}
