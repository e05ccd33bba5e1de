//! `exit`: ends a script from anywhere. rhai's own `exit` gets lost in modules and in closures passed to its functions.

use super::ScriptResult;
use rhai::{Dynamic, Engine, EvalAltResult, Position};
use std::cell::RefCell;
use std::rc::Rc;

/// The value that a script passed to `exit`, until it is taken.
#[derive(Clone, Default)]
pub(crate) struct Exit(Rc<RefCell<Option<Dynamic>>>);

impl Exit {
    pub(crate) fn register(&self, engine: &mut Engine) {
        let exit = self.0.clone();
        let exit = move |value: Dynamic| -> ScriptResult<Dynamic> {
            exit.replace(Some(value));
            Err(Box::new(EvalAltResult::Exit(Dynamic::UNIT, Position::NONE)))
        };
        let with_nothing = exit.clone();
        engine.register_fn("exit", exit).register_fn("exit", move || with_nothing(Dynamic::UNIT));
    }

    pub(crate) fn take(&self) -> Option<Dynamic> {
        self.0.take()
    }

    /// Whether the code that still runs must end.
    pub(super) fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }
}
