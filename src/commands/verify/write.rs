//! Where a report goes: whole or not at all.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt as _, PutPayload};
use url::Url;

use crate::proof::report::Report;

/// A place for a report.
pub enum Destination {
    /// A file.
    File(PathBuf),
    /// An object in S3 or what speaks its protocol.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

impl Destination {
    /// Reads a file name or a URL.
    ///
    /// # Errors
    /// What to write instead.
    pub fn read(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let wrong = || format!("--report {text:?} is neither a file nor s3://BUCKET/KEY");
        let url = Url::parse(text).map_err(|_| wrong())?;
        let key = url.path().trim_start_matches('/').to_owned();
        match (url.scheme(), url.host_str()) {
            ("s3", Some(bucket)) if !key.is_empty() => Ok(Self::S3 { bucket: bucket.into(), key }),
            _ => Err(wrong()),
        }
    }

    /// Writes a report.
    ///
    /// # Errors
    /// Why it could not be written; then what was there before is still there.
    pub async fn write(&self, report: &Report) -> Result<(), String> {
        let mut text = serde_json::to_vec_pretty(report).map_err(|error| error.to_string())?;
        text.push(b'\n');
        match self {
            Self::File(path) => write_file(path, &text).map_err(|error| error.to_string()),
            Self::S3 { bucket, key } => {
                let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
                let store = store.map_err(|error| error.to_string())?;
                // One PUT is whole or not there.
                let key = object_store::path::Path::from(key.as_str());
                store.put(&key, PutPayload::from(text)).await.map(drop).map_err(|error| error.to_string())
            }
        }
    }
}

/// Beside it first, then in its place.
fn write_file(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = (|| {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_file_or_an_object() {
        let show = |text: &str| Destination::read(text).map(|destination| destination.to_string());
        assert_eq!(show("report.json").as_deref(), Ok("report.json"));
        assert_eq!(show("/tmp/a b/report.json").as_deref(), Ok("/tmp/a b/report.json"));
        assert_eq!(show("s3://reports/2026/run.json").as_deref(), Ok("s3://reports/2026/run.json"));
        for wrong in ["s3://bucket", "s3://bucket/", "ftp://host/file", "s3:///key"] {
            assert!(show(wrong).is_err_and(|error| error.contains("s3://BUCKET/KEY")), "{wrong}");
        }
    }
}
