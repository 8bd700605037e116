//! One row of the matrix: a step of a fetch, what is wrong there, and how it has to end.

use std::ops::RangeInclusive;

use crate::support::Fault;

/// What of a fetch is broken. Every step has a registry of its own in which it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// `/v2/`, which decides a login.
    Ping,
    /// The token service.
    Token,
    /// HEAD of the tag.
    Head,
    /// GET of the manifest by its digest.
    Manifest,
    /// The image's config.
    Config,
    /// A layer as one stream.
    Layer,
    /// A layer in ranges of a MiB.
    Segments,
    /// A layer in a storage elsewhere, to which the registry redirects with signed URLs.
    Storage,
    /// The list of what refers to the image.
    Referrers,
}

impl Step {
    /// How many more requests it takes after the one that is broken: the other segments, and what refers to the referrer.
    pub(super) fn rest(self) -> usize {
        match self {
            Self::Segments => 2,
            Self::Referrers => 1,
            _ => 0,
        }
    }
}

/// What the registry is like, besides what its step makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Plain http, and no more asked of clients than the step is about.
    Open,
    /// Whoever asks for anything needs a token.
    Guarded,
    /// TLS, the storage's too.
    Tls,
}

/// How a row has to end.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    /// Exit code 0 and a whole layout.
    Sound {
        /// How many retries the report counts.
        retries: RangeInclusive<u64>,
        /// What standard error says, warnings and notices among it.
        says: Vec<String>,
    },
    /// A failure that says what it is, a readable layout, and success as soon as the fault is gone.
    Fails {
        code: i32,
        /// How many tries the error names; one is not named.
        tries: usize,
        /// What the error says, the first cause among it.
        says: Vec<String>,
        /// How many bytes of the layer need not come again.
        kept: usize,
    },
}

/// A row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) step: Step,
    pub(super) manner: Manner,
    pub(super) name: String,
    /// The faults in the order in which requests meet them, each with how many do; `None` is all that follow.
    pub(super) faults: Vec<(Fault, Option<usize>)>,
    pub(super) options: Vec<&'static str>,
    /// How many requests the step takes, in the broken run.
    pub(super) asked: usize,
    pub(super) ending: Ending,
}

/// A row that is right in one request, until something else is said.
pub(super) fn row(step: Step, name: impl Into<String>) -> Row {
    Row {
        step,
        manner: Manner::Open,
        name: format!("{step:?}: {}", name.into()),
        faults: Vec::new(),
        options: Vec::new(),
        asked: 1,
        ending: Ending::Sound { retries: 0..=0, says: Vec::new() },
    }
}

impl Row {
    /// The registry asks for tokens.
    pub(super) fn guarded(mut self) -> Self {
        self.manner = Manner::Guarded;
        self
    }

    /// The registry speaks TLS.
    pub(super) fn in_tls(mut self) -> Self {
        self.manner = Manner::Tls;
        self
    }

    /// The next request meets this.
    pub(super) fn once(mut self, fault: Fault) -> Self {
        self.faults.push((fault, Some(1)));
        self
    }

    /// The next request meets nothing.
    pub(super) fn pass(self) -> Self {
        self.once(Fault::All(Vec::new()))
    }

    /// Every further request meets this.
    pub(super) fn always(mut self, fault: Fault) -> Self {
        self.faults.push((fault, None));
        self
    }

    pub(super) fn option(mut self, option: &'static str) -> Self {
        self.options.push(option);
        self
    }

    /// Succeeds after so many requests, of which so many are retries.
    pub(super) fn sound(mut self, asked: usize, retries: u64) -> Self {
        self.asked = asked;
        self.ending = Ending::Sound { retries: retries..=retries, says: Vec::new() };
        self
    }

    /// How often it tries while the server is away is a matter of time.
    pub(super) fn any_retries(mut self) -> Self {
        let Ending::Sound { retries, .. } = &mut self.ending else { panic!("{} fails", self.name) };
        *retries = 1..=u64::MAX;
        self.option("--retries=5")
    }

    /// Silence is a fault after a second.
    pub(super) fn impatient(self) -> Self {
        self.option("--stall-timeout=1s").says("nothing came for 1 s")
    }

    /// Fails at once, with this exit code.
    pub(super) fn fatal(mut self, code: i32) -> Self {
        self.asked = 1;
        self.ending = Ending::Fails { code, tries: 1, says: Vec::new(), kept: 0 };
        self
    }

    /// Fails with the network's exit code after so many requests, which are as many tries.
    pub(super) fn gives_up(mut self, requests: usize) -> Self {
        self.asked = requests;
        self.ending = Ending::Fails { code: 5, tries: requests, says: Vec::new(), kept: 0 };
        self
    }

    /// The error names so many tries.
    pub(super) fn tries(mut self, count: usize) -> Self {
        let Ending::Fails { tries, .. } = &mut self.ending else { panic!("{} does not fail", self.name) };
        *tries = count;
        self
    }

    /// Takes another number of requests than of tries.
    pub(super) fn asks(mut self, asked: usize) -> Self {
        self.asked = asked;
        self
    }

    /// Standard error has these words.
    pub(super) fn says(mut self, words: impl Into<String>) -> Self {
        let (Ending::Sound { says, .. } | Ending::Fails { says, .. }) = &mut self.ending;
        says.push(words.into());
        self
    }

    /// So many bytes of the layer are there for the next run.
    pub(super) fn keeps(mut self, bytes: usize) -> Self {
        let Ending::Fails { kept, .. } = &mut self.ending else { panic!("{} keeps all", self.name) };
        *kept = bytes;
        self
    }
}
