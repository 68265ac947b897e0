//! Encryption: who vouches for a server.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use rustls_platform_verifier::BuilderVerifierExt as _;
use suppaftp::{FtpResult, RustlsConnector, TlsConnector, TlsStream};

use super::options::Options;
use super::sockets::Sockets;
use crate::connector::{Error, ErrorKind, Result};

/// The settings of encrypted connections, the preferred ones first.
///
/// Servers want data connections to go on with the session of the control connection. A session of TLS 1.2 can be used
/// as often as one likes; tickets of TLS 1.3 are for one use each, and an upload hears of no new ones. So 1.3 is for
/// servers that have no 1.2.
#[derive(Clone, Debug)]
pub(super) struct Configs {
    /// TLS 1.2.
    pub(super) reusable: Arc<ClientConfig>,
    /// TLS 1.3.
    pub(super) newest: Arc<ClientConfig>,
}

/// Makes the settings of encrypted connections.
pub(super) fn configs(options: &Options) -> Result<Configs> {
    Ok(Configs { reusable: config(options, &TLS12)?, newest: config(options, &TLS13)? })
}

/// Makes the settings of one version: certificates are checked against the system's roots, against those of a file, or
/// not at all.
fn config(options: &Options, version: &'static SupportedProtocolVersion) -> Result<Arc<ClientConfig>> {
    let failed = |error: rustls::Error| {
        Error::new(ErrorKind::Io, "connect to", options.server())
            .detail("TLS cannot be set up")
            .because(error)
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .map_err(failed)?;
    let config = if options.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
    } else if let Some(file) = &options.ca_file {
        builder.with_root_certificates(roots(file)?).with_no_client_auth()
    } else {
        builder.with_platform_verifier().map_err(failed)?.with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn roots(file: &Path) -> Result<RootCertStore> {
    let invalid = |what: String| {
        Error::new(ErrorKind::Invalid, "read", format!("the certificates in {}", file.display())).detail(what)
    };
    let bytes = std::fs::read(file).map_err(|error| invalid(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("there is no PEM certificate in it".into()));
    }
    Ok(roots)
}

/// Believes every certificate; whoever asks for this was warned.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// How much of what was read last is remembered, in bytes.
const REMEMBERED: usize = 1 << 10;

type Encrypted = <RustlsConnector as TlsConnector>::Stream;

/// The end of what a stream read.
pub(super) type LastWords = Arc<Mutex<Vec<u8>>>;

/// An encrypted stream. The control connection's remembers what was read last: the crate keeps the words of some
/// replies to itself.
#[derive(Debug)]
pub(super) struct Stream(Heard);

/// What is read and written.
#[derive(Debug)]
pub(super) struct Heard {
    stream: Encrypted,
    words: Option<LastWords>,
}

impl Read for Heard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.mut_ref().read(buffer)?;
        if let Some(words) = &self.words {
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            words.extend_from_slice(&buffer[count.saturating_sub(REMEMBERED)..count]);
            let old = words.len().saturating_sub(REMEMBERED);
            words.drain(..old);
        }
        Ok(count)
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.mut_ref().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.mut_ref().flush()
    }
}

impl TlsStream for Stream {
    type InnerStream = Heard;

    fn tcp_stream(self) -> FtpResult<TcpStream> {
        self.0.stream.tcp_stream()
    }

    fn get_ref(&self) -> &TcpStream {
        self.0.stream.get_ref()
    }

    fn mut_ref(&mut self) -> &mut Heard {
        &mut self.0
    }
}

/// Encrypts streams that never wait for ever.
#[derive(Debug)]
pub(super) struct Connector {
    inner: RustlsConnector,
    patience: Duration,
    /// For the first stream, which is the control connection's.
    first: Mutex<Option<(Arc<Sockets>, LastWords)>>,
}

impl Connector {
    /// Makes one for a session: tickets of one session are of no use to another. The control connection is made known
    /// to `sockets`, and what it reads to `words`.
    pub(super) fn new(
        config: &Arc<ClientConfig>,
        patience: Duration,
        sockets: &Arc<Sockets>,
        words: &LastWords,
    ) -> Self {
        let mut own = ClientConfig::clone(config);
        own.resumption = rustls::client::Resumption::in_memory_sessions(8);
        let first = Mutex::new(Some((Arc::clone(sockets), Arc::clone(words))));
        Self { inner: RustlsConnector::from(Arc::new(own)), patience, first }
    }
}

impl TlsConnector for Connector {
    type Stream = Stream;

    fn connect(&self, domain: &str, stream: TcpStream) -> FtpResult<Stream> {
        let set = stream
            .set_read_timeout(Some(self.patience))
            .and_then(|()| stream.set_write_timeout(Some(self.patience)));
        set.map_err(suppaftp::FtpError::ConnectionError)?;
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let words = match first {
            Some((sockets, words)) => {
                sockets.adopt(&stream).map_err(suppaftp::FtpError::ConnectionError)?;
                Some(words)
            }
            None => None,
        };
        Ok(Stream(Heard { stream: self.inner.connect(domain, stream)?, words }))
    }
}
