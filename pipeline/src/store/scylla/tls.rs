//! TLS to the nodes: whom we trust, and who we are.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::error::OpenError;
use super::settings::Tls;

/// What the driver needs of it. Every file is read now.
pub(super) fn config(tls: &Tls) -> Result<Arc<ClientConfig>, OpenError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca_file)? {
        roots.add(certificate).map_err(|e| unusable(&tls.ca_file, e))?;
    }
    let known = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let known = known.map_err(|e| unusable(&tls.ca_file, e))?;
    let verifier: Arc<dyn ServerCertVerifier> =
        if tls.check_addresses { known } else { Arc::new(AtAnyAddress { known }) };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| OpenError::Tls(e.to_string()))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match (&tls.certificate_file, &tls.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, e))?;
            builder.with_client_auth_cert(chain, secret).map_err(|e| unusable(certificate, e))?
        }
        _ => return Err(OpenError::Tls("say certificate_file and key_file, or neither".to_owned())),
    };
    Ok(Arc::new(config))
}

/// The certificates in a PEM file, of which there is at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let read = CertificateDer::pem_file_iter(path).and_then(|found| found.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(found) if found.is_empty() => Err(unusable(path, "there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, error)),
    }
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> OpenError {
    OpenError::Tls(format!("{}: {why}", path.display()))
}

/// Trusts the same certificates, whatever address they name.
#[derive(Debug)]
struct AtAnyAddress {
    known: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AtAnyAddress {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last: whoever comes to it is trusted in all else.
        match self.known.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.known.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn refused(tls: &Tls) -> String {
        match config(tls) {
            Err(error @ OpenError::Tls(_)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_is_missing_or_holds_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> PathBuf {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let gone = refused(&Tls::of(folder.path().join("gone.pem")));
        assert!(gone.contains("gone.pem"), "{gone}");
        let empty = refused(&Tls::of(file("empty.pem", "no PEM at all\n")));
        assert!(empty.contains("empty.pem") && empty.contains("no certificate"), "{empty}");
        let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let broken = refused(&Tls::of(broken));
        assert!(broken.contains("broken.pem"), "{broken}");
    }
}
