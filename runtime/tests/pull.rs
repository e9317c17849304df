//! Models fetched by name, with a program of ours in place of `pip` and `npm`.
#![cfg(unix)]

#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use quantloom::gguf::Gguf;
use quantloom::pull::{Package, PackagedModel, Part, Quantized, Registry};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use tiny::{SHAPE, Shape, TinyModel};

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const WORLD: &str = "486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7";
const HELLO_WORLD: &str = "936a185caaa266bb9cbe981e9e05cb78cd732b0b3280eb944412bb6f8f8f07af";

const fn part(registry: Registry, name: &'static str, member: &'static str, sha256: &'static str) -> Part {
    Part { package: Package { registry, name, version: "1.0", bytes: 0 }, member, bytes: 5, sha256 }
}

/// `hello`, in a wheel.
const WHEEL: PackagedModel = PackagedModel {
    name: "wheel",
    source: "wheel.gguf",
    parts: &[part(Registry::PyPi, "hello", "greeting/hello.gguf", HELLO)],
    sha256: HELLO,
    quantized: None,
    disk: 15,
};

/// `helloworld`, in two tarballs.
const TARBALLS: PackagedModel = PackagedModel {
    name: "tarballs",
    source: "tarballs.gguf",
    parts: &[
        part(Registry::Npm, "hello", "package/model.part", HELLO),
        part(Registry::Npm, "world", "package/model.part", WORLD),
    ],
    sha256: HELLO_WORLD,
    quantized: None,
    disk: 30,
};

/// Parts that are good, but not those of this file.
const STRANGERS: PackagedModel = PackagedModel { name: "strangers", sha256: HELLO, ..TARBALLS };

/// The bytes of a small model in F16.
fn tiny_model() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel::new(&Shape { ty: "F16", ..SHAPE }).write(&path);
    fs::read(path).unwrap()
}

/// The small model, in two tarballs, and to be quantized.
fn quantized() -> PackagedModel {
    let bytes = tiny_model();
    let sha256 = |bytes: &[u8]| -> &'static str {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>().leak()
    };
    let (first, second) = bytes.split_at(1000);
    let part = |name, bytes: &[u8]| Part {
        bytes: bytes.len() as u64,
        ..part(Registry::Npm, name, "package/model.part", sha256(bytes))
    };
    PackagedModel {
        name: "quantized",
        source: "tiny.F16.gguf",
        parts: vec![part("first", first), part("second", second)].leak(),
        sha256: sha256(&bytes),
        quantized: Some(Quantized { file: "tiny.Q4_0.gguf", recipe: "Q4_0" }),
        disk: 0,
    }
}

const MODEL: &str = "QUANTLOOM_TEST_MODEL";

/// What a process that fetches does: environment variables are a process's own.
#[test]
#[ignore = "the other tests run it in processes of its own"]
fn fetch() {
    let name = std::env::var(MODEL).unwrap();
    let fetched = match &*name {
        "wheel" => WHEEL.fetch(),
        "tarballs" => TARBALLS.fetch(),
        "strangers" => STRANGERS.fetch(),
        "quantized" => quantized().fetch(),
        "quantized, source" => quantized().fetch_source(),
        other => panic!("{other:?}"),
    };
    match fetched {
        Ok(path) => println!("fetched {}", path.display()),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    }
}

/// A cache, and registries of packages with their clients.
struct World(TempDir);

impl World {
    /// One with nothing in it.
    fn new() -> Self {
        let world = Self(tempfile::tempdir().unwrap());
        for folder in ["cache", "packages", "programs"] {
            fs::create_dir(world.path(folder)).unwrap();
        }
        world.set_client("");
        world
    }

    /// One that has all packages.
    fn with_packages() -> Self {
        let world = Self::new();
        world.add("hello==1.0", &wheel("greeting/hello.gguf", b"hello"));
        world.add("hello@1.0", &tarball("package/model.part", b"hello"));
        world.add("world@1.0", &tarball("package/model.part", b"world"));
        let bytes = tiny_model();
        let (first, second) = bytes.split_at(1000);
        world.add("first@1.0", &tarball("package/model.part", first));
        world.add("second@1.0", &tarball("package/model.part", second));
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn add(&self, package: &str, bytes: &[u8]) {
        fs::write(self.path("packages").join(package), bytes).unwrap();
    }

    /// Clients that note what they are asked for, run `script`, and then give the package.
    fn set_client(&self, script: &str) {
        for (client, extension) in [("python3", "whl"), ("npm", "tgz")] {
            let text = format!(
                "#!/bin/sh
                 case \"$*\" in *--version) exit 0;; esac
                 PATH=/usr/bin:/bin
                 for package; do :; done
                 echo \"$package\" >> '{calls}'
                 {script}
                 cp '{packages}'/\"$package\" \"$TMPDIR/package.{extension}\"\n",
                calls = self.path("calls").display(),
                packages = self.path("packages").display(),
            );
            let path = self.path("programs").join(client);
            // Another process may run the old one.
            let new = self.path("new");
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
            fs::rename(new, path).unwrap();
        }
    }

    /// What the clients were asked for since this was last asked.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        calls.lines().map(str::to_owned).collect()
    }

    fn command(&self, model: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "fetch", "--ignored", "--nocapture"])
            .env(MODEL, model)
            .env("QUANTLOOM_CACHE", self.path("cache"))
            .env("PATH", self.path("programs"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, model: &str) -> Child {
        self.command(model).spawn().unwrap()
    }

    /// The file that comes out, or what is said.
    fn fetch(&self, model: &str) -> Result<PathBuf, String> {
        end(self.start(model))
    }

    /// The files in the cache, those in folders of it too.
    fn cached(&self) -> Vec<String> {
        fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.path().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), names);
                }
                names.push(name);
            }
        }
        let mut names = Vec::new();
        walk(&self.path("cache"), "", &mut names);
        names.sort();
        names
    }
}

fn end(child: Child) -> Result<PathBuf, String> {
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    match stdout.lines().find_map(|line| line.strip_prefix("fetched ")) {
        Some(path) => Ok(path.into()),
        None => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn wheel(member: &str, content: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file(member, SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap().into_inner()
}

fn tarball(member: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in [("package/package.json", &b"{}"[..]), (member, content)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_model_is_fetched_once() {
    let cases: [(&str, &[&str], &str); 2] =
        [("wheel", &["hello==1.0"], "hello"), ("tarballs", &["hello@1.0", "world@1.0"], "helloworld")];
    for (model, calls, expected) in cases {
        let world = World::with_packages();
        let path = world.fetch(model).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{model}");
        assert_eq!(world.calls(), calls, "{model}");
        assert_eq!(world.cached(), [format!("pull-{model}.lock"), format!("{model}.gguf")]);
        assert_eq!(world.fetch(model).unwrap(), path);
        assert_eq!(world.calls(), [""; 0], "{model}: the second time");
    }
}

#[test]
fn only_the_right_package_is_taken() {
    let tar = |content| tarball("package/model.part", content);
    let zip = |content| wheel("greeting/hello.gguf", content);
    let cases: [(&str, &str, Vec<u8>, &str); 12] = [
        ("wheel", "other bytes", zip(b"jello"), "hello 1.0: greeting/hello.gguf has the SHA-256 "),
        ("wheel", "too long", zip(&[b'h'; 1 << 20]), "expected 2cf24dba"),
        ("wheel", "too short", zip(b"hell"), "has the SHA-256 "),
        ("wheel", "no such member", wheel("else.gguf", b"hello"), "greeting/hello.gguf: "),
        ("wheel", "truncated", zip(b"hello")[..100].into(), "greeting/hello.gguf: "),
        ("wheel", "not a zip", b"<html>".into(), "greeting/hello.gguf: "),
        ("tarballs", "other bytes", tar(b"jello"), "hello 1.0: package/model.part has the SHA-256 "),
        ("tarballs", "too long", tar(&[b'h'; 1 << 20]), "expected 2cf24dba"),
        ("tarballs", "too short", tar(b"hell"), "has the SHA-256 "),
        ("tarballs", "no such member", tarball("package/else", b"hello"), "there is no such file in it"),
        ("tarballs", "truncated", tar(b"hello")[..60].into(), "hello 1.0: package/model.part: "),
        ("tarballs", "not a tarball", b"<html>".into(), "hello 1.0: package/model.part: "),
    ];
    for (model, case, bytes, expected) in cases {
        let world = World::with_packages();
        let package = if model == "wheel" { "hello==1.0" } else { "hello@1.0" };
        world.add(package, &bytes);
        let said = world.fetch(model).unwrap_err();
        assert!(said.contains("error: hello 1.0: ") && said.contains(expected), "{model}, {case}: {said}");
        assert_eq!(world.cached(), [format!("pull-{model}.lock")], "{model}, {case}");
    }
    let said = World::with_packages().fetch("strangers").unwrap_err();
    assert!(said.contains("error: tarballs.gguf: all parts make a file with the SHA-256 936a185c"), "{said}");
}

#[test]
fn what_the_client_says_is_shown() {
    let cases = [
        (
            "wheel",
            "echo 'no route' >&2; exit 3",
            "no route\nerror: pip could not fetch hello 1.0 (exit status: 3)",
        ),
        ("wheel", "exit 0", "error: hello 1.0: pip left no .whl file"),
        (
            "tarballs",
            "echo 'no route' >&2; exit 3",
            "no route\nerror: npm could not fetch hello 1.0 (exit status: 3)",
        ),
        ("tarballs", "exit 0", "error: hello 1.0: npm left no .tgz file"),
    ];
    for (model, script, expected) in cases {
        let world = World::with_packages();
        world.set_client(script);
        let said = world.fetch(model).unwrap_err();
        assert!(said.contains(expected), "{model}, {script}: {said}");
        assert_eq!(world.cached(), [format!("pull-{model}.lock")], "{model}, {script}");
    }
    let cases = [
        (
            "wheel",
            "fetching hello 1.0 needs Python's pip, and none of `python3 -I -m pip`, `python -I -m pip`, `pip3`, `pip` runs",
        ),
        (
            "tarballs",
            "fetching hello 1.0 needs npm, which comes with Node.js, and `npm` does not run: install it",
        ),
    ];
    for (model, expected) in cases {
        let world = World::new();
        let said = end(world.command(model).env("PATH", "").spawn().unwrap()).unwrap_err();
        assert!(said.contains(expected), "{model}: {said}");
    }
}

#[test]
fn a_cache_that_can_not_be_written_is_named() {
    let world = World::with_packages();
    let file = world.path("file");
    fs::write(&file, "").unwrap();
    let said =
        end(world.command("wheel").env("QUANTLOOM_CACHE", file.join("cache")).spawn().unwrap()).unwrap_err();
    assert!(said.contains("file/cache: Not a directory"), "{said}");
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn what_is_whole_is_not_fetched_again() {
    let world = World::with_packages();
    let left =
        [String::from("pull-tarballs"), "pull-tarballs.lock".into(), "pull-tarballs/tarballs.gguf".into()];

    // The second part fails …
    world.set_client("case $package in world*) exit 1; esac");
    world.fetch("tarballs").unwrap_err();
    assert_eq!(world.calls(), ["hello@1.0", "world@1.0"]);
    assert_eq!(world.cached(), left);
    // … or is another …
    world.set_client("");
    world.add("world@1.0", &tarball("package/model.part", b"worse"));
    world.fetch("tarballs").unwrap_err();
    assert_eq!(world.calls(), ["world@1.0"]);
    assert_eq!(world.cached(), left);
    assert_eq!(fs::read_to_string(world.path("cache").join(&left[2])).unwrap(), "hello");
    // … or its fetching is ended for good.
    world.set_client("exec sleep 1");
    let mut child = world.start("tarballs");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !world.path("calls").exists() {
        assert!(Instant::now() < deadline, "the client was not called");
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.calls(), ["world@1.0"]);
    assert!(world.cached().len() > left.len(), "what it was about is left there");

    world.set_client("");
    world.add("world@1.0", &tarball("package/model.part", b"world"));
    let path = world.fetch("tarballs").unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "helloworld");
    assert_eq!(world.calls(), ["world@1.0"]);
    assert_eq!(world.cached(), ["pull-tarballs.lock", "tarballs.gguf"]);
}

#[test]
fn what_is_damaged_is_fetched_again() {
    let cases: [(&str, &[&str]); 6] = [
        ("", &["hello@1.0", "world@1.0"]),
        ("hell", &["hello@1.0", "world@1.0"]),
        ("jello", &["hello@1.0", "world@1.0"]),
        ("jelloworld", &["hello@1.0", "world@1.0"]),
        ("helloworse", &["world@1.0"]),
        ("helloworld and more", &[]),
    ];
    for (left, calls) in cases {
        let world = World::with_packages();
        let folder = world.path("cache").join("pull-tarballs");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tarballs.gguf"), left).unwrap();
        let path = world.fetch("tarballs").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "helloworld", "{left:?}");
        assert_eq!(world.calls(), calls, "{left:?}");
    }
}

#[test]
fn a_model_is_fetched_by_one_process_at_a_time() {
    let world = World::with_packages();
    world.set_client("sleep 1");
    let children: Vec<_> = (0..3).map(|_| world.start("tarballs")).collect();
    for child in children {
        assert_eq!(fs::read_to_string(end(child).unwrap()).unwrap(), "helloworld");
    }
    assert_eq!(world.calls(), ["hello@1.0", "world@1.0"]);
}

#[test]
fn what_is_fetched_is_quantized() {
    let world = World::with_packages();
    let path = world.fetch("quantized").unwrap();
    assert_eq!(world.calls(), ["first@1.0", "second@1.0"]);
    assert_eq!(world.cached(), ["pull-quantized.lock", "tiny.Q4_0.gguf"], "nothing else is left");
    let model = Gguf::open(&path).unwrap();
    for tensor in model.tensors() {
        // Rows of 64 are no blocks of Q6_K, which the recipe has for the output.
        let expected = match tensor.name() {
            "output.weight" => "Q8_0",
            name if name.contains("norm") => "F32",
            _ => "Q4_0",
        };
        assert_eq!(tensor.ty().name(), expected, "{}", tensor.name());
    }

    // What is not whole is made again; what is kept is not fetched again.
    let bytes = fs::read(&path).unwrap();
    let source = world.fetch("quantized, source").unwrap();
    assert!(fs::read(source).unwrap() == tiny_model());
    assert_eq!(world.calls(), ["first@1.0", "second@1.0"]);
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(world.fetch("quantized").unwrap(), path);
    assert!(fs::read(&path).unwrap() == bytes);
    assert_eq!(world.calls(), [""; 0]);
    assert_eq!(world.cached(), ["pull-quantized.lock", "tiny.F16.gguf", "tiny.Q4_0.gguf"]);
}

/// Puts something where this program has a name of its own, before anything is fetched.
type Prepare = fn(&World, &Path);

/// What others put under this program's names is not removed, written to or waited for, whatever becomes of the fetching.
#[test]
fn foreign_files_are_left_alone() {
    fn link(to: &str, world: &World, path: &Path) {
        symlink(world.path(to), path).unwrap();
    }
    fn pipe(_: &World, path: &Path) {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }
    let to_folder: Prepare = |world, path| link("precious", world, path);
    let to_file: Prepare = |world, path| link("precious/file", world, path);
    let to_nothing: Prepare = |world, path| link("nothing", world, path);
    let hard_link: Prepare = |world, path| fs::hard_link(world.path("precious/file"), path).unwrap();
    let folder: Prepare = |_, path| fs::create_dir(path).unwrap();
    let file: Prepare = |_, path| fs::write(path, "hello").unwrap();
    // Each under the name of the staging folder, of the file that locks it, of the joined parts and of the folder for work.
    let cases: [(&str, &str, Prepare, &str); 16] = [
        ("a link to a folder", "pull-tarballs", to_folder, "is a symbolic link"),
        ("a link to nothing", "pull-tarballs", to_nothing, "is a symbolic link"),
        ("a file", "pull-tarballs", file, "is something else"),
        ("a link to a file", "pull-tarballs.lock", to_file, "is a symbolic link"),
        ("a link to nothing", "pull-tarballs.lock", to_nothing, "is a symbolic link"),
        ("a folder", "pull-tarballs.lock", folder, "is something else"),
        ("a pipe", "pull-tarballs.lock", pipe, "is something else"),
        ("a link to a file", "pull-tarballs/tarballs.gguf", to_file, "is a symbolic link"),
        ("a link to nothing", "pull-tarballs/tarballs.gguf", to_nothing, "is a symbolic link"),
        ("a hard link", "pull-tarballs/tarballs.gguf", hard_link, "has another name besides"),
        ("a folder", "pull-tarballs/tarballs.gguf", folder, "is something else"),
        ("a pipe", "pull-tarballs/tarballs.gguf", pipe, "is something else"),
        ("a link to a folder", "pull-tarballs/.quantloom-work", to_folder, "is a symbolic link"),
        ("a link to nothing", "pull-tarballs/.quantloom-work", to_nothing, "is a symbolic link"),
        ("a file", "pull-tarballs/.quantloom-work", file, "is something else"),
        ("a pipe", "pull-tarballs/.quantloom-work", pipe, "is something else"),
    ];
    for (what, name, prepare, problem) in cases {
        let world = World::with_packages();
        fs::create_dir(world.path("precious")).unwrap();
        fs::write(world.path("precious/file"), "precious").unwrap();
        let path = world.path("cache").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        prepare(&world, &path);
        let before = fs::symlink_metadata(&path).unwrap();
        let said = world.fetch("tarballs").unwrap_err();
        assert!(
            said.contains(&format!("error: {}: {problem}, and only a f", path.display()))
                && said.contains("that this program made is used here: move it away"),
            "{what} as {name}: {said}"
        );
        assert_eq!(world.calls(), [""; 0], "{what} as {name}");
        assert_eq!(fs::read_to_string(world.path("precious/file")).unwrap(), "precious", "{what} as {name}");
        assert!(!world.path("nothing").exists(), "{what} as {name}");
        let after = fs::symlink_metadata(&path).unwrap();
        assert_eq!((after.ino(), after.len()), (before.ino(), before.len()), "{what} as {name}");
    }
}

/// Of what is beside its own files nothing is removed: neither by a fetching that ends well nor by others.
#[test]
fn a_staging_folder_loses_only_what_was_made_there() {
    let cases = [("", true), ("exit 1", false), ("echo x > \"$TMPDIR/package.tgz\"; exit 0", false)];
    for (script, is_good) in cases {
        let world = World::with_packages();
        world.set_client(script);
        let staging = world.path("cache").join("pull-tarballs");
        fs::create_dir_all(staging.join("folder")).unwrap();
        fs::write(staging.join("folder/file"), "precious").unwrap();
        fs::write(staging.join("file"), "precious").unwrap();
        fs::create_dir(staging.join(".quantloom-work")).unwrap();
        fs::create_dir(world.path("precious")).unwrap();
        fs::write(world.path("precious/file"), "precious").unwrap();
        symlink(world.path("precious"), staging.join("link")).unwrap();
        symlink(world.path("precious"), staging.join(".quantloom-work/link")).unwrap();
        // Written to by others until it is used.
        fs::set_permissions(&staging, PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(world.fetch("tarballs").is_ok(), is_good, "{script:?}");
        for path in [staging.join("folder/file"), staging.join("file"), world.path("precious/file")] {
            assert_eq!(fs::read_to_string(&path).unwrap(), "precious", "{script:?}: {}", path.display());
        }
        let mut names: Vec<_> = fs::read_dir(&staging)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["file", "folder", "link"], "{script:?}");
        assert_eq!(fs::metadata(&staging).unwrap().permissions().mode() & 0o777, 0o755, "{script:?}");
    }
}

/// The cache, and what is in it, may be links: models go where they lead.
#[test]
fn a_cache_may_be_elsewhere() {
    for (what, link, to) in [
        ("the cache", "cache", "elsewhere"),
        ("a model that is there", "cache/tarballs.gguf", "elsewhere/damaged"),
        ("a model that is not there", "cache/tarballs.gguf", "elsewhere/nothing"),
    ] {
        let world = World::with_packages();
        fs::create_dir(world.path("elsewhere")).unwrap();
        fs::write(world.path("elsewhere/damaged"), "hell").unwrap();
        // If the cache is a link, it is no folder.
        let _ = fs::remove_dir(world.path(link));
        symlink(world.path(to), world.path(link)).unwrap();
        let path = world.fetch("tarballs").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "helloworld", "{what}");
        assert_eq!(fs::read_link(world.path(link)).unwrap(), world.path(to), "{what}");
        assert!(fs::symlink_metadata(world.path("elsewhere")).unwrap().is_dir(), "{what}");
    }
}

/// A folder of a stranger, in which every name is a trap: it leaves the file `trapped` beside it.
fn trap(world: &World) -> PathBuf {
    let folder = world.path("trap");
    fs::create_dir(&folder).unwrap();
    let trapped = world.path("trapped");
    for module in ["pip", "json", "ssl", "sitecustomize"] {
        fs::write(folder.join(format!("{module}.py")), format!("open({trapped:?}, 'w')\n")).unwrap();
    }
    for program in ["python3", "python", "pip3", "pip", "npm", "node"] {
        let path = folder.join(program);
        fs::write(&path, format!("#!/bin/sh\necho {program} > {trapped:?}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs::write(folder.join("package.json"), r#"{"workspaces": ["**"]}"#).unwrap();
    fs::write(folder.join(".npmrc"), "registry=http://127.0.0.1:1/\nfetch-retries=0\n").unwrap();
    folder
}

#[test]
fn nothing_of_the_current_folder_is_run() {
    // How a relative entry may stand in PATH, beside the one that is to be searched.
    let cases = [
        ("none", "OWN"),
        ("a point", ".:OWN"),
        ("an empty one", ":OWN"),
        ("an empty one at the end", "OWN/none:OWN:"),
        ("a folder above", "../trap:OWN"),
        ("a folder below", "./:./bin:OWN"),
    ];
    for (case, path) in cases {
        for (model, calls) in [("wheel", &["hello==1.0"][..]), ("tarballs", &["hello@1.0", "world@1.0"])] {
            let world = World::with_packages();
            let folder = trap(&world);
            fs::create_dir(folder.join("bin")).unwrap();
            fs::copy(folder.join("npm"), folder.join("bin/npm")).unwrap();
            fs::copy(folder.join("python3"), folder.join("bin/python3")).unwrap();
            let seen = world.path("seen");
            world.set_client(&format!(
                "{{ pwd; ls; echo \"$1 $2 $3\"; echo; echo \"$PYTHONPATH\"; echo \"$NODE_PATH\"; \
                 cat package.json; }} > {}",
                seen.display()
            ));
            let mut command = world.command(model);
            command
                .current_dir(&folder)
                .env("PATH", path.replace("OWN", world.path("programs").to_str().unwrap()));
            command.env("PYTHONPATH", ".:/absolute::x").env("NODE_PATH", "node_modules:/absolute");
            let path = end(command.spawn().unwrap()).unwrap_or_else(|said| panic!("{case}, {model}: {said}"));
            assert!(fs::read_to_string(path).unwrap().starts_with("hello"), "{case}, {model}");
            assert_eq!(world.calls(), calls, "{case}, {model}");
            assert!(!world.path("trapped").exists(), "{case}, {model}");
            let seen = fs::read_to_string(seen).unwrap();
            let work = world.path("cache").join(format!("pull-{model}/.quantloom-work"));
            let arguments =
                if model == "wheel" { "-I -m pip" } else { "pack --loglevel=error --no-workspaces" };
            let expected = format!(
                "{}\npackage.json\nstderr\n{arguments}\n\n/absolute\n/absolute\n{{}}",
                work.display()
            );
            assert_eq!(seen, expected, "{case}, {model}");
        }
    }
    // Nothing but traps.
    for path in ["", ".", "../trap", ":"] {
        let world = World::new();
        let folder = trap(&world);
        for (model, problem) in [("wheel", "`pip3`, `pip` runs"), ("tarballs", "`npm` does not run")] {
            let mut command = world.command(model);
            let said = end(command.current_dir(&folder).env("PATH", path).spawn().unwrap()).unwrap_err();
            assert!(said.contains(problem), "{path:?}, {model}: {said}");
            assert!(!world.path("trapped").exists(), "{path:?}, {model}");
        }
    }
}

/// Whether this machine has a program, which is said where it has not.
fn has(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let has = status.is_ok_and(|status| status.success());
    if !has {
        eprintln!("SKIPPED: there is no {program}");
    }
    has
}

/// The real pip takes the user's settings, and no module of the current folder.
#[test]
fn pip_is_isolated_and_has_the_users_settings() {
    if !has("python3", &["-I", "-m", "pip", "--version"]) {
        return;
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in [
        ("greeting/hello.gguf", "hello"),
        ("hello-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n"),
        ("hello-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ("hello-1.0.dist-info/RECORD", ""),
    ] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    let wheel = zip.finish().unwrap().into_inner();
    let world = World::new();
    let folder = trap(&world);
    fs::write(world.path("packages/hello-1.0-py3-none-any.whl"), &wheel).unwrap();
    let settings = format!("[global]\nfind-links = {}\n", world.path("packages").display());
    fs::write(world.path("pip.conf"), settings).unwrap();
    let mut command = world.command("wheel");
    command.current_dir(&folder).env("PATH", std::env::var_os("PATH").unwrap()).env_remove("PIP_FIND_LINKS");
    // Relative to where the user is.
    command.env("PIP_CONFIG_FILE", "../pip.conf").env("PIP_NO_INDEX", "1");
    let path = end(command.spawn().unwrap()).unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(fs::read_to_string(path).unwrap(), "hello");
    assert!(!world.path("trapped").exists());
}

/// A registry of npm's on this machine, which has the packages of [`TARBALLS`].
fn serve_registry() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let line = request.next().unwrap_or_default();
            request.find(String::is_empty);
            let path = line.split(' ').nth(1).unwrap_or_default();
            let name = if path.contains("hello") { "hello" } else { "world" };
            let body = if path.ends_with(".tgz") {
                tarball("package/model.part", name.as_bytes())
            } else {
                format!(
                    r#"{{"name": "{name}", "dist-tags": {{"latest": "1.0.0"}}, "versions": {{"1.0.0": {{
                    "name": "{name}", "version": "1.0.0",
                    "dist": {{"tarball": "http://127.0.0.1:{port}/{name}.tgz"}}}}}}}}"#
                )
                .into_bytes()
            };
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            // Whoever has gone away does not need it.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    port
}

/// The real npm takes the user's settings, and none of the current folder, nor of one above the cache.
#[test]
fn npm_has_the_users_settings_and_no_others() {
    if !has("npm", &["--version"]) {
        return;
    }
    let world = World::new();
    let folder = trap(&world);
    fs::write(world.path("npmrc"), format!("registry=http://127.0.0.1:{}/\n", serve_registry())).unwrap();
    let mut command = world.command("tarballs");
    command.current_dir(&folder).env("PATH", std::env::var_os("PATH").unwrap());
    command.env("QUANTLOOM_CACHE", folder.join("cache")).env("NPM_CONFIG_USERCONFIG", "../npmrc");
    command.env("NO_PROXY", "127.0.0.1").env_remove("NPM_CONFIG_REGISTRY").env_remove("npm_config_registry");
    let path = end(command.spawn().unwrap()).unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(fs::read_to_string(path).unwrap(), "helloworld");
    assert!(!world.path("trapped").exists());
}
