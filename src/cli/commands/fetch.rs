//! `ocipull fetch`: images into a layout.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocipull::digest::Digest;
use ocipull::failure::Kind;
use ocipull::fetch::{Fetched, Group, LayerOutcome, LayerReport, Request, Settled, Status};
use ocipull::progress::{Event, Reporter};
use ocipull::reference::Reference;
use ocipull::registry::{Options, Registry};
use ocipull::tags::{Filter, Images};
use serde::Serialize;
use serde_json::value::RawValue;
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

/// What came of all requests so far.
#[derive(Default)]
struct Outcomes {
    /// As `--json` has them, in order; kept as text, which is shorter.
    results: Vec<Box<RawValue>>,
    downloaded: u64,
    reused: u64,
    first_failure: Option<Kind>,
    /// Standard output could not be written to.
    unprinted: Option<Diagnostic>,
}

impl Outcomes {
    fn fetched(&mut self, fetched: &Fetched, is_json: bool) {
        self.downloaded += fetched.downloaded;
        self.reused += fetched.reused;
        self.keep(fetched, is_json);
    }

    fn failed(&mut self, reference: &str, failure: &Diagnostic, is_json: bool) {
        self.first_failure.get_or_insert(failure.kind());
        self.keep(&failed(reference, failure), is_json);
    }

    fn keep(&mut self, result: &impl Serialize, is_json: bool) {
        if is_json {
            let text =
                serde_json::to_string_pretty(result).expect("invariant: reports are texts and numbers");
            // As deep as it will stand.
            let text = RawValue::from_string(text.replace('\n', "\n    "));
            self.results.push(text.expect("invariant: white space is no matter to JSON"));
        }
    }

    /// # Errors
    /// What is wrong with standard output, which ends everything.
    fn printed(&mut self) -> Result<(), Diagnostic> {
        self.unprinted.take().map_or(Ok(()), Err)
    }
}

/// The object that `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    layout: String,
    results: Vec<Box<RawValue>>,
    bytes_downloaded: u64,
    bytes_reused: u64,
    requests: u64,
    retries: u64,
    elapsed_seconds: f64,
}

impl Run<'_> {
    async fn all(&self, fetch: &Fetch, layout: String) -> Result<Exit, Diagnostic> {
        let start = Instant::now();
        let mut outcomes = Outcomes::default();
        let mut group = Group::new(&self.registry, &self.reporter);
        for request in &fetch.requests {
            let mut told = |settled| self.tell(settled, &mut outcomes);
            let expanded = Box::pin(self.expanded(request, fetch.all_tags.as_ref()));
            match group.during(expanded, &mut told).await {
                Ok(references) => {
                    for reference in references {
                        let request = Request { reference, ..request.clone() };
                        group.fetch(request, &mut |settled| self.tell(settled, &mut outcomes)).await;
                        outcomes.printed()?;
                    }
                }
                Err(failure) => {
                    group.finish(&mut told).await;
                    let reference = request.reference.repository().to_string();
                    self.fail(&reference, &failure);
                    outcomes.failed(&reference, &failure, self.is_json);
                }
            }
        }
        group.finish(&mut |settled| self.tell(settled, &mut outcomes)).await;
        outcomes.printed()?;
        self.progress.finish();
        if self.is_json {
            let statistics = self.registry.statistics();
            self.printer.result_json(&Report {
                layout,
                results: outcomes.results,
                bytes_downloaded: outcomes.downloaded,
                bytes_reused: outcomes.reused,
                requests: statistics.requests,
                retries: statistics.retries,
                elapsed_seconds: (start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            })?;
        }
        Ok(outcomes.first_failure.map_or(Exit::Done, Exit::Failed))
    }

    /// What a request of the command line stands for: the image that a short name means, or each tag of its repository. A list that cannot be had, or has nothing for the filter, fails as an image would.
    async fn expanded(
        &self,
        request: &Request,
        all_tags: Option<&Filter>,
    ) -> Result<Vec<Reference>, Diagnostic> {
        let Some(filter) = all_tags else {
            let meant = self.registry.meant(&request.reference).await;
            let during = format!("cannot fetch {}", request.reference.written());
            return Ok(vec![meant.map_err(|error| Diagnostic::of(&error).during(during))?]);
        };
        let reference = tags::meant(&self.registry, &request.reference).await?;
        let repository = reference.repository();
        let Images { tags, left_out } = tags::list(&self.registry, repository, filter).await?;
        self.progress.step(&format!("{repository}: {}", counted(tags.len(), "tag")));
        if left_out > 0 {
            let others = counted(left_out, "tag");
            self.progress.step(&format!(
                "{repository}: {others} of signatures and lists of referrers left out; --referrers takes what belongs to \
                 each image"
            ));
        }
        Ok(tags.into_iter().map(|tag| reference.with_tag(tag)).collect())
    }

    /// Says what came of one image.
    fn tell(&self, settled: Settled, outcomes: &mut Outcomes) {
        let Settled { request, took, outcome } = settled;
        let reference = request.reference.to_string();
        match outcome {
            Ok(fetched) => {
                let status = fetched.status.name();
                self.reporter.report(Event::Finished { reference, status });
                self.say(&fetched, &request, took);
                if !self.is_json {
                    // What is not known yet stands under the name that the registry has for it.
                    let named = fetched.descriptor.as_ref().unwrap_or(&fetched.resolved);
                    let printed = self.printer.result(&result_line(&request.reference, &named.digest));
                    outcomes.unprinted = outcomes.unprinted.take().or(printed.err());
                }
                outcomes.fetched(&fetched, self.is_json);
            }
            Err(error) => {
                let failure = Diagnostic::of(&error).during(format!("cannot fetch {reference}"));
                self.fail(&reference, &failure);
                outcomes.failed(&reference, &failure, self.is_json);
            }
        }
    }

    fn fail(&self, reference: &str, failure: &Diagnostic) {
        self.reporter.report(Event::Finished { reference: reference.to_owned(), status: "failed" });
        self.printer.diagnostic(failure);
    }

    fn say(&self, fetched: &Fetched, request: &Request, took: Duration) {
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
                let (downloaded, seconds) = (size(fetched.downloaded), took.as_secs_f64());
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
