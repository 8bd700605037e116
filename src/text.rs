//! Text that came from outside, made fit for a terminal and a log.
//!
//! Registries, manifests and index files hold whatever somebody wrote there. Control characters would drive the
//! reader's terminal, direction marks would show a name other than the one that is meant, and a megabyte of message
//! would hide the error; so every such text passes [`printable`] on its way into a message.

/// How many characters of one outside text a message shows.
pub const SHOWN: usize = 256;

/// `text` with its control and direction characters escaped, cut after [`SHOWN`] characters (an ellipsis says so).
pub fn printable(text: &str) -> String {
    let mut shown = escaped(text.chars().take(SHOWN));
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// `text` with its control and direction characters escaped, at its full length.
pub fn escape(text: &str) -> String {
    escaped(text.chars())
}

fn escaped(characters: impl Iterator<Item = char>) -> String {
    let mut shown = String::new();
    for character in characters {
        if is_safe(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

/// What moves the cursor, turns the line's direction or cannot be seen: two names that look alike are to be two names.
/// The characters that Unicode calls default-ignorable, line separators, interlinear annotations and the blank of braille.
fn is_safe(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message cannot move the cursor, retitle the window or turn the line's direction.
    #[test]
    fn what_drives_a_terminal_is_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\u{202e}c\u{9b}1m"), "a\\u{1b}[2Jb\\r\\n\\u{202e}c\\u{9b}1m");
        assert_eq!(printable("naïve — 日本 \"x\""), "naïve — 日本 \"x\"");
    }

    /// Nothing that Unicode says is not seen, or turns a line around, is shown as it is; all that is seen is.
    #[test]
    fn what_cannot_be_seen_is_escaped() {
        let hidden =
            r"[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\u{fff9}-\u{fffb}\u{2800}]";
        let hidden = regex::Regex::new(hidden).unwrap();
        for character in '\0'..=char::MAX {
            let is_hidden = hidden.is_match(character.encode_utf8(&mut [0; 4]));
            assert_eq!(is_safe(character), !is_hidden, "{character:?}");
        }
    }

    /// A long text is cut, and says that it was.
    #[test]
    fn long_text_is_cut() {
        let shown = printable(&"é".repeat(300));
        assert_eq!(shown.chars().count(), SHOWN + 1);
        assert!(shown.ends_with('…'));
        assert_eq!(escape(&"é".repeat(300)).chars().count(), 300);
    }
}
