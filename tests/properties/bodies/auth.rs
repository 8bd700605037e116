//! Authentication: challenges, the answers of token services and registries, files of credentials.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ocipull::reference::Repository;
use ocipull::registry::LoginKey;
use ocipull::registry::auth::{AuthFile, Candidate, Challenge, Credentials, FileForm, fuzzing};
use serde_json::{Map, Value, json};
use url::Url;

use super::{PAGE, assert_fit, assert_shown, text};

/// The values of `WWW-Authenticate`, a line each.
///
/// No line has to do with another; what was understood and is said by the book is understood the same; and whatever a
/// challenge says, what a token service is asked is for reading, as nobody but the account, at the realm and nowhere else.
pub fn challenges(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let lines: Vec<&str> = text.lines().collect();
    let found = Challenge::parse_all(&lines);
    let one_by_one: Vec<Challenge> = lines.iter().flat_map(|line| Challenge::parse_all([line])).collect();
    assert_eq!(found, one_by_one);
    let is_token = |text: &str| {
        let is_separator = |byte: u8| b"()<>@,;:\\\"/[]?={} \t".contains(&byte);
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !is_separator(byte))
    };
    for challenge in &found {
        assert!(is_token(&challenge.scheme) && challenge.scheme == challenge.scheme.to_ascii_lowercase());
        for (name, _) in &challenge.parameters {
            assert!(is_token(name) && *name == name.to_ascii_lowercase(), "{name:?}");
        }
        assert_eq!(Challenge::parse_all([said(challenge)]), std::slice::from_ref(challenge));
        for path in [None, Some("library/app")] {
            for is_somebody in [false, true] {
                check_request(challenge, path, is_somebody);
            }
        }
    }
    let together: Vec<String> = found.iter().map(said).collect();
    assert_eq!(Challenge::parse_all([together.join(", ")]), found);
}

/// A challenge by the grammar of RFC 9110, every value in quotes.
fn said(challenge: &Challenge) -> String {
    let quoted = |(name, value): &(String, String)| {
        format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    };
    let parameters: Vec<String> = challenge.parameters.iter().map(quoted).collect();
    format!("{} {}", challenge.scheme, parameters.join(",")).trim_end().to_owned()
}

fn check_request(challenge: &Challenge, path: Option<&str>, is_somebody: bool) {
    let Some((url, form)) = fuzzing::token_request(challenge, path, is_somebody) else { return };
    let realm =
        challenge.parameter("realm").and_then(|realm| Url::parse(realm.trim()).ok()).expect("a realm");
    let place = |url: &Url| {
        (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port(), url.path().to_owned())
    };
    assert_eq!(place(&url), place(&realm));
    assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None));
    let mut scopes = Vec::new();
    for (name, value) in url.query_pairs() {
        assert!(!name.eq_ignore_ascii_case("offline_token"), "{url}");
        if name.eq_ignore_ascii_case("scope") {
            assert_eq!(name, "scope");
            scopes.push(value.into_owned());
        }
    }
    assert!(scopes.len() <= 17, "{url}");
    match path {
        None => assert!(scopes.is_empty(), "{url}"),
        Some(_) => assert!(scopes.iter().any(|scope| scope.starts_with("repository")), "{url}"),
    }
    for scope in &scopes {
        let (resource, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
        let is_plugin = resource.starts_with("repository(") && resource.contains("):");
        let is_repository = resource.starts_with("repository:") || is_plugin;
        if !is_repository {
            assert!(!is_somebody, "{scope}");
            continue;
        }
        assert!(actions.split(',').all(|action| matches!(action, "pull" | "metadata_read")), "{scope}");
    }
    let form: Vec<(String, String)> = url::form_urlencoded::parse(form.as_bytes())
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let said = |name: &str| {
        form.iter().filter(|(held, _)| held == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((said("grant_type"), said("refresh_token")), (vec!["refresh_token"], vec!["secret"]));
    let asked: Option<Vec<String>> =
        said("scope").first().map(|scopes| scopes.split(' ').map(str::to_owned).collect());
    assert_eq!(asked.unwrap_or_default(), scopes);
}

/// The body of a token service's or a registry's answer.
///
/// A token fits into a header and lives for a day at most; of a refusal no more is shown than people read, and nothing that
/// drives a terminal.
pub fn answers(data: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    match fuzzing::token_answer(data, now) {
        Ok((token, life)) => {
            assert!(
                !token.is_empty()
                    && !token
                        .contains(|character: char| matches!(character, '\0'..='\x1f' | '\x7f')
                            && character != '\t')
            );
            assert!(life > Duration::ZERO && life <= Duration::from_hours(24));
            // What is passed over may be text that is none, as it may be for Go.
            if let Ok(value) = serde_json::from_slice::<Value>(data) {
                let stands = |name: &str| value.get(name).and_then(Value::as_str) == Some(&token);
                assert!(stands("access_token") || stands("token"));
            }
        }
        Err(reason) => assert_shown(reason),
    }
    let refusals = ocipull::registry::fuzzing::refusals(data);
    assert!(refusals.len() <= 8);
    for refusal in &refusals {
        assert_shown(refusal);
        assert!(refusal.chars().count() < 12_000);
    }
}

/// A file of credentials, then on its own page, a line each, names of repositories and registries.
///
/// Credentials are found at the keys of the file; nothing is looked for after they are found. An entry that is set is found
/// and one that is removed is not, and what is not edited keeps its bytes.
pub fn auth_files(data: &[u8]) {
    let (file, names) = match data.iter().position(|byte| *byte == PAGE as u8) {
        Some(at) => (&data[..at], text(&data[at + 1..]).unwrap_or_default()),
        None => (data, "quay.io/team/app\nalpine"),
    };
    let parse = |text: &[u8], form| AuthFile::parse(Path::new("auth.json"), text, form);
    if let Err(error) = parse(file, FileForm::Legacy) {
        assert_fit(&error);
    }
    let parsed = match parse(file, FileForm::Auths) {
        Ok(parsed) => parsed,
        Err(error) => return assert_fit(&error),
    };
    for name in names.lines().take(8) {
        if let Ok(repository) = name.parse::<Repository>() {
            check_candidates(&parsed, &parsed.candidates(repository.host(), repository.path()));
        }
        if let Ok(key) = name.parse::<LoginKey>() {
            check_login(file, &key);
        }
    }
}

fn check_candidates(file: &AuthFile, candidates: &[Candidate]) {
    let keys = fuzzing::keys(file);
    for (position, candidate) in candidates.iter().enumerate() {
        match candidate {
            Candidate::Ask(inquiry) => assert!(!inquiry.helper.is_empty() && !inquiry.servers.is_empty()),
            Candidate::Found(found) => {
                assert_eq!(position + 1, candidates.len());
                let shown = format!("{:?} {}", found.credentials, found.origin);
                assert_shown(&shown);
                let ocipull::registry::auth::CredentialOrigin::File { key, .. } = &found.origin else {
                    panic!("{shown} is not from the file")
                };
                assert!(keys.contains(&key.as_str()));
            }
            Candidate::Broken(broken) => {
                assert_eq!(position + 1, candidates.len());
                assert_fit(&ocipull::registry::auth::CredentialError::from(broken.clone()));
            }
            other => panic!("{other:?} is no candidate that is known"),
        }
    }
}

fn check_login(before: &[u8], key: &LoginKey) {
    let name = key.to_string();
    let entry = json!({ "auth": "dXNlcjpwYXNz" });
    // What the reader takes the editor takes, or a login would fail where a fetch works.
    let edited = fuzzing::edited(before, &name, Some(&entry)).expect("a file that was read");
    let after = edited.expect("an entry that is set is a change");
    let read =
        AuthFile::parse(Path::new("auth.json"), after.as_bytes(), FileForm::Auths).expect("what was written");
    let wanted = Credentials::Basic { username: "user".to_owned(), password: "pass".to_owned() };
    let candidates = read.candidates(key.host(), key.namespace().unwrap_or_default());
    let found = candidates.iter().find(|candidate| !matches!(candidate, Candidate::Ask(_)));
    match found {
        Some(Candidate::Found(found)) => assert_eq!(found.credentials, wanted),
        // A helper of the host's that is no text is an error before any entry.
        Some(Candidate::Broken(_)) => assert!(has_helper(before)),
        _ => panic!("the entry {name} is not found"),
    }
    check_untouched(before, &after, &name);
    let gone = fuzzing::edited(after.as_bytes(), &name, None).expect("what was written").expect("a change");
    let read =
        AuthFile::parse(Path::new("auth.json"), gone.as_bytes(), FileForm::Auths).expect("what was written");
    assert!(!fuzzing::keys(&read).iter().any(|held| fuzzing::is_same_key(held, &name)));
    check_untouched(before, &gone, &name);
    assert_eq!(fuzzing::edited(gone.as_bytes(), &name, None).expect("what was written"), None);
}

fn has_helper(text: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(text) else { return false };
    fields.keys().any(|name| name.eq_ignore_ascii_case("credHelpers"))
}

/// Every other field and every other entry is what it was, in its order.
fn check_untouched(before: &[u8], after: &str, name: &str) {
    let read = |text: &[u8]| -> Map<String, Value> { serde_json::from_slice(text).unwrap_or_default() };
    let (mut before, mut after) = (read(before), read(after.as_bytes()));
    let auths = |fields: &mut Map<String, Value>| {
        let is_written = fields.contains_key("auths");
        let mut keys = fields.keys();
        let key =
            keys.find(|key| if is_written { *key == "auths" } else { key.eq_ignore_ascii_case("auths") });
        let read = key.cloned().and_then(|key| fields.shift_remove(&key));
        let mut auths = match read {
            Some(Value::Object(auths)) => auths,
            _ => Map::new(),
        };
        auths.retain(|key, _| !fuzzing::is_same_key(key, name));
        auths
    };
    let (entries_before, entries_after) = (auths(&mut before), auths(&mut after));
    assert_eq!(entries_before, entries_after);
    assert!(before.iter().eq(after.iter()), "{before:?} became {after:?}");
}
