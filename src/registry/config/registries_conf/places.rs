//! Where registries.conf and its drop-ins lie, and reading them.

use std::io;
use std::path::{Path, PathBuf};

use super::Registries;
use super::error::RegistriesConfError;
use crate::registry::config::{Environment, registries_d};

const SYSTEM: &str = "/etc/containers";
const FILE: &str = "registries.conf";
const FOLDER: &str = "registries.conf.d";

/// Where a file is looked for, in which folders, and where podman keeps what was chosen at its prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) file: PathBuf,
    /// Whether somebody named the file, so that it must be there.
    pub(super) is_named: bool,
    /// The folders of drop-ins, the later ones over the earlier.
    pub(super) folders: Vec<PathBuf>,
    pub(super) recorded: Option<PathBuf>,
}

impl Places {
    /// Where to look. A user's file replaces the system's with its drop-ins; without one both folders of drop-ins count,
    /// and so they do beside a file that was named.
    pub(super) fn of(
        environment: &Environment,
        named: Option<&Path>,
        is_there: impl Fn(&Path) -> bool,
    ) -> Self {
        let user = environment.configuration.as_ref().map(|folder| folder.join("containers"));
        let of_user = user.as_ref().map(|folder| folder.join(FILE)).filter(|file| is_there(file));
        let system_folder = Path::new(SYSTEM).join(FOLDER);
        let user_folder = user.map(|folder| folder.join(FOLDER));
        let both = || std::iter::once(system_folder).chain(user_folder.clone()).collect();
        let (file, is_named, folders) = match (named.or(environment.registries_conf.as_deref()), of_user) {
            (Some(named), _) => (named.to_owned(), true, both()),
            (None, Some(file)) => (file, false, user_folder.into_iter().collect()),
            (None, None) => (Path::new(SYSTEM).join(FILE), false, both()),
        };
        let recorded =
            environment.cache.as_ref().map(|cache| cache.join("containers/short-name-aliases.conf"));
        Self { file, is_named, folders, recorded }
    }
}

impl Registries {
    /// What this machine's configuration says: the file that is `named`, or else the one in the environment, the user's,
    /// the system's; with its drop-ins, and with the short names that podman's user chose.
    ///
    /// # Errors
    /// Any [`RegistriesConfError`] but those of a reference; [`RegistriesConfError::Unreadable`] when a named file is not
    /// there.
    pub fn read(environment: &Environment, named: Option<&Path>) -> Result<Self, RegistriesConfError> {
        let places = Places::of(environment, named, Path::exists);
        let mut files = Vec::new();
        match registries_d::text_of(&places.file) {
            Ok(text) => files.push((places.file.clone(), text)),
            Err(error) if !places.is_named && is_missing(&error) => {}
            Err(source) => return Err(RegistriesConfError::Unreadable { path: places.file, source }),
        }
        for folder in &places.folders {
            files.extend(drop_ins(folder)?);
        }
        let mut registries = Self::merge(files)?;
        if let Some(path) = places.recorded
            && let Some(text) = text_where_there(&path)?
        {
            registries = registries.with_recorded_aliases(&path, &text)?;
        }
        Ok(registries)
    }
}

/// The files of a folder whose names end in `.conf`, in the order of their names. One that goes away meanwhile is none.
fn drop_ins(folder: &Path) -> Result<Vec<(PathBuf, String)>, RegistriesConfError> {
    let unreadable = |source| RegistriesConfError::Unreadable { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name();
        if !is_folder && name.to_string_lossy().ends_with(".conf") {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut files = Vec::new();
    for name in names {
        let path = folder.join(name);
        if let Some(text) = text_where_there(&path)? {
            files.push((path, text));
        }
    }
    Ok(files)
}

fn text_where_there(path: &Path) -> Result<Option<String>, RegistriesConfError> {
    match registries_d::text_of(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(source) => Err(RegistriesConfError::Unreadable { path: path.to_owned(), source }),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
