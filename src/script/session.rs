//! The session: an engine and the variables so far, with the calls that every face needs.

use super::complete::{self, Completions, Inspection, Place, Written};
use super::errors::{self, Origin, Origins, Source};
use super::exit::Exit;
use super::help::{self, Help};
use super::host::{Host, Surroundings};
use super::lexer::{self, Completeness, Piece, Unfinished};
use super::modules::Modules;
use super::{ScriptResult, show};
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

/// The most bytes of a script from a pipe.
const MOST_FROM_PIPE: u64 = 1 << 26;

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
    /// Where these come from.
    origins: Origins,
    progress: Progress,
    exit: Exit,
    /// Whether the last evaluation called `exit`.
    has_exited: bool,
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
        // What looks as if it did nothing, such as an import that fails, is not left out.
        engine.set_optimization_level(OptimizationLevel::None);
        let exit = Exit::default();
        super::register(&mut engine, &progress, &exit);
        engine.set_module_resolver(Modules::default());
        let help = Help::of(&engine);
        help::register(&mut engine, help.clone());

        let host: Rc<dyn Host> = Rc::new(host);
        let surroundings = Surroundings { progress: progress.clone(), host: host.clone() };
        engine.set_default_tag(Dynamic::from(surroundings));
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

    /// What the functions of this crate do.
    pub fn help(&self) -> &Help {
        &self.help
    }

    /// Evaluates statements; their value, if they have one. Variables, functions and imports stay for the next call;
    /// after a failure they are as they were before, but for what a closure has changed in a variable that it captured.
    ///
    /// # Errors
    /// [`Error::Script`] with the line underlined, or [`Error::Interrupted`].
    pub fn eval(&mut self, script: &str) -> Result<Option<Bundle>> {
        self.eval_named("input", 1, script)
    }

    /// The same, with what errors show of the statements: their name, such as that of a cell, and the number of their
    /// first line, from 1.
    ///
    /// # Errors
    /// As [`Session::eval`].
    pub fn eval_named(&mut self, name: &str, first_line: usize, script: &str) -> Result<Option<Bundle>> {
        self.eval_source(Source { name: name.to_owned(), text: script.to_owned(), first_line }, None)
    }

    /// Runs a script file; `arguments` are its `ARGS`, which only it sees. Its last value, if it has one.
    ///
    /// # Errors
    /// As [`Session::eval`]; a file that cannot be read.
    pub fn run_file(&mut self, path: &Path, arguments: &[String]) -> Result<Option<Bundle>> {
        let bytes = read_script(path, &self.progress)?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Error::malformed(path, "expected a script in UTF-8").with_hint("is this a .rhai file?")
        })?;
        let arguments: Array = arguments.iter().map(|a| Dynamic::from(a.clone())).collect();
        let (name, text) = (path.to_string_lossy().into_owned(), plain(&text));
        self.eval_source(Source { name, text, first_line: 1 }, Some(arguments))
    }

    /// Whether statements are whole, or more lines are needed.
    pub fn completeness(&self, script: &str) -> Completeness {
        lexer::completeness(&self.engine, script)
    }

    /// Whether statements may be whole with this further line, where `before` is what the lines before it have left open;
    /// if so, [`Session::completeness`] says whether they are. The time is proportional to the line.
    pub fn may_end(&self, before: &mut Unfinished, line: &str) -> bool {
        lexer::may_end(&self.engine, before, line)
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
    pub fn inspect(&self, script: &str, cursor: usize) -> Option<Inspection> {
        self.place().inspect(script, cursor)
    }

    /// What is known of a name.
    ///
    /// # Errors
    /// A name that nothing has.
    pub fn about(&self, name: &str) -> Result<Inspection> {
        self.inspect(name, name.len()).map_or_else(|| self.help.get(name).map(Inspection::Help), Ok)
    }

    fn place(&self) -> Place<'_> {
        let help = self.all_help.get_or_init(|| self.help.with_language(&self.engine));
        let functions = self.earlier.iter_functions().filter(|function| !errors::is_closure(function.name));
        let mut written: Vec<_> = functions.map(Written::of).collect();
        written.sort();
        Place { engine: &self.engine, scope: &self.scope, help, written }
    }

    /// The functions that a script defines, in their order, each as `name/number of parameters`, with its place in bytes.
    pub fn functions(&self, script: &str) -> Vec<(String, Range<usize>)> {
        lexer::functions(&self.engine, script)
    }

    /// The variables, in the order in which they were defined.
    pub fn variables(&self) -> Vec<Variable> {
        let variable = |(name, _, value): (&str, bool, Dynamic)| {
            let text = show::text(&value).lines().next().unwrap_or_default().to_owned();
            Variable { name: name.to_owned(), type_name: complete::type_of(&self.engine, &value), text }
        };
        self.scope.iter().map(variable).collect()
    }

    /// Whether the last evaluation called `exit`, which ends a script.
    pub fn has_exited(&self) -> bool {
        self.has_exited
    }

    /// Forgets variables, functions and imports.
    pub fn reset(&mut self) {
        self.scope.clear();
        self.earlier = AST::empty();
        self.origins.clear();
    }

    /// Evaluates on a copy of the variables, which takes their place if nothing fails.
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
                // What it imports lies beside it.
                ast.set_source(&source.name);
                folder = Path::new(&source.name).parent().unwrap_or(folder);
            }
            let whole = self.earlier.merge(&ast);
            add_origins(&ast, &whole, &source, &mut origins);
            let value = self.engine.eval_ast_with_scope::<Dynamic>(&mut scope, &whole);
            // What it came to afterwards does not count.
            let exit = self.exit.take();
            self.has_exited = exit.is_some();
            let value = exit.map_or(value, Ok)?;
            // What the next evaluation is to know of this one.
            Ok((value, AST::new(imports(&whole, folder), whole.shared_lib().clone())))
        });
        match evaluated {
            // A call that did not look at the flag has come to its end; the user wished it had not.
            _ if self.progress.is_cancelled() => Err(Error::Interrupted),
            Err(error) => Err(errors::describe(&error, &source, &origins, &self.help, &scope)),
            Ok((value, earlier)) => {
                let bundle = show::bundle(&value)?;
                if is_file {
                    let _ = scope.remove::<Dynamic>(ARGS);
                }
                let names: HashSet<&str> = scope.iter_raw().map(|(name, ..)| name).collect();
                // What was defined again hides what it was before for ever.
                let is_hiding = names.len() < scope.len();
                self.scope = if is_hiding { scope.clone_visible() } else { scope };
                (self.earlier, self.origins) = (earlier, origins);
                Ok(bundle)
            }
        }
    }
}

/// Notes where the functions of a script come from; `whole` has those of the scripts before it too. Of a name that different
/// functions of several scripts have, it is not known which one is called.
fn add_origins(ast: &AST, whole: &AST, source: &Rc<Source>, origins: &mut Origins) {
    let key = |function: ScriptFnMetadata| {
        (function.name.to_owned(), function.params.len(), function.this_type.map(str::to_owned))
    };
    let new: BTreeSet<_> = ast.iter_functions().map(key).collect();
    let mut of_name: HashMap<&str, Vec<_>> = HashMap::new();
    whole.iter_functions().for_each(|function| of_name.entry(function.name).or_default().push(function));
    let names: BTreeSet<&str> = new.iter().map(|(name, ..)| name.as_str()).collect();
    for name in names {
        let functions = of_name.remove(name).unwrap_or_default();
        let mut forms: Vec<_> = functions.iter().map(complete::form).collect();
        forms.sort();
        let is_known = functions.into_iter().map(key).all(|function| new.contains(&function));
        origins.insert(name.to_owned(), Origin { source: is_known.then(|| source.clone()), forms });
    }
}

/// Reads a script. It may come from a pipe, whose end can be long in coming.
fn read_script(path: &Path, progress: &Progress) -> Result<Vec<u8>> {
    if path.is_file() {
        return files::read(path);
    }
    let from = path.to_owned();
    let read = threads::waiting_for(progress, move || {
        let mut bytes = Vec::new();
        std::fs::File::open(&from)?.take(MOST_FROM_PIPE + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    })?;
    match read.map_err(Error::file("read", path))? {
        bytes if bytes.len() as u64 > MOST_FROM_PIPE => {
            Err(Error::malformed(path, format!("expected at most {MOST_FROM_PIPE} bytes, got more")))
        }
        bytes => Ok(bytes),
    }
}

/// A script without what is none: a byte order mark, and a first line for the shell, which becomes a comment.
pub(crate) fn plain(text: &str) -> String {
    let text = text.trim_start_matches('\u{feff}');
    // With a space: three slashes would be the help of a function.
    if text.starts_with("#!") { text.replacen("#!", "// ", 1) } else { text.to_owned() }
}

/// The imports of a script in a folder, the last of each name: the engine forgets modules from one evaluation to the next.
/// Their paths lead there from everywhere.
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
                && let Ok(whole) = std::path::absolute(folder.join(path.as_str()))
                && let Some(whole) = whole.to_str()
            {
                *path = whole.into();
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
