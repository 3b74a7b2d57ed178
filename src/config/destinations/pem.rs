//! Certificates and keys, in PEM: looked at here, so that a wrong one is refused with its place and not by a connection.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Certificates that others are judged by.
///
/// # Errors
/// Why they are of no use.
pub(in crate::config) fn trusted(pem: &[u8]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(pem)?) {
        store.add(certificate).map_err(|error| format!("certificate {number} in it is of no use ({error})"))?;
    }
    Ok(())
}

/// How many certificates there are.
pub(super) fn count(pem: &[u8]) -> usize {
    CertificateDer::pem_slice_iter(pem).flatten().count()
}

/// A certificate, perhaps with those that lead to its issuer, and its key, one after the other.
///
/// # Errors
/// Why they are of no use together.
pub(in crate::config) fn identity(certificate: &[u8], key: &[u8]) -> Result<Arc<[u8]>, String> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(key).map_err(|_| no_key(key).to_owned())?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "certificate and key are of no use together: the key is another certificate's".to_owned()
        }
        _ => format!("certificate and key are of no use together ({error})"),
    })?;
    let both = if certificate == key { certificate.to_vec() } else { [certificate, b"\n", key].concat() };
    Ok(both.into())
}

/// Why there is no key.
fn no_key(key: &[u8]) -> &'static str {
    if key.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
        "the key is encrypted: give it as it is without its password (openssl pkey -in KEY -out PLAIN)"
    } else if is_der(key) {
        "the key is in DER: write it in PEM (openssl pkey -inform der -in KEY -out KEY.pem)"
    } else {
        "there is no private key in it (-----BEGIN PRIVATE KEY-----, not encrypted)"
    }
}

/// In the first line of an encrypted key, or in the second.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// A sequence, whose length is told by two more bytes.
fn is_der(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x30, 0x81]) || bytes.starts_with(&[0x30, 0x82])
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if is_der(pem) {
        return Err("a certificate in DER: write it in PEM (openssl x509 -inform der -in FILE -out FILE.pem)".into());
    }
    if pem.trim_ascii().is_empty() {
        return Err("there is nothing where a certificate should be (-----BEGIN CERTIFICATE-----)".into());
    }
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Err(_) => Err("it is no PEM (-----BEGIN CERTIFICATE-----)".into()),
        Ok(found) if found.is_empty() => Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".into()),
        Ok(found) => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_of_no_use_are_told_with_the_way_to_mend_them() {
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let (ours, other) = (made("ours"), made("other"));
        let (pem, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
        let (pem, key) = (pem.as_bytes(), key.as_bytes());
        let several = [other.cert.pem().as_bytes(), pem].concat();
        assert_eq!((trusted(&several), count(&several)), (Ok(()), 2));
        assert!(identity(pem, key).is_ok());
        for (wrong, told) in
            [(&ours.cert.der()[..], "openssl x509 -inform der"), (&b"\n"[..], "nothing"), (key, "no certificate")]
        {
            let refused = trusted(wrong).expect_err(told);
            assert!(refused.contains(told), "{refused}");
        }
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let of_old = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMA==\n\
                      -----END EC PRIVATE KEY-----\n";
        for (wrong, told) in [
            (ours.signing_key.serialized_der(), "openssl pkey -inform der"),
            (encrypted.as_bytes(), "the key is encrypted"),
            (of_old.as_bytes(), "the key is encrypted"),
            (pem, "no private key"),
            (other.signing_key.serialize_pem().as_bytes(), "the key is another certificate's"),
        ] {
            let refused = identity(pem, wrong).expect_err(told);
            assert!(refused.contains(told), "{refused}");
        }
    }
}
