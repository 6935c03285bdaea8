//! Bytes as a segment of the journal: as they are, and with heads and sums put right.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    oo_serve::fuzz::read(bytes);
    oo_serve::fuzz::read(&oo_serve::fuzz::framed(bytes));
});
