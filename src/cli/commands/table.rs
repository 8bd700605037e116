//! Columns that line up.

/// The widest that a column is made: a longer cell sticks out, and does not pad all others to its length.
const WIDEST: usize = 512;

/// The rows as lines: every column as wide as its widest cell, two spaces between them, none at the end. The columns
/// numbered in `right` have their cells at the right, as numbers should be.
pub(super) fn lines(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
            .min(WIDEST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names to the left, numbers to the right, nothing trailing.
    #[test]
    fn columns_line_up() {
        let rows = [["NAME", "SIZE", "X"], ["a", "1 B", ""], ["longer", "12.5 MiB", "x"]];
        let rows: Vec<Vec<String>> = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        assert_eq!(lines(&rows, &[1]), ["NAME        SIZE  X", "a            1 B", "longer  12.5 MiB  x"]);
        assert!(lines(&[], &[]).is_empty());
        // A list of what a hostile index declares may have any length.
        let long = "x".repeat(100_000);
        let rows = [vec![long.clone(), "a".to_owned()], vec!["b".to_owned(), "c".to_owned()]];
        let lines = lines(&rows, &[]);
        assert_eq!((lines[0].len(), lines[1].len()), (long.len() + 3, WIDEST + 3));
    }
}
