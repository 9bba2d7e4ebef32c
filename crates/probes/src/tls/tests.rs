//! Every way to agree on TLS or not, by https checks of real servers on the loopback.

use std::sync::mpsc;
use std::time::Duration;

use mainstay_types::HttpTarget;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::testing::{Authority, Identity, ca_file};
use super::*;
use crate::http;

/// Long enough for a busy machine; a test that waits for it has failed.
const AMPLE: Duration = Duration::from_secs(20);
/// For tests whose point is that it runs out.
const SHORT: Duration = Duration::from_millis(300);

/// A server that answers each request, once the handshake is done, with `OK` and the end of the connection. Reports
/// the name asked for and the protocol agreed upon.
async fn serve(config: ServerConfig) -> (u16, mpsc::Receiver<(Option<String>, Option<Vec<u8>>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (tell, told) = mpsc::channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // What becomes of a handshake that the client gives up is seen at the client.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let connection = stream.get_ref().1;
            let _ = tell.send((
                connection.server_name().map(str::to_owned),
                connection.alpn_protocol().map(<[u8]>::to_vec),
            ));
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nready").await;
            let _ = stream.flush().await;
            // Closes without the notice TLS wants, as many servers do.
            let (mut plain, _) = stream.into_inner();
            let _ = plain.shutdown().await;
        }
    });
    (port, told)
}

/// A server that does this with each connection's stream instead of a handshake.
async fn plain(answer: &'static [u8], reset: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 4096];
        assert!(stream.read(&mut hello).await.unwrap() > 0);
        stream.write_all(answer).await.unwrap();
        if reset {
            // Closing with a linger of zero sends a reset (socket(7), SO_LINGER).
            stream.set_zero_linger().unwrap();
        }
    });
    port
}

async fn ask(host: &str, port: u16, ca: Option<&CaFile>, timeout: Duration) -> Result<String, ProbeFailure> {
    let address = HostPort { host: host.to_owned(), port };
    let target = HttpTarget { tls: true, address, path: "/".to_owned() };
    http::check(&http::Question { target: &target, status: None, body: None, ca }, timeout).await
}

/// The message of a failure of TLS.
fn message(answer: Result<String, ProbeFailure>) -> String {
    match answer {
        Err(ProbeFailure::Tls { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_right_authority_and_name_pass() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.file(folder.path());
    for (name, sni) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let mut config = authority.identity(name).server();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (port, told) = serve(config).await;
        assert_eq!(ask(name, port, Some(&ca), AMPLE).await, Ok("HTTP 200".to_owned()), "{name}");
        assert_eq!(told.recv().unwrap(), (sni.map(str::to_owned), Some(b"http/1.1".to_vec())), "{name}");
    }
}

#[tokio::test]
async fn tls_12_alone_passes() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let identity = authority.identity("127.0.0.1");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key())
        .unwrap();
    let (port, _) = serve(config).await;
    let ca = authority.file(folder.path());
    assert_eq!(ask("127.0.0.1", port, Some(&ca), AMPLE).await, Ok("HTTP 200".to_owned()));
}

#[tokio::test]
async fn certificates_that_are_not_good_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.file(folder.path());
    let other_ca = Authority::named("another").file(folder.path());
    let new_ca = Authority::new().file(folder.path());
    let params = |change: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        params
    };
    let own = Identity::self_signed(&params(|_| {}));
    let own_ca = ca_file(folder.path(), own.pem());
    let own_authority = params(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let own_authority = Identity::self_signed(&own_authority);
    let own_authority_ca = ca_file(folder.path(), own_authority.pem());
    let many = (0..7).map(|number| format!("{number}.example")).collect::<Vec<_>>();
    for (identity, ca, words) in [
        (
            authority.identity("127.0.0.1"),
            &other_ca,
            format!(
                "its certificate is not signed by an authority in {}, or it does not send the certificates between",
                other_ca.0.display()
            ),
        ),
        (
            authority.identity("127.0.0.1"),
            &new_ca,
            format!(
                "its certificate names the authority in {}, but is signed with another key: was that authority made anew?",
                new_ca.0.display()
            ),
        ),
        (
            authority.identity("db.example"),
            &ca,
            "its certificate is for db.example, not for 127.0.0.1".to_owned(),
        ),
        (
            authority.sign(&CertificateParams::new(many).unwrap()),
            &ca,
            "its certificate is for 0.example, 1.example, 2.example, 3.example, 4.example and 2 more, not for 127.0.0.1"
                .to_owned(),
        ),
        (
            authority.sign(&params(|params| params.subject_alt_names.clear())),
            &ca,
            "its certificate is for no name at all, and so not for 127.0.0.1: it lacks a subjectAltName".to_owned(),
        ),
        (
            authority.sign(&params(|params| params.not_after = date_time_ymd(2020, 1, 2))),
            &ca,
            "its certificate has expired on 2020-01-02T00:00:00Z".to_owned(),
        ),
        (
            authority.sign(&params(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            })),
            &ca,
            "its certificate is not for servers (extended key usage)".to_owned(),
        ),
        (
            Identity::self_signed(&params(|_| {})),
            &ca,
            format!("its certificate is signed by itself, and is not the one in {}", ca.0.display()),
        ),
        (
            own_authority,
            &own_authority_ca,
            "its certificate is an authority's (CA:TRUE), which must not be a server's too: make it with \
             `-addext basicConstraints=critical,CA:FALSE`"
                .to_owned(),
        ),
    ] {
        let (port, _) = serve(identity.server()).await;
        assert_eq!(message(ask("127.0.0.1", port, Some(ca), AMPLE).await), words);
    }

    let late = authority.sign(&params(|params| params.not_before = date_time_ymd(3000, 1, 2)));
    let (port, _) = serve(late.server()).await;
    let words = message(ask("127.0.0.1", port, Some(&ca), AMPLE).await);
    assert!(
        words.starts_with("its certificate is valid from 3000-01-02T00:00:00Z on, and here it is 2"),
        "{words}"
    );

    // Signed by itself, and named.
    let (port, _) = serve(own.server()).await;
    assert_eq!(ask("127.0.0.1", port, Some(&own_ca), AMPLE).await, Ok("HTTP 200".to_owned()));
}

#[tokio::test]
async fn without_a_file_the_system_knows_no_authority_of_a_test() {
    let name = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    for (identity, words) in [
        (
            Authority::new().identity("127.0.0.1"),
            "its certificate is signed by an authority that is not known here: name it with `ca`",
        ),
        (Identity::self_signed(&name), "its certificate is signed by itself: to trust it, name it with `ca`"),
    ] {
        let (port, _) = serve(identity.server()).await;
        let told = message(ask("127.0.0.1", port, None, AMPLE).await);
        // A machine without any authorities says so.
        assert!(told == words || told.starts_with("this system has no certificate authorities"), "{told}");
    }
}

#[test]
fn the_authorities_of_the_system_are_kept() {
    match client_config(None) {
        Ok(_) => assert!(kept_system_config().is_some()),
        // A machine without any.
        Err(error) => assert!(matches!(error, TlsSetupError::NoAuthorities { .. }), "{error}"),
    }
}

#[tokio::test]
async fn servers_that_want_something_else_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.file(folder.path());
    let identity = authority.identity("127.0.0.1");

    let mut alpn = identity.server();
    alpn.alpn_protocols = vec![b"h2".to_vec()];
    let (port, _) = serve(alpn).await;
    assert_eq!(
        message(ask("127.0.0.1", port, Some(&ca), AMPLE).await),
        "it does not speak the protocol that is asked for (ALPN)"
    );

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(named_roots(&ca).unwrap());
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(identity.chain(), identity.key())
            .unwrap();
        let (port, _) = serve(config).await;
        assert_eq!(
            message(ask("127.0.0.1", port, Some(&ca), AMPLE).await),
            "it wants a client's certificate, which a check has not",
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_tls_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new().file(folder.path());
    for (answer, reset, words) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..],
            false,
            "it speaks plain HTTP, not TLS: is http:// meant?",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            false,
            "it does not speak TLS: its answer begins with \"SSH-2.0-OpenSSH_9.2p1\"",
        ),
        (
            b"\x15\x03\x01\x00\x02\x02\x46",
            false,
            "it speaks neither TLS 1.2 nor TLS 1.3; older ones are not safe",
        ),
        (
            b"\x15\x03\x01\x00\x02\x02\x28",
            false,
            "it refused the handshake: it and this client have no cipher in common",
        ),
        (b"", false, "it closed the connection in the handshake: is this a port with TLS?"),
        (b"", true, "it reset the connection in the handshake: is this a port with TLS?"),
    ] {
        let port = plain(answer, reset).await;
        assert_eq!(message(ask("127.0.0.1", port, Some(&ca), AMPLE).await), words);
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new().file(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The kernel takes the connection; nobody reads from it.
    assert_eq!(ask("127.0.0.1", port, Some(&ca), SHORT).await, Err(ProbeFailure::TimedOut(SHORT)));
    drop(listener);
}

#[tokio::test]
async fn tls_behind_http_is_told() {
    let (port, _) = serve(Authority::new().identity("127.0.0.1").server()).await;
    let address = HostPort { host: "127.0.0.1".to_owned(), port };
    let target = HttpTarget { tls: false, address, path: "/".to_owned() };
    let question = http::Question { target: &target, status: None, body: None, ca: None };
    assert_eq!(
        http::check(&question, AMPLE).await,
        Err(ProbeFailure::Protocol("it speaks TLS, not plain HTTP: is https:// meant?".to_owned()))
    );
}

#[tokio::test]
async fn files_of_authorities_that_are_not_good_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let shown = |CaFile(path): &CaFile| path.display().to_string();
    let nothing = CaFile(folder.path().join("nothing.pem"));
    let big = ca_file(folder.path(), vec![b'x'; MAX_CA_BYTES as usize + 1]);
    for (ca, begin, end) in [
        (nothing, "cannot read the `ca` file ", ""),
        (ca_file(folder.path(), ""), "the `ca` file ", "-----BEGIN CERTIFICATE-----"),
        (ca_file(folder.path(), key), "the `ca` file ", "-----BEGIN CERTIFICATE-----"),
        (
            ca_file(folder.path(), b"\x30\x82\x01\x01"),
            "the `ca` file ",
            "(this is DER: `openssl x509 -inform der` makes PEM of it)",
        ),
        (
            ca_file(folder.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "the `ca` file ",
            "holds a certificate that cannot be read: its certificate cannot be read",
        ),
        (ca_file(folder.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n"), "the `ca` file ", ""),
        (big, "the `ca` file ", "is larger than 1024 KiB"),
    ] {
        // Nobody listens there: the file comes first.
        let words = message(ask("127.0.0.1", 1, Some(&ca), AMPLE).await);
        assert!(words.starts_with(&format!("{begin}{}", shown(&ca))) && words.ends_with(end), "{words}");
    }
}

#[test]
fn failures_are_found_within_others() {
    let address = HostPort { host: "db".to_owned(), port: 5432 };
    let inner = || rustls::Error::NoCertificatesPresented;
    let within = |error| Box::new(Wrapped(error)) as Box<dyn Error>;
    for error in [
        Box::new(inner()) as Box<dyn Error>,
        Box::new(io::Error::other(inner())),
        within(io::Error::other(inner())),
        Box::new(io::Error::other(Wrapped(io::Error::other(inner())))),
    ] {
        assert_eq!(
            tls_failure(&address, &*error).to_string(),
            "no TLS with db:5432: it shows no certificate"
        );
    }
    let other = io::Error::other("something else");
    assert_eq!(tls_failure(&address, &other).to_string(), "no TLS with db:5432: something else");
}

#[derive(Debug, thiserror::Error)]
#[error("the client has failed")]
struct Wrapped(#[source] io::Error);
