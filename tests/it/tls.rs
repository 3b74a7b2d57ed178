//! TLS to the broker and the database, with an authority of one's own: it works, or one line says what to write.

use std::path::Path;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use url::Url;

use crate::support::{
    Load, Receiver, SOON, Servers, Worker, World, asking, run_to_end, test, test_on_servers_with_tls,
};

/// As the certificate of the tests' client calls it.
const CLIENT: &str = "onceward.test";

/// Where the servers are by TLS, and the files.
struct Secured {
    amqp: Url,
    database: Url,
    ca: String,
    certificate: String,
    key: String,
}

impl Secured {
    fn of(world: &World, servers: &Servers) -> Self {
        let (mut amqp, directory) = servers.with_tls();
        amqp.set_path(&world.name);
        let database = world.database_url.parse().expect("a URL");
        let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| path(&directory, name));
        Self { amqp, database, ca, certificate, key }
    }

    /// The client's user, and no password.
    fn by_certificate(&self) -> (Url, Url) {
        let (mut amqp, mut database) = (self.amqp.clone(), self.database.clone());
        amqp.set_username("").and_then(|()| amqp.set_password(None)).expect("a URL with a host");
        amqp.set_query(Some("auth_mechanism=external"));
        database.set_username(CLIENT).expect("a URL with a host");
        (amqp, database)
    }
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("a path in UTF-8").to_owned()
}

/// Publishes an event through these URLs, and has a worker deliver it.
async fn delivers(world: &World, key: &str, flags: &[&str], amqp: &Url, database: &Url) {
    let (amqp, database) = (format!("--amqp-url={amqp}"), format!("--database-url={database}"));
    let worker = Worker::start(world, &[&[&*amqp, &*database], flags].concat()).await;
    let receiver = Receiver::healthy().await;
    let destination = format!("--destination={}", receiver.url());
    let event = ["publish", "--entity=user", "--key", key, "--body=x", &*destination, &*amqp];
    let (code, text) = run_to_end(world, &[&event[..], flags].concat()).await;
    assert_eq!(code, 0, "{text}");
    receiver.wait_for_key(SOON, key).await;
    let (code, text) = run_to_end(world, &[&["status", &*database], flags].concat()).await;
    assert_eq!(code, 0, "{text}");
    every_session_is_encrypted(world, worker.pid()).await;
    worker.stop().await;
}

/// As the servers see it.
async fn every_session_is_encrypted(world: &World, worker: u32) {
    let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
    let sql = "select count(*) filter (where ssl), count(*) filter (where not ssl) from pg_stat_ssl \
               join pg_stat_activity using (pid) where application_name like 'onceward worker%'";
    let (encrypted, plain): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await.expect("an answer");
    assert!(encrypted > 0 && plain == 0, "the database has {encrypted} sessions by TLS and {plain} others: {worker}");
    let connections = asking(SOON, "the broker's connections", async || {
        let all = world.ask("api/connections").await.as_array().expect("a list").clone();
        let ours: Vec<_> = all.into_iter().filter(|connection| connection["vhost"] == *world.name).collect();
        (!ours.is_empty()).then_some(ours)
    })
    .await;
    assert!(connections.iter().all(|connection| connection["ssl"] == true), "{connections:?}");
}

#[test]
fn an_authority_of_ones_own_is_trusted_by_ca_file_and_users_are_known_by_certificates() {
    test_on_servers_with_tls(Load::Shared, async |world, servers| {
        let secured = Secured::of(world, servers);
        let ca = ["--ca-file", &secured.ca.replace("ca.pem", "several.pem")];
        let database = format!("--database-url={}", secured.database);
        let worker = Worker::start(world, &[&ca[..], &[&database]].concat()).await;
        worker.wait_for_line(SOON, "the connection to the broker is not encrypted in spite of --ca-file").await;
        worker.stop().await;
        delivers(world, "by-password", &ca, &secured.amqp, &secured.database).await;
        world.know_by_certificate(CLIENT).await;
        let mut admin = PgConnection::connect(&world.database_url).await.expect("the database answers");
        for sql in [format!("create role \"{CLIENT}\" login superuser"), "select pg_stat_reset()".to_owned()] {
            admin.execute(AssertSqlSafe(sql)).await.expect("an administrator may");
        }
        let (amqp, database) = secured.by_certificate();
        let flags =
            ["--ca-file", &secured.ca, "--client-certificate", &secured.certificate, "--client-key", &secured.key];
        delivers(world, "by-certificate", &flags, &amqp, &database).await;
        // The same, in the URLs alone.
        let files = [secured.ca.as_str(), &secured.certificate, &secured.key];
        let (mut amqp, mut database) = (amqp, database);
        amqp.query_pairs_mut().extend_pairs(["cacertfile", "certfile", "keyfile"].iter().zip(files));
        let names = ["sslrootcert", "sslcert", "sslkey"];
        database.query_pairs_mut().append_pair("sslmode", "verify-full").extend_pairs(names.iter().zip(files));
        delivers(world, "by-url", &[], &amqp, &database).await;
    });
}

#[test]
fn servers_that_are_not_trusted_or_do_not_trust_us_are_refused_in_words() {
    test_on_servers_with_tls(Load::Shared, async |world, servers| {
        let secured = Secured::of(world, servers);
        let (amqp, by_certificate) = (secured.amqp.as_str(), secured.by_certificate());
        let full = with_query(&secured.database, "sslmode=verify-full");
        let localhost = amqp.replace("127.0.0.1", "localhost");
        let plain = world.amqp_url.replace("amqp://", "amqps://");
        let event = ["publish", "--entity=user", "--body=x", "--destination=http://127.0.0.1:9/", "--amqp-url"];
        let ca = ["--ca-file", &secured.ca];
        let publish =
            |url: &str, flags: &[&str]| [&event[..], &[url], flags].concat().iter().map(|&it| it.to_owned()).collect();
        let status = |url: &str, flags: &[&str]| {
            [&["status", "--database-url", url], flags].concat().iter().map(|&it| it.to_owned()).collect()
        };
        let cases: [(Vec<String>, &str); 8] = [
            (publish(amqp, &[]), "name the authority's certificate by --ca-file"),
            (publish(&localhost, &ca), "is for another host than the URL's"),
            (publish(&plain, &ca), "does not speak TLS on this port"),
            (publish(by_certificate.0.as_str(), &ca), "ACCESS_REFUSED"),
            (status(&full, &[]), "name the authority's certificate by --ca-file"),
            (status(&full.replace("127.0.0.1", "localhost"), &ca), "is for another host than the URL's"),
            (status(by_certificate.1.as_str(), &ca), "client certificate"),
            (status(&with_query(&secured.database, "sslmode=require"), &ca), "write sslmode=verify-full"),
        ];
        for (arguments, told) in cases {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let (code, text) = run_to_end(world, &arguments).await;
            let lines: Vec<_> = text.lines().filter(|line| line.contains(told)).collect();
            assert!(code != 0 && lines.len() == 1, "{arguments:?}: {text}");
        }
        // A worker waits for what may be mended, and says what that is.
        let worker = Worker::spawn(world, &["--amqp-url", amqp, "--database-url", &full]);
        worker.wait_for_line(SOON, "name the authority's certificate by --ca-file").await;
        worker.signal("TERM");
        worker.exit_code(SOON).await;
        let worker = Worker::spawn(world, &["--amqp-url", amqp]);
        worker.wait_for_line(SOON, "nothing is consumed: the broker is unreachable (its certificate").await;
        worker.signal("TERM");
        worker.exit_code(SOON * 2).await;
    });
}

fn with_query(url: &Url, query: &str) -> String {
    let mut url = url.clone();
    url.set_query(Some(query));
    url.into()
}

#[test]
fn a_database_without_tls_is_told_from_one_that_has_it() {
    test(Load::Shared, async |world| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-ca", world.name));
        std::fs::create_dir_all(&directory).expect("a directory");
        crate::support::Certificates::new_in(directory.clone());
        let ca = path(&directory, "ca.pem");
        let (code, text) = run_to_end(world, &["status", "--ca-file", &ca]).await;
        assert!(code != 0 && text.contains("sslmode=disable"), "{text}");
        let url = with_query(&world.database_url.parse().expect("a URL"), "sslmode=disable");
        let (_, text) = run_to_end(world, &["status", "--ca-file", &ca, "--database-url", &url]).await;
        assert!(text.contains("holds no Onceward yet"), "{text}");
        let (code, text) = run_to_end(world, &["status", "--ca-file", "/nowhere/ca.pem"]).await;
        assert!(code == 2 && text.contains("/nowhere/ca.pem"), "{text}");
    });
}

#[test]
fn certificates_that_have_expired_are_told_and_those_that_were_renewed_are_taken() {
    test_on_servers_with_tls(Load::Shared, async |world, servers| {
        let secured = Secured::of(world, servers);
        let (_, directory) = servers.with_tls();
        let installed = directory.with_file_name("postgres").join("server.pem");
        let renew = async |name: &str| {
            let pem = std::fs::read(directory.join(name)).expect("a certificate");
            std::fs::write(&installed, pem).expect("a file of the server's");
            let mut admin = PgConnection::connect(&world.database_url).await.expect("the database answers");
            admin.execute("select pg_reload_conf()").await.expect("an administrator may");
        };
        let full = with_query(&secured.database, "sslmode=verify-full");
        let user = |url: &str| url.replace("postgres@", &format!("{CLIENT}@"));
        let shown = ["--client-certificate", &secured.certificate.replace("client", "client-expired")];
        let by_certificate = [&shown[..], &["--client-key", &secured.key]].concat();
        let (ca, url) = (["--ca-file", &*secured.ca], user(&full));
        let worker = Worker::spawn(world, &[&["--database-url", &*url], &ca[..], &by_certificate].concat());
        worker.wait_for_line(SOON, "the certificate of --client-certificate has expired").await;
        worker.kill().await;
        renew("server-expired.pem").await;
        let worker = Worker::spawn(world, &[&["--database-url", &*full], &ca[..]].concat());
        worker.wait_for_line(SOON, "its certificate has expired").await;
        renew("server.pem").await;
        worker.wait_for_line(SOON, "ready: consuming").await;
        worker.stop().await;
    });
}
