//! Files that settings and command lines name: each is read whole, if it is a file and not too long.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// What is in a file that is not longer than so many bytes.
///
/// # Errors
/// Why not, without the file's name.
pub fn read_file(path: &Path, longest: u64) -> Result<Vec<u8>, String> {
    let kind = std::fs::metadata(path).map_err(|error| unreadable(&error))?.file_type();
    // A pipe that nobody writes to would be waited for without end, and a device may have none.
    if !kind.is_file() {
        let what = match kind {
            kind if kind.is_dir() => "directory",
            kind if kind.is_fifo() => "pipe",
            kind if kind.is_socket() => "socket",
            _ => "device",
        };
        return Err(format!("this is a {what}, not a file: name a file"));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(longest + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(unreadable(&error)),
        Ok(length) if length as u64 > longest => Err(format!("it is larger than {longest} bytes")),
        Ok(_) => Ok(bytes),
    }
}

/// What is in a file that is text.
///
/// # Errors
/// Why not, without the file's name.
pub fn read_text(path: &Path, longest: u64) -> Result<String, String> {
    String::from_utf8(read_file(path, longest)?).map_err(|_| "it is not text in UTF-8: save it as UTF-8".into())
}

/// Why a file can't be read, and what to do where that is not plain.
fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{error}: let the user that runs this program read it, and enter its directory")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_not_be_read_is_refused_with_what_to_do() {
        assert!(
            unreadable(&io::ErrorKind::PermissionDenied.into())
                .contains(": let the user that runs this program read it")
        );
        assert_eq!(unreadable(&io::ErrorKind::NotFound.into()), io::Error::from(io::ErrorKind::NotFound).to_string());
    }

    #[test]
    fn what_blocks_or_never_ends_is_refused_by_what_it_is() {
        let read = |path: &str| read_file(Path::new(path), 10);
        assert_eq!(read("/"), Err("this is a directory, not a file: name a file".into()));
        assert_eq!(read("/dev/zero"), Err("this is a device, not a file: name a file".into()));
        assert_eq!(read("/proc/self/status"), Err("it is larger than 10 bytes".into()));
    }
}
