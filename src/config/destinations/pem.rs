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
    let private = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "there is no private key in it (-----BEGIN PRIVATE KEY-----, not encrypted)".to_owned())?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider())
        .map_err(|error| format!("certificate and key are of no use together ({error})"))?;
    let both = if certificate == key { certificate.to_vec() } else { [certificate, b"\n", key].concat() };
    Ok(both.into())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Err(_) => Err("it is no PEM (-----BEGIN CERTIFICATE-----)".into()),
        Ok(found) if found.is_empty() => Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".into()),
        Ok(found) => Ok(found),
    }
}
