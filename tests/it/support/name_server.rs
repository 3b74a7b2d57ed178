//! A name server that answers as the test tells it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

/// What is said of a name.
#[derive(Clone, Debug)]
pub enum Named {
    /// These addresses, of both families.
    At(Vec<IpAddr>),
    /// The same, but nothing is said of IPv6.
    SilentAboutIpv6(Vec<IpAddr>),
    /// Nothing, ever.
    Silent,
}

impl Named {
    pub fn at(addresses: &[&str]) -> Self {
        Self::At(addresses.iter().map(|address| address.parse().expect("an address")).collect())
    }
}

type Behaviour = dyn Fn(&str) -> Named + Send + Sync;

/// The server. It says of all addresses that they hold for no time at all.
pub struct NameServer {
    address: SocketAddr,
    behaviour: Arc<Mutex<Box<Behaviour>>>,
}

impl NameServer {
    pub async fn new(behaviour: impl Fn(&str) -> Named + Send + Sync + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = socket.local_addr().expect("a bound port");
        let behaviour: Arc<Mutex<Box<Behaviour>>> = Arc::new(Mutex::new(Box::new(behaviour)));
        let asked = Arc::clone(&behaviour);
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.expect("a question");
                let question = Message::from_vec(&buffer[..length]).expect("a question of DNS");
                let named = |name: &str| asked.lock().unwrap()(name);
                if let Some(answer) = answer(&question, named) {
                    socket.send_to(&answer, from).await.expect("an answer");
                }
            }
        });
        Self { address, behaviour }
    }

    /// From now on, answers otherwise.
    pub fn behave(&self, behaviour: impl Fn(&str) -> Named + Send + Sync + 'static) {
        *self.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    /// The worker's flag.
    pub fn flag(&self) -> String {
        format!("--name-servers={}", self.address)
    }
}

fn answer(question: &Message, named: impl Fn(&str) -> Named) -> Option<Vec<u8>> {
    let query = question.queries.first()?.clone();
    let is_ipv6 = query.query_type() == RecordType::AAAA;
    let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let addresses = match named(&name) {
        Named::At(addresses) => addresses,
        Named::SilentAboutIpv6(addresses) if !is_ipv6 => addresses,
        Named::SilentAboutIpv6(_) | Named::Silent => return None,
    };
    let mut answer = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    for address in addresses.into_iter().filter(|address| address.is_ipv6() == is_ipv6) {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        answer.answers.push(Record::from_rdata(query.name().clone(), 0, data));
    }
    answer.queries.push(query);
    Some(answer.to_vec().expect("an answer of DNS"))
}
