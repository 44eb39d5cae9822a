//! `wss://` on loopback: a CA of our own signs the server, and where asked the client.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::SinkExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

use super::server::{Server, accept, read_close};
use super::{Feed, Seen, quick, source, with};

/// A certificate authority, and a folder for what the options name.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self {
            issuer,
            folder: TempDir::new().expect("a folder"),
        }
    }

    /// A certificate for `name`, and its key.
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (
            params.signed_by(&key, &self.issuer).expect("a certificate"),
            key,
        )
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("a writable folder");
        path
    }

    fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }
}

/// A server for `name`; asks clients for a certificate of `clients`, if there is one.
async fn server(authority: &Authority, name: &str, clients: Option<&Authority>) -> Server {
    let (certificate, key) = authority.issue(name);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the versions of the provider");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der()).expect("a certificate");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a root"))
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = builder
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let (mut socket, ..) = accept(stream).await;
            socket
                .send(Message::text("in secret"))
                .await
                .expect("a client");
            read_close(&mut socket).await;
        }
    })
    .await
}

fn options(server: &Server, more: Value) -> Value {
    let url = format!("wss://localhost:{}/", server.address.port());
    with(quick(&url), more)
}

#[tokio::test]
async fn a_ca_file_is_trusted_and_only_that() {
    let ours = Authority::new();
    let server = server(&ours, "localhost", None).await;
    let ca = ours.file("ca.pem", &ours.issuer.pem());
    let mut feed = Feed::start(options(&server, json!({"tls.ca_file": ca})));
    feed.expect(&[Seen::Connected, Seen::Line("in secret".to_owned())])
        .await;

    let theirs = Authority::new();
    let ca = theirs.file("ca.pem", &theirs.issuer.pem());
    let mut feed = Feed::start(options(&server, json!({"tls.ca_file": ca})));
    let reason = feed.failed().await;
    assert!(reason.contains("invalid peer certificate"), "{reason}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let ours = Authority::new();
    let server = server(&ours, "example.com", None).await;
    let ca = ours.file("ca.pem", &ours.issuer.pem());
    let options = options(&server, json!({"tls.ca_file": ca}));
    let error = source(&options)
        .validate()
        .await
        .expect_err("not its name")
        .to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn the_client_shows_its_certificate() {
    let ours = Authority::new();
    let clients = Authority::new();
    let server = server(&ours, "localhost", Some(&clients)).await;
    let ca = ours.file("ca.pem", &ours.issuer.pem());
    let (certificate, key) = clients.issue("client");
    let identity = json!({
        "tls.ca_file": ca,
        "tls.cert_file": clients.file("cert.pem", &certificate.pem()),
        "tls.key_file": clients.file("key.pem", &key.serialize_pem()),
    });
    let mut feed = Feed::start(options(&server, identity));
    feed.expect(&[Seen::Connected, Seen::Line("in secret".to_owned())])
        .await;
    let mut feed = Feed::start(options(&server, json!({"tls.ca_file": ca})));
    feed.disconnected().await;
}

#[tokio::test]
async fn unusable_files_are_named() {
    let ours = Authority::new();
    let server = server(&ours, "localhost", None).await;
    let empty = ours.file("empty.pem", "nothing here");
    for (file, reason) in [
        (empty, "it holds no certificate"),
        ("/absent.pem".into(), "I/O error"),
    ] {
        let options = options(&server, json!({"tls.ca_file": file}));
        let error = source(&options)
            .validate()
            .await
            .expect_err("no CA")
            .to_string();
        let expected = format!("cannot use tls.ca_file {}: {reason}", file.display());
        assert!(error.contains(&expected), "{error}");
    }
}
