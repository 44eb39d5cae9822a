//! TLS for `wss://`: whom to trust, and how to show who we are.
//!
//! rustls with the *ring* provider, named explicitly in every configuration, so that nothing
//! depends on which provider a process has installed as its default. The roots are those of the
//! machine, or exactly those of `tls.ca_file`. The files are read again for every connection: a
//! renewed certificate counts from the next reconnect on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::policy::Trouble;
use crate::shown::excerpt;

/// How much of the reason for a failed handshake is shown, bytes.
const REASON_MAX: usize = 400;

/// The files of `tls.*`.
#[derive(Debug, Clone, Default)]
pub(super) struct Tls {
    /// PEM certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain and its key, both PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Reads the files and makes a configuration of them. Blocks on the disk.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Trouble> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Trouble::lasting(error.to_string()))?
            .with_root_certificates(self.roots()?);
        let Some((cert_file, key_file)) = &self.identity else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| unreadable("tls.key_file", key_file, &error))?;
        let config = builder
            .with_client_auth_cert(certificates("tls.cert_file", cert_file)?, key)
            .map_err(|error| unreadable("tls.cert_file", cert_file, &error))?;
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, Trouble> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.ca_file {
            for certificate in certificates("tls.ca_file", file)? {
                roots
                    .add(certificate)
                    .map_err(|error| unreadable("tls.ca_file", file, &error))?;
            }
            return Ok(roots);
        }
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(Trouble::passing(
                "this machine has no root certificates; install them or name some in tls.ca_file",
            ));
        }
        Ok(roots)
    }
}

/// All certificates of a PEM file; at least one.
fn certificates(option: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(option, file, &error))?;
    if all.is_empty() {
        return Err(unreadable(option, file, &"it holds no certificate"));
    }
    Ok(all)
}

fn unreadable(option: &str, file: &Path, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::lasting(format!("cannot use {option} {}: {error}", file.display()))
}

/// What a failed TLS handshake means: a certificate that is only out of date may be renewed, one
/// that is not for us never becomes ours.
pub(super) fn trouble(error: &std::io::Error) -> Option<Trouble> {
    use rustls::{CertificateError as Certificate, Error};
    let tls = error.get_ref()?.downcast_ref::<Error>()?;
    // It may list the names in a certificate, as many as the server likes.
    let reason = format!("TLS: {}", excerpt(tls.to_string().as_bytes(), REASON_MAX));
    let lasting = match tls {
        Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => false,
        Error::InvalidCertificate(_) => true,
        _ => false,
    };
    Some(if lasting {
        Trouble::lasting(reason)
    } else {
        Trouble::passing(reason)
    })
}
