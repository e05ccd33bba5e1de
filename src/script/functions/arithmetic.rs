//! Tensor arithmetic: operators, elementwise functions and reductions, named as in numpy.

use super::arguments::{axis_of, floats, not_empty};
use super::{ScriptResult, script};
use crate::error::Error;
use crate::large;
use crate::linalg;
use crate::progress::Progress;
use candle_core::{Device, Tensor};
use rhai::{Engine, FLOAT, FuncRegistration, INT, Module};

type Unary = fn(&Tensor) -> candle_core::Result<Tensor>;
type Binary = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;
type AlongAxis = fn(&Tensor, usize) -> candle_core::Result<Tensor>;
type Total = fn(&Tensor, &Progress) -> Result<f64, Error>;

pub(super) fn register(engine: &mut Engine, progress: &Progress) {
    register_operators(engine, progress);
    let mut module = Module::new();
    register_elementwise(&mut module, progress);
    register_reductions(&mut module, progress);
    engine.register_global_module(module.into());
}

/// Registers `+ - * /` and comparisons, between tensors (with numpy's broadcasting) and between tensors and numbers.
/// A comparison gives 1 where it holds and 0 elsewhere.
fn register_operators(engine: &mut Engine, progress: &Progress) {
    let operators: [(&str, Binary); 10] = [
        ("+", Tensor::broadcast_add),
        ("-", Tensor::broadcast_sub),
        ("*", Tensor::broadcast_mul),
        ("/", Tensor::broadcast_div),
        (">", Tensor::broadcast_gt),
        (">=", Tensor::broadcast_ge),
        ("<", Tensor::broadcast_lt),
        ("<=", Tensor::broadcast_le),
        ("==", Tensor::broadcast_eq),
        ("!=", Tensor::broadcast_ne),
    ];
    for (name, f) in operators {
        let progress = progress.clone();
        let apply = move |a: &Tensor, b: &Tensor| -> ScriptResult<Tensor> {
            let (a, b) = (script(floats(a))?, script(floats(b))?);
            script(large::each_of_two(&a, &b, &progress, |a, b| floats(&f(a, b)?)))
        };
        let number = |x: FLOAT| script(Tensor::new(x as f32, &Device::Cpu));
        let f = apply.clone();
        engine.register_fn(name, move |a: Tensor, b: Tensor| f(&a, &b));
        let f = apply.clone();
        engine.register_fn(name, move |a: Tensor, b: FLOAT| f(&a, &number(b)?));
        let f = apply.clone();
        engine.register_fn(name, move |a: FLOAT, b: Tensor| f(&number(a)?, &b));
        let f = apply.clone();
        engine.register_fn(name, move |a: Tensor, b: INT| f(&a, &number(b as FLOAT)?));
        engine.register_fn(name, move |a: INT, b: Tensor| apply(&number(a as FLOAT)?, &b));
    }
    let progress = progress.clone();
    engine
        .register_fn("-", move |a: Tensor| script(large::each(&script(floats(&a))?, &progress, Tensor::neg)));
}

fn register_elementwise(module: &mut Module, progress: &Progress) {
    let functions: [(&str, &str, Unary); 5] = [
        ("relu", "The positive part of each element: `max(x, 0)`.", Tensor::relu),
        ("exp", "The exponential of each element.", Tensor::exp),
        ("log", "The natural logarithm of each element.", Tensor::log),
        ("abs", "The absolute value of each element.", Tensor::abs),
        ("sqrt", "The square root of each element.", Tensor::sqrt),
    ];
    for (name, doc, f) in functions {
        let progress = progress.clone();
        describe(name, doc, &["tensor: &mut Tensor", "Tensor"])
            .set_into_module(module, move |x: &mut Tensor| {
                script(large::each(&script(floats(x))?, &progress, f))
            });
    }
    let functions: [(&str, &str, AlongAxis); 2] = [
        ("softmax", "The softmax along the last axis, or along `axis`.", linalg::softmax),
        (
            "log_softmax",
            "The logarithm of the softmax along the last axis, or along `axis`.",
            linalg::log_softmax,
        ),
    ];
    for (name, doc, f) in functions {
        let progress = progress.clone();
        let along = move |x: &Tensor, axis: INT| {
            let axis = script(axis_of(x, axis))?;
            script(large::along(&script(floats(x))?, axis, &progress, f))
        };
        let last = along.clone();
        describe(name, doc, &["tensor: &mut Tensor", "Tensor"])
            .set_into_module(module, move |x: &mut Tensor| last(x, -1));
        describe(name, doc, &["tensor: &mut Tensor", "axis: int", "Tensor"])
            .set_into_module(module, move |x: &mut Tensor, axis: INT| along(x, axis));
    }
}

fn register_reductions(module: &mut Module, progress: &Progress) {
    let functions: [(&str, &str, AlongAxis, Total); 6] = [
        ("sum", "The sum of all elements, or along an axis.", |x, axis| x.sum(axis), sum),
        ("mean", "The mean of all elements, or along an axis.", |x, axis| x.mean(axis), mean),
        (
            "max",
            "The largest element, or the largest along an axis.",
            |x, axis| x.max(axis),
            |x, progress| large::total(x, progress, &|x| x.max(0), &|x| x.max(0)),
        ),
        (
            "min",
            "The smallest element, or the smallest along an axis.",
            |x, axis| x.min(axis),
            |x, progress| large::total(x, progress, &|x| x.min(0), &|x| x.min(0)),
        ),
        (
            "norm",
            "The L2 norm of all elements, or along an axis: the square root of the sum of squares.",
            linalg::norm,
            norm,
        ),
        (
            "std",
            "The standard deviation of all elements, or along an axis; like numpy's, it divides by n.",
            linalg::std,
            std,
        ),
    ];
    for (name, doc, along, total) in functions {
        let for_all = progress.clone();
        describe(name, doc, &["tensor: &mut Tensor", "float"]).set_into_module(
            module,
            move |x: &mut Tensor| {
                script(not_empty(x, name))?;
                // The total is summed in f64, the type of a script's floats.
                script(total(x, &for_all))
            },
        );
        let progress = progress.clone();
        describe(name, doc, &["tensor: &mut Tensor", "axis: int", "Tensor"]).set_into_module(
            module,
            move |x: &mut Tensor, axis: INT| {
                script(not_empty(x, name))?;
                let axis = script(axis_of(x, axis))?;
                script(large::along(&script(floats(x))?, axis, &progress, along))
            },
        );
    }
}

fn sum(x: &Tensor, progress: &Progress) -> Result<f64, Error> {
    large::total(x, progress, &|x| x.sum(0), &|x| x.sum(0))
}

fn mean(x: &Tensor, progress: &Progress) -> Result<f64, Error> {
    match large::is_large(x) {
        true => Ok(sum(x, progress)? / x.elem_count() as f64),
        false => large::total(x, progress, &|x| x.mean(0), &|x| x.mean(0)),
    }
}

fn norm(x: &Tensor, progress: &Progress) -> Result<f64, Error> {
    large::total(x, progress, &|x| linalg::norm(x, 0), &|x| linalg::norm(x, 0))
}

fn std(x: &Tensor, progress: &Progress) -> Result<f64, Error> {
    if !large::is_large(x) {
        return large::total(x, progress, &|x| linalg::std(x, 0), &|x| linalg::std(x, 0));
    }
    let mean = mean(x, progress)?;
    let far = large::total(x, progress, &|x| linalg::norm(&(x - mean)?, 0), &|x| linalg::norm(x, 0))?;
    Ok(far / (x.elem_count() as f64).sqrt())
}

fn describe(name: &str, doc: &str, params: &[&str]) -> FuncRegistration {
    let registration = FuncRegistration::new(name).in_global_namespace().with_volatility(false);
    let takes_axis = params.len() > 2;
    let example = if takes_axis {
        format!("tensor([[1, 2], [3, 5]]).{name}(0)")
    } else {
        format!("tensor([1, 4]).{name}()")
    };
    let doc = format!("/// {doc}\n///\n/// ```rhai\n/// print({example});\n/// ```");
    registration.with_purity(true).with_params_info(params).with_comments([doc])
}
