//! Arithmetic of tensors: whole-array operations under numpy's names.

use super::tensor::{axis_of, check_size, floats, not_empty};
use super::{ScriptResult, script};
use crate::linalg;
use candle_core::{DType, Device, Tensor};
use rhai::{Engine, FLOAT, FuncRegistration, INT, Module};

type Unary = fn(&Tensor) -> candle_core::Result<Tensor>;
type Binary = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;
type AlongAxis = fn(&Tensor, usize) -> candle_core::Result<Tensor>;

pub(super) fn register(engine: &mut Engine) {
    register_operators(engine);
    let mut module = Module::new();
    register_elementwise(&mut module);
    register_reductions(&mut module);
    engine.register_global_module(module.into());
}

/// `+ - * /` between tensors, with numpy's broadcasting, and between tensors and numbers; comparisons, which give 1 where
/// they hold and 0 elsewhere.
fn register_operators(engine: &mut Engine) {
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
        let apply = move |a: &Tensor, b: &Tensor| -> ScriptResult<Tensor> {
            script(check_size(a.shape().broadcast_shape_binary_op(b.shape(), "arithmetic")))?;
            script(floats(a).and_then(|a| floats(&f(&a, &floats(b)?)?)))
        };
        let number = |x: FLOAT| script(Tensor::new(x as f32, &Device::Cpu));
        engine.register_fn(name, move |a: Tensor, b: Tensor| apply(&a, &b));
        engine.register_fn(name, move |a: Tensor, b: FLOAT| apply(&a, &number(b)?));
        engine.register_fn(name, move |a: FLOAT, b: Tensor| apply(&number(a)?, &b));
        engine.register_fn(name, move |a: Tensor, b: INT| apply(&a, &number(b as FLOAT)?));
        engine.register_fn(name, move |a: INT, b: Tensor| apply(&number(a as FLOAT)?, &b));
    }
    engine.register_fn("-", |a: Tensor| script(floats(&a).and_then(|a| a.neg())));
}

fn register_elementwise(module: &mut Module) {
    let functions: [(&str, &str, Unary); 5] = [
        ("relu", "The positive part of each number.", Tensor::relu),
        ("exp", "e to the power of each number.", Tensor::exp),
        ("log", "The natural logarithm of each number.", Tensor::log),
        ("abs", "Each number without its sign.", Tensor::abs),
        ("sqrt", "The square root of each number.", Tensor::sqrt),
    ];
    for (name, doc, f) in functions {
        describe(name, doc, &["tensor: &mut Tensor", "Tensor"])
            .set_into_module(module, move |x: &mut Tensor| script(floats(x).and_then(|x| f(&x))));
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
        let along = move |x: &Tensor, axis: INT| {
            let axis = script(axis_of(x, axis))?;
            script(floats(x).and_then(|x| f(&x, axis)))
        };
        describe(name, doc, &["tensor: &mut Tensor", "Tensor"])
            .set_into_module(module, move |x: &mut Tensor| along(x, -1));
        describe(name, doc, &["tensor: &mut Tensor", "axis: int", "Tensor"])
            .set_into_module(module, move |x: &mut Tensor, axis: INT| along(x, axis));
    }
}

fn register_reductions(module: &mut Module) {
    let functions: [(&str, &str, AlongAxis); 6] = [
        ("sum", "The sum of all numbers, or along an axis.", |x, axis| x.sum(axis)),
        ("mean", "The mean of all numbers, or along an axis.", |x, axis| x.mean(axis)),
        ("max", "The largest of all numbers, or along an axis.", |x, axis| x.max(axis)),
        ("min", "The smallest of all numbers, or along an axis.", |x, axis| x.min(axis)),
        ("norm", "The square root of the sum of squares of all numbers, or along an axis.", linalg::norm),
        (
            "std",
            "The standard deviation (numpy's: divided by n) of all numbers, or along an axis.",
            linalg::std,
        ),
    ];
    for (name, doc, f) in functions {
        describe(name, doc, &["tensor: &mut Tensor", "float"]).set_into_module(
            module,
            move |x: &mut Tensor| {
                script(not_empty(x, name))?;
                // All numbers at once are summed in f64: a float of a script holds what that gives.
                let all = x.flatten_all().and_then(|x| x.to_dtype(DType::F64)).and_then(|x| f(&x, 0));
                script(all.and_then(|x| x.to_scalar::<f64>()))
            },
        );
        describe(name, doc, &["tensor: &mut Tensor", "axis: int", "Tensor"]).set_into_module(
            module,
            move |x: &mut Tensor, axis: INT| {
                script(not_empty(x, name))?;
                let axis = script(axis_of(x, axis))?;
                script(floats(x).and_then(|x| f(&x, axis)))
            },
        );
    }
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
