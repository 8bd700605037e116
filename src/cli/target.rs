//! What a REF, an OUT and an OUT:NAME on the command line stand for.
//!
//! One rule for all commands: what exists as a folder, or starts with `.` or `/`, is a layout; `oci:` and `docker://`
//! say outright what is meant. The name of an image in a layout starts after the first colon.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use ocipull::failure::{Failure, Kind};
use ocipull::reference::{Reference, ReferenceError, Repository};
use ocipull::text::printable;

/// Says a reference outright, as skopeo does.
const DOCKER: &str = "docker://";

/// Says a layout outright, as skopeo does.
const OCI: &str = "oci:";

/// What the name of an archive ends with.
const ARCHIVES: [&str; 3] = [".tar", ".tar.gz", ".tar.zst"];

/// What is meant by `REF|OUT[:NAME]`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An image in a registry.
    Reference(Reference),
    /// An image in a layout, the only one when no name says which.
    Layout {
        /// The layout's folder.
        path: PathBuf,
        /// The image's short or full name.
        name: Option<String>,
    },
}

impl Target {
    /// Tells what is meant. The file system is asked which folders there are.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, TargetError> {
        Self::parse_with(text, &Path::is_dir)
    }

    fn parse_with(text: &OsStr, is_folder: &dyn Fn(&Path) -> bool) -> Result<Self, TargetError> {
        let Some(written) = text.to_str() else {
            // A reference is ASCII and a name is UTF-8: all that is left is a folder.
            return Ok(Self::Layout { path: text.into(), name: None });
        };
        if written.starts_with(DOCKER) {
            return reference(written).map(Self::Reference);
        }
        if let Some(written) = written.strip_prefix(OCI) {
            return layout(written, is_folder);
        }
        let is_path = looks_like_a_path(written) || is_folder(Path::new(written));
        let is_named_folder = || colons(written).any(|at| is_folder(Path::new(&written[..at])));
        if is_path || is_named_folder() {
            return layout(written, is_folder);
        }
        reference(written).map(Self::Reference)
    }
}

fn layout(written: &str, is_folder: &dyn Fn(&Path) -> bool) -> Result<Target, TargetError> {
    let whole = |text: &str| Target::Layout { path: text.into(), name: None };
    if written.is_empty() {
        return Err(TargetError::EmptyPath);
    }
    if is_folder(Path::new(written)) {
        return Ok(whole(written));
    }
    // A folder's own colons are told from the one before the name by what exists.
    let existing = colons(written).find(|at| is_folder(Path::new(&written[..*at])));
    let Some(at) = existing.or_else(|| colons(written).next()) else { return Ok(whole(written)) };
    match (&written[..at], &written[at + 1..]) {
        ("", _) => Err(TargetError::EmptyPath),
        (_, "") => Err(TargetError::EmptyName),
        (path, name) => Ok(Target::Layout { path: path.into(), name: Some(name.to_owned()) }),
    }
}

/// Where the colons are, a drive letter's aside.
fn colons(written: &str) -> impl Iterator<Item = usize> {
    let skip = if has_drive(written) { 2 } else { 0 };
    written.match_indices(':').map(|(at, _)| at).filter(move |at| *at >= skip)
}

fn has_drive(written: &str) -> bool {
    let mut bytes = written.bytes();
    cfg!(windows) && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic()) && bytes.next() == Some(b':')
}

fn looks_like_a_path(written: &str) -> bool {
    written.starts_with(['.', '/']) || has_drive(written) || (cfg!(windows) && written.starts_with('\\'))
}

/// Whether an argument says by itself that it is a layout, whatever folders there are.
pub(crate) fn is_outright(written: &str) -> bool {
    written.starts_with(OCI) || looks_like_a_path(written)
}

/// Parses a reference, with or without `docker://`.
pub(crate) fn reference(text: &str) -> Result<Reference, TargetError> {
    if text.starts_with(OCI) {
        return Err(TargetError::LayoutForReference { text: printable(text) });
    }
    let written = text.strip_prefix(DOCKER).unwrap_or(text);
    written.parse().map_err(|source| TargetError::Reference { text: printable(text), source })
}

/// Parses a repository, with or without `docker://`: a reference that has neither tag nor digest.
pub(crate) fn repository(text: &str) -> Result<Reference, TargetError> {
    let reference = reference(text)?;
    let written = text.strip_prefix(DOCKER).unwrap_or(text);
    match written.parse::<Repository>() {
        Ok(_) => Ok(reference),
        Err(source) => Err(TargetError::Repository { text: printable(text), source }),
    }
}

/// The folder of a layout that is read, with or without `oci:`.
pub(crate) fn folder(text: &OsStr) -> Result<PathBuf, TargetError> {
    let path = match text.to_str() {
        Some(text) => text.strip_prefix(OCI).unwrap_or(text).into(),
        None => PathBuf::from(text),
    };
    if path.as_os_str().is_empty() { Err(TargetError::EmptyPath) } else { Ok(path) }
}

/// A layout and the name of an image in it, if any, with or without `oci:`: `OUT[:NAME]` where no reference may stand.
pub(crate) fn image_in_layout(text: &OsStr) -> Result<(PathBuf, Option<String>), TargetError> {
    image_in_layout_with(text, &Path::is_dir)
}

fn image_in_layout_with(
    text: &OsStr,
    is_folder: &dyn Fn(&Path) -> bool,
) -> Result<(PathBuf, Option<String>), TargetError> {
    let Some(written) = text.to_str() else { return Ok((text.into(), None)) };
    if written.starts_with(DOCKER) {
        return Err(TargetError::ReferenceForLayout { text: printable(written) });
    }
    match layout(written.strip_prefix(OCI).unwrap_or(written), is_folder)? {
        Target::Layout { path, name } => Ok((path, name)),
        Target::Reference(_) => Err(TargetError::ReferenceForLayout { text: printable(written) }),
    }
}

/// The folder that a fetch writes to.
///
/// A mistyped command must not make a folder that nobody meant: what reads as a reference or as an archive is refused.
pub(crate) fn destination(text: &OsString) -> Result<PathBuf, TargetError> {
    destination_with(text, &Path::is_dir)
}

fn destination_with(text: &OsStr, is_folder: &dyn Fn(&Path) -> bool) -> Result<PathBuf, TargetError> {
    let path = folder(text)?;
    let Some(written) = path.to_str() else { return Ok(path) };
    if written == "-" || ARCHIVES.iter().any(|ending| written.ends_with(ending)) {
        return Err(TargetError::Archive { text: printable(written) });
    }
    if written.starts_with(DOCKER) {
        return Err(TargetError::ReferenceForLayout { text: printable(written) });
    }
    let last = written.rfind(['/', std::path::MAIN_SEPARATOR]).map_or(0, |at| at + 1);
    let offending = colons(written).find(|at| *at >= last || !looks_like_a_path(written));
    if offending.is_some() && !is_folder(&path) {
        return Err(TargetError::ReferenceForLayout { text: printable(written) });
    }
    Ok(path)
}

/// Why an argument stands for nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TargetError {
    /// No reference.
    #[error("\"{text}\" is not an image reference")]
    Reference {
        /// What was written.
        text: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// No repository.
    #[error("\"{text}\" is not a repository")]
    Repository {
        /// What was written.
        text: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// An option about registries beside a layout.
    #[error("{option} is for registries, and \"{text}\" is a layout")]
    OptionForRegistries {
        /// The option.
        option: String,
        /// What was written.
        text: String,
    },
    /// A layout where only a reference may stand.
    #[error("\"{text}\" is a layout, and an image in a registry is wanted here")]
    LayoutForReference {
        /// What was written.
        text: String,
    },
    /// A reference where OUT stands.
    #[error("\"{text}\" cannot be the folder OUT: it has a colon and reads as a reference")]
    ReferenceForLayout {
        /// What was written.
        text: String,
    },
    /// An archive.
    #[error("\"{text}\" is an archive, and this version writes folders only")]
    Archive {
        /// What was written.
        text: String,
    },
    /// No folder before the colon.
    #[error("the name of a folder is empty")]
    EmptyPath,
    /// Nothing after the colon.
    #[error("there is no name after the colon")]
    EmptyName,
}

impl Failure for TargetError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Reference { source, .. } | Self::Repository { source, .. } => source.hint(),
            Self::OptionForRegistries { .. } => Some("leave it out, or write docker:// before the reference".to_owned()),
            Self::LayoutForReference { .. } => None,
            Self::ReferenceForLayout { .. } => Some(
                "the last argument is the folder to write to, such as ./out; `--ref-name =TEXT` names the image in it"
                    .to_owned(),
            ),
            Self::Archive { .. } => Some("name a folder, and pack it with tar".to_owned()),
            Self::EmptyPath => Some("`.` is the folder that you are in".to_owned()),
            Self::EmptyName => Some("leave the colon out where the layout has one image".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folders that exist in these tests.
    fn is_folder(path: &Path) -> bool {
        ["out", "./out", "/srv/out", "alpine", "./a:b", "./a:b/out", "sub/out"]
            .iter()
            .any(|known| path == Path::new(known))
    }

    fn shown(text: &str) -> String {
        match Target::parse_with(OsStr::new(text), &is_folder) {
            Ok(Target::Reference(reference)) => format!("image {reference}"),
            Ok(Target::Layout { path, name }) => format!("layout {} {name:?}", path.display()),
            Err(error) => format!("{error}"),
        }
    }

    /// The rule of docs/cli.md, form by form.
    #[test]
    fn what_is_a_layout_and_what_a_reference() {
        for (text, wanted) in [
            ("alpine:3.20", "layout alpine Some(\"3.20\")"),
            ("alpine", "layout alpine None"),
            ("docker://alpine", "image docker.io/library/alpine:latest"),
            ("docker://alpine:3.20", "image docker.io/library/alpine:3.20"),
            ("busybox:1", "image docker.io/library/busybox:1"),
            ("localhost:5000/a/b:1", "image localhost:5000/a/b:1"),
            ("out", "layout out None"),
            ("out:v1", "layout out Some(\"v1\")"),
            ("sub/out:v1", "layout sub/out Some(\"v1\")"),
            ("./out", "layout ./out None"),
            ("./out:v1", "layout ./out Some(\"v1\")"),
            ("./absent", "layout ./absent None"),
            ("./absent:v1", "layout ./absent Some(\"v1\")"),
            (".", "layout . None"),
            ("/absent:docker.io/library/a:1", "layout /absent Some(\"docker.io/library/a:1\")"),
            ("/srv/out:localhost:5000/a:1", "layout /srv/out Some(\"localhost:5000/a:1\")"),
            ("./a:b", "layout ./a:b None"),
            ("./a:b/out:v1", "layout ./a:b/out Some(\"v1\")"),
            ("oci:busybox", "layout busybox None"),
            ("oci:busybox:1", "layout busybox Some(\"1\")"),
            ("oci:./out:a:b", "layout ./out Some(\"a:b\")"),
            ("oci:", "the name of a folder is empty"),
            ("oci::v1", "the name of a folder is empty"),
            ("./out:", "there is no name after the colon"),
        ] {
            assert_eq!(shown(text), wanted, "{text}");
        }
        assert!(shown("upper/CASE").contains("is not an image reference"));
    }

    /// Where only a layout may stand, a word is its folder and never a reference that would be asked for somewhere.
    #[test]
    fn an_image_in_a_layout() {
        let found = |text: &str| image_in_layout_with(OsStr::new(text), &is_folder);
        for (text, path, name) in [
            ("out", "out", None),
            ("out:v1", "out", Some("v1")),
            ("oci:./out:a:b", "./out", Some("a:b")),
            ("busybox:1", "busybox", Some("1")),
            ("./a:b", "./a:b", None),
            ("./a:b/out:docker.io/library/a:1", "./a:b/out", Some("docker.io/library/a:1")),
        ] {
            assert_eq!(found(text).unwrap(), (path.into(), name.map(str::to_owned)), "{text}");
        }
        assert!(matches!(found("docker://a"), Err(TargetError::ReferenceForLayout { .. })));
        assert!(matches!(found("out:"), Err(TargetError::EmptyName)));
        assert!(matches!(found(""), Err(TargetError::EmptyPath)));
    }

    /// Where a reference is wanted a layout is not taken for one: `oci:x` would parse as Docker Hub's image `oci`.
    #[test]
    fn a_layout_is_no_reference() {
        assert!(matches!(reference("oci:x"), Err(TargetError::LayoutForReference { .. })));
        assert!(matches!(reference("./out"), Err(TargetError::Reference { .. })));
        assert_eq!(reference("docker://a").unwrap(), reference("a").unwrap());
    }

    /// A forgotten OUT, skopeo's DIR:TAG and an archive's name make no folder.
    #[test]
    fn a_destination_that_nobody_meant_is_refused() {
        let destination = |text: &str| destination_with(OsStr::new(text), &is_folder);
        for text in ["out", "./out", "new", "oci:new", "/srv/a:b/new", "./a:b", "../x.tar/new", "x.tarball"] {
            assert!(destination(text).is_ok(), "{text}");
        }
        for text in
            ["alpine:3.20", "localhost:5000/a", "ghcr.io/a/b:1", "./new:v1", "/srv/new:v1", "docker://a"]
        {
            assert!(matches!(destination(text), Err(TargetError::ReferenceForLayout { .. })), "{text}");
        }
        for text in ["-", "x.tar", "./x.tar.gz", "/srv/x.tar.zst", "oci:x.tar"] {
            assert!(matches!(destination(text), Err(TargetError::Archive { .. })), "{text}");
        }
        assert!(matches!(destination(""), Err(TargetError::EmptyPath)));
        assert_eq!(destination("oci:new").unwrap(), Path::new("new"));
    }
}
