//! Brings bad blobs: what was made here is made again, documents and blobs come from their images' repositories.
//!
//! A blob that cannot be had from one place is asked for at the next, and one that cannot be had at all keeps nobody from
//! the others. A registry that fails twice in a row is not asked any more. Each place is asked for a blob once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

use super::error::SourceError;
use super::wanted::{Found, Made, Wanted, What};
use super::{Options, blocking};
use crate::digest::Digest;
use crate::failure::{Failure as _, Kind};
use crate::fetch::remake;
use crate::layout::Layout;
use crate::progress::{Event, Phase, Reporter};
use crate::reference::Repository;
use crate::registry::Registry;
use crate::transfer::{self, Present, Task};
use crate::verify::Content;

/// How many failures of its network in a row a registry may have.
const PATIENCE: u32 = 2;

/// What was tried until now, and what came of it.
pub(super) struct Mending<'a> {
    registry: &'a Registry,
    layout: &'a Layout,
    options: &'a Options,
    reporter: &'a Arc<dyn Reporter>,
    tried: BTreeSet<(Digest, Repository)>,
    remade: BTreeSet<(Digest, Repository)>,
    /// Failures of the network in a row, by host.
    hosts: Mutex<HashMap<String, u32>>,
    /// What was brought.
    pub(super) brought: BTreeSet<Digest>,
    /// The blob at which this machine said no, so that nothing else is tried.
    ended_at: Option<Digest>,
    /// The first failure of each blob that was not, and where this machine said no, that.
    pub(super) failures: BTreeMap<Digest, SourceError>,
    /// What images need, as it was last seen.
    pub(super) wanted: BTreeMap<Digest, Wanted>,
}

impl<'a> Mending<'a> {
    pub(super) fn new(
        registry: &'a Registry,
        layout: &'a Layout,
        options: &'a Options,
        reporter: &'a Arc<dyn Reporter>,
    ) -> Self {
        Self {
            registry,
            layout,
            options,
            reporter,
            tried: BTreeSet::new(),
            remade: BTreeSet::new(),
            hosts: Mutex::default(),
            brought: BTreeSet::new(),
            ended_at: None,
            failures: BTreeMap::new(),
            wanted: BTreeMap::new(),
        }
    }

    /// Whether this machine said no: no other blob would fare better.
    pub(super) fn has_ended(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Why there was no going on, where this machine said no.
    pub(super) fn take_end(&mut self) -> Option<SourceError> {
        self.ended_at.take().and_then(|digest| self.failures.remove(&digest))
    }

    /// Brings what was found, as far as it can be had from places that were not asked for it yet, and until this machine says
    /// no. Says what was brought.
    pub(super) async fn round(&mut self, found: Found) -> BTreeSet<Digest> {
        let mut brought = BTreeSet::new();
        for made in &found.made {
            if self.has_ended() {
                break;
            }
            // A list of referrers is made of what the layout has, which may be more in the next round.
            let is_new = self.remade.insert((made.entry.digest, made.repository.clone()));
            if is_new || remake::source(&made.entry).is_none() {
                brought.extend(self.make_again(made, &found.wanted).await);
            }
        }
        while !self.has_ended() {
            let next = self.next(&found.wanted, &brought);
            if next.is_empty() {
                break;
            }
            self.announce(&next);
            let outcomes = {
                let this = &*self;
                let bring = |(wanted, place)| async move { (wanted, this.bring(wanted, place).await) };
                let at_once = self.options.transfer.connections.max(1);
                stream::iter(next.clone()).map(bring).buffer_unordered(at_once).collect::<Vec<_>>().await
            };
            for (wanted, place) in next {
                self.tried.insert((wanted.descriptor.digest, place.clone()));
            }
            for (wanted, outcome) in outcomes {
                match outcome {
                    Ok(()) => drop(brought.insert(wanted.descriptor.digest)),
                    Err(error) => self.failed(wanted.descriptor.digest, error),
                }
            }
        }
        self.failures.retain(|digest, _| !brought.contains(digest));
        self.brought.extend(&brought);
        self.wanted = found.wanted;
        brought
    }

    fn failed(&mut self, digest: Digest, error: SourceError) {
        tracing::info!(%digest, %error, "not brought");
        if error.is_the_machines() {
            self.ended_at.get_or_insert(digest);
            self.failures.insert(digest, error);
        } else {
            self.failures.entry(digest).or_insert(error);
        }
    }

    /// Each blob that is still missing, with the next place that it may come from.
    fn next<'w>(
        &self,
        wanted: &'w BTreeMap<Digest, Wanted>,
        brought: &BTreeSet<Digest>,
    ) -> Vec<(&'w Wanted, &'w Repository)> {
        let next = |(digest, wanted): (&Digest, &'w Wanted)| {
            let is_new = |place: &&Repository| !self.tried.contains(&(*digest, (*place).clone()));
            Some((wanted, wanted.places.iter().find(is_new)?))
        };
        wanted.iter().filter(|(digest, _)| !brought.contains(digest)).filter_map(next).collect()
    }

    fn announce(&self, next: &[(&Wanted, &Repository)]) {
        let mut places: BTreeMap<&Repository, (usize, u64, u64)> = BTreeMap::new();
        for (wanted, place) in next {
            let (blobs, bytes, reused) = places.entry(place).or_default();
            *blobs += 1;
            *bytes = bytes.saturating_add(wanted.descriptor.size.saturating_sub(wanted.staged));
            *reused = reused.saturating_add(wanted.staged);
        }
        for (place, (blobs, bytes, reused)) in places {
            self.reporter.report(Event::Planned { reference: place.to_string(), blobs, bytes, reused });
        }
    }

    async fn bring(&self, wanted: &Wanted, place: &Repository) -> Result<(), SourceError> {
        self.is_patient_with(place)?;
        self.is_free(&wanted.descriptor.digest)?;
        let outcome = match wanted.what {
            What::Document => self.document(&wanted.descriptor.digest, place).await,
            What::Config | What::Layer => self.blob(wanted, place).await,
        };
        let is_network = outcome.as_ref().is_err_and(|error| error.kind() == Kind::Network);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = hosts.entry(place.host().to_owned()).or_default();
        *failures = if is_network { *failures + 1 } else { 0 };
        outcome
    }

    fn is_patient_with(&self, place: &Repository) -> Result<(), SourceError> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        match hosts.get(place.host()) {
            Some(failures) if *failures >= PATIENCE => {
                Err(SourceError::GivenUp { host: place.host().to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// A file takes the place of whatever stands there, but not that of a folder.
    fn is_free(&self, digest: &Digest) -> Result<(), SourceError> {
        let path = self.layout.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Err(SourceError::Blocked { path }),
            _ => Ok(()),
        }
    }

    async fn document(&self, digest: &Digest, place: &Repository) -> Result<(), SourceError> {
        let manifest = self.registry.manifest(place, digest, None, None).await?;
        self.put(*digest, manifest.raw().clone()).await.map(|_| ())
    }

    /// Only the digest is asked of it here: the diff IDs are the next check's, and what they contradict is the image's own.
    async fn blob(&self, wanted: &Wanted, place: &Repository) -> Result<(), SourceError> {
        let task = Task {
            descriptor: wanted.descriptor.clone(),
            content: Content::Opaque,
            source: self.registry.blob_source(place, &wanted.descriptor),
            // Another process may have been faster.
            present: Present::Prove,
        };
        let (layout, options) = (self.layout, &self.options.transfer);
        transfer::transfer(self.registry, layout, vec![task], options, self.reporter).await?;
        Ok(())
    }

    /// Puts a document into the layout where it is missing or bad there, and says whether it was.
    async fn put(&self, digest: Digest, bytes: Bytes) -> Result<bool, SourceError> {
        let (layout, reporter) = (self.layout.clone(), Arc::clone(self.reporter));
        blocking(move || {
            let total = bytes.len() as u64;
            reporter.report(Event::BlobStarted { digest, bytes: 0, total, phase: Phase::Downloading });
            let waiting = &mut |holder: &str| {
                reporter.report(Event::Waiting { digest: Some(digest), holder: holder.to_owned() });
            };
            let written = layout.put_document(&digest, &bytes, waiting)?;
            reporter.report(Event::BlobVerified { digest, bytes: total, total, diff_id: None });
            Ok::<_, SourceError>(written)
        })
        .await
        .unwrap_or(Err(SourceError::Stopped))
    }

    /// Makes again what conversion made, or a list of referrers, and takes of it what is bad here.
    async fn make_again(&mut self, made: &Made, wanted: &BTreeMap<Digest, Wanted>) -> BTreeSet<Digest> {
        let is_made = |digest: &&Digest| match wanted.get(digest).map(|wanted| wanted.what) {
            Some(What::Document) => true,
            Some(What::Config) => made.is_schema1(),
            Some(What::Layer) | None => false,
        };
        let missing: BTreeSet<Digest> = made.bad.iter().filter(is_made).copied().collect();
        let mut brought = BTreeSet::new();
        let Some(first) = missing.first() else { return brought };
        let documents = match self.made(made).await {
            Ok(documents) => documents,
            // The others may be documents that were not made, and are asked for.
            Err(error) => {
                let root = made.entry.digest;
                self.failed(if missing.contains(&root) { root } else { *first }, error);
                return brought;
            }
        };
        let root = made.entry.digest;
        let is_same = documents.iter().any(|(digest, _)| *digest == root);
        if let Some(source) = remake::source(&made.entry).filter(|_| !is_same && missing.contains(&root)) {
            self.failed(root, SourceError::OtherMade { source_digest: source.to_string() });
        }
        // What the root that is named leads to is needed too, though nothing leads to it while the root is bad.
        let is_needed = |digest: &Digest| is_same || missing.contains(digest);
        for (digest, bytes) in documents.into_iter().filter(|(digest, _)| is_needed(digest)) {
            let put = match self.is_free(&digest) {
                Ok(()) => self.put(digest, bytes).await,
                Err(blocked) => Err(blocked),
            };
            match put {
                Ok(true) => drop(brought.insert(digest)),
                Ok(false) => {}
                Err(error) => self.failed(digest, error),
            }
            if self.has_ended() {
                break;
            }
        }
        brought
    }

    async fn made(&self, made: &Made) -> Result<Vec<(Digest, Bytes)>, SourceError> {
        let (layout, options) = (self.layout, &self.options.transfer);
        if remake::source(&made.entry).is_some() {
            self.is_patient_with(&made.repository)?;
            let converted = remake::converted(
                self.registry,
                layout,
                &made.repository,
                &made.entry,
                options,
                self.reporter,
            );
            return Ok(Box::pin(converted).await?);
        }
        let Some(name) = made.name.clone() else { return Ok(Vec::new()) };
        let layout = layout.clone();
        let list = blocking(move || remake::list(&layout, layout.index()?.as_ref(), &name)).await;
        Ok(list.unwrap_or(Err(crate::fetch::FetchError::Worker))?.into_iter().collect())
    }
}
