//! One file of registries.conf: from its text to entries that hold together.
//!
//! What is refused, and what of several entries for one prefix counts, is what containers/image does when it loads a
//! file. Keys that are not known are passed over, as it does.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::error::RegistriesConfError;
use super::short_names::{self, Aliases, Mode};
use super::{Entry, Location, Mirror, Use};
use crate::reference::Reference;
use crate::registry::keyed::Keyed;
use crate::text::printable;

/// What a file says. What it does not mention is `None`, which is not the same as an empty list.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) entries: Vec<Entry>,
    pub(super) search: Option<Vec<String>>,
    pub(super) credential_helpers: Option<Vec<String>>,
    pub(super) mode: Option<Mode>,
    pub(super) aliases: Aliases,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Document {
    registry: Vec<Keyed<RegistryTable>>,
    unqualified_search_registries: Option<Vec<String>>,
    credential_helpers: Option<Vec<String>>,
    short_name_mode: String,
    aliases: BTreeMap<String, String>,
    /// Where version 1 of the format has everything.
    registries: Version1,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RegistryTable {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    pull_from_mirror: String,
    mirror: Vec<Keyed<MirrorTable>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version1 {
    search: List,
    insecure: List,
    block: List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    registries: Option<Vec<String>>,
}

impl Version1 {
    fn is_used(&self) -> bool {
        [&self.search, &self.insecure, &self.block].iter().any(|list| list.registries.is_some())
    }
}

impl File {
    /// # Errors
    /// [`RegistriesConfError::Syntax`], [`RegistriesConfError::Version1`] and [`RegistriesConfError::Invalid`].
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, RegistriesConfError> {
        let document = read(path, text)?;
        if document.registries.is_used() {
            return Err(RegistriesConfError::Version1 { path: path.to_owned() });
        }
        let invalid = |reason| RegistriesConfError::Invalid { path: path.to_owned(), reason };
        let entries = entries(&document.registry, path).map_err(invalid)?;
        let search = document.unqualified_search_registries.map(search_list).transpose().map_err(invalid)?;
        let mode = Mode::parse(&document.short_name_mode).map_err(invalid)?;
        let aliases = short_names::aliases(path, &document.aliases).map_err(invalid)?;
        Ok(Self { entries, search, credential_helpers: document.credential_helpers, mode, aliases })
    }

    /// The aliases alone, out of the file in which podman keeps the choices that were made at its prompt.
    ///
    /// # Errors
    /// [`RegistriesConfError::Syntax`] and [`RegistriesConfError::Invalid`].
    pub(super) fn parse_aliases(path: &Path, text: &str) -> Result<Aliases, RegistriesConfError> {
        let document = read(path, text)?;
        short_names::aliases(path, &document.aliases)
            .map_err(|reason| RegistriesConfError::Invalid { path: path.to_owned(), reason })
    }
}

fn read(path: &Path, text: &str) -> Result<Document, RegistriesConfError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        RegistriesConfError::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: printable(error.message()),
        }
    })
}

/// The entries, one a prefix: the first of a file counts. Entries for one location must agree on whether it may be asked
/// and how, or which one counts would depend on their order.
fn entries(tables: &[Keyed<RegistryTable>], path: &Path) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for Keyed(table) in tables {
        entries.push(entry(table, path)?);
    }
    let mut seen: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in &entries {
        let place = entry.location.as_ref().map_or(entry.prefix.as_str(), Location::as_str);
        let first = *seen.entry(place).or_insert(entry);
        for (setting, differs) in
            [("insecure", first.insecure != entry.insecure), ("blocked", first.blocked != entry.blocked)]
        {
            if differs {
                let place = printable(place);
                return Err(format!(
                    "\"{place}\" stands there several times with different values of {setting}"
                ));
            }
        }
    }
    let mut prefixes = std::collections::BTreeSet::new();
    entries.retain(|entry| prefixes.insert(entry.prefix.clone()));
    Ok(entries)
}

fn entry(table: &RegistryTable, path: &Path) -> Result<Entry, String> {
    let location = location(&table.location)?;
    let written = location_text(&table.prefix)?;
    let prefix = match (&location, written) {
        (Some(location), "") => location.as_str(),
        (None, "") => return Err("a registry has neither a prefix nor a location".to_owned()),
        (None, prefix) if !prefix.starts_with("*.") => {
            return Err(format!(
                "the registry with the prefix \"{}\" has no location, which only prefixes of the form *.example.com may lack",
                printable(prefix)
            ));
        }
        (_, prefix) => prefix,
    };
    if prefix.starts_with("*.") && prefix.contains(['/', '@', ':']) {
        let prefix = printable(prefix);
        return Err(format!("the prefix \"{prefix}\" is not of the form *.example.com"));
    }
    if !table.pull_from_mirror.is_empty() {
        let prefix = printable(prefix);
        return Err(format!(
            "pull-from-mirror stands at the registry \"{prefix}\", and belongs to its mirrors"
        ));
    }
    let default = if table.mirror_by_digest_only { Use::Digests } else { Use::Everything };
    let mirrors = table.mirror.iter().map(|Keyed(mirror)| {
        if table.mirror_by_digest_only && !mirror.pull_from_mirror.is_empty() {
            return Err(format!(
                "the registry \"{}\" has mirror-by-digest-only, and its mirror \"{}\" has pull-from-mirror: only one of them may stand",
                printable(prefix),
                printable(&mirror.location)
            ));
        }
        configured_mirror(mirror, prefix, default)
    });
    Ok(Entry {
        prefix: super::matching::with_canonical_host(prefix),
        mirrors: mirrors.collect::<Result<_, _>>()?,
        location,
        insecure: table.insecure,
        blocked: table.blocked,
        path: path.to_owned(),
    })
}

fn configured_mirror(table: &MirrorTable, prefix: &str, default: Use) -> Result<Mirror, String> {
    let Some(location) = location(&table.location)? else {
        return Err(format!("a mirror of the registry \"{}\" has no location", printable(prefix)));
    };
    let for_what = match &*table.pull_from_mirror {
        "" => default,
        "all" => Use::Everything,
        "digest-only" => Use::Digests,
        "tag-only" => Use::Tags,
        other => {
            return Err(format!(
                "pull-from-mirror of the mirror \"{location}\" is \"{}\", and must be all, digest-only or tag-only",
                printable(other)
            ));
        }
    };
    Ok(Mirror { location, insecure: table.insecure, for_what })
}

fn location(text: &str) -> Result<Option<Location>, String> {
    let text = location_text(text)?;
    Ok((!text.is_empty()).then(|| Location(text.to_owned())))
}

/// A location or a prefix without the slashes at its end.
pub(super) fn location_text(text: &str) -> Result<&str, String> {
    let trimmed = text.trim_end_matches('/');
    if trimmed.starts_with("http://") || trimmed.starts_with("https://") {
        return Err(format!("\"{}\" is a URL, and a host with or without a path is meant", printable(text)));
    }
    Ok(trimmed)
}

fn search_list(texts: Vec<String>) -> Result<Vec<String>, String> {
    let host = |text: String| {
        let host = location_text(&text)?;
        if host.contains('/') || format!("{host}/a").parse::<Reference>().is_err() {
            let text = printable(&text);
            return Err(format!("\"{text}\" among the unqualified-search-registries is not a host"));
        }
        Ok(host.to_owned())
    };
    texts.into_iter().map(host).collect()
}
