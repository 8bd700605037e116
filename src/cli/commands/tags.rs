//! `ocipull tags`: the tags of a repository. `fetch --all-tags` lists them here too.

use std::sync::Arc;

use ocipull::failure::{Failure, Kind};
use ocipull::progress::Reporter;
use ocipull::reference::{Reference, Repository, Tag};
use ocipull::registry::{Registry, RegistryError};
use ocipull::tags::{Filter, Images};
use serde_json::json;

use super::super::args::TagsArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::{Progress, Shown, counted};
use super::super::runtime::{self, Ended};
use super::super::{settings, target};

/// Asks the registry and prints the tags. None is an answer, as it is for a repository whose last tag was deleted.
pub(super) fn run(args: &TagsArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let reference = target::repository(&args.repository).map_err(|error| Diagnostic::of(&error))?;
    let filter = settings::filter(args.pattern.as_ref(), args.semver.as_ref());
    let reporter: Arc<dyn Reporter> = Progress::new(Shown::Waits, printer);
    let options =
        settings::registry(&args.registry, &args.network, settings::CONNECTIONS, &[&reference], &reporter)?;
    let command = async || {
        let registry = Registry::new(options)?;
        registry.first_of(&reference, |meant| listed(registry.clone(), meant)).await
    };
    let (meant, tags) = match runtime::run(command)? {
        Ended::Done(tags) => tags.map_err(|error| cannot_list(&super::named(&reference, &error), &error))?,
        Ended::Stopped(signal) => return Ok(super::stopped(signal, "", printer)),
    };
    let tags = filter.select(tags);
    if args.output.json {
        printer.result_json(&json!({"repository": meant.repository().to_string(), "tags": tags}))?;
    } else {
        let lines: String = tags.iter().flat_map(|tag| [tag.as_str(), "\n"]).collect();
        printer.result_bytes(lines.as_bytes())?;
    }
    Ok(Exit::Done)
}

/// The repository with tags that a reference means: the first of several that can be listed.
pub(super) async fn meant(registry: &Registry, reference: &Reference) -> Result<Reference, Diagnostic> {
    let found = registry.meant_by(reference, |meant| listed(registry.clone(), meant)).await;
    found.map_err(|error| cannot_list(&super::named(reference, &error), &error))
}

async fn listed(registry: Registry, reference: Reference) -> Result<Vec<Tag>, RegistryError> {
    registry.tags(reference.repository()).await
}

/// The tags of images that a filter takes, in natural order. None is a failure here: they were to be fetched.
pub(super) async fn list(
    registry: &Registry,
    repository: &Repository,
    filter: &Filter,
) -> Result<Images, Diagnostic> {
    let tags =
        registry.tags(repository).await.map_err(|error| cannot_list(&repository.to_string(), &error))?;
    let count = tags.len();
    let images = filter.select_images(tags);
    if images.tags.is_empty() {
        let (repository, filter) = (repository.to_string(), filter.to_string());
        let error = match count {
            0 => NothingToFetch::NoTags { repository },
            _ if images.left_out > 0 => NothingToFetch::NoImages { repository, count: images.left_out },
            count => NothingToFetch::NoneTaken { repository, filter, count },
        };
        return Err(Diagnostic::of(&error));
    }
    Ok(images)
}

fn cannot_list(repository: &str, error: &(impl Failure + 'static)) -> Diagnostic {
    Diagnostic::of(error).during(format!("cannot list the tags of {repository}"))
}

/// Why there is no tag to fetch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum NothingToFetch {
    /// The repository has none.
    #[error("{repository} has no tags")]
    NoTags {
        /// The repository.
        repository: String,
    },
    /// Those that are meant belong to images and are none.
    #[error(
        "{repository} has no tag of an image, only {} of signatures and lists of referrers", counted(*.count, "tag")
    )]
    NoImages {
        /// The repository.
        repository: String,
        /// How many of the others there are.
        count: usize,
    },
    /// The filter takes none of them.
    #[error("{filter} takes no tag of {repository}, which has {}", counted(*.count, "tag"))]
    NoneTaken {
        /// The repository.
        repository: String,
        /// The options.
        filter: String,
        /// How many tags there are.
        count: usize,
    },
}

impl Failure for NothingToFetch {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoTags { .. } => None,
            Self::NoImages { .. } => Some("`--match` takes them when it matches them".to_owned()),
            Self::NoneTaken { repository, .. } => Some(format!("`ocipull tags {repository}` lists them")),
        }
    }
}
