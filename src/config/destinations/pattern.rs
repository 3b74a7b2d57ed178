//! Patterns of hosts, in the form in which hosts are looked for.

use url::Host;

use super::value::shown;

const WRITE: &str =
    "write api.example.com, api.example.com:8443, *.example.com, 10.0.0.1 or [::1], without scheme and path";

/// The form of a pattern that hosts of URLs are compared with: lower case, IDNA, addresses in their usual notation.
///
/// # Errors
/// Why no host can match it, and what to write.
pub(super) fn normal(pattern: &str) -> Result<String, String> {
    if pattern == "*" {
        return Err("\"*\" would be all hosts: write [defaults]".into());
    }
    let (host, port) = match pattern.rsplit_once(':') {
        // A colon inside of brackets belongs to the address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (pattern, None),
    };
    if pattern.contains('/') || (host.contains(':') && !host.starts_with('[')) {
        return Err(format!("{} is no host: {WRITE}", shown(pattern)));
    }
    let port = port
        .map(|port| read_port(port).ok_or_else(|| format!("{} is no port: write one from 1 to 65535", shown(port))));
    let port = port.transpose()?;
    let (star, name) = match host.strip_prefix("*.") {
        Some(domain) => ("*.", domain),
        None => ("", host),
    };
    if name.contains('*') {
        return Err(format!("{} has a * in another place than its beginning: {WRITE}", shown(pattern)));
    }
    let host = Host::parse(name).map_err(|_| format!("{} is no host: {WRITE}", shown(pattern)))?;
    if !star.is_empty() && !matches!(host, Host::Domain(_)) {
        return Err(format!("{} has a * before an address, which has no parts: {WRITE}", shown(pattern)));
    }
    if matches!(&host, Host::Domain(domain) if domain.starts_with('.') || domain.contains("..")) {
        return Err(format!("{} has an empty part: {WRITE}", shown(pattern)));
    }
    Ok(match port {
        Some(port) => format!("{star}{host}:{port}"),
        None => format!("{star}{host}"),
    })
}

/// Digits alone: no sign, no space.
fn read_port(text: &str) -> Option<u16> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_brought_into_the_form_in_which_hosts_are_looked_for() {
        let table = [
            ("api.example.com", "api.example.com"),
            ("API.Example.com:0443", "api.example.com:443"),
            ("*.Example.com", "*.example.com"),
            ("*.example.com:81", "*.example.com:81"),
            ("localhost", "localhost"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("0x7f.1", "127.0.0.1"),
            ("[0:0::1]", "[::1]"),
            ("[::1]:8080", "[::1]:8080"),
        ];
        for (pattern, form) in table {
            assert_eq!(normal(pattern).as_deref(), Ok(form), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_no_host_can_match_is_refused() {
        let table = [
            ("", "is no host"),
            ("*", "write [defaults]"),
            ("*.", "is no host"),
            ("api.*.com", "in another place"),
            ("*api.example.com", "in another place"),
            ("*.*.com", "in another place"),
            ("https://example.com", "is no host"),
            ("example.com/hooks", "is no host"),
            ("ada@example.com", "is no host"),
            ("example.com:", "is no port"),
            ("example.com:0", "is no port"),
            ("example.com:65536", "is no port"),
            ("example.com:+80", "is no port"),
            ("example.com:https", "is no port"),
            ("::1", "is no host"),
            ("[::1", "is no host"),
            ("*.10.0.0.1", "before an address"),
            ("a..b", "an empty part"),
            (".example.com", "an empty part"),
            ("exa mple.com", "is no host"),
        ];
        for (pattern, wrong) in table {
            let told = normal(pattern).expect_err(pattern);
            assert!(told.contains(wrong), "{pattern}: {told}");
        }
    }
}
