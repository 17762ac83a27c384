//! The password file: `hostname:port:database:username:password` a line, `*` for any, `\` before `:` and `\`.

use std::path::Path;

use secrecy::SecretString;

/// What a password is wanted for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// libpq's name of the host: `localhost` for the default socket directory, a path for another.
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
}

/// The file's text; None, with a warning, where it cannot be used: libpq goes on without, and so do we.
pub(super) fn read(path: &Path) -> Option<SecretString> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() {
        tracing::warn!(path = %path.display(), "the password file is not a plain file: ignored");
        return None;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if metadata.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "the password file may be read by others: ignored (chmod 0600 mends it)");
            return None;
        }
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text.into()),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the password file cannot be read: ignored");
            None
        }
    }
}

/// The password in the first line that fits.
pub(super) fn find(text: &str, wanted: Wanted<'_>) -> Option<SecretString> {
    let port = wanted.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line.strip_suffix('\r').unwrap_or(line);
        for value in [wanted.host, &port, wanted.database, wanted.user] {
            let (field, behind) = field(rest)?;
            if field != value && &rest[..rest.len() - behind.len() - 1] != "*" {
                return None;
            }
            rest = behind;
        }
        Some(unescape(rest).into())
    })
}

/// The field up to the next bare colon, unescaped, and what stands behind the colon.
fn field(text: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((unescape(&text[..at]), &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    const FILE: &str = "# comment\n\
        db:5432:shop:anna:first\n\
        db:*:shop:anna:any port\n\
        a\\:b:5432:*:*:co\\:lon\\\\\n\
        localhost:*:*:*:sock:et\n\
        \\*:1:d:u:star\n\
        short:1\n";

    fn password(host: &str, port: u16, database: &str, user: &str) -> Option<String> {
        find(FILE, Wanted { host, port, database, user }).map(|found| found.expose_secret().to_owned())
    }

    #[test]
    fn the_first_line_that_fits() {
        assert_eq!(password("db", 5432, "shop", "anna").as_deref(), Some("first"));
        assert_eq!(password("db", 5433, "shop", "anna").as_deref(), Some("any port"));
        assert_eq!(password("db", 5432, "shop", "bert"), None);
        assert_eq!(password("a:b", 5432, "x", "y").as_deref(), Some("co:lon\\"));
        assert_eq!(password("localhost", 1, "x", "y").as_deref(), Some("sock:et"));
        assert_eq!(password("*", 1, "d", "u").as_deref(), Some("star"));
        assert_eq!(password("other", 1, "d", "u"), None);
        assert_eq!(password("short", 1, "d", "u"), None);
    }
}
