//! Operators for the CPU, each of which passes over its memory once.

pub(in crate::model) mod activation;
pub(super) mod attention;
pub(super) mod paths;
pub(super) mod rows;
