//! A request's body, that goes out only before the attempt's deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::progress::Progress;
use crate::clock;
use crate::domain::lease::may_send;
use crate::domain::verdict::Phase;

/// The bytes of a body that are handed to the connection at a time.
const PIECE: usize = 64 * 1024;

/// An event's body, that goes out only before the attempt's deadline.
///
/// The HTTP client hands requests to a task of their connection, which may run much later if the process is paused in
/// between. It asks for the body right before it writes, and an error then closes the connection with nothing written. A body
/// of several pieces is asked for again and again, and one that was cut in the middle is no request: the receiver has been
/// told of more bytes than come.
///
/// What this can't reach: bytes that the connection's task has taken and not written yet (one piece, as a rule; with HTTP/1 a
/// few, if the receiver reads slowly), or that the system has taken and the network has not; and with HTTP/1 a request without
/// a body, between the look at the clock in `until` and the task's turn.
pub(super) struct Payload {
    /// What is left of it.
    body: Bytes,
    /// An empty body has been asked for.
    ended: bool,
    deadline: Duration,
    /// Told how far the request has come.
    progress: Arc<Progress>,
}

impl Payload {
    pub(super) fn new(body: Bytes, deadline: Duration, progress: Arc<Progress>) -> Self {
        Self { body, ended: false, deadline, progress }
    }
}

impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if !may_send(clock::now(), self.deadline) {
            return Poll::Ready(Some(Err(std::io::Error::other("the attempt's time is over"))));
        }
        let length = self.body.len().min(PIECE);
        let piece = self.body.split_to(length);
        self.ended = self.body.is_empty();
        self.progress.is_at(if self.ended { Phase::Waiting } else { Phase::Sending });
        Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }

    /// Never at first, also without content: HTTP/2 then asks for the end of the request as for a body.
    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.body.len() as u64)
    }
}
