//! Values that are read when they are first used.

use crate::error::Result;
use std::sync::{Mutex, OnceLock};

/// A value that is read from a checkpoint when it is first used; other threads wait while it is read.
#[derive(Debug)]
pub struct Lazy<T> {
    cell: OnceLock<T>,
    reading: Mutex<()>,
}

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Lazy { cell: OnceLock::new(), reading: Mutex::new(()) }
    }
}

impl<T> Lazy<T> {
    /// Returns the value. The first call reads it with `read`.
    ///
    /// # Errors
    /// Any error of `read`; the next call tries again.
    pub fn get(&self, read: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(value) = self.cell.get() {
            return Ok(value);
        }
        let _reading = self.reading.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match self.cell.get() {
            Some(value) => Ok(value),
            None => {
                let value = read()?;
                Ok(self.cell.get_or_init(|| value))
            }
        }
    }
}
