//! Waiting for the disk, on a thread or as a future.

use super::writer::{Head, Inner};
use crate::Result;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

/// Ends when a record is committed, or when the disk failed meanwhile: then nobody knows, and the same feedback id may
/// be sent again.
pub struct Commit {
    pub(super) seq: u64,
    pub(super) failures: u64,
    pub(super) failed: bool,
    pub(super) inner: Arc<Inner>,
}

impl Commit {
    fn state(&self, head: &Head) -> Option<Result<()>> {
        if head.committed >= self.seq {
            Some(Ok(()))
        } else if self.failed || head.failures != self.failures {
            Some(Err(Inner::unavailable(head.failure.as_ref())))
        } else {
            None
        }
    }

    /// Blocks until it ends.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the disk failed.
    pub fn wait(self) -> Result<()> {
        let mut head = self.inner.head();
        loop {
            if let Some(end) = self.state(&head) {
                return end;
            }
            head = self.inner.done.wait(head).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Commit {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut head = self.inner.head();
        match self.state(&head) {
            Some(end) => Poll::Ready(end),
            None => {
                head.wakers.push(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
