//! Listings in pages (distribution spec, "Listing Tags" and "Listing Referrers"): the first page, and then where each
//! answer's `Link` leads.
//!
//! A page is a request like any other: authenticated for the repository, redirected within the rules of
//! [`redirect`](super::redirect), retried. A link leads to the origin that answered with it and nowhere else: one to
//! another host is an error, for whoever answers must be able neither to collect credentials nor to mix the tags of
//! another host into a listing, and a listing that is cut short without a word is worse than one that fails. A link
//! that differs in its scheme only is what a registry writes that does not know of the TLS before it; the scheme that
//! was used stays. Credentials that a redirect left behind are not sent for the pages after it either.
//!
//! Pages are capped in size and number and all together, as the caller says; they may not go in a circle, and not on and
//! on without anything new. What is in them is the caller's.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderMap, StatusCode};
use url::Url;

use super::Registry;
use super::attempt::{Attempt, Found};
use super::error::{About, RegistryError, shown};
use super::exchange::{Answer, Ask};
use super::link;
use super::retry::Budget;
use super::route::Target;

/// How much a listing may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caps {
    /// The longest page, in bytes.
    pub(super) page: u64,
    /// The most bytes of all pages together.
    pub(super) together: u64,
    /// The most pages.
    pub(super) pages: usize,
    /// The most pages in a row that bring nothing new.
    pub(super) idle: usize,
}

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing<'a> {
    /// What it is about, for errors.
    pub(super) subject: &'a str,
    /// Where the first page is: what follows `/v2/NAME/`, with its query.
    pub(super) path: &'a str,
    /// The media types that are wanted.
    pub(super) accept: Option<&'static str>,
    /// How much it may be.
    pub(super) caps: Caps,
    /// Which answers to the question for the first page mean that the registry has no such listing.
    pub(super) lacks: Option<fn(&Found) -> bool>,
}

/// One page, as it came.
#[derive(Debug)]
pub(super) struct Page {
    /// The request, for errors about what is in the page.
    pub(super) about: About,
    /// The answer's headers.
    pub(super) headers: HeaderMap,
    /// The body, decoded where it was encoded.
    pub(super) bytes: Bytes,
}

impl Page {
    /// The media type that the answer claims, without its parameters; empty where it claims none.
    pub(super) fn content_type(&self) -> &str {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }
}

/// Why the link to a next page is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkRefusal {
    /// It leads to another host or port.
    #[error("it leads to {url}, which is another registry")]
    Elsewhere {
        /// Where to, fit to be shown.
        url: String,
    },
    /// It leads to a page that was there before.
    #[error("the pages go in a circle")]
    Loop,
    /// There are more pages than such a listing may have.
    #[error("there are more than {most} pages")]
    TooMany {
        /// How many it may have.
        most: usize,
    },
    /// One page after the other brings nothing new.
    #[error("the last {pages} pages brought nothing new")]
    Idle {
        /// How many did.
        pages: usize,
    },
}

impl Registry {
    /// Hands all pages of a listing to `take`, in their order, each when it came. `take` says how much of a page is new;
    /// what it refuses ends the listing.
    ///
    /// # Errors
    /// Any [`RegistryError`] of a request, [`RegistryError::NotOffered`] and [`RegistryError::Status`] for a page that is
    /// answered anything but 200;
    /// [`RegistryError::Link`] for a next page that is not asked for; [`RegistryError::TooLarge`]; those of `take`.
    pub(super) async fn pages(
        &self,
        target: &Target,
        listing: Listing<'_>,
        mut take: impl FnMut(Page) -> Result<usize, RegistryError>,
    ) -> Result<(), RegistryError> {
        let mut place: Option<Place> = None;
        let mut walk = Walk::new(listing.caps);
        loop {
            let fetch = || self.page(target, listing, place.as_ref());
            let Fetched { page, place: at, next } =
                self.retrying(&Budget::new(), target, None, fetch).await?;
            let about = page.about.clone();
            if !walk.has_room_for(page.bytes.len() as u64) {
                return Err(RegistryError::ListingTooLarge { about, cap: listing.caps.together });
            }
            walk.brought(take(page)?);
            let Some(next) = next else { return Ok(()) };
            let url = walk.follow(&at, next).map_err(|refusal| RegistryError::Link { about, refusal })?;
            place = Some(Place { asked: url.clone(), answered: url, at_home: at.at_home });
        }
    }

    async fn page(
        &self,
        target: &Target,
        listing: Listing<'_>,
        place: Option<&Place>,
    ) -> Result<Fetched, RegistryError> {
        let (client, authenticator) = (&self.inner.client, &self.inner.authenticator);
        let ask = Ask { accept: listing.accept, ..Ask::get(listing.subject) };
        let attempt = Attempt { client, authenticator, target, ask, path: listing.path };
        let found = match place {
            None => attempt.run().await?,
            Some(place) => attempt.run_at(place.asked.clone(), place.at_home).await?,
        };
        if place.is_none() && listing.lacks.is_some_and(|lacks| lacks(&found)) {
            return Err(not_offered(found.answer).await);
        }
        let Found { answer, elsewhere, .. } = found;
        if answer.status() != StatusCode::OK {
            return Err(answer.into_error().await);
        }
        let answered = answer.url.clone();
        let headers = answer.response.headers().clone();
        let links = headers.get_all(LINK).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let next = link::next(links, &answered);
        let asked = place.map_or_else(|| answered.clone(), |place| place.asked.clone());
        let place = Place { asked, answered, at_home: !elsewhere };
        let about = answer.about.clone();
        let bytes = answer.json(listing.caps.page).await?;
        Ok(Fetched { page: Page { about, headers, bytes }, place, next })
    }
}

/// What an answer says that tells that there is no such listing.
async fn not_offered(answer: Answer) -> RegistryError {
    let (about, status) = (answer.about.clone(), answer.status());
    let codes = match answer.into_error().await {
        RegistryError::Status { codes, .. } => codes,
        _ => Vec::new(),
    };
    RegistryError::NotOffered { about, status, codes }
}

/// A page, where it came from, and where the one after it is.
struct Fetched {
    page: Page,
    place: Place,
    next: Option<Url>,
}

/// Where a page is.
#[derive(Debug)]
struct Place {
    asked: Url,
    /// Where the answer came from, after redirects.
    answered: Url,
    /// Whether it is at the registry itself, so that credentials go along.
    at_home: bool,
}

/// The pages up to now.
#[derive(Debug)]
struct Walk {
    caps: Caps,
    visited: HashSet<Url>,
    pages: usize,
    bytes: u64,
    /// How many pages in a row brought nothing.
    idle: usize,
}

impl Walk {
    fn new(caps: Caps) -> Self {
        Self { caps, visited: HashSet::new(), pages: 0, bytes: 0, idle: 0 }
    }

    fn has_room_for(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        self.bytes <= self.caps.together
    }

    /// The page has so many entries that were not there before.
    fn brought(&mut self, new: usize) {
        self.idle = if new == 0 { self.idle + 1 } else { 0 };
    }

    /// Where the page after the one `at` is.
    fn follow(&mut self, at: &Place, next: Url) -> Result<Url, LinkRefusal> {
        self.visited.extend([at.asked.clone(), at.answered.clone()]);
        self.pages += 1;
        let next = admitted(&at.answered, next)?;
        if self.visited.contains(&next) {
            Err(LinkRefusal::Loop)
        } else if self.pages >= self.caps.pages {
            Err(LinkRefusal::TooMany { most: self.caps.pages })
        } else if self.idle >= self.caps.idle {
            Err(LinkRefusal::Idle { pages: self.idle })
        } else {
            Ok(next)
        }
    }
}

/// The link `next` of an answer from `answered` as it is followed.
fn admitted(answered: &Url, mut next: Url) -> Result<Url, LinkRefusal> {
    let elsewhere = LinkRefusal::Elsewhere { url: shown(&next) };
    let same_port =
        next.port() == answered.port() || next.port_or_known_default() == answered.port_or_known_default();
    let is_web = matches!(next.scheme(), "http" | "https");
    if !is_web || next.host() != answered.host() || !same_port {
        return Err(elsewhere);
    }
    let written = next
        .set_scheme(answered.scheme())
        .and_then(|()| next.set_port(answered.port()))
        .and_then(|()| next.set_username(""))
        .and_then(|()| next.set_password(None));
    if written.is_err() {
        return Err(elsewhere);
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Credentials go to the host that was asked, over the scheme that it was asked with; and a registry that does not
    /// know of the TLS before it is not cut off from its own pages.
    #[test]
    fn where_a_link_may_lead() {
        let cases = [
            ("https://r.example/a", "https://r.example/b", Some("https://r.example/b")),
            ("https://r.example/a", "http://r.example/b", Some("https://r.example/b")),
            ("https://r.example/a", "http://r.example:80/b", Some("https://r.example/b")),
            ("https://r.example/a", "http://r.example:443/b", Some("https://r.example/b")),
            ("https://r.example/a", "https://R.EXAMPLE:443/b", Some("https://r.example/b")),
            ("https://r.example:8443/a", "http://r.example:8443/b", Some("https://r.example:8443/b")),
            ("http://r.example:5000/a", "https://r.example:5000/b", Some("http://r.example:5000/b")),
            ("http://r.example/a", "https://r.example/b", Some("http://r.example/b")),
            ("https://r.example/a", "https://user:pass@r.example/b", Some("https://r.example/b")),
            ("https://r.example/a", "https://r.example:8443/b", None),
            ("https://r.example:8443/a", "https://r.example/b", None),
            ("https://r.example/a", "https://other.example/b", None),
            ("https://r.example/a", "https://r.example.other.example/b", None),
            ("https://r.example/a", "https://r.example@other.example/b", None),
            ("https://r.example/a", "http://127.0.0.1/b", None),
            ("https://r.example/a", "file:///etc/passwd", None),
            ("https://r.example/a", "ftp://r.example/b", None),
        ];
        for (answered, next, expected) in cases {
            let found = admitted(&Url::parse(answered).unwrap(), Url::parse(next).unwrap());
            assert_eq!(found.ok().as_ref().map(Url::as_str), expected, "{answered} {next}");
        }
    }

    /// A listing ends, whatever the far side thinks of: a page that was there before, by either of its URLs, is a
    /// circle, and new ones without end are too many.
    #[test]
    fn listings_end() {
        let page =
            |number: usize| Url::parse(&format!("https://r.example/v2/a/tags/list?page={number}")).unwrap();
        let place = |asked: usize, answered: usize| Place {
            asked: page(asked),
            answered: page(answered),
            at_home: true,
        };
        let caps = Caps { page: 10, together: 100, pages: 50, idle: 3 };
        let mut walk = Walk::new(caps);
        assert_eq!(walk.follow(&place(0, 0), page(0)), Err(LinkRefusal::Loop));
        assert_eq!(walk.follow(&place(1, 2), page(3)), Ok(page(3)));
        assert_eq!(walk.follow(&place(3, 3), page(1)), Err(LinkRefusal::Loop));
        assert_eq!(walk.follow(&place(3, 3), page(2)), Err(LinkRefusal::Loop));
        let mut walk = Walk::new(caps);
        let refused = (0..=caps.pages)
            .map(|number| walk.follow(&place(number, number), page(number + 1)))
            .position(|followed| followed == Err(LinkRefusal::TooMany { most: caps.pages }));
        assert_eq!(refused, Some(caps.pages - 1));
        let mut walk = Walk::new(caps);
        assert!((0..10).all(|_| walk.has_room_for(caps.page)));
        assert!(!walk.has_room_for(1));
        let mut walk = Walk::new(caps);
        let brought = [0, 0, 7, 0, 0, 0];
        let followed = brought.iter().enumerate().map(|(number, new)| {
            walk.brought(*new);
            walk.follow(&place(number, number), page(number + 1))
        });
        let refused = followed.collect::<Vec<_>>();
        assert!(refused[..5].iter().all(Result::is_ok));
        assert_eq!(refused[5], Err(LinkRefusal::Idle { pages: 3 }));
    }
}
