//! The signature of a request, as [Standard Webhooks](https://www.standardwebhooks.com) has it: HMAC-SHA256 (`v1`) over
//! `id.timestamp.body`, in Base64.
//!
//! The specification's own library signs text alone; an event's body is any bytes.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderValue;
use sha2::Sha256;

use super::event::IdempotencyKey;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// The length of a secret, in bytes.
const BYTES: RangeInclusive<usize> = 24..=64;
/// Secrets that sign at one time: those of a rotation, and some more.
const AT_MOST: usize = 8;

/// The secrets that requests are signed with; each makes a signature of its own. Never shown.
#[derive(Clone, Default)]
pub struct SigningSecrets(Vec<Hmac<Sha256>>);

/// Why something is no list of secrets. It does not say what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("there is no secret")]
    None,
    /// There are too many.
    #[error("there are more than {AT_MOST} secrets")]
    TooMany,
    /// One of them has another form.
    #[error("secret {0} is not `{PREFIX}` and Base64 behind it")]
    Form(usize),
    /// One of them has another length.
    #[error("secret {number} has {bytes} bytes, not {} to {}", BYTES.start(), BYTES.end())]
    Length {
        /// Which one, from 1.
        number: usize,
        /// How long it is.
        bytes: usize,
    },
}

impl FromStr for SigningSecrets {
    type Err = SecretError;

    /// Reads secrets with spaces between them.
    fn from_str(text: &str) -> Result<Self, SecretError> {
        let secrets = (1..).zip(text.split_whitespace()).map(|(number, secret)| read(number, secret));
        let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
        match secrets.len() {
            0 => Err(SecretError::None),
            1..=AT_MOST => Ok(Self(secrets)),
            _ => Err(SecretError::TooMany),
        }
    }
}

fn read(number: usize, secret: &str) -> Result<Hmac<Sha256>, SecretError> {
    let bytes = secret.strip_prefix(PREFIX).and_then(|coded| STANDARD.decode(coded).ok());
    let bytes = bytes.ok_or(SecretError::Form(number))?;
    if !BYTES.contains(&bytes.len()) {
        return Err(SecretError::Length { number, bytes: bytes.len() });
    }
    Hmac::new_from_slice(&bytes).map_err(|_| SecretError::Form(number))
}

impl SigningSecrets {
    /// The value of `webhook-signature`, with a signature by each secret and spaces between them. None without secrets.
    /// `timestamp` is what `webhook-timestamp` says: seconds since 1970.
    #[must_use]
    pub fn sign(&self, key: &IdempotencyKey, timestamp: u64, body: &[u8]) -> Option<HeaderValue> {
        let head = format!("{}.{timestamp}.", key.as_str());
        let sign = |secret: &Hmac<Sha256>| {
            let code = secret.clone().chain_update(head.as_bytes()).chain_update(body).finalize();
            format!("v1,{}", STANDARD.encode(code.into_bytes()))
        };
        let signatures: Vec<String> = self.0.iter().map(sign).collect();
        if signatures.is_empty() { None } else { HeaderValue::try_from(signatures.join(" ")).ok() }
    }
}

/// How many there are.
impl fmt::Display for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { fmt::Display::fmt(&self.0.len(), f) }
    }
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} signing secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn sign(secrets: &str) -> Option<HeaderValue> {
        let secrets: SigningSecrets = secrets.parse().expect("secrets");
        secrets.sign(&"msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned().into(), 1_614_265_330, br#"{"test": 2432232314}"#)
    }

    #[test]
    fn the_signature_is_that_of_the_specification() {
        assert_eq!(sign(SECRET).expect("a signature"), SIGNATURE);
    }

    #[test]
    fn each_secret_makes_a_signature() {
        let other = format!("{PREFIX}{}", STANDARD.encode([7; 64]));
        let both = sign(&format!("  {SECRET} {other}\n")).expect("signatures");
        let (first, second) = both.to_str().expect("text").split_once(' ').expect("two signatures");
        assert_eq!(first, SIGNATURE);
        assert!(second.starts_with("v1,") && second != first, "{second}");
        assert_eq!(SigningSecrets::default().sign(&"key".to_owned().into(), 0, b""), None);
    }

    #[test]
    fn any_bytes_can_be_signed_and_each_counts() {
        let secrets: SigningSecrets = SECRET.parse().expect("a secret");
        let key: IdempotencyKey = "key".to_owned().into();
        let signed = |time, body: &[u8]| secrets.sign(&key, time, body).expect("a signature");
        let signatures = [signed(1, b"\xff\0"), signed(1, b"\xff\x01"), signed(2, b"\xff\0"), signed(1, b"")];
        for (at, one) in signatures.iter().enumerate() {
            assert!(!signatures[at + 1..].contains(one), "{at}");
        }
    }

    #[test]
    fn what_is_no_secret_is_told_without_showing_it() {
        let long = |bytes: usize| format!("{PREFIX}{}", STANDARD.encode(vec![1; bytes]));
        let table = [
            (String::new(), SecretError::None),
            ("hunter2".into(), SecretError::Form(1)),
            (format!("{SECRET} {PREFIX}hunter2!"), SecretError::Form(2)),
            (SECRET.trim_start_matches(PREFIX).into(), SecretError::Form(1)),
            (long(23), SecretError::Length { number: 1, bytes: 23 }),
            (long(65), SecretError::Length { number: 1, bytes: 65 }),
            ([SECRET; AT_MOST + 1].join(" "), SecretError::TooMany),
        ];
        for (text, wrong) in table {
            let told = text.parse::<SigningSecrets>().expect_err(&text);
            assert_eq!(told, wrong, "{text}");
            assert!(!told.to_string().contains("hunter2"), "{told}");
        }
        for bytes in [24, 64] {
            assert!(long(bytes).parse::<SigningSecrets>().is_ok(), "{bytes}");
        }
        assert_eq!(format!("{:?}", SECRET.parse::<SigningSecrets>()), "Ok(1 signing secrets)");
    }
}
