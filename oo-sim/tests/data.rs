//! `oo-sim data` as a whole, against a server in this process that breaks off, lies, or ignores ranges.

use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// How the server behaves; the default is well.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// The first answer breaks off in the middle.
    breaks: bool,
    /// Every request gets the whole file.
    no_ranges: bool,
    /// The second answer is of another version of the file.
    changes: bool,
    /// This many requests get 503 first.
    busy: usize,
}

/// A server of these files; it lives as long as the process.
struct Server {
    address: String,
    /// The `Range` and `If-Range` of each request, or its absence.
    requests: Arc<Mutex<Vec<String>>>,
}

fn serve(files: HashMap<String, Vec<u8>>, manners: Manners) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away is its own affair.
            let _ = answer(stream.unwrap(), &files, manners, &log);
        }
    });
    Server { address, requests }
}

fn answer(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    manners: Manners,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let path = lines.next().unwrap()?.split(' ').nth(1).unwrap().to_string();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let number = {
        let mut log = log.lock().unwrap();
        log.push(format!("{path} {} {}", header("range"), header("if-range")));
        log.len() - 1
    };
    let end = "Connection: close\r\n\r\n";
    if number < manners.busy {
        return write!(stream, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n{end}");
    }
    let Some(file) = files.get(&path) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n{end}");
    };
    let tag = if manners.changes && number > 0 {
        "\"two\""
    } else {
        "\"one\""
    };
    let start = header("range")
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok())
        .filter(|_| !manners.no_ranges && header("if-range") == tag);
    let length = file.len() - start.unwrap_or(0);
    match start {
        Some(first) => write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{}/{}\r\n",
            file.len() - 1,
            file.len()
        )?,
        None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
    }
    write!(stream, "ETag: {tag}\r\nContent-Length: {length}\r\n{end}")?;
    let body = &file[start.unwrap_or(0)..];
    let sent = if manners.breaks && number == 0 {
        length / 2
    } else {
        length
    };
    stream.write_all(&body[..sent])
}

fn oo_sim(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oo-sim"));
    command.arg("data").args(args).env("OO_DATA_DIR", folder);
    // No proxy stands between this process and its own server.
    for proxy in ["all_proxy", "https_proxy", "http_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    command.output().unwrap()
}

fn fine(folder: &Path, args: &[&str]) -> String {
    let output = oo_sim(folder, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(folder: &Path, args: &[&str], code: i32) -> String {
    let output = oo_sim(folder, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

/// Every file below the folder, by its path.
fn files(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => out.extend(files(&path)),
            false => out.push(path.file_name().unwrap().to_str().unwrap().to_string()),
        }
    }
    out.sort();
    out
}

/// The vowel set's original, made from the table in the data folder; none where this machine has no data.
fn vowel_zip() -> Option<Vec<u8>> {
    let path = std::env::var_os("OO_DATA_DIR").map(|folder| Path::new(&folder).join("vowel/vowel.csv.gz"));
    let Some(file) = path.and_then(|path| std::fs::File::open(path).ok()) else {
        assert!(
            std::env::var("OO_REQUIRE_DATA").as_deref() != Ok("1"),
            "the vowel set is missing"
        );
        // Straight to stderr: the test harness swallows `eprintln!` of a test that passes.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "NOT TESTED, DATA SET VOWEL IS MISSING").unwrap();
        return None;
    };
    let mut csv = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut csv)
        .unwrap();
    let codes = ["3", "2", "1", "6", "8", "4", "5", "10", "0", "7", "9"];
    let mut rows = String::new();
    for line in csv.lines().skip(1) {
        let (features, label) = line.rsplit_once(',').unwrap();
        let code = codes[label.parse::<usize>().unwrap()];
        rows += &format!("0 1 0  {} {code}\n", features.replace(',', " "));
    }
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("vowel-context.data", zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(rows.as_bytes()).unwrap();
    Some(zip.finish().unwrap().into_inner())
}

const VOWEL: &str = "/vowel/connectionist+bench+vowel+recognition+deterding+data.zip";

fn vowel_server(manners: Manners) -> Option<Server> {
    Some(serve(HashMap::from([(VOWEL.to_string(), vowel_zip()?)]), manners))
}

/// Gets the set, and gives the ranges that were asked for.
fn get_vowel(folder: &Path, manners: Manners) -> Option<Vec<String>> {
    let server = vowel_server(manners)?;
    let said = fine(folder, &["get", "vowel", "--from", &server.address]);
    assert!(said.starts_with("vowel: written, "), "{said}");
    assert_eq!(files(folder), ["lock", "vowel.csv.gz"]);
    let again = fine(folder, &["get", "vowel", "--from", &server.address]);
    assert!(again.starts_with("vowel: already there"), "{again}");
    let requests = server.requests.lock().unwrap();
    Some(
        requests
            .iter()
            .map(|r| r.strip_prefix(VOWEL).unwrap().trim().to_string())
            .collect(),
    )
}

#[test]
fn a_broken_download_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let broken = Manners {
        breaks: true,
        ..Manners::default()
    };
    let Some(requests) = get_vowel(folder.path(), broken) else {
        return;
    };
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], "");
    assert!(
        requests[1].starts_with("bytes=") && requests[1].ends_with("- \"one\""),
        "{requests:?}"
    );
    let path = fine(folder.path(), &["path", "vowel"]);
    assert!(Path::new(path.trim_end()).is_file(), "{path}");
    let list: Value = serde_json::from_str(&fine(folder.path(), &["list", "--format", "json"])).unwrap();
    let present = |set: &Value| set["present"] == true;
    let names: Vec<&Value> = list["sets"].as_array().unwrap().iter().filter(|s| present(s)).collect();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0]["name"], "vowel");
}

#[test]
fn a_server_without_ranges_or_with_a_new_version_sends_the_whole() {
    for manners in [
        Manners {
            breaks: true,
            no_ranges: true,
            ..Manners::default()
        },
        Manners {
            breaks: true,
            changes: true,
            ..Manners::default()
        },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let Some(requests) = get_vowel(folder.path(), manners) else {
            return;
        };
        assert_eq!(requests.len(), 2);
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let busy = Manners {
        busy: 2,
        ..Manners::default()
    };
    let Some(requests) = get_vowel(folder.path(), busy) else {
        return;
    };
    assert_eq!(requests, ["", "", ""]);
}

#[test]
fn what_a_killed_download_left_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let Some(zip) = vowel_zip() else { return };
    let server = vowel_server(Manners::default()).unwrap();
    let place = folder.path().join("downloads/vowel");
    std::fs::create_dir_all(&place).unwrap();
    let part = place.join(format!("{}.part", VOWEL.rsplit('/').next().unwrap()));
    std::fs::write(&part, &zip[..1000]).unwrap();
    std::fs::write(
        part.with_extension("part.tag"),
        format!("{}{VOWEL}\n\"one\"\n", server.address),
    )
    .unwrap();
    fine(folder.path(), &["get", "vowel", "--from", &server.address]);
    assert_eq!(
        *server.requests.lock().unwrap(),
        [format!("{VOWEL} bytes=1000- \"one\"")]
    );
}

#[test]
fn a_wrong_original_is_refused_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let files_of = |path: &str, bytes: &[u8]| HashMap::from([(path.to_string(), bytes.to_vec())]);
    // A checksum of the download itself.
    let server = serve(
        files_of("/covertype/test.csv.gz", b"something else"),
        Manners::default(),
    );
    let e = fails(folder.path(), &["get", "covertype", "--from", &server.address], 1);
    assert!(e.contains("expected SHA-256 d1683af1") && e.contains("--from"), "{e}");
    assert_eq!(files(folder.path()), ["lock"]);
    // A file that is none of this kind.
    let server = serve(files_of(VOWEL, b"<html>moved</html>"), Manners::default());
    let e = fails(folder.path(), &["get", "vowel", "--from", &server.address], 1);
    assert!(
        e.contains("not a zip archive") && e.contains("vowel/vowel.csv.gz"),
        "{e}"
    );
    assert_eq!(files(folder.path()), ["lock"]);
    // The right kind, other numbers.
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("vowel-context.data", zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(b"0 0 0 1 2 3 4 5 6 7 8 9 10 0\n").unwrap();
    let server = serve(files_of(VOWEL, &zip.finish().unwrap().into_inner()), Manners::default());
    let e = fails(folder.path(), &["get", "vowel", "--from", &server.address], 1);
    assert!(e.contains("expected content with SHA-256 5cd9ab5f"), "{e}");
    assert_eq!(files(folder.path()), ["lock"]);
    // No file at all is no passing failure.
    let e = fails(folder.path(), &["get", "letter", "vowel", "--from", &server.address], 1);
    assert!(e.contains("answered 404") && e.contains("2 of 2 data sets"), "{e}");
    assert_eq!(files(folder.path()), ["lock"]);
}

#[test]
fn another_file_in_its_place_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("vowel")).unwrap();
    std::fs::write(folder.path().join("vowel/vowel.csv.gz"), "mine").unwrap();
    let e = fails(folder.path(), &["get", "vowel", "--from", "http://127.0.0.1:1"], 1);
    assert!(
        e.contains("is not the file of data set `vowel`") && e.contains("remove the file"),
        "{e}"
    );
    assert_eq!(
        std::fs::read(folder.path().join("vowel/vowel.csv.gz")).unwrap(),
        b"mine"
    );
}

#[test]
fn bad_input_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let e = fails(folder.path(), &["get", "vowel", "mushrom"], 2);
    assert!(
        e.contains("unknown data set `mushrom` (did you mean `mushroom`?)"),
        "{e}"
    );
    let e = fails(folder.path(), &["path", "mushrom"], 2);
    assert!(e.contains("did you mean `mushroom`"), "{e}");
    let e = fails(folder.path(), &["get", "vowel", "--from", "ftp://x"], 2);
    assert!(e.contains("expected an address with http://"), "{e}");
    fails(folder.path(), &["get"], 2);
    assert!(
        files(folder.path()).is_empty(),
        "work began before the input was checked"
    );
    let e = fails(folder.path(), &["path", "letter"], 1);
    assert!(e.contains("`oo-sim data get letter`"), "{e}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    // A file in the way stops every user; permissions would not stop root.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let e = fails(&file, &["get", "vowel", "--from", "http://127.0.0.1:1"], 1);
    assert!(
        e.contains("cannot write to the data folder") && e.contains("OO_DATA_DIR"),
        "{e}"
    );
}

#[test]
fn the_list_names_every_set_and_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let list = fine(folder.path(), &["list"]);
    for word in ["mushroom", "obd_bts_women", "CC-BY-4.0", "60,000"] {
        assert!(list.contains(word), "{word} in {list}");
    }
    assert!(list.contains(folder.path().to_str().unwrap()), "{list}");
    let json: Value = serde_json::from_str(&fine(folder.path(), &["list", "--format", "json"])).unwrap();
    assert_eq!(json["sets"].as_array().unwrap().len(), 13);
    let source = json["sets"][0]["source"].as_str().unwrap();
    assert!(source.contains("archive.ics.uci.edu"), "{source}");
    assert!(
        json["sets"]
            .as_array()
            .unwrap()
            .iter()
            .all(|set| set["present"] == false)
    );
}
