//! The text, HTML and JSON of script values: values of this crate, and arrays and maps of them.

use super::forms;
use super::names::type_name;
use crate::display::{self, Bundle, Cell, Shown};
use crate::error::Result;
use rhai::{Array, Dynamic, Engine, FLOAT, FuncRegistration, Map};
use std::io::Write;
use std::rc::Rc;

/// The maximum number of elements shown of one array or map.
const SHOWN: usize = 100;
/// The maximum number of elements shown of all nested arrays and maps together.
const ALL_SHOWN: usize = 1000;

/// A type of values that can be shown.
#[derive(Debug)]
pub(crate) struct ShownType {
    /// Returns a value as a [`Shown`] if it has this type.
    cast: fn(&Dynamic) -> Option<Rc<dyn Shown>>,
    /// Registers the functions that such values have in common.
    register: fn(&mut Engine, &ShownType),
    /// The parameter of `to_string`, as help shows it: `model: &mut Model`.
    parameter: &'static str,
    /// Whether there are `save`, `to_html` and `to_json`.
    is_saved: bool,
}

impl ShownType {
    /// The type `T`, with `to_string` and `to_debug`.
    pub(crate) const fn of<T: Shown + Clone + 'static>(parameter: &'static str) -> Self {
        ShownType {
            cast: |value| value.read_lock::<T>().map(|value| Rc::new(value.clone()) as Rc<dyn Shown>),
            register: |engine, ShownType { parameter, is_saved, .. }| {
                for name in ["to_string", "to_debug"] {
                    FuncRegistration::new(name)
                        .with_purity(true)
                        .with_params_info([*parameter, "String"])
                        .register_into_engine(engine, |value: &mut T| value.brief());
                }
                if *is_saved {
                    forms::register::<T>(engine, parameter.rsplit(' ').next().unwrap_or_default());
                }
            },
            parameter,
            is_saved: false,
        }
    }

    /// The type with `save`, `to_html` and `to_json`.
    pub(crate) const fn saved(self) -> Self {
        ShownType { is_saved: true, ..self }
    }
}

/// The types of values that can be shown, in groups. Arrays and maps of such values can be shown, too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Types(pub(crate) &'static [&'static [ShownType]]);

/// Makes values look the same in `print`, in interpolated strings and as the value of a line.
pub(super) fn register(engine: &mut Engine, types: Types) {
    for shown in types.0.iter().copied().flatten() {
        (shown.register)(engine, shown);
    }
    for name in ["print", "to_string", "debug", "to_debug"] {
        engine.register_fn(name, move |array: Array| types.text(&array.into()));
        engine.register_fn(name, move |map: Map| types.text(&map.into()));
    }
}

impl Types {
    /// Returns the value as a [`Shown`] if it has one of these types.
    pub(crate) fn shown(self, value: &Dynamic) -> Option<Rc<dyn Shown>> {
        self.0.iter().copied().flatten().find_map(|shown| (shown.cast)(value))
    }

    /// Returns the forms in which a value is shown; `None` for `()`.
    pub(crate) fn bundle(self, value: &Dynamic) -> Result<Option<Bundle>> {
        if value.is_unit() {
            return Ok(None);
        }
        match self.shown(value) {
            Some(value) => Bundle::of(value.as_ref()),
            None => Bundle::of(&ScriptValue { value: value.clone(), types: self }),
        }
        .map(Some)
    }

    /// Returns the text of a value.
    pub(crate) fn text(self, value: &Dynamic) -> String {
        self.nested(value, false, &mut ALL_SHOWN.clone())
    }

    /// Returns the text of a value; a string is put in quotation marks if `quoted`. `left` elements may still be shown.
    fn nested(self, value: &Dynamic, quoted: bool, left: &mut usize) -> String {
        if let Some(value) = self.shown(value) {
            return value.brief();
        }
        if let Some(array) = value.read_lock::<Array>() {
            let item = |item, left: &mut usize| self.nested(item, true, left);
            return format!("[{}]", joined(array.iter(), left, item));
        }
        if let Some(map) = value.read_lock::<Map>() {
            let item = |(name, item): (_, &Dynamic), left: &mut usize| {
                format!("{name}: {}", self.nested(item, true, left))
            };
            return format!("#{{ {} }}", joined(map.iter(), left, item));
        }
        if value.is_unit() {
            return "()".to_owned();
        }
        match value.clone().into_string() {
            Ok(text) if quoted => format!("{text:?}"),
            Ok(text) => text,
            Err(_) => value.to_string(),
        }
    }

    /// Returns the HTML of a value of one of these types, if it has any.
    fn own_html(self, value: &Dynamic) -> Option<String> {
        display::inline(self.shown(value)?.as_ref()).ok().flatten()
    }

    /// Returns the table cell of a value. Of the HTML of values only pictures fit in a cell; other values become text.
    fn cell(self, value: &Dynamic) -> Cell {
        if let Ok(number) = value.as_float().or_else(|_| value.as_int().map(|n| n as FLOAT)) {
            return Cell::Number(number);
        }
        let picture = self.shown(value).filter(|shown| shown.html().is_none());
        let picture = picture.and_then(|_| self.own_html(value));
        picture.map_or_else(|| Cell::Text(self.text(value)), Cell::Html)
    }

    /// Returns an array of maps with the same keys as an HTML table.
    fn rows(self, array: &Array) -> Option<String> {
        let first = array.first()?;
        let first = first.read_lock::<Map>().filter(|first| !first.is_empty())?;
        let header: Vec<String> = first.keys().map(ToString::to_string).collect();
        let row = |item: &Dynamic| {
            let map = item.read_lock::<Map>()?;
            let same = map.len() == header.len() && map.keys().zip(&header).all(|(a, b)| a.as_str() == b);
            same.then(|| map.values().map(|value| self.cell(value)).collect::<Vec<_>>())
        };
        let rows: Vec<_> = array.iter().take(SHOWN).map(row).collect::<Option<_>>()?;
        let header: Vec<_> = header.iter().map(String::as_str).collect();
        Some(display::table(&header, &rows, array.len()))
    }
}

/// Joins elements with commas, and appends how many more there are.
fn joined<T>(
    items: impl ExactSizeIterator<Item = T>,
    left: &mut usize,
    text: impl Fn(T, &mut usize) -> String,
) -> String {
    let n = items.len();
    let mut texts = Vec::new();
    for item in items.take(SHOWN) {
        if *left == 0 {
            break;
        }
        *left -= 1;
        texts.push(text(item, left));
    }
    if texts.len() < n {
        texts.push(format!("… {} more", n - texts.len()));
    }
    texts.join(", ")
}

/// A value of the language itself.
#[derive(Debug)]
pub(crate) struct ScriptValue {
    pub(crate) value: Dynamic,
    pub(crate) types: Types,
}

impl Shown for ScriptValue {
    fn title(&self) -> String {
        format!("a value of type {}", type_name(&self.value))
    }

    fn text(&self) -> String {
        self.types.text(&self.value)
    }

    /// A map, or an array of maps with the same keys, becomes a table; an array of values with their own HTML becomes
    /// these, one below the other.
    fn html(&self) -> Option<String> {
        if let Some(map) = self.value.read_lock::<Map>() {
            // A table without rows would be invisible.
            if map.is_empty() {
                return None;
            }
            let rows = map
                .iter()
                .take(SHOWN)
                .map(|(name, value)| vec![Cell::Text(name.to_string()), self.types.cell(value)]);
            return Some(display::table(&[], &rows.collect::<Vec<_>>(), map.len()));
        }
        let array = self.value.read_lock::<Array>()?;
        if let Some(table) = self.types.rows(&array) {
            return Some(table);
        }
        let own: Vec<_> = array.iter().take(SHOWN).map(|item| self.types.own_html(item)).collect();
        if own.iter().all(Option::is_none) {
            return None;
        }
        let items = array.iter().zip(own);
        let item = |(item, own): (&Dynamic, Option<String>)| {
            own.unwrap_or_else(|| display::preformatted(&self.types.text(item)))
        };
        Some(items.map(item).chain([display::more(array.len(), SHOWN, "elements")]).collect())
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        display::to_json(&self.value, out)
    }
}
