//! Records of any content as a state folder: it opens or says why not, and then is what a replay of it gives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    oo_serve::fuzz::folder(dir.path(), &oo_serve::fuzz::framed(bytes));
});
