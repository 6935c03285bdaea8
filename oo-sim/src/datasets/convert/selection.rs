//! Which rows of an original are kept, where a set is a sample of it.

use anyhow::{Context, Result, bail, ensure};

/// By the name in the set's rule.
static SELECTIONS: [(&str, &str); 1] = [("covertype.rows", include_str!("../../../../datasets/covertype.rows"))];

/// For each row of the original, whether it is kept. The last few may stand for no row: there are four to a digit.
pub(super) fn named(name: &str) -> Result<Vec<bool>> {
    let Some((_, text)) = SELECTIONS.iter().find(|(known, _)| *known == name) else {
        bail!("there is no selection of rows `{name}`")
    };
    parse(text).with_context(|| format!("selection of rows `{name}`"))
}

/// Hexadecimal digits, the first row in the highest bit; `#` begins a comment line.
fn parse(text: &str) -> Result<Vec<bool>> {
    let mut kept = Vec::with_capacity(4 * text.len());
    for digit in text.lines().filter(|line| !line.starts_with('#')).flat_map(str::chars) {
        let bits = digit
            .to_digit(16)
            .with_context(|| format!("expected a hexadecimal digit, got `{digit}`"))?;
        kept.extend((0..4).rev().map(|i| bits >> i & 1 == 1));
    }
    ensure!(!kept.is_empty(), "it holds no row");
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_rows() {
        assert_eq!(parse("# x\n9\n").unwrap(), [true, false, false, true]);
        assert!(parse("g").is_err() && parse("# x").is_err() && named("other").is_err());
        let covertype = named("covertype.rows").unwrap();
        assert_eq!(covertype.iter().filter(|&&kept| kept).count(), 60_000);
    }
}
