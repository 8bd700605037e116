//! `ocipull fetch`: images into a layout.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use ocipull::digest::Digest;
use ocipull::fetch::{Fetched, LayerOutcome, LayerReport, Request, Status};
use ocipull::progress::{Event, Reporter};
use ocipull::reference::Reference;
use ocipull::registry::{Options, Registry};
use ocipull::tags::{Filter, Images};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::args::FetchArgs;
use super::super::diagnostic::Diagnostic;
use super::super::exit_code::Exit;
use super::super::printer::Printer;
use super::super::progress::{Progress, Shown, counted, size};
use super::super::runtime::{self, Ended};
use super::super::settings::{self, Fetch};
use super::tags;

/// Fetches every reference, in the order of the command line.
pub(super) fn run(args: &FetchArgs, printer: &Printer) -> Result<Exit, Diagnostic> {
    let fetch = settings::fetch(args)?;
    let shown = match Shown::choose(args.output.progress) {
        // Nothing moves in a dry run, and its plan is to be read.
        Shown::Bars if args.dry_run => Shown::Plain,
        shown => shown,
    };
    let progress = Progress::new(shown, printer);
    let reporter: Arc<dyn Reporter> = progress.clone();
    let references: Vec<&Reference> = fetch.requests.iter().map(|request| &request.reference).collect();
    let connections = usize::from(args.download.connections);
    let options = settings::registry(&args.registry, &args.network, connections, &references, &reporter)?;
    let options = Options { max_rate: args.download.max_rate, ..options };
    let layout = fetch.layout.display().to_string();
    let command = async || {
        let registry = Registry::new(options).map_err(|error| Diagnostic::of(&error))?;
        let run = Run { registry, progress, reporter, printer, is_json: args.output.report.json };
        run.all(&fetch, layout.clone()).await
    };
    match runtime::run(command)? {
        Ended::Done(exit) => exit,
        // A reference that was not resolved yet leaves no layout.
        Ended::Stopped(signal) if args.dry_run || !fetch.layout.exists() => {
            Ok(super::stopped(signal, "", printer))
        }
        Ended::Stopped(signal) => {
            let kept =
                format!("; what was downloaded is kept in {layout}, and the same command resumes from there");
            Ok(super::stopped(signal, &kept, printer))
        }
    }
}

/// What all references have in common.
struct Run<'a> {
    registry: Registry,
    progress: Arc<Progress>,
    reporter: Arc<dyn Reporter>,
    printer: &'a Printer,
    is_json: bool,
}

/// The object that `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    layout: String,
    results: Vec<Value>,
    bytes_downloaded: u64,
    bytes_reused: u64,
    requests: u64,
    retries: u64,
    elapsed_seconds: f64,
}

impl Run<'_> {
    async fn all(&self, fetch: &Fetch, layout: String) -> Result<Exit, Diagnostic> {
        let start = Instant::now();
        let mut outcomes = Vec::new();
        for request in &fetch.requests {
            match self.expanded(request, fetch.all_tags.as_ref()).await {
                Ok(requests) => {
                    for request in &requests {
                        let reference = request.reference.to_string();
                        outcomes.push((reference, self.one(request).await?));
                    }
                }
                Err(failed) => outcomes.push((request.reference.repository().to_string(), Err(failed))),
            }
        }
        let mut first_failure = None;
        let mut results = Vec::new();
        let (mut bytes_downloaded, mut bytes_reused) = (0, 0);
        for (reference, outcome) in outcomes {
            match outcome {
                Ok(fetched) => {
                    bytes_downloaded += fetched.downloaded;
                    bytes_reused += fetched.reused;
                    results.push(json!(fetched));
                }
                Err(diagnostic) => {
                    first_failure.get_or_insert(diagnostic.kind());
                    results.push(failed(&reference, &diagnostic));
                }
            }
        }
        self.progress.finish();
        if self.is_json {
            let statistics = self.registry.statistics();
            self.printer.result_json(&Report {
                layout,
                results,
                bytes_downloaded,
                bytes_reused,
                requests: statistics.requests,
                retries: statistics.retries,
                elapsed_seconds: (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            })?;
        }
        Ok(first_failure.map_or(Exit::Done, Exit::Failed))
    }

    /// What a request of the command line stands for: itself with the image that a short name means, or a request for each
    /// tag of its repository. A list that cannot be had, or has nothing for the filter, fails as an image would.
    async fn expanded(
        &self,
        request: &Request,
        all_tags: Option<&Filter>,
    ) -> Result<Vec<Request>, Diagnostic> {
        let failed = |diagnostic: Diagnostic| {
            let reference = request.reference.repository().to_string();
            self.reporter.report(Event::Finished { reference, status: "failed" });
            self.printer.diagnostic(&diagnostic);
            diagnostic
        };
        let Some(filter) = all_tags else {
            let meant = self.registry.meant(&request.reference).await;
            let during = format!("cannot fetch {}", request.reference.written());
            let reference = meant.map_err(|error| failed(Diagnostic::of(&error).during(during)))?;
            return Ok(vec![Request { reference, ..request.clone() }]);
        };
        let reference = tags::meant(&self.registry, &request.reference).await.map_err(failed)?;
        let repository = reference.repository();
        let Images { tags, left_out } =
            tags::list(&self.registry, repository, filter).await.map_err(failed)?;
        self.progress.step(&format!("{repository}: {}", counted(tags.len(), "tag")));
        if left_out > 0 {
            let others = counted(left_out, "tag");
            self.progress.step(&format!(
                "{repository}: {others} of signatures and lists of referrers left out; --referrers takes what belongs to \
                 each image"
            ));
        }
        let by_tag = |tag| Request { reference: reference.with_tag(tag), ..request.clone() };
        Ok(tags.into_iter().map(by_tag).collect())
    }

    /// Fetches one image and says what came of it. The outer error is about standard output, and ends everything.
    async fn one(&self, request: &Request) -> Result<Result<Fetched, Diagnostic>, Diagnostic> {
        let reference = request.reference.to_string();
        let start = Instant::now();
        // Its state is some 17 KiB, which is better not carried along on the stack.
        let fetched = Box::pin(ocipull::fetch::fetch(&self.registry, request, &self.reporter)).await;
        let status = fetched.as_ref().map_or("failed", |fetched| fetched.status.name());
        self.reporter.report(Event::Finished { reference: reference.clone(), status });
        match fetched {
            Ok(fetched) => {
                self.say(&fetched, request, start);
                if !self.is_json {
                    // What is not known yet stands under the name that the registry has for it.
                    let named = fetched.descriptor.as_ref().unwrap_or(&fetched.resolved);
                    self.printer.result(&result_line(&request.reference, &named.digest))?;
                }
                Ok(Ok(fetched))
            }
            Err(error) => {
                let diagnostic = Diagnostic::of(&error).during(format!("cannot fetch {reference}"));
                self.printer.diagnostic(&diagnostic);
                Ok(Err(diagnostic))
            }
        }
    }

    fn say(&self, fetched: &Fetched, request: &Request, start: Instant) {
        let reference = &fetched.reference;
        let (referrers, signatures) = (fetched.referrers.len(), fetched.signatures);
        if referrers + signatures > 0 {
            let (referrers, signatures) = (counted(referrers, "referrer"), counted(signatures, "signature"));
            self.progress.step(&format!("{reference}: with {referrers} and {signatures}"));
        }
        for note in &fetched.notes {
            self.progress.step(note);
        }
        match fetched.status {
            Status::UpToDate => self.progress.step(&format!("{reference}: up to date")),
            Status::Planned => {
                for line in planned(fetched, request) {
                    self.progress.answer(&line);
                }
            }
            _ => {
                let there = match fetched.reused {
                    0 => String::new(),
                    bytes => format!(", {} there already", size(bytes)),
                };
                let (downloaded, seconds) = (size(fetched.downloaded), start.elapsed().as_secs_f64());
                self.progress.step(&format!("{reference}: fetched {downloaded}{there}, in {seconds:.1} s"));
            }
        }
    }
}

/// `NAME@DIGEST`: a reference in itself, that pulls just what was fetched.
fn result_line(reference: &Reference, digest: &Digest) -> String {
    match reference.tag() {
        Some(tag) => format!("{}:{tag}@{digest}", reference.repository()),
        None => format!("{}@{digest}", reference.repository()),
    }
}

fn failed(reference: &str, diagnostic: &Diagnostic) -> Value {
    json!({
        "reference": reference,
        "status": "failed",
        "resolved": null,
        "descriptor": null,
        "images": [],
        "referrers": [],
        "signatures": 0,
        "error": diagnostic.to_json(),
    })
}

/// What a dry run says: each layer that would be downloaded, from where, and how much that is.
fn planned(fetched: &Fetched, request: &Request) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let layers = fetched.images.iter().flat_map(|image| &image.layers);
    let wanted: Vec<&LayerReport> =
        layers.filter(|layer| layer.outcome == LayerOutcome::Planned && seen.insert(layer.digest)).collect();
    let (reference, place) = (&fetched.reference, request.reference.repository());
    let platforms = fetched.images.iter().filter_map(|image| image.platform.as_ref());
    let platforms = platforms.map(|platform| format!(" for {platform}")).collect::<Vec<_>>().join(",");
    let first = match wanted.len() {
        0 => format!("{reference}: no layer would be downloaded{platforms}"),
        count => format!("{reference}: would download {}{platforms} from {place}", counted(count, "layer")),
    };
    let lines = wanted.iter().map(|layer| format!("  {} {}", layer.digest, size(layer.size)));
    std::iter::once(first).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::target;
    use super::*;

    /// The printed line is a reference by digest that keeps the tag and never has two digests.
    #[test]
    fn a_result_line_is_a_reference() {
        let digest = Digest::sha256(b"taken");
        let other = Digest::sha256(b"index");
        for (written, name) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            (&format!("quay.io/a/b@{other}"), "quay.io/a/b"),
            (&format!("quay.io/a/b:1@{other}"), "quay.io/a/b:1"),
        ] {
            let line = result_line(&written.parse().unwrap(), &digest);
            assert_eq!(line, format!("{name}@{digest}"));
            assert_eq!(line.parse::<Reference>().unwrap().digest(), Some(&digest));
        }
    }

    /// A failed entry has every key of one that succeeded.
    #[test]
    fn a_failed_entry() {
        let diagnostic = Diagnostic::of(&target::reference("a:").unwrap_err());
        let entry = failed("docker.io/library/a:1", &diagnostic);
        assert_eq!(entry["reference"], "docker.io/library/a:1");
        assert_eq!(entry["status"], "failed");
        assert!(entry["resolved"].is_null() && entry["descriptor"].is_null());
        assert_eq!(entry["images"], json!([]));
        assert_eq!(entry["error"]["exitCode"], 2);
    }
}
