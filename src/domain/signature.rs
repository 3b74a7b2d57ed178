//! The signature of a request, as [Standard Webhooks](https://www.standardwebhooks.com) has it, in Base64 and over
//! `id.timestamp.body`: HMAC-SHA256 (`v1`) by a secret that the receiver has, too, or ed25519 (`v1a`) by a key of which the
//! receiver needs to know only the public half.
//!
//! The specification's own library signs text alone; an event's body is any bytes.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderValue;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::Sha256;

use super::event::IdempotencyKey;

/// What a secret of both sides begins with.
const SHARED: &str = "whsec_";
/// What a private key begins with.
const PRIVATE: &str = "whsk_";
/// What a public key begins with.
const PUBLIC: &str = "whpk_";
/// The length of a secret of both sides, in bytes.
const BYTES: RangeInclusive<usize> = 24..=64;
/// The length of a seed, from which a private key is made; the public key may stand behind it, as long again.
const SEED: usize = 32;
/// Secrets that sign at one time: those of a rotation, and some more.
const AT_MOST: usize = 8;

/// The secrets that requests are signed with; each makes a signature of its own. Never shown.
#[derive(Clone, Default)]
pub struct SigningSecrets(Vec<Secret>);

#[derive(Clone)]
enum Secret {
    /// Of both sides.
    Shared(Hmac<Sha256>),
    /// A private key.
    Private(Arc<Ed25519KeyPair>),
}

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
    #[error("secret {0} is not `{SHARED}` or `{PRIVATE}` and Base64 behind it")]
    Form(usize),
    /// A public key.
    #[error("secret {0} is a public key (`{PUBLIC}`), which is for the receiver: use the private one (`{PRIVATE}`)")]
    Public(usize),
    /// One of them has another length.
    #[error("secret {number} has {bytes} bytes, not {} to {}", BYTES.start(), BYTES.end())]
    Length {
        /// Which one, from 1.
        number: usize,
        /// How long it is.
        bytes: usize,
    },
    /// A private key of another length.
    #[error("secret {number} is a private key of {bytes} bytes, not {SEED} (the seed) or {} (with the public key)", SEED * 2)]
    KeyLength {
        /// Which one, from 1.
        number: usize,
        /// How long it is.
        bytes: usize,
    },
    /// A private key with another one's public key behind it.
    #[error("secret {0} is a private key whose public half does not belong to it")]
    Halves(usize),
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

fn read(number: usize, secret: &str) -> Result<Secret, SecretError> {
    let decode = |coded| STANDARD.decode(coded).map_err(|_| SecretError::Form(number));
    if let Some(coded) = secret.strip_prefix(PRIVATE) {
        return read_private(number, &decode(coded)?);
    }
    if secret.starts_with(PUBLIC) {
        return Err(SecretError::Public(number));
    }
    let bytes = decode(secret.strip_prefix(SHARED).ok_or(SecretError::Form(number))?)?;
    if !BYTES.contains(&bytes.len()) {
        return Err(SecretError::Length { number, bytes: bytes.len() });
    }
    Hmac::new_from_slice(&bytes).map(Secret::Shared).map_err(|_| SecretError::Form(number))
}

/// The specification says no more than "standard ed25519 key pair": tools write the seed alone, or as libsodium does with the
/// public key behind it.
fn read_private(number: usize, bytes: &[u8]) -> Result<Secret, SecretError> {
    let pair = match bytes.split_at_checked(SEED) {
        Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
        Some((seed, public)) if public.len() == SEED => Ed25519KeyPair::from_seed_and_public_key(seed, public),
        _ => return Err(SecretError::KeyLength { number, bytes: bytes.len() }),
    };
    pair.map(|pair| Secret::Private(Arc::new(pair))).map_err(|_| SecretError::Halves(number))
}

impl Secret {
    /// A signature, with what tells its kind.
    fn sign(&self, head: &[u8], body: &[u8]) -> String {
        match self {
            Self::Shared(secret) => {
                let code = secret.clone().chain_update(head).chain_update(body).finalize();
                format!("v1,{}", STANDARD.encode(code.into_bytes()))
            }
            // Ed25519 goes over what it signs twice: it has to be there in one piece.
            Self::Private(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(&[head, body].concat()))),
        }
    }
}

impl SigningSecrets {
    /// The value of `webhook-signature`, with a signature by each secret and spaces between them. None without secrets.
    /// `timestamp` is what `webhook-timestamp` says: seconds since 1970.
    #[must_use]
    pub fn sign(&self, key: &IdempotencyKey, timestamp: u64, body: &[u8]) -> Option<HeaderValue> {
        let head = format!("{}.{timestamp}.", key.as_str());
        let signatures: Vec<String> = self.0.iter().map(|secret| secret.sign(head.as_bytes(), body)).collect();
        if signatures.is_empty() { None } else { HeaderValue::try_from(signatures.join(" ")).ok() }
    }

    /// Whether these make the same signatures, in the same order.
    #[must_use]
    pub fn sign_as(&self, others: &Self) -> bool {
        let signatures = |secrets: &Self| secrets.0.iter().map(|secret| secret.sign(b"", b"")).collect::<Vec<_>>();
        signatures(self) == signatures(others)
    }
}

/// What may be known of them: how many are shared, and the public half of each private key, as receivers need it.
impl fmt::Display for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.0.iter().filter(|secret| matches!(secret, Secret::Shared(_))).count();
        let public = self.0.iter().filter_map(|secret| match secret {
            Secret::Private(pair) => Some(format!("{PUBLIC}{}", STANDARD.encode(pair.public_key()))),
            Secret::Shared(_) => None,
        });
        let shared = (shared > 0).then(|| format!("{shared} of {SHARED}…"));
        let shown: Vec<_> = shared.into_iter().chain(public).collect();
        if shown.is_empty() { f.write_str("none") } else { f.write_str(&shown.join(", ")) }
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
    /// The same request, signed by the key of Svix's test (`test_asymmetric_key_signing`).
    const KEY: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const KEY_SIGNATURE: &str =
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

    fn sign(secrets: &str) -> Option<HeaderValue> {
        let secrets: SigningSecrets = secrets.parse().expect("secrets");
        secrets.sign(&"msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned().into(), 1_614_265_330, br#"{"test": 2432232314}"#)
    }

    #[test]
    fn the_signature_is_that_of_the_specification() {
        assert_eq!(sign(SECRET).expect("a signature"), SIGNATURE);
    }

    #[test]
    fn a_private_key_is_its_seed_with_or_without_the_public_key() {
        assert_eq!(sign(KEY).expect("a signature"), KEY_SIGNATURE);
        let bytes = STANDARD.decode(&KEY[PRIVATE.len()..]).expect("Base64");
        let seed = format!("{PRIVATE}{}", STANDARD.encode(&bytes[..SEED]));
        assert_eq!(sign(&seed).expect("a signature"), KEY_SIGNATURE);
        let both = sign(&format!("{SECRET} {KEY}")).expect("signatures");
        assert_eq!(both, format!("{SIGNATURE} {KEY_SIGNATURE}"));
    }

    #[test]
    fn of_a_private_key_the_public_half_is_shown() {
        let shown = |secrets: &str| secrets.parse::<SigningSecrets>().expect("secrets").to_string();
        assert_eq!(
            shown(&format!("{KEY} {SECRET} {SECRET}")),
            "2 of whsec_…, whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
        );
        assert_eq!(SigningSecrets::default().to_string(), "none");
    }

    #[test]
    fn each_secret_makes_a_signature() {
        let other = format!("{SHARED}{}", STANDARD.encode([7; 64]));
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
        let long = |bytes: usize| format!("{SHARED}{}", STANDARD.encode(vec![1; bytes]));
        let table = [
            (String::new(), SecretError::None),
            ("hunter2".into(), SecretError::Form(1)),
            (format!("{SECRET} {SHARED}hunter2!"), SecretError::Form(2)),
            (SECRET.trim_start_matches(SHARED).into(), SecretError::Form(1)),
            (long(23), SecretError::Length { number: 1, bytes: 23 }),
            (long(65), SecretError::Length { number: 1, bytes: 65 }),
            (format!("{PRIVATE}hunter2!"), SecretError::Form(1)),
            (format!("{PUBLIC}hunter2"), SecretError::Public(1)),
            (format!("{PRIVATE}{}", STANDARD.encode([7; 31])), SecretError::KeyLength { number: 1, bytes: 31 }),
            (format!("{PRIVATE}{}", STANDARD.encode([7; 63])), SecretError::KeyLength { number: 1, bytes: 63 }),
            (format!("{PRIVATE}{}", STANDARD.encode([7; 64])), SecretError::Halves(1)),
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
