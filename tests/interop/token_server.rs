//! A token service as docker-registry wants one: JSON web tokens for who knows the password, signed with the key whose
//! certificate the registry was given.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

const SERVICE: &str = "registry.interop";
const ISSUER: &str = "interop";

pub(crate) struct TokenServer {
    address: String,
    folder: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    authorization: String,
    signer: Signer,
    is_open: AtomicBool,
    issued: AtomicU32,
    /// Repositories whose tokens are good for another one: what was asked for, and what is given.
    confused: Mutex<Option<(String, String)>>,
}

impl TokenServer {
    /// Starts one that knows one user.
    pub(crate) fn start(user: &str, password: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (signer, certificate) = Signer::new();
        std::fs::write(folder.path().join("root.pem"), certificate).expect("the certificate is written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            authorization: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            signer,
            is_open: AtomicBool::new(true),
            issued: AtomicU32::new(0),
            confused: Mutex::new(None),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !serving.is_open.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.answer(client));
            }
        });
        Self { address, folder, shared }
    }

    /// The section of docker-registry's configuration that makes it demand these tokens.
    pub(crate) fn section(&self) -> String {
        let bundle: PathBuf = self.folder.path().join("root.pem");
        format!(
            "auth: {{token: {{realm: 'http://{}/token', service: {SERVICE}, issuer: {ISSUER}, rootcertbundle: '{}'}}}}\n",
            self.address,
            bundle.display()
        )
    }

    /// A token to read one repository.
    pub(crate) fn token_for(&self, repository: &str) -> String {
        self.shared.signer.token(&[access(repository, &["pull"])])
    }

    /// From now on who asks for one repository gets a token for another.
    pub(crate) fn confuse(&self, asked: &str, given: &str) {
        *self.shared.confused() = Some((asked.to_owned(), given.to_owned()));
    }

    /// How many tokens were given out.
    pub(crate) fn issued(&self) -> u32 {
        self.shared.issued.load(Ordering::SeqCst)
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.shared.is_open.store(false, Ordering::SeqCst);
        // Wakes the thread that accepts, so that it ends.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn confused(&self) -> std::sync::MutexGuard<'_, Option<(String, String)>> {
        self.confused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut client: TcpStream) {
        let Some((target, authorization)) = read_request(&client) else { return };
        let (status, body) = if authorization.as_deref() == Some(self.authorization.as_str()) {
            self.issued.fetch_add(1, Ordering::SeqCst);
            let token = self.signer.token(&self.accesses(&target));
            ("200 OK", json!({ "token": token, "expires_in": 300 }))
        } else {
            ("401 Unauthorized", json!({ "details": "incorrect username or password" }))
        };
        let body = body.to_string();
        let _ = write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }

    /// What a request may have: all that it asks for, except where the server is confused.
    fn accesses(&self, target: &str) -> Vec<Value> {
        let url = url::Url::parse("http://localhost").and_then(|base| base.join(target)).expect("a target");
        assert!(url.query_pairs().any(|(name, value)| name == "service" && value == SERVICE), "{target}");
        let confused = self.confused().clone();
        let scopes = url.query_pairs().filter(|(name, _)| name == "scope");
        let mut accesses = Vec::new();
        for (_, scope) in scopes {
            let mut parts = scope.splitn(3, ':');
            let (Some("repository"), Some(name), Some(actions)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let given = confused.as_ref().filter(|(asked, _)| asked == name).map_or(name, |(_, given)| given);
            accesses.push(access(given, &actions.split(',').collect::<Vec<_>>()));
        }
        accesses
    }
}

fn access(repository: &str, actions: &[&str]) -> Value {
    json!({ "type": "repository", "name": repository, "actions": actions })
}

/// The target of a GET and its authorization; `None` for what is no GET, which is closed without an answer.
fn read_request(client: &TcpStream) -> Option<(String, Option<String>)> {
    let mut lines = BufReader::new(client).lines().map_while(Result::ok);
    let first = lines.next()?;
    let target = first.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let mut authorization = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.trim().to_owned());
        }
    }
    Some((target, authorization))
}

/// Signs with ES256. The certificate goes along in the header (`x5c`), which docker-registry holds against its bundle.
struct Signer {
    key: EcdsaKeyPair,
    header: String,
}

impl Signer {
    /// A key, and its certificate in PEM.
    fn new() -> (Self, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate");
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(certificate.der())] });
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der(), &random)
            .expect("rcgen's keys are of P-256");
        (Self { key, header: URL_SAFE_NO_PAD.encode(header.to_string()) }, certificate.pem())
    }

    fn token(&self, access: &[Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": "someone", "aud": SERVICE, "jti": "1",
            "iat": now, "nbf": now - 10, "exp": now + 300, "access": access,
        });
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
