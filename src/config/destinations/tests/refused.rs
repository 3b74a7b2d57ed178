//! Everything that is wrong is said with its place, in one line, and shows nothing secret.

use super::*;

/// The first complaint about a text.
fn complaint(text: &str) -> String {
    let directory = Directory::new().with("empty", "\n").with("text", "hidden").with("binary", b"\xff");
    directory.complaints(text).swap_remove(0)
}

/// Keys and headings.
const SHAPE: &[(&str, &str)] = &[
    ("[defaults", "1:10: unclosed table"),
    ("x = 1", "1:1: \"x\" is not known here: use [defaults], [names.NAME] or [hosts.\"HOST\"]"),
    ("defaults = 1", "1:12: this is a whole number: write a table of settings"),
    ("names = []", "1:9: this is a list: write [names.NAME]"),
    ("[names]\nbilling = 'http://x'", "2:11: this is text: write a table of settings"),
    ("[defaults]\ntimeout = '5s'\ntimeout = '6s'", "3:1: duplicate key"),
    ("[defaults]\n  timeuot = '5s'", "2:3: \"timeuot\" is not known here: use connections, adaptive, rate, "),
    ("[defaults]\nbackoff.maximum = '5s'", "2:9: \"backoff.maximum\" is not known here"),
    ("[defaults]\nurl = 'http://x'", "2:1: only what is called by its name has a url"),
    ("[hosts.a]\nurl = 'http://x'", "2:1: only what is called by its name has a url"),
    ("[names.a]\nrate = 1", "1:8: [names.a] has no url: add where its requests go"),
    ("[names.A]\nurl = 'http://x'", "1:8: \"A\" is no name of a destination: use 1 to 63 of a-z"),
    ("[names.a]\nurl = 'ftp://x'", "2:7: this is no URL that can be called (\"ftp://x\" is not http or https)"),
    ("[names.a]\nurl = 'x y'", "2:7: this is no URL that can be called (\"x y\": relative URL without a base)"),
    ("[hosts.'a:0']", "1:8: \"0\" is no port: write one from 1 to 65535"),
    ("[hosts.'*']", "1:8: \"*\" would be all hosts: write [defaults]"),
    ("[hosts.a]\n[hosts.A]", "1:8: [hosts.\"a\"] is there twice"),
    ("[hosts.A]\n[hosts.a]", "2:8: [hosts.\"a\"] is there twice"),
];

/// Numbers, times and words.
const VALUES: &[(&str, &str)] = &[
    ("[defaults]\nconnections = 0", "2:15: \"0\" is out of bounds: write a whole number from 1 to 2000"),
    ("[defaults]\nconnections = 205", "2:15: 205 is too much: one host gets a tenth of --max-in-flight"),
    ("[defaults]\nconnections = 99999999999999999999", "2:15: \"99999999999999999999\" is out of bounds"),
    ("[defaults]\nrate = 0", "2:8: \"0\" is out of bounds: write a number from 0.0001 to 100000"),
    ("[defaults]\nrate = nan", "2:8: \"nan\" is out of bounds"),
    ("[defaults]\nrate = 1e9", "2:8: \"1e9\" is out of bounds"),
    ("[defaults]\nrate = true", "2:8: this is true or false: write a number from"),
    ("[defaults]\ntimeout = 5", "2:11: this is a whole number: write a time in quotes"),
    ("[defaults]\ntimeout = 'five'", "2:11: \"five\": expected number at 0: write a number and a unit"),
    ("[defaults]\ntimeout = '9ms'", "2:11: 9ms is too short: use 10ms or more"),
    ("[defaults]\ntimeout = '11s'", "2:11: 11s is too long: an attempt begins only if it ends within the lease"),
    ("[defaults]\ntimeout = '3650days'", "use 10s or less, or raise --lease"),
    ("[defaults]\nattempts = 1001", "2:12: \"1001\" is out of bounds: write a whole number from 1 to 1000"),
    ("[defaults]\nbackoff.initial = '50ms'", "2:19: 50ms is too short: use 100ms or more"),
    ("[defaults]\nbackoff.max = '25h'", "2:15: 1day 1h is too long: use 1day or less"),
    ("[defaults]\nbackoff.initial = '2min'", "2:9: backoff.max (1m) is less than backoff.initial (2m): raise it"),
    ("[defaults]\nbackoff.factor = 0.5", "2:18: \"0.5\" is out of bounds: write a number from 1 to 10"),
    ("[defaults]\nbackoff.jitter = 101", "2:18: \"101\" is out of bounds: write a number from 0 to 100"),
    ("[defaults]\nbackoff = []", "2:11: this list has 0 delays: write 1 to 100"),
    ("[defaults]\nbackoff = ['1s', 2]", "2:18: this is a whole number: write a list of times"),
    ("[defaults]\nbackoff = { delays = ['1s'], max = '1s' }", "2:30: a list of delays does not grow: leave out"),
    ("[defaults]\nretry-after-max = '2days'", "2:19: 2days is too long: use 1day or less"),
    ("[defaults]\nfinal-statuses = [200]", "2:19: \"200\" is no status from 300 to 599"),
    ("[defaults]\nfinal-statuses = '4xx'", "2:18: \"4xx\" is no status from 300 to 599"),
    ("[defaults]\nsuccess-statuses = [199]", "2:21: \"199\" is no status from 200 to 599"),
    ("[defaults]\nsuccess-statuses = [410]", "2:1: 410 is in final-statuses and in success-statuses"),
    ("[defaults]\non-exhausted = 'stop'", "2:16: \"stop\" is not known: write \"continue\" or \"hold\""),
    ("[defaults]\nmethod = 'GET'", "2:10: \"GET\" is not known: write \"POST\" or \"PUT\" or \"PATCH\""),
];

/// Headers, secrets, certificates, networks.
const TABLES: &[(&str, &str)] = &[
    ("[defaults]\nheaders = 'x'", "2:11: this is text: write a table of headers"),
    ("[defaults]\nheaders.'x y' = 'z'", "2:9: \"x y\" is no name of a header"),
    ("[defaults]\nheaders.Host = 'z'", "2:9: \"Host\" may not be set: it belongs to the connection"),
    ("[defaults]\nheaders.webhook-id = 'z'", "2:9: \"webhook-id\" may not be set"),
    ("[defaults]\nheaders.x = 1", "2:13: this is a whole number: write text, { file = \"PATH\" } or { variable"),
    ("[defaults]\nheaders = { a = 'b', A = 'c' }", "is there twice, in different spellings"),
    ("[defaults]\nheaders.x = {}", "2:13: this says too much or too little: write text, { file"),
    ("[defaults]\nheaders.x = { fiel = 'text' }", "2:15: \"fiel\" is not known here: use file, variable"),
    ("[defaults]\nheaders.x = { file = 'nowhere' }", "2:22: nowhere: No such file or directory"),
    ("[defaults]\nheaders.x = { file = '/dev/zero' }", "2:22: /dev/zero: this is a device, not a file"),
    ("[defaults]\nheaders.x = { file = 'empty' }", "2:22: there is nothing in it"),
    ("[defaults]\nheaders.x = { file = 'binary' }", "2:22: binary is no text in UTF-8"),
    ("[defaults]\nheaders.x = { variable = 'NOT_SET_BY_ANYBODY' }", "the variable \"NOT_SET_BY_ANYBODY\" is not set"),
    ("[defaults]\nheaders.x = { variable = 'A=B' }", "2:26: \"A=B\" is no name of a variable"),
    ("[defaults]\nsecrets = [{ file = 'text' }]", "2:12: secret 1 is not `whsec_`"),
    ("[defaults]\nsecrets = ['hidden']", "2:12: secret 1 is not `whsec_`"),
    ("[defaults]\noauth2 = { token-url = 'x' }", "2:24: this is no URL that can be called"),
    ("[defaults]\noauth2 = { client-id = 'x' }", "2:10: oauth2 has no token-url: add it"),
    ("[defaults]\noauth2 = { scope = 'x' }", "2:12: \"scope\" is not known here: use token-url, client-id"),
    ("[defaults]\nclient-certificate = 'text'", "2:22: text: there is no certificate in it"),
    ("[defaults]\nclient-certificate = { key = 'text' }", "2:22: certificate or key is missing"),
    ("[defaults]\nca = 'text'", "2:6: text: there is no certificate in it"),
    ("[defaults]\nca = ''", "2:6: this path is empty"),
    ("[defaults]\nproxy = 'socks5://x:hidden@y'", "2:9: this is no URL of a proxy: write http://HOST:PORT"),
    ("[defaults]\nhttp = 3", "2:8: this is a whole number: write \"auto\" or \"1\" or \"2\""),
    ("[defaults]\nhttp = '3'", "2:8: \"3\" is not known: write \"auto\" or \"1\" or \"2\""),
    ("[defaults]\nallow = ['10.0.0.1/8']", "2:10: \"10.0.0.1/8\" is an address within a network: write 10.0.0.0/8"),
    ("[defaults]\ndeny = ['ten']", "2:9: \"ten\" is no network: write a list of networks"),
    ("# é\n[defaults] # é\n# é\nmethod = 'ü' # é", "4:10: \"ü\" is not known"),
];

#[test]
fn each_complaint_has_its_place_and_says_what_to_write() {
    let wrong = [SHAPE, VALUES, TABLES].concat().into_iter().filter_map(|(text, told)| {
        let line = complaint(text);
        let right = line.starts_with("d.toml:") && line.contains(told) && !line.contains("hidden");
        (!right || line.lines().count() != 1).then(|| format!("{text}\n{line}\n{told}\n"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_not_without_end() {
    let directory = Directory::new();
    let lines = directory.complaints("[hosts.a]\nrate = 0\nattempts = 0\n[names.b]\nurl = 1\n[defaults]\nmethod = 1\n");
    let places: Vec<_> = lines.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["d.toml:2:8", "d.toml:3:12", "d.toml:5:7", "d.toml:7:10"]);
    let many: String = (0..100).map(|number| format!("[hosts.h{number}]\nrate = 0\n")).collect();
    let refused = directory.sheet(&many).unwrap_err();
    let (lines, more) = refused.complaints();
    assert_eq!((lines.len(), more), (20, 80));
    assert!(refused.to_string().ends_with("(and 99 more: `onceward destinations check` lists them)"), "{refused}");
}

#[test]
fn certificates_and_keys_have_to_fit() {
    let ((one, key), (other, _)) = (certificate(), certificate());
    let broken = one.replacen("MII", "AAA", 1);
    let directory = Directory::new().with("one", &one).with("other", &other).with("key", &key).with("broken", broken);
    let table = [
        (
            "client-certificate = { certificate = 'other', key = 'key' }",
            "other: certificate and key are of no use together",
        ),
        ("client-certificate = { certificate = 'key', key = 'key' }", "key: there is no certificate in it"),
        ("client-certificate = { certificate = 'one', key = 'one' }", "one: there is no private key in it"),
        ("client-certificate = 'one'", "one: there is no private key in it"),
        ("ca = 'broken'", "broken: certificate 1 in it is of no use"),
    ];
    for (text, told) in table {
        let lines = directory.complaints(&format!("[defaults]\n{text}"));
        assert!(lines[0].contains(told), "{text}: {lines:?}");
    }
}

#[test]
fn a_file_of_any_size_and_depth_is_read_or_refused() {
    let directory = Directory::new();
    let deep = 150_000;
    let texts = [
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}1{}", "{a=".repeat(deep), "}".repeat(deep)),
        "\0\u{feff}= \r".into(),
    ];
    for text in texts {
        let lines = directory.complaints(&text);
        assert!(lines.len() <= 20 && lines.iter().all(|line| line.len() < 500), "{lines:?}");
    }
    let long = "#".repeat(usize::try_from(LONGEST_FILE).unwrap() + 1);
    assert_eq!(directory.complaints(&long), ["d.toml: it is larger than 1048576 bytes"]);
    let hosts: String = (0..=MOST_ENTRIES).map(|number| format!("[hosts.h{number}]\n")).collect();
    assert!(directory.complaints(&hosts)[0].contains("there are more than 1000 entries"));
}

#[test]
fn what_is_referred_to_is_bounded_together() {
    let directory = Directory::new().with("big", vec![b'x'; 1024 * 1024]);
    let names: String = (0..17).map(|number| format!("x-{number} = {{ file = 'big' }}\n")).collect();
    let lines = directory.complaints(&format!("[defaults.headers]\n{names}"));
    assert!(lines[0].contains("all files together are larger than 16777216 bytes"), "{lines:?}");
}

#[test]
fn a_file_that_is_not_there_is_said_so() {
    for (path, told) in
        [("/nowhere/d.toml", "/nowhere/d.toml: No such file"), ("/", "/: this is a directory, not a file")]
    {
        let refused = super::super::read(Path::new(path), &flags(), LIMITS).unwrap_err();
        assert!(refused.to_string().starts_with(told), "{refused}");
    }
    assert_eq!(
        Directory::new().with("d.toml", b"\xff").read_what_is_there(),
        ["d.toml: it is not text in UTF-8: save it as UTF-8"]
    );
}
