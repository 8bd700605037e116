//! The `Link` header (RFC 8288), as far as listings need it: where the next page is. Pure.
//!
//! Registries, and what stands before them, write it in many ways: several links in one header (Harbor adds the previous
//! page), several headers, relations quoted or not and in any case, URLs with commas and semicolons in them. What
//! cannot be read as a link is passed over, and so is a link that is not about the page itself (`anchor`). Whether the
//! next page may be asked for is not decided here.

use url::Url;

/// The target of the first link whose relation is `next`, resolved against `base`, the URL that was answered with the
/// headers. `values` are all values of the header, each possibly with several links.
///
/// A fragment is dropped, for it is never sent. A target that is no URL counts as no link.
pub fn next<Value: AsRef<str>>(values: impl IntoIterator<Item = Value>, base: &Url) -> Option<Url> {
    values.into_iter().find_map(|value| next_of(value.as_ref(), base))
}

fn next_of(mut rest: &str, base: &Url) -> Option<Url> {
    while let Some((target, after)) = target(rest) {
        let (is_next, after) = parameters(after);
        if is_next && let Ok(mut url) = base.join(target) {
            url.set_fragment(None);
            return Some(url);
        }
        rest = after;
    }
    None
}

/// What stands in the next angle brackets, and what comes after them. Anything before them is no link.
fn target(text: &str) -> Option<(&str, &str)> {
    let (_, text) = text.split_once('<')?;
    let (target, after) = text.split_once('>')?;
    Some((target.trim(), after))
}

/// Whether the parameters at the start of `rest` make a link to the next page, and what comes after the comma that ends
/// them.
fn parameters(mut rest: &str) -> (bool, &str) {
    let mut relation = None;
    let mut is_about_the_page = true;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            break;
        }
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
            break;
        }
        let (name, value, after) = parameter(rest);
        // Only the first counts (RFC 8288, 3.3).
        if name.eq_ignore_ascii_case("rel") && relation.is_none() {
            relation = Some(value);
        } else if name.eq_ignore_ascii_case("anchor") {
            is_about_the_page = false;
        }
        rest = after;
    }
    let relation = relation.unwrap_or_default();
    let is_next = relation.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"));
    (is_next && is_about_the_page, rest)
}

/// A parameter's name and value, and what comes after it. `text` does not start with a separator.
fn parameter(text: &str) -> (&str, String, &str) {
    let (name, rest) = text.split_at(text.find([';', ',', '=']).unwrap_or(text.len()));
    let name = name.trim();
    let Some(value) = rest.strip_prefix('=') else { return (name, String::new(), rest) };
    let value = value.trim_start_matches([' ', '\t']);
    if let Some(quoted) = value.strip_prefix('"') {
        let (value, rest) = quoted_string(quoted);
        // What stands between the quote and the next separator is nothing that means anything.
        return (name, value, &rest[rest.find([';', ',']).unwrap_or(rest.len())..]);
    }
    let (value, rest) = value.split_at(value.find([';', ',']).unwrap_or(value.len()));
    (name, value.trim().to_owned(), rest)
}

/// The value of a quoted string after its opening quote, and what comes after the closing one.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: &str = "https://r.example/v2/a/b/tags/list?n=2";

    fn next_after(values: &[&str]) -> Option<String> {
        next(values, &Url::parse(BASE).unwrap()).map(String::from)
    }

    /// All ways of writing a link that registries and the RFC know lead to the same page.
    #[test]
    fn links_to_the_next_page() {
        let cases: [(&[&str], &str); 22] = [
            (&[r#"</v2/a/b/tags/list?last=x&n=2>; rel="next""#], "/v2/a/b/tags/list?last=x&n=2"),
            (&[r#"<https://r.example/v2/p>; rel="next""#], "/v2/p"),
            (&["</v2/p>;rel=next"], "/v2/p"),
            (&[r#"</v2/p>  ;  REL = "NEXT""#], "/v2/p"),
            (&[r#"</v2/p>; rel="prefetch Next""#], "/v2/p"),
            (&[r"</v2/p>; rel='next'", r#"</v2/q>; rel="next""#], "/v2/q"),
            (&[r#"</v2/p>; title="a, b; rel=\"prev\""; rel="next""#], "/v2/p"),
            (&[r#"</v2/p?last=a,b;c>; rel="next""#], "/v2/p?last=a,b;c"),
            (&[r#"</v2/o>; rel="prev" , </v2/p>; rel="next""#], "/v2/p"),
            (&[r#"</v2/o>; rel="prev",</v2/p>; rel="next""#], "/v2/p"),
            (&[r#"</v2/o>; rel="prev""#, r#"</v2/p>; rel="next""#], "/v2/p"),
            (&[r#"</v2/p>; rel="next""#, r#"</v2/q>; rel="next""#], "/v2/p"),
            (&[r#"</v2/p>; rel="next"; rel="prev""#], "/v2/p"),
            (&[r#"</v2/p>; rel="next"; title="unclosed"#], "/v2/p"),
            (&[r#"</v2/p>; crossorigin; rel="next""#], "/v2/p"),
            (&[r#"</v2/p>;;; rel="next";"#], "/v2/p"),
            (&[r#"</v2/p> rel="next""#], "/v2/p"),
            (&[r#", ,garbage, </v2/p>; rel="next""#], "/v2/p"),
            (&[r#"</v2/o>; title="</v2/x>; rel=next", </v2/p>; rel="next""#], "/v2/p"),
            (&[r#"<list?last=x>; rel="next""#], "/v2/a/b/tags/list?last=x"),
            (&[r#"<?n=2&last=x>; rel="next""#], "/v2/a/b/tags/list?n=2&last=x"),
            (&[r#"< /v2/p#f >; rel="next""#], "/v2/p"),
        ];
        for (values, expected) in cases {
            assert_eq!(next_after(values), Some(format!("https://r.example{expected}")), "{values:?}");
        }
    }

    /// Another origin is told as it is written: who asks for the page decides about it.
    #[test]
    fn targets_elsewhere() {
        let cases = [
            (r#"<http://r.example/v2/p>; rel="next""#, "http://r.example/v2/p"),
            (r#"<//other.example/v2/p>; rel="next""#, "https://other.example/v2/p"),
            (r#"<https://r.example:8443/v2/p>; rel="next""#, "https://r.example:8443/v2/p"),
        ];
        for (value, expected) in cases {
            assert_eq!(next_after(&[value]).as_deref(), Some(expected), "{value}");
        }
    }

    /// What is no link to the next page ends the listing; nothing of it is guessed at.
    #[test]
    fn no_next_page() {
        let cases: [&[&str]; 14] = [
            &[],
            &[""],
            &["</v2/p>"],
            &[r#"</v2/p>; rel="prev""#],
            &[r#"</v2/p>; rel="nextpage""#],
            &[r#"</v2/p>; rel="prev"; rel="next""#],
            &[r#"</v2/p>; title="rel=next""#],
            &[r#"</v2/p>; title="; rel=next; ", </v2/q>; rel=last"#],
            &[r#"</v2/p>; rel="next"; anchor="/v2/other""#],
            &[r#"/v2/p; rel="next""#],
            &[r#"</v2/p; rel="next""#],
            &[r#"<http://>; rel="next""#],
            &["</v2/p>; rel=", "</v2/p>; rel", "<>"],
            &["é<é>é=é\"é"],
        ];
        for values in cases {
            assert_eq!(next_after(values), None, "{values:?}");
        }
    }

    proptest! {
        /// Headers are whatever the far side writes: none makes the reader stumble, and a link behind other links is
        /// found.
        #[test]
        fn any_header_is_read(garbage in "([<>,;=\"\\\\ a-z/é]|rel|next){0,24}", title in "[ -!#-\\[\\]-~]{0,12}") {
            let base = Url::parse(BASE).unwrap();
            let _ = next([&garbage], &base);
            let link = format!("</v2/o>; title=\"{title}\"; rel=prev, </v2/p>; title=\"{title}\"; rel=next");
            prop_assert_eq!(next([link], &base).map(String::from), Some("https://r.example/v2/p".to_owned()));
        }
    }
}
