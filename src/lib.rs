//! Onceward delivers events from RabbitMQ to HTTP endpoints: once, in order, to the end.
//!
//! The rooms, in the order in which an event goes through them:
//!
//! | room | what happens there |
//! |---|---|
//! | [`cli`], [`config`] | flags and environment become settings |
//! | [`app`] | wires the worker together, and takes it apart |
//! | [`broker`] | RabbitMQ: connection, topology, consumers, publisher, delay ladder |
//! | [`intake`] | messages are read by the contract, recorded, and acknowledged after the commit |
//! | [`engine`] | **what happens next is decided here**, and nowhere else: pure |
//! | [`dispatch`] | the engine's task: receives, lets it decide, carries out |
//! | [`writer`] | what it decides is recorded, in group commits |
//! | [`store`] | Postgres: statements, migrations |
//! | [`deliver`] | one attempt: one HTTP request |
//! | [`destinations`] | what holds for receivers is read, and read again |
//! | [`announce`] | after the commit, a wake-up or a dead letter goes to the broker |
//! | [`ownership`] | keeps the leases on partitions; a [`lease`] is what others hold on to |
//! | [`gates`] | hosts that are down, or paused: the same for all workers |
//! | [`rescue`] | finds what a crash or a lost message left |
//! | [`handoff`] | what the stages hand to each other |
//! | [`domain`] | the rules of it all, pure |
//! | [`telemetry`] | every log, span and metric |
//! | [`census`], [`health`], [`admin`] | open events are counted, connections watched, [`standstill`]s have their cause; all are shown on the admin port |
//! | [`service`] | what systemd is told of a worker |
//! | [`clock`], [`reconnect`] | time, delays between tries |
//! | [`proof`] | what `verify` sends, and how what it sees is held against the promises, pure |
//! | [`simulator`] | whole clusters in one thread, from one seed: the engine is held against the promises |
//! | [`commands`] | what else the program does: publish, sink, status, redrive, pause, destinations, verify, report, health |

pub mod admin;
pub mod announce;
pub mod app;
pub mod broker;
pub mod census;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod deliver;
pub mod destinations;
pub mod dispatch;
pub mod domain;
pub mod engine;
pub mod gates;
pub mod handoff;
pub mod health;
pub mod intake;
pub mod lease;
pub mod ownership;
pub mod proof;
pub mod reconnect;
pub mod rescue;
pub mod service;
pub mod simulator;
pub mod standstill;
pub mod store;
pub mod telemetry;
pub mod writer;
