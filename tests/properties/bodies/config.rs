//! The configuration of registries: registries.conf with its drop-ins, registries.d, certs.d.

use std::path::{Path, PathBuf};

use ocipull::reference::Reference;
use ocipull::registry::config::certs_d::Listing;
use ocipull::registry::config::registries_conf::{Candidates, EndpointConfig, Origin, Registries, Use};
use ocipull::registry::config::registries_d::RegistriesD;

use super::{PAGE, assert_fit, assert_shown, text};

/// The pages of a text but for the last one, as files; and the last one.
fn files(text: &str) -> (Vec<(PathBuf, String)>, &str) {
    let (files, last) = text.rsplit_once(PAGE).unwrap_or((text, "alpine\nquay.io/team/app:1\n"));
    let named = files.split(PAGE).take(4).enumerate();
    // Drop-ins may have any names.
    let name = |at| PathBuf::from(format!("/etc/{at}\u{1b}[2J.conf"));
    (named.map(|(at, text)| (name(at), text.to_owned())).collect(), last)
}

/// registries.conf and its drop-ins, a page each, then a page of references, a line each.
///
/// What is read in one piece is read file by file too; a file that says nothing changes nothing, and so does one that
/// says the last one's again. Every reference has somewhere to be asked for, the registry itself last, and what has a
/// digest is asked for by that digest everywhere. How a host's letters are written opens no door that is closed.
pub fn registries_conf(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (files, references) = files(text);
    let registries = match Registries::merge(files.clone()) {
        Ok(registries) => registries,
        Err(error) => return assert_fit(&error),
    };
    for file in &files {
        assert!(Registries::merge([file.clone()]).is_ok());
    }
    let empty = (PathBuf::from("/etc/empty.conf"), "# nothing\n".to_owned());
    let with_empty = Registries::merge(files.iter().cloned().chain([empty])).expect("nothing was added");
    let twice = Registries::merge(files.iter().chain(files.last()).cloned()).expect("nothing was added");
    assert!(!registries.credential_helpers().is_empty());
    for line in references.lines().take(8) {
        let Ok(reference) = line.parse::<Reference>() else { continue };
        let endpoints = registries.endpoints(&reference);
        match &endpoints {
            Ok(endpoints) => check_endpoints(&reference, endpoints),
            Err(error) => assert_fit(error),
        }
        for same in [&with_empty, &twice] {
            assert_eq!(same.endpoints(&reference).ok(), endpoints.as_ref().ok().cloned());
        }
        match registries.candidates(&reference) {
            Ok(candidates) => check_candidates(&reference, &candidates),
            Err(error) => assert_fit(&error),
        }
        check_spelling(&registries, &reference, endpoints.ok().as_deref());
    }
}

fn check_endpoints(reference: &Reference, endpoints: &[EndpointConfig]) {
    let (primary, mirrors) = endpoints.split_last().expect("the registry itself");
    assert!(!primary.is_mirror && mirrors.iter().all(|endpoint| endpoint.is_mirror));
    assert_eq!(primary.for_what, Use::Everything);
    for endpoint in endpoints {
        let asked = &endpoint.reference;
        assert_eq!(asked.to_string().parse::<Reference>().as_ref(), Ok(asked));
        if reference.digest().is_some() {
            assert_eq!(asked.digest(), reference.digest());
            assert_ne!(endpoint.for_what, Use::Tags);
        }
        if let Some(blocked) = &endpoint.blocked {
            assert_shown(&blocked.prefix);
        }
    }
}

fn check_candidates(reference: &Reference, candidates: &Candidates) {
    assert!(!candidates.references.is_empty());
    for candidate in &candidates.references {
        assert_eq!((candidate.tag(), candidate.digest()), (reference.tag(), reference.digest()));
    }
    let is_itself = candidates.references == [reference.clone()];
    assert!(is_itself || !matches!(candidates.origin, Origin::Written | Origin::Default));
    assert_eq!(reference.is_host_written(), candidates.origin == Origin::Written);
}

fn check_spelling(registries: &Registries, reference: &Reference, endpoints: Option<&[EndpointConfig]>) {
    let host = reference.repository().host();
    let shown = reference.to_string();
    let loud = format!("{}{}", host.to_ascii_uppercase(), &shown[host.len()..]);
    // A host that is all of digits and dots has no letters; one without a dot is a path when it is quiet.
    let Ok(loud) = loud.parse::<Reference>() else { return };
    let blocked = |endpoints: &[EndpointConfig]| -> Vec<bool> {
        endpoints.iter().map(|endpoint| endpoint.blocked.is_some()).collect()
    };
    // The name of Docker Hub is known in one spelling only: in another it is some registry.
    if !host.eq_ignore_ascii_case("docker.io") && !host.eq_ignore_ascii_case("index.docker.io") {
        let loud = registries.endpoints(&loud).ok();
        assert_eq!(loud.as_deref().map(blocked), endpoints.map(blocked), "{shown}");
    }
}

/// Files of registries.d, a page each, then a page of references and of the names of files in certs.d, a line each.
///
/// The order of the files is nothing to where signatures are; that is a place of the web, where nobody has to say who he is,
/// or a folder. Every certificate in a folder counts once, and half of a pair never.
pub fn registries_d(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (files, lines) = files(text);
    check_listing(lines);
    let read = match RegistriesD::merge(files.clone()) {
        Ok(read) => read,
        Err(error) => return assert_fit(&error),
    };
    let backwards = RegistriesD::merge(files.into_iter().rev()).expect("the same files");
    for line in lines.lines().take(8) {
        let Ok(reference) = line.parse::<Reference>() else { continue };
        let found = read.lookaside(&reference);
        match &found {
            Ok(Some(url)) => {
                assert!(matches!(url.scheme(), "http" | "https" | "file"), "{url}");
                assert!(url.scheme() == "file" || (url.username().is_empty() && url.password().is_none()));
            }
            Ok(None) => {}
            Err(error) => assert_fit(error),
        }
        assert_eq!(backwards.lookaside(&reference).ok(), found.ok());
    }
}

fn check_listing(names: &str) {
    let folder = Path::new("/etc/containers/certs.d/r.example");
    let names: Vec<String> = names.lines().take(32).map(str::to_owned).collect();
    let has = |name: &str| names.iter().any(|held| held == name);
    let is_whole = names.iter().all(|name| match (name.strip_suffix(".cert"), name.strip_suffix(".key")) {
        (Some(stem), _) => has(&format!("{stem}.key")),
        (None, Some(stem)) => has(&format!("{stem}.cert")),
        (None, None) => true,
    });
    let listing = Listing::of(folder, names.clone());
    assert_eq!(listing.is_ok(), is_whole, "{names:?}");
    let listing = match listing {
        Ok(listing) => listing,
        Err(error) => return assert_fit(&error),
    };
    let mut authorities: Vec<PathBuf> = names
        .iter()
        .filter(|name| name.strip_suffix(".crt").is_some())
        .map(|name| folder.join(name))
        .collect();
    authorities.sort();
    authorities.dedup();
    let mut listed = listing.authorities.clone();
    listed.sort();
    assert_eq!(listed, authorities);
    let mut again = names;
    again.reverse();
    assert_eq!(Listing::of(folder, again).ok(), Some(listing));
}
