//! One control connection, logged in.

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use suppaftp::types::FileType;
use suppaftp::{
    DataStream, Encoding, FtpError, FtpResult, Mode, RustlsConnector, RustlsFtpStream, Status, TlsConnector,
    TransferStream,
};

use super::options::{Options, Tls};
use super::tls::Connector;
use crate::base::Printable;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::tree::MOST_BYTES;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_mins(2);

/// The stream of a transfer.
pub(super) type Transfer = TransferStream<<RustlsConnector as TlsConnector>::Stream>;

/// Sockets of a session, so that somebody else can end its waiting.
#[derive(Debug)]
pub(super) struct Sockets {
    control: TcpStream,
    data: Mutex<Option<TcpStream>>,
}

impl Sockets {
    fn data(&self) -> std::sync::MutexGuard<'_, Option<TcpStream>> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends both connections: who waits for them learns it at once.
    pub(super) fn cut(&self) {
        // One that is closed already needs no closing.
        let _ = self.control.shutdown(Shutdown::Both);
        if let Some(data) = &*self.data() {
            let _ = data.shutdown(Shutdown::Both);
        }
    }
}

/// Bytes as they are: names need not be UTF-8, and must come back as they went.
#[derive(Debug)]
struct Raw;

impl Encoding for Raw {
    fn decode(&self, bytes: &[u8]) -> String {
        text(bytes)
    }

    fn encode(&self, text: &str) -> io::Result<Vec<u8>> {
        Ok(bytes(text))
    }
}

/// Spells bytes as a string of as many characters.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Reads what [`text`] spelt.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// One control connection.
pub(super) struct Session {
    pub(super) ftp: RustlsFtpStream,
    pub(super) sockets: Arc<Sockets>,
    /// What the server says it has, in capitals.
    features: HashSet<String>,
    pub(super) secure: bool,
    extended: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("secure", &self.secure).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and logs in. `known` tells the session to whoever may end it, before anything is waited for.
    pub(super) fn open(
        options: &Options,
        config: Option<&Arc<ClientConfig>>,
        known: &dyn Fn(&Arc<Sockets>),
    ) -> Result<Self> {
        let failed = |error: FtpError| explain("connect to", options.server(), error);
        let stream = dial(options)?;
        let control = stream.try_clone().map_err(|error| Error::io("connect to", options.server(), error))?;
        let sockets = Arc::new(Sockets { control, data: Mutex::default() });
        known(&sockets);
        let connector = || config.map(|config| Connector::new(config, PATIENCE));
        let mut secure = false;
        let mut ftp = match (options.tls, connector()) {
            (Tls::Implicit, Some(connector)) => {
                secure = true;
                // The crate connects for itself here: to the address that just answered.
                let address = stream.peer_addr().map_err(|e| Error::io("connect to", options.server(), e))?;
                drop(stream);
                sockets.cut();
                RustlsFtpStream::connect_secure_implicit(address, connector, &options.host).map_err(failed)?
            }
            _ => RustlsFtpStream::connect_with_stream(stream).map_err(failed)?,
        };
        let sockets = if secure {
            let control = ftp.get_ref().try_clone();
            let control = control.map_err(|error| Error::io("connect to", options.server(), error))?;
            let sockets = Arc::new(Sockets { control, data: Mutex::default() });
            known(&sockets);
            sockets
        } else {
            sockets
        };
        // What the server says it has decides, once; whether a certificate is good does not.
        let wanted = match options.tls {
            Tls::Explicit => true,
            Tls::Auto => ftp.feat().is_ok_and(|features| features.keys().any(|name| name.trim() == "AUTH")),
            Tls::Off | Tls::Implicit => false,
        };
        if let (true, Some(connector)) = (wanted, connector()) {
            ftp = ftp.into_secure(connector, &options.host).map_err(failed)?;
            secure = true;
        }
        ftp.set_encoding(Raw);
        let (user, password) = (text(options.user.as_bytes()), text(options.password.as_bytes()));
        ftp.login(user, password).map_err(failed)?;
        if secure && options.tls == Tls::Implicit {
            // Sessions that begin encrypted say so for data, too.
            ftp.custom_command("PBSZ 0", &[Status::CommandOk]).map_err(failed)?;
            ftp.custom_command("PROT P", &[Status::CommandOk]).map_err(failed)?;
        }
        ftp.transfer_type(FileType::Binary).map_err(failed)?;
        let listed = ftp.feat().unwrap_or_default();
        let features: HashSet<String> =
            listed.into_keys().map(|name| name.trim().to_ascii_uppercase()).collect();
        if features.contains("UTF8") {
            // Most are so already, and some do not know the option: names are bytes in any case.
            let _ = ftp.opts("UTF8", Some("ON"));
        }
        ftp.set_passive_nat_workaround(true);
        ftp.set_mode(Mode::ExtendedPassive);
        let own = Arc::clone(&sockets);
        let ftp = ftp.passive_stream_builder(move |address| {
            let stream = open_data(address).map_err(FtpError::ConnectionError)?;
            *own.data() = stream.try_clone().ok();
            Ok(stream)
        });
        Ok(Self { ftp, sockets, features, secure, extended: true })
    }

    /// Returns whether the server says that it has a command.
    pub(super) fn has(&self, feature: &str) -> bool {
        self.features.contains(feature)
    }

    /// Begins a transfer with a command. EPSV is tried first, PASV where the server does not know it.
    pub(super) fn transfer(&mut self, command: &str, restart: u64) -> FtpResult<Transfer> {
        let begin = |session: &mut Self| {
            if restart > 0 {
                let offset = usize::try_from(restart).map_err(|_| FtpError::BadResponse)?;
                session.ftp.resume_transfer(offset)?;
            }
            let expected = [Status::AboutToSend, Status::AlreadyOpen];
            let begun = session.ftp.custom_data_command(command, &expected);
            if begun.is_err() {
                session.release();
            }
            begun.map(|(_, transfer)| transfer)
        };
        match begin(self) {
            Err(FtpError::UnexpectedResponse(answer))
                if self.extended && matches!(answer.status.code(), 500 | 501 | 502 | 504 | 522) =>
            {
                self.extended = false;
                self.ftp.set_mode(Mode::Passive);
                begin(self)
            }
            other => other,
        }
    }

    /// Forgets the data connection, so that it closes when its stream does.
    pub(super) fn release(&self) {
        self.sockets.data().take();
    }

    /// Ends a transfer and hears how it went.
    pub(super) fn end(&self, transfer: Transfer) -> FtpResult<()> {
        self.release();
        transfer.finish()
    }

    /// Reads the lines of a listing. A line has at most 16 KiB.
    pub(super) fn lines(
        &mut self,
        command: &str,
        most: usize,
        each: &mut dyn FnMut(Vec<u8>),
    ) -> FtpResult<()> {
        let mut transfer = self.transfer(command, 0)?;
        let read = read_lines(&mut transfer, most, each);
        let ended = self.end(transfer);
        read.map_err(FtpError::ConnectionError)?;
        ended
    }
}

fn read_lines(stream: &mut impl Read, most: usize, each: &mut dyn FnMut(Vec<u8>)) -> io::Result<()> {
    use std::io::BufRead as _;
    const LONGEST: u64 = 16 << 10;
    let mut reader = io::BufReader::new(stream);
    let mut bytes = 0_usize;
    for _ in 0..=most {
        let mut line = Vec::new();
        let count = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok(());
        }
        bytes += count;
        if bytes > MOST_BYTES {
            let words = format!("the server's listing is longer than {MOST_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        if line.pop_if(|byte| *byte == b'\n').is_none() && count as u64 == LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of a listing is endless"));
        }
        line.pop_if(|byte| *byte == b'\r');
        each(line);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("the server lists more than {most} names")))
}

fn dial(options: &Options) -> Result<TcpStream> {
    let failed = |error: io::Error| {
        Error::new(ErrorKind::Transport, "connect to", options.server())
            .detail(error.to_string())
            .because(error)
    };
    let addresses = (options.host.as_str(), options.port).to_socket_addrs().map_err(failed)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        if options.cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "connect to", options.server()));
        }
        match TcpStream::connect_timeout(&address, CONNECT).and_then(patient) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn open_data(address: SocketAddr) -> io::Result<TcpStream> {
    patient(TcpStream::connect_timeout(&address, CONNECT)?)
}

fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Stops the sending side of a data connection that is not encrypted; an encrypted one ends itself.
pub(super) fn end_of_data(transfer: &Transfer) -> io::Result<()> {
    match transfer.get_ref() {
        DataStream::Tcp(stream) => stream.shutdown(Shutdown::Write),
        DataStream::Ssl(_) => Ok(()),
    }
}

/// Says what an error of the protocol is.
pub(super) fn explain(op: &'static str, target: String, error: FtpError) -> Error {
    match error {
        FtpError::ConnectionError(error) => {
            if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) {
                return certificate(op, target, &error.to_string());
            }
            let kind = match error.kind() {
                io::ErrorKind::InvalidData => ErrorKind::Protocol,
                io::ErrorKind::InvalidInput => ErrorKind::Invalid,
                _ => ErrorKind::Transport,
            };
            let words = match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the server does not answer".into(),
                _ => error.to_string(),
            };
            Error::new(kind, op, target).detail(words)
        }
        FtpError::SecureError(words) => certificate(op, target, &words),
        FtpError::UnexpectedResponse(answer) => {
            let words = text(&answer.body);
            Error::new(kind_of(answer.status.code(), &words), op, target)
                .detail(format!("the server answers: {}", Printable::message(words.trim())))
        }
        FtpError::BadResponse | FtpError::InvalidAddress(_) => {
            Error::new(ErrorKind::Protocol, op, target).detail("the server's answer makes no sense")
        }
        FtpError::DataConnectionAlreadyOpen => Error::new(ErrorKind::Io, op, target),
    }
}

fn certificate(op: &'static str, target: String, words: &str) -> Error {
    Error::new(ErrorKind::Denied, op, target)
        .detail(format!("{words}; for a server with a certificate of its own set tls_ca_file"))
}

fn kind_of(code: u32, words: &str) -> ErrorKind {
    let words = words.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    match code {
        421 | 425 | 426 => ErrorKind::Transport,
        452 | 552 => ErrorKind::Full,
        // The server's system may say more than the code does.
        _ if says(&["no space", "quota", "disk full"]) => ErrorKind::Full,
        530 | 532 | 534 => ErrorKind::Denied,
        500..=504 | 522 => ErrorKind::Unsupported,
        _ if says(&["exists"]) && !says(&["not exist", "n't exist"]) => ErrorKind::Exists,
        550 | 553 if says(&["permission", "denied", "not allowed"]) => ErrorKind::Denied,
        550 if says(&["no such", "not found", "not exist", "n't exist", "can't check", "cannot find"]) => {
            ErrorKind::NotFound
        }
        _ => ErrorKind::Io,
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn names_are_bytes() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&text(&all)), all);
    }

    #[test]
    fn answers_have_kinds() {
        for (code, words, kind) in [
            (550, "550 Permission denied.", ErrorKind::Denied),
            (550, "550 x: No such file or directory", ErrorKind::NotFound),
            (550, "550 Create directory operation failed.", ErrorKind::Io),
            (550, "550 Directory already exists", ErrorKind::Exists),
            (530, "530 Login incorrect.", ErrorKind::Denied),
            (552, "552 Quota", ErrorKind::Full),
            (451, "451 No space left on device", ErrorKind::Full),
            (421, "421 Timeout.", ErrorKind::Transport),
            (502, "502 Unknown", ErrorKind::Unsupported),
        ] {
            assert_eq!(kind_of(code, words), kind, "{words}");
        }
    }

    #[test]
    fn listings_have_bounds() {
        let mut lines = Vec::new();
        let mut text: &[u8] = b"one\r\ntwo\nthree";
        read_lines(&mut text, 3, &mut |line| lines.push(line)).unwrap();
        assert_eq!(lines, [&b"one"[..], b"two", b"three"]);
        assert!(read_lines(&mut &b"a\nb\nc\n"[..], 2, &mut |_| {}).is_err());
        assert!(read_lines(&mut io::repeat(b'x'), 10, &mut |_| {}).is_err());
        // Lines are short enough and few enough, and yet too many bytes.
        let long = [vec![b'x'; 16_000], b"\n".to_vec()].concat();
        let mut count = 0;
        struct Endless(Vec<u8>, usize);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let from = &self.0[self.1..];
                let count = from.len().min(buffer.len());
                buffer[..count].copy_from_slice(&from[..count]);
                self.1 = (self.1 + count) % self.0.len();
                Ok(count)
            }
        }
        assert!(read_lines(&mut Endless(long, 0), 4_000_000, &mut |_| count += 1).is_err());
        assert_eq!(count, MOST_BYTES / 16_001);
        assert!(read_lines(&mut io::repeat(b'\n'), 10, &mut |_| {}).is_err());
    }
}
