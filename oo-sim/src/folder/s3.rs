//! A prefix of a bucket.
