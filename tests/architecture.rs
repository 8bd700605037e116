//! Holds the source to docs/architecture.md: who may use whom, and what only one place may do.
//!
//! The table is read from the page itself, so that page and code cannot part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Table = BTreeMap<String, BTreeSet<String>>;

/// A source file: its path below the repository's root, and its lines outside tests and comments.
struct Source {
    path: String,
    code: String,
}

impl Source {
    /// The modules that the file is in, from the top: `registry`, `auth`, `token`.
    fn modules(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').collect()
    }

    /// Whether it belongs to the binary, whose `crate` is not the library.
    fn is_command_line(&self) -> bool {
        self.path == "src/main.rs" || self.path.starts_with("src/cli/") || self.path == "src/cli.rs"
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(root().join(folder)).sort_by_file_name().into_iter();
    let entries = entries.map(|entry| entry.expect("the folder can be read").into_path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The files of the code itself, without those that are only compiled for tests.
fn code_files() -> Vec<PathBuf> {
    let is_test = |path: &PathBuf| {
        let below = path.strip_prefix(root()).expect("a path below the root");
        let is_tests_file = path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
        is_tests_file || below.components().any(|part| part.as_os_str() == "tests")
    };
    let mut files = files("src");
    files.retain(|path| !is_test(path));
    assert!(files.len() > 20, "the source was found");
    files
}

fn sources() -> Vec<Source> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a source file can be read");
        let path = path.strip_prefix(root()).expect("a path below the root").to_str().expect("text");
        Source { path: path.replace('\\', "/"), code: without_tests_and_comments(&text) }
    };
    code_files().iter().map(read).collect()
}

/// The text without line comments and without items under `#[cfg(test)]`. What rustfmt writes is easy to read: an item
/// ends with the first line that is its closing brace at its own indentation.
fn without_tests_and_comments(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indentation = &line[..line.len() - line.trim_start().len()];
        if line.trim_start().starts_with("#[cfg(test)]") || line.trim_start().starts_with("#[cfg(all(test") {
            let closing = format!("{indentation}}}");
            let ends = |line: &str| line == closing || (line.starts_with(indentation) && line.ends_with(';'));
            let is_one_line = |line: &str| line[indentation.len()..].starts_with(|first: char| first != ' ');
            let first = lines.by_ref().find(|line| !line.trim_start().starts_with("#["));
            let has_body = first.is_some_and(|line| line.ends_with('{'));
            if has_body {
                lines.by_ref().find(|line| *line == closing);
            } else if first.is_some_and(|line| !ends(line)) {
                lines.by_ref().find(|line| ends(line) && is_one_line(line));
            }
        } else {
            code.push_str(line.find("//").map_or(line, |at| &line[..at]));
            code.push('\n');
        }
    }
    code
}

/// The top-level modules that a file names by path: `crate::x`, `crate::{x, y::z}`, and `super::` up to the crate.
fn used_modules(source: &Source) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let depth = source.modules().len();
    let starts = source.code.match_indices("crate::").map(|(at, word)| (at, at + word.len()));
    let supers = "super::".repeat(depth);
    let climbs = source.code.match_indices(&supers).map(|(at, word)| (at, at + word.len()));
    for (start, end) in starts.chain(climbs) {
        if !source.code[..start].ends_with(|before: char| before.is_alphanumeric() || "_$:".contains(before))
        {
            used.extend(heads(&source.code[end..]));
        }
    }
    used
}

/// The first names of the path or the group that the text starts with.
fn heads(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let (mut depth, mut expects_name, mut found) = (1, true, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expects_name = true,
            _ if depth == 1 && expects_name && !letter.is_whitespace() => {
                found.push(name(&group[at..]));
                expects_name = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// The table under "Who may know whom": only names in backticks count, the rest of a cell is for people.
fn table() -> Table {
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the page can be read");
    let (_, section) = page.split_once("## Who may know whom").expect("the page has the section");
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let mut table = Table::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let mut cells = row.trim_matches('|').split('|').map(names);
        let (modules, allowed) = (cells.next().expect("a first cell"), cells.next().expect("a second cell"));
        for module in modules {
            assert!(table.insert(module.clone(), allowed.clone()).is_none(), "{module} has two rows");
        }
    }
    assert!(table.len() > 8, "the table was found");
    table
}

fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// No module knows another that the table does not allow it to know.
#[test]
fn modules_use_only_what_the_table_allows() {
    let table = table();
    let everybody = leaves(&table);
    let mut wrong = Vec::new();
    for source in sources() {
        let module = source.modules()[0].to_owned();
        if module == "lib" || source.is_command_line() {
            continue;
        }
        let Some(allowed) = table.get(&module) else {
            wrong.push(format!("{}: the module {module} has no row in the table", source.path));
            continue;
        };
        for used in used_modules(&source) {
            if used != module && !allowed.contains(&used) && !everybody.contains(&used) {
                wrong.push(format!("{} uses {used}, which {module} may not", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/architecture.md does not allow this:\n{}", wrong.join("\n"));
}

/// The modules that know nothing of ours and that everybody may use, as the page says above its table.
fn leaves(table: &Table) -> BTreeSet<String> {
    let leaves: BTreeSet<String> = ["text", "failure", "failpoint"].map(str::to_owned).into();
    for leaf in &leaves {
        assert!(table.get(leaf).is_some_and(BTreeSet::is_empty), "{leaf} must have an empty row");
    }
    leaves
}

/// A row for a module that is gone, or a module that lib.rs has and the table has not, is a page that lies.
#[test]
fn table_names_the_modules_that_there_are() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs can be read");
    let declared = lib.lines().filter_map(|line| {
        line.trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ")
            .strip_prefix("mod ")?
            .strip_suffix(';')
    });
    let declared: BTreeSet<String> = declared.map(str::to_owned).collect();
    let rows: BTreeSet<String> = table().into_keys().filter(|module| module != "cli").collect();
    assert_eq!(rows, declared);
}

/// Layers, not a tangle: the table has no cycle, and the two halves that only `transfer` joins never meet.
#[test]
fn table_is_layered() {
    let mut left = table();
    assert!(!left["registry"].contains("layout") && !left["layout"].contains("registry"));
    while !left.is_empty() {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, uses)| !uses.iter().any(|used| left.contains_key(used)))
            .map(|(module, _)| module.clone())
            .collect();
        assert!(!free.is_empty(), "these modules may use each other in a circle: {:?}", left.keys());
        left.retain(|module, _| !free.contains(module));
    }
}

/// The command line is a customer of the public API; the library knows nothing of it.
#[test]
fn command_line_stands_outside_the_library() {
    for source in sources() {
        let used = used_modules(&source);
        if source.is_command_line() {
            let foreign: Vec<&String> = used.iter().filter(|module| *module != "cli").collect();
            assert!(foreign.is_empty(), "{} reaches for {foreign:?} by crate::", source.path);
        } else {
            assert!(!used.contains("cli"), "{} knows the command line", source.path);
        }
    }
}

/// One file renames and fsyncs: what survives a crash is argued once.
#[test]
fn only_durable_renames_and_syncs() {
    let durable =
        ["fs::rename", "renameat", ".sync_all(", ".sync_data(", "fsync(", "fdatasync(", "fs::hard_link"];
    assert_only_in(&durable, |path| path == "src/durable.rs");
}

/// A library that prints cannot be used by another program.
#[test]
fn only_the_command_line_prints() {
    let streams = ["println!", "print!", "eprintln!", "eprint!", "io::stdout", "io::stderr", "io::stdin"];
    assert_only_in(&streams, |path| path.starts_with("src/cli") || path == "src/main.rs");
}

fn assert_only_in(words: &[&str], is_right: impl Fn(&str) -> bool) {
    for source in sources().iter().filter(|source| !is_right(&source.path)) {
        for word in words {
            assert!(!source.code.contains(word), "{} has {word}", source.path);
        }
    }
}

/// What lets tests break the file system is in no binary that anybody runs.
#[cfg(not(feature = "failpoints"))]
#[test]
fn the_binary_has_no_fail_points() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_ocipull")).expect("cargo has built it");
    // In two parts, so that this file may be part of a binary.
    let name = concat!("OCIPULL_", "FAIL").as_bytes();
    assert!(
        !binary.windows(name.len()).any(|bytes| bytes == name),
        "it reads the variables of the fail points"
    );
}

/// A lint is silenced where it says why, with `expect`, which complains once it is not needed any more.
#[test]
fn no_lint_is_silenced_without_a_reason() {
    for folder in ["src", "tests"] {
        for path in files(folder) {
            let text = std::fs::read_to_string(&path).expect("a source file can be read");
            // In two parts, or this file would find itself.
            for word in [concat!("#[", "allow("), concat!("#![", "allow(")] {
                assert!(!text.contains(word), "{} has {word}", path.display());
            }
        }
    }
}

/// Every file says at its top what it is for.
#[test]
fn every_file_opens_with_its_purpose() {
    for path in code_files() {
        let text = std::fs::read_to_string(&path).expect("a source file can be read");
        assert!(text.starts_with("//!"), "{} does not open with //!", path.display());
    }
}

/// The reader of paths itself: a rule that reads nothing would hold for everything.
#[test]
fn paths_are_read_in_every_form() {
    let read = |path: &str, code: &str| {
        let source = Source { path: path.to_owned(), code: without_tests_and_comments(code) };
        used_modules(&source).into_iter().collect::<Vec<_>>().join(" ")
    };
    let in_fetch = |code: &str| read("src/fetch/plan.rs", code);
    assert_eq!(in_fetch("use crate::digest::Digest;"), "digest");
    assert_eq!(in_fetch("let x = crate::text::printable(y) + crate::layout::z;"), "layout text");
    assert_eq!(in_fetch("use crate::{a::{B, c::D}, e,\n    f::{self, G}};"), "a e f");
    assert_eq!(in_fetch("pub(crate) use crate::verify;"), "verify");
    assert_eq!(in_fetch("use super::super::registry::X; use super::select::Y;"), "registry");
    assert_eq!(read("src/digest.rs", "use super::layout::X;"), "layout");
    assert_eq!(read("src/fetch/mod.rs", "use super::layout::X;"), "layout");
    assert_eq!(in_fetch("// use crate::cli::X;\n//! crate::serve\n"), "");
    let tests = "use crate::digest::D;\n#[cfg(test)]\nmod tests {\n    use crate::cli::X;\n    fn f() {}\n}\nuse crate::text::T;\n";
    assert_eq!(in_fetch(tests), "digest text");
    assert_eq!(
        in_fetch("#[cfg(test)]\nuse crate::cli::X;\n#[cfg(test)]\nmod tests;\nuse crate::text::T;"),
        "text"
    );
}
