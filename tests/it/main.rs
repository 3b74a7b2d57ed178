//! Integration tests of the program itself, on a real RabbitMQ and a real PostgreSQL: run them by `deploy/test`.

#![allow(
    clippy::disallowed_methods,
    reason = "tests measure with real clocks, and find their servers in the environment"
)]
#![allow(clippy::print_stdout, reason = "measured figures are for whoever reads a test's output")]

mod support;

mod adrift;
mod alerts;
mod answers;
mod backoff;
mod brokers;
mod clocks;
mod cluster;
mod compose;
mod contract;
mod destinations;
mod destinations_check;
mod docs;
mod doubt;
mod drain;
mod examples;
mod exhausted;
mod failover;
mod gates;
mod guard;
mod helm;
mod hostile;
mod hosts;
mod jaeger;
mod kills;
mod kubernetes;
mod letters;
mod memory;
mod metrics;
mod model;
mod names;
mod once;
mod operator;
mod order;
mod origin;
mod outages;
mod outbox;
mod output;
mod peers;
mod plans;
mod poolers;
mod producers;
mod reasons;
mod receivers;
mod redrive;
mod refused;
mod replicas;
mod request;
mod sequence;
mod service;
mod settings;
mod shortage;
mod start;
mod statements;
mod suspend;
mod tidy;
mod tls;
mod traces;
mod unknown;
mod upgrade;
mod verify;
