//! TLS of checks: whom to trust, and what went wrong in words a user can act upon.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_types::{CaFile, HostPort, ProbeFailure, format_duration};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::looks::{Looks, NoLook};
use crate::recorded::{Beginning, Recorded};
use crate::tcp::Limit;

/// Largest file of authorities that is read. Debian's bundle of every authority is a fifth of it.
const MAX_CA_BYTES: u64 = 1024 * 1024;
/// Names of a certificate that are told; one for a whole hosting company has hundreds.
const MAX_NAMES: usize = 5;

/// The settings for each `ca`, and for the system's authorities under the empty path.
static LOOKS: Looks<Result<Arc<ClientConfig>, String>> = Looks::new();
/// How long the system's authorities are kept. To read the hundreds of them takes milliseconds, which many probes over
/// TLS would feel; they change with the system's updates. A named file is read each time: it is small, and is renewed
/// while somebody waits for the effect.
const SYSTEM_KEPT: Duration = Duration::from_secs(60);
/// The settings with the system's authorities, and when they were made.
static SYSTEM: Mutex<Option<(Instant, Arc<ClientConfig>)>> = Mutex::new(None);

/// Why no TLS can be attempted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsSetupError {
    /// The CA file cannot be opened or read.
    #[error("cannot read the `ca` file {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// The CA file is larger than [`MAX_CA_BYTES`].
    #[error("the `ca` file {} is larger than {} KiB", .0.display(), MAX_CA_BYTES / 1024)]
    TooLarge(PathBuf),
    /// The CA file has no certificate in it.
    #[error("the `ca` file {} holds no certificate: it must have PEM text with -----BEGIN CERTIFICATE-----{hint}",
        .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What it is instead, with the way out; may be empty.
        hint: &'static str,
    },
    /// The CA file's certificate cannot be read.
    #[error("the `ca` file {} holds a certificate that cannot be read: {message}", .path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// No CA file is named and the system has no authorities: common in small containers.
    #[error(
        "this system has no certificate authorities{message}: install them (ca-certificates), or name one with `ca`"
    )]
    NoAuthorities {
        /// The errors of looking, if any.
        message: String,
    },
    /// The cryptography refuses the settings.
    #[error("cannot prepare TLS: {0}")]
    Settings(String),
}

/// What a client needs for TLS 1.2 and 1.3: trusts the authorities of `ca`, or the system's when there is none.
/// ALPN is left empty.
///
/// Reads files, and takes some milliseconds for the system's authorities once in [`SYSTEM_KEPT`]: not for the
/// runtime's own threads, see [`client_config_within`].
pub(crate) fn client_config(ca: Option<&CaFile>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    if let Some(file) = ca {
        return trusting(named_roots(file)?, Some(file.0.clone()));
    }
    if let Some(config) = kept_system_config() {
        return Ok(config);
    }
    let config = trusting(system_roots()?, None)?;
    *lock_system() = Some((Instant::now(), Arc::clone(&config)));
    Ok(config)
}

fn kept_system_config() -> Option<Arc<ClientConfig>> {
    lock_system()
        .as_ref()
        .filter(|(made, _)| made.elapsed() < SYSTEM_KEPT)
        .map(|(_, config)| Arc::clone(config))
}

fn lock_system() -> MutexGuard<'static, Option<(Instant, Arc<ClientConfig>)>> {
    // Nothing panics while holding it.
    SYSTEM.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trusting(roots: RootCertStore, named: Option<PathBuf>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let settings = |error: &dyn fmt::Display| TlsSetupError::Settings(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| settings(&error))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| settings(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner, named }))
        .with_no_client_auth();
    // A resumed session would not show its certificate again.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// [`client_config`] within the time allowed, off the runtime's threads.
pub(crate) async fn client_config_within(
    address: &HostPort,
    ca: Option<&CaFile>,
    limit: &Limit,
) -> Result<Arc<ClientConfig>, ProbeFailure> {
    let failure = |message| ProbeFailure::Tls { address: address.clone(), message };
    if let (None, Some(config)) = (ca, kept_system_config()) {
        return Ok(config);
    }
    let path = ca.map_or(Path::new(""), |CaFile(path)| path);
    let ca = ca.cloned();
    let make = move |_: &Path| client_config(ca.as_ref()).map_err(|error| error.to_string());
    let made = LOOKS.look(path, limit, make).await;
    match made {
        Ok(config) => config.map_err(failure),
        Err(NoLook::TimedOut) => Err(failure(format!(
            "the certificate authorities could not be read within {}",
            format_duration(limit.timeout)
        ))),
        Err(NoLook::NoThread(error)) => {
            Err(failure(format!("cannot read the certificate authorities: {error}")))
        }
    }
}

/// The handshake, within the time allowed; `alpn` is the one protocol asked for inside; none when it is empty.
pub(crate) async fn connect(
    stream: TcpStream,
    address: &HostPort,
    config: &ClientConfig,
    alpn: &[u8],
    limit: &Limit,
) -> Result<TlsStream<Recorded<TcpStream>>, ProbeFailure> {
    let name = server_name(address)?;
    let mut config = config.clone();
    config.alpn_protocols = if alpn.is_empty() { Vec::new() } else { vec![alpn.to_vec()] };
    let beginning = Beginning::default();
    let stream = Recorded::new(stream, beginning.clone());
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match timeout_at(limit.deadline, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match find(&error) {
            Some(rustls::Error::InvalidMessage(_)) if beginning.is_http1() => {
                let message = "it speaks plain HTTP, not TLS: is http:// meant?".to_owned();
                ProbeFailure::Tls { address: address.clone(), message }
            }
            Some(rustls::Error::InvalidMessage(_)) if beginning.total() > 0 => {
                let message = format!("it does not speak TLS: its answer begins with {}", beginning.shown());
                ProbeFailure::Tls { address: address.clone(), message }
            }
            _ => tls_failure(address, &error),
        }),
        Err(_) => Err(ProbeFailure::TimedOut(limit.timeout)),
    }
}

fn named_roots(CaFile(path): &CaFile) -> Result<RootCertStore, TlsSetupError> {
    let read = |error| TlsSetupError::Read { path: path.clone(), error };
    let bad = |message| TlsSetupError::BadCertificate { path: path.clone(), message };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_CA_BYTES + 1).read_to_end(&mut bytes)).map_err(read)?;
    if bytes.len() as u64 > MAX_CA_BYTES {
        return Err(TlsSetupError::TooLarge(path.clone()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error: PemError| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(words(&error)))?;
    }
    if roots.is_empty() {
        // A DER certificate is a SEQUENCE of more than 255 bytes (X.690, 8.1.3.5).
        let hint = if bytes.starts_with(&[0x30, 0x82]) {
            " (this is DER: `openssl x509 -inform der` makes PEM of it)"
        } else {
            ""
        };
        return Err(TlsSetupError::NoCertificate { path: path.clone(), hint });
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsSetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A single one that cannot be read is passed over, as every client does: systems carry odd ones.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let message = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
        return Err(TlsSetupError::NoAuthorities { message });
    }
    Ok(roots)
}

/// The name to ask for and to expect of the certificate: without the zone of an IPv6 address, which is of this
/// machine alone.
pub(crate) fn server_name(address: &HostPort) -> Result<ServerName<'static>, ProbeFailure> {
    let host = address.host.split('%').next().unwrap_or(&address.host);
    ServerName::try_from(host.to_owned()).map_err(|error: InvalidDnsNameError| ProbeFailure::Tls {
        address: address.clone(),
        message: format!("{host} cannot be the name of a certificate: {error}"),
    })
}

/// Tells a TLS failure in plain words. `error` may be rustls' own, or be wrapped in others, such as an [`io::Error`].
pub(crate) fn tls_failure(address: &HostPort, error: &(dyn Error + 'static)) -> ProbeFailure {
    let message = match find(error) {
        Some(error) => words(error),
        None => chain(error)
            .find_map(|error| error.downcast_ref::<io::Error>().and_then(|error| io_words(error.kind())))
            .unwrap_or_else(|| error.to_string()),
    };
    ProbeFailure::Tls { address: address.clone(), message }
}

/// What rustls has to say within `error`, if it has.
pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The error and those within it. What an [`io::Error`] carries is not its source, but the source's parent.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => (*error).source(),
        }
    })
}

fn io_words(kind: io::ErrorKind) -> Option<String> {
    let words = if kind == io::ErrorKind::UnexpectedEof {
        "it closed the connection in the handshake: is this a port with TLS?"
    } else if [io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionAborted, io::ErrorKind::BrokenPipe]
        .contains(&kind)
    {
        "it reset the connection in the handshake: is this a port with TLS?"
    } else {
        return None;
    };
    Some(words.to_owned())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "dozens of kinds, which need no words of ours")]
fn words(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(error) => certificate_words(error),
        E::InvalidMessage(_) | E::PeerSentOversizedRecord => {
            "it does not speak TLS (is it plain http?)".to_owned()
        }
        E::NoCertificatesPresented => "it shows no certificate".to_owned(),
        E::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | E::AlertReceived(AlertDescription::ProtocolVersion) => {
            "it speaks neither TLS 1.2 nor TLS 1.3; older ones are not safe".to_owned()
        }
        E::AlertReceived(alert) => match alert {
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
                "it refused the handshake: it and this client have no cipher in common".to_owned()
            }
            AlertDescription::UnrecognisedName => "it has no certificate for this name".to_owned(),
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate => {
                "it wants a client's certificate, which a check has not".to_owned()
            }
            AlertDescription::NoApplicationProtocol => {
                "it does not speak the protocol that is asked for (ALPN)".to_owned()
            }
            _ => format!("it refused the handshake (alert {alert:?})"),
        },
        E::FailedToGetCurrentTime => "this system has no valid time".to_owned(),
        _ => error.to_string(),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a dozen kinds of revocation and encoding speak for themselves"
)]
fn certificate_words(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => {
            "its certificate is signed by an authority that is not known here: name it with `ca`".to_owned()
        }
        E::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            if presented.is_empty() {
                return format!(
                    "its certificate is for no name at all, and so not for {expected}: it lacks a subjectAltName"
                );
            }
            let mut names: Vec<_> = presented.iter().take(MAX_NAMES).map(|name| bare_name(name)).collect();
            let more;
            if presented.len() > MAX_NAMES {
                more = format!("{} more", presented.len() - MAX_NAMES);
                names.push(&more);
            }
            let names = match names.split_last() {
                Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
                _ => names.concat(),
            };
            format!("its certificate is for {names}, not for {expected}")
        }
        E::ExpiredContext { not_after, .. } => {
            format!("its certificate has expired on {}", date(*not_after))
        }
        E::NotValidYetContext { time, not_before } => format!(
            "its certificate is valid from {} on, and here it is {}: is this machine's clock right?",
            date(*not_before),
            date(*time)
        ),
        E::Expired => "its certificate has expired".to_owned(),
        E::NotValidYet => "its certificate is not valid yet: is this machine's clock right?".to_owned(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "its certificate is not for servers (extended key usage)".to_owned()
        }
        E::BadEncoding => "its certificate cannot be read".to_owned(),
        E::BadSignature => "its certificate's signature is wrong".to_owned(),
        E::Revoked => "its certificate has been revoked".to_owned(),
        E::Other(OtherError(error)) if error.is::<Untrusted>() => error.to_string(),
        E::Other(OtherError(error))
            if matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            "its certificate is an authority's (CA:TRUE), which must not be a server's too: \
             make it with `-addext basicConstraints=critical,CA:FALSE`"
                .to_owned()
        }
        E::Other(OtherError(error))
            if matches!(error.downcast_ref(), Some(webpki::Error::UnsupportedCertVersion)) =>
        {
            "its certificate is of an old version; make one of version 3, with a subjectAltName".to_owned()
        }
        _ => format!("its certificate is not valid: {error}"),
    }
}

/// The name within the verifier's `DnsName("db.example")` or `IpAddress(127.0.0.1)`.
fn bare_name(presented: &str) -> &str {
    presented
        .split_once('(')
        .and_then(|(_, name)| name.strip_suffix(')'))
        .map_or(presented, |name| name.trim_matches('"'))
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("second {} of Unix time", time.as_secs()), |time| time.to_string())
}

/// No chain leads from the server's certificate to an authority that is trusted.
#[derive(Debug)]
struct Untrusted {
    why: NoChain,
    /// The CA file, when one is named.
    named: Option<PathBuf>,
}

#[derive(Debug)]
enum NoChain {
    /// It is signed by nobody but itself.
    SelfSigned,
    /// Nobody of the name of its authority is known.
    UnknownName,
    /// Somebody of that name is known, with another key: an authority that was made anew.
    OtherKey,
}

impl Error for Untrusted {}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(path) = self.named.as_ref().map(|path| path.display()) else {
            return f.write_str(match self.why {
                NoChain::SelfSigned => "its certificate is signed by itself: to trust it, name it with `ca`",
                NoChain::UnknownName => {
                    "its certificate is signed by an authority that is not known here: name it with `ca`"
                }
                NoChain::OtherKey => {
                    "its certificate names an authority that is known here, but is signed with another key: \
                     name the one that has signed it with `ca`"
                }
            });
        };
        match self.why {
            NoChain::SelfSigned => {
                write!(f, "its certificate is signed by itself, and is not the one in {path}")
            }
            NoChain::UnknownName => write!(
                f,
                "its certificate is not signed by an authority in {path}, or it does not send the certificates \
                 between"
            ),
            NoChain::OtherKey => write!(
                f,
                "its certificate names the authority in {path}, but is signed with another key: was that \
                 authority made anew?"
            ),
        }
    }
}

/// The ordinary verifier; it decides alone. What it says of an unknown authority is told more exactly.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    named: Option<PathBuf>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(rustls::Error::InvalidCertificate(error)) = &verdict else { return verdict };
        let why = if !matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature) {
            return verdict;
        } else if is_self_signed(end_entity) {
            NoChain::SelfSigned
        } else if *error == CertificateError::BadSignature {
            NoChain::OtherKey
        } else {
            NoChain::UnknownName
        };
        let untrusted = Untrusted { why, named: self.named.clone() };
        Err(CertificateError::Other(OtherError(Arc::new(untrusted))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
