//! The session: an engine with its variables, and the calls that every front end needs.

use super::engine::complete::{self, CompletionContext, Inspection, ScriptFunction};
use super::engine::completion::Completions;
use super::engine::errors::{self, Origin, Origins, Source};
use super::engine::exit::Exit;
use super::engine::help::{self, Help};
use super::engine::host::{Host, SessionContext};
use super::engine::items::SkippedError;
use super::engine::lexer::{self, Completeness, Piece, Unfinished};
use super::engine::modules::Modules;
use super::engine::names::is_closure;
use super::functions::{NAMES, OPTIONS, TYPES};
use super::{ScriptResult, engine, functions};
use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use crate::threads;
use rhai::{AST, Array, Dynamic, Engine, Expr, OptimizationLevel, Scope, ScriptFnMetadata, Stmt};
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

/// The maximum size of a script from a pipe, in bytes.
const MAX_PIPE_BYTES: u64 = 1 << 26;

/// A scripting session: an engine and the variables that have been defined so far.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// let mut session = saescope::script::Session::new(saescope::Progress::default(), |line| println!("{line}"));
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
    /// Where these functions come from.
    origins: Origins,
    progress: Progress,
    exit: Exit,
    /// Whether the last evaluation called `exit`.
    has_exited: bool,
    help: Help,
    /// The help including the functions of the language, made when first needed.
    all_help: OnceCell<Help>,
}

/// A variable of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The name of the variable.
    pub name: String,
    /// The type, as scripts name it.
    pub type_name: String,
    /// The first line of the value's text.
    pub text: String,
}

impl Session {
    /// Creates a session without variables. `print` receives what scripts print, line by line; `progress` can interrupt
    /// a script and receives the progress of long calls.
    pub fn new(progress: Progress, print: impl Fn(&str) + 'static) -> Self {
        Session::with_host(progress, print)
    }

    /// Creates a session with a host that also shows values and answers `input`.
    pub fn with_host(progress: Progress, host: impl Host + 'static) -> Self {
        let mut engine = Engine::new();
        // The optimizer would remove statements that seem to have no effect, such as a failing import.
        engine.set_optimization_level(OptimizationLevel::None);
        let (exit, skipped) = (Exit::default(), SkippedError::default());
        engine::register(&mut engine, &progress, &exit, &skipped, TYPES);
        functions::register(&mut engine, &progress, &skipped);
        engine.set_module_resolver(Modules::default());
        let help = Help::of(&engine).with_options(OPTIONS);
        help::register(&mut engine, help.clone());

        let host: Rc<dyn Host> = Rc::new(host);
        let context = SessionContext { progress: progress.clone(), host: host.clone() };
        engine.set_default_tag(Dynamic::from(context));
        let print = host.clone();
        engine.on_print(move |line| print.print(line));
        engine.on_debug(move |line, _, _| host.print(line));
        Session {
            engine,
            scope: Scope::new(),
            earlier: AST::empty(),
            origins: Origins::new(),
            progress,
            exit,
            has_exited: false,
            help,
            all_help: OnceCell::new(),
        }
    }

    /// Returns the help of the functions of this crate.
    pub fn help(&self) -> &Help {
        &self.help
    }

    /// Evaluates statements and returns their value, `None` for `()`. Variables, functions and imports stay for the
    /// next call. A failure restores them, except for what a closure has changed in a variable that it captured.
    ///
    /// # Errors
    /// [`Error::Script`] with the underlined line, or [`Error::Interrupted`].
    pub fn eval(&mut self, script: &str) -> Result<Option<Bundle>> {
        self.eval_named("input", 1, script)
    }

    /// Like [`Session::eval`], with the name (such as that of a cell) and the number of the first line, from 1, that
    /// errors show.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn eval_named(&mut self, name: &str, first_line: usize, script: &str) -> Result<Option<Bundle>> {
        self.eval_source(Source { name: name.to_owned(), text: script.to_owned(), first_line }, None)
    }

    /// Runs a script file and returns its last value, `None` for `()`. Only this file sees `arguments`, as `ARGS`.
    ///
    /// # Errors
    /// As [`Session::eval`], or the file cannot be read.
    pub fn run_file(&mut self, path: &Path, arguments: &[String]) -> Result<Option<Bundle>> {
        let bytes = read_script(path, &self.progress)?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Error::malformed(path, "expected a script in UTF-8").with_hint("is this a .rhai file?")
        })?;
        let arguments: Array = arguments.iter().map(|a| Dynamic::from(a.clone())).collect();
        let (name, text) = (path.to_string_lossy().into_owned(), strip_preamble(&text));
        self.eval_source(Source { name, text, first_line: 1 }, Some(arguments))
    }

    /// Returns whether statements are complete, or more lines are needed.
    pub fn completeness(&self, script: &str) -> Completeness {
        lexer::completeness(&self.engine, script)
    }

    /// Whether statements may be complete with this further line, where `before` is what earlier lines left open. If
    /// so, [`Session::completeness`] decides. The time is proportional to the length of the line.
    pub fn may_end(&self, before: &mut Unfinished, line: &str) -> bool {
        lexer::may_end(&self.engine, before, line)
    }

    /// Returns the pieces of a script, for coloring: their byte ranges and kinds.
    pub fn pieces(&self, script: &str) -> Vec<Piece> {
        lexer::pieces(&self.engine, script)
    }

    /// Returns the completions at `cursor`, a byte offset in a script.
    pub fn complete(&self, script: &str, cursor: usize) -> Completions {
        self.completion_context().complete(script, cursor)
    }

    /// Returns what is known about the name at `cursor`, a byte offset in a script: the help of a function, or the
    /// value of a variable.
    pub fn inspect(&self, script: &str, cursor: usize) -> Option<Inspection> {
        self.completion_context().inspect(script, cursor)
    }

    /// Returns what is known about a name.
    ///
    /// # Errors
    /// The name is unknown.
    pub fn about(&self, name: &str) -> Result<Inspection> {
        self.inspect(name, name.len()).map_or_else(|| self.help.get(name).map(Inspection::Help), Ok)
    }

    fn completion_context(&self) -> CompletionContext<'_> {
        let help = self.all_help.get_or_init(|| self.help.with_language(&self.engine).with_options(OPTIONS));
        let functions = self.earlier.iter_functions().filter(|function| !is_closure(function.name));
        let mut written: Vec<_> = functions.map(ScriptFunction::of).collect();
        written.sort();
        CompletionContext {
            engine: &self.engine,
            scope: &self.scope,
            help,
            written,
            types: TYPES,
            options: OPTIONS,
            names: NAMES,
        }
    }

    /// Returns the functions that a script defines, in order, each as `name/number of parameters` with its byte range.
    pub fn functions(&self, script: &str) -> Vec<(String, Range<usize>)> {
        lexer::functions(&self.engine, script)
    }

    /// Returns the variables in the order of their definition.
    pub fn variables(&self) -> Vec<Variable> {
        let variable = |(name, _, value): (&str, bool, Dynamic)| {
            let text = TYPES.text(&value).lines().next().unwrap_or_default().to_owned();
            Variable { name: name.to_owned(), type_name: complete::type_of(&self.engine, &value), text }
        };
        self.scope.iter().map(variable).collect()
    }

    /// Returns whether the last evaluation called `exit`, which ends a script.
    pub fn has_exited(&self) -> bool {
        self.has_exited
    }

    /// Forgets variables, functions and imports.
    pub fn reset(&mut self) {
        self.scope.clear();
        self.earlier = AST::empty();
        self.origins.clear();
    }

    /// Evaluates on a copy of the variables, which replaces them if nothing fails.
    fn eval_source(&mut self, source: Source, arguments: Option<Array>) -> Result<Option<Bundle>> {
        const ARGS: &str = "ARGS";
        let mut scope = self.scope.clone();
        let is_file = arguments.is_some();
        let _ = self.exit.take();
        self.has_exited = false;
        if let Some(arguments) = arguments {
            scope.push_constant(ARGS, arguments);
        }
        let source = Rc::new(source);
        let mut origins = self.origins.clone();
        lexer::check_comments(&self.engine, &source.name, &source.text)?;
        let compiled = self.engine.compile_with_scope(&scope, &source.text);
        let evaluated: ScriptResult<_> = compiled.map_err(Into::into).and_then(|mut ast| {
            let mut folder = Path::new("");
            if is_file {
                // Its imports are relative to its folder.
                ast.set_source(&source.name);
                folder = Path::new(&source.name).parent().unwrap_or(folder);
            }
            let merged = self.earlier.merge(&ast);
            add_origins(&ast, &merged, &source, &mut origins);
            let value = self.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &merged);
            // After `exit`, the result of the evaluation does not count.
            let exit = self.exit.take();
            self.has_exited = exit.is_some();
            let value = exit.map_or(value, Ok)?;
            // The next evaluation sees the imports and the functions.
            Ok((value, AST::new(imports(&merged, folder), merged.shared_lib().clone())))
        });
        match evaluated {
            // A call that does not check for interrupts has finished, although the user asked to stop.
            _ if self.progress.is_canceled() => Err(Error::Interrupted),
            Err(error) => Err(errors::describe(&error, &source, &origins, &self.help, &scope)),
            Ok((value, earlier)) => {
                let bundle = TYPES.bundle(&value)?;
                if is_file {
                    let _ = scope.remove::<Dynamic>(ARGS);
                }
                let names: HashSet<&str> = scope.iter_raw().map(|(name, ..)| name).collect();
                // Variables that are hidden by later ones of the same name can never be used again.
                let is_hiding = names.len() < scope.len();
                self.scope = if is_hiding { scope.clone_visible() } else { scope };
                (self.earlier, self.origins) = (earlier, origins);
                Ok(bundle)
            }
        }
    }
}

/// Records where the functions of a script come from; `merged` also has those of earlier scripts. If scripts define
/// different functions with one name, it is unknown which one is called.
fn add_origins(ast: &AST, merged: &AST, source: &Rc<Source>, origins: &mut Origins) {
    let key = |function: ScriptFnMetadata| {
        (function.name.to_owned(), function.params.len(), function.this_type.map(str::to_owned))
    };
    let new: BTreeSet<_> = ast.iter_functions().map(key).collect();
    let mut of_name: HashMap<&str, Vec<_>> = HashMap::new();
    merged.iter_functions().for_each(|function| of_name.entry(function.name).or_default().push(function));
    let names: BTreeSet<&str> = new.iter().map(|(name, ..)| name.as_str()).collect();
    for name in names {
        let functions = of_name.remove(name).unwrap_or_default();
        let mut signatures: Vec<_> = functions.iter().map(complete::signature).collect();
        signatures.sort();
        let is_known = functions.into_iter().map(key).all(|function| new.contains(&function));
        origins.insert(name.to_owned(), Origin { source: is_known.then(|| source.clone()), signatures });
    }
}

/// Reads a script. It may come from a pipe that stays open for long, so an interrupt ends the wait.
fn read_script(path: &Path, progress: &Progress) -> Result<Vec<u8>> {
    if path.is_file() {
        return files::read(path);
    }
    let from = path.to_owned();
    let read = threads::run_cancelable(progress, move || {
        let mut bytes = Vec::new();
        std::fs::File::open(&from)?.take(MAX_PIPE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    })?;
    match read.map_err(Error::file("read", path))? {
        bytes if bytes.len() as u64 > MAX_PIPE_BYTES => {
            Err(Error::malformed(path, format!("expected at most {MAX_PIPE_BYTES} bytes, got more")))
        }
        bytes => Ok(bytes),
    }
}

/// Strips a byte order mark and turns a `#!` line into a comment.
pub(crate) fn strip_preamble(text: &str) -> String {
    let text = text.trim_start_matches('\u{feff}');
    // The space matters: three slashes would begin a doc comment.
    if text.starts_with("#!") { text.replacen("#!", "// ", 1) } else { text.to_owned() }
}

/// Returns the imports of a script in `folder`, the last of each name, because the engine forgets modules between
/// evaluations. Their paths are made absolute.
fn imports(ast: &AST, folder: &Path) -> Vec<Stmt> {
    let name = |statement: &Stmt| match statement {
        Stmt::Import(import, _) => Some(import.1.name.clone()),
        _ => None,
    };
    let mut imports: Vec<Stmt> = Vec::new();
    for statement in ast.statements() {
        if let Some(new) = name(statement) {
            imports.retain(|import| name(import).as_ref() != Some(&new));
            let mut statement = statement.clone();
            if let Stmt::Import(import, _) = &mut statement
                && let Expr::StringConstant(path, _) = &mut import.0
                && let Ok(absolute) = std::path::absolute(folder.join(path.as_str()))
                && let Some(absolute) = absolute.to_str()
            {
                *path = absolute.into();
            }
            imports.push(statement);
        }
    }
    imports
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("variables", &self.scope.len()).finish_non_exhaustive()
    }
}
