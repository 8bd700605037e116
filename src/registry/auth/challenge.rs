//! `WWW-Authenticate`, read as registries write it (RFC 9110 section 11.6.1). Pure.
//!
//! The grammar is ambiguous (a comma separates parameters and challenges alike) and registries bend it, so this reads
//! what is there and never fails: white space anywhere, empty elements and values, values that ought to be quoted and
//! are not, missing commas. An element that makes no sense is skipped, and what stands before and after it counts.

/// One challenge: a scheme and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme in lower case: `bearer`, `basic`.
    pub scheme: String,
    /// The parameters as written, their names in lower case.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Every challenge in the values of all `WWW-Authenticate` lines of one answer, in order. A line's parameters never
    /// belong to the challenge of another line.
    ///
    /// ```
    /// use ocipull::registry::auth::Challenge;
    ///
    /// let found = Challenge::parse_all([r#"Basic realm="r", BEARER Realm="https://a/token" ,service=s"#]);
    /// assert_eq!(found[1].scheme, "bearer");
    /// assert_eq!(found[1].parameter("realm"), Some("https://a/token"));
    /// ```
    pub fn parse_all<V: AsRef<str>>(values: impl IntoIterator<Item = V>) -> Vec<Self> {
        values.into_iter().flat_map(|value| parse_line(value.as_ref())).collect()
    }

    /// The value of a parameter (`name` in lower case). Of a repeated one the last counts, as it does for Docker.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn parse_line(line: &str) -> Vec<Challenge> {
    let mut rest = Rest(line);
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        rest.skip(|c| c.is_ascii_whitespace() || c == ',');
        if rest.0.is_empty() {
            return found;
        }
        let word = rest.take(is_token);
        if word.is_empty() {
            rest.skip_element();
            continue;
        }
        let after = Rest(rest.0.trim_start());
        if let Some(value) = after.0.strip_prefix('=') {
            rest = Rest(value.trim_start());
            let value = rest.value();
            if let (Some(challenge), Some(value)) = (found.last_mut(), value) {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
            }
        } else if !rest.0.is_empty() && !rest.0.starts_with(|c: char| c.is_ascii_whitespace() || c == ',') {
            // No scheme ends in such a character: it is a parameter with a malformed name.
            rest.skip_element();
        } else {
            found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest.skip_token68();
        }
    }
}

/// What is left of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(wanted);
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !wanted(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    /// Skips to the next comma outside of quotes.
    fn skip_element(&mut self) {
        while let Some(c) = self.0.chars().next() {
            match c {
                ',' => return,
                '"' => {
                    self.quoted();
                }
                _ => self.0 = &self.0[c.len_utf8()..],
            }
        }
    }

    /// Skips what a scheme may have instead of parameters, `Negotiate YWJj==`: a word that is followed by nothing or
    /// by a comma, and is not the name of a parameter with an empty value.
    fn skip_token68(&mut self) {
        let mut ahead = Rest(self.0.trim_start());
        let word = ahead.take(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
        let padding = ahead.take(|c| c == '=');
        ahead.skip(|c| c.is_ascii_whitespace());
        let ends = ahead.0.is_empty() || ahead.0.starts_with(',');
        if !word.is_empty() && padding.len() != 1 && ends {
            *self = ahead;
        }
    }

    /// A parameter's value: quoted, or everything up to a comma or white space (a bare URL is no token, and registries
    /// write them). `None` when the quotes do not end.
    fn value(&mut self) -> Option<String> {
        if self.0.starts_with('"') {
            return self.quoted();
        }
        Some(self.take(|c| c != ',' && !c.is_ascii_whitespace()).to_owned())
    }

    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut characters = self.0.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        self.0 = "";
        None
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A challenge as one line: `scheme name=value|name=value`.
    fn shown(lines: &[&str]) -> Vec<String> {
        Challenge::parse_all(lines)
            .into_iter()
            .map(|challenge| {
                let parameters: Vec<String> =
                    challenge.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {}", challenge.scheme, parameters.join("|")).trim_end().to_owned()
            })
            .collect()
    }

    /// What registries send, what the grammar allows, and what neither does.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn challenge_table() {
        let cases: &[(&[&str], &[&str])] = &[
            // A parameter with a malformed name is passed over, and is no scheme of its own.
            (&[r#"Bearer realm="https://a/t",b@d="x",service="s""#], &["bearer realm=https://a/t|service=s"]),
            // In the wild: Docker Hub, ghcr, quay, GitLab, ECR, ACR, Harbor, Artifactory, Nexus, Gitea.
            (
                &[r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#],
                &["bearer realm=https://auth.docker.io/token|service=registry.docker.io"],
            ),
            (
                &[r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:u/i:pull""#],
                &["bearer realm=https://ghcr.io/token|service=ghcr.io|scope=repository:u/i:pull"],
            ),
            (
                &[r#"Bearer realm="https://quay.io/v2/auth",service="quay.io",error="insufficient_scope""#],
                &["bearer realm=https://quay.io/v2/auth|service=quay.io|error=insufficient_scope"],
            ),
            (
                &[
                    r#"Bearer realm="https://g/jwt/auth",service="container_registry",scope="repository:a/b:pull,push""#,
                ],
                &[
                    "bearer realm=https://g/jwt/auth|service=container_registry|scope=repository:a/b:pull,push",
                ],
            ),
            (
                &[r#"Basic realm="https://1.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#],
                &["basic realm=https://1.dkr.ecr.eu-west-1.amazonaws.com/|service=ecr.amazonaws.com"],
            ),
            (
                &[
                    r#"Bearer realm="https://x.azurecr.io/oauth2/token",service="x.azurecr.io""#,
                    r#"Basic realm="x""#,
                ],
                &["bearer realm=https://x.azurecr.io/oauth2/token|service=x.azurecr.io", "basic realm=x"],
            ),
            (
                &[r#"Bearer realm="https://h/service/token",service="harbor-registry""#],
                &["bearer realm=https://h/service/token|service=harbor-registry"],
            ),
            (&[r#"Basic realm="Artifactory Realm""#], &["basic realm=Artifactory Realm"]),
            (
                &[r#"BASIC realm="Sonatype Nexus Repository Manager""#],
                &["basic realm=Sonatype Nexus Repository Manager"],
            ),
            (
                &[r#"Bearer realm="https://t/v2/token",service="container_registry",scope="*""#],
                &["bearer realm=https://t/v2/token|service=container_registry|scope=*"],
            ),
            // Several schemes in one line and over lines.
            (&[r#"Basic realm="a", Bearer realm="b""#], &["basic realm=a", "bearer realm=b"]),
            (
                &[r#"Bearer realm="b",service="s", Basic realm="a""#],
                &["bearer realm=b|service=s", "basic realm=a"],
            ),
            (&["Negotiate", "NTLM", r#"Basic realm="a""#], &["negotiate", "ntlm", "basic realm=a"]),
            (&[r#"Negotiate, Basic realm="a""#], &["negotiate", "basic realm=a"]),
            (&[r#"Negotiate YWJj, Basic realm="a""#], &["negotiate", "basic realm=a"]),
            (&[r#"Negotiate YWJj==, Basic realm="a""#], &["negotiate", "basic realm=a"]),
            (&["Negotiate YWJjZA/+~"], &["negotiate"]),
            (
                &[r#"Digest realm="d", nonce="n", qop="auth,auth-int", Basic realm="a""#],
                &["digest realm=d|nonce=n|qop=auth,auth-int", "basic realm=a"],
            ),
            (
                &[r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple""#],
                &["newauth realm=apps|type=1|title=Login to \"apps\"", "basic realm=simple"],
            ),
            (&[r#"Basic Bearer realm="x""#], &["basic", "bearer realm=x"]),
            // White space.
            (&[r#"  Bearer   realm="a"  ,  service="b"  "#], &["bearer realm=a|service=b"]),
            (&["Bearer\trealm=\"a\",\tservice=\"b\""], &["bearer realm=a|service=b"]),
            (&[r#"Bearer realm = "a" , service= "b",scope ="c""#], &["bearer realm=a|service=b|scope=c"]),
            (&[r#"Bearer realm="a" service="b""#], &["bearer realm=a|service=b"]),
            (&[r#",,Bearer ,realm="a",, ,service="b",,"#], &["bearer realm=a|service=b"]),
            // Case.
            (&[r#"bearer REALM="a",Service="B""#], &["bearer realm=a|service=B"]),
            // Values.
            (&[r#"Bearer realm="a",service="",scope="""#], &["bearer realm=a|service=|scope="]),
            (&["Bearer realm=,service=x"], &["bearer realm=|service=x"]),
            (&["Bearer realm="], &["bearer realm="]),
            (
                &["Bearer realm=https://a.example:5001/token?x=y,service=s"],
                &["bearer realm=https://a.example:5001/token?x=y|service=s"],
            ),
            (&[r#"Bearer realm="a,b=c \\ \"d\"",service=s"#], &[r#"bearer realm=a,b=c \ "d"|service=s"#]),
            (&[r#"Bearer realm="https:\/\/a\/token""#], &["bearer realm=https://a/token"]),
            (&[r#"Bearer realm="naïve 日本""#], &["bearer realm=naïve 日本"]),
            (&[r#"Bearer realm="a",realm="b""#], &["bearer realm=a|realm=b"]),
            (&[r#"Bearer x-y_z.1="v""#], &["bearer x-y_z.1=v"]),
            // Malformed, without harm to the others.
            (&[r#"Bearer realm="never ends"#, r#"Basic realm="a""#], &["bearer", "basic realm=a"]),
            (&[r#"Basic realm="a", Bearer realm="never ends"#], &["basic realm=a", "bearer"]),
            (&[r#"Bearer @@@, Basic realm="a""#], &["bearer", "basic realm=a"]),
            (&[r#"Bearer realm="a", @"x,y"@, service="b""#], &["bearer realm=a|service=b"]),
            (
                &[r#"Bearer realm="a"garbage, service="b""#, r#"Basic realm="r""#],
                &["bearer realm=a", "garbage service=b", "basic realm=r"],
            ),
            (&[r#"realm="nobody's", Basic realm="a""#], &["basic realm=a"]),
            (&[r#"="x", Basic realm="a""#], &["basic realm=a"]),
            (&[r#"{"error": "x, y"}, Basic realm="a""#], &["basic realm=a"]),
            (&["Bearer \\"], &["bearer"]),
            (&["Bearer realm=\"a\\"], &["bearer"]),
            (&[""], &[]),
            (&[",", " ", "\""], &[]),
            (&["日本"], &[]),
            (&[], &[]),
        ];
        assert!(cases.len() >= 40);
        for (lines, expected) in cases {
            assert_eq!(shown(lines), *expected, "{lines:?}");
        }
    }

    /// Of a repeated parameter the last one counts.
    #[test]
    fn the_last_of_repeated_parameters_counts() {
        let found = Challenge::parse_all([r#"Bearer realm="a",realm="b""#]);
        assert_eq!(found[0].parameter("realm"), Some("b"));
        assert_eq!(found[0].parameter("service"), None);
    }
}
