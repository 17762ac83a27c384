//! Collations by name, and what character sets make of them. Names are those of the servers of today: `utf8` of older ones
//! is `utf8mb3`.

use std::borrow::Cow;

use crate::wire::mysql::value::Charset;

/// The collation of a character set that is given none, before any session setting; `None` for one nobody has.
pub(super) fn default_of(charset: &str, mysql: bool) -> Option<Cow<'static, str>> {
    Some(match charset {
        "utf8mb4" if mysql => "utf8mb4_0900_ai_ci".into(),
        "binary" => "binary".into(),
        "big5" | "gb2312" | "gbk" | "gb18030" => format!("{charset}_chinese_ci").into(),
        "dec8" | "latin1" | "swe7" => format!("{charset}_swedish_ci").into(),
        "ujis" | "sjis" | "cp932" | "eucjpms" => format!("{charset}_japanese_ci").into(),
        "hp8" => "hp8_english_ci".into(),
        "tis620" => "tis620_thai_ci".into(),
        "euckr" => "euckr_korean_ci".into(),
        "latin5" => "latin5_turkish_ci".into(),
        _ => format!("{}_general_ci", Charset::named(charset)?.name()).into(),
    })
}

/// A name of a character set or collation as servers of today print it.
pub(super) fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("utf8") {
        Some("") => "utf8mb3".to_owned(),
        Some(rest) if rest.starts_with('_') => format!("utf8mb3{rest}"),
        _ => name,
    }
}

/// MariaDB's names without a character set (`uca1400_ai_ci`) get the one they are used with.
pub(super) fn in_charset(collation: &str, charset: &str) -> String {
    if collation.starts_with("uca1400_") { format!("{charset}_{collation}") } else { collation.to_owned() }
}

/// Most bytes of a character of the collation's set; 1 where nobody knows it.
pub(super) fn max_bytes_of(collation: &str) -> u32 {
    Charset::of_collation(collation).map_or(1, |charset| charset.max_bytes().into())
}
