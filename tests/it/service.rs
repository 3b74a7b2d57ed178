//! A worker as a service of systemd: what it says to whoever listens at `NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::support::{Load, Message, Producer, Receiver, Reply, SOON, Worker, World, test};

/// What systemd hears.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// Listens at a name that is in no file system, as in a container.
    fn listen(world: &World) -> (Self, (&'static str, String)) {
        let address = SocketAddr::from_abstract_name(&world.name).expect("an address");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a time");
        (Self { socket, heard: Vec::new() }, ("NOTIFY_SOCKET", format!("@{}", world.name)))
    }

    /// Waits for a message with this line: the whole of it.
    async fn hears(self, line: &'static str) -> (Self, String) {
        let waiting = spawn_blocking(move || {
            let Self { socket, mut heard } = self;
            let mut bytes = [0; 4096];
            loop {
                let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{line}: {error}, heard {heard:?}"));
                let message = String::from_utf8(bytes[..length].to_vec()).expect("text");
                heard.push(message.clone());
                if message.lines().any(|told| told.starts_with(line)) {
                    return (Self { socket, heard }, message);
                }
            }
        });
        waiting.await.expect("a listener")
    }

    fn count(&self, line: &str) -> usize {
        self.heard.iter().filter(|message| message.lines().any(|told| told == line)).count()
    }
}

#[test]
fn systemd_is_told_that_a_worker_runs_lives_reloads_and_stops() {
    test(Load::Shared, async |world| {
        let (manager, socket) = Manager::listen(world);
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_secs(1))).await;
        let watchdog = ("WATCHDOG_USEC", "2000000".to_owned());
        let worker = Worker::run_with(world, &["worker", "--drain-time", "20s"], &[socket, watchdog]);
        let (manager, _) = manager.hears("READY=1").await;
        let (manager, _) = manager.hears("STATUS=ready").await;
        let (manager, _) = manager.hears("WATCHDOG=1").await;
        let (manager, _) = manager.hears("WATCHDOG=1").await;
        assert_eq!(manager.count("READY=1"), 1);

        worker.signal("HUP");
        worker.wait_for_line(SOON, "SIGHUP: there is nothing").await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user-1", "first", &receiver.url())).await;
        receiver.wait_for(SOON, "an attempt", |log| !log.attempts.is_empty()).await;
        worker.signal("TERM");
        let (_, stopping) = manager.hears("STOPPING=1").await;
        assert!(stopping.contains("EXTEND_TIMEOUT_USEC=30000000"), "{stopping}");
        assert_eq!(worker.exit_code(SOON).await, 0);
        assert!(receiver.attempts()[0].succeeded());
    });
}

#[test]
fn systemd_is_told_when_settings_are_read_again() {
    test(Load::Shared, async |world| {
        let (manager, socket) = Manager::listen(world);
        let file = crate::support::SettingsFile::new(world, "[defaults]\nattempts = 3\n");
        let worker = Worker::run_with(world, &["worker", "--destinations", file.path()], &[socket]);
        let (manager, _) = manager.hears("STATUS=ready").await;
        worker.signal("HUP");
        let (manager, reloading) = manager.hears("RELOADING=1").await;
        let micros = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
        assert!(micros.is_some_and(|micros| micros > 0), "{reloading}");
        let (manager, _) = manager.hears("READY=1").await;
        assert_eq!(manager.count("WATCHDOG=1"), 0, "nobody has asked for it");
        worker.stop().await;
    });
}

#[test]
fn a_worker_that_waits_for_its_database_runs_and_says_what_it_waits_for() {
    test(Load::Shared, async |world| {
        let (manager, socket) = Manager::listen(world);
        let nobody = "postgres://nobody@127.0.0.1:1/nothing";
        let watchdog = ("WATCHDOG_USEC", "1000000".to_owned());
        let worker = Worker::run_with(world, &["worker", "--database-url", nobody], &[socket, watchdog]);
        let (manager, status) = manager.hears("STATUS=waiting: ").await;
        assert!(status.contains("the database is unreachable"), "{status}");
        let (manager, _) = manager.hears("READY=1").await;
        let (_, _) = manager.hears("WATCHDOG=1").await;
        worker.signal("TERM");
        assert_eq!(worker.exit_code(SOON).await, 0);
    });
}

#[test]
fn an_address_that_systemd_never_gives_is_refused_in_one_line() {
    test(Load::Shared, async |world| {
        let told = [("NOTIFY_SOCKET", "relative".to_owned())];
        let worker = Worker::run_with(world, &["worker"], &told);
        worker.signal("CONT");
        assert_eq!(worker.exit_code(SOON).await, 2);
        assert!(
            worker.log().contains("NOTIFY_SOCKET can't be used (neither a whole path nor @NAME)"),
            "{}",
            worker.log()
        );
    });
}

#[test]
fn the_units_differ_in_whose_settings_they_read_alone_and_the_packages_version_is_the_programs() {
    let one = include_str!("../../deploy/debian/onceward.service");
    let of_several = include_str!("../../deploy/debian/onceward@.service");
    let made = of_several
        .replace("EnvironmentFile=-/etc/default/onceward-%i\n", "")
        .replace("/etc/onceward/%i.toml", "/etc/onceward/onceward.toml")
        .replace("worker %i:", "worker:");
    let rest = |unit: &str| unit.split_once('\n').expect("a first line").1.to_owned();
    assert_eq!(rest(one), rest(&made));
    let changelog = include_str!("../../deploy/debian/changelog");
    assert!(changelog.starts_with(concat!("onceward (", env!("CARGO_PKG_VERSION"), "-1) ")), "{changelog}");
}
