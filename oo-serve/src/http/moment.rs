//! Times as they stand in requests.
//!
//! The grammar is RFC 3339's, with two shorter forms: without an offset it is the person's own clock, and a date alone
//! is its first minute. Leap seconds count as the second before.

use super::contract::When;

/// Reads `2026-11-24`, `2026-11-24T09:30`, `2026-11-24T09:30:00.5`, each of the latter with `Z` or `+01:00` behind.
pub fn parse(text: &str) -> Option<When> {
    let mut rest = Rest(text.as_bytes());
    let (year, month, day) = (rest.number(4)?, rest.after(b'-', 2)?, rest.after(b'-', 2)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    let midnight = days(year, month, day) * 86_400_000;
    if rest.0.is_empty() {
        return Some(When {
            local_ms: midnight,
            offset: None,
        });
    }
    if !(rest.eat(b'T') || rest.eat(b't') || rest.eat(b' ')) {
        return None;
    }
    let (hour, minute) = (rest.number(2)?, rest.after(b':', 2)?);
    let second = if rest.0.first() == Some(&b':') {
        rest.after(b':', 2)?
    } else {
        0
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut ms = 0;
    if rest.eat(b'.') {
        let digits = rest.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        ms = (0..3).fold(0, |ms, i| {
            ms * 10 + rest.0.get(i).filter(|_| i < digits).map_or(0, |b| i64::from(b - b'0'))
        });
        rest.0 = &rest.0[digits..];
    }
    let offset = if rest.0.is_empty() {
        None
    } else if rest.eat(b'Z') || rest.eat(b'z') {
        Some(0)
    } else {
        let sign = if rest.eat(b'-') { -1 } else { i32::from(rest.eat(b'+')) };
        let (hours, minutes) = (rest.number(2)?, rest.after(b':', 2)?);
        if sign == 0 || hours > 23 || minutes > 59 {
            return None;
        }
        Some(sign * (hours * 60 + minutes) as i32)
    };
    rest.0.is_empty().then_some(When {
        local_ms: midnight + (hour * 3600 + minute * 60 + second.min(59)) * 1000 + ms,
        offset,
    })
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let hit = self.0.first() == Some(&byte);
        self.0 = &self.0[usize::from(hit)..];
        hit
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        head.iter()
            .all(u8::is_ascii_digit)
            .then(|| head.iter().fold(0, |n, b| n * 10 + i64::from(b - b'0')))
    }

    fn after(&mut self, byte: u8, digits: usize) -> Option<i64> {
        self.eat(byte).then(|| self.number(digits))?
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar, from 1970 on.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let years = 365 * (year - 1970) + (before / 4 - before / 100 + before / 400) - 477;
    years + (1..month).map(|m| month_days(year, m)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_standard_shows() {
        // Seconds from `date -u -d TEXT +%s`.
        for (text, seconds, offset) in [
            ("1970-01-01", 0, None),
            ("2000-03-01T00:00:00Z", 951_868_800, Some(0)),
            ("2024-02-29T23:59:60Z", 1_709_251_199, Some(0)),
            ("2026-11-24T09:30:00+01:00", 1_795_509_000 + 3600, Some(60)),
            ("2026-11-24 09:30-05:30", 1_795_509_000 + 3600, Some(-330)),
            ("2026-11-24t09:30:00", 1_795_509_000 + 3600, None),
        ] {
            let when = parse(text).unwrap();
            assert_eq!((when.local_ms / 1000, when.offset), (seconds, offset), "{text}");
        }
        assert_eq!(parse("2026-11-24T09:30:00.25Z").unwrap().local_ms % 1000, 250);
        assert_eq!(parse("2026-11-24T09:30:00.123456Z").unwrap().local_ms % 1000, 123);
        assert_eq!(parse("2026-11-24T09:30:00+01:00").unwrap().utc_ms(0), 1_795_509_000_000);
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "now",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "2026-11-24T24:00:00Z",
            "2026-11-24T09:30:00.Z",
            "2026-11-24T09:30:00+1",
            "2026-11-24T",
            "1969-01-01",
            "2026-11-24T09:30:00Zx",
            "2026-11-24T09:30:00 01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_week_begins_on_monday() {
        let at = |text: &str| oo_core::tips::Moment::from_unix_ms(parse(text).unwrap().local_ms);
        assert_eq!((at("2026-11-23").weekday(), at("2026-11-29").weekday()), (0, 6));
        assert!((at("2026-11-24T18:30").hour() - 18.5).abs() < 1e-12);
    }
}
