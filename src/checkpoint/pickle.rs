//! Parses pickles, as `torch.save` writes them, as data, without running anything.
//!
//! A pickle is a program for a small stack machine whose instructions can name any function and call it. Here a name
//! stays a name, and a call becomes a node with the function and its arguments; the reader of the result knows the few
//! that matter. No more is allocated than the bytes of the pickle justify. Format: Python's `pickletools`.

use std::collections::HashMap;

/// A node of the result, by its index in [`Pickle::nodes`]. Nodes may be shared, and may contain each other.
pub(super) type Id = usize;

/// The result of a pickle.
#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    /// The node of the pickled object.
    pub(super) root: Id,
}

/// A value in a pickle.
#[derive(Debug, PartialEq)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function, by module and name.
    Global(&'a str, &'a str),
    /// An object stored outside the pickle, by its id.
    Persistent(Id),
    /// A call of a function or a class, and the entries added to its result afterwards.
    Call {
        callee: Id,
        args: Id,
        items: Vec<(Id, Id)>,
    },
    /// An integer that is too large, or another value that no checkpoint needs.
    Opaque,
}

impl<'a> Pickle<'a> {
    pub(super) fn node(&self, id: Id) -> &Node<'a> {
        self.nodes.get(id).unwrap_or(&Node::Opaque)
    }

    /// The items of a tuple; empty for anything else.
    pub(super) fn tuple(&self, id: Id) -> &[Id] {
        match self.node(id) {
            Node::Tuple(items) => items,
            _ => &[],
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of an integer, if it is not negative.
    pub(super) fn count(&self, id: Id) -> Option<usize> {
        match self.node(id) {
            Node::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The module and the name of a called function, and the arguments.
    pub(super) fn call(&self, id: Id) -> Option<(&'a str, &'a str, &[Id])> {
        let Node::Call { callee, args, .. } = self.node(id) else { return None };
        let Node::Global(module, name) = self.node(*callee) else { return None };
        Some((module, name, self.tuple(*args)))
    }

    /// The entries of a dictionary, or of an object that was filled like one, such as an `OrderedDict`.
    pub(super) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(entries) | Node::Call { items: entries, .. } => Some(entries),
            _ => None,
        }
    }

    /// Parses a pickle.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine { input: bytes, ..Machine::default() };
        loop {
            let [code] = machine.array()?;
            if code == b'.' {
                let root = machine.pop()?;
                return Ok(Pickle { nodes: machine.nodes, root });
            }
            machine.step(code)?;
        }
    }
}

#[derive(Default)]
struct Machine<'a> {
    input: &'a [u8],
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// The height of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

type Step<T = ()> = Result<T, String>;

impl<'a> Machine<'a> {
    /// Executes one instruction. Each takes at least one byte and makes at most one node.
    fn step(&mut self, code: u8) -> Step {
        match code {
            // Protocol and frames do not affect values.
            0x80 => self.skip(1)?,
            0x95 => self.skip(8)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' | b'r' | 0x94 => {
                let key = match code {
                    b'q' => self.number(1)?,
                    b'r' => self.number(4)?,
                    _ => self.memo.len() as u64,
                };
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            b'h' | b'j' => {
                let key = self.number(if code == b'h' { 1 } else { 4 })?;
                self.stack.push(*self.memo.get(&key).ok_or("a missing memo entry")?);
            }
            b'R' | 0x81 => {
                let (args, callee) = (self.pop()?, self.pop()?);
                self.push(Node::Call { callee, args, items: Vec::new() });
            }
            // The state of an object: its attributes, which contain no weights.
            b'b' => drop(self.pop()?),
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(pairs(&items)?)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id));
            }
            _ => {
                let node = self.value(code)?;
                self.push(node);
            }
        }
        Ok(())
    }

    /// Executes an instruction that makes a value.
    fn value(&mut self, code: u8) -> Step<Node<'a>> {
        Ok(match code {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'K' => Node::Int(self.number(1)? as i64),
            b'M' => Node::Int(self.number(2)? as i64),
            b'J' => Node::Int(i64::from(i32::from_le_bytes(self.array()?))),
            0x8a => long(self.counted(1)?),
            0x8b => long(self.counted(4)?),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            b'I' => match self.line()? {
                "00" => Node::Bool(false),
                "01" => Node::Bool(true),
                digits => digits.parse().map_or(Node::Opaque, Node::Int),
            },
            b'L' => self.line()?.trim_end_matches('L').parse().map_or(Node::Opaque, Node::Int),
            b'F' => self.line()?.parse().map_or(Node::Opaque, Node::Float),
            0x8c | b'U' => text(self.counted(1)?),
            b'X' | b'T' => text(self.counted(4)?),
            0x8d => text(self.counted(8)?),
            b'V' => Node::Text(self.line()?),
            b'C' => self.counted(1).map(|_| Node::Bytes)?,
            b'B' => self.counted(4).map(|_| Node::Bytes)?,
            0x8e => self.counted(8).map(|_| Node::Bytes)?,
            b')' => Node::Tuple(Vec::new()),
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or("an empty stack")?;
                Node::Tuple(self.split_off(from)?)
            }
            b't' => Node::Tuple(self.pop_to_mark()?),
            b']' | 0x8f => Node::List(Vec::new()),
            b'l' | 0x91 => Node::List(self.pop_to_mark()?),
            b'}' => Node::Dict(Vec::new()),
            b'd' => Node::Dict(pairs(&self.pop_to_mark()?)?),
            b'c' => Node::Global(self.line()?, self.line()?),
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.nodes.get(module), self.nodes.get(name)) {
                    (Some(Node::Text(module)), Some(Node::Text(name))) => Node::Global(module, name),
                    _ => return Err("a name that is not a string".to_owned()),
                }
            }
            other => return Err(format!("the instruction 0x{other:02x}, which torch does not write")),
        })
    }

    fn push(&mut self, node: Node<'a>) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Step<Id> {
        let least = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > least { self.stack.pop() } else { None };
        Ok(top.ok_or("an empty stack")?)
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("a missing mark")?;
        self.split_off(mark)
    }

    fn split_off(&mut self, from: usize) -> Step<Vec<Id>> {
        if from > self.stack.len() || self.marks.last().is_some_and(|mark| from < *mark) {
            return Err("an empty stack".to_owned());
        }
        Ok(self.stack.split_off(from))
    }

    fn top(&self) -> Step<Id> {
        Ok(*self.stack.last().ok_or("an empty stack")?)
    }

    fn extend(&mut self, new: Vec<Id>) -> Step {
        let top = self.top()?;
        match &mut self.nodes[top] {
            Node::List(items) => items.extend(new),
            Node::Call { .. } => {}
            _ => return Err("items for something that is not a list".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, new: Vec<(Id, Id)>) -> Step {
        let top = self.top()?;
        match &mut self.nodes[top] {
            Node::Dict(items) | Node::Call { items, .. } => items.extend(new),
            _ => return Err("entries for something that is not a dictionary".to_owned()),
        }
        Ok(())
    }

    fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let taken = self.input.split_at_checked(length);
        let (taken, rest) = taken.ok_or("it ends too early")?;
        self.input = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: u64) -> Step {
        self.take(length).map(drop)
    }

    /// Reads an unsigned number of at most 8 bytes, little endian.
    fn number(&mut self, width: u64) -> Step<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Reads a length of `width` bytes, and that many bytes after it.
    fn counted(&mut self, width: u64) -> Step<&'a [u8]> {
        let length = self.number(width)?;
        self.take(length)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let (taken, rest) = self.input.split_first_chunk().ok_or("it ends too early")?;
        self.input = rest;
        Ok(*taken)
    }

    fn line(&mut self) -> Step<&'a str> {
        let end = self.input.iter().position(|byte| *byte == b'\n').ok_or("it ends too early")?;
        let line = self.take(end as u64)?;
        self.skip(1)?;
        std::str::from_utf8(line).map_err(|_| "a name that is not UTF-8".to_owned())
    }
}

fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
    let (pairs, []) = items.as_chunks::<2>() else { return Err("a key without a value".to_owned()) };
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

/// Parses a string. Python 2 wrote bytes as strings.
fn text(bytes: &[u8]) -> Node<'_> {
    std::str::from_utf8(bytes).map_or(Node::Bytes, Node::Text)
}

/// Parses an integer in two's complement, little endian.
fn long<'a>(bytes: &[u8]) -> Node<'a> {
    let Some(last) = bytes.last() else { return Node::Int(0) };
    if bytes.len() > 8 {
        return Node::Opaque;
    }
    let mut wide = [if *last >= 0x80 { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_recorded_and_not_run() {
        // os.system("echo x"), as an attacker would write it.
        let bytes = b"\x80\x02cos\nsystem\nX\x06\x00\x00\x00echo x\x85R.";
        let pickle = Pickle::parse(bytes).unwrap();
        let (module, name, args) = pickle.call(pickle.root).unwrap();
        assert_eq!((module, name, pickle.text(args[0])), ("os", "system", Some("echo x")));
    }

    #[test]
    fn malformed_pickles_are_errors() {
        for (bytes, message) in [
            (&b""[..], "ends too early"),
            (b"\x80\x02.", "empty stack"),
            (b"(.", "empty stack"),
            (b"K\x01(0.", "empty stack"),
            (b"K\x01(\x85.", "empty stack"),
            (b"t.", "a missing mark"),
            (b"h\x05.", "a missing memo entry"),
            (b"X\xff\xff\xff\xff.", "ends too early"),
            (b"\x8b\xff\xff\xff\xff.", "ends too early"),
            (b"}(K\x01u.", "a key without a value"),
            (b"K\x01K\x02a.", "not a list"),
            (b"\x97.", "instruction 0x97"),
        ] {
            let error = Pickle::parse(bytes).unwrap_err();
            assert!(error.contains(message), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn integers_of_any_width() {
        for (bytes, number) in [
            (&b"\x8a\x00."[..], 0),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x02\xff\x00.", 255),
            (b"\x8a\x06\x00\x00\x00\x00\x00\x01.", 1 << 40),
            (b"M\x00\x01.", 256),
            (b"J\xfe\xff\xff\xff.", -2),
            (b"I42\n.", 42),
            (b"L42L\n.", 42),
        ] {
            let pickle = Pickle::parse(bytes).unwrap();
            assert_eq!(pickle.node(pickle.root), &Node::Int(number), "{bytes:?}");
        }
    }
}
