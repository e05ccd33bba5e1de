//! Values in Rust notebooks: the last value of an evcxr cell is shown as in the saescope kernel.

use crate::display::{Bundle, Shown};
use std::io::Write;

/// The trait that evcxr calls for the last value of a cell, if it is in scope: `use saescope::prelude::*;`.
///
/// It prints each form between two marker lines. evcxr sends such a form to Jupyter as output
/// (<https://github.com/evcxr/evcxr/blob/main/evcxr_jupyter/README.md>).
pub trait EvcxrDisplay {
    /// The text to print, with every form of the value.
    fn evcxr_text(&self) -> String;

    /// Shows the value.
    fn evcxr_display(&self) {
        // Without a reader there is nowhere to report an error.
        let _ = std::io::stdout().write_all(self.evcxr_text().as_bytes());
    }
}

impl<T: Shown> EvcxrDisplay for T {
    fn evcxr_text(&self) -> String {
        let block = |(mime, form): &(&str, String)| {
            // No line of the form may look like the end marker.
            let form = form.replace("\nEVCXR_END_CONTENT", "\n EVCXR_END_CONTENT");
            format!("EVCXR_BEGIN_CONTENT {mime}\n{form}\nEVCXR_END_CONTENT\n")
        };
        match Bundle::of(self).and_then(|bundle| bundle.forms()) {
            Ok(forms) => forms.iter().map(block).collect(),
            Err(error) => format!("error: {error}\n"),
        }
    }
}
