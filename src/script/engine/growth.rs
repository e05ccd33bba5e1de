//! Replacements for built-in functions that can produce very large values: they check a limit first. (What doubles a
//! value is noticed in `limits.rs`; these can multiply its size by a hundred in one step.)

use super::limits::{bytes_of, check_bytes, max_bytes};
use super::{ScriptResult, changing, script};
use crate::error::Error;
use rhai::{Array, Blob, Dynamic, Engine, INT, ImmutableString};

/// The maximum number of elements that a script may request at once.
const MAX_ELEMENTS: INT = 100_000_000;
/// The approximate bytes that a part of a string takes besides its text: the value and its allocation.
const PART: usize = 64;

pub(super) fn register(engine: &mut Engine) {
    register_lengths(engine);
    register_replacements(engine);
    register_parts(engine);
    engine.register_fn("parse_json", |json: &str| -> ScriptResult<Dynamic> {
        // Two brackets and a comma are enough for an array.
        script(check_bytes("the JSON value", json.len().saturating_mul(PART / 2)))?;
        script(serde_json::from_str(json).map_err(|error| Error::invalid("the string", "JSON", error)))
    });
}

fn register_lengths(engine: &mut Engine) {
    changing("pad").register_into_engine(
        engine,
        |array: &mut Array, len: INT, item: Dynamic| -> ScriptResult<()> {
            let missing = script(size(len))?.saturating_sub(array.len());
            script(check_bytes("the array", bytes_of(&item).saturating_mul(missing)))?;
            array.resize(array.len() + missing, item);
            Ok(())
        },
    );
    fn pad(text: &mut ImmutableString, len: INT, item: &str) -> ScriptResult<()> {
        let missing = script(size(len))?.saturating_sub(text.chars().count());
        text.make_mut().extend(item.chars().cycle().take(missing));
        Ok(())
    }
    changing("pad").register_into_engine(engine, pad);
    changing("pad").register_into_engine(engine, |text: &mut ImmutableString, len: INT, item: char| {
        pad(text, len, &item.to_string())
    });
    changing("pad").register_into_engine(
        engine,
        |blob: &mut Blob, len: INT, value: INT| -> ScriptResult<()> {
            let len = script(size(len))?.max(blob.len());
            blob.resize(len, (value & 0xff) as u8);
            Ok(())
        },
    );
    engine.register_fn("blob", |len: INT| -> ScriptResult<Blob> { Ok(vec![0; script(size(len))?]) });
    engine.register_fn("blob", |len: INT, value: INT| -> ScriptResult<Blob> {
        Ok(vec![(value & 0xff) as u8; script(size(len))?])
    });
    engine.register_fn("to_array", |blob: &mut Blob| -> ScriptResult<Array> {
        script(check_bytes("the array", blob.len().saturating_mul(size_of::<Dynamic>())))?;
        Ok(blob.iter().map(|byte| INT::from(*byte).into()).collect())
    });
    engine.register_fn("to_chars", |text: &str| -> ScriptResult<Array> {
        script(check_bytes("the array", text.len().saturating_mul(size_of::<Dynamic>())))?;
        Ok(text.chars().map(Into::into).collect())
    });
}

fn register_replacements(engine: &mut Engine) {
    fn replace(text: &mut ImmutableString, from: &str, to: &str) -> ScriptResult<()> {
        if text.is_empty() {
            return Ok(());
        }
        let grows = to.len().saturating_sub(from.len());
        if grows > 0 {
            let more = text.matches(from).count().saturating_mul(grows);
            script(check_bytes("the string", text.len().saturating_add(more)))?;
        }
        *text = text.replace(from, to).into();
        Ok(())
    }
    changing("replace").register_into_engine(engine, |text: &mut ImmutableString, from: &str, to: &str| {
        replace(text, from, to)
    });
    changing("replace").register_into_engine(engine, |text: &mut ImmutableString, from: &str, to: char| {
        replace(text, from, &to.to_string())
    });
    changing("replace").register_into_engine(engine, |text: &mut ImmutableString, from: char, to: &str| {
        replace(text, &from.to_string(), to)
    });
    changing("replace").register_into_engine(engine, |text: &mut ImmutableString, from: char, to: char| {
        replace(text, &from.to_string(), &to.to_string())
    });
}

fn register_parts(engine: &mut Engine) {
    engine.register_fn("split", |text: &mut ImmutableString| match text.is_empty() {
        true => Ok(vec![text.clone().into()]),
        false => collected(text.split_whitespace()),
    });
    for (name, is_from_end) in [("split", false), ("split_rev", true)] {
        let split = move |text: &ImmutableString, at: &str, most: INT| -> ScriptResult<Array> {
            let is_unsplit = most <= 1 || text.is_empty() || !at.is_empty() && !text.contains(at);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            match (is_unsplit, is_from_end) {
                (true, _) => Ok(vec![text.clone().into()]),
                (_, false) => collected(text.splitn(most, at)),
                (_, true) => collected(text.rsplitn(most, at)),
            }
        };
        engine.register_fn(name, move |text: &mut ImmutableString, at: &str| split(text, at, INT::MAX));
        engine.register_fn(name, move |text: &mut ImmutableString, at: char| {
            split(text, &at.to_string(), INT::MAX)
        });
        engine
            .register_fn(name, move |text: &mut ImmutableString, at: &str, most: INT| split(text, at, most));
        engine.register_fn(name, move |text: &mut ImmutableString, at: char, most: INT| {
            split(text, &at.to_string(), most)
        });
    }
}

/// Collects parts of a string into an array.
fn collected<'a>(parts: impl Iterator<Item = &'a str>) -> ScriptResult<Array> {
    let (mut bytes, most) = (0usize, max_bytes());
    let mut array = Array::new();
    for part in parts {
        bytes = bytes.saturating_add(PART + part.len());
        if bytes > most {
            script(check_bytes("the parts of the string", bytes))?;
        }
        array.push(part.into());
    }
    Ok(array)
}

fn size(len: INT) -> Result<usize, Error> {
    let size = usize::try_from(len.max(0)).ok().filter(|_| len <= MAX_ELEMENTS);
    size.ok_or_else(|| Error::invalid("the length", format!("at most {MAX_ELEMENTS}"), len))
}
