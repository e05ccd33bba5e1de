//! Limits: what would end the program rather than the script.

use super::{ScriptResult, script};
use crate::error::Error;
use crate::progress::Progress;
use rhai::{Array, Blob, Dynamic, Engine, FLOAT, INT, ImmutableString};
use std::time::{Duration, Instant};

/// The most elements that a script may ask for at once.
const MOST: INT = 100_000_000;

/// Sets the depths of expressions and calls, and puts a limit on the functions of the language that allocate whatever
/// they are told to. (rhai's own limits on the sizes of values walk through all values at every step.)
pub(super) fn register(engine: &mut Engine, progress: &Progress) {
    // The same in debug and release builds; rhai's defaults differ between them.
    engine.set_max_expr_depths(256, 256).set_max_call_levels(64);
    // A text that evaluates itself is no call, and has no depth that could be limited.
    engine.disable_symbol("eval");
    let waiting = progress.clone();
    engine.register_fn("sleep", move |seconds: INT| script(sleep(seconds as f64, &waiting)));
    let waiting = progress.clone();
    engine.register_fn("sleep", move |seconds: FLOAT| script(sleep(seconds, &waiting)));
    engine.register_fn("pad", |array: &mut Array, len: INT, item: Dynamic| -> ScriptResult<()> {
        let len = script(size(len))?;
        array.resize(len.max(array.len()), item);
        Ok(())
    });
    engine.register_fn("pad", |text: &mut ImmutableString, len: INT, item: char| -> ScriptResult<()> {
        let missing = script(size(len))?.saturating_sub(text.chars().count());
        text.make_mut().extend(std::iter::repeat_n(item, missing));
        Ok(())
    });
    engine.register_fn("pad", |text: &mut ImmutableString, len: INT, item: &str| -> ScriptResult<()> {
        let missing = script(size(len))?.saturating_sub(text.chars().count());
        let whole = missing.div_ceil(item.chars().count().max(1));
        let padding: String = item.repeat(whole).chars().take(missing).collect();
        text.make_mut().push_str(&padding);
        Ok(())
    });
    engine.register_fn("blob", |len: INT| -> ScriptResult<Blob> { Ok(vec![0; script(size(len))?]) });
    engine.register_fn("blob", |len: INT, value: INT| -> ScriptResult<Blob> {
        Ok(vec![(value & 0xff) as u8; script(size(len))?])
    });
}

/// Waits, unless a stop is asked for.
fn sleep(seconds: f64, progress: &Progress) -> Result<(), Error> {
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        progress.check()?;
        let left = seconds - start.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_secs_f64(left.clamp(0.0, 0.05)));
    }
    Ok(())
}

fn size(len: INT) -> Result<usize, Error> {
    let size = usize::try_from(len.max(0)).ok().filter(|_| len <= MOST);
    size.ok_or_else(|| Error::invalid("the length", format!("at most {MOST}"), len))
}
