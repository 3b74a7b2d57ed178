//! A server that speaks S3's protocol, over a directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

const KEY: &str = "test-key";
const SECRET: &str = "test-secret";

/// The server, with one bucket.
pub struct S3 {
    address: SocketAddr,
    bucket: PathBuf,
}

impl S3 {
    pub async fn start(directory: &Path, bucket: &str) -> Self {
        let bucket = directory.join(bucket);
        std::fs::create_dir_all(&bucket).expect("a directory for the bucket");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(directory).expect("a directory"));
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound port");
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let service = service.clone();
                tokio::spawn(async move {
                    // A client may go away at any time.
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, bucket }
    }

    /// What a client has to be told.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ]
    }

    /// Where an object of the bucket lies.
    pub fn file(&self, key: &str) -> PathBuf {
        self.bucket.join(key)
    }
}
