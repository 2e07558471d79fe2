//! Bytes → record, every dialect.
