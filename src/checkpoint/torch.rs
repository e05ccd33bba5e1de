//! Torch's checkpoints: a zip archive with a pickle that describes the tensors, and their elements in other members.

use super::Values;
use super::archive::Member;
use super::entry::{Entry, width};
use super::pickle::{Id, Node, Pickle};
use super::source::{Source, Span};
use crate::error::{Error, Result};
use safetensors::Dtype;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// The size limit of a pickle, in bytes; the elements are not in it.
const MAX_PICKLE: u64 = 4 << 20;
/// The limit on nested dictionaries and wrappers.
const MAX_DEPTH: usize = 16;
/// The limit on visited values: a few bytes of pickle can represent an endless structure.
const MAX_VALUES: usize = 1_000_000;

/// The pickle of a torch checkpoint, if the archive is one.
pub(super) fn pickle_of(members: &[Member]) -> Option<&Member> {
    members.iter().find(|member| member.name == "data.pkl" || member.name.ends_with("/data.pkl"))
}

/// Returns the tensors of a torch checkpoint and the other values in its dictionary. Keys of nested dictionaries are
/// joined by dots; if only one inner dictionary has tensors, such as `state_dict`, it is used instead of the outer one.
pub(super) fn entries(
    source: &Source,
    members: &[Member],
    pickle: &Member,
) -> Result<(BTreeMap<String, Entry>, Values)> {
    let malformed = |message: &str| {
        let message = format!("not a readable torch checkpoint: {message}");
        Error::malformed(&source.path, message).with_hint(
            "expected a dictionary of tensors: save the SAE's state_dict() with torch.save, or as safetensors",
        )
    };
    if pickle.span.size > MAX_PICKLE {
        return Err(malformed("its description of the tensors is too long"));
    }
    let folder = pickle.name.strip_suffix("data.pkl").unwrap_or_default();
    let spans: HashMap<&str, Span> =
        members.iter().filter_map(|member| Some((member.name.strip_prefix(folder)?, member.span))).collect();
    if let Some(order) = spans.get("byteorder").filter(|span| span.size <= 16)
        && source.read_span(*order)? != b"little"
    {
        return Err(malformed("its tensors are big endian"));
    }
    let bytes = source.read_span(pickle.span)?;
    let collect = || {
        let pickle = Pickle::parse(&bytes)?;
        let mut walk = Walk { pickle: &pickle, spans: &spans, seen: 0 };
        if pickle.entries(pickle.root).is_none() || walk.is_tensor(pickle.root) {
            return Err("it does not contain a dictionary".to_owned());
        }
        if walk.tensors(pickle.root, 0)? == 0 {
            return Err("it contains no tensor".to_owned());
        }
        let root = walk.inner(pickle.root)?;
        let (mut entries, mut values) = (BTreeMap::new(), Values::new());
        walk.collect(root, "", 0, &mut entries, &mut values)?;
        Ok((entries, values))
    };
    collect().map_err(|message: String| malformed(&message))
}

/// A traversal of the values of a pickle with limits, because a pickle may be cyclic.
struct Walk<'a, 'p> {
    pickle: &'p Pickle<'a>,
    spans: &'p HashMap<&'p str, Span>,
    seen: usize,
}

type Found<T> = Result<T, String>;

impl<'a, 'p> Walk<'a, 'p> {
    fn look(&mut self, depth: usize) -> Found<()> {
        self.seen += 1;
        if self.seen > MAX_VALUES || depth > MAX_DEPTH {
            return Err("it is nested too deeply".to_owned());
        }
        Ok(())
    }

    /// The arguments of the call that makes a tensor, inside any wrappers such as `Parameter`.
    fn tensor_call(&self, mut id: Id) -> Option<&'p [Id]> {
        for _ in 0..MAX_DEPTH {
            match self.pickle.call(id)? {
                ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor", args) => return Some(args),
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", args) => {
                    id = *args.first()?;
                }
                _ => return None,
            }
        }
        None
    }

    fn is_tensor(&self, id: Id) -> bool {
        self.tensor_call(id).is_some()
    }

    /// The number of tensors in a dictionary and its nested dictionaries.
    fn tensors(&mut self, id: Id, depth: usize) -> Found<usize> {
        self.look(depth)?;
        if self.is_tensor(id) {
            return Ok(1);
        }
        let mut count = 0usize;
        for (_, value) in self.pickle.entries(id).unwrap_or_default() {
            count = count.saturating_add(self.tensors(*value, depth + 1)?);
        }
        Ok(count)
    }

    /// The innermost dictionary that contains all tensors.
    fn inner(&mut self, mut id: Id) -> Found<Id> {
        for depth in 0..MAX_DEPTH {
            let mut holders = Vec::new();
            for (_, value) in self.pickle.entries(id).unwrap_or_default() {
                if self.tensors(*value, depth)? > 0 {
                    holders.push(*value);
                }
            }
            match holders.as_slice() {
                [one] if !self.is_tensor(*one) => id = *one,
                _ => break,
            }
        }
        Ok(id)
    }

    fn collect(
        &mut self,
        id: Id,
        prefix: &str,
        depth: usize,
        entries: &mut BTreeMap<String, Entry>,
        values: &mut Values,
    ) -> Found<()> {
        for (key, value) in self.pickle.entries(id).unwrap_or_default() {
            self.look(depth)?;
            let key = match self.pickle.node(*key) {
                Node::Text(text) => (*text).to_owned(),
                Node::Int(n) => n.to_string(),
                _ => continue,
            };
            let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            if let Some(args) = self.tensor_call(*value) {
                if let Some(entry) = self.entry(&name, args)? {
                    entries.insert(name, entry);
                }
            } else if self.pickle.entries(*value).is_some() && self.tensors(*value, depth)? > 0 {
                self.collect(*value, &name, depth + 1, entries, values)?;
            } else if let Some(value) = self.value(*value, depth)? {
                values.insert(name, value);
            }
        }
        Ok(())
    }

    /// Converts a value that is not a tensor to JSON; `None` if it has no such form.
    fn value(&mut self, id: Id, depth: usize) -> Found<Option<Value>> {
        self.look(depth)?;
        Ok(match self.pickle.node(id) {
            Node::None => Some(Value::Null),
            Node::Bool(flag) => Some(Value::from(*flag)),
            Node::Int(n) => Some(Value::from(*n)),
            Node::Float(x) => Some(Value::from(*x)),
            Node::Text(text) => Some(Value::from(*text)),
            Node::Tuple(items) | Node::List(items) => {
                let items = items.iter().map(|item| self.value(*item, depth + 1));
                let items: Vec<_> = items.collect::<Found<_>>()?;
                Some(items.into_iter().map(Option::unwrap_or_default).collect())
            }
            Node::Dict(entries) | Node::Call { items: entries, .. } if !self.is_tensor(id) => {
                let mut object = serde_json::Map::new();
                for (key, value) in entries {
                    if let (Some(key), Some(value)) = (self.pickle.text(*key), self.value(*value, depth + 1)?)
                    {
                        object.insert(key.to_owned(), value);
                    }
                }
                Some(Value::Object(object))
            }
            _ => None,
        })
    }

    /// A tensor from `storage, offset, size, stride, …`; `None` for an unsupported storage, such as a quantized one.
    fn entry(&self, name: &str, args: &[Id]) -> Found<Option<Entry>> {
        let wrong = |what: &str| format!("tensor `{name}`: {what}");
        let [storage, offset, size, stride, ..] = args else {
            return Err(wrong("its description is not one that torch writes"));
        };
        let Node::Persistent(storage) = self.pickle.node(*storage) else {
            return Err(wrong("its elements are not in the file"));
        };
        let text = |id: Id| match self.pickle.node(id) {
            Node::Text(text) | Node::Global(_, text) => *text,
            _ => "",
        };
        let (kind, key) = match self.pickle.tuple(*storage) {
            [tag, kind, key, ..] if text(*tag) == "storage" => (text(*kind), text(*key)),
            _ => return Err(wrong("its elements are not in the file")),
        };
        let Some(dtype) = dtype(kind) else { return Ok(None) };
        let counts = |id: &Id| self.pickle.tuple(*id).iter().map(|n| self.pickle.count(*n)).collect();
        let (shape, strides): (Option<Vec<usize>>, Option<Vec<usize>>) = (counts(size), counts(stride));
        let (Some(offset), Some(shape), Some(strides)) = (self.pickle.count(*offset), shape, strides) else {
            return Err(wrong("its shape is invalid"));
        };
        let span = self.spans.get(format!("data/{key}").as_str());
        let span = *span.ok_or_else(|| wrong("its elements are not in the file"))?;
        let offset = (offset as u64).checked_mul(width(dtype) as u64);
        let offset = offset.ok_or_else(|| wrong("its offset is too large"))?;
        Ok(Some(Entry { offset, strides: Some(strides), ..Entry::new(dtype, shape, span) }))
    }
}

/// The dtype of a torch storage class.
fn dtype(storage: &str) -> Option<Dtype> {
    let known = [
        ("FloatStorage", Dtype::F32),
        ("HalfStorage", Dtype::F16),
        ("BFloat16Storage", Dtype::BF16),
        ("DoubleStorage", Dtype::F64),
        ("LongStorage", Dtype::I64),
        ("IntStorage", Dtype::I32),
        ("ShortStorage", Dtype::I16),
        ("CharStorage", Dtype::I8),
        ("ByteStorage", Dtype::U8),
        ("BoolStorage", Dtype::BOOL),
    ];
    known.iter().find(|(name, _)| *name == storage).map(|(_, dtype)| *dtype)
}
