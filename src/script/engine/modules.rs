//! Modules: script files that other scripts import.

use super::{ScriptResult, errors, lexer, script};
use crate::error::{Error, Result};
use crate::files;
use rhai::module_resolvers::FileModuleResolver;
use rhai::{Engine, GlobalRuntimeState, Module, ModuleResolver, Position, Scope, Shared};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// The maximum depth of nested imports.
const MAX_NESTED: usize = 32;
/// The maximum size of a module, in bytes.
const MAX_BYTES: u64 = 1 << 24;

/// The modules of a session: files found relative to the script that imports them, each read once.
#[derive(Default)]
pub(crate) struct Modules {
    files: FileModuleResolver,
    /// The files that are being loaded, each imported by the one before it.
    loading: RefCell<Vec<PathBuf>>,
}

impl Modules {
    /// Loads a module; a circular or too deeply nested import is an error.
    fn guarded(
        &self,
        engine: &Engine,
        source: Option<&str>,
        path: &str,
        position: Position,
        load: impl FnOnce() -> ScriptResult<Shared<Module>>,
    ) -> ScriptResult<Shared<Module>> {
        let place = self.files.get_file_path(path, source.and_then(|source| Path::new(source).parent()));
        let file = place.canonicalize().unwrap_or_else(|_| place.clone());
        let checked = self.check(&file).and_then(|()| match self.files.is_cached(&place) {
            true => Ok(()),
            false => check_text(&file, engine, path),
        });
        script(checked).map_err(|mut error| {
            error.set_position(position);
            error
        })?;
        self.loading.borrow_mut().push(file);
        let loaded = load();
        self.loading.borrow_mut().pop();
        loaded.map_err(|error| errors::at_import(error, path, position))
    }

    fn check(&self, file: &Path) -> Result<()> {
        let loading = self.loading.borrow();
        let what = format!("the module `{}`", file.display());
        if loading.iter().any(|one| one == file) {
            let circle = loading.iter().map(PathBuf::as_path).chain([file]);
            let circle = circle.map(|one| format!("`{}`", one.display())).collect::<Vec<_>>();
            let circle = circle.join(", which imports ");
            return Err(Error::invalid(what, "a module that does not import itself", circle)
                .with_hint("put what both need into a third module"));
        }
        if loading.len() >= MAX_NESTED {
            return Err(Error::invalid(what, format!("at most {MAX_NESTED} nested modules"), "more"));
        }
        // The language reports a missing file.
        if !file.exists() {
            return Ok(());
        }
        files::check_is_file(file)?;
        let bytes = std::fs::metadata(file).map_err(Error::file("read", file))?.len();
        if bytes > MAX_BYTES {
            return Err(Error::invalid(what, format!("at most {MAX_BYTES} bytes"), bytes));
        }
        Ok(())
    }
}

/// Checks the comments of a module. If it is missing or not text, the language reports that.
fn check_text(file: &Path, engine: &Engine, path: &str) -> Result<()> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    lexer::check_comments(engine, &format!("the module `{path}`"), &text)
}

impl ModuleResolver for Modules {
    fn resolve_raw(
        &self,
        engine: &Engine,
        global: &mut GlobalRuntimeState,
        scope: &mut Scope,
        path: &str,
        position: Position,
    ) -> ScriptResult<Shared<Module>> {
        let source = global.source().map(str::to_owned);
        self.guarded(engine, source.as_deref(), path, position, || {
            self.files.resolve_raw(engine, global, scope, path, position)
        })
    }

    fn resolve(
        &self,
        engine: &Engine,
        source: Option<&str>,
        path: &str,
        position: Position,
    ) -> ScriptResult<Shared<Module>> {
        self.guarded(engine, source, path, position, || self.files.resolve(engine, source, path, position))
    }
}
