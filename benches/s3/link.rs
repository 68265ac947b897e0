//! A network link as a process of its own: a proxy on the loopback interface that delivers what servers answer at no
//! more than some rate, shared by all connections, and some time late.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, say};

/// What a link does to the bytes that come down it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) name: &'static str,
    /// Bits a second; none when there is no limit.
    pub(crate) bits: Option<u64>,
    /// From the server to the client; the way there takes no time, so that this is the round trip.
    pub(crate) delay: Duration,
}

/// The links that are measured, the bare loopback interface among them.
pub(crate) const LINKS: [Link; 4] = [
    Link { name: "1 Gbit/s", bits: Some(1_000_000_000), delay: Duration::ZERO },
    Link { name: "1 Gbit/s, 20 ms", bits: Some(1_000_000_000), delay: Duration::from_millis(20) },
    Link { name: "20 ms", bits: None, delay: Duration::from_millis(20) },
    Link { name: "unlimited", bits: None, delay: Duration::ZERO },
];

impl Link {
    /// Returns whether there is anything to do for a proxy.
    pub(crate) fn is_bare(&self) -> bool {
        self.bits.is_none() && self.delay.is_zero()
    }
}

/// What is read and delivered at once, in bytes: half a millisecond of a gigabit link.
const PIECE: usize = 64 << 10;
/// Pieces under way on one connection, as in a buffer of the network's.
const UNDER_WAY: usize = 64;
/// How far a link that was idle, or a sleep that took too long, may be caught up with.
const SLACK: Duration = Duration::from_millis(2);
/// What is due no later than this is not waited for: to sleep is dearer than to carry a few pieces more.
const SOON: Duration = Duration::from_millis(1);

/// Waits until a moment that is not just about to come.
fn wait_for(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if left > SOON {
        thread::sleep(left);
    }
}

/// When the link is free again: one for all connections.
struct Schedule {
    bits: Option<u64>,
    free: Mutex<Instant>,
}

impl Schedule {
    /// Takes the link for so many bytes; returns when they are through.
    fn take(&self, bytes: usize) -> Instant {
        let Some(bits) = self.bits else { return Instant::now() };
        let took = Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / bits);
        let mut free = self.free.lock().expect("no thread panics while it holds this");
        let earliest = Instant::now().checked_sub(SLACK).unwrap_or(*free);
        *free = (*free).max(earliest) + took;
        *free
    }
}

/// Stands between clients and `target` until standard input ends.
pub(crate) fn serve(link: Link, target: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    say(&listener.local_addr()?.to_string())?;
    let schedule = Arc::new(Schedule { bits: link.bits, free: Mutex::new(Instant::now()) });
    let target = target.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (target, schedule) = (target.clone(), Arc::clone(&schedule));
            thread::spawn(move || connect(&client, &target, &schedule, link.delay));
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Carries one connection both ways until either side ends it.
fn connect(client: &TcpStream, target: &str, schedule: &Schedule, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    for stream in [client, &server] {
        stream.set_nodelay(true)?;
    }
    let (mut from_server, mut to_client) = (&server, client);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*client, &mut &server);
            let _ = server.shutdown(Shutdown::Both);
        });
        let late = (!delay.is_zero()).then(|| {
            let (sender, pieces) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
            scope.spawn(move || {
                for (due, piece) in pieces {
                    wait_for(due);
                    if (&mut &*client).write_all(&piece).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
            });
            sender
        });
        let mut piece = vec![0; PIECE];
        while let Ok(read @ 1..) = from_server.read(&mut piece) {
            let through = schedule.take(read);
            // What the link has not taken yet stays with the server.
            wait_for(through);
            let carried = match &late {
                Some(late) => late.send((through + delay, piece[..read].to_vec())).is_ok(),
                None => to_client.write_all(&piece[..read]).is_ok(),
            };
            if !carried {
                break;
            }
        }
        if late.is_none() {
            let _ = client.shutdown(Shutdown::Both);
        }
    });
    Ok(())
}
