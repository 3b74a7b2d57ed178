//! Receivers and proxies of others, as they are installed everywhere: nginx with TLS and HTTP/2, tinyproxy.

use crate::support::{
    Certificates, DeadLetters, Load, Message, Nginx, Producer, Receiver, SOON, SettingsFile, Tinyproxy, Worker, test,
};

const QUICK: [&str; 4] = ["--max-attempts", "2", "--backoff-initial", "100ms"];

#[test]
fn a_receiver_that_wants_a_certificate_gets_it_and_its_own_is_judged() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let certificates = Certificates::new(world);
        let nginx = Nginx::start(world, &certificates, &receiver.url_of("")).await;
        let (url, file) = (nginx.url("/in"), |name: &str| certificates.path(name));
        let identity = format!(
            "client-certificate = {{ certificate = \"{}\", key = \"{}\" }}\n",
            file("client.pem"),
            file("client.key")
        );
        let ca = format!("ca = \"{}\"\n", file("ca.pem"));
        let entry = |name: &str, more: &str| format!("[names.{name}]\nurl = \"{url}\"\n{more}");
        let text = [
            entry("auto", &format!("{identity}{ca}")),
            entry("old", &format!("{identity}{ca}http = \"1\"\n")),
            entry("new", &format!("{identity}{ca}http = \"2\"\n")),
            entry("nobody", &ca),
            entry("stranger", &identity),
        ]
        .concat();
        let settings = SettingsFile::new(world, &text);
        let worker = Worker::start(world, &[&QUICK[..], &["--destinations", settings.path()]].concat()).await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        for name in ["auto", "old", "new", "nobody", "stranger"] {
            producer.publish(&Message::new(name, name, name)).await;
        }
        receiver.wait_for_delivered(SOON, 3).await;
        for (key, protocol) in [("auto", "HTTP/2.0"), ("old", "HTTP/1.1"), ("new", "HTTP/2.0")] {
            let attempts = receiver.attempts_of(key);
            assert_eq!(attempts.len(), 1, "{key}");
            assert_eq!(attempts[0].header("x-protocol"), Some(protocol), "{key}");
            assert_eq!(attempts[0].header("x-verified"), Some("SUCCESS"), "{key}");
        }
        let nobody = dead_letters.wait_for_key(SOON, "nobody").await;
        assert_eq!(nobody.history()[0]["status"], 400, "{:?}", nobody.history());
        let stranger = dead_letters.wait_for_key(SOON, "stranger").await;
        let error = stranger.history()[0]["error"].to_string();
        assert!(error.contains("certificate"), "{error}");
        worker.stop().await;
    });
}

#[test]
fn a_proxy_is_taken_where_the_settings_want_it() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let proxy = Tinyproxy::start(world).await;
        let entry = |name: &str, more: &str| format!("[names.{name}]\nurl = \"{}\"\n{more}", receiver.url());
        let text = [
            entry("straight", ""),
            entry("by-proxy", &format!("proxy = \"{}\"\n", proxy.url("user:secret@"))),
            entry("refused", &format!("proxy = \"{}\"\n", proxy.url("user:wrong@"))),
        ]
        .concat();
        let settings = SettingsFile::new(world, &text);
        let worker = Worker::start(world, &[&QUICK[..], &["--destinations", settings.path()]].concat()).await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        for name in ["straight", "by-proxy", "refused"] {
            producer.publish(&Message::new(name, name, name)).await;
        }
        receiver.wait_for_delivered(SOON, 2).await;
        assert_eq!(receiver.attempts_of("straight")[0].header("via"), None);
        let via = receiver.attempts_of("by-proxy")[0].header("via").unwrap_or_default().to_owned();
        assert!(via.contains("onceward-test"), "{via:?}");
        let letter = dead_letters.wait_for_key(SOON, "refused").await;
        assert!(!format!("{:?}", letter.history()).contains("wrong"), "{:?}", letter.history());
        worker.stop().await;
        assert!(!worker.log().contains("secret@"));
    });
}
