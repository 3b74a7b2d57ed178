//! The harness: a world of servers for each test, receivers that remember everything, and the program itself.

mod address;
mod admin;
mod alone;
mod chance;
mod check;
mod cluster;
mod collector;
mod database;
mod dead_letters;
mod example;
mod name_server;
mod peers;
mod pooler;
mod producer;
mod prometheus;
mod properties;
mod raw;
mod receiver;
mod reply;
mod run;
mod s3;
mod servers;
mod settings_file;
mod suspend;
mod worker;
mod world;

pub use address::{Address, Before};
pub use admin::Admin;
pub use alone::Load;
pub use chance::{chance, pick, shuffle};
pub use check::Check;
pub use cluster::{Cluster, Fault};
pub use collector::{Collector, Span};
pub use database::Database;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use example::{Example, example_output, libraries};
pub use name_server::{NameServer, Named};
pub use peers::{Certificates, Dnsmasq, Nginx, Squid, Tinyproxy};
pub use pooler::Pooler;
pub use producer::{Message, Producer, publish_from, publish_through};
pub use prometheus::{Prometheus, promtool};
pub use properties::{Properties, Table, nested, sized};
pub use raw::{FRAME_MAX, Raw, RawMessage};
pub use receiver::{Attempt, Log, Receiver};
pub use reply::{Gate, Reply, Request};
pub use run::{
    asking, test, test_behind_an_address, test_on_a_cluster, test_on_private_servers, test_on_servers_with_tls,
    test_with_a_database_clock, within,
};
pub use s3::S3;
pub use servers::{Servers, Stop, Which};
pub use settings_file::SettingsFile;
pub use suspend::Suspendable;
pub use worker::{Worker, run_to_end, run_to_end_in, run_to_end_into, run_to_end_with};
pub use world::World;

use std::time::Duration;

/// Long enough for anything that should happen at once, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);
