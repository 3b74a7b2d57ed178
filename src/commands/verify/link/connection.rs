//! One connection through a link.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, watch};

use super::Condition;
use super::commits::{Commit, Commits, Found, Lost, Then};
use super::frontend::Frontend;

/// The bytes that are passed on at a time; on a slow link, each time takes the delay.
const PIECE: usize = 16 * 1024;

pub(super) struct Connection {
    condition: watch::Sender<Condition>,
    /// How often the link had been healed when this began.
    healed: u32,
    commits: Arc<Commits>,
    /// The client gets no more answers.
    is_silent: AtomicBool,
    /// The server has answered what its client does not get.
    answered: Notify,
}

impl Connection {
    pub(super) fn new(condition: watch::Sender<Condition>, healed: u32, commits: Arc<Commits>) -> Self {
        Self { condition, healed, commits, is_silent: AtomicBool::new(false), answered: Notify::new() }
    }

    /// Passes bytes on, until one of both ends it.
    pub(super) async fn carry(&self, client: TcpStream, server: TcpStream) {
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            () = self.ask(from_client, to_server) => {}
            () = self.answer(from_server, to_client) => {}
        }
    }

    async fn ask(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (mut frontend, mut found) = (Frontend::new(), Found::default());
        let mut buffer = vec![0; PIECE];
        loop {
            let mut piece = self.read(&mut from, &mut buffer).await;
            if self.is_cut() {
                self.stay_if_ended(piece).await;
                continue;
            }
            if piece.is_empty() {
                return;
            }
            while !piece.is_empty() {
                let (said, rest) = frontend.hear(piece);
                piece = rest;
                self.commits.look(said.bytes, &mut found);
                let fate = said.commit.map_or(Commit::Pass, |bytes| self.commits.fate(bytes, &mut found));
                match fate {
                    Commit::Delay(time) => tokio::time::sleep(time).await,
                    Commit::Lose(lost, then) => match self.lose(said.bytes, lost, then, &mut to).await {
                        Then::Cut => break,
                        Then::Reset(silence) => return tokio::time::sleep(silence).await,
                    },
                    Commit::Pass => {}
                }
                if to.write_all(said.bytes).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The end of a transaction of which the client hears nothing.
    async fn lose(&self, commit: &[u8], lost: Lost, then: Then, to: &mut OwnedWriteHalf) -> Then {
        // Before the server can answer.
        match then {
            Then::Reset(_) => self.is_silent.store(true, Ordering::Release),
            Then::Cut => self.condition.send_modify(|condition| condition.is_cut = true),
        }
        if lost == Lost::Answer && to.write_all(commit).await.is_ok() {
            self.answered.notified().await;
        }
        self.commits.note_lost();
        then
    }

    async fn answer(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = self.read(&mut from, &mut buffer).await;
            if self.is_cut() || self.is_silent.load(Ordering::Acquire) {
                self.answered.notify_one();
                self.stay_if_ended(piece).await;
            } else if piece.is_empty() || to.write_all(piece).await.is_err() {
                return;
            }
        }
    }

    /// What comes next, after the link's delay. Nothing is the end.
    async fn read<'a>(&self, from: &mut OwnedReadHalf, buffer: &'a mut [u8]) -> &'a [u8] {
        let count = from.read(buffer).await.unwrap_or(0);
        let delay = self.condition.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        &buffer[..count]
    }

    /// Where bytes are gone, so is the word that a side has ended: the other one is told when the link is healed.
    async fn stay_if_ended(&self, piece: &[u8]) {
        if piece.is_empty() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether bytes are gone: after a heal, only new connections come through.
    fn is_cut(&self) -> bool {
        let condition = self.condition.borrow();
        condition.is_cut || condition.healed != self.healed
    }
}
