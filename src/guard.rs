//! Calls into libraries that can panic on unexpected input: a panic becomes `None`, and nothing is printed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is inside a guarded call.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// The result of `call`, or `None` if it panicked. The message of the panic is not printed.
pub fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                usual(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_becomes_none() {
        let numbers = [1, 2, 3];
        let at = |i: usize| guarded(move || numbers[i]);
        assert_eq!((at(2), at(3), at(0)), (Some(3), None, Some(1)));
        assert_eq!(guarded(|| guarded(|| numbers[at(9).unwrap_or(1)])), Some(Some(2)));
    }
}
