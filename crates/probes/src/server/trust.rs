//! Whether a check encrypts, and whom it trusts then: the `sslmode` of PostgreSQL's and MySQL's URLs.

use std::sync::Arc;

use mainstay_types::{CaFile, ProbeFailure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::login::{Login, plain};

/// Whose certificate is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trust<'a> {
    /// Anyone's: the connection cannot be overheard, but the other side may be anyone.
    Anyone,
    /// One signed by the authority (the system's when there is none) for the name in the URL.
    Signed(Option<&'a CaFile>),
}

/// When to encrypt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encrypt<'a> {
    Never,
    IfOffered(Trust<'a>),
    Always(Trust<'a>),
}

/// Reads `sslmode` (PostgreSQL: disable, allow, prefer, require, verify-ca, verify-full) or `ssl-mode` (MySQL:
/// DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY). Without it both encrypt when the server offers it, and
/// trust anyone then; a named `ca` is there to be used, so it asks for TLS and a certificate for the right name.
///
/// As with libpq, `require` checks the certificate when there is a `ca`. `verify-ca` checks the name too: what it
/// would let pass beyond that, a certificate of another server, is worth telling before a service depends on it.
pub(super) fn encrypt<'a>(login: &Login, ca: Option<&'a CaFile>) -> Result<Encrypt<'a>, ProbeFailure> {
    let unchecked_without_ca = if ca.is_some() { Trust::Signed(ca) } else { Trust::Anyone };
    let Some(mode) = login.option("sslmode") else {
        return Ok(match ca {
            Some(_) => Encrypt::Always(Trust::Signed(ca)),
            None => Encrypt::IfOffered(Trust::Anyone),
        });
    };
    Ok(match plain(mode).as_str() {
        "disable" | "disabled" | "allow" => Encrypt::Never,
        "prefer" | "preferred" => Encrypt::IfOffered(unchecked_without_ca),
        "require" | "required" => Encrypt::Always(unchecked_without_ca),
        "verifyca" | "verifyfull" | "verifyidentity" => Encrypt::Always(Trust::Signed(ca)),
        _ => {
            return Err(ProbeFailure::NotStarted(format!(
                "cannot ask: its URL says sslmode={mode}; use disable, prefer, require or verify-full"
            )));
        }
    })
}

/// The settings for [`Trust::Anyone`].
pub(super) fn trusting_anyone() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyone(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes every certificate, as libpq and the MySQL client do by default; the signatures of the handshake are checked.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use mainstay_types::{ServerKind, ServerUrl};

    use super::*;

    #[test]
    fn modes_are_those_of_the_clients() {
        let file = CaFile("ca.pem".into());
        let (none, some) = (None, Some(&file));
        for (mode, without_ca, with_ca) in [
            ("", Encrypt::IfOffered(Trust::Anyone), Encrypt::Always(Trust::Signed(some))),
            ("?sslmode=disable", Encrypt::Never, Encrypt::Never),
            ("?ssl-mode=DISABLED", Encrypt::Never, Encrypt::Never),
            ("?sslmode=prefer", Encrypt::IfOffered(Trust::Anyone), Encrypt::IfOffered(Trust::Signed(some))),
            ("?sslmode=require", Encrypt::Always(Trust::Anyone), Encrypt::Always(Trust::Signed(some))),
            (
                "?sslmode=verify-ca",
                Encrypt::Always(Trust::Signed(none)),
                Encrypt::Always(Trust::Signed(some)),
            ),
            (
                "?ssl-mode=VERIFY_IDENTITY",
                Encrypt::Always(Trust::Signed(none)),
                Encrypt::Always(Trust::Signed(some)),
            ),
        ] {
            let url = format!("postgres://a@h{mode}");
            let login = Login::of(&ServerUrl::parse(ServerKind::Postgres, &url).unwrap());
            assert_eq!(encrypt(&login, none), Ok(without_ca), "{url}");
            assert_eq!(encrypt(&login, some), Ok(with_ca), "{url} with a ca");
        }
        let login = Login::of(&ServerUrl::parse(ServerKind::Postgres, "postgres://h?sslmode=on").unwrap());
        assert!(matches!(encrypt(&login, None), Err(ProbeFailure::NotStarted(_))));
    }
}
