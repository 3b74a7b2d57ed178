//! Runs one test: its own runtime, its own world, and a panic in any of its tasks fails it at once.

use std::cell::RefCell;
use std::fmt::Display;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::{Address, Load, Servers, World};

/// A test in a world of its own, on the servers that `deploy/test` started.
pub fn test(load: Load, body: impl AsyncFnOnce(&World)) {
    let _turn = load.turn();
    run(async {
        let world = World::new(&Servers::shared()).await;
        body(&world).await;
        world.remove().await;
    });
}

/// A test that stops servers: it has them to itself.
pub fn test_on_private_servers(load: Load, body: impl AsyncFnOnce(&World, &Servers)) {
    let _turn = load.turn();
    run(on_these(Servers::start(), body));
}

/// The same, with a database whose clock can be set.
pub fn test_with_a_database_clock(load: Load, body: impl AsyncFnOnce(&World, &Servers)) {
    let _turn = load.turn();
    run(on_these(Servers::start_with_a_clock(), body));
}

/// The same, with servers that speak TLS, too.
pub fn test_on_servers_with_tls(load: Load, body: impl AsyncFnOnce(&World, &Servers)) {
    let _turn = load.turn();
    run(on_these(Servers::start_with_tls(), body));
}

/// The same, with the database behind an address that can be moved.
pub fn test_behind_an_address(load: Load, body: impl AsyncFnOnce(&World, &Servers, &Address)) {
    let _turn = load.turn();
    run(async {
        let mut servers = Servers::start().await;
        let address = Address::of(&servers.database).await;
        servers.database = address.url();
        on_these(async { servers }, async |world, servers| body(world, servers, &address).await).await;
    });
}

/// The same, with a RabbitMQ of three nodes.
pub fn test_on_a_cluster(load: Load, body: impl AsyncFnOnce(&World, &Servers)) {
    let _turn = load.turn();
    run(on_these(Servers::start_cluster(), body));
}

async fn on_these(starting: impl Future<Output = Servers>, body: impl AsyncFnOnce(&World, &Servers)) {
    let servers = starting.await;
    let world = World::new(&servers).await;
    body(&world, &servers).await;
}

/// Waits for `future`, but not for ever.
pub async fn within<T>(time: Duration, what: impl Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(time, future).await {
        Ok(value) => value,
        Err(elapsed) => panic!("after {time:?} still waiting for {what} ({elapsed})"),
    }
}

/// How long to pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Asks until there is an answer, but not for ever. Only for what gives no signal: a server's state, seen from outside.
pub async fn asking<T>(time: Duration, what: impl Display, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answered = async {
        let mut pace = tokio::time::interval(ASK_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    within(time, what, answered).await
}

#[derive(Default)]
struct Alarm {
    rung: AtomicBool,
    bell: Notify,
}

thread_local! {
    /// The alarm of the test whose background tasks this thread runs.
    static ALARM: RefCell<Option<Arc<Alarm>>> = const { RefCell::new(None) };
}

fn run(body: impl Future<Output = ()>) {
    ring_on_panic();
    let alarm = Arc::new(Alarm::default());
    let for_threads = Arc::clone(&alarm);
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || ALARM.set(Some(Arc::clone(&for_threads))))
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut body = pin!(body);
        tokio::select! {
            biased;
            () = alarm.bell.notified() => {}
            () = &mut body => {}
        }
        assert!(!alarm.rung.load(Ordering::SeqCst), "a task in the background panicked: see above");
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// The body of a test runs on the test's own thread, everything that it spawned on its runtime's threads.
fn ring_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            let alarm = ALARM.try_with(|alarm| alarm.try_borrow().ok()?.clone());
            if let Ok(Some(alarm)) = alarm {
                alarm.rung.store(true, Ordering::SeqCst);
                alarm.bell.notify_one();
            }
        }));
    });
}
