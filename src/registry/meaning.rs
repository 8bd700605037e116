//! What a reference without a host means: the first of its candidates that there is.

use super::config::registries_conf::{Candidates, Origin};
use super::error::RegistryError;
use super::{Notice, Registry};
use crate::failure::{Failure as _, Kind};
use crate::reference::Reference;

impl Registry {
    /// The reference that is meant. One that may mean several things is resolved, one after another, and the first that can
    /// be is meant; what may mean one thing only is not asked about.
    ///
    /// # Errors
    /// As [`Registry::first_of`].
    pub async fn meant(&self, reference: &Reference) -> Result<Reference, RegistryError> {
        let resolve = |candidate: Reference| async move { self.resolve(&candidate).await };
        self.meant_by(reference, resolve).await
    }

    /// The same with another question than what the reference stands for.
    ///
    /// # Errors
    /// As [`Registry::first_of`].
    pub async fn meant_by<T, F>(
        &self,
        reference: &Reference,
        ask: impl Fn(Reference) -> F,
    ) -> Result<Reference, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let candidates = self.candidates(reference)?;
        match &*candidates.references {
            [only] => {
                self.chosen(reference, only, &candidates.origin);
                Ok(only.clone())
            }
            _ => Ok(self.first_of(reference, ask).await?.0),
        }
    }

    /// Asks about what a reference may mean, one candidate after another, until there is an answer: the candidate, and what
    /// was answered. The choice is told to the observer.
    ///
    /// # Errors
    /// [`RegistryError::Configuration`]; the error of the only candidate, or [`RegistryError::NoneMeant`] of several.
    pub async fn first_of<T, F>(
        &self,
        reference: &Reference,
        ask: impl Fn(Reference) -> F,
    ) -> Result<(Reference, T), RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let Candidates { references, origin } = self.candidates(reference)?;
        let (mut failures, mut last) = (Vec::new(), None);
        let is_one = references.len() == 1;
        for candidate in references {
            match ask(candidate.clone()).await {
                Ok(answer) => {
                    self.chosen(reference, &candidate, &origin);
                    return Ok((candidate, answer));
                }
                Err(error) if is_one => return Err(error),
                Err(error) => {
                    tracing::info!(%candidate, %error, "not this one");
                    failures.push(error.explained());
                    // That one does not exist tells less than that another could not be asked.
                    if last.as_ref().is_none_or(|last: &RegistryError| last.kind() == Kind::NotFound) {
                        last = Some(error);
                    }
                }
            }
        }
        let worst = last.expect("invariant: there is a candidate at least");
        let (kind, hint) = (worst.kind(), worst.hint());
        Err(RegistryError::NoneMeant { name: reference.written(), failures, kind, hint })
    }

    fn candidates(&self, reference: &Reference) -> Result<Candidates, RegistryError> {
        self.inner.routes.candidates(reference)
    }

    fn chosen(&self, written: &Reference, chosen: &Reference, origin: &Origin) {
        let source = match origin {
            Origin::Written | Origin::Default => return,
            Origin::Alias(path) => format!("an alias in {}", path.display()),
            Origin::Search(path) => format!("unqualified-search-registries in {}", path.display()),
        };
        let written = written.written();
        self.notice(Notice::Chosen { written, reference: chosen.clone(), source });
    }
}
