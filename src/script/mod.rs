//! Scripts: a rhai engine with the functions of this crate, as a [`Session`] that every face shares.
//!
//! The functions convert their arguments, call one library function and convert back; there is one file for each layer.
//! What `help` and the error hints know comes from the doc comments of those functions.

mod dataset;
mod display;
mod errors;
mod extract;
mod help;
mod interpret;
mod limits;
mod model;
mod options;
mod registry;
mod sae;
mod show;
mod tensor;
mod trees;

pub use help::{Help, HelpEntry};

use crate::error::{Error, Result};
use crate::progress::Progress;
use errors::Source;
use rhai::{AST, Array, Dynamic, Engine, EvalAltResult, Scope};
use std::path::Path;

/// What a native function gives to a script.
type ScriptResult<T> = std::result::Result<T, Box<EvalAltResult>>;

/// A scripting session: an engine and the variables that have been defined so far.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// let mut session = saescope::Session::new(saescope::Progress::default(), |line| println!("{line}"));
/// session.eval("let model = load_model(\"demo\");")?;
/// assert_eq!(session.eval("model.cfg.n_layers")?.as_deref(), Some("6"));
/// # Ok(())
/// # }
/// ```
pub struct Session {
    engine: Engine,
    scope: Scope<'static>,
    /// The functions that have been defined so far.
    functions: AST,
    progress: Progress,
    help: Help,
}

impl Session {
    /// A session without variables. What scripts print goes to `print`, line by line; `progress` can stop a script and
    /// is told how far long calls have come.
    pub fn new(progress: Progress, print: impl Fn(&str) + 'static) -> Self {
        let mut engine = Engine::new();
        limits::register(&mut engine, &progress);
        show::register(&mut engine);
        tensor::register(&mut engine);
        model::register(&mut engine);
        sae::register(&mut engine);
        registry::register(&mut engine);
        dataset::register(&mut engine);
        extract::register(&mut engine);
        interpret::register(&mut engine);
        trees::register(&mut engine);
        display::register(&mut engine);
        let help = Help::of(&engine);
        help::register(&mut engine, help.clone());

        engine.set_default_tag(Dynamic::from(progress.clone()));
        let cancelled = progress.clone();
        engine.on_progress(move |_| cancelled.is_cancelled().then_some(Dynamic::UNIT));
        engine.on_print(print);
        Session { engine, scope: Scope::new(), functions: AST::empty(), progress, help }
    }

    /// What the functions of this crate do.
    pub fn help(&self) -> &Help {
        &self.help
    }

    /// Evaluates statements; the text of their value, if they have one. Variables stay for the next call; after a
    /// failure they are as they were before.
    ///
    /// # Errors
    /// [`Error::Script`] with the line underlined, or [`Error::Interrupted`].
    pub fn eval(&mut self, script: &str) -> Result<Option<String>> {
        self.eval_source(&Source { name: None, text: script })
    }

    /// Runs a script file; `arguments` are its `ARGS`. The text of its last value, if it has one.
    ///
    /// # Errors
    /// As [`Session::eval`]; a file that cannot be read.
    pub fn run_file(&mut self, path: &Path, arguments: &[String]) -> Result<Option<String>> {
        let bytes = std::fs::read(path).map_err(Error::file("read", path))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Error::malformed(path, "expected a script in UTF-8").with_hint("is this a .rhai file?")
        })?;
        let arguments: Array = arguments.iter().map(|a| Dynamic::from(a.clone())).collect();
        self.scope.push_constant("ARGS", arguments);
        // A byte order mark and a line for the shell are not part of the script.
        let text = text.trim_start_matches('\u{feff}').to_owned();
        let text = if text.starts_with("#!") { text.replacen("#!", "//", 1) } else { text };
        let name = path.to_string_lossy();
        self.eval_source(&Source { name: Some(&name), text: &text })
    }

    fn eval_source(&mut self, source: &Source) -> Result<Option<String>> {
        let before = self.scope.clone();
        let error = match self.eval_dynamic(source) {
            // A call that did not look at the flag has come to its end; the user wished it had not.
            Ok(value) if !self.progress.is_cancelled() => return Ok(show::text(&value)),
            _ if self.progress.is_cancelled() => Error::Interrupted,
            Err(error) => errors::describe(&error, source, &self.help, &self.scope),
            Ok(_) => Error::Interrupted,
        };
        self.scope = before;
        Err(error)
    }

    fn eval_dynamic(&mut self, source: &Source) -> ScriptResult<Dynamic> {
        let mut ast = self.engine.compile_with_scope(&self.scope, source.text)?;
        if let Some(name) = source.name {
            ast.set_source(name);
        }
        let ast = self.functions.merge(&ast);
        let value = self.engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &ast)?;
        self.functions = ast;
        self.functions.clear_statements();
        Ok(value)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("variables", &self.scope.len()).finish_non_exhaustive()
    }
}

/// A result of this crate as a result that a script understands.
fn script<T>(result: Result<T, impl Into<Error>>) -> ScriptResult<T> {
    result.map_err(|error| errors::to_script(&error.into()))
}

/// The session's progress, for a native function that was called with this context.
fn progress_of(context: &rhai::NativeCallContext) -> Progress {
    context.tag().and_then(|tag| tag.clone().try_cast()).unwrap_or_default()
}
