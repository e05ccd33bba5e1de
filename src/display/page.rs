//! Pages that show several values.

use super::{Part, Shown, inline_parts, save_page, to_json};
use crate::error::Result;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

/// A page of headings, paragraphs and values, which can itself be shown.
#[derive(Debug, Clone)]
pub struct Page {
    title: String,
    items: Vec<PageItem>,
}

/// One item of a page.
#[derive(Debug, Clone)]
pub enum PageItem {
    /// The heading of what follows.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A value, with its picture if it has one.
    Value(Rc<dyn Shown>),
}

impl PageItem {
    fn part(&self) -> Part<'_> {
        match self {
            PageItem::Heading(text) => Part::Heading(text),
            PageItem::Text(text) => Part::Text(text),
            PageItem::Value(value) => Part::Value(value.as_ref()),
        }
    }
}

impl Page {
    /// A page with a title, and items in this order.
    pub fn new(title: impl Into<String>, items: Vec<PageItem>) -> Self {
        Page { title: title.into(), items }
    }

    fn parts(&self) -> Vec<Part<'_>> {
        self.items.iter().map(PageItem::part).collect()
    }

    /// Returns the page as a complete HTML document that needs no other files.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn document(&self) -> Result<String> {
        super::page(&self.title, &self.parts())
    }

    /// Writes the page to a file.
    ///
    /// # Errors
    /// As [`save_page`].
    pub fn save(&self, path: &Path) -> Result<()> {
        save_page(&self.title, &self.parts(), path)
    }
}

impl Shown for Page {
    fn title(&self) -> String {
        format!("the page {:?}", self.title)
    }

    fn text(&self) -> String {
        format!("Page {:?} of {} parts", self.title, self.items.len())
    }

    fn html(&self) -> Option<String> {
        let parts: Vec<_> = [Part::Heading(&self.title)].into_iter().chain(self.parts()).collect();
        inline_parts(&parts).ok()
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        to_json(&self.title, out)
    }
}
