//! registries.conf, version 2: which endpoints a reference is asked for at, and what a short name stands for
//! (containers-registries.conf(5)).
//!
//! [`Registries::merge`] takes the text of the files, in order; [`Registries::endpoints`] and
//! [`Registries::candidates`] answer for a reference; none of them does I/O. [`Registries::read`] finds and reads the
//! files of this machine. As in containers/image:
//!
//! - the user's file counts instead of the system's, drop-ins on top of it in the order of their names, and an entry with
//!   the prefix of an earlier file replaces that one whole;
//! - the entry with the longest prefix wins, by its text: `*.example.com` is longer than `example.com/a`;
//! - a mirror does not inherit `insecure`; a tag is resolved by the mirrors that may and by the location itself last;
//! - what is `blocked` is never contacted, be it a registry's own location or a mirror under a blocked prefix. The mirrors
//!   of a blocked registry are asked: that is how a registry is replaced by its mirrors.
//!
//! Where containers/image refuses, this refuses: an entry without a location, contradicting entries, `pull-from-mirror`
//! where it does not belong. Version 1 of the format is not read. What of it all is used for a request, and the
//! requests themselves, are the [`Registry`](crate::registry::Registry)'s.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use document::File;
pub use error::RegistriesConfError;
pub use short_names::{Candidates, Origin};

use crate::reference::{Reference, Repository};
use crate::registry::auth::AUTH_FILES;
use crate::text::printable;

mod document;
mod error;
mod matching;
mod places;
mod short_names;

/// What registries.conf and its drop-ins say, with the mirrors of this run.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// By prefix, in their order: of several with prefixes of one length, the first wins.
    entries: BTreeMap<String, Entry>,
    run_mirrors: Vec<RunMirror>,
    search: Option<(Vec<String>, PathBuf)>,
    credential_helpers: Vec<String>,
    mode: short_names::Mode,
    aliases: short_names::Aliases,
    recorded_aliases: short_names::Aliases,
}

/// What a `[[registry]]` table says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    prefix: String,
    /// `None` leaves names as they are; only prefixes with a wildcard have that.
    location: Option<Location>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
    path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    location: Location,
    insecure: bool,
    for_what: Use,
}

/// What stands in a name instead of a prefix: a host, mostly, with or without the beginning of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Location(String);

impl Location {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

/// What an endpoint is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Use {
    /// Tags, and what has a digest.
    Everything,
    /// What has a digest only (`digest-only`, `mirror-by-digest-only`). For a reference by tag, that is all that comes
    /// after the tag was resolved elsewhere.
    Digests,
    /// References by tag only (`tag-only`): the tag, and what it stands for.
    Tags,
}

/// Somewhere a reference may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// What to ask for there.
    pub reference: Reference,
    /// Whether it is a mirror rather than the registry itself.
    pub is_mirror: bool,
    /// Whether its certificate is not checked, and plain http will do.
    pub insecure: bool,
    /// What it is asked for.
    pub for_what: Use,
    /// The entry that forbids to ask it at all, where there is one.
    pub blocked: Option<Blocked>,
}

/// Who forbids to contact an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The entry's prefix.
    pub prefix: String,
    /// The file with the entry.
    pub path: PathBuf,
}

impl Entry {
    fn blocks(&self) -> Blocked {
        Blocked { prefix: printable(&self.prefix), path: self.path.clone() }
    }
}

/// A mirror for one run: a host with or without a path, where the repositories of every registry lie by their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMirror(String);

impl FromStr for RunMirror {
    type Err = RegistriesConfError;

    /// # Errors
    /// [`RegistriesConfError::NotAMirror`].
    fn from_str(text: &str) -> Result<Self, RegistriesConfError> {
        let wrong = || RegistriesConfError::NotAMirror { text: text.to_owned() };
        let location = document::location_text(text).map_err(|_| wrong())?;
        let is_place = |name: &str| {
            let is_repository = name.parse::<Repository>().is_ok();
            is_repository && name.parse::<Reference>().is_ok_and(|name| name.is_host_written())
        };
        is_place(&format!("{location}/a")).then(|| Self(location.to_owned())).ok_or_else(wrong)
    }
}

impl fmt::Display for RunMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Registries {
    /// What files, each with its path, say together, the later ones over the earlier.
    ///
    /// # Errors
    /// [`RegistriesConfError::Syntax`], [`RegistriesConfError::Version1`], [`RegistriesConfError::Invalid`].
    pub fn merge(files: impl IntoIterator<Item = (PathBuf, String)>) -> Result<Self, RegistriesConfError> {
        let mut merged = Self::default();
        for (path, text) in files {
            let file = File::parse(&path, &text)?;
            merged.entries.extend(file.entries.into_iter().map(|entry| (entry.prefix.clone(), entry)));
            if let Some(search) = file.search {
                merged.search = Some((search, path));
            }
            if let Some(helpers) = file.credential_helpers {
                merged.credential_helpers = helpers;
            }
            merged.mode = file.mode.unwrap_or(merged.mode);
            merged.aliases.extend(file.aliases);
        }
        Ok(merged)
    }

    /// The same with the short names that podman's user chose at its prompt, out of the file that podman keeps of them.
    /// They count before the aliases that are configured.
    ///
    /// # Errors
    /// [`RegistriesConfError::Syntax`] and [`RegistriesConfError::Invalid`].
    pub fn with_recorded_aliases(self, path: &Path, text: &str) -> Result<Self, RegistriesConfError> {
        Ok(Self { recorded_aliases: File::parse_aliases(path, text)?, ..self })
    }

    /// The same with mirrors that are asked before all that are configured, whatever the registry.
    #[must_use]
    pub fn with_run_mirrors(self, mirrors: Vec<RunMirror>) -> Self {
        Self { run_mirrors: mirrors, ..self }
    }

    /// Which credential helpers are asked, in order; [`AUTH_FILES`] among them stands for the auth files.
    pub fn credential_helpers(&self) -> Vec<&str> {
        if self.credential_helpers.is_empty() {
            return vec![AUTH_FILES];
        }
        self.credential_helpers.iter().map(String::as_str).collect()
    }

    /// Where to ask for a reference, in order: the mirrors, and last the registry itself. An endpoint that could not be
    /// asked for anything of this reference is left out; one that is blocked is there, and says so.
    ///
    /// # Errors
    /// [`RegistriesConfError::Rewritten`] when an entry's location makes no reference of it.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<EndpointConfig>, RegistriesConfError> {
        let mut endpoints = Vec::new();
        let names = names(reference);
        let host = names[0].find('/').unwrap_or(names[0].len());
        for RunMirror(location) in &self.run_mirrors {
            let rewritten = rewritten(reference, &names[0], host, location, Path::new("--mirror"))?;
            // Who asks a mirror for its own repositories asks it once.
            if rewritten == *reference {
                continue;
            }
            endpoints.push(EndpointConfig {
                blocked: self.blocked(&rewritten),
                reference: rewritten,
                is_mirror: true,
                insecure: false,
                for_what: Use::Everything,
            });
        }
        let Some((entry, name, taken)) = self.find(&names) else {
            endpoints.push(EndpointConfig {
                reference: reference.clone(),
                is_mirror: false,
                insecure: false,
                for_what: Use::Everything,
                blocked: None,
            });
            return Ok(endpoints);
        };
        let unused = if reference.digest().is_some() { Some(Use::Tags) } else { None };
        for mirror in entry.mirrors.iter().filter(|mirror| Some(mirror.for_what) != unused) {
            let rewritten = rewritten(reference, name, taken, mirror.location.as_str(), &entry.path)?;
            endpoints.push(EndpointConfig {
                blocked: self.blocked(&rewritten),
                reference: rewritten,
                is_mirror: true,
                insecure: mirror.insecure,
                for_what: mirror.for_what,
            });
        }
        let primary = match &entry.location {
            Some(location) => rewritten(reference, name, taken, location.as_str(), &entry.path)?,
            None => reference.clone(),
        };
        let blocked = if entry.blocked { Some(entry.blocks()) } else { self.blocked(&primary) };
        endpoints.push(EndpointConfig {
            reference: primary,
            is_mirror: false,
            insecure: entry.insecure,
            for_what: Use::Everything,
            blocked,
        });
        Ok(endpoints)
    }

    /// The entry with the longest prefix that fits one of the names, that name, and how much of it the prefix takes.
    fn find<'n>(&self, names: &'n [String]) -> Option<(&Entry, &'n str, usize)> {
        let mut found: Option<(&Entry, &str, usize)> = None;
        for entry in self.entries.values() {
            for name in names {
                let longest = found.map_or(0, |(entry, ..)| entry.prefix.len());
                if let Some(taken) = matching::matched(name, &entry.prefix)
                    && entry.prefix.len() > longest
                {
                    found = Some((entry, name, taken));
                }
            }
        }
        found
    }

    fn blocked(&self, reference: &Reference) -> Option<Blocked> {
        let (entry, ..) = self.find(&names(reference)).filter(|(entry, ..)| entry.blocked)?;
        Some(entry.blocks())
    }
}

/// The names under which an entry may fit a reference: its repository's, and that with the tag and with the digest; then
/// the same with the port that a host without one is asked at.
fn names(reference: &Reference) -> Vec<String> {
    let name = matching::with_canonical_host(&reference.repository().to_string());
    let with_port = matching::with_default_port(&name);
    let mut names = Vec::new();
    for name in std::iter::once(name).chain(with_port) {
        let tagged = reference.tag().map(|tag| format!("{name}:{tag}"));
        let pinned = reference.digest().map(|digest| format!("{name}@{digest}"));
        names.extend([Some(name), tagged, pinned].into_iter().flatten());
    }
    names
}

/// The reference with `location` instead of the first `taken` bytes of its name.
fn rewritten(
    reference: &Reference,
    name: &str,
    taken: usize,
    location: &str,
    path: &Path,
) -> Result<Reference, RegistriesConfError> {
    let text = format!("{location}{}", &name[taken..]);
    let wrong = |source| RegistriesConfError::Rewritten {
        path: path.to_owned(),
        reference: reference.to_string(),
        location: printable(location),
        rewritten: printable(&text),
        source,
    };
    let found: Reference = text.parse().map_err(|error| wrong(Some(error)))?;
    if !found.is_host_written() {
        return Err(wrong(None));
    }
    let is_bare = name.split_once('/').is_some_and(|(_, path)| path == reference.repository().path());
    if is_bare {
        let repository = text.parse().map_err(|error| wrong(Some(error)))?;
        return Ok(Reference::new(repository, reference.tag().cloned(), reference.digest().copied()));
    }
    // A prefix with a tag has one in its location too, or even a digest; a digest that was asked for is never exchanged.
    let digest = reference.digest().or(found.digest()).copied();
    Ok(Reference::new(found.repository().clone(), found.tag().cloned(), digest))
}

#[cfg(test)]
mod tests;
