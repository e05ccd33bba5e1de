//! Values in Rust notebooks: what a cell under evcxr ends with shows itself as in the other kernel.

use crate::display::{Bundle, Shown};
use std::io::Write;

/// What evcxr calls for the last value of a cell, if it is in scope: `use saescope::*;`.
///
/// It prints each form between two lines, which evcxr takes for what Jupyter is to show
/// (<https://github.com/evcxr/evcxr/blob/main/evcxr_jupyter/README.md>).
pub trait EvcxrDisplay {
    /// What is printed.
    fn evcxr_text(&self) -> String;

    /// Shows the value.
    fn evcxr_display(&self) {
        // A cell whose output nobody reads shows nothing.
        let _ = std::io::stdout().write_all(self.evcxr_text().as_bytes());
    }
}

impl<T: Shown> EvcxrDisplay for T {
    fn evcxr_text(&self) -> String {
        let block = |(mime, form): &(&str, String)| {
            // A line that would end it does not begin with this.
            let form = form.replace("\nEVCXR_END_CONTENT", "\n EVCXR_END_CONTENT");
            format!("EVCXR_BEGIN_CONTENT {mime}\n{form}\nEVCXR_END_CONTENT\n")
        };
        match Bundle::of(self).and_then(|bundle| bundle.forms()) {
            Ok(forms) => forms.iter().map(block).collect(),
            Err(error) => format!("error: {error}\n"),
        }
    }
}
