//! Where systemd listens to a service of `Type=notify`, and how often it wants to hear that it lives: variables that it sets.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

/// What systemd has told this process.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    /// Where it listens; none if nobody does.
    pub socket: Option<SocketAddr>,
    /// A service that says nothing for so long is ended, and started again.
    pub watchdog: Option<Duration>,
}

impl Manager {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    ///
    /// # Errors
    /// One line: the socket's address can't be used.
    #[expect(clippy::disallowed_methods, reason = "this is the room that reads the environment")]
    pub fn find() -> Result<Self, String> {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let refused = |error| format!("NOTIFY_SOCKET can't be used ({error}): leave it unset, systemd sets it");
        let socket = name.map(|name| address(&name).map_err(refused)).transpose()?;
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        // They are inherited, and may be meant for a process above.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours).map(Duration::from_micros);
        Ok(Self { socket, watchdog })
    }
}

/// A path, or `@` and a name that is in no file system.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        Some((b'/', _)) => SocketAddr::from_pathname(name),
        _ => Err(io::Error::other("neither a whole path nor @NAME")),
    }
}
