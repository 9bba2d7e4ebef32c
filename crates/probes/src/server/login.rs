//! What a server's URL says beyond its address: user, password, name of the database, options.

use mainstay_types::ServerUrl;

/// The parts of a URL, with `%xx` decoded (RFC 3986, 2.1).
pub(super) struct Login {
    /// The scheme asks for TLS.
    pub(super) tls: bool,
    /// `None` when the URL names no user; then only readiness is asked for, where the protocol can tell it.
    pub(super) user: Option<String>,
    /// `None` when there is none; an empty one is one.
    pub(super) password: Option<String>,
    /// What follows the first `/`: a database, a number, a virtual host. `None` when that is empty.
    pub(super) name: Option<String>,
    options: Vec<(String, String)>,
}

impl Login {
    pub(super) fn of(url: &ServerUrl) -> Self {
        let rest = url.url.split_once("://").map_or("", |(_, rest)| rest);
        // As in `ServerUrl::parse`, which has accepted it.
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let tail = tail.split('#').next().unwrap_or(tail);
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let (user, password) = match authority.rsplit_once('@') {
            Some((who, _)) => match who.split_once(':') {
                Some((user, password)) => (Some(user), Some(password)),
                None => (Some(who), None),
            },
            None => (None, None),
        };
        let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(decoded);
        let options: Vec<_> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (plain(name), decoded(value)))
            .collect();
        let option = |name| options.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Self {
            tls: url.tls(),
            user: some(user).or_else(|| option("user")),
            password: password.map(decoded).or_else(|| option("password")),
            name: some(path.strip_prefix('/')).or_else(|| option("dbname")),
            options,
        }
    }

    /// The value of an option, whose name is given in small letters without `-` and `_`: `sslmode` is found as
    /// `ssl-mode` and `sslMode` too, for each library spells it in its own way.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// In small letters, without `-` and `_`.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !"-_".contains(*c)).map(|c| c.to_ascii_lowercase()).collect()
}

/// `%xx` decoded; a `%` without two hex digits stays, and so does a text that would not be UTF-8.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use mainstay_types::ServerKind;

    use super::*;

    fn of(url: &str) -> Login {
        Login::of(&ServerUrl::parse(ServerKind::Postgres, url).unwrap())
    }

    #[test]
    fn reads_who_and_what() {
        type Parts<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);
        let table: [(&str, Parts<'_>); 11] = [
            ("postgres://h", (None, None, None)),
            ("postgres://h/", (None, None, None)),
            ("postgres://a@h:1/shop", (Some("a"), None, Some("shop"))),
            ("postgres://a:b@h/shop#x", (Some("a"), Some("b"), Some("shop"))),
            ("postgres://a:@h", (Some("a"), Some(""), None)),
            ("postgres://:b@h", (None, Some("b"), None)),
            ("postgres://a:b:c@d@h", (Some("a"), Some("b:c@d"), None)),
            ("postgres://%61:%c3%a9%2F@h/%2f", (Some("a"), Some("é/"), Some("/"))),
            ("postgres://a:%zz%4@h", (Some("a"), Some("%zz%4"), None)),
            ("postgres://a:%ff@h", (Some("a"), Some("%ff"), None)),
            ("postgres://h?user=a&password=b%26&dbname=c", (Some("a"), Some("b&"), Some("c"))),
        ];
        for (url, parts) in table {
            let login = of(url);
            assert_eq!(
                (login.user.as_deref(), login.password.as_deref(), login.name.as_deref()),
                parts,
                "{url}"
            );
        }
    }

    #[test]
    fn finds_options_however_they_are_spelled() {
        for url in ["postgres://h?x=1&ssl-mode=Require", "postgres://h/?sslMode=Require#ssl_mode=2"] {
            assert_eq!(of(url).option("sslmode"), Some("Require"), "{url}");
        }
        assert_eq!(of("postgres://h?sslmode").option("sslmode"), None);
    }
}
