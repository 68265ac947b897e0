//! One control connection, logged in.

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use suppaftp::types::FileType;
use suppaftp::{DataStream, Encoding, FtpError, FtpResult, ImplFtpStream, Mode, Status, TransferStream};

use super::options::{Options, Tls};
use super::sockets::{LOOK, PATIENCE, Sockets, dial, open_data};
use super::tls::{Connector, LastWords, Stream};
use crate::base::Printable;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::tree::MOST_BYTES;

/// The stream of a transfer.
pub(super) type Transfer = TransferStream<Stream>;
/// The crate's view of a session.
type Ftp = ImplFtpStream<Stream>;

/// How long a server may take to greet.
const GREETING: Duration = Duration::from_secs(30);
/// From how many names on a listing may be one that the server cut short.
const MANY: usize = 500;
/// How long the server's last word on a long listing is waited for where it cannot be read twice.
const LAST_WORD: Duration = Duration::from_secs(5);

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
    pub(super) ftp: Ftp,
    pub(super) sockets: Arc<Sockets>,
    /// What the server says it has, in capitals.
    features: HashSet<String>,
    pub(super) secure: bool,
    /// What an encrypted control connection read last.
    words: LastWords,
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
        let sockets = Arc::new(Sockets::new(control));
        known(&sockets);
        let words = LastWords::default();
        let connector = || config.map(|config| Connector::new(config, PATIENCE, &sockets, &words));
        let implicit = connector().filter(|_| options.tls == Tls::Implicit);
        let mut secure = implicit.is_some();
        let mut ftp = if let Some(connector) = implicit {
            // The crate connects for itself here: to the address that just answered.
            let address = stream.peer_addr().map_err(|e| Error::io("connect to", options.server(), e))?;
            drop(stream);
            sockets.cut();
            Ftp::connect_secure_implicit(address, connector, &options.host).map_err(failed)?
        } else {
            let greeted = stream.set_read_timeout(Some(GREETING)).map_err(FtpError::ConnectionError);
            greeted
                .and_then(|()| Ftp::connect_with_stream(stream))
                .map_err(|error| unwelcome(error, options))?
        };
        let patient = sockets.control().set_read_timeout(Some(PATIENCE));
        patient.map_err(|error| Error::io("connect to", options.server(), error))?;
        // What the server says it has decides, once; whether a certificate is good does not.
        let wanted = match options.tls {
            Tls::Explicit => true,
            Tls::Auto => ftp.feat().is_ok_and(|features| features.keys().any(|name| name.trim() == "AUTH")),
            Tls::Off | Tls::Implicit => false,
        };
        if let (true, Some(connector)) = (wanted, connector()) {
            ftp = match ftp.into_secure(connector, &options.host) {
                // Offered, and not there after all. Who can make us believe that could have made us believe that
                // nothing was offered.
                Err(FtpError::UnexpectedResponse(answer))
                    if options.tls == Tls::Auto && answer.status.code() != 421 =>
                {
                    sockets.cut();
                    return Self::open(&Options { tls: Tls::Off, ..options.clone() }, None, known);
                }
                other => other.map_err(failed)?,
            };
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
        let (own, cancel) = (Arc::clone(&sockets), options.cancel.clone());
        let ftp = ftp.passive_stream_builder(move |address| {
            let stream = open_data(address, &cancel).map_err(FtpError::ConnectionError)?;
            own.transfer_over(&stream);
            Ok(stream)
        });
        Ok(Self { ftp, sockets, features, secure, words, extended: true })
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
        self.sockets.forget_data();
    }

    /// Ends a transfer and hears how it went.
    pub(super) fn end(&self, transfer: Transfer) -> FtpResult<()> {
        self.release();
        transfer.finish()
    }

    /// Reads the lines of a listing. A line has at most 16 KiB. Fails where the server says that there are more.
    pub(super) fn lines(
        &mut self,
        command: &str,
        most: usize,
        each: &mut dyn FnMut(Vec<u8>),
    ) -> FtpResult<()> {
        let mut transfer = self.transfer(command, 0)?;
        let mut count = 0;
        let read = read_lines(&mut transfer, most, &mut |line| {
            count += 1;
            each(line);
        });
        let overheard =
            if read.is_ok() && !self.secure && count >= MANY { self.overhear() } else { Vec::new() };
        let ended = self.end(transfer);
        read.map_err(FtpError::ConnectionError)?;
        ended?;
        let last = if self.secure {
            self.words.lock().unwrap_or_else(PoisonError::into_inner).clone()
        } else {
            overheard
        };
        whole(&last).map_err(FtpError::ConnectionError)
    }

    /// Reads the server's word on the transfer that ends without taking it away: the crate, which reads it next, tells
    /// whether it was a good one, and nothing else.
    fn overhear(&self) -> Vec<u8> {
        // Some servers wait for that.
        self.sockets.end_data();
        let Ok(control) = self.sockets.control().try_clone() else { return Vec::new() };
        let begun = Instant::now();
        let mut buffer = vec![0; 1 << 10];
        let mut heard = 0;
        let limited = control.set_read_timeout(Some(LAST_WORD));
        while limited.is_ok() && begun.elapsed() < LAST_WORD {
            match control.peek(&mut buffer) {
                // All of it once the last line is there: three digits and a space.
                Ok(count) if count > 0 => {
                    heard = count;
                    if count == buffer.len() || is_complete(&buffer[..count]) {
                        break;
                    }
                    std::thread::sleep(LOOK / 5);
                }
                _ => break,
            }
        }
        // What cannot be set now fails when it is read.
        let _ = control.set_read_timeout(Some(PATIENCE));
        buffer.truncate(heard);
        buffer
    }
}

/// Returns whether a reply is there up to its last line.
fn is_complete(reply: &[u8]) -> bool {
    let Some(reply) = reply.strip_suffix(b"\r\n").or_else(|| reply.strip_suffix(b"\n")) else { return false };
    let last = reply.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    matches!(last, [a, b, c, b' ', ..] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()))
}

/// Fails where the server's word on a listing is that it left some of it out. That is the one way in which Pure-FTPd
/// tells of its limit, 10,000 names where nobody raised it.
fn whole(last: &[u8]) -> io::Result<()> {
    let last = last.strip_suffix(b"\n").unwrap_or(last);
    let line = last.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let words = text(line);
    if words.to_ascii_lowercase().contains("truncated") {
        let told = format!(
            "the server lists only a part of it: {}; raise its limit on listings",
            Printable::message(words.trim())
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, told));
    }
    Ok(())
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

/// Says what to do where a server that is there says nothing.
fn unwelcome(error: FtpError, options: &Options) -> Error {
    let silent = matches!(&error, FtpError::ConnectionError(error)
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
    let error = explain("connect to", options.server(), error);
    if silent {
        return error.detail(format!(
            "the server takes connections and says nothing for {} s; one that encrypts from the first byte on takes \
             tls=implicit",
            GREETING.as_secs()
        ));
    }
    error
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
            let words = one_line(&text(&answer.body));
            Error::new(kind_of(answer.status.code(), &words), op, target)
                .detail(format!("the server answers: {}", Printable::message(&words)))
        }
        FtpError::BadResponse | FtpError::InvalidAddress(_) => {
            Error::new(ErrorKind::Protocol, op, target).detail("the server's answer makes no sense")
        }
        FtpError::DataConnectionAlreadyOpen => Error::new(ErrorKind::Io, op, target),
    }
}

/// Puts the lines of a reply into one; their number is said once.
fn one_line(reply: &str) -> String {
    let mut lines = reply.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut out = lines.next().unwrap_or_default().to_owned();
    let number = out.get(..3).unwrap_or_default().to_owned();
    for line in lines {
        let line = line.strip_prefix(&number).map_or(line, |rest| rest.trim_start_matches(['-', ' ']));
        out.push_str("; ");
        out.push_str(line);
    }
    out
}

fn certificate(op: &'static str, target: String, words: &str) -> Error {
    Error::new(ErrorKind::Denied, op, target)
        .detail(format!("{words}; for a server with a certificate of its own set tls_ca_file"))
}

fn kind_of(code: u32, words: &str) -> ErrorKind {
    let words = words.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    match code {
        // What could not be written there will not be written by trying again; some say so as of a lost connection.
        426 | 451 if says(&["writing to local file", "write to file"]) => ErrorKind::Full,
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
            (426, "426 Failure writing to local file.", ErrorKind::Full),
            (451, "451-Error during write to file; Transfer aborted", ErrorKind::Full),
            (426, "426 Failure writing network stream.", ErrorKind::Transport),
            (502, "502 Unknown", ErrorKind::Unsupported),
        ] {
            assert_eq!(kind_of(code, words), kind, "{words}");
        }
    }

    #[test]
    fn replies_of_several_lines_are_one() {
        assert_eq!(one_line("451-Error\r\n451-Aborted\r\n451 0.2 s\r\n"), "451-Error; Aborted; 0.2 s");
        assert_eq!((one_line("550 x\r\n").as_str(), one_line("").as_str()), ("550 x", ""));
    }

    #[test]
    fn a_part_of_a_listing_is_none() {
        for said in
            ["226-Options: -a -l\r\n226 Output truncated to 10000 matches\r\n", "226 Listing Truncated\r\n"]
        {
            assert!(whole(said.as_bytes()).unwrap_err().to_string().contains("only a part"));
            assert!(is_complete(said.as_bytes()));
        }
        // A name in an earlier reply says nothing.
        for said in ["", "250 truncated.txt\r\n226 10 matches total\r\n", "226 Transfer complete\r\n"] {
            whole(said.as_bytes()).unwrap();
        }
        for said in ["", "226-Options: -a -l\r\n", "226 Output trunc"] {
            assert!(!is_complete(said.as_bytes()), "{said}");
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
