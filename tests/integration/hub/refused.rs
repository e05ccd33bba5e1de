//! What the hub refuses, and what is refused of it.
