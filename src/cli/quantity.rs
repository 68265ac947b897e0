//! Sizes and lengths of time as people type them.

use std::time::Duration;

/// Reads a number of bytes: `4096`, `256MiB`, `1.5 GB`, `64K`. `KiB`, `K` and `k` are 1024 bytes, `KB` is 1000; the
/// same for M, G and T.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim().to_ascii_lowercase());
    let (prefix, base) = match unit.as_str() {
        "" | "b" => ("", 1024),
        other => match (other.strip_suffix("ib"), other.strip_suffix('b')) {
            (Some(prefix), _) => (prefix, 1024_u64),
            (None, Some(prefix)) => (prefix, 1000),
            (None, None) => (other, 1024),
        },
    };
    let power = match prefix {
        "" if unit.is_empty() || unit == "b" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong(text)),
    };
    let factor = base.pow(power);
    scaled(number, factor).ok_or_else(|| wrong(text))
}

/// Multiplies a decimal number by a factor without rounding a whole one.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor) / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// Reads a length of time: `90s`, `10m`, `1h30m`, `2 days`. Months and years have no fixed length and are refused.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let read =
        text.trim().parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    read.filter(|time| !time.is_zero())
        .ok_or_else(|| format!("'{text}' is not a length of time: write 90s, 10m or 1h30m"))
}

fn wrong(text: &str) -> String {
    format!("'{text}' is not a size: write a number and a unit, such as 256MiB, 1.5GB or 4096")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_all_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10b", 10),
            ("256MiB", 256 << 20),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("1 GiB", 1 << 30),
            ("1.5GB", 1_500_000_000),
            ("0.5t", 1 << 39),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "1e3",
            "12 parsecs",
            "1.2.3",
            "99999999TiB",
            "1.0000000001K",
            "ib",
            "1ib",
            ".5G",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
