//! Values that a script iterates over with `for`: their items, and errors among the items.

use super::errors::FatalError;
use super::{ScriptResult, script};
use crate::error::{Error, Result};
use rhai::{Array, Dynamic, Engine, INT, Module, Variant};
use std::any::TypeId;
use std::cell::Cell;
use std::rc::Rc;

/// The error of an item that a loop skipped. A loop with an empty body drops its items and the errors among them; no
/// other loop requests an item after an error.
#[derive(Clone, Default)]
pub(crate) struct SkippedError(Rc<Cell<Option<FatalError>>>);

impl SkippedError {
    pub(super) fn take(&self) -> Option<FatalError> {
        self.0.take()
    }
}

/// Registers a type that `for` can iterate over; `items` returns its items.
pub(crate) fn register<T: Variant + Clone, V: Variant + Clone, I: Iterator<Item = Result<V>> + 'static>(
    engine: &mut Engine,
    skipped: &SkippedError,
    items: impl Fn(T) -> I + 'static,
) {
    let mut module = Module::new();
    let skipped = skipped.clone();
    module.set_iter_result(TypeId::of::<T>(), move |value| {
        let items = value.try_cast::<T>().map(&items).into_iter().flatten();
        let (skipped, mut failed) = (skipped.clone(), None);
        Box::new(items.map(Some).chain(std::iter::once(None)).map_while(move |item| {
            if let Some(ending) = failed.take() {
                skipped.0.set(Some(ending));
                return Some(Ok(Dynamic::UNIT));
            }
            let item = item?;
            failed = item.as_ref().err().filter(|error| !error.is_interrupted()).map(FatalError::of);
            Some(script(item.map(Dynamic::from)))
        }))
    });
    engine.register_global_module(module.into());
}

/// Returns the first `n` items as an array.
pub(crate) fn take<V: Variant + Clone>(
    items: impl Iterator<Item = Result<V>>,
    n: INT,
) -> ScriptResult<Array> {
    let n = script(usize::try_from(n).map_err(|_| Error::invalid("`n`", "0 or more", n)))?;
    script(items.take(n).map(|item| item.map(Dynamic::from)).collect())
}

impl FatalError {
    fn of(error: &Error) -> Self {
        FatalError { message: error.to_string(), hint: error.hint(), kind: error.kind() }
    }
}
