//! The session: an engine and the variables so far, with the calls that every face needs.

use super::complete::{self, Completions, Place};
use super::errors::{self, Source};
use super::help::{self, Help};
use super::host::{Host, Surroundings};
use super::lexer::{self, Completeness, Piece};
use super::{ScriptResult, show};
use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use rhai::{AST, Array, Dynamic, Engine, Scope, Stmt};
use std::cell::OnceCell;
use std::path::Path;
use std::rc::Rc;

/// A scripting session: an engine and the variables that have been defined so far.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// let mut session = saescope::Session::new(saescope::Progress::default(), |line| println!("{line}"));
/// session.eval("let model = load_model(\"demo\");")?;
/// let value = session.eval("model.cfg.n_layers")?.unwrap_or_default();
/// assert_eq!(value.text, "6");
/// # Ok(())
/// # }
/// ```
pub struct Session {
    engine: Engine,
    scope: Scope<'static>,
    /// The functions that have been defined so far, and the modules that have been imported.
    earlier: AST,
    progress: Progress,
    help: Help,
    /// With the functions of the language, once somebody asks for them.
    all_help: OnceCell<Help>,
}

/// A variable of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its type, as a script knows it.
    pub type_name: String,
    /// The first line of what it shows.
    pub text: String,
}

impl Session {
    /// A session without variables. What scripts print goes to `print`, line by line; `progress` can stop a script and
    /// is told how far long calls have come.
    pub fn new(progress: Progress, print: impl Fn(&str) + 'static) -> Self {
        Session::with_host(progress, print)
    }

    /// The same with a host that shows values and can be asked.
    pub fn with_host(progress: Progress, host: impl Host + 'static) -> Self {
        let mut engine = Engine::new();
        super::register(&mut engine, &progress);
        let help = Help::of(&engine, false);
        help::register(&mut engine, help.clone());

        let host: Rc<dyn Host> = Rc::new(host);
        let surroundings = Surroundings { progress: progress.clone(), host: host.clone() };
        engine.set_default_tag(Dynamic::from(surroundings));
        let cancelled = progress.clone();
        engine.on_progress(move |_| cancelled.is_cancelled().then_some(Dynamic::UNIT));
        let print = host.clone();
        engine.on_print(move |line| print.print(line));
        engine.on_debug(move |line, _, _| host.print(line));
        Session {
            engine,
            scope: Scope::new(),
            earlier: AST::empty(),
            progress,
            help,
            all_help: OnceCell::new(),
        }
    }

    /// What the functions of this crate do.
    pub fn help(&self) -> &Help {
        &self.help
    }

    /// Evaluates statements; their value, if they have one. Variables, functions and imports stay for the next call;
    /// after a failure they are as they were before.
    ///
    /// # Errors
    /// [`Error::Script`] with the line underlined, or [`Error::Interrupted`].
    pub fn eval(&mut self, script: &str) -> Result<Option<Bundle>> {
        self.eval_source(&Source { name: None, text: script })
    }

    /// The same, with a name for the statements that errors show, such as that of a cell.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn eval_named(&mut self, name: &str, script: &str) -> Result<Option<Bundle>> {
        self.eval_source(&Source { name: Some(name), text: script })
    }

    /// Runs a script file; `arguments` are its `ARGS`. Its last value, if it has one.
    ///
    /// # Errors
    /// As [`Session::eval`]; a file that cannot be read.
    pub fn run_file(&mut self, path: &Path, arguments: &[String]) -> Result<Option<Bundle>> {
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

    /// Whether statements are whole, or more lines are needed.
    pub fn completeness(&self, script: &str) -> Completeness {
        lexer::completeness(&self.engine, script)
    }

    /// The pieces of a script, for colours: their places in bytes, and what they are.
    pub fn pieces(&self, script: &str) -> Vec<Piece> {
        lexer::pieces(&self.engine, script)
    }

    /// What may stand at the place `cursor` of a script, in bytes.
    pub fn complete(&self, script: &str, cursor: usize) -> Completions {
        self.place().complete(script, cursor)
    }

    /// What is known of the name at the place `cursor` of a script, in bytes: the help of a function, the value of a
    /// variable.
    pub fn inspect(&self, script: &str, cursor: usize) -> Option<String> {
        self.place().inspect(script, cursor)
    }

    fn place(&self) -> Place<'_> {
        let help = self.all_help.get_or_init(|| Help::of(&self.engine, true));
        Place { engine: &self.engine, scope: &self.scope, help }
    }

    /// The variables, in the order in which they were defined.
    pub fn variables(&self) -> Vec<Variable> {
        let all: Vec<_> = self.scope.iter().collect();
        // A name that was defined again stands for the later value.
        let is_last = |i: usize| all[i + 1..].iter().all(|(name, _, _)| *name != all[i].0);
        let shown = (0..all.len()).filter(|i| is_last(*i)).map(|i| {
            let (name, _, value) = &all[i];
            let text = show::text(value).lines().next().unwrap_or_default().to_owned();
            let type_name = complete::type_of(&self.engine, value);
            Variable { name: (*name).to_owned(), type_name, text }
        });
        shown.collect()
    }

    /// Forgets variables, functions and imports.
    pub fn reset(&mut self) {
        self.scope.clear();
        self.earlier = AST::empty();
    }

    fn eval_source(&mut self, source: &Source) -> Result<Option<Bundle>> {
        let before = self.scope.clone();
        let error = match self.eval_dynamic(source) {
            // A call that did not look at the flag has come to its end; the user wished it had not.
            Ok(value) if !self.progress.is_cancelled() => return show::bundle(&value),
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
        let ast = self.earlier.merge(&ast);
        let value = self.engine.eval_ast_with_scope::<Dynamic>(&mut self.scope, &ast)?;
        self.earlier = AST::new(imports(&ast), ast.shared_lib().clone());
        Ok(value)
    }
}

/// The imports of a script, the last of each name: the engine forgets modules from one evaluation to the next.
fn imports(ast: &AST) -> Vec<Stmt> {
    let name = |statement: &Stmt| match statement {
        Stmt::Import(import, _) => Some(import.1.name.clone()),
        _ => None,
    };
    let mut imports: Vec<Stmt> = Vec::new();
    for statement in ast.statements() {
        if let Some(new) = name(statement) {
            imports.retain(|import| name(import).as_ref() != Some(&new));
            imports.push(statement.clone());
        }
    }
    imports
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("variables", &self.scope.len()).finish_non_exhaustive()
    }
}
