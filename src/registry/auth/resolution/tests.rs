use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

use super::*;

/// The world of one case.
struct World {
    files: BTreeMap<String, String>,
    answers: BTreeMap<String, String>,
    asked: Mutex<Vec<String>>,
}

impl Surroundings for World {
    fn file(&self, location: &Location) -> Result<Option<AuthFile>, CredentialError> {
        let Some(sample) = self.files.get(&*location.path.to_string_lossy()) else {
            let path = location.path.clone();
            return if location.is_named { Err(CredentialError::Missing { path }) } else { Ok(None) };
        };
        let text = std::fs::read(samples().join(sample)).unwrap();
        AuthFile::parse(&location.path, &text, location.form).map(Some)
    }

    fn ask(&self, inquiry: &Inquiry) -> Result<Option<(Credentials, String)>, HelperError> {
        for server in &inquiry.servers {
            let question = format!("{} {server}", inquiry.helper);
            let answer = self.answers.get(&question).cloned();
            self.asked.lock().unwrap().push(question);
            match answer.as_deref() {
                None => {}
                Some("!") => {
                    return Err(HelperError::NotInstalled { program: program_name(&inquiry.helper) });
                }
                Some(answer) => return Ok(Some((credentials(answer), server.clone()))),
            }
        }
        Ok(None)
    }

    fn misses(&self, program: &str, _file: &Path) {
        self.asked.lock().unwrap().push(format!("{program} is missing"));
    }
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/auth")
}

/// `USER:PASSWORD`, or `<token USER>:TOKEN`.
fn credentials(text: &str) -> Credentials {
    let (user, secret) = text.split_once(':').unwrap();
    match user.strip_prefix("<token ").and_then(|rest| rest.strip_suffix('>')) {
        Some(user) => Credentials::IdentityToken {
            username: Some(user.to_owned()).filter(|user| !user.is_empty()),
            token: secret.to_owned(),
        },
        None => Credentials::Basic { username: user.to_owned(), password: secret.to_owned() },
    }
}

fn source(origin: &CredentialOrigin) -> String {
    match origin {
        CredentialOrigin::Given => "given".to_owned(),
        CredentialOrigin::File { path, key } => format!("{} {key}", path.display()),
        CredentialOrigin::Helper { program, server, file } => {
            let file = file.as_ref().map(|file| format!(" {}", file.display())).unwrap_or_default();
            format!("{program} {server}{file}")
        }
    }
}

fn environment(case: &Value) -> Environment {
    let path = |name: &str| case["environment"][name].as_str().map(PathBuf::from);
    let user_id = case["environment"]["user_id"].as_u64().map(|id| u32::try_from(id).unwrap());
    Environment {
        named: path("named"),
        runtime_folder: path("runtime_folder"),
        user_id,
        config_home: path("config_home"),
        docker_config: path("docker_config"),
        home: path("home"),
    }
}

fn texts<T: serde::de::DeserializeOwned + Default>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

/// Every case of testdata/auth/cases.json: a user who can `podman pull` or `docker pull` needs no option here.
#[test]
fn cases() {
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(samples().join("cases.json")).unwrap()).unwrap();
    assert!(cases.len() > 40, "the table was read");
    for case in cases {
        let why = case["why"].as_str().unwrap();
        let world =
            World { files: texts(&case["files"]), answers: texts(&case["answers"]), asked: Mutex::default() };
        let helpers: Vec<String> = texts(&case["helpers"]);
        let repository: Repository = case["repository"].as_str().unwrap().parse().unwrap();
        let found = resolve(&environment(&case), &helpers, &repository, &world);
        match (found, case["error"].as_str()) {
            (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{why}: {error}"),
            (Ok(found), None) => {
                assert_eq!(
                    found.as_ref().map(|found| source(&found.origin)).as_deref(),
                    case["from"].as_str(),
                    "{why}"
                );
                let expected = case["found"].as_str().map(credentials);
                assert!(found.map(|found| found.credentials) == expected, "{why}");
            }
            (found, expected) => unreachable!("{why}: {found:?} and not {expected:?}"),
        }
        if let Some(asked) = case["asked"].as_array() {
            assert_eq!(
                *world.asked.lock().unwrap(),
                texts::<Vec<String>>(&Value::from(asked.clone())),
                "{why}"
            );
        }
    }
}

/// Without a home and without variables there is nowhere to look, and that is no failure.
#[test]
fn nowhere_to_look() {
    assert_eq!(Environment::default().locations(), []);
}
