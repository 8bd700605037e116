//! Tokens at work: one request for all who need it, the forms of the big registries, tokens that are not good for enough.

use super::*;

const SCOPE: &str = "repository%3Ateam%2Fapp%3Apull";

fn token_requests(server: &Server) -> Vec<String> {
    server.lines().into_iter().filter(|line| line.contains("/token")).collect()
}

/// Opens as many blobs at once as there are connections.
async fn open_many(
    registry: &Registry,
    server: &Server,
    count: usize,
) -> Vec<Result<Vec<u8>, RegistryError>> {
    let source = registry.blob_source(&server.repository(), &descriptor(MANIFEST));
    let opened = (0..count).map(|_| async { collect(registry.open(&source, None).await?).await });
    futures_util::future::join_all(opened).await
}

/// Sixteen blobs over sixteen connections need one token, and when it ends one more, for the clones of the client too. The
/// token service on the registry's own host is asked even when every connection there has just been refused.
#[tokio::test]
async fn all_connections_share_one_request() {
    for connections in [1, 4, 16] {
        let shared = share_one_request(connections);
        tokio::time::timeout(Duration::from_mins(1), shared).await.expect("it waits for itself");
    }
}

async fn share_one_request(connections: usize) {
    let is_revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (young, old) = (token_server(&["t1", "t2"], 401), token_server(&["t2"], 401));
    let revoked = Arc::clone(&is_revoked);
    let server = Server::start(move |seen| {
        let is_token = seen.target.starts_with("/token");
        if revoked.load(Ordering::SeqCst) && !is_token { old(seen) } else { young(seen) }
    })
    .await;
    let registry = Registry::new(Options { connections, ..options() }).unwrap();
    for (round, expected) in [(false, 1), (true, 2), (true, 2)] {
        is_revoked.store(round, Ordering::SeqCst);
        for blob in open_many(&registry.clone(), &server, 16).await {
            assert_eq!(blob.unwrap(), MANIFEST);
        }
        assert_eq!(token_requests(&server).len(), expected);
    }
}

/// A token service that fails is asked once on behalf of all who wait, not once by each of them; and once more later.
#[tokio::test]
async fn a_failure_is_shared_too() {
    for status in [401, 429, 503] {
        let inner = token_server(&["t1"], 401);
        let server =
            Server::start(
                move |seen| {
                    if seen.target.starts_with("/token") { reply(status) } else { inner(seen) }
                },
            )
            .await;
        let registry = registry();
        // Now it is known that tokens are needed, and everybody asks for one at once.
        assert!(open_many(&registry, &server, 1).await[0].is_err());
        for later in 2..4 {
            for blob in open_many(&registry, &server, 8).await {
                let error = blob.unwrap_err();
                assert_eq!(error.kind(), if status == 401 { Kind::Auth } else { Kind::Network });
                assert!(matches!(error, RegistryError::Token { .. }));
            }
            assert_eq!(token_requests(&server).len(), later, "{status}");
        }
    }
}

/// A registry whose tokens are good for what they were asked for, and which wants `wanted` of them.
fn scoped(wanted: &'static str, status: u16, named: &'static str) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| {
        if let Some(query) = seen.target.strip_prefix("/token?") {
            let scopes = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "scope");
            let scopes: Vec<_> = scopes.map(|(_, scope)| scope.into_owned()).collect();
            return reply(200).body(format!(r#"{{"token":"{}"}}"#, scopes.join("+")));
        }
        let host = seen.header("host").unwrap();
        let realm = format!("Bearer realm=\"http://{host}/token\"");
        match seen.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) if token.split('+').any(|scope| scope == wanted) => manifest_reply(),
            Some(_) => reply(status).header(
                "WWW-Authenticate",
                &format!("{realm},error=\"insufficient_scope\",scope=\"{named}\""),
            ),
            None => reply(401).header("WWW-Authenticate", &realm),
        }
    }
}

/// A token that is not good for enough is replaced once by one for more, which serves everybody from then on; one that still
/// is not ends it.
#[tokio::test]
async fn insufficient_tokens_are_widened_once() {
    let upstream = "repository:upstream/app:pull";
    let wider = format!("GET /token?scope={SCOPE}&scope=repository%3Aupstream%2Fapp%3Apull");
    let narrow = format!("GET /token?scope={SCOPE}");
    for status in [401, 403] {
        let server = Server::start(scoped(upstream, status, "repository:upstream/app:pull,push")).await;
        let registry = with_credentials(&server, basic());
        for blob in open_many(&registry, &server, 8).await {
            assert_eq!(blob.unwrap(), MANIFEST);
        }
        registry.resolve(&server.reference(":v1")).await.unwrap();
        assert_eq!(token_requests(&server).len(), 2, "{status}");
        assert!(token_requests(&server)[1].starts_with(&wider), "{:?}", server.lines());

        // What the registry wants is not what it names.
        let server = Server::start(scoped("repository:never:pull", status, upstream)).await;
        let error = open_many(&registry, &server, 1).await.pop().unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Auth);
        let asked = token_requests(&server);
        assert_eq!(&asked[..2], [narrow.clone(), wider.clone()], "{status}");
        // A 401 may be the end of a token's life as well; a 403 to a fresh one is an answer.
        assert_eq!(asked.len(), if status == 401 { 3 } else { 2 }, "{asked:?}");

        // More than pulling is never asked for.
        let server =
            Server::start(scoped("repository:team/app:push", status, "repository:team/app:push")).await;
        let error = open_many(&registry, &server, 1).await.pop().unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Auth);
        assert!(token_requests(&server).iter().all(|line| *line == narrow), "{:?}", server.lines());
    }
}

/// One registry's way to ask, and what it gets.
#[derive(Clone)]
struct Form {
    name: &'static str,
    credentials: Option<Credentials>,
    /// `{tokens}` is the token service's host.
    challenge: &'static str,
    answer: &'static str,
    /// The token service's requests: line, user and password, form.
    asked: &'static [(&'static str, Option<&'static str>, &'static str)],
    /// What the registry gets in the end.
    gets: &'static str,
}

fn user(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.into(), password: password.into() }
}

/// ACR's user of identity tokens.
const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[expect(clippy::too_many_lines, reason = "a table, and no code")]
fn forms() -> Vec<Form> {
    let identity = Credentials::IdentityToken { username: Some(NIL.to_owned()), token: "refresh".to_owned() };
    vec![
        Form {
            name: "Docker Hub, with a login",
            credentials: Some(user("me", "dckr_pat_x")),
            challenge: r#"Bearer realm="http://{tokens}/token",service="registry.docker.io",scope="repository:team/app:pull""#,
            answer: r#"{"token":"T","access_token":"T","expires_in":300,"issued_at":"2026-01-01T00:00:00.123456789Z"}"#,
            asked: &[(
                "GET /token?service=registry.docker.io&scope={scope}&account=me",
                Some("me:dckr_pat_x"),
                "",
            )],
            gets: "Bearer T",
        },
        Form {
            name: "ghcr.io, anonymous",
            credentials: None,
            challenge: r#"Bearer realm="http://{tokens}/token",service="ghcr.io",scope="repository:team/app:pull""#,
            answer: r#"{"token":"djE6dGVhbS9hcHA="}"#,
            asked: &[("GET /token?service=ghcr.io&scope={scope}", None, "")],
            gets: "Bearer djE6dGVhbS9hcHA=",
        },
        Form {
            name: "ghcr.io, a personal access token in base 64 as it is",
            credentials: Some(Credentials::RegistryToken("Z2hwX3g=".to_owned())),
            challenge: r#"Bearer realm="http://{tokens}/token",service="ghcr.io",scope="repository:team/app:pull""#,
            answer: "",
            asked: &[],
            gets: "Bearer Z2hwX3g=",
        },
        Form {
            name: "quay.io, a robot",
            credentials: Some(user("org+robot", "secret")),
            challenge: r#"Bearer realm="http://{tokens}/v2/auth",service="quay.io",scope="repository:team/app:pull""#,
            answer: r#"{"token":"T"}"#,
            asked: &[(
                "GET /v2/auth?service=quay.io&scope={scope}&account=org%2Brobot",
                Some("org+robot:secret"),
                "",
            )],
            gets: "Bearer T",
        },
        Form {
            name: "GitLab, whose tokens come from the application's host",
            credentials: Some(user("gitlab-ci-token", "job")),
            challenge: r#"Bearer realm="http://{tokens}/jwt/auth",service="container_registry",scope="repository:team/app:pull",error="invalid_token""#,
            answer: r#"{"token":"a.b-c.d_e"}"#,
            asked: &[(
                "GET /jwt/auth?service=container_registry&scope={scope}&account=gitlab-ci-token",
                Some("gitlab-ci-token:job"),
                "",
            )],
            gets: "Bearer a.b-c.d_e",
        },
        Form {
            name: "Google, a key file",
            credentials: Some(user("_json_key", "{\n  \"type\": \"service_account\"\n}")),
            challenge: r#"Bearer realm="http://{tokens}/v2/token",service="gcr.io",scope="repository:team/app:pull""#,
            answer: r#"{"expires_in":43200,"issued_at":"2026-01-01T00:00:00.000000+00:00","token":"T"}"#,
            asked: &[(
                "GET /v2/token?service=gcr.io&scope={scope}&account=_json_key",
                Some("_json_key:{\n  \"type\": \"service_account\"\n}"),
                "",
            )],
            gets: "Bearer T",
        },
        Form {
            name: "Google, an access token",
            credentials: Some(user("oauth2accesstoken", "ya29.x")),
            challenge: r#"Bearer realm="http://{tokens}/v2/token",service="us-docker.pkg.dev",scope="repository:team/app:pull""#,
            answer: r#"{"expires_in":3599,"token":"ya29.x"}"#,
            asked: &[(
                "GET /v2/token?service=us-docker.pkg.dev&scope={scope}&account=oauth2accesstoken",
                Some("oauth2accesstoken:ya29.x"),
                "",
            )],
            gets: "Bearer ya29.x",
        },
        Form {
            name: "ACR, an identity token, whose answer names no life-time",
            credentials: Some(identity),
            challenge: r#"Bearer realm="http://{tokens}/oauth2/token",service="team.azurecr.io",scope="repository:team/app:pull""#,
            answer: r#"{"access_token":"T"}"#,
            asked: &[(
                "POST /oauth2/token",
                None,
                "grant_type=refresh_token&service=team.azurecr.io&client_id=ocipull&scope={scope}&refresh_token=refresh",
            )],
            gets: "Bearer T",
        },
        Form {
            name: "ACR, an identity token that was stored as a password",
            credentials: Some(user(NIL, "refresh")),
            challenge: r#"Bearer realm="http://{tokens}/oauth2/token",service="team.azurecr.io",scope="repository:team/app:pull""#,
            answer: r#"{"access_token":"T"}"#,
            asked: &[(
                "GET /oauth2/token?service=team.azurecr.io&scope={scope}&account=00000000-0000-0000-0000-000000000000",
                Some("00000000-0000-0000-0000-000000000000:refresh"),
                "",
            )],
            gets: "Bearer T",
        },
    ]
}

#[expect(clippy::too_many_lines, reason = "a table, and no code")]
fn more_forms() -> Vec<Form> {
    let identity =
        Credentials::IdentityToken { username: Some("me".to_owned()), token: "refresh".to_owned() };
    vec![
        Form {
            name: "a token service without the exchange",
            credentials: Some(identity),
            challenge: r#"Bearer realm="http://{tokens}/get-only",service="s",scope="repository:team/app:pull""#,
            answer: r#"{"token":"T","refresh_token":"another"}"#,
            asked: &[
                (
                    "POST /get-only",
                    None,
                    "grant_type=refresh_token&service=s&client_id=ocipull&scope={scope}&refresh_token=refresh",
                ),
                ("GET /get-only?service=s&scope={scope}&account=me", Some("me:refresh"), ""),
            ],
            gets: "Bearer T",
        },
        Form {
            name: "ECR",
            credentials: Some(user("AWS", "eyJwYXlsb2FkIjoi")),
            challenge: r#"Basic realm="https://123456789012.dkr.ecr.eu-central-1.amazonaws.com/",service="ecr.amazonaws.com""#,
            answer: "",
            asked: &[],
            gets: "Basic QVdTOmV5SndZWGxzYjJGa0lqb2k=",
        },
        Form {
            name: "public.ecr.aws, anonymous",
            credentials: None,
            challenge: r#"Bearer realm="http://{tokens}/token/",service="public.ecr.aws",scope="aws""#,
            answer: r#"{"token":"T"}"#,
            asked: &[("GET /token/?service=public.ecr.aws&scope=aws&scope={scope}", None, "")],
            gets: "Bearer T",
        },
        Form {
            name: "public.ecr.aws, with a login",
            credentials: Some(user("AWS", "x")),
            challenge: r#"Bearer realm="http://{tokens}/token/",service="public.ecr.aws",scope="aws""#,
            answer: r#"{"token":"T"}"#,
            asked: &[("GET /token/?service=public.ecr.aws&scope={scope}&account=AWS", Some("AWS:x"), "")],
            gets: "Bearer T",
        },
        Form {
            name: "Harbor, a robot",
            credentials: Some(user("robot$team+ci", "secret")),
            challenge: r#"Bearer realm="http://{tokens}/service/token",service="harbor-registry",scope="repository:team/app:pull""#,
            answer: r#"{"token":"T","access_token":"","expires_in":1800,"issued_at":"2026-01-01T00:00:00Z"}"#,
            asked: &[(
                "GET /service/token?service=harbor-registry&scope={scope}&account=robot%24team%2Bci",
                Some("robot$team+ci:secret"),
                "",
            )],
            gets: "Bearer T",
        },
        Form {
            name: "nvcr.io, which names more than pulling",
            credentials: Some(user("$oauthtoken", "key")),
            challenge: r#"Bearer realm="http://{tokens}/proxy_auth",scope="repository:team/app:pull,push""#,
            answer: r#"{"token":"T","expires_in":600}"#,
            asked: &[("GET /proxy_auth?scope={scope}&account=%24oauthtoken", Some("$oauthtoken:key"), "")],
            gets: "Bearer T",
        },
        Form {
            name: "Artifactory, which offers both, its service a host with a port",
            credentials: Some(user("me", "key")),
            challenge: r#"Basic realm="Artifactory Realm", Bearer realm="http://{tokens}/v2/token",service="r.example:443",scope="repository:team/app:pull""#,
            answer: r#"{"token":"T","expires_in":3600}"#,
            asked: &[("GET /v2/token?service=r.example%3A443&scope={scope}&account=me", Some("me:key"), "")],
            gets: "Bearer T",
        },
    ]
}

/// The forms that the big registries' documentation shows, each ending in the one right row of requests.
#[tokio::test]
async fn the_forms_of_the_big_registries() {
    for form in [forms(), more_forms()].concat() {
        let answer = form.answer;
        let tokens = Server::start(move |seen| match seen.line().as_str() {
            "POST /get-only" => reply(404),
            _ => reply(200).body(answer),
        })
        .await;
        let challenge = form.challenge.replace("{tokens}", &tokens.address.to_string());
        let server = Server::start(move |seen| match seen.header("authorization") {
            Some(value) if value == form.gets => manifest_reply(),
            _ => reply(401).header("WWW-Authenticate", &challenge),
        })
        .await;
        let name = form.name;
        let registry = match form.credentials {
            Some(credentials) => with_credentials(&server, credentials),
            None => registry(),
        };
        registry.resolve(&server.reference(":v1")).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let asked: Vec<_> = tokens
            .seen()
            .into_iter()
            .map(|seen| (seen.line(), seen.header("authorization").map(str::to_owned), seen.body))
            .collect();
        let basic = |text: &str| {
            use base64::Engine as _;
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
        };
        let expected: Vec<_> = form
            .asked
            .iter()
            .map(|(line, login, form)| {
                (line.replace("{scope}", SCOPE), login.map(basic), form.replace("{scope}", SCOPE))
            })
            .collect();
        assert_eq!(asked, expected, "{name}");
    }
}

/// One that only knows GET says so with any of four statuses; everything else it says is an answer.
#[tokio::test]
async fn an_exchange_that_is_not_known() {
    for (status, is_known) in
        [(400, false), (401, false), (404, false), (405, false), (403, true), (307, true)]
    {
        let inner = token_server(&["t1"], 401);
        let server = Server::start(move |seen| match seen.method.as_str() {
            "POST" => reply(status).header("Location", "/token-elsewhere"),
            _ => inner(seen),
        })
        .await;
        let credentials = Credentials::IdentityToken { username: None, token: "refresh".into() };
        let found = with_credentials(&server, credentials).resolve(&server.reference(":v1")).await;
        assert_eq!(found.is_err(), is_known, "{status}");
        assert_eq!(
            token_requests(&server).len(),
            if is_known { 1 } else { 2 },
            "{status}: {:?}",
            server.lines()
        );
    }
}
