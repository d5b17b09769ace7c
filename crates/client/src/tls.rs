//! The client's side of TLS.

use std::sync::{Arc, LazyLock};

use kittiwake_config::{SecretSource, TlsClient, TlsVersion};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::verify::NoVerification;
use crate::{ClientError, secret, setting};

/// The system's authorities, read once for all clients. Without them plain targets are still
/// reached.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// How to speak TLS by these settings; the name to ask for is left to the caller.
pub fn client_config(tls: &TlsClient) -> Result<ClientConfig, ClientError> {
    let failed = |reason: String| setting("tls_config")(reason);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let min = tls.min_version.unwrap_or(TlsVersion::Tls12);
    let max = tls.max_version.unwrap_or(TlsVersion::Tls13);
    let mut versions = Vec::new();
    if max >= TlsVersion::Tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if min <= TlsVersion::Tls12 && max >= TlsVersion::Tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|e| failed(e.to_string()))?;
    let builder = if tls.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoVerification::new(&provider)))
    } else {
        builder.with_root_certificates(match &tls.authorities {
            None => Arc::clone(&SYSTEM),
            Some(source) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(source)? {
                    roots.add(certificate).map_err(|e| failed(e.to_string()))?;
                }
                Arc::new(roots)
            }
        })
    };
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(secret(key)?.as_bytes());
            let key = key.map_err(|e| failed(e.to_string()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key)
                .map_err(|e| failed(e.to_string()))
        }
    }
}

fn certificates(source: &SecretSource) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let pem = secret(source)?;
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| setting("tls_config")(e.to_string()))
}
