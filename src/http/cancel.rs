//! Waits that can be canceled: for a network that another thread reads, and until the next attempt.

use crate::error::Result;
use crate::progress::Progress;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// The interval at which a pause checks the cancel flag.
const STEP: Duration = Duration::from_millis(50);
/// The maximum size of a piece of a body, in bytes.
const PIECE: usize = 1 << 16;
/// The maximum number of pieces that wait to be written.
const QUEUE: usize = 16;

/// A piece of a body, or the error that ended it.
pub(super) type Piece = std::io::Result<Vec<u8>>;

/// Creates the channel for the pieces of a body.
pub(super) fn pieces() -> (SyncSender<Piece>, Receiver<Piece>) {
    sync_channel(QUEUE)
}

/// Sends a body in pieces until it ends, or until the receiver is gone.
pub(super) fn pass_on(mut body: impl std::io::Read, pieces: &SyncSender<Piece>) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = body.read(&mut piece);
        let piece = match read {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                Ok(piece)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = piece.is_err();
        if pieces.send(piece).is_err() || last {
            return;
        }
    }
}

/// Pauses, and checks the cancel flag meanwhile.
pub(super) fn sleep(pause: Duration, progress: &Progress) -> Result<()> {
    let end = Instant::now() + pause;
    loop {
        progress.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}
