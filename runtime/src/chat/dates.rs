//! The date and time of a prompt: `strftime_now`, in local time.
//!
//! The letters are those of C's `strftime` in the C locale with the GNU flags, which is what Python gives on Linux:
//! `-` for no padding, `_` for spaces, `0` for zeros, `^` for capitals, `#` for the other case. A letter that C
//! does not know stays as it is written.

use jiff::ZonedDateTime;

use super::budget::{Budget, Result};
use super::text::{Text, TextBuilder};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The widest field: more is no date.
const MAX_WIDTH: usize = 1024;

/// The current time by `format`.
pub(super) fn now(budget: &Budget, format: &Text) -> Result<Text> {
    let mut out = TextBuilder::new(budget);
    budget.scan(format.len())?;
    // Who gives the format gives the text.
    out.push(&strftime(format.as_str(), &ZonedDateTime::now(), budget)?, format.has_content())?;
    out.finish()
}

fn strftime(format: &str, time: &ZonedDateTime, budget: &Budget) -> Result<String> {
    let mut text = String::new();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        budget.bytes(64)?;
        budget.steps(1)?;
        text.push_str(&rest[..percent]);
        let spec = &rest[percent..];
        let after_flags = spec[1..].trim_start_matches(['-', '_', '0', '^', '#']);
        let flags = &spec[1..spec.len() - after_flags.len()];
        let after_width = after_flags.trim_start_matches(|c: char| c.is_ascii_digit());
        let width = &after_flags[..after_flags.len() - after_width.len()];
        // C's other calendars and digits are the same in the C locale.
        let letter = after_width.strip_prefix(['E', 'O']).unwrap_or(after_width).chars().next();
        let Some(letter) = letter else {
            text.push_str(spec);
            return Ok(text);
        };
        let end = spec.len() - after_width.strip_prefix(['E', 'O']).unwrap_or(after_width).len()
            + letter.len_utf8();
        match field(letter, time, budget)? {
            Some((field, padding)) => {
                let width = width.parse().ok().map(|width: usize| width.min(MAX_WIDTH));
                budget.bytes(width.unwrap_or(0))?;
                text.push_str(&padded(field, padding, flags, width));
            }
            None => text.push_str(&spec[..end]),
        }
        rest = &spec[end..];
    }
    text.push_str(rest);
    Ok(text)
}

/// How a field is filled up to its width.
#[derive(Clone, Copy)]
enum Padding {
    None,
    Zeros(usize),
    Spaces(usize),
}

fn padded(field: String, padding: Padding, flags: &str, width: Option<usize>) -> String {
    let (mut fill, own_width) = match padding {
        Padding::None => (' ', 0),
        Padding::Zeros(width) => ('0', width),
        Padding::Spaces(width) => (' ', width),
    };
    let mut width = width.unwrap_or(own_width);
    let mut field = field;
    for flag in flags.chars() {
        match flag {
            '-' => width = 0,
            '_' => fill = ' ',
            '0' => fill = '0',
            '^' => field = field.to_uppercase(),
            _ if field.chars().any(char::is_lowercase) => field = field.to_uppercase(),
            _ => field = field.to_lowercase(),
        }
    }
    let missing = width.saturating_sub(field.chars().count());
    // Zeros come after a sign.
    let sign = usize::from(fill == '0' && field.starts_with(['+', '-']));
    let (sign, digits) = field.split_at(sign);
    let filling = std::iter::repeat_n(fill, missing);
    sign.chars().chain(filling).chain(digits.chars()).collect()
}

/// What a letter stands for, and how it is filled up.
fn field(letter: char, time: &ZonedDateTime, budget: &Budget) -> Result<Option<(String, Padding)>> {
    let number = |value: i64, width: usize| Some((value.to_string(), Padding::Zeros(width)));
    let spaced = |value: i64| Some((value.to_string(), Padding::Spaces(2)));
    let word = |word: &str| Some((word.to_string(), Padding::None));
    let whole = |format: &str| strftime(format, time, budget).map(|text| Some((text, Padding::None)));
    let year = i64::from(time.year());
    let (hour, minute, second) = (i64::from(time.hour()), i64::from(time.minute()), i64::from(time.second()));
    let hour_of_12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let day_of_year = i64::from(time.day_of_year());
    let month = MONTHS[time.month() as usize - 1];
    // Counted from Sunday.
    let weekday = i64::from(time.weekday().to_sunday_zero_offset());
    let day = DAYS[weekday as usize];
    let iso = time.date().iso_week_date();
    Ok(match letter {
        '%' => word("%"),
        'n' => word("\n"),
        't' => word("\t"),
        'a' => word(&day[..3]),
        'A' => word(day),
        'b' | 'h' => word(&month[..3]),
        'B' => word(month),
        'c' => whole("%a %b %e %H:%M:%S %Y")?,
        'C' => number(year.div_euclid(100), 2),
        'd' => number(time.day().into(), 2),
        'D' | 'x' => whole("%m/%d/%y")?,
        'e' => spaced(time.day().into()),
        'F' => whole("%Y-%m-%d")?,
        'g' => number(i64::from(iso.year()).rem_euclid(100), 2),
        'G' => number(iso.year().into(), 1),
        'H' => number(hour, 2),
        'I' => number(hour_of_12, 2),
        'j' => number(day_of_year, 3),
        'k' => spaced(hour),
        'l' => spaced(hour_of_12),
        'm' => number(time.month().into(), 2),
        'M' => number(minute, 2),
        'p' => word(if hour < 12 { "AM" } else { "PM" }),
        'P' => word(if hour < 12 { "am" } else { "pm" }),
        'r' => whole("%I:%M:%S %p")?,
        'R' => whole("%H:%M")?,
        's' => number(time.timestamp().as_second(), 1),
        'S' => number(second, 2),
        'T' | 'X' => whole("%H:%M:%S")?,
        'u' => number(if weekday == 0 { 7 } else { weekday }, 1),
        // Weeks begin on Sunday or on Monday; days before the first are in week 0.
        'U' => number((day_of_year + 6 - weekday) / 7, 2),
        'V' => number(iso.week().into(), 2),
        'w' => number(weekday, 1),
        'W' => number((day_of_year + 6 - (weekday + 6) % 7) / 7, 2),
        'y' => number(year.rem_euclid(100), 2),
        'Y' => number(year, 1),
        // The time that Hugging Face gives has no zone, for which Python writes nothing.
        'z' | 'Z' => word(""),
        // Microseconds: Python's own.
        'f' => number(i64::from(time.subsec_nanosecond()) / 1000, 6),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    /// Seconds since 1970, the zone, a format, and what C's `strftime` makes of it there.
    #[test]
    fn dates_are_those_of_c_in_local_time() {
        const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
        const INDIA: &str = "IST-5:30";
        let cases = [
            (0, "UTC0", "%Y-%m-%d %A", "1970-01-01 Thursday"),
            (951_782_400, "UTC0", "%d %b %Y", "29 Feb 2000"),
            (951_868_800, "UTC0", "%a, %B %d", "Wed, March 01"),
            (4_102_444_799, "UTC0", "%Y-%m-%d %H:%M:%S", "2099-12-31 23:59:59"),
            (
                1_700_000_000,
                NEW_YORK,
                "%a|%A|%b|%h|%B|%c|%C|%d|%D|%e|%F",
                "Tue|Tuesday|Nov|Nov|November|Tue Nov 14 17:13:20 2023|20|14|11/14/23|14|2023-11-14",
            ),
            (
                1_700_000_000,
                NEW_YORK,
                "%g|%G|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P",
                "23|2023|17|05|318|17| 5|11|13|\n|PM|pm",
            ),
            (
                1_700_000_000,
                NEW_YORK,
                "%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
                "05:13:20 PM|17:13|1700000000|20|\t|17:13:20|2|46|46|2|46|11/14/23|17:13:20|23|2023|%",
            ),
            (
                1_700_000_000,
                NEW_YORK,
                "%-d|%_d|%05d|%^a|%#p|%-j|%10Y|%_5m|%Ey|%Od|%-I|%^B|%#B",
                "14|14|00014|TUE|pm|318|0000002023|   11|23|14|5|NOVEMBER|NOVEMBER",
            ),
            (
                1_720_000_000,
                NEW_YORK,
                "%a|%A|%b|%h|%B|%c|%C|%d|%D|%e|%F",
                "Wed|Wednesday|Jul|Jul|July|Wed Jul  3 05:46:40 2024|20|03|07/03/24| 3|2024-07-03",
            ),
            (
                1_720_000_000,
                NEW_YORK,
                "%g|%G|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P",
                "24|2024|05|05|185| 5| 5|07|46|\n|AM|am",
            ),
            (
                1_720_000_000,
                NEW_YORK,
                "%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
                "05:46:40 AM|05:46|1720000000|40|\t|05:46:40|3|26|27|3|27|07/03/24|05:46:40|24|2024|%",
            ),
            (
                1_720_000_000,
                NEW_YORK,
                "%-d|%_d|%05d|%^a|%#p|%-j|%10Y|%_5m|%Ey|%Od|%-I|%^B|%#B",
                "3| 3|00003|WED|am|185|0000002024|    7|24|03|5|JULY|JULY",
            ),
            (
                1_735_689_599,
                INDIA,
                "%a|%A|%b|%h|%B|%c|%C|%d|%D|%e|%F",
                "Wed|Wednesday|Jan|Jan|January|Wed Jan  1 05:29:59 2025|20|01|01/01/25| 1|2025-01-01",
            ),
            (
                1_735_689_599,
                INDIA,
                "%g|%G|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P",
                "25|2025|05|05|001| 5| 5|01|29|\n|AM|am",
            ),
            (
                1_735_689_599,
                INDIA,
                "%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
                "05:29:59 AM|05:29|1735689599|59|\t|05:29:59|3|00|01|3|00|01/01/25|05:29:59|25|2025|%",
            ),
            (
                1_735_689_599,
                INDIA,
                "%-d|%_d|%05d|%^a|%#p|%-j|%10Y|%_5m|%Ey|%Od|%-I|%^B|%#B",
                "1| 1|00001|WED|am|1|0000002025|    1|25|01|5|JANUARY|JANUARY",
            ),
            (
                1_609_459_200,
                INDIA,
                "%a|%A|%b|%h|%B|%c|%C|%d|%D|%e|%F",
                "Fri|Friday|Jan|Jan|January|Fri Jan  1 05:30:00 2021|20|01|01/01/21| 1|2021-01-01",
            ),
            (
                1_609_459_200,
                INDIA,
                "%g|%G|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P",
                "20|2020|05|05|001| 5| 5|01|30|\n|AM|am",
            ),
            (
                1_609_459_200,
                INDIA,
                "%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
                "05:30:00 AM|05:30|1609459200|00|\t|05:30:00|5|00|53|5|00|01/01/21|05:30:00|21|2021|%",
            ),
            (
                1_609_459_200,
                INDIA,
                "%-d|%_d|%05d|%^a|%#p|%-j|%10Y|%_5m|%Ey|%Od|%-I|%^B|%#B",
                "1| 1|00001|FRI|am|1|0000002021|    1|21|01|5|JANUARY|JANUARY",
            ),
            (
                1_704_063_600,
                NEW_YORK,
                "%a|%A|%b|%h|%B|%c|%C|%d|%D|%e|%F",
                "Sun|Sunday|Dec|Dec|December|Sun Dec 31 18:00:00 2023|20|31|12/31/23|31|2023-12-31",
            ),
            (
                1_704_063_600,
                NEW_YORK,
                "%g|%G|%H|%I|%j|%k|%l|%m|%M|%n|%p|%P",
                "23|2023|18|06|365|18| 6|12|00|\n|PM|pm",
            ),
            (
                1_704_063_600,
                NEW_YORK,
                "%r|%R|%s|%S|%t|%T|%u|%U|%V|%w|%W|%x|%X|%y|%Y|%%",
                "06:00:00 PM|18:00|1704063600|00|\t|18:00:00|7|53|52|0|52|12/31/23|18:00:00|23|2023|%",
            ),
            (
                1_704_063_600,
                NEW_YORK,
                "%-d|%_d|%05d|%^a|%#p|%-j|%10Y|%_5m|%Ey|%Od|%-I|%^B|%#B",
                "31|31|00031|SUN|pm|365|0000002023|   12|23|31|6|DECEMBER|DECEMBER",
            ),
            (0, "UTC0", "100%% %Q %", "100% %Q %"),
            (0, "UTC0", "[%z%Z]", "[]"),
            (0, "UTC0", "%f", "000000"),
        ];
        for (seconds, zone, format, expected) in cases {
            let zone_of = TimeZone::posix(zone).unwrap();
            let time = Timestamp::from_second(seconds).unwrap().to_zoned_datetime(zone_of);
            let budget = Budget::new(0);
            assert_eq!(
                strftime(format, &time, &budget).unwrap(),
                expected,
                "{format} at {seconds} in {zone}"
            );
        }
    }

    #[test]
    fn no_width_makes_a_date_long() {
        let budget = Budget::new(0);
        let time = ZonedDateTime::now();
        assert!(strftime("%999999999999Y%99999Y", &time, &budget).unwrap().len() < 4096);
        assert!(strftime(&"%1000Y".repeat(100_000), &time, &budget).is_err());
    }
}
