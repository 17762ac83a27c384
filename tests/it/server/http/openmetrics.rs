//! A strict reader of OpenMetrics text: whatever the format's rules or Prometheus' rules of naming forbid fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// A page that kept every rule.
#[derive(Debug, Default)]
pub struct Page {
    pub families: Vec<Family>,
}

#[derive(Debug, Default)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub unit: Option<String>,
    pub help: String,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Page {
    /// Reads a whole page; `Err` is the first rule that is broken.
    pub fn read(text: &str) -> Result<Page, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
        let mut page = Page::default();
        for line in body.lines() {
            page.line(line).map_err(|why| format!("{why}, in the line {line:?}"))?;
        }
        let mut names = BTreeSet::new();
        for family in &page.families {
            if !names.insert(&family.name) {
                return Err(format!("the family {} comes twice", family.name));
            }
            family.check().map_err(|why| format!("{}: {why}", family.name))?;
        }
        Ok(page)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (word, name, rest) = (words.next(), words.next(), words.next());
            let (Some(word), Some(name), Some(rest)) = (word, name, rest) else { return Err("no metadata".into()) };
            if self.families.last().is_none_or(|family| family.name != name) {
                self.families.push(Family { name: name.to_owned(), ..Family::default() });
            }
            let family = self.families.last_mut().expect("just pushed");
            if !family.samples.is_empty() {
                return Err("metadata behind samples".into());
            }
            match word {
                "TYPE" if family.kind.is_empty() => family.kind = rest.to_owned(),
                "HELP" if family.help.is_empty() => family.help = rest.to_owned(),
                "UNIT" if family.unit.is_none() => family.unit = Some(rest.to_owned()),
                _ => return Err(format!("an unknown or repeated {word}")),
            }
            return Ok(());
        }
        let family = self.families.last_mut().ok_or("a sample without a family")?;
        family.samples.push(sample(line)?);
        Ok(())
    }

    /// The value of the one sample of this name with these labels, among others.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |sample: &&Sample| {
            let has = |(key, value): &(&str, &str)| sample.labels.get(*key).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        };
        let mut found = self.families.iter().flat_map(|family| &family.samples).filter(fits);
        let first = found.next()?;
        assert!(found.next().is_none(), "several samples of {name} {labels:?}");
        Some(first.value)
    }
}

/// `name{label="value",…} number`, with one space and nothing else.
fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").ok_or("a label without a value")?;
            let start = label.chars().next().is_some_and(|c| c.is_ascii_lowercase());
            if !start || !label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
                return Err(format!("the label {label:?}"));
            }
            let (value, after) = unescaped(value)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("the label {label} twice"));
            }
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}').ok_or("labels without an end")?;
                    break;
                }
            }
        }
    }
    let number = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let value = match number {
        "+Inf" => f64::INFINITY,
        number if number.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            number.parse().map_err(|_| format!("the value {number:?}"))?
        }
        other => return Err(format!("the value {other:?}")),
    };
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, and what is behind that.
fn unescaped(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('"' | '\\'))) => c,
                other => return Err(format!("the escape {other:?}")),
            }),
            c => value.push(c),
        }
    }
    Err("a label's value without an end".into())
}

/// Base units alone: https://prometheus.io/docs/practices/naming/.
const NO_UNITS: [&str; 12] = [
    "ms",
    "millis",
    "milliseconds",
    "micros",
    "microseconds",
    "minutes",
    "hours",
    "kb",
    "mb",
    "kib",
    "mib",
    "kilobytes",
];

impl Family {
    fn check(&self) -> Result<(), String> {
        let words: Vec<&str> = self.name.split('_').collect();
        let plain =
            |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !words.iter().all(plain) || !["walbrook", "process"].contains(&words[0]) {
            return Err("the name is not of walbrook_ or process_ and lower-case words".into());
        }
        if let Some(wrong) = words.iter().find(|word| NO_UNITS.contains(word) || **word == "total") {
            return Err(format!("the word {wrong} in the name"));
        }
        if self.help.is_empty() || self.help.ends_with('.') {
            return Err(format!("the help {:?}", self.help));
        }
        match (&self.unit, *words.last().expect("a word")) {
            (Some(unit), last) if unit != last => return Err(format!("its unit is {unit}, its name ends with {last}")),
            (None, "bytes" | "seconds") => return Err("it ends with a unit and has none".into()),
            _ => {}
        }
        let ends: &[&str] = match self.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_sum", "_count", "_bucket"],
            kind => return Err(format!("the type {kind:?}")),
        };
        let mut seen = Vec::new();
        for sample in &self.samples {
            let end = sample.name.strip_prefix(&self.name).filter(|end| ends.contains(end));
            let end = end.ok_or_else(|| format!("a sample {} of a {}", sample.name, self.kind))?;
            if seen.contains(&(&sample.name, &sample.labels)) {
                return Err(format!("{} {:?} comes twice", sample.name, sample.labels));
            }
            seen.push((&sample.name, &sample.labels));
            if sample.labels.contains_key("le") != (end == "_bucket") {
                return Err("le is of buckets alone".into());
            }
            let counts = end == "_total" || end == "_count" || end == "_bucket";
            if (counts && (sample.value < 0.0 || sample.value.is_infinite())) || (end == "_info" && sample.value != 1.0)
            {
                return Err(format!("{} is {}", sample.name, sample.value));
            }
        }
        if self.kind == "histogram" { self.check_buckets() } else { Ok(()) }
    }

    fn check_buckets(&self) -> Result<(), String> {
        let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        let of = |end: &'static str| self.samples.iter().filter(move |sample| sample.name.ends_with(end)).cloned();
        for mut sample in of("_bucket") {
            let bound = sample.labels.remove("le").expect("checked");
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| bound)? };
            series.entry(sample.labels).or_default().push((bound, sample.value));
        }
        for count in of("_count") {
            let buckets = series.get(&count.labels).ok_or("a count without buckets")?;
            let rises = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            if !rises || buckets.last() != Some(&(f64::INFINITY, count.value)) {
                return Err(format!("the buckets {buckets:?} of {}", count.value));
            }
        }
        let equally_many = of("_count").count() == series.len() && of("_sum").count() == series.len();
        equally_many.then_some(()).ok_or_else(|| "not a sum and a count to each".to_owned())
    }
}

#[test]
fn the_reader_is_strict() {
    let good = "# HELP walbrook_a_bytes A thing\n# TYPE walbrook_a_bytes counter\n# UNIT walbrook_a_bytes bytes\n\
                walbrook_a_bytes_total{t=\"x\\\"y\"} 5\n# EOF\n";
    let page = Page::read(good).unwrap();
    assert_eq!(page.value("walbrook_a_bytes_total", &[("t", "x\"y")]), Some(5.0));
    for (from, to) in [
        ("# EOF\n", ""),
        ("# EOF\n", "# EOF\n\n"),
        ("_total{", "{"),
        ("A thing", "A thing."),
        ("# UNIT walbrook_a_bytes bytes\n", ""),
        ("bytes bytes", "bytes seconds"),
        ("counter", "gauge"),
        ("counter", "untyped"),
        (" 5", " -5"),
        (" 5", "  5"),
        (" 5", " NaN"),
        ("t=", "T="),
        ("x\\\"y\"", "x\""),
        ("walbrook_a", "walbrook_A"),
        ("walbrook_a", "other_a"),
        ("walbrook_a", "walbrook_ms"),
        ("# EOF", "walbrook_a_bytes_total{t=\"x\\\"y\"} 6\n# EOF"),
        ("# TYPE walbrook_a_bytes counter\n", ""),
    ] {
        let wrong = good.replacen(from, to, if from == "walbrook_a" { 9 } else { 1 });
        let read = Page::read(&wrong);
        let harmless = from.starts_with("x\\"); // another value is another value
        assert_eq!(read.is_ok(), harmless, "{from:?} by {to:?}: {read:?}");
    }
    let histogram = "# HELP walbrook_a A thing\n# TYPE walbrook_a histogram\nwalbrook_a_sum 9.0\nwalbrook_a_count 3\n\
                     walbrook_a_bucket{le=\"1.0\"} 1\nwalbrook_a_bucket{le=\"+Inf\"} 3\n# EOF\n";
    assert!(Page::read(histogram).is_ok());
    for (from, to) in
        [("} 3", "} 2"), ("} 1", "} 4"), ("\"1.0\"", "\"x\""), ("walbrook_a_sum 9.0\n", ""), ("+Inf", "2.0")]
    {
        assert!(Page::read(&histogram.replacen(from, to, 1)).is_err(), "{from:?} by {to:?}");
    }
}
