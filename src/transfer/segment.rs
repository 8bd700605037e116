//! Which bytes are asked for next: splitting blobs into segments and ordering them. Pure.
//!
//! Of the few largest blobs that are not all handed out the one that is furthest from done comes first, earlier offsets
//! before later ones. A blob whose registry was not yet
//! seen to honour ranges gets one request at a time; the first answer decides. Segments begin small, so that the bytes
//! at a blob's beginning, which are the first to be proven, come first; towards the end they become smaller again,
//! so that all connections come to their end together. When nothing is left to hand out, an open segment that is slow
//! all the same is split between its connection and an idle one; what its connection has in flight beyond the split is
//! lost, so that is the last resort.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::layout::intervals::Intervals;

/// A split leaves each half at least this much, so that a new request is worth its round trip.
const SMALLEST_HALF: u64 = 1 << 20;

/// Segments do not become smaller than this towards the end.
const SMALLEST_SEGMENT: u64 = 1 << 20;

/// A segment that will be done sooner than this is not split: the connection that loses its tail would have to be
/// closed, and with it what it has in flight.
const WORTH_SPLITTING: Duration = Duration::from_secs(3);

/// How often an idle connection looks whether there is something to split.
const LOOK_AT_SPLITS: Duration = Duration::from_millis(200);

/// How often a server may refuse a range that it honoured before, until the blob becomes one stream.
const REFUSALS: u32 = 2;

/// What is known of a server's ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ranges {
    Unknown,
    Honoured,
    Refused,
}

/// How far a blob has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody has opened its staged file.
    Unopened,
    /// Somebody is opening it.
    Opening,
    /// Another process fills it; it is looked at again then.
    Held(Instant),
    /// It can be filled.
    Open,
    /// Nothing is to be downloaded (any more), but the verdict is still out.
    Proving,
    /// It is done with.
    Complete,
}

#[derive(Debug)]
struct Blob {
    size: u64,
    stage: Stage,
    ranges: Ranges,
    /// Its bytes come from a server of its own, which says nothing about the others' ranges, nor they about its.
    apart: bool,
    refusals: u32,
    /// It is asked for as a whole because ranges did not come to anything.
    gave_up_ranges: bool,
    have: Intervals,
    flights: Vec<Flight>,
}

/// A request on its way: it fills `position..end`.
#[derive(Debug, Clone)]
struct Flight {
    id: u64,
    position: u64,
    end: u64,
    started: Instant,
    began: u64,
}

/// What a connection is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// Open the staged file of this blob, then report what it holds.
    Open(usize),
    /// Fill a segment of this blob.
    Fill(Assignment),
    /// Nothing now; look again when told, or at that time.
    Wait(Option<Instant>),
}

/// A segment that a connection has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) blob: usize,
    pub(crate) flight: u64,
}

/// What to ask the server for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The whole body, from its first byte.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing: the assignment is over.
    Nothing,
}

/// How an answer with a whole body to a request for a part is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WholeAnswer {
    /// Read on: the blob is one stream now, its body at hand from byte zero.
    Stream,
    /// It costs the attempt.
    Refusal,
    /// Nobody wants it any more.
    GivenUp,
}

/// The state of all downloads of a transfer.
#[derive(Debug)]
pub(crate) struct Schedule {
    blobs: Vec<Blob>,
    segment_size: u64,
    /// The unit where few connections bring much.
    fast_segment_size: u64,
    pace: Pace,
    /// How many bytes came so far.
    arrived: u64,
    open_limit: usize,
    /// How many blobs are cut up at a time.
    abreast: usize,
    ranges: Ranges,
    next_flight: u64,
    /// How many bytes were given to connections so far.
    handed_out: u64,
    stopped: bool,
}

impl Schedule {
    /// A schedule for blobs of these sizes. At most `open_limit` of them have their files open at a time.
    pub(crate) fn new(
        sizes: impl IntoIterator<Item = u64>,
        segment_size: u64,
        connections: usize,
        open_limit: usize,
    ) -> Self {
        let blob = |size| Blob {
            size,
            stage: Stage::Unopened,
            ranges: Ranges::Unknown,
            apart: false,
            refusals: 0,
            gave_up_ranges: false,
            have: Intervals::new(),
            flights: Vec::new(),
        };
        Self {
            blobs: sizes.into_iter().map(blob).collect(),
            segment_size: segment_size.max(1),
            fast_segment_size: segment_size.max(1),
            pace: Pace::new(connections.max(1), None),
            arrived: 0,
            open_limit,
            abreast: usize::MAX,
            ranges: Ranges::Unknown,
            next_flight: 0,
            handed_out: 0,
            stopped: false,
        }
    }

    /// Cuts up no more blobs at a time than this, the largest first, where those keep the connections busy.
    pub(crate) fn abreast(self, blobs: usize) -> Self {
        Self { abreast: blobs.max(1), ..self }
    }

    /// Lets fewer connections work, and gives them larger segments, where that brings more.
    pub(super) fn paced(self, pace: Pace, fast_segment_size: u64) -> Self {
        Self { pace, fast_segment_size: fast_segment_size.max(self.segment_size), ..self }
    }

    /// The blob comes from another server than the others do.
    pub(crate) fn set_apart(&mut self, at: usize) {
        self.blobs[at].apart = true;
    }

    /// The transfer has failed: there is no further work.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Hands out the next piece of work.
    pub(crate) fn next(&mut self, now: Instant) -> Work {
        if self.stopped {
            return Work::Wait(None);
        }
        self.pace.look(self.arrived, now);
        let working: usize = self.blobs.iter().map(|blob| blob.flights.len()).sum();
        if !self.pace.has_room(working) {
            return Work::Wait(self.next_look(now));
        }
        let may_open = self.blobs.iter().filter(|blob| blob.is_open()).count() < self.open_limit;
        let segment = self.next_size();
        let candidate = |at: usize| {
            let blob = &self.blobs[at];
            let range = match blob.stage {
                Stage::Unopened if may_open => None,
                Stage::Held(until) if may_open && until <= now => None,
                Stage::Open => Some(self.next_range(blob, segment)?),
                _ => return None,
            };
            Some((at, range))
        };
        let mut candidates: Vec<_> = (0..self.blobs.len()).filter_map(candidate).collect();
        if candidates.len() > self.abreast {
            candidates
                .select_nth_unstable_by_key(self.abreast, |(at, _)| (Reverse(self.blobs[*at].size), *at));
            candidates.truncate(self.abreast);
        }
        let best = candidates.into_iter().max_by_key(|(at, _)| (self.blobs[*at].missing(), Reverse(*at)));
        match best {
            Some((at, Some(range))) => Work::Fill(self.take(at, range, now)),
            Some((at, None)) => {
                self.blobs[at].stage = Stage::Opening;
                Work::Open(at)
            }
            None => match self.split(now) {
                Some(assignment) => Work::Fill(assignment),
                None => Work::Wait(self.next_look(now)),
            },
        }
    }

    /// When it is worth looking again although nobody says so: a held blob may be free, a slow segment worth splitting.
    fn next_look(&self, now: Instant) -> Option<Instant> {
        let held = self.blobs.iter().filter_map(Blob::held_until).min();
        let may_split = self.blobs.iter().any(|blob| {
            blob.ranges == Ranges::Honoured
                && blob.flights.iter().any(|flight| flight.end - flight.position >= 2 * SMALLEST_HALF)
        });
        let split = may_split.then(|| now + LOOK_AT_SPLITS);
        held.into_iter().chain(split).chain(self.pace.next_look()).min()
    }

    /// How large the next segment is: the unit, but less at the beginning, because what is behind the first segment cannot be
    /// proven before that is there, and from when what is left is no longer two units for each connection.
    fn next_size(&self) -> u64 {
        let connections = self.pace.connections() as u64;
        let unit = if self.pace.is_fast() { self.fast_segment_size } else { self.segment_size };
        if connections == 1 {
            return unit;
        }
        let left = self.blobs.iter().map(Blob::untaken).fold(0, u64::saturating_add);
        let share = (self.handed_out / connections).saturating_mul(2).min(left / (2 * connections));
        share.clamp(SMALLEST_SEGMENT.min(unit), unit)
    }

    /// The next segment of an open blob that nobody has taken.
    fn next_range(&self, blob: &Blob, segment: u64) -> Option<Range<u64>> {
        match self.ranges_of(blob) {
            Ranges::Refused => blob.flights.is_empty().then_some(0..blob.size),
            Ranges::Unknown if !blob.flights.is_empty() => None,
            _ => {
                let mut taken = blob.have.clone();
                for flight in &blob.flights {
                    taken.insert(flight.position..flight.end);
                }
                let gap = taken.first_gap(0..blob.size)?;
                Some(gap.start..gap.end.min(gap.start.saturating_add(segment)))
            }
        }
    }

    fn ranges_of(&self, blob: &Blob) -> Ranges {
        if blob.ranges == Ranges::Unknown && !blob.apart { self.ranges } else { blob.ranges }
    }

    /// Whether the blob, or the server that it shares with the others, knows no ranges.
    fn streams(&self, blob: &Blob) -> bool {
        blob.ranges == Ranges::Refused || (self.ranges == Ranges::Refused && !blob.apart)
    }

    fn take(&mut self, at: usize, range: Range<u64>, now: Instant) -> Assignment {
        let id = self.next_flight;
        self.next_flight += 1;
        self.handed_out = self.handed_out.saturating_add(range.end - range.start);
        let flight = Flight { id, position: range.start, end: range.end, started: now, began: range.start };
        self.blobs[at].flights.push(flight);
        Assignment { blob: at, flight: id }
    }

    /// Gives the second half of the slowest open segment to the caller.
    fn split(&mut self, now: Instant) -> Option<Assignment> {
        let (at, flight) = (0..self.blobs.len())
            .filter(|at| self.blobs[*at].ranges == Ranges::Honoured)
            .flat_map(|at| self.blobs[at].flights.iter().map(move |flight| (at, flight)))
            .filter(|(_, flight)| flight.end - flight.position >= 2 * SMALLEST_HALF)
            .filter_map(|(at, flight)| Some((flight.time_left(now)?, at, flight.id)))
            .filter(|(left, ..)| *left >= WORTH_SPLITTING)
            .max()
            .map(|(_, at, flight)| (at, flight))?;
        let flight = self.blobs[at].flight(flight)?;
        let middle = flight.position + (flight.end - flight.position) / 2;
        let tail = middle..flight.end;
        flight.end = middle;
        Some(self.take(at, tail, now))
    }

    /// The blob's staged file is open and holds these bytes.
    pub(crate) fn opened(&mut self, at: usize, have: Intervals) {
        let blob = &mut self.blobs[at];
        blob.have = have;
        blob.stage = if blob.missing() == 0 { Stage::Proving } else { Stage::Open };
    }

    /// The blob needs no download, only a verdict.
    pub(crate) fn proving(&mut self, at: usize) {
        self.blobs[at].stage = Stage::Proving;
        self.blobs[at].flights.clear();
    }

    /// The blob is done with.
    pub(crate) fn complete(&mut self, at: usize) {
        self.blobs[at].stage = Stage::Complete;
        self.blobs[at].flights.clear();
    }

    /// Another process fills the blob.
    pub(crate) fn held(&mut self, at: usize, until: Instant) {
        self.blobs[at].stage = Stage::Held(until);
    }

    /// The blob starts from zero, as one stream.
    pub(crate) fn restart(&mut self, at: usize) {
        let blob = &mut self.blobs[at];
        blob.have = Intervals::new();
        blob.flights.clear();
        blob.ranges = Ranges::Refused;
        blob.stage = Stage::Open;
    }

    /// The blob starts from zero at another server, of whose ranges nothing is known.
    pub(crate) fn restart_elsewhere(&mut self, at: usize) {
        self.restart(at);
        (self.blobs[at].ranges, self.blobs[at].refusals) = (Ranges::Unknown, 0);
        self.blobs[at].gave_up_ranges = false;
    }

    /// The blob's file is to be opened again: what stands in the layout turned out bad.
    pub(crate) fn reopen(&mut self, at: usize) {
        self.blobs[at].stage = Stage::Unopened;
    }

    /// What the connection with this assignment asks for, at each attempt.
    pub(crate) fn ask(&mut self, assignment: &Assignment, now: Instant) -> Ask {
        let streams = self.streams(&self.blobs[assignment.blob]);
        let blob = &mut self.blobs[assignment.blob];
        if matches!(blob.stage, Stage::Proving | Stage::Complete) {
            return Ask::Nothing;
        }
        let size = blob.size;
        let Some(flight) = blob.flight(assignment.flight) else { return Ask::Nothing };
        if streams {
            (flight.position, flight.end) = (0, size);
        }
        (flight.started, flight.began) = (now, flight.position);
        if flight.position >= flight.end {
            Ask::Nothing
        } else if streams || (flight.position == 0 && flight.end == size) {
            Ask::Whole
        } else {
            Ask::Part(flight.position..flight.end)
        }
    }

    /// Whether an assignment stands: a blob that became one stream has given up all others.
    pub(crate) fn stands(&mut self, assignment: &Assignment) -> bool {
        self.blobs[assignment.blob].flight(assignment.flight).is_some()
    }

    /// A part was answered as asked. Says whether that was news: then there is work for others.
    pub(crate) fn part_answered(&mut self, assignment: &Assignment) -> bool {
        if !self.stands(assignment) {
            return false;
        }
        let blob = &mut self.blobs[assignment.blob];
        if !blob.apart {
            self.ranges = Ranges::Honoured;
        }
        std::mem::replace(&mut blob.ranges, Ranges::Honoured) != Ranges::Honoured
    }

    /// A whole body was the answer to a request for a part.
    pub(crate) fn whole_answered(&mut self, assignment: &Assignment) -> WholeAnswer {
        if !self.stands(assignment) {
            return WholeAnswer::GivenUp;
        }
        let blob = &mut self.blobs[assignment.blob];
        if blob.ranges == Ranges::Honoured {
            return WholeAnswer::Refusal;
        }
        blob.become_stream(assignment.flight);
        if self.ranges == Ranges::Unknown && !blob.apart {
            self.ranges = Ranges::Refused;
        }
        WholeAnswer::Stream
    }

    /// The blob came encoded: its offsets are not the body's, so it is one stream from now on, whatever other blobs are.
    /// Says whether the assignment stands.
    pub(crate) fn encoded_answered(&mut self, assignment: &Assignment) -> bool {
        let stands = self.stands(assignment);
        if stands {
            self.blobs[assignment.blob].become_stream(assignment.flight);
        }
        stands
    }

    /// A server of which no range was seen yet failed on a request for one: the blob is asked for as a whole. Says whether it is such a
    /// server.
    pub(crate) fn gives_up_ranges(&mut self, assignment: &Assignment) -> bool {
        let is_unknown = self.knows_nothing_of_ranges(assignment) && self.stands(assignment);
        if is_unknown {
            let blob = &mut self.blobs[assignment.blob];
            blob.gave_up_ranges = true;
            blob.become_stream(assignment.flight);
        }
        is_unknown
    }

    /// The whole was asked for, and comes. Where ranges had come to nothing before, other blobs need not find that out again.
    pub(crate) fn whole_brought(&mut self, assignment: &Assignment) {
        let blob = &self.blobs[assignment.blob];
        if blob.gave_up_ranges && !blob.apart && self.ranges == Ranges::Unknown {
            self.ranges = Ranges::Refused;
        }
    }

    /// Whether the server of a blob has neither honoured nor ignored a range.
    pub(crate) fn knows_nothing_of_ranges(&self, assignment: &Assignment) -> bool {
        self.ranges_of(&self.blobs[assignment.blob]) == Ranges::Unknown
    }

    /// The server refused a range; when it does so again, the blob becomes one stream.
    pub(crate) fn range_refused(&mut self, assignment: &Assignment) {
        let blob = &mut self.blobs[assignment.blob];
        blob.refusals += 1;
        if blob.refusals >= REFUSALS && blob.ranges != Ranges::Refused {
            blob.gave_up_ranges = blob.ranges == Ranges::Unknown;
            blob.ranges = Ranges::Refused;
            blob.flights.retain(|flight| flight.id == assignment.flight);
        }
    }

    /// Where the assignment's next bytes belong, and up to where it may go on; `None` when it is no longer wanted.
    pub(crate) fn position(&mut self, assignment: &Assignment) -> Option<Range<u64>> {
        let flight = self.blobs[assignment.blob].flight(assignment.flight)?;
        Some(flight.position..flight.end)
    }

    /// The parts of `range` that are not on disk yet.
    pub(crate) fn gaps(&self, at: usize, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut start = range.start;
        while let Some(gap) = self.blobs[at].have.first_gap(start..range.end) {
            start = gap.end;
            gaps.push(gap);
        }
        gaps
    }

    /// Bytes up to `position` were written. Says how far the blob has come.
    pub(crate) fn advanced(&mut self, assignment: &Assignment, written: Range<u64>) -> Standing {
        self.arrived = self.arrived.saturating_add(written.end - written.start);
        let blob = &mut self.blobs[assignment.blob];
        // An assignment that was given up meanwhile wrote bytes that no longer count.
        if let Some(flight) = blob.flight(assignment.flight) {
            flight.position = written.end;
            blob.have.insert(written);
        }
        let standing = Standing { frontier: blob.have.frontier(), have: blob.have.len(), size: blob.size };
        if standing.have == standing.size {
            blob.stage = Stage::Proving;
        }
        standing
    }

    /// The connection is done with its assignment.
    pub(crate) fn finished(&mut self, assignment: &Assignment) {
        self.blobs[assignment.blob].flights.retain(|flight| flight.id != assignment.flight);
    }
}

/// How far a blob has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The end of what is there without a gap.
    pub(crate) frontier: u64,
    /// How many bytes are there.
    pub(crate) have: u64,
    /// How many there will be.
    pub(crate) size: u64,
}

impl Blob {
    fn missing(&self) -> u64 {
        self.size - self.have.len()
    }

    /// One connection takes the whole blob from its first byte; all others give it up.
    fn become_stream(&mut self, flight: u64) {
        self.ranges = Ranges::Refused;
        self.flights.retain(|other| other.id == flight);
        let size = self.size;
        if let Some(flight) = self.flight(flight) {
            (flight.position, flight.end) = (0, size);
        }
    }

    /// The bytes that are neither there nor on their way.
    fn untaken(&self) -> u64 {
        let on_their_way: u64 =
            self.flights.iter().map(|flight| flight.end.saturating_sub(flight.position)).sum();
        self.missing().saturating_sub(on_their_way)
    }

    /// Whether its file is open: until its verdict.
    fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Opening | Stage::Open | Stage::Proving)
    }

    fn held_until(&self) -> Option<Instant> {
        match self.stage {
            Stage::Held(until) => Some(until),
            _ => None,
        }
    }

    fn flight(&mut self, id: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.id == id)
    }
}

impl Flight {
    /// How long the rest takes at the rate so far; unknown before the first byte.
    fn time_left(&self, now: Instant) -> Option<Duration> {
        let done = self.position - self.began;
        let elapsed = now.saturating_duration_since(self.started);
        if done == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate of seconds needs no 53rd bit")]
        Some(elapsed.mul_f64((self.end - self.position) as f64 / done as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn open(schedule: &mut Schedule) {
        for at in 0..schedule.blobs.len() {
            schedule.opened(at, Intervals::new());
        }
    }

    impl Schedule {
        fn fill(&mut self, now: Instant) -> (Assignment, Ask) {
            let Work::Fill(assignment) = self.next(now) else { panic!("no work") };
            let ask = self.ask(&assignment, now);
            (assignment, ask)
        }
    }

    /// From near, four connections work as long as they are fast, at larger segments than usual once that was seen; when they are slow,
    /// the others join them.
    #[test]
    fn a_few_connections_work_as_long_as_they_are_fast() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let pace = Pace::new(10, Some(Duration::from_millis(1)));
        let mut schedule = Schedule::new([4000 * MIB], 8 * MIB, 10, 40).paced(pace, 16 * MIB);
        open(&mut schedule);
        let (first, ask) = schedule.fill(at(0));
        assert_eq!(ask, Ask::Part(0..MIB));
        schedule.part_answered(&first);
        let mut flights: Vec<_> = (0..3).map(|_| schedule.fill(at(0)).0).collect();
        assert_eq!(schedule.next(at(1)), Work::Wait(Some(at(50))));
        // One of them brings all that comes: what counts is all together.
        let mut moment = 1;
        let mut sizes = Vec::new();
        for _ in 0..40 {
            let flight = flights.pop().unwrap();
            let range = schedule.position(&flight).unwrap();
            sizes.push(range.end - range.start);
            schedule.advanced(&flight, range);
            schedule.finished(&flight);
            moment += 10;
            flights.push(schedule.fill(at(moment)).0);
            assert!(matches!(schedule.next(at(moment)), Work::Wait(Some(_))));
        }
        assert!(sizes[0] < 2 * MIB);
        assert_eq!(sizes.iter().max(), Some(&(16 * MIB)));
        assert!(matches!(schedule.next(at(moment + 51)), Work::Fill(_)), "nothing came for 50 ms");
        for _ in 0..5 {
            assert!(matches!(schedule.next(at(moment + 52)), Work::Fill(_)));
        }
    }

    /// A blob from a server of its own neither learns from the others' server nor teaches anything about it.
    #[test]
    fn servers_are_told_apart() {
        let now = Instant::now();
        let mut schedule = Schedule::new([8 * MIB, 4 * MIB], MIB, 1, 40);
        schedule.set_apart(0);
        open(&mut schedule);
        let (foreign, ask) = schedule.fill(now);
        assert_eq!((foreign.blob, ask), (0, Ask::Part(0..MIB)));
        assert_eq!(schedule.whole_answered(&foreign), WholeAnswer::Stream);
        let (own, ask) = schedule.fill(now);
        assert_eq!((own.blob, ask), (1, Ask::Part(0..MIB)), "the registry may know ranges all the same");
        assert_eq!(schedule.whole_answered(&own), WholeAnswer::Stream);
        schedule.restart_elsewhere(0);
        let (_, ask) = schedule.fill(now);
        assert_eq!(ask, Ask::Part(0..MIB), "and so may the next server");
    }

    /// A stream that was read to its end is not asked for again, however long its verification takes.
    #[test]
    fn a_stream_that_is_complete_is_asked_for_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new([4 * MIB], MIB, 8, 40);
        open(&mut schedule);
        let (first, ask) = schedule.fill(now);
        assert_eq!(ask, Ask::Part(0..MIB));
        assert_eq!(schedule.whole_answered(&first), WholeAnswer::Stream);
        schedule.advanced(&first, 0..4 * MIB);
        assert_eq!(schedule.ask(&first, now), Ask::Nothing);
        schedule.finished(&first);
        assert_eq!(schedule.next(now), Work::Wait(None));
    }

    /// A blob that is smaller than the unit but was cut all the same is asked for in parts: a whole body would be the
    /// wrong bytes for every part but the first, and too many for that.
    #[test]
    fn parts_of_a_small_blob_are_asked_for_as_parts() {
        let now = Instant::now();
        let mut schedule = Schedule::new([4 * MIB, 100], 16 * MIB, 2, 40);
        open(&mut schedule);
        let (first, ask) = schedule.fill(now);
        assert_eq!(ask, Ask::Part(0..MIB));
        assert!(schedule.part_answered(&first));
        let (_, ask) = schedule.fill(now);
        assert!(matches!(ask, Ask::Part(Range { start, .. }) if start == MIB), "{ask:?}");
        let mut alone = Schedule::new([100], 16 * MIB, 2, 40);
        open(&mut alone);
        assert_eq!(alone.fill(now).1, Ask::Whole);
    }

    /// An encoded blob is asked for as a whole after a failure, and by one connection, while others come in parts.
    #[test]
    fn an_encoded_blob_is_a_stream() {
        let now = Instant::now();
        let mut schedule = Schedule::new([4 * MIB, 3 * MIB], MIB, 1, 40);
        open(&mut schedule);
        let (first, _) = schedule.fill(now);
        schedule.encoded_answered(&first);
        assert_eq!(schedule.ask(&first, now), Ask::Whole);
        let (second, ask) = schedule.fill(now);
        assert_eq!((second.blob, ask), (1, Ask::Part(0..MIB)));
    }

    /// Several connections that hear of a blob's being one stream leave it to the first, and nobody starts over.
    #[test]
    fn a_stream_is_left_to_its_connection() {
        let now = Instant::now();
        for encoded in [false, true] {
            let mut schedule = Schedule::new([4 * MIB, 16 * MIB], MIB, 4, 40);
            open(&mut schedule);
            let (other, _) = schedule.fill(now);
            assert!(schedule.part_answered(&other));
            schedule.complete(1);
            let (first, _) = schedule.fill(now);
            let (second, _) = schedule.fill(now);
            assert_eq!((first.blob, second.blob), (0, 0));
            let answered = |schedule: &mut Schedule, assignment: &Assignment| {
                if encoded {
                    schedule.encoded_answered(assignment)
                } else {
                    schedule.whole_answered(assignment) == WholeAnswer::Stream
                }
            };
            assert!(answered(&mut schedule, &first));
            assert!(!answered(&mut schedule, &second));
            assert!(!schedule.part_answered(&second));
            assert_eq!(schedule.position(&first), Some(0..4 * MIB));
            assert_eq!(schedule.next(now), Work::Wait(None));
            schedule.advanced(&first, 0..4 * MIB);
            schedule.finished(&first);
            assert_eq!(schedule.next(now), Work::Wait(None));
        }
    }

    /// After a failure nobody takes the segment that failed, nor another.
    #[test]
    fn a_stopped_schedule_has_no_work() {
        let mut schedule = Schedule::new([4 * MIB, MIB], MIB, 8, 40);
        open(&mut schedule);
        schedule.stop();
        assert_eq!(schedule.next(Instant::now()), Work::Wait(None));
    }

    /// A large blob is asked for one segment at a time until the server has honoured a range, then in parallel.
    #[test]
    fn the_first_answer_decides_about_ranges() {
        let now = Instant::now();
        let mut schedule = Schedule::new([40 * MIB], 16 * MIB, 1, 8);
        open(&mut schedule);
        let (first, ask) = schedule.fill(now);
        assert_eq!(ask, Ask::Part(0..16 * MIB));
        assert_eq!(schedule.next(now), Work::Wait(None));
        schedule.part_answered(&first);
        assert_eq!(schedule.fill(now).1, Ask::Part(16 * MIB..32 * MIB));
        assert_eq!(schedule.fill(now).1, Ask::Part(32 * MIB..40 * MIB));
    }

    /// A whole body to the first request makes the blob, and all that follow, one stream, with nothing asked twice.
    #[test]
    fn no_ranges_means_one_stream() {
        let now = Instant::now();
        let mut schedule = Schedule::new([40 * MIB, 30 * MIB], 16 * MIB, 1, 8);
        open(&mut schedule);
        let (first, _) = schedule.fill(now);
        assert_eq!(schedule.whole_answered(&first), WholeAnswer::Stream);
        assert_eq!(schedule.position(&first), Some(0..40 * MIB));
        assert_eq!(schedule.fill(now).1, Ask::Whole);
        assert_eq!(schedule.next(now), Work::Wait(None));
    }

    /// Where a request for a range came to nothing at a server that was never seen to have any, the whole is asked for; once that
    /// comes, of other blobs too. Of one that honours ranges it is no sign.
    #[test]
    fn ranges_that_come_to_nothing_are_given_up() {
        let now = Instant::now();
        let mut schedule = Schedule::new([8 * MIB, 8 * MIB], MIB, 2, 8);
        open(&mut schedule);
        let (first, ask) = schedule.fill(now);
        assert_eq!(ask, Ask::Part(0..MIB));
        assert!(schedule.gives_up_ranges(&first));
        assert_eq!(schedule.ask(&first, now), Ask::Whole);
        let (second, ask) = schedule.fill(now);
        assert_eq!(ask, Ask::Part(0..MIB), "the whole may be refused as well");
        schedule.whole_brought(&first);
        assert_eq!(schedule.ask(&second, now), Ask::Whole);

        let mut schedule = Schedule::new([8 * MIB], MIB, 2, 8);
        open(&mut schedule);
        let (first, _) = schedule.fill(now);
        schedule.part_answered(&first);
        assert!(!schedule.gives_up_ranges(&first));
    }

    /// A server that honoured ranges and then does not gets one more try, then the blob is one stream.
    #[test]
    fn repeated_refusals_make_a_stream_and_keep_what_is_there() {
        let now = Instant::now();
        let mut schedule = Schedule::new([40 * MIB], 16 * MIB, 1, 8);
        open(&mut schedule);
        let (first, _) = schedule.fill(now);
        schedule.part_answered(&first);
        let (second, _) = schedule.fill(now);
        schedule.advanced(&first, 0..MIB);
        assert_eq!(schedule.whole_answered(&second), WholeAnswer::Refusal);
        schedule.range_refused(&second);
        assert_eq!(schedule.ask(&second, now), Ask::Part(16 * MIB..32 * MIB));
        schedule.range_refused(&second);
        assert_eq!(schedule.ask(&second, now), Ask::Whole);
        assert_eq!(schedule.position(&first), None);
        assert_eq!(schedule.gaps(0, 0..2 * MIB).first(), Some(&(MIB..2 * MIB)));
    }

    /// The first segments are small, so that what is proven begins soon, and towards the end they become smaller again, down
    /// to a MiB, so that no connection has a large one left alone.
    #[test]
    fn segments_grow_and_shrink() {
        let now = Instant::now();
        let mut schedule = Schedule::new([160 * MIB], 16 * MIB, 4, 8);
        open(&mut schedule);
        let (first, ask) = schedule.fill(now);
        assert_eq!(ask, Ask::Part(0..MIB));
        schedule.part_answered(&first);
        let sizes: Vec<u64> = std::iter::from_fn(|| match schedule.next(now) {
            Work::Fill(assignment) => schedule.position(&assignment).map(|range| range.end - range.start),
            _ => None,
        })
        .collect();
        assert_eq!(sizes.iter().sum::<u64>(), 159 * MIB);
        assert_eq!(sizes[0], MIB);
        let most = sizes.iter().position(|size| *size == sizes.iter().copied().max().unwrap()).unwrap();
        assert!(sizes[most] > 8 * MIB, "{sizes:?}");
        assert!(sizes[..most].is_sorted(), "{sizes:?}");
        assert!(sizes[most..].is_sorted_by(|one, next| one >= next), "{sizes:?}");
        assert!(sizes[sizes.len() - 2] == MIB, "{sizes:?}");
    }

    /// The blob that is furthest from done is served first.
    #[test]
    fn the_largest_rest_comes_first() {
        let now = Instant::now();
        let mut schedule = Schedule::new([10, 30, 20], 16 * MIB, 1, 8);
        open(&mut schedule);
        let order: Vec<usize> = (0..3).map(|_| schedule.fill(now).0.blob).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    /// Of blobs that are cut up only so many are at a time, the largest first: what is left at the end is of few of them. A
    /// connection that they have no use for takes another.
    #[test]
    fn few_blobs_are_cut_up_at_a_time() {
        let now = Instant::now();
        let mut schedule = Schedule::new([4 * MIB, 12 * MIB, 9 * MIB, 5], 4 * MIB, 8, 8).abreast(2);
        open(&mut schedule);
        let order: Vec<usize> = std::iter::from_fn(|| match schedule.next(now) {
            Work::Fill(assignment) => {
                schedule.part_answered(&assignment);
                Some(assignment.blob)
            }
            _ => None,
        })
        .collect();
        let last = |blob: usize| order.iter().rposition(|at| *at == blob).unwrap();
        let first = |blob: usize| order.iter().position(|at| *at == blob).unwrap();
        assert_eq!((first(1), first(2)), (0, 12), "{order:?}");
        assert!(first(0) > last(1) && first(3) > last(2), "{order:?}");
    }

    /// What an earlier process left is not asked for again, mid-segment included.
    #[test]
    fn only_gaps_are_asked_for() {
        let now = Instant::now();
        let mut schedule = Schedule::new([40 * MIB], 16 * MIB, 1, 8);
        assert_eq!(schedule.next(now), Work::Open(0));
        let mut have = Intervals::prefix(5 * MIB);
        have.insert(10 * MIB..33 * MIB);
        schedule.opened(0, have);
        let (first, ask) = schedule.fill(now);
        assert_eq!(ask, Ask::Part(5 * MIB..10 * MIB));
        schedule.part_answered(&first);
        assert_eq!(schedule.fill(now).1, Ask::Part(33 * MIB..40 * MIB));
    }

    /// An idle connection takes half of a slow segment, but leaves a fast one alone.
    #[test]
    fn a_slow_segment_is_split_at_the_end() {
        let now = Instant::now();
        let mut schedule = Schedule::new([16 * MIB], 16 * MIB, 1, 8);
        open(&mut schedule);
        let (first, _) = schedule.fill(now);
        schedule.part_answered(&first);
        schedule.advanced(&first, 0..2 * MIB);
        let soon = now + Duration::from_millis(10);
        assert_eq!(schedule.next(soon), Work::Wait(Some(soon + LOOK_AT_SPLITS)));
        let later = now + Duration::from_secs(4);
        let (_, ask) = schedule.fill(later);
        assert_eq!(ask, Ask::Part(9 * MIB..16 * MIB));
        assert_eq!(schedule.position(&first), Some(2 * MIB..9 * MIB));
    }

    /// A blob that another process fills is looked at again in time, and holds nobody up.
    #[test]
    fn a_held_blob_is_looked_at_again() {
        let now = Instant::now();
        let later = now + Duration::from_millis(100);
        let mut schedule = Schedule::new([5, 3], MIB, 1, 8);
        assert_eq!(schedule.next(now), Work::Open(0));
        schedule.held(0, later);
        assert_eq!(schedule.next(now), Work::Open(1));
        schedule.complete(1);
        assert_eq!(schedule.next(now), Work::Wait(Some(later)));
        assert_eq!(schedule.next(later), Work::Open(0));
    }

    /// Never more files are open than allowed.
    #[test]
    fn open_files_are_limited() {
        let now = Instant::now();
        let mut schedule = Schedule::new([1, 2, 3], MIB, 1, 2);
        for at in [2, 1] {
            assert_eq!(schedule.next(now), Work::Open(at));
        }
        assert_eq!(schedule.next(now), Work::Wait(None));
        schedule.opened(2, Intervals::new());
        assert_eq!(schedule.fill(now).0.blob, 2);
        schedule.complete(2);
        assert_eq!(schedule.next(now), Work::Open(0));
    }

    proptest! {
        /// However connections interleave and fail, every byte is asked for until it is there, and none twice at once.
        #[test]
        fn every_byte_is_fetched_once(
            sizes in proptest::collection::vec(1u64..200, 1..6),
            segment in 1u64..64,
            steps in proptest::collection::vec((0usize..4, 1u64..50, any::<bool>()), 0..200),
            connections in 3usize..6,
            is_near in any::<bool>(),
        ) {
            let now = Instant::now();
            let pace = Pace::new(connections, is_near.then(|| Duration::from_millis(1)));
            let mut schedule = Schedule::new(sizes.clone(), segment, connections, 16).paced(pace, 2 * segment);
            let mut filled: Vec<Vec<u32>> = sizes.iter().map(|size| vec![0; usize::try_from(*size).unwrap()]).collect();
            let mut flights: Vec<Assignment> = Vec::new();
            let mut steps = steps.into_iter().chain(std::iter::repeat((0, 50, false)));
            for _ in 0..100_000 {
                let (pick, amount, fail) = steps.next().unwrap();
                match schedule.next(now) {
                    Work::Open(at) => schedule.opened(at, Intervals::new()),
                    Work::Fill(assignment) => flights.push(assignment),
                    Work::Wait(_) if flights.is_empty() => break,
                    Work::Wait(_) => {}
                }
                if flights.is_empty() { continue; }
                let at = pick % flights.len();
                let assignment = flights[at].clone();
                match schedule.ask(&assignment, now) {
                    Ask::Nothing => { schedule.finished(&flights.remove(at)); continue; }
                    Ask::Part(_) => { schedule.part_answered(&assignment); }
                    Ask::Whole => {}
                }
                let range = schedule.position(&assignment).unwrap();
                let end = range.end.min(range.start + amount);
                for gap in schedule.gaps(assignment.blob, range.start..end) {
                    for byte in gap { filled[assignment.blob][usize::try_from(byte).unwrap()] += 1; }
                }
                schedule.advanced(&assignment, range.start..end);
                if fail || end == range.end { schedule.finished(&flights.remove(at)); }
            }
            prop_assert!(filled.iter().flatten().all(|count| *count == 1), "{filled:?}");
        }
    }
}
