//! Sorting of arrays: replacements for built-in functions that silently order by type if the comparing closure fails or
//! returns no order. Here both are errors. NaN comes last.

use super::names::script_types;
use super::{ScriptResult, changing, script};
use crate::error::{Error, Result};
use rhai::{Array, Dynamic, Engine, FLOAT, FnPtr, ImmutableString, NativeCallContext};
use std::cmp::Ordering;

pub(super) fn register(engine: &mut Engine) {
    changing("sort")
        .register_into_engine(engine, |array: &mut Array| sort(array, |a, b| script(compare(a, b))));
    changing("sort_desc").register_into_engine(engine, |array: &mut Array| {
        let is_nan = |value: &Dynamic| value.as_float().is_ok_and(FLOAT::is_nan);
        sort(array, |a, b| {
            let order = script(compare(a, b))?;
            Ok(if is_nan(a) || is_nan(b) { order } else { order.reverse() })
        })
    });
    for name in ["sort", "sort_by"] {
        changing(name).register_into_engine(engine, sort_by);
        changing(name).register_into_engine(
            engine,
            |context: NativeCallContext, array: &mut Array, name: &str| {
                sort_by(context, array, FnPtr::new(name)?)
            },
        );
    }
    changing("dedup").register_into_engine(engine, dedup);
    changing("dedup")
        .register_into_engine(engine, |context: NativeCallContext, array: &mut Array, name: &str| {
            dedup(context, array, FnPtr::new(name)?)
        });
}

/// Sorts by the result of a function of two items.
fn sort_by(context: NativeCallContext, array: &mut Array, function: FnPtr) -> ScriptResult<()> {
    sort(array, |a, b| {
        let order = function.call_within_context(&context, (a.clone(), b.clone()))?;
        script(order_of(&order))
    })
}

/// Removes each item that a function says is the same as the one before it.
fn dedup(context: NativeCallContext, array: &mut Array, function: FnPtr) -> ScriptResult<()> {
    let mut kept = Array::new();
    for item in array.iter() {
        let is_same = match kept.last() {
            Some(last) => {
                let same: Dynamic = function.call_within_context(&context, (last.clone(), item.clone()))?;
                script(same.as_bool().map_err(|_| {
                    Error::invalid("the result of the function of `dedup`", "a boolean", type_of(&same))
                }))?
            }
            None => false,
        };
        if !is_same {
            kept.push(item.clone());
        }
    }
    *array = kept;
    Ok(())
}

/// Sorts an array; equal items keep their order, and an error leaves the array unchanged.
fn sort(
    array: &mut Array,
    mut order: impl FnMut(&Dynamic, &Dynamic) -> ScriptResult<Ordering>,
) -> ScriptResult<()> {
    *array = sorted(array.clone(), &mut order)?;
    Ok(())
}

fn sorted(
    mut items: Array,
    order: &mut impl FnMut(&Dynamic, &Dynamic) -> ScriptResult<Ordering>,
) -> ScriptResult<Array> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let mut left = sorted(items, order)?.into_iter().peekable();
    let mut right = sorted(right, order)?.into_iter().peekable();
    let mut merged = Array::with_capacity(left.len() + right.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if order(a, b)? == Ordering::Greater { right.next() } else { left.next() };
        merged.extend(next);
    }
    merged.extend(left.chain(right));
    Ok(merged)
}

/// Returns the natural order of two numbers, strings, characters or booleans.
fn compare(a: &Dynamic, b: &Dynamic) -> Result<Ordering> {
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Ok(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (number(a), number(b)) {
        return Ok(a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
    }
    if let (Some(a), Some(b)) = (a.read_lock::<ImmutableString>(), b.read_lock::<ImmutableString>()) {
        return Ok(a.cmp(&b));
    }
    let order = match (a.as_char(), b.as_char()) {
        (Ok(a), Ok(b)) => Some(a.cmp(&b)),
        _ => a.as_bool().ok().and_then(|a| Some(a.cmp(&b.as_bool().ok()?))),
    };
    order.ok_or_else(|| {
        let got = format!("{} and {}", type_of(a), type_of(b));
        Error::invalid("the items to sort", "numbers, strings, characters or booleans, not mixed", got)
            .with_hint("pass a function that compares two items: items.sort(|a, b| a.score - b.score)")
    })
}

fn type_of(value: &Dynamic) -> String {
    script_types(value.type_name())
}

fn number(value: &Dynamic) -> Option<FLOAT> {
    value.as_float().ok().or_else(|| value.as_int().ok().map(|int| int as FLOAT))
}

/// Converts the result of a comparison: a number below, at or above 0, or whether the first item comes first.
fn order_of(result: &Dynamic) -> Result<Ordering> {
    if let Ok(is_first) = result.as_bool() {
        return Ok(if is_first { Ordering::Less } else { Ordering::Greater });
    }
    number(result).and_then(|number| number.partial_cmp(&0.0)).ok_or_else(|| {
        let got = if number(result).is_some() { "NaN".to_owned() } else { type_of(result) };
        Error::invalid("the result of the function of `sort`", "a number or a boolean", got)
            .with_hint("below 0 or true means that the first of the two comes first")
    })
}
