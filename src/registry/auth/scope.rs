//! What a token is asked to be good for (distribution spec, "Token Scope Documentation"). Pure.
//!
//! A registry's challenge names scopes, and the token that is asked for them with the user's credentials goes to that
//! registry. One token service may serve many registries, so a hostile one must not get a token that is good for more than
//! ocipull does itself: of repositories, whichever they are (proxies name those of their upstream), reading is asked for and
//! nothing else; other resources are asked for only as nobody, whose token is worth nothing.

use std::collections::BTreeSet;

/// What of a repository is read: `metadata_read` is Azure's word for what it takes to list tags.
const READING: [&str; 2] = ["pull", "metadata_read"];

/// More scopes than this are no question that an honest registry makes a client ask.
const MOST_SCOPES: usize = 16;

/// Who asks for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Nobody,
    /// Somebody with credentials.
    Somebody,
}

/// A list of scopes, each resource once, in the order in which they were named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Scopes(Vec<Scope>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scope {
    /// `repository:NAME`, or a word that is a scope as it is.
    resource: String,
    actions: BTreeSet<String>,
}

impl Scopes {
    /// Of the scopes that a challenge names, separated by white space, those that may be asked for.
    pub(super) fn of_challenge(scopes: &str, asker: Asker) -> Self {
        let mut found = Self::default();
        for scope in scopes.split_ascii_whitespace().filter_map(|text| Scope::permitted(text, asker)) {
            found.add(scope);
        }
        found
    }

    /// Pulling from the repository with this path.
    pub(super) fn pull(path: &str) -> Self {
        let actions = BTreeSet::from(["pull".to_owned()]);
        Self(vec![Scope { resource: format!("repository:{path}"), actions }])
    }

    /// Whether any of them is about a repository.
    pub(super) fn has_repository(&self) -> bool {
        self.0.iter().any(|scope| is_repository(&scope.resource))
    }

    /// Adds what is not there yet, as far as there is room.
    pub(super) fn extend(&mut self, others: Self) {
        for scope in others.0 {
            self.add(scope);
        }
    }

    /// Adds what must not be left out: where there is no room, the last of the others go for it.
    pub(super) fn require(&mut self, needed: Self) {
        let is_in =
            |scopes: &[Scope], wanted: &Scope| scopes.iter().any(|known| known.resource == wanted.resource);
        let new = needed.0.iter().filter(|scope| !is_in(&self.0, scope)).count();
        let mut excess = (self.0.len() + new).saturating_sub(MOST_SCOPES);
        for at in (0..self.0.len()).rev() {
            if excess > 0 && !is_in(&needed.0, &self.0[at]) {
                self.0.remove(at);
                excess -= 1;
            }
        }
        self.extend(needed);
    }

    fn add(&mut self, scope: Scope) {
        if let Some(known) = self.0.iter_mut().find(|known| known.resource == scope.resource) {
            known.actions.extend(scope.actions);
        } else if self.0.len() < MOST_SCOPES {
            self.0.push(scope);
        }
    }

    /// The scopes as they are sent.
    pub(super) fn texts(&self) -> Vec<String> {
        self.0.iter().map(Scope::text).collect()
    }
}

impl Scope {
    /// A resource's name may have colons, as that of a host with its port does.
    fn permitted(text: &str, asker: Asker) -> Option<Self> {
        let (resource, actions) = match text.rsplit_once(':') {
            Some((resource, actions)) => (resource, actions.split(',').collect()),
            None => (text, Vec::new()),
        };
        let actions: BTreeSet<String> = if is_repository(resource) {
            let wanted = |action: &&str| READING.contains(action) || *action == "*";
            let read = |action| if action == "*" { "pull" } else { action };
            actions.into_iter().filter(wanted).map(|action| read(action).to_owned()).collect()
        } else if asker == Asker::Nobody {
            actions.into_iter().map(str::to_owned).collect()
        } else {
            return None;
        };
        let is_empty = is_repository(resource) && actions.is_empty();
        (!is_empty).then(|| Self { resource: resource.to_owned(), actions })
    }

    fn text(&self) -> String {
        if self.actions.is_empty() {
            return self.resource.clone();
        }
        let actions: Vec<&str> = self.actions.iter().map(String::as_str).collect();
        format!("{}:{}", self.resource, actions.join(","))
    }
}

/// Whether a resource is a repository, whose type may have a class: `repository(plugin):NAME`.
fn is_repository(resource: &str) -> bool {
    let rest = resource.strip_prefix("repository");
    rest.is_some_and(|rest| rest.starts_with(':') || (rest.starts_with('(') && rest.contains("):")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a challenge makes of a question: reading, whatever else it would like a token with the user's name to be for.
    #[test]
    fn a_token_is_for_reading_only() {
        let cases: [(&str, &[&str], &[&str]); 15] = [
            ("repository:a/b:pull", &["repository:a/b:pull"], &[]),
            ("repository:proxy/a/b:pull", &["repository:proxy/a/b:pull"], &[]),
            // As nvcr.io writes it, whoever asks.
            ("repository:a/b:pull,push", &["repository:a/b:pull"], &[]),
            ("repository:a/b:push", &[], &[]),
            ("repository:a/b:delete,push", &[], &[]),
            ("repository:a/b:*", &["repository:a/b:pull"], &[]),
            ("repository:a/b:", &[], &[]),
            ("repository:r.example:5000/a:pull", &["repository:r.example:5000/a:pull"], &[]),
            ("repository(plugin):a/b:pull,push", &["repository(plugin):a/b:pull"], &[]),
            ("repository:a:metadata_read repository:a:pull", &["repository:a:metadata_read,pull"], &[]),
            (
                "repository:a:pull  repository:b:pull\trepository:a:pull",
                &["repository:a:pull", "repository:b:pull"],
                &[],
            ),
            ("registry:catalog:*", &[], &["registry:catalog:*"]),
            // As public.ecr.aws writes it.
            ("aws", &[], &["aws"]),
            ("api write repository:a:pull", &["repository:a:pull"], &["api", "write"]),
            ("", &[], &[]),
        ];
        for (scopes, everybody, nobody) in cases {
            assert_eq!(Scopes::of_challenge(scopes, Asker::Somebody).texts(), everybody, "{scopes}");
            let mut found = Scopes::of_challenge(scopes, Asker::Nobody).texts();
            let mut expected = [everybody, nobody].concat();
            found.sort();
            expected.sort_unstable();
            assert_eq!(found, expected, "{scopes}");
        }
    }

    /// However often a registry finds something new to ask for, the question stays a question.
    #[test]
    fn there_is_an_end_to_it() {
        let mut scopes = Scopes::pull("a");
        for number in 0..1000 {
            scopes.extend(Scopes::pull(&number.to_string()));
        }
        assert_eq!(scopes.texts().len(), MOST_SCOPES);
        assert!(scopes.has_repository());
        assert!(!Scopes::of_challenge("aws repository-like:a:pull", Asker::Nobody).has_repository());
    }
}
