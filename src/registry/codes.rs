//! What a registry or a token service says about a refusal (distribution spec, "Error Codes"). Texts from the far side are
//! capped and escaped.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::keyed::Keyed;
use crate::text::printable;

/// One entry of a registry's error body (distribution spec, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The code, as `MANIFEST_UNKNOWN`; capped and escaped.
    pub code: String,
    /// The message; capped and escaped.
    pub message: String,
    /// The detail as JSON text; capped and escaped.
    pub detail: Option<String>,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.code, &self.message].into_iter().filter(|part| !part.is_empty());
        f.write_str(&parts.map(String::as_str).collect::<Vec<_>>().join(": "))?;
        self.detail.iter().try_for_each(|detail| write!(f, " ({detail})"))
    }
}

/// How many entries of an error body are kept.
const CODES: usize = 8;

impl Code {
    /// The entries of an error body: `{"errors": [...]}`, and what token services write (`{"error": ...}`,
    /// `{"details": ...}`, `{"message": ...}`). A body of another form has none.
    pub(super) fn parse(body: &[u8]) -> Vec<Self> {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return Vec::new() };
        if let Some(Value::Array(errors)) = body.get("errors") {
            return errors.iter().filter_map(Self::entry).take(CODES).collect();
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(printable);
        let code = text("error").or_else(|| text("code")).unwrap_or_default();
        let message =
            ["error_description", "details", "message"].into_iter().find_map(text).unwrap_or_default();
        let any = !code.is_empty() || !message.is_empty();
        any.then_some(Self { code, message, detail: None }).into_iter().collect()
    }

    fn entry(entry: &Value) -> Option<Self> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Entry {
            code: Value,
            message: Value,
            detail: Value,
        }
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => printable(text),
            other => printable(&other.to_string()),
        };
        let Keyed(entry) = Keyed::<Entry>::deserialize(entry).ok()?;
        let is_empty = |value: &Value| match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        let detail = (!is_empty(&entry.detail)).then(|| text(&entry.detail));
        Some(Self { code: text(&entry.code), message: text(&entry.message), detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(body: &str) -> Vec<String> {
        Code::parse(body.as_bytes()).iter().map(ToString::to_string).collect()
    }

    /// Registries, token services and proxies all write their own bodies.
    #[test]
    fn error_bodies() {
        let cases: [(&str, &[&str]); 10] = [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                &[r#"MANIFEST_UNKNOWN: manifest unknown ({"Tag":"x"})"#],
            ),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, &["A", "b"]),
            (r#"{"errors":[{"code":404,"message":null,"detail":[]}]}"#, &["404"]),
            (r#"{"errors":[{"code":"A","message":"x\u001b[2J"}]}"#, &["A: x\\u{1b}[2J"]),
            (r#"{"errors":["text", ["A", "b"]]}"#, &[]),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, &["invalid_grant: expired"]),
            (r#"{"details":"incorrect username or password"}"#, &["incorrect username or password"]),
            ("<html>502</html>", &[]),
            ("[]", &[]),
            ("", &[]),
        ];
        for (body, expected) in cases {
            assert_eq!(codes(body), expected, "{body}");
        }
    }
}
