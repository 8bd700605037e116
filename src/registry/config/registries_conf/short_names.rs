//! Short names: references whose host nobody wrote.
//!
//! An alias stands for its repository and for no other; without one the `unqualified-search-registries` are candidates in
//! their order; without those it is Docker Hub, where containers/image gives up. `short-name-mode` says what becomes of a
//! name with several candidates: podman asks at a terminal; nobody is asked here, so that `enforcing` is an error, as it
//! is for podman where there is no terminal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Registries;
use super::error::RegistriesConfError;
use crate::reference::{Reference, ReferenceError, Repository};
use crate::text::printable;

/// `short-name-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    Disabled,
    Enforcing,
    #[default]
    Permissive,
}

impl Mode {
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        match text {
            "" => Ok(None),
            "disabled" => Ok(Some(Self::Disabled)),
            "enforcing" => Ok(Some(Self::Enforcing)),
            "permissive" => Ok(Some(Self::Permissive)),
            other => Err(format!(
                "short-name-mode is \"{}\", and must be enforcing, permissive or disabled",
                printable(other)
            )),
        }
    }
}

/// What a short name stands for, and in which file. `None` takes back what an earlier file says.
pub(super) type Aliases = BTreeMap<String, (Option<Repository>, PathBuf)>;

/// The table of a file, all that is wrong with it in one message.
pub(super) fn aliases(path: &Path, table: &BTreeMap<String, String>) -> Result<Aliases, String> {
    let (mut aliases, mut wrong) = (Aliases::new(), Vec::new());
    for (name, value) in table {
        match alias(name, value) {
            Ok(target) => {
                aliases.insert(name.clone(), (target, path.to_owned()));
            }
            Err(reason) => wrong.push(format!("the alias \"{}\" {reason}", printable(name))),
        }
    }
    if wrong.is_empty() { Ok(aliases) } else { Err(wrong.join("; ")) }
}

fn alias(name: &str, value: &str) -> Result<Option<Repository>, String> {
    match parts(name) {
        Ok(true) => return Err("has a host of its own".to_owned()),
        // Nothing can be pulled under that name, so that its alias is of no use, and no harm either.
        Ok(false) | Err(ReferenceError::Reserved) => {}
        Err(error) => return Err(format!("is not a short name: {error}")),
    }
    if value.is_empty() {
        return Ok(None);
    }
    let bad = |reason: &str| format!("stands for \"{}\": {reason}", printable(value));
    match parts(value) {
        Ok(true) => value.parse().map(Some).map_err(|error: ReferenceError| bad(&error.to_string())),
        Ok(false) => Err(bad("a host must be written there")),
        Err(error) => Err(bad(&error.to_string())),
    }
}

/// Whether a host stands in a repository's name.
fn parts(name: &str) -> Result<bool, ReferenceError> {
    name.parse::<Repository>()?;
    Ok(name.parse::<Reference>()?.is_host_written())
}

/// What a reference may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// The references in the order in which they are tried: at least one.
    pub references: Vec<Reference>,
    /// Who says so.
    pub origin: Origin,
}

/// Who says what a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The reference itself, which has a host.
    Written,
    /// An alias in this file.
    Alias(PathBuf),
    /// `unqualified-search-registries` in this file.
    Search(PathBuf),
    /// Nobody: it is Docker Hub.
    Default,
}

impl Registries {
    /// What a reference may mean: itself, where its host was written.
    ///
    /// # Errors
    /// [`RegistriesConfError::Ambiguous`] and [`RegistriesConfError::SearchHost`].
    pub fn candidates(&self, reference: &Reference) -> Result<Candidates, RegistriesConfError> {
        let alone = |reference, origin| Ok(Candidates { references: vec![reference], origin });
        if reference.is_host_written() {
            return alone(reference.clone(), Origin::Written);
        }
        let name = reference.written_path();
        let at =
            |repository| Reference::new(repository, reference.tag().cloned(), reference.digest().copied());
        // The choices that were made at podman's prompt come first, even one that is taken back.
        let alias = self.recorded_aliases.get(name).or_else(|| self.aliases.get(name));
        if let Some((Some(repository), path)) = alias {
            return alone(at(repository.clone()), Origin::Alias(path.clone()));
        }
        let Some((hosts, path)) = self.search.as_ref().filter(|(hosts, _)| !hosts.is_empty()) else {
            return alone(reference.clone(), Origin::Default);
        };
        let candidate = |host: &String| {
            let text = format!("{host}/{name}");
            let parsed = text.parse::<Reference>().ok().filter(Reference::is_host_written);
            parsed.map(|found| at(found.repository().clone())).ok_or_else(|| {
                RegistriesConfError::SearchHost {
                    path: path.clone(),
                    name: name.to_owned(),
                    host: printable(host),
                }
            })
        };
        let references = hosts.iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
        if self.mode == Mode::Enforcing && references.len() > 1 {
            let candidates = references.iter().map(Reference::canonical).collect();
            return Err(RegistriesConfError::Ambiguous { name: name.to_owned(), candidates });
        }
        Ok(Candidates { references, origin: Origin::Search(path.clone()) })
    }
}
