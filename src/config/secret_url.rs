//! URLs that may hold a password.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// A URL that may hold a password: it is never printed.
#[derive(Clone)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL with its password, for connecting.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// With more at its end, as it is given.
    pub(super) fn extended(&self, more: &str) -> Self {
        Self(format!("{}{more}", self.0))
    }
}

impl FromStr for SecretUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The parse error is not shown with the text: it may hold the password.
        Url::parse(text).map_err(|error| format!("not a URL ({error})"))?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(mut url) = Url::parse(&self.0) else { return f.write_str("***") };
        if url.password().is_some() {
            let _ = url.set_password(Some("***"));
        }
        url.set_query(None);
        url.set_fragment(None);
        write!(f, "{url}")
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
