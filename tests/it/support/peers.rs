//! Servers of others: an nginx with TLS, the proxies tinyproxy and Squid, the name server dnsmasq; and certificates for them.

use std::fs::{File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::net::TcpStream;

use super::{SOON, World, asking};

const MISSING: &str = "nginx, tinyproxy, squid and dnsmasq are there; `deploy/servers install peers` installs them";

/// A directory with `ca.pem`, and `several.pem`, which has another authority before it; with `server.pem`, `client.pem` and their keys, `server.key` and `client.key`; `…-expired.pem` are for the same keys.
pub struct Certificates(PathBuf);

impl Certificates {
    /// The server is 127.0.0.1, the client `onceward.test`.
    pub fn new(world: &World) -> Self {
        Self::new_in(directory(world, "certificates"))
    }

    /// The same, in this directory.
    pub fn new_in(directory: PathBuf) -> Self {
        let key = || KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "the test's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = key();
        let ca = params.self_signed(&ca_key).expect("a certificate");
        std::fs::write(directory.join("ca.pem"), ca.pem()).expect("a file");
        let another = rcgen::generate_simple_self_signed(["another".to_owned()]).expect("a certificate");
        std::fs::write(directory.join("several.pem"), another.cert.pem() + &ca.pem()).expect("a file");
        let issuer = Issuer::new(params, ca_key);
        for (name, host) in [("server", "127.0.0.1"), ("client", "onceward.test")] {
            let key = key();
            let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
            params.distinguished_name.push(DnType::CommonName, host);
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            std::fs::write(directory.join(format!("{name}.pem")), certificate.pem()).expect("a file");
            params.not_after = date_time_ymd(2021, 1, 1);
            params.not_before = date_time_ymd(2020, 1, 1);
            let expired = params.signed_by(&key, &issuer).expect("a certificate");
            std::fs::write(directory.join(format!("{name}-expired.pem")), expired.pem()).expect("a file");
            std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
        }
        Self(directory)
    }

    pub fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().expect("a path in UTF-8").to_owned()
    }
}

/// A server of somebody else's; gone when dropped.
struct Peer {
    process: Child,
    log: PathBuf,
    port: u16,
}

impl Peer {
    /// Starts it, and waits until it listens.
    async fn start(mut command: Command, log: PathBuf, port: u16) -> Self {
        let output = File::create(&log).expect("a log file");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output);
        let peer = Self { process: command.spawn().expect(MISSING), log, port };
        let listens = async || TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop);
        asking(SOON, "somebody else's server", listens).await;
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SIGTERM, so that it takes its workers along.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}\n---", self.log.display(), std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// An nginx that wants a client's certificate, and passes on what it gets.
pub struct Nginx(Peer);

impl Nginx {
    /// Passes on to `upstream`, `http://host:port`, with headers that say how it was reached.
    pub async fn start(world: &World, certificates: &Certificates, upstream: &str) -> Self {
        let (directory, port) = (directory(world, "nginx"), free_port());
        let file = |name: &str| certificates.path(name);
        let text = format!(
            "daemon off; pid {dir}/pid; error_log stderr;\n{user}events {{}}\nhttp {{ access_log off;\n\
             client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
             uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
             server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {server}; ssl_certificate_key {key};\n\
             ssl_client_certificate {ca}; ssl_verify_client on; location / {{ proxy_pass {upstream};\n\
             proxy_set_header x-protocol $server_protocol; proxy_set_header x-verified $ssl_client_verify; }} }} }}\n",
            dir = directory.display(),
            user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" },
            server = file("server.pem"),
            key = file("server.key"),
            ca = file("ca.pem"),
        );
        let configuration = directory.join("nginx.conf");
        std::fs::write(&configuration, text).expect("the configuration is written");
        let mut command = program("nginx");
        command.arg("-e").arg("stderr").arg("-p").arg(&directory).arg("-c").arg(&configuration);
        Self(Peer::start(command, directory.join("log"), port).await)
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.0.port)
    }
}

/// A tinyproxy that wants `user` and `secret`.
pub struct Tinyproxy(Peer);

impl Tinyproxy {
    pub async fn start(world: &World) -> Self {
        let (directory, port) = (directory(world, "tinyproxy"), free_port());
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 100\nBasicAuth user secret\nViaProxyName \"onceward-test\"\n"
        );
        let configuration = directory.join("tinyproxy.conf");
        std::fs::write(&configuration, text).expect("the configuration is written");
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&configuration);
        Self(Peer::start(command, directory.join("log"), port).await)
    }

    /// With user and password, if wanted.
    pub fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}127.0.0.1:{}", self.0.port)
    }
}

/// A Squid that asks for nothing, and makes tunnels to one port alone.
pub struct Squid(Peer);

impl Squid {
    pub async fn start(world: &World, tunnels_to: u16) -> Self {
        let (directory, port) = (directory(world, "squid"), free_port());
        // Started as root, it goes on as a user of its own.
        std::fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("its directory is open to it");
        let text = format!(
            "http_port 127.0.0.1:{port}\nvisible_hostname onceward-test\npid_filename {dir}/pid\ncoredump_dir {dir}\n\
             cache_log {dir}/cache.log\naccess_log none\ncache deny all\nnetdb_filename none\n\
             max_filedescriptors 1024\nshutdown_lifetime 0 seconds\nacl tunnel method CONNECT\n\
             acl theirs port {tunnels_to}\nhttp_access deny tunnel !theirs\nhttp_access allow all\n",
            dir = directory.display(),
        );
        let configuration = directory.join("squid.conf");
        std::fs::write(&configuration, text).expect("the configuration is written");
        let mut command = program("squid");
        command.arg("-N").arg("-f").arg(&configuration);
        Self(Peer::start(command, directory.join("log"), port).await)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port)
    }
}

/// A dnsmasq that knows the names of a test, all of them below `test`, and nothing else.
pub struct Dnsmasq(Peer);

impl Dnsmasq {
    /// `records` are settings of its own, such as `host-record=a.test,127.0.0.1`.
    pub async fn start(world: &World, records: &[String]) -> Self {
        let (directory, port) = (directory(world, "dnsmasq"), free_port());
        let text = format!(
            "keep-in-foreground\nport={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n\
             log-facility=-\npid-file=\nlocal=/test/\n{}\n",
            records.join("\n")
        );
        let configuration = directory.join("dnsmasq.conf");
        std::fs::write(&configuration, text).expect("the configuration is written");
        let mut command = program("dnsmasq");
        command.arg(format!("--conf-file={}", configuration.display()));
        Self(Peer::start(command, directory.join("log"), port).await)
    }

    pub fn flag(&self) -> String {
        format!("--name-servers=127.0.0.1:{}", self.0.port)
    }
}

/// Debian keeps servers where only root's path leads.
fn program(name: &str) -> Command {
    let debians = Path::new("/usr/sbin").join(name);
    Command::new(if debians.exists() { debians } else { PathBuf::from(name) })
}

fn directory(world: &World, name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", world.name));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("a bound port").port()
}
