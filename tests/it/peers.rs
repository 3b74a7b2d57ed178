//! Servers of others, as they are installed everywhere: nginx with TLS and HTTP/2, tinyproxy, Squid, dnsmasq.

use crate::support::{
    Certificates, DeadLetters, Dnsmasq, Load, Message, Nginx, Producer, Receiver, Reply, SOON, SettingsFile, Squid,
    Tinyproxy, Worker, test,
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

#[test]
fn a_tunnel_leads_to_the_receivers_own_tls_or_the_history_says_why_not() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let certificates = Certificates::new(world);
        let nginx = Nginx::start(world, &certificates, &receiver.url_of("")).await;
        let (tinyproxy, squid) = (Tinyproxy::start(world).await, Squid::start(world, nginx.port()).await);
        let file = |name: &str| certificates.path(name);
        let tls = format!(
            "client-certificate = {{ certificate = \"{}\", key = \"{}\" }}\nca = \"{}\"\n",
            file("client.pem"),
            file("client.key"),
            file("ca.pem")
        );
        let entry =
            |name: &str, url: &str, proxy: &str| format!("[names.{name}]\nurl = \"{url}\"\nproxy = \"{proxy}\"\n{tls}");
        let (secure, plain) = (nginx.url("/in"), receiver.url());
        let text = [
            entry("tinyproxy", &secure, &tinyproxy.url("user:secret@")),
            entry("squid", &secure, &squid.url()),
            entry("plain", &plain, &squid.url()),
            entry("unknown", &secure, &tinyproxy.url("")),
            entry("wrong", &secure, &tinyproxy.url("user:wrong@")),
            entry("denied", &plain.replace("http:", "https:"), &squid.url()),
        ]
        .concat();
        let settings = SettingsFile::new(world, &text);
        let worker = Worker::start(world, &[&QUICK[..], &["--destinations", settings.path()]].concat()).await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        for name in ["tinyproxy", "squid", "plain", "unknown", "wrong", "denied"] {
            producer.publish(&Message::new(name, name, name)).await;
        }
        receiver.wait_for_delivered(SOON, 3).await;
        for key in ["tinyproxy", "squid"] {
            let attempts = receiver.attempts_of(key);
            assert_eq!(attempts.len(), 1, "{key}");
            assert_eq!(attempts[0].header("x-protocol"), Some("HTTP/2.0"), "{key}");
            assert_eq!(attempts[0].header("x-verified"), Some("SUCCESS"), "{key}");
            assert_eq!(attempts[0].header("via"), None, "{key} saw nothing of it");
        }
        let via = receiver.attempts_of("plain")[0].header("via").unwrap_or_default().to_owned();
        assert!(via.contains("onceward-test"), "{via:?}");
        for (key, why) in [
            (
                "unknown",
                "no connection through the proxy: client error (Connect): tunnel error: proxy authorization required",
            ),
            (
                "wrong",
                "through the proxy: client error (Connect): the proxy has refused the connection, by a status other than 407",
            ),
            ("denied", "the proxy has refused the connection, by a status other than 407: its log says which"),
        ] {
            let history = dead_letters.wait_for_key(SOON, key).await.history();
            assert!(history[0]["error"].as_str().is_some_and(|error| error.contains(why)), "{history:?}");
        }
        worker.stop().await;
    });
}

#[test]
fn names_are_resolved_by_the_name_server_that_is_named() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::at("0.0.0.0", |_| Reply::ok()).await;
        // Their answer is longer than a datagram of DNS may be: it comes by TCP.
        let many: Vec<String> = (1..=120).map(|n| format!("host-record=many.test,127.4.0.{n}")).collect();
        let few = ["host-record=one.test,127.0.0.1", "cname=other.test,one.test", "host-record=within.test,10.1.2.3"];
        let records = [few.map(str::to_owned).to_vec(), many].concat();
        let names = Dnsmasq::start(world, &records).await;
        let worker = Worker::start(world, &[&QUICK[..], &[&names.flag()]].concat()).await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        let port = receiver.url_of("").rsplit(':').next().expect("a port").to_owned();
        for name in ["one", "other", "many", "within", "nowhere"] {
            producer.publish(&Message::new(name, name, &format!("http://{name}.test:{port}/in"))).await;
        }
        receiver.wait_for_delivered(SOON, 3).await;
        for key in ["one", "other", "many"] {
            let host = receiver.attempts_of(key)[0].header("host").map(str::to_owned);
            assert_eq!(host, Some(format!("{key}.test:{port}")));
        }
        assert_eq!(dead_letters.wait_for_key(SOON, "within").await.reason(), "forbidden_destination");
        let nowhere = dead_letters.wait_for_key(SOON, "nowhere").await;
        let history = nowhere.history();
        assert_eq!((nowhere.reason(), history.len()), ("exhausted".to_owned(), 2));
        let error = history[0]["error"].to_string();
        assert!(
            error.contains("the host's name was not resolved") && error.contains("there is no such name"),
            "{error}"
        );
        worker.stop().await;
    });
}
