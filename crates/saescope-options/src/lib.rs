//! Options that are stated once. The macro [`options!`] writes a struct with serde and defaults, and keeps what its fields
//! are: name, doc comment, kind and default. Help, completion and command-line flags are made from that.
//!
//! ```
//! use saescope_options::{Kind, Options, options};
//!
//! options! {
//!     /// Options of a run.
//!     pub struct RunOptions {
//!         /// The number of documents per batch. Default: 64.
//!         pub batch_size: usize = 64,
//!         /// The split to read. Default: "train".
//!         pub split: Option<String> = None,
//!     }
//! }
//!
//! let fields = RunOptions::fields();
//! assert!(matches!(fields[0].kind, Kind::Integer));
//! assert_eq!(fields[0].default, Some(64.into()));
//! assert_eq!(fields[1].description(), "The split to read.");
//! assert_eq!(fields[1].default_text().as_deref(), Some("\"train\""));
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[doc(hidden)]
pub use serde;

/// A struct whose fields are options.
pub trait Options: Default + Serialize + DeserializeOwned {
    /// Returns the options in the order of their definition.
    fn fields() -> Vec<Field>;

    /// Returns what the options belong to: `model` for `ModelOptions`.
    fn subject() -> String;
}

/// One option.
#[derive(Debug, Clone)]
pub struct Field {
    /// The name: `batch_size`.
    pub name: &'static str,
    /// The doc comment, on one line.
    pub doc: String,
    /// What a value looks like.
    pub kind: Kind,
    /// The default as JSON; `None` if it depends on other things, which the doc comment then names.
    pub default: Option<Value>,
}

/// What the value of an option looks like.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// True or false.
    Bool,
    /// An integer, 0 or more.
    Integer,
    /// A floating-point number.
    Number,
    /// A string.
    String,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Numbers, separated by commas on a command line.
    Numbers,
    /// Strings, each with a flag of its own on a command line.
    Strings,
    /// A value that a command line writes as one word.
    Compact {
        /// The form of the word: `HOOK=X`.
        form: &'static str,
        /// Converts the word to the JSON that serde reads, or says what is wrong with it.
        parse: fn(&str) -> Result<Value, String>,
    },
    /// Another value, such as a map of options; command lines do not have it.
    Other,
}

/// A type that the field of an options struct can have.
pub trait OptionType {
    /// Returns what its values look like.
    fn kind() -> Kind;
}

macro_rules! kinds {
    ($($kind:ident: $($type:ty)+;)+) => {
        $($(impl OptionType for $type {
            fn kind() -> Kind {
                Kind::$kind
            }
        })+)+
    };
}

kinds! {
    Bool: bool;
    Integer: u32 u64 usize;
    Number: f32 f64;
    String: String;
    Numbers: Vec<f32> Vec<f64>;
    Strings: Vec<String>;
    Other: [f64; 2];
}

impl<T: OptionType> OptionType for Option<T> {
    fn kind() -> Kind {
        T::kind()
    }
}

impl Field {
    /// Returns an option that no struct has, such as one that only scripts can write.
    pub fn other(name: &'static str, doc: &str) -> Field {
        Field { name, doc: doc.to_owned(), kind: Kind::Other, default: None }
    }

    /// Collects what the fields of `T` are; the macro calls it.
    #[doc(hidden)]
    pub fn all<T: Options>(fields: &[(&'static str, &'static str, Kind)]) -> Vec<Field> {
        let defaults = serde_json::to_value(T::default()).unwrap_or_default();
        let field = |&(name, doc, kind): &(&'static str, &str, Kind)| {
            let doc = doc.split_whitespace().collect::<Vec<_>>().join(" ");
            let default = defaults.get(name).filter(|default| !default.is_null()).cloned();
            Field { name, doc, kind, default }
        };
        fields.iter().map(field).collect()
    }

    /// Returns the doc comment without the sentence on the default.
    pub fn description(&self) -> &str {
        self.doc.split_once(" Default: ").map_or(self.doc.as_str(), |(description, _)| description)
    }

    /// Returns what the doc comment says of the default: `64`, `the model's`. `None` if it has to be given.
    pub fn default_text(&self) -> Option<String> {
        let (_, default) = self.doc.split_once(" Default: ")?;
        Some(default.trim_end_matches('.').to_owned())
    }
}

/// Writes an options struct: fields with a doc comment, a type and a default, which [`Options::fields`] describes.
///
/// The doc comment ends with a sentence `Default: …`; an option without a default has no such sentence.
#[macro_export]
macro_rules! options {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[doc = $doc:literal])+ $(#[serde($($serde:tt)+)])? pub $field:ident: $type:ty = $default:expr,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, $crate::serde::Serialize, $crate::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])+ $(#[serde($($serde)+)])? pub $field: $type,)+
        }

        impl ::std::default::Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)+ }
            }
        }

        impl $crate::Options for $name {
            fn fields() -> ::std::vec::Vec<$crate::Field> {
                $crate::Field::all::<Self>(&[$((
                    ::std::stringify!($field),
                    ::std::concat!($($doc, "\n"),+),
                    <$type as $crate::OptionType>::kind(),
                ),)+])
            }

            fn subject() -> ::std::string::String {
                ::std::stringify!($name).trim_end_matches("Options").to_lowercase()
            }
        }

        impl $crate::OptionType for $name {
            fn kind() -> $crate::Kind {
                $crate::Kind::Other
            }
        }
    };
}

/// Makes enums without fields option types: `option_words!(Packing, LongDocuments)`. The words are serde's.
#[macro_export]
macro_rules! option_words {
    ($($type:ty),+) => {
        $(impl $crate::OptionType for $type {
            fn kind() -> $crate::Kind {
                $crate::Kind::Word($crate::words::<Self>())
            }
        })+
    };
}

/// Returns the names that serde has for the variants of an enum.
#[doc(hidden)]
pub fn words<T: DeserializeOwned>() -> &'static [&'static str] {
    /// Fails after it has seen what the enum asks for.
    struct Probe<'a>(&'a mut &'static [&'static str]);

    impl<'de> serde::Deserializer<'de> for Probe<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("not an enum"))
        }

        fn deserialize_enum<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = variants;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    let mut words: &[&str] = &[];
    let _ = T::deserialize(Probe(&mut words));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Packing {
        #[default]
        Documents,
        Concatenate,
    }

    option_words!(Packing);

    options! {
        /// Options of a test.
        pub struct TestOptions {
            /// The output.
            /// A file.
            pub output_path: String = String::new(),
            /// The packing. Default: "documents".
            pub packing: Packing = Packing::default(),
            /// The number of tokens. Default: 10.
            #[serde(alias = "top")]
            pub top_k: usize = 10,
            /// Where to stop. Default: the model's.
            pub stop: Option<Vec<String>> = None,
        }
    }

    #[test]
    fn fields_say_what_they_are() {
        let fields = TestOptions::fields();
        assert_eq!(fields[0].doc, "The output. A file.");
        assert_eq!((fields[0].default_text(), &fields[0].default), (None, &Some("".into())));
        assert!(matches!(fields[1].kind, Kind::Word(["documents", "concatenate"])));
        assert_eq!(fields[1].default, Some("documents".into()));
        assert!(
            matches!(fields[2].kind, Kind::Integer) && fields[2].description() == "The number of tokens."
        );
        assert_eq!(
            (fields[3].default.clone(), fields[3].default_text()),
            (None, Some("the model's".to_owned()))
        );
    }

    #[test]
    fn the_struct_is_read_as_it_is_written() {
        let options: TestOptions = serde_json::from_str(r#"{ "top": 3, "packing": "concatenate" }"#).unwrap();
        assert_eq!(
            options,
            TestOptions { top_k: 3, packing: Packing::Concatenate, ..TestOptions::default() }
        );
        assert!(serde_json::from_str::<TestOptions>(r#"{ "top_q": 3 }"#).is_err());
    }
}
