//! TLS, as the settings of a receiver want it.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::domain::destination::{Hidden, HttpVersion, Transport};

/// What certificates are judged by, and shown. The system's are read once: whoever is short of descriptors can't read them
/// again.
///
/// # Errors
/// There are no certificates to trust, or what was given can't be read.
pub(super) fn config(transport: &Transport) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder();
    let builder = match &transport.ca {
        None => builder.with_platform_verifier()?,
        Some(pem) => {
            let mut trusted = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
                trusted.add(certificate)?;
            }
            builder.with_root_certificates(trusted)
        }
    };
    let mut config = match &transport.client_certificate {
        None => builder.with_no_client_auth(),
        Some(Hidden(pem)) => {
            let chain = CertificateDer::pem_slice_iter(pem).flatten().collect();
            let key = PrivateKeyDer::from_pem_slice(pem)
                .map_err(|error| rustls::Error::General(format!("the client's key: {error}")))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    let protocols: &[&str] = match transport.version {
        HttpVersion::Auto => &["h2", "http/1.1"],
        HttpVersion::One => &["http/1.1"],
        HttpVersion::Two => &["h2"],
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}
