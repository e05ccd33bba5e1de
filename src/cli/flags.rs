//! Flags made from options: one for each field of an options struct, under its name.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use saescope_options::{Field, Kind, Options};
use serde_json::{Map, Value};

/// Shorter names for flags.
const ALIASES: [(&str, &str); 3] = [("dataset_path", "dataset"), ("output_path", "output"), ("top_k", "top")];

/// Options that a command has a flag of its own for, because it means more there.
const OWN: [(&str, &str); 1] = [("writetrees", "output_path")];

/// The headings of flags in help, by what the options belong to.
const HEADINGS: [(&str, &str); 1] = [("sae", "Overrides for the SAE's checkpoint")];

/// The options of a struct, each of which is a flag.
pub(super) struct Flags<T>(pub(super) T);

impl<T: Options> Args for Flags<T> {
    fn augment_args(command: Command) -> Command {
        command.args(fields::<T>().map(flag::<T>))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Options> FromArgMatches for Flags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |field: Field| Some((field.name.to_owned(), value(&field, &id::<T>(&field), matches)?));
        let options: Map<String, Value> = fields::<T>().filter_map(given).collect();
        let wrong = |error| clap::Error::raw(ErrorKind::InvalidValue, format!("{error}\n"));
        serde_json::from_value(Value::Object(options)).map(Flags).map_err(wrong)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The options that are flags.
fn fields<T: Options>() -> impl Iterator<Item = Field> {
    let own = |field: &Field| OWN.contains(&(T::subject().as_str(), field.name));
    T::fields().into_iter().filter(move |field| !matches!(field.kind, Kind::Other) && !own(field))
}

/// The name of a flag, with underscores. Models, SAEs and datasets all have a `revision`.
fn id<T: Options>(field: &Field) -> String {
    if field.name == "revision" { format!("{}_revision", T::subject()) } else { field.name.to_owned() }
}

fn flag<T: Options>(field: Field) -> Arg {
    let id = id::<T>(&field);
    let description = field.description().trim_end_matches('.');
    let (help, is_required) = match field.default_text() {
        Some(default) => (format!("{description} [default: {default}]"), false),
        None => (description.to_owned(), true),
    };
    let is_hook = field.name.starts_with("hook_name") || field.name == "inject_at";
    let last_word = if is_hook { "hook" } else { field.name.rsplit('_').next().unwrap_or_default() };
    let last_word = last_word.to_uppercase();
    let heading = HEADINGS.iter().find(|(subject, _)| *subject == T::subject()).map(|(_, heading)| *heading);
    let arg = Arg::new(id.clone())
        .long(id.replace('_', "-"))
        .help(help.replace('`', ""))
        .required(is_required)
        .help_heading(heading);
    let arg = match ALIASES.iter().find(|(name, _)| *name == id) {
        Some((_, alias)) => arg.visible_alias(alias),
        None => arg,
    };
    match field.kind {
        Kind::Bool => arg
            .value_name("BOOL")
            .num_args(0..=1)
            .default_missing_value("true")
            .hide_possible_values(true)
            .value_parser(value_parser!(bool)),
        Kind::Integer => arg.value_name("N").value_parser(value_parser!(u64)),
        Kind::Number => arg.value_name("X").allow_negative_numbers(true).value_parser(finite),
        Kind::String => arg.value_name(last_word),
        Kind::Word(words) => arg.value_name(last_word).value_parser(words.to_vec()),
        Kind::Numbers => {
            arg.value_name("X,X").value_delimiter(',').allow_hyphen_values(true).value_parser(finite)
        }
        Kind::Strings => arg.value_name("TEXT").num_args(0..=1).action(ArgAction::Append),
        Kind::Compact { form, parse } => arg.value_name(form).allow_hyphen_values(true).value_parser(parse),
        Kind::Other => arg,
    }
}

/// Parses a number that JSON has, which leaves out NaN and infinities.
fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| error.to_string())?;
    if number.is_finite() { Ok(number) } else { Err("expected a finite number".to_owned()) }
}

/// The value of a flag as JSON; `None` if it is not given.
fn value(field: &Field, id: &str, matches: &ArgMatches) -> Option<Value> {
    fn one<V: Clone + Send + Sync + 'static + Into<Value>>(id: &str, matches: &ArgMatches) -> Option<Value> {
        matches.get_one::<V>(id).cloned().map(Into::into)
    }
    fn all<V: Clone + Send + Sync + 'static + Into<Value>>(id: &str, matches: &ArgMatches) -> Option<Value> {
        matches.contains_id(id).then(|| matches.get_many::<V>(id).into_iter().flatten().cloned().collect())
    }
    match field.kind {
        Kind::Bool => one::<bool>(id, matches),
        Kind::Integer => one::<u64>(id, matches),
        Kind::Number => one::<f64>(id, matches),
        Kind::String | Kind::Word(_) => one::<String>(id, matches),
        Kind::Numbers => all::<f64>(id, matches),
        Kind::Strings => all::<String>(id, matches),
        Kind::Compact { .. } => one::<Value>(id, matches),
        Kind::Other => None,
    }
}
