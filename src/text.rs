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

fn is_safe(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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

    /// A long text is cut, and says that it was.
    #[test]
    fn long_text_is_cut() {
        let shown = printable(&"é".repeat(300));
        assert_eq!(shown.chars().count(), SHOWN + 1);
        assert!(shown.ends_with('…'));
        assert_eq!(escape(&"é".repeat(300)).chars().count(), 300);
    }
}
