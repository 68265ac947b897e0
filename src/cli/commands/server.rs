//! `server`: a store for others, over HTTP.

use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::super::context::Context;
use super::super::entries::shown;
use super::super::error::{CommandError, Exit};
use super::super::stores::storage_of;
use super::super::trace::Traced;
use crate::base::{Cancel, Printable};
use crate::connector::{ErrorKind, Storage};
use crate::connectors::Limits;
use crate::format::wrapper::{self, Resource};
use crate::ui::{Output, units};
use crate::web::{Access, Handler, Log, Rights, Server, Settings, StoreService, Token, identity};

/// The port that is listened on unless another is named: upstream's.
const PORT: u16 = 9876;
/// The least and the most of a resource that a connection holds in memory, in bytes.
const PIECE: (u64, u64) = (64 << 10, 4 << 20);

/// Serves a store to other machines, for the locations http://… and https://…. Needs no passphrase: everything stays
/// sealed. Clients may read; what else they may do is said by flags. -allow-write lets them back up: add packfiles and
/// states, write locks, but never change or delete what is there (locks then expire instead of going away).
/// -allow-delete, which includes -allow-write, lets them run maintenance and change keys as well.
///
/// Without -listen the server is seen by this machine only. To be seen by others without a token is possible for
/// reading only. SIGINT and SIGTERM end it once the requests under way are answered.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
plakar at /var/backups server
plakar at /var/backups server -listen :9876 -allow-write -token-file /etc/plakar/token -cert cert.pem -key key.pem
plakar at https://backup.example.net:9876 ls
plakar at @s3store server -allow-delete")]
pub(crate) struct Args {
    /// Listen on ADDRESS: host:port, :port for all addresses, or a port alone
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9876")]
    listen: String,
    /// Let clients add to the store
    #[arg(long)]
    allow_write: bool,
    /// Let clients add to the store, delete from it and change its keys
    #[arg(long)]
    allow_delete: bool,
    /// Speak TLS with the certificates in FILE (PEM, the server's own first)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Serve only who shows the token in FILE (or in $PLAKAR_SERVER_TOKEN)
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Listening<'a> {
    r#type: &'static str,
    url: &'a str,
    store: String,
    access: &'static str,
    token: bool,
}

#[derive(Serialize)]
struct Request<'a> {
    r#type: &'static str,
    peer: String,
    method: &'a str,
    target: String,
    status: u16,
    received: u64,
    sent: u64,
    duration: f64,
}

#[derive(Serialize)]
struct Summary {
    r#type: &'static str,
    command: &'static str,
    requests: u64,
    received: u64,
    sent: u64,
    duration: f64,
}

/// What was served.
#[derive(Debug, Default)]
struct Served {
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Served {
    fn count(&self, access: &Access<'_>) {
        for (counter, more) in
            [(&self.requests, 1), (&self.received, access.received), (&self.sent, access.sent)]
        {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Tells of it at the end.
    fn sum_up(&self, begun: Instant, output: &Output) -> Result<(), CommandError> {
        let [requests, received, sent] =
            [&self.requests, &self.received, &self.sent].map(|counter| counter.load(Ordering::Relaxed));
        if output.is_json() {
            let duration = (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
            let (r#type, command) = ("summary", "server");
            return Ok(output.json(&Summary { r#type, command, requests, received, sent, duration })?);
        }
        Ok(output.summary(format_args!(
            "served {} in {}: {} received, {} sent",
            units::counted(requests, "request"),
            units::duration(begun.elapsed()),
            units::bytes(received),
            units::bytes(sent)
        ))?)
    }
}

/// Serves until a signal comes.
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CommandError> {
    let rights = match (args.allow_delete, args.allow_write) {
        (true, _) => Rights::Delete,
        (false, true) => Rights::Write,
        (false, false) => Rights::Read,
    };
    let token = token(args, context)?;
    let tls = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => {
            Some(identity(cert, key).map_err(|error| CommandError::from_error(Exit::Usage, error))?)
        }
        _ => None,
    };
    let storage = open(context, rights)?;
    let listener = bind(&args.listen)?;
    let address = listener.local_addr().map_err(|error| failed(&args.listen, error))?;
    let local = address.ip().to_canonical().is_loopback();
    warn(context, local, rights, token.is_some(), tls.is_some())?;

    let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
    announce(context, &url, storage.as_ref(), rights, token.is_some())?;

    let settings = settings(context);
    let service = service(context, storage, rights, token, local, settings.connections);
    let handler: Handler = Box::new(move |request: &_, body: &mut _| service.answer(request, body));
    let (begun, served) = (Instant::now(), Arc::new(Served::default()));
    let log: Log = {
        let (output, json) = (context.output.clone(), context.output.is_json());
        let told = json || context.globals.trace.is_some_and(|trace| trace.web);
        let served = Arc::clone(&served);
        Box::new(move |access: &Access<'_>| {
            served.count(access);
            if told {
                tell(&output, access);
            }
        })
    };
    let server =
        Server::new(listener, settings, tls, handler, log).map_err(|error| failed(&args.listen, error))?;
    server.run(&context.cancel).map_err(|error| failed(&args.listen, error))?;
    context.output.notice("the server has ended; every request was answered");
    served.sum_up(begun, &context.output)?;
    Ok(Exit::Ok)
}

/// Reads the token, if there is to be one.
fn token(args: &Args, context: &Context) -> Result<Option<Token>, CommandError> {
    let wrong =
        |error| CommandError::from_error(Exit::Usage, error).hint("openssl rand -hex 32 makes a good one");
    match (&args.token_file, &context.environment.server_token) {
        (Some(path), _) => Token::read(path).map(Some).map_err(wrong),
        (None, Some(token)) => Token::new(token.as_bytes()).map(Some).map_err(wrong),
        (None, None) => Ok(None),
    }
}

/// Opens the storage, without its passphrase, and looks whether there is a store.
fn open(context: &Context, rights: Rights) -> Result<Arc<dyn Storage>, CommandError> {
    let place = context.main_store()?;
    // What waits for a server of its own is not broken off at the end: requests under way are answered.
    let limits = Limits { cancel: Cancel::new(), ..context.limits() };
    let storage = storage_of(&place, &limits)?;
    let storage = match context.globals.trace {
        Some(trace) if trace.storage => Traced::wrap(storage, &context.output),
        _ => storage,
    };
    let config = storage.config().map_err(|error| match error.kind {
        ErrorKind::NotFound => CommandError::from_error(Exit::NoStore, error)
            .hint(format!("plakar at {place} create makes a store there")),
        _ => error.into(),
    })?;
    if let Err(error) = wrapper::split(&config, Resource::Config) {
        return Err(
            CommandError::new(Exit::Damage, format!("the CONFIG of {place} is damaged")).because(error)
        );
    }
    if rights > Rights::Read && storage.is_read_only() {
        return Err(CommandError::usage(format!("{place} can only be read"))
            .hint("leave out -allow-write and -allow-delete: it can be served for reading"));
    }
    Ok(storage)
}

fn failed(listen: &str, error: std::io::Error) -> CommandError {
    CommandError::failed(format!("cannot listen on {}", Printable::new(listen))).because(error)
}

/// Listens on the first address that a name stands for and that can be had.
fn bind(listen: &str) -> Result<TcpListener, CommandError> {
    let usage = || {
        CommandError::usage(format!("'{}' is no address to listen on", Printable::new(listen)))
            .hint("127.0.0.1:9876, [::1]:9876, :9876 for all addresses, 9876 for this machine only")
    };
    let listener = match parse(listen).ok_or_else(usage)? {
        // All addresses, of both families where the system has both.
        (None, port) => TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))),
        (Some(host), port) => TcpListener::bind((host.as_str(), port)),
    };
    listener.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                Some("another program listens there: name another port with -listen")
            }
            std::io::ErrorKind::PermissionDenied => Some("ports below 1024 take a privilege"),
            _ => None,
        };
        let error = failed(listen, error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

/// Splits an address to listen on; no host stands for all.
fn parse(listen: &str) -> Option<(Option<String>, u16)> {
    if listen.is_empty() {
        return None;
    }
    if listen.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some((Some("127.0.0.1".into()), listen.parse().ok()?));
    }
    let bare = listen.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(listen);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some((Some(address.to_string()), PORT));
    }
    let (host, port) = match listen.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (listen, PORT),
    };
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let all = host.is_empty() || host == "*";
    if host.contains(['/', ' ']) {
        return None;
    }
    Some(((!all).then(|| host.to_owned()), port))
}

/// Warns of what is open to the network, and refuses what must not be.
fn warn(context: &Context, local: bool, rights: Rights, token: bool, tls: bool) -> Result<(), CommandError> {
    if local {
        return Ok(());
    }
    if !token && rights > Rights::Read {
        return Err(CommandError::usage("whoever reaches this address could write to the store").hint(
            "name a -token-file, or listen on 127.0.0.1 and let something else decide who gets there",
        ));
    }
    if !token {
        context.output.warn(
            "whoever reaches this address can read the store: its data is sealed only if it is encrypted; \
             -token-file lets in those who know a secret",
        );
    }
    if !tls {
        context.output.warn(
            "connections are not encrypted, so others on the network can see the token and replace what is sent: \
             use -cert and -key, or a proxy that speaks TLS",
        );
    }
    Ok(())
}

fn announce(
    context: &Context,
    url: &str,
    storage: &dyn Storage,
    rights: Rights,
    token: bool,
) -> Result<(), CommandError> {
    let access = match rights {
        Rights::Read => "read-only",
        Rights::Write => "clients may add",
        Rights::Delete => "clients may add and delete",
    };
    let output = &context.output;
    if output.is_json() {
        let word = match rights {
            Rights::Read => "read",
            Rights::Write => "write",
            Rights::Delete => "delete",
        };
        let store = storage.location();
        output.json(&Listening { r#type: "listening", url, store, access: word, token })?;
    } else {
        let store = storage.location();
        output.summary(format_args!("serving {} at {url} ({access})", Printable::new(&store)))?;
    }
    Ok(output.flush()?)
}

fn settings(context: &Context) -> Settings {
    let mut settings = Settings::default();
    if let Some(most) = context.globals.concurrency {
        settings.connections = most;
    }
    settings
}

fn service(
    context: &Context,
    storage: Arc<dyn Storage>,
    rights: Rights,
    token: Option<Token>,
    local: bool,
    connections: usize,
) -> StoreService {
    // Half the memory, shared by as many connections as there may be.
    let piece = (context.globals.memory / 2 / connections.max(1) as u64).clamp(PIECE.0, PIECE.1);
    let names = local && token.is_none();
    let warned = context.output.clone();
    let piece = usize::try_from(piece).expect("a few MiB");
    let troubles = Arc::new(move |error: &crate::connector::Error| {
        warned.warn(crate::snapshot::message_of(error));
    });
    let service = StoreService::new(storage, rights, token, piece).with_troubles(troubles);
    if names { service.local_names_only() } else { service }
}

/// Tells of a request.
fn tell(output: &Output, access: &Access<'_>) {
    if output.is_json() {
        // A reader that left is noticed at the end.
        let _ = output.json(&Request {
            r#type: "request",
            peer: access.peer.to_string(),
            method: access.method,
            target: shown(access.target),
            status: access.status,
            received: access.received,
            sent: access.sent,
            duration: access.duration.as_secs_f64(),
        });
        return;
    }
    output.notice(format_args!(
        "trace: web: {} {} {} {}, {} in, {} out, {}",
        access.peer,
        Printable::new(access.method),
        Printable::new(access.target),
        access.status,
        units::bytes(access.received),
        units::bytes(access.sent),
        units::duration(access.duration)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_many_spellings() {
        let own = |host: &str| Some(host.to_owned());
        for (text, host, port) in [
            ("127.0.0.1:80", own("127.0.0.1"), 80),
            ("localhost", own("localhost"), PORT),
            (":9000", None, 9000),
            ("*:9000", None, 9000),
            ("0.0.0.0:9000", own("0.0.0.0"), 9000),
            ("9000", own("127.0.0.1"), 9000),
            ("0", own("127.0.0.1"), 0),
            ("[::1]:80", own("::1"), 80),
            ("[::1]", own("::1"), PORT),
            ("::1", own("::1"), PORT),
            ("10.0.0.1", own("10.0.0.1"), PORT),
        ] {
            assert_eq!(parse(text), Some((host, port)), "{text}");
        }
        for text in ["", "host:port", "host:70000", "70000", "http://h:80", "a b:80"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
