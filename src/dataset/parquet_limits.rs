//! Checks the sizes that a Parquet file claims against its actual bytes, before the `parquet` crate allocates for them:
//! lists and pages in Thrift's compact protocol, values in dictionaries, and lengths in delta encodings.

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// The size limit of a decompressed page, 512 MiB: twice the limit of a document.
const MAX_PAGE: i64 = 512 << 20;

/// The limit on the values in a page. Writers put some ten thousand into one.
const MAX_VALUES: usize = 1 << 24;

/// The size limit of the footer, 128 MiB.
const MAX_FOOTER: u64 = 128 << 20;

/// The limit on groups of columns, each of which may be nested in the previous one.
const MAX_GROUPS: usize = 1000;

/// The limit on the nesting of structures in a header.
const MAX_DEPTH: usize = 32;

fn wrong(what: impl Into<String>) -> ParquetError {
    ParquetError::General(what.into())
}

/// Checks the footer of a file.
///
/// # Errors
/// Lists that are too long for the footer, groups with more columns than the file has.
pub(super) fn check_footer(file: &File) -> Result<()> {
    const TAIL: u64 = 8;
    let len = file.metadata()?.len();
    let mut reader = file.try_clone()?;
    let Some(at) = len.checked_sub(TAIL) else { return Ok(()) };
    reader.seek(SeekFrom::Start(at))?;
    let mut tail = [0; TAIL as usize];
    reader.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
    // The library has a better message for a missing footer.
    let Some(start) = at.checked_sub(footer).filter(|_| &magic == b"PAR1") else { return Ok(()) };
    if footer > MAX_FOOTER {
        return Err(wrong(format!("its footer has {footer} bytes, the limit is {MAX_FOOTER}")));
    }
    reader.seek(SeekFrom::Start(start))?;
    let (mut columns, mut groups) = (0, 0);
    let mut walk = Walk { bytes: BufReader::new(reader), left: footer };
    walk.structure(&mut Vec::new(), &mut |path, said| match (path, said) {
        // FileMetaData.schema, and SchemaElement.num_children below it.
        ([2], Said::List(size)) => {
            columns = size;
            Ok(())
        }
        ([2, 5], Said::Number(children)) => {
            groups += usize::from(children > 0);
            let fits = u64::try_from(children).is_ok_and(|children| children < columns.max(1));
            if fits && groups <= MAX_GROUPS {
                Ok(())
            } else {
                Err(wrong("its columns contradict each other"))
            }
        }
        _ => Ok(()),
    })
}

/// A value in a header.
enum Said {
    Number(i64),
    /// A list with this many elements.
    List(u64),
}

/// A walk through a structure in Thrift's compact protocol that allocates nothing for its values.
struct Walk<R> {
    bytes: R,
    /// The limit on the bytes still to be read.
    left: u64,
}

impl<R: Read> Walk<R> {
    /// Walks through a structure; calls `look` with the path of field numbers to each number and list.
    fn structure(
        &mut self,
        path: &mut Vec<i16>,
        look: &mut impl FnMut(&[i16], Said) -> Result<()>,
    ) -> Result<()> {
        if path.len() > MAX_DEPTH {
            return Err(wrong("its header is nested too deeply"));
        }
        let mut field = 0i16;
        loop {
            let byte = self.byte()?;
            let (step, kind) = (i16::from(byte >> 4), byte & 15);
            if kind == 0 {
                return Ok(());
            }
            field = match step {
                0 => i16::try_from(self.zigzag()?).map_err(|_| wrong("an invalid field number"))?,
                step => field.checked_add(step).ok_or_else(|| wrong("an invalid field number"))?,
            };
            path.push(field);
            self.value(kind, false, path, look)?;
            path.pop();
        }
    }

    fn value(
        &mut self,
        kind: u8,
        in_list: bool,
        path: &mut Vec<i16>,
        look: &mut impl FnMut(&[i16], Said) -> Result<()>,
    ) -> Result<()> {
        match kind {
            // A boolean field is encoded in its type; in a list, booleans take a byte each.
            1 | 2 if !in_list => Ok(()),
            1..=3 => self.byte().map(|_| ()),
            4..=6 => {
                let number = self.zigzag()?;
                look(path, Said::Number(number))
            }
            7 => self.skip(8),
            8 => {
                let len = self.varint()?;
                self.skip(len)
            }
            // No header contains a list of lists, and the nesting could be endless.
            9 | 10 if in_list => Err(wrong("a list of lists, which no Parquet header contains")),
            9 | 10 => {
                let byte = self.byte()?;
                let size = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
                // An element takes at least one byte, a nonempty structure at least three.
                let least = if byte & 15 == 12 { 3 } else { 1 };
                if size.saturating_mul(least) > self.left {
                    return Err(wrong(format!("a list of {size} elements in {} bytes", self.left)));
                }
                look(path, Said::List(size))?;
                for _ in 0..size {
                    self.value(byte & 15, true, path, look)?;
                }
                Ok(())
            }
            12 => self.structure(path, look),
            _ => Err(wrong("a value of an unknown type")),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.left = self.left.checked_sub(1).ok_or_else(|| ParquetError::EOF("unexpected end".to_owned()))?;
        self.bytes.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(wrong("a number with too many bytes"))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn skip(&mut self, len: u64) -> Result<()> {
        self.left = self.left.checked_sub(len).ok_or_else(|| wrong(format!("a value of {len} bytes")))?;
        let skipped = std::io::copy(&mut self.bytes.by_ref().take(len), &mut std::io::sink())?;
        if skipped == len { Ok(()) } else { Err(ParquetError::EOF("unexpected end".to_owned())) }
    }
}

/// The bytes of a file; page headers are checked before the pages are read.
#[derive(Debug)]
pub(super) struct Pages(pub(super) File);

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Pages {
    type T = BufReader<File>;

    /// The library calls this at the start of each page.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let left = self.len().saturating_sub(start);
        let mut walk = Walk { bytes: self.0.get_read(start)?, left };
        walk.structure(&mut Vec::new(), &mut |path, said| match (path, said) {
            // PageHeader.uncompressed_page_size and compressed_page_size.
            ([2], Said::Number(size)) if !(0..=MAX_PAGE).contains(&size) => {
                Err(wrong(format!("a page of {size} bytes, the limit is {MAX_PAGE}")))
            }
            ([3], Said::Number(size)) if !u64::try_from(size).is_ok_and(|size| size <= left) => {
                Err(wrong(format!("a page of {size} bytes in a file with {left} bytes left")))
            }
            _ => Ok(()),
        })?;
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.saturating_add(length as u64) > self.len() {
            return Err(ParquetError::EOF("unexpected end".to_owned()));
        }
        self.0.get_bytes(start, length)
    }
}

/// Pages of a column of strings, with the number of values checked before they are decoded.
pub(super) struct Checked<P> {
    pub(super) pages: P,
    /// Whether values can be null.
    pub(super) is_optional: bool,
    /// Whether the file lists an encoding that omits the prefix that a string shares with the previous one.
    pub(super) shares_prefixes: bool,
}

impl<P: PageReader> Checked<P> {
    fn check(&self, page: &Page) -> Result<()> {
        let (buf, count) = (page.buffer(), page.num_values() as usize);
        let levels = match page {
            // Each string takes at least the four bytes of its length.
            Page::DictionaryPage { .. } if count > buf.len() / 4 => {
                return Err(wrong(format!("a dictionary of {count} values in {} bytes", buf.len())));
            }
            Page::DictionaryPage { .. } => return Ok(()),
            Page::DataPage { .. } => match buf.get(..4) {
                Some(len) if self.is_optional => {
                    4 + u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize
                }
                _ => 0,
            },
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                *def_levels_byte_len as usize + *rep_levels_byte_len as usize
            }
        };
        if count > MAX_VALUES {
            return Err(wrong(format!("a page of {count} values, the limit is {MAX_VALUES}")));
        }
        self.check_delta(page.encoding(), buf.get(levels..).unwrap_or_default(), count)
    }

    /// Checks the number of lengths that a delta encoding claims.
    fn check_delta(&self, encoding: Encoding, mut bytes: &[u8], count: usize) -> Result<()> {
        let lists = match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            Encoding::DELTA_BYTE_ARRAY if self.shares_prefixes => 2,
            Encoding::DELTA_BYTE_ARRAY => {
                return Err(wrong("a page in an encoding that its column does not list"));
            }
            _ => return Ok(()),
        };
        for _ in 0..lists {
            let mut walk = Walk { left: bytes.len() as u64, bytes };
            let (block, miniblocks) = (walk.varint()?, walk.varint()?);
            let total = walk.varint()?;
            if total > count as u64 {
                return Err(wrong(format!("{total} lengths in a page of {count} values")));
            }
            if miniblocks == 0 || miniblocks > 1024 || block % miniblocks != 0 || block > MAX_VALUES as u64 {
                return Err(wrong("a delta encoding that contradicts itself"));
            }
            walk.zigzag()?;
            let per_miniblock = block / miniblocks;
            let mut left = total.saturating_sub(1);
            while left > 0 {
                walk.zigzag()?;
                let widths = (0..miniblocks).map(|_| walk.byte()).collect::<Result<Vec<_>>>()?;
                for width in widths {
                    if left == 0 {
                        break;
                    }
                    walk.skip((u64::from(width) * per_miniblock).div_ceil(8).min(walk.left))?;
                    left = left.saturating_sub(per_miniblock);
                }
            }
            bytes = walk.bytes;
        }
        Ok(())
    }
}

impl<P: PageReader> Iterator for Checked<P> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<P: PageReader> PageReader for Checked<P> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.check(&page).map(|()| page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}
