//! Destinations that are not public are not called, however they are written and whatever their names say.

use std::sync::atomic::{AtomicUsize, Ordering};

use url::Url;

use crate::support::{
    Admin, DeadLetters, Load, Message, NameServer, Named, Producer, Receiver, Reply, SOON, Worker, test,
};

/// No network but the public ones, and the tests' own settings don't hold.
const NOTHING_ALLOWED: &str = "--allow-net=";

#[test]
fn an_address_that_is_not_public_is_a_dead_letter_in_every_notation() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::at("0.0.0.0", |_| Reply::ok()).await;
        let port = Url::parse(&receiver.url()).expect("a URL").port().expect("a port");
        let worker = Worker::start(world, &[NOTHING_ALLOWED, "--deny-host=*.denied.test"]).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let table = [
            ("127.0.0.1", "loopback"),
            ("2130706433", "loopback"),
            ("0x7f000001", "loopback"),
            ("0177.0.0.1", "loopback"),
            ("127.1", "loopback"),
            ("[::1]", "loopback"),
            ("[::ffff:127.0.0.1]", "loopback"),
            ("[64:ff9b::7f00:1]", "loopback"),
            ("[2002:7f00:1::]", "loopback"),
            ("0.0.0.0", "unspecified"),
            ("10.0.0.1", "private"),
            ("100.64.0.1", "shared"),
            ("169.254.169.254", "metadata"),
            ("[fe80::1]", "link_local"),
            ("hooks.denied.test", "denied_host"),
        ];
        for (at, (host, _)) in table.iter().enumerate() {
            let url = format!("http://{host}:{port}/events");
            producer.publish(&Message::new("entity", &format!("event-{at}"), &url)).await;
        }
        for (at, (host, verdict)) in table.iter().enumerate() {
            let letter = dead_letters.wait_for_key(SOON, &format!("event-{at}")).await;
            assert_eq!(letter.reason(), "forbidden_destination", "{host}");
            let detail = letter.detail();
            assert!(detail.starts_with(&format!("the destination is forbidden ({verdict}): ")), "{host}: {detail}");
        }
        assert!(receiver.attempts().is_empty());
        worker.stop().await;
    });
}

#[test]
fn the_workers_own_servers_are_refused_though_their_network_is_allowed() {
    test(Load::Shared, async |world| {
        let names = NameServer::new(|_| Named::at(&["127.0.0.1"])).await;
        let worker = Worker::start(world, &["--max-attempts=1", &names.flag()]).await;
        let admin = Admin::of(&worker).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let port = |url: &str| Url::parse(url).expect("a URL").port().expect("a port");
        let broker = port(world.amqp_url.split(',').next().expect("a URL"));
        let ports = [port(&format!("http://{}/", admin.address())), broker, port(&world.database_url)];
        for port in ports {
            for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "127.0.0.2", "own.test"] {
                let (key, url) = (format!("{host}-{port}"), format!("http://{host}:{port}/"));
                producer.publish(&Message::new("entity", &key, &url)).await;
                let letter = dead_letters.wait_for_key(SOON, &key).await;
                assert_eq!(letter.reason(), "forbidden_destination", "{url}: {letter:?}");
                assert!(letter.detail().contains("(own_address)"), "{url}: {}", letter.detail());
            }
        }
        worker.stop().await;
    });
}

#[test]
fn a_name_is_judged_by_its_addresses_and_fails_without_a_retry() {
    test(Load::Shared, async |world| {
        let good = Receiver::healthy().await;
        let port = Url::parse(&good.url()).expect("a URL").port().expect("a port");
        let bad = Receiver::on("127.0.0.2", port, |_| Reply::ok()).await;
        let names = NameServer::new(|name| match name {
            "both.test" => Named::at(&["127.0.0.2", "127.0.0.1", "10.0.0.1"]),
            "trusted.test" | "forbidden.test" => Named::at(&["127.0.0.2"]),
            _ => Named::at(&[]),
        })
        .await;
        let flags = ["--allow-net=127.0.0.1/32", "--allow-host=trusted.test", &names.flag()];
        let worker = Worker::start(world, &flags).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let event = |host: &str| Message::new(host, host, &format!("http://{host}:{port}/"));
        let hosts = ["both.test", "trusted.test", "forbidden.test"];
        producer.publish_all(&hosts.map(event)).await;
        good.wait_for_delivered(SOON, 1).await;
        bad.wait_for_delivered(SOON, 1).await;
        let letter = dead_letters.wait_for_key(SOON, "forbidden.test").await;
        assert_eq!((letter.reason().as_str(), letter.attempts()), ("forbidden_destination", 1));
        let sentence = "not sent: the destination is forbidden (loopback): forbidden.test is 127.0.0.2, which is a \
                        loopback address; allow it with --allow-net 127.0.0.0/8";
        assert_eq!(letter.detail(), sentence);
        assert_eq!(letter.history()[0]["error"], sentence);
        let keys = |receiver: &Receiver| receiver.attempts().into_iter().map(|attempt| attempt.key).collect::<Vec<_>>();
        assert_eq!((keys(&good), keys(&bad)), (vec!["both.test".to_owned()], vec!["trusted.test".to_owned()]));
        worker.stop().await;
    });
}

#[test]
fn a_name_server_that_answers_differently_each_time_gains_nothing() {
    test(Load::Shared, async |world| {
        let good = Receiver::new(|_| Reply::ok().header("connection", "close")).await;
        let port = Url::parse(&good.url()).expect("a URL").port().expect("a port");
        let bad = Receiver::on("127.0.0.2", port, |_| Reply::ok()).await;
        let asked = AtomicUsize::new(0);
        let names = NameServer::new(move |_| {
            // Both families are asked for each time.
            let is_even = (asked.fetch_add(1, Ordering::SeqCst) / 2).is_multiple_of(2);
            Named::at(&[if is_even { "127.0.0.1" } else { "127.0.0.2" }])
        })
        .await;
        let flags = ["--allow-net=127.0.0.1/32", "--connection-life=1s", &names.flag()];
        let worker = Worker::start(world, &flags).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        for at in 0..6 {
            let key = format!("event-{at}");
            producer.publish(&Message::new(&key, &key, &format!("http://rebinding.test:{port}/"))).await;
            let (sent, refused) = (good.attempts().len(), dead_letters.taken().len());
            let both = async {
                tokio::select! {
                    () = good.wait_for(SOON, "an event", |log| log.attempts.len() > sent) => {}
                    _ = dead_letters.wait_for(SOON, refused + 1) => {}
                }
            };
            both.await;
            // Addresses are kept for a second at least.
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        }
        assert!(!good.attempts().is_empty() && !dead_letters.taken().is_empty(), "both answers were given");
        assert!(dead_letters.taken().iter().all(|letter| letter.reason() == "forbidden_destination"));
        assert!(bad.attempts().is_empty());
        worker.stop().await;
    });
}

#[test]
fn a_proxy_is_not_asked_for_what_is_forbidden() {
    test(Load::Shared, async |world| {
        let proxy = Receiver::healthy().await;
        let names = NameServer::new(|name| match name {
            "public.test" => Named::at(&["8.8.8.8"]),
            "private.test" => Named::at(&["10.0.0.1"]),
            "both.test" => Named::at(&["8.8.8.8", "10.0.0.1"]),
            _ => Named::at(&[]),
        })
        .await;
        let environment = [("http_proxy", proxy.url_of("/")), ("no_proxy", String::new())];
        let flags = ["--max-attempts=1", NOTHING_ALLOWED, &names.flag()];
        let worker = Worker::start_with(world, &flags, &environment).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let table = [
            ("public.test", "delivered"),
            ("9.9.9.9", "delivered"),
            ("private.test", "forbidden_destination"),
            ("both.test", "forbidden_destination"),
            ("127.0.0.1", "forbidden_destination"),
            ("unknown.test", "exhausted"),
        ];
        for (host, _) in table {
            producer.publish(&Message::new(host, host, &format!("http://{host}/hook"))).await;
        }
        for (host, end) in table {
            if end != "delivered" {
                assert_eq!(dead_letters.wait_for_key(SOON, host).await.reason(), end, "{host}");
            }
        }
        proxy.wait_for_delivered(SOON, 2).await;
        let mut asked: Vec<_> = proxy.attempts().into_iter().map(|attempt| attempt.key).collect();
        asked.sort();
        assert_eq!(asked, ["9.9.9.9", "public.test"]);
        worker.stop().await;
    });
}
